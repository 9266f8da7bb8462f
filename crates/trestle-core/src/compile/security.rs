//! Security groups: their rules on the hosts that have an interface of them, and who is in those that
//! these rules name.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{Objects, Scope, put_element, put_mapping};
use crate::render;
use crate::spec::{Key, Object, Set};
use crate::types::{AddressGroupId, Direction, Family, HostId, InterfaceId, SecurityGroupId};
use crate::world::{Host, Interface, Network, Remote, Rule, World};

/// All that a host needs of groups.
pub(super) fn scopes_on(world: &World, host: HostId) -> BTreeSet<Scope> {
    let groups: BTreeSet<_> = world.combinations(host).flatten().copied().collect();
    let mut scopes = BTreeSet::new();
    for group in groups {
        scopes.insert(Scope::SecurityGroup(group));
        scopes.extend(named_scopes(world, group));
    }
    scopes
}

/// Who is in the groups that the rules of a group name.
fn named_scopes(world: &World, group: SecurityGroupId) -> BTreeSet<Scope> {
    let rules = world.security_group(group).into_iter().flat_map(|group| &group.rules);
    let mut scopes = BTreeSet::new();
    for rule in rules {
        match rule.remote {
            Remote::Group(named) => {
                scopes.insert(Scope::NamedGroup(named));
                scopes.extend(world.members(named).map(|member| Scope::Member(named, member.id)));
            }
            Remote::AddressGroup(named) => drop(scopes.insert(Scope::AddressGroup(named))),
            Remote::Any | Remote::Range(_) => {}
        }
    }
    scopes
}

pub(super) fn affected_by_group(world: &World, id: SecurityGroupId) -> BTreeSet<(HostId, Scope)> {
    let mut scopes = BTreeSet::new();
    for host in world.hosts_of_group(id) {
        scopes.insert((host, Scope::Host));
        scopes.insert((host, Scope::SecurityGroup(id)));
        scopes.extend(named_scopes(world, id).into_iter().map(|scope| (host, scope)));
    }
    for host in world.hosts_naming(id) {
        scopes.insert((host, Scope::NamedGroup(id)));
        scopes.extend(world.members(id).map(|member| (host, Scope::Member(id, member.id))));
    }
    scopes
}

pub(super) fn affected_by_addresses(world: &World, id: AddressGroupId) -> BTreeSet<(HostId, Scope)> {
    world.hosts_naming_addresses(id).into_iter().map(|host| (host, Scope::AddressGroup(id))).collect()
}

/// The groups of an interface where it is, what these name, itself wherever its groups are named, and the
/// same of those that send from an address that it sends from.
pub(super) fn affected_by_interface(world: &World, interface: &Interface) -> BTreeSet<(HostId, Scope)> {
    let mut scopes = BTreeSet::new();
    for rival in world.rivals(interface) {
        let gateway = world.network(rival.network).and_then(Network::gateway_host);
        let hosts = rival.places().map(|place| place.host).chain(gateway);
        scopes.extend(hosts.map(|host| (host, Scope::Interface(rival.id))));
        scopes.extend(as_member(world, rival));
    }
    let groups = interface.security.iter().flat_map(|security| &security.groups);
    for group in groups {
        for place in interface.places() {
            // One more of a group that is there already changes nothing for the others.
            if world.is_alone_in_group(*group, place.host) {
                scopes.insert((place.host, Scope::SecurityGroup(*group)));
                scopes.extend(named_scopes(world, *group).into_iter().map(|scope| (place.host, scope)));
            }
        }
    }
    scopes.extend(as_member(world, interface));
    scopes.extend(interface.places().map(|place| (place.host, Scope::Host)));
    scopes
}

