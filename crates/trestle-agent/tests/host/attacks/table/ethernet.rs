//! What is wrong with the frame itself.

use super::{Attack, EVERYBODY, NEIGHBOUR, attack};
use crate::attacks::frames::{self, IPV4, Ipv4, Mac, ethernet, with_length};
use crate::attacks::scene::{Place, Scene};

/// A MAC that nobody has.
const STRANGER: Mac = [0x02, 0, 0, 0, 0, 0x66];
/// What the LLC of a bridge's spanning tree begins with (IEEE 802.1D §9.3.1).
const BPDU: [u8; 7] = [0x42, 0x42, 0x03, 0, 0, 0, 0];
const SPANNING_TREE: Mac = [0x01, 0x80, 0xc2, 0, 0, 0x00];
const SLOW_PROTOCOLS: Mac = [0x01, 0x80, 0xc2, 0, 0, 0x02];
const NEAREST_BRIDGE: Mac = [0x01, 0x80, 0xc2, 0, 0, 0x0e];
const NEAREST_NON_TPMR_BRIDGE: Mac = [0x01, 0x80, 0xc2, 0, 0, 0x03];
const CISCO: Mac = [0x01, 0, 0x0c, 0xcc, 0xcc, 0xcc];

const HOST: &[Place] = &[Place::Host];
/// What a bridge passes on to its ports, and not to itself.
const PORTS: &[Place] = &[Place::Neighbour, Place::Peer];

const CTAG: u16 = 0x8100;
const STAG: u16 = 0x88a8;
const LLDP: u16 = 0x88cc;
const SLOW: u16 = 0x8809;
const EAPOL: u16 = 0x888e;

pub fn forged() -> Vec<Attack> {
    vec![
        attack("a frame from a MAC that nobody has", NEIGHBOUR, |s| vec![from(s, STRANGER)]),
        attack("a frame from the gateway's MAC", NEIGHBOUR, |s| vec![from(s, s.gateway.mac)]),
        attack("a frame from the neighbour's MAC", &[Place::Shut], |s| {
            vec![s.udp4_from(s.neighbour.mac, s.me.ip4, s.shut.mac, s.shut.ip4)]
        }),
        attack("a frame from a MAC that nobody has, to all", EVERYBODY, |s| {
            vec![s.arp_from(STRANGER, s.question())]
        }),
        attack("a frame from the neighbour's MAC and with its address", &[Place::Shut], |s| {
            vec![s.udp4_from(s.neighbour.mac, s.neighbour.ip4, s.shut.mac, s.shut.ip4)]
        }),
        attack("IPv6 from a MAC that nobody has", NEIGHBOUR, |s| {
            vec![s.udp6_from(STRANGER, s.me.ip6, s.neighbour.mac, s.neighbour.ip6)]
        }),
    ]
}

fn from(s: &Scene, mac: Mac) -> Vec<u8> {
    s.udp4_from(mac, s.me.ip4, s.neighbour.mac, s.neighbour.ip4)
}

pub fn tagged() -> Vec<Attack> {
    vec![
        attack("a tag of a VLAN", EVERYBODY, |s| vec![tag(s, CTAG, 105)]),
        attack("a priority tag", EVERYBODY, |s| vec![tag(s, CTAG, 0xe000)]),
        attack("a tag of the last VLAN", EVERYBODY, |s| vec![tag(s, CTAG, 0x0fff)]),
        attack("a service tag", EVERYBODY, |s| vec![tag(s, STAG, 105)]),
        attack("a service priority tag", EVERYBODY, |s| vec![tag(s, STAG, 0)]),
        attack("a tag in a tag", EVERYBODY, |s| vec![frames::tagged(&tag(s, CTAG, 105), CTAG, 104)]),
        attack("a tag in a priority tag", EVERYBODY, |s| vec![frames::tagged(&tag(s, CTAG, 105), CTAG, 0)]),
        attack("a tag in a service tag", EVERYBODY, |s| vec![frames::tagged(&tag(s, CTAG, 105), STAG, 104)]),
        attack("a service tag in a tag", EVERYBODY, |s| vec![frames::tagged(&tag(s, STAG, 105), CTAG, 104)]),
        attack("a tag of QinQ as it was", EVERYBODY, |s| vec![tag(s, 0x9100, 105)]),
        attack("a tagged frame to a guest", NEIGHBOUR, |s| {
            vec![frames::tagged(&s.udp4(&s.neighbour), CTAG, 105)]
        }),
        attack("a tagged frame past groups", &[Place::Shut], |s| {
            vec![frames::tagged(&s.udp4(&s.shut), CTAG, 0)]
        }),
        attack("tagged IPv6", NEIGHBOUR, |s| vec![frames::tagged(&s.udp6(&s.neighbour), CTAG, 0)]),
    ]
}

/// What would be right without the tag.
fn tag(s: &Scene, ether_type: u16, vid: u16) -> Vec<u8> {
    frames::tagged(&s.arp(s.question()), ether_type, vid)
}

