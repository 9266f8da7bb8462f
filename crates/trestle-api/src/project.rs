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
    /// How much it may have.
    pub quota: Quota,
    /// How much it has.
    pub usage: Usage,
    /// The pool of which each of its new instances gets a floating IP.
    #[schema(value_type = Option<String>)]
    pub auto_assign: Option<Name>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// How much a project may have; what is absent has no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Quota {
    /// Networks of its own; the option `quota_networks` until set.
    pub networks: Option<u32>,
    /// Fixed IPs of its instances; the option `quota_fixed_ips` until set.
    pub fixed_ips: Option<u32>,
    /// Floating IPs; the option `quota_floating_ips` until set.
    pub floating_ips: Option<u32>,
    /// Security groups, `default` among them; the option `quota_security_groups` until set.
    #[serde(default)]
    pub security_groups: Option<u32>,
    /// Rules of each security group; the option `quota_security_group_rules` until set.
    #[serde(default)]
    pub security_group_rules: Option<u32>,
}

/// How much a project has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// Networks of its own.
    pub networks: u64,
    /// Fixed IPs of its instances.
    pub fixed_ips: u64,
    /// Floating IPs.
    pub floating_ips: u64,
    /// Security groups.
    #[serde(default)]
    pub security_groups: u64,
    /// Rules of the security group that has the most.
    #[serde(default)]
    pub security_group_rules: u64,
}

/// What to change on a project; what is absent stays, -1 takes a limit away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectPatch {
    /// As in [`Quota`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networks: Option<i64>,
    /// As in [`Quota`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed_ips: Option<i64>,
    /// As in [`Quota`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floating_ips: Option<i64>,
    /// As in [`Quota`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_groups: Option<i64>,
    /// As in [`Quota`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_group_rules: Option<i64>,
    /// The pool of which each of its new instances gets a floating IP, by name or id; an empty text for
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_assign: Option<String>,
}
