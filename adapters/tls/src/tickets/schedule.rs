//! Which key seals tickets, and which open them, at a moment.
//!
//! # Invariants
//!
//! 1. The keys are in the order in which they come into use, and there is always one whose time has
//!    still to come. It goes to the successor with the others, so that two generations that live side
//!    by side change to the same key, at the same moment, without a word.
//! 2. A key seals for one period, and opens for one more: each ticket can be used for a period at
//!    least. Then its bytes are overwritten.
//! 3. Time is that of the wall clock, since it has to mean the same to two processes. Where it jumps,
//!    sessions are lost at worst, and are begun anew.

use std::fmt;

use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use crate::Error;

pub(crate) const NAME: usize = 16;
pub(crate) const SECRET: usize = 32;
const ENTRY: usize = NAME + 8 + SECRET;

/// More than a schedule ever has.
#[cfg_attr(not(unix), allow(dead_code, reason = "there is no predecessor"))]
const MAX_KEYS: usize = 8;

/// A secret, and when it comes into use.
pub(crate) struct Key {
    /// Random, and at the head of each of its tickets.
    pub(crate) name: [u8; NAME],
    pub(crate) secret: Zeroizing<[u8; SECRET]>,
    /// Seconds since 1970.
    from: u64,
}

impl Key {
    fn new(from: u64) -> Result<Self, Error> {
        let random = SystemRandom::new();
        let mut key = Self {
            name: [0; NAME],
            secret: Zeroizing::new([0; SECRET]),
            from,
        };
        let filled = random.fill(&mut key.name);
        filled
            .and_then(|()| random.fill(&mut *key.secret))
            .map_err(|_| Error::new("the system gives no random numbers"))?;
        Ok(key)
    }
}

// Neither the secret nor, since it is in clear on the wire and ties sessions together, the name.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("from", &self.from)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(crate) struct Schedule {
    keys: Vec<Key>,
    /// In seconds.
    period: u64,
}

impl Schedule {
    /// New keys.
    pub(crate) fn new(period: u64, now: u64) -> Result<Self, Error> {
        let mut schedule = Self {
            keys: vec![Key::new(now)?],
            period: period.max(1),
        };
        schedule.advance(now)?;
        Ok(schedule)
    }

    /// For how long a key seals, in seconds.
    pub(crate) fn period(&self) -> u64 {
        self.period
    }

    /// Whether it is time to [`advance`](Self::advance).
    pub(crate) fn is_due(&self, now: u64) -> bool {
        let last = self.last();
        last <= now || last > self.latest(now)
    }

    /// When the last key comes into use.
    fn last(&self) -> u64 {
        self.keys.last().map_or(0, |key| key.from)
    }

    /// No key is made for later than this. There is one all the same if the clock was set back, and
    /// it would not come up for as long.
    fn latest(&self, now: u64) -> u64 {
        now.saturating_add(self.period)
    }

    /// Makes the key that comes next, and forgets those whose time is over.
    pub(crate) fn advance(&mut self, now: u64) -> Result<(), Error> {
        let latest = self.latest(now);
        self.keys.retain(|key| key.from <= latest);
        while self.last() <= now {
            // After a long sleep there is one for now, and one for later.
            let next = match self.keys.last() {
                Some(last) => last.from.saturating_add(self.period).max(now),
                None => now,
            };
            self.keys.push(Key::new(next)?);
        }
        let opens_for = self.period.saturating_mul(2);
        self.keys
            .retain(|key| key.from.saturating_add(opens_for) > now);
        Ok(())
    }

    /// The key that seals.
    pub(crate) fn current(&self, now: u64) -> Option<&Key> {
        let begun = self.keys.iter().rev().find(|key| key.from <= now);
        // The clock was set back.
        begun.or(self.keys.first())
    }

    /// The key of this name, if it opens still. One that is not in use here yet may be in another
    /// process, whose clock is ahead.
    pub(crate) fn find(&self, name: &[u8], now: u64) -> Option<&Key> {
        let opens_for = self.period.saturating_mul(2);
        self.keys
            .iter()
            .find(|key| key.name == name)
            .filter(|key| key.from.saturating_add(opens_for) > now)
    }

    /// For the successor: the number of keys, in a byte, and for each its name (16 bytes), when it
    /// comes into use (8, big endian), and its secret (32).
    #[cfg_attr(not(unix), allow(dead_code, reason = "there is none"))]
    pub(crate) fn encode(&self) -> Vec<u8> {
        // Of its final length from the beginning, so that no copy is left behind.
        let mut bytes = Vec::with_capacity(1 + self.keys.len() * ENTRY);
        bytes.push(self.keys.len() as u8);
        for key in &self.keys {
            bytes.extend_from_slice(&key.name);
            bytes.extend_from_slice(&key.from.to_be_bytes());
            bytes.extend_from_slice(&*key.secret);
        }
        bytes
    }

