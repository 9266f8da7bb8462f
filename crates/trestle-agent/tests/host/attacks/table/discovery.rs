//! Who has an address: ARP and neighbour discovery.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Attack, EVERYBODY, NEIGHBOUR, ON_HOST, attack};
use crate::attacks::frames::{self, ARP, Arp, ICMPV6, IPV6, Mac, ethernet, icmpv6, ipv6};
use crate::attacks::scene::Scene;

const ADVERTISEMENT: u8 = 136;
const SOLICITATION: u8 = 135;
const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const REDIRECT: u8 = 137;
const LISTENER_QUERY: u8 = 130;

/// The options of neighbour discovery that say who sent it, and who is meant (RFC 4861 §4.6.1).
const SOURCE: u8 = 1;
const TARGET: u8 = 2;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];

pub fn arp() -> Vec<Attack> {
    vec![
        attack("ARP from the neighbour's MAC", EVERYBODY, |s| {
            vec![s.arp(Arp { sender: (s.neighbour.mac, s.me.ip4), ..s.question() })]
        }),
        attack("ARP from the neighbour's address", EVERYBODY, |s| {
            vec![s.arp(Arp { sender: (s.me.mac, s.neighbour.ip4), ..s.question() })]
        }),
        attack("ARP from the neighbour's MAC and address", EVERYBODY, |s| {
            vec![s.arp(Arp { sender: (s.neighbour.mac, s.neighbour.ip4), ..s.question() })]
        }),
        attack("ARP from the neighbour in all", EVERYBODY, |s| {
            let sender = (s.neighbour.mac, s.neighbour.ip4);
            vec![s.arp_from(s.neighbour.mac, Arp { sender, ..s.question() })]
        }),
        attack("ARP for oneself from another's MAC", EVERYBODY, |s| {
            vec![s.arp_from(s.neighbour.mac, s.question())]
        }),
        attack("an answer of ARP for the gateway", NEIGHBOUR, |s| {
            let answer = answer(s, s.gateway.ip4);
            vec![s.frame(ARP, &answer)]
        }),
        attack("an answer of ARP for a neighbour", NEIGHBOUR, |s| vec![s.frame(ARP, &answer(s, s.shut.ip4))]),
        attack("ARP that announces the gateway", ON_HOST, |s| vec![announcement(s, 1, s.gateway.ip4)]),
        attack("an answer of ARP that announces the gateway", ON_HOST, |s| {
            vec![announcement(s, 2, s.gateway.ip4)]
        }),
        attack("ARP that announces a neighbour", EVERYBODY, |s| vec![announcement(s, 1, s.neighbour.ip4)]),
        attack("a probe for a neighbour's address", EVERYBODY, |s| {
            vec![s.arp(Arp { sender: (s.me.mac, Ipv4Addr::UNSPECIFIED), ..s.question() })]
        }),
        attack("a probe by another's MAC", EVERYBODY, |s| {
            let sender = (s.neighbour.mac, Ipv4Addr::UNSPECIFIED);
            vec![s.arp(Arp { sender, target: (frames::NOBODY, s.me.ip4), ..s.question() })]
        }),
        attack("an answer of ARP from no address", EVERYBODY, |s| {
            vec![s.arp(Arp { operation: 2, sender: (s.me.mac, Ipv4Addr::UNSPECIFIED), ..s.question() })]
        }),
        attack("ARP from an address that all have", EVERYBODY, |s| {
            vec![s.arp(Arp { sender: (s.me.mac, Ipv4Addr::BROADCAST), ..s.question() })]
        }),
        attack("reverse ARP as ARP, for another", EVERYBODY, |s| {
            vec![s.arp(Arp { operation: 3, sender: (s.neighbour.mac, s.me.ip4), ..s.question() })]
        }),
        attack("ARP of another hardware", EVERYBODY, |s| vec![odd_arp(s, 1, 6)]),
        attack("ARP of another protocol", EVERYBODY, |s| vec![odd_arp(s, 3, 0xdd)]),
        attack("ARP of long hardware addresses", EVERYBODY, |s| vec![odd_arp(s, 4, 8)]),
        attack("ARP of no hardware addresses", EVERYBODY, |s| vec![odd_arp(s, 4, 0)]),
        attack("ARP of long protocol addresses", EVERYBODY, |s| vec![odd_arp(s, 5, 16)]),
    ]
}

