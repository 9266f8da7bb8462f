//! Flat DHCP on one host: what is made, what guests are told, and that all of it goes again.

use anyhow::{Context, Result, ensure};
use trestle_lab::{OUTSIDE, Topology, until};

use crate::cloud::{
    BRIDGE, DEADLINE, HOST, NETWORK, cloud, cloud_with, create, empty_cloud, guest, ip, links, no_ping, ping,
    public_network, ruleset,
};

#[test]
fn the_first_instance_brings_the_bridge_and_the_last_one_takes_it_away() -> Result<()> {
    let lab = cloud("10.0.0.0/24")?;
    let before = (links(&lab, HOST)?, ruleset(&lab, HOST)?);
    ensure!(!before.0.iter().any(|name| name == BRIDGE), "nothing is set up before the first instance");
    create(&lab, "web1")?;
    let attached = lab.attach(HOST, "web1", NETWORK, trestle_lab::Plug::Tap)?;

    let bridge = ip(&lab, HOST, &["addr", "show", BRIDGE])?;
    let eth1 = ip(&lab, HOST, &["link", "show", "eth1"])?;
    ensure!(eth1[0]["master"] == BRIDGE, "flat_interface is a port: {eth1}");
    ensure!(eth1[0]["promiscuity"].as_u64() > Some(0), "and promiscuous: {eth1}");
    let mac = bridge[0]["address"].as_str().context("a MAC")?;
    ensure!(
        mac.starts_with("fe:16:3e:") && bridge[0]["address"] != eth1[0]["address"],
        "the gateway's: {bridge}"
    );
    let addresses = bridge[0]["addr_info"].as_array().context("addresses")?;
    let gateway = addresses.iter().find(|address| address["local"] == "10.0.0.1");
    ensure!(gateway.is_some_and(|address| address["prefixlen"] == 24), "the gateway's address: {bridge}");
    let tap = ip(&lab, HOST, &["link", "show", attached.device.as_str()])?;
    ensure!(tap[0]["master"] == BRIDGE && tap[0]["mtu"] == 1450, "the tap: {tap}");
    let forwarding = lab.exec_ok(HOST, &["cat", "/proc/sys/net/ipv4/ip_forward"])?;
    ensure!(forwarding.trim() == "1", "forwarding is on");
    let rules = ruleset(&lab, HOST)?;
    for expected in [attached.device.as_str(), "10.0.0.0/24 . \"eth0\"", "masquerade"] {
        ensure!(rules.contains(expected), "`{expected}` is not in:\n{rules}");
    }

    lab.detach(HOST, "web1", NETWORK)?;
    ensure!(
        (links(&lab, HOST)?, ruleset(&lab, HOST)?) == before,
        "something is left: {:?}",
        links(&lab, HOST)?
    );
    let eth1 = ip(&lab, HOST, &["link", "show", "eth1"])?;
    ensure!(eth1[0].get("master").is_none(), "eth1 is free again: {eth1}");
    Ok(())
}

#[test]
fn a_guest_is_told_exactly_its_address_and_what_it_needs_to_know() -> Result<()> {
    let lab = cloud("10.0.0.0/24")?;
    let guest = guest(&lab, "web1")?;
    let lease = &guest.lease;
    let told = [&lease.address, &lease.router, &lease.dns, &lease.mtu, &lease.hostname, &lease.domain];
    ensure!(
        told == ["10.0.0.2/24", "10.0.0.1", "10.0.0.1", "1450", "web1", "test.internal"],
        "the guest was told {lease:?}"
    );
    ensure!(guest.attached.mac.to_string().starts_with("fa:16:3e:"), "{}", guest.attached.mac);
    let shown = lab.cli_ok(&["fixed-ip", "list", "--json"])?;
    ensure!(shown.contains("10.0.0.2"), "{shown}");
    Ok(())
}

#[test]
fn guests_reach_each_other_the_outside_and_names() -> Result<()> {
    let lab = cloud("10.0.0.0/24")?;
    let (web, db) = (guest(&lab, "web1")?, guest(&lab, "db1")?);
    ping(&lab, &web.node, "10.0.0.3")?;
    ping(&lab, HOST, "10.0.0.2")?;
    let capture = ["tcpdump", "-n", "-l", "-i", "eth0", "-c", "1", "icmp[icmptype] == icmp-echo"];
    let mut seen = lab.spawn("outside", &capture)?;
    until("tcpdump listens", DEADLINE, || Ok(seen.output()?.contains("listening").then_some(())))?;
    ping(&lab, &web.node, "198.51.100.10")?;
    seen.wait(DEADLINE)?;
    let packet = seen.output()?;
    ensure!(packet.contains("203.0.113.11 > 198.51.100.10"), "it left under the host's address: {packet}");
    let found = lab.exec_ok(&db.node, &["busybox", "nslookup", "web1.test.internal", "10.0.0.1"])?;
    ensure!(found.contains("10.0.0.2"), "{found}");
    no_ping(&lab, "outside", "10.0.0.2")
}

