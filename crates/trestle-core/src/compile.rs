//! What a host must have, worked out from the World. Pure; the whole is the union of its scopes.

use std::collections::{BTreeMap, BTreeSet};

use crate::spec::{Key, Object};
use crate::types::{HostId, InterfaceId, NetworkId};
use crate::world::World;

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
    let _ = (world, host);
    todo!()
}

/// What this scope contributes to what the host must have.
pub fn compile_scope(world: &World, host: HostId, scope: Scope) -> BTreeMap<Key, Object> {
    let _ = (world, host, scope);
    todo!()
}

/// The scopes on hosts that this entity bears on, as the World is. Ask before and after a change
/// and recompile both answers: nothing else can differ.
pub fn affected(world: &World, entity: Entity) -> BTreeSet<(HostId, Scope)> {
    let _ = (world, entity);
    todo!()
}
