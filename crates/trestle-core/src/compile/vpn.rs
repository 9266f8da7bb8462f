//! Cloudpipe: a project's VPN, on the host where it runs.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Objects, Scope, put_mapping};
use crate::ownership::DEVICE_PREFIX;
use crate::render::{self, VpnPlace};
use crate::spec::{Key, Object, Set, VpnServer};
use crate::types::{HostId, InterfaceId, LinkName, ProjectId, VpnEndpoint, VpnKind};
use crate::world::{Host, Interface, Network, VPN_PORT, Vpn, World};

/// The scopes on hosts that a VPN bears on: where it runs, and where what its clients send is translated.
pub(super) fn affected(world: &World, project: ProjectId) -> BTreeSet<(HostId, Scope)> {
    let interface = world.vpn(project).and_then(|vpn| world.interface(vpn.interface));
    let Some(interface) = interface else { return BTreeSet::new() };
    let places = interface.places().map(|place| place.host);
    let mut scopes: BTreeSet<_> =
        places.chain(world.serving_host(interface)).map(|host| (host, Scope::Vpn(project))).collect();
    // The interface has a name of its own by it, and no lease.
    scopes.extend(super::interface_scopes(world, interface));
    scopes
}

/// The same of the VPN that an interface belongs to.
pub(super) fn affected_of(world: &World, interface: InterfaceId) -> BTreeSet<(HostId, Scope)> {
    world.vpn_of(interface).map(|vpn| affected(world, vpn.project)).unwrap_or_default()
}

/// What a VPN needs on this host.
pub(super) fn compile(world: &World, host: &Host, project: ProjectId) -> Option<Objects> {
    let vpn = world.vpn(project)?;
    let interface = world.interface(vpn.interface)?;
    let network = world.network(interface.network)?;
    let mut objects = Objects::new();
    if world.serving_host(interface) == Some(host.id) {
        put_endpoint(vpn, &mut objects);
    }
    if interface.places().any(|place| place.host == host.id) {
        objects.insert(Key::VpnNetns(vpn.name.clone()), Object::VpnNetns { exists: true });
        put_server(host, network, (vpn, interface), &mut objects);
    }
    Some(objects)
}

/// An address that is no floating IP is whoever's it is: what is sent to it comes here, or does not.
fn put_endpoint(vpn: &Vpn, objects: &mut Objects) {
    if let (Some(VpnEndpoint { ip: IpAddr::V4(ip), port }), IpAddr::V4(address)) = (vpn.endpoint, vpn.address)
    {
        let value = format!("{address} . {VPN_PORT}");
        put_mapping(objects, Set::ForwardTo, format!("{ip} . udp . {port}"), value);
    }
}

fn put_server(host: &Host, network: &Network, (vpn, interface): (&Vpn, &Interface), objects: &mut Objects) {
    let gateways = network.gateway_addresses(host.id);
    let gateway = gateways.iter().find_map(|(gateway, cidr)| match (gateway, cidr.net()) {
        (IpAddr::V4(gateway), ipnet::IpNet::V4(subnet)) => Some((*gateway, subnet)),
        _ => None,
    });
    let (Some((gateway, subnet)), IpAddr::V4(address)) = (gateway, vpn.address) else { return };
    let tunnel = tunnel(vpn, interface);
    let place = VpnPlace { network, address, subnet, gateway, tunnel: &tunnel };
    for (name, user) in &vpn.users {
        objects.insert(Key::VpnUser(vpn.name.clone(), name.clone()), Object::VpnUser(place.user(user)));
    }
    let server = VpnServer {
        kind: vpn.kind,
        link: interface.device.clone(),
        identity: vpn.identity,
        settings: render::vpn_settings(),
        network: place.network_commands(vpn.kind),
        filter: place.filter(),
        config: match vpn.kind {
            VpnKind::OpenVpn => place.openvpn_config(),
            VpnKind::WireGuard => String::new(),
        },
        link_index: None,
        tunnel,
    };
    objects.insert(Key::Vpn(vpn.name.clone()), Object::Vpn(server));
}

/// Programs find a WireGuard by the device's name alone, in whatever namespace it is, so no two on a host
/// may have the same.
fn tunnel(vpn: &Vpn, interface: &Interface) -> LinkName {
    let name = match vpn.kind {
        VpnKind::OpenVpn => "tun0".to_owned(),
        VpnKind::WireGuard => interface.device.as_str().replacen(DEVICE_PREFIX, "wg-", 1),
    };
    name.parse().expect("it is as long as the device's own name at most")
}
