//! Balancers in front of servers: HAProxy and nginx themselves, which retry nothing.

use std::{
    fmt::Write as _,
    fs,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    path::PathBuf,
    process::Stdio,
};

use handover_tests::{
    harness::{Process, Signal, eventually},
    load::{Target, get},
};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::{BOUND, directory};

/// A balancer at work.
#[derive(Debug)]
pub(crate) struct Balancer {
    /// Where it is asked.
    pub(crate) at: Target,
    child: Child,
    config: PathBuf,
    directory: TempDir,
}

impl Balancer {
    /// HAProxy on a port of its own; `backend` is all that there is to say of the servers.
    pub(crate) async fn haproxy(backend: &str) -> Self {
        let text = format!(
            "global\n\
             \x20   maxconn 1000\n\
             defaults\n\
             \x20   mode http\n\
             \x20   timeout connect 10s\n\
             \x20   timeout client 60s\n\
             \x20   timeout server 60s\n\
             \x20   timeout http-request 60s\n\
             \x20   option http-keep-alive\n\
             \x20   retries 0\n\
             frontend clients\n\
             \x20   bind fd@0\n\
             \x20   default_backend servers\n\
             backend servers\n\
             \x20   http-reuse safe\n\
             {backend}"
        );
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let (directory, path) = directory();
        let config = path("haproxy.cfg");
        fs::write(&config, text).unwrap();
        let mut command = Command::new("haproxy");
        command
            .args(["-db", "-f"])
            .arg(&config)
            .stdin(OwnedFd::from(listener));
        Self::start(command, at, config, directory).await
    }

    /// nginx in a network namespace of its own, which has this port.
    pub(crate) async fn nginx(servers: &[SocketAddr]) -> Self {
        let at = "127.0.0.1:8080".parse().unwrap();
        let (directory, path) = directory();
        let config = path("nginx.conf");
        fs::write(&config, nginx_config(at, servers)).unwrap();
        let mut command = Command::new("/usr/sbin/nginx");
        command.arg("-c").arg(&config).arg("-p").arg(path(""));
        command.stdin(Stdio::null());
        Self::start(command, at, config, directory).await
    }

    async fn start(
        mut command: Command,
        at: SocketAddr,
        config: PathBuf,
        directory: TempDir,
    ) -> Self {
        command.stdout(Stdio::null()).kill_on_drop(true);
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("{:?}: {error}; run tests/all once", command.as_std()),
        };
        let balancer = Self {
            at: at.into(),
            child,
            config,
            directory,
        };
        let answers = eventually("the balancer to answer", BOUND, async || {
            let answer = get(&balancer.at, "/").await.ok()?;
            (answer.head.status == 200).then_some(())
        });
        answers.await.unwrap();
        balancer
    }

    /// From now on nginx knows these servers, as when an ingress controller tells it.
    pub(crate) fn tell_nginx(&self, servers: &[SocketAddr]) {
        let Target::Tcp(at) = self.at else {
            panic!("it listens on TCP")
        };
        fs::write(&self.config, nginx_config(at, servers)).unwrap();
        let master = self.child.id().expect("nginx has not ended");
        Process::open(master).unwrap().signal(Signal::HUP).unwrap();
    }
}

fn nginx_config(at: SocketAddr, servers: &[SocketAddr]) -> String {
    let mut all = String::new();
    for server in servers {
        writeln!(all, "        server {server};").unwrap();
    }
    format!(
        "daemon off;\n\
         worker_processes 1;\n\
         pid nginx.pid;\n\
         error_log error.log;\n\
         events {{}}\n\
         http {{\n\
         \x20   access_log off;\n\
         \x20   client_body_temp_path body;\n\
         \x20   proxy_temp_path proxy;\n\
         \x20   fastcgi_temp_path fastcgi;\n\
         \x20   uwsgi_temp_path uwsgi;\n\
         \x20   scgi_temp_path scgi;\n\
         \x20   upstream servers {{\n\
         {all}\
         \x20       keepalive 32;\n\
         \x20   }}\n\
         \x20   server {{\n\
         \x20       listen {at};\n\
         \x20       location / {{\n\
         \x20           proxy_pass http://servers;\n\
         \x20           proxy_http_version 1.1;\n\
         \x20           proxy_set_header Connection \"\";\n\
         \x20           proxy_next_upstream off;\n\
         \x20       }}\n\
         \x20   }}\n\
         }}\n"
    )
}
