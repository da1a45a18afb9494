//! How the connections of a listener go to the successor.

use super::Stream;
use crate::{
    Stays,
    accept::{Connection, Departures, Giving, Mover, Parcel, Protocol},
    moving::outbound::{Given, Route},
    upgrade::frame::Moved,
};

/// Gives connections of one listener to the successor's listener of the same name.
pub(super) struct ToSuccessor {
    listener: String,
    route: Route,
}

impl ToSuccessor {
    pub(super) fn new(listener: String, route: Route) -> Self {
        Self { listener, route }
    }
}

impl Mover<Stream> for ToSuccessor {
    fn is_open(&self) -> bool {
        self.route.is_open()
    }

    fn departures(&self) -> Departures {
        self.route.departures()
    }

    fn give(&self, parcel: Parcel<Stream>) -> Giving<Stream> {
        let route = self.route.clone();
        let listener = self.listener.clone();
        Box::pin(async move {
            let Parcel {
                io,
                unread,
                connection,
                protocol,
                state,
                departure,
                ..
            } = parcel;
            // Out of epoll before it is sent: a descriptor that is shared keeps firing otherwise.
            let given = match io.into_fd() {
                Ok(fd) => Given {
                    fd,
                    unread,
                    state,
                    record: record_of(listener, &connection, protocol),
                    departure,
                },
                Err(err) => {
                    // tokio has closed it, so there is nothing to give back.
                    route.graceful().count_stayed(Stays::Failed);
                    tracing::warn!(peer = %connection.peer(), %err, "a connection was lost");
                    return Ok(());
                }
            };
            let Err((back, why)) = route.give(given).await else {
                return Ok(());
            };
            match Stream::from_fd(back.fd, connection.socket_peer()) {
                Ok(io) => {
                    let parcel = Parcel::new(io, back.unread, connection).staying(why);
                    Err(parcel.speaking(protocol, back.state))
                }
                Err(err) => {
                    route.graceful().count_stayed(Stays::Failed);
                    tracing::warn!(peer = %connection.peer(), %err, "a connection was lost");
                    Ok(())
                }
            }
        })
    }
}

fn record_of(listener: String, connection: &Connection, protocol: Protocol) -> Moved {
    Moved {
        // Chosen when it is sent.
        id: 0,
        listener,
        peer: connection.peer().to_string(),
        unread: 0,
        age_ms: u64::try_from(connection.since().elapsed().as_millis()).unwrap_or(u64::MAX),
        requests: connection.requests(),
        protocol: protocol.name().to_owned(),
        version: protocol.version(),
        state: 0,
        proxied: connection.proxied().cloned().map(Box::new),
        trace: connection.trace_context().map(str::to_owned),
    }
}
