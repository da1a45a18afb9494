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
    sockets::{foreign, spec::Spec},
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
mod tests {
    use std::fs;

    use super::*;

    fn run(target: &str, test: fn(&[u8])) {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fuzz/corpus");
        let mut inputs = 0;
        for entry in fs::read_dir(format!("{corpus}/{target}")).unwrap() {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            test(&fs::read(path).unwrap());
            inputs += 1;
        }
        assert!(inputs > 2, "{target} has {inputs} inputs");
    }

    #[test]
    fn kept_inputs_of_fuzzers_pass() {
        run("frame", frame);
        run("channel_variable", channel_variable);
        run("environment", environment);
        run("listen", listen);
        run("address", address);
        #[cfg(feature = "proxy-protocol")]
        run("proxy_header", proxy_header);
    }
}
