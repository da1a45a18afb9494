//! The names under which a manager keeps our sockets.
//!
//! A name of the fd store has at most 255 bytes, printable ASCII without `:`. Ours have a prefix, so
//! that those of the administrator and of the program are never taken for one; everything but plain
//! characters is written as `%XX`; and the file of a Unix socket is named by device and inode, for a
//! later generation may remove it only if it is still the one that was made for this socket.

use std::fmt::Write;

/// What begins each of our names.
const PREFIX: &str = "handover.";
/// Between the name and the file. It stands for nothing else: in a name it is written as `%21`.
const FILE: char = '!';
const LONGEST: usize = 255;

/// Writes a name for the manager; `None` if it is too long for it. `file` is device and inode.
pub(crate) fn encode(name: &str, file: Option<(u64, u64)>) -> Option<String> {
    let mut text = PREFIX.to_owned();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => text.push(char::from(byte)),
            b'.' | b'-' | b'_' | b'/' | b'@' | b'#' | b'[' | b']' => text.push(char::from(byte)),
            // Writing to a string does not fail.
            _ => drop(write!(text, "%{byte:02X}")),
        }
    }
    if let Some((dev, ino)) = file {
        let _ = write!(text, "{FILE}{dev:x}-{ino:x}");
    }
    (text.len() <= LONGEST).then_some(text)
}

/// Reads a name; `None` if it is none of ours.
pub(crate) fn decode(text: &str) -> Option<(String, Option<(u64, u64)>)> {
    let rest = text.strip_prefix(PREFIX)?;
    let (name, file) = match rest.split_once(FILE) {
        Some((name, file)) => {
            let (dev, ino) = file.split_once('-')?;
            let number = |text: &str| u64::from_str_radix(text, 16).ok();
            (name, Some((number(dev)?, number(ino)?)))
        }
        None => (rest, None),
    };
    let mut bytes = Vec::with_capacity(name.len());
    let mut left = name.bytes();
    while let Some(byte) = left.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(left.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    Some((String::from_utf8(bytes).ok()?, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_comes_back() {
        for name in [
            "web",
            "127.0.0.1:8080",
            "[::1]:0#2",
            "unix:/run/a b%21!c.sock",
            "unix:@größe",
            "%",
            "",
            "a\nb=c\u{7f}",
        ] {
            for file in [None, Some((0, 0)), Some((u64::MAX, 0x2a))] {
                let text = encode(name, file).unwrap();
                let valid = |byte| (b' '..127).contains(&byte) && byte != b':';
                assert!(text.bytes().all(valid), "{text}");
                assert_eq!(decode(&text), Some((name.to_owned(), file)), "{text}");
            }
        }
    }

    #[test]
    fn what_is_too_long_is_not_kept() {
        assert!(encode(&"a".repeat(LONGEST - PREFIX.len()), None).is_some());
        assert!(encode(&"a".repeat(LONGEST - PREFIX.len() + 1), None).is_none());
    }

    #[test]
    fn what_is_not_ours_is_left() {
        for text in [
            "web",
            "stored",
            "handover",
            "handover.%4",
            "handover.%zz",
            "handover.a!1",
        ] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
