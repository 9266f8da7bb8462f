//! `trestle host`

use clap::{Args, Subcommand, ValueEnum};
use trestle_api::agent::SpecQuery;
use trestle_api::client::Client;
use trestle_api::plan::{Problem, ProblemCode};
use trestle_api::spec::{Object, SpecUpdate};
use trestle_api::types::Name;
use trestle_api::{Feature, Host, HostFilter, HostPatch, HostStatus, NetworkFilter, NewHost};

use super::Context;
use crate::connection::every_page;
use crate::printer::{self, Confirmation};

/// How many of a host's devices are shown; containers can make hundreds.
const DEVICES_SHOWN: usize = 12;

/// Hosts run instances; each has an agent
#[derive(Debug, Subcommand)]
pub(crate) enum HostCommand {
    /// Make a host known
    #[command(
        after_help = "Example: trestle host create kvm1 --flat-interface eth1 --vlan-interface eth2 --public-interface eth0"
    )]
    Create {
        /// Its name: 1 to 63 of a-z, 0-9 and `-`
        name: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// List hosts
    #[command(after_help = "Example: trestle host list")]
    List,
    /// Show a host, what it routes for and what it cannot do
    #[command(after_help = "Example: trestle host show kvm1")]
    Show {
        /// Its name or id
        host: String,
    },
    /// Change a host; what is not given stays
    #[command(after_help = "Example: trestle host set kvm1 --vlan-interface eth2 --gateway no")]
    Set {
        /// Its name or id
        host: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// Forget a host that has no instance plugged in any more
    #[command(after_help = "Example: trestle host delete kvm1 --yes")]
    Delete {
        /// Its name or id
        host: String,
        #[command(flatten)]
        confirmation: Confirmation,
    },
    /// Print everything a host must have, by key
    #[command(after_help = "Example: trestle host spec kvm1 | grep ^link/")]
    Spec {
        /// Its name or id
        host: String,
    },
}

/// The host's physical devices and its role.
#[derive(Debug, Args)]
pub(crate) struct Settings {
    /// The device that flat bridges enslave on this host; '' for none
    #[arg(long, value_name = "DEVICE")]
    flat_interface: Option<String>,
    /// The device that carries VLANs on this host; '' for none
    #[arg(long, value_name = "DEVICE")]
    vlan_interface: Option<String>,
    /// The device that leads outside, for source NAT; '' for none
    #[arg(long, value_name = "DEVICE")]
    public_interface: Option<String>,
    /// Under which address what has no floating IP leaves by the public interface: an IPv4 address
    /// of the host's, device for the one that the kernel takes, none for the instance's own
    /// [default of a new host: device]
    #[arg(long, value_name = "ADDRESS")]
    routing_source_ip: Option<String>,
    /// Whether it may be chosen to route for single-host networks; those it routes for already stay
    /// with it [default of a new host: yes]
    #[arg(long, value_name = "YES|NO")]
    gateway: Option<YesNo>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum YesNo {
    Yes,
    No,
}

impl Settings {
    fn gateway(&self) -> Option<bool> {
        self.gateway.map(|answer| answer == YesNo::Yes)
    }
}

pub(crate) async fn run(command: HostCommand, context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    let printer = context.printer();
    match command {
        HostCommand::Create { name, settings } => {
            let gateway = settings.gateway();
            let Settings { flat_interface, vlan_interface, public_interface, routing_source_ip, .. } =
                settings;
            let host = NewHost {
                name,
                flat_interface,
                vlan_interface,
                public_interface,
                routing_source_ip,
                gateway,
            };
            let host = client.create_host(&host).await?;
            printer.done(&host, &format!("created host {}", host.name))
        }
        HostCommand::List => {
            let filter = HostFilter::default();
            let page = every_page(async |page| client.list_hosts(&filter, &page).await).await?;
            printer.show(&page, |page| list(&page.items))
        }
        HostCommand::Show { host } => {
            let host = client.host(&host).await?;
            let networks = gateway_of(&client, &host).await?;
            printer.show(&host, |host| show(host, &networks))
        }
        HostCommand::Set { host, settings } => {
            let gateway = settings.gateway();
            let Settings { flat_interface, vlan_interface, public_interface, routing_source_ip, .. } =
                settings;
            let patch =
                HostPatch { flat_interface, vlan_interface, public_interface, routing_source_ip, gateway };
            let host = client.patch_host(&host, &patch).await?;
            printer.done(&host, &format!("changed host {}", host.name))
        }
        HostCommand::Delete { host, confirmation } => {
            let thing = format!("host {host}");
            printer::confirm(&confirmation, printer::DELETE, &thing)?;
            client.delete_host(&host).await?;
            printer::say(&format!("deleted {thing}"));
            Ok(())
        }
        HostCommand::Spec { host } => match client.spec(&host, &SpecQuery::default()).await? {
            Some(update) => printer.show(&update, spec),
            None => Ok(()),
        },
    }
}

/// The single-host networks that the host routes for.
async fn gateway_of(client: &Client, host: &Host) -> anyhow::Result<Vec<Name>> {
    let filter = NetworkFilter { gateway_host: Some(host.id.to_string()), ..NetworkFilter::default() };
    let page = every_page(async |page| client.list_networks(&filter, &page).await).await?;
    Ok(page.items.into_iter().map(|network| network.name).collect())
}

fn list(hosts: &[Host]) -> String {
    let lacks = hosts.iter().any(|host| !host.status.missing_features.is_empty());
    let mut header = vec!["NAME", "AGENT", "GENERATION", "PROBLEMS"];
    header.extend(lacks.then_some("LACKS"));
    header.extend(["GATEWAY", "FLAT INTERFACE", "VLAN INTERFACE", "PUBLIC INTERFACE"]);
    let row = |host: &Host| {
        let mut row = vec![
            host.name.to_string(),
            agent_state(&host.status).to_owned(),
            generation(&host.status),
            problem_count(&host.status).to_string(),
        ];
        row.extend(lacks.then(|| printer::listed(&host.status.missing_features)));
        row.extend([
            yes_no(host.gateway).to_owned(),
            printer::or_dash(host.flat_interface.as_ref()),
            printer::or_dash(host.vlan_interface.as_ref()),
            printer::or_dash(host.public_interface.as_ref()),
        ]);
        row
    };
    printer::table(&header, hosts.iter().map(row))
}

fn show(host: &Host, gateway_of: &[Name]) -> String {
    let status = &host.status;
    let last_seen = status.last_seen.map(printer::time);
    let mut text = printer::fields(&[
        ("name", host.name.to_string()),
        ("id", host.id.to_string()),
        ("flat interface", printer::or_dash(host.flat_interface.as_ref())),
        ("vlan interface", printer::or_dash(host.vlan_interface.as_ref())),
        ("public interface", printer::or_dash(host.public_interface.as_ref())),
        ("routing source ip", host.routing_source_ip.to_string()),
        ("may be gateway", yes_no(host.gateway).to_owned()),
        ("gateway of", printer::listed(gateway_of)),
        ("created", printer::time(host.created_at)),
        ("agent", agent_state(status).to_owned()),
        ("agent version", printer::or_dash(status.agent_version.as_ref())),
        ("kernel", printer::or_dash(status.kernel.as_ref())),
        ("kernel lacks", printer::listed(&status.missing_features)),
        ("devices", devices(status)),
        ("last seen", printer::or_dash(last_seen.as_ref())),
        ("generation", generation(status)),
        ("problems", problem_count(status).to_string()),
    ]);
    for line in trouble(status) {
        text.push_str(&printer::remark(&line));
    }
    text
}

/// Its devices; of very many the rest is counted only.
fn devices(status: &HostStatus) -> String {
    let shown = printer::listed(status.devices.iter().take(DEVICES_SHOWN));
    match status.devices.len().saturating_sub(DEVICES_SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn yes_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

/// How many things are wrong on a host: what it cannot do, and what troubles its agent.
pub(crate) fn problem_count(status: &HostStatus) -> usize {
    status.problems.len() + status.agent_problems.len()
}

/// A line for each thing that is wrong on a host, what its kernel lacks first. Problems that are
/// there only because of others are many, and go with them: they are counted.
pub(crate) fn trouble(status: &HostStatus) -> Vec<String> {
    let lacks = status.missing_features.iter().map(|feature| lack(*feature));
    let agent = status.agent_problems.iter().map(|problem| format!("agent: {}", problem.message));
    let (waiting, roots): (Vec<_>, Vec<_>) =
        status.problems.iter().partition(|problem| problem.code == ProblemCode::Blocked);
    let mut lines: Vec<String> = lacks.chain(agent).chain(roots.into_iter().map(problem_line)).collect();
    match waiting.len() {
        0 => {}
        // What they wait for is not told here.
        _ if lines.is_empty() => lines.extend(waiting.into_iter().map(problem_line)),
        1 => lines.push("and 1 more that waits for these".into()),
        number => lines.push(format!("and {number} more that wait for these")),
    }
    lines
}

fn lack(feature: Feature) -> String {
    let without = match feature {
        Feature::Vlan => "networks of type vlan",
        Feature::Ipv6 => "networks with IPv6",
    };
    format!("the kernel lacks {feature}: {without} cannot be used here")
}

/// One line for a problem of a host.
pub(crate) fn problem_line(problem: &Problem) -> String {
    format!("{}: {}", problem.key, problem.detail)
}

/// Whether the agent is there, in a word.
pub(crate) fn agent_state(status: &HostStatus) -> &'static str {
    match (status.connected, status.last_seen) {
        (true, _) if status.generation_applied < status.generation_wanted => "behind",
        (true, _) => "connected",
        (false, Some(_)) => "away",
        (false, None) => "never seen",
    }
}

/// How far the host is.
pub(crate) fn generation(status: &HostStatus) -> String {
    format!("{} of {}", status.generation_applied, status.generation_wanted)
}

/// One object per line, its kind being in its key; longer texts are indented below.
fn spec(update: &SpecUpdate) -> String {
    let mut text = String::new();
    for (key, object) in &update.put {
        let value = object_text(object);
        match value.lines().count() {
            0 => text.push_str(&format!("{key}\n")),
            1 => text.push_str(&format!("{key} = {}\n", value.trim_end())),
            _ => {
                text.push_str(&format!("{key} =\n"));
                for line in value.lines() {
                    text.push_str(format!("    {line}").trim_end());
                    text.push('\n');
                }
            }
        }
    }
    text
}

fn object_text(object: &Object) -> String {
    match object {
        Object::Sysctl(value) => value.clone(),
        Object::Ruleset(value) | Object::Chain(value) | Object::VpnUser(value) => value.clone(),
        Object::Element | Object::Set | Object::BridgeFilter | Object::Address | Object::Device => {
            String::new()
        }
        Object::Mapping(value) => value.clone(),
        Object::Neighbour(mac) => mac.to_string(),
        Object::Uplink(bridge) => bridge.to_string(),
        Object::DnsName(addresses) => printer::listed(addresses),
        Object::Lease(address) => address.to_string(),
        Object::MetadataProxy(service) => service.to_string(),
        object @ (Object::Link(_)
        | Object::Route { .. }
        | Object::Station { .. }
        | Object::DhcpHost { .. }
        | Object::DhcpHost6 { .. }
        | Object::Lease6 { .. }
        | Object::Metadata { .. }
        | Object::VpnNetns { .. }
        | Object::Vpn(_)
        | Object::Dnsmasq(_)) => without_kind(object),
    }
}

/// The object as JSON without the name of its kind.
fn without_kind(object: &Object) -> String {
    match serde_json::to_value(object) {
        Ok(serde_json::Value::Object(tagged)) => {
            tagged.into_iter().map(|(_, inner)| inner.to_string()).collect()
        }
        _ => String::new(),
    }
}
