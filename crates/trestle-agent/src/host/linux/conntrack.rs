//! Flows that the kernel translates by what it knew when they began (conntrack): found by what they go
//! between, and ended (`linux/netfilter/nfnetlink_conntrack.h`).
//!
//! Only those between one floating IP and one guest are ended. Whoever has the floating IP next has
//! flows to another guest, and keeps them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::net::IpAddr;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, NlaBuffer, NlasIterator,
};
use netlink_sys::constants::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::libc::{AF_INET, AF_INET6};
use trestle_core::spec::Flows;
use trestle_core::types::Protocol;

use super::nfnetlink::{FAMILY_HEADER, HEADER, NESTED, attribute, error_of, request};

const NFNL_SUBSYS_CTNETLINK: u16 = 1;
const IPCTNL_MSG_CT_GET: u16 = 1;
const IPCTNL_MSG_CT_DELETE: u16 = 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_FILTER: u16 = 25;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
/// What of a tuple has to match (`net/netfilter/nf_internals.h`, since Linux 5.8).
const IP_SRC: u32 = 1 << 0;
const IP_DST: u32 = 1 << 1;
/// `NLA_TYPE_MASK` (`linux/netlink.h`).
const TYPE: u16 = 0x3fff;
/// How often a listing is begun anew that others disturb.
const ATTEMPTS: usize = 20;

/// Which end of a tuple an address is at.
#[derive(Clone, Copy)]
enum Side {
    Source,
    Destination,
}

/// What a flow is sent from and to, in one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tuple {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    /// Of a protocol with ports; else zeros.
    source_port: u16,
    destination_port: u16,
}

/// A flow of the kernel's table.
struct Flow {
    /// As the kernel has the way there, by which it is told from all others.
    identity: Vec<u8>,
    there: Tuple,
    back: Tuple,
}

/// Ends the flows that came to these floating IPs and went to their guests, and those that left the
/// guests under the floating IPs.
pub(super) fn end(all: &[Flows]) -> io::Result<()> {
    let socket = Socket::new(NETLINK_NETFILTER)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    for family in [AF_INET as u8, AF_INET6 as u8] {
        let of_family = all.iter().filter(|flows| flows.floating.is_ipv4() == (family == AF_INET as u8));
        let of_family: Vec<&Flows> = of_family.collect();
        // The kernel walks its whole table for each listing, and can filter for one way only.
        let filters = match of_family[..] {
            [] => continue,
            [one] => filters(one),
            _ => vec![Vec::new()],
        };
        let ways: HashSet<(IpAddr, IpAddr)> =
            of_family.iter().map(|flows| (flows.floating, flows.fixed)).collect();
        for filter in filters {
            for flow in list(&socket, family, &filter)? {
                let may_be = ways.contains(&(flow.there.destination, flow.back.source))
                    || ways.contains(&(flow.back.destination, flow.there.source));
                if may_be && of_family.iter().any(|flows| flow.goes_by(flows)) {
                    delete(&socket, family, &flow.identity)?;
                }
            }
        }
    }
    Ok(())
}

/// What comes to a floating IP, or to one port of it, and is to go by one of some ways.
#[derive(Clone, Debug)]
pub(super) struct Strays {
    pub(super) floating: IpAddr,
    pub(super) port: Option<(Protocol, u16)>,
    pub(super) ways: BTreeSet<Flows>,
}

/// Ends the flows that come there and go by none of these ways.
pub(super) fn end_strays(all: &[Strays]) -> io::Result<()> {
    let socket = Socket::new(NETLINK_NETFILTER)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    for family in [AF_INET as u8, AF_INET6 as u8] {
        let mut of_family: HashMap<IpAddr, Vec<&Strays>> = HashMap::new();
        for strays in all.iter().filter(|strays| strays.floating.is_ipv4() == (family == AF_INET as u8)) {
            of_family.entry(strays.floating).or_default().push(strays);
        }
        if of_family.is_empty() {
            continue;
        }
        for flow in list(&socket, family, &[])? {
            let here = of_family.get(&flow.there.destination).into_iter().flatten();
            if here.into_iter().any(|strays| flow.strays(strays)) {
                delete(&socket, family, &flow.identity)?;
            }
        }
    }
    Ok(())
}

impl Flow {
    fn strays(&self, strays: &Strays) -> bool {
        let there = &self.there;
        let is_meant = strays.port.is_none_or(|(protocol, port)| {
            (protocol.number(), port) == (there.protocol, there.destination_port)
        });
        is_meant && !strays.ways.iter().any(|flows| self.goes_by(flows))
    }

    fn goes_by(&self, flows: &Flows) -> bool {
        let (there, back) = (&self.there, &self.back);
        let came = there.destination == flows.floating && back.source == flows.fixed;
        match flows.ports {
            None => came || (there.source == flows.fixed && back.destination == flows.floating),
            Some((protocol, port, fixed_port)) => {
                let ports = (there.protocol, there.destination_port, back.source_port);
                came && ports == (protocol.number(), port, fixed_port)
            }
        }
    }
}

/// What lets through the flows of one way: those that came by it, and those that left.
fn filters(flows: &Flows) -> Vec<Vec<u8>> {
    let came = filter((Side::Destination, flows.floating), (Side::Source, flows.fixed));
    let left = filter((Side::Source, flows.fixed), (Side::Destination, flows.floating));
    if flows.ports.is_some() { vec![came] } else { vec![came, left] }
}

