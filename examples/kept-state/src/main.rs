//! What a generation knows goes to the next one.
//!
//! ```text
//! cargo run -p kept-state -- 127.0.0.1:3000 kept-state.log
//! curl http://127.0.0.1:3000/count/tea
//! ```

use std::{env, error::Error};

use handover::Generation;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let mut args = env::args().skip(1);
    let address = args.next().unwrap_or("127.0.0.1:3000".into());
    let log = args.next().unwrap_or("kept-state.log".into());
    // ANCHOR: main
    kept_state::program(Generation::builder(), address, log.into()).await
    // ANCHOR_END: main
}
