//! The program that is run: a small server that finds its socket in the environment.

use std::{
    env, fs,
    io::Write,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    process, thread,
    time::Duration,
};

use handover::{
    Generation,
    accept::TrackedIncoming,
    supervise::{Notifier, ServiceSocket},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};

/// The directory of the test. Makes this process a server.
pub(crate) const DIR: &str = "HANDOVER_RUN_TEST_DIR";

#[test]
fn runs_if_asked() {
    let Some(dir) = env::var_os(DIR).map(PathBuf::from) else {
        return;
    };
    // By a file, so that a test can change what the next process does.
    let what = fs::read_to_string(dir.join("app")).unwrap_or_default();
    let mode = |word: &str| what.split_whitespace().any(|one| one == word);
    println!("\nfirst line of {}", process::id());
    if mode("exit") {
        eprintln!("no database");
        process::exit(3);
    }
    if mode("talks-and-ends") {
        print!("{}last line of {}", many(), process::id());
        std::io::stdout().flush().unwrap();
        fs::write(dir.join("talking"), process::id().to_string()).unwrap();
        fs::rename(dir.join("talking"), dir.join("talked")).unwrap();
        process::exit(0);
    }
    if mode("hang") {
        loop {
            thread::sleep(Duration::from_secs(60));
        }
    }
    if mode("orphan") {
        // Its parent ends at once: it comes to whoever reaps.
        let mut shell = process::Command::new("sh");
        shell
            .args(["-c", "(sleep 0.2; exit 7) & exit 0"])
            .status()
            .unwrap();
    }
    if mode("axum") {
        return tokio::runtime::Runtime::new()
            .unwrap()
            .block_on(with_axum(&dir, &mode));
    }
    if mode("handover") {
        return tokio::runtime::Runtime::new()
            .unwrap()
            .block_on(with_handover(&dir, mode("files")));
    }
    tokio::runtime::Runtime::new()
        .unwrap()
        .block_on(without(&dir, &mode));
}

