//! What has been said: a file that all generations share.
//!
//! It stands for what a chat has anyway, a database or a broker: something outside of the process
//! that puts messages in an order. Two generations are there at a time in an upgrade; both append
//! here and both read here, so both see the same messages in the same order, and which of them a
//! client is with makes no difference.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::FileExt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::sleep};

/// How often to look whether the other generation has written something.
const LOOK: Duration = Duration::from_millis(20);
/// The most that is read at a time.
const CHUNK: usize = 64 * 1024;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Said {
    pub(crate) room: String,
    pub(crate) nick: String,
    pub(crate) text: String,
}

/// The file, and how much of it there is.
#[derive(Clone)]
pub(crate) struct Log {
    file: Arc<Mutex<File>>,
    reader: Arc<File>,
    length: Arc<watch::Sender<u64>>,
}

impl Log {
    pub(crate) fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(&path)?;
        let reader = File::open(path)?;
        let length = watch::Sender::new(reader.metadata()?.len());
        Ok(Self {
            file: Arc::new(Mutex::new(file)),
            reader: Arc::new(reader),
            length: Arc::new(length),
        })
    }

    /// Looks after what the other generation writes. Never ends.
    pub(crate) async fn follow(self) {
        loop {
            sleep(LOOK).await;
            if let Err(err) = self.look() {
                tracing::error!(%err, "cannot look at the log");
            }
        }
    }

    fn look(&self) -> io::Result<()> {
        let now = self.reader.metadata()?.len();
        self.length.send_if_modified(|length| {
            let grown = now > *length;
            *length = now.max(*length);
            grown
        });
        Ok(())
    }

    // ANCHOR: append
    /// Appends a message. Once this has ended well no upgrade and no crash loses it.
    ///
    /// It is one write to a file that is open for appending, so that the messages of two processes
    /// are never mixed; on a line of its own, also after one that a full disk has cut short.
    pub(crate) fn append(&self, said: &Said) -> io::Result<()> {
        let line = format!("\n{}\n", serde_json::to_string(said)?);
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(line.as_bytes())?;
        drop(file);
        self.look()
    }
    // ANCHOR_END: append

    /// Where the next message will be.
    pub(crate) fn end(&self) -> u64 {
        *self.length.borrow()
    }

    /// Says when there is more; and at first, since there may be more already.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        let mut changes = self.length.subscribe();
        changes.mark_changed();
        changes
    }

    /// The messages from a position on, each with the position behind it. There may be more behind
    /// the last one.
    pub(crate) fn read(&self, from: u64) -> io::Result<Vec<(u64, Said)>> {
        let mut bytes = vec![0; CHUNK];
        let n = self.reader.read_at(&mut bytes, from)?;
        let mut position = from;
        let mut found = Vec::new();
        for line in bytes[..n].split_inclusive(|byte| *byte == b'\n') {
            if line.last() != Some(&b'\n') {
                break;
            }
            position += line.len() as u64;
            // An empty line, or one that was cut short.
            if let Ok(said) = serde_json::from_slice(line) {
                found.push((position, said));
            }
        }
        Ok(found)
    }
}
