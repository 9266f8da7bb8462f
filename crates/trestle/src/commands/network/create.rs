//! `trestle network create`

use clap::{ArgGroup, Args};
use trestle_api::types::{AddressRange, Cidr, Family, VlanId};
use trestle_api::{Network, NetworksCreated, NewNetwork};

use super::{number, subnets, whose};
use crate::printer;

pub(super) const EXAMPLES: &str = "\
Examples:
  trestle network create tenants --cidr 10.0.0.0/8 --num-networks 50 --network-size 256
  trestle network create public --type flat_dhcp --cidr 192.0.2.0/24 --bridge br-public
  trestle network create lan --type flat --cidr 192.168.7.0/24 --gateway 192.168.7.1 --bridge br-lan
  trestle network create dual --cidr 10.9.0.0/24 --cidr-v6 fd00:9::/64 --vlan 9 --project alpha";

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Its name: 1 to 63 of a-z, 0-9 and `-`; several are called NAME-0, NAME-1 and on
    name: String,
    /// vlan, flat_dhcp or flat [default: the server's network_type]
    #[arg(long = "type", value_name = "TYPE")]
    network_type: Option<String>,
    /// The project that owns it [default: shared by all; of type vlan free for the next project
    /// that needs one]
    #[arg(long)]
    project: Option<String>,
    #[command(flatten)]
    ranges: RangeArgs,
    #[command(flatten)]
    gateway: GatewayArgs,
    #[command(flatten)]
    devices: DeviceArgs,
    #[command(flatten)]
    guests: GuestArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Addresses", group = ArgGroup::new("range").required(true).multiple(true))]
