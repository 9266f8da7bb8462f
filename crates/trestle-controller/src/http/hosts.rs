//! Hosts, and what their agents ask and say.

use axum::Json;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use trestle_api::agent::{Report, SpecQuery};
use trestle_api::{Host, HostFilter, HostPatch, NewHost, Page, PageQuery};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt};
use utoipa_axum::routes;

use super::Front;
use super::answer::{Answer, Collisions, Created, Refusals};
use super::extract::{Authenticated, JsonBody, Path, Query, QueryPair, Secret};
use crate::app::App;

/// The largest report, in bytes: a host with a thousand interfaces and a problem with each key.
const REPORT_LIMIT: usize = 16 << 20;

pub(super) fn routes() -> OpenApiRouter<Front> {
    OpenApiRouter::new()
        .routes(routes!(create_host, list_hosts))
        .routes(routes!(host, patch_host, delete_host))
        .routes(routes!(spec))
        .routes(routes!(report).layer(DefaultBodyLimit::max(REPORT_LIMIT)))
}

/// Makes a host known.
#[utoipa::path(post, path = "/v1/hosts", tag = "hosts", request_body = NewHost, responses(
    (status = 201, description = "the host", body = Host), Refusals, Collisions,
))]
async fn create_host(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    JsonBody(new): JsonBody<NewHost>,
) -> Answer<Created<Host>> {
    Ok(Created(app.create_host(&caller, new).await?))
}

/// Lists hosts, each with what its agent last said.
#[utoipa::path(get, path = "/v1/hosts", tag = "hosts", params(HostFilter, PageQuery), responses(
    (status = 200, description = "a page of hosts", body = Page<Host>), Refusals,
))]
async fn list_hosts(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    QueryPair(filter, page): QueryPair<HostFilter, PageQuery>,
) -> Answer<Json<Page<Host>>> {
    Ok(Json(app.list_hosts(&caller, &filter, &page).await?))
}

/// Shows a host with what its agent last said.
#[utoipa::path(get, path = "/v1/hosts/{host}", tag = "hosts",
    params(("host" = String, Path, description = "the host, by name or id")), responses(
    (status = 200, description = "the host", body = Host), Refusals,
))]
async fn host(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(host): Path<String>,
) -> Answer<Json<Host>> {
    Ok(Json(app.host(&caller, &host).await?))
}

/// Changes a host's devices, and whether it may be chosen as a gateway.
#[utoipa::path(patch, path = "/v1/hosts/{host}", tag = "hosts", request_body = HostPatch,
    params(("host" = String, Path, description = "the host, by name or id")), responses(
    (status = 200, description = "the host as it is now", body = Host), Refusals, Collisions,
))]
async fn patch_host(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(host): Path<String>,
    JsonBody(patch): JsonBody<HostPatch>,
) -> Answer<Json<Host>> {
    Ok(Json(app.patch_host(&caller, &host, patch).await?))
}

/// Forgets a host that has no interface plugged in any more and routes for no network in use.
#[utoipa::path(delete, path = "/v1/hosts/{host}", tag = "hosts",
    params(("host" = String, Path, description = "the host, by name or id")), responses(
    (status = 204, description = "it is gone"), Refusals, Collisions,
))]
async fn delete_host(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(host): Path<String>,
) -> Answer<StatusCode> {
    app.delete_host(&caller, &host).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Says what the host must have: whole objects by key. With `since`, only what changed after that
/// generation, and with `wait` it waits for a change.
#[utoipa::path(get, path = "/v1/hosts/{host}/spec", tag = "agents",
    params(("host" = String, Path, description = "the host, by name or id"), SpecQuery), responses(
    (status = 200, description = "`base` (the generation this is a change to, or null), `generation`, \
        `put` (objects by key) and `gone` (keys)", body = Object),
    (status = 204, description = "nothing changed in that time"), Refusals,
))]
async fn spec(
    State(front): State<Front>,
    Secret(secret): Secret,
    Path(host): Path<String>,
    Query(query): Query<SpecQuery>,
) -> Answer<Response> {
    let caller = front.app.authenticate(&secret).await?;
    let waits = query.wait.is_some_and(|wait| wait > 0);
    let update = tokio::select! {
        update = front.app.spec(&caller, &host, query) => update?,
        // A server that ends has nothing new to tell: agents go on with what they hold.
        () = front.shutdown.requested() => None,
    };
    if waits {
        // The token may have been revoked meanwhile.
        front.app.authenticate(&secret).await?;
    }
    Ok(match update {
        Some(update) => Json(update).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

/// Takes in what the host's agent saw.
#[utoipa::path(put, path = "/v1/hosts/{host}/report", tag = "agents",
    params(("host" = String, Path, description = "the host, by name or id")),
    request_body(content = Object, description = "`generation`, `problems`, `agent_problems`, `leases`, \
        `drift`, `agent_version`, `kernel` and `missing_features`", content_type = "application/json"), responses(
    (status = 204, description = "taken in"), Refusals, Collisions,
))]
async fn report(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(host): Path<String>,
    JsonBody(report): JsonBody<Report>,
) -> Answer<StatusCode> {
    app.report(&caller, &host, report).await?;
    Ok(StatusCode::NO_CONTENT)
}
