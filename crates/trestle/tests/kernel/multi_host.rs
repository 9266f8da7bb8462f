//! Multi-host: every host with an instance is its own gateway and DHCP server.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use trestle_lab::{Lab, NetnsGuest, Plug, until};

use crate::cloud::{
    BRIDGE, DEADLINE, INTERNET, NETWORK, Pinger, Watch, addresses, create, delete, empty_cloud, everything,
    guest_on, has_link, kill, leaves_as, link, links, ping, processes, public_network, told,
    wait_until_host_is_whole,
};
use crate::frames::{send, udp};
use crate::ipv6::dhcp6;

const HOSTS: [&str; 3] = ["host1", "host2", "host3"];
const PUBLIC: [&str; 3] = ["203.0.113.11", "203.0.113.12", "203.0.113.13"];

#[test]
fn every_host_with_an_instance_is_the_same_gateway() -> Result<()> {
    let lab = empty_cloud(3)?;
    public_network(&lab, &["--cidr", "10.0.0.0/24"])?;
    let (one, two) = (guest_on(&lab, "host1", "one")?, guest_on(&lab, "host2", "two")?);
    ensure!(!has_link(&lab, "host3", BRIDGE)?, "a host without an instance has nothing");
    ensure!(processes(&lab, "host3", "dnsmasq")?.is_empty(), "nor a DHCP server");
    let agents: Result<Vec<i32>> = HOSTS.iter().map(|host| lab.agent(host)?.pid()).collect();
    let three = guest_on(&lab, "host3", "three")?;

    let mut macs = BTreeSet::new();
    for host in HOSTS {
        let bridge = link(&lab, host, BRIDGE)?;
        macs.insert(bridge["address"].as_str().context("a MAC")?.to_owned());
        ensure!(addresses(&lab, host, BRIDGE)? == BTreeSet::from(["10.0.0.1/24".to_owned()]), "{bridge}");
        ensure!(processes(&lab, host, "dnsmasq")?.len() == 1, "one DHCP server on {host}");
    }
    ensure!(macs.len() == 1, "one MAC for all: {macs:?}");
    let guests = [&one, &two, &three];
    for (guest, source) in guests.iter().zip(PUBLIC) {
        ensure!(guest.lease.router == "10.0.0.1" && guest.lease.server == "10.0.0.1", "{:?}", guest.lease);
        leaves_as(&lab, &guest.node, source)?;
        for other in guests {
            ping(&lab, &guest.node, address(other))?;
        }
    }
    let after: Result<Vec<i32>> = HOSTS.iter().map(|host| lab.agent(host)?.pid()).collect();
    ensure!(agents? == after?, "and no agent was started anew for that");
    Ok(())
}

/// A guest's IPv4 address without its prefix length.
fn address(guest: &NetnsGuest) -> &str {
    guest.lease.address.split('/').next().unwrap_or_default()
}

