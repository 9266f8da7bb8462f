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
#[allow(missing_docs, reason = "the fields are the words of the variant's own sentence")]
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
    /// Adds a foreign address of the bridge `from` to the device `to` that leaves it.
    ReturnAddress { address: IpNet, from: LinkName, to: LinkName },
    /// Adds a foreign route of the bridge `from` to the device `to`, then deletes it from `from`.
    ReturnRoute { route: Route, source: Option<IpAddr>, protocol: u8, from: LinkName, to: LinkName },
    /// Deletes an address from the bridge `from` after it was returned.
    DropReturned { address: IpNet, from: LinkName },
    /// Takes a physical device out of a bridge of ours. It comes before any other is put in, so
    /// that it is always known whose the addresses on a bridge are.
    ReleaseUplink { link: LinkName },
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
    /// Puts a physical device that is in another bridge of ours into this one. It comes after the
    /// addresses: until it is done, the old bridge is known as where they are.
    SwitchUplink { link: LinkName, bridge: LinkName },
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
    let keys = spec.objects.keys().chain(state.objects.keys()).cloned().collect();
    plan_keys(spec, state, &keys)
}

/// The plan for some keys: the whole plan restricted to them. `state` needs to be complete for
/// [`reads`] of these keys only.
pub fn plan_keys(spec: &HostSpec, state: &HostState, keys: &BTreeSet<Key>) -> Plan {
    let mut planner = Planner { spec, state, plan: Plan::default() };
    for key in keys {
        planner.plan_key(key);
    }
    planner.plan
}

/// The keys that must have been observed to plan this one, itself included.
pub fn reads(spec: &HostSpec, key: &Key) -> BTreeSet<Key> {
    let mut keys = BTreeSet::from([key.clone()]);
    let bridge_of = |link: &LinkName| match spec.objects.get(&Key::Uplink(link.clone())) {
        Some(Object::Uplink(bridge)) => Some(bridge.clone()),
        _ => None,
    };
    match key {
        Key::Element(set, _) => {
            keys.insert(Key::Ruleset(set.table()));
        }
        Key::Link(name) => {
            let link = spec.link(name);
            keys.extend(
                link.and_then(|link| link.master.as_ref())
                    .into_iter()
                    .flat_map(|bridge| bridge_reads(spec, bridge)),
            );
            keys.extend(bridge_reads(spec, name));
        }
        Key::Uplink(link) => {
            keys.insert(Key::Link(link.clone()));
            keys.extend(bridge_of(link).into_iter().flat_map(|bridge| bridge_reads(spec, &bridge)));
        }
        Key::Address(link, _) | Key::Route(link, _) => keys.extend(bridge_reads(spec, link)),
        Key::DhcpHost(network, mac) | Key::Lease(network, mac) => {
            keys.insert(Key::DhcpHost(network.clone(), *mac));
            keys.insert(Key::Lease(network.clone(), *mac));
        }
        Key::Dnsmasq(network) => {
            if let Some(Object::Dnsmasq(dnsmasq)) = spec.objects.get(&Key::Dnsmasq(network.clone())) {
                keys.extend(bridge_reads(spec, &dnsmasq.bridge));
            }
        }
        Key::Sysctl(_) | Key::Ruleset(_) | Key::DnsName(..) => {}
    }
    keys
}

/// What decides whether a bridge can be made: itself and the device it has its MAC from.
fn bridge_reads(spec: &HostSpec, bridge: &LinkName) -> BTreeSet<Key> {
    let mut keys = BTreeSet::from([Key::Link(bridge.clone())]);
    if let Some(Link { mac: Some(LinkMac::Of(uplink)), .. }) = spec.link(bridge) {
        keys.insert(Key::Link(uplink.clone()));
    }
    keys
}

/// Plans key by key. No key's steps depend on what was planned for another.
struct Planner<'a> {
    spec: &'a HostSpec,
    state: &'a HostState,
    plan: Plan,
}

