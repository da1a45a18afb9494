//! The line by which a server says that it serves.

use std::{io, net::SocketAddr};

use anyhow::Context as _;

use super::process::Process;
use crate::load::Target;

/// A generation that said `ready pid=PID generation=N NAME=ADDR…`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Ready {
    /// The process.
    pub process: Process,
    /// Its generation.
    pub generation: u64,
    /// Names and addresses of its sockets, in its order.
    pub sockets: Vec<(String, String)>,
}

impl Ready {
    /// Reads such a line; `None` if it is another one.
    pub(crate) fn parse(line: &str) -> Option<io::Result<Self>> {
        let mut words = line.strip_prefix("ready ")?.split_whitespace();
        let pid = words.next()?.strip_prefix("pid=")?.parse().ok()?;
        let generation = words.next()?.strip_prefix("generation=")?.parse().ok()?;
        // A name may be an address, but an address of a socket has no equals sign.
        let sockets = words
            .map(|word| {
                word.rsplit_once('=')
                    .map(|(name, addr)| (name.into(), addr.into()))
            })
            .collect::<Option<_>>()?;
        Some(Process::open(pid).map(|process| Self {
            process,
            generation,
            sockets,
        }))
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The address of the socket `name`.
    ///
    /// # Errors
    ///
    /// If it has no such socket.
    pub fn target(&self, name: &str) -> anyhow::Result<Target> {
        let socket = self.sockets.iter().find(|(n, _)| n == name);
        let (_, address) =
            socket.with_context(|| format!("no socket {name:?} among {:?}", self.sockets))?;
        Target::parse(address)
    }

    /// The address of its first socket.
    ///
    /// # Errors
    ///
    /// If it has none.
    pub fn first_target(&self) -> anyhow::Result<Target> {
        let (_, address) = self
            .sockets
            .first()
            .context("the ready line names no socket")?;
        Target::parse(address)
    }

    /// The address of its first TCP socket.
    ///
    /// # Errors
    ///
    /// If it has none.
    pub fn tcp(&self) -> anyhow::Result<SocketAddr> {
        let mut addresses = self
            .sockets
            .iter()
            .filter_map(|(_, address)| address.parse().ok());
        addresses
            .next()
            .with_context(|| format!("no TCP socket among {:?}", self.sockets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{Info, ready_line};

    #[test]
    fn the_line_that_servers_write_is_read() {
        let sockets = [("127.0.0.1:0", "127.0.0.1:4000"), ("admin", "unix:/run/x")];
        let line = ready_line(Info::new(3), sockets);
        let ready = Ready::parse(line.trim_end()).unwrap().unwrap();
        assert_eq!((ready.pid(), ready.generation), (std::process::id(), 3));
        assert_eq!(ready.tcp().unwrap(), "127.0.0.1:4000".parse().unwrap());
        assert_eq!(
            ready.target("admin").unwrap(),
            Target::Unix("/run/x".into())
        );
        assert!(ready.target("none").is_err());
    }

    #[test]
    fn other_lines_are_not() {
        for line in [
            "",
            "ready",
            "ready pid=x generation=0",
            "ready pid=1",
            "already pid=1",
        ] {
            assert!(Ready::parse(line).is_none(), "{line:?}");
        }
    }
}
