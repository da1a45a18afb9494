//! The same server, replaced at HUP by ecdysis.

use std::{
    fs,
    future::{pending, poll_fn},
    io,
    net::{SocketAddr, TcpListener},
    path::Path,
    pin::Pin,
};

use anyhow::{Context as _, anyhow};
use ecdysis::tokio_ecdysis::{SignalKind, StopOnShutdown, TokioEcdysisBuilder};
use futures_core::Stream;
use handover_costs::upgraded::{self, Args};
use handover_tests::reference::{Info, router};
use tokio::{net::TcpStream, sync::watch, task::JoinSet};

fn main() -> anyhow::Result<()> {
    upgraded::main(serve)
}

#[tokio::main]
async fn serve(args: Args) -> anyhow::Result<()> {
    let mut ecdysis = TokioEcdysisBuilder::new(SignalKind::hangup())?;
    ecdysis.stop_on_signal(SignalKind::terminate())?;
    let (generation, left) = match ecdysis.is_child() {
        true => read(&args.state)?,
        false => (0, Vec::new()),
    };
    let info = Info::new(generation);
    let (tell, told) = watch::channel(());
    let app = router(info);
    let mut servers = JoinSet::new();
    let mut addresses = Vec::with_capacity(args.sockets);
    for nth in 0..args.sockets {
        // It knows its sockets by their addresses, so that port 0 is bound before it is asked.
        let (address, new) = match left.get(nth) {
            Some(address) => (*address, None),
            None => {
                let new = TcpListener::bind("127.0.0.1:0")?;
                (new.local_addr()?, Some(new))
            }
        };
        let stream = ecdysis.build_listen_tcp(StopOnShutdown::Yes, address, |_, _| {
            new.ok_or_else(|| io::Error::other("not inherited"))
        })?;
        addresses.push(address);
        let incoming = Incoming {
            stream: Box::pin(stream),
            address,
        };
        let mut told = told.clone();
        let server = axum::serve(incoming, app.clone());
        let server = server.with_graceful_shutdown(async move { drop(told.changed().await) });
        servers.spawn(server.into_future());
    }
    write(&args.state, generation + 1, &addresses)?;
    let first = *addresses.first().context("no socket")?;
    let (_ecdysis, ended) = ecdysis.ready()?;
    args.say_ready(info, first)?;
    ended.await.map_err(|error| anyhow!(error))?;
    drop(tell);
    while let Some(served) = servers.join_next().await {
        served??;
    }
    Ok(())
}

/// The number of the next generation, and where it listens.
fn read(state: &Path) -> anyhow::Result<(u64, Vec<SocketAddr>)> {
    let text = fs::read_to_string(state)?;
    let mut lines = text.lines();
    let number = lines.next().context("no number")?.parse()?;
    let addresses = lines.map(str::parse).collect::<Result<_, _>>()?;
    Ok((number, addresses))
}

fn write(state: &Path, number: u64, addresses: &[SocketAddr]) -> io::Result<()> {
    let addresses: String = addresses.iter().map(|addr| format!("{addr}\n")).collect();
    fs::write(state, format!("{number}\n{addresses}"))
}

/// What axum takes connections from. It ends with the server's graceful shutdown.
struct Incoming<S> {
    stream: Pin<Box<S>>,
    address: SocketAddr,
}

impl<S> axum::serve::Listener for Incoming<S>
where
    S: Stream<Item = io::Result<TcpStream>> + Send + 'static,
{
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match poll_fn(|cx| self.stream.as_mut().poll_next(cx)).await {
                Some(Ok(stream)) => {
                    let Ok(peer) = stream.peer_addr() else {
                        continue;
                    };
                    return (stream, peer);
                }
                Some(Err(_)) => {}
                None => pending().await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}
