//! IPv6: addresses that the controller chose, by DHCPv6 or of the guest's MAC, and the same guard.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, ensure};
use trestle_lab::{Lab, NetnsGuest, Plug, until};

use crate::cloud::{
    BRIDGE, DEADLINE, HOST, NETWORK, PROJECT, addresses, create, create_on, delete, empty_cloud, guest,
    guest_on, link, ping, public_network, ruleset,
};
use crate::frames::{hex_ip6, hex_mac, hidden_icmp6, icmp6, listen, send, udp6};

const GATEWAY: &str = "fd00:9::1";
const FOREIGN_MAC: &str = "fa:16:3e:99:99:99";
/// That a router is here, good for half an hour (RFC 4861 §4.2).
const ROUTER_ADVERTISEMENT: &str = "86000000400007080000000000000000";

/// What a guest was told by DHCPv6.
#[derive(Debug)]
pub(crate) struct Lease6 {
    pub(crate) address: String,
    pub(crate) dns: String,
    pub(crate) search: String,
}

/// What dhclient runs when its lease changes: takes over the address, and says what it was told.
const LEASE_SCRIPT: &str = r#"#!/bin/sh
case "$reason" in BOUND6 | RENEW6 | REBIND6) ;; *) exit 0 ;; esac
ip -6 address replace "$new_ip6_address/128" dev "$interface"
echo "$new_ip6_address $new_dhcp6_name_servers $new_dhcp6_domain_search" >"${0%/*}/$interface.told"
"#;

/// Lets a real DHCPv6 client on `eth0` of a namespace get a lease and take it over.
pub(crate) fn dhcp6(lab: &Lab, node: &str) -> Result<Lease6> {
    wait_for_link_local(lab, node)?;
    let folder = lab.folder().join(format!("dhcp6-{node}"));
    std::fs::create_dir_all(&folder)?;
    let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
    std::fs::write(file("config"), "")?;
    std::fs::write(file("script"), LEASE_SCRIPT)?;
    std::fs::set_permissions(file("script"), std::fs::Permissions::from_mode(0o755))?;
    let client = ["dhclient", "-6", "-1", "-v", "-cf", &file("config"), "-sf", &file("script")];
    let files = ["-lf", &file("leases"), "-pf", &file("pid"), "eth0"];
    lab.exec_ok(node, &[&client[..], &files[..]].concat())?;
    let told = std::fs::read_to_string(file("eth0.told")).context("the DHCPv6 client was told nothing")?;
    // It goes on in the background, and would take its lease with it at an orderly end.
    let pid = until("the DHCPv6 client says which process it is", DEADLINE, || {
        let pid = std::fs::read_to_string(file("pid")).unwrap_or_default();
        Ok(pid.ends_with('\n').then(|| pid.trim().to_owned()))
    })?;
    lab.exec_ok("controller", &["kill", "-9", &pid])?;
    let mut words = told.split_whitespace().map(str::to_owned);
    let mut word = || words.next().unwrap_or_default();
    Ok(Lease6 { address: word(), dns: word(), search: word() })
}

fn wait_for_link_local(lab: &Lab, node: &str) -> Result<()> {
    until("the guest has a link-local address", DEADLINE, || {
        let shown =
            lab.exec_ok(node, &["ip", "-6", "-o", "address", "show", "dev", "eth0", "scope", "link"])?;
        Ok((!shown.is_empty() && !shown.contains("tentative")).then_some(()))
    })
}

/// An instance on the network without DHCP of IPv4.
fn guest_without_lease(lab: &Lab, host: &str, instance: &str) -> Result<NetnsGuest> {
    create(lab, instance)?;
    let node = format!("vm-{instance}");
    lab.exec_ok("controller", &["ip", "netns", "add", &node])?;
    let attached = lab.attach(host, instance, NETWORK, Plug::Netns { name: &node })?;
    // As a guest does that has to be told the MTU.
    lab.exec_ok(&node, &["ip", "link", "set", "eth0", "mtu", "1500", "up"])?;
    wait_for_link_local(lab, &node)?;
    Ok(NetnsGuest { node, attached, lease: trestle_lab::Lease::default() })
}

/// The IPv6 address that the controller chose.
fn chosen(guest: &NetnsGuest) -> Result<String> {
    let found = guest.attached.addresses.iter().find(|address| address.contains(':'));
    let (address, _) = found.and_then(|address| address.split_once('/')).context("an IPv6 address")?;
    Ok(address.to_owned())
}

