//! Floating IPs: who has which, and where they lead.
//!
//! A row stands for an address from its first use on, so a pool costs nothing until it is used. Which
//! one is given out next is in `floating_ip/reserve`, ports that lead elsewhere in
//! `floating_ip/forward`.

pub(crate) mod forward;
mod reserve;

use std::net::IpAddr;

use jiff::Timestamp;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AnyConnection};
use trestle_core::types::{HostId, InstanceId, InterfaceId, LinkName, Name, NetworkId, PoolId, ProjectId};
use trestle_core::world::{FloatingIp, Target};

use crate::store::Write;
use crate::store::columns::{Columns, address_text};
use crate::store::error::{During, StoreError};

pub(crate) use forward::ForwardRecord;
pub(crate) use reserve::{Reservation, Reserved, claim, reserve};

/// A floating IP that a project has.
#[derive(Clone, Debug)]
pub(crate) struct FloatingIpRecord {
    /// The address.
    pub(crate) address: IpAddr,
    /// The name of its pool.
    pub(crate) pool_name: Name,
    /// The device that the pool is on, if it says one.
    pub(crate) device: Option<LinkName>,
    /// The project.
    pub(crate) project: ProjectId,
    /// The name of the project.
    pub(crate) project_name: Name,
    /// Whether it came with its interface and goes with it.
    pub(crate) auto_assigned: bool,
    /// Since when the project has it.
    pub(crate) reserved_at: Timestamp,
    /// The revision that last changed where it leads.
    pub(crate) generation: u64,
    /// Where all of it leads.
    pub(crate) target: Option<TargetRecord>,
    /// Where ports of it lead, in the order in which they were made.
    pub(crate) forwards: Vec<ForwardRecord>,
}

/// A fixed IP that a floating IP leads to.
#[derive(Clone, Debug)]
pub(crate) struct TargetRecord {
    /// What bears on compiling.
    pub(crate) target: Target,
    /// The name of the instance that has it.
    pub(crate) instance_name: Name,
    /// The name of the network that it is on.
    pub(crate) network_name: Name,
    /// The host that translates for it, if it is plugged in.
    pub(crate) server: Option<Server>,
}

/// A host that translates for a fixed IP.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    /// The host.
    pub(crate) id: HostId,
    /// Its name.
    pub(crate) name: Name,
    /// Its device that leads outside.
    pub(crate) public_interface: Option<LinkName>,
    /// The revision since which it does.
    pub(crate) since: u64,
    /// What it says it has worked through.
    pub(crate) applied: u64,
}

impl FloatingIpRecord {
    /// What bears on hosts; nothing if it leads nowhere.
    pub(crate) fn floating(&self) -> Option<FloatingIp> {
        let floating = FloatingIp {
            address: self.address,
            device: self.device.clone(),
            target: self.target.as_ref().map(|record| record.target),
            forwards: self.forwards.iter().map(ForwardRecord::forward).collect(),
        };
        Some(floating).filter(|floating| floating.targets().next().is_some())
    }

    /// Where it leads, all of it first.
    pub(crate) fn targets(&self) -> impl Iterator<Item = &TargetRecord> {
        self.target.iter().chain(self.forwards.iter().map(|forward| &forward.to))
    }

    /// The one host that has it: as the World says it.
    pub(crate) fn holder(&self) -> Option<&Server> {
        self.targets().find_map(|target| target.server.as_ref())
    }

    /// The revision since which its host is to have it as it is.
    pub(crate) fn since(&self) -> u64 {
        self.holder().map_or(self.generation, |holder| self.generation.max(holder.since))
    }
}

// The columns of where a row `x` with `interface` and `fixed` leads. Where each host serves its own, it
// does so since something was plugged in; what was only prepared there before is known to
// `interface_hosts`, which says since when the one gateway does.
macro_rules! target_columns {
    () => {
        "i.id, x.fixed, v.name, n.name, s.id, s.name, s.public_interface,
         COALESCE(CASE WHEN n.multi_host = 1 THEN i.generation ELSE t.generation END, 0),
         COALESCE(o.generation_applied, 0)"
    };
}

