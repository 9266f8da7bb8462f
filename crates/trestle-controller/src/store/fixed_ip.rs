//! Fixed IPs: who has which address, and which one is given out next.
//!
//! A row stands for an address from its first use on, so a network costs nothing until it is
//! used. The primary key is what keeps an address from being given out twice.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe};
use trestle_api::{FixedIp, FixedIpState};
use trestle_core::alloc::Layout;
use trestle_core::spec::Key;
use trestle_core::types::{Family, HostId, InterfaceId, NetworkId, ProjectId};
use trestle_core::world::Gateways;

use crate::store::Write;
use crate::store::columns::{Columns, address_text};
use crate::store::error::{During, StoreError};
use crate::store::interface::InterfaceRecord;
use crate::store::network::NetworkRecord;
use crate::store::subnet::{self, SubnetRecord};

/// How many addresses are looked at together to find one that nobody had.
const LOOK_AHEAD: i64 = 256;

/// Who is given an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// An instance's interface.
    Interface(InterfaceId),
    /// A host that routes for the network by an address of its own.
    Host(HostId),
}

impl Holder {
    /// The columns `interface` and `host`.
    fn columns(self) -> (Option<String>, Option<String>) {
        match self {
            Self::Interface(id) => (Some(id.to_string()), None),
            Self::Host(id) => (None, Some(id.to_string())),
        }
    }
}

/// When an address that was given back may be given out again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReleasePolicy {
    /// As soon as its hosts have ended the lease.
    pub(crate) force_dhcp_release: bool,
    /// After this time at the latest.
    pub(crate) timeout: SignedDuration,
}

impl ReleasePolicy {
    fn forced(&self) -> i64 {
        self.force_dhcp_release.into()
    }

    /// What was given back then or earlier is free, in microseconds.
    fn cutoff(&self, now: Timestamp) -> i64 {
        now.saturating_sub(self.timeout).map_or(i64::MIN, Timestamp::as_microsecond)
    }
}

/// Why no address was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// None is free; so many may still be served by their hosts.
    Full {
        /// How many.
        cooling: u64,
    },
    /// Someone has it.
    Taken,
    /// It was given back, but a host may still serve it.
    Cooling,
}

// Whether a released address `f` may be given out: `$1` says whether hosts' words count, `$2` is the
// cutoff.
macro_rules! is_free {
    () => {
        "(f.released_at <= $2 OR NOT EXISTS (
            SELECT 1 FROM releases r WHERE r.address = f.address AND NOT ($1 = 1 AND EXISTS (
                SELECT 1 FROM observed_hosts o WHERE o.host = r.host
                AND o.generation_applied >= r.generation
                AND NOT EXISTS (SELECT 1 FROM observed_problems p WHERE p.host = o.host
                                AND p.key IN (r.link_key, r.entry_key, r.lease_key))))))"
    };
}

// Whether the address `f` is reserved.
macro_rules! is_reserved {
    () => {
        "EXISTS (SELECT 1 FROM reserved_ranges v WHERE v.network = f.network
                 AND f.address BETWEEN v.first_address AND v.last_address)"
    };
}

/// Gives an address of this family: a fresh one, or the one released longest ago.
pub(crate) async fn allocate(
    write: &mut Write,
    network: &NetworkRecord,
    family: Family,
    holder: Holder,
    policy: ReleasePolicy,
) -> Result<Result<IpAddr, Refusal>, StoreError> {
    let id = network.network.id;
    let Some(subnet) = network.subnet(family) else { return Ok(Err(Refusal::Full { cooling: 0 })) };
    if let Some(address) = take_fresh(write.connection(), id, subnet, holder).await? {
        return Ok(Ok(address));
    }
    let (first, last) = given_out(&subnet.layout);
    let row = sqlx::query(concat!(
        "SELECT f.address FROM fixed_ips f
         WHERE f.network = $3 AND f.released_at IS NOT NULL AND f.address BETWEEN $4 AND $5
           AND NOT ",
        is_reserved!(),
        " AND ",
        is_free!(),
        " ORDER BY f.released_at, f.address LIMIT 1"
    ))
    .bind(policy.forced())
    .bind(policy.cutoff(write.at()))
    .bind(id.to_string())
    .bind(first)
    .bind(last)
    .fetch_optional(write.connection())
    .await
    .during("look for a released address")?;
    let Some(row) = row else {
        let cooling = cooling(write.connection(), id, &subnet.layout).await?;
        return Ok(Err(Refusal::Full { cooling }));
    };
    let address = Columns::of(&row).address()?;
    take_again(write.connection(), address, holder).await?;
    Ok(Ok(address))
}

