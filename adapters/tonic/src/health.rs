//! The standard health service, as a drain has it.

use std::{collections::HashMap, fmt, pin::Pin, sync::Arc};

use futures_util::{Stream, stream};
use handover::{Graceful, Phase, Phases};
use tokio::sync::watch;
use tonic::{Request, Response, Status, server::NamedService};
use tonic_health::{
    ServingStatus,
    pb::{
        HealthCheckRequest, HealthCheckResponse, health_check_response,
        health_server::{self, HealthServer},
    },
};

/// The name that stands for the whole server.
const ALL: &str = "";

/// A health service that needs no more: it says that the server serves, until it drains.
///
/// ```
/// use tonic::service::Routes;
///
/// let routes = Routes::new(handover_tonic::health());
/// ```
///
/// For services with a health of their own, see [`Health`].
///
/// # Examples
///
/// ```
/// use tonic::service::Routes;
///
/// let routes = Routes::new(handover_tonic::health());
/// # drop(routes);
/// ```
#[must_use]
pub fn health() -> HealthServer<Health> {
    Health::new().server()
}

/// The standard health service (`grpc.health.v1.Health`), which follows the drain by itself.
///
/// What drains is the token in a call's extensions: the service's own under
/// [`serve`](crate::serve), and with [`DrainLayer`](crate::DrainLayer). When that stops, from its
/// lame duck on, each name is `NOT_SERVING`, at once and in every open `Watch`, whatever it was set
/// to. In an upgrade nothing changes: who asks is asked to connect again, and the successor answers.
///
/// `""` stands for the whole server and is `SERVING` from the start.
///
/// `List` is `UNIMPLEMENTED`: the definitions of `tonic_health`, which this stands on, lack it.
///
/// ```
/// use handover_tonic::Health;
/// use tonic::service::Routes;
/// use tonic_health::ServingStatus;
///
/// let health = Health::new();
/// health.set("handover.example.v1.Search", ServingStatus::NotServing);
/// let routes = Routes::new(health.server());
/// // When its index has been read:
/// health.set("handover.example.v1.Search", ServingStatus::Serving);
/// ```
#[derive(Clone)]
pub struct Health {
    services: Arc<watch::Sender<HashMap<String, ServingStatus>>>,
}

impl Health {
    /// A server that serves, with no services by name.
    #[must_use]
    pub fn new() -> Self {
        let services = HashMap::from([(ALL.to_owned(), ServingStatus::Serving)]);
        Self {
            services: Arc::new(watch::Sender::new(services)),
        }
    }

    /// Says how a service is, by its full name; `""` for the whole server. It makes no difference
    /// while the server stops.
    pub fn set(&self, service: impl Into<String>, status: ServingStatus) {
        self.services.send_modify(|services| {
            services.insert(service.into(), status);
        });
    }

    /// Says that a service serves.
    ///
    /// # Examples
    ///
    /// ```
    /// use handover_tonic::{Health, health};
    /// use tonic::service::Routes;
    ///
    /// /// With the name of each service, as tonic's generated code knows it.
    /// fn routes() -> Routes {
    ///     fn of<S: tonic::server::NamedService>(_: &S, health: Health) -> Health {
    ///         health.serving::<S>()
    ///     }
    ///     let reflection = health(); // stands for a service of yours
    ///     let health = of(&reflection, Health::new());
    ///     Routes::new(health.server()).add_service(reflection)
    /// }
    /// # drop(routes);
    /// ```
    #[must_use]
    pub fn serving<S: NamedService>(self) -> Self {
        self.set(S::NAME, ServingStatus::Serving);
        self
    }

    /// The service for tonic's routes. All clones of this are one health.
    #[must_use]
    pub fn server(&self) -> HealthServer<Self> {
        HealthServer::new(self.clone())
    }

    fn of(&self, service: &str, graceful: Option<&Graceful>) -> Option<ServingStatus> {
        let status = *self.services.borrow().get(service)?;
        match graceful.is_some_and(Graceful::is_stopping) {
            true => Some(ServingStatus::NotServing),
            false => Some(status),
        }
    }
}

fn response(status: health_check_response::ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

fn token<T>(request: &Request<T>) -> Option<Graceful> {
    request.extensions().get().cloned()
}

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let graceful = token(&request);
        let service = &request.get_ref().service;
        match self.of(service, graceful.as_ref()) {
            Some(status) => Ok(Response::new(response(status.into()))),
            None => Err(Status::not_found(format!("no service {service:?} here"))),
        }
    }

    type WatchStream = WatchStream;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<WatchStream>, Status> {
        let graceful = token(&request);
        let watched = Watched {
            changes: self.services.subscribe(),
            phases: graceful.as_ref().map(Graceful::phases),
            health: self.clone(),
            service: request.into_inner().service,
            graceful,
            told: None,
        };
        let statuses = stream::unfold(watched, async |mut watched| {
            let status = watched.next().await?;
            Some((Ok(response(status)), watched))
        });
        Ok(Response::new(WatchStream(Box::pin(statuses))))
    }
}

/// What an open `Watch` looks at.
struct Watched {
    health: Health,
    service: String,
    changes: watch::Receiver<HashMap<String, ServingStatus>>,
    graceful: Option<Graceful>,
    phases: Option<Phases>,
    told: Option<health_check_response::ServingStatus>,
}

impl Watched {
    /// The status, once it differs from what was told last.
    async fn next(&mut self) -> Option<health_check_response::ServingStatus> {
        loop {
            self.changes.mark_unchanged();
            let status = self.health.of(&self.service, self.graceful.as_ref());
            let status = status.map_or(
                health_check_response::ServingStatus::ServiceUnknown,
                Into::into,
            );
            if self.told != Some(status) {
                self.told = Some(status);
                return Some(status);
            }
            tokio::select! {
                changed = self.changes.changed() => changed.ok()?,
                _ = phase(self.phases.as_mut()) => {}
            }
        }
    }
}

async fn phase(phases: Option<&mut Phases>) -> Phase {
    match phases {
        Some(phases) => phases.next().await,
        None => std::future::pending().await,
    }
}

/// The statuses of one service, as they change. Returned by a `Watch` of [`Health`].
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tonic::Status> {
/// use futures_util::StreamExt;
/// use handover_tonic::{Health, WatchStream};
/// use tonic::Request;
/// use tonic_health::{ServingStatus, pb::{HealthCheckRequest, health_server::Health as _}};
///
/// let health = Health::new();
/// health.set("search", ServingStatus::Serving);
/// let request = Request::new(HealthCheckRequest { service: "search".to_owned() });
/// let mut watch: WatchStream = health.watch(request).await?.into_inner();
/// let now = watch.next().await.expect("it does not end by itself")?;
/// assert_eq!(now.status, ServingStatus::Serving as i32);
/// # Ok(())
/// # }
/// ```
pub struct WatchStream(
    Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send + 'static>>,
);

impl Stream for WatchStream {
    type Item = Result<HealthCheckResponse, Status>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for WatchStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchStream").finish_non_exhaustive()
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health")
            .field("services", &*self.services.borrow())
            .finish()
    }
}
