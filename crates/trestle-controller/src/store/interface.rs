//! Interfaces, with their fixed IPs and what their host says of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe};
use trestle_api::InterfaceState;
use trestle_core::types::{
    AddressRange, HostId, InstanceId, InterfaceId, LinkName, Name, NetworkId, ProjectId,
};
use trestle_core::world::{Attachment, Interface, Security};

use crate::store::Write;
use crate::store::columns::{self, Columns, address_text};
use crate::store::error::{During, StoreError};
use crate::store::history;

/// An interface as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct InterfaceRecord {
    /// What bears on compiling.
    pub(crate) interface: Interface,
    /// The name of its network.
    pub(crate) network_name: Name,
    /// The names of its security groups, in order.
    pub(crate) group_names: Vec<Name>,
    /// What it is held to again when its port security is switched on, if that is off.
    pub(crate) kept: Security,
    /// The floating IPs that lead to it.
    pub(crate) floating_ips: Vec<IpAddr>,
    /// The name of the host it is plugged in on.
    pub(crate) host_name: Option<Name>,
    /// The name of the host it is about to be plugged in on instead.
    pub(crate) next_host_name: Option<Name>,
    /// The host it was plugged in on last; that is where it is, if it is plugged in.
    pub(crate) last_host: Option<HostId>,
    /// The revision at which it was plugged in or out last.
    pub(crate) generation: Option<u64>,
    /// Where it stands.
    pub(crate) state: InterfaceState,
}

macro_rules! columns {
    () => {
        "i.id, i.instance, v.project, i.network, n.name, i.mac, i.device, i.hostname, i.host, h.name, i.plug,
         i.next_host, x.name, i.next_plug, i.last_host, i.generation, COALESCE(o.generation_applied, 0),
         CASE WHEN EXISTS (SELECT 1 FROM observed_problems p
                           WHERE p.host = i.host AND p.key = 'link/' || i.device) THEN 1 ELSE 0 END,
         (SELECT string_agg(g.address, ',') FROM floating_ips g WHERE g.interface = i.id), i.port_security,
         (SELECT string_agg(m.security_group, ',') FROM interface_security_groups m WHERE m.interface = i.id),
         (SELECT string_agg(s.name, ',') FROM interface_security_groups m
          JOIN security_groups s ON s.id = m.security_group WHERE m.interface = i.id),
         (SELECT string_agg(a.pair, ' ') FROM interface_address_pairs a WHERE a.interface = i.id), f.address "
    };
}

macro_rules! joins {
    () => {
        "JOIN instances v ON v.id = i.instance
         JOIN networks n ON n.id = i.network
         LEFT JOIN hosts h ON h.id = i.host
         LEFT JOIN hosts x ON x.id = i.next_host
         LEFT JOIN observed_hosts o ON o.host = i.host
         LEFT JOIN fixed_ips f ON f.interface = i.id "
    };
}

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT ", columns!(), "FROM interfaces i ", joins!(), $rest, " ORDER BY i.id, f.address")
    };
}

/// Every interface there is.
pub(crate) async fn all(connection: &mut AnyConnection) -> Result<Vec<InterfaceRecord>, StoreError> {
    let rows = sqlx::query(select!("")).fetch_all(connection).await.during("read every interface")?;
    from_rows(&rows)
}

/// The interfaces that changed after this place in the change log, as they are now.
pub(crate) async fn changed_after(
    connection: &mut AnyConnection,
    last: i64,
) -> Result<Vec<InterfaceRecord>, StoreError> {
    let query = sqlx::query(select!(
        "WHERE i.id IN (SELECT entity FROM changes WHERE id > $1 AND entity_kind = 'interface')"
    ));
    let rows = query.bind(last).fetch_all(connection).await.during("read changed interfaces")?;
    from_rows(&rows)
}

/// An instance's interfaces, in the order they were made.
pub(crate) async fn of_instance(
    connection: &mut AnyConnection,
    instance: InstanceId,
) -> Result<Vec<InterfaceRecord>, StoreError> {
    let query = sqlx::query(select!("WHERE i.instance = $1")).bind(instance.to_string());
    let rows = query.fetch_all(connection).await.during("read an instance's interfaces")?;
    from_rows(&rows)
}

/// Whether the network has an interface of this host name.
pub(crate) async fn hostname_is_taken(
    connection: &mut AnyConnection,
    network: NetworkId,
    hostname: &Name,
) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT 1 FROM interfaces WHERE network = $1 AND hostname = $2")
        .bind(network.to_string())
        .bind(hostname.as_str())
        .fetch_optional(connection)
        .await
        .during("look for a host name on a network")?;
    Ok(row.is_some())
}

