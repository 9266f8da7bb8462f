//! The REST API over [`crate::app`]: one file per resource, handlers of a few lines.
//!
//! Handlers extract, ask the app layer and answer; they decide nothing. Routes and the OpenAPI
//! document come from the same attributes, so they cannot drift. Whatever goes wrong, axum's own
//! rejections included, is answered with the one error envelope.

mod address_groups;
mod answer;
mod dns;
mod document;
mod events;
mod explain;
mod extract;
mod fixed_ips;
mod floating_ips;
mod history;
mod hosts;
mod instances;
mod networks;
mod observe;
mod pools;
mod projects;
mod security_groups;
mod service;
mod tokens;
mod unconfirmed;
mod vpns;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRef};
use axum::http::{Method, Uri};
use axum::middleware;
use utoipa_axum::router::OpenApiRouter;

use self::answer::HttpError;
use crate::app::App;
use crate::metrics::Metrics;
use crate::server::Shutdown;

pub use self::document::openapi;

/// The largest body of a request, in bytes.
const BODY_LIMIT: usize = 1 << 20;

/// What handlers share.
#[derive(Clone)]
struct Front {
    app: App,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
}

impl FromRef<Front> for App {
    fn from_ref(front: &Front) -> Self {
        front.app.clone()
    }
}

/// The API of this app. Long polls and event streams end when `shutdown` says so.
pub fn router(app: App, shutdown: Shutdown) -> Router {
    let front = Front { app, metrics: Arc::new(Metrics::new()), shutdown };
    let (router, _) = routes().split_for_parts();
    router
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::from_fn(unconfirmed::name_hosts))
        .layer(middleware::from_fn_with_state(front.clone(), observe::observe))
        .with_state(front)
}

/// Every route, with its part of the document.
fn routes() -> OpenApiRouter<Front> {
    OpenApiRouter::with_openapi(document::frame())
        .merge(projects::routes())
        .merge(hosts::routes())
        .merge(networks::routes())
        .merge(instances::routes())
        .merge(fixed_ips::routes())
        .merge(pools::routes())
        .merge(floating_ips::routes())
        .merge(vpns::routes())
        .merge(dns::routes())
        .merge(security_groups::routes())
        .merge(address_groups::routes())
        .merge(history::routes())
        .merge(explain::routes())
        .merge(events::routes())
        .merge(tokens::routes())
        .merge(service::routes())
}

async fn unknown_path(uri: Uri) -> HttpError {
    HttpError::unknown_path(uri.path())
}

async fn unknown_method(method: Method, uri: Uri) -> HttpError {
    HttpError::unknown_method(&method, uri.path())
}
