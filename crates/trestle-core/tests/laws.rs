//! The laws of DESIGN §3, over random worlds, walks and damage.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use common::{
    HOST, NETWORKS, OTHER, PROJECT, address_group, address_group_id, at, converge, fresh_state, group_id,
    link_name, metadata_service, network, rule, spec, world, world_with,
};
use ipnet::IpNet;
use proptest::prelude::*;
use trestle_core::compile::{Entity, affected, compile, compile_scope};
use trestle_core::ownership::Owner;
use trestle_core::plan::{Plan, plan, plan_keys, reads};
use trestle_core::spec::{HostSpec, Key, Link, LinkKind, LinkMac, Object, Set, Table, VpnServer};
use trestle_core::state::{HostState, Observed};
use trestle_core::types::{Direction, DnsRecordId, LinkName, Mac, Mtu, Protocol, VpnEndpoint, VpnKind};
use trestle_core::world::{
    DnsRecord, FloatingIp, Forward, Gateways, Interface, Network, Plug, Remote, Security, SecurityGroup,
    Target, Traffic, Vpn, VpnUser, World,
};

/// Where an interface is plugged in, seen from the host that is compiled for.
#[derive(Clone, Copy, Debug)]
enum Place {
    Here,
    Elsewhere,
    ComingHere,
    Leaving,
    Nowhere,
}

/// Which interfaces there are, and what is unusual about the world.
#[derive(Clone, Debug)]
struct Case {
    interfaces: Vec<(u8, u8, Place)>,
    /// Of network 1 and 4, 2 and 5, 3 and 6.
    gateways: [Gateways; 3],
    shared_uplink: bool,
    has_metadata: bool,
    small_mtu: bool,
    no_owner: bool,
    tap_owner: Option<u32>,
    floating: Vec<Floating>,
    /// The numbers of DNS records, and whether each is its project's alone.
    records: BTreeMap<u8, bool>,
    /// What is unusual about what an interface is held to.
    securities: BTreeMap<(u8, u8), Held>,
    /// Of which kind the rules of groups 1 to 3 are.
    groups: [GroupRules; 3],
    addresses: bool,
    vpn: Option<VpnCase>,
}

/// A VPN of the interfaces' project.
#[derive(Clone, Debug)]
struct VpnCase {
    interface: (u8, u8),
    kind: VpnKind,
    identity: u8,
    has_endpoint: bool,
    users: BTreeMap<u8, u8>,
}

impl VpnCase {
    fn vpn(&self) -> Vpn {
        let (n, i) = self.interface;
        let interface = common::interface(n, i);
        let key = (self.kind == VpnKind::WireGuard).then(|| "AAAA".to_owned());
        let address = |host: &u8| format!("10.0.{n}.{host}").parse().unwrap();
        let user = |host: &u8| VpnUser { address: address(host), public_key: key.clone() };
        Vpn {
            project: PROJECT,
            name: "acme-vpn".parse().unwrap(),
            kind: self.kind,
            interface: interface.id,
            address: interface.addresses[0],
            identity: uuid::Uuid::from_u128(self.identity.into()),
            endpoint: self
                .has_endpoint
                .then(|| VpnEndpoint { ip: "198.51.100.1".parse().unwrap(), port: 1000 }),
            users: self
                .users
                .iter()
                .map(|(n, host)| (format!("u{n}").parse().unwrap(), user(host)))
                .collect(),
        }
    }
}

fn vpn() -> impl Strategy<Value = Option<VpnCase>> {
    let kind = prop_oneof![Just(VpnKind::OpenVpn), Just(VpnKind::WireGuard)];
    let users = proptest::collection::btree_map(0..3u8, 100..103u8, 0..3);
    let vpn = ((NETWORKS, 0..=5u8), kind, 0..2u8, any::<bool>(), users);
    let vpn = vpn.prop_map(|(interface, kind, identity, has_endpoint, users)| VpnCase {
        interface,
        kind,
        identity,
        has_endpoint,
        users,
    });
    proptest::option::of(vpn)
}

/// What an interface is held to.
#[derive(Clone, Copy, Debug)]
enum Held {
    ToNothing,
    ToNoGroup,
    ToGroups(u8),
    /// And it sends from an address that others on its network send from, too.
    WithPairs(u8),
}

