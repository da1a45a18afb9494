//! Named points of an upgrade at which a test makes this process fail.
//!
//! Internal, and only with the feature `testing-faults`; without it a point is nothing at all. The
//! variable `HANDOVER_FAULTS` names a directory. Who comes to a point that has a file there takes
//! the file away, does what it says, and leaves its pid in `<point>.reached`. So each fault happens
//! once, in one process, at one place; and the test knows when, and to whom.
//!
//! | the file says | the process |
//! |---|---|
//! | `exit` | exits at once, with status 71 |
//! | `kill` | is killed |
//! | `stop` | is stopped, until it is continued and `<point>.go` is there |
//! | `hang` | goes no further than this point |
//! | `panic` | panics here; at the points that are [reached](reached) without awaiting |

#[cfg(not(feature = "testing-faults"))]
mod imp {
    #[inline(always)]
    pub(crate) fn reached(_point: &'static str) {}

    #[inline(always)]
    pub(crate) async fn comes_to(_point: &'static str) {}
}

#[cfg(feature = "testing-faults")]
mod imp {
    use std::{fs, future, path::PathBuf, process, sync::OnceLock, thread, time::Duration};

    use rustix::process::{Signal, getpid, kill_process};

    /// The exit status of a process that a fault ended.
    const STATUS: i32 = 71;
    /// How often a process that goes on again looks whether it may.
    const EVERY: Duration = Duration::from_millis(1);

    fn directory() -> Option<&'static PathBuf> {
        static DIRECTORY: OnceLock<Option<PathBuf>> = OnceLock::new();
        let directory =
            DIRECTORY.get_or_init(|| std::env::var_os("HANDOVER_FAULTS").map(Into::into));
        directory.as_ref()
    }

    /// Does what can be done without leaving the thread; returns what is left to do.
    fn take(point: &str) -> Option<String> {
        let directory = directory()?;
        let reached = directory.join(format!("{point}.reached"));
        let taken = directory.join(format!("{point}.taken"));
        // One of two that come here at once finds the file gone.
        fs::rename(directory.join(point), &taken).ok()?;
        let fault = fs::read_to_string(&taken).unwrap_or_default();
        let pid = process::id();
        fs::write(&taken, format!("{pid}\n")).ok()?;
        // Whole at the moment at which it appears.
        fs::rename(&taken, reached).ok()?;
        tracing::warn!(
            point,
            fault = fault.trim(),
            pid,
            "a fault that a test wants"
        );
        match fault.trim() {
            "exit" => process::exit(STATUS),
            "kill" => {
                let _ = kill_process(getpid(), Signal::KILL);
                park()
            }
            "stop" => {
                let go = directory.join(format!("{point}.go"));
                let _ = kill_process(getpid(), Signal::STOP);
                // Another thread may have taken the signal, and this one run on for a moment.
                while !go.exists() {
                    thread::sleep(EVERY);
                }
                None
            }
            _ => Some(fault),
        }
    }

    fn park() -> ! {
        loop {
            thread::park();
        }
    }

    /// A point that is reached by a thread.
    pub(crate) fn reached(point: &'static str) {
        match take(point).as_deref().map(str::trim) {
            Some("panic") => panic!("a test wants a panic at {point}"),
            Some(_) => park(),
            None => {}
        }
    }

    /// A point that is reached by a task.
    pub(crate) async fn comes_to(point: &'static str) {
        if take(point).is_some() {
            future::pending().await
        }
    }
}

pub(crate) use imp::{comes_to, reached};
