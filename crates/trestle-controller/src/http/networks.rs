//! Networks.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use trestle_api::{Network, NetworkFilter, NewNetwork, Page, PageQuery};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Front;
use super::answer::{Answer, Collisions, Created, Refusals};
use super::extract::{Authenticated, JsonBody, Path, QueryPair};
use crate::app::App;

pub(super) fn routes() -> OpenApiRouter<Front> {
    OpenApiRouter::new()
        .routes(routes!(create_network, list_networks))
        .routes(routes!(network, delete_network))
}

/// Makes a network.
#[utoipa::path(post, path = "/v1/networks", tag = "networks", request_body = NewNetwork, responses(
    (status = 201, description = "the network", body = Network), Refusals, Collisions,
))]
async fn create_network(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    JsonBody(new): JsonBody<NewNetwork>,
) -> Answer<Created<Network>> {
    Ok(Created(app.create_network(&caller, new).await?))
}

/// Lists the networks that the token's holder may use.
#[utoipa::path(get, path = "/v1/networks", tag = "networks", params(NetworkFilter, PageQuery), responses(
    (status = 200, description = "a page of networks", body = Page<Network>), Refusals,
))]
async fn list_networks(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    QueryPair(filter, page): QueryPair<NetworkFilter, PageQuery>,
) -> Answer<Json<Page<Network>>> {
    Ok(Json(app.list_networks(&caller, &filter, &page).await?))
}

/// Shows a network.
#[utoipa::path(get, path = "/v1/networks/{network}", tag = "networks",
    params(("network" = String, Path, description = "the network, by name or id")), responses(
    (status = 200, description = "the network", body = Network), Refusals,
))]
async fn network(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(network): Path<String>,
) -> Answer<Json<Network>> {
    Ok(Json(app.network(&caller, &network).await?))
}

/// Deletes a network that no instance is on any more.
#[utoipa::path(delete, path = "/v1/networks/{network}", tag = "networks",
    params(("network" = String, Path, description = "the network, by name or id")), responses(
    (status = 204, description = "it is gone"), Refusals, Collisions,
))]
async fn delete_network(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(network): Path<String>,
) -> Answer<StatusCode> {
    app.delete_network(&caller, &network).await?;
    Ok(StatusCode::NO_CONTENT)
}
