//! What a request costs: warp and actix-web on their own loops, and here; and here with an admin
//! listener that nobody asks.
//!
//! Instructions, counted by valgrind's callgrind, of all threads of a process: it serves its own
//! client, which writes and reads on a kept-alive connection over the loop-back interface and does
//! next to nothing else. Each server runs twice, with so many requests and with twice as many, so
//! that starting is not in the figure. It repeats to within a hundredth on a busy machine; what the
//! kernel does is not counted.
//!
//! ```text
//! cargo bench -p handover-tests --bench frameworks
//! cargo bench -p handover-tests --bench frameworks -- handover-axum
//! ```
//!
//! Words behind `--` choose rows that have one of them in their names.

use std::{
    env, fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Command, Stdio, exit},
    thread,
};

use actix_web::{App, HttpServer, web};
use anyhow::{Context as _, ensure};
use handover::Generation;
use handover_actix_web::foreign;
use tokio::sync::oneshot;
use warp::Filter;

const REQUESTS: usize = 2000;
const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nhost: localhost\r\nuser-agent: frameworks\r\naccept: */*\r\n\r\n";
/// The last argument but two of a process that is counted.
const COUNTED: &str = "--counted";

/// A server, and the one that it is compared with.
struct Row {
    name: &'static str,
    beside: &'static str,
    serve: fn(Bound) -> anyhow::Result<()>,
}

const ROWS: [Row; 7] = [
    Row {
        name: "warp",
        beside: "warp",
        serve: warp_alone,
    },
    Row {
        name: "handover-warp",
        beside: "warp",
        serve: warp_here,
    },
    Row {
        name: "actix-web",
        beside: "actix-web",
        serve: actix_alone,
    },
    Row {
        name: "handover-actix-web",
        beside: "actix-web",
        serve: actix_here,
    },
    Row {
        name: "handover-actix-web, foreign",
        beside: "actix-web",
        serve: actix_foreign,
    },
    Row {
        name: "handover-axum",
        beside: "handover-axum",
        serve: axum_here,
    },
    Row {
        name: "handover-axum, observed",
        beside: "handover-axum",
        serve: axum_observed,
    },
];

/// Tells where a server listens.
type Bound = oneshot::Sender<SocketAddr>;

fn main() -> anyhow::Result<()> {
    let args: Vec<_> = env::args().collect();
    if let [.., counted, row, requests] = &args[..]
        && counted == COUNTED
    {
        let row = ROWS.iter().find(|one| one.name == row);
        let row = row.context("no such row")?;
        run(row, requests.parse()?)?;
        exit(0);
    }
    let mut valgrind = Command::new("valgrind");
    let there = valgrind.arg("--version").stdout(Stdio::null()).status();
    ensure!(there.is_ok_and(|status| status.success()), "no valgrind");
    println!("{:<30} {:>12} {:>8}", "", "instructions", "ratio");
    let mut costs: Vec<(&str, f64)> = Vec::new();
    let words = &args[1..];
    let words: Vec<_> = words
        .iter()
        .filter(|word| !word.starts_with("--"))
        .collect();
    let is_asked_for =
        |row: &&Row| words.is_empty() || words.iter().any(|word| row.name.contains(word.as_str()));
    for row in ROWS.iter().filter(is_asked_for) {
        let all = count(row, 2 * REQUESTS)? - count(row, REQUESTS)?;
        let each = all / REQUESTS as f64;
        costs.push((row.name, each));
        let beside = costs.iter().find(|(name, _)| *name == row.beside);
        let ratio = each / beside.context("a row of its own first")?.1;
        println!("{:<30} {each:>12.0} {ratio:>8.3}", row.name);
    }
    Ok(())
}

/// All instructions of a process that serves so many requests.
fn count(row: &Row, requests: usize) -> anyhow::Result<f64> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("counts");
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(env::current_exe()?)
        .args([COUNTED, row.name, &requests.to_string()])
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} failed: {said}", row.name);
    let text = fs::read_to_string(file)?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    Ok(total
        .context("no total in what valgrind wrote")?
        .trim()
        .parse()?)
}

fn run(row: &Row, requests: usize) -> anyhow::Result<()> {
    let (bound, address) = oneshot::channel();
    let serve = row.serve;
    let server = thread::spawn(move || serve(bound));
    let Ok(address) = address.blocking_recv() else {
        return match server.join() {
            Ok(ended) => ended.context("the server has ended"),
            Err(_) => anyhow::bail!("the server has panicked"),
        };
    };
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut buffer = [0; 1024];
    for _ in 0..requests {
        stream.write_all(REQUEST)?;
        let mut read = 0;
        while !buffer[..read].ends_with(b"hello") {
            let more = stream.read(&mut buffer[read..])?;
            ensure!(more > 0, "the connection has ended");
            read += more;
        }
    }
    Ok(())
}

fn listen() -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

fn block_on(server: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(server)
}

fn filter() -> impl Filter<Extract = (&'static str,), Error = warp::Rejection> + Clone {
    warp::path::end().map(|| "hello")
}

fn warp_alone(bound: Bound) -> anyhow::Result<()> {
    block_on(async {
        let (listener, address) = listen()?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let _ = bound.send(address);
        let server = warp::serve(filter()).incoming(listener);
        server.graceful(std::future::pending()).run().await;
        Ok(())
    })
}

fn warp_here(bound: Bound) -> anyhow::Result<()> {
    block_on(async {
        let (listener, address) = listen()?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let _ = bound.send(address);
        handover_warp::serve(filter()).incoming(listener).await?;
        Ok(())
    })
}

async fn hello() -> &'static str {
    "hello"
}

fn actix_alone(bound: Bound) -> anyhow::Result<()> {
    block_on(async {
        let (listener, address) = listen()?;
        let server = HttpServer::new(|| App::new().route("/", web::get().to(hello)))
            .workers(1)
            .disable_signals()
            .listen(listener)?;
        let _ = bound.send(address);
        Ok(server.run().await?)
    })
}

fn actix_here(bound: Bound) -> anyhow::Result<()> {
    block_on(async {
        let (listener, address) = listen()?;
        let app = || App::new().route("/", web::get().to(hello));
        let server = handover_actix_web::serve(app)
            .workers(1)
            .listen(tokio::net::TcpListener::from_std(listener)?)
            .start()
            .await?;
        let _ = bound.send(address);
        server.await?;
        Ok(())
    })
}

fn actix_foreign(bound: Bound) -> anyhow::Result<()> {
    block_on(async {
        let generation = Generation::start()?;
        let listener = generation.listen("127.0.0.1:0").await?;
        let address = listener.local_addr()?.as_socket_addr();
        let server = foreign::serve(|| App::new().route("/", web::get().to(hello)))
            .workers(1)
            .listen(listener)
            .with_graceful(generation.graceful())
            .start()
            .await?;
        generation.ready().await?;
        let _ = bound.send(address.context("a TCP listener")?);
        server.await?;
        Ok(())
    })
}

fn axum_here(bound: Bound) -> anyhow::Result<()> {
    block_on(async {
        let generation = Generation::start()?;
        serve_axum(&generation, bound).await
    })
}

fn axum_observed(bound: Bound) -> anyhow::Result<()> {
    block_on(async {
        let generation = Generation::start()?;
        let admin = generation.listen("admin=127.0.0.1:0").await?;
        tokio::spawn(handover_admin::serve(admin, &generation).into_future());
        serve_axum(&generation, bound).await
    })
}

async fn serve_axum(generation: &Generation, bound: Bound) -> anyhow::Result<()> {
    let listener = generation.listen("127.0.0.1:0").await?;
    let address = listener.local_addr()?.as_socket_addr();
    let app = axum::Router::new().route("/", axum::routing::get(hello));
    let server = handover_axum::serve(listener, app).with_graceful(generation.graceful());
    generation.ready().await?;
    let _ = bound.send(address.context("a TCP listener")?);
    server.await?;
    Ok(())
}
