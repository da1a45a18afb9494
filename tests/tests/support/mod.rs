//! What the process tests share: the programs under test, a bare client, and one drain.
#![allow(dead_code, unused_imports)] // each test program uses a part

pub(crate) mod balancer;
mod drained;
pub(crate) mod foreign;
pub(crate) mod grpc;
mod peer;
pub(crate) mod pids;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use handover_tests::{
    harness::{Program, Ready, eventually},
    load::{Connection, Target, get, get_on},
    tls::Certificates,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub(crate) use self::{
    drained::{Draining, in_time},
    peer::{Peer, has_read},
};

/// For what must happen and has no time of its own: long, since machines are busy.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

/// A reference server with the whole HTTP surface: a row of the table that every process test goes
/// through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// axum on Handover's own serve loop.
    Axum,
    /// axum on its own.
    Foreign,
    /// warp on Handover's own serve loop.
    Warp,
    /// actix-web on Handover's own serve loop.
    ActixWeb,
    /// actix-web on its own.
    ActixForeign,
}

impl Way {
    /// The whole table; [`for_each_server!`] has it too.
    pub(crate) const ALL: [Self; 5] = [
        Way::Axum,
        Way::Foreign,
        Way::Warp,
        Way::ActixWeb,
        Way::ActixForeign,
    ];

    pub(crate) fn path(self) -> &'static Path {
        Path::new(match self {
            Way::Axum => env!("CARGO_BIN_EXE_ref-axum"),
            Way::Foreign => env!("CARGO_BIN_EXE_ref-axum-foreign"),
            Way::Warp => env!("CARGO_BIN_EXE_ref-warp"),
            Way::ActixWeb => env!("CARGO_BIN_EXE_ref-actix-web"),
            Way::ActixForeign => env!("CARGO_BIN_EXE_ref-actix-web-foreign"),
        })
    }

    /// It, on a port of its own.
    pub(crate) fn program(self) -> Program {
        listening(self.path(), "127.0.0.1:0")
    }

    /// Whether Handover only wraps the framework's own serve loop.
    pub(crate) fn is_foreign(self) -> bool {
        matches!(self, Way::Foreign | Way::ActixForeign)
    }

    /// What Handover sees of a connection there.
    pub(crate) fn sees(self) -> Sees {
        match self {
            Way::Axum | Way::Warp | Way::ActixWeb => Sees::Messages,
            Way::Foreign => Sees::Bytes,
            Way::ActixForeign => Sees::Requests,
        }
    }
}

/// What Handover sees of a connection, and so what it can wait for and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sees {
    /// All of it.
    Messages,
    /// What goes in and out, below the framework's own loop.
    Bytes,
    /// That it is there, and complete requests, beside the framework's own loop. It is one of
    /// HTTP/1.
    Requests,
}

/// A program with few threads, since many run at once, on one address.
pub(crate) fn listening(path: &Path, address: &str) -> Program {
    Program::new(path).args(["--workers", "2", "--listen", address])
}

/// The server, started by a shell that gives it what is its own stdin as descriptor 3, as systemd does.
pub(crate) fn activated(way: Way, names: &str, address: &str) -> Program {
    let script = r#"export LISTEN_PID=$$ LISTEN_FDS=1; exec "$0" "$@" 3<&0 </dev/null"#;
    Program::new("/bin/sh")
        .args(["-c", script])
        .arg(way.path())
        .args(["--workers", "2", "--listen", address])
        .env("LISTEN_FDNAMES", names)
}

/// It, and all its TCP listeners speak TLS.
pub(crate) fn over_tls(program: Program, certificates: &Certificates) -> Program {
    program
        .arg("--tls")
        .arg(certificates.certificate())
        .arg(certificates.key())
}

/// Waits until process `ready` is the one to answer; its predecessor may take a connection until it
/// has heard that the successor serves. Every answer on the way is a good one.
pub(crate) async fn answers(target: &Target, ready: &Ready) {
    let what = format!("process {} to answer", ready.pid());
    let answered = eventually(&what, BOUND, async || {
        let answer = get(target, "/").await.unwrap();
        assert_eq!(answer.head.status, 200);
        (answer.head.pid == Some(ready.pid())).then_some(answer.head.generation)
    });
    assert_eq!(answered.await.unwrap(), Some(ready.generation));
}

/// A directory of this test, and a path in it.
pub(crate) fn directory() -> (tempfile::TempDir, impl Fn(&str) -> PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().to_owned();
    (directory, move |name| path.join(name))
}

/// Lets this process, and the servers that inherit it, open so many connections. False if there may not
/// be so many descriptors.
pub(crate) fn may_open(count: usize) -> bool {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum;
    setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();
    let suffices = current.is_none_or(|most| most >= count as u64 + 500);
    if !suffices {
        println!("skipped: {count} descriptors are needed, and {current:?} are allowed");
    }
    suffices
}

/// Connections that have had one answer each, and are idle.
pub(crate) async fn idle(to: &Target, count: usize) -> Vec<Connection> {
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        let mut connection = Connection::open(to).await.unwrap();
        get_on(&mut connection, "/").await.unwrap();
        connections.push(connection);
    }
    connections
}

/// Makes a test for each server out of functions that take a [`Way`]; with attributes, if need be.
#[macro_export]
macro_rules! for_each_server {
    ($($(#[$attr:meta])* $name:ident),* $(,)?) => {
        $crate::for_each_acceptor! { $($(#[$attr])* $name),* }
        $crate::for_server! { ref_actix_web_foreign ActixForeign $($(#[$attr])* $name)* }
    };
}

/// The same, for those that take their connections from Handover and not only their sockets.
#[macro_export]
macro_rules! for_each_acceptor {
    ($($(#[$attr:meta])* $name:ident),* $(,)?) => {
        $crate::for_server! { ref_axum Axum $($(#[$attr])* $name)* }
        $crate::for_server! { ref_axum_foreign Foreign $($(#[$attr])* $name)* }
        $crate::for_server! { ref_warp Warp $($(#[$attr])* $name)* }
        $crate::for_server! { ref_actix_web ActixWeb $($(#[$attr])* $name)* }
    };
}

/// The same, for what is no framework's affair: one server on our loop, one on its own.
#[macro_export]
macro_rules! for_either_loop {
    ($($(#[$attr:meta])* $name:ident),* $(,)?) => {
        $crate::for_server! { our_loop Axum $($(#[$attr])* $name)* }
        $crate::for_server! { foreign_loop Foreign $($(#[$attr])* $name)* }
    };
}

/// One row of [`for_each_server!`].
#[macro_export]
macro_rules! for_server {
    ($server:ident $way:ident $($(#[$attr:meta])* $name:ident)*) => {
        mod $server {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            $(#[$attr])*
            async fn $name() {
                super::$name($crate::support::Way::$way).await;
            })*
        }
    };
}
