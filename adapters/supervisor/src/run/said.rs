//! The words of `sd_notify`, and our own beside them.

use std::time::Duration;

use handover::supervise::{SUCCESSOR, UPGRADE_SIGNAL};

/// What a message says that matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Ready,
    Extend(Duration),
    Status(String),
    /// The process with this number is the main one.
    Main(u32),
    /// The sender has started this one, which is to be the main one.
    Successor(u32),
    /// The sender replaces itself at this signal, or at none.
    Upgradable(Option<i32>),
    Reloading,
    Stopping,
}

/// Reads a message. What is not known is left alone.
pub(crate) fn read(text: &str) -> Vec<Said> {
    let said = |line: &str| match line.split_once('=')? {
        ("READY", "1") => Some(Said::Ready),
        ("STATUS", status) => Some(Said::Status(status.trim_end().to_owned())),
        ("RELOADING", "1") => Some(Said::Reloading),
        ("STOPPING", "1") => Some(Said::Stopping),
        ("MAINPID", pid) => Some(Said::Main(pid.trim().parse().ok()?)),
        (SUCCESSOR, pid) => Some(Said::Successor(pid.trim().parse().ok()?)),
        (UPGRADE_SIGNAL, signal) => {
            let signal = signal.trim().parse().ok()?;
            Some(Said::Upgradable(Some(signal).filter(|signal| *signal > 0)))
        }
        ("EXTEND_TIMEOUT_USEC", usec) => Some(Said::Extend(Duration::from_micros(
            usec.trim().parse().ok()?,
        ))),
        _ => None,
    };
    text.lines().filter_map(said).collect()
}

/// For fuzzers: a message is the sum of its lines, and what is read of one can be acted on.
#[cfg(any(fuzzing, test))]
pub(crate) fn fuzz(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let said = read(&text);
    let by_line: Vec<_> = text.lines().flat_map(read).collect();
    assert_eq!(said, by_line);
    for one in said {
        match one {
            Said::Status(status) => assert!(!status.contains('\n')),
            Said::Upgradable(Some(signal)) => assert!(signal > 0),
            // On any clock there is.
            Said::Extend(time) => drop(Duration::from_secs(1 << 40).saturating_add(time)),
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "../../../../tests/fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_lines_and_what_is_strange_is_left() {
        let text = "READY=1\nSTATUS=warm\nX=1\nEXTEND_TIMEOUT_USEC=5000000\nEXTEND_TIMEOUT_USEC=x\nREADY=2\nrubbish\n\
            MAINPID=7\nMAINPID=-7\nRELOADING=1\nSTOPPING=1\nX_HANDOVER_SUCCESSOR=8\n\
            X_HANDOVER_UPGRADE_SIGNAL=1\nX_HANDOVER_UPGRADE_SIGNAL=0\nX_HANDOVER_UPGRADE_SIGNAL=HUP";
        let expected = [
            Said::Ready,
            Said::Status("warm".to_owned()),
            Said::Extend(Duration::from_secs(5)),
            Said::Main(7),
            Said::Reloading,
            Said::Stopping,
            Said::Successor(8),
            Said::Upgradable(Some(1)),
            Said::Upgradable(None),
        ];
        assert_eq!(read(text), expected);
        assert_eq!(read(""), []);
    }

    #[test]
    fn kept_inputs_of_fuzzers_pass() {
        super::replay::run("said", super::fuzz);
    }
}