fn answer(s: &Scene, of: Ipv4Addr) -> Vec<u8> {
    let target = (s.neighbour.mac, s.neighbour.ip4);
    Arp { operation: 2, sender: (s.me.mac, of), target }.bytes(&s.payload())
}

fn announcement(s: &Scene, operation: u16, of: Ipv4Addr) -> Vec<u8> {
    s.arp(Arp { operation, sender: (s.me.mac, of), target: (frames::NOBODY, of) })
}

/// The attacker's own question, but for one byte.
fn odd_arp(s: &Scene, place: usize, byte: u8) -> Vec<u8> {
    let mut packet = s.question().bytes(&s.payload());
    packet[place] = byte;
    ethernet(frames::BROADCAST, s.me.mac, ARP, &packet)
}

pub fn advertisements() -> Vec<Attack> {
    vec![
        attack("an advertisement of a neighbour's address", NEIGHBOUR, |s| {
            vec![s.nd(s.me.ip6, ADVERTISEMENT, &advertised(s, s.shut.ip6))]
        }),
        attack("an advertisement of the gateway's address", NEIGHBOUR, |s| {
            vec![s.nd(s.me.link_local, ADVERTISEMENT, &advertised(s, s.gateway.ip6))]
        }),
        attack("an advertisement of the gateway's link-local address", NEIGHBOUR, |s| {
            vec![s.nd(s.me.link_local, ADVERTISEMENT, &advertised(s, s.gateway.link_local))]
        }),
        attack("an advertisement of a neighbour's address, to all", EVERYBODY, |s| {
            let message = icmpv6(s.me.ip6, ALL_NODES, ADVERTISEMENT, &advertised(s, s.shut.ip6));
            let packet = ipv6(s.me.ip6, ALL_NODES, ICMPV6, &message);
            vec![ethernet(ALL_NODES_MAC, s.me.mac, IPV6, &packet)]
        }),
        attack("an advertisement in a neighbour's name", NEIGHBOUR, |s| {
            vec![s.nd(s.shut.ip6, ADVERTISEMENT, &advertised(s, s.shut.ip6))]
        }),
        attack("an advertisement of another's address from none", NEIGHBOUR, |s| {
            vec![s.nd(Ipv6Addr::UNSPECIFIED, ADVERTISEMENT, &advertised(s, s.shut.ip6))]
        }),
        attack("an advertisement at another's MAC", NEIGHBOUR, |s| {
            vec![s.nd(s.me.ip6, ADVERTISEMENT, &at(s, s.me.ip6, TARGET, s.shut.mac))]
        }),
        attack("an advertisement behind options, of a neighbour's address", NEIGHBOUR, |s| {
            vec![behind_options(s, 0, ADVERTISEMENT, &advertised(s, s.shut.ip6))]
        }),
        attack("an advertisement cut before its target", NEIGHBOUR, |s| {
            cut(s, ADVERTISEMENT, &advertised(s, s.shut.ip6), 8)
        }),
        attack("an advertisement cut in its target", NEIGHBOUR, |s| {
            cut(s, ADVERTISEMENT, &advertised(s, s.shut.ip6), 16)
        }),
        attack("an advertisement cut before its option", NEIGHBOUR, |s| {
            cut(s, ADVERTISEMENT, &at(s, s.me.ip6, TARGET, s.shut.mac), 24)
        }),
        attack("an advertisement with two MACs", NEIGHBOUR, |s| {
            let body = [at(s, s.me.ip6, TARGET, s.me.mac), option(TARGET, s.shut.mac)].concat();
            vec![s.nd(s.me.ip6, ADVERTISEMENT, &body)]
        }),
    ]
}