/// The rules of a group.
#[derive(Clone, Copy, Debug)]
enum GroupRules {
    None,
    Default,
    /// They name another group and the address group.
    Naming(u8),
}

impl GroupRules {
    fn group(self, number: u8) -> SecurityGroup {
        let rules = match self {
            Self::None => vec![],
            Self::Default => common::default_group().rules,
            Self::Naming(named) => vec![
                rule(10, Direction::Ingress, Traffic::Any, Remote::Group(group_id(named))),
                rule(11, Direction::Egress, Traffic::Any, Remote::AddressGroup(address_group_id(1))),
            ],
        };
        common::group(number, rules)
    }
}

fn dns_record(number: u8, is_own: bool) -> DnsRecord {
    DnsRecord {
        id: DnsRecordId(uuid::Uuid::from_u128(number.into())),
        name: format!("www{number}.example.org").parse().unwrap(),
        project: is_own.then_some(PROJECT),
        addresses: BTreeSet::from(["203.0.113.20".parse().unwrap()]),
    }
}

/// A floating IP that leads to an interface, or a port of it does.
#[derive(Clone, Debug)]
struct Floating {
    number: u8,
    network: u8,
    interface: u8,
    has_device: bool,
    is_forward: bool,
}

impl Floating {
    fn address(&self) -> IpAddr {
        format!("203.0.113.{}", 20 + self.number).parse().unwrap()
    }

    fn put_into(&self, world: &mut World) {
        let interface = common::interface(self.network, self.interface);
        let to = Target { interface: interface.id, fixed: interface.addresses[0] };
        let fresh = FloatingIp {
            address: self.address(),
            device: self.has_device.then(|| link_name("eth3")),
            target: None,
            forwards: vec![],
        };
        let mut floating = world.floating_ip(self.address()).cloned().unwrap_or(fresh);
        if self.is_forward {
            let port = 80 + u16::try_from(floating.forwards.len()).unwrap();
            floating.forwards.push(Forward { protocol: Protocol::Tcp, port, to, to_port: 8080 });
        } else {
            floating.target = Some(to);
        }
        world.put_floating_ip(floating);
    }
}

impl Case {
    fn world(&self) -> World {
        let numbers: Vec<(u8, u8)> = self.interfaces.iter().map(|(n, i, _)| (*n, *i)).collect();
        let mut world = world_with(self.has_metadata.then(metadata_service), &numbers);
        let present: BTreeSet<_> = world.networks().map(|network| network.id).collect();
        for n in NETWORKS.filter(|n| present.contains(&network(*n).id)) {
            world.put_network(self.network(n));
        }
        for (n, i, place) in &self.interfaces {
            world.put_interface(self.interface(*n, *i, *place));
        }
        self.floating.iter().for_each(|floating| floating.put_into(&mut world));
        self.records.iter().for_each(|(n, is_own)| world.put_dns_record(dns_record(*n, *is_own)));
        (1..).zip(self.groups).for_each(|(n, rules)| world.put_security_group(rules.group(n)));
        let ranges: &[&str] = if self.addresses { &["10.9.0.0/16", "fd09::/64"] } else { &["10.8.0.0/16"] };
        world.put_address_group(address_group(1, ranges));
        self.vpn.iter().for_each(|vpn| world.put_vpn(vpn.vpn()));
        if self.shared_uplink {
            world.put_host(trestle_core::world::Host {
                flat_interface: Some(link_name("eth1")),
                ..common::host()
            });
        }
        world
    }

    fn network(&self, n: u8) -> Network {
        let mut network = network(n);
        network.gateways = self.gateways[usize::from(n - 1) % 3].clone();
        if let Gateways::PerHost(hosts) = &mut network.gateways {
            hosts.insert(HOST, vec![format!("10.0.{n}.200").parse().unwrap()]);
        }
        if self.small_mtu && n % 3 == 1 {
            network.mtu = Mtu::try_from(1400).unwrap();
        }
        if self.no_owner {
            network.project = None;
        }
        network
    }