/// Waits for the route that a router's advertisement brings.
fn default_route(lab: &Lab, node: &str) -> Result<String> {
    until("a router is advertised", DEADLINE, || {
        let route = lab.exec_ok(node, &["ip", "-6", "route", "show", "default"])?;
        Ok((!route.is_empty()).then_some(route))
    })
}

/// The bridge's own link-local address, which its routers are known by.
fn router(lab: &Lab, host: &str) -> Result<String> {
    let bridge = link(lab, host, BRIDGE)?;
    let all = bridge["addr_info"].as_array().context("addresses")?.iter();
    let mut own = all.filter(|address| address["scope"] == "link").filter_map(|a| a["local"].as_str());
    Ok(own.next().context("a link-local address")?.to_owned())
}

#[test]
fn a_guest_of_both_families_has_the_addresses_that_the_controller_chose() -> Result<()> {
    let lab = empty_cloud(2)?;
    let ranges = ["--cidr", "10.0.0.0/24", "--cidr-v6", "fd00:9::/64"];
    public_network(&lab, &[&ranges[..], &["--domain", "test.internal", "--mtu", "1450"]].concat())?;
    let (one, two) = (guest_on(&lab, "host1", "one")?, guest_on(&lab, "host2", "two")?);
    let both = ["10.0.0.1/24", "fd00:9::1/64"].map(str::to_owned);
    for (host, guest) in [("host1", &one), ("host2", &two)] {
        ensure!(
            addresses(&lab, host, BRIDGE)? == BTreeSet::from(both.clone()),
            "the gateway has one of each"
        );
        let lease = dhcp6(&lab, &guest.node)?;
        ensure!(lease.address == chosen(guest)?, "{lease:?}, of {:?}", guest.attached);
        ensure!(
            lease.dns == "fd00:9::1" && lease.search.trim_end_matches('.') == "test.internal",
            "{lease:?}"
        );
        let route = default_route(&lab, &guest.node)?;
        let via = format!("via {} dev eth0", router(&lab, host)?);
        ensure!(route.contains(&via), "{route}");
    }
    let other = chosen(&two)?;
    for target in ["fd00:9::1", &other, "10.0.0.3"] {
        ping(&lab, &one.node, target)?;
    }
    let question = ["busybox", "nslookup", "-type=aaaa", "one.test.internal", "fd00:9::1"];
    let found = lab.exec_ok(&one.node, &question)?;
    ensure!(found.contains(&chosen(&one)?), "{found}");
    Ok(())
}

#[test]
fn a_network_may_have_ipv6_alone() -> Result<()> {
    let lab = empty_cloud(2)?;
    public_network(&lab, &["--cidr-v6", "fd00:9::/64", "--mtu", "1400"])?;
    let (one, two) = (guest_without_lease(&lab, "host1", "one")?, guest_without_lease(&lab, "host2", "two")?);
    for guest in [&one, &two] {
        ensure!(guest.attached.addresses.len() == 1, "{:?}", guest.attached);
        ensure!(dhcp6(&lab, &guest.node)?.address == chosen(guest)?);
        default_route(&lab, &guest.node)?;
        let mtu = lab.exec_ok(&guest.node, &["cat", "/proc/sys/net/ipv6/conf/eth0/mtu"])?;
        ensure!(mtu.trim() == "1400", "the MTU is advertised, too: {mtu}");
    }
    ensure!(addresses(&lab, HOST, BRIDGE)? == BTreeSet::from(["fd00:9::1/64".to_owned()]));
    ping(&lab, &one.node, &chosen(&two)?)?;
    ping(&lab, &one.node, "fd00:9::1")?;
    let rules = ruleset(&lab, HOST)?;
    ensure!(!rules.contains("fd00:9::/64 . \"eth0\""), "there is no NAT of IPv6:\n{rules}");
    Ok(())
}

#[test]
fn a_guest_makes_its_own_address_where_the_network_says_so() -> Result<()> {
    let lab = empty_cloud(1)?;
    let ranges = ["--cidr", "10.0.0.0/24", "--cidr-v6", "fd00:9::/64", "--ipv6-mode", "slaac"];
    public_network(&lab, &ranges)?;
    let (one, two) = (guest(&lab, "one")?, guest(&lab, "two")?);
    for guest in [&one, &two] {
        let wanted = format!("{}/64", chosen(guest)?);
        until("the guest has made itself the address that the controller knows", DEADLINE, || {
            Ok(addresses(&lab, &guest.node, "eth0")?.contains(&wanted).then_some(()))
        })?;
        default_route(&lab, &guest.node)?;
    }
    ping(&lab, &one.node, &chosen(&two)?)?;
    ping(&lab, &one.node, "fd00:9::1")
}

