//! What instances are told of themselves: who asks from which address, and where the answer is had.

use std::net::IpAddr;

use super::{Objects, put_element, put_mapping};
use crate::ownership::METADATA_PORT;
use crate::spec::{Key, Object, Set};
use crate::types::HostId;
use crate::world::{Interface, Network, NetworkType, World};

/// What a host needs that routes for any instance that may ask.
pub(super) fn put_proxy(world: &World, host: HostId, objects: &mut Objects) {
    let Some(service) = &world.options().metadata else { return };
    let asks = |network: &Network| network.ipv4.is_some() && world.routes(host, network);
    if world.networks_on(host).any(asks) {
        objects.insert(Key::MetadataProxy(METADATA_PORT), Object::MetadataProxy(service.clone()));
        put_element(objects, Set::MetadataPort, METADATA_PORT.to_string());
    }
}

/// Whatever their groups say, instances on a network may ask; on the way to their gateway on another host, too.
pub(super) fn put_way(world: &World, network: &Network, objects: &mut Objects) {
    let is_routed = network.network_type != NetworkType::Flat && network.ipv4.is_some();
    if world.options().metadata.is_some() && is_routed {
        put_element(objects, Set::MetadataFrom, network.bridge.to_string());
    }
}

/// Who the guest is, on a host that routes for it. By its MAC as well: an address that another one may send
/// from, too, is still its own.
pub(super) fn put_identity(
    world: &World,
    host: HostId,
    (interface, network): (&Interface, &Network),
    objects: &mut Objects,
) {
    if world.options().metadata.is_none() {
        return;
    }
    let gateways = network.gateway_addresses(host);
    for fixed in &interface.addresses {
        let IpAddr::V4(address) = *fixed else { continue };
        let Some((gateway, _)) = gateways.iter().find(|(_, cidr)| cidr.contains(*fixed)) else { continue };
        let element = format!("{} . {} . {address}", network.bridge, interface.mac);
        put_mapping(objects, Set::Metadata, element, format!("{gateway} . {METADATA_PORT}"));
        let identity = Object::Metadata { instance: interface.instance, project: interface.project };
        objects.insert(Key::Metadata(address), identity);
    }
}
