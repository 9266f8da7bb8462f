//! Security groups: what may reach an instance and what it may reach, and who bears on whom.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Interface, World};
use crate::types::{
    AddressGroupId, AddressPair, Cidr, Direction, Family, HostId, IcmpType, InterfaceId, IpProtocol,
    PortRange, ProjectId, RuleId, SecurityGroupId,
};

/// What an interface is held to. An interface without it is neither guarded nor filtered
/// (`port_security` off).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Security {
    /// The groups whose rules say what passes; with none nothing does.
    pub groups: BTreeSet<SecurityGroupId>,
    /// What it may send from besides its own addresses.
    pub address_pairs: BTreeSet<AddressPair>,
}

/// Some rules under a name. An interface passes what any rule of any of its groups allows, and what
/// belongs to a connection that one allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityGroup {
    /// Names it for life.
    pub id: SecurityGroupId,
    /// What its chains and sets are called by on hosts; unique, never used again.
    pub number: u32,
    /// The owner.
    pub project: ProjectId,
    /// In their order.
    pub rules: Vec<Rule>,
}

/// Allows some packets of one direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Names it for life.
    pub id: RuleId,
    /// What it is called by on hosts; unique, never used again.
    pub number: u32,
    /// To the instance or from it.
    pub direction: Direction,
    /// The one family that it is about, if it is.
    pub family: Option<Family>,
    /// What the packets are.
    pub traffic: Traffic,
    /// Who is at the other end.
    pub remote: Remote,
    /// From when on it allows nothing, in seconds since 1970.
    pub expires_at: Option<i64>,
}

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Traffic {
    /// Everything.
    Any,
    /// One protocol, whatever its ports are.
    Protocol(IpProtocol),
    /// Some destination ports of a protocol that has them.
    Ports(IpProtocol, PortRange),
    /// Some messages of ICMP or, of a rule about IPv6, ICMPv6.
    Icmp(IpProtocol, IcmpType),
}

impl Traffic {
    /// The protocol, the ports and the messages of ICMP that it names.
    pub fn parts(self) -> (Option<IpProtocol>, Option<PortRange>, Option<IcmpType>) {
        match self {
            Self::Any => (None, None, None),
            Self::Protocol(protocol) => (Some(protocol), None, None),
            Self::Ports(protocol, ports) => (Some(protocol), Some(ports), None),
            Self::Icmp(protocol, icmp) => (Some(protocol), None, Some(icmp)),
        }
    }
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remote {
    /// Anybody.
    Any,
    /// Who has an address of this range.
    Range(Cidr),
    /// The members of a security group, by their own addresses.
    Group(SecurityGroupId),
    /// Who has an address of an address group.
    AddressGroup(AddressGroupId),
}

impl Rule {
    /// The families that it is about: by itself, by its protocol, by the addresses it names.
    pub fn families(&self) -> impl Iterator<Item = Family> + '_ {
        let protocol = match self.traffic {
            Traffic::Any => None,
            Traffic::Protocol(protocol) | Traffic::Ports(protocol, _) | Traffic::Icmp(protocol, _) => {
                protocol.family()
            }
        };
        let remote = match self.remote {
            Remote::Range(range) => Some(range.family()),
            _ => None,
        };
        let about = [self.family, protocol, remote];
        let fits = move |family: &Family| about.iter().flatten().all(|one| one == family);
        [Family::Ipv4, Family::Ipv6].into_iter().filter(fits)
    }
}

/// Some addresses under a name, for rules to refer to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressGroup {
    /// Names it for life.
    pub id: AddressGroupId,
    /// What its sets are called by on hosts; unique, never used again.
    pub number: u32,
    /// Its ranges; none overlaps another.
    pub ranges: BTreeSet<Cidr>,
}

/// Who refers to whom, and what is where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    groups: BTreeMap<SecurityGroupId, SecurityGroup>,
    address_groups: BTreeMap<AddressGroupId, AddressGroup>,
    /// The interfaces of each group that are plugged in.
    members: BTreeMap<SecurityGroupId, BTreeSet<InterfaceId>>,
    /// How many devices each host has of each combination of groups.
    combinations: BTreeMap<HostId, BTreeMap<Combination, usize>>,
    /// How many devices of each group there are on each host.
    hosts: BTreeMap<SecurityGroupId, BTreeMap<HostId, usize>>,
    /// Of each group, those that name it.
    naming: BTreeMap<SecurityGroupId, BTreeSet<SecurityGroupId>>,
    naming_addresses: BTreeMap<AddressGroupId, BTreeSet<SecurityGroupId>>,
    /// Who sends from an address: whose it is, and who may besides.
    senders: BTreeSet<(IpAddr, InterfaceId)>,
}

/// Groups that an interface is in together, in the order of their digests.
type Combination = (u32, BTreeSet<SecurityGroupId>);

fn combination(groups: &BTreeSet<SecurityGroupId>) -> Combination {
    (digest(groups), groups.clone())
}

