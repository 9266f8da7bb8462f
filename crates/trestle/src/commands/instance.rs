//! `trestle instance`

mod security;

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use trestle_api::client::Client;
use trestle_api::types::{InterfaceId, Name};
use trestle_api::{
    Instance, InstanceFilter, Interface, InterfacePatch, MovePhase, MoveRequest, NewInstance, NewInterface,
    PlugRequest,
};

use self::security::{InterfaceCommand, SecurityArgs};
use super::{Context, attach};
use crate::connection::every_page;
use crate::error::CommandError;
use crate::printer::{self, Confirmation, Printer};

/// Instances have interfaces on networks, with a MAC and addresses for life
#[derive(Debug, Subcommand)]
pub(crate) enum InstanceCommand {
    /// Make an instance
    #[command(after_help = CREATE_EXAMPLES)]
    Create {
        /// Its name and host name: 1 to 63 of a-z, 0-9 and `-`
        name: String,
        /// The project that owns it [default: a member's own]
        #[arg(long)]
        project: Option<String>,
        /// A network it joins, as NETWORK[,address=ADDRESS][,mac=MAC], with an address of each
        /// family if need be; may be repeated [default: the project's own networks; if it has none,
        /// the next free VLAN network becomes its own; if there is none, the shared ones]
        #[arg(long = "network", value_name = "NETWORK")]
        interfaces: Vec<InterfaceArg>,
        #[command(flatten)]
        security: SecurityArgs,
    },
    /// List instances
    #[command(after_help = "Example: trestle instance list --host kvm1")]
    List {
        /// Only those of this project
        #[arg(long)]
        project: Option<String>,
        /// Only those plugged in on this host
        #[arg(long)]
        host: Option<String>,
        /// Only those on this network
        #[arg(long)]
        network: Option<String>,
    },
    /// Show an instance and its interfaces
    #[command(after_help = "Example: trestle instance show web --project alpha")]
    Show(InstanceArg),
    /// Delete an instance; its addresses are reusable at once
    #[command(after_help = "Example: trestle instance delete web --yes")]
    Delete {
        #[command(flatten)]
        instance: InstanceArg,
        #[command(flatten)]
        confirmation: Confirmation,
    },
    /// Add an interface on a network
    #[command(after_help = "Example: trestle instance add-interface web --network backend")]
    AddInterface {
        #[command(flatten)]
        instance: InstanceArg,
        /// The network
        #[arg(long)]
        network: String,
        /// This address; may be repeated, for the other family [default: the next free one of each
        /// family that the network has]
        #[arg(long = "address", value_name = "ADDRESS")]
        addresses: Vec<String>,
        /// This MAC [default: one under fa:16:3e]
        #[arg(long)]
        mac: Option<String>,
        #[command(flatten)]
        security: SecurityArgs,
    },
    #[command(subcommand)]
    Interface(InterfaceCommand),
    /// Remove an interface and give its addresses back
    #[command(after_help = "Example: trestle instance remove-interface web backend --yes")]
    RemoveInterface {
        #[command(flatten)]
        instance: InstanceArg,
        /// The interface's id, or the name of its network
        interface: String,
        #[command(flatten)]
        confirmation: Confirmation,
    },
    /// Move an instance to another host, with all interfaces that are plugged in
    ///
    /// Addresses, MACs and routers stay. Around a live migration it is done in two parts: --prepare
    /// makes everything stand on the new host beside the old one, --switch moves the traffic there
    /// and takes it down on the old one.
    #[command(after_help = MOVE_EXAMPLES)]
    Move(Box<MoveArgs>),
}

const CREATE_EXAMPLES: &str = "\
Examples:
  trestle instance create web --project alpha --network public
  trestle instance create db --network backend,address=10.1.0.9,address=fd00:1::9
  trestle instance create db --network backend --security-group db
  trestle instance create router --network public,mac=fa:16:3e:00:00:09 --network backend";

const MOVE_EXAMPLES: &str = "\
Examples:
  trestle instance move web --to kvm2

