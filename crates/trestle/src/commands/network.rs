//! `trestle network`

use std::net::IpAddr;
use std::time::Instant;

use clap::{ArgGroup, Args, Subcommand};
use serde::Serialize;
use trestle_api::client::Client;
use trestle_api::types::{AddressRange, Cidr, Family, VlanId};
use trestle_api::{
    AssociateRequest, FixedIp, FixedIpFilter, FixedIpState, GatewayRequest, Network, NetworkFilter,
    NetworkType, NetworksCreated, NewNetwork, Page, ReserveRequest, ReservedRange, Subnet,
};

use super::Context;
use crate::connection::every_page;
use crate::printer::{self, Confirmation, Printer};

/// What `total` says of a subnet that has more addresses than it can say.
const MORE_THAN_TOLD: u64 = (1 << 53) - 1;

/// Networks give instances their addresses
#[derive(Debug, Subcommand)]
pub(crate) enum NetworkCommand {
    /// Make a network, or many out of one range
    ///
    /// Of type vlan each network is a VLAN of its own and becomes one project's; flat_dhcp is a
    /// bridge that hosts share; flat is a bridge of yours that Trestle only plugs instances into.
    #[command(after_help = CREATE_EXAMPLES)]
    Create(Box<CreateArgs>),
    /// List networks
    #[command(after_help = "Example: trestle network list --project alpha")]
    List {
        /// Only those this project can use: its own and the shared ones
        #[arg(long)]
        project: Option<String>,
        /// Only the single-host ones that this host routes for
        #[arg(long, value_name = "HOST")]
        gateway_host: Option<String>,
    },
    /// Show a network
    #[command(after_help = "Example: trestle network show public")]
    Show(NetworkArg),
    /// Show how full networks are, in each family
    #[command(after_help = "Example: trestle network usage public")]
    Usage {
        /// Its name or id [default: all of them]
        network: Option<String>,
    },
    /// Keep addresses of a network from instances
    ///
    /// An address that an instance has stays with it and is not given out again after that.
    #[command(
        after_help = "Example: trestle network reserve public 10.0.0.100-10.0.0.120 --reason 'rack switches'"
    )]
    Reserve {
        #[command(flatten)]
        network: NetworkArg,
        /// Which: FIRST-LAST, one address, or a CIDR
        range: String,
        /// What for
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Let instances have the addresses of a reserved range again
    #[command(after_help = "Example: trestle network unreserve public 10.0.0.100-10.0.0.120")]
    Unreserve {
        #[command(flatten)]
        network: NetworkArg,
        /// Which, as it was reserved
        range: String,
    },
    /// Give a free VLAN network to a project
    #[command(after_help = "Example: trestle network associate tenants-7 --project alpha")]
    Associate {
        #[command(flatten)]
        network: NetworkArg,
        /// The project, by name or id
        #[arg(long)]
        project: String,
    },
    /// Take a VLAN network that no instance is on from its project: it is free again
    #[command(after_help = "Example: trestle network disassociate tenants-7")]
    Disassociate(NetworkArg),
    /// Move the gateway of a single-host network to another host
    #[command(after_help = "Example: trestle network set-gateway public kvm2")]
    SetGateway {
        #[command(flatten)]
        network: NetworkArg,
        /// The host, by name or id
        host: String,
    },
    /// Delete a network that no instance is on any more
    #[command(after_help = "Example: trestle network delete public --yes")]
    Delete {
        #[command(flatten)]
        network: NetworkArg,
        #[command(flatten)]
        confirmation: Confirmation,
    },
}

const CREATE_EXAMPLES: &str = "\
Examples:
  trestle network create tenants --cidr 10.0.0.0/8 --num-networks 50 --network-size 256
  trestle network create public --type flat_dhcp --cidr 192.0.2.0/24 --bridge br-public
  trestle network create lan --type flat --cidr 192.168.7.0/24 --gateway 192.168.7.1 --bridge br-lan
  trestle network create dual --cidr 10.9.0.0/24 --cidr-v6 fd00:9::/64 --vlan 9 --project alpha";