// What they are of. Who serves is what `World::serving_host` says.
macro_rules! target_joins {
    () => {
        " LEFT JOIN interfaces i ON i.id = x.interface
          LEFT JOIN instances v ON v.id = i.instance
          LEFT JOIN networks n ON n.id = i.network
          LEFT JOIN hosts s ON i.host IS NOT NULL AND n.network_type <> 'flat'
              AND s.id = CASE WHEN n.multi_host = 1 THEN i.host ELSE n.gateway_host END
          LEFT JOIN interface_hosts t ON t.interface = i.id AND t.host = s.id
          LEFT JOIN observed_hosts o ON o.host = s.id "
    };
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT x.address, l.name, l.interface, x.project, p.name, x.auto_assigned, x.reserved_at,
                    COALESCE(x.generation, 0), ",
            target_columns!(),
            " FROM floating_ips x JOIN pools l ON l.id = x.pool JOIN projects p ON p.id = x.project",
            target_joins!(),
            "WHERE ",
            $rest
        )
    };
}

macro_rules! select_forwards {
    ($rest:literal) => {
        concat!(
            "SELECT x.address, x.id, x.protocol, x.port, x.fixed_port, ",
            target_columns!(),
            " FROM port_forwards x",
            target_joins!(),
            "WHERE ",
            $rest,
            " ORDER BY x.address, x.id"
        )
    };
}

/// Every floating IP that a project has.
pub(crate) async fn all(connection: &mut AnyConnection) -> Result<Vec<FloatingIpRecord>, StoreError> {
    let records = sqlx::query(select!("x.project IS NOT NULL ORDER BY x.address"));
    let forwards = sqlx::query(select_forwards!("x.address IS NOT NULL"));
    read(connection, records, forwards).await
}

/// Those that changed after this place in the change log, as they are now.
pub(crate) async fn changed_after(
    connection: &mut AnyConnection,
    last: i64,
) -> Result<Vec<FloatingIpRecord>, StoreError> {
    let records = sqlx::query(select!(
        "x.address IN (SELECT entity FROM changes WHERE id > $1 AND entity_kind = 'floating_ip')
         ORDER BY x.address"
    ));
    let forwards = sqlx::query(select_forwards!(
        "x.address IN (SELECT entity FROM changes WHERE id > $1 AND entity_kind = 'floating_ip')"
    ));
    read(connection, records.bind(last), forwards.bind(last)).await
}

/// The floating IP, if a project has it.
pub(crate) async fn find(
    connection: &mut AnyConnection,
    address: IpAddr,
) -> Result<Option<FloatingIpRecord>, StoreError> {
    let address = address_text(address);
    let records = sqlx::query(select!("x.address = $1")).bind(address.clone());
    let forwards = sqlx::query(select_forwards!("x.address = $1")).bind(address);
    Ok(read(connection, records, forwards).await?.pop())
}

/// Those of which all or a port leads to an interface.
pub(crate) async fn of_interface(
    connection: &mut AnyConnection,
    interface: InterfaceId,
) -> Result<Vec<FloatingIpRecord>, StoreError> {
    let interface = interface.to_string();
    let records = sqlx::query(select!(
        "x.address IN (SELECT address FROM floating_ips WHERE interface = $1
                       UNION SELECT address FROM port_forwards WHERE interface = $1)
         ORDER BY x.address"
    ));
    let records = records.bind(interface.clone()).fetch_all(&mut *connection).await;
    let mut records = gathered(&records.during("read an interface's floating IPs")?)?;
    if records.is_empty() {
        return Ok(records);
    }
    let forwards = sqlx::query(select_forwards!(
        "x.address IN (SELECT address FROM floating_ips WHERE interface = $1
                       UNION SELECT address FROM port_forwards WHERE interface = $1)"
    ));
    put_forwards(connection, &mut records, forwards.bind(interface)).await?;
    Ok(records)
}

