//! A subscriber that keeps what it sees of this crate's spans.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tracing::{
    Event, Id, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Record},
};
use tracing_subscriber::{
    Layer, Registry,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
};

/// All spans so far, in the order in which they were opened.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) spans: Vec<Span>,
    closed: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) index: usize,
    pub(crate) name: &'static str,
    pub(crate) parent: Option<usize>,
    pub(crate) follows: Option<usize>,
    pub(crate) fields: BTreeMap<String, String>,
    /// Their messages.
    pub(crate) events: Vec<String>,
    pub(crate) opened: Instant,
    pub(crate) closed: Option<Closed>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Closed {
    /// How many were closed before, and this one.
    pub(crate) order: usize,
    pub(crate) at: Instant,
}

impl Seen {
    pub(crate) fn children(&self, parent: &Span) -> impl Iterator<Item = &Span> {
        let index = parent.index;
        self.spans
            .iter()
            .filter(move |span| span.parent == Some(index))
    }
}

static SEEN: Mutex<Seen> = Mutex::new(Seen {
    spans: Vec::new(),
    closed: 0,
});

/// From the first call on, all that happens in this process is seen.
pub(crate) fn watch() {
    static SET: LazyLock<()> = LazyLock::new(|| {
        let subscriber = Registry::default().with(Recorder);
        tracing::subscriber::set_global_default(subscriber).unwrap();
    });
    LazyLock::force(&SET);
}

/// What has been seen. Whatever happens waits for the end of this look.
pub(crate) fn seen() -> MutexGuard<'static, Seen> {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Recorder;

/// The place of a span in what was seen.
struct Place(usize);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        if !attributes.metadata().target().starts_with("handover") {
            return;
        }
        let span = ctx.span(id).unwrap();
        let parent = span.parent().and_then(|parent| place(&ctx, &parent.id()));
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let mut seen = seen();
        let index = seen.spans.len();
        span.extensions_mut().insert(Place(index));
        seen.spans.push(Span {
            index,
            name: attributes.metadata().name(),
            parent,
            follows: None,
            fields: fields.0,
            events: Vec::new(),
            opened: Instant::now(),
            closed: None,
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, ctx: Context<'_, S>) {
        if let Some(index) = place(&ctx, id) {
            let mut fields = Fields::default();
            values.record(&mut fields);
            seen().spans[index].fields.extend(fields.0);
        }
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, ctx: Context<'_, S>) {
        if let Some(index) = place(&ctx, id) {
            seen().spans[index].follows = place(&ctx, follows);
        }
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        let Some(span) = ctx.event_span(event) else {
            return;
        };
        if let Some(index) = place(&ctx, &span.id()) {
            let mut fields = Fields::default();
            event.record(&mut fields);
            let message = fields.0.remove("message").unwrap_or_default();
            seen().spans[index].events.push(message);
        }
    }

    fn on_close(&self, id: Id, ctx: Context<'_, S>) {
        if let Some(index) = place(&ctx, &id) {
            let mut seen = seen();
            seen.closed += 1;
            let (order, at) = (seen.closed, Instant::now());
            seen.spans[index].closed = Some(Closed { order, at });
        }
    }
}

fn place<S: Subscriber + for<'a> LookupSpan<'a>>(ctx: &Context<'_, S>, id: &Id) -> Option<usize> {
    let span = ctx.span(id)?;
    let extensions = span.extensions();
    extensions.get::<Place>().map(|place| place.0)
}

#[derive(Default)]
struct Fields(BTreeMap<String, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}
