//! Events: what changed, when, and who did it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trestle_core::types::Name;
use utoipa::{IntoParams, ToSchema};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Grows with every event; give it as `after` to go on from here.
    pub id: u64,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// What kind: `instance.created`, `interface.attached`, `host.drift`, …
    pub kind: String,
    /// One sentence for people.
    pub message: String,
    /// The name of the project it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub project: Option<Name>,
    /// The name of the host it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub host: Option<Name>,
    /// The name or id of the thing it is about.
    pub subject: String,
}

/// Which events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EventFilter {
    /// Only of this kind, or of those whose kind begins with it and a dot: `host`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Only about this project, by name or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Only about this host, by name or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Only the last so many, 1000 at most, the oldest first all the same and as one page. A stream
    /// begins with these and goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u32>,
}