/// Which floating IPs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    /// Of this pool.
    pub(crate) pool: Option<PoolId>,
    /// Of this project.
    pub(crate) project: Option<ProjectId>,
    /// Of which all or a port leads to this instance.
    pub(crate) instance: Option<InstanceId>,
}

/// The floating IPs after this address, by address.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    filter: &Filter,
    (after, limit): (Option<IpAddr>, i64),
) -> Result<Vec<FloatingIpRecord>, StoreError> {
    let query = sqlx::query(select!(
        "x.project IS NOT NULL AND x.address > $1
           AND (CAST($2 AS TEXT) IS NULL OR x.pool = $2) AND (CAST($3 AS TEXT) IS NULL OR x.project = $3)
           AND (CAST($4 AS TEXT) IS NULL OR x.address IN (
               SELECT f.address FROM floating_ips f JOIN interfaces a ON a.id = f.interface WHERE a.instance = $4
               UNION SELECT f.address FROM port_forwards f JOIN interfaces a ON a.id = f.interface
               WHERE a.instance = $4))
         ORDER BY x.address LIMIT $5"
    ));
    let rows = query
        .bind(after.map_or_else(String::new, address_text))
        .bind(filter.pool.map(|id| id.to_string()))
        .bind(filter.project.map(|id| id.to_string()))
        .bind(filter.instance.map(|id| id.to_string()))
        .bind(limit)
        .fetch_all(&mut *connection)
        .await
        .during("list floating IPs")?;
    let mut records = gathered(&rows)?;
    let ends = records.first().zip(records.last());
    if let Some((first, last)) = ends.map(|(first, last)| (first.address, last.address)) {
        let forwards = sqlx::query(select_forwards!("x.address BETWEEN $1 AND $2"));
        let forwards = forwards.bind(address_text(first)).bind(address_text(last));
        put_forwards(connection, &mut records, forwards).await?;
    }
    Ok(records)
}

/// How many floating IPs lead nowhere as a whole, and how many lead to an instance.
pub(crate) async fn counts(connection: &mut AnyConnection) -> Result<(u64, u64), StoreError> {
    let sql = "SELECT COUNT(CASE WHEN interface IS NULL THEN 1 END), COUNT(interface) FROM floating_ips
               WHERE project IS NOT NULL";
    let row = sqlx::query(sql).fetch_one(connection).await.during("count floating IPs")?;
    let mut columns = Columns::of(&row);
    Ok((columns.count()?, columns.count()?))
}

/// How many the project has that count against its quota.
pub(crate) async fn counted(connection: &mut AnyConnection, project: ProjectId) -> Result<u64, StoreError> {
    let sql = "SELECT COUNT(*) FROM floating_ips WHERE project = $1 AND auto_assigned = 0";
    let query = sqlx::query(sql).bind(project.to_string());
    let row = query.fetch_one(connection).await.during("count a project's floating IPs")?;
    Columns::of(&row).count()
}

/// A floating IP and the device that its pool is on, if that says one.
pub(crate) type Needed = (IpAddr, Option<LinkName>);

/// What the host must have that serves an interface: one floating IP for each device.
pub(crate) async fn needed_by(
    connection: &mut AnyConnection,
    interface: InterfaceId,
) -> Result<Vec<Needed>, StoreError> {
    let query = sqlx::query(
        "SELECT MIN(f.address), l.interface FROM (
             SELECT address FROM floating_ips WHERE interface = $1
             UNION SELECT address FROM port_forwards WHERE interface = $1) n
         JOIN floating_ips f ON f.address = n.address JOIN pools l ON l.id = f.pool GROUP BY l.interface",
    );
    needed(connection, query.bind(interface.to_string())).await
}

