//! Who is there: a guest that attacks, and whom it may harm.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::frames::{self, Arp, Ipv4, Mac};
use crate::cloud;

/// Somebody on a wire.
#[derive(Clone, Copy)]
pub struct Station {
    pub mac: Mac,
    pub ip4: Ipv4Addr,
    pub ip6: Ipv6Addr,
    pub link_local: Ipv6Addr,
}

/// Where a frame of the attacker may be heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// At a guest on the same bridge that is protected by nothing of its own.
    Neighbour,
    /// At a guest on the same bridge whose groups let nothing in.
    Shut,
    /// At a guest of another network that the gateway routes to.
    Far,
    /// At another host behind the uplink.
    Peer,
    /// At the bridge, as its host hears it.
    Host,
    /// At a UDP service of the host.
    Service,
    /// At the attacker: what was asked was answered.
    Attacker,
}

/// The guests' addresses, and what the frame is told by that is sent just now.
#[derive(Clone, Copy)]
pub struct Scene {
    pub me: Station,
    pub neighbour: Station,
    pub shut: Station,
    pub far: Station,
    pub gateway: Station,
    pub token: [u8; 4],
}

/// An address of the host that is on none of its networks.
pub const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// Where the host's UDP service is.
pub const SERVICE: u16 = 161;

impl Scene {
    /// On this network; the far guest is on that one.
    pub fn new(network: u8, far: u8) -> Self {
        let gateway = Station {
            ip4: Ipv4Addr::new(10, 0, network, 1),
            ip6: format!("fd00:{network}::1").parse().unwrap(),
            ..station(cloud::network(network).bridge_mac)
        };
        let guest = |network, i| Station {
            ip4: Ipv4Addr::new(10, 0, network, 10 + i),
            ip6: format!("fd00:{network}::{:x}", 10 + i).parse().unwrap(),
            ..station(cloud::interface(network, i).mac)
        };
        let [me, neighbour, shut] = [1, 2, 3].map(|i| guest(network, i));
        Self { me, neighbour, shut, far: guest(far, 1), gateway, token: [0; 4] }
    }

    /// A datagram that is a guest's own in everything.
    pub fn udp4(&self, to: &Station) -> Vec<u8> {
        self.udp4_from(self.me.mac, self.me.ip4, to.mac, to.ip4)
    }

    pub fn udp4_from(&self, mac: Mac, from: Ipv4Addr, to_mac: Mac, to: Ipv4Addr) -> Vec<u8> {
        self.ipv4(mac, to_mac, &Ipv4::new(from, to, frames::UDP))
    }

    /// A datagram with this header.
    pub fn ipv4(&self, mac: Mac, to_mac: Mac, header: &Ipv4) -> Vec<u8> {
        let payload = self.datagram4(header, (4000, SERVICE));
        frames::ethernet(to_mac, mac, frames::IPV4, &header.packet(&payload))
    }

    pub fn datagram4(&self, header: &Ipv4, ports: (u16, u16)) -> Vec<u8> {
        frames::udp((header.from.into(), header.to.into()), ports, &self.payload())
    }

    pub fn udp6(&self, to: &Station) -> Vec<u8> {
        self.udp6_from(self.me.mac, self.me.ip6, to.mac, to.ip6)
    }

    pub fn udp6_from(&self, mac: Mac, from: Ipv6Addr, to_mac: Mac, to: Ipv6Addr) -> Vec<u8> {
        let packet = frames::ipv6(from, to, frames::UDP, &self.datagram6(from, to, (4000, SERVICE)));
        frames::ethernet(to_mac, mac, frames::IPV6, &packet)
    }

    pub fn datagram6(&self, from: Ipv6Addr, to: Ipv6Addr, ports: (u16, u16)) -> Vec<u8> {
        frames::udp((from.into(), to.into()), ports, &self.payload())
    }

    /// A packet of the attacker's to a neighbour.
    pub fn packet6(&self, next: u8, payload: &[u8]) -> Vec<u8> {
        let packet = frames::ipv6(self.me.ip6, self.neighbour.ip6, next, payload);
        self.frame(frames::IPV6, &packet)
    }

    /// A message of neighbour discovery to a neighbour, by whom it says.
    pub fn nd(&self, from: Ipv6Addr, message: u8, body: &[u8]) -> Vec<u8> {
        let to = self.neighbour.ip6;
        let packet = frames::ipv6(from, to, frames::ICMPV6, &frames::icmpv6(from, to, message, body));
        self.frame(frames::IPV6, &packet)
    }

    /// A frame of the attacker's to a neighbour.
    pub fn frame(&self, ether_type: u16, payload: &[u8]) -> Vec<u8> {
        frames::ethernet(self.neighbour.mac, self.me.mac, ether_type, payload)
    }

    /// What the attacker may ask of everybody.
    pub fn question(&self) -> Arp {
        Arp { operation: 1, sender: (self.me.mac, self.me.ip4), target: (frames::NOBODY, self.neighbour.ip4) }
    }

    pub fn arp(&self, arp: Arp) -> Vec<u8> {
        self.arp_from(self.me.mac, arp)
    }

    pub fn arp_from(&self, mac: Mac, arp: Arp) -> Vec<u8> {
        frames::ethernet(frames::BROADCAST, mac, frames::ARP, &arp.bytes(&self.payload()))
    }

    /// Long enough to be cut in pieces.
    pub fn payload(&self) -> Vec<u8> {
        [&[0; 28][..], &self.token].concat()
    }
}

fn station(mac: trestle_core::types::Mac) -> Station {
    let nowhere = (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED);
    Station { mac: mac.bytes(), ip4: nowhere.0, ip6: nowhere.1, link_local: mac.link_local() }
}
