//! Frames byte by byte, right or wrong: a library refuses to write most of what an attacker sends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub type Mac = [u8; 6];

pub const BROADCAST: Mac = [0xff; 6];
pub const NOBODY: Mac = [0; 6];

pub const IPV4: u16 = 0x0800;
pub const ARP: u16 = 0x0806;
pub const IPV6: u16 = 0x86dd;

pub const IGMP: u8 = 2;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMPV6: u8 = 58;
pub const FRAGMENT: u8 = 44;

/// More fragments follow (RFC 791 §3.1).
const MORE: u16 = 0x2000;

pub fn ethernet(to: Mac, from: Mac, ether_type: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &ether_type.to_be_bytes(), payload].concat()
}

/// A frame with this tag before what was its type (IEEE 802.1Q §9.6).
pub fn tagged(frame: &[u8], ether_type: u16, vid: u16) -> Vec<u8> {
    [&frame[..12], &ether_type.to_be_bytes(), &vid.to_be_bytes(), &frame[12..]].concat()
}

/// A frame that says its length where others say their type.
pub fn with_length(to: Mac, from: Mac, payload: &[u8]) -> Vec<u8> {
    ethernet(to, from, payload.len() as u16, payload)
}

#[derive(Clone, Copy)]
pub struct Arp {
    pub operation: u16,
    pub sender: (Mac, Ipv4Addr),
    pub target: (Mac, Ipv4Addr),
}

impl Arp {
    /// With something behind it: what fills a frame up is carried along.
    pub fn bytes(&self, behind: &[u8]) -> Vec<u8> {
        let kind = [&[0, 1, 8, 0, 6, 4][..], &self.operation.to_be_bytes()].concat();
        let side = |(mac, address): (Mac, Ipv4Addr)| [&mac[..], &address.octets()].concat();
        [kind, side(self.sender), side(self.target), behind.to_vec()].concat()
    }
}

/// The header of a packet; `fragment` is its flags and its offset.
#[derive(Clone)]
pub struct Ipv4 {
    pub from: Ipv4Addr,
    pub to: Ipv4Addr,
    pub protocol: u8,
    pub options: Vec<u8>,
    pub identification: [u8; 2],
    pub fragment: u16,
}

impl Ipv4 {
    pub fn new(from: Ipv4Addr, to: Ipv4Addr, protocol: u8) -> Self {
        Self { from, to, protocol, options: vec![], identification: [0; 2], fragment: 0 }
    }

    pub fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let words = 5 + self.options.len().div_ceil(4);
        let length = (words * 4 + payload.len()) as u16;
        let mut header = vec![0x40 | words as u8, 0];
        header.extend(length.to_be_bytes());
        header.extend(self.identification);
        header.extend(self.fragment.to_be_bytes());
        header.extend([64, self.protocol, 0, 0]);
        header.extend(self.from.octets());
        header.extend(self.to.octets());
        header.extend(&self.options);
        header.resize(words * 4, 0);
        [with_checksum(header, 10, &[]), payload.to_vec()].concat()
    }

    /// In two: the first has this many bytes of the payload. The token, by which the whole is told, also
    /// tells its pieces from others.
    pub fn in_fragments(&self, payload: &[u8], at: usize, token: [u8; 4]) -> [Vec<u8>; 2] {
        let identification = [token[1], token[2]];
        let fragment = |fragment| Self { fragment, identification, ..self.clone() };
        [fragment(MORE).packet(&payload[..at]), fragment(at as u16 / 8).packet(&payload[at..])]
    }
}

pub fn ipv6(from: Ipv6Addr, to: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    // Neighbours are heard only with the greatest hop limit there is (RFC 4861 §7.1).
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 255]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(payload);
    packet
}

