//! The plan: the difference between what a host must have and what it has, in order.
//!
//! Each key is planned for itself, from the spec and the state alone, and a plan is a set: plans
//! for some keys join up to the whole plan by construction. Nothing foreign is ever changed or
//! deleted; what is in the way is a [`Problem`].

mod dhcp;
mod floating;
mod groups;
mod link;
mod metadata;
mod vpn;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::spec::{Flows, HostSpec, Key, LinkKind, LinkMac, Object, Set, Table};
use crate::state::HostState;
pub use crate::step::{LinkChange, Step};
use crate::types::LinkName;

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
        Key::Element(set, element) => {
            keys.insert(Key::Ruleset(set.table()));
            keys.extend(floating::claim_reads(*set, element));
        }
        Key::Set(_) | Key::Chain(_) => {
            keys.insert(Key::Ruleset(Table::Groups));
        }
        Key::BridgeFilter(bridge) => keys.extend(obstacle_reads(spec, bridge)),
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
        Key::Address(link, address) => {
            keys.extend(obstacle_reads(spec, link));
            keys.extend(floating::address_reads(spec, link, *address));
        }
        Key::Route(link, _) => keys.extend(obstacle_reads(spec, link)),
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
        Key::Vpn(_) => {
            if let Some(Object::Vpn(server)) = spec.objects.get(key) {
                keys.extend(reads(spec, &Key::Link(server.link.clone())));
            }
        }
        Key::VpnNetns(_)
        | Key::VpnUser(..)
        | Key::Sysctl(_)
        | Key::Ruleset(_)
        | Key::DnsName(..)
        | Key::DnsRecord(..)
        | Key::Metadata(_)
        | Key::MetadataProxy(_)
        | Key::Neighbour(..) => {}
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
        Some(LinkMac::Gateway { uplink, .. }) => {
            let uplinks = spec.uplinks().map(|(link, _)| Key::Uplink(link.clone()));
            uplinks.chain([Key::Link(uplink.clone()), Key::Uplink(uplink.clone())]).collect()
        }
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
            Key::Set(set) => self.plan_set(key, *set),
            Key::Chain(name) => self.plan_chain(key, name),
            Key::BridgeFilter(bridge) => self.plan_bridge_filter(key, bridge),
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
            Key::DnsRecord(network, name) => self.plan_dns_record(key, network, name),
            Key::Lease(network, mac) => self.plan_lease(network, *mac),
            Key::DhcpHost6(network, address) => {
                self.plan_dhcp_host6(key, network, *address);
                self.plan_lease6(network, *address);
            }
            Key::Lease6(network, address) => self.plan_lease6(network, *address),
            Key::Dnsmasq(network) => self.plan_dnsmasq(key, network),
            Key::Metadata(address) => self.plan_metadata(key, *address),
            Key::MetadataProxy(port) => self.plan_metadata_proxy(key, *port),
            Key::VpnNetns(vpn) => self.plan_vpn_netns(key, vpn),
            Key::Vpn(vpn) => self.plan_vpn(key, vpn),
            Key::VpnUser(vpn, user) => self.plan_vpn_user(key, vpn, user),
            // Routes are never asked for; foreign ones move with their uplink. Neighbours are others.
            Key::Route(..) | Key::Neighbour(..) => {}
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

    /// What is in a table made anew is gone.
    fn table_stays(&self, table: Table) -> bool {
        self.wanted_ruleset(table) == self.state.ruleset(table)
    }

    fn plan_ruleset(&mut self, table: Table) {
        match (self.wanted_ruleset(table), self.state.ruleset(table)) {
            (Some(text), have) if have != Some(text) => {
                let text = text.to_owned();
                self.step(Step::PutRuleset { table, text });
                if table == Table::Groups {
                    self.step(Step::JudgeAnew);
                }
            }
            (None, Some(_)) => self.step(Step::DeleteRuleset { table }),
            _ => {}
        }
    }

    fn plan_element(&mut self, key: &Key, set: Set, element: &str) {
        if matches!(set, Set::Yielded | Set::Yielded6) {
            return self.plan_claim(key, set, element);
        }
        let wanted = self.wanted(key).cloned();
        let there = self.state.get(key).map(|have| &have.object);
        let table_stays = self.table_stays(set.table());
        self.end_flows(set, element, wanted.as_ref(), there);
        let written = |object: &Object| match object {
            Object::Mapping(value) => format!("{element} : {value}"),
            _ => element.to_owned(),
        };
        // A table made anew has no elements: those that stay go in again, in the same transaction.
        match (wanted, there.filter(|_| table_stays)) {
            (Some(wanted), None) => {
                self.step(Step::AddElement { set, element: written(&wanted) });
                if set.narrows() {
                    self.step(Step::JudgeAnew);
                }
            }
            (Some(Object::Mapping(to)), Some(Object::Mapping(from))) if to != *from => {
                let (element, from) = (element.to_owned(), from.clone());
                self.step(Step::ReplaceElement { set, element, from, to });
                if set.table() == Table::Groups {
                    self.step(Step::JudgeAnew);
                }
            }
            (None, Some(there)) if set.table() == Table::Groups => {
                let element = written(there);
                self.step(Step::TakeElement { set, element });
                self.step(Step::JudgeAnew);
            }
            (None, Some(there)) => self.step(Step::DeleteElement { set, element: written(there) }),
            _ => {}
        }
    }

    /// What went by a translation ends with it: its floating IP may be another guest's next. Where none
    /// is known of, what goes otherwise than it will ends, too: the host would go on answering it, or
    /// a guest whose the floating IP was.
    fn end_flows(&mut self, set: Set, element: &str, wanted: Option<&Object>, there: Option<&Object>) {
        if wanted == there {
            return;
        }
        let flows = |object: &Object| match object {
            Object::Mapping(value) => Flows::of(set, element, value),
            _ => None,
        };
        if let Some(flows) = there.and_then(flows) {
            self.step(Step::EndFlows { flows: flows.clone() });
            self.step(Step::EndLateFlows { flows });
        }
        if let (Some(flows), None) = (wanted.and_then(flows), there) {
            self.step(self.spec.strays_of(flows));
        }
    }
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}
