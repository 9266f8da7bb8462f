//! `trestle floating-ip`

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use trestle_api::client::Client;
use trestle_api::{
    FloatingIp, FloatingIpAssociation, FloatingIpFilter, FloatingIpState, FloatingIpTarget, NewFloatingIp,
    NewPortForward, PortForward,
};

use super::Context;
use crate::connection::every_page;
use crate::printer::{self, Printer};

/// Floating IPs are public addresses that projects reserve and that lead to their instances
#[derive(Debug, Subcommand)]
pub(crate) enum FloatingIpCommand {
    /// Reserve a floating IP for a project
    ///
    /// It stays the project's until it is released, whatever it leads to.
    #[command(after_help = RESERVE_EXAMPLES)]
    Reserve {
        /// The pool [default: the only one with addresses of that family]
        #[arg(long)]
        pool: Option<String>,
        /// The project [default: a member's own]
        #[arg(long)]
        project: Option<String>,
        /// This one [default: one that nobody had yet, or the one released longest ago]
        #[arg(long)]
        address: Option<String>,
        /// ipv4 or ipv6 [default: that of the address, else ipv4]
        #[arg(long, conflicts_with = "address")]
        family: Option<String>,
    },
    /// List the floating IPs that projects have
    #[command(after_help = "Example: trestle floating-ip list --project alpha")]
    List {
        /// Only those of this pool
        #[arg(long)]
        pool: Option<String>,
        /// Only those of this project
        #[arg(long)]
        project: Option<String>,
        /// Only those that lead to this instance
        #[arg(long)]
        instance: Option<String>,
    },
    /// Show a floating IP and the ports of it that lead elsewhere
    #[command(after_help = "Example: trestle floating-ip show 203.0.113.20")]
    Show(AddressArg),
    /// Let a floating IP lead to an instance, which also leaves under it from then on
    ///
    /// It holds at once, while the instance runs. One that leads elsewhere is not taken from there:
    /// `trestle floating-ip move` does that.
    #[command(after_help = "Example: trestle floating-ip associate 203.0.113.20 web1")]
    Associate(TargetArgs),
    /// Let a floating IP lead to another instance, in one step
    ///
    /// What goes by it ends, as the other instance does not know of it.
    #[command(after_help = "Example: trestle floating-ip move 203.0.113.20 web2")]
    Move(TargetArgs),
    /// Let a floating IP lead nowhere; its project keeps it
    ///
    /// Ports of it that lead somewhere still do.
    #[command(after_help = "Example: trestle floating-ip disassociate 203.0.113.20")]
    Disassociate(AddressArg),
    /// Give a floating IP that leads nowhere back to its pool
    #[command(after_help = "Example: trestle floating-ip release 203.0.113.20")]
    Release(AddressArg),
    /// Let one port of a floating IP lead to an instance, whatever the rest of it does
    #[command(after_help = FORWARD_EXAMPLES)]
    Forward {
        #[command(flatten)]
        address: AddressArg,
        /// The floating IP's port: tcp/PORT or udp/PORT
        #[arg(value_name = "PROTOCOL/PORT")]
        port: PortArg,
        /// The instance, by name or id, of the project that has the floating IP, and the port there
        /// [default: the same]
        #[arg(value_name = "INSTANCE[:PORT]")]
        instance: InstancePortArg,
        /// Which of its fixed IPs [default: the only one that can have a floating IP]
        #[arg(long, value_name = "ADDRESS")]
        fixed_ip: Option<String>,
    },
    /// Let one port of a floating IP lead where the rest of it does
    #[command(after_help = "Example: trestle floating-ip unforward 203.0.113.20 tcp/443")]
    Unforward {
        #[command(flatten)]
        address: AddressArg,
        /// The floating IP's port: tcp/PORT or udp/PORT
        #[arg(value_name = "PROTOCOL/PORT")]
        port: PortArg,
    },
}

const RESERVE_EXAMPLES: &str = "\
Examples:
  trestle floating-ip reserve --pool public --project alpha
  trestle floating-ip reserve --project alpha --address 203.0.113.20
  address=$(trestle floating-ip reserve --project alpha --json | jq -r .address)";

const FORWARD_EXAMPLES: &str = "\
Examples:
  trestle floating-ip forward 203.0.113.20 tcp/443 web1:8443
  trestle floating-ip forward 203.0.113.20 udp/53 dns1";

