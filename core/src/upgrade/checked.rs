//! What a check has shown.

use serde::{Deserialize, Serialize};

/// What a program has shown in a [check](crate::Check): it came as far as
/// [`ready`](crate::Generation::ready).
///
/// # Examples
///
/// ```
/// use handover::Checked;
///
/// let checked = Checked::default();
/// println!("it speaks version {} and asked for {} sockets", checked.version, checked.sockets.len());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Checked {
    /// The version of the upgrade protocol that it speaks.
    pub version: u32,
    /// The sockets that it asked for.
    pub sockets: Vec<CheckedSocket>,
}

/// A socket that a program asked for in a check.
///
/// # Examples
///
/// ```
/// use handover::{Checked, CheckedSocket};
///
/// /// What the next release would listen on, and the present one does not.
/// fn added(checked: &Checked) -> Vec<&CheckedSocket> {
///     checked.sockets.iter().filter(|socket| !socket.in_use).collect()
/// }
///
/// assert!(added(&Checked::default()).is_empty());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct CheckedSocket {
    /// Under this name it would look for it among those that a predecessor leaves.
    pub name: String,
    /// Where it would listen, as it was asked for.
    pub address: String,
    /// What it is: `tcp`, `unix`, `udp`.
    pub kind: String,
    /// Whether somebody has it now: mostly the service that runs.
    pub in_use: bool,
}
