use std::fmt;

use http::Request;

// Of the request's line: enough to tell which request it is. What is larger is moved by a call of its
// own with each of a future's moves.
const LINE: usize = 55;

/// In a line's length: there was more.
const CUT: u8 = 0x80;

/// The method and the path of a request that may have to be waited for.
///
/// They are copied, since who calls gives the request away: a clone of its `Uri` would be three
/// counted references, and dearer than the guard.
#[derive(Clone)]
pub(super) struct Line {
    bytes: [u8; LINE],
    // With `CUT`.
    length: u8,
}

impl Line {
    #[inline]
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        let mut line = Self {
            bytes: [0; LINE],
            length: 0,
        };
        line.push(request.method().as_str());
        line.push(" ");
        line.push(request.uri().path());
        line
    }

    #[inline]
    fn push(&mut self, part: &str) {
        let used = usize::from(self.length & !CUT);
        let n = part.len().min(LINE - used);
        self.bytes[used..used + n].copy_from_slice(&part.as_bytes()[..n]);
        let cut = if n < part.len() { CUT } else { 0 };
        self.length = (used + n) as u8 | cut;
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.bytes[..usize::from(self.length & !CUT)];
        f.write_str(&String::from_utf8_lossy(shown))?;
        f.write_str(if self.length & CUT == 0 { "" } else { "…" })
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn line(method: &str, path: &str) -> String {
        let request = Request::builder().method(method).uri(path);
        Line::of(&request.body(()).unwrap()).to_string()
    }

    #[test]
    fn what_fits_is_there_whole_and_what_does_not_is_said_to_be_cut() {
        assert_eq!(line("GET", "/slow?with=query"), "GET /slow");
        for length in 1..100 {
            let path = format!("/{}", "p".repeat(length - 1));
            let whole = format!("DELETE {path}");
            let expected = match whole.get(..LINE) {
                Some(shown) if whole.len() > LINE => format!("{shown}…"),
                _ => whole,
            };
            assert_eq!(line("DELETE", &path), expected);
        }
        let method = "M".repeat(60);
        assert_eq!(line(&method, "/"), format!("{}…", &method[..LINE]));
    }
}
