//! The token that a layer puts into each request.
//!
//! To clone a token is to count one up. If all threads did so at one place, that would be the dearest of
//! all that the layer does: 270 ns of 330 on two threads. So each has a token of its own, and a request's
//! is counted down where it was counted up, as long as it does not change its thread.

use std::sync::{Arc, OnceLock};

use crate::{Graceful, shard};

/// The token of a service: one that all share, and one for each thread.
#[derive(Clone, Debug)]
pub(super) struct Tokens(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    token: Graceful,
    // Each is made by its thread when that first needs it, and so lies with its other memory.
    threads: Box<[OnceLock<Graceful>]>,
}

impl Tokens {
    pub(super) fn of(token: Graceful) -> Self {
        let threads = (0..shard::count()).map(|_| OnceLock::new()).collect();
        Self(Arc::new(Shared { token, threads }))
    }

    /// To look at, and not to clone.
    pub(super) fn shared(&self) -> &Graceful {
        &self.0.token
    }

    /// One for a request of this thread.
    pub(super) fn of_this_thread(&self) -> Graceful {
        let threads = &self.0.threads;
        let mine = &threads[shard::of_this_thread(threads.len())];
        mine.get_or_init(|| self.0.token.apart()).clone()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn all_are_of_the_same_drain() {
        let graceful = Graceful::new();
        let tokens = Tokens::of(graceful.clone());
        let given = std::thread::scope(|scope| {
            let thread = || scope.spawn(|| tokens.of_this_thread());
            [thread(), thread()].map(|thread| thread.join().unwrap())
        });
        let mut given = given.iter().chain([tokens.shared()]);
        assert!(given.clone().all(|token| token.is_same_drain(&graceful)));
        graceful.drain();
        assert!(given.all(Graceful::is_draining));
    }
}