/// One floating IP.
#[derive(Debug, Args)]
pub(crate) struct AddressArg {
    /// The floating IP
    address: String,
}

/// A floating IP and what it is to lead to.
#[derive(Debug, Args)]
pub(crate) struct TargetArgs {
    #[command(flatten)]
    address: AddressArg,
    /// The instance, by name or id, of the project that has the floating IP
    instance: String,
    /// Which of its fixed IPs [default: the only one that can have a floating IP]
    #[arg(long, value_name = "ADDRESS")]
    fixed_ip: Option<String>,
}

/// `PROTOCOL/PORT`
#[derive(Clone, Debug)]
pub(crate) struct PortArg {
    protocol: String,
    port: u32,
}

/// Why a text is not a [`PortArg`].
#[derive(Debug, thiserror::Error)]
#[error("write tcp/PORT or udp/PORT, such as tcp/443")]
pub(crate) struct InvalidPort;

impl FromStr for PortArg {
    type Err = InvalidPort;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (protocol, port) = text.split_once('/').ok_or(InvalidPort)?;
        let port = port.parse().map_err(|_| InvalidPort)?;
        // It becomes a part of a path, where nothing else may come of it.
        match protocol.chars().all(|c| c.is_ascii_alphanumeric()) && !protocol.is_empty() {
            true => Ok(Self { protocol: protocol.to_ascii_lowercase(), port }),
            false => Err(InvalidPort),
        }
    }
}

/// `INSTANCE[:PORT]`
#[derive(Clone, Debug)]
pub(crate) struct InstancePortArg {
    instance: String,
    port: Option<u32>,
}

/// Why a text is not an [`InstancePortArg`].
#[derive(Debug, thiserror::Error)]
#[error("write INSTANCE or INSTANCE:PORT, such as web1:8443")]
pub(crate) struct InvalidInstancePort;

impl FromStr for InstancePortArg {
    type Err = InvalidInstancePort;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((instance, port)) = text.split_once(':') else {
            return Ok(Self { instance: text.to_owned(), port: None });
        };
        let port = port.parse().map_err(|_| InvalidInstancePort)?;
        Ok(Self { instance: instance.to_owned(), port: Some(port) })
    }
}