Around a live migration:
  trestle instance move web --to kvm2 --prepare
  virsh migrate --live web qemu+ssh://kvm2/system
  trestle instance move web --switch     # or --cancel";

/// What to move where, and which part of it to do.
#[derive(Debug, Args)]
pub(crate) struct MoveArgs {
    #[command(flatten)]
    instance: InstanceArg,
    /// The host, by name or id; --switch and --cancel know it
    #[arg(long, value_name = "HOST", required_unless_present_any = ["switch", "cancel"])]
    to: Option<String>,
    #[command(flatten)]
    phase: PhaseArgs,
    /// Make veths on the new host and move their other ends into this namespace there, by path or by
    /// name under /run/netns [default: taps or veths, as now]
    #[arg(long, value_name = "NAMESPACE", conflicts_with_all = ["switch", "cancel"])]
    netns: Option<String>,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct PhaseArgs {
    /// Only make everything stand on the new host; the instance stays where it is
    #[arg(long)]
    prepare: bool,
    /// The instance runs on the prepared host from now on
    #[arg(long)]
    switch: bool,
    /// Take down what was prepared
    #[arg(long)]
    cancel: bool,
}

impl PhaseArgs {
    fn phase(&self) -> MovePhase {
        match self {
            Self { prepare: true, .. } => MovePhase::Prepare,
            Self { switch: true, .. } => MovePhase::Switch,
            Self { cancel: true, .. } => MovePhase::Cancel,
            _ => MovePhase::Both,
        }
    }
}

/// One instance.
#[derive(Debug, Args)]
pub(crate) struct InstanceArg {
    /// Its name or id
    instance: String,
    /// Its project, where the name alone is not unique
    #[arg(long)]
    project: Option<String>,
}

/// `NETWORK[,address=ADDRESS][,mac=MAC]`
#[derive(Clone, Debug)]
pub(crate) struct InterfaceArg(NewInterface);

/// Why a text is not an [`InterfaceArg`].
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not address=ADDRESS or mac=MAC")]
pub(crate) struct InvalidInterface(String);

impl FromStr for InterfaceArg {
    type Err = InvalidInterface;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split(',');
        let network = parts.next().unwrap_or_default().to_owned();
        let mut interface = NewInterface { network, ..NewInterface::default() };
        for part in parts {
            match part.split_once('=') {
                Some(("address", address)) => interface.addresses.push(address.to_owned()),
                Some(("mac", mac)) => interface.mac = Some(mac.to_owned()),
                _ => return Err(InvalidInterface(part.to_owned())),
            }
        }
        Ok(Self(interface))
    }
}

pub(crate) async fn run(command: InstanceCommand, context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    let printer = context.printer();
    match command {
        InstanceCommand::Create { name, project, interfaces, security } => {
            let interfaces: Vec<_> =
                interfaces.into_iter().map(|InterfaceArg(interface)| interface).collect();
            let interfaces = (!interfaces.is_empty()).then_some(interfaces);
            let held = InterfacePatch::from(security);
            let new = NewInstance {
                name,
                project,
                interfaces,
                security_groups: held.security_groups,
                allowed_address_pairs: held.allowed_address_pairs,
                port_security: held.port_security,
            };
            let instance = client.create_instance(&new).await?;
            let text = format!("created instance {} ({})", instance.name, places(&instance));
            printer.done(&instance, &text)
        }
        InstanceCommand::List { project, host, network } => {
            let filter = InstanceFilter { project, host, network, name: None };
            let page = every_page(async |page| client.list_instances(&filter, &page).await).await?;
            printer.show(&page, |page| list(&page.items))
        }
        InstanceCommand::Show(InstanceArg { instance, project }) => {
            printer.show(&client.instance(&instance, project.as_deref()).await?, show)
        }
        InstanceCommand::Delete { instance: InstanceArg { instance, project }, confirmation } => {
            let thing = format!("instance {instance}");
            printer::confirm(&confirmation, printer::DELETE, &thing)?;
            client.delete_instance(&instance, project.as_deref()).await?;
            printer::say(&format!("deleted {thing}"));
            Ok(())
        }
        InstanceCommand::AddInterface { instance, network, addresses, mac, security } => {
            let held = InterfacePatch::from(security);
            let interface = NewInterface {
                network,
                addresses,
                mac,
                security_groups: held.security_groups,
                allowed_address_pairs: held.allowed_address_pairs,
                port_security: held.port_security,
            };
            add_interface(&client, printer, instance, interface).await
        }
        InstanceCommand::Interface(command) => security::run(command, &client, printer).await,
        InstanceCommand::RemoveInterface { instance, interface, confirmation } => {
            remove_interface(&client, instance, &interface, &confirmation).await
        }
        InstanceCommand::Move(args) => move_instance(&client, printer, *args).await,
    }
}

