//! What is the guest's own in everything, but not for who gets it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Attack, attack};
use crate::attacks::frames::{self, BROADCAST, ICMPV6, IGMP, IPV4, IPV6, Ipv4, Mac, ethernet};
use crate::attacks::scene::{HOST, Place, SERVICE, Scene, Station};

const SHUT: &[Place] = &[Place::Shut];
const FAR: &[Place] = &[Place::Far];
const SERVED: &[Place] = &[Place::Service];
const ANSWERED: &[Place] = &[Place::Attacker];

pub fn past_groups() -> Vec<Attack> {
    vec![
        attack("a datagram that groups forbid", SHUT, |s| vec![s.udp4(&s.shut)]),
        attack("a datagram of IPv6 that groups forbid", SHUT, |s| vec![s.udp6(&s.shut)]),
        attack("to a guest's MAC and the address of all", SHUT, |s| vec![to4(s, Ipv4Addr::BROADCAST)]),
        attack("to a guest's MAC and the address of its network", SHUT, |s| {
            let [a, b, c, _] = s.shut.ip4.octets();
            vec![to4(s, Ipv4Addr::new(a, b, c, 255))]
        }),
        attack("to a guest's MAC and a group", SHUT, |s| vec![to4(s, Ipv4Addr::new(224, 0, 0, 251))]),
        attack("to a guest's MAC and a neighbour's address", SHUT, |s| vec![to4(s, s.neighbour.ip4)]),
        attack("to a guest's MAC and an address outside", SHUT, |s| {
            vec![to4(s, Ipv4Addr::new(192, 0, 2, 1))]
        }),
        attack("to a guest's MAC and a group of IPv6", SHUT, |s| vec![to6(s, "ff02::fb".parse().unwrap())]),
        attack("to a guest's MAC and a neighbour's address of IPv6", SHUT, |s| vec![to6(s, s.neighbour.ip6)]),
        attack("to all MACs and one guest's address", SHUT, |s| {
            vec![s.udp4_from(s.me.mac, s.me.ip4, BROADCAST, s.shut.ip4)]
        }),
        attack("to a group's MAC and one guest's address", SHUT, |s| {
            vec![s.udp4_from(s.me.mac, s.me.ip4, [0x01, 0, 0x5e, 0, 0, 0xfb], s.shut.ip4)]
        }),
        attack("to all MACs and one guest's address of IPv6", SHUT, |s| {
            vec![s.udp6_from(s.me.mac, s.me.ip6, [0x33, 0x33, 0, 0, 0, 1], s.shut.ip6)]
        }),
        attack("to all", SHUT, |s| vec![s.udp4_from(s.me.mac, s.me.ip4, BROADCAST, Ipv4Addr::BROADCAST)]),
        attack("a broadcast in fragments", SHUT, |s| {
            let header = Ipv4::new(s.me.ip4, Ipv4Addr::BROADCAST, frames::UDP);
            let fragments = header.in_fragments(&s.datagram4(&header, (4000, 4001)), 8, s.token);
            fragments.map(|packet| ethernet(BROADCAST, s.me.mac, IPV4, &packet)).into()
        }),
        attack("IGMP to one guest", SHUT, |s| {
            let header = Ipv4::new(s.me.ip4, s.shut.ip4, IGMP);
            vec![ethernet(s.shut.mac, s.me.mac, IPV4, &header.packet(&frames::icmp(0x16, &s.payload())))]
        }),
        attack("IGMP to all MACs and one guest", SHUT, |s| {
            let header = Ipv4::new(s.me.ip4, s.shut.ip4, IGMP);
            vec![ethernet(BROADCAST, s.me.mac, IPV4, &header.packet(&frames::icmp(0x16, &s.payload())))]
        }),
        attack("a report of listeners to one guest", SHUT, |s| vec![message6(s, s.shut.mac, 143)]),
        attack("a solicitation with a message in it", SHUT, |s| vec![message6(s, s.shut.mac, 135)]),
        attack("by the gateway to a neighbour that forbids it", SHUT, |s| {
            vec![s.udp4(&Station { mac: s.gateway.mac, ..s.shut })]
        }),
        attack("by the gateway to a neighbour that forbids it, by IPv6", SHUT, |s| {
            vec![s.udp6(&Station { mac: s.gateway.mac, ..s.shut })]
        }),
        attack("by the gateway in another's name", SHUT, |s| {
            vec![s.udp4_from(s.me.mac, s.neighbour.ip4, s.gateway.mac, s.shut.ip4)]
        }),
        attack("by the gateway to another network in the name of one there", FAR, |s| {
            vec![s.udp4_from(s.me.mac, s.neighbour.ip4, s.gateway.mac, s.far.ip4)]
        }),
        attack("by the gateway to another network in another's name, by IPv6", FAR, |s| {
            vec![s.udp6_from(s.me.mac, s.neighbour.ip6, s.gateway.mac, s.far.ip6)]
        }),
        attack("a message of neighbours, routed to another network", FAR, |s| {
            let far = Station { mac: s.gateway.mac, ..s.far };
            let (from, to) = (s.me.ip6, far.ip6);
            let message = frames::icmpv6(from, to, 135, &s.payload());
            vec![ethernet(far.mac, s.me.mac, IPV6, &frames::ipv6(from, to, ICMPV6, &message))]
        }),
    ]
}

