//! Networks.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trestle_core::types::{Cidr, Domain, LinkName, Mtu, Name, NetworkId};
use trestle_core::world::NetworkType;
use utoipa::{IntoParams, ToSchema};

/// A network to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewNetwork {
    /// Its name: one DNS label, unique.
    pub name: String,
    /// `flat_dhcp`, the default.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "type")]
    pub network_type: Option<String>,
    /// The project that owns it, by name or id; shared by all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The IPv4 range, such as `10.0.0.0/24`; /30 at the smallest, /8 at the largest.
    pub cidr: String,
    /// The router's address; the first of the range if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// The first address given out; the first free one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp_start: Option<String>,
    /// The bridge; the option `flat_network_bridge` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// The device the bridge enslaves on hosts that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge_interface: Option<String>,
    /// Servers that dnsmasq asks; the host's own if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<String>,
    /// The DNS domain of its instances; the option `dhcp_domain` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Told to guests; 1500 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

/// A network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Network {
    /// Names it for life.
    #[schema(value_type = String, format = Uuid)]
    pub id: NetworkId,
    /// Its name, unique.
    #[schema(value_type = String)]
    pub name: Name,
    /// `flat_dhcp`.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub network_type: NetworkType,
    /// The name of the project that owns it; shared by all if absent.
    #[schema(value_type = Option<String>)]
    pub project: Option<Name>,
    /// The IPv4 range.
    #[schema(value_type = String)]
    pub cidr: Cidr,
    /// The router's address.
    #[schema(value_type = String)]
    pub gateway: Ipv4Addr,
    /// The first address given out.
    #[schema(value_type = String)]
    pub dhcp_start: Ipv4Addr,
    /// The bridge.
    #[schema(value_type = String)]
    pub bridge: LinkName,
    /// The device the bridge enslaves on hosts that name none.
    #[schema(value_type = Option<String>)]
    pub bridge_interface: Option<LinkName>,
    /// Servers that dnsmasq asks.
    #[schema(value_type = Vec<String>)]
    pub dns: Vec<Ipv4Addr>,
    /// The DNS domain of its instances.
    #[schema(value_type = String)]
    pub domain: Domain,
    /// Told to guests.
    #[schema(value_type = u32)]
    pub mtu: Mtu,
    /// How many addresses it has for instances, taken or not.
    pub addresses_total: u64,
    /// How many of them are taken or not yet free again.
    pub addresses_used: u64,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// Which networks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct NetworkFilter {
    /// Only the one of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Only those this project can use: its own and the shared ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
}
