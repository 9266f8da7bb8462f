//! `trestle network set`

use clap::{ArgGroup, Args};
use trestle_api::client::Client;
use trestle_api::{Network, NetworkPatch, NetworkType};

use super::NetworkArg;
use crate::commands::replaced;
use crate::printer::Printer;

pub(super) const EXAMPLES: &str = "\
Examples:
  trestle network set public --dns 192.0.2.53 --dns 192.0.2.54
  trestle network set public --mtu 1400 --dhcp-option 42,192.0.2.1
  trestle network set public --ether-type 0x8863 --ether-type 0x8864    # PPP over Ethernet
  trestle network set public --dns '' --bridge-interface eth2";

/// What can change on a network.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("setting").required(true).multiple(true))]
pub(crate) struct SetArgs {
    #[command(flatten)]
    network: NetworkArg,
    /// A DNS server for its instances; may be repeated, '' for the host's own
    #[arg(long, value_name = "ADDRESS", group = "setting")]
    dns: Vec<String>,
    /// The DNS domain of its instances
    #[arg(long, group = "setting")]
    domain: Option<String>,
    /// The MTU
    #[arg(long, value_name = "BYTES", group = "setting")]
    mtu: Option<u32>,
    /// A DHCP option, as 42,192.0.2.1, for DHCPv6 as option6:31,[2001:db8::1]; may be repeated, ''
    /// for none
    #[arg(long = "dhcp-option", value_name = "NUMBER,VALUE", group = "setting")]
    dhcp_options: Vec<String>,
    /// What guests may send besides IPv4, ARP and IPv6, by EtherType: 0x8863; may be repeated, ''
    /// for none
    #[arg(long = "ether-type", value_name = "NUMBER", group = "setting")]
    ether_types: Vec<String>,
    /// The device the bridge enslaves, or that carries the VLAN, on hosts that name none; '' for
    /// none. Not while an instance is plugged in there
    #[arg(long, value_name = "DEVICE", group = "setting")]
    bridge_interface: Option<String>,
    /// The pool of which each new interface on it gets a floating IP; '' for none
    #[arg(long, value_name = "POOL", group = "setting")]
    auto_assign: Option<String>,
}

pub(super) async fn run(client: &Client, printer: Printer, args: SetArgs) -> anyhow::Result<()> {
    let patch = NetworkPatch {
        dns: replaced(args.dns),
        domain: args.domain,
        mtu: args.mtu,
        dhcp_options: replaced(args.dhcp_options),
        ether_types: replaced(args.ether_types),
        bridge_interface: args.bridge_interface,
        auto_assign: args.auto_assign,
    };
    let before = client.network(&args.network.network).await?;
    let after = client.patch_network(&args.network.network, &patch).await?;
    printer.done(&after, &changed(&before, &after))
}

fn changed(before: &Network, after: &Network) -> String {
    let name = &after.name;
    if before == after {
        return format!("network {name} is like that already");
    }
    let told = |network: &Network| (network.domain.clone(), network.mtu, network.dhcp_options.clone());
    let by_dhcp = after.network_type != NetworkType::Flat && told(before) != told(after);
    let when = if by_dhcp { "; guests hear of it when they renew their leases" } else { "" };
    format!("changed network {name}{when}")
}
