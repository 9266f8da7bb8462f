//! Events: as pages, and as they happen.

use std::collections::VecDeque;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName};
use axum::response::sse::{self, KeepAlive, Sse};
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use tokio::sync::watch;
use trestle_api::{Event, EventFilter, Page, PageQuery};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Front;
use super::answer::{Answer, HttpError, Refusals};
use super::extract::{Authenticated, QueryPair, Secret};
use crate::app::App;
use crate::error::AppError;
use crate::server::Shutdown;

/// Where a client that lost its connection goes on (WHATWG HTML §9.2.4).
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// How often a silent stream says that it lives, so that no proxy cuts it.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub(super) fn routes() -> OpenApiRouter<Front> {
    OpenApiRouter::new().routes(routes!(list_events)).routes(routes!(stream_events))
}

/// Where an event stream begins.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Start {
    /// Only events behind the one of this id; all there are if absent.
    after: Option<u64>,
}

/// Lists events, the oldest first.
#[utoipa::path(get, path = "/v1/events", tag = "events", params(EventFilter, PageQuery), responses(
    (status = 200, description = "a page of events", body = Page<Event>), Refusals,
))]
async fn list_events(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    QueryPair(filter, page): QueryPair<EventFilter, PageQuery>,
) -> Answer<Json<Page<Event>>> {
    Ok(Json(app.list_events(&caller, &filter, &page).await?))
}

/// Streams events as they happen, as server-sent events: `id` and `event` are the event's id and
/// kind, `data` is the event. The header `Last-Event-ID` wins over `after`.
#[utoipa::path(get, path = "/v1/events/stream", tag = "events", params(EventFilter, Start,
    ("last-event-id" = Option<u64>, Header, description = "the id of the last event seen"),
), responses(
    (status = 200, description = "events until the controller ends", body = Event,
     content_type = "text/event-stream"), Refusals,
))]
async fn stream_events(
    State(front): State<Front>,
    Secret(secret): Secret,
    QueryPair(filter, start): QueryPair<EventFilter, Start>,
    headers: HeaderMap,
) -> Answer<Sse<impl Stream<Item = Result<sse::Event, axum::Error>>>> {
    let after = match last_event_id(&headers)? {
        Some(seen) => seen,
        None => {
            let caller = front.app.authenticate(&secret).await?;
            front.app.first_event(&caller, &filter, start.after.unwrap_or(0)).await?
        }
    };
    let revision = front.app.subscribe();
    let mut follower = Follower {
        app: front.app,
        shutdown: front.shutdown,
        secret,
        filter,
        after,
        revision,
        ready: VecDeque::new(),
    };
    // What is wrong with the request is answered with its status, not with a stream that ends.
    follower.read().await?;
    let events = stream::unfold(follower, async |mut follower| {
        let event = follower.next().await?;
        let data = sse::Event::default().id(event.id.to_string()).event(&event.kind).json_data(&event);
        Some((data, follower))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// Follows the events that one caller may see.
struct Follower {
    app: App,
    shutdown: Shutdown,
    secret: String,
    filter: EventFilter,
    after: u64,
    revision: watch::Receiver<u64>,
    ready: VecDeque<Event>,
}

impl Follower {
    /// The next event; `None` when the stream must end.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if let Err(error) = self.read().await {
                // The status is sent already. The client asks again and is told.
                tracing::debug!(error = &error as &dyn std::error::Error, "event stream ends");
                return None;
            }
            if self.ready.is_empty() {
                tokio::select! {
                    changed = self.revision.changed() => changed.ok()?,
                    () = self.shutdown.requested() => return None,
                }
            }
        }
    }

    /// Reads what happened since. The token is looked at each time: it may have been revoked.
    async fn read(&mut self) -> Result<(), AppError> {
        // Before the read, so that what happens during it wakes us again.
        self.revision.mark_unchanged();
        let caller = self.app.authenticate(&self.secret).await?;
        self.ready.extend(self.app.events_after(&caller, &self.filter, self.after).await?);
        self.after = self.ready.back().map_or(self.after, |event| event.id);
        Ok(())
    }
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, HttpError> {
    let Some(value) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    let id = value.to_str().ok().and_then(|text| text.parse().ok());
    id.map(Some).ok_or_else(|| HttpError::malformed("the header Last-Event-ID is not the id of an event"))
}
