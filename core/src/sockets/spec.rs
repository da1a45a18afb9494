//! Reads an address as a user writes it. No IO: nothing is resolved here.

use std::path::PathBuf;

use crate::error::{Error, Kind};

/// The longest name and address together. Many of them go in one message to the successor.
const LONGEST: usize = 512;

/// What a user asked for: a name, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spec {
    /// Under this name the socket is found again in the next generation.
    pub(crate) name: String,
    /// Whether the user chose the name. If not it is the text of the address.
    pub(crate) named: bool,
    pub(crate) place: Place,
}

/// Where a socket is to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A host, or an IP address without brackets, and a port.
    Ip { host: String, port: u16 },
    /// A path in the file system, as written.
    Path(PathBuf),
    /// A name in Linux's abstract namespace, without the `@`.
    Abstract(String),
}

impl Spec {
    /// Reads `ADDR` or `name=ADDR`.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let bad = |why: &str| {
            let hint = "write 127.0.0.1:8080, [::1]:8080, localhost:8080, unix:/path or unix:@name, \
                        with name= before it to name it";
            Error::new(
                Kind::Address,
                format!("cannot listen on {text:?}: {why}; {hint}"),
            )
        };
        // A path may hold a `=` of its own; a name never holds a `:` or `/`.
        let (name, addr) = match text.split_once('=') {
            Some((name, addr)) if !name.contains([':', '/']) => (Some(name), addr),
            _ => (None, text),
        };
        if text.len() > LONGEST {
            return Err(bad("it is too long"));
        }
        if name == Some("") {
            return Err(bad("the name before = is empty"));
        }
        let place = place(addr).map_err(bad)?;
        Ok(Self {
            name: name.unwrap_or(addr).to_owned(),
            named: name.is_some(),
            place,
        })
    }
}

fn place(addr: &str) -> Result<Place, &'static str> {
    if addr.contains('\0') {
        return Err("it holds a zero byte");
    }
    if let Some(path) = addr.strip_prefix("unix:") {
        return match path.strip_prefix('@') {
            Some("") => Err("the abstract name is empty"),
            Some(name) => Ok(Place::Abstract(name.to_owned())),
            None if path.is_empty() => Err("the path is empty"),
            None => Ok(Place::Path(path.into())),
        };
    }
    let (host, port) = addr.rsplit_once(':').ok_or("it has no port")?;
    if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("its port is not a number");
    }
    let port = port.parse().map_err(|_| "its port is above 65535")?;
    let host = match host.strip_prefix('[') {
        Some(rest) => {
            let inner = rest.strip_suffix(']').ok_or("a bracket is not closed")?;
            // A zone (`fe80::1%eth0`) is for the resolver to judge.
            let ip = inner.split_once('%').map_or(inner, |(ip, _zone)| ip);
            ip.parse::<std::net::Ipv6Addr>()
                .map_err(|_| "what is in brackets is not an IPv6 address")?;
            inner
        }
        None if host.contains(':') => return Err("an IPv6 address goes in brackets"),
        None if host.is_empty() => return Err("it has no host (0.0.0.0 and [::] mean all)"),
        None => host,
    };
    if host.contains(char::is_whitespace) {
        return Err("its host holds a space");
    }
    if host.contains('=') {
        return Err("its host holds a =, which ends a name");
    }
    Ok(Place::Ip {
        host: host.to_owned(),
        port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(host: &str, port: u16) -> Place {
        Place::Ip {
            host: host.to_owned(),
            port,
        }
    }

    #[test]
    fn reads_every_form() {
        for (text, name, place) in [
            ("127.0.0.1:8080", "127.0.0.1:8080", ip("127.0.0.1", 8080)),
            ("[::1]:0", "[::1]:0", ip("::1", 0)),
            (
                "[fe80::1%eth0]:80",
                "[fe80::1%eth0]:80",
                ip("fe80::1%eth0", 80),
            ),
            ("localhost:80", "localhost:80", ip("localhost", 80)),
            ("web=0.0.0.0:80", "web", ip("0.0.0.0", 80)),
            (
                "unix:/run/a=b",
                "unix:/run/a=b",
                Place::Path("/run/a=b".into()),
            ),
            ("api=unix:/run/a=b", "api", Place::Path("/run/a=b".into())),
            (
                "unix:relative",
                "unix:relative",
                Place::Path("relative".into()),
            ),
            ("unix:@app", "unix:@app", Place::Abstract("app".into())),
        ] {
            let spec = Spec::parse(text).unwrap();
            assert_eq!((spec.name.as_str(), &spec.place), (name, &place), "{text}");
            assert_eq!(spec.named, name != text, "{text}");
        }
    }

    #[test]
    fn refuses_with_a_reason() {
        for (text, why) in [
            ("", "no port"),
            ("8080", "no port"),
            (":8080", "no host"),
            ("::1:8080", "brackets"),
            ("[::1:8080", "not closed"),
            ("[127.0.0.1]:1", "not an IPv6"),
            ("127.0.0.1:", "not a number"),
            ("127.0.0.1:+1", "not a number"),
            ("127.0.0.1:65536", "above"),
            ("=127.0.0.1:1", "name before ="),
            ("unix:", "path is empty"),
            ("unix:@", "name is empty"),
            ("unix:/a\0b", "zero byte"),
            ("a b:1", "space"),
            ("web==0.0.0.0:1", "holds a ="),
        ] {
            let err = Spec::parse(text).unwrap_err();
            assert!(
                err.is_address() && err.to_string().contains(why),
                "{text:?}: {err}"
            );
        }
    }
}
