//! Hosts run instances; each has an agent.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trestle_core::plan::Problem;
use trestle_core::types::{HostId, LinkName, Name};
use trestle_core::world::RoutingSourceIp;
use utoipa::{IntoParams, ToSchema};

use crate::{ApiError, Feature};

/// A host to be made known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewHost {
    /// Its name: one DNS label, unique.
    pub name: String,
    /// The device that flat bridges enslave on this host; wins over the network's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flat_interface: Option<String>,
    /// The device that carries VLANs on this host; wins over the network's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan_interface: Option<String>,
    /// The device that leads outside; without one this host does no source NAT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_interface: Option<String>,
    /// Under which address instances without a floating IP leave by that device: an IPv4 address of
    /// the host's, `device`, the default, for the one that the kernel takes, or `none` for their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routing_source_ip: Option<String>,
    /// Whether it may be chosen to route for single-host networks; it may if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<bool>,
}

/// What to change on a host; what is absent stays, an empty text takes the device away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HostPatch {
    /// As in [`NewHost`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flat_interface: Option<String>,
    /// As in [`NewHost`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan_interface: Option<String>,
    /// As in [`NewHost`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_interface: Option<String>,
    /// As in [`NewHost`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routing_source_ip: Option<String>,
    /// As in [`NewHost`]. Networks that it routes for stay with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<bool>,
}

/// A host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Host {
    /// Names it for life.
    #[schema(value_type = String, format = Uuid)]
    pub id: HostId,
    /// Its name, unique.
    #[schema(value_type = String)]
    pub name: Name,
    /// The device that flat bridges enslave on this host.
    #[schema(value_type = Option<String>)]
    pub flat_interface: Option<LinkName>,
    /// The device that carries VLANs on this host.
    #[schema(value_type = Option<String>)]
    pub vlan_interface: Option<LinkName>,
    /// The device that leads outside.
    #[schema(value_type = Option<String>)]
    pub public_interface: Option<LinkName>,
    /// Under which address instances without a floating IP leave by it: an address, `device`, `none`.
    #[schema(value_type = String)]
    pub routing_source_ip: RoutingSourceIp,
    /// Whether it may be chosen to route for single-host networks.
    pub gateway: bool,
    /// When it was made known.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// What its agent last said.
    pub status: HostStatus,
}

/// What a host's agent last said. Observed, never intent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostStatus {
    /// Whether its agent is connected now.
    pub connected: bool,
    /// When its agent last spoke.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_seen: Option<Timestamp>,
    /// The generation it has been asked for.
    pub generation_wanted: u64,
    /// The generation it has worked through.
    pub generation_applied: u64,
    /// What it cannot do.
    #[schema(value_type = Vec<Object>)]
    pub problems: Vec<Problem>,
    /// What troubles the agent itself.
    #[serde(default)]
    pub agent_problems: Vec<ApiError>,
    /// What its kernel lacks.
    #[serde(default)]
    pub missing_features: Vec<Feature>,
    /// Its network devices, those that Trestle makes aside.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub devices: Vec<LinkName>,
    /// The agent's version.
    pub agent_version: Option<String>,
    /// The kernel's release.
    pub kernel: Option<String>,
}

/// Which hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct HostFilter {
    /// Only the one of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}
