//! Ports of floating IPs that lead elsewhere than the rest.

use std::net::IpAddr;

use trestle_core::types::{InterfaceId, Protocol};
use trestle_core::world::Forward;
use uuid::Uuid;

use super::{TargetRecord, target_from};
use crate::store::Write;
use crate::store::columns::{Columns, address_text};
use crate::store::error::{During, StoreError};

/// A port that leads to one of a fixed IP.
#[derive(Clone, Debug)]
pub(crate) struct ForwardRecord {
    /// TCP or UDP.
    pub(crate) protocol: Protocol,
    /// The floating IP's port.
    pub(crate) port: u16,
    /// Where it leads.
    pub(crate) to: TargetRecord,
    /// The port there.
    pub(crate) fixed_port: u16,
}

impl ForwardRecord {
    /// What bears on compiling.
    pub(crate) fn forward(&self) -> Forward {
        let Self { protocol, port, to, fixed_port } = self;
        Forward { protocol: *protocol, port: *port, to: to.target, to_port: *fixed_port }
    }
}

/// Puts a new one in.
pub(crate) async fn insert(write: &mut Write, address: IpAddr, forward: &Forward) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO port_forwards (id, address, protocol, port, interface, fixed, fixed_port)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(Uuid::now_v7().to_string())
    .bind(address_text(address))
    .bind(forward.protocol.to_string())
    .bind(i64::from(forward.port))
    .bind(forward.to.interface.to_string())
    .bind(address_text(forward.to.fixed))
    .bind(i64::from(forward.to_port))
    .execute(write.connection())
    .await
    .during("lead a port of a floating IP")?;
    touch(write, address).await
}

/// Takes one out.
pub(crate) async fn delete(
    write: &mut Write,
    address: IpAddr,
    (protocol, port): (Protocol, u16),
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM port_forwards WHERE address = $1 AND protocol = $2 AND port = $3")
        .bind(address_text(address))
        .bind(protocol.to_string())
        .bind(i64::from(port))
        .execute(write.connection())
        .await
        .during("take a port of a floating IP back")?;
    touch(write, address).await
}

/// Takes all of one floating IP out.
pub(crate) async fn delete_of(write: &mut Write, address: IpAddr) -> Result<(), StoreError> {
    let query = sqlx::query("DELETE FROM port_forwards WHERE address = $1").bind(address_text(address));
    query.execute(write.connection()).await.during("take a floating IP's ports back")?;
    Ok(())
}

/// Takes all out that lead to an interface.
pub(crate) async fn delete_to(write: &mut Write, interface: InterfaceId) -> Result<(), StoreError> {
    let query = sqlx::query("DELETE FROM port_forwards WHERE interface = $1").bind(interface.to_string());
    query.execute(write.connection()).await.during("take ports back that lead to an interface")?;
    Ok(())
}

/// Reads the columns behind the address.
pub(super) fn from_columns(columns: &mut Columns<'_>) -> Result<ForwardRecord, StoreError> {
    let _id: Uuid = columns.parse()?;
    let (protocol, port, fixed_port) = (columns.parse()?, small(columns)?, small(columns)?);
    let to = target_from(columns)?.ok_or_else(|| columns.corrupt("a port that leads nowhere"))?;
    Ok(ForwardRecord { protocol, port, to, fixed_port })
}

fn small(columns: &mut Columns<'_>) -> Result<u16, StoreError> {
    columns.small()
}

/// Notes that where it leads changed at this revision.
async fn touch(write: &mut Write, address: IpAddr) -> Result<(), StoreError> {
    let revision = write.revision().cast_signed();
    sqlx::query("UPDATE floating_ips SET generation = $2 WHERE address = $1")
        .bind(address_text(address))
        .bind(revision)
        .execute(write.connection())
        .await
        .during("note that a floating IP changed")?;
    Ok(())
}
