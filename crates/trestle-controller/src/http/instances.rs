//! Instances and their interfaces.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use trestle_api::{
    AttachRequest, Attached, Instance, InstanceFilter, InterfacePatch, MoveRequest, NewInstance,
    NewInterface, Page, PageQuery,
};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Front;
use super::answer::{Answer, Collisions, Created, Refusals};
use super::extract::{Authenticated, InProject, JsonBody, Path, Query, QueryPair};
use crate::app::App;

pub(super) fn routes() -> OpenApiRouter<Front> {
    OpenApiRouter::new()
        .routes(routes!(create_instance, list_instances))
        .routes(routes!(instance, delete_instance))
        .routes(routes!(add_interface))
        .routes(routes!(patch_interface, delete_interface))
        .routes(routes!(attach))
        .routes(routes!(detach))
        .routes(routes!(move_instance))
}

/// Which interface is taken out.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct OnNetwork {
    /// The network whose interface is meant, by name or id; may be left out where the instance has
    /// one interface only.
    network: Option<String>,
}

/// Makes an instance with its interfaces, each with its address.
#[utoipa::path(post, path = "/v1/instances", tag = "instances", request_body = NewInstance, responses(
    (status = 201, description = "the instance", body = Instance), Refusals, Collisions,
))]
async fn create_instance(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    JsonBody(new): JsonBody<NewInstance>,
) -> Answer<Created<Instance>> {
    Ok(Created(app.create_instance(&caller, new).await?))
}

/// Lists the instances that the token's holder may see.
#[utoipa::path(get, path = "/v1/instances", tag = "instances", params(InstanceFilter, PageQuery), responses(
    (status = 200, description = "a page of instances", body = Page<Instance>), Refusals,
))]
async fn list_instances(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    QueryPair(filter, page): QueryPair<InstanceFilter, PageQuery>,
) -> Answer<Json<Page<Instance>>> {
    Ok(Json(app.list_instances(&caller, &filter, &page).await?))
}

/// Shows an instance.
#[utoipa::path(get, path = "/v1/instances/{instance}", tag = "instances",
    params(("instance" = String, Path, description = "the instance, by name or id"), InProject), responses(
    (status = 200, description = "the instance", body = Instance), Refusals,
))]
async fn instance(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(instance): Path<String>,
    Query(within): Query<InProject>,
) -> Answer<Json<Instance>> {
    Ok(Json(app.instance(&caller, &instance, within.project.as_deref()).await?))
}

/// Deletes an instance. Its addresses are reusable when this is answered, if its hosts are
/// connected.
#[utoipa::path(delete, path = "/v1/instances/{instance}", tag = "instances",
    params(("instance" = String, Path, description = "the instance, by name or id"), InProject), responses(
    (status = 204, description = "it is gone"), Refusals, Collisions,
))]
async fn delete_instance(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(instance): Path<String>,
    Query(within): Query<InProject>,
) -> Answer<StatusCode> {
    app.delete_instance(&caller, &instance, within.project.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Adds an interface to an instance.
#[utoipa::path(post, path = "/v1/instances/{instance}/interfaces", tag = "instances",
    request_body = NewInterface,
    params(("instance" = String, Path, description = "the instance, by name or id"), InProject), responses(
    (status = 201, description = "the instance with its new interface", body = Instance), Refusals, Collisions,
))]
async fn add_interface(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(instance): Path<String>,
    Query(within): Query<InProject>,
    JsonBody(new): JsonBody<NewInterface>,
) -> Answer<Created<Instance>> {
    Ok(Created(app.add_interface(&caller, &instance, within.project.as_deref(), new).await?))
}

/// Changes what an interface is held to. If its host is connected, it has followed when this is
/// answered, or two seconds have passed.
#[utoipa::path(patch, path = "/v1/instances/{instance}/interfaces/{interface}", tag = "instances",
    request_body = InterfacePatch,
    params(
        ("instance" = String, Path, description = "the instance, by name or id"),
        ("interface" = String, Path, description = "the interface, by id, or its network, by name or id"),
        InProject,
    ), responses(
    (status = 200, description = "the instance as it is now", body = Instance), Refusals, Collisions,
))]
async fn patch_interface(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path((instance, interface)): Path<(String, String)>,
    Query(within): Query<InProject>,
    JsonBody(patch): JsonBody<InterfacePatch>,
) -> Answer<Json<Instance>> {
    let instance = (instance.as_str(), within.project.as_deref());
    Ok(Json(app.patch_interface(&caller, instance, &interface, patch).await?))
}

/// Takes an interface from an instance; its addresses are free again.
#[utoipa::path(delete, path = "/v1/instances/{instance}/interfaces/{interface}", tag = "instances",
    params(
        ("instance" = String, Path, description = "the instance, by name or id"),
        ("interface" = String, Path, description = "the interface, by id, or its network, by name or id"),
        InProject,
    ), responses(
    (status = 200, description = "the instance without it", body = Instance), Refusals, Collisions,
))]
async fn delete_interface(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path((instance, interface)): Path<(String, String)>,
    Query(within): Query<InProject>,
) -> Answer<Json<Instance>> {
    Ok(Json(app.delete_interface(&caller, &instance, within.project.as_deref(), &interface).await?))
}

/// Plugs an interface in on a host. Its agent makes the device: it stands when the host has
/// applied the answer's generation.
#[utoipa::path(post, path = "/v1/instances/{instance}/attach", tag = "instances",
    request_body = AttachRequest,
    params(("instance" = String, Path, description = "the instance, by name or id"), InProject), responses(
    (status = 200, description = "what a hypervisor needs to know", body = Attached), Refusals, Collisions,
))]
async fn attach(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(instance): Path<String>,
    Query(within): Query<InProject>,
    JsonBody(request): JsonBody<AttachRequest>,
) -> Answer<Json<Attached>> {
    Ok(Json(app.attach(&caller, &instance, within.project.as_deref(), request).await?))
}

/// Unplugs an interface; it keeps its MAC and addresses.
#[utoipa::path(post, path = "/v1/instances/{instance}/detach", tag = "instances",
    params(("instance" = String, Path, description = "the instance, by name or id"), InProject, OnNetwork), responses(
    (status = 200, description = "what it was", body = Attached), Refusals, Collisions,
))]
async fn detach(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(instance): Path<String>,
    QueryPair(within, on): QueryPair<InProject, OnNetwork>,
) -> Answer<Json<Attached>> {
    let detached = app.detach(&caller, &instance, within.project.as_deref(), on.network.as_deref()).await?;
    Ok(Json(detached))
}

/// Moves an instance to another host with all interfaces that are plugged in, or does a part of
/// that: everything is made on the new host first, then all of it is switched at once.
#[utoipa::path(post, path = "/v1/instances/{instance}/move", tag = "instances", request_body = MoveRequest,
    params(("instance" = String, Path, description = "the instance, by name or id"), InProject), responses(
    (status = 200, description = "the instance as it is now", body = Instance), Refusals, Collisions,
))]
async fn move_instance(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(instance): Path<String>,
    Query(within): Query<InProject>,
    JsonBody(request): JsonBody<MoveRequest>,
) -> Answer<Json<Instance>> {
    Ok(Json(app.move_instance(&caller, &instance, within.project.as_deref(), request).await?))
}
