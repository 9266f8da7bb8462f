//! Bearer tokens: who may call the API.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trestle_core::types::Name;
use utoipa::ToSchema;
use uuid::Uuid;

/// What a token's holder may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything.
    Admin,
    /// See and change one project.
    Member,
    /// Be the agent of one host.
    Agent,
}

/// A token to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// What its holder may do.
    pub role: Role,
    /// A member's project, by name or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// An agent's host, by name or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// For people, to tell tokens apart.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// A token, without its secret: that is stored as a hash only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// Names it for life.
    pub id: Uuid,
    /// What its holder may do.
    pub role: Role,
    /// A member's project.
    #[schema(value_type = Option<String>)]
    pub project: Option<Name>,
    /// An agent's host.
    #[schema(value_type = Option<String>)]
    pub host: Option<Name>,
    /// For people.
    pub description: String,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// A new token with its secret, which is shown this once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenCreated {
    /// The token.
    #[serde(flatten)]
    pub token: Token,
    /// What to send as `Authorization: Bearer …`.
    pub secret: String,
}
