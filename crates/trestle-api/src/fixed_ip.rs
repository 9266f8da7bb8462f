//! Fixed IPs: the addresses of networks, and who has them.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trestle_core::types::{Mac, Name};
use utoipa::{IntoParams, ToSchema};

/// Where an address stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FixedIpState {
    /// An interface has it.
    Allocated,
    /// An interface has it and its guest holds a lease for it.
    Leased,
    /// Given back; its host may still serve it, so nobody is given it yet.
    Cooling,
    /// Given back; may be given out again.
    Free,
}

/// An address that is or was in use. One that never was has no entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FixedIp {
    /// The address.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// The name of its network.
    #[schema(value_type = String)]
    pub network: Name,
    /// Where it stands.
    pub state: FixedIpState,
    /// The name of the instance that has it.
    #[schema(value_type = Option<String>)]
    pub instance: Option<Name>,
    /// Who comes in by it, if the instance is a VPN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub vpn_user: Option<Name>,
    /// The name of the project whose instance has it.
    #[schema(value_type = Option<String>)]
    pub project: Option<Name>,
    /// The host that has it for itself, as a gateway address of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub host: Option<Name>,
    /// The MAC that has it.
    #[schema(value_type = Option<String>)]
    pub mac: Option<Mac>,
    /// When it was last given back.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub released_at: Option<Timestamp>,
}

/// Which fixed IPs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct FixedIpFilter {
    /// Only those of this network, by name or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Only those of this project, by name or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Only this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}
