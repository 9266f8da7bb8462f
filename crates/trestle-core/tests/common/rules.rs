//! Random rules of security groups, and what interfaces are held to.

use proptest::prelude::*;
use trestle_core::types::{Direction, Family, IcmpType, IpProtocol, PortRange};
use trestle_core::world::{AddressGroup, Remote, Rule, Security, Traffic};

use super::{address_group, address_group_id, group_id, rule};

/// What an interface is held to: nothing, or groups 1 to 3 by their bits, and whether it has another
/// address that it may send from.
pub type Held = Option<(u8, bool)>;

/// A protocol without ports, for experiments (RFC 3692).
pub const OTHER_PROTOCOL: u8 = 253;

const PORTS: [&str; 4] = ["22", "20-25", "80-90", "1-65535"];

/// Some ranges of network `n`'s addresses.
fn ranges(n: u8) -> [String; 5] {
    [
        format!("10.0.{n}.8/29"),
        "10.0.0.0/16".to_owned(),
        format!("10.0.{n}.12/32"),
        format!("fd00:{n}::/64"),
        format!("fd00:{n}::c/128"),
    ]
}

pub fn held() -> impl Strategy<Value = Held> {
    prop_oneof![1 => Just(None), 8 => (0..8u8, any::<bool>()).prop_map(Some)]
}

/// The other address of interface `i` of network `n`.
pub fn other_address(n: u8, i: u8) -> String {
    format!("10.0.{n}.{}", 200 + i)
}

pub fn security(n: u8, i: u8, held: Held) -> Option<Security> {
    held.map(|(bits, has_pair)| Security {
        groups: (1..=3).filter(|group| bits & (1 << (group - 1)) != 0).map(group_id).collect(),
        address_pairs: has_pair.then(|| other_address(n, i).parse().unwrap()).into_iter().collect(),
    })
}

/// An address group with some of the ranges, by bits; none of them overlaps another.
pub fn addresses(n: u8, bits: u8) -> AddressGroup {
    let ranges = ranges(n);
    let chosen = [0, 3].into_iter().filter(|which| bits & (1 << which) != 0);
    address_group(1, &chosen.map(|which| &ranges[which][..]).collect::<Vec<_>>())
}

/// Rules of groups 1 to 3 that name each other, address group 1 and network `n`'s ranges, and may have one
/// of these ends.
pub fn rules(n: u8, ends: [i64; 2]) -> impl Strategy<Value = Vec<(u8, Rule)>> {
    proptest::collection::vec((1..=3u8, a_rule(n, ends)), 0..10).prop_map(|rules| {
        let numbered = (1..).zip(rules).map(|(number, (of, one))| {
            let Rule { family, expires_at, .. } = one;
            let numbered = rule(number, one.direction, one.traffic, one.remote);
            (of, Rule { family, expires_at, ..numbered })
        });
        numbered.collect()
    })
}

fn a_rule(n: u8, [ended, ends]: [i64; 2]) -> impl Strategy<Value = Rule> {
    let direction = prop_oneof![Just(Direction::Egress), Just(Direction::Ingress)];
    let family = prop_oneof![3 => Just(None), 1 => Just(Some(Family::Ipv4)), 1 => Just(Some(Family::Ipv6))];
    let remote = prop_oneof![
        3 => Just(Remote::Any),
        2 => prop::sample::select(ranges(n).to_vec()).prop_map(|range| Remote::Range(range.parse().unwrap())),
        2 => (1..=3u8).prop_map(|number| Remote::Group(group_id(number))),
        1 => Just(Remote::AddressGroup(address_group_id(1))),
    ];
    let end = prop_oneof![4 => Just(None), 1 => Just(Some(ended)), 1 => Just(Some(ends))];
    (direction, family, traffic(), remote, end).prop_map(
        |(direction, family, traffic, remote, expires_at)| Rule {
            family,
            expires_at,
            ..rule(0, direction, traffic, remote)
        },
    )
}

fn traffic() -> impl Strategy<Value = Traffic> {
    let protocol = |number| IpProtocol::new(number).unwrap();
    let ports = prop::sample::select(PORTS.to_vec()).prop_map(|ports| ports.parse::<PortRange>().unwrap());
    let with_ports = prop::sample::select(vec![IpProtocol::TCP, IpProtocol::UDP, IpProtocol::SCTP]);
    let icmp = (prop::sample::select(vec![8u8, 13, 0]), prop::option::weighted(0.3, 0..2u8));
    let icmp = icmp.prop_map(|(number, code)| IcmpType { number, code });
    prop_oneof![
        2 => Just(Traffic::Any),
        1 => prop::sample::select(vec![1, 6, 17, 58, 132, OTHER_PROTOCOL])
            .prop_map(move |number| Traffic::Protocol(protocol(number))),
        3 => (with_ports, ports).prop_map(|(protocol, ports)| Traffic::Ports(protocol, ports)),
        1 => icmp.prop_map(|icmp| Traffic::Icmp(IpProtocol::ICMP, icmp)),
        1 => Just(Traffic::Icmp(IpProtocol::ICMPV6, IcmpType { number: 128, code: None })),
    ]
}