    fn interface(&self, n: u8, i: u8, place: Place) -> Interface {
        let mut interface = common::interface(n, i);
        let here = trestle_core::world::Attachment { plug: Plug::Tap { owner: self.tap_owner }, ..at(HOST) };
        (interface.attachment, interface.moving_to) = match place {
            Place::Here => (Some(here), None),
            Place::Elsewhere => (Some(at(OTHER)), None),
            Place::ComingHere => (Some(at(OTHER)), Some(here)),
            Place::Leaving => (Some(here), Some(at(OTHER))),
            Place::Nowhere => (None, None),
        };
        let groups = |bits: u8| (1..=3).filter(|n| bits & (1 << (n - 1)) != 0).map(group_id).collect();
        let security = |bits| Security { groups: groups(bits), ..Security::default() };
        let pairs = || [format!("10.0.{n}.250"), "10.9.0.0/16".to_owned()].map(|pair| pair.parse().unwrap());
        match self.securities.get(&(n, i)) {
            None => {}
            Some(Held::ToNothing) => interface.security = None,
            Some(Held::ToNoGroup) => interface.security = Some(security(0)),
            Some(Held::ToGroups(bits)) => interface.security = Some(security(*bits)),
            Some(Held::WithPairs(bits)) => {
                interface.security = Some(Security { address_pairs: pairs().into(), ..security(*bits) });
            }
        }
        interface
    }
}

fn case() -> impl Strategy<Value = Case> {
    let place = prop_oneof![
        6 => Just(Place::Here),
        2 => Just(Place::Elsewhere),
        1 => Just(Place::ComingHere),
        1 => Just(Place::Leaving),
        1 => Just(Place::Nowhere),
    ];
    let interfaces = proptest::collection::vec((NETWORKS, 0..=5u8, place), 0..10);
    let gateways = || {
        prop_oneof![
            4 => Just(Gateways::Shared),
            1 => Just(Gateways::One(None)),
            1 => Just(Gateways::One(Some(HOST))),
            1 => Just(Gateways::One(Some(OTHER))),
            1 => Just(Gateways::PerHost(BTreeMap::new())),
        ]
    };
    let gateways = [gateways(), gateways(), gateways()];
    let flags = (
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        prop_oneof![Just(None), Just(Some(1000))],
    );
    let floating = (0..4u8, NETWORKS, 0..=5u8, any::<bool>(), prop::bool::weighted(0.3));
    let floating = floating.prop_map(|(number, network, interface, has_device, is_forward)| Floating {
        number,
        network,
        interface,
        has_device,
        is_forward,
    });
    let floating = proptest::collection::vec(floating, 0..6);
    let records = proptest::collection::btree_map(0..3u8, any::<bool>(), 0..3);
    (interfaces, gateways, flags, floating, records, security(), vpn()).prop_map(
        |(interfaces, gateways, flags, floating, records, (securities, groups, addresses), vpn)| {
            let (shared_uplink, has_metadata, small_mtu, no_owner, tap_owner) = flags;
            Case {
                interfaces,
                gateways,
                shared_uplink,
                has_metadata,
                small_mtu,
                no_owner,
                tap_owner,
                floating,
                records,
                securities,
                groups,
                addresses,
                vpn,
            }
        },
    )
}

fn security() -> impl Strategy<Value = (BTreeMap<(u8, u8), Held>, [GroupRules; 3], bool)> {
    let held = prop_oneof![
        1 => Just(Held::ToNothing),
        1 => Just(Held::ToNoGroup),
        3 => (1..8u8).prop_map(Held::ToGroups),
        2 => (1..8u8).prop_map(Held::WithPairs),
    ];
    let securities = proptest::collection::btree_map((NETWORKS, 0..=5u8), held, 0..12);
    let rules = || {
        prop_oneof![
            1 => Just(GroupRules::None),
            2 => Just(GroupRules::Default),
            2 => (1..=3u8).prop_map(GroupRules::Naming),
        ]
    };
    (securities, [rules(), rules(), rules()], any::<bool>())
}

