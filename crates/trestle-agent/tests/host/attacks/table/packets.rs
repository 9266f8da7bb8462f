//! What is wrong with the packet in the frame.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Attack, NEIGHBOUR, attack};
use crate::attacks::frames::{self, ICMPV6, IGMP, IPV4, IPV6, Ipv4, UDP, routing};
use crate::attacks::scene::{Scene, Station};

/// The options of IPv4 that name the way a packet goes (RFC 791 §3.1).
const LOOSE: u8 = 131;
const STRICT: u8 = 137;
const NOTHING: u8 = 1;

pub fn forged4() -> Vec<Attack> {
    vec![
        attack("IPv4 from the neighbour's address", NEIGHBOUR, |s| vec![from4(s, s.neighbour.ip4)]),
        attack("IPv4 from another guest's address", NEIGHBOUR, |s| vec![from4(s, s.shut.ip4)]),
        attack("IPv4 from the gateway's address", NEIGHBOUR, |s| vec![from4(s, s.gateway.ip4)]),
        attack("IPv4 from outside", NEIGHBOUR, |s| vec![from4(s, Ipv4Addr::new(192, 0, 2, 1))]),
        attack("IPv4 from no address", NEIGHBOUR, |s| vec![from4(s, Ipv4Addr::UNSPECIFIED)]),
        attack("IPv4 from the address of all", NEIGHBOUR, |s| vec![from4(s, Ipv4Addr::BROADCAST)]),
        attack("IPv4 from a loopback", NEIGHBOUR, |s| vec![from4(s, Ipv4Addr::LOCALHOST)]),
        attack("IPv4 from the metadata address", NEIGHBOUR, |s| {
            vec![from4(s, Ipv4Addr::new(169, 254, 169, 254))]
        }),
        attack("IPv4 from a group", NEIGHBOUR, |s| vec![from4(s, Ipv4Addr::new(224, 0, 0, 1))]),
        attack("IPv4 from the neighbour's address in fragments", NEIGHBOUR, |s| {
            let header = Ipv4::new(s.shut.ip4, s.neighbour.ip4, UDP);
            let fragments = header.in_fragments(&s.datagram4(&header, (4000, 4001)), 8, s.token);
            fragments.map(|packet| s.frame(IPV4, &packet)).into()
        }),
        attack("IPv4 of the protocol without a name", NEIGHBOUR, |s| {
            let header = Ipv4::new(s.me.ip4, s.neighbour.ip4, 255);
            vec![s.frame(IPV4, &header.packet(&s.payload()))]
        }),
        attack("a redirect of ICMP in the gateway's name", NEIGHBOUR, |s| {
            let header = Ipv4::new(s.gateway.ip4, s.neighbour.ip4, 1);
            let body = [&s.me.ip4.octets()[..], &s.payload()].concat();
            vec![s.frame(IPV4, &header.packet(&frames::icmp(5, &body)))]
        }),
        attack("a query for listeners by IGMP", NEIGHBOUR, |s| {
            let header = Ipv4::new(s.me.ip4, s.neighbour.ip4, IGMP);
            vec![s.frame(IPV4, &header.packet(&frames::icmp(0x11, &s.payload())))]
        }),
    ]
}

fn from4(s: &Scene, address: Ipv4Addr) -> Vec<u8> {
    s.udp4_from(s.me.mac, address, s.neighbour.mac, s.neighbour.ip4)
}

