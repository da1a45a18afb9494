//! Work that may block, on a thread of its own.
//!
//! Not on one that the runtime keeps for that: it panics where it has none and can start none, and
//! the attempt and its conductor with it. Here that is an error like any other.

use std::{
    any::Any,
    io,
    thread::{self, JoinHandle},
};

use tokio::{runtime::Handle, sync::oneshot};

/// Work under way.
///
/// Dropped, it goes on, and nobody learns what it made; unless it is [held](Self::held).
#[derive(Debug)]
pub(crate) struct Aside<T> {
    thread: Option<JoinHandle<T>>,
    // Nothing is sent: it ends with the work.
    ended: oneshot::Receiver<()>,
    held: bool,
}

/// Begins it. Fails if no thread can be started.
///
/// # Panics
///
/// Outside of a runtime, which the work is in as well.
pub(crate) fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Aside<T>> {
    let runtime = Handle::current();
    let (end, ended) = oneshot::channel();
    let builder = thread::Builder::new().name("handover-upgrade".to_owned());
    let thread = builder.spawn(move || {
        let _runtime = runtime.enter();
        let _end = end;
        work()
    })?;
    Ok(Aside {
        thread: Some(thread),
        ended,
        held: false,
    })
}

/// Does it to its end, also where the runtime ends first; and where no thread can be started, here.
/// That blocks the runtime, which is better than that it is not done.
///
/// # Panics
///
/// As [`aside`].
pub(crate) async fn in_any_case(work: impl FnOnce() + Clone + Send + 'static) {
    match aside(work.clone()) {
        Ok(done) => drop(done.held().done().await),
        Err(_) => work(),
    }
}

impl<T> Aside<T> {
    /// Its drop waits until the work has ended: for what is short, and must not go on alone.
    pub(crate) fn held(mut self) -> Self {
        self.held = true;
        self
    }

    /// Waits until it has ended. Fails if it has panicked.
    pub(crate) async fn done(mut self) -> io::Result<T> {
        let _ = (&mut self.ended).await;
        self.join().unwrap_or_else(|| Err(panicked(&())))
    }

    fn join(&mut self) -> Option<io::Result<T>> {
        let thread = self.thread.take()?;
        Some(thread.join().map_err(|payload| panicked(&*payload)))
    }
}

impl<T> Drop for Aside<T> {
    fn drop(&mut self) {
        if self.held {
            drop(self.join());
        }
    }
}

fn panicked(payload: &(dyn Any + Send)) -> io::Error {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    io::Error::other(match text {
        Some(text) => format!("it panicked: {text}"),
        None => "it panicked".to_owned(),
    })
}
