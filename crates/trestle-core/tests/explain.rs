//! What `explain` says, against the meaning of the rules: a packet passes if any rule of any group of its
//! sender allows it, and any rule of any group of its receiver.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod common;

use std::collections::BTreeSet;
use std::net::IpAddr;

use common::rules::{Held, OTHER_PROTOCOL, addresses, held, rules, security};
use common::{HOST, OTHER, at, group, world};
use proptest::prelude::*;
use trestle_core::explain::{
    Explanation, Outcome, OwnAddresses, Packet, Sender, StageKind, Verdict, explain,
};
use trestle_core::types::{Cidr, Direction, Family, HostId, IcmpType, IpProtocol};
use trestle_core::world::{Gateways, Interface, Network, Remote, Rule, Security, Traffic, World};

/// The moment at which everything is asked.
const NOW: i64 = 1_000;

/// A world and a packet in it.
#[derive(Clone, Debug)]
struct Case {
    /// Of VLANs 4 and 5, with IPv6.
    gateways: Gateways,
    /// Network, where it is plugged in, and what it is held to; the place is its number.
    interfaces: Vec<(u8, Option<HostId>, Held)>,
    rules: Vec<(u8, Rule)>,
    /// Of the address group, by bits.
    addresses: u8,
    from: (prop::sample::Index, bool),
    to: (prop::sample::Index, bool),
    family: Family,
    kind: (IpProtocol, u16, u8),
}

impl Case {
    fn world(&self) -> World {
        let mut world = world(&[(4, 0), (5, 0)]);
        world.remove_interface(common::interface(4, 0).id);
        world.remove_interface(common::interface(5, 0).id);
        for n in [4, 5] {
            world.put_network(Network { gateways: self.gateways.clone(), ..common::network(n) });
        }
        for number in 1..=3 {
            let rules = self.rules.iter().filter(|(of, _)| *of == number).map(|(_, rule)| rule.clone());
            world.put_security_group(group(number, rules.collect()));
        }
        world.put_address_group(addresses(4, self.addresses));
        (1..).zip(&self.interfaces).for_each(|(i, one)| world.put_interface(interface(i, one)));
        world
    }

    /// Who sends it and who is to have it, each with its address.
    fn ends(&self) -> [(Interface, IpAddr); 2] {
        let all = self.interfaces.len();
        let from = self.from.0.index(all);
        let to = (from + 1 + self.to.0.index(all - 1)) % all;
        [(from, self.from.1), (to, self.to.1)].map(|(index, by_other)| self.end(index, by_other))
    }

    fn end(&self, index: usize, by_other: bool) -> (Interface, IpAddr) {
        let number = u8::try_from(index + 1).unwrap();
        let interface = interface(number, &self.interfaces[index]);
        let is_of_family = |address: &IpAddr| Family::of(*address) == self.family;
        let pairs = interface.security.iter().flat_map(|security| &security.address_pairs);
        let other = pairs.filter_map(|pair| pair.range.single()).find(is_of_family);
        let own = interface.addresses.iter().copied().find(is_of_family);
        let address = other.filter(|_| by_other).or(own).unwrap();
        (interface, address)
    }

    fn packet(&self) -> Packet {
        let [(sender, source), (_, to)] = self.ends();
        let (protocol, port, icmp) = self.kind;
        let icmp = matches!(protocol, IpProtocol::ICMP | IpProtocol::ICMPV6).then_some(icmp);
        Packet {
            from: Sender::Interface(sender.id, Some(source)),
            to,
            protocol,
            port: protocol.has_ports().then_some(port),
            icmp: icmp.map(|number| IcmpType { number, code: None }),
        }
    }
}

fn interface(i: u8, (n, host, held): &(u8, Option<HostId>, Held)) -> Interface {
    Interface { security: security(*n, i, *held), attachment: host.map(at), ..common::interface(*n, i) }
}

fn case() -> impl Strategy<Value = Case> {
    let gateways = prop_oneof![
        3 => Just(Gateways::Shared),
        1 => Just(Gateways::One(Some(HOST))),
        1 => Just(Gateways::One(Some(OTHER))),
    ];
    let place = prop_oneof![6 => Just(Some(HOST)), 3 => Just(Some(OTHER)), 1 => Just(None)];
    let network = prop_oneof![4 => Just(4u8), 1 => Just(5)];
    let interfaces = proptest::collection::vec((network, place, held()), 2..6);
    let end = || (any::<prop::sample::Index>(), prop::bool::weighted(0.2));
    let packet = prop_oneof![Just(Family::Ipv4), Just(Family::Ipv6)]
        .prop_flat_map(|family| (Just(family), kind(family)));
    (gateways, interfaces, rules(4, [NOW, NOW + 1]), any::<u8>(), end(), end(), packet).prop_map(
        |(gateways, interfaces, rules, addresses, from, to, (family, kind))| Case {
            gateways,
            interfaces,
            rules,
            addresses,
            from,
            to,
            family,
            kind,
        },
    )
}

