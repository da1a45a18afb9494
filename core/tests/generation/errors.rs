//! What goes wrong says what it was, to which address, file or program, and to whom it matters.

use std::{error::Error as _, fs::File, io, net::TcpListener, time::Duration};

use handover::{
    Error, Generation,
    control::{Event, Refusal, Request, UpgradeRequest},
    status::Standing,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use super::{builder, ready};

/// The kind of IO error below.
fn cause(error: &Error) -> Option<io::ErrorKind> {
    let source = error.source()?.downcast_ref::<io::Error>()?;
    Some(source.kind())
}

#[test]
fn a_program_without_a_runtime_is_told_what_it_lacks() {
    let err = Generation::start().unwrap_err();
    assert!(err.to_string().contains("#[tokio::main]"), "{err}");
    assert!(!err.is_listen() && !err.is_spawn(), "{err}");
}

#[tokio::test]
async fn an_address_that_is_none_is_no_failure_to_listen() {
    let generation = builder().start().unwrap();
    for text in ["nowhere", "web=", "127.0.0.1:66000"] {
        let err = generation.listen(text).await.unwrap_err();
        assert!(err.is_address() && !err.is_listen(), "{text}: {err}");
    }
    // Each kind of socket has its kind of address.
    let dir = tempfile::tempdir().unwrap();
    let path = format!("unix:{}", dir.path().join("s").display());
    let ip = "127.0.0.1:0";
    let udp = generation.bind_udp(&path).await.unwrap_err();
    let seqpacket = generation.listen_seqpacket(ip).await.unwrap_err();
    let datagram = generation.bind_unix_datagram(ip).await.unwrap_err();
    for (err, text) in [(udp, &*path), (seqpacket, ip), (datagram, ip)] {
        assert!(err.is_address(), "{err}");
        assert!(err.to_string().contains(text), "{err}");
    }
    assert!(!dir.path().join("s").exists());
}

#[tokio::test]
async fn a_name_is_for_one_socket() {
    let generation = builder().start().unwrap();
    let _web = generation.listen("web=127.0.0.1:0").await.unwrap();
    let err = generation.listen("web=127.0.0.1:0").await.unwrap_err();
    assert!(err.is_address(), "{err}");
    assert!(err.to_string().contains("web"), "{err}");
}

#[tokio::test]
async fn an_address_that_is_taken_is_named_with_the_cause() {
    let generation = builder().start().unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    let err = generation
        .listen(format!("web={address}"))
        .await
        .unwrap_err();
    assert!(err.is_listen(), "{err}");
    assert_eq!(cause(&err), Some(io::ErrorKind::AddrInUse));
    assert!(err.to_string().contains(&address), "{err}");
    // The name is free again.
    drop(other);
    generation.listen(format!("web={address}")).await.unwrap();
}

#[tokio::test]
async fn a_pid_file_and_a_control_socket_need_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("missing");
    let err = builder().control(nowhere.join("c")).start().unwrap_err();
    assert!(err.is_control() && !err.is_pid_file(), "{err}");

    let generation = builder().pid_file(nowhere.join("p")).start().unwrap();
    let path = nowhere.join("p");
    assert_eq!(generation.pid_file(), Some(path.as_path()));
    let err = generation.ready().await.unwrap_err();
    assert!(err.is_pid_file() && !err.is_control(), "{err}");
    assert_eq!(cause(&err), Some(io::ErrorKind::NotFound));
    assert!(err.to_string().contains("missing"), "{err}");
    assert_eq!(generation.status().standing, Standing::Starting);
}

#[tokio::test]
async fn what_cannot_be_kept_is_named() {
    let generation = builder().start().unwrap();
    let file = || tempfile::tempfile().unwrap();
    let err = generation.keep_connection("broker", file()).unwrap_err();
    assert!(err.is_file() && err.to_string().contains("broker"), "{err}");
    let err = generation.keep_file("", file()).unwrap_err();
    assert!(err.is_file(), "{err}");
    // A name is for one kind of thing.
    let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    generation.keep_file("log", file()).unwrap();
    let err = generation.keep_connection("log", one).unwrap_err();
    assert!(err.is_file() && err.to_string().contains("log"), "{err}");
    assert!(generation.withdraw("log").is_some());
}

