//! Who may press a button.

use std::{fmt, net::IpAddr, sync::Arc};

use handover::Connection;
use http::{HeaderMap, Request, header, uri::Authority};
use subtle::ConstantTimeEq;

/// Who may change something.
#[derive(Clone, Default)]
pub(crate) struct Access {
    token: Option<Arc<str>>,
}

/// Why somebody may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// Nobody may, on this listener.
    Closed,
    /// Not without the token.
    NoToken,
    /// A page of another site asks, in the browser of somebody who may.
    OtherSite,
}

/// What a page is to offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    Nothing,
    /// The buttons, and a field for the token.
    WithToken,
    Buttons,
}

impl Offer {
    /// What the page calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Offer::Nothing => "nothing",
            Offer::WithToken => "with-token",
            Offer::Buttons => "buttons",
        }
    }
}

impl Access {
    pub(crate) fn by_token(token: &str) -> Self {
        // An empty one would let everybody in.
        Self {
            token: Some(token.into()).filter(|_| !token.is_empty()),
        }
    }

    pub(crate) fn check<B>(&self, request: &Request<B>) -> Result<(), Denied> {
        match &self.token {
            Some(token) if has_token(request.headers(), token) => Ok(()),
            Some(_) => Err(Denied::NoToken),
            None if !came_by_unix_socket(request) => Err(Denied::Closed),
            None if is_of_another_site(request) => Err(Denied::OtherSite),
            None => Ok(()),
        }
    }

    /// What the page is to offer to who asks for it.
    pub(crate) fn offer<B>(&self, request: &Request<B>) -> Offer {
        match &self.token {
            Some(_) => Offer::WithToken,
            None if came_by_unix_socket(request) => Offer::Buttons,
            None => Offer::Nothing,
        }
    }
}

/// In a header, which a page of another site cannot send along unasked.
fn has_token(headers: &HeaderMap, token: &str) -> bool {
    let given = headers.get(header::AUTHORIZATION);
    let given = given.and_then(|given| given.as_bytes().strip_prefix(b"Bearer "));
    // In the same time whatever is wrong with it.
    given.is_some_and(|given| given.ct_eq(token.as_bytes()).into())
}

/// Whose file's permissions say who may connect.
fn came_by_unix_socket<B>(request: &Request<B>) -> bool {
    let connection = request.extensions().get::<Arc<Connection>>();
    connection.is_some_and(|connection| connection.peer().as_socket_addr().is_none())
}

/// No browser comes to a Unix socket by itself, but it does through a port that is forwarded to one;
/// and then so does each page that is open in it. Browsers say by `Origin` whose page asks to change
/// something; other programs say nothing.
///
/// Whoever owns a name may have it lead to this machine, and be of the same site then by what the browser
/// says (DNS rebinding). So only who came by an address, or by `localhost`, is of this one: as one does
/// through a forwarded port. Behind a proxy with a name of its own it takes a token.
fn is_of_another_site<B>(request: &Request<B>) -> bool {
    let Some(origin) = request.headers().get(header::ORIGIN) else {
        return false;
    };
    let origin = origin.to_str().ok().and_then(|text| text.split_once("://"));
    let named = request.headers().get(header::HOST);
    let named = named.and_then(|host| host.to_str().ok());
    let host = named.or_else(|| request.uri().authority().map(Authority::as_str));
    origin.is_none_or(|(_, origin)| Some(origin) != host) || !host.is_some_and(is_of_nobody_else)
}

/// Whether nobody can make this lead elsewhere than where it leads to here.
fn is_of_nobody_else(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let name = authority.host();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    // RFC 6761, section 6.3.
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("by_token", &self.token.is_some())
            .finish()
    }
}

/// For fuzzers: the lines are the token, if one is set, and what a request has for `Authorization`,
/// `Origin` and `Host`. Nobody presses a button over TCP, or from another site, without the token.
#[cfg(any(fuzzing, test))]
pub fn fuzz(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let token = line();
    let mut request = Request::new(());
    for name in [header::AUTHORIZATION, header::ORIGIN, header::HOST] {
        match http::HeaderValue::from_bytes(line()) {
            Ok(value) if !value.is_empty() => drop(request.headers_mut().insert(name, value)),
            _ => {}
        }
    }
    let header = |name| request.headers().get(name).map(http::HeaderValue::as_bytes);
    let token = std::str::from_utf8(token).unwrap_or_default();
    let with = Access::by_token(token);
    let without = Access::default();
    if with.check(&request).is_ok() {
        let given = header(header::AUTHORIZATION).expect("there is no other way");
        assert!(!token.is_empty() && given.ends_with(token.as_bytes()));
    }
    assert_eq!(without.check(&request), Err(Denied::Closed));
    if let Some(origin) = header(header::ORIGIN)
        && !is_of_another_site(&request)
    {
        let host = header(header::HOST).expect("the address has none");
        let scheme = origin.strip_suffix(host).expect("another host");
        assert!(scheme.ends_with(b"://"));
    }
}

#[cfg(test)]
#[path = "../../../tests/fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_of_this_site() {
        let is_of_another = |origin: &str, host: &str| {
            let request = Request::post("/drain").header("origin", origin);
            is_of_another_site(&request.header("host", host).body(()).unwrap())
        };
        for host in [
            "localhost",
            "localhost:9000",
            "127.0.0.1:9000",
            "[::1]:9000",
        ] {
            assert!(!is_of_another(&format!("http://{host}"), host), "{host}");
            assert!(is_of_another("http://elsewhere.test", host), "{host}");
        }
        for host in [
            "elsewhere.test",
            "127.0.0.1.elsewhere.test:9000",
            "[::1",
            "",
        ] {
            assert!(is_of_another(&format!("http://{host}"), host), "{host}");
        }
    }

    #[test]
    fn kept_inputs_of_fuzzers_pass() {
        super::replay::run("access", super::fuzz);
    }
}