fn to4(s: &Scene, address: Ipv4Addr) -> Vec<u8> {
    s.udp4_from(s.me.mac, s.me.ip4, s.shut.mac, address)
}

fn to6(s: &Scene, address: Ipv6Addr) -> Vec<u8> {
    s.udp6_from(s.me.mac, s.me.ip6, s.shut.mac, address)
}

fn message6(s: &Scene, mac: Mac, number: u8) -> Vec<u8> {
    let message = frames::icmpv6(s.me.ip6, s.shut.ip6, number, &s.payload());
    ethernet(mac, s.me.mac, IPV6, &frames::ipv6(s.me.ip6, s.shut.ip6, ICMPV6, &message))
}

pub fn to_the_host() -> Vec<Attack> {
    vec![
        attack("ssh to the gateway", ANSWERED, |s| vec![ssh(s, (s.me.ip4.into(), s.gateway.ip4.into()))]),
        attack("ssh to another address of the host", ANSWERED, |s| {
            vec![ssh(s, (s.me.ip4.into(), HOST.into()))]
        }),
        attack("ssh to the gateway by IPv6", ANSWERED, |s| {
            vec![ssh(s, (s.me.ip6.into(), s.gateway.ip6.into()))]
        }),
        attack("ssh to the host's link-local address", ANSWERED, |s| {
            vec![ssh(s, (s.me.link_local.into(), s.gateway.link_local.into()))]
        }),
        attack("ssh to another network's gateway", ANSWERED, |s| {
            let [a, b, c, _] = s.far.ip4.octets();
            vec![ssh(s, (s.me.ip4.into(), Ipv4Addr::new(a, b, c, 1).into()))]
        }),
        attack("a service of the gateway", SERVED, |s| vec![s.udp4(&s.gateway)]),
        attack("a service of the gateway by IPv6", SERVED, |s| vec![s.udp6(&s.gateway)]),
        attack("a service at another address of the host", SERVED, |s| {
            vec![s.udp4(&Station { ip4: HOST, ..s.gateway })]
        }),
        attack("a service of the host by its link-local address", SERVED, |s| {
            let to = s.gateway.link_local;
            vec![s.udp6_from(s.me.mac, s.me.link_local, s.gateway.mac, to)]
        }),
        attack("a service of the host by all of the network", SERVED, |s| {
            vec![s.udp4_from(s.me.mac, s.me.ip4, BROADCAST, Ipv4Addr::BROADCAST)]
        }),
        attack("a service of the host by all nodes", SERVED, |s| {
            let (group, address) = ([0x33, 0x33, 0, 0, 0, 1], "ff02::1".parse().unwrap());
            vec![s.udp6_from(s.me.mac, s.me.link_local, group, address)]
        }),
        attack("a service of the host in a frame to all", SERVED, |s| {
            vec![s.udp4_from(s.me.mac, s.me.ip4, BROADCAST, s.gateway.ip4)]
        }),
        attack("a service of the host in a neighbour's name", SERVED, |s| {
            vec![s.udp4_from(s.me.mac, s.neighbour.ip4, s.gateway.mac, s.gateway.ip4)]
        }),
        attack("a service of the host in fragments", SERVED, |s| {
            let header = Ipv4::new(s.me.ip4, s.gateway.ip4, frames::UDP);
            let fragments = header.in_fragments(&s.datagram4(&header, (4000, SERVICE)), 8, s.token);
            fragments.map(|packet| ethernet(s.gateway.mac, s.me.mac, IPV4, &packet)).into()
        }),
    ]
}

/// What answers it is told by the number that it acknowledges.
fn ssh(s: &Scene, between: (IpAddr, IpAddr)) -> Vec<u8> {
    let acknowledged = u32::from_be_bytes(s.token);
    // A port of its own, for a connection of its own.
    let port = 0x4000 | u16::from_be_bytes([s.token[2], s.token[3]]);
    let segment = frames::tcp_syn(between, (port, 22), acknowledged - 1);
    let (ether_type, packet) = match between {
        (IpAddr::V4(from), IpAddr::V4(to)) => (IPV4, Ipv4::new(from, to, frames::TCP).packet(&segment)),
        (IpAddr::V6(from), IpAddr::V6(to)) => (IPV6, frames::ipv6(from, to, frames::TCP, &segment)),
        _ => unreachable!("both are of one family"),
    };
    ethernet(s.gateway.mac, s.me.mac, ether_type, &packet)
}
