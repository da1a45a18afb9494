//! Where there is no terminal: a status for each change.

use std::{io::Write, sync::mpsc::Receiver, time::Duration};

use handover::{Status, control::Event, status::Held};

use super::{End, poll::Update};
use crate::{commands::status::text, show::Show};

pub(super) fn run(first: Box<Status>, updates: &Receiver<Update>, show: &mut Show) -> End {
    let mut before = timeless(&first);
    if !print(first, show) {
        return End::Quit;
    }
    while let Ok(update) = updates.recv() {
        match update {
            Update::Status(status) => {
                let now = timeless(&status);
                if now != before {
                    before = now;
                    if !print(status, show) {
                        return End::Quit;
                    }
                }
            }
            Update::Gone(err) => return End::Gone(err),
            // It may answer later.
            Update::NoAnswer(_) | Update::Other(_) => {}
        }
    }
    End::Quit
}

/// Returns false if nobody reads it any more.
fn print(status: Box<Status>, show: &Show) -> bool {
    let text = match show.is_json() {
        true => Event::status(*status).to_line(),
        // One from the next by an empty line.
        false => text(&status) + "\n",
    };
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .is_ok()
}

/// What is not just older than it was.
fn timeless(status: &Status) -> Status {
    let zero = Duration::ZERO;
    let mut status = status.clone();
    (status.since, status.age) = (zero, zero);
    status.remaining = status.remaining.map(|_| zero);
    for older in &mut status.older {
        older.remaining = older.remaining.map(|_| zero);
        older.age = older.age.map(|_| zero);
        older.held.iter_mut().for_each(forget);
    }
    status.upgrade.iter_mut().for_each(|one| one.age = zero);
    status
        .last_upgrade
        .iter_mut()
        .for_each(|one| one.ago = zero);
    status
        .recent_upgrades
        .iter_mut()
        .for_each(|one| one.ago = zero);
    status.workers.iter_mut().for_each(|one| one.age = zero);
    forget(&mut status.held);
    status
}

fn forget(held: &mut Held) {
    held.longest = Duration::ZERO;
    held.kinds
        .iter_mut()
        .for_each(|kind| kind.longest = Duration::ZERO);
    held.oldest.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(text: &str) -> Status {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn time_alone_is_no_change() {
        let golden = include_str!("../../../../../core/tests/golden/control-v1/status.json");
        let Event::Status { status, .. } = Event::from_line(golden).unwrap() else {
            panic!("{golden}");
        };
        let mut later = status.clone();
        later.age += Duration::from_secs(1);
        later.remaining = Some(Duration::from_secs(7));
        later.held.longest += Duration::from_secs(1);
        later.recent_upgrades[0].ago += Duration::from_secs(1);
        assert_ne!(later, status);
        assert_eq!(timeless(&later), timeless(&status));
        later.held.requests += 1;
        assert_ne!(timeless(&later), timeless(&status));
    }

    #[test]
    fn what_begins_or_ends_is_a_change() {
        let before = status(r#"{"standing":"running"}"#);
        for text in [
            r#"{"standing":"draining"}"#,
            r#"{"standing":"running","remaining_seconds":3.0}"#,
            r#"{"standing":"running","upgrade":{"step":"starting"}}"#,
            r#"{"standing":"running","older":[{"pid":3}]}"#,
        ] {
            assert_ne!(timeless(&status(text)), timeless(&before), "{text}");
        }
    }
}
