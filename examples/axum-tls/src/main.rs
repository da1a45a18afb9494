//! An axum service over TLS: certificates that are renewed, sessions that outlive an upgrade.
//!
//! ```text
//! cargo run -p axum-tls -- 127.0.0.1:8443 cert.pem key.pem
//! curl --cacert ca.pem https://localhost:8443/
//! ```

use std::{env, error::Error, sync::Arc};

use axum::{Extension, Router, routing::get};
use handover::{Connection, Generation};
use handover_tls::{TicketKeys, Tls, TlsInfo};
use tokio::signal::unix::SignalKind;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let [address, certificate, key] = env::args()
        .skip(1)
        .collect::<Vec<_>>()
        .try_into()
        .map_err(|_| "usage: axum-tls ADDRESS CERTIFICATE KEY")?;

    // ANCHOR: tls
    let generation = Generation::start()?;
    let tls = Tls::builder(certificate, key)
        // The predecessor's, so that clients resume their sessions.
        .tickets(TicketKeys::of(&generation)?)
        .load()?;
    // ANCHOR_END: tls
    // ANCHOR: reload
    // An upgrade reads the files as well; this is for a new certificate alone.
    tls.reload_on(SignalKind::user_defined1())?;
    // ANCHOR_END: reload

    // ANCHOR: serve
    let listener = generation.listen(address).await?;
    let addr = listener.local_addr()?;
    let app = Router::new().route("/", get(hello));
    let server =
        handover_axum::serve(tls.accept(listener), app).with_graceful(generation.graceful());
    tracing::info!(%addr, generation = generation.number(), "listening");
    generation.ready().await?;
    server.await?;
    // ANCHOR_END: serve
    Ok(())
}

// ANCHOR: info
/// Says how it was asked.
async fn hello(Extension(connection): Extension<Arc<Connection>>) -> String {
    let Some(tls) = TlsInfo::of(&connection) else {
        return "hello, in the clear\n".to_owned();
    };
    let how = if tls.is_resumed() {
        "again"
    } else {
        "for the first time"
    };
    format!("hello {how}, over {:?}\n", tls.version())
}
// ANCHOR_END: info
