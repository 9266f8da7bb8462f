//! Who may give addresses, and to whom.

use std::net::Ipv4Addr;

use super::{Attack, NEIGHBOUR, attack};
use crate::attacks::frames::{self, BROADCAST, IPV4, IPV6, Ipv4, UDP, bootp, ethernet, udp};
use crate::attacks::scene::{Place, Scene};

const HOST: &[Place] = &[Place::Host];
const BROADCAST_IP: Ipv4Addr = Ipv4Addr::BROADCAST;
const REQUEST: u8 = 1;
const REPLY: u8 = 2;

pub fn attacks() -> Vec<Attack> {
    [of_servers(), of_clients(), of_ipv6()].into_iter().flatten().collect()
}

fn of_servers() -> Vec<Attack> {
    vec![
        attack("a DHCP server's reply", NEIGHBOUR, |s| vec![reply(s, (67, 68))]),
        attack("a DHCP server's reply to all", NEIGHBOUR, |s| {
            let header = Ipv4::new(s.me.ip4, BROADCAST_IP, UDP);
            vec![ethernet(BROADCAST, s.me.mac, IPV4, &header.packet(&answer(s, &header, (67, 68))))]
        }),
        attack("a DHCP server's reply from another port", NEIGHBOUR, |s| vec![reply(s, (4000, 68))]),
        attack("a DHCP server's reply to another port", NEIGHBOUR, |s| vec![reply(s, (67, 4000))]),
        attack("a DHCP server's reply from the gateway", NEIGHBOUR, |s| {
            let header = Ipv4::new(s.gateway.ip4, s.neighbour.ip4, UDP);
            vec![s.frame(IPV4, &header.packet(&answer(s, &header, (67, 68))))]
        }),
        attack("a DHCP server's reply in fragments", NEIGHBOUR, |s| reply_in_fragments(s, 64)),
        attack("a DHCP server's reply in tiny fragments", NEIGHBOUR, |s| reply_in_fragments(s, 8)),
        attack("a DHCP server's reply in fragments, the last one first", NEIGHBOUR, |s| {
            let [first, last] = <[Vec<u8>; 2]>::try_from(reply_in_fragments(s, 64)).unwrap();
            vec![last, first]
        }),
        attack("a DHCP server's reply behind options", NEIGHBOUR, |s| {
            let header = Ipv4 { options: vec![1; 8], ..to_neighbour(s) };
            vec![s.frame(IPV4, &header.packet(&answer(s, &header, (67, 68))))]
        }),
    ]
}

fn to_neighbour(s: &Scene) -> Ipv4 {
    Ipv4::new(s.me.ip4, s.neighbour.ip4, UDP)
}

fn answer(s: &Scene, header: &Ipv4, ports: (u16, u16)) -> Vec<u8> {
    udp((header.from.into(), header.to.into()), ports, &bootp(REPLY, s.neighbour.mac, s.token))
}

fn reply(s: &Scene, ports: (u16, u16)) -> Vec<u8> {
    let header = to_neighbour(s);
    s.frame(IPV4, &header.packet(&answer(s, &header, ports)))
}

fn reply_in_fragments(s: &Scene, at: usize) -> Vec<Vec<u8>> {
    let header = to_neighbour(s);
    header
        .in_fragments(&answer(s, &header, (67, 68)), at, s.token)
        .map(|packet| s.frame(IPV4, &packet))
        .into()
}