    /// What a predecessor [encoded](Self::encode). `None` if it is something else.
    #[cfg_attr(not(unix), allow(dead_code, reason = "there is none"))]
    pub(crate) fn decode(bytes: &[u8], period: u64) -> Option<Self> {
        let (count, entries) = bytes.split_first()?;
        let count = usize::from(*count);
        if count == 0 || count > MAX_KEYS || entries.len() != count * ENTRY {
            return None;
        }
        let keys: Option<Vec<Key>> = entries.chunks_exact(ENTRY).map(entry).collect();
        let keys = keys?;
        keys.is_sorted_by_key(|key| key.from).then_some(Self {
            keys,
            period: period.max(1),
        })
    }
}

#[cfg_attr(not(unix), allow(dead_code, reason = "there is no predecessor"))]
fn entry(bytes: &[u8]) -> Option<Key> {
    let (name, rest) = bytes.split_first_chunk::<NAME>()?;
    let (from, secret) = rest.split_first_chunk::<8>()?;
    let mut key = Key {
        name: *name,
        secret: Zeroizing::new([0; SECRET]),
        from: u64::from_be_bytes(*from),
    };
    if secret.len() != SECRET {
        return None;
    }
    key.secret.copy_from_slice(secret);
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: u64 = 100;

    fn names(schedule: &Schedule) -> Vec<[u8; NAME]> {
        schedule.keys.iter().map(|key| key.name).collect()
    }

    #[test]
    fn a_key_seals_for_a_period_and_opens_for_two() {
        let mut schedule = Schedule::new(PERIOD, 1000).unwrap();
        let first = schedule.current(1000).unwrap().name;
        for now in 1000..1400 {
            schedule.advance(now).unwrap();
            assert_eq!(schedule.current(now).unwrap().name == first, now < 1100);
            assert_eq!(schedule.find(&first, now).is_some(), now < 1200, "{now}");
            assert!(schedule.keys.len() <= 3);
            assert!(!schedule.is_due(now));
        }
        assert!(!names(&schedule).contains(&first));
    }

    #[test]
    fn a_key_that_nobody_took_away_opens_nothing_after_its_time() {
        let schedule = Schedule::new(PERIOD, 1000).unwrap();
        let first = schedule.current(1000).unwrap().name;
        assert!(schedule.find(&first, 1199).is_some());
        assert!(schedule.find(&first, 1200).is_none());
    }

    #[test]
    fn two_generations_change_to_the_same_key() {
        let mut old = Schedule::new(PERIOD, 1000).unwrap();
        let mut new = Schedule::decode(&old.encode(), PERIOD).unwrap();
        for now in [1050, 1100, 1150, 1199] {
            old.advance(now).unwrap();
            new.advance(now).unwrap();
            let name = old.current(now).unwrap().name;
            assert_eq!(new.current(now).unwrap().name, name, "{now}");
            assert_eq!(
                *new.find(&name, now).unwrap().secret,
                *old.find(&name, now).unwrap().secret
            );
        }
    }

    #[test]
    fn clocks_may_jump() {
        let mut schedule = Schedule::new(PERIOD, 1000).unwrap();
        let first = schedule.current(1000).unwrap().name;
        assert_eq!(schedule.current(990).unwrap().name, first);
        schedule.advance(990).unwrap();
        assert_eq!(schedule.current(990).unwrap().name, first);
        // Far back: what would not come up for long is no key any more.
        assert!(schedule.is_due(10));
        schedule.advance(10).unwrap();
        assert!(schedule.find(&first, 10).is_none());
        assert_eq!(schedule.current(10).unwrap().from, 10);
        schedule.advance(1_000_000).unwrap();
        assert_eq!(schedule.keys.len(), 2);
        assert!(schedule.find(&first, 1_000_000).is_none());
        assert!(schedule.current(1_000_000).unwrap().from == 1_000_000);
        schedule.advance(u64::MAX - 1).unwrap();
        assert!(schedule.keys.len() <= MAX_KEYS);
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        let good = Schedule::new(PERIOD, 1000).unwrap().encode();
        assert!(Schedule::decode(&good, PERIOD).is_some());
        for length in 0..good.len() {
            assert!(Schedule::decode(&good[..length], PERIOD).is_none());
        }
        let longer = [&good[..], &[0]].concat();
        assert!(Schedule::decode(&longer, PERIOD).is_none());
        let (head, keys) = good.split_at(1);
        let (first, second) = keys.split_at(ENTRY);
        let turned = [head, second, first].concat();
        assert!(Schedule::decode(&turned, PERIOD).is_none());
        assert!(Schedule::decode(&[0], PERIOD).is_none());
        let many = [&[9][..], &first.repeat(9)].concat();
        assert!(Schedule::decode(&many, PERIOD).is_none());
    }

    #[test]
    fn no_secret_is_shown() {
        let schedule = Schedule::new(PERIOD, 1000).unwrap();
        let shown = format!("{schedule:?}");
        for key in &schedule.keys {
            let secret = format!("{:?}", &key.secret[..4]);
            assert!(!shown.contains(secret.trim_matches(['[', ']'])), "{shown}");
        }
        assert!(shown.len() < 120, "{shown}");
    }
}
