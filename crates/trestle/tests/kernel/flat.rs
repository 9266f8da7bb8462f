//! Flat: a bridge of the administrator's that instances are plugged into, and nothing else.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use trestle_lab::{Lab, NetnsGuest, Networks, Plug, Topology, until};

use crate::cloud::{
    DEADLINE, HOST, PROJECT, create_on, empty_cloud_with, everything, has_link, link, no_ping, ping,
    processes, told, wait_until_whole,
};

/// The bridge that the administrator of such a lab made on every host.
pub(crate) const ADMIN_BRIDGE: &str = "br-flat";

/// A lab with the administrator's bridge on so many hosts, and a flat network `lan` on this bridge.
fn flat_cloud(hosts: u8, bridge: &str) -> Result<Lab> {
    let lab = empty_cloud_with(&Topology { networks: Some(Networks::Flat), ..Topology::for_test(hosts) })?;
    make_flat_network(&lab, bridge)?;
    Ok(lab)
}

/// A flat network `lan`, which nobody routes for.
pub(crate) fn make_flat_network(lab: &Lab, bridge: &str) -> Result<()> {
    let network = ["network", "create", "lan", "--type", "flat", "--cidr", "192.168.7.0/24"];
    lab.cli_ok(&[&network[..], &["--gateway", "none", "--bridge", bridge]].concat()).map(drop)
}

/// An instance of a project as a namespace that was told its address without DHCP.
pub(crate) fn injected_guest(lab: &Lab, project: &str, host: &str, instance: &str) -> Result<NetnsGuest> {
    create_on(lab, project, instance, &["lan"])?;
    let node = format!("vm-{instance}");
    lab.exec_ok("controller", &["ip", "netns", "add", &node])?;
    let attached = lab.attach(host, instance, "lan", Plug::Netns { name: &node })?;
    let address = attached.addresses.first().context("an address")?;
    lab.exec_ok(&node, &["ip", "address", "add", address, "dev", "eth0"])?;
    lab.exec_ok(&node, &["ip", "link", "set", "eth0", "up"])?;
    Ok(NetnsGuest { node, attached, lease: trestle_lab::Lease::default() })
}

/// What tells a bridge from one made anew.
fn identity(lab: &Lab, host: &str, bridge: &str) -> Result<[Value; 4]> {
    let mut bridge = link(lab, host, bridge)?;
    let mut take = |what: &str| bridge[what].take();
    Ok([take("ifindex"), take("address"), take("mtu"), take("group")])
}

#[test]
fn the_administrators_bridge_is_used_and_never_made_or_deleted() -> Result<()> {
    let lab = flat_cloud(2, ADMIN_BRIDGE)?;
    let hosts = ["host1", "host2"];
    let before = hosts.map(|host| identity(&lab, host, ADMIN_BRIDGE));
    let (one, two) =
        (injected_guest(&lab, PROJECT, "host1", "one")?, injected_guest(&lab, PROJECT, "host2", "two")?);
    for (host, guest) in hosts.iter().zip([&one, &two]) {
        let port = link(&lab, host, guest.attached.device.as_str())?;
        ensure!(port["master"] == ADMIN_BRIDGE, "{port}");
        ensure!(processes(&lab, host, "dnsmasq")?.is_empty(), "no DHCP of ours");
        let bridge = link(&lab, host, ADMIN_BRIDGE)?;
        let addresses = bridge["addr_info"].as_array().context("addresses")?;
        ensure!(addresses.iter().all(|address| address["scope"] == "link"), "no gateway of ours: {bridge}");
    }
    ping(&lab, &one.node, "192.168.7.2")?;
    // The guard stands here too: under another address nothing comes through.
    lab.exec_ok(&one.node, &["ip", "address", "flush", "dev", "eth0"])?;
    lab.exec_ok(&one.node, &["ip", "address", "add", "192.168.7.77/24", "dev", "eth0"])?;
    no_ping(&lab, &one.node, "192.168.7.2")?;

    for (host, instance) in hosts.iter().zip(["one", "two"]) {
        lab.detach(host, instance, "lan")?;
        let left = everything(&lab, host)?;
        ensure!(!left.contains("tr-") && !left.contains("trestle"), "something is left on {host}: {left}");
        ensure!(link(&lab, host, "eth3")?["master"] == ADMIN_BRIDGE, "its own port stays");
    }
    for (host, before) in hosts.iter().zip(before) {
        ensure!(identity(&lab, host, ADMIN_BRIDGE)? == before?, "the bridge of {host} is as it was");
    }
    Ok(())
}

#[test]
fn a_missing_bridge_is_said_clearly_and_used_when_it_comes() -> Result<()> {
    let lab = flat_cloud(1, "br-lan")?;
    create_on(&lab, PROJECT, "one", &["lan"])?;
    let refused = lab.attach(HOST, "one", "lan", Plug::Tap);
    let complaint = format!("{:#}", refused.err().context("the attach went through")?);
    ensure!(complaint.contains("the bridge br-lan does not exist on this host; make it"), "{complaint}");
    ensure!(!has_link(&lab, HOST, "br-lan")?, "Trestle made it");
    let host = told(&lab, &["host", "show", HOST])?;
    ensure!(host["status"]["problems"].to_string().contains("br-lan"), "the host says so too: {host}");

    lab.exec_ok(HOST, &["ip", "link", "add", "br-lan", "type", "bridge"])?;
    lab.exec_ok(HOST, &["ip", "link", "set", "br-lan", "up"])?;
    // Nobody asks again: it was asked for.
    until("the instance is plugged in", DEADLINE, || {
        let ports = lab.exec_ok(HOST, &["bridge", "link", "show"])?;
        Ok(ports.lines().any(|port| port.contains("tr-") && port.contains("master br-lan")).then_some(()))
    })?;
    wait_until_whole(&lab)?;
    let attached = lab.attach(HOST, "one", "lan", Plug::Tap)?;
    ensure!(attached.gateways.is_empty(), "{attached:?}");
    until("the problem is gone", DEADLINE, || {
        let problems = told(&lab, &["host", "show", HOST])?["status"]["problems"].take();
        Ok(problems.as_array().is_some_and(Vec::is_empty).then_some(()))
    })
}
