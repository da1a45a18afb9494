//! What two generations say to each other, as bytes. No IO.
//!
//! A frame is one message of a `SOCK_SEQPACKET` pair: the length of the header (32 bits, little
//! endian), the header (JSON), and the payload (whatever is left). Descriptors travel beside it.
//!
//! The two ends may be of different releases, in either direction. So fields are only ever added,
//! and each has a default; fields and messages that are not known are left alone, the latter with
//! an answer ([`Message::Unknown`]); and each frame under `tests/golden` must decode for ever.

use std::{borrow::Cow, fmt, time::Duration};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::checked::Checked;
use crate::{accept::Proxied, seconds, sockets::record::Record, status::Held};

/// The highest version of the protocol that is spoken here. The lower of the two counts.
pub(crate) const VERSION: u32 = 1;
/// The longest payload that is sent, and the longest that is taken.
pub(crate) const PAYLOAD: usize = 64 * 1024;
/// The most that balancers and tracers may have said of the connections of one message: half of a
/// header.
pub(crate) const SAID: usize = HEADER / 2;
/// The longest header.
const HEADER: usize = 128 * 1024;
/// The longest frame. Below the default size of a socket's buffer, so that it can be sent at all.
pub(crate) const FRAME: usize = 4 + HEADER + PAYLOAD;
/// Sockets in one message. The kernel passes at most 253 descriptors in one.
pub(crate) const SOCKETS: usize = 100;

/// A header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Message {
    /// To the successor, first.
    Hello(Hello),
    /// To the successor: one descriptor for each record, in this order.
    Sockets { sockets: Vec<Record> },
    /// To the successor: our standard error, and the reading end of the pipe that it writes to.
    Stderr,
    /// To the successor: a piece of a blob is the payload.
    State {
        name: String,
        /// No piece of this blob follows.
        last: bool,
        /// What the program calls this form of it.
        #[serde(default)]
        version: u32,
    },
    /// To the successor: one descriptor, from which it can read what is too large for a blob.
    Stream {
        name: String,
        #[serde(default)]
        version: u32,
    },
    /// To the successor: that was all.
    Start,
    /// To the predecessor: all was received.
    Starting { version: u32 },
    /// To the predecessor: what the program does now, for people.
    Progress { text: String },
    /// To the predecessor, before [`Message::Ready`]: of its sockets we will not use these. Any
    /// number of times.
    Unused { names: Vec<String> },
    /// To the predecessor: may we take over?
    Ready,
    /// To the successor: take over. The predecessor cannot go back to before this by itself.
    Commit,
    /// To the predecessor: we accept.
    Serving,
    /// To the predecessor: we give up.
    Failed { message: String },
    /// To the successor: we have drained, and go. To the predecessor: what becomes of us is no
    /// longer yours to mend; we were told to stop, or have a successor of our own.
    Bye,
    /// To the successor: one descriptor for each record, in this order. The payload is, one after
    /// the other, what was read ahead from each and then its state.
    Connections {
        connections: Vec<Moved>,
        /// Those on which nothing has come may be held: claimed when something comes, or at
        /// [`Message::Settle`].
        #[serde(default)]
        lazy: bool,
    },
    /// To the predecessor: these are ours.
    Claimed { ids: Vec<u64> },
    /// To the predecessor: these are yours again.
    Refused {
        ids: Vec<u64>,
        /// A code, for the predecessor's report.
        #[serde(default)]
        why: String,
    },
    /// To the predecessor: these are held, and yours until they are claimed.
    Held { ids: Vec<u64> },
    /// To the successor: claim what you hold, and hold no more.
    Settle,
    /// To the successor: the service manager knows it as the main process. `stored` is what it keeps
    /// for the service, by the names that it has there.
    Main {
        #[serde(default)]
        stored: Vec<String>,
    },
    /// To who checks: whatever can be proven without taking over has been.
    Checked(Checked),
    /// To the successor: one descriptor for each generation before it that still drains, the oldest
    /// first and the sender last. Over it the generation hears [`Message::Cut`], and says what it
    /// [holds](Message::Holds); it ends with the generation.
    Older { generations: Vec<Older> },
    /// To an older generation: end what is left, now.
    Cut,
    /// To an older generation, over its channel: the one after it has died, and this one serves.
    Superseded { pid: u32, generation: u64 },
    /// From an older generation: what holds its drain open.
    Holds {
        held: Held,
        /// Until its deadline.
        #[serde(
            default,
            rename = "remaining_seconds",
            with = "seconds::option",
            skip_serializing_if = "Option::is_none"
        )]
        remaining: Option<Duration>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        release: Option<String>,
        /// Since it was started.
        #[serde(
            default,
            rename = "age_seconds",
            with = "seconds::option",
            skip_serializing_if = "Option::is_none"
        )]
        age: Option<Duration>,
    },
    /// The other end sent something that is not known here.
    Unknown { what: String },
}