async fn add_interface(
    client: &Client,
    printer: Printer,
    InstanceArg { instance, project }: InstanceArg,
    interface: NewInterface,
) -> anyhow::Result<()> {
    let instance = client.add_interface(&instance, project.as_deref(), &interface).await?;
    let added = instance.interfaces.last().map(place).unwrap_or_default();
    printer.done(&instance, &format!("added an interface to instance {} ({added})", instance.name))
}

async fn remove_interface(
    client: &Client,
    InstanceArg { instance, project }: InstanceArg,
    wanted: &str,
    confirmation: &Confirmation,
) -> anyhow::Result<()> {
    let thing = format!("interface {wanted} of instance {instance}");
    printer::confirm(confirmation, printer::REMOVE, &thing)?;
    let whole = client.instance(&instance, project.as_deref()).await?;
    let interface = which_interface(&whole, wanted)?;
    client.delete_interface(&instance, project.as_deref(), &interface.to_string()).await?;
    printer::say(&format!("removed {thing}"));
    Ok(())
}

fn which_interface(instance: &Instance, wanted: &str) -> Result<InterfaceId, CommandError> {
    let meant = |i: &&Interface| i.id.to_string() == wanted || i.network.as_str() == wanted;
    let found: Vec<InterfaceId> = instance.interfaces.iter().filter(meant).map(|i| i.id).collect();
    match found[..] {
        [one] => Ok(one),
        _ => Err(CommandError::WhichInterface {
            instance: instance.name.to_string(),
            wanted: wanted.to_owned(),
            found: found.len(),
        }),
    }
}

async fn move_instance(client: &Client, printer: Printer, args: MoveArgs) -> anyhow::Result<()> {
    let InstanceArg { instance, project } = args.instance;
    let phase = args.phase.phase();
    let veth = |netns: String| PlugRequest::Veth {
        netns: attach::namespace(&netns).display().to_string(),
        name: None,
    };
    let request = MoveRequest { host: args.to, phase, plug: args.netns.map(veth) };
    let before = client.instance(&instance, project.as_deref()).await?;
    let begun = Instant::now();
    let after = client.move_instance(&instance, project.as_deref(), &request).await?;
    printer.done(&after, &moved(phase, &before, &after, begun.elapsed()))
}

/// What a move, or a part of one, has done.
fn moved(phase: MovePhase, before: &Instance, after: &Instance, took: Duration) -> String {
    let name = &after.name;
    let took = printer::duration(took);
    let to_be = |instance: &Instance| {
        let hosts: BTreeSet<_> = instance.interfaces.iter().filter_map(|i| i.moving_to.as_ref()).collect();
        printer::listed(hosts)
    };
    match phase {
        MovePhase::Prepare => {
            let is = hosts(after.interfaces.iter().filter(|interface| interface.moving_to.is_some()));
            format!("prepared instance {name} on {} in {took}; it stays on {is} until --switch", to_be(after))
        }
        MovePhase::Cancel => match to_be(before).as_str() {
            "-" => format!("instance {name} was not about to move; it stays on {}", hosts(&after.interfaces)),
            host => format!("took down what was prepared for instance {name} on {host}, in {took}"),
        },
        MovePhase::Both | MovePhase::Switch => switched(before, after, &took),
    }
}

