//! `handover check`

use std::{error::Error as _, io::Write};

use handover::{Check, Checked, Error};
use tokio::runtime::Builder;

use crate::{args, exit::Exit, show::clean};

pub(super) fn run(args: args::Check) -> Exit {
    match check(&args) {
        Ok(checked) => {
            let text = if args.json {
                serde_json::to_string(&checked).unwrap_or_default() + "\n"
            } else {
                text(&checked)
            };
            // If nobody reads it, there is nobody to be told.
            let _ = std::io::stdout().write_all(text.as_bytes());
            Exit::Done
        }
        Err(err) => {
            let cause = err.source().map(|source| format!(": {source}"));
            let text = format!("the check failed: {err}{}", cause.unwrap_or_default());
            let _ = writeln!(std::io::stderr(), "handover: {}", clean(&text));
            Exit::Failed
        }
    }
}

fn check(args: &args::Check) -> Result<Checked, Error> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    // Clap has seen to it that there is one.
    let mut words = args.program.iter();
    let program = words.next().cloned().unwrap_or_default();
    let mut check = Check::new(program).args(words).timeout(args.timeout);
    if let Some(dir) = &args.dir {
        check = check.dir(dir);
    }
    runtime.block_on(check.run())
}

fn text(checked: &Checked) -> String {
    let mut text = format!(
        "the program can start; it speaks version {} of the protocol\n",
        checked.version
    );
    for socket in &checked.sockets {
        let in_use = if socket.in_use { ", in use now" } else { "" };
        let (kind, address) = (&socket.kind, &socket.address);
        let line = format!("  socket {kind} {address} ({}){in_use}", socket.name);
        text += &(clean(&line) + "\n");
    }
    text
}
