//! As socketmaster and start_server. Each fault of socketmaster is a test that passes here.

use std::{
    fs,
    os::unix::{fs::FileTypeExt, process::CommandExt},
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{Run, app, get, send, variable};

fn socketmaster(dir: TempDir, flags: &[&str], what: &str) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_handover"));
    let [program, rest @ ..] = app();
    command
        .arg0("socketmaster")
        .args(["-listen", "tcp4://127.0.0.1:0"])
        .args(flags);
    command
        .arg(format!("-command={program}"))
        .arg("--")
        .args(rest);
    Run::spawn(dir, command, what)
}

fn master(flags: &[&str], what: &str) -> Run {
    socketmaster(tempfile::tempdir().unwrap(), flags, what)
}

#[test]
fn a_program_of_socketmaster_finds_one_descriptor() {
    let run = master(&["-start", "100"], "");
    run.answers();
    let env = get(run.address(), "/env").unwrap();
    assert_eq!(variable(&env, "EINHORN_FDS").as_deref(), Some("3"));
    assert_eq!(variable(&env, "LISTEN_FDS"), None);
    // The socket has no name there, so a program asks for it by its address.
    let address = crate::support::free_address();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("address"), address.to_string()).unwrap();
    let listen = format!("-listen=tcp4://{address}");
    let handover = socketmaster(dir, &["-start", "30000", &listen], "handover");
    // It says that it is ready, and need not be waited for.
    handover.logged("is ready", 1);
    assert_eq!(handover.address(), address);
    handover.answers();
}

/// An older process that drains counts as one that serves, there.
#[test]
fn a_new_process_that_crashes_while_an_older_one_drains_costs_nothing() {
    let run = master(&["-start", "300"], "drains");
    let first = run.answers();
    run.signal(Signal::HUP);
    run.until("the first drains", || {
        run.path(&format!("drains-{first}")).exists().then_some(())
    });
    let second = run.answers();
    run.app("exit");
    run.signal(Signal::HUP);
    run.logged("does not serve", 1);
    for _ in 0..10 {
        assert_eq!(get(run.address(), "/").unwrap(), second.to_string());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// It sleeps in its signal handler, there.
#[test]
fn a_term_while_a_process_starts_is_not_lost() {
    let mut run = master(&["-start", "30000"], "");
    run.answers();
    run.signal(Signal::HUP);
    run.logged("starts, generation 1", 1);
    let begun = Instant::now();
    run.signal(Signal::TERM);
    assert!(run.ended().success());
    assert!(begun.elapsed() < Duration::from_secs(10));
}

/// The socket is closed and the processes are orphans, there.
#[test]
fn it_replaces_itself_and_keeps_its_processes() {
    let mut run = master(&["-start", "200"], "");
    let pid = run.answers();
    run.signal(Signal::USR1);
    run.logged("goes on with its new program", 1);
    assert_eq!(run.answers(), pid);
    run.signal(Signal::HUP);
    let next = run.answers_not(pid);
    run.signal(Signal::INT);
    assert!(run.ended().success());
    assert!(!std::path::Path::new(&format!("/proc/{next}")).exists());
    assert!(
        run.log().contains(&format!("int {next}")),
        "signals go on as they are: {}",
        run.log()
    );
}

/// It hangs for ever after one start that fails, there.
#[test]
fn it_ends_although_a_start_has_failed() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("program");
    let [program, rest @ ..] = app();
    std::os::unix::fs::symlink(&program, &link).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_handover"));
    command.args([
        "compat",
        "socketmaster",
        "-start=100",
        "-listen=tcp4://127.0.0.1:0",
        "-command",
    ]);
    command.arg(&link).arg("--").args(rest);
    let mut run = Run::spawn(dir, command, "");
    run.answers();
    fs::remove_file(&link).unwrap();
    run.signal(Signal::HUP);
    run.logged("does not serve", 1);
    run.signal(Signal::TERM);
    assert!(run.ended().success());
}

/// The file stays, there, and the next start fails.
#[test]
fn a_unix_socket_is_removed_and_a_stale_one_is_no_obstacle() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let flag = format!("-listen=unix://{}", path.display());
    let mut run = socketmaster(dir, &["-start=100", &flag], "");
    run.logged("is ready", 1);
    assert!(fs::metadata(&path).unwrap().file_type().is_socket());
    run.signal(Signal::TERM);
    assert!(run.ended().success());
    assert!(!path.exists());
}

/// It restarts nothing, there, though it says so.
#[test]
fn what_dies_is_started_again_and_its_last_words_are_heard() {
    let run = master(&["-start", "100"], "");
    let pid = run.answers();
    run.logged("is ready", 1);
    send(pid, Signal::KILL);
    let next = run.answers_not(pid);
    run.app("exit");
    send(next, Signal::KILL);
    run.logged("] no database", 1);
}

fn start_server(dir: TempDir, flags: &[&str], what: &str) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_handover"));
    command
        .arg0("/usr/bin/start_server")
        .args(flags)
        .arg("--")
        .args(app());
    Run::spawn(dir, command, what)
}

#[test]
fn start_server_keeps_its_files_and_takes_its_commands() {
    let dir = tempfile::tempdir().unwrap();
    let (pid, status) = (dir.path().join("pid"), dir.path().join("status"));
    let path = dir.path().join("s");
    let pid_flag = format!("--pid-file={}", pid.display());
    let status_flag = format!("--status-file={}", status.display());
    let unix = format!("--path={}", path.display());
    let flags = [
        "--port=127.0.0.1:0",
        &unix,
        "--interval=1",
        &pid_flag,
        &status_flag,
    ];
    let mut run = start_server(dir, &flags, "");
    let first = run.answers();
    let env = get(run.address(), "/env").unwrap();
    let ports = format!("127.0.0.1:0=3;{}=4", path.display());
    assert_eq!(variable(&env, "SERVER_STARTER_PORT"), Some(ports));
    run.logged("is ready", 1);
    assert_eq!(fs::read_to_string(&status).unwrap(), format!("1:{first}\n"));

    let command = |what: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_handover"));
        command.args(["compat", "start_server", what, &pid_flag, &status_flag]);
        command.output().unwrap()
    };
    let restarted = command("--restart");
    assert!(restarted.status.success(), "{restarted:?}");
    let second = run.answers();
    assert_ne!(first, second);
    assert_eq!(
        fs::read_to_string(&status).unwrap(),
        format!("2:{second}\n")
    );
    let stopped = command("--stop");
    assert!(stopped.status.success(), "{stopped:?}");
    assert!(run.ended().success());
    assert!(!pid.exists() && !status.exists() && !path.exists());
    let again = command("--stop");
    assert_eq!(again.status.code(), Some(2), "{again:?}");
}

#[test]
fn start_server_writes_to_a_log_that_has_no_socket() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let log = format!(
        "--log-file=| ls -l /proc/self/fd > {0}.fds; cat > {0}",
        out.display()
    );
    let mut run = start_server(dir, &["--port=127.0.0.1:0", "--interval=1", &log], "");
    let read = |name: &str| fs::read_to_string(run.path(name)).unwrap_or_default();
    run.until("the log", || {
        read("out").contains("first line of").then_some(())
    });
    run.until("the log", || read("out").contains("is ready").then_some(()));
    let fds = read("out.fds");
    assert!(fds.contains("pipe:") && !fds.contains("socket:"), "{fds}");
    run.signal(Signal::TERM);
    assert!(run.ended().success());
    run.until("the last line", || {
        run.read("out").contains("last line of").then_some(())
    });
}
