//! Explanations as text, as an operator would read them.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::net::IpAddr;

use common::{
    HOST, OTHER, PROJECT, at, group, group_id, interface, link_name, metadata_service, network, rule, world,
    world_with,
};
use trestle_core::explain::{Outcome, OwnAddresses, Packet, Sender, explain};
use trestle_core::types::{Direction, IcmpType, IpProtocol, Protocol, VpnKind};
use trestle_core::world::{
    FloatingIp, Forward, Gateways, Interface, Network, Remote, Security, Target, Traffic, Vpn, VpnUser, World,
};

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// From interface `i` of network `n`.
fn from(n: u8, i: u8) -> Sender {
    Sender::Interface(interface(n, i).id, None)
}

fn tcp(from: Sender, to: &str, port: u16) -> Packet {
    Packet { from, to: address(to), protocol: IpProtocol::TCP, port: Some(port), icmp: None }
}

fn echo(from: Sender, to: &str) -> Packet {
    let icmp = Some(IcmpType { number: 8, code: None });
    Packet { from, to: address(to), protocol: IpProtocol::ICMP, port: None, icmp }
}

/// What the hosts have for themselves.
fn own() -> OwnAddresses {
    let own = |addresses: [&str; 2]| addresses.map(address).into();
    OwnAddresses::from([
        (HOST, own(["203.0.113.11", "172.17.0.1"])),
        (OTHER, own(["203.0.113.12", "172.17.0.1"])),
    ])
}

/// As it stands in JSON.
fn word<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_value(value).unwrap().as_str().unwrap().to_owned()
}

/// The stages, a line each, with the object that decided.
fn check(world: &World, packet: &Packet) -> String {
    let explanation = explain(world, &own(), packet, 1_000);
    let host = |id| world.host(id).unwrap().name.to_string();
    let stages = explanation.stages.iter().map(|stage| {
        let host = stage.host.map_or_else(|| "-".to_owned(), host);
        let key = stage.key.as_ref().map(|key| format!(" [{key}]")).unwrap_or_default();
        format!("{host} {} {}: {}{key}", word(&stage.kind), word(&stage.verdict), stage.reason)
    });
    let outcome = match explanation.outcome {
        Outcome::Passes => "passes".to_owned(),
        Outcome::Dropped => "dropped".to_owned(),
        Outcome::Unknown(problem) => format!("unknown: {problem}"),
    };
    stages.chain([outcome]).collect::<Vec<_>>().join("\n")
}

fn on(host: trestle_core::types::HostId, interface: Interface) -> Interface {
    Interface { attachment: Some(at(host)), ..interface }
}

fn floating(number: u8, n: u8, i: u8) -> FloatingIp {
    let interface = interface(n, i);
    FloatingIp {
        address: address(&format!("203.0.113.{number}")),
        device: None,
        target: Some(Target { interface: interface.id, fixed: interface.addresses[0] }),
        forwards: vec![],
    }
}

fn open(number: u8, traffic: Traffic) -> trestle_core::world::SecurityGroup {
    group(number, vec![rule(u32::from(number) + 7, Direction::Ingress, traffic, Remote::Any)])
}

fn held(groups: &[u8], interface: Interface) -> Interface {
    let groups = groups.iter().map(|number| group_id(*number)).collect();
    Interface { security: Some(Security { groups, ..Security::default() }), ..interface }
}

fn ssh() -> Traffic {
    Traffic::Ports(IpProtocol::TCP, "22".parse().unwrap())
}

fn outside() -> Sender {
    Sender::Outside(address("198.51.100.7"))
}

/// A network on two hosts, its one gateway on the second.
fn single_host() -> World {
    let mut world = world(&[(1, 1), (1, 2)]);
    world.put_network(Network { gateways: Gateways::One(Some(OTHER)), ..network(1) });
    world
}