#[test]
fn what_goes_to_an_exempt_range_keeps_its_address() -> Result<()> {
    let mut topology = Topology::for_test(1);
    let config = std::env::temp_dir().join(format!("{}.toml", topology.name));
    std::fs::write(&config, "[server]\ndmz_cidr = [\"203.0.113.1/32\"]\n")?;
    topology.server_arguments = vec!["--config".into(), config.to_string_lossy().into_owned()];
    let lab = cloud_with("10.0.0.0/24", &topology)?;
    std::fs::remove_file(&config)?;
    // The exempt host knows the way back; the world beyond it does not.
    lab.exec_ok("outside", &["ip", "route", "add", "10.0.0.0/24", "via", "203.0.113.11"])?;
    let web = guest(&lab, "web1")?;
    for (target, source) in [("203.0.113.1", "10.0.0.2"), ("198.51.100.10", "203.0.113.11")] {
        let filter = format!("icmp[icmptype] == icmp-echo and dst {target}");
        let mut seen = lab.spawn("outside", &["tcpdump", "-n", "-l", "-i", "eth0", "-c", "1", &filter])?;
        until("tcpdump listens", DEADLINE, || Ok(seen.output()?.contains("listening").then_some(())))?;
        ping(&lab, &web.node, target)?;
        seen.wait(DEADLINE)?;
        let packet = seen.output()?;
        ensure!(packet.contains(&format!("{source} > {target}")), "{packet}");
    }
    Ok(())
}

#[test]
fn nothing_is_given_to_an_unknown_mac() -> Result<()> {
    // Where hosts share a gateway, nobody on the segment reaches it at all.
    let lab = empty_cloud(1)?;
    public_network(&lab, &["--cidr", "10.0.0.0/24", "--single-host"])?;
    guest(&lab, "web1")?;
    // A machine on the same segment that Trestle knows nothing of.
    lab.exec_ok("controller", &["ip", "netns", "add", "stranger"])?;
    let veth = ["ip", "link", "add", "eth0", "netns", "stranger", "type", "veth", "peer", "name", "str"];
    lab.exec_ok("controller", &[&veth[..], &["netns", "switch"]].concat())?;
    lab.exec_ok("switch", &["ip", "link", "set", "str", "master", "flat", "up"])?;
    lab.exec_ok("stranger", &["ip", "link", "set", "eth0", "up"])?;
    let client =
        ["busybox", "udhcpc", "-f", "-q", "-n", "-t", "3", "-T", "1", "-i", "eth0", "-s", "/bin/true"];
    let output = lab.exec("stranger", &client)?;
    ensure!(!output.status.success(), "the stranger got a lease: {output:?}");
    // The segment itself works: with an address of its own it reaches the gateway.
    lab.exec_ok("stranger", &["ip", "addr", "add", "10.0.0.200/24", "dev", "eth0"])?;
    ping(&lab, "stranger", "10.0.0.1")
}

#[test]
fn what_the_flat_interface_had_moves_to_the_bridge_and_back() -> Result<()> {
    let lab = cloud("10.0.0.0/24")?;
    lab.exec_ok("controller", &["ip", "netns", "add", "peer"])?;
    let veth = ["ip", "link", "add", "eth0", "netns", "peer", "type", "veth", "peer", "name", "peer"];
    lab.exec_ok("controller", &[&veth[..], &["netns", "switch"]].concat())?;
    lab.exec_ok("switch", &["ip", "link", "set", "peer", "master", "flat", "up"])?;
    lab.exec_ok("peer", &["ip", "addr", "add", "192.168.5.1/24", "dev", "eth0"])?;
    lab.exec_ok("peer", &["ip", "link", "set", "eth0", "up"])?;
    lab.exec_ok(HOST, &["ip", "addr", "add", "192.168.5.10/24", "dev", "eth1"])?;
    lab.exec_ok(HOST, &["ip", "route", "add", "10.9.0.0/16", "via", "192.168.5.1", "dev", "eth1"])?;
    ping(&lab, HOST, "192.168.5.1")?;
    let mut pings = lab.spawn(HOST, &["ping", "-i", "0.01", "-c", "400", "192.168.5.1"])?;
    until("pings flow", DEADLINE, || Ok(pings.output()?.contains("icmp_seq=5 ").then_some(())))?;

    create(&lab, "web1")?;
    lab.attach(HOST, "web1", NETWORK, trestle_lab::Plug::Tap)?;
    let routes = lab.exec_ok(HOST, &["ip", "route"])?;
    ensure!(routes.contains(&format!("10.9.0.0/16 via 192.168.5.1 dev {BRIDGE}")), "{routes}");
    ensure!(!routes.contains("dev eth1"), "{routes}");
    lab.detach(HOST, "web1", NETWORK)?;
    let routes = lab.exec_ok(HOST, &["ip", "route"])?;
    ensure!(routes.contains("10.9.0.0/16 via 192.168.5.1 dev eth1"), "{routes}");
    ensure!(routes.contains(&format!("default via {OUTSIDE}")), "{routes}");

    pings.wait(DEADLINE)?;
    let said = pings.output()?;
    ensure!(
        said.contains("400 received") || said.contains("399 received"),
        "{}",
        crate::cloud::summary(&said)
    );
    Ok(())
}
