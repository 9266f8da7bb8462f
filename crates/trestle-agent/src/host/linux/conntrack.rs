//! Flows that the kernel translates by what it knew when they began (conntrack): found by what they go
//! between, and ended (`linux/netfilter/nfnetlink_conntrack.h`).
//!
//! Only those between one floating IP and one guest are ended. Whoever has the floating IP next has
//! flows to another guest, and keeps them.

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
const PROTO_NUM: u32 = 1 << 3;
const PROTO_SRC_PORT: u32 = 1 << 4;
const PROTO_DST_PORT: u32 = 1 << 5;
/// `NLA_TYPE_MASK` (`linux/netlink.h`).
const TYPE: u16 = 0x3fff;
/// How often a listing is begun anew that others disturb.
const ATTEMPTS: usize = 20;

/// One side of a tuple that flows are found by.
#[derive(Clone, Copy)]
enum Side {
    Source,
    Destination,
}

/// Ends the flows that came to the floating IP and went to the guest, and those that left the guest
/// under the floating IP.
pub(super) fn end(flows: &Flows) -> io::Result<()> {
    let socket = Socket::new(NETLINK_NETFILTER)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let inbound = [tuple(flows, Side::Destination, flows.floating), tuple(flows, Side::Source, flows.fixed)];
    end_matching(&socket, flows, &inbound)?;
    if flows.ports.is_some() {
        return Ok(());
    }
    let outbound = [tuple(flows, Side::Source, flows.fixed), tuple(flows, Side::Destination, flows.floating)];
    end_matching(&socket, flows, &outbound)
}

/// What the filter says of one direction: the tuple, and which parts of it count.
fn tuple(flows: &Flows, side: Side, address: IpAddr) -> (Vec<u8>, u32) {
    let (kind, octets) = match (address, side) {
        (IpAddr::V4(address), Side::Source) => (CTA_IP_V4_SRC, address.octets().to_vec()),
        (IpAddr::V4(address), Side::Destination) => (CTA_IP_V4_DST, address.octets().to_vec()),
        (IpAddr::V6(address), Side::Source) => (CTA_IP_V6_SRC, address.octets().to_vec()),
        (IpAddr::V6(address), Side::Destination) => (CTA_IP_V6_DST, address.octets().to_vec()),
    };
    let mut tuple = attribute(NESTED | CTA_TUPLE_IP, &attribute(kind, &octets));
    let mut counts = match side {
        Side::Source => IP_SRC,
        Side::Destination => IP_DST,
    };
    if let Some((protocol, port, fixed_port)) = flows.ports {
        let (kind, port, flag) = match side {
            Side::Source => (CTA_PROTO_SRC_PORT, fixed_port, PROTO_SRC_PORT),
            Side::Destination => (CTA_PROTO_DST_PORT, port, PROTO_DST_PORT),
        };
        let parts = [attribute(CTA_PROTO_NUM, &[protocol.number()]), attribute(kind, &port.to_be_bytes())];
        tuple.extend(attribute(NESTED | CTA_TUPLE_PROTO, &parts.concat()));
        counts |= PROTO_NUM | flag;
    }
    (tuple, counts)
}

/// Ends the flows whose way there and way back match.
fn end_matching(socket: &Socket, flows: &Flows, [there, back]: &[(Vec<u8>, u32); 2]) -> io::Result<()> {
    let flags = [
        attribute(CTA_FILTER_ORIG_FLAGS, &there.1.to_ne_bytes()),
        attribute(CTA_FILTER_REPLY_FLAGS, &back.1.to_ne_bytes()),
    ];
    let filter = [
        attribute(NESTED | CTA_TUPLE_ORIG, &there.0),
        attribute(NESTED | CTA_TUPLE_REPLY, &back.0),
        attribute(NESTED | CTA_FILTER, &flags.concat()),
    ];
    let family = if flows.floating.is_ipv4() { AF_INET } else { AF_INET6 } as u8;
    for tuple in list(socket, family, &filter.concat())? {
        let kind = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE;
        let flow = attribute(NESTED | CTA_TUPLE_ORIG, &tuple);
        socket.send(&request(kind, NLM_F_ACK, family, &flow), 0)?;
        let (answer, _) = socket.recv_from_full()?;
        match error_of(&answer) {
            // It ended by itself.
            None | Some(Errno::ENOENT) => {}
            Some(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// The way there of every flow that the filter lets through; all of them, or an error.
fn list(socket: &Socket, family: u8, filter: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    for _ in 0..ATTEMPTS {
        let kind = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET;
        socket.send(&request(kind, NLM_F_DUMP, family, filter), 0)?;
        if let Some(tuples) = read_listing(socket)? {
            return Ok(tuples);
        }
    }
    Err(Errno::EINTR.into())
}

/// `None` if it was disturbed.
fn read_listing(socket: &Socket) -> io::Result<Option<Vec<Vec<u8>>>> {
    let (mut tuples, mut is_whole) = (Vec::new(), true);
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
                NLMSG_DONE => return Ok(is_whole.then_some(tuples)),
                NLMSG_ERROR => return Err(error_of(rest).unwrap_or(Errno::EBADMSG).into()),
                _ => tuples.extend(way_there(message.get(FAMILY_HEADER..).unwrap_or_default())),
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

fn way_there(attributes: &[u8]) -> Option<Vec<u8>> {
    let mut attributes = NlasIterator::new(attributes).flatten();
    let tuple: NlaBuffer<&[u8]> = attributes.find(|nla| nla.kind() & TYPE == CTA_TUPLE_ORIG)?;
    Some(tuple.value().to_vec())
}
