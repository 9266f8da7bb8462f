//! Floating IPs.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use trestle_api::{
    FloatingIp, FloatingIpAssociation, FloatingIpFilter, NewFloatingIp, NewPortForward, Page, PageQuery,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Front;
use super::answer::{Answer, Collisions, Created, Refusals};
use super::extract::{Authenticated, JsonBody, Path, QueryPair};
use crate::app::App;

pub(super) fn routes() -> OpenApiRouter<Front> {
    OpenApiRouter::new()
        .routes(routes!(reserve_floating_ip, list_floating_ips))
        .routes(routes!(floating_ip, release_floating_ip))
        .routes(routes!(associate_floating_ip))
        .routes(routes!(disassociate_floating_ip))
        .routes(routes!(forward_port))
        .routes(routes!(unforward_port))
}

/// Reserves a floating IP for a project. One that it has already is given again.
#[utoipa::path(post, path = "/v1/floating-ips", tag = "floating IPs", request_body = NewFloatingIp, responses(
    (status = 201, description = "the floating IP", body = FloatingIp), Refusals, Collisions,
))]
async fn reserve_floating_ip(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    JsonBody(new): JsonBody<NewFloatingIp>,
) -> Answer<Created<FloatingIp>> {
    Ok(Created(app.reserve_floating_ip(&caller, new).await?))
}

/// Lists the floating IPs that the token's holder may see.
#[utoipa::path(get, path = "/v1/floating-ips", tag = "floating IPs", params(FloatingIpFilter, PageQuery), responses(
    (status = 200, description = "a page of floating IPs", body = Page<FloatingIp>), Refusals,
))]
async fn list_floating_ips(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    QueryPair(filter, page): QueryPair<FloatingIpFilter, PageQuery>,
) -> Answer<Json<Page<FloatingIp>>> {
    Ok(Json(app.list_floating_ips(&caller, &filter, &page).await?))
}

/// Shows a floating IP.
#[utoipa::path(get, path = "/v1/floating-ips/{address}", tag = "floating IPs",
    params(("address" = String, Path, description = "the floating IP")), responses(
    (status = 200, description = "the floating IP", body = FloatingIp), Refusals,
))]
async fn floating_ip(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(address): Path<String>,
) -> Answer<Json<FloatingIp>> {
    Ok(Json(app.floating_ip(&caller, &address).await?))
}

/// Gives a floating IP that leads nowhere back to its pool. No name leads to it any more.
#[utoipa::path(delete, path = "/v1/floating-ips/{address}", tag = "floating IPs",
    params(("address" = String, Path, description = "the floating IP")), responses(
    (status = 204, description = "the project has it no more"), Refusals, Collisions,
))]
async fn release_floating_ip(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(address): Path<String>,
) -> Answer<StatusCode> {
    app.release_floating_ip(&caller, &address).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Leads a floating IP to an instance. If its host is connected, it has it when this is answered, or two
/// seconds have passed; if the host says that it cannot, it leads where it did before.
#[utoipa::path(post, path = "/v1/floating-ips/{address}/associate", tag = "floating IPs",
    request_body = FloatingIpAssociation,
    params(("address" = String, Path, description = "the floating IP")), responses(
    (status = 200, description = "the floating IP and where it leads", body = FloatingIp), Refusals, Collisions,
))]
async fn associate_floating_ip(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(address): Path<String>,
    JsonBody(request): JsonBody<FloatingIpAssociation>,
) -> Answer<Json<FloatingIp>> {
    Ok(Json(app.associate_floating_ip(&caller, &address, request).await?))
}

/// Leads a floating IP nowhere; its project keeps it.
#[utoipa::path(post, path = "/v1/floating-ips/{address}/disassociate", tag = "floating IPs",
    params(("address" = String, Path, description = "the floating IP")), responses(
    (status = 200, description = "the floating IP", body = FloatingIp), Refusals, Collisions,
))]
async fn disassociate_floating_ip(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(address): Path<String>,
) -> Answer<Json<FloatingIp>> {
    Ok(Json(app.disassociate_floating_ip(&caller, &address).await?))
}

/// Leads a port of a floating IP to one of an instance, whatever the rest of it does.
#[utoipa::path(post, path = "/v1/floating-ips/{address}/forwards", tag = "floating IPs",
    request_body = NewPortForward,
    params(("address" = String, Path, description = "the floating IP")), responses(
    (status = 200, description = "the floating IP and where it leads", body = FloatingIp), Refusals, Collisions,
))]
async fn forward_port(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(address): Path<String>,
    JsonBody(new): JsonBody<NewPortForward>,
) -> Answer<Json<FloatingIp>> {
    Ok(Json(app.forward_port(&caller, &address, new).await?))
}

/// Leads a port of a floating IP where the rest of it leads.
#[utoipa::path(delete, path = "/v1/floating-ips/{address}/forwards/{protocol}/{port}", tag = "floating IPs",
    params(
        ("address" = String, Path, description = "the floating IP"),
        ("protocol" = String, Path, description = "`tcp` or `udp`"),
        ("port" = String, Path, description = "the floating IP's port"),
    ), responses(
    (status = 200, description = "the floating IP and where it leads", body = FloatingIp), Refusals, Collisions,
))]
async fn unforward_port(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path((address, protocol, port)): Path<(String, String, String)>,
) -> Answer<Json<FloatingIp>> {
    Ok(Json(app.unforward_port(&caller, &address, (&protocol, &port)).await?))
}
