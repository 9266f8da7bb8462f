//! Networks.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trestle_core::types::{
    AddressRange, Cidr, DhcpOption, Domain, EtherType, LinkName, Mtu, Name, NetworkId, VlanId,
};
use trestle_core::world::{Ipv6Mode, NetworkType};
use utoipa::{IntoParams, ToSchema};

/// Networks to be made: one, or several out of one range.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewNetwork {
    /// Its name: one DNS label, unique. Several are called NAME-0, NAME-1 and on.
    pub name: String,
    /// `vlan`, `flat_dhcp` or `flat`; the option `network_type` if absent, which is `vlan` unless set.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "type")]
    pub network_type: Option<String>,
    /// The project that owns it, by name or id. If absent it is shared by all, or, of type `vlan`,
    /// free for the next project that needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The IPv4 range, such as `10.0.0.0/24`; /30 at the smallest, /8 at the largest. Of several
    /// networks, the range that they are split from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr: Option<String>,
    /// The IPv6 range, such as `fd00:1::/64`. Of several networks, the range that they are split
    /// from, a /64 each. At least one of the two ranges is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr_v6: Option<String>,
    /// How many networks to make; 1 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_networks: Option<u32>,
    /// How many IPv4 addresses each has, rounded up to a power of two. If absent, one network has
    /// the whole range, and several have 256 each or what fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_size: Option<u32>,
    /// The VLAN id, of type `vlan`; the lowest free one from `vlan_start` on if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u32>,
    /// Where to begin to look for free VLAN ids; the option `vlan_start` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan_start: Option<u32>,
    /// The router's IPv4 address; the first of the range if absent. `none` for no router, of type
    /// `flat`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// The router's IPv6 address, in the same way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_v6: Option<String>,
    /// How guests come by their IPv6 addresses: `dhcpv6`, the default, or `slaac`, by which they
    /// make them of their MACs (EUI-64).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_mode: Option<String>,
    /// Whether every host with an instance routes for it; the option `multi_host` if absent. Else
    /// one host does, for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multi_host: Option<bool>,
    /// With `multi_host`: whether all hosts have the same gateway address and MAC; the option
    /// `share_address` if absent. Else each takes an address of its own from the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_address: Option<bool>,
    /// Without `multi_host`: the host that routes, by name or id; chosen at first use if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_host: Option<String>,
    /// The first IPv4 address that is the network's to use, its router's included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_start: Option<String>,
    /// The last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_end: Option<String>,
    /// The first IPv4 address given out; the first free one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp_start: Option<String>,
    /// The bridge; of type `vlan` `br` and the VLAN id if absent, else the option
    /// `flat_network_bridge`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// The device that the bridge enslaves, or that carries the VLAN, on hosts that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge_interface: Option<String>,
    /// Servers that dnsmasq asks, the host's own if empty; of type `flat`, what guests are told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<String>,
    /// The DNS domain of its instances; the option `dhcp_domain` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Told to guests; 1500 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// What else guests are told by DHCP: `42,192.0.2.1`, for DHCPv6 `option6:31,[2001:db8::1]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dhcp_options: Vec<String>,
    /// What guests may send besides IPv4, ARP and IPv6, by EtherType: `0x8863`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ether_types: Vec<String>,
    /// Addresses that no instance is given: `10.0.0.100-10.0.0.120`, one address, or a CIDR.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reserved: Vec<String>,
    /// The pool of which each new interface on it gets a floating IP, by name or id; not of type `flat`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_assign: Option<String>,
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
    /// `vlan`, `flat_dhcp` or `flat`.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub network_type: NetworkType,
    /// The name of the project that owns it. If absent it is shared by all, or, of type `vlan`, free.
    #[schema(value_type = Option<String>)]
    pub project: Option<Name>,
    /// Its IPv4 addresses.
    pub ipv4: Option<Subnet>,
    /// Its IPv6 addresses.
    pub ipv6: Option<Subnet>,
    /// How guests come by the latter.
    #[schema(value_type = Option<String>)]
    pub ipv6_mode: Option<Ipv6Mode>,
    /// The VLAN id, of type `vlan`.
    #[schema(value_type = Option<u32>)]
    pub vlan: Option<VlanId>,
    /// Whether every host with an instance routes for it.
    pub multi_host: bool,
    /// Whether all of these have the same gateway address and MAC.
    pub share_address: bool,
    /// The host that routes for all, where one does and it is chosen.
    #[schema(value_type = Option<String>)]
    pub gateway_host: Option<Name>,
    /// The bridge.
    #[schema(value_type = String)]
    pub bridge: LinkName,
    /// The device that the bridge enslaves, or that carries the VLAN, on hosts that name none.
    #[schema(value_type = Option<String>)]
    pub bridge_interface: Option<LinkName>,
    /// Servers that dnsmasq asks; of type `flat`, what guests are told.
    #[schema(value_type = Vec<String>)]
    pub dns: Vec<IpAddr>,
    /// The DNS domain of its instances.
    #[schema(value_type = String)]
    pub domain: Domain,
    /// Told to guests.
    #[schema(value_type = u32)]
    pub mtu: Mtu,
    /// What else guests are told by DHCP.
    #[schema(value_type = Vec<String>)]
    pub dhcp_options: Vec<DhcpOption>,
    /// What guests may send besides IPv4, ARP and IPv6.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub ether_types: Vec<EtherType>,
    /// Addresses that no instance is given.
    pub reserved: Vec<ReservedRange>,
    /// The pool of which each new interface on it gets a floating IP.
    #[schema(value_type = Option<String>)]
    pub auto_assign: Option<Name>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// The networks that were made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NetworksCreated {
    /// In the order of their ranges.
    pub items: Vec<Network>,
}