/// What the host must have that serves what of a network is plugged in anywhere.
pub(crate) async fn needed_on(
    connection: &mut AnyConnection,
    network: NetworkId,
) -> Result<Vec<Needed>, StoreError> {
    let query = sqlx::query(
        "SELECT MIN(f.address), l.interface FROM (
             SELECT x.address FROM interfaces i JOIN floating_ips x ON x.interface = i.id
             WHERE i.network = $1 AND i.host IS NOT NULL
             UNION SELECT x.address FROM interfaces i JOIN port_forwards x ON x.interface = i.id
             WHERE i.network = $1 AND i.host IS NOT NULL) n
         JOIN floating_ips f ON f.address = n.address JOIN pools l ON l.id = f.pool GROUP BY l.interface",
    );
    needed(connection, query.bind(network.to_string())).await
}

/// Floating IPs that are on this host's public interface.
pub(crate) async fn on_public_interface(
    connection: &mut AnyConnection,
    host: HostId,
) -> Result<Vec<IpAddr>, StoreError> {
    let rows = sqlx::query(
        "SELECT f.address FROM (
             SELECT x.address FROM interfaces i JOIN networks n ON n.id = i.network
             JOIN floating_ips x ON x.interface = i.id
             WHERE n.network_type <> 'flat' AND ((n.multi_host = 1 AND i.host = $1)
                OR (n.multi_host = 0 AND n.gateway_host = $1 AND i.host IS NOT NULL))
             UNION SELECT x.address FROM interfaces i JOIN networks n ON n.id = i.network
             JOIN port_forwards x ON x.interface = i.id
             WHERE n.network_type <> 'flat' AND ((n.multi_host = 1 AND i.host = $1)
                OR (n.multi_host = 0 AND n.gateway_host = $1 AND i.host IS NOT NULL))) f
         JOIN floating_ips x ON x.address = f.address JOIN pools l ON l.id = x.pool
         WHERE l.interface IS NULL ORDER BY f.address LIMIT 10",
    )
    .bind(host.to_string())
    .fetch_all(connection)
    .await
    .during("look for floating IPs on a host")?;
    rows.iter().map(|row| Columns::of(row).address()).collect()
}

/// A fixed IP of an instance that a floating IP may be led to.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    /// The fixed IP.
    pub(crate) target: TargetRecord,
    /// Whether a host of ours routes for its network.
    pub(crate) is_routed: bool,
}

/// The fixed IPs of an instance.
pub(crate) async fn candidates(
    connection: &mut AnyConnection,
    instance: InstanceId,
) -> Result<Vec<Candidate>, StoreError> {
    let rows = sqlx::query(concat!(
        "SELECT CASE WHEN n.network_type = 'flat' THEN 0 ELSE 1 END, ",
        target_columns!(),
        " FROM (SELECT f.interface, f.address AS fixed FROM interfaces j JOIN fixed_ips f ON f.interface = j.id
                WHERE j.instance = $1) x",
        target_joins!(),
        "ORDER BY i.id, x.fixed"
    ))
    .bind(instance.to_string())
    .fetch_all(connection)
    .await
    .during("read an instance's fixed IPs")?;
    let mut candidates = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut columns = Columns::of(row);
        let is_routed = columns.flag()?;
        candidates.extend(target_from(&mut columns)?.map(|target| Candidate { target, is_routed }));
    }
    Ok(candidates)
}

/// Whether the interface is there and has the address.
pub(crate) async fn is_there(connection: &mut AnyConnection, target: Target) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT 1 FROM fixed_ips WHERE address = $1 AND interface = $2")
        .bind(address_text(target.fixed))
        .bind(target.interface.to_string())
        .fetch_optional(connection)
        .await
        .during("look for a fixed IP")?;
    Ok(row.is_some())
}