/// As a program does that knows nothing of Handover: the socket is the first of the environment.
async fn without(dir: &Path, mode: &dyn Fn(&str) -> bool) {
    let mut term = signal(SignalKind::terminate()).unwrap();
    let mut int = signal(SignalKind::interrupt()).unwrap();
    let mut usr = signal(SignalKind::user_defined2()).unwrap();
    let (stop, stopped) = watch::channel(false);
    let (work, mut done) = mpsc::channel::<()>(1);
    let mut listening = None;
    for socket in ServiceSocket::inherited().unwrap() {
        if socket.kind() != "tcp" {
            continue;
        }
        let fd = socket.as_fd().try_clone_to_owned().unwrap();
        listening = Some(fd.try_clone().unwrap());
        let listener = std::net::TcpListener::from(fd);
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let (mut stopped, work) = (stopped.clone(), work.clone());
        tokio::spawn(async move {
            loop {
                let stream = tokio::select! {
                    biased;
                    _ = stopped.wait_for(|stopped| *stopped) => return,
                    Ok((stream, _)) = listener.accept() => stream,
                };
                tokio::spawn(answer(stream, work.clone()));
            }
        });
    }
    drop(work);
    if mode("notify") {
        tell("STATUS=warming up\n");
        tell("READY=1\n");
    }
    if mode("slow-notify") {
        tell("STATUS=loading\n");
        tokio::time::sleep(Duration::from_secs(3)).await;
        tell("READY=1\n");
    }
    if mode("ack") {
        let path = env::var("EINHORN_SOCK_PATH").unwrap();
        let mut stream = UnixStream::connect(path).unwrap();
        let line = format!("{{\"command\":\"worker:ack\",\"pid\":{}}}\n", process::id());
        stream.write_all(line.as_bytes()).unwrap();
    }
    if mode("dies-when-ready") {
        // Once the supervisor has heard.
        tokio::time::sleep(Duration::from_millis(300)).await;
        process::exit(5);
    }
    let stay = mode("stays");
    loop {
        tokio::select! {
            _ = term.recv() => if !stay { break },
            _ = int.recv() => { println!("int {}", process::id()); break },
            _ = usr.recv() => {
                println!("usr2 {}", process::id());
                if mode("names-another") {
                    put_another_in_our_place(listening.take());
                    break;
                }
            }
        }
        if stay {
            fs::write(dir.join(format!("told-{}", process::id())), "").unwrap();
        }
    }
    // What was accepted is answered; what was not is the next one's.
    stop.send_replace(true);
    let _ = done.recv().await;
    if mode("drains") {
        fs::write(dir.join(format!("drains-{}", process::id())), "").unwrap();
        while !dir.join("go").exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    if mode("talks") {
        print!("{}", many());
    }
    print!("last line of {}", process::id());
    std::io::stdout().flush().unwrap();
    process::exit(0);
}

/// Nearly as much as a pipe holds.
fn many() -> String {
    let lines = (0..3000).map(|number| format!("{number} of many\n"));
    lines.collect()
}

fn tell(text: &str) {
    let address = env::var_os("NOTIFY_SOCKET").expect("NOTIFY_SOCKET");
    Notifier::new(&address).unwrap().send(text, &[]).unwrap();
}

async fn answer(mut stream: TcpStream, _work: mpsc::Sender<()>) {
    let mut request = [0; 1024];
    let length = stream.read(&mut request).await.unwrap_or_default();
    let request = String::from_utf8_lossy(&request[..length]).into_owned();
    let path = request.split_whitespace().nth(1).unwrap_or_default();
    let _ = stream.write_all(response(path).as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn response(path: &str) -> String {
    let body = match path {
        "/env" => env::vars()
            .map(|(name, value)| format!("{name}={value}\n"))
            .collect(),
        // Of this thread: the first blocks all signals while it starts another.
        "/status" => fs::read_to_string("/proc/thread-self/status").unwrap(),
        "/sockets" => {
            let links = fs::read_dir("/proc/self/fd").unwrap();
            let links = links.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
            let sockets = links.filter(|to| to.to_string_lossy().starts_with("socket:"));
            sockets.map(|to| format!("{}\n", to.display())).collect()
        }
        _ => process::id().to_string(),
    };
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

/// As a program does that uses Handover: nothing in it is of supervisors.
async fn with_handover(dir: &Path, files: bool) {
    let mut builder = Generation::builder();
    if files {
        // Of which there can be one, while two processes live.
        builder = builder
            .pid_file(dir.join("app.pid"))
            .control(dir.join("app.control"));
    }
    let generation = builder.start().unwrap();
    let address = fs::read_to_string(dir.join("address"));
    let address = address.unwrap_or_else(|_| "web=127.0.0.1:0".to_owned());
    let listener = generation.listen(&address).await.unwrap();
    let mut incoming = TrackedIncoming::new(listener, &generation.graceful());
    tokio::spawn(async move {
        loop {
            // It holds the drain open until it is dropped.
            let (mut stream, _) = incoming.next().await;
            tokio::spawn(async move {
                let mut request = [0; 1024];
                let length = stream.read(&mut request).await.unwrap_or_default();
                let request = String::from_utf8_lossy(&request[..length]).into_owned();
                let path = request.split_whitespace().nth(1).unwrap_or_default();
                let _ = stream.write_all(response(path).as_bytes()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    generation.ready().await.unwrap();
    generation.graceful().drained().await;
}

/// The same with connections that are kept, and that move.
async fn with_axum(dir: &Path, mode: &dyn Fn(&str) -> bool) {
    let mut builder = Generation::builder()
        .pid_file(dir.join("app.pid"))
        .control(dir.join("app.control"));
    if mode("patient") {
        builder = builder.probation(Duration::from_secs(60));
    }
    let generation = builder.start().unwrap();
    let listener = generation.listen("web=127.0.0.1:0").await.unwrap();
    if mode("waits") {
        fs::write(dir.join(format!("waits-{}", process::id())), "").unwrap();
        while !dir.join("go").exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let app = axum::Router::new().route(
        "/",
        axum::routing::get(|| async { process::id().to_string() }),
    );
    let server = handover_axum::serve(listener, app).with_graceful(generation.graceful());
    generation.ready().await.unwrap();
    server.await.unwrap();
    generation.finished().await;
}

/// Puts another process in its place, as some programs do: it gets the socket, and is named.
fn put_another_in_our_place(socket: Option<OwnedFd>) {
    use command_fds::{CommandFdExt, FdMapping};

    let mut command = process::Command::new(env::current_exe().unwrap());
    command.args(env::args_os().skip(1));
    for (name, _) in env::vars() {
        if name.starts_with("LISTEN_") || name.starts_with("EINHORN_") {
            command.env_remove(name);
        }
    }
    let mapping = FdMapping {
        parent_fd: socket.expect("a socket"),
        child_fd: 3,
    };
    command.fd_mappings(vec![mapping]).unwrap();
    // Whoever ends first, it comes to who looks after us.
    #[expect(clippy::zombie_processes, reason = "it outlives us")]
    let child = command.spawn().unwrap();
    tell(&format!("MAINPID={}\nREADY=1\n", child.id()));
}
