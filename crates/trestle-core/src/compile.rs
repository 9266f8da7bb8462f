//! What a host must have, worked out from the World.
//!
//! Pure. The whole is the union of its scopes, and a change in the World is compiled again only
//! in the scopes it bears on, so that one more instance costs what the first did.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::{IpNet, Ipv4Net};

use crate::render;
use crate::spec::{Dnsmasq, Key, Link, LinkKind, LinkMac, Object, Set, Table};
use crate::types::{HostId, InterfaceId, LinkName, NetworkId};
use crate::world::{Attachment, Host, Interface, Network, Plug, World};

/// A part of a host's spec that is compiled for itself. No key comes from two scopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// What the host needs because it has any interface at all.
    Host,
    /// What a network needs on the host because it has an interface there.
    Network(NetworkId),
    /// What one interface needs.
    Interface(InterfaceId),
}

/// Something in the World that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entity {
    /// A host.
    Host(HostId),
    /// A network.
    Network(NetworkId),
    /// An interface.
    Interface(InterfaceId),
}

/// Everything the host must have.
pub fn compile(world: &World, host: HostId) -> BTreeMap<Key, Object> {
    let mut objects = compile_scope(world, host, Scope::Host);
    for network in world.networks_on(host) {
        objects.extend(compile_scope(world, host, Scope::Network(network)));
        for interface in world.interfaces_on(host, network) {
            objects.extend(compile_scope(world, host, Scope::Interface(interface.id)));
        }
    }
    objects
}

/// What this scope contributes to what the host must have; nothing where it does not bear on it.
pub fn compile_scope(world: &World, host: HostId, scope: Scope) -> BTreeMap<Key, Object> {
    let Some(host) = world.host(host) else { return BTreeMap::new() };
    match scope {
        Scope::Host => compile_host(world, host),
        Scope::Network(id) if world.is_on(host.id, id) => {
            world.network(id).map(|network| compile_network(world, host, network)).unwrap_or_default()
        }
        Scope::Network(_) => BTreeMap::new(),
        Scope::Interface(id) => compile_interface(world, host, id).unwrap_or_default(),
    }
}

/// The scopes on hosts that this entity bears on, as the World is. Ask before and after a change
/// and compile the scopes of both answers again: nothing else can differ.
pub fn affected(world: &World, entity: Entity) -> BTreeSet<(HostId, Scope)> {
    match entity {
        Entity::Host(host) => {
            let networks = world.networks_on(host).map(Scope::Network);
            networks.chain([Scope::Host]).map(|scope| (host, scope)).collect()
        }
        Entity::Network(network) => {
            let mut scopes = BTreeSet::new();
            for host in world.hosts_of(network) {
                scopes.extend(network_scopes(world, host, network));
                let interfaces = world.interfaces_on(host, network);
                scopes.extend(interfaces.map(|interface| (host, Scope::Interface(interface.id))));
            }
            scopes
        }
        Entity::Interface(id) => {
            let interface = world.interface(id);
            let attachment = interface.and_then(|interface| interface.attachment.as_ref());
            let (Some(interface), Some(Attachment { host, .. })) = (interface, attachment) else {
                return BTreeSet::new();
            };
            let mut scopes = network_scopes(world, *host, interface.network);
            scopes.insert((*host, Scope::Interface(id)));
            scopes
        }
    }
}

/// What depends on a network's being on a host: itself, the host, and the networks that would
/// have its uplink if it were not there.
fn network_scopes(world: &World, host: HostId, network: NetworkId) -> BTreeSet<(HostId, Scope)> {
    let mut scopes = BTreeSet::from([(host, Scope::Host), (host, Scope::Network(network))]);
    let (Some(known), Some(network)) = (world.host(host), world.network(network)) else { return scopes };
    if let Some(device) = wanted_uplink(known, network) {
        let on_host = world.networks_on(host).filter_map(|id| world.network(id));
        let rivals = on_host.filter(|rival| wanted_uplink(known, rival) == Some(device));
        scopes.extend(rivals.map(|rival| (host, Scope::Network(rival.id))));
    }
    scopes
}

