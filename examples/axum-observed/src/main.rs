//! A service that says how it is, on a listener of its own.
//!
//! ```text
//! cargo run -p axum-observed -- 127.0.0.1:3000 127.0.0.1:9000
//! curl http://127.0.0.1:9000/readyz
//! ```

use std::{env, error::Error};

use axum::{Router, routing::get};
use handover::{Generation, Graceful, Policy};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let mut args = env::args().skip(1);
    let address = args.next().unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let admin = args.next().unwrap_or_else(|| "127.0.0.1:9000".to_owned());

    // ANCHOR: release
    // By the version of its Cargo.toml; a commit or the tag of an image will do as well.
    let builder = Generation::builder().release(env!("CARGO_PKG_VERSION"));
    // ANCHOR_END: release

    // ANCHOR: policy
    // It serves on for five seconds after `/readyz` has turned, which routers need to notice.
    let graceful = Graceful::with_policy(Policy::kubernetes());
    let generation = builder.graceful(graceful).start()?;
    // ANCHOR_END: policy

    // ANCHOR: admin
    let listener = generation.listen(format!("admin={admin}")).await?;
    tracing::info!(addr = %listener.local_addr()?, "observed");
    tokio::spawn(handover_admin::serve(listener, &generation).into_future());
    // ANCHOR_END: admin

    // ANCHOR: health
    // For who has but one port: the same probes among the routes.
    let app = Router::new()
        .route("/", get(async || "hello\n"))
        .merge(handover_axum::health(&generation.health()));
    // ANCHOR_END: health

    let listener = generation.listen(address).await?;
    tracing::info!(addr = %listener.local_addr()?, "listening");
    let server = handover_axum::serve(listener, app).with_graceful(generation.graceful());
    generation.ready().await?;
    server.await?;
    generation.finished().await;
    Ok(())
}
