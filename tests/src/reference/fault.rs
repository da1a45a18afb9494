//! Faults that a process does to itself, so that tests see how others take it.

use std::{fs, future::pending, io, path::Path, process, thread, time::Duration};

/// The exit status of a process that exits because of its fault.
const STATUS: i32 = 70;

/// What goes wrong in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It exits with status 70 while it initialises.
    ExitBeforeReady,
    /// It panics while it initialises.
    PanicBeforeReady,
    /// It never becomes ready.
    HangBeforeReady,
    /// It exits with status 70 this long after it was ready.
    ExitAfterReady(Duration),
    /// It is ready, and then never serves.
    HangAfterReady,
}

impl Fault {
    /// Reads the fault file. No path, no file or an empty file: no fault.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or names no fault.
    pub fn read(path: Option<&Path>) -> io::Result<Option<Self>> {
        let Some(path) = path else { return Ok(None) };
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if text.trim().is_empty() {
            return Ok(None);
        }
        Self::parse(&text).map(Some).ok_or_else(|| {
            let text = format!("{}: {:?} names no fault", path.display(), text.trim());
            io::Error::new(io::ErrorKind::InvalidData, text)
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let fault = match words.next()? {
            "exit-before-ready" => Self::ExitBeforeReady,
            "panic-before-ready" => Self::PanicBeforeReady,
            "hang-before-ready" => Self::HangBeforeReady,
            "exit-after-ready" => {
                Self::ExitAfterReady(Duration::from_millis(words.next()?.parse().ok()?))
            }
            "hang-after-ready" => Self::HangAfterReady,
            _ => return None,
        };
        words.next().is_none().then_some(fault)
    }

    /// To be awaited while the process initialises. Comes back if the fault is a later one.
    ///
    /// # Panics
    ///
    /// If that is the fault.
    pub async fn before_ready(self) {
        match self {
            Self::ExitBeforeReady => process::exit(STATUS),
            Self::PanicBeforeReady => panic!("the fault file says so"),
            Self::HangBeforeReady => pending().await,
            Self::ExitAfterReady(_) | Self::HangAfterReady => {}
        }
    }

    /// To be awaited after the process became ready and before it serves.
    pub async fn after_ready(self) {
        match self {
            // On a thread of its own, so that it happens however busy the runtime is.
            Self::ExitAfterReady(after) => {
                thread::spawn(move || {
                    thread::sleep(after);
                    process::exit(STATUS)
                });
            }
            Self::HangAfterReady => pending().await,
            Self::ExitBeforeReady | Self::PanicBeforeReady | Self::HangBeforeReady => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_read_and_nothing_else() {
        let parse = Fault::parse;
        assert_eq!(parse("exit-before-ready\n"), Some(Fault::ExitBeforeReady));
        assert_eq!(parse("panic-before-ready"), Some(Fault::PanicBeforeReady));
        assert_eq!(parse("hang-before-ready"), Some(Fault::HangBeforeReady));
        let after = Fault::ExitAfterReady(Duration::from_millis(250));
        assert_eq!(parse("exit-after-ready 250"), Some(after));
        assert_eq!(parse("hang-after-ready"), Some(Fault::HangAfterReady));
        for text in [
            "exit-after-ready",
            "exit-after-ready x",
            "exit-before-ready 3",
            "explode",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn no_file_and_an_empty_file_are_no_fault() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fault");
        assert_eq!(Fault::read(None).unwrap(), None);
        assert_eq!(Fault::read(Some(&path)).unwrap(), None);
        fs::write(&path, "\n").unwrap();
        assert_eq!(Fault::read(Some(&path)).unwrap(), None);
        fs::write(&path, "explode\n").unwrap();
        assert!(
            Fault::read(Some(&path))
                .unwrap_err()
                .to_string()
                .contains("explode")
        );
    }
}
