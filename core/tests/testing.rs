//! The kit for tests of a user's, used as a user would.

#![cfg(unix)]

use std::{
    error::Error,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use handover::{
    GenerationBuilder, Phase,
    testing::{Member, Outcome, Service},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the next generations suffer before they are ready.
#[derive(Clone, Debug, Default)]
struct Faults(Arc<Mutex<String>>);

impl Faults {
    fn set(&self, fault: &str) {
        fault.clone_into(&mut self.0.lock().unwrap());
    }

    fn get(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

/// Says its number and what its predecessor left, to whoever connects.
async fn program(builder: GenerationBuilder, faults: Faults) -> Result<()> {
    let generation = builder
        .ready_timeout(Duration::from_secs(2))
        .pid_file("/nonexistent/dir/of-the-test.pid")
        .start()?;
    let mut listener = generation.listen("web=127.0.0.1:0").await?;
    let (number, graceful) = (generation.number(), generation.graceful());
    let left = generation.take_state("story").unwrap_or_default();
    let story = format!("{} {number}", String::from_utf8(left.into_bytes())?);
    let kept = story.clone();
    generation.keep_state("story", 1, move || Ok(kept.clone().into_bytes()));
    let holding = graceful.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let guard = holding.guard();
            let story = story.clone();
            tokio::spawn(async move {
                let _ = stream.write_all(story.as_bytes()).await;
                let _ = stream.shutdown().await;
                // Until the client has gone.
                let _ = stream.read(&mut [0]).await;
                drop(guard);
            });
        }
    });
    match faults.get().as_str() {
        "error" => return Err("no database".into()),
        "panic" => panic!("no luck"),
        "hang" => std::future::pending().await,
        _ => {}
    }
    generation.ready().await?;
    graceful.drained().await;
    Ok(())
}

async fn start() -> (Service, Faults) {
    let faults = Faults::default();
    let given = faults.clone();
    let service = Service::start(move |builder| program(builder, given.clone()));
    (service.await.unwrap(), faults)
}

async fn connect(member: &Member) -> TcpStream {
    let address = member.address("web").unwrap().to_string();
    TcpStream::connect(address).await.unwrap()
}

async fn ask(member: &Member) -> io::Result<String> {
    let mut answer = String::new();
    let mut stream = connect(member).await;
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await??;
    Ok(answer)
}

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it takes too long")
}

#[tokio::test]
async fn sockets_and_state_go_from_one_to_the_next() {
    let (service, _) = start().await;
    let first = service.current();
    let address = first.address("web");
    assert_eq!(ask(&first).await.unwrap(), " 0");
    let second = service.upgrade().await.unwrap();
    let third = service.upgrade().await.unwrap();
    assert_eq!(third.number(), 2);
    assert_eq!(third.address("web"), address);
    assert_eq!(ask(&third).await.unwrap(), " 0 1 2");
    for member in [first, second] {
        assert_eq!(in_time(member.ended()).await, Outcome::Success);
    }
    third.graceful().drain();
    assert_eq!(in_time(third.ended()).await, Outcome::Success);
    assert!(service.upgrade().await.unwrap_err().is_draining());
}

#[tokio::test]
async fn a_successor_that_fails_changes_nothing() {
    let (service, faults) = start().await;
    for (fault, word) in [("error", "ended before"), ("panic", "101"), ("hang", "2s")] {
        faults.set(fault);
        let err = service.upgrade().await.unwrap_err();
        assert!(err.to_string().contains(word), "{fault}: {err}");
        assert_eq!(service.current().number(), 0);
        assert_eq!(ask(&service.current()).await.unwrap(), " 0");
    }
    let outcomes = [
        Outcome::Failed("no database".to_owned()),
        Outcome::Panicked("no luck".to_owned()),
        Outcome::Killed,
    ];
    for (member, outcome) in service.members()[1..].iter().zip(outcomes) {
        assert_eq!(in_time(member.ended()).await, outcome);
    }
    faults.set("");
    assert_eq!(
        ask(&service.upgrade().await.unwrap()).await.unwrap(),
        " 0 1"
    );
}

#[tokio::test]
async fn a_first_generation_that_fails_says_why() {
    let faults = Faults::default();
    faults.set("error");
    let started = Service::start(move |builder| program(builder, faults.clone())).await;
    let err = started.unwrap_err();
    assert!(
        err.is_failed() && err.to_string().contains("no database"),
        "{err}"
    );
}

#[tokio::test]
async fn a_successor_that_is_killed_gives_back() {
    let (service, _) = start().await;
    let first = service.current();
    // Holds the drain open, and is served on.
    let mut open = connect(&first).await;
    assert_eq!(in_time(open.read_u8()).await.unwrap(), b' ');
    let second = service.upgrade().await.unwrap();
    assert_ne!(first.graceful().phase(), Phase::Running);
    second.kill();
    in_time(first.serving()).await;
    assert_eq!(service.current().number(), 0);
    assert_eq!(ask(&first).await.unwrap(), " 0");
    assert_eq!(
        ask(&service.upgrade().await.unwrap()).await.unwrap(),
        " 0 1"
    );
}

#[tokio::test]
async fn a_predecessor_that_is_killed_leaves_an_heir() {
    let (service, _) = start().await;
    let first = service.current();
    let open = connect(&first).await;
    let second = service.upgrade().await.unwrap();
    first.kill();
    assert_eq!(in_time(first.ended()).await, Outcome::Killed);
    drop(open);
    assert_eq!(ask(&second).await.unwrap(), " 0 1");
    assert_eq!(
        ask(&service.upgrade().await.unwrap()).await.unwrap(),
        " 0 1 2"
    );
}

#[tokio::test]
async fn what_still_runs_ends_with_the_service() {
    let (service, _) = start().await;
    let first = service.current();
    let mut open = connect(&first).await;
    drop(service);
    assert_eq!(in_time(first.ended()).await, Outcome::Killed);
    let mut rest = Vec::new();
    // Closed or reset, whichever: nobody holds it.
    let _ = in_time(open.read_to_end(&mut rest)).await;
}

#[tokio::test]
async fn one_that_serves_again_does_not_wait_for_the_probation_of_who_has_died() {
    // Longer than the deadline of a stop.
    let probation = Duration::from_secs(60);
    let patient =
        move |builder: GenerationBuilder| program(builder.probation(probation), Faults::default());
    let service = Service::start(patient).await.unwrap();
    let first = service.current();
    service.upgrade().await.unwrap().kill();
    in_time(first.serving()).await;
    first.graceful().drain();
    in_time(first.ended()).await;
    let report = first.graceful().report().unwrap();
    assert!(report.took < Duration::from_secs(10), "{report}");
}
