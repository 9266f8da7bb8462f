//! Security groups by whole commands: on every type of network, within a host and between hosts.

use anyhow::{Context, Result, ensure};
use trestle_lab::{Lab, Networks, Topology, until};

use crate::cloud::{
    DEADLINE, HOST, INTERNET, NETWORK, PROJECT, create_on, empty_cloud, empty_cloud_with, guest_on, no_ping,
    ping, public_network, refusal, told,
};
use crate::flat::{injected_guest, make_flat_network};
use crate::vm::where_vlans_are;

/// A project whose default group is as it comes, and another one beside it.
const STRICT: &str = "strict";
const OTHER: &str = "other";

fn add_projects(lab: &Lab) -> Result<()> {
    for project in [STRICT, OTHER] {
        lab.cli_ok(&["project", "create", project])?;
    }
    Ok(())
}

fn group(lab: &Lab, arguments: &[&str]) -> Result<()> {
    lab.cli_ok(&[&["security-group"][..], arguments, &["--project", STRICT]].concat()).map(drop)
}

fn set_groups(lab: &Lab, instance: &str, network: &str, groups: &[&str]) -> Result<()> {
    let mut arguments = vec!["instance", "interface", "set", instance, network, "--project", STRICT];
    arguments.extend(groups.iter().flat_map(|group| ["--security-group", group]));
    lab.cli_ok(&arguments).map(drop)
}

fn reach(lab: &Lab, one: &str, other: &str, address: &str) -> Result<()> {
    ping(lab, one, address).with_context(|| format!("{one} reaches {other}"))
}

/// Three guests of which the last is another project's, on two hosts; what is asked of them holds on every
/// type of network.
fn members_alone_reach_each_other(lab: &Lab, guests: &[(&str, &str); 3], network: &str) -> Result<()> {
    let [(one, one_at), (two, two_at), (stranger, stranger_at)] = guests;
    reach(lab, one, two, two_at)?;
    reach(lab, two, one, one_at)?;
    no_ping(lab, stranger, one_at)?;
    no_ping(lab, one, stranger_at)?;
    // Whoever is in no group reaches nobody; one that lets in pings lets in those of anybody.
    set_groups(lab, "two", network, &[""])?;
    no_ping(lab, one, two_at)?;
    group(lab, &["create", "pings"])?;
    group(lab, &["rule", "add", "pings", "ingress", "icmp", "type", "8"])?;
    set_groups(lab, "two", network, &["pings", "default"])?;
    reach(lab, stranger, two, two_at)?;
    no_ping(lab, stranger, one_at)?;
    // A rule that goes takes what it allowed with it.
    let rules = told(lab, &["security-group", "rule", "list", "pings", "--project", STRICT])?;
    let rules = rules["items"].as_array().context("a list of rules")?;
    let rule = rules.iter().find(|rule| rule["direction"] == "ingress").context("the rule")?;
    let id = rule["id"].as_str().context("its id")?;
    until("what the rule decided on is told", DEADLINE, || {
        let rules = told(lab, &["security-group", "rule", "list", "pings", "--project", STRICT])?;
        let counted = rules["items"].as_array().context("rules")?.iter().any(|rule| {
            rule["id"] == id && rule["packets"].as_u64() > Some(0) && rule["bytes"].as_u64() > Some(0)
        });
        Ok(counted.then_some(()))
    })?;
    group(lab, &["rule", "delete", "pings", id])?;
    no_ping(lab, stranger, two_at)?;
    reach(lab, one, two, two_at)
}

#[test]
fn members_of_a_group_reach_each_other_between_hosts_and_others_do_not() -> Result<()> {
    let lab = empty_cloud(2)?;
    public_network(&lab, &["--cidr", "10.0.0.0/24"])?;
    add_projects(&lab)?;
    for (project, instance) in [(STRICT, "one"), (STRICT, "two"), (OTHER, "stranger")] {
        create_on(&lab, project, instance, &[NETWORK])?;
    }
    let one = lab.guest_netns("host1", "one", NETWORK)?;
    let two = lab.guest_netns("host2", "two", NETWORK)?;
    let stranger = lab.guest_netns("host1", "stranger", NETWORK)?;
    let guests = [(&*one.node, "10.0.0.2"), (&*two.node, "10.0.0.3"), (&*stranger.node, "10.0.0.4")];
    members_alone_reach_each_other(&lab, &guests, NETWORK)?;
    // Outside is reached, and answers; what begins there is not let in, routed or not.
    ping(&lab, &one.node, INTERNET)?;
    lab.exec_ok("outside", &["ip", "route", "add", "10.0.0.0/24", "via", "203.0.113.11"])?;
    no_ping(&lab, "outside", "10.0.0.2")
}

