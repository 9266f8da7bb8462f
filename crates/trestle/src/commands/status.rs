//! `trestle status`: everything at a glance, as far as the token's holder may see it.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;
use trestle_api::client::{Client, ClientError};
use trestle_api::{
    Event, EventFilter, Host, HostFilter, Instance, InstanceFilter, Network, NetworkFilter, PageQuery,
    VpnFilter,
};

use super::{Context, events, host, network};
use crate::connection::{self, every_page};
use crate::printer;

/// How many events are shown.
const LATEST_EVENTS: u32 = 5;
/// How many networks have a line of their own; the rest is counted.
const NETWORKS_SHOWN: usize = 20;

/// Show the installation at a glance: server, hosts, networks, instances, latest events
#[derive(Debug, Args)]
#[command(after_help = "Example: trestle status")]
pub(crate) struct StatusArgs {}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Status {
    server: Server,
    /// Absent for who may not see hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    hosts: Option<Vec<Host>>,
    networks: Vec<Network>,
    instances: Instances,
    vpns: Vpns,
    events: Vec<Event>,
}

#[derive(Debug, Default, Serialize)]
struct Vpns {
    total: usize,
    /// How many stand where.
    states: BTreeMap<String, usize>,
    users: u64,
    connected: u64,
}

#[derive(Debug, Serialize)]
struct Server {
    url: String,
    healthy: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

#[derive(Debug, Serialize)]
struct Instances {
    total: usize,
    /// How many interfaces stand where.
    interfaces: BTreeMap<String, usize>,
}

pub(crate) async fn run(_: &StatusArgs, context: &Context) -> anyhow::Result<()> {
    let server = server(context).await?;
    let client = context.client()?;
    let filter = NetworkFilter::default();
    let networks = every_page(async |page| client.list_networks(&filter, &page).await).await?.items;
    let filter = InstanceFilter::default();
    let instances = every_page(async |page| client.list_instances(&filter, &page).await).await?.items;
    let status = Status {
        server,
        hosts: hosts(&client).await?,
        networks,
        instances: count(&instances),
        vpns: vpns(&client).await?,
        events: latest_events(&client).await?,
    };
    context.printer().show(&status, text)
}

/// A server that answers but is not well is part of the picture; one that is away is an error.
async fn server(context: &Context) -> anyhow::Result<Server> {
    let url = connection::url(&context.global);
    match connection::nameless_client(&context.global)?.health().await {
        Ok(()) => Ok(Server { url, healthy: true, problem: None }),
        Err(ClientError::Api { error, .. }) => {
            Ok(Server { url, healthy: false, problem: Some(error.message) })
        }
        Err(other) => Err(other.into()),
    }
}

async fn hosts(client: &Client) -> anyhow::Result<Option<Vec<Host>>> {
    let filter = HostFilter::default();
    match every_page(async |page| client.list_hosts(&filter, &page).await).await {
        Ok(page) => Ok(Some(page.items)),
        Err(error) if is_forbidden(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_forbidden(error: &anyhow::Error) -> bool {
    error.downcast_ref().and_then(ClientError::code) == Some("forbidden")
}

async fn vpns(client: &Client) -> anyhow::Result<Vpns> {
    let filter = VpnFilter::default();
    let all = match every_page(async |page| client.list_vpns(&filter, &page).await).await {
        Ok(page) => page.items,
        Err(error) if is_forbidden(&error) => Vec::new(),
        Err(error) => return Err(error),
    };
    let mut vpns = Vpns { total: all.len(), ..Vpns::default() };
    for vpn in &all {
        *vpns.states.entry(printer::word(&vpn.state)).or_default() += 1;
        vpns.users += vpn.users;
        vpns.connected += vpn.connected;
    }
    Ok(vpns)
}

async fn latest_events(client: &Client) -> anyhow::Result<Vec<Event>> {
    let filter = EventFilter { last: Some(LATEST_EVENTS), ..EventFilter::default() };
    Ok(client.list_events(&filter, &PageQuery::default()).await?.items)
}

fn count(instances: &[Instance]) -> Instances {
    let mut interfaces = BTreeMap::new();
    for interface in instances.iter().flat_map(|instance| &instance.interfaces) {
        *interfaces.entry(printer::word(&interface.state)).or_default() += 1;
    }
    Instances { total: instances.len(), interfaces }
}

fn text(status: &Status) -> String {
    let mut parts = vec![summary(status)];
    if let Some(hosts) = status.hosts.as_ref().filter(|hosts| !hosts.is_empty()) {
        parts.push(host_table(hosts, &status.networks));
    }
    if status.networks.iter().any(|network| !network::is_free(network)) {
        parts.push(network_table(&status.networks));
    }
    if !status.events.is_empty() {
        parts.push(events::table(&status.events));
    }
    parts.join("\n")
}

fn summary(status: &Status) -> String {
    let Server { url, healthy, problem } = &status.server;
    let health = if *healthy { "healthy" } else { "not healthy" };
    let server = match problem {
        Some(problem) => format!("{health}: {problem} ({url})"),
        None => format!("{health} ({url})"),
    };
    let mut rows = vec![("server", server)];
    if let Some(hosts) = &status.hosts {
        rows.push(("hosts", hosts_line(hosts)));
    }
    rows.push(("networks", networks_line(&status.networks)));
    rows.push(("instances", instances_line(&status.instances)));
    rows.extend((status.vpns.total > 0).then(|| ("VPNs", vpns_line(&status.vpns))));
    printer::fields(&rows)
}

fn hosts_line(hosts: &[Host]) -> String {
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    for host in hosts {
        *states.entry(host::agent_state(&host.status)).or_default() += 1;
    }
    let problems: usize = hosts.iter().map(|host| host::problem_count(&host.status)).sum();
    let states = states.into_iter().map(|(state, number)| format!("{number} {state}"));
    let problems = (problems > 0).then(|| printer::counted(problems, "problem"));
    with_details(hosts.len(), states.chain(problems))
}

fn networks_line(networks: &[Network]) -> String {
    let mut types: BTreeMap<String, usize> = BTreeMap::new();
    for network in networks {
        *types.entry(network::type_name(network)).or_default() += 1;
    }
    let free = networks.iter().filter(|network| network::is_free(network)).count();
    let free = (free > 0).then(|| format!("{free} free"));
    with_details(
        networks.len(),
        types.into_iter().map(|(word, number)| format!("{number} {word}")).chain(free),
    )
}

fn instances_line(instances: &Instances) -> String {
    let states = instances.interfaces.iter().map(|(state, number)| {
        let interfaces = printer::counted(*number, "interface");
        format!("{interfaces} {state}")
    });
    with_details(instances.total, states)
}

fn vpns_line(vpns: &Vpns) -> String {
    let states = vpns.states.iter().map(|(state, number)| format!("{number} {state}"));
    let users = [printer::counted(vpns.users, "user"), format!("{} connected", vpns.connected)];
    with_details(vpns.total, states.chain(users))
}

fn with_details(total: usize, details: impl Iterator<Item = String>) -> String {
    let details: Vec<String> = details.collect();
    if details.is_empty() { total.to_string() } else { format!("{total} ({})", details.join(", ")) }
}

fn host_table(hosts: &[Host], networks: &[Network]) -> String {
    let gateway_of = |host: &Host| {
        networks.iter().filter(|network| network.gateway_host.as_ref() == Some(&host.name)).count()
    };
    let row = |host: &Host| {
        let status = &host.status;
        vec![
            host.name.to_string(),
            host::agent_state(status).to_owned(),
            host::generation(status),
            host::problem_count(status).to_string(),
            match gateway_of(host) {
                0 => "-".to_owned(),
                number => printer::counted(number, "network"),
            },
        ]
    };
    let header = ["HOST", "AGENT", "GENERATION", "PROBLEMS", "GATEWAY OF"];
    let mut text = printer::table(&header, hosts.iter().map(row));
    for host in hosts {
        for line in host::trouble(&host.status) {
            text.push_str(&printer::remark(&format!("{}: {line}", host.name)));
        }
    }
    text
}

/// The networks that somebody can have an instance on; of the free ones the number is enough.
fn network_table(networks: &[Network]) -> String {
    let in_hand = || networks.iter().filter(|network| !network::is_free(network));
    let row = |network: &Network| {
        let kind = network::type_name(network);
        vec![network.name.to_string(), kind, network::ranges(network), network::used(network)]
    };
    let header = ["NETWORK", "TYPE", "RANGES", "ADDRESSES USED"];
    let mut text = printer::table(&header, in_hand().take(NETWORKS_SHOWN).map(row));
    let more = in_hand().count().saturating_sub(NETWORKS_SHOWN);
    if more > 0 {
        text.push_str(&printer::remark(&format!("and {more} more: `trestle network list`")));
    }
    text
}