pub fn other_types() -> Vec<Attack> {
    vec![
        attack("PPPoE discovery", EVERYBODY, |s| vec![of_type(s, 0x8863)]),
        attack("a session of PPPoE", EVERYBODY, |s| vec![of_type(s, 0x8864)]),
        attack("MPLS", EVERYBODY, |s| vec![of_type(s, 0x8847)]),
        attack("MPLS to many", EVERYBODY, |s| vec![of_type(s, 0x8848)]),
        attack("RARP", EVERYBODY, |s| vec![of_type(s, 0x8035)]),
        attack("AppleTalk ARP", EVERYBODY, |s| vec![of_type(s, 0x80f3)]),
        attack("IPX", EVERYBODY, |s| vec![of_type(s, 0x8137)]),
        attack("802.1ah", EVERYBODY, |s| vec![of_type(s, 0x88e7)]),
        attack("MACsec", EVERYBODY, |s| vec![of_type(s, 0x88e5)]),
        attack("ATA over Ethernet", EVERYBODY, |s| vec![of_type(s, 0x88a2)]),
        attack("FCoE initialization", EVERYBODY, |s| vec![of_type(s, 0x8914)]),
        attack("an experimental type", EVERYBODY, |s| vec![of_type(s, 0x88b5)]),
        attack("the type of loops", EVERYBODY, |s| vec![of_type(s, 0x9000)]),
        attack("LLDP to all", EVERYBODY, |s| vec![of_type(s, LLDP)]),
        attack("IPX behind a length", EVERYBODY, |s| vec![of_length(s, &[0xff, 0xff, 0, 30])]),
        attack("NetBIOS behind a length", EVERYBODY, |s| vec![of_length(s, &[0xf0, 0xf0, 3])]),
        attack("IPv4 behind a length and SNAP", EVERYBODY, |s| {
            let packet = Ipv4::new(s.me.ip4, s.neighbour.ip4, frames::UDP);
            let packet = packet.packet(&s.datagram4(&packet, (4000, 4001)));
            vec![of_length(s, &[&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0][..], &packet].concat())]
        }),
    ]
}

fn of_type(s: &Scene, ether_type: u16) -> Vec<u8> {
    ethernet(frames::BROADCAST, s.me.mac, ether_type, &s.payload())
}

fn of_length(s: &Scene, begin: &[u8]) -> Vec<u8> {
    with_length(frames::BROADCAST, s.me.mac, &[begin, &s.payload()].concat())
}

pub fn groups() -> Vec<Attack> {
    vec![
        attack("a root of the spanning tree", PORTS, |s| vec![bpdu(s, SPANNING_TREE)]),
        attack("a root of Cisco's spanning tree", EVERYBODY, |s| {
            vec![bpdu(s, [0x01, 0, 0x0c, 0xcc, 0xcc, 0xcd])]
        }),
        attack("CDP", EVERYBODY, |s| {
            let snap = [0xaa, 0xaa, 0x03, 0, 0, 0x0c, 0x20, 0, 2, 180];
            vec![with_length(CISCO, s.me.mac, &[&snap[..], &s.payload()].concat())]
        }),
        attack("LLDP to the nearest bridge", PORTS, |s| vec![to(s, NEAREST_BRIDGE, LLDP)]),
        attack("LLDP to the nearest customer bridge", PORTS, |s| vec![to(s, SPANNING_TREE, LLDP)]),
        attack("802.1X to a neighbour", NEIGHBOUR, |s| vec![s.frame(EAPOL, &s.payload())]),
        attack("802.1X to all", EVERYBODY, |s| vec![of_type(s, EAPOL)]),
        attack("a packet to a reserved group", PORTS, |s| {
            let packet = Ipv4::new(s.neighbour.ip4, s.neighbour.ip4, frames::UDP);
            let payload = s.datagram4(&packet, (4000, 4001));
            vec![ethernet(SPANNING_TREE, s.me.mac, IPV4, &packet.packet(&payload))]
        }),
    ]
}

/// What a bridge keeps to its host, where the guard drops it whoever sent it.
pub fn never_passed_on() -> Vec<Attack> {
    vec![
        attack("LLDP to the nearest bridge but a relay", HOST, |s| {
            vec![to(s, NEAREST_NON_TPMR_BRIDGE, LLDP)]
        }),
        attack("LACP", HOST, |s| vec![to(s, SLOW_PROTOCOLS, SLOW)]),
        attack("802.1X", HOST, |s| vec![to(s, NEAREST_NON_TPMR_BRIDGE, EAPOL)]),
        attack("the spanning tree at the host", HOST, |s| vec![bpdu(s, SPANNING_TREE)]),
        attack("LLDP to the nearest bridge at the host", HOST, |s| vec![to(s, NEAREST_BRIDGE, LLDP)]),
        attack("LLDP to the nearest customer bridge at the host", HOST, |s| vec![to(s, SPANNING_TREE, LLDP)]),
    ]
}

fn bpdu(s: &Scene, to: Mac) -> Vec<u8> {
    with_length(to, s.me.mac, &[&BPDU[..], &s.payload()].concat())
}

fn to(s: &Scene, group: Mac, ether_type: u16) -> Vec<u8> {
    ethernet(group, s.me.mac, ether_type, &s.payload())
}
