//! Projects own instances and networks.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trestle_core::types::{Name, ProjectId};
use utoipa::ToSchema;

/// A project to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewProject {
    /// Its name: one DNS label, unique.
    pub name: String,
}

/// A project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Project {
    /// Names it for life.
    #[schema(value_type = String, format = Uuid)]
    pub id: ProjectId,
    /// Its name, unique.
    #[schema(value_type = String)]
    pub name: Name,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}
