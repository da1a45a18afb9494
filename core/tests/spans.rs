//! What a subscriber sees of a drain and of an upgrade.

#![cfg(unix)]

mod spans_seen;

use std::{error::Error, time::Duration};

use handover::{GenerationBuilder, Graceful, Policy, Reason, testing::Service};
use tokio::time::timeout;

use spans_seen::{Seen, Span, seen};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// The drain with this deadline, which is no other's in this file.
fn drain_with(deadline: Duration) -> Span {
    let text = format!("{:?}", deadline.as_secs_f64());
    let seen = seen();
    let is_it = |span: &&Span| span.name == "drain" && span.fields.get("deadline") == Some(&text);
    let found: Vec<_> = seen.spans.iter().filter(is_it).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

/// Their names, in the order in which they were opened; each is closed before the next has been,
/// and all before their parent.
fn names_in_order(seen: &Seen, parent: &Span) -> Vec<&'static str> {
    let children: Vec<_> = seen.children(parent).collect();
    let (began, ended) = (parent.opened, parent.closed.expect("it is open still"));
    let mut last = 0;
    for child in &children {
        let closed = child.closed.unwrap_or_else(|| panic!("{child:?} is open"));
        assert!(closed.order > last, "{children:?}");
        last = closed.order;
        assert!(child.opened >= began && closed.at >= child.opened && closed.at <= ended.at);
    }
    assert!(ended.order > last, "{parent:?} before {children:?}");
    children.iter().map(|child| child.name).collect()
}

#[tokio::test]
async fn a_drain_is_a_span_and_so_is_each_phase() {
    spans_seen::watch();
    let deadline = Duration::from_millis(17_500);
    let policy = Policy::default().with_deadline(deadline);
    let graceful = Graceful::with_policy(policy.with_lame_duck(Duration::from_millis(20)));
    let (jobs, last) = (graceful.stage("jobs"), graceful.last_stage());
    let (guard, job) = (graceful.guard(), jobs.guard());
    let behind = tokio::spawn(last.track("flush", {
        let last = last.clone();
        async move {
            last.draining().await;
            drain_with(deadline)
        }
    }));
    let asked = tracing::info_span!(target: "handover::test", "asked");
    asked.in_scope(|| graceful.drain());
    drop(asked);
    graceful.draining().await;
    drop(guard);
    jobs.draining().await;
    let open = drain_with(deadline);
    assert!(open.closed.is_none());
    // The span of a phase lasts as long as the phase, and is not just a mark of its beginning.
    let lasts: Vec<_> = seen()
        .children(&open)
        .map(|it| it.closed.is_none())
        .collect();
    assert_eq!(lasts, [false, false, true]);
    drop(job);
    let report = graceful.drained().await;
    assert_eq!(report.at_start.tasks, 0, "{report}");

    // What exports it had all of it.
    let drain = behind.await.unwrap().expect("the last stage was cut");
    let seen = seen();
    let names = names_in_order(&seen, &drain);
    assert_eq!(names, ["lame_duck", "draining", "draining"]);
    let stages = seen.children(&drain);
    let stages: Vec<_> = stages
        .filter_map(|phase| phase.fields.get("stage"))
        .collect();
    assert_eq!(stages, ["\"requests\"", "\"jobs\""]);
    assert_eq!(drain.fields["outcome"], "\"complete\"");
    assert_eq!(drain.fields["reason"], "the program");
    assert_eq!(drain.fields["pid"], std::process::id().to_string());
    assert!(!drain.fields.contains_key("generation"), "{drain:?}");
    assert!(drain.events[0].starts_with("draining"), "{drain:?}");
    assert_eq!(drain.events[1], report.to_string());
    // Who asks is named, and not kept.
    assert_eq!(drain.parent, None);
    let asked = &seen.spans[drain.follows.unwrap()];
    assert_eq!(asked.name, "asked");
    let ended = drain.closed.unwrap();
    assert!(asked.closed.unwrap().order < ended.order);
}

#[tokio::test]
async fn a_cut_is_a_phase_and_an_outcome() {
    spans_seen::watch();
    let deadline = Duration::from_millis(18_500);
    let graceful = Graceful::with_policy(Policy::default().with_deadline(deadline));
    let task = tokio::spawn(graceful.track("stuck", std::future::pending::<()>()));
    graceful.drain();
    graceful.cut();
    assert_eq!(graceful.drained().await.cut.len(), 1);
    assert_eq!(task.await.unwrap(), None);
    let drain = drain_with(deadline);
    assert_eq!(names_in_order(&seen(), &drain), ["draining", "cutting"]);
    assert_eq!(drain.fields["outcome"], "\"cut\"");
}

#[tokio::test]
async fn what_is_taken_back_is_closed() {
    spans_seen::watch();
    let deadline = Duration::from_millis(19_500);
    let graceful = Graceful::with_policy(Policy::default().with_upgrade_deadline(deadline));
    let guard = graceful.guard();
    graceful.drain_for(Reason::Upgrade { successor: 7 });
    assert!(graceful.resume());
    let drain = drain_with(deadline);
    assert_eq!(names_in_order(&seen(), &drain), ["draining"]);
    assert_eq!(drain.fields["outcome"], "\"taken back\"");
    drop(guard);
}

/// Drains when told to.
async fn program(builder: GenerationBuilder) -> Result<()> {
    let generation = builder.start()?;
    if generation.number() == 2 {
        return Err("no luck".into());
    }
    generation.ready().await?;
    generation.graceful().drained().await;
    generation.finished().await;
    Ok(())
}

#[tokio::test]
async fn an_upgrade_is_a_span_and_so_is_each_step() {
    spans_seen::watch();
    let service = Service::start(program).await.unwrap();
    let first = service.current();
    service.upgrade().await.unwrap();
    timeout(PATIENCE, first.ended())
        .await
        .expect("it takes too long");
    service.upgrade().await.unwrap_err();

    let seen = seen();
    let of = |name: &str, generation: u64| {
        let number = generation.to_string();
        let is_it = |span: &&Span| {
            span.name == name
                && span.parent.is_none()
                && span.fields.get("generation") == Some(&number)
        };
        let found: Vec<_> = seen.spans.iter().filter(is_it).collect();
        assert_eq!(found.len(), 1, "{name} {generation}: {found:?}");
        found[0].clone()
    };
    let upgrade = of("upgrade", 0);
    let steps = ["state", "spawn", "send", "start", "commit"];
    assert_eq!(names_in_order(&seen, &upgrade), steps);
    assert_eq!(upgrade.fields["outcome"], "\"served\"");
    assert!(upgrade.fields.contains_key("successor") && upgrade.fields.contains_key("deadline"));
    assert!(
        upgrade
            .events
            .iter()
            .any(|event| event.starts_with("successor serves"))
    );

    let drain = of("drain", 0);
    assert_eq!(names_in_order(&seen, &drain), ["draining"]);
    assert!(drain.fields["reason"].starts_with("upgrade to pid "));
    assert_eq!(drain.follows, Some(upgrade.index));

    assert!(names_in_order(&seen, &of("ready", 0)).is_empty());
    let taking_over = of("ready", 1);
    assert_eq!(names_in_order(&seen, &taking_over), ["wait_for_commit"]);
    assert!(taking_over.fields.contains_key("predecessor"));

    let failed = of("upgrade", 1);
    assert_eq!(
        names_in_order(&seen, &failed),
        ["state", "spawn", "send", "start"]
    );
    assert_eq!(failed.fields["outcome"], "\"failed\"");
}
