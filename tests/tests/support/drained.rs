//! One drain of one process, and how long it took.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use handover_tests::harness::{Exit, Server, Signal};
use tokio::task::JoinHandle;

use super::BOUND;

/// A server that was sent SIGTERM.
#[derive(Debug)]
pub(crate) struct Draining {
    pub(crate) server: Server,
    began: Instant,
    exit: JoinHandle<(Exit, Instant)>,
}

/// A server that has ended.
#[derive(Debug)]
pub(crate) struct Drained {
    pub(crate) exit: Exit,
    /// From the signal to the end of the process.
    pub(crate) took: Duration,
    pub(crate) ended: Instant,
    /// The report on its stderr.
    pub(crate) report: String,
}

impl Draining {
    /// Sends SIGTERM and waits until the server says that it drains.
    pub(crate) async fn begin(server: Server) -> Self {
        let process = server.newest().process;
        let waits = process.clone();
        let exit = tokio::spawn(async move {
            let exit = waits.exit(BOUND).await.unwrap();
            (exit, Instant::now())
        });
        let began = Instant::now();
        process.signal(Signal::TERM).unwrap();
        server.stderr_line("draining", BOUND).await.unwrap();
        Self {
            server,
            began,
            exit,
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.server.newest().process.signal(signal).unwrap();
    }

    pub(crate) async fn end(self) -> Drained {
        let (exit, ended) = self.exit.await.unwrap();
        let report = self.server.stderr_line("drained in", BOUND).await.unwrap();
        Drained {
            exit,
            took: ended - self.began,
            ended,
            report,
        }
    }
}

impl Drained {
    /// Nothing was cut: returns how long after `done`, when the last work was, the process lived.
    pub(crate) fn complete_since(&self, done: Instant) -> Duration {
        if self.report.contains("abandoned") {
            return NEVER;
        }
        assert_eq!(self.exit, Exit::Status(0), "{}", self.report);
        assert!(!self.report.contains("cut"), "{}", self.report);
        self.ended.saturating_duration_since(done)
    }

    /// Something was cut, which the report names: returns how long after the deadline the process
    /// lived.
    pub(crate) fn cut_at(&self, deadline: Duration, names: &[&str]) -> Duration {
        if self.report.contains("abandoned") {
            return NEVER;
        }
        assert_eq!(self.exit, Exit::Status(3), "{}", self.report);
        for name in names {
            assert!(
                self.report.contains(name),
                "no {name:?} in {:?}",
                self.report
            );
        }
        assert!(
            self.took >= deadline,
            "{:?}, before the deadline: {}",
            self.took,
            self.report
        );
        self.took - deadline
    }
}

/// How late a connection is that had not ended by the end of the grace: the server was not given
/// the processor in time, or, if that is so each time, hangs.
const NEVER: Duration = Duration::from_secs(3600);

/// Runs a trial, which returns how late something was and panics if anything else is wrong, until
/// it is within `bound`; [`TRIALS`] times at most.
///
/// That it is late once says that the machine was busy: the process shares it with other tests and
/// is not scheduled at once. A delay of the server's own comes each time. On a machine that is busy
/// all the time no number of trials is enough, so how late a timer of this process was in the worst
/// case is allowed for, twice: once for the server, once for who waits for its end.
pub(crate) async fn in_time(bound: Duration, trial: impl AsyncFn() -> Duration) {
    let mut late = Vec::new();
    for _ in 0..TRIALS {
        let noise = Noise::listen();
        let by = trial().await;
        let noise = noise.worst();
        if by <= bound + 2 * noise {
            println!("{by:.1?} late of {bound:?}, beside a noise of {noise:.1?}");
            return;
        }
        late.push((by, noise));
    }
    panic!("within {bound:?} was wanted, and it took, beside a noise of: {late:?}");
}

/// So many that what happens now and then, as it does to a server that ends by stopping threads while
/// thirty others want the processor, does not happen each time.
const TRIALS: usize = 8;

/// Measures how late this process is woken.
struct Noise {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Duration>,
}

impl Noise {
    fn listen() -> Self {
        const EVERY: Duration = Duration::from_millis(2);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut worst = Duration::ZERO;
            while !stopped.load(Ordering::Relaxed) {
                let begun = Instant::now();
                thread::sleep(EVERY);
                worst = worst.max(begun.elapsed().saturating_sub(EVERY));
            }
            worst
        });
        Self { stop, thread }
    }

    fn worst(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("it does not panic")
    }
}
