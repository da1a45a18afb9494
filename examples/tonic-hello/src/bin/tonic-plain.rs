//! The smallest gRPC service, without Handover: what there is to change. See `tonic-first.rs`.
//!
//! ```text
//! cargo run -p tonic-hello --bin tonic-plain -- 127.0.0.1:50051
//! ```

// ANCHOR: all
use tonic::{Request, Response, Status, transport::Server};
use tonic_hello::{
    Who, Words,
    greeter_server::{Greeter, GreeterServer},
};

struct Polite;

#[tonic::async_trait]
impl Greeter for Polite {
    async fn say(&self, request: Request<Who>) -> Result<Response<Words>, Status> {
        let text = format!("hello, {}", request.into_inner().name);
        Ok(Response::new(Words { text }))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:50051");

    let greeter = GreeterServer::new(Polite);
    Server::builder()
        .add_service(greeter)
        .serve(address.parse()?)
        .await?;
    Ok(())
}
// ANCHOR_END: all
