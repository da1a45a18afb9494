//! Who may press a button.

use std::{fmt, sync::Arc};

use handover::Connection;
use http::{HeaderMap, Request, header};
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
            None if came_by_unix_socket(request) => Ok(()),
            None => Err(Denied::Closed),
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

/// Whose file's permissions say who may connect, and to which no page of another site can.
fn came_by_unix_socket<B>(request: &Request<B>) -> bool {
    let connection = request.extensions().get::<Arc<Connection>>();
    connection.is_some_and(|connection| connection.peer().as_socket_addr().is_none())
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("by_token", &self.token.is_some())
            .finish()
    }
}
