//! What the manager put into the environment.

use std::{ffi::OsString, time::Duration};

use super::socket::Notifier;

/// How many descriptors a manager keeps that does not say it: one of before systemd 254.
const UNKNOWN: usize = usize::MAX;

/// What the manager offers and wants.
#[derive(Debug, Default)]
pub(super) struct Environment {
    pub(super) notifier: Option<Notifier>,
    /// How long it waits for a sign of life.
    pub(super) watchdog: Option<Duration>,
    /// How many descriptors may be kept there.
    pub(super) store: Option<usize>,
}

impl Environment {
    /// Reads the variables. What is mangled is said and ignored: the service can do without.
    ///
    /// `store` is whether the fd store is to be used; `None` if the manager is to decide.
    pub(super) fn read(
        env: impl Fn(&str) -> Option<OsString>,
        pid: u32,
        store: Option<bool>,
    ) -> Self {
        let Some(address) = env("NOTIFY_SOCKET").filter(|address| !address.is_empty()) else {
            return Self::default();
        };
        let notifier = match Notifier::new(&address) {
            Ok(notifier) => notifier,
            Err(why) => {
                tracing::warn!(
                    ?address,
                    why,
                    "the service manager cannot be told: NOTIFY_SOCKET"
                );
                return Self::default();
            }
        };
        let number = |variable: &str| {
            let text = env(variable).filter(|text| !text.is_empty())?;
            let number = text.to_str().and_then(|text| text.parse::<u64>().ok());
            if number.is_none() {
                tracing::warn!(value = ?text, "{variable} is not a number, ignored");
            }
            number
        };
        // sd_watchdog_enabled(3): the process that WATCHDOG_PID names, or any if it names none.
        let ours = env("WATCHDOG_PID")
            .filter(|text| !text.is_empty())
            .is_none()
            || number("WATCHDOG_PID") == Some(pid.into());
        let watchdog = number("WATCHDOG_USEC")
            .filter(|usec| ours && *usec > 0)
            .map(Duration::from_micros);
        let offered = number("FDSTORE").map(|most| usize::try_from(most).unwrap_or(UNKNOWN));
        let store = match store {
            Some(false) => None,
            Some(true) => offered.or(Some(UNKNOWN)),
            None => offered,
        };
        Self {
            notifier: Some(notifier),
            watchdog,
            store: store.filter(|most| *most > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PID: u32 = 77;

    fn read(variables: &[(&str, &str)], store: Option<bool>) -> Environment {
        let env = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            Some(found?.1.into())
        };
        Environment::read(env, PID, store)
    }

    #[test]
    fn without_a_socket_there_is_no_manager() {
        for address in ["", "notify", "vsock:1:2"] {
            let env = read(
                &[
                    ("NOTIFY_SOCKET", address),
                    ("WATCHDOG_USEC", "1000"),
                    ("FDSTORE", "3"),
                ],
                Some(true),
            );
            assert!(env.notifier.is_none());
            assert_eq!((env.watchdog, env.store), (None, None));
        }
    }

    #[test]
    fn the_watchdog_is_for_the_process_that_is_named() {
        let millisecond = Some(Duration::from_millis(1));
        for (usec, pid, expected) in [
            ("1000", "77", millisecond),
            ("1000", "", millisecond),
            ("1000", "78", None),
            ("1000", "me", None),
            ("", "77", None),
            ("0", "77", None),
            ("-1", "77", None),
            ("1 s", "77", None),
        ] {
            let env = read(
                &[
                    ("NOTIFY_SOCKET", "/n"),
                    ("WATCHDOG_USEC", usec),
                    ("WATCHDOG_PID", pid),
                ],
                None,
            );
            assert_eq!(env.watchdog, expected, "{usec} {pid}");
        }
    }

    #[test]
    fn the_store_is_used_where_there_is_one() {
        for (offered, wanted, expected) in [
            ("3", None, Some(3)),
            ("3", Some(true), Some(3)),
            ("3", Some(false), None),
            ("", None, None),
            ("", Some(true), Some(UNKNOWN)),
            ("0", None, None),
            ("0", Some(true), None),
            ("many", None, None),
        ] {
            let env = read(&[("NOTIFY_SOCKET", "/n"), ("FDSTORE", offered)], wanted);
            assert_eq!(env.store, expected, "{offered} {wanted:?}");
        }
    }
}
