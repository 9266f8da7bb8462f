//! Networks, with their subnets, reserved ranges and gateways.

mod collision;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe};
use trestle_api::network::ReservedRange;
use trestle_core::alloc::Layout;
use trestle_core::types::{Family, HostId, Mac, Name, NetworkId, PoolId, ProjectId, VlanId};
use trestle_core::world::{Gateways, Ipv6Mode, Network, NetworkType};

use crate::store::Write;
use crate::store::columns::{self, Columns};
use crate::store::error::{During, StoreError};
use crate::store::subnet::{self, SubnetRecord};

pub(crate) use collision::{Collision, collisions, subnets_in, taken_ranges};

/// How many rows one statement inserts.
const ROWS: usize = 50;

/// A network as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct NetworkRecord {
    /// What bears on compiling.
    pub(crate) network: Network,
    /// The name of the project that owns it.
    pub(crate) project_name: Option<Name>,
    /// The name of the one host that routes for it.
    pub(crate) gateway_host_name: Option<Name>,
    /// Which addresses it has, IPv4's first.
    pub(crate) subnets: Vec<SubnetRecord>,
    /// Addresses that no instance is given, in order.
    pub(crate) reserved: Vec<ReservedRange>,
    /// The pool of which each new interface on it gets a floating IP.
    pub(crate) auto_assign: Option<(PoolId, Name)>,
    /// When it was made.
    pub(crate) created_at: Timestamp,
}

impl NetworkRecord {
    /// A new one with these addresses, none of which was ever given out.
    pub(crate) fn new(
        mut network: Network,
        (project_name, gateway_host_name): (Option<Name>, Option<Name>),
        layouts: impl IntoIterator<Item = Layout>,
        reserved: Vec<ReservedRange>,
        created_at: Timestamp,
    ) -> Self {
        let ranges = || reserved.iter().map(|reserved| reserved.range);
        let subnet = |layout: Layout| {
            let layout = layout.reserving(ranges());
            SubnetRecord { next_address: layout.first(), layout }
        };
        let subnets: Vec<SubnetRecord> = layouts.into_iter().map(subnet).collect();
        put_subnets(&mut network, &subnets);
        let auto_assign = None;
        Self { network, project_name, gateway_host_name, subnets, reserved, auto_assign, created_at }
    }

    /// Its addresses in this family.
    pub(crate) fn subnet(&self, family: Family) -> Option<&SubnetRecord> {
        self.subnets.iter().find(|subnet| subnet.layout.cidr().family() == family)
    }

    /// The addresses among which this one is.
    pub(crate) fn subnet_of(&self, address: IpAddr) -> Option<&SubnetRecord> {
        self.subnets.iter().find(|subnet| subnet.layout.cidr().contains(address))
    }

    /// Why no instance is given this address.
    pub(crate) fn reservation_of(&self, address: IpAddr) -> Option<&ReservedRange> {
        self.reserved.iter().find(|reserved| reserved.range.contains(address))
    }
}

