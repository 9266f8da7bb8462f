//! Pools of floating IPs.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use trestle_api::{NewPool, Page, PageQuery, Pool, PoolRangeRequest};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Front;
use super::answer::{Answer, Collisions, Created, Refusals};
use super::extract::{Authenticated, JsonBody, Path, Query};
use crate::app::App;

pub(super) fn routes() -> OpenApiRouter<Front> {
    OpenApiRouter::new()
        .routes(routes!(create_pool, list_pools))
        .routes(routes!(pool, delete_pool))
        .routes(routes!(add_pool_range))
        .routes(routes!(remove_pool_range))
}

/// Makes a pool.
#[utoipa::path(post, path = "/v1/pools", tag = "floating IPs", request_body = NewPool, responses(
    (status = 201, description = "the pool", body = Pool), Refusals, Collisions,
))]
async fn create_pool(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    JsonBody(new): JsonBody<NewPool>,
) -> Answer<Created<Pool>> {
    Ok(Created(app.create_pool(&caller, new).await?))
}

/// Lists the pools.
#[utoipa::path(get, path = "/v1/pools", tag = "floating IPs", params(PageQuery), responses(
    (status = 200, description = "a page of pools", body = Page<Pool>), Refusals,
))]
async fn list_pools(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Query(page): Query<PageQuery>,
) -> Answer<Json<Page<Pool>>> {
    Ok(Json(app.list_pools(&caller, &page).await?))
}

/// Shows a pool.
#[utoipa::path(get, path = "/v1/pools/{pool}", tag = "floating IPs",
    params(("pool" = String, Path, description = "the pool, by name or id")), responses(
    (status = 200, description = "the pool", body = Pool), Refusals,
))]
async fn pool(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(pool): Path<String>,
) -> Answer<Json<Pool>> {
    Ok(Json(app.pool(&caller, &pool).await?))
}

/// Deletes a pool of which no project has an address any more.
#[utoipa::path(delete, path = "/v1/pools/{pool}", tag = "floating IPs",
    params(("pool" = String, Path, description = "the pool, by name or id")), responses(
    (status = 204, description = "it is gone"), Refusals, Collisions,
))]
async fn delete_pool(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(pool): Path<String>,
) -> Answer<StatusCode> {
    app.delete_pool(&caller, &pool).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Adds addresses to a pool.
#[utoipa::path(post, path = "/v1/pools/{pool}/ranges", tag = "floating IPs", request_body = PoolRangeRequest,
    params(("pool" = String, Path, description = "the pool, by name or id")), responses(
    (status = 200, description = "the pool with its addresses", body = Pool), Refusals, Collisions,
))]
async fn add_pool_range(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(pool): Path<String>,
    JsonBody(request): JsonBody<PoolRangeRequest>,
) -> Answer<Json<Pool>> {
    Ok(Json(app.add_pool_range(&caller, &pool, request).await?))
}

/// Takes addresses of which no project has any out of a pool.
#[utoipa::path(post, path = "/v1/pools/{pool}/ranges/remove", tag = "floating IPs",
    request_body = PoolRangeRequest,
    params(("pool" = String, Path, description = "the pool, by name or id")), responses(
    (status = 200, description = "the pool with its addresses", body = Pool), Refusals, Collisions,
))]
async fn remove_pool_range(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(pool): Path<String>,
    JsonBody(request): JsonBody<PoolRangeRequest>,
) -> Answer<Json<Pool>> {
    Ok(Json(app.remove_pool_range(&caller, &pool, request).await?))
}