/// Lets it lead to this fixed IP from this revision on, or nowhere.
pub(crate) async fn set_target(
    write: &mut Write,
    address: IpAddr,
    target: Option<Target>,
) -> Result<(), StoreError> {
    let revision = write.revision().cast_signed();
    sqlx::query("UPDATE floating_ips SET interface = $2, fixed = $3, generation = $4 WHERE address = $1")
        .bind(address_text(address))
        .bind(target.map(|target| target.interface.to_string()))
        .bind(target.map(|target| address_text(target.fixed)))
        .bind(revision)
        .execute(write.connection())
        .await
        .during("lead a floating IP")?;
    Ok(())
}

/// Gives it back; no port of it may lead anywhere.
pub(crate) async fn release(write: &mut Write, address: IpAddr) -> Result<(), StoreError> {
    let at = write.at().as_microsecond();
    sqlx::query(
        "UPDATE floating_ips SET project = NULL, interface = NULL, fixed = NULL, auto_assigned = 0,
             reserved_at = NULL, released_at = $2 WHERE address = $1",
    )
    .bind(address_text(address))
    .bind(at)
    .execute(write.connection())
    .await
    .during("release a floating IP")?;
    Ok(())
}

async fn needed(
    connection: &mut AnyConnection,
    query: Query<'_, Any, AnyArguments>,
) -> Result<Vec<Needed>, StoreError> {
    let rows = query.fetch_all(connection).await.during("look which devices floating IPs are on")?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            Ok((columns.address()?, columns.optional_parse()?))
        })
        .collect()
}

/// Reads records in the order of their addresses, and what their ports do.
async fn read(
    connection: &mut AnyConnection,
    records: Query<'_, Any, AnyArguments>,
    forwards: Query<'_, Any, AnyArguments>,
) -> Result<Vec<FloatingIpRecord>, StoreError> {
    let rows = records.fetch_all(&mut *connection).await.during("read floating IPs")?;
    let mut records = gathered(&rows)?;
    if !records.is_empty() {
        put_forwards(connection, &mut records, forwards).await?;
    }
    Ok(records)
}

async fn put_forwards(
    connection: &mut AnyConnection,
    records: &mut [FloatingIpRecord],
    forwards: Query<'_, Any, AnyArguments>,
) -> Result<(), StoreError> {
    let rows = forwards.fetch_all(connection).await.during("read floating IPs' ports")?;
    for row in &rows {
        let mut columns = Columns::of(row);
        let address = columns.address()?;
        if let Ok(place) = records.binary_search_by_key(&address, |record| record.address) {
            records[place].forwards.push(forward::from_columns(&mut columns)?);
        }
    }
    Ok(())
}

fn gathered(rows: &[AnyRow]) -> Result<Vec<FloatingIpRecord>, StoreError> {
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            Ok(FloatingIpRecord {
                address: columns.address()?,
                pool_name: columns.parse()?,
                device: columns.optional_parse()?,
                project: columns.parse()?,
                project_name: columns.parse()?,
                auto_assigned: columns.flag()?,
                reserved_at: columns.time()?,
                generation: columns.count()?,
                target: target_from(&mut columns)?,
                forwards: Vec::new(),
            })
        })
        .collect()
}

/// Reads where a row leads; nothing if nowhere.
fn target_from(columns: &mut Columns<'_>) -> Result<Option<TargetRecord>, StoreError> {
    let (interface, fixed) = (columns.optional_parse()?, columns.optional_address()?);
    let (instance_name, network_name) = (columns.optional_parse()?, columns.optional_parse()?);
    let (host, host_name) = (columns.optional_parse()?, columns.optional_parse()?);
    let (public_interface, since, applied) = (columns.optional_parse()?, columns.count()?, columns.count()?);
    let target = interface.zip(fixed).map(|(interface, fixed)| Target { interface, fixed });
    let server = host.zip(host_name);
    let server = server.map(|(id, name)| Server { id, name, public_interface, since, applied });
    let names = instance_name.zip(network_name);
    let target = target.zip(names).map(|(target, (instance_name, network_name))| TargetRecord {
        target,
        instance_name,
        network_name,
        server,
    });
    Ok(target)
}
