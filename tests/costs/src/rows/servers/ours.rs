use handover::{Graceful, accept::Accept};
use handover_hyper::{Serve, serve};
use tower::util::service_fn;

use super::{Server, app::answer};
use crate::memory_io::Protocol;

/// Handover's loop for one version of HTTP: as it is, and without extensions.
pub(super) fn ours(protocol: Protocol, [all, without]: [&'static str; 2]) -> [Server; 2] {
    [
        Server::new(protocol, all, move |listener| async move {
            let served = only(protocol, serve(listener, service_fn(answer)));
            drop(served.with_graceful(Graceful::new()).await);
        }),
        Server::new(protocol, without, move |listener| async move {
            let served = only(protocol, serve(listener, service_fn(answer)));
            let served = served.without_extensions();
            drop(served.with_graceful(Graceful::new()).await);
        }),
    ]
}

fn only<A: Accept, S>(protocol: Protocol, served: Serve<A, S>) -> Serve<A, S> {
    match protocol {
        Protocol::Http1 => served.http1_only(),
        Protocol::Http2 | Protocol::Grpc => served.http2_only(),
    }
}