/// How many interfaces of the network are or are about to be plugged in on the host.
pub(crate) async fn ports(
    connection: &mut AnyConnection,
    host: HostId,
    network: NetworkId,
) -> Result<u64, StoreError> {
    let row = sqlx::query(
        "SELECT (SELECT COUNT(*) FROM interfaces WHERE host = $1 AND network = $2)
              + (SELECT COUNT(*) FROM interfaces WHERE next_host = $1 AND network = $2)",
    )
    .bind(host.to_string())
    .bind(network.to_string())
    .fetch_one(connection)
    .await
    .during("count a bridge's ports")?;
    Columns::of(&row).count()
}

/// How many of a project's interfaces are plugged in on a network.
pub(crate) async fn plugged_in(
    connection: &mut AnyConnection,
    project: ProjectId,
    network: NetworkId,
) -> Result<u64, StoreError> {
    let row = sqlx::query(
        "SELECT COUNT(*) FROM interfaces i JOIN instances v ON v.id = i.instance
         WHERE v.project = $1 AND i.network = $2 AND i.host IS NOT NULL",
    )
    .bind(project.to_string())
    .bind(network.to_string())
    .fetch_one(connection)
    .await
    .during("count what of a project is plugged in")?;
    Columns::of(&row).count()
}

/// How many instances of a project are plugged in on each host that has some.
pub(crate) async fn per_host(
    connection: &mut AnyConnection,
    project: ProjectId,
) -> Result<BTreeMap<HostId, u64>, StoreError> {
    let rows = sqlx::query(
        "SELECT i.host, COUNT(DISTINCT i.instance) FROM interfaces i JOIN instances v ON v.id = i.instance
         WHERE v.project = $1 AND i.host IS NOT NULL GROUP BY i.host",
    )
    .bind(project.to_string())
    .fetch_all(connection)
    .await
    .during("count a project's instances by host")?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            Ok((columns.parse()?, columns.count()?))
        })
        .collect()
}

/// Whose an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Within {
    /// A host's that routes for the network.
    Gateway(IpAddr),
    /// Another project's instance's.
    Other(IpAddr),
}

/// An address of the network in this range that a host or another project's instance has, if there is
/// one.
pub(crate) async fn within(
    connection: &mut AnyConnection,
    network: NetworkId,
    range: AddressRange,
    project: ProjectId,
) -> Result<Option<Within>, StoreError> {
    let row = sqlx::query(
        "SELECT f.address, CASE WHEN f.host IS NULL THEN 0 ELSE 1 END FROM fixed_ips f
         LEFT JOIN interfaces i ON i.id = f.interface LEFT JOIN instances v ON v.id = i.instance
         WHERE f.network = $1 AND f.address BETWEEN $2 AND $3
           AND (f.host IS NOT NULL OR v.project <> $4) ORDER BY f.address LIMIT 1",
    )
    .bind(network.to_string())
    .bind(address_text(range.first()))
    .bind(address_text(range.last()))
    .bind(project.to_string())
    .fetch_optional(connection)
    .await
    .during("look whose the addresses of a range are")?;
    row.map(|row| {
        let mut columns = Columns::of(&row);
        let address = columns.address()?;
        Ok(if columns.flag()? { Within::Gateway(address) } else { Within::Other(address) })
    })
    .transpose()
}

/// A network that has a device in its bridge on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UplinkHolder {
    /// Its name.
    pub(crate) network: Name,
    /// Whether something of it is or is about to be plugged in there; else the host routes for it.
    pub(crate) is_plugged_in: bool,
}

/// Another network that has this device in its bridge on the host, if one has.
pub(crate) async fn uplink_holder(
    connection: &mut AnyConnection,
    host: HostId,
    network: NetworkId,
    uplink: &LinkName,
) -> Result<Option<UplinkHolder>, StoreError> {
    let sql = "SELECT n.name, CASE WHEN EXISTS (SELECT 1 FROM interfaces i WHERE i.network = n.id
              AND (i.host = h.id OR i.next_host = h.id)) THEN 1 ELSE 0 END
        FROM networks n JOIN hosts h ON h.id = $1
        WHERE n.network_type = 'flat_dhcp' AND n.id <> $2
          AND COALESCE(h.flat_interface, n.bridge_interface) = $3
          AND EXISTS (SELECT 1 FROM interfaces i WHERE i.network = n.id AND (
              i.host = h.id OR i.next_host = h.id OR (i.host IS NOT NULL AND n.gateway_host = h.id)))
        LIMIT 1";
    let row = sqlx::query(sql)
        .bind(host.to_string())
        .bind(network.to_string())
        .bind(uplink.to_string())
        .fetch_optional(connection)
        .await
        .during("look who has an uplink")?;
    row.map(|row| {
        let mut columns = Columns::of(&row);
        Ok(UplinkHolder { network: columns.parse()?, is_plugged_in: columns.flag()? })
    })
    .transpose()
}

