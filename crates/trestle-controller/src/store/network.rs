//! Networks.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use trestle_core::alloc::Layout;
use trestle_core::types::{Cidr, LinkName, Mac, Mtu, Name, NetworkId, ProjectId};
use trestle_core::world::{Network, NetworkType};

use crate::store::columns::Columns;
use crate::store::error::{During, StoreError};

/// A network as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct NetworkRecord {
    /// What bears on compiling.
    pub(crate) network: Network,
    /// The name of the project that owns it.
    pub(crate) project_name: Option<Name>,
    /// Which addresses it has.
    pub(crate) layout: Layout,
    /// The first address that was never given out unasked.
    pub(crate) next_address: Option<Ipv4Addr>,
    /// When it was made.
    pub(crate) created_at: Timestamp,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT n.id, n.name, n.network_type, n.project, p.name, n.cidr, n.gateway, n.dhcp_start, n.next_address,
                    n.bridge, n.bridge_interface, n.bridge_mac, n.dns, n.domain, n.mtu, n.dhcp_lease_time, n.created_at
             FROM networks n LEFT JOIN projects p ON p.id = n.project ",
            $rest
        )
    };
}

/// The network of this id or name.
pub(crate) async fn find(
    connection: &mut AnyConnection,
    reference: &str,
) -> Result<Option<NetworkRecord>, StoreError> {
    let row = sqlx::query(select!("WHERE n.id = $1 OR n.name = $1"))
        .bind(reference)
        .fetch_optional(connection)
        .await
        .during("read a network")?;
    row.as_ref().map(from_row).transpose()
}

/// Which networks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter<'a> {
    /// Of this name.
    pub(crate) name: Option<&'a str>,
    /// That both of these projects can use: their own and the shared ones.
    pub(crate) usable_by: [Option<ProjectId>; 2],
}

/// The networks after this id.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    filter: &Filter<'_>,
    after: &str,
    limit: i64,
) -> Result<Vec<NetworkRecord>, StoreError> {
    let [first, second] = filter.usable_by.map(|project| project.map(|id| id.to_string()));
    let rows = sqlx::query(select!(
        "WHERE n.id > $1 AND (CAST($2 AS TEXT) IS NULL OR n.name = $2)
           AND (CAST($3 AS TEXT) IS NULL OR n.project IS NULL OR n.project = $3)
           AND (CAST($4 AS TEXT) IS NULL OR n.project IS NULL OR n.project = $4)
         ORDER BY n.id LIMIT $5"
    ))
    .bind(after)
    .bind(filter.name)
    .bind(first)
    .bind(second)
    .bind(limit)
    .fetch_all(connection)
    .await
    .during("list networks")?;
    rows.iter().map(from_row).collect()
}

/// The networks an instance of this project joins by default: its own, or the shared ones.
pub(crate) async fn defaults(
    connection: &mut AnyConnection,
    project: ProjectId,
) -> Result<Vec<NetworkRecord>, StoreError> {
    let own = sqlx::query(select!("WHERE n.project = $1 ORDER BY n.id"))
        .bind(project.to_string())
        .fetch_all(&mut *connection)
        .await
        .during("list a project's networks")?;
    if !own.is_empty() {
        return own.iter().map(from_row).collect();
    }
    let shared = sqlx::query(select!("WHERE n.project IS NULL ORDER BY n.id"));
    let shared = shared.fetch_all(connection).await.during("list shared networks")?;
    shared.iter().map(from_row).collect()
}

/// What a new network would collide with, by name of the other network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Collision {
    /// It has the name.
    Name,
    /// It has the bridge.
    Bridge(Name),
    /// It has some of the addresses.
    Range(Name, Cidr),
}

/// Everything that a new network of this name, bridge and range collides with.
pub(crate) async fn collisions(
    connection: &mut AnyConnection,
    (name, bridge, cidr): (&Name, &LinkName, Cidr),
) -> Result<Vec<Collision>, StoreError> {
    let (first, last) = range(cidr);
    let rows = sqlx::query(
        "SELECT name, bridge, cidr, CASE WHEN first_address <= $4 AND last_address >= $3 THEN 1 ELSE 0 END
         FROM networks
         WHERE name = $1 OR bridge = $2 OR (first_address <= $4 AND last_address >= $3) ORDER BY id LIMIT 10",
    )
    .bind(name.as_str())
    .bind(bridge.as_str())
    .bind(first)
    .bind(last)
    .fetch_all(connection)
    .await
    .during("look for networks in the way")?;
    let mut collisions = Vec::new();
    for row in &rows {
        let mut columns = Columns::of(row);
        let (other, other_bridge): (Name, LinkName) = (columns.parse()?, columns.parse()?);
        let (other_cidr, overlaps) = (columns.parse()?, columns.flag()?);
        if other == *name {
            collisions.push(Collision::Name);
        }
        if other_bridge == *bridge {
            collisions.push(Collision::Bridge(other.clone()));
        }
        if overlaps {
            collisions.push(Collision::Range(other, other_cidr));
        }
    }
    Ok(collisions)
}

