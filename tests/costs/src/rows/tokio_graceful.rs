use std::{future::pending, sync::Arc};

use tokio::runtime::{self, Runtime};
use tokio_graceful::{Shutdown, ShutdownGuard};

/// A guard of tokio-graceful's, and what keeps it from being told: a `Shutdown` tells everybody when
/// it is dropped, and so does one that is made without a signal, and that of a runtime which is gone.
#[derive(Clone)]
pub(super) struct NeverTold {
    pub(super) guard: ShutdownGuard,
    _shutdown: Arc<Shutdown>,
    _runtime: Arc<Runtime>,
}

pub(super) fn never_told() -> NeverTold {
    let runtime = runtime::Builder::new_current_thread().build();
    let runtime = Arc::new(runtime.expect("a runtime can be made"));
    // It spawns what waits for the signal.
    let shutdown = {
        let _entered = runtime.enter();
        Arc::new(Shutdown::new(pending::<()>()))
    };
    NeverTold {
        guard: shutdown.guard(),
        _shutdown: shutdown,
        _runtime: runtime,
    }
}
