//! `handover status --watch`: where a service stands, as it changes.
//!
//! Whoever answers at the control socket is asked again and again. So in an upgrade it is the
//! successor that answers from some moment on, also for the process before it.

#[cfg(feature = "watch")]
mod draw;
#[cfg(feature = "watch")]
mod model;
mod plain;
mod poll;
#[cfg(feature = "watch")]
mod screen;
#[cfg(all(test, feature = "watch"))]
mod tests;

use handover_supervisor::{Client, Error};

use self::poll::Update;
use crate::{args, exit::Exit, show::Show};

/// Watches until the user has had enough, or the service has gone.
pub(super) fn run(args: &args::Status) -> Exit {
    let updates = poll::start(Client::new(&args.service.control), args.timeout);
    let mut show = Show::lines(args.service.json);
    // The first one tells whether there is anything to watch.
    let first = match updates.recv() {
        Ok(Update::Status(status)) => status,
        Ok(Update::Other(event)) => {
            show.event(&event);
            return super::outcome(&event).unwrap_or(Exit::Lost);
        }
        Ok(Update::NoAnswer(err) | Update::Gone(err)) => return super::failed(&mut show, &err),
        Err(_) => return Exit::Lost,
    };
    #[cfg(feature = "watch")]
    if !args.service.json && screen::is_there() {
        let end = screen::run(first, &updates);
        return ended(&mut show, end);
    }
    let end = plain::run(first, &updates, &mut show);
    ended(&mut show, end)
}

/// Why there is nothing more to watch.
enum End {
    /// The user has had enough.
    Quit,
    /// Nobody serves any more.
    Gone(Error),
    /// The terminal does not do what it should.
    #[cfg(feature = "watch")]
    Terminal(std::io::Error),
}

fn ended(show: &mut Show, end: End) -> Exit {
    match end {
        End::Quit => Exit::Done,
        End::Gone(err) => {
            show.error(&err);
            Exit::Lost
        }
        #[cfg(feature = "watch")]
        End::Terminal(err) => {
            eprintln!("handover: the terminal cannot be used: {err}");
            Exit::Lost
        }
    }
}
