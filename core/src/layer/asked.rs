use http::{HeaderValue, Request, Version, header::ACCEPT};

/// The type of a stream of server-sent events.
pub(super) const EVENTS: &str = "text/event-stream";

/// What a request says of how its client can be refused, looked up before the service takes it along.
///
/// # Examples
///
/// ```
/// use handover::layer::Asked;
/// use http::{Request, Version, header::ACCEPT};
///
/// let request = Request::get("/news").header(ACCEPT, "text/event-stream").body(())?;
/// let asked = Asked::of(&request);
/// assert!(asked.for_events());
/// assert_eq!(asked.version(), Version::HTTP_11);
/// # Ok::<_, http::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    version: Version,
    for_events: bool,
}

impl Asked {
    /// What this request says.
    #[must_use]
    #[inline]
    pub fn of<B>(request: &Request<B>) -> Self {
        Self {
            version: request.version(),
            for_events: asks_for_events(request.headers().get(ACCEPT)),
        }
    }

    /// The version of HTTP that its client speaks. One of HTTP/1.0 is told to go by [one
    /// word](super::announce_to).
    #[must_use]
    pub fn version(self) -> Version {
        self.version
    }

    /// Whether it [asks for events](asks_for_events). Its client is refused with an empty stream of
    /// them, and not with the 503 after which it would never come back.
    #[must_use]
    pub fn for_events(self) -> bool {
        self.for_events
    }
}

impl Default for Asked {
    /// A request of HTTP/1.1 for something else than events.
    fn default() -> Self {
        Self {
            version: Version::HTTP_11,
            for_events: false,
        }
    }
}

/// Whether a request that accepts this comes from an `EventSource`, or from who wants what one gets.
///
/// # Examples
///
/// ```
/// use handover::layer::asks_for_events;
/// use http::{HeaderValue, Request, header::ACCEPT};
///
/// let mut request = Request::new(());
/// assert!(!asks_for_events(request.headers().get(ACCEPT)));
/// request.headers_mut().insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
/// assert!(asks_for_events(request.headers().get(ACCEPT)));
/// ```
#[must_use]
pub fn asks_for_events(accept: Option<&HeaderValue>) -> bool {
    let Some(accepted) = accept.map(HeaderValue::as_bytes) else {
        return false;
    };
    // Nearly always that alone, or something that is shorter.
    let mut ranges = accepted.split(|byte| *byte == b',');
    accepted.len() >= EVENTS.len()
        && ranges.any(|range| {
            let range = range.trim_ascii();
            let name = range.get(..EVENTS.len());
            name.is_some_and(|name| name.eq_ignore_ascii_case(EVENTS.as_bytes()))
        })
}