pub(crate) async fn run(command: FloatingIpCommand, context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    let printer = context.printer();
    match command {
        FloatingIpCommand::Reserve { pool, project, address, family } => {
            let wanted = NewFloatingIp { pool, project, address, family };
            let floating = client.reserve_floating_ip(&wanted).await?;
            let FloatingIp { address, pool, project, .. } = &floating;
            printer.done(&floating, &format!("reserved {address} of pool {pool} for project {project}"))
        }
        FloatingIpCommand::List { pool, project, instance } => {
            let filter = FloatingIpFilter { pool, project, instance };
            let page = every_page(async |page| client.list_floating_ips(&filter, &page).await).await?;
            printer.show(&page, |page| list(&page.items))
        }
        FloatingIpCommand::Show(arg) => printer.show(&client.floating_ip(&arg.address).await?, show),
        FloatingIpCommand::Associate(args) => {
            let TargetArgs { address: AddressArg { address }, instance, fixed_ip } = args;
            let association = FloatingIpAssociation { instance, fixed_ip, r#move: false };
            let floating = client.associate_floating_ip(&address, &association).await?;
            printer.done(&floating, &leads(&floating))
        }
        FloatingIpCommand::Move(args) => move_floating_ip(&client, printer, args).await,
        FloatingIpCommand::Disassociate(AddressArg { address }) => {
            let floating = client.disassociate_floating_ip(&address).await?;
            printer.done(&floating, &leads_nowhere(&floating))
        }
        FloatingIpCommand::Release(AddressArg { address }) => {
            client.release_floating_ip(&address).await?;
            printer::say(&format!("released {address}"));
            Ok(())
        }
        FloatingIpCommand::Forward { address, port, instance, fixed_ip } => {
            forward(&client, printer, address, NewForward { port, instance, fixed_ip }).await
        }
        FloatingIpCommand::Unforward { address: AddressArg { address }, port } => {
            let floating = client.unforward_port(&address, &port.protocol, port.port).await?;
            printer.done(&floating, &unforwarded(&floating, &port))
        }
    }
}

async fn move_floating_ip(client: &Client, printer: Printer, args: TargetArgs) -> anyhow::Result<()> {
    let TargetArgs { address: AddressArg { address }, instance, fixed_ip } = args;
    let before = client.floating_ip(&address).await?;
    let begun = Instant::now();
    let association = FloatingIpAssociation { instance, fixed_ip, r#move: true };
    let after = client.associate_floating_ip(&address, &association).await?;
    printer.done(&after, &moved(&before, &after, begun.elapsed()))
}

/// Which port leads where.
struct NewForward {
    port: PortArg,
    instance: InstancePortArg,
    fixed_ip: Option<String>,
}

async fn forward(
    client: &Client,
    printer: Printer,
    AddressArg { address }: AddressArg,
    NewForward { port, instance, fixed_ip }: NewForward,
) -> anyhow::Result<()> {
    let PortArg { protocol, port } = port;
    let InstancePortArg { instance, port: fixed_port } = instance;
    let forward = NewPortForward { protocol, port, instance, fixed_ip, fixed_port };
    let floating = client.forward_port(&address, &forward).await?;
    let is_it = |made: &&PortForward| {
        made.protocol.to_string() == forward.protocol && u32::from(made.port) == forward.port
    };
    let text = match floating.forwards.iter().find(is_it) {
        Some(made) => forwarded(&floating, made),
        None => format!("{}/{} of {address} leads nowhere now", forward.protocol, forward.port),
    };
    printer.done(&floating, &text)
}

fn forwarded(floating: &FloatingIp, forward: &PortForward) -> String {
    let standing = match &floating.host {
        Some(host) if !forward.served => format!(", which {host} does not serve yet"),
        _ => standing(floating),
    };
    format!("{} of {} leads to {}{standing}", port(forward), floating.address, leads_to(forward))
}

/// Where all that is sent to it goes, in a sentence.
fn leads(floating: &FloatingIp) -> String {
    match &floating.target {
        Some(to) => format!("{} leads to {}{}", floating.address, target(to), standing(floating)),
        None => format!("{} leads nowhere", floating.address),
    }
}

fn leads_nowhere(floating: &FloatingIp) -> String {
    let FloatingIp { address, project, .. } = floating;
    match &floating.forwards[..] {
        [] => format!("{address} leads nowhere now; project {project} keeps it"),
        some => {
            format!("{address} leads nowhere now but by {}; project {project} keeps it", ports(some))
        }
    }
}

fn unforwarded(floating: &FloatingIp, PortArg { protocol, port }: &PortArg) -> String {
    let address = floating.address;
    match &floating.target {
        Some(to) => {
            format!("{protocol}/{port} of {address} leads where all of it does now, to {}", target(to))
        }
        None => format!("{protocol}/{port} of {address} leads nowhere now"),
    }
}

fn moved(before: &FloatingIp, after: &FloatingIp, took: Duration) -> String {
    let address = after.address;
    match (&before.target, &after.target) {
        (Some(was), Some(is)) if was == is => format!("{address} leads to {} already", target(is)),
        (Some(was), Some(is)) => {
            let (was, is) = (target(was), target(is));
            let took = printer::duration(took);
            format!("moved {address} in {took} from {was} to {is}{}", standing(after))
        }
        _ => leads(after),
    }
}

fn target(FloatingIpTarget { instance, fixed_ip, .. }: &FloatingIpTarget) -> String {
    format!("{instance} ({fixed_ip})")
}

/// What its host says of it, at the end of a sentence.
fn standing(floating: &FloatingIp) -> String {
    match (floating.state, &floating.host) {
        (FloatingIpState::Detached, _) => ", which no host serves yet".to_owned(),
        (_, None) => String::new(),
        (FloatingIpState::Failed, Some(host)) => {
            format!(", on {host}, which cannot have it: `trestle host show {host}` says why")
        }
        (_, Some(host)) => format!(", on {host}"),
    }
}

fn port(forward: &PortForward) -> String {
    format!("{}/{}", forward.protocol, forward.port)
}

fn ports(forwards: &[PortForward]) -> String {
    printer::listed(forwards.iter().map(port))
}

fn leads_to(PortForward { target, fixed_port, .. }: &PortForward) -> String {
    format!("{} ({})", target.instance, SocketAddr::new(target.fixed_ip, *fixed_port))
}

fn list(floating_ips: &[FloatingIp]) -> String {
    let has_ports = floating_ips.iter().any(|floating| !floating.forwards.is_empty());
    let mut header = vec!["ADDRESS", "POOL", "PROJECT", "STATE", "INSTANCE", "FIXED IP"];
    header.extend(has_ports.then_some("PORTS"));
    header.push("HOST");
    let row = |floating: &FloatingIp| {
        let to = floating.target.as_ref();
        let mut row = vec![
            floating.address.to_string(),
            floating.pool.to_string(),
            floating.project.to_string(),
            printer::word(&floating.state),
            printer::or_dash(to.map(|to| &to.instance)),
            printer::or_dash(to.map(|to| &to.fixed_ip)),
        ];
        row.extend(has_ports.then(|| ports(&floating.forwards)));
        row.push(printer::or_dash(floating.host.as_ref()));
        row
    };
    printer::table(&header, floating_ips.iter().map(row))
}

fn show(floating: &FloatingIp) -> String {
    let to = |to: &FloatingIpTarget| format!("{} on {}", target(to), to.network);
    let comes_by = if floating.auto_assigned { "with its instance, and goes with it" } else { "on request" };
    let mut text = printer::fields(&[
        ("address", floating.address.to_string()),
        ("pool", floating.pool.to_string()),
        ("project", floating.project.to_string()),
        ("state", printer::word(&floating.state)),
        ("leads to", printer::or_dash(floating.target.as_ref().map(to).as_ref())),
        ("host", printer::or_dash(floating.host.as_ref())),
        ("assigned", comes_by.to_owned()),
        ("reserved", printer::time(floating.reserved_at)),
    ]);
    if !floating.forwards.is_empty() {
        let row = |forward: &PortForward| {
            let PortForward { target, fixed_port, .. } = forward;
            let socket = SocketAddr::new(target.fixed_ip, *fixed_port);
            let instance = target.instance.to_string();
            vec![port(forward), instance, socket.to_string(), target.network.to_string()]
        };
        text.push('\n');
        let header = ["PORT", "INSTANCE", "ADDRESS", "NETWORK"];
        text.push_str(&printer::table(&header, floating.forwards.iter().map(row)));
    }
    let elsewhere = floating.forwards.iter().filter(|forward| !forward.served);
    for forward in elsewhere.filter(|_| floating.host.is_some()) {
        text.push_str(&printer::remark(&unserved(floating, forward)));
    }
    text
}

/// Why a port leads nowhere at the moment.
fn unserved(floating: &FloatingIp, forward: &PortForward) -> String {
    let host = printer::or_dash(floating.host.as_ref());
    let instance = &forward.target.instance;
    format!("{} leads nowhere: host {host} has the address, and does not serve {instance}", port(forward))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A floating IP as the API writes it, but for these fields.
    fn floating(fields: Value) -> FloatingIp {
        let mut floating = json!({
            "address": "203.0.113.20", "pool": "public", "project": "alpha", "state": "reserved", "forwards": [],
            "host": null, "auto_assigned": false, "reserved_at": "2026-01-01T00:00:00Z",
        });
        if let (Some(all), Value::Object(fields)) = (floating.as_object_mut(), fields) {
            all.extend(fields);
        }
        serde_json::from_value(floating).expect("a floating IP")
    }

    fn to(instance: &str, state: &str, host: Option<&str>) -> FloatingIp {
        let fixed_ip = if instance == "web1" { "10.0.0.5" } else { "10.0.0.6" };
        floating(json!({
            "instance": instance, "network": "tenants-0", "fixed_ip": fixed_ip, "state": state, "host": host,
        }))
    }

    fn with_ports() -> FloatingIp {
        let forward = |protocol, port, instance, fixed_port, served| {
            json!({
                "protocol": protocol, "port": port, "instance": instance, "network": "tenants-0",
                "fixed_ip": "10.0.0.5", "fixed_port": fixed_port, "served": served,
            })
        };
        floating(json!({
            "address": "203.0.113.21", "state": "active", "host": "kvm1",
            "forwards": [forward("tcp", 443, "web1", 8443, true), forward("udp", 53, "dns1", 53, false)],
        }))
    }

    #[test]
    fn it_is_told_where_a_floating_ip_leads_and_what_its_host_says() {
        let told = [
            to("web1", "active", Some("kvm1")),
            to("web1", "pending", Some("kvm1")),
            to("web1", "detached", None),
            to("web1", "failed", Some("kvm1")),
            floating(json!({})),
        ];
        insta::assert_snapshot!(told.each_ref().map(leads).join("\n"), @"
        203.0.113.20 leads to web1 (10.0.0.5), on kvm1
        203.0.113.20 leads to web1 (10.0.0.5), on kvm1
        203.0.113.20 leads to web1 (10.0.0.5), which no host serves yet
        203.0.113.20 leads to web1 (10.0.0.5), on kvm1, which cannot have it: `trestle host show kvm1` says why
        203.0.113.20 leads nowhere
        ");
    }

    #[test]
    fn a_move_says_from_where_to_where_it_went() {
        let (old, new) = (to("web1", "active", Some("kvm1")), to("web2", "active", Some("kvm2")));
        let nowhere = floating(json!({}));
        let told = [(&old, &new), (&nowhere, &new), (&new, &new)]
            .map(|(before, after)| moved(before, after, Duration::from_millis(48)));
        insta::assert_snapshot!(told.join("\n"), @"
        moved 203.0.113.20 in 48 ms from web1 (10.0.0.5) to web2 (10.0.0.6), on kvm2
        203.0.113.20 leads to web2 (10.0.0.6), on kvm2
        203.0.113.20 leads to web2 (10.0.0.6) already
        ");
    }

    #[test]
    fn what_leads_nowhere_is_told_with_what_still_leads_somewhere() {
        let port = "tcp/22".parse().expect("a port");
        let told = [
            leads_nowhere(&floating(json!({}))),
            leads_nowhere(&with_ports()),
            unforwarded(&with_ports(), &port),
            unforwarded(&to("web1", "active", Some("kvm1")), &port),
        ];
        insta::assert_snapshot!(told.join("\n"), @"
        203.0.113.20 leads nowhere now; project alpha keeps it
        203.0.113.21 leads nowhere now but by tcp/443, udp/53; project alpha keeps it
        tcp/22 of 203.0.113.21 leads nowhere now
        tcp/22 of 203.0.113.20 leads where all of it does now, to web1 (10.0.0.5)
        ");
    }

    #[test]
    fn a_port_is_told_with_who_serves_it() {
        let floating = with_ports();
        let told: Vec<String> =
            floating.forwards.iter().map(|forward| forwarded(&floating, forward)).collect();
        insta::assert_snapshot!(told.join("\n"), @r"
        tcp/443 of 203.0.113.21 leads to web1 (10.0.0.5:8443), on kvm1
        udp/53 of 203.0.113.21 leads to dns1 (10.0.0.5:53), which kvm1 does not serve yet
        ");
    }

    #[test]
    fn ports_have_a_column_where_there_are_some() {
        insta::assert_snapshot!(list(&[to("web1", "active", Some("kvm1")), floating(json!({}))]), @"
        ADDRESS       POOL    PROJECT  STATE     INSTANCE  FIXED IP  HOST
        203.0.113.20  public  alpha    active    web1      10.0.0.5  kvm1
        203.0.113.20  public  alpha    reserved  -         -         -
        ");
        insta::assert_snapshot!(list(&[with_ports()]), @"
        ADDRESS       POOL    PROJECT  STATE   INSTANCE  FIXED IP  PORTS            HOST
        203.0.113.21  public  alpha    active  -         -         tcp/443, udp/53  kvm1
        ");
    }

    #[test]
    fn a_port_that_leads_nowhere_is_told_why() {
        insta::assert_snapshot!(show(&with_ports()), @"
        address   203.0.113.21
        pool      public
        project   alpha
        state     active
        leads to  -
        host      kvm1
        assigned  on request
        reserved  2026-01-01T00:00:00Z

        PORT     INSTANCE  ADDRESS        NETWORK
        tcp/443  web1      10.0.0.5:8443  tenants-0
        udp/53   dns1      10.0.0.5:53    tenants-0
          udp/53 leads nowhere: host kvm1 has the address, and does not serve dns1
        ");
    }

    #[test]
    fn a_port_is_written_with_its_protocol() {
        let port: PortArg = "TCP/443".parse().expect("a port");
        assert_eq!((port.protocol.as_str(), port.port), ("tcp", 443));
        for wrong in ["443", "tcp", "tcp/", "/443", "tcp/x", "tcp/-1", "../443", "tcp/443/1"] {
            assert!(wrong.parse::<PortArg>().is_err(), "{wrong}");
        }
        let to: InstancePortArg = "web1:8443".parse().expect("an instance and a port");
        assert_eq!((to.instance.as_str(), to.port), ("web1", Some(8443)));
        assert!("web1:x".parse::<InstancePortArg>().is_err());
    }
}
