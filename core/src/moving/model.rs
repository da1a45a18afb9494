//! The protocol, tried to the end: every order of two processes' steps, either of which may die
//! between any two of its own.
//!
//! What is modelled is who may read a connection, who still has a descriptor of it, and what lies in
//! the channel. The kernel is modelled as it is: what was sent stays to be read when its sender has
//! gone, and the end of the channel is seen only behind it. A client may send at any moment.

use std::collections::{HashSet, VecDeque};

/// Connections: one is answered for while the other is under way or has not been sent. A third
/// takes twenty times as long and finds no more.
const N: usize = 2;

/// A way to get it wrong, to see that the search would notice.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// The successor reads, and then claims.
    ReadsFirst,
    /// The predecessor takes back what a living successor has not answered for.
    TakesBackFromTheLiving,
    /// The predecessor takes back at the end without looking for claims first.
    TakesBackUnread,
    /// The predecessor keeps no duplicate.
    KeepsNothing,
    /// The successor forgets to refuse what it drops.
    DropsInSilence,
    /// The successor throws away what a dead predecessor had sent.
    ForgetsTheDead,
    /// The successor looks whether something has come by reading it.
    ReadsWhatItHolds,
    /// The successor holds, and does not say so.
    HoldsInSilence,
    /// The successor does not claim what it holds when it is asked to.
    HoldsForEver,
    /// The successor does not claim what it holds when the predecessor has gone.
    HoldsForTheDead,
    /// The successor claims at once what it might hold.
    HoldsNothing,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Old {
    Serves,
    /// Its clock runs.
    Sent,
    /// The successor has said that it waits.
    Held,
    /// Its descriptor is closed.
    Closed,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum New {
    /// Has no descriptor, or not any more.
    Without,
    Arrived,
    /// Neither claimed nor refused: it waits for the client.
    Held,
    /// Between the claim and the first read, or, with a fault, the other way round.
    Between,
    Serves,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Answer {
    Held(usize),
    Claimed(usize),
    Refused(usize),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Offer {
    Connection(usize),
    /// Claim all that you hold, and what still comes.
    Settle,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    old_lives: bool,
    new_lives: bool,
    old: [Old; N],
    new: [New; N],
    offers: VecDeque<Offer>,
    answers: VecDeque<Answer>,
    /// The predecessor has seen the end of the channel.
    ended: bool,
    /// So often may a connection still be offered: refused ones are not offered for ever.
    offers_left: [u8; N],
    /// Died with a process that had it.
    forfeit: [bool; N],
    /// The successor has claimed it, and may have read from it.
    claimed: [bool; N],
    /// The client has sent something.
    readable: [bool; N],
    /// The predecessor has asked for an end of all waiting, and the successor has heard it.
    settles: bool,
    settled: bool,
    /// The successor has read what it has not claimed.
    touched: [bool; N],
}

impl State {
    fn first() -> Self {
        Self {
            old_lives: true,
            new_lives: true,
            old: [Old::Serves; N],
            new: [New::Without; N],
            offers: VecDeque::new(),
            answers: VecDeque::new(),
            ended: false,
            offers_left: [2; N],
            forfeit: [false; N],
            claimed: [false; N],
            readable: [false; N],
            settles: false,
            settled: false,
            touched: [false; N],
        }
    }

    fn readers(&self, c: usize, fault: Fault) -> usize {
        let new = match self.new[c] {
            New::Serves => true,
            New::Between => fault == Fault::ReadsFirst,
            New::Without | New::Arrived | New::Held => false,
        };
        usize::from(self.old_lives && self.old[c] == Old::Serves)
            + usize::from(self.new_lives && new)
    }

    /// Whether the successor may wait for the client.
    fn waits(&self) -> bool {
        !self.settled && self.old_lives
    }

    /// All states that a client leads to, or a decision of a process that nothing forces.
    fn events(&self, fault: Fault) -> Vec<State> {
        let mut next = Vec::new();
        for c in 0..N {
            if self.new_lives && self.new[c] == New::Held {
                // Before, it makes no difference: what has come is there when it is looked for.
                let mut state = self.clone();
                state.readable[c] = true;
                next.push(state);
                if self.old_lives {
                    let mut state = self.clone();
                    state.refuse(c, fault);
                    next.push(state);
                }
            }
        }
        if self.old_lives && self.new_lives && !self.settles {
            let mut state = self.clone();
            state.settles = true;
            state.offers.push_back(Offer::Settle);
            next.push(state);
        }
        next
    }

    /// All states that one step of a living process leads to.
    fn steps(&self, fault: Fault) -> Vec<State> {
        let mut next = Vec::new();
        let mut to = |change: &dyn Fn(&mut State)| {
            let mut state = self.clone();
            change(&mut state);
            next.push(state);
        };
        if self.old_lives {
            for c in 0..N {
                if self.old[c] == Old::Serves && !self.ended && self.offers_left[c] > 0 {
                    to(&|s| {
                        s.offers_left[c] -= 1;
                        // Sent to who has gone, it comes back at once.
                        if s.new_lives {
                            s.offers.push_back(Offer::Connection(c));
                            s.old[c] = Old::Sent;
                        }
                    });
                }
                let sent = matches!(self.old[c], Old::Sent | Old::Held);
                if sent && fault == Fault::TakesBackFromTheLiving {
                    to(&|s| s.old[c] = Old::Serves);
                }
            }
            match self.answers.front() {
                Some(answer) => to(&|s| {
                    s.answers.pop_front();
                    let (c, becomes) = match *answer {
                        Answer::Held(c) => (c, Old::Held),
                        Answer::Claimed(c) => (c, Old::Closed),
                        Answer::Refused(c) => (c, Old::Serves),
                    };
                    // Answered for already, if it was taken back too early.
                    if matches!(s.old[c], Old::Sent | Old::Held) {
                        s.old[c] = becomes;
                    }
                }),
                None if self.new_lives || self.ended => {}
                None => to(&State::take_back),
            }
            if fault == Fault::TakesBackUnread && !self.new_lives {
                to(&State::take_back);
            }
        }
        if self.new_lives {
            if let Some(&offer) = self.offers.front() {
                to(&|s| {
                    s.offers.pop_front();
                    match offer {
                        Offer::Connection(c) => {
                            if s.old_lives || fault != Fault::ForgetsTheDead {
                                s.new[c] = New::Arrived;
                            }
                        }
                        Offer::Settle => s.settled = true,
                    }
                });
            }
            for c in 0..N {
                match self.new[c] {
                    New::Arrived if self.waits() && fault != Fault::HoldsNothing => {
                        to(&|s| {
                            s.new[c] = New::Held;
                            if fault != Fault::HoldsInSilence {
                                s.answer(Answer::Held(c));
                            }
                            s.touched[c] |= fault == Fault::ReadsWhatItHolds;
                        });
                    }
                    New::Arrived | New::Held => {
                        let due = match (self.new[c], fault) {
                            (New::Arrived, _) => true,
                            (_, Fault::HoldsForEver) => self.readable[c] || !self.old_lives,
                            (_, Fault::HoldsForTheDead) => self.readable[c] || self.settled,
                            _ => self.readable[c] || !self.waits(),
                        };
                        if due {
                            to(&|s| {
                                s.new[c] = New::Between;
                                s.claimed[c] = true;
                                if fault != Fault::ReadsFirst {
                                    s.answer(Answer::Claimed(c));
                                }
                            });
                        }
                        // Refused only while there is somebody to have it back: a claim that finds
                        // the predecessor gone is an heir's.
                        if self.old_lives && self.new[c] == New::Arrived {
                            to(&|s| s.refuse(c, fault));
                        }
                    }
                    New::Between => to(&|s| {
                        s.new[c] = New::Serves;
                        if fault == Fault::ReadsFirst {
                            s.answer(Answer::Claimed(c));
                        }
                    }),
                    New::Without | New::Serves => {}
                }
            }
        }
        next
    }

    fn answer(&mut self, answer: Answer) {
        if self.old_lives {
            self.answers.push_back(answer);
        }
    }

    fn refuse(&mut self, c: usize, fault: Fault) {
        self.new[c] = New::Without;
        if fault != Fault::DropsInSilence {
            self.answer(Answer::Refused(c));
        }
    }

    fn take_back(&mut self) {
        self.ended = true;
        for c in 0..N {
            if matches!(self.old[c], Old::Sent | Old::Held) {
                self.old[c] = Old::Serves;
            }
        }
    }

    /// All states that a death leads to.
    fn deaths(&self) -> Vec<State> {
        let mut next = Vec::new();
        if self.old_lives {
            let mut state = self.clone();
            state.old_lives = false;
            for c in 0..N {
                // It took along what it served, and what nobody had been sent, or had refused.
                let under_way = self.offers.contains(&Offer::Connection(c))
                    || (self.new_lives && self.new[c] != New::Without);
                state.forfeit[c] |= !under_way;
            }
            state.answers.clear();
            next.push(state);
        }
        if self.new_lives {
            let mut state = self.clone();
            state.new_lives = false;
            for c in 0..N {
                // What it had claimed it had.
                let claimed = matches!(self.new[c], New::Between | New::Serves);
                state.forfeit[c] |= claimed;
                state.new[c] = New::Without;
            }
            state.offers.clear();
            next.push(state);
        }
        next
    }
}

/// Visits every state. Returns how many there are, or what is wrong with one.
fn explore(fault: Fault) -> Result<usize, String> {
    let mut seen = HashSet::new();
    let mut todo = vec![State::first()];
    while let Some(state) = todo.pop() {
        if !seen.insert(state.clone()) {
            continue;
        }
        for c in 0..N {
            if state.readers(c, fault) > 1 {
                return Err(format!("two readers of {c}: {state:?}"));
            }
            let read_there = state.claimed[c] || state.touched[c];
            if state.old_lives && state.old[c] == Old::Serves && read_there {
                return Err(format!("a second reader of {c}: {state:?}"));
            }
            // A successor that dies now takes nothing along on which nothing has come.
            if state.new_lives && state.claimed[c] && state.waits() && !state.readable[c] {
                return Err(format!("claimed {c} for nothing: {state:?}"));
            }
        }
        let mut steps = state.steps(fault);
        if fault == Fault::KeepsNothing {
            for step in &mut steps {
                // Nothing that is closed can be served again.
                for c in 0..N {
                    let sent = matches!(state.old[c], Old::Sent | Old::Held);
                    if sent && step.old[c] == Old::Serves {
                        step.old[c] = Old::Closed;
                    }
                }
            }
        }
        // At rest whoever lives serves everything that nobody died with, but for what both know
        // that it waits for its client.
        if steps.is_empty() && (state.old_lives || state.new_lives) {
            for c in 0..N {
                let waits = state.old_lives && state.new_lives && state.new[c] == New::Held;
                if waits && state.old[c] == Old::Sent {
                    return Err(format!("the clock of {c} runs: {state:?}"));
                }
                let waits = waits && state.waits() && !state.readable[c];
                if state.readers(c, fault) != 1 && !state.forfeit[c] && !waits {
                    return Err(format!("nobody has {c}: {state:?}"));
                }
            }
        }
        todo.extend(steps);
        todo.extend(state.events(fault));
        todo.extend(state.deaths());
    }
    Ok(seen.len())
}

#[test]
fn one_reader_at_most_and_nothing_lost() {
    let states = explore(Fault::None).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert!(states > 10_000, "{states} states are not all");
}

#[test]
fn the_search_finds_each_way_to_get_it_wrong() {
    let twice = [
        Fault::ReadsFirst,
        Fault::TakesBackFromTheLiving,
        Fault::TakesBackUnread,
        Fault::ReadsWhatItHolds,
    ];
    for fault in twice {
        let wrong = explore(fault).expect_err("two readers");
        assert!(wrong.contains("reader"), "{wrong}");
    }
    let lost = [
        Fault::KeepsNothing,
        Fault::DropsInSilence,
        Fault::ForgetsTheDead,
        Fault::HoldsForEver,
        Fault::HoldsForTheDead,
    ];
    for fault in lost {
        let wrong = explore(fault).expect_err("a loss");
        assert!(wrong.starts_with("nobody has"), "{wrong}");
    }
    let wrong = explore(Fault::HoldsInSilence).expect_err("a successor killed for nothing");
    assert!(wrong.starts_with("the clock of"), "{wrong}");
    let wrong = explore(Fault::HoldsNothing).expect_err("an idle connection at risk");
    assert!(wrong.starts_with("claimed"), "{wrong}");
}
