//! The predecessor's view of a successor that serves, until this process has drained.

use std::{io, process::ExitStatus, sync::Arc, time::Duration};

use super::{
    Successor,
    channel::Channel,
    frame::{Decoded, Message},
    process::Process,
    relay::Relay,
};
use crate::{fault, moving::outbound::Route};

/// After an error of the channel.
const PAUSE: Duration = Duration::from_millis(10);

/// A successor that serves, and is watched while we drain.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) successor: Successor,
    process: Option<Process>,
    channel: Option<Arc<Channel>>,
    // How connections go to it.
    route: Route,
    // Ends by itself. Kept, so that standard error is carried as long as we are here.
    _relay: Option<Relay>,
    /// It was told to stop, or has handed over itself: its end is no concern of ours.
    released: bool,
}

/// What became of a successor.
#[derive(Debug)]
pub(crate) enum Ended {
    /// On purpose.
    Released,
    /// It died while it should have served.
    Died(io::Result<ExitStatus>),
}

impl Link {
    pub(crate) fn new(
        successor: Successor,
        process: Option<Process>,
        channel: Channel,
        route: Route,
        relay: Option<Relay>,
    ) -> Self {
        let channel = Arc::new(channel);
        route.open(channel.clone());
        Self {
            successor,
            process,
            channel: Some(channel),
            route,
            _relay: relay,
            released: false,
        }
    }

    /// Waits until the successor's process has ended, and reaps it. Cancel safe.
    pub(crate) async fn ended(&mut self) -> Ended {
        loop {
            let Some(process) = &mut self.process else {
                return Ended::Released;
            };
            let Some(channel) = self.channel.clone() else {
                let status = process.wait().await;
                return self.verdict(status);
            };
            tokio::select! {
                status = process.wait() => {
                    // What it said before it ended counts.
                    self.hear_what_is_there(&channel);
                    return self.verdict(status);
                }
                received = channel.recv() => match received {
                    Ok(Some(received)) => {
                        let claim =
                            matches!(received.message, Decoded::Known(Message::Claimed { .. }));
                        self.heard(&channel, received.message);
                        if claim {
                            fault::comes_to("claim-heard").await;
                        }
                    }
                    // Its process may have closed it and live on: only its end counts. But it
                    // claims no connection any more.
                    Ok(None) => {
                        self.channel = None;
                        self.route.close();
                    }
                    Err(err) => {
                        self.misheard(&err);
                        // One of the kernel's would come again at once.
                        tokio::time::sleep(PAUSE).await;
                    }
                },
                () = self.route.stalled() => {
                    // This process may have been held up itself, and the answers lie here.
                    self.hear_what_is_there(&channel);
                    if !self.route.has_stalled() {
                        continue;
                    }
                    tracing::error!(
                        successor = self.successor.pid(),
                        "the successor neither takes nor refuses connections, killing it"
                    );
                    let Some(process) = &mut self.process else {
                        return Ended::Released;
                    };
                    let _ = process.start_kill();
                    let status = process.wait().await;
                    self.hear_what_is_there(&channel);
                    return self.verdict(status);
                }
            }
        }
    }

    fn hear_what_is_there(&mut self, channel: &Channel) {
        loop {
            match channel.try_recv() {
                Ok(Some(received)) => self.heard(channel, received.message),
                Err(err) if err.kind() == io::ErrorKind::InvalidData => self.misheard(&err),
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// One message is lost; the next may be a claim. So nothing is taken back on that account: if
    /// it was an answer, the time limit will do it.
    fn misheard(&self, err: &io::Error) {
        tracing::warn!(successor = self.successor.pid(), %err, "a message could not be read");
    }

    fn heard(&mut self, channel: &Channel, message: Decoded) {
        match message {
            Decoded::Known(Message::Bye) => self.released = true,
            Decoded::Known(Message::Claimed { ids }) => self.route.claimed(&ids),
            Decoded::Known(Message::Refused { ids, why }) => self.route.refused(&ids, &why),
            Decoded::Known(Message::Held { ids }) => self.route.held(&ids),
            // An older release, which takes none.
            Decoded::Known(Message::Unknown { what }) if what == "connections" => {
                self.route.close();
            }
            Decoded::Known(_) => {}
            Decoded::Unknown(what) => {
                let _ = channel.try_send(&Message::Unknown { what });
            }
        }
    }

    /// Asks the successor to claim what it only holds: it need not be safe any longer.
    pub(crate) fn settle(&self) {
        self.route.settle();
    }

    /// The channel to it, while it has one.
    pub(crate) fn channel(&self) -> Option<Arc<Channel>> {
        self.channel.clone()
    }

    /// Takes back what the successor, which has ended, has not claimed.
    pub(crate) fn take_back(&self) {
        self.route.close();
    }

    fn verdict(&self, status: io::Result<ExitStatus>) -> Ended {
        if self.released {
            Ended::Released
        } else {
            Ended::Died(status)
        }
    }

    /// From now on its end is no concern of ours.
    pub(crate) fn release(&mut self) {
        self.released = true;
    }

    /// Asks the successor to drain, as an operator would.
    pub(crate) fn terminate(&self) {
        if let Some(process) = &self.process
            && let Err(err) = process.terminate()
        {
            tracing::warn!(successor = self.successor.pid(), %err, "cannot stop the successor");
        }
    }

    /// Says that we have drained: the successor is on its own.
    pub(crate) fn say_farewell(&self) {
        if let Some(channel) = &self.channel {
            // If it cannot be sent, the end of the channel says nearly the same.
            let _ = channel.try_send(&Message::Bye);
        }
    }

    /// Reaps the successor, should this process live on.
    pub(crate) fn reap_in_the_end(mut self) {
        self.released = true;
        tokio::spawn(async move { self.ended().await });
    }
}