/// What is elsewhere than before; other interfaces may have been there already, or are nowhere.
fn switched(before: &Instance, after: &Instance, took: &str) -> String {
    let name = &after.name;
    let was = |now: &Interface| before.interfaces.iter().find(|was| was.id == now.id && was.host != now.host);
    let moved = after.interfaces.iter().filter_map(|now| Some((was(now)?, now)));
    let (old, new): (Vec<&Interface>, Vec<&Interface>) = moved.unzip();
    if new.is_empty() {
        return format!("instance {name} is on {} already", hosts(&after.interfaces));
    }
    let places = printer::listed(new.iter().copied().map(place));
    format!("moved instance {name} from {} to {} in {took} ({places})", hosts(old), hosts(new))
}

/// Where they are plugged in.
fn hosts<'a>(interfaces: impl IntoIterator<Item = &'a Interface>) -> String {
    let hosts = interfaces.into_iter().filter_map(|interface| interface.host.as_ref());
    printer::listed(hosts.collect::<BTreeSet<&Name>>())
}

fn places(instance: &Instance) -> String {
    match &instance.interfaces[..] {
        [] => "no interface".to_owned(),
        some => printer::listed(some.iter().map(place)),
    }
}

fn place(interface: &Interface) -> String {
    let place = format!("{} on {}", printer::listed_by(" and ", &interface.addresses), interface.network);
    match &interface.floating_ips[..] {
        [] => place,
        some => format!("{place} reached at {}", printer::listed_by(" and ", some)),
    }
}

fn list(instances: &[Instance]) -> String {
    let has_floating = instances.iter().any(has_floating_ips);
    let mut header = vec!["NAME", "PROJECT", "ADDRESSES"];
    header.extend(has_floating.then_some("FLOATING IPS"));
    header.extend(["HOST", "STATE"]);
    let row = |instance: &Instance| {
        let interfaces = || instance.interfaces.iter();
        let hosts: BTreeSet<_> = interfaces().filter_map(whereabouts).collect();
        let states: BTreeSet<_> = interfaces().map(|i| printer::word(&i.state)).collect();
        let mut row = vec![
            instance.name.to_string(),
            instance.project.to_string(),
            printer::listed(interfaces().flat_map(|i| &i.addresses)),
        ];
        row.extend(has_floating.then(|| printer::listed(interfaces().flat_map(|i| &i.floating_ips))));
        row.extend([printer::listed(hosts), printer::listed(states)]);
        row
    };
    printer::table(&header, instances.iter().map(row))
}

fn has_floating_ips(instance: &Instance) -> bool {
    instance.interfaces.iter().any(|interface| !interface.floating_ips.is_empty())
}

fn show(instance: &Instance) -> String {
    let mut text = printer::fields(&[
        ("name", instance.name.to_string()),
        ("id", instance.id.to_string()),
        ("project", instance.project.to_string()),
        ("created", printer::time(instance.created_at)),
    ]);
    if !instance.interfaces.is_empty() {
        text.push('\n');
        text.push_str(&interface_table(instance));
        text.push('\n');
        text.push_str(&security::table(instance));
    }
    text
}

fn interface_table(instance: &Instance) -> String {
    let has_floating = has_floating_ips(instance);
    let mut header = vec!["NETWORK", "ADDRESSES"];
    header.extend(has_floating.then_some("FLOATING IPS"));
    header.extend(["MAC", "DEVICE", "HOST", "STATE", "INTERFACE"]);
    let row = |interface: &Interface| {
        let mut row = vec![interface.network.to_string(), printer::listed(&interface.addresses)];
        row.extend(has_floating.then(|| printer::listed(&interface.floating_ips)));
        row.extend([
            interface.mac.to_string(),
            interface.device.to_string(),
            printer::or_dash(whereabouts(interface).as_ref()),
            printer::word(&interface.state),
            interface.id.to_string(),
        ]);
        row
    };
    printer::table(&header, instance.interfaces.iter().map(row))
}

