//! What handlers take from a request. Every rejection is the envelope: who sends nonsense is told
//! what and where.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;

use super::Front;
use super::answer::HttpError;
use crate::app::Caller;
use crate::error::AppError;

/// A JSON body. Its media type is not asked for: there is no other.
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Front> for JsonBody<T> {
    type Rejection = HttpError;

    async fn from_request(request: Request, front: &Front) -> Result<Self, HttpError> {
        let body = Bytes::from_request(request, front).await.map_err(unreadable_body)?;
        let value = serde_json::from_slice(&body)
            .map_err(|error| HttpError::malformed(format!("the body cannot be read: {error}")))?;
        Ok(Self(value))
    }
}

/// The parameters of a path, as in [`axum::extract::Path`].
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Front> for Path<T> {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, front: &Front) -> Result<Self, HttpError> {
        match axum::extract::Path::from_request_parts(parts, front).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(HttpError::malformed(format!("the path cannot be read: {rejection}"))),
        }
    }
}

/// The parameters of a query; one that is not in the OpenAPI document is refused, because a
/// misspelt filter would give everything.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned + IntoParams> FromRequestParts<Front> for Query<T> {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, _: &Front) -> Result<Self, HttpError> {
        refuse_unknown(&parts.uri, &names::<T>())?;
        parse(&parts.uri).map(Self)
    }
}

/// The parameters of a query that come from two places, such as a filter and a page.
pub(super) struct QueryPair<A, B>(pub(super) A, pub(super) B);

impl<A, B> FromRequestParts<Front> for QueryPair<A, B>
where
    A: DeserializeOwned + IntoParams,
    B: DeserializeOwned + IntoParams,
{
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, _: &Front) -> Result<Self, HttpError> {
        refuse_unknown(&parts.uri, &[names::<A>(), names::<B>()].concat())?;
        Ok(Self(parse(&parts.uri)?, parse(&parts.uri)?))
    }
}

/// Which project a thing is looked for in.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct InProject {
    /// Its project, by name or id. Needed only for a name that several projects use.
    pub(super) project: Option<String>,
}

/// The secret of the request's token. Never printed.
pub(super) struct Secret(pub(super) String);

impl FromRequestParts<Front> for Secret {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, _: &Front) -> Result<Self, HttpError> {
        let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        match header.and_then(|text| text.split_once(' ')) {
            Some((scheme, secret)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Self(secret.trim().to_owned())),
            _ => Err(AppError::unauthorized("the request has no token")
                .hint("send it as `Authorization: Bearer …`; the first one is in `admin.token` in the state folder")
                .into()),
        }
    }
}

/// Who asks: the holder of a token of ours.
pub(super) struct Authenticated(pub(super) Caller);

impl FromRequestParts<Front> for Authenticated {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, front: &Front) -> Result<Self, HttpError> {
        let Secret(secret) = Secret::from_request_parts(parts, front).await?;
        Ok(Self(front.app.authenticate(&secret).await?))
    }
}

fn unreadable_body(rejection: BytesRejection) -> HttpError {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        HttpError::too_large()
    } else {
        HttpError::malformed("the body ended early")
    }
}

fn parse<T: DeserializeOwned>(uri: &Uri) -> Result<T, HttpError> {
    match axum::extract::Query::try_from_uri(uri) {
        Ok(axum::extract::Query(value)) => Ok(value),
        Err(rejection) => {
            let cause = std::error::Error::source(&rejection).map(ToString::to_string);
            let detail = cause.unwrap_or_else(|| rejection.body_text());
            Err(HttpError::malformed(format!("the query cannot be read: {detail}")))
        }
    }
}

fn names<T: IntoParams>() -> Vec<String> {
    T::into_params(|| None).into_iter().map(|parameter| parameter.name).collect()
}

fn refuse_unknown(uri: &Uri, known: &[String]) -> Result<(), HttpError> {
    let given: Vec<(String, String)> = parse(uri)?;
    match given.into_iter().find(|(name, _)| !known.contains(name)) {
        None => Ok(()),
        Some((name, _)) => Err(HttpError::malformed(format!("unknown query parameter `{name}`"))
            .hint(format!("known here: {}", known.join(", ")))),
    }
}
