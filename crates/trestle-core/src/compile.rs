//! What a host must have, worked out from the World.
//!
//! Pure. The whole is the union of its scopes, and a change in the World is compiled again only
//! in the scopes it bears on, so that one more instance costs what the first did.

mod dns;
mod floating;
mod metadata;
mod security;
mod vpn;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::render;
use crate::spec::{Dnsmasq, Key, Link, LinkKind, LinkMac, Object, Set, Table};
use crate::types::{
    AddressGroupId, Cidr, DnsRecordId, Family, HostId, InterfaceId, LinkName, Mac, NetworkId, ProjectId,
    SecurityGroupId,
};
use crate::world::{Gateways, Host, Interface, Ipv6Mode, Network, NetworkType, Plug, RoutingSourceIp, World};

/// Objects by key, while they are put together.
type Objects = BTreeMap<Key, Object>;

/// A part of a host's spec that is compiled for itself. No key comes from two scopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// What the host needs because it has any interface at all.
    Host,
    /// What a network needs on the host because it has an interface there or routes for it.
    Network(NetworkId),
    /// What one interface needs.
    Interface(InterfaceId),
    /// What one floating IP needs.
    FloatingIp(IpAddr),
    /// One DNS record, on one network.
    DnsRecord(NetworkId, DnsRecordId),
    /// The rules of a security group that the host has an interface of.
    SecurityGroup(SecurityGroupId),
    /// The sets of a security group that rules on the host name.
    NamedGroup(SecurityGroupId),
    /// The addresses of one member of a security group that rules on the host name.
    Member(SecurityGroupId, InterfaceId),
    /// The addresses of an address group that rules on the host name.
    AddressGroup(AddressGroupId),
    /// A project's VPN, where it runs.
    Vpn(ProjectId),
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
    /// A floating IP.
    FloatingIp(IpAddr),
    /// A DNS record.
    DnsRecord(DnsRecordId),
    /// A security group, with its rules.
    SecurityGroup(SecurityGroupId),
    /// An address group.
    AddressGroup(AddressGroupId),
    /// A project's VPN.
    Vpn(ProjectId),
}

/// Everything the host must have.
pub fn compile(world: &World, host: HostId) -> Objects {
    let mut objects = compile_scope(world, host, Scope::Host);
    for network in world.networks_on(host) {
        let mut scopes = BTreeSet::from([Scope::Network(network.id)]);
        scopes.extend(dns::records_on(world, network));
        for interface in world.interfaces_on(host, network) {
            scopes.insert(Scope::Interface(interface.id));
            let floating = world.floating_ips_of(interface.id);
            scopes.extend(floating.map(|floating| Scope::FloatingIp(floating.address)));
            scopes.extend(dns::neighbours(world, interface));
            scopes.extend(world.vpn_of(interface.id).map(|vpn| Scope::Vpn(vpn.project)));
        }
        scopes.into_iter().for_each(|scope| objects.extend(compile_scope(world, host, scope)));
    }
    for scope in security::scopes_on(world, host) {
        objects.extend(compile_scope(world, host, scope));
    }
    objects
}

/// What this scope contributes to what the host must have; nothing where it does not bear on it.
pub fn compile_scope(world: &World, host: HostId, scope: Scope) -> Objects {
    let Some(host) = world.host(host) else { return Objects::new() };
    match scope {
        Scope::Host => compile_host(world, host),
        Scope::Network(id) => {
            let network = world.network(id).filter(|network| world.is_on(host.id, network));
            network.map(|network| compile_network(world, host, network)).unwrap_or_default()
        }
        Scope::Interface(id) => compile_interface(world, host, id).unwrap_or_default(),
        Scope::FloatingIp(address) => floating::compile(world, host, address).unwrap_or_default(),
        Scope::SecurityGroup(group) => security::compile_group(world, host, group),
        Scope::NamedGroup(group) => security::compile_named(world, host, group),
        Scope::Member(group, interface) => security::compile_member(world, host, group, interface),
        Scope::AddressGroup(group) => security::compile_addresses(world, host, group),
        Scope::Vpn(project) => vpn::compile(world, host, project).unwrap_or_default(),
        Scope::DnsRecord(network, record) => dns::compile(world, host, network, record).unwrap_or_default(),
    }
}