// One row for a network. Its reserved ranges and its hosts' own addresses come as JSON texts, so that
// any number of networks is one statement.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT n.id, n.name, n.network_type, n.project, p.name, n.vlan, n.multi_host, n.share_address,
                    n.gateway_host, g.name, n.ipv6_mode, n.bridge, n.bridge_interface, n.bridge_mac,
                    n.dns, n.domain, n.mtu, n.dhcp_lease_time, n.dhcp_options, n.ether_types, n.created_at,
                    a.id, a.name,
                    CASE WHEN n.multi_host = 1 AND n.share_address = 0 THEN
                        (SELECT '[' || string_agg('[\"' || f.host || '\",\"' || f.address || '\"]', ',') || ']'
                         FROM fixed_ips f WHERE f.network = n.id AND f.host IS NOT NULL) END,
                    (SELECT '[' || string_agg('[\"' || r.first_address || '\",\"' || r.last_address || '\",'
                                              || r.reason || ']', ',') || ']'
                     FROM reserved_ranges r WHERE r.network = n.id),
                    s.cidr, s.gateway, s.vpn, s.allowed_first, s.allowed_last, s.dhcp_start, s.next_address,
                    t.cidr, t.gateway, t.vpn, t.allowed_first, t.allowed_last, t.dhcp_start, t.next_address
             FROM networks n LEFT JOIN projects p ON p.id = n.project
             LEFT JOIN hosts g ON g.id = n.gateway_host
             LEFT JOIN pools a ON a.id = n.auto_assign
             LEFT JOIN subnets s ON s.network = n.id AND s.family = 4
             LEFT JOIN subnets t ON t.network = n.id AND t.family = 6 ",
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
    /// That this one host routes for.
    pub(crate) gateway_host: Option<HostId>,
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
           AND (CAST($3 AS TEXT) IS NULL OR n.project = $3 OR (n.project IS NULL AND n.vlan IS NULL))
           AND (CAST($4 AS TEXT) IS NULL OR n.project = $4 OR (n.project IS NULL AND n.vlan IS NULL))
           AND (CAST($5 AS TEXT) IS NULL OR n.gateway_host = $5)
         ORDER BY n.id LIMIT $6"
    ))
    .bind(after)
    .bind(filter.name)
    .bind(first)
    .bind(second)
    .bind(filter.gateway_host.map(|id| id.to_string()))
    .bind(limit)
    .fetch_all(connection)
    .await
    .during("list networks")?;
    rows.iter().map(from_row).collect()
}

/// The networks that changed after this place in the change log, as they are now.
pub(crate) async fn changed_after(
    connection: &mut AnyConnection,
    last: i64,
) -> Result<Vec<NetworkRecord>, StoreError> {
    let query = sqlx::query(select!(
        "WHERE n.id IN (SELECT entity FROM changes WHERE id > $1 AND entity_kind = 'network')"
    ));
    let rows = query.bind(last).fetch_all(connection).await.during("read changed networks")?;
    rows.iter().map(from_row).collect()
}

/// A project's own networks.
pub(crate) async fn owned(
    connection: &mut AnyConnection,
    project: ProjectId,
) -> Result<Vec<NetworkRecord>, StoreError> {
    let query = sqlx::query(select!("WHERE n.project = $1 ORDER BY n.id")).bind(project.to_string());
    let rows = query.fetch_all(connection).await.during("list a project's networks")?;
    rows.iter().map(from_row).collect()
}

/// The networks that every project can use.
pub(crate) async fn shared(connection: &mut AnyConnection) -> Result<Vec<NetworkRecord>, StoreError> {
    let query = sqlx::query(select!("WHERE n.project IS NULL AND n.vlan IS NULL ORDER BY n.id"));
    let rows = query.fetch_all(connection).await.during("list shared networks")?;
    rows.iter().map(from_row).collect()
}

/// The networks that this host is the one gateway of.
pub(crate) async fn of_gateway(
    connection: &mut AnyConnection,
    host: HostId,
) -> Result<Vec<NetworkRecord>, StoreError> {
    let query = sqlx::query(select!("WHERE n.gateway_host = $1 ORDER BY n.id")).bind(host.to_string());
    let rows = query.fetch_all(connection).await.during("list a gateway's networks")?;
    rows.iter().map(from_row).collect()
}

/// The networks that stand on this host: something of theirs is or is about to be plugged in there,
/// or the host routes for what is elsewhere.
pub(crate) async fn on_host(
    connection: &mut AnyConnection,
    host: HostId,
) -> Result<Vec<NetworkRecord>, StoreError> {
    let query = sqlx::query(select!(
        "WHERE EXISTS (SELECT 1 FROM interfaces i WHERE i.network = n.id AND (
             i.host = $1 OR i.next_host = $1 OR (i.host IS NOT NULL AND n.gateway_host = $1)))
         ORDER BY n.id"
    ));
    let rows = query.bind(host.to_string()).fetch_all(connection).await.during("list a host's networks")?;
    rows.iter().map(from_row).collect()
}

/// Whether it has an interface plugged in anywhere.
pub(crate) async fn is_in_use(connection: &mut AnyConnection, id: NetworkId) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT 1 FROM interfaces WHERE network = $1 AND host IS NOT NULL LIMIT 1")
        .bind(id.to_string())
        .fetch_optional(connection)
        .await
        .during("look whether a network is in use")?;
    Ok(row.is_some())
}

