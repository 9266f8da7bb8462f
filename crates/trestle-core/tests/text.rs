//! Compiles and plans as an operator reads them.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::collections::BTreeMap;

use common::{
    HOST, OTHER, at, converge, fresh_state, host, interface, lines, link_name, metadata_service, network,
    spec, world, world_with,
};
use trestle_core::compile::compile;
use trestle_core::plan::{Plan, plan, reads};
use trestle_core::spec::{HostSpec, Key, LinkMac, Object, Set, Table};
use trestle_core::state::HostState;
use trestle_core::types::{METADATA_ADDRESS, Mac, Mtu, Name, ProjectId, Protocol, VpnEndpoint, VpnKind};
use trestle_core::world::{
    Attachment, FloatingIp, Forward, Gateways, Host, Interface, Network, Plug, RoutingSourceIp, Target, Vpn,
    VpnUser, World,
};

#[test]
fn the_first_instance_brings_everything_it_needs() {
    let spec = spec(&world(&[(1, 0)]));
    insta::assert_snapshot!(lines(spec.objects.keys()), @"
    sysctl/net.ipv4.ip_forward
    ruleset/guard
    ruleset/gateway
    ruleset/claims
    ruleset/groups
    set/members4_1
    set/members6_1
    chain/from_1
    chain/in_1
    chain/out_1
    chain/to_1
    element/guard_mac/tr-000000001000 . fa:16:3e:00:01:00
    element/guard_ip4/tr-000000001000 . fa:16:3e:00:01:00 . 10.0.1.10
    element/guard_hardware/tr-000000001000 . 0xfa163e000100
    element/heard_by/tr-000000001000
    element/shared_uplink/eth1
    element/shared_mac/eth1 . fa:16:3e:ff:00:01
    element/shared_ip4/eth1 . 10.0.1.1
    element/network/br101
    element/routed/br101 . br101
    element/nat_source/10.0.1.0/24 . eth0
    element/nat_exempt/10.0.1.0/24 . 10.128.0.0/24
    element/nat_local/10.0.1.0/24 . br101
    element/subnet4/10.0.1.0/24
    element/home4/10.0.1.0/24 . br101
    element/groups4/10.0.1.10
    element/egress/2387853312
    element/ingress/2387853312
    element/served4/br101 . 10.0.1.1
    element/members4_1/10.0.1.10
    link/br101
    link/tr-000000001000
    bridge-filter/br101
    device/eth0
    uplink/eth1
    address/br101/10.0.1.1/24
    station/br101/fa:16:3e:00:01:00
    dhcp-host/net1/fa:16:3e:00:01:00
    dns-name/net1/vm0.trestle.internal
    dnsmasq/net1
    ");
    insta::assert_snapshot!(lines(plan(&spec, &fresh_state()).steps), @"
    set net.ipv4.ip_forward to 1
    load table guard
    load table gateway
    load table claims
    load table groups
    make set members4_1
    make set members6_1
    load chain from_1
    load chain in_1
    load chain out_1
    load chain to_1
    add tr-000000001000 . fa:16:3e:00:01:00 to guard_mac
    add tr-000000001000 . fa:16:3e:00:01:00 . 10.0.1.10 to guard_ip4
    add tr-000000001000 . 0xfa163e000100 to guard_hardware
    add tr-000000001000 : 2387853312 to heard_by
    add eth1 to shared_uplink
    add eth1 . fa:16:3e:ff:00:01 to shared_mac
    add eth1 . 10.0.1.1 to shared_ip4
    add br101 to network
    add br101 . br101 to routed
    add 10.0.1.0/24 . eth0 to nat_source
    add 10.0.1.0/24 . 10.128.0.0/24 to nat_exempt
    add 10.0.1.0/24 . br101 to nat_local
    add 10.0.1.0/24 to subnet4
    add 10.0.1.0/24 . br101 to home4
    add 10.0.1.10 : 2387853312 to groups4
    add 2387853312 : jump out_1 to egress
    add 2387853312 : jump in_1 to ingress
    add br101 . 10.0.1.1 to served4
    add 10.0.1.10 to members4_1
    hold every connection to its security groups once more
    make bridge br101 with MAC 02:00:00:00:00:03, MTU 1500
    filter what is bridged on br101
    enslave eth1 to br101
    copy address 192.168.5.10/24 from eth1 to br101
    move route 0.0.0.0/0/192.168.5.1/100 from eth1 to br101
    drop address 192.168.5.10/24 from eth1
    add address 10.0.1.1/24 to br101
    write DHCP entry of fa:16:3e:00:01:00 on net1: 10.0.1.10, vm0
    write DNS name vm0.trestle.internal on net1: 10.0.1.10
    start dnsmasq of net1 on br101
    make tap tr-000000001000
    hold fa:16:3e:00:01:00 fast at tr-000000001000 of br101 and announce it
    ");
}

#[test]
fn a_vlan_network_is_a_bridge_on_a_vlan_that_nobody_outside_reaches() {
    let spec = spec(&world(&[(4, 0)]));
    insta::assert_snapshot!(lines(plan(&spec, &fresh_state()).steps), @"
    set net.ipv4.ip_forward to 1
    set net.ipv6.conf.all.forwarding to 1
    set net.ipv6.conf.eth0.accept_ra to 2
    load table guard
    load table gateway
    load table claims
    load table groups
    make set members4_1
    make set members6_1
    load chain from_1
    load chain in_1
    load chain out_1
    load chain to_1
    add tr-000000004000 . fa:16:3e:00:04:00 to guard_mac
    add tr-000000004000 . fa:16:3e:00:04:00 . 10.0.4.10 to guard_ip4
    add tr-000000004000 . fa:16:3e:00:04:00 . fd00:4::a to guard_ip6
    add tr-000000004000 . fa:16:3e:00:04:00 . fe80::f816:3eff:fe00:400 to guard_ip6
    add tr-000000004000 . fa:16:3e:00:04:00 . 0xfd00000400000000000000000000000a to guard_nd
    add tr-000000004000 . fa:16:3e:00:04:00 . 0xfe80000000000000f8163efffe000400 to guard_nd
    add tr-000000004000 . 0xfa163e000400 to guard_hardware
    add tr-000000004000 : 2387853312 to heard_by
    add vlan104 to shared_uplink
    add vlan104 . fa:16:3e:ff:00:04 to shared_mac
    add vlan104 . 10.0.4.1 to shared_ip4
    add vlan104 . fd00:4::1 to shared_ip6
    add vlan104 . fe80::f816:3eff:feff:4 to shared_ip6
    add vlan104 . 0xfd000004000000000000000000000001 to shared_nd
    add vlan104 . 0xfe80000000000000f8163efffeff0004 to shared_nd
    add br104 to network
    add br104 to private
    add br104 . br104 to routed
    add 10.0.4.0/24 . eth0 to nat_source
    add 10.0.4.0/24 . 10.128.0.0/24 to nat_exempt
    add 10.0.4.0/24 . br104 to nat_local
    add fd00:4::/64 . br104 to nat_local6
    add 10.0.4.0/24 to subnet4
    add fd00:4::/64 to subnet6
    add 10.0.4.0/24 . br104 to home4
    add fd00:4::/64 . br104 to home6
    add 10.0.4.10 : 2387853312 to groups4
    add fd00:4::a : 2387853312 to groups6
    add fe80::f816:3eff:fe00:400 : 2387853312 to groups6
    add 2387853312 : jump out_1 to egress
    add 2387853312 : jump in_1 to ingress
    add br104 . 10.0.4.1 to served4
    add br104 . fd00:4::1 to served6
    add br104 . fe80::f816:3eff:feff:4 to served6
    add 10.0.4.10 to members4_1
    add fd00:4::a to members6_1
    add fe80::f816:3eff:fe00:400 to members6_1
    hold every connection to its security groups once more
    make bridge br104 with MAC fa:16:3e:ff:00:04, MTU 1500
    filter what is bridged on br104
    make VLAN 104 of eth3 as vlan104
    add address 10.0.4.1/24 to br104
    add address fd00:4::1/64 to br104
    write DHCP entry of fa:16:3e:00:04:00 on net4: 10.0.4.10, vm0
    write DHCP entry of fd00:4::a on net4: fa:16:3e:00:04:00, vm0
    write DNS name vm0.trestle.internal on net4: 10.0.4.10, fd00:4::a
    start dnsmasq of net4 on br104
    make tap tr-000000004000
    hold fa:16:3e:00:04:00 fast at tr-000000004000 of br104 and announce it
    ");
}

#[test]
fn a_flat_network_is_a_port_of_the_administrator_s_bridge() {
    let spec = spec(&world(&[(6, 0)]));
    insta::assert_snapshot!(lines(plan(&spec, &fresh_state()).steps), @"
    load table guard
    load table groups
    make set members4_1
    make set members6_1
    load chain from_1
    load chain in_1
    load chain out_1
    load chain to_1
    add tr-000000006000 . fa:16:3e:00:06:00 to guard_mac
    add tr-000000006000 . fa:16:3e:00:06:00 . 10.0.6.10 to guard_ip4
    add tr-000000006000 . 0xfa163e000600 to guard_hardware
    add tr-000000006000 : 2387853312 to heard_by
    add 10.0.6.10 : 2387853312 to groups4
    add 2387853312 : jump out_1 to egress
    add 2387853312 : jump in_1 to ingress
    add 10.0.6.10 to members4_1
    hold every connection to its security groups once more
    filter what is bridged on docker0
    make tap tr-000000006000
    hold fa:16:3e:00:06:00 fast at tr-000000006000 of docker0 and announce it
    ");
    let mut without = fresh_state();
    without.objects.remove(&Key::Link(common::link_name("docker0")));
    let problems = plan(&spec, &without).problems;
    let problems = problems.iter().map(|p| format!("{} {:?}: {}", p.key, p.code, p.detail));
    insta::assert_snapshot!(lines(problems), @"
    link/tr-000000006000 Blocked: the bridge docker0 does not exist on this host; make it, a flat network's is not made by Trestle
    bridge-filter/docker0 Blocked: the bridge docker0 does not exist on this host; make it, a flat network's is not made by Trestle
    device/docker0 InterfaceMissing: the device docker0 does not exist on this host; make it, or name another with `trestle host set`
    station/docker0/fa:16:3e:00:06:00 Blocked: the bridge docker0 does not exist on this host; make it, a flat network's is not made by Trestle
    ");
}

#[test]
fn a_single_host_network_has_its_gateway_on_one_host_alone() {
    let mut world = world(&[(1, 0)]);
    world.put_network(Network { gateways: Gateways::One(Some(OTHER)), ..network(1) });
    insta::assert_snapshot!(lines(compile(&world, HOST).keys()), @"
    ruleset/guard
    ruleset/groups
    set/members4_1
    set/members6_1
    chain/from_1
    chain/in_1
    chain/out_1
    chain/to_1
    element/guard_mac/tr-000000001000 . fa:16:3e:00:01:00
    element/guard_ip4/tr-000000001000 . fa:16:3e:00:01:00 . 10.0.1.10
    element/guard_hardware/tr-000000001000 . 0xfa163e000100
    element/heard_by/tr-000000001000
    element/groups4/10.0.1.10
    element/egress/2387853312
    element/ingress/2387853312
    element/served4/br101 . 10.0.1.1
    element/members4_1/10.0.1.10
    link/br101
    link/tr-000000001000
    bridge-filter/br101
    uplink/eth1
    station/br101/fa:16:3e:00:01:00
    ");
    insta::assert_snapshot!(lines(compile(&world, OTHER).keys()), @"
    sysctl/net.ipv4.ip_forward
    ruleset/guard
    ruleset/gateway
    ruleset/claims
    ruleset/groups
    element/network/br101
    element/routed/br101 . br101
    element/nat_source/10.0.1.0/24 . eth0
    element/nat_exempt/10.0.1.0/24 . 10.128.0.0/24
    element/nat_local/10.0.1.0/24 . br101
    element/subnet4/10.0.1.0/24
    element/home4/10.0.1.0/24 . br101
    element/remote4/10.0.1.10
    element/served4/br101 . 10.0.1.1
    link/br101
    device/eth0
    uplink/eth1
    address/br101/10.0.1.1/24
    dhcp-host/net1/fa:16:3e:00:01:00
    dns-name/net1/vm0.trestle.internal
    dnsmasq/net1
    ");
    let bridge = Key::Link(network(1).bridge);
    let mac = |host| match compile(&world, host).remove(&bridge) {
        Some(Object::Link(link)) => link.mac,
        other => panic!("no bridge but {other:?}"),
    };
    assert_eq!(mac(HOST), Some(LinkMac::Of(common::link_name("eth1"))));
    let gateway = LinkMac::Gateway { mac: network(1).bridge_mac, uplink: common::link_name("eth1") };
    assert_eq!(mac(OTHER), Some(gateway));
}

#[test]
fn what_is_prepared_for_a_move_is_all_but_where_the_guest_is_found() {
    let mut world = world(&[(1, 0)]);
    let here = compile(&world, HOST);
    let prepared = Interface { attachment: Some(at(OTHER)), moving_to: Some(at(HOST)), ..interface(1, 0) };
    world.put_interface(prepared);
    let prepared = compile(&world, HOST);
    let missing = here.keys().filter(|key| !prepared.contains_key(key));
    assert_eq!(lines(missing), "station/br101/fa:16:3e:00:01:00");
    assert!(prepared.keys().all(|key| here.contains_key(key)));

    let plug = Plug::Veth { netns: "/run/netns/next".to_owned(), name: common::link_name("eth0") };
    let moving_to = Some(Attachment { host: HOST, plug });
    world.put_interface(Interface { attachment: Some(at(OTHER)), moving_to, ..interface(1, 0) });
    let silent = compile(&world, HOST);
    let guard = |key: &&Key| matches!(key, Key::Element(Set::GuardMac | Set::GuardIp4, _));
    assert_eq!(silent.keys().filter(guard).count(), 0, "a guest's end that is not run yet says nothing");
}

#[test]
fn who_asks_for_metadata_is_known_where_its_gateway_is() {
    let mut world = world_with(Some(metadata_service()), &[(1, 0), (2, 0)]);
    world.put_network(Network { gateways: Gateways::One(Some(OTHER)), ..network(2) });
    let is_metadata = |key: &&Key| key.to_string().contains("metadata");
    let objects = compile(&world, HOST);
    insta::assert_snapshot!(lines(objects.keys().filter(is_metadata)), @"
    element/metadata/br101 . fa:16:3e:00:01:00 . 10.0.1.10
    element/metadata_port/7118
    element/metadata_from/br101
    element/metadata_from/br102
    metadata/10.0.1.10
    metadata-proxy/7118
    ");
    let objects = compile(&world, OTHER);
    insta::assert_snapshot!(lines(objects.keys().filter(is_metadata)), @"
    element/metadata/br102 . fa:16:3e:00:02:00 . 10.0.2.10
    element/metadata_port/7118
    element/metadata_from/br102
    metadata/10.0.2.10
    metadata-proxy/7118
    ");
}

#[test]
fn an_address_that_is_another_instance_s_from_now_on_is_nobody_s_in_between() {
    let mut world = world_with(Some(metadata_service()), &[(1, 0)]);
    let mut state = fresh_state();
    converge(&spec(&world), &mut state);
    let heir = Interface { addresses: interface(1, 0).addresses, ..interface(1, 1) };
    world.remove_interface(interface(1, 0).id);
    world.put_interface(heir);
    let steps = lines(plan(&spec(&world), &state).steps);
    let is_metadata = |line: &&str| line.contains("metadata");
    insta::assert_snapshot!(lines(steps.lines().filter(is_metadata)), @"
    forget who asks for metadata from 10.0.1.10
    add br101 . fa:16:3e:00:01:01 . 10.0.1.10 : 10.0.1.1 . 7118 to metadata
    delete br101 . fa:16:3e:00:01:00 . 10.0.1.10 : 10.0.1.1 . 7118 from metadata
    answer for the metadata of instance 00000000-0000-0000-0000-000000000001 at 10.0.1.10
    ");
}

#[test]
fn the_tables_are_about_the_address_that_is_said() {
    let text = trestle_core::render::ruleset(Table::Gateway);
    assert!(text.contains(&format!("ip daddr {METADATA_ADDRESS} tcp dport 80 dnat ")), "{text}");
}

#[test]
fn two_networks_of_a_project_reach_each_other_and_those_of_two_do_not() {
    let routed = |world: &World| {
        let keys = compile(world, HOST);
        lines(keys.keys().filter(|key| matches!(key, Key::Element(Set::Routed, _))))
    };
    let mut world = world(&[(4, 0), (5, 0)]);
    insta::assert_snapshot!(routed(&world), @"
    element/routed/br104 . br104
    element/routed/br104 . br105
    element/routed/br105 . br104
    element/routed/br105 . br105
    ");
    world.put_network(Network { project: Some(ProjectId(uuid::Uuid::from_u128(99))), ..network(5) });
    insta::assert_snapshot!(routed(&world), @"
    element/routed/br104 . br104
    element/routed/br105 . br105
    ");
}

#[test]
fn one_more_instance_costs_eleven_steps() {
    let mut state = fresh_state();
    converge(&spec(&world(&[(1, 0)])), &mut state);
    insta::assert_snapshot!(lines(plan(&spec(&world(&[(1, 0), (1, 1)])), &state).steps), @"
    add tr-000000001001 . fa:16:3e:00:01:01 to guard_mac
    add tr-000000001001 . fa:16:3e:00:01:01 . 10.0.1.11 to guard_ip4
    add tr-000000001001 . 0xfa163e000101 to guard_hardware
    add tr-000000001001 : 2387853312 to heard_by
    add 10.0.1.11 : 2387853312 to groups4
    add 10.0.1.11 to members4_1
    hold every connection to its security groups once more
    write DHCP entry of fa:16:3e:00:01:01 on net1: 10.0.1.11, vm1
    write DNS name vm1.trestle.internal on net1: 10.0.1.11
    make tap tr-000000001001
    hold fa:16:3e:00:01:01 fast at tr-000000001001 of br101 and announce it
    ");
}

#[test]
fn the_last_instance_takes_everything_away() {
    let mut state = fresh_state();
    converge(&spec(&world(&[(1, 0)])), &mut state);
    insta::assert_snapshot!(lines(plan(&HostSpec::default(), &state).steps), @"
    delete device tr-000000001000
    let br101 learn where fa:16:3e:00:01:00 is
    delete DHCP entry of fa:16:3e:00:01:00 on net1
    delete DNS name vm0.trestle.internal on net1
    reload DHCP entries of net1
    stop dnsmasq of net1
    forget leases of net1
    copy address 192.168.5.10/24 from br101 to eth1
    move route 0.0.0.0/0/192.168.5.1/100 from br101 to eth1
    drop address 192.168.5.10/24 from br101
    take eth1 out of its bridge
    delete address 10.0.1.1/24 from br101
    delete bridge br101
    delete table guard
    delete table gateway
    delete table claims
    delete table groups
    ");
}

/// What is to be done, and cannot be, after a VLAN network that stands has another MTU.
fn plan_with_mtu(mtu: Mtu) -> Plan {
    let mut world = world(&[(4, 0)]);
    let mut state = fresh_state();
    converge(&spec(&world), &mut state);
    world.put_network(Network { mtu, ..network(4) });
    plan(&spec(&world), &state)
}

#[test]
fn another_mtu_changes_devices_where_they_are_and_starts_dnsmasq_anew() {
    let plan = plan_with_mtu(Mtu::try_from(1400).unwrap());
    assert!(plan.problems.is_empty(), "{:?}", plan.problems);
    insta::assert_snapshot!(lines(plan.steps), @"
    stop dnsmasq of net4
    set br104 to MTU 1400
    set tr-000000004000 to MTU 1400
    set vlan104 to MTU 1400
    start dnsmasq of net4 on br104
    ");
}

#[test]
fn an_mtu_that_the_device_beneath_cannot_carry_changes_no_device_and_is_a_problem() {
    let plan = plan_with_mtu(Mtu::try_from(9000).unwrap());
    insta::assert_snapshot!(lines(plan.steps), @"");
    insta::assert_snapshot!(lines(plan.problems.iter().map(|p| format!("{} {:?}", p.key, p.code))), @"
    link/br104 MtuTooLarge
    link/tr-000000004000 Blocked
    link/vlan104 MtuTooLarge
    address/br104/10.0.4.1/24 Blocked
    address/br104/fd00:4::1/64 Blocked
    station/br104/fa:16:3e:00:04:00 Blocked
    dnsmasq/net4 Blocked
    ");
}

#[test]
fn a_missing_flat_interface_and_a_bridge_of_someone_else_s_are_problems() {
    let mut state = fresh_state();
    state.objects.remove(&Key::Link(common::link_name("eth1")));
    let foreign = state.objects[&Key::Link(common::link_name("docker0"))].object.clone();
    state.put_foreign(Key::Link(common::link_name("br102")), foreign);
    let plan = plan(&spec(&world(&[(1, 0), (2, 0)])), &state);
    let problems = plan.problems.iter().map(|p| format!("{} {:?}: {}", p.key, p.code, p.detail));
    insta::assert_snapshot!(lines(problems), @"
    link/br101 InterfaceMissing: the device eth1 does not exist on this host; make it, or name another with `trestle host set`
    link/br102 ForeignInTheWay: a device br102 exists that is not Trestle's; give the network another bridge, or the device another name
    link/tr-000000001000 Blocked: its bridge br101 cannot be made: the device eth1 does not exist on this host; make it, or name another with `trestle host set`
    link/tr-000000002000 Blocked: its bridge br102 cannot be made: a device br102 exists that is not Trestle's; give the network another bridge, or the device another name
    bridge-filter/br101 Blocked: its bridge br101 cannot be made: the device eth1 does not exist on this host; make it, or name another with `trestle host set`
    bridge-filter/br102 Blocked: its bridge br102 cannot be made: a device br102 exists that is not Trestle's; give the network another bridge, or the device another name
    uplink/eth1 InterfaceMissing: the device eth1 does not exist on this host; make it, or name another with `trestle host set`
    uplink/eth2 Blocked: its bridge br102 cannot be made: a device br102 exists that is not Trestle's; give the network another bridge, or the device another name
    address/br101/10.0.1.1/24 Blocked: its device br101 cannot be made: the device eth1 does not exist on this host; make it, or name another with `trestle host set`
    address/br102/10.0.2.1/24 Blocked: its device br102 cannot be made: a device br102 exists that is not Trestle's; give the network another bridge, or the device another name
    station/br101/fa:16:3e:00:01:00 Blocked: its bridge br101 cannot be made: the device eth1 does not exist on this host; make it, or name another with `trestle host set`
    station/br102/fa:16:3e:00:02:00 Blocked: its bridge br102 cannot be made: a device br102 exists that is not Trestle's; give the network another bridge, or the device another name
    dnsmasq/net1 Blocked: its bridge br101 cannot be made: the device eth1 does not exist on this host; make it, or name another with `trestle host set`
    dnsmasq/net2 Blocked: its bridge br102 cannot be made: a device br102 exists that is not Trestle's; give the network another bridge, or the device another name
    ");
    insta::assert_snapshot!(lines(plan.steps), @"
    set net.ipv4.ip_forward to 1
    load table guard
    load table gateway
    load table claims
    load table groups
    make set members4_1
    make set members6_1
    load chain from_1
    load chain in_1
    load chain out_1
    load chain to_1
    add tr-000000001000 . fa:16:3e:00:01:00 to guard_mac
    add tr-000000002000 . fa:16:3e:00:02:00 to guard_mac
    add tr-000000001000 . fa:16:3e:00:01:00 . 10.0.1.10 to guard_ip4
    add tr-000000002000 . fa:16:3e:00:02:00 . 10.0.2.10 to guard_ip4
    add tr-000000001000 . 0xfa163e000100 to guard_hardware
    add tr-000000002000 . 0xfa163e000200 to guard_hardware
    add tr-000000001000 : 2387853312 to heard_by
    add tr-000000002000 : 2387853312 to heard_by
    add eth1 to shared_uplink
    add eth2 to shared_uplink
    add eth1 . fa:16:3e:ff:00:01 to shared_mac
    add eth2 . fa:16:3e:ff:00:02 to shared_mac
    add eth1 . 10.0.1.1 to shared_ip4
    add eth2 . 10.0.2.1 to shared_ip4
    add br101 to network
    add br102 to network
    add br101 . br101 to routed
    add br102 . br102 to routed
    add 10.0.1.0/24 . eth0 to nat_source
    add 10.0.2.0/24 . eth0 to nat_source
    add 10.0.1.0/24 . 10.128.0.0/24 to nat_exempt
    add 10.0.2.0/24 . 10.128.0.0/24 to nat_exempt
    add 10.0.1.0/24 . br101 to nat_local
    add 10.0.2.0/24 . br102 to nat_local
    add 10.0.1.0/24 to subnet4
    add 10.0.2.0/24 to subnet4
    add 10.0.1.0/24 . br101 to home4
    add 10.0.2.0/24 . br102 to home4
    add 10.0.1.10 : 2387853312 to groups4
    add 10.0.2.10 : 2387853312 to groups4
    add 2387853312 : jump out_1 to egress
    add 2387853312 : jump in_1 to ingress
    add br101 . 10.0.1.1 to served4
    add br102 . 10.0.2.1 to served4
    add 10.0.1.10 to members4_1
    add 10.0.2.10 to members4_1
    hold every connection to its security groups once more
    write DHCP entry of fa:16:3e:00:01:00 on net1: 10.0.1.10, vm0
    write DHCP entry of fa:16:3e:00:02:00 on net2: 10.0.2.10, vm0
    write DNS name vm0.trestle.internal on net1: 10.0.1.10
    write DNS name vm0.trestle.internal on net2: 10.0.2.10
    ");
}

/// A floating IP that leads to interface 0 of network 1, and a port of another one that does.
fn floating() -> [FloatingIp; 2] {
    let to = Target { interface: interface(1, 0).id, fixed: interface(1, 0).addresses[0] };
    let bare = |address: &str| FloatingIp {
        address: address.parse().unwrap(),
        device: None,
        target: None,
        forwards: vec![],
    };
    let forward = Forward { protocol: Protocol::Tcp, port: 80, to, to_port: 8080 };
    [
        FloatingIp { target: Some(to), ..bare("203.0.113.20") },
        FloatingIp { forwards: vec![forward], device: Some(link_name("eth3")), ..bare("198.51.100.7") },
    ]
}

#[test]
fn a_floating_ip_has_its_rules_before_its_address_and_loses_its_address_first() {
    let mut world = world(&[(1, 0)]);
    let mut state = fresh_state();
    let without = spec(&world);
    converge(&without, &mut state);
    floating().into_iter().for_each(|floating| world.put_floating_ip(floating));
    let with = spec(&world);
    insta::assert_snapshot!(lines(plan(&with, &state).steps), @"
    add 203.0.113.20 : 10.0.1.10 to floating_to
    add 10.0.1.10 . eth0 : 203.0.113.20 to floating_from
    add 10.0.1.10 : 203.0.113.20 to floating_back
    add 198.51.100.7 . tcp . 80 : 10.0.1.10 . 8080 to forward_to
    add 198.51.100.7 to floating
    add 203.0.113.20 to floating
    add eth0 . 203.0.113.20 to held
    add eth3 . 198.51.100.7 to held
    add address 203.0.113.20/32 to eth0
    add address 198.51.100.7/32 to eth3
    end what goes astray of 198.51.100.7 tcp 80
    end what goes astray of 203.0.113.20
    ");
    converge(&with, &mut state);
    insta::assert_snapshot!(lines(plan(&without, &state).steps), @"
    end the flows between 198.51.100.7 tcp 80 and 10.0.1.10 8080
    end the flows between 203.0.113.20 and 10.0.1.10
    delete address 203.0.113.20/32 from eth0
    delete address 198.51.100.7/32 from eth3
    delete 203.0.113.20 : 10.0.1.10 from floating_to
    delete 10.0.1.10 . eth0 : 203.0.113.20 from floating_from
    delete 10.0.1.10 : 203.0.113.20 from floating_back
    delete 198.51.100.7 . tcp . 80 : 10.0.1.10 . 8080 from forward_to
    delete 198.51.100.7 from floating
    delete 203.0.113.20 from floating
    delete eth0 . 203.0.113.20 from held
    delete eth3 . 198.51.100.7 from held
    end what began late between 198.51.100.7 tcp 80 and 10.0.1.10 8080
    end what began late between 203.0.113.20 and 10.0.1.10
    ");
}

#[test]
fn a_floating_ip_that_moves_on_its_host_leads_elsewhere_at_once_and_ends_what_went_by_it() {
    let mut world = world(&[(1, 0), (1, 1)]);
    let [floating, _] = floating();
    world.put_floating_ip(floating.clone());
    let mut state = fresh_state();
    converge(&spec(&world), &mut state);
    let to = Target { interface: interface(1, 1).id, fixed: interface(1, 1).addresses[0] };
    world.put_floating_ip(FloatingIp { target: Some(to), ..floating });
    insta::assert_snapshot!(lines(plan(&spec(&world), &state).steps), @"
    end the flows between 203.0.113.20 and 10.0.1.10
    add 10.0.1.11 . eth0 : 203.0.113.20 to floating_from
    add 10.0.1.11 : 203.0.113.20 to floating_back
    let 203.0.113.20 lead to 10.0.1.11 instead of 10.0.1.10 in floating_to
    delete 10.0.1.10 . eth0 : 203.0.113.20 from floating_from
    delete 10.0.1.10 : 203.0.113.20 from floating_back
    end what began late between 203.0.113.20 and 10.0.1.10
    ");
}

#[test]
fn a_floating_ip_that_another_host_has_is_not_taken_from_it_while_the_controller_is_away() {
    let mut world = world(&[(1, 0)]);
    let [floating, _] = floating();
    world.put_floating_ip(floating);
    let confirmed = spec(&world);
    let unconfirmed = HostSpec { unconfirmed: true, ..confirmed.clone() };
    let address = Key::Address(link_name("eth0"), "203.0.113.20/32".parse().unwrap());
    let neighbour = Key::Neighbour(link_name("eth0"), "203.0.113.20".parse().unwrap());
    assert!(reads(&unconfirmed, &address).contains(&neighbour), "it is asked for");
    assert!(!reads(&confirmed, &address).contains(&neighbour), "the controller knows");
    let mut state = fresh_state();
    state.put_foreign(neighbour, Object::Neighbour(Mac::generated([1, 2, 3])));
    insta::assert_snapshot!(lines(plan(&unconfirmed, &state).problems.iter().map(|p| &p.detail)), @"fa:16:3e:01:02:03 answers for 203.0.113.20 on eth0: the controller, which is away, may have given it to another host");
    converge(&unconfirmed, &mut state);
    assert!(state.get(&address).is_none());
    converge(&confirmed, &mut state);
    assert!(state.get(&address).is_some());

    // What another host has announced since is not answered for, until the controller says so.
    let claim = Key::Element(Set::Yielded, "eth0 . 203.0.113.20".to_owned());
    state.put_ours(claim, Object::Element);
    assert!(plan(&unconfirmed, &state).is_empty());
    insta::assert_snapshot!(lines(plan(&confirmed, &state).steps), @"
    take eth0 . 203.0.113.20 back from who claimed it
    add address 203.0.113.20/32 to eth0
    ");
    insta::assert_snapshot!(lines(plan(&spec(&common::world(&[(1, 0)])), &state).steps), @"
    end the flows between 203.0.113.20 and 10.0.1.10
    delete address 203.0.113.20/32 from eth0
    delete 203.0.113.20 : 10.0.1.10 from floating_to
    delete 10.0.1.10 . eth0 : 203.0.113.20 from floating_from
    delete 10.0.1.10 : 203.0.113.20 from floating_back
    delete 203.0.113.20 from floating
    delete eth0 . 203.0.113.20 from held
    delete eth0 . 203.0.113.20 from yielded
    end what began late between 203.0.113.20 and 10.0.1.10
    ");
}

#[test]
fn a_floating_ip_that_cannot_be_had_is_a_problem() {
    let mut world = world(&[(1, 0)]);
    let [floating, other] = floating();
    world.put_floating_ip(floating);
    world.put_floating_ip(FloatingIp { device: Some(link_name("eth9")), ..other });
    let mut state = fresh_state();
    state.put_foreign(Key::Address(link_name("eth0"), "203.0.113.20/24".parse().unwrap()), Object::Address);
    let problems = plan(&spec(&world), &state).problems;
    insta::assert_snapshot!(lines(problems.iter().map(|p| format!("{}: {}", p.key, p.detail))), @"
    address/eth0/203.0.113.20/32: eth0 has 203.0.113.20 already, and not from Trestle; take the address off the device, or out of its pool
    address/eth9/198.51.100.7/32: the device eth9 does not exist on this host; make it, or name another with `trestle host set`
    ");
}

#[test]
fn instances_leave_as_their_host_says() {
    let mut world = world(&[(1, 0)]);
    let nat = |world: &World| {
        let is_nat = |key: &Key| key.to_string().starts_with("element/nat_source");
        let objects = spec(world).objects.into_iter().filter(|(key, _)| is_nat(key));
        lines(objects.map(|(key, object)| format!("{key} {object:?}")))
    };
    insta::assert_snapshot!(nat(&world), @"element/nat_source/10.0.1.0/24 . eth0 Element");
    let address = RoutingSourceIp::Address("203.0.113.99".parse().unwrap());
    world.put_host(Host { routing_source_ip: address, ..host() });
    insta::assert_snapshot!(nat(&world), @r#"element/nat_source_ip/10.0.1.0/24 . eth0 Mapping("203.0.113.99")"#);
    world.put_host(Host { routing_source_ip: RoutingSourceIp::Off, ..host() });
    insta::assert_snapshot!(nat(&world), @"");
}

#[test]
fn dnsmasq_is_told_everything_on_its_command_line() {
    let spec = spec(&world(&[(1, 0)]));
    let Some(Object::Dnsmasq(dnsmasq)) = spec.objects.get(&Key::Dnsmasq("net1".parse().unwrap())) else {
        panic!("no dnsmasq in {:?}", spec.objects.keys());
    };
    insta::assert_snapshot!(lines(&dnsmasq.arguments), @"
    --keep-in-foreground
    --conf-file=/dev/null
    --pid-file=%S/networks/net1/pid
    --log-facility=-
    --bind-dynamic
    --interface=br101
    --except-interface=lo
    --no-hosts
    --hostsdir=%S/networks/net1/dns-names
    --domain=trestle.internal
    --local=/trestle.internal/
    --dhcp-hostsdir=%S/networks/net1/dhcp-hosts
    --dhcp-ignore=tag:!known
    --dhcp-ignore-clid
    --dhcp-authoritative
    --no-ping
    --dhcp-leasefile=%S/networks/net1/leases
    --dhcp-lease-max=256
    --dhcp-range=10.0.1.0,static,255.255.255.0,86400s
    --dhcp-option=option:router,10.0.1.1
    --dhcp-option=option:dns-server,10.0.1.1
    --dhcp-option=option:mtu,1500
    ");
}

fn vpn(kind: VpnKind) -> World {
    let mut world = world(&[(1, 0), (1, 1)]);
    let interface = interface(1, 1);
    let name: Name = "acme-vpn".parse().unwrap();
    let key = (kind == VpnKind::WireGuard).then(|| "2Zx0Y1XZ2Yw7Zl3r0e9zT2dP0m5nR3yqKk1yJ4mXy0c=".to_owned());
    let user = VpnUser { address: "10.0.1.77".parse().unwrap(), public_key: key };
    let plug = Plug::Veth { netns: Vpn::netns(&name), name: link_name("eth0") };
    let place = Attachment { plug, ..at(HOST) };
    let mut addresses = interface.addresses.clone();
    addresses.push(user.address);
    world.put_vpn(Vpn {
        project: interface.project,
        name,
        kind,
        interface: interface.id,
        address: interface.addresses[0],
        identity: uuid::Uuid::from_u128(7),
        endpoint: Some(VpnEndpoint { ip: "192.0.2.11".parse().unwrap(), port: 1000 }),
        users: BTreeMap::from([("alice-0f3a".parse().unwrap(), user)]),
    });
    world.put_interface(Interface { attachment: Some(place), addresses, ..interface });
    world
}

/// The steps that come with a VPN, on a host that has its network already.
fn vpn_steps(kind: VpnKind) -> (String, String) {
    let mut state = fresh_state();
    let without = spec(&world(&[(1, 0)]));
    converge(&without, &mut state);
    let wanted = spec(&vpn(kind));
    let steps = |wanted: &HostSpec, state: &HostState| {
        plan(wanted, state).steps.iter().map(|step| format!("{step}\n")).collect::<String>()
    };
    let coming = steps(&wanted, &state);
    converge(&wanted, &mut state);
    (coming, steps(&without, &state))
}

#[test]
fn a_vpn_is_guarded_before_it_is_up_and_lets_nobody_in_whom_it_does_not_know() {
    let (coming, going) = vpn_steps(VpnKind::OpenVpn);
    insta::assert_snapshot!(coming, @"
    add tr-000000001001 . fa:16:3e:00:01:01 to guard_mac
    add tr-000000001001 . fa:16:3e:00:01:01 . 10.0.1.11 to guard_ip4
    add tr-000000001001 . fa:16:3e:00:01:01 . 10.0.1.77 to guard_ip4
    add tr-000000001001 . 0xfa163e000101 to guard_hardware
    add tr-000000001001 : 2387853312 to heard_by
    add 192.0.2.11 . udp . 1000 : 10.0.1.11 . 1194 to forward_to
    add 10.0.1.11 : 2387853312 to groups4
    add 10.0.1.77 : 2387853312 to groups4
    add 10.0.1.11 to members4_1
    add 10.0.1.77 to members4_1
    hold every connection to its security groups once more
    write DNS name vm1.trestle.internal on net1: 10.0.1.11
    make the namespace of VPN acme-vpn
    make veth to eth0 in %S/vpns/acme-vpn/netns tr-000000001001
    hold fa:16:3e:00:01:01 fast at tr-000000001001 of br101 and announce it
    let alice-0f3a in by VPN acme-vpn
    start openvpn of VPN acme-vpn
    end what goes astray of 192.0.2.11 udp 1000
    ");
    insta::assert_snapshot!(going, @"
    stop VPN acme-vpn
    delete device tr-000000001001
    let br101 learn where fa:16:3e:00:01:01 is
    delete DNS name vm1.trestle.internal on net1
    end the flows between 192.0.2.11 udp 1000 and 10.0.1.11 1194
    delete 10.0.1.11 : 2387853312 from groups4
    delete 10.0.1.77 : 2387853312 from groups4
    delete 10.0.1.11 from members4_1
    delete 10.0.1.77 from members4_1
    hold every connection to its security groups once more
    delete the namespace of VPN acme-vpn
    delete tr-000000001001 . fa:16:3e:00:01:01 from guard_mac
    delete tr-000000001001 . fa:16:3e:00:01:01 . 10.0.1.11 from guard_ip4
    delete tr-000000001001 . fa:16:3e:00:01:01 . 10.0.1.77 from guard_ip4
    delete tr-000000001001 . 0xfa163e000101 from guard_hardware
    delete tr-000000001001 : 2387853312 from heard_by
    delete 192.0.2.11 . udp . 1000 : 10.0.1.11 . 1194 from forward_to
    end what began late between 192.0.2.11 udp 1000 and 10.0.1.11 1194
    ");
}

#[test]
fn the_server_of_a_vpn_is_told_this() {
    let server = |kind| {
        let spec = spec(&vpn(kind));
        let (_, server) = spec.vpns().next().unwrap();
        let users = spec.objects.iter().filter_map(|(key, object)| match object {
            Object::VpnUser(text) => Some(format!("{key}\n{text}")),
            _ => None,
        });
        let users: String = users.collect();
        format!("{}\n{}\n{}\n{users}", server.network, server.filter, server.config)
    };
    insta::assert_snapshot!(server(VpnKind::OpenVpn), @r#"
    link set lo up
    address replace 10.0.1.11/24 dev eth0
    link set eth0 up
    route replace default via 10.0.1.1
    tuntap add dev tun0 mode tun
    link set tun0 mtu 1500 up

    table inet trestle_vpn {
    	chain input {
    		type filter hook input priority filter; policy drop;
    		iifname "lo" accept
    		iifname "eth0" udp dport 1194 accept
    		iifname "eth0" meta l4proto icmp accept
    	}
    	chain forward {
    		type filter hook forward priority filter; policy drop;
    		iifname "tun0" oifname "eth0" ip daddr 10.0.1.0/24 accept
    		iifname "eth0" oifname "tun0" ip saddr 10.0.1.0/24 accept
    	}
    }

    mode server
    tls-server
    proto udp
    port 1194
    dev tun0
    dev-type tun
    topology subnet
    ifconfig 10.0.1.11 255.255.255.0
    ifconfig-noexec
    route-noexec
    tun-mtu 1500
    push "topology subnet"
    push "dhcp-option DNS 10.0.1.1"
    push "dhcp-option DOMAIN trestle.internal"
    keepalive 5 15
    explicit-exit-notify 1
    client-config-dir clients
    ccd-exclusive
    ca ca.crt
    cert server.crt
    key server.key
    tls-crypt tls-crypt.key
    dh none
    tls-version-min 1.2
    remote-cert-tls client
    data-ciphers AES-256-GCM:AES-128-GCM:CHACHA20-POLY1305
    user nobody
    group nogroup
    persist-key
    persist-tun
    management management unix
    management-client-user root
    writepid pid
    verb 1

    vpn-user/acme-vpn/alice-0f3a
    ifconfig-push 10.0.1.77 255.255.255.0
    "#);
    insta::assert_snapshot!(server(VpnKind::WireGuard), @r#"
    link set lo up
    address replace 10.0.1.11/24 dev eth0
    link set eth0 up
    route replace default via 10.0.1.1
    link set wg-000000001001 mtu 1420 up

    table inet trestle_vpn {
    	chain input {
    		type filter hook input priority filter; policy drop;
    		iifname "lo" accept
    		iifname "eth0" udp dport 1194 accept
    		iifname "eth0" meta l4proto icmp accept
    	}
    	chain forward {
    		type filter hook forward priority filter; policy drop;
    		iifname "wg-000000001001" oifname "eth0" ip daddr 10.0.1.0/24 accept
    		iifname "eth0" oifname "wg-000000001001" ip saddr 10.0.1.0/24 accept
    	}
    }


    vpn-user/acme-vpn/alice-0f3a
    [Peer]
    AllowedIPs = 10.0.1.77/32
    PublicKey = 2Zx0Y1XZ2Yw7Zl3r0e9zT2dP0m5nR3yqKk1yJ4mXy0c=
    "#);
}
