//! What a guest may send, so that a guard is not praised for stopping everything.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Attack, EVERYBODY, NEIGHBOUR, attack};
use crate::attacks::frames::{self, BROADCAST, ICMPV6, IGMP, IPV4, IPV6, Ipv4, UDP, bootp, ethernet, udp};
use crate::attacks::scene::{Place, Scene};

const HOST: &[Place] = &[Place::Host];

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

pub fn rightful() -> Vec<Attack> {
    [of_ipv4(), of_ipv6(), of_neighbours()].into_iter().flatten().collect()
}

fn of_ipv4() -> Vec<Attack> {
    vec![
        attack("a datagram", NEIGHBOUR, |s| vec![s.udp4(&s.neighbour)]),
        attack("a datagram in fragments", NEIGHBOUR, |s| {
            let header = Ipv4::new(s.me.ip4, s.neighbour.ip4, UDP);
            let fragments = header.in_fragments(&s.datagram4(&header, (4000, 4001)), 8, s.token);
            fragments.map(|packet| s.frame(IPV4, &packet)).into()
        }),
        attack("a packet in a packet", NEIGHBOUR, |s| {
            let inner = Ipv4::new(s.shut.ip4, s.neighbour.ip4, UDP);
            let inner = inner.packet(&s.datagram4(&inner, (4000, 4001)));
            vec![s.frame(IPV4, &Ipv4::new(s.me.ip4, s.neighbour.ip4, 4).packet(&inner))]
        }),
        attack("a report of listeners by IGMP", EVERYBODY, |s| {
            let group = Ipv4Addr::new(224, 0, 0, 22);
            let header = Ipv4 { options: vec![0x94, 4, 0, 0], ..Ipv4::new(s.me.ip4, group, IGMP) };
            let packet = header.packet(&frames::icmp(0x22, &s.payload()));
            vec![ethernet([0x01, 0, 0x5e, 0, 0, 22], s.me.mac, IPV4, &packet)]
        }),
        attack("a request for a lease", HOST, |s| {
            let header = Ipv4::new(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, UDP);
            vec![ethernet(BROADCAST, s.me.mac, IPV4, &asked(s, &header))]
        }),
        attack("a request to renew a lease", HOST, |s| {
            let header = Ipv4::new(s.me.ip4, s.gateway.ip4, UDP);
            vec![ethernet(s.gateway.mac, s.me.mac, IPV4, &asked(s, &header))]
        }),
        attack("an echo to the gateway", &[Place::Attacker], |s| vec![super::echo(s)]),
    ]
}

fn asked(s: &Scene, header: &Ipv4) -> Vec<u8> {
    let ends = (header.from.into(), header.to.into());
    header.packet(&udp(ends, (68, 67), &bootp(1, s.me.mac, s.token)))
}

fn of_ipv6() -> Vec<Attack> {
    vec![
        attack("a datagram of IPv6", NEIGHBOUR, |s| vec![s.udp6(&s.neighbour)]),
        attack("a datagram of IPv6 in fragments", NEIGHBOUR, |s| {
            let (from, to) = (s.me.ip6, s.neighbour.ip6);
            let datagram = s.datagram6(from, to, (4000, 4001));
            let fragments = frames::ipv6_in_fragments((from, to), UDP, &datagram, 8, s.token);
            fragments.map(|packet| s.frame(IPV6, &packet)).into()
        }),
        attack("a datagram of IPv6 behind options", NEIGHBOUR, |s| {
            let datagram = s.datagram6(s.me.ip6, s.neighbour.ip6, (4000, 4001));
            vec![s.packet6(60, &[&frames::empty_options(UDP)[..], &datagram].concat())]
        }),
        // Whatever is in it: who shares no key with the guest throws it away.
        attack("a datagram behind an authentication", NEIGHBOUR, |s| {
            let datagram = s.datagram6(s.me.ip6, s.neighbour.ip6, (4000, 4001));
            vec![s.packet6(51, &[&frames::authentication(UDP)[..], &datagram].concat())]
        }),
        attack("a report of listeners from no address yet", EVERYBODY, |s| {
            let (from, to) = (Ipv6Addr::UNSPECIFIED, "ff02::16".parse().unwrap());
            let message = frames::icmpv6(from, to, 143, &s.payload());
            let inside = [&[ICMPV6, 0, 5, 2, 0, 0, 1, 0][..], &message].concat();
            let packet = frames::ipv6(from, to, 0, &inside);
            vec![ethernet([0x33, 0x33, 0, 0, 0, 0x16], s.me.mac, IPV6, &packet)]
        }),
        attack("a DHCPv6 solicitation", HOST, |s| {
            let (from, to) = (s.me.link_local, "ff02::1:2".parse().unwrap());
            let message = [&[1][..], &s.payload()].concat();
            let packet = frames::ipv6(from, to, UDP, &udp((from.into(), to.into()), (546, 547), &message));
            vec![ethernet([0x33, 0x33, 0, 1, 0, 2], s.me.mac, IPV6, &packet)]
        }),
    ]
}

fn of_neighbours() -> Vec<Attack> {
    vec![
        attack("a question of ARP", EVERYBODY, |s| vec![s.arp(s.question())]),
        attack("a probe for one's own address", EVERYBODY, |s| {
            let nobody = Ipv4Addr::UNSPECIFIED;
            vec![s.arp(frames::Arp {
                sender: (s.me.mac, nobody),
                target: (frames::NOBODY, s.me.ip4),
                ..s.question()
            })]
        }),
        attack("a solicitation", NEIGHBOUR, |s| {
            let body = [&s.token[..], &s.neighbour.ip6.octets(), &[1, 1], &s.me.mac].concat();
            vec![s.nd(s.me.ip6, SOLICITATION, &body)]
        }),
        attack("a solicitation without a MAC", NEIGHBOUR, |s| {
            vec![s.nd(s.me.link_local, SOLICITATION, &[&s.token[..], &s.neighbour.ip6.octets()].concat())]
        }),
        attack("a solicitation that tries one's own address out", NEIGHBOUR, |s| {
            let nonce = [14, 1, 1, 2, 3, 4, 5, 6];
            let body = [&s.token[..], &s.me.ip6.octets(), &nonce].concat();
            vec![s.nd(Ipv6Addr::UNSPECIFIED, SOLICITATION, &body)]
        }),
        attack("an advertisement", NEIGHBOUR, |s| {
            let body = [&s.token[..], &s.me.link_local.octets(), &[2, 1], &s.me.mac].concat();
            vec![s.nd(s.me.ip6, ADVERTISEMENT, &body)]
        }),
        attack("a solicitation of routers", NEIGHBOUR, |s| {
            vec![s.nd(s.me.link_local, 133, &[&s.token[..], &[1, 1], &s.me.mac].concat())]
        }),
        attack("a solicitation of routers from no address yet", NEIGHBOUR, |s| {
            vec![s.nd(Ipv6Addr::UNSPECIFIED, 133, &s.token)]
        }),
    ]
}