/// The scopes on hosts that this entity bears on, as the World is. Ask before and after a change
/// and compile the scopes of both answers again: nothing else can differ.
pub fn affected(world: &World, entity: Entity) -> BTreeSet<(HostId, Scope)> {
    match entity {
        Entity::Host(host) => {
            let networks = world.networks_on(host).map(|network| Scope::Network(network.id));
            let interfaces = world.networks_on(host).flat_map(|network| world.interfaces_on(host, network));
            let floating = interfaces.flat_map(|interface| world.floating_ips_of(interface.id));
            let floating = floating.map(|floating| Scope::FloatingIp(floating.address));
            networks.chain(floating).chain([Scope::Host]).map(|scope| (host, scope)).collect()
        }
        Entity::Network(id) => {
            let Some(network) = world.network(id) else { return BTreeSet::new() };
            let mut scopes = BTreeSet::new();
            for host in world.hosts_of(id).chain(network.gateway_host()) {
                scopes.extend(network_scopes(world, host, network));
                scopes.extend(dns::records_on(world, network).map(|scope| (host, scope)));
                for interface in world.interfaces_on(host, network) {
                    scopes.insert((host, Scope::Interface(interface.id)));
                    scopes.extend(floating::affected_of(world, interface.id));
                    scopes.extend(vpn::affected_of(world, interface.id));
                    scopes.extend(security::as_member(world, interface));
                    scopes.extend(dns::neighbours(world, interface).map(|scope| (host, scope)));
                }
            }
            scopes
        }
        Entity::Interface(id) => {
            let mut scopes = floating::affected_of(world, id);
            scopes.extend(vpn::affected_of(world, id));
            if let Some(interface) = world.interface(id) {
                scopes.extend(security::affected_by_interface(world, interface));
                scopes.extend(interface_scopes(world, interface));
            }
            scopes
        }
        Entity::DnsRecord(id) => dns::affected_by_record(world, id),
        Entity::FloatingIp(address) => floating::affected(world, address),
        Entity::SecurityGroup(id) => security::affected_by_group(world, id),
        Entity::AddressGroup(id) => security::affected_by_addresses(world, id),
        Entity::Vpn(project) => vpn::affected(world, project),
    }
}

/// What depends on an interface, floating IPs that lead to it aside.
fn interface_scopes(world: &World, interface: &Interface) -> BTreeSet<(HostId, Scope)> {
    let Some(network) = world.network(interface.network) else { return BTreeSet::new() };
    let places = interface.places().map(|place| place.host);
    // Where it has no device, the one gateway has nothing of it either.
    let gateway = network.gateway_host().filter(|_| interface.attachment.is_some());
    let mut scopes = dns::affected(world, interface, network);
    for host in places.chain(gateway) {
        scopes.extend(network_scopes(world, host, network));
        scopes.insert((host, Scope::Interface(interface.id)));
    }
    scopes
}

/// What depends on a network's being on a host: itself, the host, the networks that would have its
/// uplink if it were not there, and those that reach it.
fn network_scopes(world: &World, host: HostId, network: &Network) -> BTreeSet<(HostId, Scope)> {
    let mut scopes = BTreeSet::from([(host, Scope::Host), (host, Scope::Network(network.id))]);
    let device = world.host(host).and_then(|known| Some((known, wanted_uplink(known, network)?)));
    if let Some((known, device)) = device {
        let rivals = world.networks_on(host).filter(|rival| wanted_uplink(known, rival) == Some(device));
        scopes.extend(rivals.map(|rival| (host, Scope::Network(rival.id))));
    }
    let siblings = network.project.into_iter().flat_map(|project| world.networks_of(project));
    scopes.extend(siblings.map(|sibling| (host, Scope::Network(sibling.id))));
    scopes
}

fn compile_host(world: &World, host: &Host) -> Objects {
    let mut objects = Objects::new();
    let mut routed = BTreeSet::new();
    for network in world.networks_on(host.id) {
        put_ruleset(&mut objects, Table::Guard);
        if network.network_type == NetworkType::Flat {
            objects.insert(Key::Device(network.bridge.clone()), Object::Device);
        }
        put_ruleset(&mut objects, Table::Groups);
        if let Some(uplink) = uplink(world, host, network) {
            objects.insert(Key::Uplink(uplink), Object::Uplink(network.bridge.clone()));
        }
        if world.routes(host.id, network) {
            put_ruleset(&mut objects, Table::Gateway);
            put_ruleset(&mut objects, Table::Claims);
            routed.extend(network.gateway_addresses(host.id).iter().map(|(_, cidr)| cidr.family()));
        }
    }
    metadata::put_proxy(world, host.id, &mut objects);
    security::put_combinations(world, host.id, &mut objects);
    if routed.contains(&Family::Ipv4) {
        put_sysctl(&mut objects, "net.ipv4.ip_forward".to_owned(), "1");
    }
    if routed.contains(&Family::Ipv6) {
        put_sysctl(&mut objects, "net.ipv6.conf.all.forwarding".to_owned(), "1");
    }
    if let Some(public) = host.public_interface.as_ref().filter(|_| !routed.is_empty()) {
        objects.insert(Key::Device(public.clone()), Object::Device);
        if routed.contains(&Family::Ipv6) {
            // A host that forwards stops listening to routers, its own too, unless told otherwise
            // (Documentation/networking/ip-sysctl.rst, accept_ra).
            put_sysctl(&mut objects, format!("net.ipv6.conf.{}.accept_ra", render::sysctl_part(public)), "2");
        }
    }
    objects
}