/// Gives the interface this address.
pub(crate) async fn claim(
    write: &mut Write,
    network: NetworkId,
    interface: InterfaceId,
    address: IpAddr,
    policy: ReleasePolicy,
) -> Result<Result<(), Refusal>, StoreError> {
    let holder = Holder::Interface(interface);
    if insert(write.connection(), address, network, holder).await? {
        return Ok(Ok(()));
    }
    let cutoff = policy.cutoff(write.at());
    let row = sqlx::query(concat!(
        "SELECT CASE WHEN f.released_at IS NULL THEN 1 ELSE 0 END, CASE WHEN ",
        is_free!(),
        " THEN 1 ELSE 0 END FROM fixed_ips f WHERE f.address = $3"
    ))
    .bind(policy.forced())
    .bind(cutoff)
    .bind(address_text(address))
    .fetch_one(write.connection())
    .await
    .during("look at an address")?;
    let mut columns = Columns::of(&row);
    let (taken, free) = (columns.flag()?, columns.flag()?);
    if taken {
        return Ok(Err(Refusal::Taken));
    }
    if !free {
        return Ok(Err(Refusal::Cooling));
    }
    take_again(write.connection(), address, holder).await?;
    Ok(Ok(()))
}

/// Gives a host that routes for the network the addresses of its own that it needs for it: one for
/// each router. None if it has them, or if hosts have none of their own there.
pub(crate) async fn give_host(
    write: &mut Write,
    network: &NetworkRecord,
    host: HostId,
    policy: ReleasePolicy,
) -> Result<Result<Vec<IpAddr>, Refusal>, StoreError> {
    let mut given = Vec::new();
    match &network.network.gateways {
        Gateways::PerHost(hosts) if !hosts.contains_key(&host) => {}
        _ => return Ok(Ok(given)),
    }
    for subnet in network.network.subnets().filter(|subnet| subnet.gateway.is_some()) {
        match allocate(write, network, subnet.cidr.family(), Holder::Host(host), policy).await? {
            Ok(address) => given.push(address),
            Err(refusal) => return Ok(Err(refusal)),
        }
    }
    Ok(Ok(given))
}

/// Gives an interface's addresses back. Every host that ever served them must have taken them down
/// before they go to anyone else.
pub(crate) async fn release(write: &mut Write, record: &InterfaceRecord) -> Result<(), StoreError> {
    for address in &record.interface.addresses {
        note_who_serves(write, record, *address).await?;
    }
    let at = write.at().as_microsecond();
    sqlx::query("UPDATE fixed_ips SET interface = NULL, released_at = $2 WHERE interface = $1")
        .bind(record.interface.id.to_string())
        .bind(at)
        .execute(write.connection())
        .await
        .during("release an address")?;
    Ok(())
}

/// Gives one address of an interface back, as [`release`] does; it keeps the others.
pub(crate) async fn release_one(
    write: &mut Write,
    record: &InterfaceRecord,
    address: IpAddr,
) -> Result<(), StoreError> {
    note_who_serves(write, record, address).await?;
    let at = write.at().as_microsecond();
    sqlx::query(
        "UPDATE fixed_ips SET interface = NULL, released_at = $3 WHERE interface = $1 AND address = $2",
    )
    .bind(record.interface.id.to_string())
    .bind(address_text(address))
    .bind(at)
    .execute(write.connection())
    .await
    .during("release one address")?;
    Ok(())
}

/// Notes which hosts may still serve an address that is given back. Who serves it until now takes it
/// down at this revision; the others were told earlier.
async fn note_who_serves(
    write: &mut Write,
    record: &InterfaceRecord,
    address: IpAddr,
) -> Result<(), StoreError> {
    // What was never plugged in was never served.
    if record.last_host.is_none() {
        return Ok(());
    }
    let revision = write.revision().cast_signed();
    let [link, entry, lease] = interface_keys(record, address).map(|key| key.to_string());
    sqlx::query(
        "INSERT INTO releases (address, host, generation, link_key, entry_key, lease_key)
         SELECT $1, s.host,
                CASE WHEN s.host IN (i.host, i.next_host)
                       OR (i.host IS NOT NULL AND s.host = n.gateway_host) THEN $3
                     ELSE s.generation END,
                $4, $5, $6
         FROM interface_hosts s JOIN interfaces i ON i.id = s.interface
         JOIN networks n ON n.id = i.network WHERE s.interface = $2",
    )
    .bind(address_text(address))
    .bind(record.interface.id.to_string())
    .bind(revision)
    .bind(link)
    .bind(entry)
    .bind(lease)
    .execute(write.connection())
    .await
    .during("note who may still serve an address")?;
    Ok(())
}

