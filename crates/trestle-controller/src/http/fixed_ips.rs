//! Fixed IPs.

use axum::Json;
use axum::extract::State;
use trestle_api::{FixedIp, FixedIpFilter, Page, PageQuery};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Front;
use super::answer::{Answer, Refusals};
use super::extract::{Authenticated, QueryPair};
use crate::app::App;

pub(super) fn routes() -> OpenApiRouter<Front> {
    OpenApiRouter::new().routes(routes!(list_fixed_ips))
}

/// Lists the addresses that are or were in use and that the token's holder may see.
#[utoipa::path(get, path = "/v1/fixed-ips", tag = "fixed IPs", params(FixedIpFilter, PageQuery), responses(
    (status = 200, description = "a page of fixed IPs", body = Page<FixedIp>), Refusals,
))]
async fn list_fixed_ips(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    QueryPair(filter, page): QueryPair<FixedIpFilter, PageQuery>,
) -> Answer<Json<Page<FixedIp>>> {
    Ok(Json(app.list_fixed_ips(&caller, &filter, &page).await?))
}
