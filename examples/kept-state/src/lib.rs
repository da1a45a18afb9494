//! A service that counts words, with a motto and a log: each goes to the next generation in a way of
//! its own.

use std::{
    collections::BTreeMap,
    error::Error,
    fs::File,
    io::{self, Write},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    extract::{Path, State},
    routing::get,
};
use handover::{Generation, GenerationBuilder};
use tokio::io::AsyncReadExt;

type BoxError = Box<dyn Error + Send + Sync>;

/// What the handlers share.
#[derive(Clone)]
struct Known {
    motto: Arc<Mutex<String>>,
    counts: Arc<Mutex<BTreeMap<String, u64>>>,
    log: Arc<File>,
}

// ANCHOR: program
/// The service, from the start of a generation to the end of its drain.
///
/// # Errors
///
/// If the address or the log cannot be had, or what a predecessor left cannot be used.
pub async fn program(
    builder: GenerationBuilder,
    address: String,
    log: PathBuf,
) -> Result<(), BoxError> {
    let generation = builder.start()?;
    let listener = generation.listen(format!("web={address}")).await?;
    let addr = listener.local_addr()?;
    let known = Known {
        motto: Arc::new(Mutex::new(motto(&generation)?)),
        counts: Arc::new(Mutex::new(counts(&generation).await?)),
        log: Arc::new(open(&generation, log)?),
    };
    keep(&generation, &known)?;
    let app = Router::new()
        .route("/motto", get(read_motto).put(write_motto))
        .route("/count/{word}", get(count))
        .with_state(known);
    let server = handover_axum::serve(listener, app).with_graceful(generation.graceful());
    tracing::info!(%addr, "listening");
    generation.ready().await?;
    server.await?;
    generation.finished().await;
    Ok(())
}
// ANCHOR_END: program

// ANCHOR: blob
/// Small, and in two forms by now: the release that wrote version 1 may be the one before this, or
/// the one that this is taken back to.
fn motto(generation: &Generation) -> Result<String, BoxError> {
    let Some(state) = generation.take_state("motto") else {
        return Ok("festina lente".to_owned());
    };
    match state.version() {
        // It ended with a line feed then.
        1 => Ok(String::from_utf8(state.into_bytes())?.trim_end().to_owned()),
        2 => Ok(String::from_utf8(state.into_bytes())?),
        // An error here is one of the upgrade: the predecessor serves on, and knows its motto.
        other => Err(format!("a motto of version {other}, and 2 is the highest known").into()),
    }
}
// ANCHOR_END: blob

// ANCHOR: stream
/// May be large: it is written by the predecessor while it is read here.
async fn counts(generation: &Generation) -> Result<BTreeMap<String, u64>, BoxError> {
    let Some(mut reader) = generation.take_state_stream("counts") else {
        return Ok(BTreeMap::new());
    };
    let mut text = String::new();
    // To its end, and before this generation is ready: after that the predecessor may go.
    reader.read_to_string(&mut text).await?;
    let line = |line: &str| -> Result<_, BoxError> {
        let (word, count) = line.split_once(' ').ok_or("a line without a count")?;
        Ok((word.to_owned(), count.parse()?))
    };
    text.lines().map(line).collect()
}
// ANCHOR_END: stream

// ANCHOR: file
/// One file for both generations, also where it has been moved away by now.
fn open(generation: &Generation, path: PathBuf) -> io::Result<File> {
    match generation.take_file("log") {
        Some(file) => Ok(File::from(file)),
        None => File::options().append(true).create(true).open(path),
    }
}
// ANCHOR_END: file

// ANCHOR: keep
fn keep(generation: &Generation, known: &Known) -> Result<(), BoxError> {
    let motto = known.motto.clone();
    generation.keep_state("motto", 2, move || Ok(lock(&motto).clone().into_bytes()));
    let counts = known.counts.clone();
    generation.keep_state_stream("counts", 1, move |to| {
        // Not written under the lock: the successor reads as fast as it likes.
        let counts = lock(&counts).clone();
        counts
            .iter()
            .try_for_each(|(word, count)| writeln!(to, "{word} {count}"))
    });
    generation.keep_file("log", known.log.try_clone()?)?;
    Ok(())
}
// ANCHOR_END: keep

async fn read_motto(State(known): State<Known>) -> String {
    lock(&known.motto).clone()
}

async fn write_motto(State(known): State<Known>, motto: String) {
    *lock(&known.motto) = motto;
}

async fn count(State(known): State<Known>, Path(word): Path<String>) -> String {
    // A line of the log is written in one piece, and appended, whoever writes.
    let _ = known.log.as_ref().write_all(format!("{word}\n").as_bytes());
    let mut counts = lock(&known.counts);
    // The words are the lines of the stream.
    let count = counts.entry(word.replace([' ', '\n'], "_")).or_default();
    *count += 1;
    count.to_string()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