#[test]
fn nothing_of_a_shared_gateway_passes_the_wire() -> Result<()> {
    let lab = empty_cloud(3)?;
    let ranges = ["--cidr", "10.0.0.0/24", "--cidr-v6", "fd00:9::/64"];
    public_network(&lab, &[&ranges[..], &["--domain", "test.internal"]].concat())?;
    let wires = HOSTS.map(|host| (host, "eth1")).into_iter().chain([("switch", "flat")]);
    let wires: Result<Vec<Watch>> =
        wires.map(|(node, device)| Watch::start_with(&lab, node, device, &[])).collect();
    let wires = wires?;
    let mut guests = Vec::new();
    for (host, name) in HOSTS.into_iter().zip(["one", "two", "three"]) {
        let guest = guest_on(&lab, host, name)?;
        dhcp6(&lab, &guest.node)?;
        guests.push(guest);
    }
    let gateway = link(&lab, "host1", BRIDGE)?["address"].as_str().context("a MAC")?.to_owned();
    for (number, guest) in guests.iter().enumerate() {
        speak_with_the_gateway(&lab, guest)?;
        let mark = u16::try_from(4001 + number)?;
        let mac = guest.attached.mac.to_string();
        send(&lab, &guest.node, &udp(&mac, address(guest), (4000, mark))?)?;
        // On one queue: what was sent before it and is not there never came.
        for wire in &wires {
            wire.wait_for(&format!(".{mark}: "))?;
        }
    }
    for wire in &wires {
        let leaked: Vec<String> =
            wire.frames()?.into_iter().filter(|frame| is_of_the_gateway(frame, &gateway)).collect();
        ensure!(leaked.is_empty(), "on {}:\n{}", wire.place(), leaked.join("\n"));
    }

    // Without the guard it does pass: the above can fail. The agent would mend it.
    lab.agent("host1")?.kill9()?;
    lab.exec_ok("host1", &["nft", "delete", "table", "bridge", "trestle"])?;
    lab.exec_ok(&guests[0].node, &["ip", "neigh", "flush", "all"])?;
    ping(&lab, &guests[0].node, "10.0.0.1")?;
    wires[3].wait_for("who-has 10.0.0.1 ").map(drop)
}

/// Everything by which a guest and its gateway hear of each other.
fn speak_with_the_gateway(lab: &Lab, guest: &NetnsGuest) -> Result<()> {
    let node = &guest.node;
    let router = until("a router is advertised", DEADLINE, || {
        let route = lab.exec_ok(node, &["ip", "-6", "route", "show", "default"])?;
        Ok(route.split_whitespace().nth(2).map(str::to_owned))
    })?;
    lab.dhcp(node)?;
    lab.exec_ok(node, &["ip", "neigh", "flush", "all"])?;
    for target in ["10.0.0.1", "fd00:9::1", &format!("{router}%eth0"), INTERNET] {
        ping(lab, node, target)?;
    }
    // Each host's server knows the names of its own guests.
    let own = format!("{}.test.internal", guest.lease.hostname);
    lab.exec_ok(node, &["busybox", "nslookup", &own, "10.0.0.1"])?;
    for other in ["10.0.0.2", "10.0.0.3", "10.0.0.4", "fd00:9::2"] {
        ping(lab, node, other)?;
    }
    Ok(())
}

/// Whether a frame is the gateway's, is about it, or is one that only a gateway and its own guests
/// exchange. Hosts and switches may solicit routers for themselves.
fn is_of_the_gateway(frame: &str, gateway_mac: &str) -> bool {
    const SECRETS: [&str; 8] = [
        "who-has 10.0.0.1 ",
        "who-has 10.0.0.1,",
        "tell 10.0.0.1,",
        "10.0.0.1 is-at",
        "who has fd00:9::1,",
        "BOOTP/DHCP",
        "dhcp6",
        "router advertisement",
    ];
    let solicits = frame.contains("router solicitation") && frame.contains(" fa:16:3e:");
    solicits || frame.contains(gateway_mac) || SECRETS.iter().any(|secret| frame.contains(secret))
}

#[test]
fn a_host_that_dies_costs_the_others_nothing() -> Result<()> {
    let lab = empty_cloud(3)?;
    public_network(&lab, &["--cidr", "10.0.0.0/24"])?;
    let _one = guest_on(&lab, "host1", "one")?;
    let (two, three) = (guest_on(&lab, "host2", "two")?, guest_on(&lab, "host3", "three")?);
    let pingers = [
        Pinger::start(&lab, &two.node, INTERNET)?,
        Pinger::start(&lab, &two.node, address(&three))?,
        Pinger::start(&lab, &three.node, INTERNET)?,
    ];
    let goes_on = || pingers.iter().try_for_each(|pinger| pinger.wait_for_more(100));
    lab.agent("host1")?.kill9()?;
    goes_on()?;
    kill(&lab, "host1", "dnsmasq")?;
    goes_on()?;
    for device in ["eth0", "eth1", "eth2"] {
        lab.exec_ok("host1", &["ip", "link", "set", device, "down"])?;
    }
    goes_on()?;
    for pinger in pingers {
        pinger.lost_nothing()?;
    }
    // What is left of the cloud goes on changing, too.
    ensure!(lab.dhcp(&two.node)?.address == two.lease.address, "its lease is renewed");
    guest_on(&lab, "host2", "four").map(drop)
}

