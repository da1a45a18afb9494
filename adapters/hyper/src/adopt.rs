//! Connections that speak a protocol of the application's, and that a predecessor gives.

use std::{future::Future, pin::Pin, sync::Arc};

use handover::{
    Graceful, Stays,
    accept::{Arrival, Movable, Mover, Protocol},
};

use crate::accepting::{Accepted, Came};

/// What serves one.
pub(crate) type Handler<Io> =
    Arc<dyn Fn(Movable<Io>) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// Who serves which.
pub(crate) struct Handlers<Io>(Vec<(Protocol, Handler<Io>)>);

impl<Io> Default for Handlers<Io> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<Io: Send + 'static> Handlers<Io> {
    pub(crate) fn add<H, F>(&mut self, protocol: Protocol, handler: H)
    where
        H: Fn(Movable<Io>) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let handler = Arc::new(move |movable| -> Pin<Box<dyn Future<Output = ()> + Send>> {
            Box::pin(handler(movable))
        });
        self.0.push((protocol, handler));
    }

    /// All that this serve loop adopts.
    pub(crate) fn protocols(&self) -> Vec<Protocol> {
        let own = self.0.iter().map(|(protocol, _)| *protocol);
        [Protocol::HTTP].into_iter().chain(own).collect()
    }

    /// What serves this arrival, if it is not HTTP.
    fn of(&self, arrival: &Arrival<Io>) -> Option<(Protocol, Handler<Io>)> {
        let came = arrival.protocol();
        let found = self
            .0
            .iter()
            .find(|(protocol, _)| protocol.adopts(came.name(), came.version()));
        found.cloned()
    }

    /// Takes out what is for a handler, and serves it in a task; returns anything else.
    pub(crate) fn dispatch(
        &self,
        accepted: Accepted<Io>,
        graceful: &Graceful,
        mover: &Result<Arc<dyn Mover<Io>>, Stays>,
    ) -> Option<Accepted<Io>> {
        let Came::Given(arrival) = &accepted.came else {
            return Some(accepted);
        };
        let Some((protocol, handler)) = self.of(arrival) else {
            return Some(accepted);
        };
        let Accepted {
            came,
            connection,
            holder,
            ..
        } = accepted;
        let Came::Given(arrival) = came else {
            return None;
        };
        connection.upgrade(protocol);
        let (graceful, mover) = (graceful.clone(), mover.clone().ok());
        tokio::spawn(async move {
            let movable = Movable::claim(arrival, protocol, &graceful, holder, mover).await;
            handler(movable).await;
        });
        None
    }
}
