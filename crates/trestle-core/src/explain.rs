//! Why a packet passes, or does not: each decision on its way.
//!
//! Judged by what the hosts run: the objects that [`crate::compile`] gives each host, the rules in them
//! read line by line as nftables does. The World says only who is where, and which rule a number stands
//! for; so a wrong compile is seen here as it would be on the wire.
//!
//! A packet that begins a connection is explained. What belongs to a connection that began passes with it,
//! answers too.

mod bridged;
mod frame;
mod host;
mod line;
mod routed;
mod sets;
mod vpn;
mod walk;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::spec::Key;
use crate::types::{HostId, IcmpType, InterfaceId, IpProtocol, Name, RuleId};
use crate::world::World;

/// A packet that begins a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Who sends it.
    pub from: Sender,
    /// Whom to: a fixed IP, a floating IP, a gateway, or anybody outside.
    pub to: IpAddr,
    /// What it carries.
    pub protocol: IpProtocol,
    /// The destination port, of a protocol that has ports.
    pub port: Option<u16>,
    /// The message, of ICMP.
    pub icmp: Option<IcmpType>,
}

/// Who sends a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The guest of an interface, from this address; from its first one that fits if none is given.
    Interface(InterfaceId, Option<IpAddr>),
    /// A host itself, from an address of its own.
    Host(HostId, IpAddr),
    /// Somebody who is on none of the networks.
    Outside(IpAddr),
}

/// The addresses that hosts have besides those that Trestle gives them, by what they said. Of a host that
/// is not in it nobody knows them.
pub type OwnAddresses = BTreeMap<HostId, BTreeSet<IpAddr>>;

/// A decision on a packet's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// What is decided.
    pub kind: StageKind,
    /// Where, if it is on a host.
    pub host: Option<HostId>,
    /// How.
    pub verdict: Verdict,
    /// Why, as a sentence for people.
    pub reason: String,
    /// The rule of a security group that decided.
    pub rule: Option<RuleId>,
    /// The object of the host that decided.
    pub key: Option<Key>,
}

/// What is decided on a packet's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageKind {
    /// Whether the sender is plugged in, and has an address to send from.
    Sender,
    /// What an interface may send and is sent, whatever its groups are.
    Guard,
    /// The sender's security groups.
    Egress,
    /// The receiver's security groups.
    Ingress,
    /// Where a floating IP leads.
    DestinationNat,
    /// Under which address it goes on.
    SourceNat,
    /// Where it goes next.
    Route,
    /// Which networks reach which.
    Isolation,
    /// What a host lets come to itself.
    Host,
    /// The bridge that leads to the receiver, or to another host.
    Bridge,
}

/// How a stage decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It goes on.
    Pass,
    /// It ends here.
    Drop,
    /// It goes on with another address.
    Translated,
    /// It goes on by this way.
    Routed,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It arrives, or leaves for where it is not Trestle's to say.
    Passes,
    /// It does not.
    Dropped,
    /// That cannot be said.
    Unknown(Problem),
}

/// Why it cannot be said what becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A rule that is not written as Trestle writes them.
    #[error("host {host} has a rule that explain does not understand, in chain {chain}: `{line}`")]
    Misunderstood {
        /// Where.
        host: Name,
        /// The chain that it is in.
        chain: String,
        /// The rule.
        line: String,
    },
    /// A rule that asks for the address that a host of ours gave the packet.
    #[error(
        "`{line}` of chain {chain} on host {host} asks for an address that another host gave the packet, its own"
    )]
    UnknownSource {
        /// Where.
        host: Name,
        /// The chain that it is in.
        chain: String,
        /// The rule.
        line: String,
    },
    /// What leads outside may be the host itself.
    #[error(
        "host {host} has not told which addresses are its own: if {address} is one, its instances have nothing of it but an echo"
    )]
    OwnAddresses {
        /// Where.
        host: Name,
        /// The address.
        address: IpAddr,
    },
    /// A chain that is led to and is not there.
    #[error("host {host} has no chain {chain}, where the packet is to go on")]
    NoChain {
        /// Where.
        host: Name,
        /// Its name.
        chain: String,
    },
    /// Nobody is known to have the address, but who is not guarded may have any.
    #[error(
        "nobody is known to have {address}, but on network {network} an instance has port security off: it may have any address"
    )]
    Unguarded {
        /// The address.
        address: IpAddr,
        /// The network.
        network: Name,
    },
    /// What is sent to many.
    #[error("{0} is an address of many: explain is about what is sent to one")]
    ToMany(IpAddr),
}

/// Every decision on a packet's way, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// In the order in which they are made.
    pub stages: Vec<Stage>,
    /// What becomes of it.
    pub outcome: Outcome,
}

/// Follows a packet through the hosts of the World, which have these addresses of their own, at this time in
/// seconds since 1970.
pub fn explain(world: &World, own: &OwnAddresses, packet: &Packet, now: i64) -> Explanation {
    let mut walk = walk::Walk::new(world, own, packet, now);
    let outcome = match walk.begin(packet.from) {
        Ok(()) => Outcome::Passes,
        Err(walk::End::Dropped) => Outcome::Dropped,
        Err(walk::End::Unknown(problem)) => Outcome::Unknown(problem),
    };
    Explanation { stages: walk.stages, outcome }
}
