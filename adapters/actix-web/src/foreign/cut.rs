//! Whether what is waited for has to end.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use handover::{Graceful, Reached};
use tokio::time::{Sleep, sleep};

/// Asked only by who has to wait; it allocates nothing before the cut.
pub(super) struct Cut {
    graceful: Graceful,
    says_goodbye: bool,
    wait: Wait,
}

enum Wait {
    Unasked,
    Cut(Reached),
    Goodbye(Pin<Box<Sleep>>),
    Over,
}

impl Cut {
    pub(super) fn of(graceful: Graceful) -> Self {
        Self {
            graceful,
            says_goodbye: false,
            wait: Wait::Unasked,
        }
    }

    /// Leaves time for a goodbye: for a connection that has left HTTP.
    pub(super) fn with_goodbye(self) -> Self {
        Self {
            says_goodbye: true,
            ..self
        }
    }

    pub(super) fn graceful(&self) -> &Graceful {
        &self.graceful
    }

    /// Ready once it has come; until then the task is woken by it.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.wait {
                Wait::Unasked => self.wait = Wait::Cut(self.graceful.cutting()),
                Wait::Cut(cut) => {
                    ready!(Pin::new(cut).poll(cx));
                    self.wait = match self.says_goodbye {
                        true => Wait::Goodbye(Box::pin(last_words(&self.graceful))),
                        false => Wait::Over,
                    };
                }
                Wait::Goodbye(goodbye) => {
                    ready!(goodbye.as_mut().poll(cx));
                    self.wait = Wait::Over;
                }
                Wait::Over => return Poll::Ready(()),
            }
        }
    }
}

/// The part of the grace in which what was cut may still speak; the rest is for it to end.
pub(super) fn last_words(graceful: &Graceful) -> Sleep {
    sleep(graceful.policy().cut_grace() * 3 / 4)
}