/// Puts a new one in.
pub(crate) async fn insert(connection: &mut AnyConnection, record: &NetworkRecord) -> Result<(), StoreError> {
    let NetworkRecord { network, layout, .. } = record;
    let (first, last) = range(network.cidr);
    let dns: Vec<String> = network.dns.iter().map(ToString::to_string).collect();
    sqlx::query(
        "INSERT INTO networks (id, name, network_type, project, cidr, first_address, last_address, gateway,
             dhcp_start, next_address, bridge, bridge_interface, bridge_mac, dns, domain, mtu, dhcp_lease_time, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)",
    )
    .bind(network.id.to_string())
    .bind(network.name.as_str())
    .bind(type_name(network.network_type))
    .bind(network.project.map(|id| id.to_string()))
    .bind(network.cidr.to_string())
    .bind(first)
    .bind(last)
    .bind(number(layout.gateway()))
    .bind(number(layout.dhcp_start()))
    .bind(record.next_address.map(number))
    .bind(network.bridge.as_str())
    .bind(network.bridge_interface.as_ref().map(ToString::to_string))
    .bind(network.bridge_mac.to_string())
    .bind(dns.join(" "))
    .bind(network.domain.to_string())
    .bind(i64::from(network.mtu.bytes()))
    .bind(i64::from(network.dhcp_lease_time))
    .bind(record.created_at.as_microsecond())
    .execute(connection)
    .await
    .during("insert a network")?;
    Ok(())
}

/// Takes it out, with the addresses that were used.
pub(crate) async fn delete(connection: &mut AnyConnection, id: NetworkId) -> Result<(), StoreError> {
    for sql in ["DELETE FROM fixed_ips WHERE network = $1", "DELETE FROM networks WHERE id = $1"] {
        let query = sqlx::query(sql).bind(id.to_string());
        query.execute(&mut *connection).await.during("delete a network")?;
    }
    Ok(())
}

/// What keeps it from being deleted: the names of some instances on it.
pub(crate) async fn uses(connection: &mut AnyConnection, id: NetworkId) -> Result<Vec<String>, StoreError> {
    let rows =
        sqlx::query("SELECT 'instance `' || hostname || '`' FROM interfaces WHERE network = $1 LIMIT 10")
            .bind(id.to_string())
            .fetch_all(connection)
            .await
            .during("look for a network's interfaces")?;
    rows.iter().map(|row| Ok(Columns::of(row).text()?.to_owned())).collect()
}

/// Whether a bridge or an interface has this MAC.
pub(crate) async fn mac_is_taken(connection: &mut AnyConnection, mac: Mac) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "SELECT CASE WHEN EXISTS (SELECT 1 FROM interfaces WHERE mac = $1)
                       OR EXISTS (SELECT 1 FROM networks WHERE bridge_mac = $1) THEN 1 ELSE 0 END",
    )
    .bind(mac.to_string())
    .fetch_one(connection)
    .await
    .during("look for a MAC")?;
    Columns::of(&row).flag()
}

/// An address as it is kept.
pub(crate) fn number(address: Ipv4Addr) -> i64 {
    u32::from(address).into()
}

/// The type's name on the wire and in the database.
pub(crate) fn type_name(network_type: NetworkType) -> &'static str {
    match network_type {
        NetworkType::FlatDhcp => "flat_dhcp",
    }
}

fn range(cidr: Cidr) -> (i64, i64) {
    (number(cidr.net().network()), number(cidr.net().broadcast()))
}

fn from_row(row: &AnyRow) -> Result<NetworkRecord, StoreError> {
    let mut columns = Columns::of(row);
    let (id, name) = (columns.parse()?, columns.parse()?);
    let network_type = match columns.text()? {
        "flat_dhcp" => NetworkType::FlatDhcp,
        other => return Err(columns.corrupt(other)),
    };
    let (project, project_name) = (columns.optional_parse()?, columns.optional_parse()?);
    let (cidr, gateway, dhcp_start) = (columns.parse()?, columns.address()?, columns.address()?);
    let layout = Layout::new(cidr, Some(gateway), Some(dhcp_start)).map_err(|_| columns.corrupt(cidr))?;
    let next_address = columns.optional_address()?;
    let (bridge, bridge_interface, bridge_mac) =
        (columns.parse()?, columns.optional_parse()?, columns.parse()?);
    let dns = columns.text()?;
    let dns: Result<Vec<Ipv4Addr>, _> = dns.split_whitespace().map(str::parse).collect();
    let dns = dns.map_err(|_| columns.corrupt("dns"))?;
    let domain = columns.parse()?;
    let mtu = columns.number()?;
    let mtu = u32::try_from(mtu).ok().and_then(|mtu| Mtu::try_from(mtu).ok());
    let mtu = mtu.ok_or_else(|| columns.corrupt("mtu"))?;
    let lease_time = columns.number()?;
    let dhcp_lease_time = u32::try_from(lease_time).map_err(|_| columns.corrupt(lease_time))?;
    let network = Network {
        id,
        name,
        network_type,
        project,
        cidr,
        gateway,
        bridge,
        bridge_interface,
        bridge_mac,
        dns,
        domain,
        mtu,
        dhcp_lease_time,
    };
    Ok(NetworkRecord { network, project_name, layout, next_address, created_at: columns.time()? })
}