fn put_ruleset(objects: &mut Objects, table: Table) {
    objects.entry(Key::Ruleset(table)).or_insert_with(|| Object::Ruleset(render::ruleset(table)));
}

fn put_sysctl(objects: &mut Objects, name: String, value: &str) {
    objects.insert(Key::Sysctl(name), Object::Sysctl(value.to_owned()));
}

fn put_element(objects: &mut Objects, set: Set, element: String) {
    objects.insert(Key::Element(set, element), Object::Element);
}

fn put_mapping(objects: &mut Objects, set: Set, element: String, value: String) {
    objects.insert(Key::Element(set, element), Object::Mapping(value));
}

fn compile_network(world: &World, host: &Host, network: &Network) -> Objects {
    let mut objects = Objects::new();
    if world.has_device(host.id, network.id) {
        objects.insert(Key::BridgeFilter(network.bridge.clone()), Object::BridgeFilter);
    }
    if network.network_type == NetworkType::Flat {
        return objects;
    }
    put_served(host, network, &mut objects);
    metadata::put_way(world, network, &mut objects);
    let routes = world.routes(host.id, network);
    let hardware = hardware(world, host, network);
    let leads_out = match network.vlan {
        Some(vlan) => Some(vlan.device()),
        None => hardware.clone(),
    };
    let bridge = Link {
        kind: LinkKind::Bridge,
        mac: Some(bridge_mac(network, routes, hardware.as_ref())),
        mtu: network.mtu.bytes().into(),
        master: None,
        uplink: leads_out.clone(),
        up: true,
        index: None,
    };
    objects.insert(Key::Link(network.bridge.clone()), Object::Link(bridge));
    if let (Some(id), Some(parent)) = (network.vlan, hardware) {
        let kind = LinkKind::Vlan { id, parent };
        let vlan = port(kind, network);
        objects.insert(Key::Link(id.device()), Object::Link(vlan));
    }
    if routes {
        compile_gateway(world, host, network, leads_out.as_ref(), &mut objects);
    } else if network.ipv6.is_some() {
        put_element(&mut objects, Set::GatewayMac, network.bridge_mac.to_string());
    }
    objects
}

/// Where guests of the network are served DNS, by this host or another one.
fn put_served(host: &Host, network: &Network, objects: &mut Objects) {
    let link_local = network.ipv6.map(|_| network.bridge_mac.link_local().into());
    let addresses = network.gateway_addresses(host.id);
    for address in addresses.into_iter().map(|(address, _)| address).chain(link_local) {
        let set = if address.is_ipv4() { Set::Served4 } else { Set::Served6 };
        put_element(objects, set, format!("{} . {address}", network.bridge));
    }
}

/// The device of this host that the network leads out by: enslaved, or carrying its VLAN.
fn hardware(world: &World, host: &Host, network: &Network) -> Option<LinkName> {
    match network.network_type {
        NetworkType::Vlan => host.vlan_interface.as_ref().or(network.bridge_interface.as_ref()).cloned(),
        NetworkType::FlatDhcp => uplink(world, host, network),
        NetworkType::Flat => None,
    }
}

/// Every gateway of a network has the gateway's MAC, except where each has addresses of its own.
/// Other hosts' bridges must not have it: they would keep what is for the gateway to themselves.
fn bridge_mac(network: &Network, routes: bool, hardware: Option<&LinkName>) -> LinkMac {
    let is_gateway = routes && !matches!(network.gateways, Gateways::PerHost(_));
    let mac = network.bridge_mac;
    match hardware.cloned() {
        None => LinkMac::Fixed(mac),
        Some(device) if !is_gateway => LinkMac::Of(device),
        Some(_) if network.network_type == NetworkType::Vlan => LinkMac::Fixed(mac),
        Some(uplink) => LinkMac::Gateway { mac, uplink },
    }
}

