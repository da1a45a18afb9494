//! Upgrades of a server whose queue of new connections is full and short, in a flood of half-open ones.
#![cfg(target_os = "linux")]

use std::{fs, net::SocketAddr, panic::resume_unwind, thread, time::Duration};

use handover_tests::{
    harness::{Exit, Program, Signal, eventually},
    load::{Clients, Config, Storm},
    network::{DelayLine, SynFlood},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime,
    task::JoinSet,
    time::timeout,
};

const EACH_WAY: Duration = Duration::from_millis(2);
const BOUND: Duration = Duration::from_secs(40);
const UPGRADES: u64 = 3;
/// How many connections the kernel queues, of each kind.
const QUEUE: usize = 8;
/// How many clients connect at once.
const BURST: usize = 4 * QUEUE;

/// Fails if one request of a client that was connected, waited in the queue, or found it full is lost;
/// or if nobody new gets through afterwards.
#[test]
#[ignore = "needs root, ip and /dev/net/tun; run by tests/all"]
fn upgrades_across_a_delay_line_with_a_full_queue_in_a_flood_lose_nothing() {
    // A thread of its own, since it does not come back to where it was.
    thread::spawn(|| {
        let line = DelayLine::lay(EACH_WAY).unwrap();
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(drive(&line));
    })
    .join()
    .unwrap_or_else(|panic| resume_unwind(panic));
}

async fn drive(line: &DelayLine) {
    line.server().enter().unwrap();
    // Of this namespace: it bounds what a listener asks for, and the half-open ones as well.
    fs::write("/proc/sys/net/core/somaxconn", QUEUE.to_string()).unwrap();
    let listen = format!("{}:0", line.server().address());
    let program = Program::new(env!("CARGO_BIN_EXE_ref-axum"));
    let server = program.args(["--listen", &listen]).start().await.unwrap();
    let address = server.newest().tcp().unwrap();

    line.client().enter().unwrap();
    let flood = SynFlood::start(address).unwrap();
    let mut config = Config::new(address);
    config.clients = Clients::persistent(16);
    // They send a request in pieces. Of a connection that was made by a SYN cookie, and whose first piece
    // found the queue full, the kernel takes the second for forged, and resets it; upgrade or not.
    (config.clients.dribble, config.clients.upload) = (0, 0);
    config.keepalive_pause = Duration::from_millis(20);
    // A client that finds the queue full asks again after one second, two, four.
    config.timeout = BOUND;
    let storm = Storm::start(config);
    let mut replaced = Vec::new();
    for generation in 1..=UPGRADES {
        let old = server.newest().process;
        let pid = old.pid();
        let mark = storm.mark(generation);
        old.signal(Signal::STOP).unwrap();
        let before = counted(pid, &["ListenOverflows"]);
        let mut waiting = burst(address);
        eventually("the queue to be full", BOUND, async || {
            (counted(pid, &["ListenOverflows"]) > before).then_some(())
        })
        .await
        .unwrap();
        old.signal(Signal::HUP).unwrap();
        old.signal(Signal::CONT).unwrap();
        let ready = server.ready(generation, BOUND);
        // Those that come during the upgrade find it full as well.
        let mut during = burst(address);
        ready.await.unwrap();
        for clients in [&mut waiting, &mut during] {
            while let Some(answered) = clients.join_next().await {
                answered.unwrap();
            }
        }
        replaced.push((mark, old));
    }
    for (mark, old) in replaced {
        let exit = old.exit(BOUND).await.unwrap();
        // One that goes before its predecessor is that one's to wait for.
        let clean = matches!(exit, Exit::Status(0) | Exit::Unknown);
        assert!(clean, "process {}: {exit}", old.pid());
        storm.gone(mark);
    }
    let report = storm.stop().await;
    eprintln!("{report}");
    assert_eq!(report.lost(), 0, "{report}");
    ask(address).await;
    let felt = ["TCPReqQFullDoCookies", "TCPReqQFullDrop"];
    let felt = counted(server.newest().pid(), &felt);
    assert!(felt > 0, "the flood has not filled the queue");
    eprintln!("{felt} SYNs found the queue of half-open connections full");
    drop(flood);
    assert!(server.terminate(BOUND).await.unwrap().is_success());
}

/// Connects many times at once, and asks.
fn burst(address: SocketAddr) -> JoinSet<()> {
    (0..BURST).map(|_| ask(address)).collect()
}

async fn ask(address: SocketAddr) {
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = "GET / HTTP/1.1\r\nhost: queue\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = timeout(BOUND, asked).await.expect("an answer in time");
    let answer = answer.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
}

/// What the kernel has counted of TCP where this process is, in sum.
fn counted(pid: u32, names: &[&str]) -> u64 {
    let all = fs::read_to_string(format!("/proc/{pid}/net/netstat")).unwrap();
    let mut lines = all.lines().filter(|line| line.starts_with("TcpExt:"));
    let (heads, numbers) = (lines.next().unwrap(), lines.next().unwrap());
    let all = heads.split_whitespace().zip(numbers.split_whitespace());
    all.filter(|(name, _)| names.contains(name))
        .map(|(_, number)| number.parse::<u64>().unwrap())
        .sum()
}