fn of_clients() -> Vec<Attack> {
    vec![
        attack("a request for another's lease", HOST, |s| {
            vec![asked(s, &from_nobody(), &bootp(REQUEST, s.neighbour.mac, s.token))]
        }),
        attack("a request for another's lease from one's own address", HOST, |s| {
            let header = Ipv4::new(s.me.ip4, s.gateway.ip4, UDP);
            vec![asked(s, &header, &bootp(REQUEST, s.neighbour.mac, s.token))]
        }),
        attack("a request for another's lease as of another hardware", HOST, |s| {
            let mut message = bootp(REQUEST, s.neighbour.mac, s.token);
            message[1] = 6;
            vec![asked(s, &from_nobody(), &message)]
        }),
        attack("a request without a MAC", HOST, |s| {
            let mut message = bootp(REQUEST, s.me.mac, s.token);
            message[2] = 0;
            vec![asked(s, &from_nobody(), &message)]
        }),
        attack("a request for another's lease in fragments", HOST, |s| {
            let header = Ipv4::new(s.me.ip4, s.gateway.ip4, UDP);
            let message = bootp(REQUEST, s.neighbour.mac, s.token);
            let datagram = udp((header.from.into(), header.to.into()), (68, 67), &message);
            let fragments = header.in_fragments(&datagram, 32, s.token);
            fragments.map(|packet| ethernet(s.gateway.mac, s.me.mac, IPV4, &packet)).into()
        }),
        attack("a request for a lease by another's MAC", HOST, |s| {
            let mut frame = asked(s, &from_nobody(), &bootp(REQUEST, s.neighbour.mac, s.token));
            frame[6..12].copy_from_slice(&s.neighbour.mac);
            vec![frame]
        }),
        attack("a datagram from no address", HOST, |s| {
            let header = Ipv4::new(Ipv4Addr::UNSPECIFIED, BROADCAST_IP, UDP);
            vec![s.ipv4(s.me.mac, BROADCAST, &header)]
        }),
    ]
}

fn from_nobody() -> Ipv4 {
    Ipv4::new(Ipv4Addr::UNSPECIFIED, BROADCAST_IP, UDP)
}

fn asked(s: &Scene, header: &Ipv4, message: &[u8]) -> Vec<u8> {
    let datagram = udp((header.from.into(), header.to.into()), (68, 67), message);
    let to = if header.to.is_broadcast() { BROADCAST } else { s.gateway.mac };
    ethernet(to, s.me.mac, IPV4, &header.packet(&datagram))
}

fn of_ipv6() -> Vec<Attack> {
    vec![
        attack("a DHCPv6 server's reply", NEIGHBOUR, |s| vec![reply6(s, (547, 546))]),
        attack("a DHCPv6 server's reply from another port", NEIGHBOUR, |s| vec![reply6(s, (4000, 546))]),
        attack("a DHCPv6 server's reply to another port", NEIGHBOUR, |s| vec![reply6(s, (547, 4000))]),
        attack("a DHCPv6 server's reply behind options", NEIGHBOUR, |s| {
            vec![s.packet6(60, &[&frames::empty_options(UDP)[..], &datagram6(s, (547, 546))].concat())]
        }),
        attack("a DHCPv6 server's reply in fragments", NEIGHBOUR, |s| {
            let (from, to) = (s.me.ip6, s.neighbour.ip6);
            let fragments = frames::ipv6_in_fragments((from, to), UDP, &datagram6(s, (547, 546)), 8, s.token);
            fragments.map(|packet| s.frame(IPV6, &packet)).into()
        }),
        attack("a DHCPv6 request relayed for another", HOST, |s| {
            let (from, to) = (s.me.link_local, s.gateway.link_local);
            let relayed = [&[12, 0][..], &s.me.ip6.octets(), &s.neighbour.link_local.octets(), &s.payload()];
            let datagram = udp((from.into(), to.into()), (546, 547), &relayed.concat());
            let packet = frames::ipv6(from, to, UDP, &datagram);
            vec![ethernet(s.gateway.mac, s.me.mac, IPV6, &packet)]
        }),
    ]
}

fn datagram6(s: &Scene, ports: (u16, u16)) -> Vec<u8> {
    s.datagram6(s.me.ip6, s.neighbour.ip6, ports)
}

fn reply6(s: &Scene, ports: (u16, u16)) -> Vec<u8> {
    s.packet6(UDP, &datagram6(s, ports))
}
