//! Predecessors of another release, and what is none at all: the test speaks for them.

use std::{
    fs,
    os::fd::{AsFd, OwnedFd},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
    sockopt::{Timeout, set_socket_timeout},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::service::{ARGS, PATIENCE, directory, prepare};

/// The predecessor's end of a channel, and the successor at the other.
struct Stranger {
    channel: OwnedFd,
    successor: Child,
    dir: TempDir,
}

impl Stranger {
    fn start() -> Self {
        let dir = directory();
        let flags = SocketFlags::CLOEXEC;
        let (channel, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        set_socket_timeout(&channel, Timeout::Recv, Some(PATIENCE)).unwrap();
        let mut command = Command::new("/bin/sh");
        prepare(&mut command, dir.path());
        // Under a number that nothing else has.
        let script = "exec 9<&0 </dev/null; exec \"$0\" \"$@\"";
        command
            .args(["-c", script])
            .arg(dir.path().join("server"))
            .args(ARGS)
            .env("HANDOVER_CHANNEL", format!("1:9:{}", std::process::id()))
            .stdin(Stdio::from(theirs));
        let successor = command.spawn().unwrap();
        Self {
            channel,
            successor,
            dir,
        }
    }

    fn say_bytes(&self, bytes: &[u8]) {
        send(self.channel.as_fd(), bytes, SendFlags::NOSIGNAL).unwrap();
    }

    fn say(&self, header: &Value) {
        let header = header.to_string().into_bytes();
        let length = u32::try_from(header.len()).unwrap().to_le_bytes();
        self.say_bytes(&[&length[..], &header].concat());
    }

    /// In the fewest words that were ever enough.
    fn hello(&self) {
        self.say(&json!({
            "type": "hello",
            "version": 1,
            "predecessor": std::process::id(),
            "successor": self.successor.id(),
            "generation": 41,
        }));
    }

    /// The next message; `None` at the end.
    fn hears(&self) -> Option<Value> {
        let mut bytes = vec![0; 256 * 1024];
        let (_, length) = recv(self.channel.as_fd(), &mut *bytes, RecvFlags::empty()).ok()?;
        let header = bytes[..length].get(4..)?;
        Some(serde_json::from_slice(header).unwrap())
    }

    fn hears_type(&self, kind: &str) -> Value {
        loop {
            let message = self
                .hears()
                .unwrap_or_else(|| panic!("no {kind}: {}", self.log()));
            if message["type"] == kind {
                return message;
            }
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("stderr")).unwrap()
    }

    /// The successor tells why in these words, and ends.
    fn fails(mut self, words: &str) {
        let failed = self.hears_type("failed")["message"].to_string();
        assert!(failed.contains(words), "{words:?} is not in {failed}");
        let status = self.successor.wait().unwrap();
        assert_eq!(status.code(), Some(4), "{}", self.log());
    }

    fn logged(&self, words: &str) {
        let until = std::time::Instant::now() + PATIENCE;
        while !self.log().contains(words) {
            assert!(
                std::time::Instant::now() < until,
                "{words:?}: {}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.successor.kill();
        let _ = self.successor.wait();
    }
}

#[test]
fn a_predecessor_of_another_release_is_understood() {
    let stranger = Stranger::start();
    stranger.say(&json!({
        "type": "hello",
        "version": 99,
        "predecessor": std::process::id(),
        "successor": stranger.successor.id(),
        "generation": 41,
        "mood": ["good"],
    }));
    stranger.say(&json!({"type": "teleport", "to": [1, 2]}));
    stranger.say(&json!({"type": "start", "engine": 1}));
    assert_eq!(
        stranger.hears().unwrap(),
        json!({"type": "unknown", "what": "teleport"})
    );
    assert_eq!(stranger.hears_type("starting")["version"], 1);
    stranger.hears_type("ready");
    stranger.say(&json!({"type": "dance"}));
    assert_eq!(stranger.hears_type("unknown")["what"], "dance");
    stranger.say(&json!({"type": "commit", "now": true}));
    stranger.hears_type("serving");
    // It is not asked for connections that it does not send, nor does it mind news.
    stranger.say(&json!({"type": "sing"}));
    assert_eq!(stranger.hears_type("unknown")["what"], "sing");
    stranger.say(&json!({"type": "bye"}));
    rustix::net::shutdown(&stranger.channel, rustix::net::Shutdown::Both).unwrap();
    stranger.logged("predecessor gone");
    assert!(stranger.log().contains("generation=41"));
}

#[test]
fn garbage_instead_of_the_sockets_is_an_error() {
    for garbage in [
        &b"x"[..],
        b"\xff\xff\xff\xff{}",
        b"\x02\0\0\0{}",
        b"\x01\0\0\0[",
    ] {
        let stranger = Stranger::start();
        stranger.hello();
        stranger.say_bytes(garbage);
        stranger.fails("the predecessor did not hand over what it should have");
    }
}

#[test]
fn a_known_message_that_lacks_what_it_must_have_is_an_error() {
    let stranger = Stranger::start();
    stranger.hello();
    let socket = json!({"name": "web", "kind": "tcp", "address": "127.0.0.1:80"});
    stranger.say(&json!({"type": "sockets", "sockets": [socket]}));
    stranger.fails("sockets without their descriptors");
    let stranger = Stranger::start();
    stranger.hello();
    stranger.say(&json!({"type": "state"}));
    stranger.fails("bad message");
}

#[test]
fn garbage_instead_of_a_commit_is_an_error() {
    let stranger = Stranger::start();
    stranger.hello();
    stranger.say(&json!({"type": "start"}));
    stranger.hears_type("ready");
    stranger.say_bytes(b"no frame");
    stranger.fails("something else than a commit");
}
