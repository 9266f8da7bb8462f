//! Errors of the app layer: what a caller is told, and what kind of failure it is.

use std::error::Error;
use std::fmt;

use trestle_api::{ApiError, FieldProblem};

/// What kind of failure it is; the front turns each into its own status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request says something that cannot be.
    Invalid,
    /// The request cannot be read.
    Malformed,
    /// No token, or not one of ours.
    Unauthorized,
    /// The token does not allow it.
    Forbidden,
    /// No such thing, or not one that the caller may see.
    NotFound,
    /// It collides with what is there.
    Conflict,
    /// Not now: the database is away, locked or full.
    Unavailable,
    /// A defect of ours.
    Internal,
}

/// Why a request was not done; nothing was changed.
#[derive(Debug)]
pub struct AppError {
    /// What kind of failure it is.
    pub kind: ErrorKind,
    /// What the caller is told.
    pub error: ApiError,
    /// What is behind it, for the log alone: it may name tables and paths.
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl AppError {
    /// An error with a stable code and one sentence, lower case, no full stop.
    pub fn new(kind: ErrorKind, code: &str, message: impl Into<String>) -> Self {
        let error =
            ApiError { code: code.to_owned(), message: message.into(), hint: None, problems: Vec::new() };
        Self { kind, error, source: None }
    }

    /// Says what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.error.hint = Some(hint.into());
        self
    }

    /// Keeps what is behind it.
    #[must_use]
    pub fn caused_by(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// Everything that is wrong with a request.
    pub fn invalid(problems: Vec<FieldProblem>) -> Self {
        let message = match problems.as_slice() {
            [only] => format!("{}: {}", only.field, only.message),
            several => format!("{} things are wrong with the request", several.len()),
        };
        let mut error = Self::new(ErrorKind::Invalid, "invalid", message);
        error.error.problems = problems;
        error
    }

    /// A request that cannot be read.
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Malformed, "malformed", message)
    }

    /// No token, or not one of ours.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unauthorized, "unauthorized", message)
    }

    /// The caller's token does not allow it.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Forbidden, "forbidden", message)
    }

    /// No such thing: ``no project `x` ``.
    pub fn not_found(what: &str, reference: &str) -> Self {
        Self::new(ErrorKind::NotFound, "not_found", format!("no {what} `{reference}`"))
    }

    /// It is still used, and by what: ``network `x` still has``, and the things.
    pub(crate) fn in_use(sentence: &str, uses: &[String]) -> Self {
        Self::conflict("in_use", format!("{sentence} {}", uses.join(", ")))
    }

    /// A defect of ours; `what` is for the log.
    pub(crate) fn defect(what: &'static str) -> Self {
        Self::new(ErrorKind::Internal, "internal", "the controller failed; its log says more")
            .caused_by(Defect(what))
    }

    /// It collides with what is there.
    pub fn conflict(code: &str, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, code, message)
    }
}

/// Something that cannot happen did.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Defect(&'static str);

impl fmt::Display for AppError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for AppError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}