/// A generation before the receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Older {
    pub(crate) pid: u32,
    pub(crate) generation: u64,
}

/// Who speaks, and to whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) version: u32,
    /// Process id of the sender.
    pub(crate) predecessor: u32,
    /// Process id of the receiver: the channel is nobody else's.
    pub(crate) successor: u32,
    /// The number of the receiver's generation.
    pub(crate) generation: u64,
    /// How long the sender waits for [`Message::Ready`].
    #[serde(default)]
    pub(crate) ready_timeout_ms: u64,
    /// How many sockets follow.
    #[serde(default)]
    pub(crate) sockets: u64,
    /// How many blobs follow.
    #[serde(default)]
    pub(crate) states: u64,
    /// Nothing is to be taken over: the receiver proves that it could start, and ends.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) check: bool,
    /// The sender is a process of a supervisor, and so is the receiver.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) supervised: bool,
}

/// A connection between two messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Moved {
    /// For the answer; no two of one channel are alike.
    pub(crate) id: u64,
    /// The name of the listener that accepted it.
    pub(crate) listener: String,
    /// The peer, as the application sees it.
    pub(crate) peer: String,
    /// How many bytes of the payload are its.
    #[serde(default)]
    pub(crate) unread: usize,
    /// Since it was accepted.
    #[serde(default)]
    pub(crate) age_ms: u64,
    /// How many requests it has sent.
    #[serde(default)]
    pub(crate) requests: u32,
    /// What is spoken on it, if not HTTP.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) protocol: String,
    /// The version of its state.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) version: u32,
    /// How many bytes of the payload are its state.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) state: usize,
    /// What a balancer has said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) proxied: Option<Box<Proxied>>,
    /// The context of the application's span of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) trace: Option<String>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What a frame holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    Known(Message),
    /// The type of a message of a later release.
    Unknown(String),
}

/// Makes a frame of a header and a payload.
///
/// # Errors
///
/// In words, if either is too long.
pub(crate) fn encode(message: &Message, payload: &[u8]) -> Result<Vec<u8>, String> {
    let header = serde_json::to_vec(message).map_err(|err| err.to_string())?;
    if header.len() > HEADER || payload.len() > PAYLOAD {
        let (header, payload) = (header.len(), payload.len());
        return Err(format!(
            "a message of {header} and {payload} bytes is too long to be sent"
        ));
    }
    let mut frame = Vec::with_capacity(4 + header.len() + payload.len());
    // At most `HEADER`, so nothing is lost.
    frame.extend_from_slice(&(header.len() as u32).to_le_bytes());
    frame.extend_from_slice(&header);
    frame.extend_from_slice(payload);
    Ok(frame)
}

/// Takes a frame apart.
///
/// # Errors
///
/// In words, if the bytes are not a frame, or a known message lacks what it must have.
pub(crate) fn decode(frame: &[u8]) -> Result<(Decoded, &[u8]), String> {
    let (length, rest) = frame
        .split_first_chunk::<4>()
        .ok_or("a frame of less than four bytes")?;
    let length = u32::from_le_bytes(*length);
    let (header, payload) = usize::try_from(length)
        .ok()
        .and_then(|length| rest.split_at_checked(length))
        .ok_or_else(|| format!("a header of {length} bytes in a frame of {}", frame.len()))?;
    let Kind(kind) = serde_json::from_slice(header).map_err(|err| match err.is_data() {
        true => "a header without a type".to_owned(),
        false => format!("a header that is not JSON: {err}"),
    })?;
    if !KNOWN.contains(&&*kind) {
        return Ok((Decoded::Unknown(kind.into_owned()), payload));
    }
    let message = match &*kind {
        "sockets" => serde_json::from_slice(header).map(Sockets::into),
        "connections" => serde_json::from_slice(header).map(Connections::into),
        _ => serde_json::from_slice(header),
    };
    let message = message.map_err(|err| format!("a bad message {kind:?}: {err}"))?;
    Ok((Decoded::Known(message), payload))
}

