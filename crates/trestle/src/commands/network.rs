//! `trestle network`

mod create;
mod set;

use std::net::IpAddr;
use std::time::Instant;

use clap::{Args, Subcommand};
use serde::Serialize;
use trestle_api::client::Client;
use trestle_api::types::{AddressRange, Cidr, Family};
use trestle_api::{
    AssociateRequest, FixedIp, FixedIpFilter, FixedIpState, GatewayRequest, Network, NetworkFilter,
    NetworkType, Page, ReserveRequest, ReservedRange, Subnet,
};

use super::Context;
use crate::connection::every_page;
use crate::printer::{self, Confirmation, Printer};

/// What `total` says of a subnet, or a pool, that has more addresses than it can say.
pub(crate) const MORE_THAN_TOLD: u64 = (1 << 53) - 1;

/// Networks give instances their addresses
#[derive(Debug, Subcommand)]
pub(crate) enum NetworkCommand {
    /// Make a network, or many out of one range
    ///
    /// Of type vlan each network is a VLAN of its own and becomes one project's; flat_dhcp is a
    /// bridge that hosts share; flat is a bridge of yours that Trestle only plugs instances into.
    #[command(after_help = create::EXAMPLES)]
    Create(Box<create::CreateArgs>),
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
    /// Change a network, in use or not; what is not given stays
    #[command(after_help = set::EXAMPLES)]
    Set(set::SetArgs),
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

/// One network.
#[derive(Debug, Args)]
pub(crate) struct NetworkArg {
    /// Its name or id
    network: String,
}

pub(crate) async fn run(command: NetworkCommand, context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    let printer = context.printer();
    match command {
        NetworkCommand::Create(args) => {
            let created = client.create_networks(&(*args).into()).await?;
            let text = create::created(&created);
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
        NetworkCommand::Set(args) => set::run(&client, printer, args).await,
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

fn subnets(network: &Network) -> impl Iterator<Item = &Subnet> {
    network.ipv4.iter().chain(&network.ipv6)
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
        free: subnet.free,
        reserved: network.reserved.iter().filter(inside).map(|reserved| size(reserved.range)).sum(),
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
        if !has_router_of_each_host(network) {
            rows.push(("  router", printer::or_dash(subnet.gateway.as_ref())));
        }
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
        ("ether types", printer::listed(&network.ether_types)),
        ("reserved", printer::listed_by("; ", network.reserved.iter().map(reserved))),
        ("auto assign", printer::or_dash(network.auto_assign.as_ref())),
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

/// Whether each host is the router of its own instances, under an address of its own: the
/// network's is nobody's then.
fn has_router_of_each_host(network: &Network) -> bool {
    network.network_type != NetworkType::Flat && network.multi_host && !network.share_address
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
