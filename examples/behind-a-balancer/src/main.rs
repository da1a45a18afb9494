//! Behind a load balancer that speaks the PROXY protocol: who the client is, and by way of whom.
//!
//! ```text
//! cargo run -p behind-a-balancer -- 127.0.0.1:3000 127.0.0.0/8
//! ```

use std::{env, error::Error, net::SocketAddr, sync::Arc};

use axum::{Extension, Router, extract::ConnectInfo, routing::get};
use handover::{
    Connection, Generation,
    accept::{Network, Proxied, ProxyProtocol},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let mut args = env::args().skip(1);
    let address = args.next().unwrap_or("127.0.0.1:3000".into());
    let balancers: Network = args.next().unwrap_or("127.0.0.0/8".into()).parse()?;

    // ANCHOR: listen
    let generation = Generation::start()?;
    let listener = generation.listen(address).await?;
    let local = listener.local_addr()?;
    let listener = ProxyProtocol::new(listener, &generation.graceful()).trusting([balancers]);
    let app = Router::new().route("/", get(hello));
    let server = handover_axum::serve(listener, app).with_graceful(generation.graceful());
    // ANCHOR_END: listen
    generation.ready().await?;
    tracing::info!(%local, "ready");
    server.await?;
    Ok(())
}

// ANCHOR: hello
async fn hello(
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    Extension(connection): Extension<Arc<Connection>>,
) -> String {
    let balancer = connection.socket_peer();
    let said = connection.proxied();
    let host = said.and_then(Proxied::authority).unwrap_or("no host");
    format!("{client} asked {balancer} for {host}\n")
}
// ANCHOR_END: hello