/// One network.
#[derive(Debug, Args)]
pub(crate) struct NetworkArg {
    /// Its name or id
    network: String,
}

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
    #[arg(long, value_name = "RANGE")]
    reserve: Vec<String>,
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
#[command(next_help_heading = "What guests are told")]
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
            reserved: ranges.reserve,
            ipv6_mode: ranges.ipv6_mode,
            gateway: gateway.gateway,
            gateway_v6: gateway.gateway_v6,
            multi_host,
            share_address,
            gateway_host: gateway.gateway_host,
            vlan: devices.vlan,
            vlan_start: devices.vlan_start,
            bridge: devices.bridge,
            bridge_interface: devices.bridge_interface,
            dns: guests.dns,
            domain: guests.domain,
            mtu: guests.mtu,
            dhcp_options: guests.dhcp_options,
        }
    }
}

/// What a flag and its opposite say together.
fn either(yes: bool, no: bool) -> Option<bool> {
    (yes || no).then_some(yes)
}

pub(crate) async fn run(command: NetworkCommand, context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    let printer = context.printer();
    match command {
        NetworkCommand::Create(args) => {
            let created = client.create_networks(&(*args).into()).await?;
            let text = created_text(&created);
            printer.done(&created, &text)
        }
        NetworkCommand::List { project, gateway_host } => {
            let filter = NetworkFilter { project, gateway_host, ..NetworkFilter::default() };
            let page = every_page(async |page| client.list_networks(&filter, &page).await).await?;
            printer.show(&page, |page| list(&page.items))
        }
        NetworkCommand::Show(arg) => printer.show(&client.network(&arg.network).await?, show),
        NetworkCommand::Usage { network } => usage(&client, printer, network).await,
        NetworkCommand::Reserve { network, range, reason } => {
            reserve(&client, printer, network, ReserveRequest { range, reason }).await
        }
        NetworkCommand::Unreserve { network, range } => {
            let request = ReserveRequest { range, ..ReserveRequest::default() };
            let network = client.unreserve(&network.network, &request).await?;
            let text = format!("instances may have {} of network {} again", request.range, network.name);
            printer.done(&network, &text)
        }
        NetworkCommand::Associate { network, project } => {
            let network = client.associate(&network.network, &AssociateRequest { project }).await?;
            printer.done(&network, &format!("network {} now belongs to {}", network.name, whose(&network)))
        }
        NetworkCommand::Disassociate(arg) => {
            let network = client.disassociate(&arg.network).await?;
            printer.done(&network, &format!("network {} is free now", network.name))
        }
        NetworkCommand::SetGateway { network, host } => set_gateway(&client, printer, network, host).await,
        NetworkCommand::Delete { network: NetworkArg { network }, confirmation } => {
            let thing = format!("network {network}");
            printer::confirm(&confirmation, printer::DELETE, &thing)?;
            client.delete_network(&network).await?;
            printer::say(&format!("deleted {thing}"));
            Ok(())
        }
    }
}

