//! Hosts, with what their agents last said.

use jiff::Timestamp;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use trestle_core::types::HostId;
use trestle_core::world::Host;

use crate::store::columns::Columns;
use crate::store::error::{During, StoreError};

/// A host as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct HostRecord {
    /// What bears on compiling.
    pub(crate) host: Host,
    /// When it was made known.
    pub(crate) created_at: Timestamp,
    /// What its agent last said, if it ever did.
    pub(crate) observed: Option<ObservedHost>,
}

/// What an agent last said, without problems and leases.
#[derive(Clone, Debug)]
pub(crate) struct ObservedHost {
    /// When.
    pub(crate) last_seen: Timestamp,
    /// The generation it has worked through.
    pub(crate) generation_applied: u64,
    /// Its version.
    pub(crate) agent_version: String,
    /// The kernel's release.
    pub(crate) kernel: String,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT h.id, h.name, h.flat_interface, h.public_interface, h.created_at,
                    o.last_seen, o.generation_applied, o.agent_version, o.kernel
             FROM hosts h LEFT JOIN observed_hosts o ON o.host = h.id ",
            $rest
        )
    };
}

/// The host of this id or name.
pub(crate) async fn find(
    connection: &mut AnyConnection,
    reference: &str,
) -> Result<Option<HostRecord>, StoreError> {
    let row = sqlx::query(select!("WHERE h.id = $1 OR h.name = $1"))
        .bind(reference)
        .fetch_optional(connection)
        .await
        .during("read a host")?;
    row.as_ref().map(from_row).transpose()
}

/// The hosts after this id; only the one of this name, or of this id, if given.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    (name, id): (Option<&str>, Option<HostId>),
    after: &str,
    limit: i64,
) -> Result<Vec<HostRecord>, StoreError> {
    let rows = sqlx::query(select!(
        "WHERE h.id > $1 AND (CAST($2 AS TEXT) IS NULL OR h.name = $2)
           AND (CAST($3 AS TEXT) IS NULL OR h.id = $3) ORDER BY h.id LIMIT $4"
    ))
    .bind(after)
    .bind(name)
    .bind(id.map(|id| id.to_string()))
    .bind(limit)
    .fetch_all(connection)
    .await
    .during("list hosts")?;
    rows.iter().map(from_row).collect()
}

/// Puts a new one in.
pub(crate) async fn insert(
    connection: &mut AnyConnection,
    host: &Host,
    created_at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO hosts (id, name, flat_interface, public_interface, created_at) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(host.id.to_string())
    .bind(host.name.as_str())
    .bind(host.flat_interface.as_ref().map(ToString::to_string))
    .bind(host.public_interface.as_ref().map(ToString::to_string))
    .bind(created_at.as_microsecond())
    .execute(connection)
    .await
    .during("insert a host")?;
    Ok(())
}

/// Changes its devices.
pub(crate) async fn update(connection: &mut AnyConnection, host: &Host) -> Result<(), StoreError> {
    sqlx::query("UPDATE hosts SET flat_interface = $2, public_interface = $3 WHERE id = $1")
        .bind(host.id.to_string())
        .bind(host.flat_interface.as_ref().map(ToString::to_string))
        .bind(host.public_interface.as_ref().map(ToString::to_string))
        .execute(connection)
        .await
        .during("change a host")?;
    Ok(())
}

/// Takes it out, with its agent's tokens and what it said.
pub(crate) async fn delete(connection: &mut AnyConnection, id: HostId) -> Result<(), StoreError> {
    for sql in [
        "DELETE FROM tokens WHERE host = $1",
        "DELETE FROM observed_leases WHERE host = $1",
        "DELETE FROM observed_problems WHERE host = $1",
        "DELETE FROM observed_hosts WHERE host = $1",
        "DELETE FROM hosts WHERE id = $1",
    ] {
        let query = sqlx::query(sql).bind(id.to_string());
        query.execute(&mut *connection).await.during("delete a host")?;
    }
    Ok(())
}

/// What keeps it from being deleted: the names of some instances plugged in on it.
pub(crate) async fn uses(connection: &mut AnyConnection, id: HostId) -> Result<Vec<String>, StoreError> {
    let rows = sqlx::query(
        "SELECT DISTINCT 'instance `' || hostname || '`' FROM interfaces WHERE host = $1 LIMIT 10",
    )
    .bind(id.to_string())
    .fetch_all(connection)
    .await
    .during("look for a host's interfaces")?;
    rows.iter().map(|row| Ok(Columns::of(row).text()?.to_owned())).collect()
}

fn from_row(row: &AnyRow) -> Result<HostRecord, StoreError> {
    let mut columns = Columns::of(row);
    let host = Host {
        id: columns.parse()?,
        name: columns.parse()?,
        flat_interface: columns.optional_parse()?,
        public_interface: columns.optional_parse()?,
    };
    let created_at = columns.time()?;
    let observed = match columns.optional_time()? {
        Some(last_seen) => Some(ObservedHost {
            last_seen,
            generation_applied: columns.count()?,
            agent_version: columns.text()?.to_owned(),
            kernel: columns.text()?.to_owned(),
        }),
        None => None,
    };
    Ok(HostRecord { host, created_at, observed })
}
