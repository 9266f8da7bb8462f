//! One log line and one measurement per request. Never the token, nor anything else of a header.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use tracing::Instrument;
use uuid::Uuid;

use super::Front;
use super::answer::HttpError;
use crate::metrics::RequestLabels;

/// Names a request in the log, and in the answer for who reports a fault.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

pub(super) async fn observe(State(front): State<Front>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = Uuid::now_v7();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());

    let span = tracing::debug_span!("request", request_id = %id);
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().instrument(span).await;
    // The panic hook has logged what happened.
    let mut response = answered.unwrap_or_else(|_| HttpError::panicked().into_response());

    let took = started.elapsed();
    let status = response.status().as_u16();
    front.metrics.observe(RequestLabels::new(route, &method, status), took);
    log(&method, &path, status, took, id);
    if let Ok(id) = HeaderValue::try_from(id.to_string()) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// Changes are of interest to an operator; who looks at what, only while searching for a fault.
fn log(method: &Method, path: &str, status: u16, took: Duration, id: Uuid) {
    let duration_ms = took.as_secs_f64() * 1000.0;
    if method.is_safe() || path.ends_with("/report") {
        tracing::debug!(%method, path, status, duration_ms, request_id = %id, "answered");
    } else {
        tracing::info!(%method, path, status, duration_ms, request_id = %id, "answered");
    }
}