/// Gives back the addresses that a host has of its own for routing, unless something of the network
/// is or is about to be plugged in there; whether it did. The host takes them down at this revision.
pub(crate) async fn release_host(
    write: &mut Write,
    network: &NetworkRecord,
    host: HostId,
) -> Result<bool, StoreError> {
    let network = &network.network;
    if !matches!(network.gateways, Gateways::PerHost(_)) {
        return Ok(false);
    }
    let (at, revision) = (write.at(), write.revision());
    let rows = sqlx::query(
        "UPDATE fixed_ips SET host = NULL, released_at = $3
         WHERE network = $1 AND host = $2 AND NOT EXISTS (
             SELECT 1 FROM interfaces WHERE network = $1 AND (host = $2 OR next_host = $2))
         RETURNING address",
    )
    .bind(network.id.to_string())
    .bind(host.to_string())
    .bind(at.as_microsecond())
    .fetch_all(write.connection())
    .await
    .during("release a gateway's own address")?;
    for row in &rows {
        let address = Columns::of(row).address()?;
        let prefix = network.subnet_of(address).map(|subnet| subnet.cidr.net().prefix_len());
        let on_bridge = prefix.and_then(|prefix| IpNet::new(address, prefix).ok());
        let on_bridge = on_bridge.unwrap_or_else(|| IpNet::from(address));
        sqlx::query(
            "INSERT INTO releases (address, host, generation, link_key, entry_key, lease_key)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(address_text(address))
        .bind(host.to_string())
        .bind(revision.cast_signed())
        .bind(Key::Link(network.bridge.clone()).to_string())
        .bind(Key::Address(network.bridge.clone(), on_bridge).to_string())
        .bind(Key::Dnsmasq(network.name.clone()).to_string())
        .execute(write.connection())
        .await
        .during("note that a gateway may still have an address")?;
    }
    Ok(!rows.is_empty())
}

/// How many addresses of a range are in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct UsedAddresses {
    /// Those that an instance has, wherever they lie, and `given_out`.
    pub(crate) all: u64,
    /// Of those that are given out unasked, what is taken or not yet free again.
    pub(crate) given_out: u64,
}

/// How many addresses are in use, in each family of each network. Where none are, there is no entry.
pub(crate) async fn used(
    connection: &mut AnyConnection,
    networks: &[NetworkRecord],
    policy: ReleasePolicy,
    now: Timestamp,
) -> Result<BTreeMap<(NetworkId, Family), UsedAddresses>, StoreError> {
    if networks.is_empty() {
        return Ok(BTreeMap::new());
    }
    let places: Vec<String> = (3..networks.len() + 3).map(|place| format!("${place}")).collect();
    let sql = format!(
        "SELECT u.network, u.family, COUNT(CASE WHEN u.has_instance = 1 OR u.given_out = 1 THEN 1 END),
                COUNT(CASE WHEN u.given_out = 1 THEN 1 END)
         FROM (SELECT s.network, s.family, CASE WHEN f.interface IS NOT NULL THEN 1 ELSE 0 END AS has_instance,
                   CASE WHEN f.address BETWEEN s.dhcp_start AND s.allowed_last
                       AND NOT {} AND (f.released_at IS NULL OR NOT {}) THEN 1 ELSE 0 END AS given_out
               FROM subnets s JOIN fixed_ips f ON f.address BETWEEN s.first_address AND s.last_address
               WHERE s.network IN ({})) u
         GROUP BY u.network, u.family",
        is_reserved!(),
        is_free!(),
        places.join(", ")
    );
    let mut query = sqlx::query(AssertSqlSafe(sql)).bind(policy.forced()).bind(policy.cutoff(now));
    for record in networks {
        query = query.bind(record.network.id.to_string());
    }
    let rows = query.fetch_all(connection).await.during("count networks' addresses")?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            let id = columns.parse()?;
            let family = subnet::family_from(&mut columns)?;
            Ok(((id, family), UsedAddresses { all: columns.count()?, given_out: columns.count()? }))
        })
        .collect()
}