/// The host, and the one it is prepared on.
fn whereabouts(interface: &Interface) -> Option<String> {
    let host = interface.host.as_ref()?;
    match &interface.moving_to {
        Some(next) => Some(format!("{host}, prepared on {next}")),
        None => Some(host.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An instance on a host, and perhaps prepared on another.
    fn web(host: Option<&str>, moving_to: Option<&str>) -> Instance {
        serde_json::from_value(serde_json::json!({
            "id": "01926b2e-8f4e-7c1a-9d0b-5b8f3a2c1d4e", "name": "web", "project": "alpha",
            "created_at": "2026-01-01T00:00:00Z",
            "interfaces": [{
                "id": "01926b2e-8f4e-7c1a-9d0b-5b8f3a2c1d4f", "network": "public",
                "mac": "fa:16:3e:00:00:09", "addresses": ["10.0.0.9", "fd00::9"], "device": "tr-5b8f3a2c1d4f",
                "host": host, "moving_to": moving_to, "plug": null, "state": "ready",
            }],
        }))
        .unwrap()
    }

    #[test]
    fn a_move_says_what_it_did() {
        let (old, prepared, new) =
            (web(Some("kvm1"), None), web(Some("kvm1"), Some("kvm2")), web(Some("kvm2"), None));
        let told = [
            (MovePhase::Both, &old, &new),
            (MovePhase::Prepare, &old, &prepared),
            (MovePhase::Switch, &prepared, &new),
            (MovePhase::Switch, &new, &new),
            (MovePhase::Cancel, &prepared, &old),
            (MovePhase::Cancel, &old, &old),
        ]
        .map(|(phase, before, after)| moved(phase, before, after, Duration::from_millis(140)));
        insta::assert_snapshot!(told.join("\n"), @r"
        moved instance web from kvm1 to kvm2 in 140 ms (10.0.0.9 and fd00::9 on public)
        prepared instance web on kvm2 in 140 ms; it stays on kvm1 until --switch
        moved instance web from kvm1 to kvm2 in 140 ms (10.0.0.9 and fd00::9 on public)
        instance web is on kvm2 already
        took down what was prepared for instance web on kvm2, in 140 ms
        instance web was not about to move; it stays on kvm1
        ");
    }

    #[test]
    fn a_move_names_what_moved_and_nothing_else() {
        let beside = |mut instance: Instance, hosts: [Option<&str>; 2]| {
            for (number, host) in hosts.into_iter().enumerate() {
                let mut other = instance.interfaces[0].clone();
                other.id = format!("01926b2e-8f4e-7c1a-9d0b-5b8f3a2c1d5{number}").parse().unwrap();
                (other.host, other.moving_to) = (host.map(|host| host.parse().unwrap()), None);
                other.network = format!("other{number}").parse().unwrap();
                instance.interfaces.push(other);
            }
            instance
        };
        // One is there already, one is plugged in nowhere.
        let others = [Some("kvm2"), None];
        let (old, prepared, new) = (
            beside(web(Some("kvm1"), None), others),
            beside(web(Some("kvm1"), Some("kvm2")), others),
            beside(web(Some("kvm2"), None), others),
        );
        let told = [
            (MovePhase::Both, &old, &new),
            (MovePhase::Prepare, &old, &prepared),
            (MovePhase::Switch, &prepared, &new),
            (MovePhase::Switch, &new, &new),
        ]
        .map(|(phase, before, after)| moved(phase, before, after, Duration::from_millis(140)));
        insta::assert_snapshot!(told.join("\n"), @"
        moved instance web from kvm1 to kvm2 in 140 ms (10.0.0.9 and fd00::9 on public)
        prepared instance web on kvm2 in 140 ms; it stays on kvm1 until --switch
        moved instance web from kvm1 to kvm2 in 140 ms (10.0.0.9 and fd00::9 on public)
        instance web is on kvm2 already
        ");
    }

    #[test]
    fn an_instance_that_is_prepared_elsewhere_shows_it() {
        let text = list(&[web(Some("kvm1"), Some("kvm2"))]);
        insta::assert_snapshot!(text, @r"
        NAME  PROJECT  ADDRESSES          HOST                    STATE
        web   alpha    10.0.0.9, fd00::9  kvm1, prepared on kvm2  ready
        ");
    }
}
