//! Floating IPs: a public address that leads to a guest, on the one host that serves that guest.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Objects, Scope, put_element, put_mapping};
use crate::spec::{Key, Object, Set};
use crate::types::{HostId, InterfaceId, LinkName};
use crate::world::{FloatingIp, Forward, Host, Target, World};

/// The sets of one family.
struct Sets {
    to: Set,
    from: Set,
    back: Set,
    forward: Set,
    floating: Set,
    held: Set,
}

const IPV4: Sets = Sets {
    to: Set::FloatingTo,
    from: Set::FloatingFrom,
    back: Set::FloatingBack,
    forward: Set::ForwardTo,
    floating: Set::Floating,
    held: Set::Held,
};

const IPV6: Sets = Sets {
    to: Set::FloatingTo6,
    from: Set::FloatingFrom6,
    back: Set::FloatingBack6,
    forward: Set::ForwardTo6,
    floating: Set::Floating6,
    held: Set::Held6,
};

/// The scopes on hosts that a floating IP bears on: its own, and those of the others that lead to the
/// same guest, of which one is what the guest leaves under.
pub(super) fn affected(world: &World, address: IpAddr) -> BTreeSet<(HostId, Scope)> {
    let Some(floating) = world.floating_ip(address) else { return BTreeSet::new() };
    let own = world.holder(floating).map(|host| (host, Scope::FloatingIp(address)));
    let others = floating.targets().flat_map(|target| affected_of(world, target.interface));
    own.into_iter().chain(others).collect()
}

/// The same of all that lead to an interface.
pub(super) fn affected_of(world: &World, interface: InterfaceId) -> BTreeSet<(HostId, Scope)> {
    let floating = world.floating_ips_of(interface);
    floating.filter_map(|one| Some((world.holder(one)?, Scope::FloatingIp(one.address)))).collect()
}

/// What a floating IP needs on this host, if it is the one that has it.
pub(super) fn compile(world: &World, host: &Host, address: IpAddr) -> Option<Objects> {
    let floating = world.floating_ip(address).filter(|one| world.holder(one) == Some(host.id))?;
    let device = device(host, floating)?;
    let sets = if address.is_ipv4() { IPV4 } else { IPV6 };
    let mut objects = Objects::new();
    objects.insert(Key::Address(device.clone(), IpNet::from(address)), Object::Address);
    put_element(&mut objects, sets.held, format!("{device} . {address}"));
    put_element(&mut objects, sets.floating, address.to_string());
    if let Some(target) = floating.target.as_ref().filter(|target| is_served_by(world, host, target)) {
        let fixed = target.fixed.to_string();
        put_mapping(&mut objects, sets.to, address.to_string(), fixed.clone());
        if is_first(world, host, target, address, |_| true) {
            put_mapping(&mut objects, sets.back, fixed.clone(), address.to_string());
        }
        if is_first(world, host, target, address, |other| self::device(host, other) == Some(device)) {
            put_mapping(&mut objects, sets.from, format!("{fixed} . {device}"), address.to_string());
        }
    }
    for forward in floating.forwards.iter().filter(|forward| is_served_by(world, host, &forward.to)) {
        let Forward { protocol, port, to, to_port } = forward;
        let element = format!("{address} . {protocol} . {port}");
        put_mapping(&mut objects, sets.forward, element, format!("{} . {to_port}", to.fixed));
    }
    Some(objects)
}

/// The device that a floating IP is on.
fn device<'a>(host: &'a Host, floating: &'a FloatingIp) -> Option<&'a LinkName> {
    floating.device.as_ref().or(host.public_interface.as_ref())
}

fn is_served_by(world: &World, host: &Host, target: &Target) -> bool {
    let interface = world.interface(target.interface);
    interface.and_then(|interface| world.serving_host(interface)) == Some(host.id)
}

/// Whether, of the floating IPs that lead to the same fixed IP and are such, this is the first that is
/// here: a guest leaves under one of them.
fn is_first(
    world: &World,
    host: &Host,
    target: &Target,
    address: IpAddr,
    such: impl Fn(&FloatingIp) -> bool,
) -> bool {
    let mut rivals = world.floating_ips_of(target.interface);
    let first =
        rivals.find(|other| other.target == Some(*target) && device(host, other).is_some() && such(other));
    first.is_some_and(|first| first.address == address)
}
