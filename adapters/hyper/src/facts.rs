//! What the requests of a connection have among their extensions.

use std::{fmt, sync::Arc};

use handover::{Connection, Graceful};
use http::Extensions;

type Put = dyn Fn(&Arc<Connection>, &mut Extensions) + Send + Sync;

/// Makes the extensions of a connection's requests: its own, the token, and what others add.
///
/// They are made once for a connection and cloned for each request: to put them in one by one costs
/// more, as the map grows with them.
#[derive(Clone, Default)]
pub(crate) struct Facts {
    more: Vec<Arc<Put>>,
}

impl Facts {
    pub(crate) fn add<F>(&mut self, put: F)
    where
        F: Fn(&Arc<Connection>, &mut Extensions) + Send + Sync + 'static,
    {
        self.more.push(Arc::new(put));
    }

    pub(crate) fn of(&self, connection: &Arc<Connection>, told: &Graceful) -> Extensions {
        let mut extensions = Extensions::new();
        extensions.insert(connection.clone());
        // Its own, for threads would meet in the count of the server's with each request.
        extensions.insert(told.apart());
        for put in &self.more {
            put(connection, &mut extensions);
        }
        extensions
    }
}

impl fmt::Debug for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Facts").finish_non_exhaustive()
    }
}