/// Whether an interface of it is or is about to be plugged in on another host than this one, its VPN's
/// aside: that goes where the gateway goes.
pub(crate) async fn is_on_others(
    connection: &mut AnyConnection,
    id: NetworkId,
    host: HostId,
) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM interfaces i WHERE i.network = $1 AND (i.host <> $2 OR i.next_host <> $2)
               AND NOT EXISTS (SELECT 1 FROM vpns x WHERE x.interface = i.id) LIMIT 1";
    let row = sqlx::query(sql)
        .bind(id.to_string())
        .bind(host.to_string())
        .fetch_optional(connection)
        .await
        .during("look which hosts have a network")?;
    Ok(row.is_some())
}

/// Makes the free VLAN network with the lowest id the project's, if there is one.
pub(crate) async fn claim_next(
    connection: &mut AnyConnection,
    project: ProjectId,
) -> Result<Option<NetworkRecord>, StoreError> {
    let row = sqlx::query(
        "UPDATE networks SET project = $1 WHERE id = (
             SELECT id FROM networks WHERE project IS NULL AND vlan IS NOT NULL ORDER BY vlan LIMIT 1
         ) RETURNING id",
    )
    .bind(project.to_string())
    .fetch_optional(&mut *connection)
    .await
    .during("claim a network")?;
    match row {
        Some(row) => find(connection, Columns::of(&row).text()?).await,
        None => Ok(None),
    }
}

/// Makes it this project's, or nobody's.
pub(crate) async fn set_project(
    connection: &mut AnyConnection,
    id: NetworkId,
    project: Option<ProjectId>,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE networks SET project = $2 WHERE id = $1")
        .bind(id.to_string())
        .bind(project.map(|id| id.to_string()))
        .execute(connection)
        .await
        .during("change a network's owner")?;
    Ok(())
}

/// Makes this host the one that routes for it, or none. The host before and this one are among
/// those that may serve the addresses of what is plugged in now.
pub(crate) async fn set_gateway_host(
    write: &mut Write,
    record: &NetworkRecord,
    host: Option<HostId>,
) -> Result<(), StoreError> {
    let (id, revision) = (record.network.id.to_string(), write.revision());
    sqlx::query("UPDATE networks SET gateway_host = $2 WHERE id = $1")
        .bind(id.as_str())
        .bind(host.map(|host| host.to_string()))
        .execute(write.connection())
        .await
        .during("change a network's gateway")?;
    sqlx::query(
        "INSERT INTO interface_hosts (interface, host, generation)
         SELECT i.id, h.id, $2 FROM interfaces i, hosts h
         WHERE i.network = $1 AND i.host IS NOT NULL AND h.id IN ($3, $4)
         ON CONFLICT (interface, host) DO UPDATE SET generation = excluded.generation",
    )
    .bind(id)
    .bind(revision.cast_signed())
    .bind(record.network.gateway_host().map(|host| host.to_string()))
    .bind(host.map(|host| host.to_string()))
    .execute(write.connection())
    .await
    .during("note what a network's gateways serve")?;
    Ok(())
}

/// Changes what guests are told and may send, and the device it leads out by.
pub(crate) async fn update(
    connection: &mut AnyConnection,
    network: &Network,
    auto_assign: Option<PoolId>,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE networks SET bridge_interface = $2, dns = $3, domain = $4, mtu = $5, dhcp_options = $6,
             auto_assign = $7, ether_types = $8
         WHERE id = $1",
    )
    .bind(network.id.to_string())
    .bind(network.bridge_interface.as_ref().map(ToString::to_string))
    .bind(serde_json::json!(network.dns).to_string())
    .bind(network.domain.to_string())
    .bind(i64::from(network.mtu.bytes()))
    .bind(serde_json::json!(network.dhcp_options).to_string())
    .bind(auto_assign.map(|id| id.to_string()))
    .bind(serde_json::json!(network.ether_types).to_string())
    .execute(connection)
    .await
    .during("change a network")?;
    Ok(())
}

