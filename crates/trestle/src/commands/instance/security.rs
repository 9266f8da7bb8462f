//! `trestle instance interface`, and what interfaces are held to.

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use trestle_api::client::Client;
use trestle_api::{Instance, Interface, InterfacePatch};

use super::{InstanceArg, which_interface};
use crate::commands::replaced;
use crate::printer::{self, Printer};

/// Interfaces are held to security groups, and guarded against forging
#[derive(Debug, Subcommand)]
pub(crate) enum InterfaceCommand {
    /// Change what an interface is held to, while its instance runs; what is not given stays
    #[command(after_help = SET_EXAMPLES)]
    Set(SetArgs),
}

const SET_EXAMPLES: &str = "\
Examples:
  trestle instance interface set web public --security-group web --security-group default
  trestle instance interface set router backend --allowed-address-pair 10.9.0.0/16
  trestle instance interface set router backend --port-security off";

/// An interface, and what is to change.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("setting").required(true).multiple(true)
    .args(["security_groups", "allowed_address_pairs", "port_security"]))]
pub(crate) struct SetArgs {
    #[command(flatten)]
    instance: InstanceArg,
    /// The interface's network, or the interface's id
    interface: String,
    #[command(flatten)]
    security: SecurityArgs,
}

/// What interfaces are held to.
#[derive(Debug, Args)]
#[command(next_help_heading = "Security")]
pub(crate) struct SecurityArgs {
    /// A security group that it is in, by name or id; may be repeated, '' for none: then nothing
    /// passes. A new one is in `default` if none is given
    #[arg(long = "security-group", value_name = "GROUP")]
    security_groups: Vec<String>,
    /// What its guest may send from besides its own addresses, and from which MAC if not its own;
    /// may be repeated, '' for none. For administrators, but on the project's own networks
    #[arg(long = "allowed-address-pair", value_name = "RANGE[,MAC]")]
    allowed_address_pairs: Vec<String>,
    /// Whether it is guarded against forging, and held to security groups; off takes it out of all
    /// of them, and on brings it back into those. For administrators, but on the project's own networks
    #[arg(long, value_name = "SWITCH")]
    port_security: Option<Switch>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

impl From<SecurityArgs> for InterfacePatch {
    fn from(args: SecurityArgs) -> Self {
        Self {
            security_groups: replaced(args.security_groups),
            allowed_address_pairs: replaced(args.allowed_address_pairs),
            port_security: args.port_security.map(|switch| switch == Switch::On),
        }
    }
}

pub(super) async fn run(command: InterfaceCommand, client: &Client, printer: Printer) -> anyhow::Result<()> {
    let InterfaceCommand::Set(SetArgs { instance: InstanceArg { instance, project }, interface, security }) =
        command;
    let patch = InterfacePatch::from(security);
    let after = client.patch_interface(&instance, project.as_deref(), &interface, &patch).await?;
    let id = which_interface(&after, &interface)?;
    let held = after.interfaces.iter().find(|known| known.id == id).map(held).unwrap_or_default();
    printer.done(&after, &format!("instance {} {held}", after.name))
}

fn held(interface: &Interface) -> String {
    let network = &interface.network;
    if !interface.port_security {
        return format!("is held to nothing on network {network}: everything passes");
    }
    let groups = match &interface.security_groups[..] {
        [] => return format!("is in no security group on network {network}: nothing passes"),
        [one] => format!("security group {one}"),
        several => format!("security groups {}", printer::listed(several)),
    };
    let pairs = match &interface.allowed_address_pairs[..] {
        [] => String::new(),
        some => format!(", and may send from {} too", printer::listed_by("; ", some)),
    };
    format!("is in {groups} on network {network}{pairs}")
}

/// What each interface is held to.
pub(super) fn table(instance: &Instance) -> String {
    let row = |interface: &Interface| {
        let groups = match interface.port_security {
            true => printer::listed(&interface.security_groups),
            false => "(port security off)".to_owned(),
        };
        let pairs = printer::listed_by("; ", &interface.allowed_address_pairs);
        vec![interface.network.to_string(), groups, pairs]
    };
    printer::table(
        &["NETWORK", "SECURITY GROUPS", "ALLOWED ADDRESS PAIRS"],
        instance.interfaces.iter().map(row),
    )
}