fn filter(there: (Side, IpAddr), back: (Side, IpAddr)) -> Vec<u8> {
    let flag = |(side, _)| match side {
        Side::Source => IP_SRC,
        Side::Destination => IP_DST,
    };
    let tuple = |(side, address)| {
        let (kind, octets) = match (address, side) {
            (IpAddr::V4(address), Side::Source) => (CTA_IP_V4_SRC, address.octets().to_vec()),
            (IpAddr::V4(address), Side::Destination) => (CTA_IP_V4_DST, address.octets().to_vec()),
            (IpAddr::V6(address), Side::Source) => (CTA_IP_V6_SRC, address.octets().to_vec()),
            (IpAddr::V6(address), Side::Destination) => (CTA_IP_V6_DST, address.octets().to_vec()),
        };
        attribute(NESTED | CTA_TUPLE_IP, &attribute(kind, &octets))
    };
    let flags = [
        attribute(CTA_FILTER_ORIG_FLAGS, &u32::to_ne_bytes(flag(there))),
        attribute(CTA_FILTER_REPLY_FLAGS, &u32::to_ne_bytes(flag(back))),
    ];
    let parts = [
        attribute(NESTED | CTA_TUPLE_ORIG, &tuple(there)),
        attribute(NESTED | CTA_TUPLE_REPLY, &tuple(back)),
        attribute(NESTED | CTA_FILTER, &flags.concat()),
    ];
    parts.concat()
}

fn delete(socket: &Socket, family: u8, identity: &[u8]) -> io::Result<()> {
    let kind = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE;
    let flow = attribute(NESTED | CTA_TUPLE_ORIG, identity);
    socket.send(&request(kind, NLM_F_ACK, family, &flow), 0)?;
    let (answer, _) = socket.recv_from_full()?;
    match error_of(&answer) {
        // It ended by itself.
        None | Some(Errno::ENOENT) => Ok(()),
        Some(errno) => Err(errno.into()),
    }
}

/// Every flow that the filter lets through; all of them, or an error.
fn list(socket: &Socket, family: u8, filter: &[u8]) -> io::Result<Vec<Flow>> {
    for _ in 0..ATTEMPTS {
        let kind = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET;
        socket.send(&request(kind, NLM_F_DUMP, family, filter), 0)?;
        if let Some(flows) = read_listing(socket)? {
            return Ok(flows);
        }
    }
    Err(Errno::EINTR.into())
}

/// `None` if it was disturbed.
fn read_listing(socket: &Socket) -> io::Result<Option<Vec<Flow>>> {
    let (mut flows, mut is_whole) = (Vec::new(), true);
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        let mut rest = &bytes[..];
        while let Some(header) = rest.first_chunk::<HEADER>() {
            let [a, b, c, d, e, f, g, h, ..] = *header;
            let length = u32::from_ne_bytes([a, b, c, d]) as usize;
            let (kind, flags) = (u16::from_ne_bytes([e, f]), u16::from_ne_bytes([g, h]));
            let Some(message) = rest.get(HEADER..length) else { return Err(Errno::EBADMSG.into()) };
            is_whole &= flags & NLM_F_DUMP_INTR == 0;
            match kind {
                NLMSG_DONE => return Ok(is_whole.then_some(flows)),
                NLMSG_ERROR => return Err(error_of(rest).unwrap_or(Errno::EBADMSG).into()),
                _ => flows.extend(parse(message.get(FAMILY_HEADER..).unwrap_or_default())),
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// The value of the attribute of this kind, if it is there.
fn value(attributes: &[u8], kind: u16) -> Option<Vec<u8>> {
    let mut attributes = NlasIterator::new(attributes).flatten();
    let found: NlaBuffer<&[u8]> = attributes.find(|nla| nla.kind() & TYPE == kind)?;
    Some(found.value().to_vec())
}

/// Nothing of what has no addresses.
fn parse(attributes: &[u8]) -> Option<Flow> {
    let identity = value(attributes, CTA_TUPLE_ORIG)?;
    let (there, back) = (parse_tuple(&identity)?, parse_tuple(&value(attributes, CTA_TUPLE_REPLY)?)?);
    Some(Flow { identity, there, back })
}

fn parse_tuple(tuple: &[u8]) -> Option<Tuple> {
    let (ip, protocol) = (value(tuple, CTA_TUPLE_IP)?, value(tuple, CTA_TUPLE_PROTO)?);
    let address = |ipv4, ipv6| -> Option<IpAddr> {
        let v4 = || <[u8; 4]>::try_from(value(&ip, ipv4)?).ok().map(IpAddr::from);
        let v6 = || <[u8; 16]>::try_from(value(&ip, ipv6)?).ok().map(IpAddr::from);
        v4().or_else(v6)
    };
    let port = |kind| value(&protocol, kind).and_then(|port| port.try_into().ok()).map(u16::from_be_bytes);
    Some(Tuple {
        source: address(CTA_IP_V4_SRC, CTA_IP_V6_SRC)?,
        destination: address(CTA_IP_V4_DST, CTA_IP_V6_DST)?,
        protocol: *value(&protocol, CTA_PROTO_NUM)?.first()?,
        source_port: port(CTA_PROTO_SRC_PORT).unwrap_or_default(),
        destination_port: port(CTA_PROTO_DST_PORT).unwrap_or_default(),
    })
}
