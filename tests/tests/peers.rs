//! What others lose under the load that we lose nothing under. For the figures of the book: nobody's
//! loss is asserted, but that the load is a fair one.

use std::{env, fs, net::TcpListener, os::fd::OwnedFd, process::Stdio, time::Duration};

use handover_tests::{
    harness::{Process, Signal, eventually},
    load::{Clients, Config, Failure, Kind, Storm, Target, get},
};
use tokio::process::{Child, Command};

const BOUND: Duration = Duration::from_secs(20);

/// nginx as it is packaged, with an answer of its own, on a port that was free.
struct Nginx {
    child: Child,
    at: Target,
    _directory: tempfile::TempDir,
}

impl Nginx {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let path = directory.path().display();
        let config = format!(
            "daemon off; worker_processes 2; pid {path}/pid; error_log {path}/error.log;\n\
             events {{ worker_connections 1024; }}\n\
             http {{\n\
             \x20   access_log off;\n\
             \x20   client_body_temp_path {path}/body; proxy_temp_path {path}/proxy;\n\
             \x20   fastcgi_temp_path {path}/fastcgi; uwsgi_temp_path {path}/uwsgi;\n\
             \x20   scgi_temp_path {path}/scgi;\n\
             \x20   keepalive_requests 1000000;\n\
             \x20   server {{ listen {address}; location / {{ return 200 \"pid=$pid\\nok\\n\"; }} }}\n\
             }}\n"
        );
        let file = directory.path().join("nginx.conf");
        fs::write(&file, config).unwrap();
        let child = Command::new("/usr/sbin/nginx")
            .arg("-p")
            .arg(directory.path())
            .arg("-c")
            .arg(&file)
            // Its own way to take a socket that is open already.
            .env("NGINX", "0;")
            .stdin(OwnedFd::from(listener))
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("nginx: run tests/all once");
        let nginx = Self {
            child,
            at: Target::Tcp(address),
            _directory: directory,
        };
        let answers = eventually("nginx to answer", BOUND, async || {
            get(&nginx.at, "/").await.ok()
        });
        answers.await.unwrap();
        nginx
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.id().expect("it runs");
        Process::open(pid).unwrap().signal(signal).unwrap();
    }
}

impl Drop for Nginx {
    /// Killed alone it would leave its workers.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::TERM);
            for _ in 0..500 {
                if !matches!(self.child.try_wait(), Ok(None)) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// The clients of the demonstration that ask for plain pages, 10 ms away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nginx; run by tests/all"]
async fn nginx_is_reloaded_under_the_same_clients() {
    let reloads = env::var("HANDOVER_RELOADS").map_or(5, |count| count.parse().unwrap());
    let nginx = Nginx::start().await;
    let mut clients = Clients::persistent(64);
    (clients.slow, clients.stream, clients.upload) = (0, 0, 0);
    let mut config = Config::new(nginx.at.clone()).with_clients(clients);
    config.rtt = Duration::from_millis(10);
    config.timeout = BOUND;
    let storm = Storm::start(config);
    let pause = Duration::from_millis(600);
    tokio::time::sleep(pause).await;
    for reload in 1..=reloads {
        storm.mark(reload);
        nginx.signal(Signal::HUP);
        tokio::time::sleep(pause).await;
    }
    let report = storm.stop().await;
    println!("{report}");
    let (lost, requests) = (report.lost(), report.requests());
    let reconnects: u64 = [Kind::Keepalive, Kind::Idle, Kind::Dribble]
        .iter()
        .filter_map(|kind| report.kind(*kind))
        .map(|kind| kind.reconnects)
        .sum();
    println!(
        "nginx: {lost} of {requests} requests lost in {reloads} reloads, {reconnects} reconnects"
    );
    // The listener stays open, and the clients were served all the time.
    assert_eq!(report.lost_as(Failure::ConnectRefused), 0, "{report}");
    assert_eq!(report.lost_as(Failure::BadBody), 0, "{report}");
    assert!(requests > 100 * reloads && lost < requests / 10, "{report}");
    assert!(reconnects > 0, "no worker was replaced: {report}");
}
