//! `trestle network`

use clap::{Args, Subcommand};
use trestle_api::{Network, NetworkFilter, NewNetwork};

use super::Context;
use crate::connection::every_page;
use crate::printer::{self, Confirmation};

/// Networks give instances their addresses
#[derive(Debug, Subcommand)]
pub(crate) enum NetworkCommand {
    /// Make a network
    #[command(after_help = "Example: trestle network create public --cidr 10.0.0.0/24 --bridge br100")]
    Create(Box<CreateArgs>),
    /// List networks
    #[command(after_help = "Example: trestle network list --project alpha")]
    List {
        /// Only those this project can use: its own and the shared ones
        #[arg(long)]
        project: Option<String>,
    },
    /// Show a network
    #[command(after_help = "Example: trestle network show public")]
    Show {
        /// Its name or id
        network: String,
    },
    /// Delete a network that no instance is on any more
    #[command(after_help = "Example: trestle network delete public --yes")]
    Delete {
        /// Its name or id
        network: String,
        #[command(flatten)]
        confirmation: Confirmation,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Its name: 1 to 63 of a-z, 0-9 and `-`
    name: String,
    /// The IPv4 range, from a /30 to a /8
    #[arg(long)]
    cidr: String,
    /// How instances get onto it: flat_dhcp [default: flat_dhcp]
    #[arg(long = "type", value_name = "TYPE")]
    network_type: Option<String>,
    /// The project that owns it [default: shared by all]
    #[arg(long)]
    project: Option<String>,
    /// The router's address [default: the first of the range]
    #[arg(long, value_name = "ADDRESS")]
    gateway: Option<String>,
    /// The first address given out [default: the first free one]
    #[arg(long, value_name = "ADDRESS")]
    dhcp_start: Option<String>,
    /// The bridge on every host [default: the server's flat_network_bridge]
    #[arg(long, value_name = "DEVICE")]
    bridge: Option<String>,
    /// The device the bridge enslaves on hosts that name none
    #[arg(long, value_name = "DEVICE")]
    bridge_interface: Option<String>,
    /// A DNS server for its instances; may be repeated [default: the host's own]
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<String>,
    /// The DNS domain of its instances [default: the server's dhcp_domain]
    #[arg(long)]
    domain: Option<String>,
    /// The MTU told to guests [default: 1500]
    #[arg(long, value_name = "BYTES")]
    mtu: Option<u32>,
}

impl From<CreateArgs> for NewNetwork {
    fn from(args: CreateArgs) -> Self {
        Self {
            name: args.name,
            network_type: args.network_type,
            project: args.project,
            cidr: args.cidr,
            gateway: args.gateway,
            dhcp_start: args.dhcp_start,
            bridge: args.bridge,
            bridge_interface: args.bridge_interface,
            dns: args.dns,
            domain: args.domain,
            mtu: args.mtu,
        }
    }
}

pub(crate) async fn run(command: NetworkCommand, context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    let printer = context.printer();
    match command {
        NetworkCommand::Create(args) => {
            let network = client.create_network(&(*args).into()).await?;
            let Network { name, cidr, bridge, .. } = &network;
            printer.done(&network, &format!("created network {name} ({cidr}, bridge {bridge})"))
        }
        NetworkCommand::List { project } => {
            let filter = NetworkFilter { project, ..NetworkFilter::default() };
            let page = every_page(async |page| client.list_networks(&filter, &page).await).await?;
            printer.show(&page, |page| list(&page.items))
        }
        NetworkCommand::Show { network } => printer.show(&client.network(&network).await?, show),
        NetworkCommand::Delete { network, confirmation } => {
            let thing = format!("network {network}");
            printer::confirm(&confirmation, printer::DELETE, &thing)?;
            client.delete_network(&network).await?;
            printer::say(&format!("deleted {thing}"));
            Ok(())
        }
    }
}

fn list(networks: &[Network]) -> String {
    let row = |network: &Network| {
        vec![
            network.name.to_string(),
            type_name(network),
            network.cidr.to_string(),
            network.bridge.to_string(),
            owner(network),
            used(network),
        ]
    };
    printer::table(&["NAME", "TYPE", "CIDR", "BRIDGE", "PROJECT", "USED"], networks.iter().map(row))
}

fn show(network: &Network) -> String {
    printer::fields(&[
        ("name", network.name.to_string()),
        ("id", network.id.to_string()),
        ("type", type_name(network)),
        ("project", owner(network)),
        ("cidr", network.cidr.to_string()),
        ("gateway", network.gateway.to_string()),
        ("dhcp start", network.dhcp_start.to_string()),
        ("bridge", network.bridge.to_string()),
        ("bridge interface", printer::or_dash(network.bridge_interface.as_ref())),
        ("dns", printer::listed(&network.dns)),
        ("domain", network.domain.to_string()),
        ("mtu", network.mtu.to_string()),
        ("addresses used", used(network)),
        ("created", printer::time(network.created_at)),
    ])
}

fn owner(network: &Network) -> String {
    network.project.as_ref().map_or_else(|| "shared".to_owned(), ToString::to_string)
}

/// How full the network is.
pub(crate) fn used(network: &Network) -> String {
    format!("{} of {}", network.addresses_used, network.addresses_total)
}

fn type_name(network: &Network) -> String {
    printer::word(&network.network_type)
}