/// Something that befalls a host behind our back.
#[derive(Clone, Debug)]
enum Damage {
    LoseAnObjectOfOurs(prop::sample::Index),
    FlushRulesets,
    ForeignBridge,
    UplinkGone,
    StaleLease,
    StaleLease6,
    SmallParent,
    ParentDown,
    LinkDown(prop::sample::Index),
    OtherMac(prop::sample::Index),
    ForeignFloatingIp,
    Claimed(u8),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => any::<prop::sample::Index>().prop_map(Damage::LoseAnObjectOfOurs),
        1 => Just(Damage::FlushRulesets),
        1 => Just(Damage::ForeignBridge),
        1 => Just(Damage::UplinkGone),
        1 => Just(Damage::StaleLease),
        1 => Just(Damage::StaleLease6),
        1 => Just(Damage::SmallParent),
        1 => Just(Damage::ParentDown),
        1 => any::<prop::sample::Index>().prop_map(Damage::LinkDown),
        1 => any::<prop::sample::Index>().prop_map(Damage::OtherMac),
        1 => Just(Damage::ForeignFloatingIp),
        1 => (0..4u8).prop_map(Damage::Claimed),
    ]
}

fn inflict(state: &mut HostState, damage: &Damage) {
    let ours = |state: &HostState| -> Vec<Key> {
        let ours = state.objects.iter().filter(|(_, have)| have.owner == Owner::Ours);
        ours.map(|(key, _)| key.clone()).collect()
    };
    let change_link = |state: &mut HostState, which: &prop::sample::Index, change: fn(&mut Link)| {
        let links: Vec<Key> = ours(state).into_iter().filter(|key| matches!(key, Key::Link(_))).collect();
        if !links.is_empty()
            && let Some(Observed { object: Object::Link(link), .. }) =
                state.objects.get_mut(which.get(&links))
        {
            change(link);
        }
    };
    match damage {
        Damage::LoseAnObjectOfOurs(which) => {
            let keys = ours(state);
            if keys.is_empty() {
                return;
            }
            match which.get(&keys) {
                Key::Link(name) => {
                    let bridge = state.link(name).is_some_and(|(link, _)| link.kind == LinkKind::Bridge);
                    let step = if bridge {
                        trestle_core::plan::Step::DeleteBridge { link: name.clone() }
                    } else {
                        trestle_core::plan::Step::DeletePort { link: name.clone() }
                    };
                    // Foreign addresses that had moved to a bridge are lost with it by whoever deletes it.
                    if !bridge || state.foreign_addresses(name).next().is_none() {
                        trestle_core::simulate::simulate(state, &step);
                    }
                }
                // The users and the server of a VPN are in its folder.
                key @ Key::VpnNetns(_) => state.put_ours(key.clone(), Object::VpnNetns { exists: false }),
                // Who takes the device out of the bridge, not who forgets that it is in.
                Key::Uplink(_) => {}
                key => {
                    state.objects.remove(key);
                }
            }
        }
        Damage::FlushRulesets => {
            let of_tables =
                |key: &Key| matches!(key, Key::Ruleset(_) | Key::Element(..) | Key::Set(_) | Key::Chain(_));
            state.objects.retain(|key, _| !of_tables(key));
        }
        Damage::ForeignBridge => {
            let bridge = Link { kind: LinkKind::Bridge, ..common::physical(40) };
            let key = Key::Link(network(2).bridge);
            if state.get(&key).is_none() {
                state.put_foreign(key, Object::Link(bridge));
            }
        }
        Damage::UplinkGone => {
            let link = link_name("eth3");
            state.objects.remove(&Key::Link(link.clone()));
            state.objects.remove(&Key::Uplink(link));
        }
        Damage::StaleLease => {
            let mac = Mac::generated([9, 9, 9]);
            state.put_ours(Key::Lease(network(1).name, mac), Object::Lease("10.0.1.99".parse().unwrap()));
        }
        Damage::StaleLease6 => {
            let lease = Object::Lease6 { client: "00:01:02".to_owned(), iaid: 7 };
            state.put_ours(Key::Lease6(network(4).name, "fd00:4::99".parse().unwrap()), lease);
        }
        Damage::SmallParent => {
            if let Some(Observed { object: Object::Link(link), .. }) =
                state.objects.get_mut(&Key::Link(link_name("eth3")))
            {
                link.mtu = 1450;
            }
        }
        Damage::ParentDown => {
            let parent = link_name("eth3");
            let on_it =
                |link: &Link| matches!(&link.kind, LinkKind::Vlan { parent: of, .. } if *of == parent);
            for (key, have) in &mut state.objects {
                if let Object::Link(link) = &mut have.object
                    && (*key == Key::Link(parent.clone()) || on_it(link))
                {
                    link.up = false;
                }
            }
        }
        Damage::LinkDown(which) => change_link(state, which, |link| link.up = false),
        Damage::OtherMac(which) => change_link(state, which, |link| {
            link.mac = Some(LinkMac::Fixed(Mac::generated([7, 7, 7])));
        }),
        Damage::ForeignFloatingIp => {
            let key = Key::Address(link_name("eth0"), "203.0.113.21/24".parse().unwrap());
            state.put_foreign(key, Object::Address);
        }
        Damage::Claimed(number) => {
            if state.ruleset(Table::Claims).is_some() {
                let element = format!("eth0 . 203.0.113.{}", 20 + number);
                state.put_ours(Key::Element(Set::Yielded, element), Object::Element);
            }
        }
    }
}

