//! Names: what the dnsmasq of a network on a host resolves.
//!
//! A host knows the names of its own guests, and of what else their projects have on the network,
//! wherever that is: one guest more is told to as many hosts as its project has guests on.

use std::collections::BTreeSet;

use super::{Objects, Scope};
use crate::spec::{Key, Object};
use crate::types::{DnsRecordId, HostId, NetworkId};
use crate::world::{Host, Interface, Network, World};

/// The scopes of all records that a network knows.
pub(super) fn records_on(world: &World, network: &Network) -> impl Iterator<Item = Scope> {
    let network_id = network.id;
    world.dns_records_on(network).map(move |record| Scope::DnsRecord(network_id, record.id))
}

/// The scopes of what else the interface's project has on its network.
pub(super) fn neighbours(world: &World, interface: &Interface) -> impl Iterator<Item = Scope> {
    world.neighbours(interface.network, interface.project).map(|other| Scope::Interface(other.id))
}

/// The scopes in which names come or go with an interface: its own on every host that knows its
/// project, and, where it is the first of its project or its network, all others.
pub(super) fn affected(world: &World, interface: &Interface, network: &Network) -> BTreeSet<(HostId, Scope)> {
    let hosts = world.neighbour_hosts(interface.network, interface.project).into_iter().flatten();
    let mut scopes: BTreeSet<_> =
        hosts.clone().map(|(host, _)| (*host, Scope::Interface(interface.id))).collect();
    for (host, count) in hosts {
        // An interface has one device on a host at most.
        if *count == 1 && interface.places().any(|place| place.host == *host) {
            scopes.extend(neighbours(world, interface).map(|scope| (*host, scope)));
        }
    }
    let is_alone = |host: &HostId| world.interfaces_on(*host, network).all(|other| other.id == interface.id);
    let hosts = interface.places().map(|place| place.host).chain(network.gateway_host());
    for host in hosts.filter(is_alone) {
        scopes.extend(records_on(world, network).map(|scope| (host, scope)));
    }
    scopes
}

/// The scopes of a record on all networks that know it and are anywhere.
pub(super) fn affected_by_record(world: &World, id: DnsRecordId) -> BTreeSet<(HostId, Scope)> {
    let Some(record) = world.dns_record(id) else { return BTreeSet::new() };
    let knows = |network: &&Network| record.project.is_none() || network.project == record.project;
    let networks = world.networks().filter(knows);
    let places = networks.flat_map(|network| {
        let hosts = world.hosts_of(network.id).chain(network.gateway_host());
        hosts.map(|host| (host, Scope::DnsRecord(network.id, id)))
    });
    places.collect()
}

/// A record on a network of this host, if the host routes for that.
pub(super) fn compile(
    world: &World,
    host: &Host,
    network: NetworkId,
    record: DnsRecordId,
) -> Option<Objects> {
    let (network, record) = (world.network(network)?, world.dns_record(record)?);
    let is_known = record.project.is_none() || network.project == record.project;
    if !is_known || !world.routes(host.id, network) {
        return None;
    }
    let key = Key::DnsRecord(network.name.clone(), record.name.to_string());
    Some(Objects::from([(key, Object::DnsName(record.addresses.clone()))]))
}

/// The name that an interface has by itself; of a VPN's addresses one alone is its own.
pub(super) fn put_name(world: &World, interface: &Interface, network: &Network, objects: &mut Objects) {
    let addresses: BTreeSet<_> = match world.vpn_of(interface.id) {
        Some(vpn) => BTreeSet::from([vpn.address]),
        None => interface.addresses.iter().copied().collect(),
    };
    if !addresses.is_empty() {
        let name = format!("{}.{}", interface.hostname, network.domain);
        objects.insert(Key::DnsName(network.name.clone(), name), Object::DnsName(addresses));
    }
}
