//! Address groups.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use trestle_api::{AddressGroup, AddressGroupFilter, AddressGroupPatch, NewAddressGroup, Page, PageQuery};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Front;
use super::answer::{Answer, Collisions, Created, Refusals};
use super::extract::{Authenticated, InProject, JsonBody, Path, Query, QueryPair};
use crate::app::App;

pub(super) fn routes() -> OpenApiRouter<Front> {
    OpenApiRouter::new().routes(routes!(create_address_group, list_address_groups)).routes(routes!(
        address_group,
        patch_address_group,
        delete_address_group
    ))
}

/// Makes an address group. Ranges that overlap or adjoin are put together.
#[utoipa::path(post, path = "/v1/address-groups", tag = "address groups", request_body = NewAddressGroup, responses(
    (status = 201, description = "the address group", body = AddressGroup), Refusals, Collisions,
))]
async fn create_address_group(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    JsonBody(new): JsonBody<NewAddressGroup>,
) -> Answer<Created<AddressGroup>> {
    Ok(Created(app.create_address_group(&caller, new).await?))
}

/// Lists the address groups that the token's holder may see.
#[utoipa::path(get, path = "/v1/address-groups", tag = "address groups", params(AddressGroupFilter, PageQuery), responses(
    (status = 200, description = "a page of address groups", body = Page<AddressGroup>), Refusals,
))]
async fn list_address_groups(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    QueryPair(filter, page): QueryPair<AddressGroupFilter, PageQuery>,
) -> Answer<Json<Page<AddressGroup>>> {
    Ok(Json(app.list_address_groups(&caller, &filter, &page).await?))
}

/// Shows an address group.
#[utoipa::path(get, path = "/v1/address-groups/{group}", tag = "address groups",
    params(("group" = String, Path, description = "the address group, by name or id"), InProject), responses(
    (status = 200, description = "the address group", body = AddressGroup), Refusals,
))]
async fn address_group(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(group): Path<String>,
    Query(within): Query<InProject>,
) -> Answer<Json<AddressGroup>> {
    Ok(Json(app.address_group(&caller, &group, within.project.as_deref()).await?))
}

/// Changes an address group's name, or gives it other ranges in place of those that it has. Connected
/// hosts have followed when this is answered, or two seconds have passed.
#[utoipa::path(patch, path = "/v1/address-groups/{group}", tag = "address groups", request_body = AddressGroupPatch,
    params(("group" = String, Path, description = "the address group, by name or id"), InProject), responses(
    (status = 200, description = "the address group as it is now", body = AddressGroup), Refusals, Collisions,
))]
async fn patch_address_group(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(group): Path<String>,
    Query(within): Query<InProject>,
    JsonBody(patch): JsonBody<AddressGroupPatch>,
) -> Answer<Json<AddressGroup>> {
    Ok(Json(app.patch_address_group(&caller, &group, within.project.as_deref(), patch).await?))
}

/// Deletes an address group that no rule names.
#[utoipa::path(delete, path = "/v1/address-groups/{group}", tag = "address groups",
    params(("group" = String, Path, description = "the address group, by name or id"), InProject), responses(
    (status = 204, description = "it is gone"), Refusals, Collisions,
))]
async fn delete_address_group(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(group): Path<String>,
    Query(within): Query<InProject>,
) -> Answer<StatusCode> {
    app.delete_address_group(&caller, &group, within.project.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}