/// Asks of the state what the spec says, object by object, in other words than the planner's.
fn unsatisfied(spec: &HostSpec, state: &HostState, problems: &BTreeSet<Key>) -> Vec<String> {
    let met = |key: &Key, object: &Object| match (object, state.get(key).map(|have| &have.object)) {
        (Object::Link(wanted), Some(Object::Link(have))) => {
            let mac = match &wanted.mac {
                None => true,
                Some(LinkMac::Of(other)) => state.link(other).is_some_and(|(other, _)| other.mac == have.mac),
                Some(LinkMac::Gateway { mac, uplink }) => {
                    let Key::Link(bridge) = key else { return false };
                    let own = state.foreign_addresses(bridge).next().is_none();
                    let uplink = state.link(uplink).and_then(|(uplink, _)| uplink.mac.clone());
                    have.mac == if own { Some(LinkMac::Fixed(*mac)) } else { uplink }
                }
                fixed => *fixed == have.mac,
            };
            let carried = match &wanted.kind {
                LinkKind::Vlan { parent, .. } => state.link(parent).is_some_and(|(parent, _)| parent.up),
                _ => true,
            };
            mac && carried
                && wanted.kind == have.kind
                && wanted.mtu == have.mtu
                && wanted.master == have.master
                && have.up
        }
        (Object::Uplink(bridge), Some(Object::Uplink(have))) => {
            let Key::Uplink(link) = key else { return false };
            let enslaved = state.link(link).is_some_and(|(link, _)| link.master.as_ref() == Some(bridge));
            bridge == have && enslaved && state.foreign_addresses(link).next().is_none()
        }
        (Object::Device, _) => {
            let Key::Device(link) = key else { return false };
            state.link(link).is_some()
        }
        (Object::Station { port, .. }, Some(Object::Station { port: have, .. })) => port == have,
        (Object::Dnsmasq(wanted), Some(Object::Dnsmasq(have))) => {
            let bridge = state.link(&wanted.bridge).and_then(|(link, _)| link.index);
            wanted.arguments == have.arguments
                && have.bridge_index == bridge
                && bridge.is_some()
                && !have.stale
        }
        (Object::Vpn(wanted), Some(Object::Vpn(have))) => {
            let link_index = state.link(&wanted.link).and_then(|(link, _)| link.index);
            link_index.is_some() && *have == VpnServer { link_index, ..wanted.clone() }
        }
        (wanted, have) => Some(wanted) == have,
    };
    let missing = spec.objects.iter().filter(|(key, object)| !problems.contains(key) && !met(key, object));
    let left_over = state.objects.iter().filter(|(key, have)| {
        let lease = matches!(key, Key::Lease(network, mac)
            if !spec.objects.contains_key(&Key::DhcpHost(network.clone(), *mac)));
        let lease = lease
            || matches!(key, Key::Lease6(network, address)
            if !spec.objects.contains_key(&Key::DhcpHost6(network.clone(), *address)));
        let stays = matches!(key, Key::Sysctl(_) | Key::BridgeFilter(_) | Key::Lease(..) | Key::Lease6(..));
        lease || (have.owner == Owner::Ours && !stays && !spec.objects.contains_key(key))
    });
    let missing = missing.map(|(key, _)| format!("missing {key}"));
    missing.chain(left_over.map(|(key, _)| format!("left over {key}"))).collect()
}

