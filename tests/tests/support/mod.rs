//! What the process tests share: the programs under test, a bare client, and one drain.
#![allow(dead_code, unused_imports)] // each test program uses a part

mod drained;
pub(crate) mod foreign;
pub(crate) mod grpc;
mod peer;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use handover_tests::{
    harness::{Program, Ready, eventually},
    load::{Target, get},
};

pub(crate) use self::{
    drained::{Draining, in_time},
    peer::Peer,
};

/// For what must happen and has no time of its own: long, since machines are busy.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

/// A reference server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// On Handover's own serve loop.
    Axum,
    /// On axum's.
    Foreign,
}

impl Way {
    pub(crate) fn path(self) -> &'static Path {
        Path::new(match self {
            Way::Axum => env!("CARGO_BIN_EXE_ref-axum"),
            Way::Foreign => env!("CARGO_BIN_EXE_ref-axum-foreign"),
        })
    }

    /// It, on a port of its own.
    pub(crate) fn program(self) -> Program {
        listening(self.path(), "127.0.0.1:0")
    }
}

/// A program with few threads, since many run at once, on one address.
pub(crate) fn listening(path: &Path, address: &str) -> Program {
    Program::new(path).args(["--workers", "2", "--listen", address])
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

/// Makes a test of each server out of functions that take a [`Way`].
#[macro_export]
macro_rules! for_both {
    ($($name:ident),* $(,)?) => {
        mod ref_axum {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name($crate::support::Way::Axum).await;
            })*
        }
        mod ref_axum_foreign {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name($crate::support::Way::Foreign).await;
            })*
        }
    };
}
