//! Tokens.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use trestle_api::{NewToken, Page, PageQuery, Token, TokenCreated};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Front;
use super::answer::{Answer, Collisions, Created, Refusals};
use super::extract::{Authenticated, JsonBody, Path, Query};
use crate::app::App;

pub(super) fn routes() -> OpenApiRouter<Front> {
    OpenApiRouter::new().routes(routes!(create_token, list_tokens)).routes(routes!(delete_token))
}

/// Makes a token. Its secret is in this answer and nowhere else.
#[utoipa::path(post, path = "/v1/tokens", tag = "tokens", request_body = NewToken, responses(
    (status = 201, description = "the token with its secret", body = TokenCreated), Refusals, Collisions,
))]
async fn create_token(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    JsonBody(new): JsonBody<NewToken>,
) -> Answer<Created<TokenCreated>> {
    Ok(Created(app.create_token(&caller, new).await?))
}

/// Lists tokens, without their secrets.
#[utoipa::path(get, path = "/v1/tokens", tag = "tokens", params(PageQuery), responses(
    (status = 200, description = "a page of tokens", body = Page<Token>), Refusals,
))]
async fn list_tokens(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Query(page): Query<PageQuery>,
) -> Answer<Json<Page<Token>>> {
    Ok(Json(app.list_tokens(&caller, &page).await?))
}

/// Revokes a token at once.
#[utoipa::path(delete, path = "/v1/tokens/{token}", tag = "tokens",
    params(("token" = String, Path, description = "the token, by id")), responses(
    (status = 204, description = "it is gone"), Refusals, Collisions,
))]
async fn delete_token(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
    Path(token): Path<String>,
) -> Answer<StatusCode> {
    app.delete_token(&caller, &token).await?;
    Ok(StatusCode::NO_CONTENT)
}
