//! Security groups: their rules on the hosts that have an interface of them, and who is in those that
//! these rules name.

use std::collections::BTreeSet;

use super::{Objects, Scope};
use crate::types::{AddressGroupId, HostId, InterfaceId, SecurityGroupId};
use crate::world::{Host, Interface, Remote, World};

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
        scopes.extend(world.members(id).map(|member| (host, Scope::Member(id, member.id))));
    }
    scopes
}

pub(super) fn affected_by_addresses(world: &World, id: AddressGroupId) -> BTreeSet<(HostId, Scope)> {
    world.hosts_naming_addresses(id).into_iter().map(|host| (host, Scope::AddressGroup(id))).collect()
}

/// The groups of an interface where it is, what these name, and itself wherever its groups are named.
pub(super) fn affected_by_interface(world: &World, interface: &Interface) -> BTreeSet<(HostId, Scope)> {
    let mut scopes = BTreeSet::new();
    let groups = interface.security.iter().flat_map(|security| &security.groups);
    for group in groups {
        for place in interface.places() {
            // One more of a group that is there already changes nothing for the others.
            if world.is_alone_in_group(*group, place.host) {
                scopes.insert((place.host, Scope::SecurityGroup(*group)));
                scopes.extend(named_scopes(world, *group).into_iter().map(|scope| (place.host, scope)));
            }
        }
        let naming = world.hosts_naming(*group).into_iter();
        scopes.extend(naming.map(|host| (host, Scope::Member(*group, interface.id))));
    }
    scopes
}

pub(super) fn compile_group(_world: &World, _host: &Host, _id: SecurityGroupId) -> Objects {
    Objects::new()
}

pub(super) fn compile_member(
    _world: &World,
    _host: &Host,
    _group: SecurityGroupId,
    _interface: InterfaceId,
) -> Objects {
    Objects::new()
}

pub(super) fn compile_addresses(_world: &World, _host: &Host, _id: AddressGroupId) -> Objects {
    Objects::new()
}