pub fn forged6() -> Vec<Attack> {
    vec![
        attack("IPv6 from the neighbour's address", NEIGHBOUR, |s| vec![from6(s, s.neighbour.ip6)]),
        attack("IPv6 from another guest's address", NEIGHBOUR, |s| vec![from6(s, s.shut.ip6)]),
        attack("IPv6 from the gateway's address", NEIGHBOUR, |s| vec![from6(s, s.gateway.ip6)]),
        attack("IPv6 from the gateway's link-local address", NEIGHBOUR, |s| {
            vec![from6(s, s.gateway.link_local)]
        }),
        attack("IPv6 from a neighbour's link-local address", NEIGHBOUR, |s| {
            vec![from6(s, s.shut.link_local)]
        }),
        attack("IPv6 from outside", NEIGHBOUR, |s| vec![from6(s, "2001:db8::1".parse().unwrap())]),
        attack("IPv6 from no address", NEIGHBOUR, |s| vec![from6(s, Ipv6Addr::UNSPECIFIED)]),
        attack("IPv6 from a loopback", NEIGHBOUR, |s| vec![from6(s, Ipv6Addr::LOCALHOST)]),
        attack("IPv6 from a group", NEIGHBOUR, |s| vec![from6(s, "ff02::1".parse().unwrap())]),
        attack("IPv6 from an address of IPv4", NEIGHBOUR, |s| vec![from6(s, s.shut.ip4.to_ipv6_mapped())]),
        attack("IPv6 from another's address in fragments", NEIGHBOUR, |s| {
            let datagram = s.datagram6(s.shut.ip6, s.neighbour.ip6, (4000, 4001));
            let fragments =
                frames::ipv6_in_fragments((s.shut.ip6, s.neighbour.ip6), UDP, &datagram, 8, s.token);
            fragments.map(|packet| s.frame(IPV6, &packet)).into()
        }),
        attack("IPv6 of the protocol without a name", NEIGHBOUR, |s| vec![s.packet6(255, &s.payload())]),
        attack("a message without an address that is no question", NEIGHBOUR, |s| {
            vec![s.nd(Ipv6Addr::UNSPECIFIED, 128, &s.payload())]
        }),
    ]
}

fn from6(s: &Scene, address: Ipv6Addr) -> Vec<u8> {
    s.udp6_from(s.me.mac, address, s.neighbour.mac, s.neighbour.ip6)
}

pub fn on_a_way_of_their_own() -> Vec<Attack> {
    vec![
        attack("a loose source route", NEIGHBOUR, |s| vec![with_options(s, &route(s, LOOSE))]),
        attack("a strict source route", NEIGHBOUR, |s| vec![with_options(s, &route(s, STRICT))]),
        attack("a loose source route behind others", NEIGHBOUR, |s| {
            vec![with_options(s, &[&[NOTHING; 5][..], &route(s, LOOSE)].concat())]
        }),
        attack("a strict source route behind a router alert", NEIGHBOUR, |s| {
            vec![with_options(s, &[&[0x94, 4, 0, 0][..], &route(s, STRICT)].concat())]
        }),
        attack("two source routes", NEIGHBOUR, |s| {
            vec![with_options(s, &[route(s, LOOSE), route(s, STRICT)].concat())]
        }),
        attack("a source route before an option that is wrong", NEIGHBOUR, |s| {
            vec![with_options(s, &[&route(s, LOOSE)[..], &[68, 200]].concat())]
        }),
        attack("a source route that begins in the wrong place", NEIGHBOUR, |s| {
            let mut route = route(s, LOOSE);
            route[2] = 3;
            vec![with_options(s, &route)]
        }),
        attack("a source route in fragments", NEIGHBOUR, |s| {
            let header = Ipv4 { options: route(s, LOOSE), ..Ipv4::new(s.me.ip4, s.neighbour.ip4, UDP) };
            let fragments = header.in_fragments(&s.datagram4(&header, (4000, 4001)), 8, s.token);
            fragments.map(|packet| s.frame(IPV4, &packet)).into()
        }),
        attack("a routing header of type 0", NEIGHBOUR, |s| vec![s.packet6(43, &routed(s, 0))]),
        attack("a routing header of segments", NEIGHBOUR, |s| vec![s.packet6(43, &routed(s, 4))]),
        attack("a routing header behind options", NEIGHBOUR, |s| {
            vec![s.packet6(60, &[&frames::empty_options(43)[..], &routed(s, 0)].concat())]
        }),
        attack("a routing header behind options for every hop", NEIGHBOUR, |s| {
            vec![s.packet6(0, &[&frames::empty_options(43)[..], &routed(s, 0)].concat())]
        }),
        attack("a routing header behind one of another type", NEIGHBOUR, |s| {
            vec![s.packet6(43, &[routing(43, 2, s.far.ip6), routed(s, 0)].concat())]
        }),
        attack("a routing header in a fragment", NEIGHBOUR, |s| {
            let header = frames::fragment_header(43, 0, s.token);
            vec![s.packet6(frames::FRAGMENT, &[&header[..], &routed(s, 0)].concat())]
        }),
    ]
}

/// By way of a guest of another network.
fn route(s: &Scene, option: u8) -> Vec<u8> {
    [&[option, 7, 4][..], &s.far.ip4.octets()].concat()
}

