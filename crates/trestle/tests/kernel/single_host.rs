//! Single-host: one host routes and serves DHCP for all instances of a network.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use trestle_lab::{Lab, until};

use crate::cloud::{
    BRIDGE, DEADLINE, INTERNET, NETWORK, PROJECT, Pinger, addresses, create_on, delete, empty_cloud,
    everything, guest_on, leaves_as, link, no_ping, ping, processes, public_network, told,
};

#[test]
fn instances_answer_their_gateway_host_and_no_compute_host() -> Result<()> {
    let lab = empty_cloud(3)?;
    public_network(&lab, &["--cidr", "10.0.0.0/24", "--single-host", "--gateway-host", "host1"])?;
    let (two, three) = (guest_on(&lab, "host2", "two")?, guest_on(&lab, "host3", "three")?);
    let servers = ["host1", "host2", "host3"].map(|host| processes(&lab, host, "dnsmasq"));
    let [gateway, compute, other] = servers;
    ensure!(gateway?.len() == 1 && compute?.is_empty() && other?.is_empty(), "one DHCP server in all");
    ensure!(addresses(&lab, "host1", BRIDGE)? == BTreeSet::from(["10.0.0.1/24".to_owned()]));
    let gateway_mac = link(&lab, "host1", BRIDGE)?["address"].clone();
    for host in ["host2", "host3"] {
        let bridge = link(&lab, host, BRIDGE)?;
        ensure!(addresses(&lab, host, BRIDGE)?.is_empty(), "a compute host has no address there: {bridge}");
        ensure!(bridge["address"] != gateway_mac, "nor the gateway's MAC");
        for target in ["10.0.0.2", "10.0.0.3"] {
            no_ping(&lab, host, target)?;
        }
    }
    for target in ["10.0.0.2", "10.0.0.3"] {
        ping(&lab, "host1", target)?;
    }
    for guest in [&two, &three] {
        ensure!(guest.lease.router == "10.0.0.1" && guest.lease.server == "10.0.0.1", "{:?}", guest.lease);
        leaves_as(&lab, &guest.node, "203.0.113.11")?;
    }
    ping(&lab, &two.node, "10.0.0.3")?;

    // The gateway host has nothing of it any more when the last instance is gone, wherever that was.
    delete(&lab, "two")?;
    ping(&lab, &three.node, INTERNET)?;
    delete(&lab, "three")?;
    for host in ["host1", "host2", "host3"] {
        until(&format!("{host} has nothing of it"), DEADLINE, || {
            let is_clean = !everything(&lab, host)?.contains(BRIDGE);
            Ok((is_clean && processes(&lab, host, "dnsmasq")?.is_empty()).then_some(()))
        })?;
    }
    Ok(())
}

#[test]
fn the_gateway_moves_while_guests_go_on() -> Result<()> {
    let lab = empty_cloud(3)?;
    let before = everything(&lab, "host1")?;
    public_network(&lab, &["--cidr", "10.0.0.0/24", "--single-host", "--gateway-host", "host1"])?;
    let (two, three) = (guest_on(&lab, "host2", "two")?, guest_on(&lab, "host3", "three")?);
    let (outside, inside) = (
        Pinger::start_every(&lab, "0.01", &two.node, INTERNET)?,
        Pinger::start_every(&lab, "0.01", &two.node, "10.0.0.3")?,
    );
    for _ in 0..2 {
        // The second is the same as the first.
        lab.cli_ok(&["network", "set-gateway", NETWORK, "host3"])?;
    }
    outside.wait_for_more(20)?;
    inside.wait_for_more(20)?;
    let lost = outside.lost()?;
    println!("the gateway moved: {lost} pings of 10 ms to the outside were lost");
    ensure!(lost < 200, "{lost} pings of 10 ms were lost");
    inside.lost_nothing()?;

    until("host1 has nothing of it", DEADLINE, || Ok((everything(&lab, "host1")? == before).then_some(())))?;
    ensure!(processes(&lab, "host1", "dnsmasq")?.is_empty(), "nor a DHCP server");
    for guest in [&two, &three] {
        leaves_as(&lab, &guest.node, "203.0.113.13")?;
        let lease = lab.dhcp(&guest.node)?;
        ensure!(lease == guest.lease, "the new gateway says the same: {lease:?}, before {:?}", guest.lease);
        ping(&lab, "host3", guest.lease.address.split('/').next().unwrap_or_default())?;
    }
    ensure!(addresses(&lab, "host2", BRIDGE)?.is_empty(), "the compute host is none");
    // A guest that comes now is served by it.
    guest_on(&lab, "host2", "four").map(drop)
}

/// Two networks on one host need two uplinks: one on each segment of the lab.
#[test]
fn gateways_are_spread_over_the_hosts_that_may_be_one() -> Result<()> {
    let lab = empty_cloud(3)?;
    for host in ["host1", "host2", "host3"] {
        lab.cli_ok(&["host", "set", host, "--flat-interface", ""])?;
    }
    lab.cli_ok(&["host", "set", "host2", "--gateway", "no"])?;
    for (name, cidr, bridge, uplink) in
        [("first", "10.1.0.0/24", "br101", "eth1"), ("second", "10.2.0.0/24", "br102", "eth2")]
    {
        let network = ["network", "create", name, "--type", "flat_dhcp", "--single-host", "--cidr", cidr];
        lab.cli_ok(&[&network[..], &["--bridge", bridge, "--bridge-interface", uplink]].concat())?;
        create_on(&lab, PROJECT, &format!("vm-{name}"), &[name])?;
    }
    let first = lab.guest_netns("host2", "vm-first", "first")?;
    let second = lab.guest_netns("host2", "vm-second", "second")?;
    let gateways = BTreeSet::from([gateway_of(&lab, "first")?, gateway_of(&lab, "second")?]);
    let expected = BTreeSet::from(["host1".to_owned(), "host3".to_owned()]);
    ensure!(gateways == expected, "host2 may not be one, and the others take turns: {gateways:?}");
    for (guest, network) in [(&first, "first"), (&second, "second")] {
        let host = gateway_of(&lab, network)?;
        let number = host.trim_start_matches("host");
        leaves_as(&lab, &guest.node, &format!("203.0.113.1{number}"))?;
        ensure!(processes(&lab, &host, "dnsmasq")?.len() == 1, "one DHCP server on {host}");
    }
    ensure!(processes(&lab, "host2", "dnsmasq")?.is_empty(), "none on the compute host");
    Ok(())
}

fn gateway_of(lab: &Lab, network: &str) -> Result<String> {
    let shown = told(lab, &["network", "show", network])?;
    Ok(shown["gateway_host"].as_str().context("a gateway host")?.to_owned())
}
