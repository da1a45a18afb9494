//! What a program has of its generation, in this process: no upgrade starts another one here but
//! to fail.

#![cfg(unix)]

mod errors;
mod sockets;
mod standing;

use handover::{Generation, GenerationBuilder};

/// Leaves the signals to the test harness.
fn builder() -> GenerationBuilder {
    Generation::builder().no_signals()
}

/// Of a generation that is ready.
async fn ready(builder: GenerationBuilder) -> Generation {
    let generation = builder.start().unwrap();
    generation.ready().await.unwrap();
    generation
}
