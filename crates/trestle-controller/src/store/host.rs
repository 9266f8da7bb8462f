//! Hosts, with what their agents last said.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::Timestamp;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use trestle_api::{ApiError, Feature};
use trestle_core::types::{HostId, LinkName, Name, NetworkId};
use trestle_core::world::Host;

use crate::store::columns::Columns;
use crate::store::error::{During, StoreError};

/// A host as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct HostRecord {
    /// What bears on compiling.
    pub(crate) host: Host,
    /// Whether it may be chosen to route for single-host networks.
    pub(crate) gateway: bool,
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
    /// What the kernel lacks.
    pub(crate) missing_features: BTreeSet<Feature>,
    /// What troubles the agent itself.
    pub(crate) agent_problems: Vec<ApiError>,
    /// Its devices, those that Trestle makes aside; empty if it never said.
    pub(crate) devices: BTreeSet<LinkName>,
    /// The addresses that it has for itself.
    pub(crate) addresses: BTreeSet<IpAddr>,
}

macro_rules! select {
    ($more:literal, $rest:literal) => {
        concat!(
            "SELECT h.id, h.name, h.flat_interface, h.vlan_interface, h.public_interface, h.routing_source_ip, h.gateway,
                    h.created_at,
                    o.last_seen, o.generation_applied, o.agent_version, o.kernel, o.missing_features,
                    o.agent_problems, o.devices, o.addresses",
            $more,
            " FROM hosts h LEFT JOIN observed_hosts o ON o.host = h.id ",
            $rest
        )
    };
}

/// The host of this id or name.
pub(crate) async fn find(
    connection: &mut AnyConnection,
    reference: &str,
) -> Result<Option<HostRecord>, StoreError> {
    let row = sqlx::query(select!("", "WHERE h.id = $1 OR h.name = $1"))
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
        "",
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

/// The names of the hosts that say they have this address for themselves.
pub(crate) async fn having_address(
    connection: &mut AnyConnection,
    address: IpAddr,
) -> Result<Vec<Name>, StoreError> {
    // They are kept as a JSON list of texts.
    let rows = sqlx::query(
        "SELECT h.name FROM hosts h JOIN observed_hosts o ON o.host = h.id WHERE o.addresses LIKE $1 ORDER BY h.name",
    )
    .bind(format!("%\"{address}\"%"))
    .fetch_all(connection)
    .await
    .during("look which hosts have an address")?;
    rows.iter().map(|row| Columns::of(row).parse()).collect()
}

/// The hosts that changed after this place in the change log, as they are now.
pub(crate) async fn changed_after(
    connection: &mut AnyConnection,
    last: i64,
) -> Result<Vec<HostRecord>, StoreError> {
    let query = sqlx::query(select!(
        "",
        "WHERE h.id IN (SELECT entity FROM changes WHERE id > $1 AND entity_kind = 'host')"
    ));
    let rows = query.bind(last).fetch_all(connection).await.during("read changed hosts")?;
    rows.iter().map(from_row).collect()
}

/// The hosts that may be chosen to route for single-host networks, each with the number of those
/// that it routes for.
pub(crate) async fn gateways(connection: &mut AnyConnection) -> Result<Vec<(HostRecord, u64)>, StoreError> {
    let query = sqlx::query(select!(
        ", (SELECT COUNT(*) FROM networks n WHERE n.gateway_host = h.id)",
        "WHERE h.gateway = 1 ORDER BY h.id"
    ));
    let rows = query.fetch_all(connection).await.during("list hosts that may route")?;
    rows.iter().map(|row| Ok((from_row(row)?, Columns::of_last(row).count()?))).collect()
}

/// The hosts on which this network stands: something of it is or is about to be plugged in there, or
/// the host routes for what is elsewhere.
pub(crate) async fn with_network(
    connection: &mut AnyConnection,
    network: NetworkId,
) -> Result<Vec<HostRecord>, StoreError> {
    let query = sqlx::query(select!(
        "",
        "WHERE EXISTS (SELECT 1 FROM interfaces i JOIN networks n ON n.id = i.network
             WHERE n.id = $1 AND (i.host = h.id OR i.next_host = h.id
                                  OR (i.host IS NOT NULL AND n.gateway_host = h.id)))
         ORDER BY h.name"
    ));
    let rows = query.bind(network.to_string()).fetch_all(connection).await;
    rows.during("list a network's hosts")?.iter().map(from_row).collect()
}

