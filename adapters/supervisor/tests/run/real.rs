//! Real programs that know nothing of us, replaced twenty times under load.

use std::{fs, os::unix::process::CommandExt, path::Path, process::Command, sync::Arc};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    load::{Counts, Load},
    support::Run,
};

/// How often each is replaced.
const TIMES: usize = 20;

fn by_the_supervisor(run: &Run, round: usize) {
    run.signal(Signal::HUP);
    run.logged(&format!("generation {} serves", round + 1), 1);
}

/// Replaces it under load: nothing may be lost.
fn replaced_under_load(run: Run) {
    replaced(run, by_the_supervisor).nothing_lost();
}

fn replaced(mut run: Run, replace: impl Fn(&Run, usize)) -> Arc<Counts> {
    run.logged(" serves\n", 1);
    let load = Load::start(run.address(), 4);
    run.until("answers", || (load.answered() > 20).then_some(()));
    for round in 0..TIMES {
        replace(&run, round);
        let before = load.answered();
        run.until("more answers", || {
            (load.answered() > before + 20).then_some(())
        });
    }
    let counts = load.stop();
    eprintln!(
        "{} answers over {TIMES} replacements",
        counts.answered.load(std::sync::atomic::Ordering::Relaxed)
    );
    run.signal(Signal::TERM);
    assert!(run.ended().success(), "{}", run.log());
    counts
}

fn handover(dir: TempDir, flags: &[&str], program: &[&str]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_handover"));
    command
        .args(["run", "--listen", "127.0.0.1:0", "--probation", "0.5"])
        .args(flags);
    command.arg("--").args(program).current_dir(dir.path());
    Run::spawn(dir, command, "")
}

fn dir_with(name: &str, text: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(name), text).unwrap();
    dir
}

const WSGI: &str =
    "def app(env, start):\n    start('200 OK', [('Content-Length', '2')])\n    return [b'ok']\n";
const GUNICORN: [&str; 4] = ["gunicorn", "--workers", "2", "app:app"];

#[test]
#[ignore = "needs gunicorn"]
fn gunicorn() {
    replaced_under_load(handover(dir_with("app.py", WSGI), &[], &GUNICORN));
}

/// By its own USR2: the new one names itself as the main process, and ends the old one.
#[test]
#[ignore = "needs gunicorn"]
fn gunicorn_that_replaces_itself() {
    let dir = dir_with("app.py", WSGI);
    let hook = r#"
import os, signal, socket
def pre_exec(server):
    # It says that its sockets are where a manager passes them, and they are not any more.
    for at, listener in enumerate(server.LISTENERS, 3):
        os.dup2(listener.fileno(), at)
def when_ready(server):
    # Of one that was not started by another there is nobody to replace.
    if server.master_pid == 0:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        address = os.environ["NOTIFY_SOCKET"]
        manager.connect("\0" + address[1:] if address[0] == "@" else address)
        manager.send(b"MAINPID=%d\nREADY=1" % os.getpid())
    os.kill(server.master_pid, signal.SIGTERM)
"#;
    fs::write(dir.path().join("gunicorn.conf.py"), hook).unwrap();
    let run = handover(dir, &[], &GUNICORN);
    let replace = |run: &Run, round| {
        // Before, it waits for the end of the one that has started it.
        run.logged("Master has been promoted", round);
        run.signal(Signal::USR2);
        run.logged(" serves\n", round + 2);
    };
    replaced(run, replace).nothing_lost();
}

#[test]
#[ignore = "needs Python"]
fn a_python_program_of_the_standard_library() {
    let dir = dir_with(
        "app.py",
        r#"
import asyncio, os, signal, socket
assert os.environ["LISTEN_PID"] == str(os.getpid())
async def serve(reader, writer):
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    listener = socket.socket(fileno=3)
    server = await asyncio.start_server(serve, sock=listener)
    await stop.wait()
    # A server that is closed drops what it has accepted and not begun to serve.
    asyncio.get_running_loop().remove_reader(listener.fileno())
    while len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0.01)
    server.close()
asyncio.run(main())
"#,
    );
    replaced_under_load(handover(
        dir,
        &["--ready-after", "0.5"],
        &["python3", "app.py"],
    ));
}