/// One network in a sentence, several in a line.
fn created_text(created: &NetworksCreated) -> String {
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

fn subnets(network: &Network) -> impl Iterator<Item = &Subnet> {
    network.ipv4.iter().chain(&network.ipv6)
}

fn range(network: &Network, family: Family) -> Option<Cidr> {
    subnets(network).map(|subnet| subnet.cidr).find(|cidr| cidr.family() == family)
}

/// Whether the second range begins where the first ends.
fn is_next(one: Cidr, next: Cidr) -> bool {
    let (one, next) = (AddressRange::from(one), AddressRange::from(next));
    number(one.last()).checked_add(1) == Some(number(next.first()))
}

/// How many addresses the range has.
fn size(range: AddressRange) -> u128 {
    (number(range.last()) - number(range.first())).saturating_add(1)
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

async fn reserve(
    client: &Client,
    printer: Printer,
    NetworkArg { network }: NetworkArg,
    request: ReserveRequest,
) -> anyhow::Result<()> {
    let network = client.reserve(&network, &request).await?;
    let mut text = format!("reserved {} of network {}", request.range, network.name);
    // The controller has parsed it already; it prints ranges as it parses them.
    if let Ok(range) = request.range.parse() {
        let used = addresses_in_use(client, &network, range).await?;
        match used {
            0 => {}
            1 => text.push_str("; 1 address of it is in use and stays so until it is given back"),
            _ => text.push_str(&format!("; {used} addresses of it are in use and stay so until given back")),
        }
    }
    printer.done(&network, &text)
}

/// How many addresses of the range an instance or a host has.
async fn addresses_in_use(client: &Client, network: &Network, range: AddressRange) -> anyhow::Result<usize> {
    let filter = FixedIpFilter { network: Some(network.id.to_string()), ..FixedIpFilter::default() };
    let page = every_page(async |page| client.list_fixed_ips(&filter, &page).await).await?;
    let is_used = |one: &&FixedIp| matches!(one.state, FixedIpState::Allocated | FixedIpState::Leased);
    Ok(page.items.iter().filter(is_used).filter(|one| range.contains(one.address)).count())
}

async fn set_gateway(
    client: &Client,
    printer: Printer,
    NetworkArg { network }: NetworkArg,
    host: String,
) -> anyhow::Result<()> {
    let before = client.network(&network).await?.gateway_host;
    let begun = Instant::now();
    let network = client.set_gateway(&network, &GatewayRequest { host }).await?;
    let took = printer::duration(begun.elapsed());
    let now = printer::or_dash(network.gateway_host.as_ref());
    let text = match before {
        Some(before) if network.gateway_host.as_ref() == Some(&before) => {
            format!("host {now} is the gateway of network {} already", network.name)
        }
        Some(before) => {
            format!("moved the gateway of network {} from {before} to {now} in {took}", network.name)
        }
        None => format!("host {now} is the gateway of network {} now", network.name),
    };
    printer.done(&network, &text)
}

/// What `network usage --json` prints of each range.
#[derive(Debug, Serialize)]
struct Usage {
    network: String,
    range: Cidr,
    total: u64,
    used: u64,
    free: u64,
    reserved: u128,
}

async fn usage(client: &Client, printer: Printer, network: Option<String>) -> anyhow::Result<()> {
    let networks = match network {
        Some(network) => vec![client.network(&network).await?],
        None => {
            let filter = NetworkFilter::default();
            every_page(async |page| client.list_networks(&filter, &page).await).await?.items
        }
    };
    let usages = networks.iter().flat_map(|network| subnets(network).map(|subnet| usage_of(network, subnet)));
    printer.show(&Page { items: usages.collect(), next: None }, |page: &Page<Usage>| {
        let row = |usage: &Usage| {
            vec![
                usage.network.clone(),
                usage.range.to_string(),
                told(usage.total, usage.range),
                usage.used.to_string(),
                told(usage.free, usage.range),
                usage.reserved.to_string(),
            ]
        };
        let header = ["NETWORK", "RANGE", "TOTAL", "USED", "FREE", "RESERVED"];
        printer::table(&header, page.items.iter().map(row))
    })
}

fn usage_of(network: &Network, subnet: &Subnet) -> Usage {
    let inside = |reserved: &&ReservedRange| subnet.cidr.contains(reserved.range.first());
    Usage {
        network: network.name.to_string(),
        range: subnet.cidr,
        total: subnet.total,
        used: subnet.used,
        free: free(subnet),
        reserved: network.reserved.iter().filter(inside).map(|reserved| size(reserved.range)).sum(),
    }
}

/// Of what nobody can count it stays as much, whatever is used.
fn free(subnet: &Subnet) -> u64 {
    match subnet.total {
        MORE_THAN_TOLD => MORE_THAN_TOLD,
        total => total.saturating_sub(subnet.used),
    }
}

/// A number of addresses of the range; one that says "more than this" as the size of the range,
/// since of a /64 a few more or less tell nobody anything.
fn told(number: u64, range: Cidr) -> String {
    match number {
        MORE_THAN_TOLD => format!("2^{}", range.net().max_prefix_len() - range.net().prefix_len()),
        number => number.to_string(),
    }
}

fn list(networks: &[Network]) -> String {
    let has_vlans = networks.iter().any(|network| network.vlan.is_some());
    let mut header = vec!["NAME", "TYPE"];
    header.extend(has_vlans.then_some("VLAN"));
    header.extend(["PROJECT", "RANGES", "GATEWAY", "USED"]);
    let row = |network: &Network| {
        let mut row = vec![network.name.to_string(), type_name(network)];
        row.extend(has_vlans.then(|| printer::or_dash(network.vlan.as_ref())));
        row.extend([owner(network), ranges(network), gateway(network), used(network)]);
        row
    };
    printer::table(&header, networks.iter().map(row))
}

fn show(network: &Network) -> String {
    let mut rows = vec![
        ("name", network.name.to_string()),
        ("id", network.id.to_string()),
        ("type", type_name(network)),
        ("project", owner(network)),
    ];
    rows.extend(network.vlan.map(|vlan| ("vlan", vlan.to_string())));
    for subnet in subnets(network) {
        let vpn = subnet.vpn.map(|vpn| ("  kept for the VPN", vpn.to_string()));
        rows.push((family_name(subnet), subnet.cidr.to_string()));
        rows.push(("  router", printer::or_dash(subnet.gateway.as_ref())));
        rows.extend(vpn);
        rows.push(("  first given out", subnet.dhcp_start.to_string()));
        rows.push(("  used", subnet_used(subnet)));
    }
    rows.extend(network.ipv6_mode.map(|mode| ("ipv6 by", printer::word(&mode))));
    rows.extend([
        ("gateway", gateway(network)),
        ("bridge", network.bridge.to_string()),
        ("bridge interface", printer::or_dash(network.bridge_interface.as_ref())),
        ("dns", printer::listed(&network.dns)),
        ("domain", network.domain.to_string()),
        ("mtu", network.mtu.to_string()),
        ("dhcp options", printer::listed_by("; ", &network.dhcp_options)),
        ("reserved", printer::listed_by("; ", network.reserved.iter().map(reserved))),
        ("created", printer::time(network.created_at)),
    ]);
    printer::fields(&rows)
}

fn family_name(subnet: &Subnet) -> &'static str {
    match subnet.cidr.family() {
        Family::Ipv4 => "ipv4",
        Family::Ipv6 => "ipv6",
    }
}

fn reserved(ReservedRange { range, reason }: &ReservedRange) -> String {
    if reason.is_empty() { range.to_string() } else { format!("{range} ({reason})") }
}

/// The owner in a column.
fn owner(network: &Network) -> String {
    match &network.project {
        Some(project) => project.to_string(),
        None if is_free(network) => "(free)".to_owned(),
        None => "(shared)".to_owned(),
    }
}

/// The owner in a sentence.
fn whose(network: &Network) -> String {
    match &network.project {
        Some(project) => format!("project {project}"),
        None if is_free(network) => "free".to_owned(),
        None => "shared by all".to_owned(),
    }
}

/// Whether the next project that needs a network may have it.
pub(crate) fn is_free(network: &Network) -> bool {
    network.network_type == NetworkType::Vlan && network.project.is_none()
}

/// Who routes for it.
fn gateway(network: &Network) -> String {
    if network.network_type == NetworkType::Flat {
        return "outside".to_owned();
    }
    match (&network.gateway_host, network.multi_host, network.share_address) {
        (_, true, true) => "every host".to_owned(),
        (_, true, false) => "every host, per_host".to_owned(),
        (Some(host), false, _) => format!("host {host}"),
        (None, false, _) => "one host, not chosen yet".to_owned(),
    }
}

/// The ranges of both families in one cell.
pub(crate) fn ranges(network: &Network) -> String {
    printer::listed(subnets(network).map(|subnet| subnet.cidr))
}

/// How full the network is, in each family.
pub(crate) fn used(network: &Network) -> String {
    printer::listed(subnets(network).map(subnet_used))
}

fn subnet_used(subnet: &Subnet) -> String {
    format!("{} of {}", subnet.used, told(subnet.total, subnet.cidr))
}

/// The type as the API writes it.
pub(crate) fn type_name(network: &Network) -> String {
    printer::word(&network.network_type)
}
