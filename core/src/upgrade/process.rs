//! The process of a successor, or what stands for one in a test of a user's.

use std::{
    io,
    process::ExitStatus,
    sync::{Arc, atomic::Ordering},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;

use super::attempt::Course;
use crate::testing::Thread;

/// What can be waited for, and killed.
#[derive(Debug)]
pub(crate) enum Process {
    Child(Child),
    Thread(Thread),
}

impl Process {
    /// Its process id, until it has been waited for.
    pub(crate) fn id(&self) -> Option<u32> {
        match self {
            Self::Child(child) => child.id(),
            Self::Thread(_) => Some(std::process::id()),
        }
    }

    /// Waits until it has ended, and reaps it. Cancel safe.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        match self {
            Self::Child(child) => child.wait().await,
            Self::Thread(thread) => Ok(thread.wait().await),
        }
    }

    /// Kills it. Fails only if it has ended.
    pub(crate) fn start_kill(&mut self) -> io::Result<()> {
        match self {
            Self::Child(child) => child.start_kill(),
            Self::Thread(thread) => {
                thread.kill();
                Ok(())
            }
        }
    }

    /// Asks it to drain, as an operator would.
    pub(crate) fn terminate(&self) -> io::Result<()> {
        match self {
            // It is our child and not reaped, so the number is its own.
            Self::Child(child) => match child.id().and_then(|id| i32::try_from(id).ok()) {
                Some(id) => {
                    Ok(Pid::from_raw(id).map_or(Ok(()), |pid| kill_process(pid, Signal::TERM))?)
                }
                None => Ok(()),
            },
            Self::Thread(thread) => {
                thread.terminate();
                Ok(())
            }
        }
    }
}

/// A successor that is killed unless it is [kept](Self::keep) or spared: however an attempt ends,
/// nothing is left behind that thinks it may serve.
#[derive(Debug)]
pub(crate) struct Candidate {
    process: Option<Process>,
    course: Arc<Course>,
}

impl Candidate {
    pub(crate) fn new(process: Process, course: Arc<Course>) -> Self {
        course.started.store(true, Ordering::Release);
        let process = Some(process);
        Self { process, course }
    }

    pub(crate) fn process(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    pub(crate) fn keep(mut self) -> Option<Process> {
        self.process.take()
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        if self.course.spared.load(Ordering::Acquire) {
            return;
        }
        if let Some(process) = &mut self.process {
            // Fails only if it has ended. The runtime reaps it.
            let _ = process.start_kill();
        }
    }
}
