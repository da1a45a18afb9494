//! What `foreign` takes from its listener, below tonic's own server.

#[path = "../../hyper/tests/support/left.rs"]
mod left;

use std::time::Duration;

use handover::{Graceful, Reason};
use handover_tonic::{DrainLayer, foreign::Incoming};
use http::Request;
use tokio::time::timeout;
use tonic::{service::Routes, transport::Server};

use self::left::Left;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Fails if a drain is over, or takes nothing more, before the listener says that nothing is left.
#[tokio::test]
async fn what_is_left_of_a_socket_is_served_in_an_upgrade() {
    let (send, left) = Left::new();
    let graceful = Graceful::builder().announce(PATIENCE).build();
    let incoming = Incoming::new(left, &graceful);
    let signal = incoming.signal();
    let layer = DrainLayer::new(graceful.clone());
    let done = tokio::spawn(async move {
        let mut server = Server::builder().layer(layer);
        let server = server.add_routes(Routes::new(handover_tonic::health()));
        server.serve_with_incoming_shutdown(incoming, signal).await
    });
    tokio::task::yield_now().await;
    graceful.drain_for(Reason::Upgrade { successor: 1 });
    graceful.draining().await;
    for _ in 0..3 {
        let (client, server) = tokio::io::duplex(4096);
        send.send(server).unwrap();
        let (mut requests, connection) = h2::client::handshake(client).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = Request::post("http://x/grpc.health.v1.Health/Check")
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        let (answer, mut body) = requests
            .send_request(request.body(()).unwrap(), false)
            .unwrap();
        body.send_data(bytes::Bytes::from_static(&[0; 5]), true)
            .unwrap();
        let answer = timeout(PATIENCE, answer).await.expect("nobody takes it");
        assert_eq!(answer.unwrap().status(), 200);
        drop((requests, body));
        connection.abort();
    }
    assert!(graceful.report().is_none(), "more may be left");
    drop(send);
    let drained = timeout(PATIENCE * 2, graceful.drained()).await;
    assert!(drained.expect("the drain hangs").is_complete());
    done.await.unwrap().unwrap();
}
