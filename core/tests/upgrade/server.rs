//! A server that answers lines, and does what the files in its directory tell it to.

use std::{
    env,
    path::{Path, PathBuf},
    process,
    time::Duration,
};

use super::{extras, state};
use handover::{Action, Generation, Graceful, Guard, Phase, Policy, Signals, Stream};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    signal::unix::SignalKind,
};

/// The directory of the service. Makes this process a server.
pub(crate) const DIR: &str = "HANDOVER_TEST_DIR";
/// Addresses, separated by spaces.
pub(crate) const LISTEN: &str = "HANDOVER_TEST_LISTEN";
pub(crate) const UDP: &str = "HANDOVER_TEST_UDP";
pub(crate) const READY_TIMEOUT_MS: &str = "HANDOVER_TEST_READY_TIMEOUT_MS";
pub(crate) const DEADLINE_MS: &str = "HANDOVER_TEST_DEADLINE_MS";
pub(crate) const PROBATION_MS: &str = "HANDOVER_TEST_PROBATION_MS";
pub(crate) const MAX_DRAINING: &str = "HANDOVER_TEST_MAX_DRAINING";
pub(crate) const CHECK_FIRST: &str = "HANDOVER_TEST_CHECK_FIRST";
/// All tasks and `main` in one thread.
pub(crate) const ONE_THREAD: &str = "HANDOVER_TEST_ONE_THREAD";
/// Whether there is a control socket, `control` in the directory.
pub(crate) const CONTROL: &str = "HANDOVER_TEST_CONTROL";

#[test]
fn runs_if_asked() {
    let Some(dir) = env::var_os(DIR) else { return };
    let filter = tracing_subscriber::EnvFilter::new("debug");
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    let mut runtime = match env::var_os(ONE_THREAD) {
        Some(_) => tokio::runtime::Builder::new_current_thread(),
        None => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    if let Err(err) = runtime.block_on(serve(Path::new(&dir))) {
        eprintln!("cannot serve: {err}");
        drop(runtime);
        process::exit(4);
    }
}

fn millis(variable: &str) -> Option<Duration> {
    Some(Duration::from_millis(
        env::var(variable).ok()?.parse().unwrap(),
    ))
}

/// What a test wants this process to suffer.
fn fault(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("fault")).unwrap_or_default()
}

