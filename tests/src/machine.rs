//! A machine with a real systemd, for what no stand-in for it can show.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use anyhow::{Context as _, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Namespaces in which systemd is the first process.
///
/// It has its own processes, files, cgroups and network, and goes when this is dropped, also if this
/// process is killed. Needs root, `python3`, `unshare` and, once, `debootstrap`;
/// `tests/systemd/machine.py` makes it.
#[derive(Debug)]
pub struct Machine {
    first: u32,
    maker: Child,
}

impl Machine {
    /// Boots one.
    ///
    /// # Errors
    ///
    /// If this machine does not let us; says what is missing.
    pub fn boot() -> anyhow::Result<Self> {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
        let tools = std::env::var_os("HANDOVER_TEST_TOOLS").map(PathBuf::from);
        let tools = tools.unwrap_or_else(|| tests.join("../target/test-tools"));
        let mut maker = Command::new("python3")
            .arg(tests.join("systemd/machine.py"))
            .arg(tools.join("machine"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .context("start python3 for the machine")?;
        let mut line = String::new();
        let stdout = maker.stdout.take().context("stdout is no pipe")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let Ok(first) = line.trim().parse() else {
            let status = maker.wait()?;
            bail!("there is no machine ({status}): {}", line.trim());
        };
        Ok(Self { first, maker })
    }

    /// A path of the machine as it is here.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.first))
    }

    /// Writes a file, and what leads to it.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn write(&self, path: &str, text: &str) -> anyhow::Result<()> {
        let path = self.path(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }

    /// Copies a file to there, with its mode.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn copy(&self, from: impl AsRef<Path>, path: &str) -> anyhow::Result<()> {
        let from = from.as_ref();
        fs::copy(from, self.path(path)).with_context(|| format!("copy {}", from.display()))?;
        Ok(())
    }

    /// A command that runs there.
    #[must_use]
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["-t", &self.first.to_string()])
            .args(["-m", "-p", "-C", "-u", "-i", "-n", "-r", "-w"])
            .args(words)
            .stdin(Stdio::null());
        command
    }

    /// Runs a command there.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn run(&self, words: &[&str]) -> anyhow::Result<Output> {
        self.command(words).output().context("run nsenter")
    }

    /// Runs `systemctl`, which must succeed, and returns what it prints.
    ///
    /// # Errors
    ///
    /// If it fails; with what it says and the end of the journal.
    pub fn systemctl(&self, words: &[&str]) -> anyhow::Result<String> {
        let output = self.run(&[&["systemctl"], words].concat())?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "systemctl {words:?}: {}: {}\n{}",
            output.status,
            said.trim(),
            self.journal()
        );
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// A property of a unit.
    ///
    /// # Errors
    ///
    /// As for [`systemctl`](Self::systemctl).
    pub fn property(&self, unit: &str, name: &str) -> anyhow::Result<String> {
        self.systemctl(&["show", "--value", "-p", name, unit])
    }

    /// The end of the journal.
    #[must_use]
    pub fn journal(&self) -> String {
        let words = [
            "journalctl",
            "--no-pager",
            "-n",
            "60",
            "-o",
            "short-monotonic",
        ];
        let output = self.run(&words).map(|output| output.stdout);
        String::from_utf8_lossy(&output.unwrap_or_default()).into_owned()
    }

    /// Moves the calling thread into the network of the machine. Leave no other work to that thread.
    ///
    /// # Errors
    ///
    /// If this process may not.
    pub fn enter_network(&self) -> anyhow::Result<()> {
        let namespace = File::open(format!("/proc/{}/ns/net", self.first))?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .context("enter the network of the machine")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The end of its stdin is what it waits for.
        drop(self.maker.stdin.take());
        let _ = self.maker.wait();
    }
}