/// Which fixed IPs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    /// Of this network.
    pub(crate) network: Option<String>,
    /// That an instance of this project has.
    pub(crate) project: Option<String>,
    /// That an instance of this project has: what a member may see.
    pub(crate) visible_to: Option<ProjectId>,
    /// This one.
    pub(crate) address: Option<IpAddr>,
}

/// The fixed IPs after this address, by address.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    filter: &Filter,
    (policy, now): (ReleasePolicy, Timestamp),
    (after, limit): (Option<IpAddr>, i64),
) -> Result<Vec<FixedIp>, StoreError> {
    let rows = sqlx::query(concat!(
        "SELECT f.address, n.name, v.name, u.name, p.name, h.name, i.mac, f.released_at,
                CASE WHEN f.released_at IS NOT NULL AND ",
        is_free!(),
        " THEN 1 ELSE 0 END,
                CASE WHEN EXISTS (SELECT 1 FROM observed_leases l WHERE l.address = f.address AND l.mac = i.mac)
                     THEN 1 ELSE 0 END
         FROM fixed_ips f JOIN networks n ON n.id = f.network
         LEFT JOIN hosts h ON h.id = f.host
         LEFT JOIN interfaces i ON i.id = f.interface
         LEFT JOIN instances v ON v.id = i.instance
         LEFT JOIN projects p ON p.id = v.project
         LEFT JOIN vpn_users u ON u.address = f.address
         WHERE f.address > $3 AND (CAST($4 AS TEXT) IS NULL OR f.network = $4)
           AND (CAST($5 AS TEXT) IS NULL OR v.project = $5)
           AND (CAST($6 AS TEXT) IS NULL OR v.project = $6)
           AND (CAST($7 AS TEXT) IS NULL OR f.address = $7)
         ORDER BY f.address LIMIT $8"
    ))
    .bind(policy.forced())
    .bind(policy.cutoff(now))
    .bind(after.map_or_else(String::new, address_text))
    .bind(filter.network.as_deref())
    .bind(filter.project.as_deref())
    .bind(filter.visible_to.map(|id| id.to_string()))
    .bind(filter.address.map(address_text))
    .bind(limit)
    .fetch_all(connection)
    .await
    .during("list fixed IPs")?;
    rows.iter().map(from_row).collect()
}

