//! Answers: what was made, and the one error envelope.

use std::collections::BTreeMap;
use std::error::Error;

use axum::Json;
use axum::http::header::WWW_AUTHENTICATE;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use trestle_api::{ApiError, ErrorBody};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder};
use utoipa::{IntoResponses, openapi};

use crate::error::{AppError, ErrorKind};

/// What a handler gives.
pub(super) type Answer<T> = Result<T, HttpError>;

/// Something new: status 201.
pub(super) struct Created<T>(pub(super) T);

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        (StatusCode::CREATED, Json(self.0)).into_response()
    }
}

/// A refusal or a failure, answered with the envelope.
#[derive(Debug)]
pub(super) struct HttpError {
    status: StatusCode,
    error: ApiError,
    /// For the log alone.
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl HttpError {
    /// The request cannot be read.
    pub(super) fn malformed(message: impl Into<String>) -> Self {
        AppError::malformed(message).into()
    }

    /// The body is longer than this route takes.
    pub(super) fn too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the body is larger than this request may be")
    }

    /// No route has this path.
    pub(super) fn unknown_path(path: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("no path `{path}`"))
            .hint("`/openapi.json` lists every path")
    }

    /// The path has no such method.
    pub(super) fn unknown_method(method: &Method, path: &str) -> Self {
        let message = format!("{method} cannot be done on `{path}`");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
            .hint("`/openapi.json` lists the methods of every path")
    }

    /// A handler panicked.
    pub(super) fn panicked() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the controller failed; its log says why")
    }

    /// Says what to do about it.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.error.hint = Some(hint.into());
        self
    }

    fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        let AppError { error, .. } = AppError::new(ErrorKind::Internal, code, message);
        Self { status, error, source: None }
    }
}

impl From<AppError> for HttpError {
    fn from(AppError { kind, error, source }: AppError) -> Self {
        Self { status: status(kind), error, source }
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        if self.status.is_server_error() {
            let cause = self.source.as_deref().map(|source| source as &dyn Error);
            tracing::error!(code = self.error.code, error = cause, "{}", self.error.message);
        }
        let mut response = (self.status, Json(ErrorBody { error: self.error })).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"trestle\""));
        }
        response
    }
}

fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Invalid | ErrorKind::Malformed => StatusCode::BAD_REQUEST,
        ErrorKind::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// In the OpenAPI document: the errors that any request with a token may meet.
pub(super) struct Refusals;

/// In the OpenAPI document: the errors that only a change may meet.
pub(super) struct Collisions;

const REFUSALS: [(StatusCode, &str); 6] = [
    (
        StatusCode::BAD_REQUEST,
        "`malformed`: cannot be read; `invalid`: `problems` lists everything that is wrong",
    ),
    (StatusCode::UNAUTHORIZED, "`unauthorized`: no token, or not one of this controller's"),
    (StatusCode::FORBIDDEN, "`forbidden`: the token does not allow it"),
    (StatusCode::NOT_FOUND, "`not_found`: no such thing, or not one that the token's holder may see"),
    (StatusCode::INTERNAL_SERVER_ERROR, "`internal`: a defect of the controller"),
    (StatusCode::SERVICE_UNAVAILABLE, "the database is away, locked or full; nothing was changed"),
];

const COLLISIONS: [(StatusCode, &str); 2] = [
    (StatusCode::CONFLICT, "it collides with what is there; the code says with what"),
    (StatusCode::PAYLOAD_TOO_LARGE, "`too_large`: the body is larger than 1 MiB, or a report than 16 MiB"),
];

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        REFUSALS.map(reference).into()
    }
}

impl IntoResponses for Collisions {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        COLLISIONS.map(reference).into()
    }
}

/// What [`Refusals`] and [`Collisions`] refer to, by name.
pub(super) fn error_responses() -> impl Iterator<Item = (String, openapi::Response)> {
    REFUSALS.into_iter().chain(COLLISIONS).map(|(status, description)| {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorBody"))).build();
        let response = ResponseBuilder::new().description(description).content("application/json", content);
        (response_name(status), response.build())
    })
}

fn reference((status, _): (StatusCode, &str)) -> (String, RefOr<openapi::Response>) {
    (status.as_str().to_owned(), Ref::from_response_name(response_name(status)).into())
}

/// `NotFound` and the like.
fn response_name(status: StatusCode) -> String {
    status.canonical_reason().unwrap_or_default().split(' ').collect()
}