#[test]
fn on_one_bridge_guard_and_groups_of_both_ends_decide() {
    let mut world = world(&[(1, 1), (1, 2)]);
    insta::assert_snapshot!(check(&world, &tcp(from(1, 1), "10.0.1.12", 22)), @"
    host1 sender pass: vm1 on network net1 sends it from 10.0.1.11, on host host1
    host1 guard pass: tr-000000001001 may send from 10.0.1.11 [element/guard_ip4/tr-000000001001 . fa:16:3e:00:01:01 . 10.0.1.11]
    host1 guard pass: tr-000000001002 is sent what is for 10.0.1.12 [element/guard_ip4/tr-000000001002 . fa:16:3e:00:01:02 . 10.0.1.12]
    host1 isolation pass: network net1 reaches itself [element/routed/br101 . br101]
    host1 egress pass: everything to anybody is allowed, by security group 00000000-0000-0000-0000-000000002001 [chain/from_1]
    host1 ingress pass: everything from members of security group 00000000-0000-0000-0000-000000002001 is allowed, by security group 00000000-0000-0000-0000-000000002001 [element/members4_1/10.0.1.11]
    host1 bridge pass: it is delivered to vm2, by tr-000000001002 [link/tr-000000001002]
    passes
    ");
    world.put_interface(held(&[], interface(1, 2)));
    insta::assert_snapshot!(check(&world, &tcp(from(1, 1), "10.0.1.12", 22)), @"
    host1 sender pass: vm1 on network net1 sends it from 10.0.1.11, on host host1
    host1 guard pass: tr-000000001001 may send from 10.0.1.11 [element/guard_ip4/tr-000000001001 . fa:16:3e:00:01:01 . 10.0.1.11]
    host1 guard pass: tr-000000001002 is sent what is for 10.0.1.12 [element/guard_ip4/tr-000000001002 . fa:16:3e:00:01:02 . 10.0.1.12]
    host1 isolation pass: network net1 reaches itself [element/routed/br101 . br101]
    host1 egress pass: everything to anybody is allowed, by security group 00000000-0000-0000-0000-000000002001 [chain/from_1]
    host1 ingress drop: it is in no security group, so nothing passes [chain/in_nothing]
    dropped
    ");
    world.put_interface(Interface { security: None, ..interface(1, 2) });
    insta::assert_snapshot!(check(&world, &tcp(from(1, 1), "10.0.1.12", 22)), @"
    host1 sender pass: vm1 on network net1 sends it from 10.0.1.11, on host host1
    host1 guard pass: tr-000000001001 may send from 10.0.1.11 [element/guard_ip4/tr-000000001001 . fa:16:3e:00:01:01 . 10.0.1.11]
    host1 guard pass: tr-000000001002 is not guarded: port security is off [element/unguarded/tr-000000001002]
    host1 isolation pass: network net1 reaches itself [element/routed/br101 . br101]
    host1 egress pass: everything to anybody is allowed, by security group 00000000-0000-0000-0000-000000002001 [chain/from_1]
    host1 ingress pass: vm2 is held to no security group: port security is off
    host1 bridge pass: it is delivered to vm2, by tr-000000001002 [link/tr-000000001002]
    passes
    ");
    insta::assert_snapshot!(check(&world, &tcp(from(1, 2), "10.0.1.11", 22)), @"
    host1 sender pass: vm2 on network net1 sends it from 10.0.1.12, on host host1
    host1 guard pass: tr-000000001002 is not guarded: port security is off [element/unguarded/tr-000000001002]
    host1 guard pass: tr-000000001001 is sent what is for 10.0.1.11 [element/guard_ip4/tr-000000001001 . fa:16:3e:00:01:01 . 10.0.1.11]
    host1 isolation pass: network net1 reaches itself [element/routed/br101 . br101]
    host1 egress pass: vm2 is held to no security group: port security is off
    host1 ingress drop: no rule of security group 00000000-0000-0000-0000-000000002001 allows it [chain/in_1]
    dropped
    ");
}

/// Whatever the groups say, where the gateway is, and by nobody's address but its own.
#[test]
fn metadata_are_had_from_the_gateway_and_nothing_else_there_is() {
    let asked = tcp(from(1, 1), "169.254.169.254", 80);
    let mut world = world_with(Some(metadata_service()), &[(1, 1), (1, 2)]);
    world.put_interface(held(&[], interface(1, 1)));
    insta::assert_snapshot!(check(&world, &asked), @"
    host1 sender pass: vm1 on network net1 sends it from 10.0.1.11, on host host1
    host1 guard pass: tr-000000001001 may send from 10.0.1.11 [element/guard_ip4/tr-000000001001 . fa:16:3e:00:01:01 . 10.0.1.11]
    host1 destination_nat translated: host host1 answers for the metadata service [element/metadata/br101 . fa:16:3e:00:01:01 . 10.0.1.11]
    host1 host pass: it was led there
    passes
    ");
    world.put_network(Network { gateways: Gateways::One(Some(OTHER)), ..network(1) });
    insta::assert_snapshot!(check(&world, &asked), @"
    host1 sender pass: vm1 on network net1 sends it from 10.0.1.11, on host host1
    host1 guard pass: tr-000000001001 may send from 10.0.1.11 [element/guard_ip4/tr-000000001001 . fa:16:3e:00:01:01 . 10.0.1.11]
    host1 egress pass: metadata are had whatever the groups say [element/metadata_from/br101]
    host1 bridge pass: bridge br101 leads from host host1 to host host2 by eth1 [link/br101]
    host2 destination_nat translated: host host2 answers for the metadata service [element/metadata/br101 . fa:16:3e:00:01:01 . 10.0.1.11]
    host2 host pass: it was led there
    passes
    ");
    insta::assert_snapshot!(check(&world, &tcp(from(1, 2), "10.0.1.1", 7118)), @"
    host1 sender pass: vm2 on network net1 sends it from 10.0.1.12, on host host1
    host1 guard pass: tr-000000001002 may send from 10.0.1.12 [element/guard_ip4/tr-000000001002 . fa:16:3e:00:01:02 . 10.0.1.12]
    host1 egress pass: everything to anybody is allowed, by security group 00000000-0000-0000-0000-000000002001 [chain/from_1]
    host1 bridge pass: bridge br101 leads from host host1 to host host2 by eth1 [link/br101]
    host2 host drop: instances have nothing of a host but DHCP, DNS and an echo
    dropped
    ");
    insta::assert_snapshot!(check(&common::world(&[(1, 1)]), &asked), @"
    host1 sender pass: vm1 on network net1 sends it from 10.0.1.11, on host host1
    host1 guard pass: tr-000000001001 may send from 10.0.1.11 [element/guard_ip4/tr-000000001001 . fa:16:3e:00:01:01 . 10.0.1.11]
    host1 route routed: host host1 routes it outside, by eth0
    host1 isolation drop: what is for a link alone is not routed [element/network/br101]
    dropped
    ");
}

#[test]
fn the_receiver_s_groups_are_asked_on_its_own_host() {
    let mut world = world(&[(1, 1)]);
    world.put_interface(on(OTHER, interface(1, 2)));
    insta::assert_snapshot!(check(&world, &tcp(from(1, 1), "10.0.1.12", 22)), @"
    host1 sender pass: vm1 on network net1 sends it from 10.0.1.11, on host host1
    host1 guard pass: tr-000000001001 may send from 10.0.1.11 [element/guard_ip4/tr-000000001001 . fa:16:3e:00:01:01 . 10.0.1.11]
    host1 isolation pass: network net1 reaches itself [element/routed/br101 . br101]
    host1 egress pass: everything to anybody is allowed, by security group 00000000-0000-0000-0000-000000002001 [chain/from_1]
    host1 bridge pass: bridge br101 leads from host host1 to host host2 by eth1 [link/br101]
    host2 guard pass: tr-000000001002 is sent what is for 10.0.1.12 [element/guard_ip4/tr-000000001002 . fa:16:3e:00:01:02 . 10.0.1.12]
    host2 isolation pass: network net1 reaches itself [element/routed/br101 . br101]
    host2 ingress pass: everything from members of security group 00000000-0000-0000-0000-000000002001 is allowed, by security group 00000000-0000-0000-0000-000000002001 [element/members4_1/10.0.1.11]
    host2 bridge pass: it is delivered to vm2, by tr-000000001002 [link/tr-000000001002]
    passes
    ");
    world.put_network(Network { bridge_interface: None, ..network(1) });
    insta::assert_snapshot!(check(&world, &tcp(from(1, 1), "10.0.1.12", 22)), @"
    host1 sender pass: vm1 on network net1 sends it from 10.0.1.11, on host host1
    host1 guard pass: tr-000000001001 may send from 10.0.1.11 [element/guard_ip4/tr-000000001001 . fa:16:3e:00:01:01 . 10.0.1.11]
    host1 bridge drop: br101 leads to no other host
    dropped
    ");
}

#[test]
fn who_is_not_there_neither_sends_nor_receives() {
    let mut world = world(&[(1, 1), (1, 2)]);
    world.put_interface(Interface { attachment: None, ..interface(1, 2) });
    insta::assert_snapshot!(check(&world, &tcp(from(1, 2), "10.0.1.11", 22)), @"
    - sender drop: vm2 is not plugged in
    dropped
    ");
    insta::assert_snapshot!(check(&world, &tcp(from(1, 1), "10.0.1.12", 22)), @"
    host1 sender pass: vm1 on network net1 sends it from 10.0.1.11, on host host1
    host1 guard pass: tr-000000001001 may send from 10.0.1.11 [element/guard_ip4/tr-000000001001 . fa:16:3e:00:01:01 . 10.0.1.11]
    host1 bridge drop: vm2, which has 10.0.1.12, is not plugged in
    dropped
    ");
    insta::assert_snapshot!(check(&world, &tcp(from(1, 1), "fd00::1", 22)), @"
    host1 sender drop: vm1 has no IPv6 address there
    dropped
    ");
    insta::assert_snapshot!(check(&world, &tcp(from(1, 1), "10.0.1.11", 22)), @"
    host1 sender drop: 10.0.1.11 is its own: it does not leave the instance
    dropped
    ");
    insta::assert_snapshot!(check(&world, &tcp(from(1, 1), "224.0.0.251", 22)), @"unknown: 224.0.0.251 is an address of many: explain is about what is sent to one");
    let forged = Sender::Interface(interface(1, 1).id, Some(address("10.0.1.77")));
    insta::assert_snapshot!(check(&world, &tcp(forged, "10.0.1.1", 22)), @"
    host1 sender pass: vm1 on network net1 sends it from 10.0.1.77, on host host1
    host1 guard drop: tr-000000001001 may not send from 10.0.1.77
    dropped
    ");
}

#[test]
fn a_rule_allows_nothing_from_its_end_on() {
    let mut world = world(&[(1, 1), (1, 2)]);
    for (ends, passes) in [(1_000, false), (1_001, true)] {
        let rule = rule(8, Direction::Ingress, ssh(), Remote::Any);
        let rule = trestle_core::world::Rule { expires_at: Some(ends), ..rule };
        world.put_security_group(group(2, vec![rule]));
        world.put_interface(held(&[2], interface(1, 2)));
        let explanation = explain(&world, &own(), &tcp(from(1, 1), "10.0.1.12", 22), 1_000);
        assert_eq!(explanation.outcome == Outcome::Passes, passes, "{explanation:#?}");
    }
}

#[test]
fn a_guest_has_of_its_host_what_is_served_there() {
    let world = world(&[(1, 1)]);
    insta::assert_snapshot!(check(&world, &tcp(from(1, 1), "10.0.1.1", 22)), @"
    host1 sender pass: vm1 on network net1 sends it from 10.0.1.11, on host host1
    host1 guard pass: tr-000000001001 may send from 10.0.1.11 [element/guard_ip4/tr-000000001001 . fa:16:3e:00:01:01 . 10.0.1.11]
    host1 host drop: instances have nothing of a host but DHCP, DNS and an echo
    dropped
    ");
    insta::assert_snapshot!(check(&world, &tcp(from(1, 1), "10.0.1.1", 53)), @"
    host1 sender pass: vm1 on network net1 sends it from 10.0.1.11, on host host1
    host1 guard pass: tr-000000001001 may send from 10.0.1.11 [element/guard_ip4/tr-000000001001 . fa:16:3e:00:01:01 . 10.0.1.11]
    host1 host pass: DNS is served there [element/served4/br101 . 10.0.1.1]
    passes
    ");
    insta::assert_snapshot!(check(&world, &echo(from(1, 1), "10.0.1.1")), @"
    host1 sender pass: vm1 on network net1 sends it from 10.0.1.11, on host host1
    host1 guard pass: tr-000000001001 may send from 10.0.1.11 [element/guard_ip4/tr-000000001001 . fa:16:3e:00:01:01 . 10.0.1.11]
    host1 host pass: the host answers this
    passes
    ");
}

#[test]
fn what_leaves_for_outside_leaves_under_the_host_s_address_unless_it_is_exempt() {
    let mut world = world(&[(1, 1)]);
    insta::assert_snapshot!(check(&world, &tcp(from(1, 1), "198.51.100.7", 443)), @"
    host1 sender pass: vm1 on network net1 sends it from 10.0.1.11, on host host1
    host1 guard pass: tr-000000001001 may send from 10.0.1.11 [element/guard_ip4/tr-000000001001 . fa:16:3e:00:01:01 . 10.0.1.11]
    host1 route routed: host host1 routes it outside, by eth0
    host1 egress pass: everything to anybody is allowed, by security group 00000000-0000-0000-0000-000000002001 [chain/from_1]
    host1 source_nat translated: 10.0.1.11 goes on as host host1's own address on eth0 [element/nat_source/10.0.1.0/24 . eth0]
    passes
    ");
    insta::assert_snapshot!(check(&world, &tcp(from(1, 1), "10.128.0.9", 443)), @"
    host1 sender pass: vm1 on network net1 sends it from 10.0.1.11, on host host1
    host1 guard pass: tr-000000001001 may send from 10.0.1.11 [element/guard_ip4/tr-000000001001 . fa:16:3e:00:01:01 . 10.0.1.11]
    host1 route routed: host host1 routes it outside, by eth0
    host1 egress pass: everything to anybody is allowed, by security group 00000000-0000-0000-0000-000000002001 [chain/from_1]
    host1 source_nat pass: 10.128.0.9 is exempt from source NAT [element/nat_exempt/10.0.1.0/24 . 10.128.0.0/24]
    passes
    ");
    world.put_floating_ip(floating(20, 1, 1));
    insta::assert_snapshot!(check(&world, &tcp(from(1, 1), "198.51.100.7", 443)), @"
    host1 sender pass: vm1 on network net1 sends it from 10.0.1.11, on host host1
    host1 guard pass: tr-000000001001 may send from 10.0.1.11 [element/guard_ip4/tr-000000001001 . fa:16:3e:00:01:01 . 10.0.1.11]
    host1 route routed: host host1 routes it outside, by eth0
    host1 egress pass: everything to anybody is allowed, by security group 00000000-0000-0000-0000-000000002001 [chain/from_1]
    host1 source_nat translated: 10.0.1.11 goes on as 203.0.113.20 [element/floating_from/10.0.1.11 . eth0]
    passes
    ");
    insta::assert_snapshot!(check(&single_host(), &tcp(from(1, 1), "198.51.100.7", 443)), @"
    host1 sender pass: vm1 on network net1 sends it from 10.0.1.11, on host host1
    host1 guard pass: tr-000000001001 may send from 10.0.1.11 [element/guard_ip4/tr-000000001001 . fa:16:3e:00:01:01 . 10.0.1.11]
    host1 egress pass: everything to anybody is allowed, by security group 00000000-0000-0000-0000-000000002001 [chain/from_1]
    host1 bridge pass: bridge br101 leads from host host1 to host host2 by eth1 [link/br101]
    host2 route routed: host host2 routes it outside, by eth0
    host2 source_nat translated: 10.0.1.11 goes on as host host2's own address on eth0 [element/nat_source/10.0.1.0/24 . eth0]
    passes
    ");
}

#[test]
fn networks_reach_each_other_within_a_project() {
    let mut world = world(&[(1, 1), (2, 1), (4, 1), (5, 1), (5, 2)]);
    insta::assert_snapshot!(check(&world, &tcp(from(1, 1), "10.0.4.11", 22)), @"
    host1 sender pass: vm1 on network net1 sends it from 10.0.1.11, on host host1
    host1 guard pass: tr-000000001001 may send from 10.0.1.11 [element/guard_ip4/tr-000000001001 . fa:16:3e:00:01:01 . 10.0.1.11]
    host1 route routed: host host1 routes it to network net4, on br104 [address/br104/10.0.4.1/24]
    host1 isolation drop: network net4 is reached from its own project's networks alone, not from network net1 [element/private/br104]
    dropped
    ");
    insta::assert_snapshot!(check(&world, &tcp(from(1, 1), "10.0.2.11", 22)), @"
    host1 sender pass: vm1 on network net1 sends it from 10.0.1.11, on host host1
    host1 guard pass: tr-000000001001 may send from 10.0.1.11 [element/guard_ip4/tr-000000001001 . fa:16:3e:00:01:01 . 10.0.1.11]
    host1 route routed: host host1 routes it to network net2, on br102 [address/br102/10.0.2.1/24]
    host1 isolation drop: network net1 does not reach network net2: they are not of one project [element/network/br102]
    dropped
    ");
    insta::assert_snapshot!(check(&world, &tcp(from(4, 1), "10.0.5.11", 22)), @"
    host1 sender pass: vm1 on network net4 sends it from 10.0.4.11, on host host1
    host1 guard pass: tr-000000004001 may send from 10.0.4.11 [element/guard_ip4/tr-000000004001 . fa:16:3e:00:04:01 . 10.0.4.11]
    host1 route routed: host host1 routes it to network net5, on br105 [address/br105/10.0.5.1/24]
    host1 isolation pass: network net4 reaches network net5: both are of one project [element/routed/br104 . br105]
    host1 egress pass: everything to anybody is allowed, by security group 00000000-0000-0000-0000-000000002001 [chain/from_1]
    host1 ingress pass: everything from members of security group 00000000-0000-0000-0000-000000002001 is allowed, by security group 00000000-0000-0000-0000-000000002001 [element/members4_1/10.0.4.11]
    host1 guard pass: tr-000000005001 is sent what is for 10.0.5.11 [element/guard_ip4/tr-000000005001 . fa:16:3e:00:05:01 . 10.0.5.11]
    host1 bridge pass: it is delivered to vm1, by tr-000000005001 [link/tr-000000005001]
    passes
    ");
    // A gateway that every host has does not speak to other hosts.
    world.put_interface(on(OTHER, interface(5, 1)));
    insta::assert_snapshot!(check(&world, &tcp(from(4, 1), "10.0.5.11", 22)), @"
    host1 sender pass: vm1 on network net4 sends it from 10.0.4.11, on host host1
    host1 guard pass: tr-000000004001 may send from 10.0.4.11 [element/guard_ip4/tr-000000004001 . fa:16:3e:00:04:01 . 10.0.4.11]
    host1 route routed: host host1 routes it to network net5, on br105 [address/br105/10.0.5.1/24]
    host1 isolation pass: network net4 reaches network net5: both are of one project [element/routed/br104 . br105]
    host1 egress pass: everything to anybody is allowed, by security group 00000000-0000-0000-0000-000000002001 [chain/from_1]
    host1 guard drop: vlan105 leads to hosts that have the same gateway: nothing of it passes there [element/shared_mac/vlan105 . fa:16:3e:ff:00:05]
    dropped
    ");
    for n in [4, 5] {
        world.put_network(Network { gateways: Gateways::One(Some(OTHER)), ..network(n) });
    }
    insta::assert_snapshot!(check(&world, &tcp(from(4, 1), "fd00:5::c", 22)), @"
    host1 sender pass: vm1 on network net4 sends it from fd00:4::b, on host host1
    host1 guard pass: tr-000000004001 may send from fd00:4::b [element/guard_ip6/tr-000000004001 . fa:16:3e:00:04:01 . fd00:4::b]
    host1 egress pass: everything to anybody is allowed, by security group 00000000-0000-0000-0000-000000002001 [chain/from_1]
    host1 ingress pass: everything from members of security group 00000000-0000-0000-0000-000000002001 is allowed, by security group 00000000-0000-0000-0000-000000002001 [element/members6_1/fd00:4::b]
    host1 bridge pass: bridge br104 leads from host host1 to host host2 by vlan104 [link/br104]
    host2 route routed: host host2 routes it to network net5, on br105 [address/br105/fd00:5::1/64]
    host2 isolation pass: network net4 reaches network net5: both are of one project [element/routed/br104 . br105]
    host2 bridge pass: bridge br105 leads from host host2 to host host1 by vlan105 [link/br105]
    host1 guard pass: tr-000000005002 is sent what is for fd00:5::c [element/guard_ip6/tr-000000005002 . fa:16:3e:00:05:02 . fd00:5::c]
    host1 egress pass: everything to anybody is allowed, by security group 00000000-0000-0000-0000-000000002001 [chain/from_1]
    host1 ingress pass: everything from members of security group 00000000-0000-0000-0000-000000002001 is allowed, by security group 00000000-0000-0000-0000-000000002001 [element/members6_1/fd00:4::b]
    host1 bridge pass: it is delivered to vm2, by tr-000000005002 [link/tr-000000005002]
    passes
    ");
}

#[test]
fn a_floating_ip_leads_to_its_instance_and_the_groups_there_decide() {
    let mut world = world(&[(1, 1), (1, 2)]);
    world.put_floating_ip(floating(20, 1, 1));
    insta::assert_snapshot!(check(&world, &tcp(outside(), "203.0.113.20", 22)), @"
    host1 route routed: it comes from outside to host host1, by eth0
    host1 destination_nat translated: floating IP 203.0.113.20 leads to 10.0.1.11 [element/floating_to/203.0.113.20]
    host1 route routed: host host1 routes it to network net1, on br101 [address/br101/10.0.1.1/24]
    host1 isolation pass: what is sent to a floating IP is let in
    host1 ingress drop: no rule of security group 00000000-0000-0000-0000-000000002001 allows it [chain/in_1]
    dropped
    ");
    world.put_security_group(open(2, ssh()));
    world.put_interface(held(&[1, 2], interface(1, 1)));
    insta::assert_snapshot!(check(&world, &tcp(outside(), "203.0.113.20", 22)), @"
    host1 route routed: it comes from outside to host host1, by eth0
    host1 destination_nat translated: floating IP 203.0.113.20 leads to 10.0.1.11 [element/floating_to/203.0.113.20]
    host1 route routed: host host1 routes it to network net1, on br101 [address/br101/10.0.1.1/24]
    host1 isolation pass: what is sent to a floating IP is let in
    host1 ingress pass: tcp 22 from anybody is allowed, by security group 00000000-0000-0000-0000-000000002002 [chain/to_2]
    host1 guard pass: tr-000000001001 is sent what is for 10.0.1.11 [element/guard_ip4/tr-000000001001 . fa:16:3e:00:01:01 . 10.0.1.11]
    host1 bridge pass: it is delivered to vm1, by tr-000000001001 [link/tr-000000001001]
    passes
    ");
    insta::assert_snapshot!(check(&world, &tcp(from(1, 2), "203.0.113.20", 22)), @"
    host1 sender pass: vm2 on network net1 sends it from 10.0.1.12, on host host1
    host1 guard pass: tr-000000001002 may send from 10.0.1.12 [element/guard_ip4/tr-000000001002 . fa:16:3e:00:01:02 . 10.0.1.12]
    host1 destination_nat translated: floating IP 203.0.113.20 leads to 10.0.1.11 [element/floating_to/203.0.113.20]
    host1 route routed: host host1 routes it to network net1, on br101 [address/br101/10.0.1.1/24]
    host1 isolation pass: what is sent to a floating IP is let in
    host1 egress pass: everything to anybody is allowed, by security group 00000000-0000-0000-0000-000000002001 [chain/from_1]
    host1 ingress pass: everything from members of security group 00000000-0000-0000-0000-000000002001 is allowed, by security group 00000000-0000-0000-0000-000000002001 [element/members4_1/10.0.1.12]
    host1 source_nat translated: 10.0.1.12 goes on as 10.0.1.1 [element/nat_local/10.0.1.0/24 . br101]
    host1 guard pass: tr-000000001001 is sent what is for 10.0.1.11 [element/guard_ip4/tr-000000001001 . fa:16:3e:00:01:01 . 10.0.1.11]
    host1 bridge pass: it is delivered to vm1, by tr-000000001001 [link/tr-000000001001]
    passes
    ");
    world.put_interface(on(OTHER, held(&[1, 2], interface(1, 1))));
    insta::assert_snapshot!(check(&world, &tcp(from(1, 2), "203.0.113.20", 22)), @"
    host1 sender pass: vm2 on network net1 sends it from 10.0.1.12, on host host1
    host1 guard pass: tr-000000001002 may send from 10.0.1.12 [element/guard_ip4/tr-000000001002 . fa:16:3e:00:01:02 . 10.0.1.12]
    host1 route routed: host host1 routes it outside, by eth0
    host1 egress pass: everything to anybody is allowed, by security group 00000000-0000-0000-0000-000000002001 [chain/from_1]
    host1 source_nat translated: 10.0.1.12 goes on as host host1's own address on eth0 [element/nat_source/10.0.1.0/24 . eth0]
    host2 route routed: it comes from outside to host host2, by eth0
    host2 destination_nat translated: floating IP 203.0.113.20 leads to 10.0.1.11 [element/floating_to/203.0.113.20]
    host2 route routed: host host2 routes it to network net1, on br101 [address/br101/10.0.1.1/24]
    host2 isolation pass: what is sent to a floating IP is let in
    host2 ingress pass: tcp 22 from anybody is allowed, by security group 00000000-0000-0000-0000-000000002002 [chain/to_2]
    host2 guard pass: tr-000000001001 is sent what is for 10.0.1.11 [element/guard_ip4/tr-000000001001 . fa:16:3e:00:01:01 . 10.0.1.11]
    host2 bridge pass: it is delivered to vm1, by tr-000000001001 [link/tr-000000001001]
    passes
    ");
    world.put_interface(Interface { attachment: None, ..interface(1, 1) });
    insta::assert_snapshot!(check(&world, &tcp(outside(), "203.0.113.20", 22)), @"
    - route drop: no host has floating IP 203.0.113.20: what it leads to is not plugged in
    dropped
    ");
    insta::assert_snapshot!(check(&world, &tcp(outside(), "203.0.113.99", 22)), @"
    - route drop: no host has 203.0.113.99, or leads to it
    dropped
    ");
}

#[test]
fn a_port_of_a_floating_ip_leads_to_one_of_an_instance_and_others_to_nothing() {
    let mut world = world(&[(1, 1)]);
    let interface = interface(1, 1);
    let to = Target { interface: interface.id, fixed: interface.addresses[0] };
    let forwards = vec![Forward { protocol: Protocol::Tcp, port: 2222, to, to_port: 22 }];
    let device = Some(link_name("eth3"));
    world.put_floating_ip(FloatingIp { device, target: None, forwards, ..floating(21, 1, 1) });
    world.put_security_group(open(2, ssh()));
    world.put_interface(held(&[2], interface));
    insta::assert_snapshot!(check(&world, &tcp(outside(), "203.0.113.21", 2222)), @"
    host1 route routed: it comes from outside to host host1, by eth3
    host1 destination_nat translated: floating IP 203.0.113.21 leads to 10.0.1.11, port 22 [element/forward_to/203.0.113.21 . tcp . 2222]
    host1 route routed: host host1 routes it to network net1, on br101 [address/br101/10.0.1.1/24]
    host1 isolation pass: what is sent to a floating IP is let in
    host1 ingress pass: tcp 22 from anybody is allowed, by security group 00000000-0000-0000-0000-000000002002 [chain/to_2]
    host1 guard pass: tr-000000001001 is sent what is for 10.0.1.11 [element/guard_ip4/tr-000000001001 . fa:16:3e:00:01:01 . 10.0.1.11]
    host1 bridge pass: it is delivered to vm1, by tr-000000001001 [link/tr-000000001001]
    passes
    ");
    insta::assert_snapshot!(check(&world, &tcp(outside(), "203.0.113.21", 22)), @"
    host1 route routed: it comes from outside to host host1, by eth3
    host1 host drop: it is for a floating IP, which leads to no instance for this [element/floating/203.0.113.21]
    dropped
    ");
}

#[test]
fn what_is_for_some_of_a_host_s_addresses_cannot_be_said_of_what_it_sends_from_one() {
    let mut world = world(&[(1, 1), (1, 2)]);
    world.put_floating_ip(floating(20, 1, 1));
    let named = Remote::Range("172.17.0.0/16".parse().unwrap());
    world.put_security_group(group(2, vec![rule(8, Direction::Ingress, ssh(), named)]));
    world.put_interface(on(OTHER, held(&[2], interface(1, 1))));
    insta::assert_snapshot!(check(&world, &tcp(from(1, 2), "203.0.113.20", 22)), @r#"
    host1 sender pass: vm2 on network net1 sends it from 10.0.1.12, on host host1
    host1 guard pass: tr-000000001002 may send from 10.0.1.12 [element/guard_ip4/tr-000000001002 . fa:16:3e:00:01:02 . 10.0.1.12]
    host1 route routed: host host1 routes it outside, by eth0
    host1 egress pass: everything to anybody is allowed, by security group 00000000-0000-0000-0000-000000002001 [chain/from_1]
    host1 source_nat translated: 10.0.1.12 goes on as host host1's own address on eth0 [element/nat_source/10.0.1.0/24 . eth0]
    host2 route routed: it comes from outside to host host2, by eth0
    host2 destination_nat translated: floating IP 203.0.113.20 leads to 10.0.1.11 [element/floating_to/203.0.113.20]
    host2 route routed: host host2 routes it to network net1, on br101 [address/br101/10.0.1.1/24]
    host2 isolation pass: what is sent to a floating IP is let in
    unknown: `meta nfproto ipv4 ct original ip saddr 172.17.0.0/16 meta l4proto 6 ct reply proto-src 22 counter meta mark set 0x7e570002 return comment "rule 8"` of chain to_2 on host host2 asks for an address that another host gave the packet, its own
    "#);
}

/// The commonest rule there is.
#[test]
fn who_is_not_known_is_anybody() {
    let mut world = world(&[(1, 1), (1, 2)]);
    world.put_floating_ip(floating(20, 1, 1));
    let anybody = Remote::Range("0.0.0.0/0".parse().unwrap());
    let of = |number: u32, ports: &str, remote| {
        let traffic = Traffic::Ports(IpProtocol::TCP, ports.parse().unwrap());
        rule(number, Direction::Ingress, traffic, remote)
    };
    let named = |range: &str| Remote::Range(range.parse().unwrap());
    world.put_interface(on(OTHER, held(&[2], interface(1, 1))));
    let mut passes = |own: &OwnAddresses, rules: Vec<trestle_core::world::Rule>| {
        world.put_security_group(group(2, rules));
        match explain(&world, own, &tcp(from(1, 2), "203.0.113.20", 80), 1_000).outcome {
            Outcome::Passes => "passes",
            Outcome::Dropped => "dropped",
            Outcome::Unknown(_) => "unknown",
        }
    };
    let unheard = &OwnAddresses::new();
    assert_eq!(passes(&own(), vec![of(8, "80", anybody)]), "passes");
    // Whether another rule may be about it does not matter then, nor where it is about something else.
    assert_eq!(passes(&own(), vec![of(8, "80", named("172.17.0.0/16")), of(9, "80", anybody)]), "passes");
    assert_eq!(passes(&own(), vec![of(8, "22", named("172.17.0.0/16"))]), "dropped");
    assert_eq!(passes(&own(), vec![of(8, "80", named("172.17.0.0/16"))]), "unknown");
    // The host has these of its own, whichever it takes.
    assert_eq!(passes(&own(), vec![of(8, "80", named("128.0.0.0/1"))]), "passes");
    assert_eq!(passes(&own(), vec![of(8, "80", named("10.0.0.0/8"))]), "dropped");
    assert_eq!(passes(unheard, vec![of(8, "80", anybody)]), "passes");
    assert_eq!(passes(unheard, vec![of(8, "80", named("10.0.0.0/8"))]), "unknown");
}

#[test]
fn a_guest_has_of_its_host_s_other_addresses_no_more_than_of_its_gateway() {
    let world = world(&[(1, 1)]);
    insta::assert_snapshot!(check(&world, &tcp(from(1, 1), "203.0.113.11", 2222)), @"
    host1 sender pass: vm1 on network net1 sends it from 10.0.1.11, on host host1
    host1 guard pass: tr-000000001001 may send from 10.0.1.11 [element/guard_ip4/tr-000000001001 . fa:16:3e:00:01:01 . 10.0.1.11]
    host1 host drop: instances have nothing of a host but DHCP, DNS and an echo
    dropped
    ");
    let dns = Packet { protocol: IpProtocol::UDP, ..tcp(from(1, 1), "203.0.113.11", 53) };
    insta::assert_snapshot!(check(&world, &dns), @"
    host1 sender pass: vm1 on network net1 sends it from 10.0.1.11, on host host1
    host1 guard pass: tr-000000001001 may send from 10.0.1.11 [element/guard_ip4/tr-000000001001 . fa:16:3e:00:01:01 . 10.0.1.11]
    host1 host drop: instances have nothing of a host but DHCP, DNS and an echo
    dropped
    ");
    insta::assert_snapshot!(check(&world, &echo(from(1, 1), "203.0.113.11")), @"
    host1 sender pass: vm1 on network net1 sends it from 10.0.1.11, on host host1
    host1 guard pass: tr-000000001001 may send from 10.0.1.11 [element/guard_ip4/tr-000000001001 . fa:16:3e:00:01:01 . 10.0.1.11]
    host1 host pass: the host answers this
    passes
    ");
    // Another host's is outside, and so is what no host has.
    insta::assert_snapshot!(check(&world, &tcp(from(1, 1), "203.0.113.12", 2222)), @"
    host1 sender pass: vm1 on network net1 sends it from 10.0.1.11, on host host1
    host1 guard pass: tr-000000001001 may send from 10.0.1.11 [element/guard_ip4/tr-000000001001 . fa:16:3e:00:01:01 . 10.0.1.11]
    host1 route routed: host host1 routes it outside, by eth0
    host1 egress pass: everything to anybody is allowed, by security group 00000000-0000-0000-0000-000000002001 [chain/from_1]
    host1 source_nat translated: 10.0.1.11 goes on as host host1's own address on eth0 [element/nat_source/10.0.1.0/24 . eth0]
    passes
    ");
    insta::assert_snapshot!(check(&world, &echo(from(1, 1), "127.0.0.1")), @"
    host1 sender drop: 127.0.0.1 is its own: it does not leave the instance
    dropped
    ");
    let unheard = explain(&world, &OwnAddresses::new(), &tcp(from(1, 1), "203.0.113.11", 2222), 1_000);
    let Outcome::Unknown(problem) = unheard.outcome else { panic!("{unheard:#?}") };
    insta::assert_snapshot!(problem, @"host host1 has not told which addresses are its own: if 203.0.113.11 is one, its instances have nothing of it but an echo");
}

#[test]
fn a_host_reaches_its_instances_whatever_the_groups_say() {
    let mut world = world(&[(1, 1), (4, 1)]);
    let host = Sender::Host(HOST, address("203.0.113.11"));
    world.put_interface(held(&[], interface(1, 1)));
    insta::assert_snapshot!(check(&world, &echo(host, "10.0.1.11")), @"
    host1 sender pass: host host1 itself sends it from 203.0.113.11, held to no security group there
    host1 route routed: host host1 routes it to network net1, on br101 [address/br101/10.0.1.1/24]
    host1 guard pass: tr-000000001001 is sent what is for 10.0.1.11 [element/guard_ip4/tr-000000001001 . fa:16:3e:00:01:01 . 10.0.1.11]
    host1 bridge pass: it is delivered to vm1, by tr-000000001001 [link/tr-000000001001]
    passes
    ");
    world.put_floating_ip(floating(20, 1, 1));
    insta::assert_snapshot!(check(&world, &echo(host, "203.0.113.20")), @"
    host1 sender pass: host host1 itself sends it from 203.0.113.11, held to no security group there
    host1 destination_nat translated: floating IP 203.0.113.20 leads to 10.0.1.11 [element/floating_to/203.0.113.20]
    host1 route routed: host host1 routes it to network net1, on br101 [address/br101/10.0.1.1/24]
    host1 guard pass: tr-000000001001 is sent what is for 10.0.1.11 [element/guard_ip4/tr-000000001001 . fa:16:3e:00:01:01 . 10.0.1.11]
    host1 bridge pass: it is delivered to vm1, by tr-000000001001 [link/tr-000000001001]
    passes
    ");
    insta::assert_snapshot!(check(&world, &echo(host, "203.0.113.11")), @"
    host1 sender pass: host host1 itself sends it from 203.0.113.11, held to no security group there
    host1 host pass: it does not leave host host1
    passes
    ");
    // On another host they are asked.
    world.put_interface(on(OTHER, held(&[], interface(1, 1))));
    insta::assert_snapshot!(check(&world, &echo(host, "10.0.1.11")), @"
    host1 sender pass: host host1 itself sends it from 203.0.113.11, held to no security group there
    host1 route routed: host host1 routes it outside, by eth0
    host2 route routed: it comes from outside to host host2, by eth0
    host2 route routed: host host2 routes it to network net1, on br101 [address/br101/10.0.1.1/24]
    host2 ingress drop: it is in no security group, so nothing passes [chain/in_nothing]
    dropped
    ");
    insta::assert_snapshot!(check(&world, &echo(host, "203.0.113.20")), @"
    host1 sender pass: host host1 itself sends it from 203.0.113.11, held to no security group there
    host1 route routed: host host1 routes it outside, by eth0
    host2 route routed: it comes from outside to host host2, by eth0
    host2 destination_nat translated: floating IP 203.0.113.20 leads to 10.0.1.11 [element/floating_to/203.0.113.20]
    host2 route routed: host host2 routes it to network net1, on br101 [address/br101/10.0.1.1/24]
    host2 isolation pass: what is sent to a floating IP is let in
    host2 ingress drop: it is in no security group, so nothing passes [chain/in_nothing]
    dropped
    ");
}

#[test]
fn users_of_a_vpn_and_its_network_reach_each_other() {
    let mut world = world(&[(4, 1), (5, 1)]);
    let addresses = ["10.0.4.4", "10.0.4.6", "10.0.4.7"].map(address);
    let server = Interface {
        addresses: addresses.into_iter().rev().collect(),
        hostname: "vpn1".parse().unwrap(),
        ..interface(4, 9)
    };
    let user = |address| VpnUser { address, public_key: None };
    world.put_vpn(Vpn {
        project: PROJECT,
        name: "vpn1".parse().unwrap(),
        kind: VpnKind::OpenVpn,
        interface: server.id,
        address: addresses[0],
        identity: Default::default(),
        endpoint: None,
        users: [("alice", addresses[1]), ("bob", addresses[2])]
            .map(|(name, address)| (name.parse().unwrap(), user(address)))
            .into(),
    });
    world.put_interface(server.clone());
    let alice = Sender::Interface(server.id, Some(addresses[1]));
    let itself = explain(&world, &own(), &tcp(from(4, 9), "10.0.4.11", 22), 1_000);
    assert!(itself.stages[0].reason.contains("sends it from 10.0.4.4"), "{itself:#?}");
    insta::assert_snapshot!(check(&world, &tcp(alice, "10.0.4.11", 22)), @"
    host1 sender pass: vpn1 on network net4 sends it from 10.0.4.6, on host host1
    host1 guard pass: tr-000000004009 may send from 10.0.4.6 [element/guard_ip4/tr-000000004009 . fa:16:3e:00:04:09 . 10.0.4.6]
    host1 guard pass: tr-000000004001 is sent what is for 10.0.4.11 [element/guard_ip4/tr-000000004001 . fa:16:3e:00:04:01 . 10.0.4.11]
    host1 isolation pass: network net4 reaches itself [element/routed/br104 . br104]
    host1 egress pass: everything to anybody is allowed, by security group 00000000-0000-0000-0000-000000002001 [chain/from_1]
    host1 ingress pass: everything from members of security group 00000000-0000-0000-0000-000000002001 is allowed, by security group 00000000-0000-0000-0000-000000002001 [element/members4_1/10.0.4.6]
    host1 bridge pass: it is delivered to vm1, by tr-000000004001 [link/tr-000000004001]
    passes
    ");
    insta::assert_snapshot!(check(&world, &tcp(from(4, 1), "10.0.4.6", 22)), @"
    host1 sender pass: vm1 on network net4 sends it from 10.0.4.11, on host host1
    host1 guard pass: tr-000000004001 may send from 10.0.4.11 [element/guard_ip4/tr-000000004001 . fa:16:3e:00:04:01 . 10.0.4.11]
    host1 guard pass: tr-000000004009 is sent what is for 10.0.4.6 [element/guard_ip4/tr-000000004009 . fa:16:3e:00:04:09 . 10.0.4.6]
    host1 isolation pass: network net4 reaches itself [element/routed/br104 . br104]
    host1 egress pass: everything to anybody is allowed, by security group 00000000-0000-0000-0000-000000002001 [chain/from_1]
    host1 ingress pass: everything from members of security group 00000000-0000-0000-0000-000000002001 is allowed, by security group 00000000-0000-0000-0000-000000002001 [element/members4_1/10.0.4.11]
    host1 bridge pass: it is delivered to vpn1, by tr-000000004009 [link/tr-000000004009]
    passes
    ");
    insta::assert_snapshot!(check(&world, &tcp(alice, "10.0.4.7", 22)), @"
    host1 sender drop: 10.0.4.6 and 10.0.4.7 are users of VPN vpn1, which do not reach each other
    dropped
    ");
    insta::assert_snapshot!(check(&world, &tcp(alice, "10.0.4.4", 22)), @"
    host1 sender drop: 10.0.4.4 is VPN vpn1 itself, of which its users have nothing
    dropped
    ");
    insta::assert_snapshot!(check(&world, &tcp(alice, "10.0.5.11", 22)), @"
    host1 sender pass: vpn1 on network net4 sends it from 10.0.4.6, on host host1
    host1 guard drop: VPN vpn1 leads its users to network net4, nowhere else
    dropped
    ");
    insta::assert_snapshot!(check(&world, &tcp(from(5, 1), "10.0.4.6", 22)), @"
    host1 sender pass: vm1 on network net5 sends it from 10.0.5.11, on host host1
    host1 guard pass: tr-000000005001 may send from 10.0.5.11 [element/guard_ip4/tr-000000005001 . fa:16:3e:00:05:01 . 10.0.5.11]
    host1 route routed: host host1 routes it to network net4, on br104 [address/br104/10.0.4.1/24]
    host1 isolation pass: network net5 reaches network net4: both are of one project [element/routed/br105 . br104]
    host1 egress pass: everything to anybody is allowed, by security group 00000000-0000-0000-0000-000000002001 [chain/from_1]
    host1 ingress pass: everything from members of security group 00000000-0000-0000-0000-000000002001 is allowed, by security group 00000000-0000-0000-0000-000000002001 [element/members4_1/10.0.5.11]
    host1 guard pass: tr-000000004009 is sent what is for 10.0.4.6 [element/guard_ip4/tr-000000004009 . fa:16:3e:00:04:09 . 10.0.4.6]
    host1 guard drop: users of VPN vpn1 are reached from network net4 alone
    dropped
    ");
    insta::assert_snapshot!(check(&world, &tcp(from(4, 1), "10.0.4.4", 22)), @"
    host1 sender pass: vm1 on network net4 sends it from 10.0.4.11, on host host1
    host1 guard pass: tr-000000004001 may send from 10.0.4.11 [element/guard_ip4/tr-000000004001 . fa:16:3e:00:04:01 . 10.0.4.11]
    host1 guard pass: tr-000000004009 is sent what is for 10.0.4.4 [element/guard_ip4/tr-000000004009 . fa:16:3e:00:04:09 . 10.0.4.4]
    host1 isolation pass: network net4 reaches itself [element/routed/br104 . br104]
    host1 egress pass: everything to anybody is allowed, by security group 00000000-0000-0000-0000-000000002001 [chain/from_1]
    host1 ingress pass: everything from members of security group 00000000-0000-0000-0000-000000002001 is allowed, by security group 00000000-0000-0000-0000-000000002001 [element/members4_1/10.0.4.11]
    host1 guard drop: VPN vpn1 itself has nothing but its server and an echo
    dropped
    ");
    insta::assert_snapshot!(check(&world, &echo(from(4, 1), "10.0.4.4")), @"
    host1 sender pass: vm1 on network net4 sends it from 10.0.4.11, on host host1
    host1 guard pass: tr-000000004001 may send from 10.0.4.11 [element/guard_ip4/tr-000000004001 . fa:16:3e:00:04:01 . 10.0.4.11]
    host1 guard pass: tr-000000004009 is sent what is for 10.0.4.4 [element/guard_ip4/tr-000000004009 . fa:16:3e:00:04:09 . 10.0.4.4]
    host1 isolation pass: network net4 reaches itself [element/routed/br104 . br104]
    host1 egress pass: everything to anybody is allowed, by security group 00000000-0000-0000-0000-000000002001 [chain/from_1]
    host1 ingress pass: everything from members of security group 00000000-0000-0000-0000-000000002001 is allowed, by security group 00000000-0000-0000-0000-000000002001 [element/members4_1/10.0.4.11]
    host1 bridge pass: it is delivered to vpn1, by tr-000000004009 [link/tr-000000004009]
    passes
    ");
}

#[test]
fn a_flat_network_s_router_is_not_trestle_s() {
    let world = world(&[(6, 1), (6, 2)]);
    insta::assert_snapshot!(check(&world, &tcp(from(6, 1), "10.0.6.12", 22)), @"
    host1 sender pass: vm1 on network net6 sends it from 10.0.6.11, on host host1
    host1 guard pass: tr-000000006001 may send from 10.0.6.11 [element/guard_ip4/tr-000000006001 . fa:16:3e:00:06:01 . 10.0.6.11]
    host1 guard pass: tr-000000006002 is sent what is for 10.0.6.12 [element/guard_ip4/tr-000000006002 . fa:16:3e:00:06:02 . 10.0.6.12]
    host1 egress pass: everything to anybody is allowed, by security group 00000000-0000-0000-0000-000000002001 [chain/from_1]
    host1 ingress pass: everything from members of security group 00000000-0000-0000-0000-000000002001 is allowed, by security group 00000000-0000-0000-0000-000000002001 [element/members4_1/10.0.6.11]
    host1 bridge pass: it is delivered to vm2, by tr-000000006002 [link/tr-000000006002]
    passes
    ");
    insta::assert_snapshot!(check(&world, &tcp(from(6, 1), "198.51.100.7", 22)), @"
    host1 sender pass: vm1 on network net6 sends it from 10.0.6.11, on host host1
    host1 guard pass: tr-000000006001 may send from 10.0.6.11 [element/guard_ip4/tr-000000006001 . fa:16:3e:00:06:01 . 10.0.6.11]
    host1 egress pass: everything to anybody is allowed, by security group 00000000-0000-0000-0000-000000002001 [chain/from_1]
    host1 route routed: it leaves for 10.0.6.1, the router of network net6, which is not Trestle's
    passes
    ");
    insta::assert_snapshot!(check(&world, &tcp(outside(), "10.0.6.11", 22)), @"
    host1 route routed: it comes to host host1 by bridge docker0
    host1 guard pass: tr-000000006001 is sent what is for 10.0.6.11 [element/guard_ip4/tr-000000006001 . fa:16:3e:00:06:01 . 10.0.6.11]
    host1 ingress drop: no rule of security group 00000000-0000-0000-0000-000000002001 allows it [chain/in_1]
    dropped
    ");
}
