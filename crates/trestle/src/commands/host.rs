//! `trestle host`

use clap::{Args, Subcommand};
use trestle_api::agent::SpecQuery;
use trestle_api::plan::Problem;
use trestle_api::spec::{Object, SpecUpdate};
use trestle_api::{Host, HostFilter, HostPatch, HostStatus, NewHost};

use super::Context;
use crate::connection::every_page;
use crate::printer::{self, Confirmation};

/// Hosts run instances; each has an agent
#[derive(Debug, Subcommand)]
pub(crate) enum HostCommand {
    /// Make a host known
    #[command(after_help = "Example: trestle host create kvm1 --flat-interface eth1 --public-interface eth0")]
    Create {
        /// Its name: 1 to 63 of a-z, 0-9 and `-`
        name: String,
        #[command(flatten)]
        devices: Devices,
    },
    /// List hosts
    #[command(after_help = "Example: trestle host list")]
    List,
    /// Show a host and what it cannot do
    #[command(after_help = "Example: trestle host show kvm1")]
    Show {
        /// Its name or id
        host: String,
    },
    /// Change a host; what is not given stays
    #[command(after_help = "Example: trestle host set kvm1 --public-interface eth2")]
    Set {
        /// Its name or id
        host: String,
        #[command(flatten)]
        devices: Devices,
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

/// The host's physical devices.
#[derive(Debug, Args)]
pub(crate) struct Devices {
    /// The device that flat bridges enslave on this host; '' for none
    #[arg(long, value_name = "DEVICE")]
    flat_interface: Option<String>,
    /// The device that leads outside, for source NAT; '' for none
    #[arg(long, value_name = "DEVICE")]
    public_interface: Option<String>,
}

pub(crate) async fn run(command: HostCommand, context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    let printer = context.printer();
    match command {
        HostCommand::Create { name, devices: Devices { flat_interface, public_interface } } => {
            let host = client.create_host(&NewHost { name, flat_interface, public_interface }).await?;
            printer.done(&host, &format!("created host {}", host.name))
        }
        HostCommand::List => {
            let filter = HostFilter::default();
            let page = every_page(async |page| client.list_hosts(&filter, &page).await).await?;
            printer.show(&page, |page| list(&page.items))
        }
        HostCommand::Show { host } => printer.show(&client.host(&host).await?, show),
        HostCommand::Set { host, devices: Devices { flat_interface, public_interface } } => {
            let patch = HostPatch { flat_interface, public_interface };
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

fn list(hosts: &[Host]) -> String {
    let header = ["NAME", "AGENT", "GENERATION", "PROBLEMS", "FLAT INTERFACE", "PUBLIC INTERFACE"];
    let row = |host: &Host| {
        vec![
            host.name.to_string(),
            agent_state(&host.status).to_owned(),
            generation(&host.status),
            host.status.problems.len().to_string(),
            printer::or_dash(host.flat_interface.as_ref()),
            printer::or_dash(host.public_interface.as_ref()),
        ]
    };
    printer::table(&header, hosts.iter().map(row))
}

fn show(host: &Host) -> String {
    let status = &host.status;
    let last_seen = status.last_seen.map(printer::time);
    let mut text = printer::fields(&[
        ("name", host.name.to_string()),
        ("id", host.id.to_string()),
        ("flat interface", printer::or_dash(host.flat_interface.as_ref())),
        ("public interface", printer::or_dash(host.public_interface.as_ref())),
        ("created", printer::time(host.created_at)),
        ("agent", agent_state(status).to_owned()),
        ("agent version", printer::or_dash(status.agent_version.as_ref())),
        ("kernel", printer::or_dash(status.kernel.as_ref())),
        ("last seen", printer::or_dash(last_seen.as_ref())),
        ("generation", generation(status)),
        ("problems", status.problems.len().to_string()),
    ]);
    for problem in &status.problems {
        text.push_str(&format!("  {}\n", problem_line(problem)));
    }
    text
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
        Object::Ruleset(value) => value.clone(),
        Object::Element | Object::Address => String::new(),
        Object::Uplink(bridge) => bridge.to_string(),
        Object::DnsName(address) => address.to_string(),
        Object::Lease(mac) => mac.to_string(),
        object @ (Object::Link(_) | Object::Route { .. } | Object::DhcpHost { .. } | Object::Dnsmasq(_)) => {
            without_kind(object)
        }
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