struct RangeArgs {
    /// The IPv4 range, from a /30 to a /8; of several networks, what they are split from
    #[arg(long, group = "range")]
    cidr: Option<String>,
    /// The IPv6 range; of several networks, what they are split from, a /64 each
    #[arg(long, value_name = "CIDR", group = "range")]
    cidr_v6: Option<String>,
    /// How many networks to make, all or none [default: 1]
    #[arg(long, value_name = "NUMBER")]
    num_networks: Option<u32>,
    /// How many IPv4 addresses each has, rounded up to a power of two [default: all; of several
    /// networks the server's network_size, or what fits]
    #[arg(long, value_name = "ADDRESSES")]
    network_size: Option<u32>,
    /// The first IPv4 address that is the network's to use
    #[arg(long, value_name = "ADDRESS")]
    allowed_start: Option<String>,
    /// The last one
    #[arg(long, value_name = "ADDRESS")]
    allowed_end: Option<String>,
    /// The first IPv4 address given out [default: the first free one]
    #[arg(long, value_name = "ADDRESS")]
    dhcp_start: Option<String>,
    /// Addresses to keep from instances: FIRST-LAST, one, or a CIDR; may be repeated
    #[arg(long = "reserve", value_name = "RANGE")]
    reserved: Vec<String>,
    /// How guests come by IPv6 addresses: dhcpv6, or slaac, of their MACs [default: dhcpv6]
    #[arg(long, value_name = "MODE")]
    ipv6_mode: Option<String>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Gateway")]
struct GatewayArgs {
    /// The router's IPv4 address [default: the first of the range]; none for no router, of type
    /// flat
    #[arg(long, value_name = "ADDRESS")]
    gateway: Option<String>,
    /// The router's IPv6 address, in the same way
    #[arg(long, value_name = "ADDRESS")]
    gateway_v6: Option<String>,
    /// Every host with an instance routes [default: the server's multi_host]
    #[arg(long)]
    multi_host: bool,
    /// One host routes for all
    #[arg(long, conflicts_with_all = ["multi_host", "share_address", "per_host"])]
    single_host: bool,
    /// With multi-host: all hosts have the same gateway address and MAC
    /// [default: the server's share_address]
    #[arg(long)]
    share_address: bool,
    /// With multi-host: each host takes an address of its own from the network
    #[arg(long, conflicts_with = "share_address")]
    per_host: bool,
    /// With single-host: the host that routes [default: chosen at first use]
    #[arg(long, value_name = "HOST", conflicts_with = "multi_host")]
    gateway_host: Option<String>,
    /// A pool of which each new interface on it gets a floating IP, for as long as it is there
    #[arg(long, value_name = "POOL")]
    auto_assign: Option<String>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Devices")]
struct DeviceArgs {
    /// The VLAN id [default: the lowest free one from --vlan-start on]
    #[arg(long, value_name = "ID")]
    vlan: Option<u32>,
    /// Where to begin to look for free VLAN ids [default: the server's vlan_start]
    #[arg(long, value_name = "ID", conflicts_with = "vlan")]
    vlan_start: Option<u32>,
    /// The bridge [default: brID of type vlan, else the server's flat_network_bridge]
    #[arg(long, value_name = "DEVICE")]
    bridge: Option<String>,
    /// The device the bridge enslaves, or that carries the VLAN, on hosts that name none
    #[arg(long, value_name = "DEVICE")]
    bridge_interface: Option<String>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "What guests are told and may send")]
struct GuestArgs {
    /// A DNS server for its instances; may be repeated [default: the host's own]
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<String>,
    /// The DNS domain of its instances [default: the server's dhcp_domain]
    #[arg(long)]
    domain: Option<String>,
    /// The MTU [default: 1500]
    #[arg(long, value_name = "BYTES")]
    mtu: Option<u32>,
    /// A DHCP option, as 42,192.0.2.1, for DHCPv6 as option6:31,[2001:db8::1]; may be repeated
    #[arg(long = "dhcp-option", value_name = "NUMBER,VALUE")]
    dhcp_options: Vec<String>,
    /// What guests may send besides IPv4, ARP and IPv6, by EtherType: 0x8863; may be repeated
    #[arg(long = "ether-type", value_name = "NUMBER")]
    ether_types: Vec<String>,
}

impl From<CreateArgs> for NewNetwork {
    fn from(args: CreateArgs) -> Self {
        let CreateArgs { name, network_type, project, ranges, gateway, devices, guests } = args;
        let multi_host = either(gateway.multi_host, gateway.single_host);
        let share_address = either(gateway.share_address, gateway.per_host);
        Self {
            name,
            network_type,
            project,
            cidr: ranges.cidr,
            cidr_v6: ranges.cidr_v6,
            num_networks: ranges.num_networks,
            network_size: ranges.network_size,
            allowed_start: ranges.allowed_start,
            allowed_end: ranges.allowed_end,
            dhcp_start: ranges.dhcp_start,
            reserved: ranges.reserved,
            ipv6_mode: ranges.ipv6_mode,
            gateway: gateway.gateway,
            gateway_v6: gateway.gateway_v6,
            multi_host,
            share_address,
            gateway_host: gateway.gateway_host,
            auto_assign: gateway.auto_assign,
            vlan: devices.vlan,
            vlan_start: devices.vlan_start,
            bridge: devices.bridge,
            bridge_interface: devices.bridge_interface,
            dns: guests.dns,
            domain: guests.domain,
            mtu: guests.mtu,
            dhcp_options: guests.dhcp_options,
            ether_types: guests.ether_types,
        }
    }
}

/// What a flag and its opposite say together.
fn either(yes: bool, no: bool) -> Option<bool> {
    (yes || no).then_some(yes)
}

/// One network in a sentence, several in a line.
pub(super) fn created(created: &NetworksCreated) -> String {
    let networks = &created.items[..];
    match networks {
        [] => "created no network".to_owned(),
        [one] => format!("created network {} ({})", one.name, particulars(one).join(", ")),
        [first, .., last] => {
            let vlans: Vec<VlanId> = networks.iter().filter_map(|network| network.vlan).collect();
            let mut parts = vec![printer::word(&first.network_type)];
            if !vlans.is_empty() {
                let follows = |one: VlanId, next: VlanId| one.next() == Some(next);
                parts = vec![format!("VLANs {}", printer::runs(&vlans, follows))];
            }
            for family in [Family::Ipv4, Family::Ipv6] {
                let ranges: Vec<Cidr> =
                    networks.iter().filter_map(|network| range(network, family)).collect();
                parts.extend((!ranges.is_empty()).then(|| printer::runs(&ranges, is_next)));
            }
            parts.push(whose(first));
            let number = networks.len();
            format!("created {number} networks, {} to {} ({})", first.name, last.name, parts.join("; "))
        }
    }
}

/// What tells a network from others: its type or VLAN, its ranges, its bridge, its owner.
fn particulars(network: &Network) -> Vec<String> {
    let kind = match network.vlan {
        Some(vlan) => format!("VLAN {vlan}"),
        None => printer::word(&network.network_type),
    };
    let ranges = subnets(network).map(|subnet| subnet.cidr.to_string());
    let rest = [format!("bridge {}", network.bridge), whose(network)];
    std::iter::once(kind).chain(ranges).chain(rest).collect()
}

fn range(network: &Network, family: Family) -> Option<Cidr> {
    subnets(network).map(|subnet| subnet.cidr).find(|cidr| cidr.family() == family)
}

/// Whether the second range begins where the first ends.
fn is_next(one: Cidr, next: Cidr) -> bool {
    let (one, next) = (AddressRange::from(one), AddressRange::from(next));
    number(one.last()).checked_add(1) == Some(number(next.first()))
}
