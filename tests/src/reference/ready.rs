//! The line by which a server says that it serves.

use std::fmt::{Display, Write as _};

use super::Info;

/// `ready pid=PID generation=N NAME=ADDR…`, with a line end. Write it in one piece: successors
/// share the pipe.
#[must_use]
pub fn ready_line<N: Display, A: Display>(
    info: Info,
    sockets: impl IntoIterator<Item = (N, A)>,
) -> String {
    let mut line = format!("ready pid={} generation={}", info.pid, info.generation);
    for (name, address) in sockets {
        // Writing to a String cannot fail.
        let _ = write!(line, " {name}={address}");
    }
    line.push('\n');
    line
}
