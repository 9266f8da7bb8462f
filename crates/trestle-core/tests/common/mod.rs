//! A small cloud to compile and plan for: one host that is looked at, another one, networks of every
//! type and their interfaces.

#![allow(dead_code, clippy::unwrap_used, reason = "each test binary uses its own part")]

pub mod rules;

use std::collections::BTreeSet;

use trestle_core::ownership::device_name;
use trestle_core::plan::plan;
use trestle_core::simulate::simulate;
use trestle_core::spec::{HostSpec, Key, Link, LinkKind, LinkMac, Object, Route};
use trestle_core::state::HostState;
use trestle_core::types::{
    AddressGroupId, Direction, HostId, InstanceId, InterfaceId, LinkName, Mac, MetadataService, Mtu,
    NetworkId, ProjectId, RuleId, SecurityGroupId, VlanId,
};
use trestle_core::world::{
    AddressGroup, Attachment, Gateways, Host, Interface, Ipv6Mode, Network, NetworkType, Options, Plug,
    Remote, RoutingSourceIp, Rule, Security, SecurityGroup, Subnet, Traffic, World,
};
use uuid::Uuid;

/// The host that is compiled for.
pub const HOST: HostId = HostId(Uuid::from_u128(1));
/// Another one.
pub const OTHER: HostId = HostId(Uuid::from_u128(2));
/// Who owns the VLANs.
pub const PROJECT: ProjectId = ProjectId(Uuid::from_u128(3));
/// The numbers of the networks that [`network`] knows.
pub const NETWORKS: std::ops::RangeInclusive<u8> = 1..=6;

pub fn host() -> Host {
    Host {
        id: HOST,
        name: "host1".parse().unwrap(),
        flat_interface: None,
        vlan_interface: Some(link_name("eth3")),
        public_interface: Some(link_name("eth0")),
        routing_source_ip: RoutingSourceIp::OfDevice,
    }
}

pub fn link_name(text: &str) -> LinkName {
    text.parse().unwrap()
}

/// Network `n` is 10.0.n.0/24. 1 to 3 are Flat DHCP on `br10n` and enslave `ethn`; 4 and 5 are VLANs 104
/// and 105 of one project, with IPv6; 6 is flat, on the administrator's `docker0`.
pub fn network(n: u8) -> Network {
    let network_type = match n {
        4 | 5 => NetworkType::Vlan,
        6 => NetworkType::Flat,
        _ => NetworkType::FlatDhcp,
    };
    let is_vlan = network_type == NetworkType::Vlan;
    let subnet = |cidr: String, gateway: String| Subnet {
        cidr: cidr.parse().unwrap(),
        gateway: Some(gateway.parse().unwrap()),
    };
    Network {
        id: NetworkId(Uuid::from_u128(0x100 + u128::from(n))),
        name: format!("net{n}").parse().unwrap(),
        network_type,
        project: is_vlan.then_some(PROJECT),
        ipv4: Some(subnet(format!("10.0.{n}.0/24"), format!("10.0.{n}.1"))),
        ipv6: is_vlan.then(|| subnet(format!("fd00:{n}::/64"), format!("fd00:{n}::1"))),
        ipv6_mode: Ipv6Mode::Dhcpv6,
        gateways: Gateways::Shared,
        vlan: is_vlan.then(|| VlanId::try_from(100 + u32::from(n)).unwrap()),
        bridge: link_name(&if n == 6 { "docker0".to_owned() } else { format!("br10{n}") }),
        bridge_interface: Some(link_name(&format!("eth{n}"))),
        bridge_mac: Mac::generated([0xff, 0, n]),
        dns: vec![],
        domain: "trestle.internal".parse().unwrap(),
        mtu: Mtu::ETHERNET,
        dhcp_lease_time: 86400,
        dhcp_options: vec![],
        ether_types: Default::default(),
    }
}

/// Interface `i` of network `n`, plugged in on the host.
pub fn interface(n: u8, i: u8) -> Interface {
    let id = InterfaceId(Uuid::from_u128(0x1000 * u128::from(n) + u128::from(i)));
    let network = network(n);
    let ipv4 = format!("10.0.{n}.{}", 10 + i).parse().unwrap();
    let ipv6 = network.ipv6.map(|_| format!("fd00:{n}::{:x}", 10 + i).parse().unwrap());
    Interface {
        id,
        instance: InstanceId(Uuid::from_u128(u128::from(i))),
        project: PROJECT,
        network: network.id,
        mac: Mac::generated([0, n, i]),
        device: device_name(id),
        hostname: format!("vm{i}").parse().unwrap(),
        addresses: [ipv4].into_iter().chain(ipv6).collect(),
        attachment: Some(at(HOST)),
        security: Some(Security { groups: BTreeSet::from([group_id(1)]), ..Security::default() }),
        moving_to: None,
    }
}

