//! Reads the header of one connection, in a task of its own.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::{Instant, timeout},
};

use super::{
    ProxyPolicy,
    header::{self, Said, Scan},
    stream::ProxyStream,
};
use crate::{
    Holder, Kind,
    accept::{Address, Proxied},
    holder::{Describe, Holding},
};

/// How headers are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) policy: ProxyPolicy,
    pub(super) time: Duration,
    pub(super) longest: usize,
}

/// A connection whose header has been read.
pub(super) struct Read<Io> {
    pub(super) io: ProxyStream<Io>,
    pub(super) peer: Address,
    /// Until whoever serves it has a holder of its own.
    pub(super) holder: Option<Holder>,
}

/// What holds the drain open while a header is read.
pub(super) struct Half {
    peer: String,
    since: Instant,
    begun: AtomicBool,
}

impl Half {
    pub(super) fn new(peer: &Address) -> Arc<Self> {
        Arc::new(Self {
            peer: peer.to_string(),
            since: Instant::now(),
            begun: AtomicBool::new(false),
        })
    }
}

impl Describe for Half {
    fn describe(&self) -> Holding {
        let kind = match self.begun.load(Relaxed) {
            true => Kind::Head,
            false => Kind::Fresh,
        };
        Holding {
            what: Some("of the PROXY protocol".to_owned()),
            peer: Some(self.peer.clone()),
            ..Holding::new(kind, self.since.elapsed())
        }
    }
}

/// Why there is no connection.
enum Lost {
    /// Its peer has closed it before it sent anything: a look whether the port is open.
    Unused,
    Failed(io::Error),
    Broken(String),
}

/// Reads the header, within its time and before the cut. `None` if the connection is over.
pub(super) async fn read<Io: AsyncRead + Unpin>(
    mut io: Io,
    peer: Address,
    rules: Rules,
    half: Arc<Half>,
    holder: Holder,
) -> Option<Read<Io>> {
    let mut bytes = Vec::new();
    let found = tokio::select! {
        biased;
        found = timeout(rules.time, whole(&mut io, &mut bytes, rules, &half)) => found,
        () = holder.cutting() => return None,
    };
    let said = match found {
        Ok(Ok(true)) => header::read(&bytes).map(Some).map_err(Lost::Broken),
        Ok(Ok(false)) => missing(rules).map(|()| None),
        Ok(Err(lost)) => Err(lost),
        // Without a byte it may be a client's own connection, which it has not used yet.
        Err(_) if bytes.is_empty() && rules.policy == ProxyPolicy::Optional => Ok(None),
        Err(_) => Err(Lost::Broken(format!(
            "it did not come within {:?}",
            rules.time
        ))),
    };
    let (read, said) = match said {
        Ok(None) => (bytes, None),
        Ok(Some(said)) => (Vec::new(), Some(said)),
        Err(Lost::Unused) => {
            tracing::trace!(%peer, "closed before a PROXY header");
            return None;
        }
        Err(Lost::Failed(error)) => {
            tracing::debug!(%peer, %error, "a connection failed before its PROXY header");
            return None;
        }
        Err(Lost::Broken(why)) => {
            super::refused(&peer, &why);
            return None;
        }
    };
    let (client, said) = match said {
        Some(Said::Proxied(addresses, tlvs)) => {
            let (from, to) = addresses.unzip();
            let said = Proxied::new(peer.clone(), to.map(Address::Tcp), tlvs);
            (from.map_or(peer, Address::Tcp), Some(Arc::new(said)))
        }
        Some(Said::Local) | None => (peer, None),
    };
    Some(Read {
        io: ProxyStream::new(io, read, said),
        peer: client,
        holder: Some(holder),
    })
}

fn missing(rules: Rules) -> Result<(), Lost> {
    match rules.policy {
        ProxyPolicy::Require => Err(Lost::Broken("there is none".to_owned())),
        ProxyPolicy::Optional | ProxyPolicy::Off => Ok(()),
    }
}

/// Reads a header to its end and no further; false as soon as it can be none.
async fn whole<Io: AsyncRead + Unpin>(
    io: &mut Io,
    bytes: &mut Vec<u8>,
    rules: Rules,
    half: &Half,
) -> Result<bool, Lost> {
    loop {
        let more = match header::scan(bytes, rules.longest).map_err(Lost::Broken)? {
            Scan::More(more) => more,
            Scan::Whole => return Ok(true),
            Scan::Other => return Ok(false),
        };
        let before = bytes.len();
        bytes.reserve(more);
        let read = (&mut *io).take(more as u64).read_buf(bytes).await;
        read.map_err(Lost::Failed)?;
        if bytes.len() == before {
            return match before {
                0 => Err(Lost::Unused),
                // Whoever serves it says what is wrong with it.
                _ if rules.policy == ProxyPolicy::Optional => Ok(false),
                _ => Err(Lost::Broken("it breaks off".to_owned())),
            };
        }
        half.begun.store(true, Relaxed);
    }
}