/// What routing for a network takes, and serving DHCP on it.
fn compile_gateway(
    world: &World,
    host: &Host,
    network: &Network,
    leads_out: Option<&LinkName>,
    objects: &mut Objects,
) {
    let bridge = &network.bridge;
    let addresses = network.gateway_addresses(host.id);
    for (address, cidr) in &addresses {
        let on_link = IpNet::new_assert(*address, cidr.net().prefix_len());
        objects.insert(Key::Address(bridge.clone(), on_link), Object::Address);
        let (local, subnet) = match cidr.family() {
            Family::Ipv4 => (Set::NatLocal, Set::Subnet4),
            Family::Ipv6 => (Set::NatLocal6, Set::Subnet6),
        };
        put_element(objects, local, format!("{cidr} . {bridge}"));
        put_element(objects, subnet, cidr.short());
        if cidr.family() == Family::Ipv4 {
            put_nat(world, host, *cidr, objects);
        }
    }
    let dnsmasq = Dnsmasq {
        arguments: render::dnsmasq_arguments(network, &addresses),
        bridge: bridge.clone(),
        bridge_index: None,
        stale: false,
    };
    objects.insert(Key::Dnsmasq(network.name.clone()), Object::Dnsmasq(dnsmasq));
    put_element(objects, Set::Network, bridge.to_string());
    if network.network_type == NetworkType::Vlan {
        put_element(objects, Set::Private, bridge.to_string());
    }
    let siblings = network.project.into_iter().flat_map(|project| world.networks_of(project));
    let siblings = siblings.filter(|sibling| world.routes(host.id, sibling)).map(|sibling| &sibling.bridge);
    for reached in siblings.chain([bridge]) {
        put_element(objects, Set::Routed, format!("{bridge} . {reached}"));
        // Another host may have routed it there.
        for (_, cidr) in &addresses {
            let home = if cidr.family() == Family::Ipv4 { Set::Home4 } else { Set::Home6 };
            put_element(objects, home, format!("{cidr} . {reached}"));
        }
    }
    if let Some(uplink) = leads_out.filter(|_| network.gateways == Gateways::Shared) {
        hide_gateway(network, uplink, &addresses, objects);
    }
}

fn put_nat(world: &World, host: &Host, cidr: Cidr, objects: &mut Objects) {
    let ranges = |ranges: &[Cidr]| {
        let ranges = ranges.iter().filter(|range| range.family() == Family::Ipv4);
        ranges.map(|range| format!("{cidr} . {}", range.short())).collect::<Vec<_>>()
    };
    for element in ranges(&world.options().force_snat_range) {
        put_element(objects, Set::NatForced, element);
    }
    let Some(public) = &host.public_interface else { return };
    let element = format!("{cidr} . {public}");
    match host.routing_source_ip {
        RoutingSourceIp::OfDevice => put_element(objects, Set::NatSource, element),
        RoutingSourceIp::Address(address) => {
            put_mapping(objects, Set::NatSourceIp, element, address.to_string());
        }
        RoutingSourceIp::Off => {}
    }
    for element in ranges(&world.options().dmz_cidr) {
        put_element(objects, Set::NatExempt, element);
    }
}

/// Other hosts have the same gateway: none of it may pass the device that leads to them.
fn hide_gateway(network: &Network, uplink: &LinkName, addresses: &[(IpAddr, Cidr)], objects: &mut Objects) {
    put_element(objects, Set::SharedUplink, uplink.to_string());
    put_element(objects, Set::SharedMac, format!("{uplink} . {}", network.bridge_mac));
    let link_local = network.ipv6.map(|_| network.bridge_mac.link_local().into());
    for address in addresses.iter().map(|(address, _)| *address).chain(link_local) {
        match address {
            IpAddr::V4(address) => put_element(objects, Set::SharedIp4, format!("{uplink} . {address}")),
            IpAddr::V6(address) => {
                put_element(objects, Set::SharedIp6, format!("{uplink} . {address}"));
                put_element(objects, Set::SharedNd, format!("{uplink} . {:#x}", address.to_bits()));
            }
        }
    }
}