impl Planner<'_> {
    fn plan_key(&mut self, key: &Key) {
        match key {
            Key::Sysctl(name) => self.plan_sysctl(key, name),
            Key::Ruleset(table) => self.plan_ruleset(*table),
            Key::Element(set, element) => self.plan_element(key, *set, element),
            Key::Link(name) => self.plan_link(key, name),
            Key::Uplink(link) => self.plan_uplink(key, link),
            Key::Address(link, address) => self.plan_address(key, link, *address),
            Key::DhcpHost(network, mac) => {
                self.plan_dhcp_host(key, network, *mac);
                self.plan_lease(network, *mac);
            }
            Key::DnsName(network, name) => self.plan_dns_name(key, network, name),
            Key::Lease(network, mac) => self.plan_lease(network, *mac),
            Key::Dnsmasq(network) => self.plan_dnsmasq(key, network),
            // Routes are never asked for; foreign ones move with their uplink.
            Key::Route(..) => {}
        }
    }

    fn step(&mut self, step: Step) {
        self.plan.steps.insert(step);
    }

    fn problem(&mut self, key: &Key, code: ProblemCode, detail: String) {
        self.plan.problems.insert(Problem { key: key.clone(), code, detail });
    }

    fn wanted(&self, key: &Key) -> Option<&Object> {
        self.spec.objects.get(key)
    }

    /// A setting that is not asked for any more stays: others may have come to rely on it.
    fn plan_sysctl(&mut self, key: &Key, name: &str) {
        let Some(Object::Sysctl(value)) = self.wanted(key).cloned() else { return };
        if self.state.get(key).map(|have| &have.object) != Some(&Object::Sysctl(value.clone())) {
            self.step(Step::SetSysctl { name: name.to_owned(), value });
        }
    }

    fn wanted_ruleset(&self, table: Table) -> Option<&str> {
        match self.wanted(&Key::Ruleset(table)) {
            Some(Object::Ruleset(text)) => Some(text),
            _ => None,
        }
    }

    fn plan_ruleset(&mut self, table: Table) {
        match (self.wanted_ruleset(table), self.state.ruleset(table)) {
            (Some(text), have) if have != Some(text) => {
                let text = text.to_owned();
                self.step(Step::PutRuleset { table, text });
            }
            (None, Some(_)) => self.step(Step::DeleteRuleset { table }),
            _ => {}
        }
    }

    fn plan_element(&mut self, key: &Key, set: Set, element: &str) {
        let wanted = self.wanted(key).is_some();
        let there = self.state.get(key).is_some();
        let table_stays = self.wanted_ruleset(set.table()) == self.state.ruleset(set.table());
        let element = element.to_owned();
        // A table made anew has no elements: those that stay go in again, in the same transaction.
        if wanted && !(there && table_stays) {
            self.step(Step::AddElement { set, element });
        } else if !wanted && there && table_stays {
            self.step(Step::DeleteElement { set, element });
        }
    }

    fn plan_link(&mut self, key: &Key, name: &LinkName) {
        match (self.spec.link(name), self.state.link(name)) {
            (Some(wanted), have) => self.plan_wanted_link(key, name, wanted, have),
            (None, Some((have, Owner::Ours))) => self.step(delete_link(name, have)),
            (None, _) => {}
        }
    }

    fn plan_wanted_link(&mut self, key: &Key, name: &LinkName, wanted: &Link, have: Option<(&Link, Owner)>) {
        if let Some((code, detail)) = self.obstacle(name) {
            return self.problem(key, code, detail);
        }
        if let Some(bridge) = wanted.master.as_ref()
            && let Some((_, detail)) = self.obstacle(bridge)
        {
            return self.problem(
                key,
                ProblemCode::Blocked,
                format!("its bridge {bridge} cannot be made: {detail}"),
            );
        }
        match have {
            Some((have, _)) if have.kind == wanted.kind => {
                let changes = self.link_changes(wanted, have);
                if !changes.is_empty() {
                    self.step(Step::SetLink { link: name.clone(), changes });
                }
            }
            Some((have, _)) => {
                self.step(delete_link(name, have));
                self.create_link(name, wanted);
            }
            None => self.create_link(name, wanted),
        }
    }

    fn create_link(&mut self, name: &LinkName, wanted: &Link) {
        let link = name.clone();
        match (&wanted.kind, self.mac(wanted)) {
            (LinkKind::Bridge, Some(mac)) => self.step(Step::CreateBridge { link, mac, mtu: wanted.mtu }),
            _ => self.step(Step::CreatePort { link, port: wanted.clone() }),
        }
    }

    fn link_changes(&self, wanted: &Link, have: &Link) -> BTreeSet<LinkChange> {
        let mac = self.mac(wanted).filter(|mac| have.mac != Some(LinkMac::Fixed(*mac)));
        let mtu = (have.mtu != wanted.mtu).then_some(wanted.mtu);
        let master = wanted.master.clone().filter(|_| have.master != wanted.master);
        let up = (!have.up).then_some(LinkChange::Up);
        let changes =
            [mac.map(LinkChange::Mac), mtu.map(LinkChange::Mtu), master.map(LinkChange::Master), up];
        changes.into_iter().flatten().collect()
    }

    /// The MAC a link is to have, if the spec says and the device it is taken from is there.
    fn mac(&self, wanted: &Link) -> Option<Mac> {
        match wanted.mac.as_ref()? {
            LinkMac::Fixed(mac) => Some(*mac),
            LinkMac::Of(other) => match self.state.link(other)?.0.mac {
                Some(LinkMac::Fixed(mac)) => Some(mac),
                _ => None,
            },
        }
    }

    /// What keeps a link of the spec from being made, itself alone considered.
    fn obstacle(&self, name: &LinkName) -> Option<(ProblemCode, String)> {
        let wanted = self.spec.link(name)?;
        if let Some((have, owner)) = self.state.link(name) {
            let of_another_kind = wanted.kind == LinkKind::Bridge && have.kind != LinkKind::Bridge;
            if owner == Owner::Foreign || of_another_kind {
                let detail =
                    format!("a device {name} exists that is not Trestle's; remove it or choose another name");
                return Some((ProblemCode::ForeignInTheWay, detail));
            }
        }
        let Some(LinkMac::Of(uplink)) = &wanted.mac else { return None };
        match self.state.link(uplink) {
            None => Some((ProblemCode::InterfaceMissing, missing_interface(uplink))),
            Some((have, _)) => self.taken(uplink, have, name),
        }
    }

    fn taken(&self, link: &LinkName, have: &Link, bridge: &LinkName) -> Option<(ProblemCode, String)> {
        let master = have.master.as_ref().filter(|master| *master != bridge)?;
        let foreign = !matches!(self.state.link(master), Some((_, Owner::Ours)));
        let detail = format!(
            "{link} is a port of {master}, which is not Trestle's; take it out or name another device"
        );
        foreign.then_some((ProblemCode::InterfaceTaken, detail))
    }

    fn plan_uplink(&mut self, key: &Key, link: &LinkName) {
        let enslaved = match self.state.get(key) {
            Some(Observed { object: Object::Uplink(bridge), .. }) => Some(bridge.clone()),
            _ => None,
        };
        match (self.wanted(key).cloned(), enslaved) {
            (Some(Object::Uplink(bridge)), enslaved) => match self.uplink_obstacle(link, &bridge) {
                None => self.enslave(link, &bridge, enslaved),
                Some((code, detail)) => {
                    self.problem(key, code, detail);
                    if let Some(old) = enslaved.filter(|old| *old != bridge) {
                        self.release_uplink(link, &old);
                    }
                }
            },
            (_, Some(bridge)) => self.release_uplink(link, &bridge),
            _ => {}
        }
    }

    fn uplink_obstacle(&self, link: &LinkName, bridge: &LinkName) -> Option<(ProblemCode, String)> {
        let Some((have, _)) = self.state.link(link) else {
            return Some((ProblemCode::InterfaceMissing, missing_interface(link)));
        };
        let blocked =
            |(_, detail)| (ProblemCode::Blocked, format!("its bridge {bridge} cannot be made: {detail}"));
        self.taken(link, have, bridge).or_else(|| self.obstacle(bridge).map(blocked))
    }

    fn enslave(&mut self, link: &LinkName, bridge: &LinkName, enslaved: Option<LinkName>) {
        let have = self.state.link(link).map(|(have, _)| have);
        let is_port = have.is_some_and(|have| have.up && have.master.as_ref() == Some(bridge));
        let (link, bridge) = (link.clone(), bridge.clone());
        self.move_addresses(&link, &bridge);
        match enslaved.filter(|old| *old != bridge) {
            Some(old) => {
                self.move_addresses(&old, &bridge);
                self.step(Step::SwitchUplink { link, bridge });
            }
            None if is_port && self.state.get(&Key::Uplink(link.clone())).is_some() => {}
            None => self.step(Step::Enslave { link, bridge }),
        }
    }

    fn release_uplink(&mut self, link: &LinkName, bridge: &LinkName) {
        let state = self.state;
        for address in state.foreign_addresses(bridge) {
            self.step(Step::ReturnAddress { address, from: bridge.clone(), to: link.clone() });
            self.step(Step::DropReturned { address, from: bridge.clone() });
        }
        for (route, source, protocol) in state.foreign_routes(bridge) {
            let (from, to, route) = (bridge.clone(), link.clone(), route.clone());
            self.step(Step::ReturnRoute { route, source, protocol, from, to });
        }
        self.step(Step::ReleaseUplink { link: link.clone() });
    }

    /// Every address and route is on the new device before it leaves the old one, so that no
    /// connection is cut and no crash loses one.
    fn move_addresses(&mut self, from: &LinkName, to: &LinkName) {
        let state = self.state;
        for address in state.foreign_addresses(from) {
            self.step(Step::CopyAddress { address, from: from.clone(), to: to.clone() });
            self.step(Step::DropAddress { address, from: from.clone() });
        }
        for (route, source, protocol) in state.foreign_routes(from) {
            let (from, to, route) = (from.clone(), to.clone(), route.clone());
            self.step(Step::MoveRoute { route, source, protocol, from, to });
        }
    }

    fn plan_address(&mut self, key: &Key, link: &LinkName, address: IpNet) {
        let have = self.state.get(key).map(|have| have.owner);
        if self.wanted(key).is_some() {
            if let Some((_, detail)) = self.obstacle(link) {
                self.problem(
                    key,
                    ProblemCode::Blocked,
                    format!("its device {link} cannot be made: {detail}"),
                );
            } else if have.is_none() {
                self.step(Step::AddAddress { link: link.clone(), address });
            }
        } else if have == Some(Owner::Ours) {
            self.step(Step::DeleteAddress { link: link.clone(), address });
        }
    }

    fn plan_dhcp_host(&mut self, key: &Key, network: &Name, mac: Mac) {
        let have = self.state.get(key).map(|have| &have.object);
        let network = network.clone();
        match (self.wanted(key).cloned(), have) {
            (Some(wanted), have) if have != Some(&wanted) => {
                let Object::DhcpHost { address, hostname } = wanted else { return };
                self.step(Step::WriteDhcpHost { network, mac, address, hostname });
            }
            (None, Some(_)) => {
                self.step(Step::DeleteDhcpHost { network: network.clone(), mac });
                self.step(Step::ReloadDhcp { network });
            }
            _ => {}
        }
    }

    fn plan_dns_name(&mut self, key: &Key, network: &Name, name: &str) {
        let have = self.state.get(key).map(|have| &have.object);
        let (network, name) = (network.clone(), name.to_owned());
        match (self.wanted(key).cloned(), have) {
            (Some(wanted), have) if have != Some(&wanted) => {
                let Object::DnsName(address) = wanted else { return };
                self.step(Step::WriteDnsName { network, name, address });
            }
            (None, Some(_)) => self.step(Step::DeleteDnsName { network, name }),
            _ => {}
        }
    }

    /// A lease stands only for the entry it was given by. Any other keeps its address from the
    /// next owner (reference MG-65), so it is ended wherever it came from.
    fn plan_lease(&mut self, network: &Name, mac: Mac) {
        let Some(address) = self.state.lease(network, mac) else { return };
        let entry = self.wanted(&Key::DhcpHost(network.clone(), mac));
        if matches!(entry, Some(Object::DhcpHost { address: entitled, .. }) if *entitled == address) {
            return;
        }
        let network = network.clone();
        match self.wanted(&Key::Dnsmasq(network.clone())) {
            Some(Object::Dnsmasq(dnsmasq)) => {
                let bridge = dnsmasq.bridge.clone();
                self.step(Step::ReleaseLease { network, bridge, address, mac });
            }
            _ => self.step(Step::ForgetLeases { network }),
        }
    }

    fn plan_dnsmasq(&mut self, key: &Key, network: &Name) {
        let have = self.state.dnsmasq(network);
        let Some(Object::Dnsmasq(wanted)) = self.wanted(key).cloned() else {
            if have.is_some() {
                self.step(Step::StopDnsmasq { network: network.clone() });
            }
            return;
        };
        if let Some((_, detail)) = self.obstacle(&wanted.bridge) {
            let detail = format!("its bridge {} cannot be made: {detail}", wanted.bridge);
            return self.problem(key, ProblemCode::Blocked, detail);
        }
        let bridge_index = self.state.link(&wanted.bridge).and_then(|(link, _)| link.index);
        let right = have.is_some_and(|have| {
            have.arguments == wanted.arguments
                && have.bridge_index.is_some()
                && have.bridge_index == bridge_index
        });
        if right {
            return;
        }
        if have.is_some() {
            self.step(Step::StopDnsmasq { network: network.clone() });
        }
        self.step(Step::StartDnsmasq { network: network.clone(), dnsmasq: wanted });
    }
}