#[test]
fn a_released_ipv6_address_is_leased_at_once_by_another_mac() -> Result<()> {
    let lab = empty_cloud(1)?;
    public_network(&lab, &["--cidr", "10.0.0.0/24", "--cidr-v6", "fd00:9::/64"])?;
    // Another instance keeps the DHCP server running, with what it remembers.
    let _other = guest(&lab, "other")?;
    for name in ["first", "second", "third"] {
        create_on(&lab, PROJECT, name, &[&format!("{NETWORK},address=fd00:9::99")])?;
        let guest = lab.guest_netns(HOST, name, NETWORK)?;
        let lease = dhcp6(&lab, &guest.node)?;
        ensure!(lease.address == "fd00:9::99", "{name} got {lease:?}");
        delete(&lab, name)?;
    }
    Ok(())
}

struct Stage {
    lab: Lab,
    attacker: NetnsGuest,
    victim: NetnsGuest,
}

fn stage() -> Result<Stage> {
    let lab = empty_cloud(1)?;
    public_network(&lab, &["--cidr", "10.0.0.0/24", "--cidr-v6", "fd00:9::/64"])?;
    let (attacker, victim) = (guest(&lab, "mallory")?, guest(&lab, "victim")?);
    for guest in [&attacker, &victim] {
        dhcp6(&lab, &guest.node)?;
        default_route(&lab, &guest.node)?;
    }
    ping(&lab, &attacker.node, &chosen(&victim)?)?;
    Ok(Stage { lab, attacker, victim })
}

impl Stage {
    /// The attacker's MAC, its address, the victim's address, and the attacker's link-local one.
    fn parts(&self) -> Result<(String, Ipv6Addr, Ipv6Addr, Ipv6Addr)> {
        let mac = self.attacker.attached.mac;
        let (own, other) = (chosen(&self.attacker)?.parse()?, chosen(&self.victim)?.parse()?);
        Ok((mac.to_string(), own, other, mac.link_local()))
    }

    /// Sends forged frames and then an honest one, and waits for that: on one queue, what was sent
    /// before it and is not there never came. All of them are for all nodes.
    fn only_the_honest_frame_arrives(&self, forged: &[String]) -> Result<()> {
        let (mac, own, ..) = self.parts()?;
        let ears = listen(&self.lab, &self.victim.node)?;
        for frame in forged {
            send(&self.lab, &self.attacker.node, frame)?;
        }
        send(&self.lab, &self.attacker.node, &udp6(&mac, own, (4000, 4999)))?;
        let heard = until("the honest frame arrives", DEADLINE, || {
            let heard = ears.output()?;
            Ok(heard.contains(".4999:").then_some(heard))
        })?;
        let theirs = [&mac, FOREIGN_MAC].map(|mac| format!("{mac} > 33:33:00:00:00:01"));
        let is_strange =
            |line: &&str| theirs.iter().any(|mark| line.contains(mark)) && !line.contains(".4999:");
        let strange: Vec<&str> = heard.lines().filter(is_strange).collect();
        ensure!(strange.is_empty(), "forged frames arrived:\n{}", strange.join("\n"));
        Ok(())
    }
}

/// That an address is at a MAC, unasked and to be believed over what was known (RFC 4861 §4.4).
fn advertisement(target: Ipv6Addr, mac: &str) -> String {
    format!("8800000020000000{}0201{}", hex_ip6(target), hex_mac(mac))
}

/// That a better way to a target leads over another (RFC 4861 §4.5).
fn redirect(target: Ipv6Addr, over: Ipv6Addr) -> String {
    format!("8900000000000000{}{}", hex_ip6(over), hex_ip6(target))
}

/// Whether anybody has this address (RFC 4862 §5.4.2).
fn probe(target: Ipv6Addr) -> String {
    format!("8700000000000000{}", hex_ip6(target))
}