/// The type of a message: what a header is asked first, for the rest may be of a later release.
struct Kind<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Kind<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Fields<'a> {
            #[serde(rename = "type", borrow)]
            kind: Cow<'a, str>,
        }

        struct Map;

        impl<'de> Visitor<'de> for Map {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with a type")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Fields<'de>, A::Error> {
                Fields::deserialize(MapAccessDeserializer::new(map))
            }
        }

        // Of an array the first element would be taken for the type.
        Ok(Self(from.deserialize_map(Map)?.kind))
    }
}

// Where there are thousands of something its messages are read without a detour: which of its variants
// an enum has to be is known to serde only once it has read, and kept, all of it.

/// The fields of [`Message::Sockets`].
#[derive(Deserialize)]
struct Sockets {
    sockets: Vec<Record>,
}

/// The fields of [`Message::Connections`].
#[derive(Deserialize)]
struct Connections {
    connections: Vec<Moved>,
    #[serde(default)]
    lazy: bool,
}

impl From<Sockets> for Message {
    fn from(Sockets { sockets }: Sockets) -> Self {
        Self::Sockets { sockets }
    }
}

impl From<Connections> for Message {
    fn from(Connections { connections, lazy }: Connections) -> Self {
        Self::Connections { connections, lazy }
    }
}

