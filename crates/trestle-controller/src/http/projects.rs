//! Projects.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use trestle_api::{NewProject, Page, PageQuery, Project, ProjectPatch};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Front;
use super::answer::{Answer, Collisions, Created, Refusals};
use super::extract::{Authenticated, JsonBody, Path, Query};
use crate::app::App;

pub(super) fn routes() -> OpenApiRouter<Front> {
    OpenApiRouter::new().routes(routes!(create_project, list_projects)).routes(routes!(
        project,
        patch_project,
        delete_project
    ))
}

/// Makes a project.
#[utoipa::path(post, path = "/v1/projects", tag = "projects", request_body = NewProject, responses(
    (status = 201, description = "the project", body = Project), Refusals, Collisions,
))]
async fn create_project(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    JsonBody(new): JsonBody<NewProject>,
) -> Answer<Created<Project>> {
    Ok(Created(app.create_project(&caller, new).await?))
}

/// Lists the projects that the token's holder may see.
#[utoipa::path(get, path = "/v1/projects", tag = "projects", params(PageQuery), responses(
    (status = 200, description = "a page of projects", body = Page<Project>), Refusals,
))]
async fn list_projects(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Query(page): Query<PageQuery>,
) -> Answer<Json<Page<Project>>> {
    Ok(Json(app.list_projects(&caller, &page).await?))
}

/// Shows a project.
#[utoipa::path(get, path = "/v1/projects/{project}", tag = "projects",
    params(("project" = String, Path, description = "the project, by name or id")), responses(
    (status = 200, description = "the project", body = Project), Refusals,
))]
async fn project(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(project): Path<String>,
) -> Answer<Json<Project>> {
    Ok(Json(app.project(&caller, &project).await?))
}

/// Changes a project's quota, what it has beyond a lower one staying, or of which pool its new
/// instances get a floating IP.
#[utoipa::path(patch, path = "/v1/projects/{project}", tag = "projects", request_body = ProjectPatch,
    params(("project" = String, Path, description = "the project, by name or id")), responses(
    (status = 200, description = "the project as it is now", body = Project), Refusals, Collisions,
))]
async fn patch_project(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(project): Path<String>,
    JsonBody(patch): JsonBody<ProjectPatch>,
) -> Answer<Json<Project>> {
    Ok(Json(app.patch_project(&caller, &project, patch).await?))
}

/// Deletes a project that owns nothing any more but its security and address groups.
#[utoipa::path(delete, path = "/v1/projects/{project}", tag = "projects",
    params(("project" = String, Path, description = "the project, by name or id")), responses(
    (status = 204, description = "it is gone"), Refusals, Collisions,
))]
async fn delete_project(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(project): Path<String>,
) -> Answer<StatusCode> {
    app.delete_project(&caller, &project).await?;
    Ok(StatusCode::NO_CONTENT)
}
