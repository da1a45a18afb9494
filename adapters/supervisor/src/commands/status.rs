//! `handover status`

use std::{io::Write, time::Duration};

use handover::{
    Status,
    control::{Event, Request},
};
use handover_supervisor::Client;

use crate::{
    args,
    exit::Exit,
    show::{Show, clean},
};

pub(super) fn run(args: &args::Status) -> Exit {
    let mut show = Show::new(args.service.json);
    let deadline = std::time::Instant::now() + args.timeout;
    let client = Client::new(&args.service.control);
    let answer = client
        .ask(&Request::Status, deadline)
        .and_then(|events| events.collect::<Result<Vec<_>, _>>());
    let events = match answer {
        Ok(events) => events,
        Err(err) => return super::failed(&mut show, &err),
    };
    let mut exit = Exit::Lost;
    for event in events {
        match &event {
            Event::Status { status, .. } if !args.service.json => {
                // If nobody reads it, there is nobody to be told.
                let _ = std::io::stdout().write_all(text(status).as_bytes());
            }
            event => show.event(event),
        }
        exit = super::outcome(&event).unwrap_or(exit);
    }
    exit
}

/// A status for people.
pub(super) fn text(status: &Status) -> String {
    let mut lines = vec![format!(
        "generation {} (pid {}): {} for {}",
        status.generation,
        status.pid,
        status.standing,
        time(status.since)
    )];
    let mut line = |what: &str, text: String| lines.push(format!("  {what:<13} {}", clean(&text)));
    if let Some(progress) = &status.progress {
        line("does", progress.clone());
    }
    if let Some(reason) = &status.reason {
        let left = status
            .remaining
            .map(|left| format!(", at most {} more", time(left)));
        line("drains for", reason.clone() + &left.unwrap_or_default());
    }
    if let Some(release) = &status.release {
        line("release", release.clone());
    }
    line("started", format!("{} ago", time(status.age)));
    for worker in &status.workers {
        let (index, pid, generation) = (worker.index, worker.pid, worker.generation);
        let does = worker.progress.as_ref().map(|text| format!(": {text}"));
        line(
            "worker",
            format!(
                "{index} (pid {pid}): generation {generation}, {} for {}{}",
                worker.standing,
                time(worker.age),
                does.unwrap_or_default()
            ),
        );
    }
    for socket in &status.listeners {
        line(
            "socket",
            format!("{} {} ({})", socket.kind, socket.address, socket.name),
        );
    }
    line("holds", status.held.to_string());
    for kind in &status.held.kinds {
        let (count, longest) = (kind.count, time(kind.longest));
        line(
            "",
            format!("{count} × {}, the oldest for {longest}", kind.kind),
        );
    }
    for holder in &status.held.oldest {
        line("", holder.to_string());
    }
    for older in &status.older {
        let left = older.remaining;
        let left = left.map(|left| format!(", at most {} more", time(left)));
        let held = older.held.as_ref().map(|held| format!(": {held}"));
        let (generation, pid) = (older.generation, older.pid);
        line(
            "still drains",
            format!(
                "generation {generation}{} (pid {pid}){}{}",
                older
                    .release
                    .as_ref()
                    .map(|release| format!(", release {release}"))
                    .unwrap_or_default(),
                left.unwrap_or_default(),
                held.unwrap_or_default()
            ),
        );
        for holder in older.held.iter().flat_map(|held| &held.oldest) {
            line("", holder.to_string());
        }
    }
    if let Some(upgrade) = &status.upgrade {
        let mut text = format!("{:?} for {}", upgrade.step, time(upgrade.age)).to_lowercase();
        if let Some(pid) = upgrade.successor {
            text += &format!(", successor pid {pid}");
        }
        if let Some(progress) = &upgrade.progress {
            text += &format!(": {progress}");
        }
        line("upgrade", text);
    }
    if let Some(last) = &status.last_upgrade {
        let ago = time(last.ago);
        match &last.error {
            None => line("last upgrade", format!("succeeded {ago} ago")),
            Some(error) => line("last upgrade", format!("failed {ago} ago: {error}")),
        }
    }
    lines.join("\n") + "\n"
}

/// The two largest units.
pub(super) fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", time.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_two_units() {
        let time = |seconds| super::time(Duration::from_secs_f64(seconds));
        assert_eq!(time(1.25), "1.2 s");
        assert_eq!(time(125.0), "2 min 5 s");
        assert_eq!(time(7_500.0), "2 h 5 min");
        assert_eq!(time(90_000.0), "1 d 1 h");
    }
}