fn compile_interface(world: &World, host: &Host, id: InterfaceId) -> Option<Objects> {
    let interface = world.interface(id)?;
    let network = world.network(interface.network)?;
    let mut objects = Objects::new();
    if let Some(place) = interface.places().find(|place| place.host == host.id) {
        let is_prepared = interface.attachment.as_ref() != Some(place);
        let link = port(link_kind(&place.plug, interface), network);
        objects.insert(Key::Link(interface.device.clone()), Object::Link(link));
        // The guest's end of a veth speaks as soon as it is there, and would be found where nothing
        // runs yet. A machine that is copied into a tap is silent until it runs there.
        if !(is_prepared && matches!(place.plug, Plug::Veth { .. })) {
            compile_guard(interface, network, &mut objects);
            security::put_guest(world, host.id, (interface, network), &mut objects);
        }
        // One that is only prepared is still reached where it was.
        if !is_prepared {
            let station = Object::Station {
                port: interface.device.clone(),
                addresses: interface.addresses.iter().copied().collect(),
            };
            objects.insert(Key::Station(network.bridge.clone(), interface.mac), station);
        }
    }
    let is_plugged_in = interface.attachment.is_some();
    if objects.is_empty() && is_plugged_in && network.gateway_host() == Some(host.id) {
        security::put_remote(world, interface, network, &mut objects);
    }
    if !world.routes(host.id, network) {
        return Some(objects);
    }
    if !objects.is_empty() {
        // A VPN asks for nothing.
        if world.vpn_of(id).is_none() {
            compile_lease(interface, network, &mut objects);
            metadata::put_identity(world, host.id, (interface, network), &mut objects);
        }
        dns::put_name(world, interface, network, &mut objects);
    } else if is_plugged_in && world.is_known_on(host.id, interface) {
        dns::put_name(world, interface, network, &mut objects);
    }
    Some(objects)
}

/// What a guest may send, and from where.
fn compile_guard(interface: &Interface, network: &Network, objects: &mut Objects) {
    let Some(security) = &interface.security else { return };
    let device = &interface.device;
    let mut senders: BTreeMap<Mac, Vec<IpNet>> = BTreeMap::new();
    senders.insert(interface.mac, interface.guest_addresses(network).map(IpNet::from).collect());
    for pair in &security.address_pairs {
        senders.entry(pair.mac.unwrap_or(interface.mac)).or_default().push(pair.range.net());
    }
    for (mac, ranges) in senders {
        put_element(objects, Set::GuardMac, format!("{device} . {mac}"));
        put_element(objects, Set::GuardHardware, format!("{device} . {:#x}", mac.to_bits()));
        let (single, ranges): (Vec<IpNet>, Vec<IpNet>) =
            ranges.into_iter().partition(|range| range.prefix_len() == range.max_prefix_len());
        for address in single.iter().map(IpNet::addr) {
            put_guarded_address(device, mac, address, objects);
        }
        // Ranges of one set must not overlap.
        for range in IpNet::aggregate(&ranges) {
            let set = if range.addr().is_ipv4() { Set::GuardRange4 } else { Set::GuardRange6 };
            put_element(objects, set, format!("{device} . {mac} . {range}"));
        }
    }
    for ether_type in &network.ether_types {
        put_element(objects, Set::GuardEtherType, format!("{device} . {}", ether_type.number()));
    }
}

fn put_guarded_address(device: &LinkName, mac: Mac, address: IpAddr, objects: &mut Objects) {
    match address {
        IpAddr::V4(address) => put_element(objects, Set::GuardIp4, format!("{device} . {mac} . {address}")),
        IpAddr::V6(address) => {
            put_element(objects, Set::GuardIp6, format!("{device} . {mac} . {address}"));
            put_element(objects, Set::GuardNd, format!("{device} . {mac} . {:#x}", address.to_bits()));
        }
    }
}

/// What dnsmasq has to know of a guest.
fn compile_lease(interface: &Interface, network: &Network, objects: &mut Objects) {
    let hostname = &interface.hostname;
    for address in &interface.addresses {
        match *address {
            IpAddr::V4(address) => {
                let key = Key::DhcpHost(network.name.clone(), interface.mac);
                let entry = Object::DhcpHost { address, hostname: hostname.clone() };
                objects.entry(key).or_insert(entry);
            }
            IpAddr::V6(address) if network.ipv6_mode == Ipv6Mode::Dhcpv6 => {
                let entry = Object::DhcpHost6 { mac: interface.mac, hostname: hostname.clone() };
                objects.insert(Key::DhcpHost6(network.name.clone(), address), entry);
            }
            IpAddr::V6(_) => {}
        }
    }
}

/// A device that is a port of the network's bridge.
fn port(kind: LinkKind, network: &Network) -> Link {
    Link {
        kind,
        mac: None,
        mtu: network.mtu.bytes().into(),
        master: Some(network.bridge.clone()),
        uplink: None,
        up: true,
        index: None,
    }
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
    let first = world.networks_on(host.id).find(|rival| wanted_uplink(host, rival) == Some(device))?;
    (first.id == network.id).then(|| device.clone())
}

fn wanted_uplink<'a>(host: &'a Host, network: &'a Network) -> Option<&'a LinkName> {
    let enslaves = network.network_type == NetworkType::FlatDhcp;
    host.flat_interface.as_ref().or(network.bridge_interface.as_ref()).filter(|_| enslaves)
}
