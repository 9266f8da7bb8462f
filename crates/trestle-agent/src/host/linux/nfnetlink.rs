//! The few netlink messages of nftables that libnftables keeps to itself or is slow at
//! (`linux/netfilter/nfnetlink.h`, `linux/netfilter/nf_tables.h`): which generation the rules are
//! at, who made it, and whether one element is in a set.

use std::io;

use netlink_packet_core::{NLM_F_REQUEST, NLMSG_ERROR, NlaBuffer, NlasIterator};
use netlink_sys::constants::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_GETSETELEM: u16 = 13;
const NFT_MSG_NEWGEN: u16 = 15;
const NFT_MSG_GETGEN: u16 = 16;
const NFTA_GEN_ID: u16 = 1;
const NFTA_GEN_PROC_PID: u16 = 2;
const NFTA_GEN_PROC_NAME: u16 = 3;
/// `NFTA_TABLE_NAME`, `NFTA_CHAIN_TABLE`, `NFTA_RULE_TABLE`, `NFTA_SET_TABLE`,
/// `NFTA_SET_ELEM_LIST_TABLE`, …: all of them are 1.
const NFTA_ANY_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;
/// `NFT_JUMP`.
const JUMP: i32 = -3;
/// `NLA_F_NESTED` (`linux/netlink.h`).
pub(super) const NESTED: u16 = 1 << 15;
/// `struct nlmsghdr` and, after it, `struct nfgenmsg`.
pub(super) const HEADER: usize = 16;
pub(super) const FAMILY_HEADER: usize = 4;
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

/// A socket to ask about the generation and about single elements with.
#[derive(Debug)]
pub(super) struct QuerySocket(Socket);

impl QuerySocket {
    /// Opens it in the network namespace of the calling thread.
    pub(super) fn open() -> io::Result<Self> {
        let socket = Socket::new(NETLINK_NETFILTER)?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self(socket))
    }

    /// The number of the rules as they are now; every transaction of anybody makes it one more.
    pub(super) fn generation(&self) -> io::Result<u32> {
        let answer = self.ask(NFT_MSG_GETGEN, 0, &[])?;
        match answer.as_deref().map(parse).unwrap_or_default().first() {
            Some(Message::Generation { id, .. }) => Ok(*id),
            _ => Err(io::Error::from(io::ErrorKind::InvalidData)),
        }
    }

    /// What the key leads to in a map, nothing in a set, both as the kernel has them; `None` if it is
    /// not in there. The library fetches the whole set to answer this.
    pub(super) fn element(
        &self,
        family: u8,
        (table, set): (&str, &str),
        key: &[u8],
    ) -> io::Result<Option<Vec<u8>>> {
        let key = attribute(NESTED | NFTA_SET_ELEM_KEY, &attribute(NFTA_DATA_VALUE, key));
        let elements = attribute(NESTED | NFTA_LIST_ELEM, &key);
        let attributes = [
            attribute(NFTA_ANY_TABLE, &terminated(table)),
            attribute(NFTA_SET_ELEM_LIST_SET, &terminated(set)),
            attribute(NESTED | NFTA_SET_ELEM_LIST_ELEMENTS, &elements),
        ];
        let answer = self.ask(NFT_MSG_GETSETELEM, family, &attributes.concat())?;
        Ok(answer.map(|answer| value_in(&answer).unwrap_or_default()))
    }

    /// `None` if what is asked about is not there. Begins anew when the rules change meanwhile.
    fn ask(&self, kind: u16, family: u8, attributes: &[u8]) -> io::Result<Option<Vec<u8>>> {
        loop {
            self.0.send(&request(NFNL_SUBSYS_NFTABLES << 8 | kind, 0, family, attributes), 0)?;
            let (answer, _) = self.0.recv_from_full()?;
            match error_of(&answer) {
                None => return Ok(Some(answer)),
                Some(Errno::ENOENT) => return Ok(None),
                Some(Errno::EINTR) => {}
                Some(errno) => return Err(errno.into()),
            }
        }
    }
}

/// A request of any subsystem; `kind` has that in its upper byte.
pub(super) fn request(kind: u16, flags: u16, family: u8, attributes: &[u8]) -> Vec<u8> {
    let length = (HEADER + FAMILY_HEADER + attributes.len()) as u32;
    let mut request = length.to_ne_bytes().to_vec();
    request.extend(kind.to_ne_bytes());
    request.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    // No sequence number and no port: each answer is read before the next request.
    request.extend([0; 8]);
    request.extend([family, 0, 0, 0]);
    request.extend(attributes);
    request
}

pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut attribute = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
    attribute.extend(kind.to_ne_bytes());
    attribute.extend(value);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}

/// The value of the one element that an answer tells of; a jump as nft writes it.
fn value_in(answer: &[u8]) -> Option<Vec<u8>> {
    let mut attributes = answer.get(HEADER + FAMILY_HEADER..)?.to_vec();
    for kind in [NFTA_SET_ELEM_LIST_ELEMENTS, NFTA_LIST_ELEM, NFTA_SET_ELEM_DATA] {
        attributes = inner(&attributes, kind)?;
    }
    inner(&attributes, NFTA_DATA_VALUE).or_else(|| {
        let verdict = inner(&attributes, NFTA_DATA_VERDICT)?;
        let code = inner(&verdict, NFTA_VERDICT_CODE)?.try_into().ok().map(i32::from_be_bytes)?;
        let chain = text(&inner(&verdict, NFTA_VERDICT_CHAIN)?);
        let verb = if code == JUMP { "jump" } else { "goto" };
        Some(format!("{verb} {chain}").into_bytes())
    })
}

/// What one of these attributes holds.
fn inner(attributes: &[u8], kind: u16) -> Option<Vec<u8>> {
    let mut all = NlasIterator::new(attributes).flatten();
    Some(all.find(|nla| nla.kind() & !NESTED == kind)?.value().to_vec())
}

fn terminated(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

/// The error number of an `NLMSG_ERROR`.
pub(super) fn error_of(answer: &[u8]) -> Option<Errno> {
    let kind = answer.get(4..6)?.try_into().ok().map(u16::from_ne_bytes)?;
    let code = answer.get(HEADER..HEADER + 4)?.try_into().ok().map(i32::from_ne_bytes)?;
    (kind == NLMSG_ERROR && code != 0).then(|| Errno::from_raw(-code))
}
