//! What machines ask without a token: health, metrics and the OpenAPI document.

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde::Serialize;
use trestle_api::ErrorBody;
use utoipa::ToSchema;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Front;
use super::answer::Answer;
use crate::app::App;
use crate::metrics::CONTENT_TYPE as METRICS_TYPE;

pub(super) fn routes() -> OpenApiRouter<Front> {
    OpenApiRouter::new().routes(routes!(health)).routes(routes!(metrics)).routes(routes!(document))
}

/// That the controller can do its work.
#[derive(Serialize, ToSchema)]
struct Health {
    /// `ok`.
    status: &'static str,
}

/// Says whether the controller can do its work.
#[utoipa::path(get, path = "/healthz", tag = "service", security(()), responses(
    (status = 200, description = "it can", body = Health),
    (status = 503, description = "the database is away, locked or full", body = ErrorBody),
))]
async fn health(State(app): State<App>) -> Answer<Json<Health>> {
    app.health().await?;
    Ok(Json(Health { status: "ok" }))
}

/// Says what Prometheus collects. Where the database is away, without what is counted there.
#[utoipa::path(get, path = "/metrics", tag = "service", security(()), responses(
    (status = 200, description = "OpenMetrics text", body = String,
     content_type = "application/openmetrics-text"),
))]
async fn metrics(State(front): State<Front>) -> impl IntoResponse {
    let counts = front.app.counts().await;
    ([(CONTENT_TYPE, METRICS_TYPE)], front.metrics.render(counts.ok().as_ref()))
}

/// Gives this document.
#[utoipa::path(get, path = "/openapi.json", tag = "service", operation_id = "openapi", security(()), responses(
    (status = 200, description = "OpenAPI 3.1", body = Object),
))]
async fn document() -> Json<OpenApi> {
    Json(super::openapi())
}