#[test]
fn the_last_instance_takes_everything_with_it_on_its_host_alone() -> Result<()> {
    let lab = empty_cloud(2)?;
    public_network(&lab, &["--cidr", "10.0.0.0/24"])?;
    let one = guest_on(&lab, "host1", "one")?;
    let before = everything(&lab, "host2")?;
    guest_on(&lab, "host2", "two")?;
    let pinger = Pinger::start(&lab, &one.node, INTERNET)?;
    delete(&lab, "two")?;
    until("host2 is as it was", DEADLINE, || Ok((everything(&lab, "host2")? == before).then_some(())))?;
    ensure!(processes(&lab, "host2", "dnsmasq")?.is_empty(), "its DHCP server is gone");
    pinger.lost_nothing()
}

#[test]
fn per_host_each_host_has_an_address_of_its_own_while_it_has_instances() -> Result<()> {
    let lab = empty_cloud(3)?;
    public_network(&lab, &["--cidr", "10.0.0.0/24", "--cidr-v6", "fd00:9::/64", "--per-host"])?;
    create(&lab, "three")?;
    let before = used(&lab)?;
    let (one, two) = (guest_on(&lab, "host1", "one")?, guest_on(&lab, "host2", "two")?);
    let (at_one, at_two) = (addresses(&lab, "host1", BRIDGE)?, addresses(&lab, "host2", BRIDGE)?);
    ensure!(at_one.len() == 2 && at_two.len() == 2 && at_one.is_disjoint(&at_two), "{at_one:?} {at_two:?}");
    let macs = ["host1", "host2"].map(|host| link(&lab, host, BRIDGE).map(|link| link["address"].clone()));
    let [mac_one, mac_two] = macs;
    ensure!(mac_one? != mac_two?, "and a MAC of its own");
    for (guest, own, source) in [(&one, &at_one, PUBLIC[0]), (&two, &at_two, PUBLIC[1])] {
        ensure!(own.contains(&format!("{}/24", guest.lease.router)), "{:?}, not of {own:?}", guest.lease);
        ensure!(guest.lease.server == guest.lease.router, "{:?}", guest.lease);
        leaves_as(&lab, &guest.node, source)?;
    }
    ping(&lab, &one.node, address(&two))?;
    ping(&lab, &one.node, &two.lease.router)?;
    ensure!(used(&lab)? == [before[0] + 4, before[1] + 4], "two hosts' addresses are in use, in each family");

    let pinger = Pinger::start(&lab, &one.node, INTERNET)?;
    lab.detach("host2", "two", NETWORK)?;
    ensure!(!links(&lab, "host2")?.iter().any(|link| link == BRIDGE), "nothing is left on host2");
    // Instances keep their addresses, the host's own are given back.
    until("the addresses of host2 are free", DEADLINE, || {
        Ok((used(&lab)? == [before[0] + 3, before[1] + 3]).then_some(()))
    })?;
    let at_three = lab.attach("host3", "three", NETWORK, Plug::Tap)?;
    ensure!(at_three.gateways.len() == 2, "{at_three:?}");
    wait_until_host_is_whole(&lab, "host3")?;
    pinger.lost_nothing()
}

/// How many addresses are in use, in each family.
fn used(lab: &Lab) -> Result<[u64; 2]> {
    let network = told(lab, &["network", "show", NETWORK])?;
    let used = |family: &str| network[family]["used"].as_u64().context("how many are used");
    Ok([used("ipv4")?, used("ipv6")?])
}
