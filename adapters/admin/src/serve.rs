//! Serves for as long as there is something to say.

use std::{fmt, future::IntoFuture, io, pin::Pin, sync::Arc};

use handover::{Accept, Generation, Graceful, Phase};

use crate::{access::Access, service::Service, snapshot::Snapshots};

/// Serves the admin surface of a generation on a listener. See the [crate](crate).
///
/// # Examples
///
/// ```no_run
/// use handover::Generation;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let generation = Generation::start()?;
/// // Nobody but this user may upgrade and drain it; others have the probes of the service itself.
/// let listener = generation.listen("admin=unix:/run/app.admin").await?;
/// tokio::spawn(handover_admin::serve(listener, &generation).into_future());
/// generation.ready().await?;
/// # Ok(())
/// # }
/// ```
pub fn serve<A: Accept>(listener: A, generation: &Generation) -> Admin<A> {
    Admin {
        listener,
        generation: generation.clone(),
        access: Access::default(),
        metrics: None,
    }
}

/// The text of all metrics.
pub(crate) type Metrics = Arc<dyn Fn() -> String + Send + Sync>;

/// An admin surface that is not served yet. Returned by [`serve`]; await it, in a task of its own.
///
/// It ends with the generation, or, after an upgrade, when its last connection has gone to the
/// successor.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use handover::Generation;
/// use tokio::{io::{AsyncReadExt, AsyncWriteExt}, net::TcpStream};
///
/// let generation = Generation::start()?;
/// let listener = generation.listen("admin=127.0.0.1:0").await?;
/// let address = listener.local_addr()?.to_string();
/// let admin = handover_admin::serve(listener, &generation)
///     .with_token("a secret of the cluster's")
///     .with_metrics(|| "app_answers_total 42\n".to_owned());
/// tokio::spawn(admin.into_future());
/// generation.ready().await?;
///
/// let mut client = TcpStream::connect(address).await?;
/// client.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await?;
/// let mut answer = String::new();
/// client.read_to_string(&mut answer).await?;
/// assert!(answer.contains("app_answers_total 42"), "{answer}");
/// # Ok(())
/// # }
/// ```
#[must_use = "servers do nothing unless awaited"]
pub struct Admin<A> {
    listener: A,
    generation: Generation,
    access: Access,
    metrics: Option<Metrics>,
}

impl<A> Admin<A> {
    /// Lets those upgrade, drain and cut who have this token: `Authorization: Bearer …`.
    ///
    /// Without one, whoever connects to a Unix socket may, and nobody on any other listener. An
    /// empty one counts as none.
    pub fn with_token(mut self, token: impl AsRef<str>) -> Self {
        self.access = Access::by_token(token.as_ref());
        self
    }

    /// Answers `/metrics` with this, in Prometheus' text format: a recorder's `render`, say. With the
    /// feature `metrics` it is told before [what is so now](crate::metrics::record).
    pub fn with_metrics(mut self, render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.metrics = Some(Arc::new(render));
        self
    }
}

impl<A> fmt::Debug for Admin<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin")
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

impl<A: Accept> IntoFuture for Admin<A> {
    type Output = io::Result<()>;
    type IntoFuture = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        // A drain of its own: it must neither hold the service's open nor end with its beginning.
        let graceful = Graceful::with_policy(self.generation.graceful().policy().clone());
        let health = self.generation.health();
        let generation = self.generation.clone();
        let service = Service::new(
            Arc::new(Snapshots::new(self.generation)),
            health,
            self.access,
            self.metrics,
        );
        let server = handover_hyper::serve(self.listener, service).with_graceful(graceful.clone());
        Box::pin(async move {
            tokio::select! {
                served = server => served.map(drop),
                () = follow(&generation, &graceful) => Ok(()),
            }
        })
    }
}

/// Drains with an upgrade, and takes that back with it; ends with the generation.
async fn follow(generation: &Generation, graceful: &Graceful) {
    let service = generation.graceful();
    let mut phases = service.phases();
    // Until there is no way back, somebody must be there to go it.
    let mut here = None;
    loop {
        match phases.next().await {
            Phase::Running => {
                here = None;
                graceful.resume();
            }
            Phase::Drained => break,
            _ => {
                if let Some(reason) = service.reason().filter(|reason| reason.is_upgrade()) {
                    here = here.or_else(|| graceful.guard());
                    graceful.drain_for(reason);
                }
            }
        }
    }
    drop(here);
    generation.finished().await;
}