/// Puts a new one in, without its addresses and what it is held to, unless its MAC, device or host name
/// is taken: then nothing, and false.
pub(crate) async fn insert(
    connection: &mut AnyConnection,
    interface: &Interface,
) -> Result<bool, StoreError> {
    let sql = "INSERT INTO interfaces (id, instance, network, mac, device, hostname, port_security)
               VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING";
    let result = sqlx::query(sql)
        .bind(interface.id.to_string())
        .bind(interface.instance.to_string())
        .bind(interface.network.to_string())
        .bind(interface.mac.to_string())
        .bind(interface.device.as_str())
        .bind(interface.hostname.as_str())
        .bind(i64::from(interface.security.is_some()))
        .execute(connection)
        .await
        .during("insert an interface")?;
    Ok(result.rows_affected() == 1)
}

/// Writes down what it is held to, in place of what it was, or with port security off what it will be when
/// that is on again.
pub(crate) async fn set_security(
    connection: &mut AnyConnection,
    id: InterfaceId,
    security: Result<&Security, &Security>,
) -> Result<(), StoreError> {
    for sql in [
        "DELETE FROM interface_security_groups WHERE interface = $1",
        "DELETE FROM interface_address_pairs WHERE interface = $1",
    ] {
        let query = sqlx::query(sql).bind(id.to_string());
        query.execute(&mut *connection).await.during("take what an interface is held to from it")?;
    }
    sqlx::query("UPDATE interfaces SET port_security = $2 WHERE id = $1")
        .bind(id.to_string())
        .bind(i64::from(security.is_ok()))
        .execute(&mut *connection)
        .await
        .during("change whether an interface is guarded")?;
    let (Ok(security) | Err(security)) = security;
    insert_security(connection, id, Some(security)).await
}

/// Writes down what an interface is held to that was held to nothing.
pub(crate) async fn insert_security(
    connection: &mut AnyConnection,
    id: InterfaceId,
    security: Option<&Security>,
) -> Result<(), StoreError> {
    let Some(security) = security else { return Ok(()) };
    let groups = security.groups.iter().map(ToString::to_string).collect();
    let pairs = security.address_pairs.iter().map(ToString::to_string).collect();
    let tables: [(&str, Vec<String>); 2] = [
        ("interface_security_groups (interface, security_group)", groups),
        ("interface_address_pairs (interface, pair)", pairs),
    ];
    for (table, values) in tables {
        if values.is_empty() {
            continue;
        }
        let sql = format!("INSERT INTO {table} VALUES {}", columns::rows(values.len(), 2));
        let query = sqlx::query(AssertSqlSafe(sql));
        let query = values.into_iter().fold(query, |query, value| query.bind(id.to_string()).bind(value));
        query.execute(&mut *connection).await.during("write down what an interface is held to")?;
    }
    Ok(())
}

/// Notes where it is plugged in from this revision on, if anywhere, and where it is about to be
/// instead. What begins or ends to serve it by that is kept until its addresses are free again.
pub(crate) async fn place(
    write: &mut Write,
    before: &InterfaceRecord,
    attachment: Option<&Attachment>,
    moving_to: Option<&Attachment>,
) -> Result<(), StoreError> {
    let revision = write.revision().cast_signed();
    let InterfaceRecord { interface, generation, .. } = before;
    let is_same = interface.attachment.as_ref() == attachment;
    let (host, plug) = place_columns(attachment);
    let (next_host, next_plug) = place_columns(moving_to);
    sqlx::query(
        "UPDATE interfaces SET host = $2, plug = $3, next_host = $4, next_plug = $5, generation = $6,
             last_host = COALESCE($2, last_host)
         WHERE id = $1",
    )
    .bind(interface.id.to_string())
    .bind(host)
    .bind(plug)
    .bind(next_host)
    .bind(next_plug)
    .bind(if is_same { generation.map(u64::cast_signed) } else { Some(revision) })
    .execute(write.connection())
    .await
    .during("plug an interface")?;
    note_hosts(write, interface, [attachment, moving_to]).await?;
    if is_same { Ok(()) } else { history::note_interface(write, interface.id).await }
}

