//! The control socket.

use rustix::process::Signal;

use crate::support::Run;

#[test]
fn it_is_asked_as_a_service_is() {
    let mut run = Run::start(&["--probation", "0"], "notify");
    let pid = run.answers();
    run.logged("serves\n", 1);
    let (code, status) = run.handover(&["status"]);
    assert_eq!(code, Some(0));
    assert!(
        status.starts_with(&format!("generation 0 (pid {}): running", run.pid())),
        "{status}"
    );
    assert!(
        status.contains(&format!("0 (pid {pid}): generation 0, running")),
        "{status}"
    );
    assert!(
        status.contains("(web)") && status.contains("warming up"),
        "{status}"
    );

    let (code, text) = run.handover(&["upgrade", "--if-generation", "7"]);
    assert_eq!(code, Some(3), "{text}");
    let (code, text) = run.handover(&["upgrade", "--if-generation", "0"]);
    assert_eq!(code, Some(0), "{text}");
    for part in [
        "starts, generation 1",
        "warming up",
        "is ready",
        "serves, generation 1",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (code, text) = run.handover(&["cut"]);
    assert_eq!(code, Some(3), "{text}");
    let (code, text) = run.handover(&["drain"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(run.ended().success());
    assert!(!run.path("control").exists());
    let (code, _) = run.handover(&["status"]);
    assert_eq!(code, Some(4));
}

#[test]
fn what_drains_can_be_cut_and_an_upgrade_is_followed_over_our_own() {
    let run = Run::start(&["--probation", "0"], "notify stays");
    let old = run.answers();
    run.app("notify");
    std::thread::scope(|scope| {
        let upgrade = scope.spawn(|| run.upgrade());
        run.logged("generation 1 serves", 1);
        let (code, text) = run.handover(&["reexec"]);
        assert_eq!(code, Some(0), "{text}");
        let (_, status) = run.handover(&["status"]);
        assert!(
            status.contains(&format!("generation 0 (pid {old})")),
            "{status}"
        );
        let (code, text) = run.handover(&["cut"]);
        assert_eq!(code, Some(0), "{text}");
        let (code, text) = upgrade.join().unwrap();
        assert_eq!(code, Some(0), "{text}");
    });
    run.answers_not(old);
}

#[test]
fn a_stop_tells_who_follows_why() {
    let mut run = Run::start(&["--stop-timeout", "1"], "notify stays");
    run.answers();
    run.app("hang");
    std::thread::scope(|scope| {
        let upgrade = scope.spawn(|| run.upgrade());
        run.logged("starts, generation 1", 1);
        run.signal(Signal::TERM);
        let (code, text) = upgrade.join().unwrap();
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("told to stop"), "{text}");
    });
    assert_eq!(run.ended().code(), Some(7));
}
