//! Cloudpipe: a project's VPN, on the host where it runs.

use std::collections::BTreeSet;

use super::{Objects, Scope};
use crate::types::{HostId, InterfaceId, ProjectId};
use crate::world::{Host, World};

/// The scopes on hosts that a VPN bears on: where it runs, and where what its clients send is translated.
pub(super) fn affected(world: &World, project: ProjectId) -> BTreeSet<(HostId, Scope)> {
    let interface = world.vpn(project).and_then(|vpn| world.interface(vpn.interface));
    let Some(interface) = interface else { return BTreeSet::new() };
    let places = interface.places().map(|place| place.host);
    places.chain(world.serving_host(interface)).map(|host| (host, Scope::Vpn(project))).collect()
}

/// The same of the VPN that an interface belongs to.
pub(super) fn affected_of(world: &World, interface: InterfaceId) -> BTreeSet<(HostId, Scope)> {
    world.vpn_of(interface).map(|vpn| affected(world, vpn.project)).unwrap_or_default()
}

/// What a VPN needs on this host.
pub(super) fn compile(world: &World, host: &Host, project: ProjectId) -> Option<Objects> {
    let vpn = world.vpn(project)?;
    let interface = world.interface(vpn.interface)?;
    let _ = (host, interface);
    None
}
