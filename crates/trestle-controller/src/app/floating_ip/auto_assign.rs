//! Floating IPs that come and go with an interface.

use std::net::IpAddr;

use trestle_core::compile::Entity;
use trestle_core::types::{Family, Name, PoolId};
use trestle_core::world::{Interface, Target};

use crate::app::dns;
use crate::app::floating_ip::change;
use crate::app::floating_ip::reserve::pool_full;
use crate::error::AppError;
use crate::store::Write;
use crate::store::change::Change;
use crate::store::floating_ip::{self, Reservation, forward};
use crate::store::history;
use crate::store::instance::InstanceRecord;
use crate::store::interface::InterfaceRecord;
use crate::store::pool as pool_store;

/// Gives a new interface a floating IP of a pool: for its first address of a family that the pool has.
/// It counts against no quota (reference MG-32).
pub(in crate::app) async fn auto_assign(
    write: &mut Write,
    instance: &InstanceRecord,
    interface: &Interface,
    (pool, name): &(PoolId, Name),
) -> Result<IpAddr, AppError> {
    let mut wanted = None;
    for address in &interface.addresses {
        if wanted.is_none() && pool_store::has_family(write.connection(), *pool, Family::of(*address)).await?
        {
            wanted = Some(*address);
        }
    }
    let family = interface.addresses.first().map_or(Family::Ipv4, |address| Family::of(*address));
    let fixed = wanted.ok_or_else(|| pool_full(name, family))?;
    let target = Target { interface: interface.id, fixed };
    let reservation = Reservation { pool: *pool, project: instance.project, auto_assigned: Some(target) };
    let given = floating_ip::reserve(write, Family::of(fixed), &reservation).await?;
    let address = given.ok_or_else(|| pool_full(name, Family::of(fixed)))?;
    let message =
        format!("floating IP {address} came with instance `{}` and leads to {fixed}", instance.name);
    let change = Change::new("floating_ip.auto_assigned", address, message);
    let change = change.project(instance.project, &instance.project_name);
    write.log(change.entity(Entity::FloatingIp(address)));
    Ok(address)
}

/// Takes an interface that is about to go from all that leads to it: the floating IPs that came with it
/// are given back, its project keeps the others, and no name leads to its addresses any more.
pub(in crate::app) async fn leave_interface(
    write: &mut Write,
    instance: &InstanceRecord,
    record: &InterfaceRecord,
) -> Result<(), AppError> {
    let id = record.interface.id;
    let leading = floating_ip::of_interface(write.connection(), id).await?;
    let mut gone = record.interface.addresses.clone();
    if !leading.is_empty() {
        forward::delete_to(write, id).await?;
    }
    for floating in &leading {
        let is_target = floating.target.as_ref().is_some_and(|target| target.target.interface == id);
        let (kind, what) = if is_target && floating.auto_assigned {
            forward::delete_of(write, floating.address).await?;
            floating_ip::release(write, floating.address).await?;
            gone.push(floating.address);
            ("floating_ip.released", "went with")
        } else {
            let kept = floating.target.as_ref().map(|target| target.target).filter(|_| !is_target);
            floating_ip::set_target(write, floating.address, kept).await?;
            ("floating_ip.disassociated", "does not lead any more to")
        };
        history::note_floating_ip(write, floating.address).await?;
        let message = format!("floating IP {} {what} instance `{}`", floating.address, instance.name);
        write.log(change(kind, message, floating, floating.holder()));
    }
    dns::forget(write, &gone).await
}