fn compile_host(world: &World, host: &Host) -> BTreeMap<Key, Object> {
    let mut objects = BTreeMap::new();
    if !world.has_interfaces(host.id) {
        return objects;
    }
    objects.insert(Key::Sysctl("net.ipv4.ip_forward".to_owned()), Object::Sysctl("1".to_owned()));
    for table in Table::ALL {
        objects.insert(Key::Ruleset(table), Object::Ruleset(render::ruleset(table)));
    }
    for network in world.networks_on(host.id).filter_map(|id| world.network(id)) {
        if let Some(uplink) = uplink(world, host, network) {
            objects.insert(Key::Uplink(uplink), Object::Uplink(network.bridge.clone()));
        }
    }
    objects
}

fn compile_network(world: &World, host: &Host, network: &Network) -> BTreeMap<Key, Object> {
    let mac = match uplink(world, host, network) {
        Some(uplink) => LinkMac::Of(uplink),
        None => LinkMac::Fixed(network.bridge_mac),
    };
    let bridge = Link {
        kind: LinkKind::Bridge,
        mac: Some(mac),
        mtu: network.mtu.bytes().into(),
        master: None,
        up: true,
        index: None,
    };
    let dnsmasq = Dnsmasq {
        arguments: render::dnsmasq_arguments(network),
        bridge: network.bridge.clone(),
        bridge_index: None,
        stale: false,
    };
    let mut objects = BTreeMap::from([
        (Key::Link(network.bridge.clone()), Object::Link(bridge)),
        (Key::Address(network.bridge.clone(), gateway_address(network)), Object::Address),
        (Key::Dnsmasq(network.name.clone()), Object::Dnsmasq(dnsmasq)),
    ]);
    let elements = host.public_interface.iter().flat_map(|public| {
        let source = (Set::NatSource, format!("{} . {public}", network.cidr));
        let exempt = world.options().dmz_cidr.iter();
        let exempt =
            exempt.map(|dmz| (Set::NatExempt, format!("{} . {}", network.cidr, render::range(*dmz))));
        exempt.chain([source])
    });
    objects.extend(elements.map(|(set, element)| (Key::Element(set, element), Object::Element)));
    objects
}

fn compile_interface(world: &World, host: &Host, id: InterfaceId) -> Option<BTreeMap<Key, Object>> {
    let interface = world.interface(id)?;
    let attachment = interface.attachment.as_ref().filter(|attachment| attachment.host == host.id)?;
    let network = world.network(interface.network)?;
    let Interface { device, mac, .. } = interface;
    let link = Link {
        kind: link_kind(&attachment.plug, interface),
        mac: None,
        mtu: network.mtu.bytes().into(),
        master: Some(network.bridge.clone()),
        up: true,
        index: None,
    };
    let mut objects = BTreeMap::from([
        (Key::Link(device.clone()), Object::Link(link)),
        (Key::Element(Set::GuardMac, format!("{device} . {mac}")), Object::Element),
    ]);
    for address in &interface.addresses {
        let element = format!("{device} . {mac} . {address}");
        objects.insert(Key::Element(Set::GuardIp4, element), Object::Element);
    }
    if let Some(&address) = interface.addresses.first() {
        let hostname = interface.hostname.clone();
        let name = format!("{hostname}.{}", network.domain);
        let entry = Object::DhcpHost { address, hostname };
        objects.insert(Key::DhcpHost(network.name.clone(), *mac), entry);
        objects.insert(Key::DnsName(network.name.clone(), name), Object::DnsName(address));
    }
    Some(objects)
}

fn link_kind(plug: &Plug, interface: &Interface) -> LinkKind {
    match plug {
        Plug::Tap { owner } => LinkKind::Tap { owner: *owner },
        Plug::Veth { netns, name } => {
            LinkKind::Veth { netns: netns.clone(), name: name.clone(), mac: interface.mac }
        }
    }
}

/// The device that this network's bridge enslaves on this host. A device can be a port of one
/// bridge only: of several networks that want it, the one made first has it.
fn uplink(world: &World, host: &Host, network: &Network) -> Option<LinkName> {
    let device = wanted_uplink(host, network)?;
    let mut on_host = world.networks_on(host.id).filter_map(|id| world.network(id));
    let first = on_host.find(|rival| wanted_uplink(host, rival) == Some(device))?;
    (first.id == network.id).then(|| device.clone())
}

fn wanted_uplink<'a>(host: &'a Host, network: &'a Network) -> Option<&'a LinkName> {
    host.flat_interface.as_ref().or(network.bridge_interface.as_ref())
}

fn gateway_address(network: &Network) -> IpNet {
    let prefix = network.cidr.net().prefix_len();
    IpNet::V4(Ipv4Net::new_assert(network.gateway, prefix))
}
