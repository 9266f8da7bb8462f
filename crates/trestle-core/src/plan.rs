//! The plan: the difference between what a host must have and what it has, in order.
//!
//! Each key is planned for itself, from the spec and the state alone, and a plan is a set: plans
//! for some keys join up to the whole plan by construction. Nothing foreign is ever changed or
//! deleted; what is in the way is a [`Problem`].

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::ownership::Owner;
use crate::spec::{Dnsmasq, HostSpec, Key, Link, LinkKind, LinkMac, Object, Route, Set, Table};
use crate::state::{HostState, Observed};
use crate::types::{LinkName, Mac, Name};

/// One change to a host. Every step is idempotent: doing it twice is doing it once.
///
/// **The order of the variants is the order of execution.** On the way in: sets and chains, then
/// the bridge, then DHCP, and a guest's device last. On the way out the device goes first and the
/// guard's elements last. An interface is never up without its guard.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Deletes a tap or veth of ours.
    DeletePort { link: LinkName },
    /// Deletes dnsmasq's entry for a MAC. It is served on until `ReloadDhcp`.
    DeleteDhcpHost { network: Name, mac: Mac },
    /// Deletes a DNS name; dnsmasq sees it at once.
    DeleteDnsName { network: Name, name: String },
    /// Makes dnsmasq forget deleted entries (SIGHUP). Nothing if it does not run.
    ReloadDhcp { network: Name },
    /// Stops a network's dnsmasq.
    StopDnsmasq { network: Name },
    /// Deletes the lease file of a network that has no dnsmasq any more.
    ForgetLeases { network: Name },
    /// Sets a kernel setting.
    SetSysctl { name: String, value: String },
    /// Makes one of our tables anew, sets and chains, without elements, in place of what it was.
    /// All adjacent steps from here to `AddElement` are one nftables transaction.
    PutRuleset { table: Table, text: String },
    /// Adds an element to a set.
    AddElement { set: Set, element: String },
    /// Makes a bridge, marked as ours, with its MAC and MTU, up.
    CreateBridge { link: LinkName, mac: Mac, mtu: u32 },
    /// Sets what differs on a device of ours.
    SetLink { link: LinkName, changes: BTreeSet<LinkChange> },
    /// Puts a physical device into a bridge and sets it up.
    Enslave { link: LinkName, bridge: LinkName },
    /// Adds a foreign address of `from` to `to` as well.
    CopyAddress { address: IpNet, from: LinkName, to: LinkName },
    /// Adds a foreign route of `from` to `to`, then deletes it from `from`.
    MoveRoute { route: Route, source: Option<IpAddr>, protocol: u8, from: LinkName, to: LinkName },
    /// Deletes an address from `from` after it was copied.
    DropAddress { address: IpNet, from: LinkName },
    /// Adds an address of ours, with our mark.
    AddAddress { link: LinkName, address: IpNet },
    /// Deletes an address of ours.
    DeleteAddress { link: LinkName, address: IpNet },
    /// Writes dnsmasq's entry for a MAC; dnsmasq sees it at once.
    WriteDhcpHost { network: Name, mac: Mac, address: Ipv4Addr, hostname: Name },
    /// Writes a DNS name; dnsmasq sees it at once.
    WriteDnsName { network: Name, name: String, address: Ipv4Addr },
    /// Starts a network's dnsmasq.
    StartDnsmasq { network: Name, dnsmasq: Dnsmasq },
    /// Ends a lease with `dhcp_release`, so that the address may go to another MAC.
    ReleaseLease { network: Name, bridge: LinkName, address: Ipv4Addr, mac: Mac },
    /// Makes a tap or veth, a port of its bridge, up.
    CreatePort { link: LinkName, port: Link },
    /// Takes a physical device out of a bridge of ours.
    ReleaseUplink { link: LinkName },
    /// Deletes a bridge of ours.
    DeleteBridge { link: LinkName },
    /// Deletes an element from a set. All adjacent steps from here on are one transaction.
    DeleteElement { set: Set, element: String },
    /// Deletes one of our tables.
    DeleteRuleset { table: Table },
}

/// What differs on a device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkChange {
    /// Set this MAC.
    Mac(Mac),
    /// Set this MTU.
    Mtu(u32),
    /// Make it a port of this bridge.
    Master(LinkName),
    /// Set it up; always the last.
    Up,
}

/// Something that cannot be done, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Problem {
    /// What it is about.
    pub key: Key,
    /// What kind of problem it is; stable, for programs.
    pub code: ProblemCode,
    /// What is wrong and what to do, for people.
    pub detail: String,
}

/// The kinds of problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemCode {
    /// A device that must exist before does not.
    InterfaceMissing,
    /// A device that must be enslaved is a port of someone else's bridge.
    InterfaceTaken,
    /// Something foreign has the name or address.
    ForeignInTheWay,
    /// What this rests on has a problem of its own.
    Blocked,
    /// The bridge has all the ports the kernel gives it.
    BridgeFull,
    /// A step failed on the host.
    StepFailed,
}

/// What to do, and what cannot be done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// In order of execution.
    pub steps: BTreeSet<Step>,
    /// What the spec asks for and no step can give.
    pub problems: BTreeSet<Problem>,
}

/// The whole plan for a host.
pub fn plan(spec: &HostSpec, state: &HostState) -> Plan {
    let _ = (spec, state);
    todo!()
}

/// The plan for some keys: the whole plan restricted to them. `state` needs to be complete for
/// [`reads`] of these keys only.
pub fn plan_keys(spec: &HostSpec, state: &HostState, keys: &BTreeSet<Key>) -> Plan {
    let _ = (spec, state, keys);
    todo!()
}

/// The keys that must have been observed to plan this one, itself included.
pub fn reads(spec: &HostSpec, key: &Key) -> BTreeSet<Key> {
    let _ = (spec, key);
    todo!()
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}
