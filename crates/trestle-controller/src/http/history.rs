//! History: who had an address when.

use axum::Json;
use axum::extract::State;
use trestle_api::{HistoryFilter, Holding, Page, PageQuery};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Front;
use super::answer::{Answer, Refusals};
use super::extract::{Authenticated, Path, QueryPair};
use crate::app::App;

pub(super) fn routes() -> OpenApiRouter<Front> {
    OpenApiRouter::new().routes(routes!(address_history))
}

/// Tells who had an address when, as far as the token's holder may know, the newest first.
#[utoipa::path(get, path = "/v1/addresses/{address}/history", tag = "history",
    params(("address" = String, Path, description = "the address, a fixed or a floating IP"), HistoryFilter, PageQuery),
    responses(
    (status = 200, description = "a page of who had it", body = Page<Holding>), Refusals,
))]
async fn address_history(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(address): Path<String>,
    QueryPair(filter, page): QueryPair<HistoryFilter, PageQuery>,
) -> Answer<Json<Page<Holding>>> {
    Ok(Json(app.address_history(&caller, &address, &filter, &page).await?))
}