pub fn solicitations() -> Vec<Attack> {
    vec![
        attack("a solicitation in a neighbour's name", NEIGHBOUR, |s| {
            vec![s.nd(s.shut.ip6, SOLICITATION, &at(s, s.neighbour.ip6, SOURCE, s.me.mac))]
        }),
        attack("a solicitation in the gateway's name", NEIGHBOUR, |s| {
            vec![s.nd(s.gateway.link_local, SOLICITATION, &at(s, s.neighbour.ip6, SOURCE, s.me.mac))]
        }),
        attack("a solicitation from another's MAC by its option", NEIGHBOUR, |s| {
            vec![s.nd(s.me.ip6, SOLICITATION, &at(s, s.neighbour.ip6, SOURCE, s.shut.mac))]
        }),
        attack("a solicitation cut before its option", NEIGHBOUR, |s| {
            cut(s, SOLICITATION, &at(s, s.neighbour.ip6, SOURCE, s.shut.mac), 24)
        }),
        attack("a solicitation behind options, from another's MAC", NEIGHBOUR, |s| {
            vec![behind_options(s, 60, SOLICITATION, &at(s, s.neighbour.ip6, SOURCE, s.shut.mac))]
        }),
        attack("a solicitation that tries a neighbour's address out", NEIGHBOUR, |s| {
            vec![s.nd(Ipv6Addr::UNSPECIFIED, SOLICITATION, &about(s, s.neighbour.ip6))]
        }),
        attack("a solicitation that tries the gateway's address out", NEIGHBOUR, |s| {
            vec![s.nd(Ipv6Addr::UNSPECIFIED, SOLICITATION, &about(s, s.gateway.ip6))]
        }),
        attack("a solicitation of routers in a neighbour's name", NEIGHBOUR, |s| {
            let body = [&s.token[..], &option(SOURCE, s.me.mac)].concat();
            vec![s.nd(s.shut.ip6, ROUTER_SOLICITATION, &body)]
        }),
        attack("a solicitation of routers from another's MAC by its option", NEIGHBOUR, |s| {
            let body = [&s.token[..], &option(SOURCE, s.shut.mac)].concat();
            vec![s.nd(s.me.link_local, ROUTER_SOLICITATION, &body)]
        }),
        attack("a solicitation of routers from none, with a MAC", NEIGHBOUR, |s| {
            let body = [&s.token[..], &option(SOURCE, s.shut.mac)].concat();
            vec![s.nd(Ipv6Addr::UNSPECIFIED, ROUTER_SOLICITATION, &body)]
        }),
    ]
}