const KNOWN: [&str; 26] = [
    "hello",
    "sockets",
    "stderr",
    "state",
    "stream",
    "start",
    "starting",
    "progress",
    "ready",
    "commit",
    "serving",
    "failed",
    "bye",
    "connections",
    "claimed",
    "refused",
    "main",
    "checked",
    "older",
    "cut",
    "superseded",
    "holds",
    "held",
    "settle",
    "unknown",
    "unused",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        sockets::{access::Access, record::SocketKind, unix_path::OwnedPath},
        upgrade::checked::CheckedSocket,
    };

    fn all() -> Vec<(&'static str, Message, &'static [u8])> {
        let tcp = Record {
            name: "web".into(),
            kind: SocketKind::Tcp,
            address: "127.0.0.1:8080".into(),
            foreign: true,
            path: None,
            access: Access::default(),
        };
        let unix = Record {
            name: "unix:/run/app.sock".into(),
            kind: SocketKind::Unix,
            address: "unix:/run/app.sock".into(),
            foreign: false,
            path: Some(OwnedPath {
                path: "/run/app.sock".into(),
                dev: 7,
                ino: 99,
            }),
            access: Access::default(),
        };
        let udp = Record {
            name: "dns".into(),
            kind: SocketKind::Udp,
            address: "[::1]:53".into(),
            foreign: false,
            path: None,
            access: Access::default(),
        };
        let control = Record {
            name: "control".into(),
            kind: SocketKind::Seqpacket,
            address: "unix:/run/control.sock".into(),
            foreign: false,
            path: None,
            access: Access {
                mode: Some(0o660),
                user: None,
                group: Some(33),
            },
        };
        let other = |name: &str, kind| Record {
            name: name.into(),
            kind,
            address: String::new(),
            foreign: false,
            path: None,
            access: Access::default(),
        };
        let kinds = vec![
            control,
            other("events", SocketKind::Datagram),
            other("log", SocketKind::File),
            other("broker", SocketKind::Stream),
            // Written as a kind that is not known here.
            other("strange", SocketKind::Unknown),
        ];
        let hello = Hello {
            version: 1,
            predecessor: 10,
            successor: 11,
            generation: 3,
            ready_timeout_ms: 60_000,
            sockets: 3,
            states: 1,
            check: false,
            supervised: false,
        };
        let supervised = Hello {
            supervised: true,
            ..hello.clone()
        };
        let check = Hello {
            sockets: 0,
            states: 0,
            check: true,
            ..hello.clone()
        };
        let proven = CheckedSocket {
            name: "web".into(),
            address: "0.0.0.0:80".into(),
            kind: "tcp".into(),
            in_use: true,
        };
        let older = |pid, generation| Older { pid, generation };
        let mut held = Held::default();
        (held.connections, held.requests, held.guards) = (12, 3, 13);
        held.longest = Duration::from_millis(8_500);
        vec![
            ("hello", Message::Hello(hello), b""),
            ("hello.check", Message::Hello(check), b""),
            ("hello.supervised", Message::Hello(supervised), b""),
            (
                "checked",
                Message::Checked(Checked {
                    version: 1,
                    sockets: vec![proven],
                }),
                b"",
            ),
            (
                "older",
                Message::Older {
                    generations: vec![older(75, 1), older(76, 2)],
                },
                b"",
            ),
            ("cut", Message::Cut, b""),
            (
                "superseded",
                Message::Superseded {
                    pid: 77,
                    generation: 5,
                },
                b"",
            ),
            (
                "holds",
                Message::Holds {
                    held,
                    remaining: None,
                    release: None,
                    age: None,
                },
                b"",
            ),
            (
                "sockets",
                Message::Sockets {
                    sockets: vec![tcp, unix, udp],
                },
                b"",
            ),
            ("sockets.kinds", Message::Sockets { sockets: kinds }, b""),
            ("stderr", Message::Stderr, b""),
            (
                "state",
                Message::State {
                    name: "cache".into(),
                    last: true,
                    version: 0,
                },
                b"\x00\xffblob",
            ),
            (
                "stream",
                Message::Stream {
                    name: "index".into(),
                    version: 2,
                },
                b"",
            ),
            ("start", Message::Start, b""),
            ("starting", Message::Starting { version: 1 }, b""),
            (
                "progress",
                Message::Progress {
                    text: "warming the cache: 40 %".into(),
                },
                b"",
            ),
            ("ready", Message::Ready, b""),
            ("commit", Message::Commit, b""),
            ("serving", Message::Serving, b""),
            (
                "failed",
                Message::Failed {
                    message: "no database".into(),
                },
                b"",
            ),
            ("bye", Message::Bye, b""),
            (
                "connections",
                Message::Connections {
                    connections: vec![Moved {
                        id: 7,
                        listener: "web".into(),
                        peer: "127.0.0.1:51234".into(),
                        unread: 4,
                        age_ms: 1500,
                        requests: 3,
                        protocol: String::new(),
                        version: 0,
                        state: 0,
                        proxied: None,
                        trace: None,
                    }],
                    lazy: false,
                },
                b"GET ",
            ),
            (
                "connections.session",
                Message::Connections {
                    connections: vec![Moved {
                        id: 8,
                        listener: "web".into(),
                        peer: "unix:".into(),
                        unread: 3,
                        age_ms: 20,
                        requests: 1,
                        protocol: "chat".into(),
                        version: 2,
                        state: 5,
                        proxied: None,
                        trace: None,
                    }],
                    lazy: false,
                },
                b"hel{\"a\"}",
            ),
            (
                "connections.proxied",
                Message::Connections {
                    connections: vec![Moved {
                        id: 9,
                        listener: "web".into(),
                        peer: "203.0.113.9:51234".into(),
                        unread: 0,
                        age_ms: 20,
                        requests: 1,
                        protocol: String::new(),
                        version: 0,
                        state: 0,
                        proxied: Some(Box::new(crate::accept::full_proxied())),
                        trace: None,
                    }],
                    lazy: true,
                },
                b"",
            ),
            (
                "connections.traced",
                Message::Connections {
                    connections: vec![Moved {
                        id: 10,
                        listener: "web".into(),
                        peer: "127.0.0.1:51235".into(),
                        unread: 0,
                        age_ms: 20,
                        requests: 1,
                        protocol: String::new(),
                        version: 0,
                        state: 0,
                        proxied: None,
                        trace: Some(
                            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
                        ),
                    }],
                    lazy: false,
                },
                b"",
            ),
            ("claimed", Message::Claimed { ids: vec![7, 8] }, b""),
            (
                "refused",
                Message::Refused {
                    ids: vec![9],
                    why: String::new(),
                },
                b"",
            ),
            ("held", Message::Held { ids: vec![10, 11] }, b""),
            ("settle", Message::Settle, b""),
            (
                "main",
                Message::Main {
                    stored: vec!["handover.web".into()],
                },
                b"",
            ),
            (
                "unknown",
                Message::Unknown {
                    what: "teleport".into(),
                },
                b"",
            ),
            (
                "unused",
                Message::Unused {
                    names: vec!["admin".into()],
                },
                b"",
            ),
        ]
    }

    /// Fails if a release no longer understands the first one.
    #[test]
    fn version_1_decodes_for_ever() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/v1");
        for (name, message, payload) in all() {
            let frame = std::fs::read(format!("{dir}/{name}.frame")).unwrap();
            assert_eq!(
                decode(&frame),
                Ok((Decoded::Known(message), payload)),
                "{name}"
            );
        }
        assert_eq!(std::fs::read_dir(dir).unwrap().count(), all().len());
    }

    #[test]
    fn every_message_comes_back() {
        for (name, message, payload) in all() {
            let kind = name.split('.').next().unwrap();
            assert!(KNOWN.contains(&kind));
            let frame = encode(&message, payload).unwrap();
            assert_eq!(
                decode(&frame),
                Ok((Decoded::Known(message), payload)),
                "{name}"
            );
        }
    }

    #[test]
    fn what_a_later_release_adds_is_left_alone() {
        let frame =
            |header: &str| [&(header.len() as u32).to_le_bytes(), header.as_bytes()].concat();
        let later = frame(r#"{"type":"teleport","to":[1,2]}"#);
        assert_eq!(
            decode(&later),
            Ok((Decoded::Unknown("teleport".into()), &b""[..]))
        );
        let more = frame(r#"{"new":{},"type":"ready","x":1}"#);
        assert_eq!(
            decode(&more),
            Ok((Decoded::Known(Message::Ready), &b""[..]))
        );
        let less =
            frame(r#"{"type":"hello","version":2,"predecessor":1,"successor":2,"generation":1}"#);
        assert!(matches!(
            decode(&less),
            Ok((Decoded::Known(Message::Hello(_)), _))
        ));
    }

    /// Those that are read by their fields may be of any release as well.
    #[test]
    fn what_a_later_release_adds_to_many_is_left_alone() {
        let decoded = |header: &str| {
            let length = (header.len() as u32).to_le_bytes();
            let frame = [&length, header.as_bytes()].concat();
            decode(&frame).map(|(message, _)| message)
        };
        let (sockets, connections) = (Vec::new(), Vec::new());
        assert_eq!(
            decoded(r#"{"new":{},"sockets":[],"type":"sockets","x":1}"#),
            Ok(Decoded::Known(Message::Sockets { sockets }))
        );
        let lazy = false;
        assert_eq!(
            decoded(r#"{"new":{},"connections":[],"type":"connections","x":1}"#),
            Ok(Decoded::Known(Message::Connections { connections, lazy }))
        );
        for kind in ["sockets", "connections"] {
            let err = decoded(&format!(r#"{{"type":"{kind}"}}"#)).unwrap_err();
            assert!(err.contains(kind) && err.contains("missing field"), "{err}");
        }
    }

    #[test]
    fn what_has_no_type_is_no_message() {
        for header in [
            "{}",
            "[]",
            r#"["ready"]"#,
            r#""ready""#,
            "null",
            r#"{"type":5}"#,
            r#"{"type":null}"#,
        ] {
            let length = (header.len() as u32).to_le_bytes();
            let frame = [&length, header.as_bytes()].concat();
            let err = decode(&frame).unwrap_err();
            assert_eq!(err, "a header without a type", "{header}");
        }
    }

    #[test]
    fn too_long_is_refused() {
        let text = "x".repeat(HEADER);
        assert!(encode(&Message::Progress { text }, b"").is_err());
        assert!(encode(&Message::Ready, &vec![0; PAYLOAD + 1]).is_err());
        assert_eq!(
            encode(&Message::Ready, &vec![0; PAYLOAD]).unwrap().len(),
            4 + 16 + PAYLOAD
        );
        let progress = |length| {
            let text = "x".repeat(length);
            encode(&Message::Progress { text }, b"")
        };
        let around = progress(0).unwrap().len() - 4;
        let longest = progress(HEADER - around).unwrap();
        assert_eq!(longest.len(), 4 + HEADER);
        assert!(decode(&longest).is_ok());
        assert!(progress(HEADER - around + 1).is_err());
    }

    /// Fails if the two ends no longer mean the same: a peer of version 1 sends and takes these.
    #[test]
    fn the_lengths_are_those_of_version_1() {
        assert_eq!((HEADER, PAYLOAD, SAID), (131_072, 65_536, 65_536));
        assert_eq!(FRAME, 196_612);
    }

    /// Fails with a panic if any bytes can cause one: random ones, and real frames with changes.
    #[test]
    fn no_bytes_panic() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as usize
        };
        let frames: Vec<_> = all()
            .iter()
            .map(|(_, m, p)| encode(m, p).unwrap())
            .collect();
        let (mut good, mut bad) = (0, 0);
        for round in 0..50_000 {
            let mut frame = match round % 4 {
                0 => (0..random() % 64).map(|_| random() as u8).collect(),
                _ => frames[random() % frames.len()].clone(),
            };
            for _ in 0..random() % 4 {
                if !frame.is_empty() {
                    let at = random() % frame.len();
                    match random() % 3 {
                        0 => frame[at] = random() as u8,
                        1 => frame.truncate(at),
                        _ => frame.insert(at, random() as u8),
                    }
                }
            }
            match decode(&frame) {
                Ok(_) => good += 1,
                Err(_) => bad += 1,
            }
        }
        assert!(
            good > 1000 && bad > 1000,
            "{good} good, {bad} bad: the changes say little"
        );
    }
}