/// What is foreign, with moved addresses and routes counted wherever they are. Whether a port is
/// in a bridge of ours is not the port's own.
fn foreign(state: &HostState) -> BTreeSet<String> {
    let foreign = state.objects.iter().filter(|(_, have)| have.owner == Owner::Foreign);
    let words = foreign.filter_map(|(key, have)| match (key, &have.object) {
        (Key::Address(_, address), _) => Some(format!("address {address}")),
        (Key::Route(_, route), object) => Some(format!("route {route} {object:?}")),
        (Key::Sysctl(_) | Key::BridgeFilter(_), _) => None,
        (key, Object::Link(link)) => {
            Some(format!("{key} {:?}", Link { master: None, up: true, ..link.clone() }))
        }
        (key, object) => Some(format!("{key} {object:?}")),
    });
    words.collect()
}

/// What two states differ in.
fn difference(one: &HostState, other: &HostState) -> Vec<String> {
    let (one, other) = (comparable(one), comparable(other));
    let keys: BTreeSet<&Key> = one.keys().chain(other.keys()).collect();
    let differs = keys.into_iter().filter(|key| one.get(key) != other.get(key));
    differs.map(|key| format!("{key}: {:?}, {:?}", one.get(key), other.get(key))).collect()
}

/// Without the kernel's numbers and the settings that stay.
fn comparable(state: &HostState) -> BTreeMap<Key, Observed> {
    let mut objects = state.objects.clone();
    objects.retain(|key, _| !matches!(key, Key::Sysctl(_) | Key::BridgeFilter(_)));
    for have in objects.values_mut() {
        match &mut have.object {
            Object::Link(link) => link.index = None,
            Object::Dnsmasq(dnsmasq) => dnsmasq.bridge_index = None,
            Object::Vpn(server) => server.link_index = None,
            _ => {}
        }
    }
    objects
}

fn problem_keys(plan: &Plan) -> BTreeSet<Key> {
    plan.problems.iter().map(|problem| problem.key.clone()).collect()
}