#[test]
fn members_of_a_group_reach_each_other_on_a_bridge_of_the_administrators() -> Result<()> {
    let lab = empty_cloud_with(&Topology { networks: Some(Networks::Flat), ..Topology::for_test(2) })?;
    make_flat_network(&lab, crate::flat::ADMIN_BRIDGE)?;
    add_projects(&lab)?;
    let one = injected_guest(&lab, STRICT, "host1", "one")?;
    let two = injected_guest(&lab, STRICT, "host2", "two")?;
    let stranger = injected_guest(&lab, OTHER, "host1", "stranger")?;
    let addresses = [&one, &two, &stranger].map(|guest| guest.attached.addresses[0].clone());
    let plain = addresses.each_ref().map(|address| address.split('/').next().unwrap_or_default());
    let guests = [(&*one.node, plain[0]), (&*two.node, plain[1]), (&*stranger.node, plain[2])];
    members_alone_reach_each_other(&lab, &guests, "lan")
}

#[test]
fn members_of_a_group_reach_each_other_on_a_vlan() -> Result<()> {
    where_vlans_are(|| {
        let lab = empty_cloud(2)?;
        add_projects(&lab)?;
        let networks = ["network", "create", "v", "--cidr", "10.1.0.0/20", "--num-networks", "2"];
        lab.cli_ok(&[&networks[..], &["--network-size", "256", "--vlan-start", "101"]].concat())?;
        for (project, instance) in [(STRICT, "one"), (STRICT, "two"), (OTHER, "stranger")] {
            create_on(&lab, project, instance, &[])?;
        }
        let one = lab.guest_netns("host1", "one", "v-0")?;
        let two = lab.guest_netns("host2", "two", "v-0")?;
        let stranger = lab.guest_netns("host1", "stranger", "v-1")?;
        let guests = [(&*one.node, "10.1.0.3"), (&*two.node, "10.1.0.4"), (&*stranger.node, "10.1.1.3")];
        let [(one, _), (two, two_at), (stranger, _)] = guests;
        reach(&lab, one, two, two_at)?;
        set_groups(&lab, "two", "v-0", &[""])?;
        no_ping(&lab, one, two_at)?;
        set_groups(&lab, "two", "v-0", &["default"])?;
        reach(&lab, one, two, two_at)?;
        no_ping(&lab, stranger, two_at)
    })
}

#[test]
fn a_rule_that_ends_ends_without_controller_and_agent() -> Result<()> {
    let lab = empty_cloud(1)?;
    public_network(&lab, &["--cidr", "10.0.0.0/24"])?;
    add_projects(&lab)?;
    create_on(&lab, STRICT, "one", &[NETWORK])?;
    lab.guest_netns(HOST, "one", NETWORK)?;
    let other = guest_on(&lab, HOST, "free")?;
    no_ping(&lab, &other.node, "10.0.0.2")?;
    group(&lab, &["rule", "add", "default", "ingress", "icmp", "--expires-in", "8s"])?;
    reach(&lab, &other.node, "one", "10.0.0.2")?;
    lab.agent(HOST)?.kill9()?;
    lab.controller().kill9()?;
    until("it ends by itself", DEADLINE, || Ok(ping(&lab, &other.node, "10.0.0.2").is_err().then_some(())))
}

#[test]
fn what_a_member_must_not_ask_for_is_refused_and_nothing_changes() -> Result<()> {
    let lab = empty_cloud(1)?;
    public_network(&lab, &["--cidr", "10.0.0.0/24"])?;
    add_projects(&lab)?;
    create_on(&lab, STRICT, "one", &[NETWORK])?;
    let before = told(&lab, &["instance", "show", "one", "--project", STRICT])?;
    let set = ["instance", "interface", "set", "one", NETWORK, "--project", STRICT];
    for (wish, said) in [
        (["--security-group", "nobody"], "nobody"),
        (["--allowed-address-pair", "10.0.0.1"], "router"),
        (["--allowed-address-pair", "10.0.0.300"], "10.0.0.300"),
    ] {
        let refused = refusal(&lab, &[&set[..], &wish].concat())?;
        ensure!(refused.contains(said), "{wish:?}: {refused}");
    }
    ensure!(told(&lab, &["instance", "show", "one", "--project", STRICT])? == before);
    ensure!(before["project"] != PROJECT);
    Ok(())
}