/// How many combinations on a host may have the same digest: what is left of a number beside it, and more than
/// a project could have made alike on purpose, each with a device on that host.
const ALIKE: usize = 1 << 11;

/// The groups in 18 bits (FNV-1a, folded).
fn digest(groups: &BTreeSet<SecurityGroupId>) -> u32 {
    let bytes = groups.iter().flat_map(|group| group.0.into_bytes());
    let fold = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    let hash = bytes.fold(0x811c_9dc5, fold);
    (hash ^ hash >> 26) & 0x0003_ffff
}

/// The addresses that it sends from, ranges aside.
fn single_addresses(interface: &Interface) -> impl Iterator<Item = IpAddr> + '_ {
    let pairs = interface.security.iter().flat_map(|security| &security.address_pairs);
    let own = interface.addresses.iter().copied().chain([interface.mac.link_local().into()]);
    own.chain(pairs.filter_map(|pair| pair.range.single()))
}

fn count<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K) {
    *counts.entry(key).or_default() += 1;
}

fn discount<K: Ord>(counts: &mut BTreeMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

impl Index {
    pub(super) fn add(&mut self, interface: &Interface) {
        self.senders.extend(single_addresses(interface).map(|address| (address, interface.id)));
        let Some(security) = &interface.security else { return };
        for group in &security.groups {
            if interface.attachment.is_some() {
                self.members.entry(*group).or_default().insert(interface.id);
            }
            for place in interface.places() {
                count(self.hosts.entry(*group).or_default(), place.host);
            }
        }
        for place in interface.places() {
            count(self.combinations.entry(place.host).or_default(), combination(&security.groups));
        }
    }

    pub(super) fn remove(&mut self, interface: &Interface) {
        for address in single_addresses(interface) {
            self.senders.remove(&(address, interface.id));
        }
        let Some(security) = &interface.security else { return };
        for group in &security.groups {
            if let Some(members) = self.members.get_mut(group) {
                members.remove(&interface.id);
            }
            for place in interface.places() {
                if let Some(hosts) = self.hosts.get_mut(group) {
                    discount(hosts, &place.host);
                }
            }
        }
        for place in interface.places() {
            if let Some(combinations) = self.combinations.get_mut(&place.host) {
                discount(combinations, &combination(&security.groups));
            }
        }
    }
}

impl World {
    /// The security group, if it is known.
    pub fn security_group(&self, id: SecurityGroupId) -> Option<&SecurityGroup> {
        self.security.groups.get(&id)
    }

    /// The address group, if it is known.
    pub fn address_group(&self, id: AddressGroupId) -> Option<&AddressGroup> {
        self.security.address_groups.get(&id)
    }

    /// The plugged in interfaces of a security group.
    pub fn members(&self, group: SecurityGroupId) -> impl Iterator<Item = &Interface> {
        let ids = self.security.members.get(&group).into_iter().flatten();
        ids.filter_map(|id| self.interfaces.get(id))
    }

    /// The combinations of groups that a host has devices of.
    pub fn combinations(&self, host: HostId) -> impl Iterator<Item = &BTreeSet<SecurityGroupId>> {
        self.security.combinations.get(&host).into_iter().flat_map(BTreeMap::keys).map(|(_, groups)| groups)
    }

    /// The combinations of groups on a host that have the same digest as these.
    pub fn alike(
        &self,
        host: HostId,
        groups: &BTreeSet<SecurityGroupId>,
    ) -> impl Iterator<Item = &BTreeSet<SecurityGroupId>> {
        let digest = digest(groups);
        let alike = (digest, BTreeSet::new())..(digest + 1, BTreeSet::new());
        let there = self.security.combinations.get(&host).into_iter();
        there.flat_map(move |there| there.range(alike.clone())).map(|((_, groups), _)| groups)
    }

    /// A number below 2^29 that no other combination of groups on the host has. Which one it is may change when
    /// another one that is [`Self::alike`] comes or goes. `None` if the host has no device of these, or there are
    /// more alike than are told apart.
    pub fn combination_number(&self, host: HostId, groups: &BTreeSet<SecurityGroupId>) -> Option<u32> {
        let place = self.alike(host, groups).take(ALIKE).position(|one| one == groups)?;
        Some(digest(groups) * ALIKE as u32 + u32::try_from(place).ok()?)
    }

    /// The hosts that have a device of a security group.
    pub fn hosts_of_group(&self, group: SecurityGroupId) -> impl Iterator<Item = HostId> {
        self.security.hosts.get(&group).into_iter().flat_map(BTreeMap::keys).copied()
    }

    /// The hosts that have to know who is in a security group: a rule of a group of theirs names it.
    pub fn hosts_naming(&self, group: SecurityGroupId) -> BTreeSet<HostId> {
        let naming = self.security.naming.get(&group).into_iter().flatten();
        naming.flat_map(|naming| self.hosts_of_group(*naming)).collect()
    }

    /// Whether this is the only device of a security group on its host.
    pub fn is_alone_in_group(&self, group: SecurityGroupId, host: HostId) -> bool {
        self.security.hosts.get(&group).and_then(|hosts| hosts.get(&host)) == Some(&1)
    }

    /// Whether a host has to know who is in a security group.
    pub fn names_group(&self, host: HostId, group: SecurityGroupId) -> bool {
        self.has_any_group(host, self.security.naming.get(&group))
    }

    /// Whether a host has to know an address group.
    pub fn names_addresses(&self, host: HostId, group: AddressGroupId) -> bool {
        self.has_any_group(host, self.security.naming_addresses.get(&group))
    }

    fn has_any_group(&self, host: HostId, groups: Option<&BTreeSet<SecurityGroupId>>) -> bool {
        groups.into_iter().flatten().any(|group| self.has_group(host, *group))
    }

    /// The hosts that have to know an address group.
    pub fn hosts_naming_addresses(&self, group: AddressGroupId) -> BTreeSet<HostId> {
        let naming = self.security.naming_addresses.get(&group).into_iter().flatten();
        naming.flat_map(|naming| self.hosts_of_group(*naming)).collect()
    }

    /// Whether a host has a device of a security group.
    pub fn has_group(&self, host: HostId, group: SecurityGroupId) -> bool {
        self.security.hosts.get(&group).is_some_and(|hosts| hosts.contains_key(&host))
    }

    /// Whether, of the interfaces that send from an address and are such, this is the first: whose own it is comes
    /// before those that may have it besides.
    pub fn is_first_with(
        &self,
        address: IpAddr,
        interface: InterfaceId,
        such: impl Fn(&Interface) -> bool,
    ) -> bool {
        let senders = || self.senders(address).filter(|other| such(other));
        let is_own = |other: &&Interface| {
            other.addresses.contains(&address) || IpAddr::from(other.mac.link_local()) == address
        };
        let first = senders().find(is_own).or_else(|| senders().next());
        first.is_none_or(|first| first.id == interface)
    }

    /// The other interfaces that send from an address that this one sends from.
    pub fn rivals(&self, interface: &Interface) -> impl Iterator<Item = &Interface> {
        let senders = single_addresses(interface).flat_map(|address| self.senders(address));
        let rivals = senders.filter(|other| other.id != interface.id);
        rivals.collect::<Vec<_>>().into_iter()
    }

    /// The interfaces that send from an address, ranges aside: whose it is, and who may besides.
    pub fn senders(&self, address: IpAddr) -> impl Iterator<Item = &Interface> {
        let all = (address, InterfaceId(uuid::Uuid::nil()))..=(address, InterfaceId(uuid::Uuid::max()));
        self.security.senders.range(all).filter_map(|(_, id)| self.interfaces.get(id))
    }

    /// Puts the security group in, in place of what it was.
    pub fn put_security_group(&mut self, group: SecurityGroup) {
        self.remove_security_group(group.id);
        for rule in &group.rules {
            match rule.remote {
                Remote::Group(named) => {
                    self.security.naming.entry(named).or_default().insert(group.id);
                }
                Remote::AddressGroup(named) => {
                    self.security.naming_addresses.entry(named).or_default().insert(group.id);
                }
                Remote::Any | Remote::Range(_) => {}
            }
        }
        self.security.groups.insert(group.id, group);
    }

    /// Takes the security group out; gives what it was.
    pub fn remove_security_group(&mut self, id: SecurityGroupId) -> Option<SecurityGroup> {
        let group = self.security.groups.remove(&id)?;
        for rule in &group.rules {
            match rule.remote {
                Remote::Group(named) => {
                    self.security.naming.entry(named).or_default().remove(&id);
                }
                Remote::AddressGroup(named) => {
                    self.security.naming_addresses.entry(named).or_default().remove(&id);
                }
                Remote::Any | Remote::Range(_) => {}
            }
        }
        Some(group)
    }

    /// Puts the address group in, in place of what it was.
    pub fn put_address_group(&mut self, group: AddressGroup) {
        self.security.address_groups.insert(group.id, group);
    }

    /// Takes the address group out; gives what it was.
    pub fn remove_address_group(&mut self, id: AddressGroupId) -> Option<AddressGroup> {
        self.security.address_groups.remove(&id)
    }
}

impl Interface {
    /// Whether it has a device on this host.
    pub fn is_on(&self, host: HostId) -> bool {
        self.places().any(|place| place.host == host)
    }

    /// Whether it is in a security group, and plugged in.
    pub fn is_member(&self, group: SecurityGroupId) -> bool {
        let security = self.security.as_ref().filter(|_| self.attachment.is_some());
        security.is_some_and(|security| security.groups.contains(&group))
    }

    /// The addresses by which it is a member of its groups, and by which what it sends and is sent is
    /// told: its own, and single ones that it may send from besides. What it forwards for a whole range
    /// is not its own.
    pub fn filtered_addresses(&self, network: &super::Network) -> BTreeSet<IpAddr> {
        let pairs = self.security.iter().flat_map(|security| &security.address_pairs);
        self.guest_addresses(network).chain(pairs.filter_map(|pair| pair.range.single())).collect()
    }
}