/// The VLAN ids from this one on that no network has, in order.
pub(crate) async fn free_vlans(
    connection: &mut AnyConnection,
    from: VlanId,
) -> Result<Vec<VlanId>, StoreError> {
    let rows = sqlx::query("SELECT vlan FROM networks WHERE vlan >= $1")
        .bind(i64::from(from.number()))
        .fetch_all(connection)
        .await
        .during("look which VLANs are taken")?;
    let taken: BTreeSet<Option<VlanId>> =
        rows.iter().map(|row| vlan_from(&mut Columns::of(row))).collect::<Result<_, _>>()?;
    let all = std::iter::successors(Some(from), |vlan| vlan.next());
    Ok(all.filter(|vlan| !taken.contains(&Some(*vlan))).collect())
}

/// Every MAC of a bridge, and of interfaces those under the bridges' prefix.
pub(crate) async fn bridge_macs(connection: &mut AnyConnection) -> Result<BTreeSet<Mac>, StoreError> {
    let rows = sqlx::query(
        "SELECT bridge_mac FROM networks UNION SELECT mac FROM interfaces WHERE mac LIKE 'fe:16:3e:%'",
    )
    .fetch_all(connection)
    .await
    .during("read the MACs of bridges")?;
    rows.iter().map(|row| Columns::of(row).parse()).collect()
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

/// Puts new ones in, with their subnets and reserved ranges.
pub(crate) async fn insert(
    connection: &mut AnyConnection,
    records: &[NetworkRecord],
) -> Result<(), StoreError> {
    for chunk in records.chunks(ROWS) {
        let sql = format!(
            "INSERT INTO networks (id, name, network_type, project, vlan, multi_host, share_address, gateway_host,
                 ipv6_mode, bridge, bridge_interface, bridge_mac, dns, domain, mtu, dhcp_lease_time, dhcp_options,
                 created_at, auto_assign, ether_types) VALUES {}",
            columns::rows(chunk.len(), 20)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for NetworkRecord { network, created_at, auto_assign, .. } in chunk {
            let (multi_host, share_address) = gateway_flags(&network.gateways);
            query = query
                .bind(network.id.to_string())
                .bind(network.name.as_str())
                .bind(type_name(network.network_type))
                .bind(network.project.map(|id| id.to_string()))
                .bind(network.vlan.map(|vlan| i64::from(vlan.number())))
                .bind(i64::from(multi_host))
                .bind(i64::from(share_address))
                .bind(network.gateway_host().map(|id| id.to_string()))
                .bind(mode_name(network.ipv6_mode))
                .bind(network.bridge.as_str())
                .bind(network.bridge_interface.as_ref().map(ToString::to_string))
                .bind(network.bridge_mac.to_string())
                .bind(serde_json::json!(network.dns).to_string())
                .bind(network.domain.to_string())
                .bind(i64::from(network.mtu.bytes()))
                .bind(i64::from(network.dhcp_lease_time))
                .bind(serde_json::json!(network.dhcp_options).to_string())
                .bind(created_at.as_microsecond())
                .bind(auto_assign.as_ref().map(|(id, _)| id.to_string()))
                .bind(serde_json::json!(network.ether_types).to_string());
        }
        query.execute(&mut *connection).await.during("insert networks")?;
    }
    subnet::insert(connection, records).await
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
    let rows = sqlx::query("SELECT hostname FROM interfaces WHERE network = $1 ORDER BY hostname LIMIT 10")
        .bind(id.to_string())
        .fetch_all(connection)
        .await
        .during("look for a network's interfaces")?;
    rows.iter().map(|row| Ok(format!("instance `{}`", Columns::of(row).text()?))).collect()
}

/// The type's name on the wire and in the database.
pub(crate) fn type_name(network_type: NetworkType) -> &'static str {
    match network_type {
        NetworkType::Flat => "flat",
        NetworkType::FlatDhcp => "flat_dhcp",
        NetworkType::Vlan => "vlan",
    }
}

fn mode_name(mode: Ipv6Mode) -> &'static str {
    match mode {
        Ipv6Mode::Dhcpv6 => "dhcpv6",
        Ipv6Mode::Slaac => "slaac",
    }
}