/// Notes the hosts on which it gets or loses its device at this revision, and the one gateway where
/// it is plugged in or out.
async fn note_hosts(
    write: &mut Write,
    before: &Interface,
    after: [Option<&Attachment>; 2],
) -> Result<(), StoreError> {
    let revision = write.revision().cast_signed();
    let hosts = |places: [Option<&Attachment>; 2]| places.map(|place| place.map(|place| place.host));
    let (old, new) = (hosts([before.attachment.as_ref(), before.moving_to.as_ref()]), hosts(after));
    let gone = old.map(|host| host.filter(|_| !new.contains(&host)));
    let come = new.map(|host| host.filter(|_| !old.contains(&host)));
    let at_gateway = before.attachment.is_some() != after[0].is_some();
    let query = sqlx::query(
        "INSERT INTO interface_hosts (interface, host, generation)
         SELECT $1, h.id, $2 FROM hosts h
         WHERE h.id IN ($3, $4, $5, $6)
            OR ($7 = 1 AND h.id = (SELECT gateway_host FROM networks WHERE id = $8))
         ON CONFLICT (interface, host) DO UPDATE SET generation = excluded.generation",
    );
    let query = query.bind(before.id.to_string()).bind(revision);
    let changed = gone.into_iter().chain(come).map(|host| host.map(|id| id.to_string()));
    let query = changed.fold(query, |query, host| query.bind(host));
    query
        .bind(i64::from(at_gateway))
        .bind(before.network.to_string())
        .execute(write.connection())
        .await
        .during("note who serves an interface")?;
    Ok(())
}

fn place_columns(place: Option<&Attachment>) -> (Option<String>, Option<String>) {
    let plug = |place: &Attachment| serde_json::json!(place.plug).to_string();
    (place.map(|place| place.host.to_string()), place.map(plug))
}

/// Takes it out; its addresses must have been released.
pub(crate) async fn delete(connection: &mut AnyConnection, id: InterfaceId) -> Result<(), StoreError> {
    let query = sqlx::query("DELETE FROM interfaces WHERE id = $1").bind(id.to_string());
    query.execute(connection).await.during("delete an interface")?;
    Ok(())
}

/// One row for each address; rows of one interface are together.
fn from_rows(rows: &[AnyRow]) -> Result<Vec<InterfaceRecord>, StoreError> {
    let mut records: Vec<InterfaceRecord> = Vec::with_capacity(rows.len());
    for row in rows {
        let record = from_row(row)?;
        match records.last_mut() {
            Some(last) if last.interface.id == record.interface.id => {
                last.interface.addresses.extend(record.interface.addresses);
            }
            _ => records.push(record),
        }
    }
    Ok(records)
}

fn from_row(row: &AnyRow) -> Result<InterfaceRecord, StoreError> {
    let mut columns = Columns::of(row);
    let (id, instance, project) = (columns.parse()?, columns.parse()?, columns.parse()?);
    let (network, network_name) = (columns.parse()?, columns.parse()?);
    let (mac, device, hostname) = (columns.parse()?, columns.parse()?, columns.parse()?);
    let (host, host_name) = (columns.optional_parse()?, columns.optional_parse()?);
    let plug = columns.optional_json()?;
    let (next_host, next_host_name): (Option<HostId>, _) =
        (columns.optional_parse()?, columns.optional_parse()?);
    let next_plug = columns.optional_json()?;
    let last_host = columns.optional_parse()?;
    let generation = columns.optional_number()?.map(i64::cast_unsigned);
    let (applied, failed) = (columns.count()?, columns.flag()?);
    let attachment = host.zip(plug).map(|(host, plug)| Attachment { host, plug });
    let moving_to = next_host.zip(next_plug).map(|(host, plug)| Attachment { host, plug });
    let state = match &attachment {
        None => InterfaceState::Detached,
        Some(_) if generation.is_some_and(|generation| applied < generation) => InterfaceState::Pending,
        Some(_) if failed => InterfaceState::Failed,
        Some(_) => InterfaceState::Ready,
    };
    let floating_ips = columns.addresses()?;
    let has_security = columns.flag()?;
    let groups = columns.parse_list(',')?;
    let group_names: BTreeSet<Name> = columns.parse_list(',')?;
    let held = Security { groups, address_pairs: columns.parse_list(' ')? };
    let (security, kept) = if has_security { (Some(held), Security::default()) } else { (None, held) };
    let addresses = columns.optional_address()?.into_iter().collect();
    let interface = Interface {
        id,
        instance,
        project,
        network,
        mac,
        device,
        hostname,
        addresses,
        security,
        attachment,
        moving_to,
    };
    Ok(InterfaceRecord {
        interface,
        network_name,
        group_names: group_names.into_iter().filter(|_| has_security).collect(),
        kept,
        floating_ips,
        host_name,
        next_host_name,
        last_host,
        generation,
        state,
    })
}
