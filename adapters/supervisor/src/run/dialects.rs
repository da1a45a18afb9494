//! How a program is told of its sockets: in every known way at once, or in some.
//!
//! Descriptors are contiguous from 3, which suits all of them. A program takes the first dialect
//! that it knows. Some do harm when they know one (`facebookarchive/grace` ends its parent when
//! `LISTEN_FDS` is set), so each can be left out.

use clap::ValueEnum;

/// The first descriptor.
pub(crate) const FIRST: i32 = 3;

/// A way to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dialect {
    /// LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES
    Systemd,
    /// EINHORN_FDS, EINHORN_FD_COUNT, EINHORN_SOCK_PATH: socketmaster's, too
    Einhorn,
    /// SERVER_STARTER_PORT, SERVER_STARTER_GENERATION
    ServerStarter,
    /// NOTIFY_SOCKET
    Notify,
    /// NOTIFY_FD
    Crank,
}

/// Those that are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dialects(Vec<Dialect>);

/// What a program is told of a socket.
#[derive(Clone, Debug)]
pub(crate) struct Passed {
    pub(crate) fd: i32,
    /// The name that the user chose.
    pub(crate) name: Option<String>,
    /// The address as the user wrote it.
    pub(crate) asked: String,
}

/// What else a program is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) sockets: &'a [Passed],
    pub(crate) worker: u32,
    pub(crate) generation: u64,
    /// Our process id.
    pub(crate) master: u32,
    /// The address for sd_notify.
    pub(crate) notify: Option<&'a str>,
    /// The path of einhorn's command socket.
    pub(crate) ack: Option<&'a str>,
    /// The descriptor of crank's.
    pub(crate) notify_fd: Option<i32>,
}

impl Dialects {
    pub(crate) fn only(dialects: &[Dialect]) -> Self {
        Self(dialects.to_vec())
    }

    /// All but these.
    pub(crate) fn without(not: &[Dialect]) -> Self {
        let all = Dialect::value_variants().iter();
        Self(all.copied().filter(|one| !not.contains(one)).collect())
    }

    pub(crate) fn has(&self, dialect: Dialect) -> bool {
        self.0.contains(&dialect)
    }

    /// Whether `LISTEN_PID` is to be set, which only the process itself can.
    pub(crate) fn needs_pid(&self) -> bool {
        self.has(Dialect::Systemd)
    }

    /// The variables, but for `LISTEN_PID`.
    pub(crate) fn variables(&self, facts: Facts<'_>) -> Vec<(String, String)> {
        let mut all = Vec::new();
        let mut set = |name: &str, value: String| all.push((name.to_owned(), value));
        let count = facts.sockets.len().to_string();
        let numbers: Vec<_> = facts
            .sockets
            .iter()
            .map(|socket| socket.fd.to_string())
            .collect();
        for dialect in &self.0 {
            match dialect {
                Dialect::Systemd => {
                    set("LISTEN_FDS", count.clone());
                    set("LISTEN_FDNAMES", names(facts.sockets));
                }
                Dialect::Einhorn => {
                    set("EINHORN_MASTER_PID", facts.master.to_string());
                    set("EINHORN_FD_COUNT", count.clone());
                    for (index, number) in numbers.iter().enumerate() {
                        set(&format!("EINHORN_FD_{index}"), number.clone());
                    }
                    set("EINHORN_FDS", numbers.join(" "));
                    set("EINHORN_CHILD_INDEX", facts.worker.to_string());
                    if let Some(path) = facts.ack {
                        set("EINHORN_SOCK_PATH", path.to_owned());
                    }
                }
                Dialect::ServerStarter => {
                    let each = facts.sockets.iter();
                    let each =
                        each.map(|socket| format!("{}={}", starter(&socket.asked), socket.fd));
                    set("SERVER_STARTER_PORT", each.collect::<Vec<_>>().join(";"));
                    let generation = facts.generation + 1;
                    set("SERVER_STARTER_GENERATION", generation.to_string());
                }
                Dialect::Notify => {
                    if let Some(address) = facts.notify {
                        set("NOTIFY_SOCKET", address.to_owned());
                    }
                }
                Dialect::Crank => {
                    if let Some(number) = facts.notify_fd {
                        set("NOTIFY_FD", number.to_string());
                    }
                }
            }
        }
        all
    }
}

