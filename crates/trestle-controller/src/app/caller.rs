//! Whose request it is, and what that allows.

use trestle_core::types::{HostId, ProjectId};

use crate::error::AppError;

/// Whose token a request came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// May do everything.
    Admin,
    /// May see and change this project.
    Member(ProjectId),
    /// Is the agent of this host.
    Agent(HostId),
}

impl Caller {
    /// Fails unless it is an admin; `doing` begins the sentence.
    pub(super) fn must_be_admin(&self, doing: &str) -> Result<(), AppError> {
        match self {
            Self::Admin => Ok(()),
            Self::Member(_) | Self::Agent(_) => Err(AppError::forbidden(format!("{doing} is for admins"))),
        }
    }

    /// Fails if it is an agent; `doing` begins the sentence.
    pub(super) fn must_not_be_agent(&self, doing: &str) -> Result<(), AppError> {
        match self {
            Self::Agent(_) => Err(AppError::forbidden(format!("{doing} is not for agents"))),
            Self::Admin | Self::Member(_) => Ok(()),
        }
    }

    /// The one project it may see, if it is not all of them.
    pub(super) fn only_project(&self) -> Option<ProjectId> {
        match self {
            Self::Member(project) => Some(*project),
            Self::Admin | Self::Agent(_) => None,
        }
    }

    /// The host it is the agent of.
    pub(super) fn own_host(&self) -> Option<HostId> {
        match self {
            Self::Agent(host) => Some(*host),
            Self::Admin | Self::Member(_) => None,
        }
    }
}