async fn serve(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let deadline = millis(DEADLINE_MS).unwrap_or(Duration::from_secs(30));
    let policy = Policy::default().with_deadline(deadline);
    let mut builder = Generation::builder()
        .graceful(Graceful::with_policy(policy))
        .pid_file(dir.join("pid"))
        .signals(
            Signals::new()
                .on(SignalKind::user_defined1(), Action::Upgrade)
                .after(SignalKind::hangup(), || async { println!("hup done") }),
        );
    if let Some(time) = millis(READY_TIMEOUT_MS) {
        builder = builder.ready_timeout(time);
    }
    if let Ok(most) = env::var(MAX_DRAINING) {
        builder = builder.max_draining(most.parse().unwrap());
    }
    builder = builder.check_first(env::var_os(CHECK_FIRST).is_some());
    if env::var_os(CONTROL).is_some() {
        let name = std::fs::read_to_string(dir.join("control-name"));
        builder = builder.control(dir.join(name.as_deref().unwrap_or("control")));
    }
    // None, unless a test is about it: then a process ends as soon as it has nothing to do.
    builder = builder.probation(millis(PROBATION_MS).unwrap_or_default());
    let fault = fault(dir);
    if fault == "exit-before-start" {
        eprintln!("the disk is full");
        process::exit(5);
    }
    let generation = builder.start()?;
    eprintln!("early {}", generation.number());
    let listen = std::fs::read_to_string(dir.join("listen"))
        .or_else(|_| env::var(LISTEN))
        .unwrap_or_else(|_| "127.0.0.1:0".to_owned());
    let mut names = String::new();
    for address in listen.split_ascii_whitespace() {
        let listener = generation
            .listen_with(address, &extras::options(dir))
            .await?;
        for difference in listener.differences() {
            println!("difference {difference}");
        }
        names += &format!(" {}", listener.local_addr()?);
        tokio::spawn(accept(listener, generation.clone(), dir.to_owned()));
    }
    if let Ok(address) = env::var(UDP) {
        let socket = generation.bind_udp(&address).await?;
        names += &format!(" udp:{}", socket.local_addr()?);
        tokio::spawn(echo(socket, generation.clone()));
    }
    names += &extras::start(&generation, dir).await?;
    state::take_and_keep(&generation, dir).await?;

    if fault == "exit-when-told" {
        println!("waiting");
        while !dir.join("told").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    generation.progress("warming up");
    match fault.as_str() {
        "exit" | "exit-when-told" => {
            eprintln!("no database");
            process::exit(3);
        }
        "error" => return Err("no configuration".into()),
        "panic" => panic!("no luck at all"),
        "kill" => {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)?
        }
        "hang" => {
            println!("hanging pid={}", process::id());
            while dir.join("fault").exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        _ => {}
    }
    if let Err(err) = generation.ready().await {
        if fault == "stubborn" {
            println!("stubborn pid={}", process::id());
            std::future::pending::<()>().await;
        }
        return Err(err.into());
    }
    generation.ready().await?;
    let (pid, number) = (process::id(), generation.number());
    println!("ready pid={pid} generation={number}{names}");
    eprintln!("late {number}");
    if fault == "error-after-ready" {
        return Err("it was all a mistake".into());
    }
    if fault == "exit-after-ready" {
        process::exit(6);
    }
    let report = generation.graceful().drained().await;
    eprintln!("drained {number}: {report}");
    Ok(())
}

async fn accept(mut listener: handover::Listener, generation: Generation, dir: PathBuf) {
    let graceful = generation.graceful();
    // Held while waiting: what is accepted in the last moment must still be served.
    while let Some(guard) = graceful.guard() {
        tokio::select! {
            biased;
            accepted = listener.accept() => {
                let (stream, _) = accepted.unwrap();
                tokio::spawn(converse(stream, guard, generation.clone(), dir.clone()));
            }
            () = graceful.draining() => {
                // It may have been taken back already, and then there is none.
                if graceful.reason().is_some_and(|reason| !reason.is_upgrade()) {
                    return;
                }
                while let Some(accepted) = listener.accept_leftover().await {
                    let (stream, _) = accepted.unwrap();
                    let guard = graceful.guard().unwrap();
                    tokio::spawn(converse(stream, guard, generation.clone(), dir.clone()));
                }
                drop(guard);
                // The successor may die, and then it is our turn again.
                while matches!(graceful.phase(), Phase::Draining | Phase::Cutting) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
    }
}

/// Answers each line; a connection holds the drain open.
async fn converse(
    stream: Stream,
    _guard: Guard,
    generation: Generation,
    dir: PathBuf,
) -> Option<()> {
    let (read, mut write) = tokio::io::split(stream);
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let answer = match line.as_str() {
            "pid" => process::id().to_string(),
            "phase" => generation.graceful().phase().to_string(),
            "upgrade" => match generation.upgrade().await {
                Ok(successor) => format!("ok {successor}"),
                Err(err) => format!("err {err:?}").replace('\n', " "),
            },
            "check" => match generation.check().await {
                Ok(checked) => format!("ok {checked:?}"),
                Err(err) => format!("err {err:?}").replace('\n', " "),
            },
            "chdir" => {
                env::set_current_dir("/").map_or_else(|err| err.to_string(), |()| "ok".into())
            }
            "speak" => {
                eprintln!("spoken {}", generation.number());
                "ok".to_owned()
            }
            "child" => {
                // What a program starts for itself gets neither the channel nor the sockets.
                let out = process::Command::new("/bin/sh")
                    .args(["-c", "ls -l /proc/self/fd | grep -c socket:"])
                    .output();
                String::from_utf8(out.unwrap().stdout)
                    .unwrap()
                    .trim()
                    .to_owned()
            }
            // Takes a thread of the runtime away.
            "block" => {
                while !dir.join("unblock").exists() {
                    std::thread::sleep(Duration::from_millis(5));
                }
                "ok".to_owned()
            }
            "descriptors" => descriptors_of_a_child(),
            "storm" => {
                let storm = || {
                    (0..40)
                        .map(|_| descriptors_of_a_child())
                        .collect::<Vec<_>>()
                };
                let mut seen = tokio::task::spawn_blocking(storm).await.unwrap();
                seen.dedup();
                seen.join(", ")
            }
            "grandchild" => grandchild(&dir),
            "dir" => dir.display().to_string(),
            other => format!("what is {other}?"),
        };
        write
            .write_all(format!("{answer}\n").as_bytes())
            .await
            .ok()?;
    }
    Some(())
}

/// What a program that this one starts has open; one of it is the directory that it reads.
pub(crate) fn descriptors_of_a_child() -> String {
    let out = process::Command::new("/bin/ls")
        .arg("/proc/self/fd")
        .output();
    let text = String::from_utf8(out.unwrap().stdout).unwrap();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Starts another service of the same program, and returns what it says when it is ready.
fn grandchild(dir: &Path) -> String {
    use std::io::BufRead as _;
    let own = dir.join("grandchild");
    std::fs::create_dir(&own).unwrap();
    let mut child = process::Command::new(dir.join("server"))
        .args(super::service::ARGS)
        .env(DIR, &own)
        .env(LISTEN, "127.0.0.1:0")
        .stdout(process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let said = lines
        .map_while(Result::ok)
        .find(|line| line.contains("ready pid="));
    child.kill().unwrap();
    child.wait().unwrap();
    said.unwrap_or_else(|| "nothing".to_owned())
}

async fn echo(socket: tokio::net::UdpSocket, generation: Generation) {
    // Before it is ready the predecessor reads.
    while !dir_says_ready(&generation) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut buffer = [0; 2048];
    let graceful = generation.graceful();
    loop {
        tokio::select! {
            biased;
            () = graceful.draining() => return,
            received = socket.recv_from(&mut buffer) => {
                let (_, from) = received.unwrap();
                let answer = process::id().to_string();
                socket.send_to(answer.as_bytes(), from).await.unwrap();
            }
        }
    }
}

pub(crate) fn dir_says_ready(generation: &Generation) -> bool {
    let text = generation
        .pid_file()
        .and_then(|path| std::fs::read_to_string(path).ok());
    text.is_some_and(|text| text.trim() == process::id().to_string())
}
