//! What becomes of a packet, and why.

use axum::Json;
use axum::extract::State;
use trestle_api::{ExplainQuery, Explanation};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Front;
use super::answer::{Answer, Refusals};
use super::extract::{Authenticated, Query};
use crate::app::App;

pub(super) fn routes() -> OpenApiRouter<Front> {
    OpenApiRouter::new().routes(routes!(explain))
}

/// Tells what becomes of a packet that begins a connection: each decision on its way, by what hosts are to
/// have. What answers it passes as it does. A member asks about instances of its own project.
#[utoipa::path(get, path = "/v1/explain", tag = "explain", params(ExplainQuery), responses(
    (status = 200, description = "what becomes of it", body = Explanation), Refusals,
))]
async fn explain(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Query(packet): Query<ExplainQuery>,
) -> Answer<Json<Explanation>> {
    Ok(Json(app.explain(&caller, &packet).await?))
}
