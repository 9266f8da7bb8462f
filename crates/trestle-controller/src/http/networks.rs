//! Networks.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use trestle_api::{
    AssociateRequest, GatewayRequest, Network, NetworkFilter, NetworkPatch, NetworksCreated, NewNetwork,
    Page, PageQuery, ReserveRequest,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Front;
use super::answer::{Answer, Collisions, Created, Refusals};
use super::extract::{Authenticated, JsonBody, Path, QueryPair};
use crate::app::App;

pub(super) fn routes() -> OpenApiRouter<Front> {
    OpenApiRouter::new()
        .routes(routes!(create_networks, list_networks))
        .routes(routes!(network, patch_network, delete_network))
        .routes(routes!(reserve))
        .routes(routes!(unreserve))
        .routes(routes!(associate))
        .routes(routes!(disassociate))
        .routes(routes!(set_gateway))
}

/// Makes networks: one, or several out of one range. All of them or none.
#[utoipa::path(post, path = "/v1/networks", tag = "networks", request_body = NewNetwork, responses(
    (status = 201, description = "the networks", body = NetworksCreated), Refusals, Collisions,
))]
async fn create_networks(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    JsonBody(new): JsonBody<NewNetwork>,
) -> Answer<Created<NetworksCreated>> {
    Ok(Created(app.create_networks(&caller, new).await?))
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

/// Changes what guests are told, or the device that the network leads out by. What is absent stays.
/// Connected hosts have followed when this is answered, or two seconds have passed.
#[utoipa::path(patch, path = "/v1/networks/{network}", tag = "networks", request_body = NetworkPatch,
    params(("network" = String, Path, description = "the network, by name or id")), responses(
    (status = 200, description = "the network as it is now", body = Network), Refusals, Collisions,
))]
async fn patch_network(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(network): Path<String>,
    JsonBody(patch): JsonBody<NetworkPatch>,
) -> Answer<Json<Network>> {
    Ok(Json(app.patch_network(&caller, &network, patch).await?))
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

/// Keeps a range of addresses from instances; one that has an address of it keeps that.
#[utoipa::path(post, path = "/v1/networks/{network}/reserve", tag = "networks", request_body = ReserveRequest,
    params(("network" = String, Path, description = "the network, by name or id")), responses(
    (status = 200, description = "the network with its reserved ranges", body = Network), Refusals, Collisions,
))]
async fn reserve(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(network): Path<String>,
    JsonBody(request): JsonBody<ReserveRequest>,
) -> Answer<Json<Network>> {
    Ok(Json(app.reserve(&caller, &network, request).await?))
}

/// Gives a range that was kept from instances back.
#[utoipa::path(post, path = "/v1/networks/{network}/unreserve", tag = "networks", request_body = ReserveRequest,
    params(("network" = String, Path, description = "the network, by name or id")), responses(
    (status = 200, description = "the network with its reserved ranges", body = Network), Refusals, Collisions,
))]
async fn unreserve(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(network): Path<String>,
    JsonBody(request): JsonBody<ReserveRequest>,
) -> Answer<Json<Network>> {
    Ok(Json(app.unreserve(&caller, &network, request).await?))
}

/// Gives a free VLAN network to a project.
#[utoipa::path(post, path = "/v1/networks/{network}/associate", tag = "networks", request_body = AssociateRequest,
    params(("network" = String, Path, description = "the network, by name or id")), responses(
    (status = 200, description = "the network with its project", body = Network), Refusals, Collisions,
))]
async fn associate(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(network): Path<String>,
    JsonBody(request): JsonBody<AssociateRequest>,
) -> Answer<Json<Network>> {
    Ok(Json(app.associate(&caller, &network, request).await?))
}

/// Takes a VLAN network that no instance is on from its project: it is free again.
#[utoipa::path(post, path = "/v1/networks/{network}/disassociate", tag = "networks",
    params(("network" = String, Path, description = "the network, by name or id")), responses(
    (status = 200, description = "the network without a project", body = Network), Refusals, Collisions,
))]
async fn disassociate(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(network): Path<String>,
) -> Answer<Json<Network>> {
    Ok(Json(app.disassociate(&caller, &network).await?))
}

/// Moves the gateway of a single-host network to another host. Connected hosts have followed when
/// this is answered, or some seconds have passed.
#[utoipa::path(put, path = "/v1/networks/{network}/gateway", tag = "networks", request_body = GatewayRequest,
    params(("network" = String, Path, description = "the network, by name or id")), responses(
    (status = 200, description = "the network with its gateway host", body = Network), Refusals, Collisions,
))]
async fn set_gateway(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(network): Path<String>,
    JsonBody(request): JsonBody<GatewayRequest>,
) -> Answer<Json<Network>> {
    Ok(Json(app.set_gateway(&caller, &network, request).await?))
}
