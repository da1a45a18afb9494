//! Clients that connect for each request and never try twice.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::support::ask;

/// What became of all requests.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) answered: AtomicUsize,
    /// The connection could not be made.
    pub(crate) refused: Mutex<Vec<ErrorKind>>,
    /// It was made, and broken off.
    pub(crate) broken: Mutex<Vec<ErrorKind>>,
}

/// A load that runs until it is stopped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    pub(crate) fn start(address: SocketAddr, clients: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let counts = Arc::new(Counts::default());
        let client = |_| {
            let (stop, counts) = (Arc::clone(&stop), Arc::clone(&counts));
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let outcome = match TcpStream::connect(address) {
                        Ok(stream) => ask(stream, "/").map_err(|err| (&counts.broken, err.kind())),
                        Err(err) => Err((&counts.refused, err.kind())),
                    };
                    match outcome {
                        Ok(_) => drop(counts.answered.fetch_add(1, Ordering::Relaxed)),
                        Err((list, kind)) => list.lock().unwrap().push(kind),
                    }
                    thread::sleep(Duration::from_millis(2));
                }
            })
        };
        let threads = (0..clients).map(client).collect();
        Self {
            stop,
            counts,
            threads,
        }
    }

    /// How many were answered so far.
    pub(crate) fn answered(&self) -> usize {
        self.counts.answered.load(Ordering::Relaxed)
    }

    pub(crate) fn stop(self) -> Arc<Counts> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        self.counts
    }
}

impl Counts {
    /// Fails if any request was lost.
    pub(crate) fn nothing_lost(&self) {
        let (refused, broken) = (self.refused.lock().unwrap(), self.broken.lock().unwrap());
        assert!(
            refused.is_empty() && broken.is_empty(),
            "refused {refused:?}, broken off {broken:?}"
        );
        assert!(self.answered.load(Ordering::Relaxed) > 0);
    }
}
