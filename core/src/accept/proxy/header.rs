//! The header of the PROXY protocol, as bytes. No IO.
//!
//! `proxy_header` reads headers; here is how many bytes they have, so that none is taken of what
//! follows, and what of them is believed.

use std::net::SocketAddr;

use proxy_header::{ParseConfig, ProxiedAddress, ProxyHeader};

use crate::accept::proxied::Tlv;

/// What headers of the two versions begin with.
const VERSION_1: &[u8] = b"PROXY ";
const VERSION_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Up to the length of what follows, in version 2.
const FIXED: usize = 16;
/// What the specification allows version 1.
const LONGEST_LINE: usize = 107;
/// `LOCAL`, in version 2.
const LOCAL: u8 = 0x20;

/// Whether there is a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scan {
    /// So many bytes more are read without reading beyond it.
    More(usize),
    /// All of it is there, and nothing else.
    Whole,
    /// This is how something else begins.
    Other,
}

/// Looks at what has come. `longest` is the longest header that is read.
///
/// # Errors
///
/// In words, if the header is too long.
pub(crate) fn scan(bytes: &[u8], longest: usize) -> Result<Scan, String> {
    if begins(bytes, VERSION_2) && !bytes.is_empty() {
        let Some(length) = bytes.get(FIXED - 2..FIXED) else {
            return Ok(Scan::More(FIXED - bytes.len()));
        };
        let length = FIXED + usize::from(u16::from_be_bytes([length[0], length[1]]));
        if length > longest {
            return Err(format!(
                "it has {length} bytes, and {longest} are allowed; see `longest_header`"
            ));
        }
        return Ok(more_up_to(length, bytes));
    }
    if !begins(bytes, VERSION_1) {
        return Ok(Scan::Other);
    }
    let shortest = match bytes.get(VERSION_1.len()..VERSION_1.len() + 5) {
        Some(b"TCP4 ") => b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n".len(),
        Some(b"TCP6 ") => b"PROXY TCP6 :: :: 0 0\r\n".len(),
        // Those of version 2 are longer by one.
        _ => b"PROXY UNKNOWN\r\n".len(),
    };
    if bytes.len() < shortest {
        return Ok(more_up_to(shortest, bytes));
    }
    if bytes.ends_with(b"\r\n") {
        return Ok(Scan::Whole);
    }
    if bytes.len() >= LONGEST_LINE {
        return Err("its line does not end".to_owned());
    }
    // A line of the longest allowed is read to its last byte, and not beyond.
    let one = bytes.ends_with(b"\r") || bytes.len() + 1 == LONGEST_LINE;
    Ok(Scan::More(if one { 1 } else { 2 }))
}

fn more_up_to(length: usize, bytes: &[u8]) -> Scan {
    match length - bytes.len() {
        0 => Scan::Whole,
        more => Scan::More(more),
    }
}

/// Whether this may become what begins so.
fn begins(bytes: &[u8], with: &[u8]) -> bool {
    let common = bytes.len().min(with.len());
    bytes[..common] == with[..common]
}

/// What a header says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// The balancer speaks for itself: it looks whether this server is well.
    Local,
    /// A client has connected; from where and to where, if that is said.
    Proxied(Option<(SocketAddr, SocketAddr)>, Vec<Tlv>),
}

/// Reads a whole header.
///
/// # Errors
///
/// In words, if it is none.
pub(crate) fn read(bytes: &[u8]) -> Result<Said, String> {
    let malformed = || "it is malformed".to_owned();
    let (header, length) =
        ProxyHeader::parse(bytes, ParseConfig::default()).map_err(|_| malformed())?;
    if length != bytes.len() {
        return Err(malformed());
    }
    if bytes.starts_with(VERSION_2) && bytes[FIXED - 4] == LOCAL {
        return Ok(Said::Local);
    }
    let addresses = match header.proxied_address() {
        Some(ProxiedAddress { protocol, .. }) if *protocol != proxy_header::Protocol::Stream => {
            return Err("it is about datagrams".to_owned());
        }
        Some(addresses) => Some((addresses.source, addresses.destination)),
        None => None,
    };
    Ok(Said::Proxied(addresses, tlvs(bytes, addresses)?))
}

/// What follows the addresses.
fn tlvs(bytes: &[u8], addresses: Option<(SocketAddr, SocketAddr)>) -> Result<Vec<Tlv>, String> {
    if !bytes.starts_with(VERSION_2) {
        return Ok(Vec::new());
    }
    let addresses = match (addresses, bytes[FIXED - 3] >> 4) {
        (Some((SocketAddr::V4(_), _)), _) => 12,
        (Some((SocketAddr::V6(_), _)), _) => 36,
        // Paths of Unix sockets, which mean nothing on this host.
        (None, 3) => 216,
        (None, _) => 0,
    };
    let mut rest = &bytes[(FIXED + addresses).min(bytes.len())..];
    let mut tlvs = Vec::new();
    while let [kind, high, low, after @ ..] = rest {
        let length = u16::from_be_bytes([*high, *low]);
        let (value, after) = after
            .split_at_checked(length.into())
            .ok_or_else(|| format!("a value of type {kind:#04x} is longer than the header"))?;
        tlvs.push(Tlv {
            kind: *kind,
            value: value.to_vec(),
        });
        rest = after;
    }
    if !rest.is_empty() {
        return Err("it ends within a value".to_owned());
    }
    Ok(tlvs)
}