#[test]
#[ignore = "needs node"]
fn node() {
    let dir = dir_with(
        "app.mjs",
        r#"
import http from "node:http";
const server = http.createServer((request, response) => response.end("ok"));
server.listen({ fd: 3 });
process.on("SIGTERM", () => server.close(() => process.exit(0)));
"#,
    );
    replaced_under_load(handover(
        dir,
        &["--ready-after", "0.5"],
        &["node", "app.mjs"],
    ));
}

#[test]
#[ignore = "needs nginx"]
fn nginx() {
    // It takes sockets by a variable of its own, from a predecessor; for that it needs their address.
    let address = crate::support::free_address().to_string();
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().display().to_string();
    let text = format!(
        "daemon off; pid {here}/nginx.pid; error_log stderr notice;
         events {{ worker_connections 64; }}
         http {{ access_log off; client_body_temp_path {here}/a; proxy_temp_path {here}/b;
                 fastcgi_temp_path {here}/c; uwsgi_temp_path {here}/d; scgi_temp_path {here}/e;
                 server {{ listen {address}; return 200 ok; }} }}"
    );
    fs::write(dir.path().join("nginx.conf"), text).unwrap();
    fs::create_dir(dir.path().join("env")).unwrap();
    fs::write(dir.path().join("env/NGINX"), "3;").unwrap();
    let (conf, vars) = (format!("{here}/nginx.conf"), format!("{here}/env"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_handover"));
    command.args([
        "run",
        "--listen",
        &address,
        "--env-dir",
        &vars,
        "--ready-after",
        "0.5",
    ]);
    command.args([
        "--replace-signal",
        "QUIT",
        "--stop-signal",
        "QUIT",
        "--no-env",
        "crank",
        "--",
    ]);
    command.args(["/usr/sbin/nginx", "-p", &here, "-c", &conf]);
    replaced_under_load(Run::spawn(dir, command, ""));
}

const PSGI: &str = "sub { [200, ['Content-Type' => 'text/plain', 'Content-Length' => 2], ['ok']] }";

fn start_server(flags: &[&str], program: &[&str]) -> Run {
    let dir = dir_with("app.psgi", PSGI);
    let mut command = Command::new(env!("CARGO_BIN_EXE_handover"));
    command
        .arg0("start_server")
        .arg("--port=127.0.0.1:0")
        .args(flags)
        .arg("--")
        .args(program);
    command.current_dir(dir.path());
    Run::spawn(dir, command, "")
}

#[test]
#[ignore = "needs Starlet"]
fn starlet_under_start_server() {
    let program = [
        "plackup",
        "-E",
        "deployment",
        "-s",
        "Starlet",
        "--max-workers=3",
        "app.psgi",
    ];
    replaced_under_load(start_server(&["--interval=1"], &program));
}

#[test]
#[ignore = "needs Starman"]
fn starman_under_start_server() {
    let flags = [
        "--interval=1",
        "--signal-on-hup=QUIT",
        "--signal-on-term=QUIT",
    ];
    let program = ["starman", "--workers=3", "app.psgi"];
    let counts = replaced(start_server(&flags, &program), by_the_supervisor);
    // A worker of it that is told to end breaks off what it has just accepted, whoever tells it:
    // under its own start_server it does so about once in a replacement, too.
    assert!(counts.refused.lock().unwrap().is_empty());
    assert!(counts.broken.lock().unwrap().len() <= TIMES * 3);
}

#[test]
#[ignore = "needs Server::Starter, Python"]
fn a_program_that_uses_handover_runs_under_the_real_start_server() {
    let dir = tempfile::tempdir().unwrap();
    let address = crate::support::free_address();
    fs::write(dir.path().join("address"), address.to_string()).unwrap();
    let mut command = Command::new("/usr/bin/start_server");
    assert!(Path::new("/usr/bin/start_server").exists());
    command
        .arg(format!("--port={address}"))
        .arg("--interval=1")
        .arg("--")
        .args(crate::support::app());
    let run = Run::spawn(dir, command, "handover");
    let pid = run.until("an answer", || {
        crate::support::get(address, "/").ok()?.parse::<u32>().ok()
    });
    let load = Load::start(address, 2);
    run.signal(Signal::HUP);
    run.until("the old one has gone", || {
        (!Path::new(&format!("/proc/{pid}")).exists()).then_some(())
    });
    load.stop().nothing_lost();
}
