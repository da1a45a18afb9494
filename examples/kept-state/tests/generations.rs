//! Generations of the service in threads of the test.

mod shared;

use std::{
    error::Error,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use handover::testing::{Member, Service};
use kept_state::program;

use self::shared::ask;

type Tested = Result<(), Box<dyn Error>>;

async fn get(member: &Member, path: &str) -> Result<String, Box<dyn Error>> {
    let address = member.address("web").ok_or("it does not listen")?;
    Ok(ask(&address.to_string(), &format!("GET {path}"), "").await?)
}

// ANCHOR: upgrade
#[tokio::test]
async fn what_was_counted_is_known_to_the_next_generation() -> Tested {
    let directory = tempfile::tempdir()?;
    let log = directory.path().join("app.log");
    let path = log.clone();
    let service =
        Service::start(move |builder| program(builder, "127.0.0.1:0".into(), path.clone())).await?;
    let first = service.current();
    assert_eq!(get(&first, "/count/tea").await?, "1");

    let second = service.upgrade().await?;
    assert_eq!(get(&second, "/count/tea").await?, "2");
    assert_eq!(get(&second, "/motto").await?, "festina lente");

    // The new one dies while the old one is still there to serve again.
    second.kill();
    first.serving().await;
    assert_eq!(get(&first, "/count/tea").await?, "2");

    first.graceful().drain();
    assert!(first.ended().await.is_success());
    assert_eq!(fs::read_to_string(log)?, "tea\ntea\ntea\n");
    Ok(())
}
// ANCHOR_END: upgrade

// ANCHOR: failure
#[tokio::test]
async fn a_release_that_cannot_start_changes_nothing() -> Tested {
    let directory = tempfile::tempdir()?;
    let log = directory.path().join("app.log");
    let broken = Arc::new(AtomicBool::new(false));
    let is_broken = broken.clone();
    let service = Service::start(move |builder| {
        let (is_broken, log) = (is_broken.clone(), log.clone());
        async move {
            if is_broken.load(Ordering::SeqCst) {
                return Err("no configuration".into());
            }
            program(builder, "127.0.0.1:0".into(), log).await
        }
    })
    .await?;
    broken.store(true, Ordering::SeqCst);
    let err = service.upgrade().await.unwrap_err();
    assert!(err.is_failed(), "{err}");
    assert!(service.current().is_serving());
    assert_eq!(get(&service.current(), "/count/tea").await?, "1");
    Ok(())
}
// ANCHOR_END: failure