fn with_options(s: &Scene, options: &[u8]) -> Vec<u8> {
    let header = Ipv4 { options: options.to_vec(), ..Ipv4::new(s.me.ip4, s.neighbour.ip4, UDP) };
    s.ipv4(s.me.mac, s.neighbour.mac, &header)
}

fn routed(s: &Scene, routing_type: u8) -> Vec<u8> {
    let datagram = s.datagram6(s.me.ip6, s.neighbour.ip6, (4000, 4001));
    [routing(UDP, routing_type, s.far.ip6), datagram].concat()
}

fn mislabelled(frame: &[u8], ether_type: u16) -> Vec<u8> {
    [&frame[..12], &ether_type.to_be_bytes(), &frame[14..]].concat()
}

/// What this kernel's bridge does not pass on even where nobody guards it.
pub fn never_passed_on() -> Vec<Attack> {
    vec![
        attack("ARP that says it is IPv4", NEIGHBOUR, |s| {
            vec![s.frame(IPV4, &s.question().bytes(&s.payload()))]
        }),
        attack("IPv6 that says it is IPv4", NEIGHBOUR, |s| vec![mislabelled(&s.udp6(&s.neighbour), IPV4)]),
        attack("IPv4 that says it is IPv6", NEIGHBOUR, |s| vec![mislabelled(&s.udp4(&s.neighbour), IPV6)]),
        attack("a frame from a group", NEIGHBOUR, |s| {
            vec![s.udp4_from([0x01, 0, 0x5e, 0, 0, 1], s.me.ip4, s.neighbour.mac, s.neighbour.ip4)]
        }),
        attack("a frame from no MAC", NEIGHBOUR, |s| {
            vec![s.udp4_from([0; 6], s.me.ip4, s.neighbour.mac, s.neighbour.ip4)]
        }),
        attack("a header of IPv4 that is too short", NEIGHBOUR, |s| vec![spoilt(s, 0, 0x44)]),
        attack("a header of IPv4 that is longer than the packet", NEIGHBOUR, |s| vec![spoilt(s, 3, 10)]),
        attack("IPv4 of another version", NEIGHBOUR, |s| vec![spoilt(s, 0, 0x55)]),
        attack("IPv4 that is longer than its frame", NEIGHBOUR, |s| vec![spoilt(s, 2, 5)]),
        attack("overlapping fragments", NEIGHBOUR, |s| {
            let header = Ipv4::new(s.me.ip4, s.neighbour.ip4, UDP);
            let ends = (header.from.into(), header.to.into());
            let reply = frames::udp(ends, (67, 68), &s.token.repeat(8));
            let harmless = frames::udp(ends, (4000, 4001), &[0; 32]);
            let [harmless, last] = header.in_fragments(&harmless, 16, s.token);
            let [forged, _] = header.in_fragments(&reply, 24, s.token);
            [harmless, forged, last].map(|packet| s.frame(IPV4, &packet)).into()
        }),
        attack("a fragment that ends before its ports, and the rest", NEIGHBOUR, |s| {
            let datagram = s.datagram6(s.me.ip6, s.neighbour.ip6, (547, 546));
            let options = [&[UDP, 1, 1, 12][..], &[0; 12]].concat();
            let inside = [options, datagram].concat();
            let (from, to) = (s.me.ip6, s.neighbour.ip6);
            let fragments = frames::ipv6_in_fragments((from, to), 60, &inside, 8, s.token);
            fragments.map(|packet| s.frame(IPV6, &packet)).into()
        }),
        attack("an advertisement of a router that ends before its type, and the rest", NEIGHBOUR, |s| {
            let message = frames::icmpv6(s.me.ip6, s.neighbour.ip6, 134, &s.payload());
            let inside = [&[ICMPV6, 1, 1, 12][..], &[0; 12], &message].concat();
            let (from, to) = (s.me.ip6, s.neighbour.ip6);
            let fragments = frames::ipv6_in_fragments((from, to), 60, &inside, 16, s.token);
            fragments.map(|packet| s.frame(IPV6, &packet)).into()
        }),
    ]
}

/// A datagram with another byte in its header.
fn spoilt(s: &Scene, place: usize, byte: u8) -> Vec<u8> {
    let to: &Station = &s.neighbour;
    let mut frame = s.udp4(to);
    frame[14 + place] = byte;
    frame
}
