//! What a program leaves for its successor beside its sockets.
//!
//! A blob is made whole, sent over the channel, and there when the successor starts. A
//! [stream](stream) is written while the successor reads it, for what is too large for that. Both
//! have a name and a version, which the program chooses: the two that speak are of different
//! releases.

pub(crate) mod stream;

use std::{collections::BTreeMap, fmt, io, sync::Arc};

pub use self::stream::StateReader;
use self::stream::Write;

type MakeBlob = Arc<dyn Fn() -> io::Result<Vec<u8>> + Send + Sync>;

/// How what is kept is made.
#[derive(Clone)]
pub(crate) enum Provider {
    Blob(MakeBlob),
    Stream(Write),
}

/// What is to be kept, by name.
pub(crate) type Providers = BTreeMap<String, (u32, Provider)>;

/// What a successor is sent.
pub(crate) struct Kept {
    pub(crate) name: String,
    pub(crate) version: u32,
    pub(crate) what: What,
}

pub(crate) enum What {
    Blob(Vec<u8>),
    /// Not begun.
    Stream(Write),
}

/// Makes the blobs. Calls the program's code, which may block and may panic.
///
/// # Errors
///
/// The name of what could not be made, and why.
pub(crate) fn collect(providers: Providers) -> Result<Vec<Kept>, (String, io::Error)> {
    let kept = providers.into_iter().map(|(name, (version, provider))| {
        let what = match provider {
            Provider::Blob(make) => match make() {
                Ok(bytes) => What::Blob(bytes),
                Err(err) => return Err((name, err)),
            },
            Provider::Stream(write) => What::Stream(write),
        };
        Ok(Kept {
            name,
            version,
            what,
        })
    });
    kept.collect()
}

/// What a predecessor kept under one name, with the version that it gave it.
///
/// The predecessor may be of an older release, or, when a release is taken back, of a newer one. A
/// program that cannot use what it got returns with an error before it is
/// [`ready`](crate::Generation::ready): then the upgrade has failed, and the predecessor serves on.
///
/// # Examples
///
/// ```
/// use handover::State;
///
/// /// A program that writes the second form of its counters, and can still read the first.
/// fn counters(kept: Option<State>) -> Result<Vec<u64>, String> {
///     let Some(kept) = kept else { return Ok(Vec::new()) };
///     match kept.version() {
///         1 => Ok(kept.bytes().iter().map(|byte| u64::from(*byte)).collect()),
///         2 => Ok(kept.bytes().as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect()),
///         other => Err(format!("cannot read counters of the form {other}")),
///     }
/// }
///
/// assert_eq!(counters(None), Ok(Vec::new()));
/// assert!(counters(Some(State::default())).is_err());
/// assert!(State::default().into_bytes().is_empty());
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct State {
    version: u32,
    bytes: Vec<u8>,
}

impl State {
    pub(crate) fn new(version: u32, bytes: Vec<u8>) -> Self {
        Self { version, bytes }
    }

    /// The version under which it was kept.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// What was kept.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What was kept, without the version.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl AsRef<[u8]> for State {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

// The bytes are the program's, and may be secret.
impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("version", &self.version)
            .field("len", &self.bytes.len())
            .finish()
    }
}