#[cfg(test)]
mod tests {
    use proxy_header::Tlv as Known;

    use super::*;

    const LONGEST: usize = 4096;

    pub(super) fn headers() -> Vec<Vec<u8>> {
        let address = |from: &str, to: &str| {
            ProxiedAddress::stream(from.parse().unwrap(), to.parse().unwrap())
        };
        let four = address("203.0.113.9:51234", "192.0.2.1:443");
        let six = address("[2001:db8::9]:51234", "[2001:db8::1]:443");
        let mut all: Vec<Vec<u8>> = vec![
            b"PROXY TCP4 203.0.113.9 192.0.2.1 51234 443\r\n".to_vec(),
            b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n".to_vec(),
            b"PROXY TCP6 :: :: 0 0\r\n".to_vec(),
            b"PROXY TCP6 2001:db8::9 2001:db8::1 51234 443\r\n".to_vec(),
            b"PROXY UNKNOWN\r\n".to_vec(),
            b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n".to_vec(),
        ];
        let tlvs = [
            Known::Authority("example.org".into()),
            Known::UniqueId(b"\0\xff".as_slice().into()),
        ];
        for header in [
            ProxyHeader::with_local(),
            ProxyHeader::with_address(four.clone()),
            ProxyHeader::with_address(six),
            ProxyHeader::with_tlvs(Some(four), tlvs),
        ] {
            let mut bytes = Vec::new();
            header.encode_v2(&mut bytes).unwrap();
            all.push(bytes);
        }
        all
    }

    /// How many bytes are taken of these, when they come one at a time or all at once.
    fn taken(bytes: &[u8], at_once: bool) -> Result<usize, String> {
        let mut taken = 0;
        loop {
            match scan(&bytes[..taken], LONGEST)? {
                Scan::More(more) => taken += if at_once { more } else { 1 },
                Scan::Whole => return Ok(taken),
                Scan::Other => return Err("something else".into()),
            }
        }
    }

    #[test]
    fn nothing_behind_a_header_is_taken() {
        for header in headers() {
            let more = [&header[..], b"GET / HTTP/1.1\r\n\r\n\r\n"].concat();
            for at_once in [true, false] {
                assert_eq!(taken(&more, at_once), Ok(header.len()), "{header:?}");
            }
            read(&header).unwrap();
        }
    }

    #[test]
    fn something_else_is_told_by_its_first_bytes() {
        for other in [
            "GET /",
            "PRI * HTTP/2.0",
            "PROXX",
            "\r\n\r\nGET",
            "\x16\x03\x01",
        ] {
            let told =
                (0..=other.len()).any(|n| scan(&other.as_bytes()[..n], LONGEST) == Ok(Scan::Other));
            assert!(told, "{other:?}");
        }
        assert_eq!(scan(b"", LONGEST), Ok(Scan::More(15)));
    }

    #[test]
    fn says_who_and_what() {
        let all = headers();
        let client: (SocketAddr, SocketAddr) = (
            "203.0.113.9:51234".parse().unwrap(),
            "192.0.2.1:443".parse().unwrap(),
        );
        assert_eq!(read(&all[0]), Ok(Said::Proxied(Some(client), Vec::new())));
        assert_eq!(read(&all[4]), Ok(Said::Proxied(None, Vec::new())));
        assert_eq!(read(&all[6]), Ok(Said::Local));
        let Ok(Said::Proxied(Some(told), tlvs)) = read(&all[9]) else {
            panic!("no addresses");
        };
        assert_eq!(told, client);
        let kinds: Vec<u8> = tlvs.iter().map(|tlv| tlv.kind).collect();
        assert_eq!(kinds, [0x02, 0x05]);
        assert_eq!(tlvs[1].value, b"\0\xff");
    }

    #[test]
    fn what_is_broken_is_refused() {
        let v2 = |kind: [u8; 2], rest: &[u8]| {
            let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
            [VERSION_2, &kind[..], &length[..], rest].concat()
        };
        for broken in [
            b"PROXY TCP4 203.0.113.9 192.0.2.1 51234 70000\r\n".to_vec(),
            b"PROXY TCP5 203.0.113.9 192.0.2.1 51234 443\r\n".to_vec(),
            b"PROXY TCP4 ::1 ::2 51234 443          \r\n".to_vec(),
            b"PROXY TCP4 \r\n0.0.0 0.0.0.0 0 0 0\r\n".to_vec(),
            v2([0x31, 0x11], &[0; 12]),
            v2([0x21, 0x11], &[0; 11]),
            v2([0x21, 0x12], &[0; 12]),
            v2([0x21, 0x41], &[0; 12]),
            // A value of five bytes, of which there are two.
            v2(
                [0x21, 0x11],
                &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 5, 1, 2],
            ),
            v2([0x21, 0x11], &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0]),
        ] {
            assert!(read(&broken).is_err(), "{broken:?}");
        }
        assert!(scan(&[VERSION_2, &[0x21, 0x11, 0xff, 0xff]].concat(), LONGEST).is_err());
        let endless = [VERSION_1, &[b'x'; 200]].concat();
        assert!(taken(&endless, false).is_err());
    }
}