pub fn routers() -> Vec<Attack> {
    vec![
        attack("an advertisement of a router", NEIGHBOUR, |s| {
            vec![s.nd(s.me.link_local, ROUTER_ADVERTISEMENT, &router(s))]
        }),
        attack("an advertisement of a router, to all", ON_HOST, |s| {
            let message = icmpv6(s.me.link_local, ALL_NODES, ROUTER_ADVERTISEMENT, &router(s));
            let packet = ipv6(s.me.link_local, ALL_NODES, ICMPV6, &message);
            vec![ethernet(ALL_NODES_MAC, s.me.mac, IPV6, &packet)]
        }),
        attack("an advertisement of a router in the gateway's name", NEIGHBOUR, |s| {
            vec![s.nd(s.gateway.link_local, ROUTER_ADVERTISEMENT, &router(s))]
        }),
        attack("an advertisement of a router behind options for every hop", NEIGHBOUR, |s| {
            vec![behind_options(s, 0, ROUTER_ADVERTISEMENT, &router(s))]
        }),
        attack("an advertisement of a router behind options for the destination", NEIGHBOUR, |s| {
            vec![behind_options(s, 60, ROUTER_ADVERTISEMENT, &router(s))]
        }),
        attack("an advertisement of a router in fragments", NEIGHBOUR, |s| {
            cut(s, ROUTER_ADVERTISEMENT, &router(s), 8)
        }),
        attack("an advertisement of a router in one fragment", NEIGHBOUR, |s| {
            let message = icmpv6(s.me.ip6, s.neighbour.ip6, ROUTER_ADVERTISEMENT, &router(s));
            let header = frames::fragment_header(ICMPV6, 0, s.token);
            vec![s.packet6(frames::FRAGMENT, &[&header[..], &message].concat())]
        }),
        attack("an advertisement of a router in fragments behind options", NEIGHBOUR, |s| {
            let message = icmpv6(s.me.ip6, s.neighbour.ip6, ROUTER_ADVERTISEMENT, &router(s));
            let inside = [&frames::empty_options(ICMPV6)[..], &message].concat();
            in_fragments(s, 60, &inside, 16)
        }),
        attack("an advertisement of a router behind many options", NEIGHBOUR, |s| {
            let message = icmpv6(s.me.ip6, s.neighbour.ip6, ROUTER_ADVERTISEMENT, &router(s));
            let options = [frames::empty_options(60).repeat(12), frames::empty_options(ICMPV6).to_vec()];
            vec![s.packet6(60, &[options.concat(), message].concat())]
        }),
        attack("a redirect", NEIGHBOUR, |s| {
            let body = [&s.token[..], &s.me.link_local.octets(), &s.far.ip6.octets()].concat();
            vec![s.nd(s.me.link_local, REDIRECT, &body)]
        }),
        attack("a redirect in the gateway's name", NEIGHBOUR, |s| {
            let body = [&s.token[..], &s.me.link_local.octets(), &s.far.ip6.octets()].concat();
            vec![s.nd(s.gateway.link_local, REDIRECT, &body)]
        }),
        attack("a query for listeners", NEIGHBOUR, |s| {
            vec![s.nd(s.me.link_local, LISTENER_QUERY, &listeners(s))]
        }),
        attack("a query for listeners behind options", NEIGHBOUR, |s| {
            vec![behind_options(s, 0, LISTENER_QUERY, &listeners(s))]
        }),
    ]
}

/// Reachable times are what one likes (RFC 4861 §4.2).
fn router(s: &Scene) -> Vec<u8> {
    [&[64, 0, 7, 8][..], &s.token, &[0; 4], &option(SOURCE, s.me.mac)].concat()
}

fn listeners(s: &Scene) -> Vec<u8> {
    [&[0; 20][..], &s.token].concat()
}

/// The target of a message; the token is where nobody looks.
fn about(s: &Scene, target: Ipv6Addr) -> Vec<u8> {
    [&s.token[..], &target.octets()].concat()
}

fn at(s: &Scene, target: Ipv6Addr, which: u8, mac: Mac) -> Vec<u8> {
    [about(s, target), option(which, mac)].concat()
}

fn advertised(s: &Scene, target: Ipv6Addr) -> Vec<u8> {
    at(s, target, TARGET, s.me.mac)
}

fn option(which: u8, mac: Mac) -> Vec<u8> {
    [&[which, 1][..], &mac].concat()
}

fn behind_options(s: &Scene, header: u8, message: u8, body: &[u8]) -> Vec<u8> {
    let message = icmpv6(s.me.ip6, s.neighbour.ip6, message, body);
    s.packet6(header, &[&frames::empty_options(ICMPV6)[..], &message].concat())
}

/// A message in two fragments, the first of this length.
fn cut(s: &Scene, message: u8, body: &[u8], at: usize) -> Vec<Vec<u8>> {
    in_fragments(s, ICMPV6, &icmpv6(s.me.ip6, s.neighbour.ip6, message, body), at)
}

fn in_fragments(s: &Scene, next: u8, payload: &[u8], at: usize) -> Vec<Vec<u8>> {
    let fragments = frames::ipv6_in_fragments((s.me.ip6, s.neighbour.ip6), next, payload, at, s.token);
    fragments.map(|packet| s.frame(IPV6, &packet)).into()
}
