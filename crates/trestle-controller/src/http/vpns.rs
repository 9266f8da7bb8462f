//! VPNs, who may come in by them, and what the host that runs one is told.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use trestle_api::vpn::VpnIdentity;
use trestle_api::{
    NewVpn, NewVpnUser, Page, PageQuery, Vpn, VpnCaRenewed, VpnCredentials, VpnFilter, VpnPatch, VpnUser,
    VpnUserRenewal,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Front;
use super::answer::{Answer, Collisions, Created, Refusals};
use super::extract::{Authenticated, JsonBody, Path, Query, QueryPair};
use crate::app::App;

pub(super) fn routes() -> OpenApiRouter<Front> {
    OpenApiRouter::new()
        .routes(routes!(create_vpn, list_vpns))
        .routes(routes!(vpn, patch_vpn, delete_vpn))
        .routes(routes!(renew_vpn_ca))
        .routes(routes!(add_vpn_user, list_vpn_users))
        .routes(routes!(revoke_vpn_user))
        .routes(routes!(renew_vpn_user))
        .routes(routes!(vpn_identity))
}

/// Makes a project's VPN into a network of its own.
#[utoipa::path(post, path = "/v1/vpns", tag = "VPNs", request_body = NewVpn, responses(
    (status = 201, description = "the VPN", body = Vpn), Refusals, Collisions,
))]
async fn create_vpn(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    JsonBody(new): JsonBody<NewVpn>,
) -> Answer<Created<Vpn>> {
    Ok(Created(app.create_vpn(&caller, new).await?))
}

/// Lists the VPNs that the token's holder may see, by project.
#[utoipa::path(get, path = "/v1/vpns", tag = "VPNs", params(VpnFilter, PageQuery), responses(
    (status = 200, description = "a page of VPNs", body = Page<Vpn>), Refusals,
))]
async fn list_vpns(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    QueryPair(filter, page): QueryPair<VpnFilter, PageQuery>,
) -> Answer<Json<Page<Vpn>>> {
    Ok(Json(app.list_vpns(&caller, &filter, &page).await?))
}

/// Shows a project's VPN.
#[utoipa::path(get, path = "/v1/vpns/{project}", tag = "VPNs",
    params(("project" = String, Path, description = "the project, by name or id")), responses(
    (status = 200, description = "the VPN", body = Vpn), Refusals,
))]
async fn vpn(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(project): Path<String>,
) -> Answer<Json<Vpn>> {
    Ok(Json(app.vpn(&caller, &project).await?))
}

/// Changes where clients of a VPN send to, or the host it runs on; what is absent stays. With another
/// address or port, users need new files.
#[utoipa::path(patch, path = "/v1/vpns/{project}", tag = "VPNs", request_body = VpnPatch,
    params(("project" = String, Path, description = "the project, by name or id")), responses(
    (status = 200, description = "the VPN as it is now", body = Vpn), Refusals, Collisions,
))]
async fn patch_vpn(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(project): Path<String>,
    JsonBody(patch): JsonBody<VpnPatch>,
) -> Answer<Json<Vpn>> {
    Ok(Json(app.patch_vpn(&caller, &project, patch).await?))
}

/// Ends a project's VPN, with its users and its keys.
#[utoipa::path(delete, path = "/v1/vpns/{project}", tag = "VPNs",
    params(("project" = String, Path, description = "the project, by name or id")), responses(
    (status = 204, description = "it is gone"), Refusals, Collisions,
))]
async fn delete_vpn(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(project): Path<String>,
) -> Answer<StatusCode> {
    app.delete_vpn(&caller, &project).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes a new certificate authority for a VPN. The files of all its users are void then; each needs
/// another.
#[utoipa::path(post, path = "/v1/vpns/{project}/renew-ca", tag = "VPNs",
    params(("project" = String, Path, description = "the project, by name or id")), responses(
    (status = 200, description = "the VPN, and whose files are void", body = VpnCaRenewed), Refusals, Collisions,
))]
async fn renew_vpn_ca(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(project): Path<String>,
) -> Answer<Json<VpnCaRenewed>> {
    Ok(Json(app.renew_vpn_ca(&caller, &project).await?))
}

/// Lets somebody in by a VPN. The answer has the client's file with its private key, which nobody can
/// show again.
#[utoipa::path(post, path = "/v1/vpns/{project}/users", tag = "VPNs", request_body = NewVpnUser,
    params(("project" = String, Path, description = "the project, by name or id")), responses(
    (status = 201, description = "the user, and the client's file", body = VpnCredentials), Refusals, Collisions,
))]
async fn add_vpn_user(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(project): Path<String>,
    JsonBody(new): JsonBody<NewVpnUser>,
) -> Answer<Created<VpnCredentials>> {
    Ok(Created(app.add_vpn_user(&caller, &project, new).await?))
}

/// Lists a VPN's users, by name, with who is connected.
#[utoipa::path(get, path = "/v1/vpns/{project}/users", tag = "VPNs",
    params(("project" = String, Path, description = "the project, by name or id"), PageQuery), responses(
    (status = 200, description = "a page of users", body = Page<VpnUser>), Refusals,
))]
async fn list_vpn_users(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(project): Path<String>,
    Query(page): Query<PageQuery>,
) -> Answer<Json<Page<VpnUser>>> {
    Ok(Json(app.list_vpn_users(&caller, &project, &page).await?))
}

/// Lets a user in no more: what is connected is cut off.
#[utoipa::path(delete, path = "/v1/vpns/{project}/users/{name}", tag = "VPNs",
    params(
        ("project" = String, Path, description = "the project, by name or id"),
        ("name" = String, Path, description = "the user"),
    ), responses((status = 204, description = "the user is gone"), Refusals, Collisions,
))]
async fn revoke_vpn_user(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path((project, name)): Path<(String, String)>,
) -> Answer<StatusCode> {
    app.revoke_vpn_user(&caller, &project, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives a user a new file; the one before is void at once.
#[utoipa::path(post, path = "/v1/vpns/{project}/users/{name}/renew", tag = "VPNs",
    request_body = VpnUserRenewal,
    params(
        ("project" = String, Path, description = "the project, by name or id"),
        ("name" = String, Path, description = "the user"),
    ), responses(
    (status = 200, description = "the user, and the client's new file", body = VpnCredentials), Refusals, Collisions,
))]
async fn renew_vpn_user(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path((project, name)): Path<(String, String)>,
    JsonBody(renewal): JsonBody<VpnUserRenewal>,
) -> Answer<Json<VpnCredentials>> {
    Ok(Json(app.renew_vpn_user(&caller, (&project, &name), renewal).await?))
}

/// Tells the agent of the host that runs a VPN its keys.
#[utoipa::path(get, path = "/v1/hosts/{host}/vpns/{vpn}/identity", tag = "agents",
    params(
        ("host" = String, Path, description = "the host, by name or id"),
        ("vpn" = String, Path, description = "the name of the VPN's instance"),
    ), responses(
    (status = 200, description = "`id` (their number), `files` (texts by name) and `now` (the controller's clock)",
        body = Object), Refusals,
))]
async fn vpn_identity(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path((host, vpn)): Path<(String, String)>,
) -> Answer<Json<VpnIdentity>> {
    Ok(Json(app.vpn_identity(&caller, &host, &vpn).await?))
}