/// How many addresses are taken, and how many were given back and are not yet free.
pub(crate) async fn counts(
    connection: &mut AnyConnection,
    policy: ReleasePolicy,
    now: Timestamp,
) -> Result<(u64, u64), StoreError> {
    let row = sqlx::query(concat!(
        "SELECT COUNT(CASE WHEN f.released_at IS NULL THEN 1 END),
                COUNT(CASE WHEN f.released_at IS NOT NULL AND NOT ",
        is_free!(),
        " THEN 1 END) FROM fixed_ips f"
    ))
    .bind(policy.forced())
    .bind(policy.cutoff(now))
    .fetch_one(connection)
    .await
    .during("count fixed IPs")?;
    let mut columns = Columns::of(&row);
    Ok((columns.count()?, columns.count()?))
}

/// The next address that nobody ever had, if there is one, and moves on behind it.
async fn take_fresh(
    connection: &mut AnyConnection,
    network: NetworkId,
    subnet: &SubnetRecord,
    holder: Holder,
) -> Result<Option<IpAddr>, StoreError> {
    let layout = &subnet.layout;
    let mut candidate = subnet.candidate();
    while let Some(address) = candidate {
        if insert(connection, address, network, holder).await? {
            break;
        }
        // Someone asked for it.
        candidate = pass_over(connection, layout, address).await?;
    }
    let next = candidate.and_then(|given| layout.after(given));
    if next != subnet.next_address {
        subnet::move_cursor(connection, network, layout.cidr().family(), next).await?;
    }
    Ok(candidate)
}

/// The first address from this one on that has no row, as far as this looks.
async fn pass_over(
    connection: &mut AnyConnection,
    layout: &Layout,
    from: IpAddr,
) -> Result<Option<IpAddr>, StoreError> {
    let rows = sqlx::query(
        "SELECT address FROM fixed_ips WHERE address BETWEEN $1 AND $2 ORDER BY address LIMIT $3",
    )
    .bind(address_text(from))
    .bind(address_text(layout.allowed().last()))
    .bind(LOOK_AHEAD)
    .fetch_all(connection)
    .await
    .during("look for an address that nobody had")?;
    let mut candidate = Some(from);
    for row in &rows {
        let taken = Columns::of(row).address()?;
        if candidate == Some(taken) {
            candidate = layout.after(taken);
        }
    }
    Ok(candidate)
}

/// Whether there was no row for the address.
async fn insert(
    connection: &mut AnyConnection,
    address: IpAddr,
    network: NetworkId,
    holder: Holder,
) -> Result<bool, StoreError> {
    let (interface, host) = holder.columns();
    let sql = "INSERT INTO fixed_ips (address, network, interface, host) VALUES ($1, $2, $3, $4)
               ON CONFLICT (address) DO NOTHING";
    let result = sqlx::query(sql)
        .bind(address_text(address))
        .bind(network.to_string())
        .bind(interface)
        .bind(host)
        .execute(connection)
        .await
        .during("allocate an address")?;
    Ok(result.rows_affected() == 1)
}

async fn take_again(
    connection: &mut AnyConnection,
    address: IpAddr,
    holder: Holder,
) -> Result<(), StoreError> {
    let (interface, host) = holder.columns();
    let address = address_text(address);
    sqlx::query(
        "UPDATE fixed_ips SET interface = $2, host = $3, released_at = NULL
         WHERE address = $1 AND released_at IS NOT NULL",
    )
    .bind(address.as_str())
    .bind(interface)
    .bind(host)
    .execute(&mut *connection)
    .await
    .during("allocate an address again")?;
    let forget = sqlx::query("DELETE FROM releases WHERE address = $1").bind(address);
    forget.execute(connection).await.during("forget who served an address")?;
    Ok(())
}

/// Only asked where nothing is free: everything released is cooling.
async fn cooling(
    connection: &mut AnyConnection,
    network: NetworkId,
    layout: &Layout,
) -> Result<u64, StoreError> {
    let (first, last) = given_out(layout);
    let row = sqlx::query(concat!(
        "SELECT COUNT(*) FROM fixed_ips f
         WHERE f.network = $1 AND f.released_at IS NOT NULL AND f.address BETWEEN $2 AND $3 AND NOT ",
        is_reserved!()
    ))
    .bind(network.to_string())
    .bind(first)
    .bind(last)
    .fetch_one(connection)
    .await
    .during("count released addresses")?;
    Columns::of(&row).count()
}

/// The first and the last address that is given out unasked, as they are kept.
fn given_out(layout: &Layout) -> (String, String) {
    (address_text(layout.dhcp_start()), address_text(layout.allowed().last()))
}

/// What a host that has served the address must be without a problem with: the device, the DHCP
/// entry and the lease.
fn interface_keys(record: &InterfaceRecord, address: IpAddr) -> [Key; 3] {
    let (network, interface) = (record.network_name.clone(), &record.interface);
    let link = Key::Link(interface.device.clone());
    match address {
        IpAddr::V4(_) => {
            [link, Key::DhcpHost(network.clone(), interface.mac), Key::Lease(network, interface.mac)]
        }
        IpAddr::V6(address) => {
            [link, Key::DhcpHost6(network.clone(), address), Key::Lease6(network, address)]
        }
    }
}

fn from_row(row: &AnyRow) -> Result<FixedIp, StoreError> {
    let mut columns = Columns::of(row);
    let (address, network) = (columns.address()?, columns.parse()?);
    let (instance, vpn_user) = (columns.optional_parse()?, columns.optional_parse()?);
    let project = columns.optional_parse()?;
    let (host, mac) = (columns.optional_parse()?, columns.optional_parse()?);
    let released_at = columns.optional_time()?;
    let (free, leased) = (columns.flag()?, columns.flag()?);
    let state = match (released_at, free, leased) {
        (None, _, true) => FixedIpState::Leased,
        (None, _, false) => FixedIpState::Allocated,
        (Some(_), true, _) => FixedIpState::Free,
        (Some(_), false, _) => FixedIpState::Cooling,
    };
    Ok(FixedIp { address, network, state, instance, vpn_user, project, host, mac, released_at })
}
