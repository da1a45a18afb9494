//! A real terminal, and what a person would see on it.

use std::{
    fs::File,
    io::{Read, Write},
    num::NonZero,
    os::fd::OwnedFd,
    process::{Child, Command},
    sync::{Arc, Mutex},
    thread::{self, sleep},
    time::{Duration, Instant},
};

use rustix::{
    fs::{Mode, OFlags, open},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};

use super::service::PATIENCE;

const ROWS: NonZero<u16> = NonZero::new(30).unwrap();
const COLUMNS: NonZero<u16> = NonZero::new(120).unwrap();

/// A program on a terminal of its own.
pub(crate) struct Terminal {
    keys: File,
    /// Kept open, to look at it after the program has ended.
    theirs: OwnedFd,
    screen: Arc<Mutex<vt100::Parser>>,
    program: Child,
}

impl Terminal {
    pub(crate) fn start(command: &Command) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let theirs = open(&*name, flags, Mode::empty()).unwrap();
        let size = Winsize {
            ws_row: ROWS.get(),
            ws_col: COLUMNS.get(),
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&ours, size).unwrap();
        // In a session whose terminal this is, so that no other one is looked at.
        let mut session = Command::new("setsid");
        session.args(["--ctty", "--wait"]);
        session.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => session.env(name, value),
                None => session.env_remove(name),
            };
        }
        session.env("TERM", "xterm-256color");
        session.stdin(theirs.try_clone().unwrap());
        session.stdout(theirs.try_clone().unwrap());
        session.stderr(theirs.try_clone().unwrap());
        let program = session.spawn().unwrap();
        drop(session);
        let screen = Arc::new(Mutex::new(vt100::Parser::new(ROWS, COLUMNS, 0)));
        let (into, mut from) = (screen.clone(), File::from(ours.try_clone().unwrap()));
        thread::spawn(move || {
            let mut some = [0; 4096];
            while let Ok(read @ 1..) = from.read(&mut some) {
                into.lock().unwrap().process(&some[..read]);
            }
        });
        Self {
            keys: ours.into(),
            theirs,
            screen,
            program,
        }
    }

    /// What is on it now.
    pub(crate) fn text(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    /// Waits until a line of it has all of these.
    pub(crate) fn until(&self, words: &[&str]) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.text();
            let all = |line: &str| words.iter().all(|word| line.contains(word));
            if let Some(line) = text.lines().find(|line| all(line)) {
                return line.to_owned();
            }
            assert!(Instant::now() < deadline, "no {words:?} on\n{text}");
            sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for the program, which leaves the terminal as it was. Its exit status.
    pub(crate) fn end(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.program.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it runs on:\n{}", self.text());
            sleep(Duration::from_millis(10));
        };
        // What it wrote last may still be on its way.
        while !self.is_as_it_was() {
            assert!(Instant::now() < deadline, "not restored:\n{}", self.text());
            sleep(Duration::from_millis(10));
        }
        status.code()
    }

    /// Shows what was there before, with a cursor, and takes lines of what is typed.
    fn is_as_it_was(&self) -> bool {
        let screen = self.screen.lock().unwrap();
        let modes = tcgetattr(&self.theirs).unwrap().local_modes;
        let lines = LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        !screen.screen().alternate_screen()
            && !screen.screen().hide_cursor()
            && modes.contains(lines)
    }

    /// Shows the program, and nothing of what was before.
    pub(crate) fn is_taken(&self) -> bool {
        self.screen.lock().unwrap().screen().alternate_screen()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}