/// Puts a new one in.
pub(crate) async fn insert(connection: &mut AnyConnection, record: &HostRecord) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO hosts (id, name, flat_interface, vlan_interface, public_interface, routing_source_ip, gateway,
             created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(record.host.id.to_string())
    .bind(record.host.name.as_str())
    .bind(record.host.flat_interface.as_ref().map(ToString::to_string))
    .bind(record.host.vlan_interface.as_ref().map(ToString::to_string))
    .bind(record.host.public_interface.as_ref().map(ToString::to_string))
    .bind(record.host.routing_source_ip.to_string())
    .bind(i64::from(record.gateway))
    .bind(record.created_at.as_microsecond())
    .execute(connection)
    .await
    .during("insert a host")?;
    Ok(())
}

/// Changes its devices and whether it may be chosen to route.
pub(crate) async fn update(connection: &mut AnyConnection, record: &HostRecord) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE hosts SET flat_interface = $2, vlan_interface = $3, public_interface = $4,
             routing_source_ip = $5, gateway = $6
         WHERE id = $1",
    )
    .bind(record.host.id.to_string())
    .bind(record.host.flat_interface.as_ref().map(ToString::to_string))
    .bind(record.host.vlan_interface.as_ref().map(ToString::to_string))
    .bind(record.host.public_interface.as_ref().map(ToString::to_string))
    .bind(record.host.routing_source_ip.to_string())
    .bind(i64::from(record.gateway))
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
        "DELETE FROM observed_rule_counters WHERE host = $1",
        "DELETE FROM observed_vpn_connections WHERE host = $1",
        "DELETE FROM observed_hosts WHERE host = $1",
        "DELETE FROM hosts WHERE id = $1",
    ] {
        let query = sqlx::query(sql).bind(id.to_string());
        query.execute(&mut *connection).await.during("delete a host")?;
    }
    Ok(())
}

/// What keeps it from being deleted: the names of some instances that are or are about to be plugged
/// in on it, and of some networks in use that it is the one gateway of.
pub(crate) async fn uses(connection: &mut AnyConnection, id: HostId) -> Result<Vec<String>, StoreError> {
    let rows = sqlx::query(
        "SELECT 'instance `' || hostname || '`' AS used FROM interfaces WHERE host = $1 OR next_host = $1
         UNION SELECT 'network `' || n.name || '`' FROM networks n WHERE n.gateway_host = $1
             AND EXISTS (SELECT 1 FROM interfaces i WHERE i.network = n.id AND i.host IS NOT NULL)
         ORDER BY used LIMIT 10",
    )
    .bind(id.to_string())
    .fetch_all(connection)
    .await
    .during("look for what is on a host")?;
    rows.iter().map(|row| Ok(Columns::of(row).text()?.to_owned())).collect()
}

fn from_row(row: &AnyRow) -> Result<HostRecord, StoreError> {
    let mut columns = Columns::of(row);
    let host = Host {
        id: columns.parse()?,
        name: columns.parse()?,
        flat_interface: columns.optional_parse()?,
        vlan_interface: columns.optional_parse()?,
        public_interface: columns.optional_parse()?,
        routing_source_ip: columns.parse()?,
    };
    let (gateway, created_at) = (columns.flag()?, columns.time()?);
    let observed = match columns.optional_time()? {
        Some(last_seen) => Some(ObservedHost {
            last_seen,
            generation_applied: columns.count()?,
            agent_version: columns.text()?.to_owned(),
            kernel: columns.text()?.to_owned(),
            missing_features: columns.json()?,
            agent_problems: columns.json()?,
            devices: columns.json()?,
            addresses: columns.json()?,
        }),
        None => None,
    };
    Ok(HostRecord { host, gateway, created_at, observed })
}
