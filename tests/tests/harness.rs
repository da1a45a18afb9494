//! The harness must find every generation, tell how each ended, and leave none behind.

use std::{io, time::Duration};

use handover_tests::harness::{Exit, Process, Program, Server, Signal, eventually, proc};

const BOUND: Duration = Duration::from_secs(10);

/// A shell that announces itself, and on USR1 starts a successor that does likewise and ends.
/// The pid in its place is that of the shell itself: `exec` keeps it. Not HUP, which a shell cannot
/// trap where it was ignored before it began, as under nohup.
const GENERATIONS: &str = r#"
n=$1
trap 'sh -c "$SCRIPT" sh $((n + 1)) & exit 5' USR1
trap 'exit 0' TERM
echo "line of generation $n" >&2
echo "ready pid=$$ generation=$n http=127.0.0.1:1"
while :; do sleep 0.01; done
"#;

fn shell(script: &str) -> Program {
    Program::new("/bin/sh")
        .args(["-c", script, "sh", "0"])
        .env("SCRIPT", script)
}

async fn start(script: &str) -> Server {
    shell(script).start().await.unwrap()
}

#[tokio::test]
async fn successors_are_followed_and_their_exit_comes_to_us() {
    let server = start(GENERATIONS).await;
    let mut last = server.newest();
    assert_eq!((last.generation, last.pid()), (0, server.first().pid()));
    for generation in 1..=3 {
        last.process.signal(Signal::USR1).unwrap();
        let next = server.ready(generation, BOUND).await.unwrap();
        assert_eq!(last.process.exit(BOUND).await.unwrap(), Exit::Status(5));
        // Now an orphan, it was given to us.
        assert_eq!(
            proc::Stat::of(next.pid()).unwrap().parent,
            std::process::id()
        );
        last = next;
    }
    server
        .stderr_line("line of generation 3", BOUND)
        .await
        .unwrap();
    assert_eq!(server.terminate(BOUND).await.unwrap(), Exit::Status(0));
    assert_eq!(last.process.try_exit(), Some(Exit::Status(0)), "told again");
    assert!(
        last.process.signal(Signal::TERM).is_err(),
        "nobody to be signalled"
    );
}

#[tokio::test]
async fn a_death_by_signal_is_told_as_such() {
    let server = start(GENERATIONS).await;
    server.first().signal(Signal::KILL).unwrap();
    let exit = server.first().exit(BOUND).await.unwrap();
    assert_eq!(exit, Exit::Signal(Signal::KILL.as_raw()));
}

#[tokio::test]
async fn an_exit_is_waited_for_no_longer_than_its_bound() {
    let server = start(GENERATIONS).await;
    let error = server
        .first()
        .exit(Duration::from_millis(30))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("still runs"), "{error}");
    assert!(server.first().is_running());
}

#[tokio::test]
async fn a_server_that_fails_to_start_is_an_error_with_its_stderr() {
    let error = shell("echo 'no such port' >&2; exit 3")
        .start()
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("ended") && text.contains("no such port"),
        "{text}"
    );
    assert!(Program::new("/nonexistent/server").start().await.is_err());
}

#[tokio::test]
async fn a_server_that_is_never_ready_is_an_error() {
    let program = shell("echo hello; sleep 60").ready_within(Duration::from_millis(100));
    let error = program.start().await.unwrap_err();
    assert!(error.to_string().contains("ready"), "{error}");
}

#[tokio::test]
async fn a_drop_leaves_nobody_behind() {
    // Two children that never announce themselves; one of them becomes an orphan.
    let server = start(
        r#"sh -c 'sleep 60 & echo "orphan $!"'; sleep 60 &
           echo "child $!"; echo "ready pid=$$ generation=0"; wait"#,
    )
    .await;
    let pids: Vec<u32> = server
        .stdout()
        .iter()
        .filter_map(|line| line.split_once(' ')?.1.parse().ok())
        .chain([server.first().pid()])
        .collect();
    assert_eq!(pids.len(), 3);
    let processes: Vec<Process> = pids
        .iter()
        .map(|pid| Process::open(*pid).unwrap())
        .collect();
    assert!(processes.iter().all(Process::is_running));
    assert_eq!(server.processes().unwrap().len(), 3);
    drop(server);
    for (pid, process) in pids.iter().zip(&processes) {
        assert!(!process.is_running(), "{pid} runs");
        let gone = proc::Stat::of(*pid).unwrap_err();
        assert!(
            gone.kind() == io::ErrorKind::NotFound || gone.raw_os_error() == Some(3),
            "{gone}"
        );
    }
}

#[tokio::test]
async fn zombies_descriptors_and_environment_are_seen() {
    let server = shell(
        r#"exec 7</dev/null
           sh -c 'until grep -q sleep /proc/$PPID/comm; do :; done' &
           echo "ready pid=$$ generation=0"
           exec sleep 60"#,
    )
    .env("HANDOVER_TESTS_MARK", "a=b")
    .start()
    .await
    .unwrap();
    let pid = server.first().pid();
    // The shell is replaced by a program that waits for no child; only then does the child end.
    let zombies = eventually("a zombie", BOUND, async || {
        proc::zombies(pid)
            .ok()
            .filter(|zombies| !zombies.is_empty())
    });
    assert_eq!(zombies.await.unwrap().len(), 1);
    assert!(
        proc::descriptors(pid)
            .unwrap()
            .contains(&(7, "/dev/null".into()))
    );
    let mark = ("HANDOVER_TESTS_MARK".to_owned(), "a=b".to_owned());
    assert!(proc::environment(pid).unwrap().contains(&mark));
}

#[tokio::test]
async fn a_condition_that_never_holds_is_an_error_that_names_it() {
    let never = eventually("the end of time", Duration::from_millis(20), async || {
        None::<()>
    });
    assert!(
        never
            .await
            .unwrap_err()
            .to_string()
            .contains("the end of time")
    );
}