/// Being in the second one and being in the third have the same digest (`World::alike`).
pub fn group_id(number: u8) -> SecurityGroupId {
    let id = if number == 3 { 0x617672 } else { 0x2000 + u128::from(number) };
    SecurityGroupId(Uuid::from_u128(id))
}

pub fn address_group_id(number: u8) -> AddressGroupId {
    AddressGroupId(Uuid::from_u128(0x3000 + u128::from(number)))
}

pub fn rule(number: u32, direction: Direction, traffic: Traffic, remote: Remote) -> Rule {
    let id = RuleId(Uuid::from_u128(0x4000 + u128::from(number)));
    Rule { id, number, direction, family: None, traffic, remote, expires_at: None }
}

pub fn group(number: u8, rules: Vec<Rule>) -> SecurityGroup {
    SecurityGroup { id: group_id(number), number: number.into(), project: PROJECT, rules }
}

/// A project's group as it comes: its members reach each other and everything else.
pub fn default_group() -> SecurityGroup {
    let from_members = rule(1, Direction::Ingress, Traffic::Any, Remote::Group(group_id(1)));
    group(1, vec![from_members, rule(2, Direction::Egress, Traffic::Any, Remote::Any)])
}

pub fn address_group(number: u8, ranges: &[&str]) -> AddressGroup {
    let ranges = ranges.iter().map(|range| range.parse().unwrap()).collect();
    AddressGroup { id: address_group_id(number), number: number.into(), ranges }
}

/// Plugged in on this host as a tap.
pub fn at(host: HostId) -> Attachment {
    Attachment { host, plug: Plug::Tap { owner: None } }
}

/// A world with these interfaces, by network and number.
pub fn world(interfaces: &[(u8, u8)]) -> World {
    world_with(None, interfaces)
}

/// The service of metadata.
pub fn metadata_service() -> MetadataService {
    let port = std::num::NonZeroU16::new(8775).unwrap();
    MetadataService { host: "meta.example.org".parse().unwrap(), port }
}

/// The same where instances are told of themselves by this service.
pub fn world_with(metadata: Option<MetadataService>, interfaces: &[(u8, u8)]) -> World {
    let dmz_cidr = vec!["10.128.0.0/24".parse().unwrap()];
    let options = Options { dmz_cidr, metadata, ..Options::default() };
    let mut world = World::new(options);
    world.put_host(host());
    world.put_host(Host { id: OTHER, name: "host2".parse().unwrap(), ..host() });
    world.put_security_group(default_group());
    for &(n, i) in interfaces {
        world.put_network(network(n));
        world.put_interface(interface(n, i));
    }
    world
}

pub fn spec(world: &World) -> HostSpec {
    let objects = trestle_core::compile::compile(world, HOST);
    HostSpec { generation: 1, objects, ..HostSpec::default() }
}

pub fn physical(index: u32) -> Link {
    Link {
        kind: LinkKind::Other,
        mac: Some(LinkMac::Fixed(Mac::new([2, 0, 0, 0, 0, index as u8]).unwrap())),
        mtu: 1500,
        master: None,
        uplink: None,
        up: true,
        index: Some(index),
    }
}

/// A host as it comes: eth0 to eth3, of which eth1 has an address and the default route.
pub fn fresh_state() -> HostState {
    let mut state = HostState::default();
    for n in 0..=3 {
        state.put_foreign(Key::Link(link_name(&format!("eth{n}"))), Object::Link(physical(n + 2)));
    }
    state.put_foreign(Key::Address(link_name("eth1"), "192.168.5.10/24".parse().unwrap()), Object::Address);
    let route = Route {
        destination: "0.0.0.0/0".parse().unwrap(),
        via: Some("192.168.5.1".parse().unwrap()),
        metric: 100,
    };
    state.put_foreign(Key::Route(link_name("eth1"), route), Object::Route { source: None, protocol: 3 });
    let bridge = Link { kind: LinkKind::Bridge, ..physical(9) };
    state.put_foreign(Key::Link(link_name("docker0")), Object::Link(bridge));
    state
}

/// Plans once and does it all.
pub fn converge(spec: &HostSpec, state: &mut HostState) {
    for step in plan(spec, state).steps {
        simulate(state, &step);
    }
}

pub fn lines<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join("\n")
}
