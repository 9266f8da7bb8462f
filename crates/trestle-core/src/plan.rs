//! The plan: the difference between what a host must have and what it has, in order.
//!
//! Each key is planned for itself, from the spec and the state alone, and a plan is a set: plans
//! for some keys join up to the whole plan by construction. Nothing foreign is ever changed or
//! deleted; what is in the way is a [`Problem`].

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::ownership::Owner;
use crate::spec::{HostSpec, Key, Link, LinkKind, LinkMac, Object, Set, Table};
use crate::state::{HostState, Observed};
pub use crate::step::{LinkChange, Step};
use crate::types::{LinkName, Mac, Name};

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
    /// A device cannot carry frames as large as the network's.
    MtuTooLarge,
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

/// The keys that must have been observed to plan this one, itself included. A link is observed with
/// its master: whose bridge a device is in decides whether it may be taken. An uplink is observed
/// with the addresses and routes on it and on its bridge.
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
            let master = link.and_then(|link| link.master.as_ref());
            keys.extend(master.into_iter().flat_map(|bridge| obstacle_reads(spec, bridge)));
            keys.extend(obstacle_reads(spec, name));
            keys.extend(mac_reads(spec, name));
        }
        Key::Device(link) => {
            keys.insert(Key::Link(link.clone()));
        }
        Key::Uplink(link) => {
            keys.insert(Key::Link(link.clone()));
            keys.extend(bridge_of(link).into_iter().flat_map(|bridge| obstacle_reads(spec, &bridge)));
        }
        Key::Address(link, _) | Key::Route(link, _) => keys.extend(obstacle_reads(spec, link)),
        Key::DhcpHost(network, mac) | Key::Lease(network, mac) => {
            keys.insert(Key::DhcpHost(network.clone(), *mac));
            keys.insert(Key::Lease(network.clone(), *mac));
        }
        Key::DhcpHost6(network, address) | Key::Lease6(network, address) => {
            keys.insert(Key::DhcpHost6(network.clone(), *address));
            keys.insert(Key::Lease6(network.clone(), *address));
        }
        Key::Dnsmasq(network) => {
            if let Some(Object::Dnsmasq(dnsmasq)) = spec.objects.get(&Key::Dnsmasq(network.clone())) {
                keys.extend(obstacle_reads(spec, &dnsmasq.bridge));
            }
        }
        Key::Station(bridge, _) => {
            if let Some(Object::Station { port, .. }) = spec.objects.get(key) {
                keys.extend(obstacle_reads(spec, port));
            }
            keys.extend(obstacle_reads(spec, bridge));
        }
        Key::Sysctl(_) | Key::Ruleset(_) | Key::DnsName(..) => {}
    }
    keys
}

/// What decides whether a link can be made: itself, and what it rests on in turn.
fn obstacle_reads(spec: &HostSpec, name: &LinkName) -> BTreeSet<Key> {
    let mut keys = BTreeSet::from([Key::Link(name.clone())]);
    keys.extend(rests_on(spec, name).into_iter().flat_map(|under| obstacle_reads(spec, under)));
    keys
}

/// The device that must be there for a link of the spec to be made.
fn rests_on<'a>(spec: &'a HostSpec, name: &LinkName) -> Option<&'a LinkName> {
    let link = spec.link(name)?;
    match &link.kind {
        LinkKind::Vlan { parent, .. } => Some(parent),
        _ => link.uplink.as_ref(),
    }
}

