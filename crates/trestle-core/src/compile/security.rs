//! Security groups: their rules on the hosts that have an interface of them, and who is in those that
//! these rules name.

use std::collections::BTreeSet;

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
    scopes.extend(renumbered(world, interface));
    scopes.extend(interface.places().map(|place| (place.host, Scope::Host)));
    scopes
}

/// Those on its hosts whose combination of groups may get another number when its own comes or goes: hardly
/// ever any.
fn renumbered(world: &World, interface: &Interface) -> BTreeSet<(HostId, Scope)> {
    let mut scopes = BTreeSet::new();
    let Some(security) = &interface.security else { return scopes };
    for host in interface.places().map(|place| place.host) {
        let others: BTreeSet<_> =
            world.alike(host, &security.groups).filter(|one| **one != security.groups).collect();
        if others.is_empty() {
            continue;
        }
        let is_other =
            |other: &&Interface| other.security.as_ref().is_some_and(|one| others.contains(&one.groups));
        let guests = world.interfaces().filter(|other| other.is_on(host)).filter(is_other);
        scopes.extend(guests.map(|guest| (host, Scope::Interface(guest.id))));
    }
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

/// The chains of a host's combinations of groups: what one of their rules lets pass passes, nothing else
/// does.
pub(super) fn put_combinations(world: &World, host: HostId, objects: &mut Objects) {
    for groups in world.combinations(host) {
        let numbers: BTreeSet<u32> =
            groups.iter().filter_map(|id| world.security_group(*id)).map(|group| group.number).collect();
        // What has no mark leads nowhere, and nothing of it passes.
        let mark = mark(world, host, groups);
        for (set, chain, of_group) in [(Set::Ingress, "in", "to"), (Set::Egress, "out", "from")] {
            let chain = format!("{chain}_{}", name(&numbers));
            if let Some(mark) = mark {
                put_mapping(objects, set, mark.to_string(), format!("jump {chain}"));
            }
            let rules = render::combination(numbers.iter().map(|number| format!("{of_group}_{number}")));
            objects.insert(Key::Chain(chain), Object::Chain(rules));
        }
    }
}

fn name(numbers: &BTreeSet<u32>) -> String {
    let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    if numbers.is_empty() { "nothing".to_owned() } else { numbers.join("_") }
}

/// What stands for a combination of groups on a host.
fn mark(world: &World, host: HostId, groups: &BTreeSet<SecurityGroupId>) -> Option<u32> {
    world.combination_number(host, groups).map(|number| number | render::IN_GROUPS)
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
    // One that leads nowhere where there is none of its own.
    const NOWHERE: u32 = render::IN_GROUPS | 1 << 29;
    let mark = mark(world, host, &security.groups).unwrap_or(NOWHERE).to_string();
    put_mapping(objects, Set::HeardBy, device.to_string(), mark.clone());
    for address in interface.filtered_addresses(network) {
        if world.is_first_with(address, interface.id, |other| other.is_on(host)) {
            let groups = if address.is_ipv4() { Set::Groups4 } else { Set::Groups6 };
            put_mapping(objects, groups, address.to_string(), mark.clone());
        }
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