fn delete_link(name: &LinkName, have: &Link) -> Step {
    match have.kind {
        LinkKind::Bridge => Step::DeleteBridge { link: name.clone() },
        _ => Step::DeletePort { link: name.clone() },
    }
}

fn missing_interface(link: &LinkName) -> String {
    format!("the device {link} does not exist on this host; make it, or name another with `trestle host set`")
}

impl Step {
    /// The key whose object this step makes true.
    pub fn key(&self) -> Key {
        match self {
            Self::DeletePort { link }
            | Self::CreateBridge { link, .. }
            | Self::SetLink { link, .. }
            | Self::CreatePort { link, .. }
            | Self::DeleteBridge { link } => Key::Link(link.clone()),
            Self::DeleteDhcpHost { network, mac } | Self::WriteDhcpHost { network, mac, .. } => {
                Key::DhcpHost(network.clone(), *mac)
            }
            Self::DeleteDnsName { network, name } | Self::WriteDnsName { network, name, .. } => {
                Key::DnsName(network.clone(), name.clone())
            }
            Self::ReloadDhcp { network }
            | Self::StopDnsmasq { network }
            | Self::ForgetLeases { network }
            | Self::StartDnsmasq { network, .. } => Key::Dnsmasq(network.clone()),
            Self::SetSysctl { name, .. } => Key::Sysctl(name.clone()),
            Self::PutRuleset { table, .. } | Self::DeleteRuleset { table } => Key::Ruleset(*table),
            Self::AddElement { set, element } | Self::DeleteElement { set, element } => {
                Key::Element(*set, element.clone())
            }
            Self::Enslave { link, .. } | Self::SwitchUplink { link, .. } | Self::ReleaseUplink { link } => {
                Key::Uplink(link.clone())
            }
            Self::CopyAddress { address, to, .. } | Self::ReturnAddress { address, to, .. } => {
                Key::Address(to.clone(), *address)
            }
            Self::MoveRoute { route, to, .. } | Self::ReturnRoute { route, to, .. } => {
                Key::Route(to.clone(), route.clone())
            }
            Self::DropAddress { address, from } | Self::DropReturned { address, from } => {
                Key::Address(from.clone(), *address)
            }
            Self::AddAddress { link, address } | Self::DeleteAddress { link, address } => {
                Key::Address(link.clone(), *address)
            }
            Self::ReleaseLease { network, mac, .. } => Key::Lease(network.clone(), *mac),
        }
    }
}