/// What a supervisor sets, ours or another one: no program is to find what was meant for another.
pub(crate) fn is_for_another(name: &str) -> bool {
    matches!(
        name,
        "LISTEN_PID"
            | "LISTEN_FDS"
            | "LISTEN_FDNAMES"
            | "LISTEN_PIDFDID"
            | "NOTIFY_SOCKET"
            | "NOTIFY_FD"
            | "WATCHDOG_PID"
            | "WATCHDOG_USEC"
            | "FDSTORE"
            | "MAINPID"
            | "SOCKETMASTER_FD"
            | "HANDOVER_CHANNEL"
            | "HANDOVER_STDERR"
            | "HANDOVER_REEXEC"
            | "HANDOVER_DAEMON"
            | handover::supervise::VARIABLE
    ) || name.starts_with("EINHORN_")
        || name.starts_with("SERVER_STARTER_")
}

/// Names of systemd's dialect hold no colon and no control character.
fn names(sockets: &[Passed]) -> String {
    let valid = |name: &&str| {
        !name.is_empty() && name.len() <= 255 && name.chars().all(|c| c != ':' && !c.is_control())
    };
    let name = |socket: &Passed| {
        let name = socket.name.as_deref().filter(valid);
        name.unwrap_or("unknown").to_owned()
    };
    sockets.iter().map(name).collect::<Vec<_>>().join(":")
}

/// An address in Server::Starter's spelling.
fn starter(asked: &str) -> &str {
    asked.strip_prefix("unix:").unwrap_or(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(sockets: &[Passed]) -> Facts<'_> {
        Facts {
            sockets,
            worker: 2,
            generation: 6,
            master: 77,
            notify: Some("@handover"),
            ack: Some("/tmp/x/ack"),
            notify_fd: Some(5),
        }
    }

    fn sockets() -> Vec<Passed> {
        let passed = |fd, name: Option<&str>, asked: &str| Passed {
            fd,
            name: name.map(ToOwned::to_owned),
            asked: asked.to_owned(),
        };
        vec![
            passed(3, Some("web"), "0.0.0.0:80"),
            passed(4, None, "unix:/run/a.sock"),
        ]
    }

    #[test]
    fn all_dialects_at_once() {
        let sockets = sockets();
        let all = Dialects::without(&[]).variables(facts(&sockets));
        let all: Vec<_> = all
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let expected = [
            "LISTEN_FDS=2",
            "LISTEN_FDNAMES=web:unknown",
            "EINHORN_MASTER_PID=77",
            "EINHORN_FD_COUNT=2",
            "EINHORN_FD_0=3",
            "EINHORN_FD_1=4",
            "EINHORN_FDS=3 4",
            "EINHORN_CHILD_INDEX=2",
            "EINHORN_SOCK_PATH=/tmp/x/ack",
            "SERVER_STARTER_PORT=0.0.0.0:80=3;/run/a.sock=4",
            "SERVER_STARTER_GENERATION=7",
            "NOTIFY_SOCKET=@handover",
            "NOTIFY_FD=5",
        ];
        assert_eq!(all, expected);
    }

    #[test]
    fn each_can_be_left_out_and_none_is_passed_on() {
        let sockets = sockets();
        for dialect in Dialect::value_variants() {
            let only = Dialects::only(&[*dialect]).variables(facts(&sockets));
            let without = Dialects::without(&[*dialect]).variables(facts(&sockets));
            assert!(!only.is_empty());
            for (name, _) in &only {
                assert!(without.iter().all(|(other, _)| other != name), "{name}");
                assert!(is_for_another(name), "{name}");
            }
        }
        for name in ["PATH", "HANDOVER_CONTROL", "NOTIFY"] {
            assert!(!is_for_another(name), "{name}");
        }
    }

    #[test]
    fn a_name_that_would_break_the_list_is_left_out() {
        let mut sockets = sockets();
        sockets[0].name = Some("a:b".to_owned());
        assert_eq!(names(&sockets), "unknown:unknown");
    }
}
