//! What others read: what we say, our own manager, the pid file and the status file.

use std::fmt::Write;

use super::{
    super::{config::Output, now, output::Stream, plan::Note},
    Supervisor,
};

impl Supervisor {
    /// Says something to whoever looks after us.
    pub(super) fn say(&self, text: &str) {
        let line = format!("{}: {}\n", self.config.name, crate::show::clean(text));
        let stream = match self.config.output {
            Output::Syslog => Stream::Log,
            _ => Stream::Stderr,
        };
        self.writer.try_write(stream, line.into_bytes());
    }

    /// Tells our own service manager.
    pub(super) fn notify(&mut self, note: &Note) {
        let mut text = String::new();
        let status = match note {
            Note::Serving(_) if !self.announced && self.plan.is_complete() => {
                self.announced = true;
                text += "READY=1\n";
                "serves".to_owned()
            }
            Note::Replaced { generation } => format!("generation {generation} serves"),
            Note::NotReplaced {
                generation, why, ..
            } => {
                format!("generation {generation} does not serve: {why}")
            }
            Note::Ended { why, .. } => format!("a process has ended: {why}"),
            Note::Stopping => {
                text += "STOPPING=1\n";
                "ends".to_owned()
            }
            _ => return,
        };
        if matches!(note, Note::Replaced { .. } | Note::NotReplaced { .. }) && self.announced {
            text += "READY=1\n";
        }
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "STATUS={}",
            status.replace(|c: char| c.is_control(), " ")
        );
        self.notify_text(&text);
    }

    /// Tells it that a replacement begins: its reload ends with the next `READY`.
    pub(super) fn notify_reload(&self) {
        if self.announced {
            let usec = now().as_micros();
            self.notify_text(&format!("RELOADING=1\nMONOTONIC_USEC={usec}\n"));
        }
    }

    fn notify_text(&self, text: &str) {
        if let Some(manager) = &self.manager
            && let Err(err) = manager.send(text, &[])
        {
            self.say(&format!("the service manager was not told: {err}"));
        }
    }

    /// Writes the status file anew.
    pub(super) fn changed(&mut self) {
        let Some(file) = &mut self.status_file else {
            return;
        };
        let children = &self.children;
        let processes = self.plan.processes().filter_map(|(id, process)| {
            // From 1, as `SERVER_STARTER_GENERATION`.
            Some((process.generation + 1, children.get(&id)?.pid))
        });
        if let Err(err) = file.write(processes) {
            let text = format!("the status file cannot be written: {err}");
            self.say(&text);
        }
    }

    /// Removes what says that we are here.
    pub(super) fn remove_files(&mut self) {
        for bound in &self.sockets {
            bound.socket.remove_file();
        }
        if let Some(control) = &self.control {
            control.remove_file();
        }
        self.ack = None;
        if let Some(file) = &self.status_file {
            file.remove();
        }
        if let Some(file) = self.pid_file.take() {
            file.remove();
        }
    }
}
