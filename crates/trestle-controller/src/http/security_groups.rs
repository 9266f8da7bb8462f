//! Security groups, and the rules in them.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use trestle_api::{
    NewSecurityGroup, NewSecurityGroupRule, Page, PageQuery, SecurityGroup, SecurityGroupFilter,
    SecurityGroupPatch, SecurityGroupRule,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Front;
use super::answer::{Answer, Collisions, Created, Refusals};
use super::extract::{Authenticated, InProject, JsonBody, Path, Query, QueryPair};
use crate::app::App;

pub(super) fn routes() -> OpenApiRouter<Front> {
    OpenApiRouter::new()
        .routes(routes!(create_security_group, list_security_groups))
        .routes(routes!(security_group, patch_security_group, delete_security_group))
        .routes(routes!(add_security_group_rule, list_security_group_rules))
        .routes(routes!(delete_security_group_rule))
}

/// Makes a security group without rules: nothing passes for who is in no other.
#[utoipa::path(post, path = "/v1/security-groups", tag = "security groups", request_body = NewSecurityGroup, responses(
    (status = 201, description = "the security group", body = SecurityGroup), Refusals, Collisions,
))]
async fn create_security_group(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    JsonBody(new): JsonBody<NewSecurityGroup>,
) -> Answer<Created<SecurityGroup>> {
    Ok(Created(app.create_security_group(&caller, new).await?))
}

/// Lists the security groups that the token's holder may see, with their rules.
#[utoipa::path(get, path = "/v1/security-groups", tag = "security groups", params(SecurityGroupFilter, PageQuery), responses(
    (status = 200, description = "a page of security groups", body = Page<SecurityGroup>), Refusals,
))]
async fn list_security_groups(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    QueryPair(filter, page): QueryPair<SecurityGroupFilter, PageQuery>,
) -> Answer<Json<Page<SecurityGroup>>> {
    Ok(Json(app.list_security_groups(&caller, &filter, &page).await?))
}

/// Shows a security group with its rules.
#[utoipa::path(get, path = "/v1/security-groups/{group}", tag = "security groups",
    params(("group" = String, Path, description = "the security group, by name or id"), InProject), responses(
    (status = 200, description = "the security group", body = SecurityGroup), Refusals,
))]
async fn security_group(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(group): Path<String>,
    Query(within): Query<InProject>,
) -> Answer<Json<SecurityGroup>> {
    Ok(Json(app.security_group(&caller, &group, within.project.as_deref()).await?))
}

/// Changes a security group's name, but for `default`, or its description.
#[utoipa::path(patch, path = "/v1/security-groups/{group}", tag = "security groups", request_body = SecurityGroupPatch,
    params(("group" = String, Path, description = "the security group, by name or id"), InProject), responses(
    (status = 200, description = "the security group as it is now", body = SecurityGroup), Refusals, Collisions,
))]
async fn patch_security_group(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(group): Path<String>,
    Query(within): Query<InProject>,
    JsonBody(patch): JsonBody<SecurityGroupPatch>,
) -> Answer<Json<SecurityGroup>> {
    Ok(Json(app.patch_security_group(&caller, &group, within.project.as_deref(), patch).await?))
}

/// Deletes a security group that no interface is in and no other group's rule names; `default` goes
/// with its project alone.
#[utoipa::path(delete, path = "/v1/security-groups/{group}", tag = "security groups",
    params(("group" = String, Path, description = "the security group, by name or id"), InProject), responses(
    (status = 204, description = "it is gone"), Refusals, Collisions,
))]
async fn delete_security_group(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(group): Path<String>,
    Query(within): Query<InProject>,
) -> Answer<StatusCode> {
    app.delete_security_group(&caller, &group, within.project.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Adds a rule to a security group. One that allows the same is refused, whenever it ends. Connected
/// hosts have followed when this is answered, or two seconds have passed.
#[utoipa::path(post, path = "/v1/security-groups/{group}/rules", tag = "security groups",
    request_body = NewSecurityGroupRule,
    params(("group" = String, Path, description = "the security group, by name or id"), InProject), responses(
    (status = 201, description = "the rule", body = SecurityGroupRule), Refusals, Collisions,
))]
async fn add_security_group_rule(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(group): Path<String>,
    Query(within): Query<InProject>,
    JsonBody(new): JsonBody<NewSecurityGroupRule>,
) -> Answer<Created<SecurityGroupRule>> {
    Ok(Created(app.add_security_group_rule(&caller, &group, within.project.as_deref(), new).await?))
}

/// Lists a security group's rules, in the order they were made.
#[utoipa::path(get, path = "/v1/security-groups/{group}/rules", tag = "security groups",
    params(("group" = String, Path, description = "the security group, by name or id"), InProject, PageQuery), responses(
    (status = 200, description = "a page of rules", body = Page<SecurityGroupRule>), Refusals,
))]
async fn list_security_group_rules(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(group): Path<String>,
    QueryPair(within, page): QueryPair<InProject, PageQuery>,
) -> Answer<Json<Page<SecurityGroupRule>>> {
    Ok(Json(app.list_security_group_rules(&caller, &group, within.project.as_deref(), &page).await?))
}

/// Deletes a rule of a security group. Connected hosts have followed when this is answered, or two
/// seconds have passed.
#[utoipa::path(delete, path = "/v1/security-groups/{group}/rules/{rule}", tag = "security groups",
    params(
        ("group" = String, Path, description = "the security group, by name or id"),
        ("rule" = String, Path, description = "the rule, by id"),
        InProject,
    ), responses(
    (status = 204, description = "it is gone"), Refusals, Collisions,
))]
async fn delete_security_group_rule(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path((group, rule)): Path<(String, String)>,
    Query(within): Query<InProject>,
) -> Answer<StatusCode> {
    app.delete_security_group_rule(&caller, &group, within.project.as_deref(), &rule).await?;
    Ok(StatusCode::NO_CONTENT)
}