/// A packet in two, told from others by a token; `next` is what the first one's payload begins with.
pub fn ipv6_in_fragments(
    (from, to): (Ipv6Addr, Ipv6Addr),
    next: u8,
    payload: &[u8],
    at: usize,
    token: [u8; 4],
) -> [Vec<u8>; 2] {
    let fragment = |offset: u16, part: &[u8]| {
        ipv6(from, to, FRAGMENT, &[&fragment_header(next, offset, token)[..], part].concat())
    };
    [fragment(1, &payload[..at]), fragment(at as u16, &payload[at..])]
}

/// The header of a fragment; the lowest bit of an offset says that more follow (RFC 8200 §4.5).
pub fn fragment_header(next: u8, offset: u16, token: [u8; 4]) -> [u8; 8] {
    let [high, low] = offset.to_be_bytes();
    [next, 0, high, low, 0, token[1], token[2], token[3]]
}

/// A header of options with nothing in them but padding (RFC 8200 §4.2).
pub fn empty_options(next: u8) -> [u8; 8] {
    [next, 0, 1, 4, 0, 0, 0, 0]
}

/// An authentication header that proves nothing (RFC 4302 §2).
pub fn authentication(next: u8) -> [u8; 24] {
    let mut header = [0; 24];
    header[..2].copy_from_slice(&[next, 4]);
    header
}

/// A routing header by one more stop (RFC 8200 §4.4).
pub fn routing(next: u8, routing_type: u8, by: Ipv6Addr) -> Vec<u8> {
    [&[next, 2, routing_type, 1, 0, 0, 0, 0][..], &by.octets()].concat()
}

pub fn udp(between: (IpAddr, IpAddr), ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len()) as u16;
    let header = [ports.0.to_be_bytes(), ports.1.to_be_bytes(), length.to_be_bytes(), [0, 0]].concat();
    with_checksum([&header[..], payload].concat(), 6, &pseudo_header(between, UDP, length))
}

/// The packet that asks for a connection.
pub fn tcp_syn(between: (IpAddr, IpAddr), ports: (u16, u16), sequence: u32) -> Vec<u8> {
    let mut header = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    header.extend(sequence.to_be_bytes());
    header.extend([0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    with_checksum(header, 16, &pseudo_header(between, TCP, 20))
}

pub fn icmpv6(from: Ipv6Addr, to: Ipv6Addr, message: u8, body: &[u8]) -> Vec<u8> {
    let whole = [&[message, 0, 0, 0][..], body].concat();
    let pseudo = pseudo_header((from.into(), to.into()), ICMPV6, whole.len() as u16);
    with_checksum(whole, 2, &pseudo)
}

/// A message of ICMP or of IGMP, whose checksum is about it alone.
pub fn icmp(message: u8, body: &[u8]) -> Vec<u8> {
    with_checksum([&[message, 0, 0, 0][..], body].concat(), 2, &[])
}

/// A message of BOOTP (RFC 951 §3), in whose end a token goes.
pub fn bootp(operation: u8, client: Mac, token: [u8; 4]) -> Vec<u8> {
    let mut message = vec![operation, 1, 6, 0, 0, 0, 0, 1];
    message.resize(28, 0);
    message.extend(client);
    message.resize(236, 0);
    message.extend([0x63, 0x82, 0x53, 0x63, 53, 1, operation, 255]);
    message.extend(token);
    message
}

fn pseudo_header((from, to): (IpAddr, IpAddr), protocol: u8, length: u16) -> Vec<u8> {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    [octets(from), octets(to), vec![0, protocol], length.to_be_bytes().to_vec()].concat()
}

/// With the checksum of the Internet (RFC 1071) at this place, over what is before it, too.
fn with_checksum(mut bytes: Vec<u8>, place: usize, before: &[u8]) -> Vec<u8> {
    let words = before.chunks(2).chain(bytes.chunks(2));
    let sum: u32 = words.map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = ((folded & 0xffff) + (folded >> 16)) as u16;
    bytes[place..place + 2].copy_from_slice(&(!folded).to_be_bytes());
    bytes
}