/// Whether every host routes, and whether all do under one address.
fn gateway_flags(gateways: &Gateways) -> (bool, bool) {
    match gateways {
        Gateways::One(_) => (false, false),
        Gateways::Shared => (true, true),
        Gateways::PerHost(_) => (true, false),
    }
}

fn put_subnets(network: &mut Network, subnets: &[SubnetRecord]) {
    for subnet in subnets {
        match subnet.layout.cidr().family() {
            Family::Ipv4 => network.ipv4 = Some(subnet.subnet()),
            Family::Ipv6 => network.ipv6 = Some(subnet.subnet()),
        }
    }
}

fn vlan_from(columns: &mut Columns<'_>) -> Result<Option<VlanId>, StoreError> {
    let number = columns.optional_number()?;
    let vlan = |number: i64| u32::try_from(number).ok().and_then(|number| VlanId::try_from(number).ok());
    number.map(|number| vlan(number).ok_or_else(|| columns.corrupt(number))).transpose()
}

/// Reads the addresses of hosts' own that SQL joined into one JSON text, in order.
fn own_addresses(columns: &mut Columns<'_>) -> Result<BTreeMap<HostId, Vec<IpAddr>>, StoreError> {
    let joined: Option<Vec<(HostId, String)>> = columns.optional_json()?;
    let mut hosts: BTreeMap<HostId, Vec<IpAddr>> = BTreeMap::new();
    for (host, address) in joined.unwrap_or_default() {
        let address = columns::address_of(&address).ok_or_else(|| columns.corrupt(address))?;
        hosts.entry(host).or_default().push(address);
    }
    for addresses in hosts.values_mut() {
        addresses.sort();
    }
    Ok(hosts)
}

fn from_row(row: &AnyRow) -> Result<NetworkRecord, StoreError> {
    let mut columns = Columns::of(row);
    let (id, name) = (columns.parse()?, columns.parse()?);
    let network_type = match columns.text()? {
        "flat" => NetworkType::Flat,
        "flat_dhcp" => NetworkType::FlatDhcp,
        "vlan" => NetworkType::Vlan,
        other => return Err(columns.corrupt(other)),
    };
    let (project, project_name) = (columns.optional_parse()?, columns.optional_parse()?);
    let vlan = vlan_from(&mut columns)?;
    let (multi_host, share_address) = (columns.flag()?, columns.flag()?);
    let (gateway_host, gateway_host_name) = (columns.optional_parse()?, columns.optional_parse()?);
    let ipv6_mode = match columns.text()? {
        "dhcpv6" => Ipv6Mode::Dhcpv6,
        "slaac" => Ipv6Mode::Slaac,
        other => return Err(columns.corrupt(other)),
    };
    let (bridge, bridge_interface, bridge_mac) =
        (columns.parse()?, columns.optional_parse()?, columns.parse()?);
    let (dns, domain, mtu) = (columns.json()?, columns.parse()?, columns.small()?);
    let (dhcp_lease_time, dhcp_options) = (columns.small()?, columns.json()?);
    let (ether_types, created_at) = (columns.json()?, columns.time()?);
    let auto_assign = columns.optional_parse()?.zip(columns.optional_parse()?);
    let own_addresses = own_addresses(&mut columns)?;
    let gateways = match (multi_host, share_address) {
        (false, _) => Gateways::One(gateway_host),
        (true, true) => Gateways::Shared,
        (true, false) => Gateways::PerHost(own_addresses),
    };
    let reserved = subnet::reserved_from_column(&mut columns)?;
    let mut subnets = Vec::with_capacity(2);
    for _ in [Family::Ipv4, Family::Ipv6] {
        subnets.extend(subnet::from_columns(&mut columns, &reserved)?);
    }
    let mut network = Network {
        id,
        name,
        network_type,
        project,
        ipv4: None,
        ipv6: None,
        ipv6_mode,
        gateways,
        vlan,
        bridge,
        bridge_interface,
        bridge_mac,
        dns,
        domain,
        mtu,
        dhcp_lease_time,
        dhcp_options,
        ether_types,
    };
    put_subnets(&mut network, &subnets);
    Ok(NetworkRecord { network, project_name, gateway_host_name, subnets, reserved, auto_assign, created_at })
}