/// A network's addresses in one family, and how many are in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Subnet {
    /// The range.
    #[schema(value_type = String)]
    pub cidr: Cidr,
    /// The router's address.
    #[schema(value_type = Option<String>)]
    pub gateway: Option<IpAddr>,
    /// The address that is kept for the project's VPN.
    #[schema(value_type = Option<String>)]
    pub vpn: Option<IpAddr>,
    /// The first address given out.
    #[schema(value_type = String)]
    pub dhcp_start: IpAddr,
    /// How many addresses it has for instances, taken or not; 2^53 - 1 at most, which stands for more.
    pub total: u64,
    /// How many are taken or not yet free again: of these, and others that instances asked for.
    pub used: u64,
    /// How many of the former would be given out now; 2^53 - 1 at most, which stands for more.
    pub free: u64,
}

/// Addresses of a network that no instance is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReservedRange {
    /// Which: `10.0.0.100-10.0.0.120`, or one address.
    #[schema(value_type = String)]
    pub range: AddressRange,
    /// What for.
    pub reason: String,
}

/// A range to be reserved, or no longer; one given before is given the same way again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReserveRequest {
    /// Which: `10.0.0.100-10.0.0.120`, one address, or a CIDR.
    pub range: String,
    /// What for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// The project that a free VLAN network is to belong to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AssociateRequest {
    /// By name or id.
    pub project: String,
}

/// What to change of a network; what is absent stays, an empty list is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkPatch {
    /// As in [`NewNetwork`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<Vec<String>>,
    /// As in [`NewNetwork`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// As in [`NewNetwork`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// As in [`NewNetwork`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp_options: Option<Vec<String>>,
    /// As in [`NewNetwork`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ether_types: Option<Vec<String>>,
    /// As in [`NewNetwork`]; an empty text takes it away. Not on a host where the network stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge_interface: Option<String>,
    /// As in [`NewNetwork`]; an empty text for none. Interfaces that are there keep what they have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_assign: Option<String>,
}

/// The host that is to route for a single-host network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GatewayRequest {
    /// By name or id.
    pub host: String,
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
    /// Only the single-host ones that this host routes for, by name or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_host: Option<String>,
}