/// Only what was observed: the keys, a link with its master, and for an uplink what is on it and on
/// its bridge.
fn restricted(state: &HostState, keys: &BTreeSet<Key>) -> HostState {
    let uplinks = keys.iter().filter_map(|key| match key {
        Key::Uplink(link) => Some(link.clone()),
        _ => None,
    });
    let masters = uplinks.clone().filter_map(|link| state.link(&link)?.0.master.clone());
    let bridges = keys.iter().filter_map(|key| match key {
        Key::Link(link) if state.link(link).is_some_and(|(have, _)| have.kind == LinkKind::Bridge) => {
            Some(link.clone())
        }
        _ => None,
    });
    let bridges = bridges.filter(|_| uplinks.clone().next().is_some());
    let devices: BTreeSet<_> = uplinks.clone().chain(masters).chain(bridges).collect();
    let links = keys.iter().filter_map(|key| match key {
        Key::Link(link) => state.link(link),
        _ => None,
    });
    let of_links: BTreeSet<_> = links.filter_map(|(link, _)| link.master.clone()).collect();
    let is_asked_for = |link: &LinkName, address: &IpNet| {
        let asked = |key: &Key| matches!(key, Key::Address(on, asked) if on == link && asked.addr() == address.addr());
        keys.iter().any(asked)
    };
    let observed = |key: &Key| match key {
        Key::Address(link, address) if is_asked_for(link, address) => true,
        Key::Address(link, _) | Key::Route(link, _) => devices.contains(link) || keys.contains(key),
        Key::Link(link) => devices.contains(link) || of_links.contains(link) || keys.contains(key),
        key => keys.contains(key),
    };
    let objects = state.objects.iter().filter(|(key, _)| observed(key));
    HostState { objects: objects.map(|(key, have)| (key.clone(), have.clone())).collect() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_that_was_done_satisfies_the_spec_and_leaves_nothing_to_do(
        before in case(), wanted in case(), damages in proptest::collection::vec(damage(), 0..5),
    ) {
        let mut state = fresh_state();
        converge(&spec(&before.world()), &mut state);
        damages.iter().for_each(|damage| inflict(&mut state, damage));
        let wanted = spec(&wanted.world());
        let problems = problem_keys(&plan(&wanted, &state));
        converge(&wanted, &mut state);
        prop_assert_eq!(unsatisfied(&wanted, &state, &problems), Vec::<String>::new());
        prop_assert_eq!(plan(&wanted, &state).steps, BTreeSet::new());
    }

    #[test]
    fn what_is_foreign_is_untouched_whatever_the_spec(
        walk in proptest::collection::vec((case(), proptest::option::of(damage())), 1..5),
    ) {
        let mut state = fresh_state();
        for (case, damage) in walk {
            damage.iter().for_each(|damage| inflict(&mut state, damage));
            let before = foreign(&state);
            converge(&spec(&case.world()), &mut state);
            prop_assert_eq!(foreign(&state), before);
        }
    }

    #[test]
    fn plans_by_key_join_up_to_the_whole_plan(
        before in case(), wanted in case(), damages in proptest::collection::vec(damage(), 0..4), split in any::<u64>(),
    ) {
        let mut state = fresh_state();
        converge(&spec(&before.world()), &mut state);
        damages.iter().for_each(|damage| inflict(&mut state, damage));
        let wanted = spec(&wanted.world());
        let all: BTreeSet<Key> = wanted.objects.keys().chain(state.objects.keys()).cloned().collect();
        let mut joined = Plan::default();
        for part in 0..3 {
            let chosen = all.iter().enumerate().filter(|(i, _)| (split.rotate_left(*i as u32 * 7) % 3) == part);
            let keys: BTreeSet<Key> = chosen.map(|(_, key)| key.clone()).collect();
            let seen = keys.iter().flat_map(|key| reads(&wanted, key)).collect();
            let some = plan_keys(&wanted, &restricted(&state, &seen), &keys);
            joined.steps.extend(some.steps);
            joined.problems.extend(some.problems);
        }
        prop_assert_eq!(joined, plan(&wanted, &state));
    }

    #[test]
    fn any_order_of_specs_ends_in_the_same_state(
        walk in proptest::collection::vec(case(), 0..5), last in case(),
    ) {
        let last = spec(&last.world());
        let mut walked = fresh_state();
        for case in walk {
            converge(&spec(&case.world()), &mut walked);
        }
        converge(&last, &mut walked);
        let mut direct = fresh_state();
        converge(&last, &mut direct);
        prop_assert_eq!(difference(&walked, &direct), Vec::<String>::new());
    }

    #[test]
    fn a_plan_that_was_cut_off_anywhere_is_finished_by_the_next(
        before in case(), wanted in case(), cut in any::<prop::sample::Index>(),
    ) {
        let mut state = fresh_state();
        converge(&spec(&before.world()), &mut state);
        let wanted = spec(&wanted.world());
        let mut whole = state.clone();
        converge(&wanted, &mut whole);
        let steps = plan(&wanted, &state).steps;
        for step in steps.iter().take(cut.index(steps.len() + 1)) {
            trestle_core::simulate::simulate(&mut state, step);
        }
        converge(&wanted, &mut state);
        prop_assert_eq!(difference(&state, &whole), Vec::<String>::new());
    }

    #[test]
    fn compiling_the_affected_scopes_again_equals_compiling_the_whole(
        before in case(), after in case(), which in any::<prop::sample::Index>(),
    ) {
        let (mut world, target) = (before.world(), after.world());
        let mut objects = compile(&world, HOST);
        let mut changes: Vec<Entity> = vec![Entity::Host(HOST)];
        changes.extend(NETWORKS.map(|n| Entity::Network(network(n).id)));
        let ids: BTreeSet<_> = world.interfaces().chain(target.interfaces()).map(|i| i.id).collect();
        changes.extend(ids.into_iter().map(Entity::Interface));
        let floating = before.floating.iter().chain(&after.floating).map(Floating::address);
        changes.extend(floating.collect::<BTreeSet<_>>().into_iter().map(Entity::FloatingIp));
        let records = before.records.keys().chain(after.records.keys()).map(|n| dns_record(*n, false).id);
        changes.extend(records.collect::<BTreeSet<_>>().into_iter().map(Entity::DnsRecord));
        changes.extend((1..=3).map(|n| Entity::SecurityGroup(group_id(n))));
        changes.push(Entity::AddressGroup(address_group_id(1)));
        changes.push(Entity::Vpn(PROJECT));
        let turn = which.index(changes.len());
        changes.rotate_left(turn);
        for entity in changes {
            let mut scopes = affected(&world, entity);
            // Networks are put in, never out, before their interfaces are.
            match entity {
                Entity::Host(id) => target.host(id).cloned().into_iter().for_each(|h| world.put_host(h)),
                Entity::Network(id) => {
                    target.network(id).cloned().into_iter().for_each(|n| world.put_network(n));
                }
                Entity::Interface(id) => {
                    world.remove_interface(id);
                    target.interface(id).cloned().into_iter().for_each(|i| world.put_interface(i));
                }
                Entity::FloatingIp(address) => {
                    world.remove_floating_ip(address);
                    target.floating_ip(address).cloned().into_iter().for_each(|f| world.put_floating_ip(f));
                }
                Entity::DnsRecord(id) => {
                    world.remove_dns_record(id);
                    target.dns_record(id).cloned().into_iter().for_each(|r| world.put_dns_record(r));
                }
                Entity::SecurityGroup(id) => {
                    world.remove_security_group(id);
                    target.security_group(id).cloned().into_iter().for_each(|g| world.put_security_group(g));
                }
                Entity::AddressGroup(id) => {
                    world.remove_address_group(id);
                    target.address_group(id).cloned().into_iter().for_each(|g| world.put_address_group(g));
                }
                Entity::Vpn(project) => {
                    world.remove_vpn(project);
                    target.vpn(project).cloned().into_iter().for_each(|v| world.put_vpn(v));
                }
            }
            scopes.extend(affected(&world, entity));
            let here = scopes.iter().filter(|(host, _)| *host == HOST);
            let fresh: BTreeMap<Key, Object> =
                here.flat_map(|(host, scope)| compile_scope(&world, *host, *scope)).collect();
            let whole = compile(&world, HOST);
            for key in whole.keys().chain(objects.keys()) {
                let differs = whole.get(key) != objects.get(key);
                prop_assert!(!differs || fresh.get(key) == whole.get(key), "{key} changed outside its scopes");
            }
            objects = whole;
        }
    }
}

/// Of groups that come together, each has rules of its own, even where a digest cannot tell them apart.
#[test]
fn guests_in_groups_that_look_alike_are_held_to_their_own() {
    let mut world = world(&[(1, 0), (1, 1)]);
    (2..=3).for_each(|number| world.put_security_group(common::group(number, Vec::new())));
    let mut interfaces: Vec<Interface> = world.interfaces().cloned().collect();
    for (interface, number) in interfaces.iter_mut().zip(2..) {
        interface.security = Some(Security { groups: [group_id(number)].into(), ..Security::default() });
        world.put_interface(interface.clone());
    }
    let groups = interfaces[0].security.clone().unwrap().groups;
    assert_eq!(world.alike(HOST, &groups).count(), 2, "they look alike");
    let objects = compile(&world, HOST);
    let leads_to = |set, element: &str| match objects.get(&Key::Element(set, element.to_owned())) {
        Some(Object::Mapping(value)) => value.clone(),
        other => panic!("{element} leads to {other:?}"),
    };
    for (interface, number) in interfaces.iter().zip(2..) {
        let mark = leads_to(Set::Groups4, &interface.addresses[0].to_string());
        assert_eq!(leads_to(Set::Egress, &mark), format!("jump out_{number}"));
        assert_eq!(leads_to(Set::Ingress, &mark), format!("jump in_{number}"));
    }
}

/// The order of the steps themselves: what must not be up before what.
#[test]
fn an_interface_is_guarded_before_it_is_up_and_unguarded_after_it_is_gone() {
    let wanted = spec(&world(&[(1, 0)]));
    let mut state = fresh_state();
    let steps: Vec<String> = plan(&wanted, &state).steps.iter().map(ToString::to_string).collect();
    let place = |text: &str| steps.iter().rposition(|step| step.starts_with(text)).unwrap();
    assert!(place("add tr-") < place("make tap"));
    assert!(place("write DHCP entry") < place("make tap"));
    converge(&wanted, &mut state);
    let bare = HostSpec { generation: 2, ..HostSpec::default() };
    let steps: Vec<String> = plan(&bare, &state).steps.iter().map(ToString::to_string).collect();
    let place = |text: &str| steps.iter().position(|step| step.starts_with(text)).unwrap();
    assert!(place("delete device tr-") < place("delete table guard"));
}