/// It is not there, is none, ends at once, or says that it cannot: each is told apart, this process
/// serves on, and another try is allowed.
#[tokio::test]
async fn a_program_that_cannot_follow_is_told_with_why() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let text = dir.path().join("text");
    File::create(&text).unwrap();
    for program in [&missing, &text] {
        let generation = ready(builder().program(program)).await;
        let upgrade = generation.upgrade().await.unwrap_err();
        let check = generation.check().await.unwrap_err();
        for err in [upgrade, check] {
            assert!(err.is_spawn() && cause(&err).is_some(), "{err}");
            let name = program.display().to_string();
            assert!(err.to_string().contains(&name), "{err}");
        }
        assert_eq!(generation.status().standing, Standing::Running);
    }

    let script = "echo no database >&2; exit 3";
    let shell = builder().program("/bin/sh").args(["-c", script]);
    let generation = ready(shell).await;
    for _ in 0..2 {
        let err = generation.upgrade().await.unwrap_err();
        assert!(err.is_failed() && !err.is_spawn(), "{err}");
        let text = err.to_string();
        assert!(text.contains('3') && text.contains("no database"), "{err}");
        let err = generation.check().await.unwrap_err();
        assert!(err.is_failed(), "{err}");
    }
    let status = generation.status();
    assert_eq!(status.failed_upgrades, 2);
    let last = status.last_upgrade.unwrap().error.unwrap();
    assert!(last.contains("no database"), "{last}");
}

#[tokio::test]
async fn one_that_hangs_is_given_up_at_its_time() {
    let slow = builder()
        .program("/bin/sh")
        .args(["-c", "exec sleep 600"])
        .ready_timeout(Duration::from_millis(200));
    let generation = ready(slow).await;
    let upgrade = generation.upgrade().await.unwrap_err();
    let check = generation.check().await.unwrap_err();
    for err in [upgrade, check] {
        assert!(err.is_timeout(), "{err}");
    }
    assert_eq!(generation.status().standing, Standing::Running);
}

#[tokio::test]
async fn who_asks_at_the_wrong_time_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control");
    let builder = builder().control(&path).program("/bin/false");
    let generation = builder.release("2.4.0").start().unwrap();
    assert!(generation.upgrade().await.unwrap_err().is_not_ready());
    generation.ready().await.unwrap();

    // The upgrade of another generation: somebody else was faster.
    let stale = Request::Upgrade(UpgradeRequest::default().if_generation(7));
    let [answer] = &ask(&path, &stale).await[..] else {
        panic!("one line")
    };
    let Event::Refused { kind, message, .. } = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(*kind, Refusal::Stale);
    assert!(message.contains("generation 0 serves"), "{message}");

    // One that fails is heard from its begin to its reason.
    let heard = ask(&path, &Request::Upgrade(UpgradeRequest::default())).await;
    assert!(matches!(heard[0], Event::Begun { generation: 0, .. }));
    let Some(Event::Failed { message, .. }) = heard.last() else {
        panic!("{heard:?}")
    };
    assert!(message.contains('1'), "{message}");

    let [Event::Status { status, .. }] = &ask(&path, &Request::Status).await[..] else {
        panic!("no status")
    };
    assert_eq!(status.release.as_deref(), Some("2.4.0"));

    generation.graceful().drain();
    assert!(generation.upgrade().await.unwrap_err().is_draining());
    generation.finished().await;
    assert!(!path.exists(), "the last generation removes it");
}

async fn ask(path: &std::path::Path, request: &Request) -> Vec<Event> {
    let mut caller = UnixStream::connect(path).await.unwrap();
    let line = request.to_line();
    caller.write_all(line.as_bytes()).await.unwrap();
    let mut answer = String::new();
    caller.read_to_string(&mut answer).await.unwrap();
    let events = answer.lines().map(|line| Event::from_line(line).unwrap());
    events.collect()
}
