//! How a request under way notices the cut.

use std::{
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
    Counted(Guard, Option<(Method, Uri)>),
    Listed(Holder),
    /// Somebody else counts this request.
    Elsewhere,
    /// The request has ended.
    Over,
}

impl Watch {
    /// Ready at the cut.
    pub(super) fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Self::Counted(guard, line) = self {
            let request = Request {
                line: line.take(),
                since: Instant::now(),
            };
            *self = Self::Listed(Holder::new(guard.clone(), Arc::new(request)));
        }
        if let Self::Listed(holder) = self {
            while let Poll::Ready(phase) = holder.poll_phase(cx) {
                if phase >= Phase::Cutting {
                    return Poll::Ready(());
                }
            }
        }
        Poll::Pending
    }

    /// Where the drain stands, if it is for this watch to tell the client.
    pub(super) fn phase(&self) -> Phase {
        match self {
            Self::Counted(guard, _) => guard.phase(),
            Self::Listed(holder) => holder.phase(),
            Self::Elsewhere | Self::Over => Phase::Running,
        }
    }
}

struct Request {
    line: Option<(Method, Uri)>,
    since: Instant,
}

impl Describe for Request {
    fn describe(&self) -> Holding {
        let line = self.line.as_ref();
        Holding {
            kind: Kind::Request,
            what: line.map(|(method, uri)| format!("{method} {}", uri.path())),
            peer: None,
            age: self.since.elapsed(),
        }
    }
}