#[test]
fn a_guest_sends_from_its_own_ipv6_addresses_only() -> Result<()> {
    let stage = stage()?;
    let (mac, own, other, _) = stage.parts()?;
    stage.only_the_honest_frame_arrives(&[
        udp6(&mac, other, (4000, 4001)),
        udp6(&mac, GATEWAY.parse()?, (4000, 4002)),
        udp6(&mac, "2001:db8::1".parse()?, (4000, 4003)),
        udp6(&mac, stage.victim.attached.mac.link_local(), (4000, 4004)),
        udp6(&mac, Ipv6Addr::UNSPECIFIED, (4000, 4005)),
        udp6(FOREIGN_MAC, own, (4000, 4006)),
    ])
}

#[test]
fn a_guest_claims_no_ipv6_address_but_its_own() -> Result<()> {
    let stage = stage()?;
    let (mac, own, other, link_local) = stage.parts()?;
    let gateway = GATEWAY.parse()?;
    stage.only_the_honest_frame_arrives(&[
        icmp6(&mac, own, &advertisement(other, &mac)),
        icmp6(&mac, link_local, &advertisement(gateway, &mac)),
        hidden_icmp6(&mac, link_local, &advertisement(gateway, &mac)),
        icmp6(&mac, Ipv6Addr::UNSPECIFIED, &probe(other)),
    ])?;
    ping(&stage.lab, &stage.victim.node, GATEWAY)
}

#[test]
fn a_router_or_dhcpv6_server_in_a_guest_is_silent_to_others() -> Result<()> {
    let stage = stage()?;
    let (mac, own, other, link_local) = stage.parts()?;
    let before = default_route(&stage.lab, &stage.victim.node)?;
    stage.only_the_honest_frame_arrives(&[
        icmp6(&mac, link_local, ROUTER_ADVERTISEMENT),
        hidden_icmp6(&mac, link_local, ROUTER_ADVERTISEMENT),
        icmp6(&mac, link_local, &redirect(other, own)),
        hidden_icmp6(&mac, link_local, &redirect(other, own)),
        udp6(&mac, link_local, (547, 546)),
        udp6(&mac, own, (547, 4007)),
        udp6(&mac, own, (4000, 546)),
    ])?;
    let after = default_route(&stage.lab, &stage.victim.node)?;
    let routers = |routes: &str| routes.matches(" via ").count();
    ensure!(routers(&before) == routers(&after), "the victim has another router:\n{after}");
    Ok(())
}

/// The same frames do arrive where nothing guards: the tests above can fail.
#[test]
fn forged_ipv6_frames_arrive_where_there_is_no_guard() -> Result<()> {
    let stage = stage()?;
    let (mac, own, other, link_local) = stage.parts()?;
    // With the agent gone nobody repairs what is broken on purpose here.
    stage.lab.agent(HOST)?.kill9()?;
    for table in ["bridge trestle", "inet trestle_groups"] {
        let delete = format!("nft delete table {table}");
        stage.lab.exec_ok(HOST, &["sh", "-c", &delete])?;
    }
    let ears = listen(&stage.lab, &stage.victim.node)?;
    let gateway = GATEWAY.parse()?;
    let from_attacker = format!("{mac} > 33:33:00:00:00:01");
    for (frame, mark) in [
        (udp6(&mac, other, (4000, 4001)), ".4001:".to_owned()),
        (udp6(&mac, Ipv6Addr::UNSPECIFIED, (4000, 4005)), ".4005:".to_owned()),
        (udp6(&mac, own, (547, 4007)), ".4007:".to_owned()),
        (udp6(&mac, own, (4008, 546)), ".4008 >".to_owned()),
        (udp6(&mac, link_local, (547, 546)), ".546:".to_owned()),
        (icmp6(&mac, own, &advertisement(gateway, &mac)), format!("tgt is {GATEWAY}")),
        (icmp6(&mac, Ipv6Addr::UNSPECIFIED, &probe(other)), format!("who has {other}")),
        (icmp6(&mac, link_local, &redirect(other, own)), "redirect".to_owned()),
        (icmp6(&mac, link_local, ROUTER_ADVERTISEMENT), "router advertisement".to_owned()),
    ] {
        send(&stage.lab, &stage.attacker.node, &frame)?;
        until(&format!("`{mark}` arrives"), DEADLINE, || {
            let heard = ears.output()?;
            let arrived = heard.lines().any(|line| line.contains(&from_attacker) && line.contains(&mark));
            Ok(arrived.then_some(()))
        })?;
    }
    until("the victim believes it", DEADLINE, || {
        let routes = default_route(&stage.lab, &stage.victim.node)?;
        Ok(routes.contains(&link_local.to_string()).then_some(()))
    })
}
