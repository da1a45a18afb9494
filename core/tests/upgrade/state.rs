//! What a generation leaves for the next one beside its sockets.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
    sync::Arc,
};

use handover::Generation;
use rustix::process::Signal;
use tokio::io::AsyncReadExt;

use super::service::{Service, ask, connect, send};

/// The server's part: takes what there is, writes it to files with the number of the generation,
/// and keeps what the files `state` and `stream` hold.
pub(crate) async fn take_and_keep(generation: &Generation, dir: &Path) -> io::Result<()> {
    let number = generation.number();
    let left = generation.take_state("blob");
    assert!(generation.take_state("blob").is_none(), "only once");
    if let Some(left) = &left {
        assert_eq!(u64::from(left.version()), 100 + number - 1);
    }
    let blob: Arc<[u8]> = left.unwrap_or_default().bytes().into();
    fs::write(dir.join(format!("state.{number}")), &blob)?;
    let at = dir.to_owned();
    let version = 100 + u32::try_from(number).unwrap();
    generation.keep_state("blob", version, move || {
        assert!(!at.join("no-state").exists(), "the state is lost");
        if at.join("bad-state").exists() {
            return Err(io::Error::other("the state is unreadable"));
        }
        Ok(fs::read(at.join("state")).unwrap_or_else(|_| blob.to_vec()))
    });

    if !dir.join("leave-stream").exists()
        && let Some(mut stream) = generation.take_state_stream("stream")
    {
        assert!(
            generation.take_state_stream("stream").is_none(),
            "only once"
        );
        assert_eq!(u64::from(stream.version()), 200 + number - 1);
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await?;
        fs::write(dir.join(format!("stream.{number}")), read)?;
    }
    let at = dir.to_owned();
    generation.keep_state_stream("stream", version + 100, move |out| {
        if let Ok(mut file) = File::open(at.join("stream")) {
            io::copy(&mut file, out)?;
        }
        if at.join("bad-stream").exists() {
            return Err(io::Error::other("the index is corrupt"));
        }
        Ok(())
    });

    let undone = dir.join("undone");
    generation.on_upgrade_failed(move |err| {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(&undone)
            .unwrap();
        writeln!(file, "{number}: {err}").unwrap();
    });
    Ok(())
}

fn undone(service: &Service) -> String {
    fs::read_to_string(service.path("undone")).unwrap_or_default()
}

#[test]
fn a_blob_of_a_megabyte_is_handed_over() {
    let (service, first) = Service::start(&[]);
    assert_eq!(fs::read(service.path("state.0")).unwrap(), b"");
    let blob: Vec<u8> = (0..1_048_579_u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    fs::write(service.path("state"), &blob).unwrap();
    send(first.pid, Signal::HUP);
    let second = service.ready();
    assert!(fs::read(service.path("state.1")).unwrap() == blob);

    // A blob of whole pieces, and an empty one.
    for (number, blob) in [(2, vec![7; 131_072]), (3, Vec::new())] {
        fs::write(service.path("state"), &blob).unwrap();
        let pid = service.pid_file().unwrap();
        send(pid, Signal::HUP);
        service.ready();
        assert!(fs::read(service.path(&format!("state.{number}"))).unwrap() == blob);
    }
    assert_ne!(second.pid, first.pid);
}

#[test]
fn a_stream_of_many_megabytes_is_read_while_it_is_written() {
    let (service, first) = Service::start(&[]);
    let all: Vec<u8> = (0..20_000_003_u32).map(|at| (at % 251) as u8).collect();
    fs::write(service.path("stream"), &all).unwrap();
    send(first.pid, Signal::HUP);
    service.ready();
    assert!(fs::read(service.path("stream.1")).unwrap() == all);
}

#[test]
fn a_stream_that_nobody_takes_holds_nobody_up() {
    let (mut service, first) = Service::start(&[]);
    // More than a socket holds.
    fs::write(service.path("stream"), vec![1; 5_000_000]).unwrap();
    fs::write(service.path("leave-stream"), "").unwrap();
    send(first.pid, Signal::HUP);
    let second = service.ready();
    assert!(service.first_ended().success());
    assert!(!service.path("stream.1").exists());
    service.served_by(&second.addresses[0], second.pid);
}

#[test]
fn a_stream_that_breaks_off_fails_the_upgrade() {
    let (service, first) = Service::start(&[]);
    fs::write(service.path("stream"), vec![1; 100_000]).unwrap();
    fs::write(service.path("bad-stream"), "").unwrap();
    let answer = ask(&first.addresses[0], "upgrade");
    assert!(answer.contains("the index is corrupt"), "{answer}");
    service.served_by(&first.addresses[0], first.pid);
    let undone = undone(&service);
    assert!(undone.starts_with("0: the successor"), "{undone}");

    fs::remove_file(service.path("bad-stream")).unwrap();
    send(first.pid, Signal::HUP);
    service.ready();
    assert_eq!(fs::read(service.path("stream.1")).unwrap().len(), 100_000);
}

#[test]
fn state_that_cannot_be_made_fails_the_upgrade() {
    let (service, first) = Service::start(&[]);
    for (file, why) in [("no-state", "is lost"), ("bad-state", "unreadable")] {
        fs::write(service.path(file), "").unwrap();
        let answer = ask(&first.addresses[0], "upgrade");
        assert!(answer.contains("State") && answer.contains(why), "{answer}");
        fs::remove_file(service.path(file)).unwrap();
    }
    assert_eq!(undone(&service).lines().count(), 2);
    assert!(undone(&service).contains(r#"the state "blob" for a successor"#));
    send(first.pid, Signal::HUP);
    service.ready();
}

#[test]
fn what_was_prepared_is_undone_when_the_successor_dies_on_probation() {
    let (service, first) = Service::start(&[("HANDOVER_TEST_PROBATION_MS", "20000")]);
    let mut talk = connect(&first.addresses[0]);
    assert!(talk.ask("upgrade").starts_with("ok"));
    let second = service.ready();
    send(second.pid, Signal::KILL);
    service.wait_until("it is undone", || {
        undone(&service).contains("died after it served")
    });
    service.served_by(&first.addresses[0], first.pid);
}

#[test]
fn what_was_prepared_is_undone_when_the_upgrade_is_ended() {
    let (mut service, first) = Service::start(&[]);
    service.fault("hang");
    send(first.pid, Signal::HUP);
    service.line("hanging");
    send(first.pid, Signal::TERM);
    assert!(service.first_ended().success());
    assert!(undone(&service).contains("told to stop"));
}
