//! The generations before this one that still drain: how many they are, and their end.
//!
//! Each generation makes a socket pair when it starts a successor. One end it keeps; the other goes
//! to the successor, and from there to each generation after it, so that the newest one has an end
//! to every older one, also to one whose own successor has gone before it. An end that is closed is
//! a generation that has ended.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use super::shared::{Shared, lock};
use crate::{
    status::{self, Held},
    upgrade::{
        channel::Channel,
        frame::{Decoded, Message, Older},
    },
};

/// How often one that has handed over looks whether it serves again. Until then its successor
/// listens to the older ones.
const LOOK: Duration = Duration::from_secs(1);

/// What one says of itself, as it said it last.
#[derive(Debug, Default)]
struct Said {
    held: Option<Held>,
    remaining: Option<Duration>,
    release: Option<String>,
    age: Option<Duration>,
}

/// The older generations, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct OlderGenerations(Mutex<Vec<Arc<Elder>>>);

#[derive(Debug)]
struct Elder {
    who: Older,
    channel: Channel,
    said: Mutex<Said>,
}

impl OlderGenerations {
    /// Those that a predecessor has told of.
    pub(crate) fn new(left: Vec<(Older, OwnedFd)>) -> io::Result<Self> {
        let elder = |(who, fd)| {
            Ok(Arc::new(Elder {
                who,
                channel: Channel::new(fd)?,
                said: Mutex::default(),
            }))
        };
        let mut all = left
            .into_iter()
            .map(elder)
            .collect::<io::Result<Vec<_>>>()?;
        all.sort_by_key(|elder| elder.who.generation);
        Ok(Self(Mutex::new(all)))
    }

    /// Listens to them, from when this generation serves.
    pub(crate) fn listen(&self, shared: &Arc<Shared>) {
        for elder in lock(&self.0).iter() {
            tokio::spawn(listen(Arc::clone(elder), Arc::downgrade(shared)));
        }
    }

    pub(crate) fn statuses(&self) -> Vec<status::Older> {
        let all = lock(&self.0);
        all.iter()
            .map(|elder| {
                let said = lock(&elder.said);
                status::Older {
                    pid: elder.who.pid,
                    generation: elder.who.generation,
                    held: said.held.clone(),
                    remaining: said.remaining,
                    release: said.release.clone(),
                    age: said.age,
                }
            })
            .collect()
    }

    /// Duplicates of the ends, for a successor.
    pub(crate) fn for_successor(&self) -> io::Result<Vec<(Older, OwnedFd)>> {
        let all = lock(&self.0);
        all.iter()
            .map(|elder| {
                let fd = elder.channel.as_fd().try_clone_to_owned()?;
                Ok((elder.who.clone(), fd))
            })
            .collect()
    }

    /// Cuts the oldest, so that at most `most` remain. Returns who was told.
    pub(crate) fn keep(&self, most: usize) -> Vec<Older> {
        let all = lock(&self.0);
        let excess = all.len().saturating_sub(most);
        let mut told = Vec::new();
        for elder in all.iter().take(excess) {
            // An error means that it has ended.
            if elder.channel.try_send(&Message::Cut).is_ok() {
                told.push(elder.who.clone());
            }
        }
        told
    }

    /// The process ids of all that still may be there.
    pub(crate) fn pids(&self) -> Vec<u32> {
        lock(&self.0).iter().map(|elder| elder.who.pid).collect()
    }

    /// Tells all that this generation serves: one of them may have taken its successor's death, and
    /// so its own return, for the end of the upgrade.
    pub(crate) fn supersede(&self, generation: u64) {
        let pid = std::process::id();
        for elder in lock(&self.0).iter() {
            // An error means that it has ended.
            let _ = elder
                .channel
                .try_send(&Message::Superseded { pid, generation });
        }
    }

    fn remove(&self, gone: &Arc<Elder>) {
        lock(&self.0).retain(|elder| !Arc::ptr_eq(elder, gone));
    }
}

async fn listen(elder: Arc<Elder>, shared: Weak<Shared>) {
    loop {
        match shared.upgrade() {
            Some(shared) if shared.has_handed_over() => {
                drop(shared);
                tokio::time::sleep(LOOK).await;
                continue;
            }
            Some(_) => {}
            None => return,
        }
        let received = elder.channel.recv().await;
        match received.map(|received| received.map(|received| received.message)) {
            Ok(Some(Decoded::Known(Message::Holds {
                held,
                remaining,
                release,
                age,
            }))) => {
                *lock(&elder.said) = Said {
                    held: Some(held),
                    remaining,
                    release,
                    age,
                };
            }
            Ok(Some(Decoded::Known(_))) => {}
            // Not answered: the ends are shared, and nothing is expected of this one.
            Ok(Some(Decoded::Unknown(_))) => {}
            Err(err) if err.kind() == io::ErrorKind::InvalidData => {}
            Ok(None) | Err(_) => break,
        }
    }
    if let Some(shared) = shared.upgrade() {
        let Older { pid, generation } = elder.who;
        tracing::debug!(pid, generation, "an older generation has gone");
        shared.older.remove(&elder);
    }
}