fn kind(family: Family) -> impl Strategy<Value = (IpProtocol, u16, u8)> {
    let (icmp, numbers) = match family {
        Family::Ipv4 => (IpProtocol::ICMP, vec![8, 13, 0, 3]),
        Family::Ipv6 => (IpProtocol::ICMPV6, vec![128, 129, 1]),
    };
    let other = IpProtocol::new(OTHER_PROTOCOL).unwrap();
    let protocols = vec![IpProtocol::TCP, IpProtocol::UDP, IpProtocol::SCTP, icmp, other];
    (
        prop::sample::select(protocols),
        prop::sample::select(vec![22, 53, 80, 8080]),
        prop::sample::select(numbers),
    )
}

/// The meaning of a rule.
fn allows(world: &World, rule: &Rule, packet: &Packet, other_end: IpAddr) -> bool {
    let has_ended = rule.expires_at.is_some_and(|end| end <= NOW);
    let is_of_family = rule.family.is_none_or(|family| family == Family::of(packet.to));
    let is_traffic = match rule.traffic {
        Traffic::Any => true,
        Traffic::Protocol(protocol) => protocol == packet.protocol,
        Traffic::Ports(protocol, ports) => {
            protocol == packet.protocol && packet.port.is_some_and(|port| ports.contains(port))
        }
        Traffic::Icmp(protocol, of) => {
            let is_message = |icmp: IcmpType| {
                icmp.number == of.number && of.code.is_none_or(|code| code == icmp.code.unwrap_or(0))
            };
            protocol == packet.protocol && packet.icmp.is_some_and(is_message)
        }
    };
    !has_ended && is_of_family && is_traffic && is_remote(world, rule.remote, other_end)
}

fn is_remote(world: &World, remote: Remote, address: IpAddr) -> bool {
    let in_range = |range: &Cidr| range.contains(address);
    match remote {
        Remote::Any => true,
        Remote::Range(range) => in_range(&range),
        Remote::AddressGroup(id) => world.address_group(id).unwrap().ranges.iter().any(in_range),
        Remote::Group(id) => world.interfaces().any(|interface| {
            let network = world.network(interface.network).unwrap();
            let is_in = |security: &Security| security.groups.contains(&id);
            interface.attachment.is_some()
                && interface.security.as_ref().is_some_and(is_in)
                && interface.filtered_addresses(network).contains(&address)
        }),
    }
}

/// Whether an interface's groups let the packet pass, in this direction, with this at the other end.
fn is_allowed(
    world: &World,
    one: &Interface,
    packet: &Packet,
    direction: Direction,
    other_end: IpAddr,
) -> bool {
    let Some(security) = &one.security else { return true };
    let rules = security.groups.iter().flat_map(|id| &world.security_group(*id).unwrap().rules);
    let begins = packet.icmp.is_none_or(|icmp| matches!(icmp.number, 8 | 13 | 128));
    begins && { rules }.any(|rule| rule.direction == direction && allows(world, rule, packet, other_end))
}

/// The last word of the stages of a kind.
fn verdict(explanation: &Explanation, kind: StageKind) -> Option<bool> {
    let mut of_kind = explanation.stages.iter().filter(|stage| stage.kind == kind);
    of_kind.next_back().map(|stage| stage.verdict != Verdict::Drop)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn a_packet_passes_if_any_rule_of_both_ends_allows_it(case in case()) {
        let world = case.world();
        let packet = case.packet();
        let [(sender, source), (receiver, to)] = case.ends();
        let explanation = explain(&world, &OwnAddresses::new(), &packet, NOW);
        let said = format!("{explanation:#?}\n{packet:?}");
        // Behind another address it is another's, which may be unknown.
        let is_translated = verdict(&explanation, StageKind::SourceNat).is_some();
        prop_assert!(is_translated || !matches!(explanation.outcome, Outcome::Unknown(_)), "{}", said);
        let leaves = is_allowed(&world, &sender, &packet, Direction::Egress, to);
        let arrives = is_allowed(&world, &receiver, &packet, Direction::Ingress, source);
        if let Some(egress) = verdict(&explanation, StageKind::Egress) {
            prop_assert_eq!(egress, leaves, "egress: {}", &said);
        }
        if let Some(ingress) = verdict(&explanation, StageKind::Ingress).filter(|_| !is_translated) {
            prop_assert!(leaves);
            prop_assert_eq!(ingress, arrives, "ingress: {}", &said);
        }
        if sender.network == receiver.network {
            let are_there = sender.attachment.is_some() && receiver.attachment.is_some();
            let passes = are_there && leaves && arrives;
            prop_assert_eq!(explanation.outcome == Outcome::Passes, passes, "whole: {}", &said);
        }
        let rules: BTreeSet<_> = case.rules.iter().map(|(_, rule)| rule.id).collect();
        prop_assert!(explanation.stages.iter().filter_map(|stage| stage.rule).all(|rule| rules.contains(&rule)));
    }
}
