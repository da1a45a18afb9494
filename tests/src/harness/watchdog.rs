//! Ends a server even if this process is killed before it can.

use std::{
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
};

use anyhow::Context as _;

/// Kills a process group when it is dropped, or when this process ends in whatever way.
///
/// A server in a process group of its own gets no Ctrl-C from the terminal, and a process that
/// dies by a signal drops nothing. So a shell waits for the end of a pipe that only this process
/// holds open, and kills the group then.
#[derive(Debug)]
pub(crate) struct Watchdog {
    shell: Child,
}

impl Watchdog {
    pub(crate) fn start(group: u32) -> anyhow::Result<Self> {
        let shell = Command::new("/bin/sh")
            .args([
                "-c",
                r#"read -r _; kill -s KILL -- "-$1""#,
                "watchdog",
                &group.to_string(),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Or it would get the Ctrl-C itself.
            .process_group(0)
            .spawn()
            .context("start a shell that watches over the server")?;
        Ok(Self { shell })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        // It has nothing to do but one kill; if it is gone, it has done that.
        let _ = self.shell.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn the_end_of_the_pipe_ends_the_group() {
        let mut command = Command::new("/bin/sleep");
        let mut sleep = command.arg("60").process_group(0).spawn().unwrap();
        let mut watchdog = Watchdog::start(sleep.id()).unwrap();
        assert_eq!(sleep.try_wait().unwrap(), None);
        // As the kernel does when this process ends.
        drop(watchdog.shell.stdin.take());
        assert_eq!(sleep.wait().unwrap().signal(), Some(9));
    }
}
