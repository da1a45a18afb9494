//! What the screen shows: the last status, and what was before.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use handover::{Kind, Status};

/// For how many samples the past is kept: wider than any terminal.
const SEEN: usize = 600;
/// Between two of them.
const SAMPLE: Duration = Duration::from_secs(1);

/// What connections do, in the order in which they do it.
pub(super) const STATES: [(Kind, &str); 7] = [
    (Kind::Handshake, "TLS handshake"),
    (Kind::Fresh, "fresh"),
    (Kind::Idle, "idle"),
    (Kind::Head, "half a head"),
    (Kind::Request, "request"),
    (Kind::WebSocket, "WebSocket"),
    (Kind::Upgraded, "upgraded"),
];

/// How many connections there were in each of the [`STATES`].
pub(super) type Sample = [u64; STATES.len()];

pub(super) struct Model {
    pub(super) status: Box<Status>,
    /// Why there is none that is newer.
    pub(super) no_answer: Option<String>,
    /// The newest first.
    samples: VecDeque<Sample>,
    sampled: Instant,
}

impl Model {
    pub(super) fn new(status: Box<Status>, now: Instant) -> Self {
        Self {
            samples: VecDeque::from([sample(&status)]),
            status,
            no_answer: None,
            sampled: now,
        }
    }

    /// A newer status.
    pub(super) fn update(&mut self, status: Box<Status>, now: Instant) {
        let sample = sample(&status);
        if now.saturating_duration_since(self.sampled) >= SAMPLE {
            self.samples.push_front(sample);
            self.samples.truncate(SEEN);
            self.sampled = now;
        } else if let Some(newest) = self.samples.front_mut() {
            // What is short is seen all the same.
            for (most, count) in newest.iter_mut().zip(sample) {
                *most = count.max(*most);
            }
        }
        self.status = status;
        self.no_answer = None;
    }

    /// The states that have been seen: their names, how many there are, how many there were, the
    /// newest first.
    pub(super) fn states(&self) -> impl Iterator<Item = (&'static str, u64, Vec<u64>)> {
        let now = sample(&self.status);
        let all = STATES.iter().enumerate().map(move |(i, (_, name))| {
            let past: Vec<_> = self.samples.iter().map(|sample| sample[i]).collect();
            (*name, now[i], past)
        });
        all.filter(|(_, _, past)| past.iter().any(|count| *count > 0))
    }
}

fn sample(status: &Status) -> Sample {
    STATES.map(|(state, _)| {
        let kinds = status.held.kinds.iter().filter(|kind| kind.kind == state);
        kinds.map(|kind| kind.count as u64).sum()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(idle: usize, requests: usize) -> Box<Status> {
        let text = format!(
            r#"{{"held":{{"kinds":[{{"kind":"idle","count":{idle},"longest_seconds":1.0}},
            {{"kind":"request","count":{requests},"longest_seconds":1.0}}]}}}}"#
        );
        Box::new(serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn a_second_is_one_sample_and_shows_the_most_of_it() {
        let began = Instant::now();
        let mut model = Model::new(status(3, 0), began);
        model.update(status(1, 2), began + SAMPLE / 4);
        model.update(status(3, 0), began + SAMPLE / 2);
        model.update(status(4, 0), began + SAMPLE);
        let states: Vec<_> = model.states().collect();
        let expected = [("idle", 4, vec![4, 3]), ("request", 0, vec![0, 2])];
        assert_eq!(states, expected);
        for i in 2..2000 {
            model.update(status(1, 0), began + i * SAMPLE);
        }
        let states: Vec<_> = model.states().collect();
        assert_eq!(states, [("idle", 1, vec![1; SEEN])], "what is long ago");
    }
}
