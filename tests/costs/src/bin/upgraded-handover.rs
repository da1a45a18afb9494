//! A server that is replaced at HUP, by Handover.

use std::time::Duration;

use anyhow::Context as _;
use handover::Generation;
use handover_costs::upgraded::{self, Args};
use handover_tests::reference::{Info, router};
use tokio::task::JoinSet;

fn main() -> anyhow::Result<()> {
    upgraded::main(serve)
}

#[tokio::main]
async fn serve(args: Args) -> anyhow::Result<()> {
    let mut builder = Generation::builder();
    if args.at_once {
        builder = builder.probation(Duration::ZERO);
    }
    let generation = builder.start()?;
    let info = Info::new(generation.number());
    let mut first = None;
    let app = router(info);
    let mut servers = JoinSet::new();
    for nth in 0..args.sockets {
        let listener = generation.listen(format!("{nth}=127.0.0.1:0")).await?;
        if first.is_none() {
            first = listener.local_addr()?.as_socket_addr();
        }
        let server = handover_axum::serve(listener, app.clone());
        servers.spawn(server.with_graceful(generation.graceful()).into_future());
    }
    generation.ready().await?;
    args.say_ready(info, first.context("no socket")?)?;
    while let Some(served) = servers.join_next().await {
        served??;
    }
    generation.finished().await;
    Ok(())
}