/// As an operator reads it: what is done, to what.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeletePort { link } => write!(f, "delete device {link}"),
            Self::DeleteDhcpHost { network, mac } => write!(f, "delete DHCP entry of {mac} on {network}"),
            Self::DeleteDnsName { network, name } => write!(f, "delete DNS name {name} on {network}"),
            Self::ReloadDhcp { network } => write!(f, "reload DHCP entries of {network}"),
            Self::StopDnsmasq { network } => write!(f, "stop dnsmasq of {network}"),
            Self::ForgetLeases { network } => write!(f, "forget leases of {network}"),
            Self::SetSysctl { name, value } => write!(f, "set {name} to {value}"),
            Self::PutRuleset { table, .. } => write!(f, "load table {table}"),
            Self::AddElement { set, element } => write!(f, "add {element} to {set}"),
            Self::CreateBridge { link, mac, mtu } => {
                write!(f, "make bridge {link} with MAC {mac}, MTU {mtu}")
            }
            Self::SetLink { link, changes } => {
                let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
                write!(f, "set {link} to {}", changes.join(", "))
            }
            Self::Enslave { link, bridge } => write!(f, "enslave {link} to {bridge}"),
            Self::SwitchUplink { link, bridge } => write!(f, "switch {link} over to {bridge}"),
            Self::CopyAddress { address, from, to } | Self::ReturnAddress { address, from, to } => {
                write!(f, "copy address {address} from {from} to {to}")
            }
            Self::MoveRoute { route, from, to, .. } | Self::ReturnRoute { route, from, to, .. } => {
                write!(f, "move route {route} from {from} to {to}")
            }
            Self::DropAddress { address, from } | Self::DropReturned { address, from } => {
                write!(f, "drop address {address} from {from}")
            }
            Self::AddAddress { link, address } => write!(f, "add address {address} to {link}"),
            Self::DeleteAddress { link, address } => write!(f, "delete address {address} from {link}"),
            Self::WriteDhcpHost { network, mac, address, hostname } => {
                write!(f, "write DHCP entry of {mac} on {network}: {address}, {hostname}")
            }
            Self::WriteDnsName { network, name, address } => {
                write!(f, "write DNS name {name} on {network}: {address}")
            }
            Self::StartDnsmasq { network, dnsmasq } => {
                write!(f, "start dnsmasq of {network} on {}", dnsmasq.bridge)
            }
            Self::ReleaseLease { network, address, mac, .. } => {
                write!(f, "release lease of {address} by {mac} on {network}")
            }
            Self::CreatePort { link, port } => write!(f, "make {} {link}", port.kind),
            Self::ReleaseUplink { link } => write!(f, "take {link} out of its bridge"),
            Self::DeleteBridge { link } => write!(f, "delete bridge {link}"),
            Self::DeleteElement { set, element } => write!(f, "delete {element} from {set}"),
            Self::DeleteRuleset { table } => write!(f, "delete table {table}"),
        }
    }
}

impl fmt::Display for LinkChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mac(mac) => write!(f, "MAC {mac}"),
            Self::Mtu(mtu) => write!(f, "MTU {mtu}"),
            Self::Master(bridge) => write!(f, "port of {bridge}"),
            Self::Up => f.write_str("up"),
        }
    }
}

impl fmt::Display for LinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bridge => f.write_str("bridge"),
            Self::Tap { owner: Some(uid) } => write!(f, "tap of user {uid}"),
            Self::Tap { owner: None } => f.write_str("tap"),
            Self::Veth { netns, name, .. } => write!(f, "veth to {name} in {netns}"),
            Self::Other => f.write_str("device"),
        }
    }
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}
