//! How a request under way notices the cut.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response, Version};
use tokio::time::Instant;

use super::{Asked, announce_to, line::Line};
use crate::{
    Phase,
    guard::{Guard, Holder},
    holder::{Describe, Holding, Kind},
};

/// Sees a request through: what a [`ResponseFuture`](super::ResponseFuture) has until the head of
/// the answer is out, and its [`ResponseBody`](super::ResponseBody) from then on.
///
/// The request is in flight until it is dropped, or says otherwise at the end of the body.
///
/// # Examples
///
/// For a server that ends its requests itself at the cut, and announces nothing:
///
/// ```
/// use std::task::{Context, Poll};
///
/// use handover::{Guard, Graceful, layer::{Asked, InFlight, ResponseFuture}};
/// use http::{Request, Response};
///
/// struct Counted {
///     guard: Guard,
///     asked: Asked,
/// }
///
/// impl InFlight for Counted {
///     fn poll_cut(&mut self, _: &mut Context<'_>) -> Poll<()> {
///         Poll::Pending
///     }
///
///     fn asked(&self) -> Asked {
///         self.asked
///     }
///
///     fn answer<B>(&mut self, _: &mut Response<B>) {}
///
///     fn end(&mut self) {
///         println!("{} left", self.guard.phase());
///     }
/// }
///
/// let graceful = Graceful::new();
/// let guard = graceful.guard().expect("the drain is not over");
/// let asked = Asked::of(&Request::new(()));
/// let request = ResponseFuture::new(std::future::pending::<()>(), Counted { guard, asked });
/// assert_eq!(graceful.guards(), 1);
/// drop(request);
/// assert_eq!(graceful.guards(), 0);
/// ```
pub trait InFlight {
    /// Ready at the cut. Polled when somebody has to wait; it wakes the task, or sees to it that the
    /// task is polled.
    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// What the request has said of how it can be refused, which it is at the cut. If this is not
    /// implemented, it is taken for one of HTTP/1.1 that can be told an error.
    fn asked(&self) -> Asked {
        Asked::default()
    }

    /// Adds to the head of the answer what its client is to be told.
    fn answer<B>(&mut self, response: &mut Response<B>);

    /// The body has ended, and will be dropped.
    fn end(&mut self) {}
}

/// A request's guard, which becomes a listed holder the first time that somebody has to wait.
///
/// A request that is answered at once is never listed: it takes a guard and nothing else.
///
/// # Examples
///
/// ```
/// use handover::{Connection, Graceful, layer::{InFlight, Watch}};
/// use http::{Request, Response};
///
/// let graceful = Graceful::new();
/// let connection = Connection::new("10.0.0.3:51234".parse()?);
/// let guard = graceful.guard().expect("the drain is not over");
/// let request = Request::get("/export").body(())?;
/// let mut stream = Watch::of_stream(guard, &request, &connection);
///
/// // The head is out, and the body is to come: the drain waits for this to be dropped.
/// stream.answer(&mut Response::new(()));
/// graceful.drain();
/// assert!(graceful.report().is_none());
/// drop(stream);
/// assert!(graceful.report().is_some());
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub struct Watch {
    state: State,
    asked: Asked,
    #[cfg(feature = "accept")]
    connection: Option<Arc<crate::Connection>>,
}

#[derive(Debug)]
enum State {
    Counted(Guard, Line),
    Listed(Holder),
    /// It has ended.
    Over,
}

impl Watch {
    #[inline]
    pub(super) fn of<B>(guard: Guard, request: &Request<B>, asked: Asked) -> Self {
        Self {
            state: State::Counted(guard, Line::of(request)),
            asked,
            #[cfg(feature = "accept")]
            connection: None,
        }
    }

    /// For a serve loop whose request has a task of its own: a stream of HTTP/2. It is listed, with
    /// its connection's peer, once it is not answered at once.
    #[cfg(feature = "accept")]
    pub fn of_stream<B>(
        guard: Guard,
        request: &Request<B>,
        connection: &Arc<crate::Connection>,
    ) -> Self {
        Self {
            connection: Some(connection.clone()),
            ..Self::of(guard, request, Asked::of(request))
        }
    }

    // Where the drain stands, if it is for this watch to tell the client.
    fn phase(&self) -> Phase {
        match &self.state {
            State::Counted(guard, _) => guard.phase(),
            State::Listed(holder) => holder.phase(),
            State::Over => Phase::Running,
        }
    }
}

impl InFlight for Watch {
    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let State::Counted(guard, line) = &self.state {
            let listed = Arc::new(Listed {
                line: line.clone(),
                since: Instant::now(),
                #[cfg(feature = "accept")]
                connection: self.connection.take(),
            });
            self.state = State::Listed(Holder::new(guard.clone(), listed));
        }
        if let State::Listed(holder) = &mut self.state {
            while let Poll::Ready(phase) = holder.poll_phase(cx) {
                if phase >= Phase::Cutting {
                    return Poll::Ready(());
                }
            }
        }
        Poll::Pending
    }

    fn asked(&self) -> Asked {
        self.asked
    }

    fn answer<B>(&mut self, response: &mut Response<B>) {
        let version = self.asked.version();
        if version <= Version::HTTP_11 && self.phase() != Phase::Running {
            announce_to(response, version);
        }
    }

    fn end(&mut self) {
        self.state = State::Over;
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state.fmt(f)
    }
}

struct Listed {
    line: Line,
    since: Instant,
    #[cfg(feature = "accept")]
    connection: Option<Arc<crate::Connection>>,
}

impl Describe for Listed {
    fn describe(&self) -> Holding {
        let holding = Holding {
            what: Some(self.line.to_string()),
            ..Holding::new(Kind::Stream, self.since.elapsed())
        };
        #[cfg(feature = "accept")]
        if let Some(connection) = &self.connection {
            return Holding {
                peer: Some(connection.peer().to_string()),
                listener: connection.listener().map(str::to_owned),
                ..holding
            };
        }
        holding
    }
}

#[cfg(all(test, not(loom), feature = "accept"))]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::{Address, Connection, Graceful};

    #[tokio::test]
    async fn a_stream_is_listed_with_its_connection() {
        let graceful = Graceful::new();
        let connection = Connection::new(Address::Tcp(([127, 0, 0, 1], 4711).into()));
        connection.set_listener(&"web".into());
        let guard = graceful.guard().unwrap();
        let request = Request::get("/slow").body(()).unwrap();
        let mut watch = Watch::of_stream(guard, &request, &connection);
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(watch.poll_cut(cx).is_pending());
        let holding = graceful.holders().remove(0);
        assert_eq!(holding.what.as_deref(), Some("GET /slow"));
        assert_eq!(holding.peer.as_deref(), Some("127.0.0.1:4711"));
        assert_eq!(holding.listener.as_deref(), Some("web"));
    }
}
