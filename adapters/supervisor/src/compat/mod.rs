//! This program under another's name: it takes that one's flags, and does what that one promises.
//!
//! It is called so by a link of that name, or by `handover compat NAME`. What those programs do
//! wrong is not done.

mod socketmaster;
mod start_server;

use std::{ffi::OsString, path::Path, process::ExitCode};

use crate::run::config::Config;

/// What is to be done with another's flags.
pub(crate) enum Task {
    /// Hold sockets and run a program.
    Run(Box<Config>),
    /// Something short, which this is the outcome of.
    Done(ExitCode),
}

/// As whom we were called, and with which arguments.
pub(crate) struct Called {
    read: fn(Vec<OsString>) -> Result<Task, String>,
    name: &'static str,
    args: Vec<OsString>,
}

impl Called {
    /// Finds it in the arguments, which begin with our name.
    pub(crate) fn by(args: &[OsString]) -> Option<Self> {
        let name = |arg: &OsString| Path::new(arg).file_name().map(ToOwned::to_owned);
        let first = name(args.first()?)?;
        let (called, rest) = match args.get(1) {
            Some(one) if one == "compat" => (args.get(2)?.clone(), args.get(3..)?),
            _ => (first, args.get(1..)?),
        };
        let (name, read): (_, fn(_) -> _) = match called.to_str()? {
            "socketmaster" => ("socketmaster", socketmaster::read),
            "start_server" => ("start_server", start_server::read),
            _ => return None,
        };
        Some(Self {
            read,
            name,
            args: rest.to_vec(),
        })
    }

    /// Reads the flags and does nothing: ends the process if they cannot be read.
    pub(crate) fn config(self) -> Task {
        (self.read)(self.args).unwrap_or_else(|why| {
            eprintln!("{}: {why}", self.name);
            std::process::exit(2)
        })
    }

    pub(crate) fn run(self) -> ExitCode {
        match self.config() {
            Task::Run(config) => crate::run::run(*config),
            Task::Done(code) => code,
        }
    }
}

/// Flags as Go's and Perl's libraries write them: one dash or two, `=` or the next argument.
struct Flags {
    args: std::vec::IntoIter<OsString>,
    value: Option<String>,
    name: String,
}

impl Flags {
    fn new(args: Vec<OsString>) -> Self {
        Self {
            args: args.into_iter(),
            value: None,
            name: String::new(),
        }
    }

    /// The next flag; `None` where the program begins.
    fn next(&mut self) -> Result<Option<String>, String> {
        if self.value.is_some() {
            return Err(format!("{} takes no value", self.name));
        }
        let is_flag = |arg: &OsString| arg.as_encoded_bytes().starts_with(b"-") && arg != "-";
        let Some(arg) = self.args.as_slice().first().filter(|arg| is_flag(arg)) else {
            return Ok(None);
        };
        let text = arg.to_str().ok_or("a flag is not UTF-8")?.to_owned();
        self.args.next();
        if text == "--" {
            return Ok(None);
        }
        let bare = text
            .strip_prefix("--")
            .or_else(|| text.strip_prefix('-'))
            .unwrap_or(&text);
        let (name, value) = match bare.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (bare, None),
        };
        (self.name, self.value) = (format!("-{name}"), value);
        Ok(Some(name.to_owned()))
    }

    /// Its value.
    fn value(&mut self) -> Result<String, String> {
        if let Some(value) = self.value.take() {
            return Ok(value);
        }
        let next = self.args.next();
        let next = next.ok_or_else(|| format!("{} needs a value", self.name))?;
        next.into_string()
            .map_err(|_| format!("the value of {} is not UTF-8", self.name))
    }

    /// Its value, which is a number.
    fn number(&mut self) -> Result<u64, String> {
        let text = self.value()?;
        text.parse()
            .map_err(|_| format!("{}: {text:?} is not a number", self.name))
    }

    /// Whether it is on, for one that needs no value.
    fn on(&mut self) -> bool {
        !matches!(
            self.value.take().as_deref(),
            Some("false" | "0" | "f" | "F")
        )
    }

    /// The program and its arguments.
    fn rest(self) -> Vec<OsString> {
        self.args.collect()
    }
}

#[cfg(test)]
fn config(
    read: fn(Vec<OsString>) -> Result<Task, String>,
    args: &[&str],
) -> Result<Config, String> {
    match read(args.iter().map(Into::into).collect())? {
        Task::Run(config) => Ok(*config),
        Task::Done(_) => Err("done".to_owned()),
    }
}
