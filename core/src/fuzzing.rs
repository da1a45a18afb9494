//! What fuzzers call, and what must hold whatever they try. Not for programs: it is there only where
//! the compiler is told that it builds for a fuzzer, and in the tests of this crate, which run the
//! kept inputs again.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
};

#[cfg(feature = "proxy-protocol")]
use crate::accept::proxy::{self, Scan};
use crate::{
    Address,
    control::{Event, Request},
    sockets::{foreign, spec::Spec},
    systemd::name,
    upgrade::{
        frame::{self, Decoded},
        heritage,
    },
};

/// A message of the channel: what is understood is said again in the same words.
pub fn frame(bytes: &[u8]) {
    let Ok((decoded, payload)) = frame::decode(bytes) else {
        return;
    };
    assert!(bytes.ends_with(payload));
    if let Decoded::Known(message) = decoded {
        // Too long to be sent is possible: fields that are not known are not sent again, but what
        // is escaped may grow.
        if let Ok(again) = frame::encode(&message, payload) {
            assert_eq!(
                frame::decode(&again),
                Ok((Decoded::Known(message), payload))
            );
        }
    }
}

/// The value of `HANDOVER_CHANNEL`.
pub fn channel_variable(bytes: &[u8]) {
    if let Ok((number, pid)) = heritage::parse(OsStr::from_bytes(bytes)) {
        assert!(number >= 0);
        let text = String::from_utf8_lossy(bytes);
        // But for zeros in front.
        let numbers: Vec<u64> = text.split(':').filter_map(|n| n.parse().ok()).collect();
        assert_eq!(numbers, [1, u64::from(number.unsigned_abs()), pid.into()]);
    }
}

/// The variables of other programs, as `NAME=value` with zero bytes between. This process is 2, and
/// its parent 1.
pub fn environment(bytes: &[u8]) {
    let variable = |name: &str| {
        let mut entries = bytes.split(|byte| *byte == 0);
        let value = entries.find_map(|entry| {
            let rest = entry.strip_prefix(name.as_bytes())?;
            rest.strip_prefix(b"=")
        });
        value.map(|value| OsString::from_vec(value.to_vec()))
    };
    if let Ok(found) = foreign::parse(variable, 2, 1) {
        let mut seen = HashSet::new();
        for named in found {
            assert!(named.fd >= 0);
            assert!(seen.insert(named.fd), "{} is taken twice", named.fd);
        }
    }
}

/// An address to listen on.
pub fn listen(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(spec) = Spec::parse(text) {
        assert!(!spec.name.is_empty());
        assert_eq!(spec.named, spec.name != text);
        if spec.named {
            // A name may be given to any address, and changes nothing about it.
            let (_, address) = text.split_once('=').expect("a name");
            let unnamed = Spec::parse(address).expect("it could be read with a name");
            assert_eq!(unnamed.place, spec.place);
        }
    }
}

/// The text of an address.
pub fn address(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(address) = text.parse::<Address>() {
        assert_eq!(address.to_string().parse(), Ok(address));
    }
}

/// A line of a request at the control socket: what is understood is said again in the same words, and
/// who sends anything else reads why not.
pub fn control_request(bytes: &[u8]) {
    match Request::from_line(bytes) {
        Ok(request) => {
            let line = request.to_line();
            assert_eq!(Request::from_line(line.as_bytes()), Ok(request));
        }
        Err(refused) => {
            let answer = Event::from(refused);
            assert!(answer.is_last());
            let line = answer.to_line();
            assert_eq!(line.find('\n'), Some(line.len() - 1));
            assert_eq!(Event::from_line(&line), Ok(answer));
        }
    }
}

/// A line of an answer: what is understood is one line again, and stays the same from then on.
pub fn control_event(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(event) = Event::from_line(text) {
        let line = event.to_line();
        assert_eq!(line.find('\n'), Some(line.len() - 1));
        let again = Event::from_line(&line).expect("it was said here");
        assert_eq!(again.is_last(), event.is_last());
        // Not the event: a time is rounded to nanoseconds once.
        assert_eq!(again.to_line(), line);
    }
}

/// A name under which a service manager keeps a socket.
pub fn store_name(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Some((name, file)) = name::decode(text) {
        let again = name::encode(&name, file);
        // What a longer spelling says may be too long for ours.
        if let Some(again) = again {
            assert_eq!(name::decode(&again), Some((name, file)));
        }
    }
    if let Some(encoded) = name::encode(text, None) {
        assert_eq!(name::decode(&encoded), Some((text.to_owned(), None)));
    }
}

/// A connection that may begin with a header of the PROXY protocol: the header is the same, and no
/// more is taken, whether it comes at once or byte by byte.
#[cfg(feature = "proxy-protocol")]
pub fn proxy_header(bytes: &[u8]) {
    const LONGEST: usize = 4096;
    let taken = |at_most: usize| {
        let mut taken = 0;
        loop {
            match proxy::scan(&bytes[..taken], LONGEST) {
                Ok(Scan::More(more)) => {
                    assert!(more > 0);
                    let there = bytes.len() - taken;
                    if there == 0 {
                        return None;
                    }
                    taken += more.min(at_most).min(there);
                }
                Ok(Scan::Whole) => return Some(taken),
                Ok(Scan::Other) | Err(_) => return None,
            }
        }
    };
    let length = taken(usize::MAX);
    assert_eq!(length, taken(1));
    if let Some(length) = length {
        assert!(length <= LONGEST);
        let _ = proxy::read_header(&bytes[..length]);
    }
}

#[cfg(test)]
#[path = "../../tests/fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::{replay::run, *};

    #[test]
    fn kept_inputs_of_fuzzers_pass() {
        run("frame", frame);
        run("channel_variable", channel_variable);
        run("environment", environment);
        run("listen", listen);
        run("address", address);
        run("control_request", control_request);
        run("control_event", control_event);
        run("store_name", store_name);
        #[cfg(feature = "proxy-protocol")]
        run("proxy_header", proxy_header);
    }
}
