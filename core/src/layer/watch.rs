//! How a request under way notices the cut.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Method, Uri};
use tokio::time::Instant;

use crate::{
    Phase,
    guard::{Guard, Holder},
    holder::{Describe, Holding, Kind},
};

/// A request's guard, which becomes a listed holder the first time that somebody has to wait.
///
/// A request that is answered at once is never listed: it takes a guard and nothing else.
#[derive(Debug)]
pub(super) enum Watch {
    Counted(Guard, Option<Request>),
    Listed(Holder),
    /// Its connection lists it, and polls it at the cut.
    OfConnection(Guard),
    /// Somebody else counts this request.
    Elsewhere,
    /// The request has ended.
    Over,
}

impl Watch {
    /// Ready at the cut.
    pub(super) fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Self::Counted(guard, request) = self {
            let listed = Listed {
                request: request.take(),
                since: Instant::now(),
            };
            *self = Self::Listed(Holder::new(guard.clone(), Arc::new(listed)));
        }
        match self {
            Self::Listed(holder) => {
                while let Poll::Ready(phase) = holder.poll_phase(cx) {
                    if phase >= Phase::Cutting {
                        return Poll::Ready(());
                    }
                }
            }
            Self::OfConnection(guard) if guard.phase() >= Phase::Cutting => {
                return Poll::Ready(());
            }
            _ => {}
        }
        Poll::Pending
    }

    /// Where the drain stands, if it is for this watch to tell the client.
    pub(super) fn phase(&self) -> Phase {
        match self {
            Self::Counted(guard, _) | Self::OfConnection(guard) => guard.phase(),
            Self::Listed(holder) => holder.phase(),
            Self::Elsewhere | Self::Over => Phase::Running,
        }
    }
}

/// What is known of a request that is not answered at once.
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) uri: Uri,
    #[cfg(feature = "accept")]
    pub(super) connection: Option<Arc<crate::Connection>>,
}

impl Request {
    pub(super) fn new(method: Method, uri: Uri) -> Self {
        Self {
            method,
            uri,
            #[cfg(feature = "accept")]
            connection: None,
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.uri.path())
    }
}

struct Listed {
    request: Option<Request>,
    since: Instant,
}

impl Describe for Listed {
    fn describe(&self) -> Holding {
        let request = self.request.as_ref();
        let holding = Holding {
            what: request.map(|request| format!("{request:?}")),
            ..Holding::new(Kind::Stream, self.since.elapsed())
        };
        #[cfg(feature = "accept")]
        if let Some(connection) = request.and_then(|request| request.connection.as_ref()) {
            return Holding {
                peer: Some(connection.peer().to_string()),
                listener: connection.listener().map(str::to_owned),
                ..holding
            };
        }
        holding
    }
}
