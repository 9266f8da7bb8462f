//! Address groups: addresses under a name, for rules of security groups to refer to.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trestle_core::types::{AddressGroupId, Cidr, Name};
use utoipa::{IntoParams, ToSchema};

/// An address group to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAddressGroup {
    /// Its name: one DNS label, unique in its project.
    pub name: String,
    /// The project that owns it, by name or id; a member's own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Its addresses: `10.0.0.0/8`, `10.0.0.5` or `10.0.0.5-10.0.0.9`. Those that overlap or adjoin are
    /// put together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<String>,
}

/// What to change of an address group; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddressGroupPatch {
    /// As in [`NewAddressGroup`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// As in [`NewAddressGroup`], in place of those that it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranges: Option<Vec<String>>,
}

/// An address group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AddressGroup {
    /// Names it for life.
    #[schema(value_type = String, format = Uuid)]
    pub id: AddressGroupId,
    /// What it is called by on hosts; never used again.
    pub number: u32,
    /// Its name, unique in its project.
    #[schema(value_type = String)]
    pub name: Name,
    /// The name of its project.
    #[schema(value_type = String)]
    pub project: Name,
    /// Its addresses, as few ranges as make them up.
    #[schema(value_type = Vec<String>)]
    pub ranges: Vec<Cidr>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// Which address groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AddressGroupFilter {
    /// Only those of this project, by name or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Only those of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}