/// An interface wherever one of its groups is named.
pub(super) fn as_member(world: &World, interface: &Interface) -> BTreeSet<(HostId, Scope)> {
    let groups = interface.security.iter().flat_map(|security| &security.groups);
    let scopes = groups.flat_map(|group| {
        let naming = world.hosts_naming(*group).into_iter();
        naming.map(|host| (host, Scope::Member(*group, interface.id)))
    });
    scopes.collect()
}

/// The chains of a host's combinations of groups: what one of their rules accepts passes, nothing else
/// does. What is sent to many is told by a mark which one of these a guest has; of two that would have the
/// same, neither hears anything.
pub(super) fn put_combinations(world: &World, host: HostId, objects: &mut Objects) {
    let mut marks: BTreeMap<u32, usize> = BTreeMap::new();
    let combinations: Vec<_> =
        world.combinations(host).map(|groups| Combination::of(world, groups)).collect();
    combinations.iter().for_each(|one| *marks.entry(one.mark()).or_default() += 1);
    for combination in combinations {
        let chains = [(combination.ingress_chain(), "to"), (combination.egress_chain(), "from")];
        for (chain, prefix) in chains {
            let jumps = combination.0.iter().map(|number| format!("jump {prefix}_{number}"));
            let rules = jumps.chain(["drop".to_owned()]).collect::<Vec<_>>().join("\n");
            objects.insert(Key::Chain(chain), Object::Chain(rules));
        }
        if marks.get(&combination.mark()) == Some(&1) {
            let verdict = format!("jump {}", combination.ingress_chain());
            put_mapping(objects, Set::Heard, combination.mark().to_string(), verdict);
        }
    }
}

/// The groups of an interface, by their numbers.
struct Combination(BTreeSet<u32>);

impl Combination {
    fn of(world: &World, groups: &BTreeSet<SecurityGroupId>) -> Self {
        Self(groups.iter().filter_map(|id| world.security_group(*id)).map(|group| group.number).collect())
    }

    fn name(&self) -> String {
        let numbers: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        if numbers.is_empty() { "nothing".to_owned() } else { numbers.join("_") }
    }

    fn ingress_chain(&self) -> String {
        format!("in_{}", self.name())
    }

    fn egress_chain(&self) -> String {
        format!("out_{}", self.name())
    }

    /// One group's number is its own; those of several are put together (FNV-1a), in the other half. All have
    /// what tells them from marks of others and from numbers of judgements ([`render::HEARD`]).
    fn mark(&self) -> u32 {
        const SEVERAL: u32 = 1 << 29;
        let number = match self.0.first() {
            Some(number) if self.0.len() == 1 => *number & !SEVERAL,
            _ => {
                let bytes = self.0.iter().flat_map(|number| number.to_be_bytes());
                let fold = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
                bytes.fold(0x811c_9dc5, fold) | SEVERAL
            }
        };
        number & !render::HEARD_MASK | render::HEARD
    }
}

/// What a guest on this host is told by, and which groups it has.
pub(super) fn put_guest(
    world: &World,
    host: HostId,
    (interface, network): (&Interface, &Network),
    objects: &mut Objects,
) {
    let device = &interface.device;
    let Some(security) = &interface.security else {
        return put_element(objects, Set::Unguarded, device.to_string());
    };
    let combination = Combination::of(world, &security.groups);
    put_mapping(objects, Set::HeardBy, device.to_string(), combination.mark().to_string());
    for address in interface.filtered_addresses(network) {
        if !world.is_first_with(address, interface.id, |other| other.is_on(host)) {
            continue;
        }
        let (guest, egress, ingress) = match address {
            IpAddr::V4(_) => (Set::Guest4, Set::Egress4, Set::Ingress4),
            IpAddr::V6(_) => (Set::Guest6, Set::Egress6, Set::Ingress6),
        };
        put_element(objects, guest, address.to_string());
        let jump = |chain: String| format!("jump {chain}");
        put_mapping(objects, egress, address.to_string(), jump(combination.egress_chain()));
        put_mapping(objects, ingress, address.to_string(), jump(combination.ingress_chain()));
    }
}