/// What decides which MAC a link is to have.
fn mac_reads(spec: &HostSpec, name: &LinkName) -> Vec<Key> {
    match spec.link(name).and_then(|link| link.mac.as_ref()) {
        Some(LinkMac::Of(other)) => vec![Key::Link(other.clone())],
        Some(LinkMac::Gateway { uplink, .. }) => vec![Key::Link(uplink.clone()), Key::Uplink(uplink.clone())],
        Some(LinkMac::Fixed(_)) | None => Vec::new(),
    }
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
            Key::Device(link) => self.plan_device(key, link),
            Key::Uplink(link) => self.plan_uplink(key, link),
            Key::Station(bridge, mac) => self.plan_station(key, bridge, *mac),
            Key::Address(link, address) => self.plan_address(key, link, *address),
            Key::DhcpHost(network, mac) => {
                self.plan_dhcp_host(key, network, *mac);
                self.plan_lease(network, *mac);
            }
            Key::DnsName(network, name) => self.plan_dns_name(key, network, name),
            Key::Lease(network, mac) => self.plan_lease(network, *mac),
            Key::DhcpHost6(network, address) => {
                self.plan_dhcp_host6(key, network, *address);
                self.plan_lease6(network, *address);
            }
            Key::Lease6(network, address) => self.plan_lease6(network, *address),
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
            && let Some(detail) = self.bridge_obstacle(bridge)
        {
            return self.problem(key, ProblemCode::Blocked, detail);
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
            (LinkKind::Vlan { .. }, _) => self.step(Step::CreateVlan { link, vlan: wanted.clone() }),
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
            LinkMac::Of(other) => self.seen_mac(other),
            LinkMac::Gateway { mac, uplink } => {
                if self.brings_addresses(uplink) {
                    self.seen_mac(uplink)
                } else {
                    Some(*mac)
                }
            }
        }
    }

    /// Whether the host has addresses of its own on this device, on the bridge that it is in, or on
    /// the one that it is just being switched to. On a bridge that it is to be put into from
    /// outside they are another device's, and leave with that.
    fn brings_addresses(&self, uplink: &LinkName) -> bool {
        let key = Key::Uplink(uplink.clone());
        let is_in = self.state.get(&key).map(|have| &have.object);
        let is_to_be_in = self.wanted(&key).filter(|_| is_in.is_some());
        let bridges = is_in.into_iter().chain(is_to_be_in).filter_map(|object| match object {
            Object::Uplink(bridge) => Some(bridge),
            _ => None,
        });
        let mut devices = bridges.chain([uplink]);
        devices.any(|device| self.state.foreign_addresses(device).next().is_some())
    }

    fn seen_mac(&self, name: &LinkName) -> Option<Mac> {
        match self.state.link(name)?.0.mac {
            Some(LinkMac::Fixed(mac)) => Some(mac),
            _ => None,
        }
    }

    /// What keeps a port out of this bridge, as its owner reads it. One that is not in the spec is
    /// the administrator's, and has to be there.
    fn bridge_obstacle(&self, bridge: &LinkName) -> Option<String> {
        if self.spec.link(bridge).is_some() {
            let (_, detail) = self.obstacle(bridge)?;
            return Some(format!("its bridge {bridge} cannot be made: {detail}"));
        }
        match self.state.link(bridge) {
            Some((have, _)) if have.kind == LinkKind::Bridge => None,
            Some(_) => {
                Some(format!("{bridge} is not a bridge; make one, a flat network's is not made by Trestle"))
            }
            None => Some(format!(
                "the bridge {bridge} does not exist on this host; make it, a flat network's is not made by Trestle"
            )),
        }
    }

    /// What keeps a link of the spec from being made, itself and what it rests on considered.
    fn obstacle(&self, name: &LinkName) -> Option<(ProblemCode, String)> {
        let wanted = self.spec.link(name)?;
        if let Some((have, owner)) = self.state.link(name) {
            let of_another_kind = wanted.kind == LinkKind::Bridge && have.kind != LinkKind::Bridge;
            if owner == Owner::Foreign || of_another_kind {
                let detail = format!(
                    "a device {name} exists that is not Trestle's; give the network another bridge, or the device another name"
                );
                return Some((ProblemCode::ForeignInTheWay, detail));
            }
        }
        let under = rests_on(self.spec, name)?;
        if self.spec.link(under).is_some() {
            return self.obstacle(under);
        }
        match self.state.link(under) {
            None => Some((ProblemCode::InterfaceMissing, missing_interface(under))),
            Some((have, _)) if wanted.kind == LinkKind::Bridge => self.taken(under, have, name),
            Some((have, _)) if have.mtu < wanted.mtu => {
                let detail = format!(
                    "{under} has an MTU of {}, the network needs {}; set the MTU of {under}, or give the network a smaller one",
                    have.mtu, wanted.mtu
                );
                Some((ProblemCode::MtuTooLarge, detail))
            }
            Some(_) => None,
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

    /// Others make it; all there is to do is to say that it is missing.
    fn plan_device(&mut self, key: &Key, link: &LinkName) {
        if self.wanted(key).is_some() && self.state.link(link).is_none() {
            self.problem(key, ProblemCode::InterfaceMissing, missing_interface(link));
        }
    }

    /// Whether the link is there and will not be made anew.
    fn is_as_wanted(&self, name: &LinkName) -> bool {
        let kind = self.spec.link(name).map(|wanted| &wanted.kind);
        self.state.link(name).is_some_and(|(have, _)| kind.is_none_or(|wanted| *wanted == have.kind))
    }

    fn plan_station(&mut self, key: &Key, bridge: &LinkName, mac: Mac) {
        let have = match self.state.get(key) {
            Some(Observed { owner: Owner::Ours, object: Object::Station { port, .. } }) => Some(port),
            _ => None,
        };
        let bridge = bridge.clone();
        match self.wanted(key).cloned() {
            Some(Object::Station { port, addresses }) => {
                if let Some((_, detail)) = self.obstacle(&port) {
                    return self.problem(key, ProblemCode::Blocked, detail);
                }
                if let Some(detail) = self.bridge_obstacle(&bridge) {
                    return self.problem(key, ProblemCode::Blocked, detail);
                }
                if have != Some(&port) || !self.is_as_wanted(&port) || !self.is_as_wanted(&bridge) {
                    self.step(Step::SetStation { bridge, mac, port, addresses });
                }
            }
            _ if have.is_some() => self.step(Step::DeleteStation { bridge, mac }),
            _ => {}
        }
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

    fn plan_dhcp_host6(&mut self, key: &Key, network: &Name, address: Ipv6Addr) {
        let have = self.state.get(key).map(|have| &have.object);
        let network = network.clone();
        match (self.wanted(key).cloned(), have) {
            (Some(wanted), have) if have != Some(&wanted) => {
                let Object::DhcpHost6 { mac, hostname } = wanted else { return };
                self.step(Step::WriteDhcpHost6 { network, address, mac, hostname });
            }
            (None, Some(_)) => {
                self.step(Step::DeleteDhcpHost6 { network: network.clone(), address });
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
                let Object::DnsName(addresses) = wanted else { return };
                self.step(Step::WriteDnsName { network, name, addresses });
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

    /// The same of an IPv6 lease, which does not tell the MAC of who has it: it ends when its entry
    /// goes or is given to another MAC.
    fn plan_lease6(&mut self, network: &Name, address: Ipv6Addr) {
        let lease = self.state.get(&Key::Lease6(network.clone(), address)).map(|have| &have.object);
        let Some(Object::Lease6 { client, iaid }) = lease.cloned() else { return };
        let key = Key::DhcpHost6(network.clone(), address);
        let entitled = match (self.wanted(&key), self.state.get(&key).map(|have| &have.object)) {
            (Some(Object::DhcpHost6 { mac, .. }), Some(Object::DhcpHost6 { mac: before, .. })) => {
                mac == before
            }
            (wanted, _) => wanted.is_some(),
        };
        if entitled {
            return;
        }
        let network = network.clone();
        match self.wanted(&Key::Dnsmasq(network.clone())) {
            Some(Object::Dnsmasq(dnsmasq)) => {
                let bridge = dnsmasq.bridge.clone();
                self.step(Step::ReleaseLease6 { network, bridge, address, client, iaid });
            }
            _ => self.step(Step::ForgetLeases { network }),
        }
    }

    fn plan_dnsmasq(&mut self, key: &Key, network: &Name) {
        let have = self.state.dnsmasq(network);
        let Some(Object::Dnsmasq(wanted)) = self.wanted(key).cloned() else {
            if have.is_some() {
                self.step(Step::StopDnsmasq { network: network.clone() });
                self.step(Step::ForgetLeases { network: network.clone() });
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
            if have.is_some_and(|have| have.stale) {
                self.step(Step::ReloadDhcp { network: network.clone() });
            }
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
        LinkKind::Vlan { .. } => Step::DeleteVlan { link: name.clone() },
        _ => Step::DeletePort { link: name.clone() },
    }
}

fn missing_interface(link: &LinkName) -> String {
    format!("the device {link} does not exist on this host; make it, or name another with `trestle host set`")
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}
