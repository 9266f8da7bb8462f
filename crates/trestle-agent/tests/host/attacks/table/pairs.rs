//! What a guest may send from besides its own, each address under the MAC that goes with it.

use std::net::{Ipv4Addr, Ipv6Addr};

use trestle_core::types::AddressPair;

use super::{Attack, EVERYBODY, NEIGHBOUR, attack};
use crate::attacks::frames::{self, Arp, ICMPV6, IPV6, Mac, ethernet};
use crate::attacks::scene::Scene;

/// Of a router that two guests take turns at (RFC 5798 §7.3).
const VIRTUAL: Mac = [0, 0, 0x5e, 0, 1, 7];
const VIRTUAL_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 100);
const VIRTUAL_IP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0x64);
/// Under the guest's own MAC.
const SECOND_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 101);
/// Somebody that it forwards for.
const BEHIND: Ipv4Addr = Ipv4Addr::new(10, 9, 1, 1);
const BEHIND6: Ipv6Addr = Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, 1);

pub fn pairs() -> Vec<AddressPair> {
    let texts = [
        "10.0.1.100,00:00:5e:00:01:07",
        "fd00:1::64,00:00:5e:00:01:07",
        "10.0.1.101",
        "10.9.0.0/16",
        "fd09::/64",
    ];
    texts.map(|text| text.parse().unwrap()).into()
}

pub fn allowed() -> Vec<Attack> {
    vec![
        attack("IPv4 of the pair", NEIGHBOUR, |s| vec![from4(s, VIRTUAL, VIRTUAL_IP)]),
        attack("IPv6 of the pair", NEIGHBOUR, |s| vec![from6(s, VIRTUAL, VIRTUAL_IP6)]),
        attack("ARP of the pair", EVERYBODY, |s| vec![told(s, VIRTUAL, VIRTUAL_IP)]),
        attack("an advertisement of the pair", NEIGHBOUR, |s| vec![advertised(s, VIRTUAL, VIRTUAL_IP6)]),
        attack("IPv4 of the second address", NEIGHBOUR, |s| vec![from4(s, s.me.mac, SECOND_IP)]),
        attack("ARP of the second address", EVERYBODY, |s| vec![told(s, s.me.mac, SECOND_IP)]),
        attack("IPv4 that is forwarded", NEIGHBOUR, |s| vec![from4(s, s.me.mac, BEHIND)]),
        attack("IPv6 that is forwarded", NEIGHBOUR, |s| vec![from6(s, s.me.mac, BEHIND6)]),
    ]
}

pub fn forbidden() -> Vec<Attack> {
    vec![
        attack("IPv4 of the guest under the pair's MAC", NEIGHBOUR, |s| vec![from4(s, VIRTUAL, s.me.ip4)]),
        attack("IPv6 of the guest under the pair's MAC", NEIGHBOUR, |s| vec![from6(s, VIRTUAL, s.me.ip6)]),
        attack("IPv4 of the pair under the guest's MAC", NEIGHBOUR, |s| vec![from4(s, s.me.mac, VIRTUAL_IP)]),
        attack("IPv6 of the pair under the guest's MAC", NEIGHBOUR, |s| {
            vec![from6(s, s.me.mac, VIRTUAL_IP6)]
        }),
        attack("IPv4 of the second address under the pair's MAC", NEIGHBOUR, |s| {
            vec![from4(s, VIRTUAL, SECOND_IP)]
        }),
        attack("IPv4 that is forwarded under the pair's MAC", NEIGHBOUR, |s| vec![from4(s, VIRTUAL, BEHIND)]),
        attack("IPv4 beside the range", NEIGHBOUR, |s| vec![from4(s, s.me.mac, Ipv4Addr::new(10, 10, 0, 1))]),
        attack("ARP of the guest under the pair's MAC", EVERYBODY, |s| vec![told(s, VIRTUAL, s.me.ip4)]),
        attack("ARP of the pair under the guest's MAC", EVERYBODY, |s| vec![told(s, s.me.mac, VIRTUAL_IP)]),
        attack("ARP of whom it forwards for", EVERYBODY, |s| vec![told(s, s.me.mac, BEHIND)]),
        attack("a probe for the pair's address by the guest's MAC", EVERYBODY, |s| {
            let sender = (s.me.mac, Ipv4Addr::UNSPECIFIED);
            vec![s.arp(Arp { sender, target: (frames::NOBODY, VIRTUAL_IP), ..s.question() })]
        }),
        attack("an advertisement of the guest under the pair's MAC", NEIGHBOUR, |s| {
            vec![advertised(s, VIRTUAL, s.me.ip6)]
        }),
        attack("an advertisement of the pair under the guest's MAC", NEIGHBOUR, |s| {
            vec![advertised(s, s.me.mac, VIRTUAL_IP6)]
        }),
        attack("an advertisement of whom it forwards for", NEIGHBOUR, |s| {
            vec![advertised(s, s.me.mac, BEHIND6)]
        }),
        attack("a solicitation in the name of whom it forwards for", NEIGHBOUR, |s| {
            let body = [&s.token[..], &s.neighbour.ip6.octets(), &[1, 1], &s.me.mac].concat();
            vec![s.nd(BEHIND6, 135, &body)]
        }),
    ]
}

fn from4(s: &Scene, mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    s.udp4_from(mac, address, s.neighbour.mac, s.neighbour.ip4)
}

fn from6(s: &Scene, mac: Mac, address: Ipv6Addr) -> Vec<u8> {
    s.udp6_from(mac, address, s.neighbour.mac, s.neighbour.ip6)
}

fn told(s: &Scene, mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    s.arp_from(mac, Arp { sender: (mac, address), ..s.question() })
}

fn advertised(s: &Scene, mac: Mac, address: Ipv6Addr) -> Vec<u8> {
    let body = [&s.token[..], &address.octets(), &[2, 1], &mac].concat();
    let message = frames::icmpv6(address, s.neighbour.ip6, 136, &body);
    let packet = frames::ipv6(address, s.neighbour.ip6, ICMPV6, &message);
    ethernet(s.neighbour.mac, mac, IPV6, &packet)
}
