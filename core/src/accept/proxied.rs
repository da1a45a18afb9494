//! What a load balancer has said of a connection.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::Address;

/// Types of what may follow the addresses (section 2.2 of the specification).
const ALPN: u8 = 0x01;
const AUTHORITY: u8 = 0x02;
const UNIQUE_ID: u8 = 0x05;
const SSL: u8 = 0x20;
/// The bit of [`SSL`] that says that the client connected over TLS.
const CLIENT_SSL: u8 = 0x01;

/// What the PROXY protocol has said of a connection, beside its client's address, which is
/// [`Connection::peer`](super::Connection::peer).
///
/// It goes along when the connection moves to another generation.
///
/// # Examples
///
/// ```
/// use handover::Connection;
///
/// /// A line for the access log.
/// fn describe(connection: &Connection) -> String {
///     let Some(said) = connection.proxied() else {
///         return format!("{} by itself", connection.peer());
///     };
///     let mut line = format!("{} by {}", connection.peer(), said.balancer());
///     if let Some(destination) = said.destination() {
///         line += &format!(", to {destination}");
///     }
///     if said.is_tls() {
///         line += &format!(", over TLS to {:?}", said.authority());
///     }
///     if said.alpn() == Some(b"h2") {
///         line += ", HTTP/2";
///     }
///     if let Some(id) = said.unique_id().or_else(|| said.tlv(0xe0)) {
///         line += &format!(", called {id:02x?}");
///     }
///     line
/// }
///
/// let connection = Connection::new("10.0.0.3:51234".parse()?);
/// assert_eq!(describe(&connection), "10.0.0.3:51234 by itself");
/// # Ok::<_, std::net::AddrParseError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proxied {
    #[serde(serialize_with = "as_text", deserialize_with = "of_text")]
    via: Address,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "maybe_as_text",
        deserialize_with = "maybe_of_text"
    )]
    to: Option<Address>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tlvs: Vec<Tlv>,
}

/// A type, a length and a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tlv {
    pub(crate) kind: u8,
    #[serde(serialize_with = "as_hex", deserialize_with = "of_hex")]
    pub(crate) value: Vec<u8>,
}

impl Proxied {
    #[cfg(any(feature = "proxy-protocol", all(test, unix, feature = "process")))]
    pub(super) fn new(via: Address, to: Option<Address>, tlvs: Vec<Tlv>) -> Self {
        Self { via, to, tlvs }
    }

    /// Who sent the header: the balancer's own address, as the socket has it.
    #[must_use]
    pub fn balancer(&self) -> &Address {
        &self.via
    }

    /// Where the client connected to: an address of the balancer's.
    #[must_use]
    pub fn destination(&self) -> Option<&Address> {
        self.to.as_ref()
    }

    /// The host name that the client asked for: of TLS, the server name.
    #[must_use]
    pub fn authority(&self) -> Option<&str> {
        std::str::from_utf8(self.tlv(AUTHORITY)?).ok()
    }

    /// What balancer and client have agreed to speak, such as `h2`.
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.tlv(ALPN)
    }

    /// The balancer's name for this connection.
    #[must_use]
    pub fn unique_id(&self) -> Option<&[u8]> {
        self.tlv(UNIQUE_ID)
    }

    /// Returns true if the balancer says that its client connected over TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        let first = self.tlv(SSL).and_then(<[u8]>::first);
        first.is_some_and(|client| client & CLIENT_SSL != 0)
    }

    /// The value of this type that was sent first; a balancer may have types of its own.
    #[must_use]
    pub fn tlv(&self, kind: u8) -> Option<&[u8]> {
        let mut all = self.tlvs.iter();
        all.find(|tlv| tlv.kind == kind).map(|tlv| &*tlv.value)
    }

    /// About how many bytes it takes to say this to another process, at most.
    #[cfg(all(unix, feature = "process"))]
    pub(crate) fn weight(&self) -> usize {
        let tlvs = self.tlvs.iter().map(|tlv| 32 + 2 * tlv.value.len());
        // Two paths of Unix sockets, with room for what JSON escapes.
        1500 + tlvs.sum::<usize>()
    }
}

impl fmt::Debug for Proxied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxied")
            .field("via", &self.via)
            .field("to", &self.to)
            .field("tlvs", &self.tlvs.len())
            .finish()
    }
}

fn as_text<S: Serializer>(address: &Address, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(address)
}

fn maybe_as_text<S: Serializer>(address: &Option<Address>, to: S) -> Result<S::Ok, S::Error> {
    match address {
        Some(address) => to.collect_str(address),
        None => to.serialize_none(),
    }
}

fn of_text<'de, D: Deserializer<'de>>(from: D) -> Result<Address, D::Error> {
    let text = String::deserialize(from)?;
    Address::from_str(&text).map_err(D::Error::custom)
}

fn maybe_of_text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Address>, D::Error> {
    of_text(from).map(Some)
}

fn as_hex<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    let digits = digits.filter_map(|digit| char::from_digit(digit.into(), 16));
    to.serialize_str(&digits.collect::<String>())
}

fn of_hex<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(from)?;
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let byte = |[high, low]: &[u8; 2]| u8::try_from(digit(*high)? << 4 | digit(*low)?).ok();
    let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
    bytes
        .filter(|_| rest.is_empty())
        .ok_or_else(|| D::Error::custom("bytes that are not in hexadecimal digits"))
}

#[cfg(all(test, unix, feature = "process"))]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn full() -> Proxied {
        let tlv = |kind, value: &[u8]| Tlv {
            kind,
            value: value.to_vec(),
        };
        let tlvs = vec![
            tlv(ALPN, b"h2"),
            tlv(AUTHORITY, b"example.org"),
            tlv(UNIQUE_ID, b"\x00\xffid"),
            tlv(SSL, b"\x01\0\0\0\0"),
        ];
        let via = "unix:".parse().unwrap();
        Proxied::new(via, Some("192.0.2.1:443".parse().unwrap()), tlvs)
    }

    #[test]
    fn what_was_said_is_said_again() {
        let said = full();
        let json = serde_json::to_string(&said).unwrap();
        assert_eq!(serde_json::from_str::<Proxied>(&json).unwrap(), said);
        assert!(json.len() < said.weight());
        assert_eq!(said.authority(), Some("example.org"));
        assert_eq!(said.alpn(), Some(&b"h2"[..]));
        assert_eq!(said.unique_id(), Some(&b"\x00\xffid"[..]));
        assert!(said.is_tls());
        assert_eq!(said.tlv(0xe0), None);
        let least: Proxied = serde_json::from_str(r#"{"via":"[::1]:80","new":1}"#).unwrap();
        assert_eq!(least.balancer().to_string(), "[::1]:80");
        assert_eq!((least.destination(), least.is_tls()), (None, false));
        for wrong in [
            r#"{"via":"moon"}"#,
            r#"{"via":"unix:","tlvs":[{"kind":1,"value":"0g"}]}"#,
        ] {
            assert!(serde_json::from_str::<Proxied>(wrong).is_err(), "{wrong}");
        }
    }
}
