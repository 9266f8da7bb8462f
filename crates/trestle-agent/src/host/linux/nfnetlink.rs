//! The few netlink messages of nftables that libnftables keeps to itself
//! (`linux/netfilter/nfnetlink.h`, `linux/netfilter/nf_tables.h`): which generation the rules are
//! at, and who made it.

use std::io;

use netlink_packet_core::{NlaBuffer, NlasIterator};
use netlink_sys::constants::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_NEWGEN: u16 = 15;
const NFT_MSG_GETGEN: u16 = 16;
const NFTA_GEN_ID: u16 = 1;
const NFTA_GEN_PROC_PID: u16 = 2;
const NFTA_GEN_PROC_NAME: u16 = 3;
/// `NFTA_TABLE_NAME`, `NFTA_CHAIN_TABLE`, `NFTA_RULE_TABLE`, `NFTA_SET_TABLE`,
/// `NFTA_SET_ELEM_LIST_TABLE`, …: all of them are 1.
const NFTA_ANY_TABLE: u16 = 1;
/// `struct nlmsghdr` and, after it, `struct nfgenmsg`.
const HEADER: usize = 16;
const FAMILY_HEADER: usize = 4;
/// The multicast group of all nftables changes.
pub(super) const NFNLGRP_NFTABLES: u32 = 7;

/// What one message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// A transaction ended.
    Generation {
        /// The number of the rules as they are now.
        id: u32,
        /// The number of the thread that changed them.
        thread: Option<u32>,
        /// That thread's name.
        name: Option<String>,
    },
    /// Something in a table changed.
    InTable {
        /// `NFPROTO_*`.
        family: u8,
        /// The table's name.
        table: String,
    },
}

/// The messages of nftables in what was received at once.
pub(super) fn parse(mut bytes: &[u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Some(header) = bytes.first_chunk::<HEADER>() {
        let [a, b, c, d, e, f, ..] = *header;
        let length = u32::from_ne_bytes([a, b, c, d]) as usize;
        let Some(message) = bytes.get(HEADER..length) else { break };
        messages.extend(parse_one(u16::from_ne_bytes([e, f]), message));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    messages
}

fn parse_one(kind: u16, message: &[u8]) -> Option<Message> {
    if kind >> 8 != NFNL_SUBSYS_NFTABLES {
        return None;
    }
    let (family, attributes) = (message.first()?, message.get(FAMILY_HEADER..)?);
    let attributes: Vec<NlaBuffer<&[u8]>> = NlasIterator::new(attributes).flatten().collect();
    let value = |kind: u16| attributes.iter().find(|nla| nla.kind() == kind).map(|nla| nla.value());
    let number = |kind| value(kind)?.try_into().ok().map(u32::from_be_bytes);
    if kind & 0xff == NFT_MSG_NEWGEN {
        let name = value(NFTA_GEN_PROC_NAME).map(text);
        return Some(Message::Generation {
            id: number(NFTA_GEN_ID)?,
            thread: number(NFTA_GEN_PROC_PID),
            name,
        });
    }
    Some(Message::InTable { family: *family, table: text(value(NFTA_ANY_TABLE)?) })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.strip_suffix(&[0]).unwrap_or(bytes)).into_owned()
}

/// A socket to ask for the generation with.
#[derive(Debug)]
pub(super) struct GenerationSocket(Socket);

impl GenerationSocket {
    /// Opens it in the network namespace of the calling thread.
    pub(super) fn open() -> io::Result<Self> {
        let socket = Socket::new(NETLINK_NETFILTER)?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self(socket))
    }

    /// The number of the rules as they are now; every transaction of anybody makes it one more.
    pub(super) fn get(&self) -> io::Result<u32> {
        /// `NLM_F_REQUEST`.
        const REQUEST: u16 = 1;
        let mut request = [0; HEADER + FAMILY_HEADER];
        request[0..4].copy_from_slice(&((HEADER + FAMILY_HEADER) as u32).to_ne_bytes());
        request[4..6].copy_from_slice(&(NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN).to_ne_bytes());
        request[6..8].copy_from_slice(&REQUEST.to_ne_bytes());
        self.0.send(&request, 0)?;
        let (answer, _) = self.0.recv_from_full()?;
        match parse(&answer).first() {
            Some(Message::Generation { id, .. }) => Ok(*id),
            _ => Err(io::Error::from(io::ErrorKind::InvalidData)),
        }
    }
}
