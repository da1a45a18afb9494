//! A client of the example that goes on over restarts: it says hello ten times a second.
//!
//! ```text
//! cargo run -p tonic-hello --bin tonic-hello-client -- 127.0.0.1:50051
//! ```

// ANCHOR: client
use std::time::Duration;

use handover_tonic::client::RetryLayer;
use tonic::transport::Endpoint;
use tonic_hello::{Who, hello_client::HelloClient};
use tower_layer::Layer;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:50051");

    let channel = Endpoint::new(format!("http://{address}"))?
        .connect()
        .await?;
    let mut client = HelloClient::new(RetryLayer::new().layer(channel));
    loop {
        let name = "you".to_owned();
        let words = client.say(Who { name }).await?.into_inner();
        println!("{}", words.text);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
// ANCHOR_END: client
