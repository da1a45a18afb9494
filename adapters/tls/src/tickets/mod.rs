//! Session tickets whose keys outlive the process.
//!
//! A ticket is the state of a session, sealed with a key of the server's and kept by the client. A
//! ticket is written
//!
//! ```text
//! name of the key   16 bytes
//! nonce             12 bytes, random
//! sealed state      as long as the state
//! tag               16 bytes
//! ```
//!
//! by ChaCha20-Poly1305, with `handover-tls ticket 1`, the SHA-256 of the context and the name of the
//! key as additional data. What the state is, is rustls' affair. Its nonces being random, one key is
//! good for 2^32 tickets, in six hours some 200 000 a second.

mod schedule;

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use handover::Generation;
use ring::{
    aead::{self, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest,
    rand::{SecureRandom, SystemRandom},
};
use rustls::server::ProducesTickets;
#[cfg(unix)]
use zeroize::Zeroizing;

use self::schedule::{Key, NAME, Schedule};
use crate::Error;

/// Under which the keys are kept for the successor.
#[cfg(unix)]
const STATE: &str = "handover-tls.tickets";
#[cfg(unix)]
const VERSION: u32 = 1;

const PERIOD: Duration = Duration::from_secs(6 * 60 * 60);
const LABEL: &[u8] = b"handover-tls ticket 1";

/// The keys of session tickets: with those of its predecessor a process resumes the sessions that
/// its predecessor began.
///
/// After an upgrade most clients of a TLS server come back, and each handshake that has to be done
/// in full costs a signature. Tickets of TLS 1.2 and 1.3 save that, if the process that opens them
/// has the key that sealed them.
///
/// All clones are handles to the same keys. A key seals tickets for six hours, and opens them for six
/// more; then its bytes are overwritten. The one that comes next is made a period ahead, and goes to
/// the successor with the others. No key is ever shown or logged; on its way to the successor it is
/// in the memory of two processes of one user and in the socket between them.
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), handover_tls::Error> {
/// use handover_tls::TicketKeys;
///
/// let keys = TicketKeys::new()?;
/// let open = keys.ticketer(b"for everybody");
/// let sealed = open.encrypt(b"a session").expect("there is a key");
/// assert_eq!(open.decrypt(&sealed).as_deref(), Some(&b"a session"[..]));
///
/// // Nobody gets in with it where a certificate is asked for.
/// assert_eq!(keys.ticketer(b"for clients of ours").decrypt(&sealed), None);
/// # Ok(())
/// # }
/// ```
pub struct TicketKeys(Arc<Inner>);

struct Inner {
    schedule: RwLock<Schedule>,
}

impl TicketKeys {
    /// New keys, which nobody else has.
    ///
    /// # Errors
    ///
    /// If the system gives no random numbers.
    pub fn new() -> Result<Self, Error> {
        Self::with_period(PERIOD)
    }

    /// New keys, each of which seals for so long, and opens for as long again. That is also what
    /// clients are told that their tickets last: seven days at most (RFC 8446, section 4.6.1).
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new).
    pub fn with_period(period: Duration) -> Result<Self, Error> {
        const LONGEST: u64 = 7 * 24 * 60 * 60;
        let schedule = Schedule::new(period.as_secs().min(LONGEST), now())?;
        Ok(Self(Arc::new(Inner {
            schedule: RwLock::new(schedule),
        })))
    }

    /// The keys of the predecessor, or new ones; kept for the successor.
    ///
    /// Once in a generation, before it is ready: several listeners share one `TicketKeys`.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new). What the predecessor left and this release does not understand is no
    /// error: sessions are begun anew then.
    pub fn of(generation: &Generation) -> Result<Self, Error> {
        let keys = Self::new()?;
        keys.hand_over(generation)?;
        Ok(keys)
    }

    /// Takes the predecessor's keys in place of these, if there are any, and keeps them for the
    /// successor. [`of`](Self::of) does it; this is for keys with a [period](Self::with_period).
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    ///
    /// use handover::Generation;
    /// use handover_tls::TicketKeys;
    ///
    /// let generation = Generation::start()?;
    /// let keys = TicketKeys::with_period(Duration::from_secs(3600))?;
    /// keys.hand_over(&generation)?;
    ///
    /// // Or, with keys that last as long as they do by default:
    /// # let generation = Generation::start()?;
    /// let keys = TicketKeys::of(&generation)?;
    /// # drop(keys);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg_attr(not(unix), allow(unused_variables, reason = "there is no predecessor"))]
    pub fn hand_over(&self, generation: &Generation) -> Result<(), Error> {
        #[cfg(unix)]
        {
            if let Some(state) = generation.take_state(STATE) {
                let version = state.version();
                let bytes = Zeroizing::new(state.into_bytes());
                self.inherit(version, &bytes)?;
            }
            let keys = self.clone();
            generation.keep_state(STATE, VERSION, move || {
                keys.advance(now()).map_err(std::io::Error::from)?;
                Ok(keys.read().encode())
            });
        }
        Ok(())
    }

    #[cfg(unix)]
    fn inherit(&self, version: u32, bytes: &[u8]) -> Result<(), Error> {
        let mut schedule = self.write();
        let known = match version {
            VERSION => Schedule::decode(bytes, schedule.period()),
            _ => None,
        };
        match known {
            Some(mut inherited) => {
                inherited.advance(now())?;
                *schedule = inherited;
                tracing::debug!("ticket keys inherited");
            }
            None => tracing::warn!(
                version,
                "the predecessor's ticket keys are of another form: sessions are begun anew"
            ),
        }
        Ok(())
    }

    /// What seals and opens tickets with these keys, for a [`ServerConfig`](rustls::ServerConfig) of
    /// your own.
    ///
    /// A ticket is opened only under the `context` under which it was sealed. It is to hold what a
    /// session depends on and a resumed one is not asked again: above all, which client certificates
    /// are demanded. What [`Tls::builder`](crate::Tls::builder) makes has its own. May be empty.
    #[must_use]
    pub fn ticketer(&self, context: &[u8]) -> Arc<dyn ProducesTickets> {
        let mut additional = [LABEL, digest::digest(&digest::SHA256, context).as_ref()].concat();
        additional.extend_from_slice(&[0; NAME]);
        Arc::new(Ticketer {
            keys: self.clone(),
            additional,
        })
    }

    /// Looks after the keys: at each ticket, since nothing else is to wake a process.
    fn advance(&self, now: u64) -> Result<(), Error> {
        if !self.read().is_due(now) {
            return Ok(());
        }
        self.write().advance(now)
    }

    fn read(&self) -> RwLockReadGuard<'_, Schedule> {
        let schedule = self.0.schedule.read();
        schedule.unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Schedule> {
        let schedule = self.0.schedule.write();
        schedule.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clone for TicketKeys {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKeys").finish_non_exhaustive()
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Seals and opens, under one context.
struct Ticketer {
    keys: TicketKeys,
    /// Label, hash of the context, and room for the name of a key.
    additional: Vec<u8>,
}

impl Ticketer {
    fn additional(&self, key: &Key) -> Aad<Vec<u8>> {
        let mut additional = self.additional.clone();
        let name = additional.len() - NAME;
        additional[name..].copy_from_slice(&key.name);
        Aad::from(additional)
    }
}

fn cipher(key: &Key) -> Option<LessSafeKey> {
    let key = UnboundKey::new(&aead::CHACHA20_POLY1305, &*key.secret).ok()?;
    Some(LessSafeKey::new(key))
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(self.keys.read().period()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let now = now();
        if let Err(error) = self.keys.advance(now) {
            // No key seals for longer than it may.
            tracing::error!(%error, "no session ticket can be made");
            return None;
        }
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let schedule = self.keys.read();
        let key = schedule.current(now)?;
        let mut ticket = Vec::with_capacity(NAME + NONCE_LEN + plain.len() + aead::MAX_TAG_LEN);
        ticket.extend_from_slice(&key.name);
        ticket.extend_from_slice(&nonce);
        ticket.extend_from_slice(plain);
        let tag = cipher(key)?
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                self.additional(key),
                &mut ticket[NAME + NONCE_LEN..],
            )
            .ok()?;
        ticket.extend_from_slice(tag.as_ref());
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let schedule = self.keys.read();
        let key = schedule.find(name, now())?;
        let mut opened = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = cipher(key)?
            .open_in_place(nonce, self.additional(key), &mut opened)
            .ok()?
            .len();
        opened.truncate(length);
        Some(opened)
    }
}

impl fmt::Debug for Ticketer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticketer").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_is_opened_by_whoever_has_the_keys() {
        let old = TicketKeys::new().unwrap();
        let new = TicketKeys::new().unwrap();
        let ticket = old.ticketer(b"").encrypt(b"session").unwrap();
        assert_eq!(new.ticketer(b"").decrypt(&ticket), None);
        new.inherit(VERSION, &old.read().encode()).unwrap();
        let opened = new.ticketer(b"").decrypt(&ticket);
        assert_eq!(opened.as_deref(), Some(&b"session"[..]));
        let back = new.ticketer(b"").encrypt(b"later").unwrap();
        assert!(old.ticketer(b"").decrypt(&back).is_some());
        assert!(!ticket.windows(7).any(|window| window == b"session"));
    }

    #[test]
    fn a_ticket_is_opened_only_as_it_was_and_where_it_was() {
        let keys = TicketKeys::new().unwrap();
        let ticketer = keys.ticketer(b"any client");
        let ticket = ticketer.encrypt(b"session").unwrap();
        assert!(ticketer.decrypt(&ticket).is_some());
        assert!(keys.ticketer(b"known clients").decrypt(&ticket).is_none());
        for at in 0..ticket.len() {
            let mut bent = ticket.clone();
            bent[at] ^= 1;
            assert!(ticketer.decrypt(&bent).is_none(), "{at}");
            assert!(ticketer.decrypt(&ticket[..at]).is_none(), "{at}");
        }
        assert_ne!(ticketer.encrypt(b"session").unwrap(), ticket);
    }

    #[test]
    fn keys_of_another_form_are_left() {
        let old = TicketKeys::new().unwrap();
        let new = TicketKeys::new().unwrap();
        let ticket = old.ticketer(b"").encrypt(b"session").unwrap();
        let bytes = old.read().encode();
        new.inherit(VERSION + 1, &bytes).unwrap();
        new.inherit(VERSION, &bytes[1..]).unwrap();
        new.inherit(VERSION, b"").unwrap();
        let ticketer = new.ticketer(b"");
        assert!(ticketer.decrypt(&ticket).is_none());
        let own = ticketer.encrypt(b"session").unwrap();
        assert!(ticketer.decrypt(&own).is_some());
    }
}
