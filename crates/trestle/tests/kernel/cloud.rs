//! A lab with a project and a network, and the questions that tests ask of it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use trestle_lab::{Lab, NetnsGuest, Programs, Topology, until};

pub(crate) const HOST: &str = "host1";
pub(crate) const NETWORK: &str = "public";
pub(crate) const BRIDGE: &str = "br100";
/// Far more than anything here takes; a condition that is not met by then never will be.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A lab of one host with a project `demo` and a network `public` of this range.
pub(crate) fn cloud(cidr: &str) -> Result<Lab> {
    cloud_with(cidr, &Topology::for_test(1))
}

/// The same of this topology.
pub(crate) fn cloud_with(cidr: &str, topology: &Topology) -> Result<Lab> {
    let programs = Programs { trestle: env!("CARGO_BIN_EXE_trestle").into() };
    let lab = Lab::up(topology, &programs)?;
    lab.cli_ok(&["project", "create", "demo"])?;
    let network = ["network", "create", NETWORK, "--cidr", cidr, "--bridge", BRIDGE];
    lab.cli_ok(&[&network[..], &["--domain", "test.internal", "--mtu", "1450"]].concat())?;
    Ok(lab)
}

pub(crate) fn create(lab: &Lab, instance: &str) -> Result<()> {
    lab.cli_ok(&["instance", "create", instance, "--project", "demo", "--network", NETWORK]).map(drop)
}

/// An instance as a namespace with its lease.
pub(crate) fn guest(lab: &Lab, instance: &str) -> Result<NetnsGuest> {
    create(lab, instance)?;
    lab.guest_netns(HOST, instance, NETWORK)
}

/// What `ip -j` prints in the namespace.
pub(crate) fn ip(lab: &Lab, node: &str, arguments: &[&str]) -> Result<Value> {
    let text = lab.exec_ok(node, &[&["ip", "-j", "-d"], arguments].concat())?;
    serde_json::from_str(if text.trim().is_empty() { "[]" } else { &text }).context("reading what ip says")
}

/// The names of all links in the namespace.
pub(crate) fn links(lab: &Lab, node: &str) -> Result<Vec<String>> {
    let all = ip(lab, node, &["link"])?;
    let names = all.as_array().context("a list of links")?.iter();
    Ok(names.filter_map(|link| Some(link["ifname"].as_str()?.to_owned())).collect())
}

/// What `nft list ruleset` prints in the namespace.
pub(crate) fn ruleset(lab: &Lab, node: &str) -> Result<String> {
    lab.exec_ok(node, &["nft", "list", "ruleset"])
}

pub(crate) fn ping(lab: &Lab, from: &str, to: &str) -> Result<()> {
    lab.exec_ok(from, &["ping", "-c", "1", "-W", "5", to]).map(drop)
}

/// A ping that must find no answer.
pub(crate) fn no_ping(lab: &Lab, from: &str, to: &str) -> Result<()> {
    let output = lab.exec(from, &["ping", "-c", "2", "-i", "0.2", "-W", "1", to])?;
    ensure!(!output.status.success(), "{from} reached {to}");
    Ok(())
}

/// Waits until the bridge, its address, the tables and dnsmasq are as they ought to be.
pub(crate) fn wait_until_whole(lab: &Lab) -> Result<()> {
    until("the host is as asked for", DEADLINE, || {
        let plan = lab.on_host(HOST, &["plan"]);
        let quiet = plan.is_ok_and(|plan| plan.trim().is_empty());
        Ok(quiet.then_some(()))
    })
}

/// The last lines of what `ping` says.
pub(crate) fn summary(said: &str) -> String {
    let lines: Vec<&str> = said.lines().rev().take(3).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