/// A guest on another host that this one routes for.
pub(super) fn put_remote(world: &World, interface: &Interface, network: &Network, objects: &mut Objects) {
    for address in interface.filtered_addresses(network) {
        if world.is_first_with(address, interface.id, |other| other.attachment.is_some()) {
            let set = if address.is_ipv4() { Set::Remote4 } else { Set::Remote6 };
            put_element(objects, set, address.to_string());
        }
    }
}

/// The chains of a group on a host that has an interface of it, and the sets that its rules name.
pub(super) fn compile_group(world: &World, host: &Host, id: SecurityGroupId) -> Objects {
    let mut objects = Objects::new();
    let Some(group) = world.security_group(id) else { return objects };
    if !world.has_group(host.id, id) {
        return objects;
    }
    for (direction, prefix) in [(Direction::Ingress, "to"), (Direction::Egress, "from")] {
        let rules = group.rules.iter().filter(|rule| rule.direction == direction);
        let lines: Vec<String> = rules.flat_map(|rule| render_rule(world, rule)).collect();
        let chain = Key::Chain(format!("{prefix}_{}", group.number));
        objects.insert(chain, Object::Chain(lines.join("\n")));
    }
    objects
}

fn render_rule(world: &World, rule: &Rule) -> Vec<String> {
    let remote = |family: Family| match rule.remote {
        Remote::Any => Some(String::new()),
        Remote::Range(range) => Some(range.short()),
        Remote::Group(id) => Some(format!("@{}", members(world.security_group(id)?.number, family).name())),
        Remote::AddressGroup(id) => {
            Some(format!("@{}", addresses(world.address_group(id)?.number, family).name()))
        }
    };
    let lines = rule.families().filter_map(|family| Some(render::rule(rule, family, &remote(family)?)));
    lines.flatten().collect()
}

fn members(number: u32, family: Family) -> Set {
    if family == Family::Ipv4 { Set::Members4(number) } else { Set::Members6(number) }
}

fn addresses(number: u32, family: Family) -> Set {
    if family == Family::Ipv4 { Set::Addresses4(number) } else { Set::Addresses6(number) }
}

/// The sets of a group that rules on the host name.
pub(super) fn compile_named(world: &World, host: &Host, id: SecurityGroupId) -> Objects {
    let group = world.security_group(id).filter(|_| world.names_group(host.id, id));
    group.map(|group| sets(|family| members(group.number, family))).unwrap_or_default()
}

fn sets(of: impl Fn(Family) -> Set) -> Objects {
    [Family::Ipv4, Family::Ipv6].into_iter().map(|family| (Key::Set(of(family)), Object::Set)).collect()
}

/// A member of a group that rules on the host name.
pub(super) fn compile_member(
    world: &World,
    host: &Host,
    group: SecurityGroupId,
    interface: InterfaceId,
) -> Objects {
    let mut objects = Objects::new();
    let Some(number) = world.security_group(group).map(|group| group.number) else { return objects };
    let Some(interface) = world.interface(interface).filter(|interface| interface.is_member(group)) else {
        return objects;
    };
    let Some(network) = world.network(interface.network).filter(|_| world.names_group(host.id, group)) else {
        return objects;
    };
    for address in interface.filtered_addresses(network) {
        if world.is_first_with(address, interface.id, |other| other.is_member(group)) {
            put_element(&mut objects, members(number, Family::of(address)), address.to_string());
        }
    }
    objects
}

pub(super) fn compile_addresses(world: &World, host: &Host, id: AddressGroupId) -> Objects {
    let Some(group) = world.address_group(id).filter(|_| world.names_addresses(host.id, id)) else {
        return Objects::new();
    };
    let mut objects = sets(|family| addresses(group.number, family));
    for range in &group.ranges {
        put_element(&mut objects, addresses(group.number, range.family()), range.short());
    }
    objects
}
