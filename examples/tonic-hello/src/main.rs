//! A gRPC service that stops and restarts without a client noticing.
//!
//! ```text
//! cargo run -p tonic-hello -- 127.0.0.1:50051
//! ```

use std::{pin::Pin, time::Duration};

use futures_util::{Stream, StreamExt, stream};
use handover_tonic::{EndOnDrain, graceful, health};
use tonic::{Request, Response, Status, service::Routes};
use tonic_hello::{
    Who, Words,
    hello_server::{Hello, HelloServer},
};

struct Greeter;

#[tonic::async_trait]
impl Hello for Greeter {
    async fn say(&self, request: Request<Who>) -> Result<Response<Words>, Status> {
        Ok(Response::new(greet(&request.into_inner().name)))
    }

    type RepeatStream = Pin<Box<dyn Stream<Item = Result<Words, Status>> + Send>>;

    // ANCHOR: stream
    async fn repeat(&self, request: Request<Who>) -> Result<Response<Self::RepeatStream>, Status> {
        let graceful = graceful(&request);
        let name = request.into_inner().name;
        let words = stream::unfold(name, async |name| {
            let words = Ok(greet(&name));
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some((words, name))
        });
        // Without this the stream would go on until the deadline.
        let words = EndOnDrain::new(words, &graceful);
        Ok(Response::new(words.boxed()))
    }
    // ANCHOR_END: stream
}

fn greet(name: &str) -> Words {
    let text = format!("hello, {name}");
    Words { text }
}

// ANCHOR: main
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:50051");

    let routes = Routes::new(HelloServer::new(Greeter)).add_service(health());
    handover_tonic::run(address, routes).await?;
    Ok(())
}
// ANCHOR_END: main
