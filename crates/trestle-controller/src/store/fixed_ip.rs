//! Fixed IPs: who has which address, and which one is given out next.
//!
//! A row stands for an address from its first use on, so a network costs nothing until it is
//! used. The primary key is what keeps an address from being given out twice.

use std::net::Ipv4Addr;

use jiff::{SignedDuration, Timestamp};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use trestle_api::{FixedIp, FixedIpState};
use trestle_core::spec::Key;
use trestle_core::types::{InterfaceId, NetworkId, ProjectId};

use crate::store::Write;
use crate::store::columns::Columns;
use crate::store::error::{During, StoreError};
use crate::store::interface::InterfaceRecord;
use crate::store::network::{NetworkRecord, number};

/// When an address that was given back may be given out again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReleasePolicy {
    /// As soon as its host has ended the lease.
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
    /// None is free; so many may still be served by their host.
    Full {
        /// How many.
        cooling: u64,
    },
    /// Someone has it.
    Taken,
    /// It was given back, but its host may still serve it.
    Cooling,
}

// Whether a released address `f` may be given out: `$1` says whether a host's word counts, `$2`
// is the cutoff.
macro_rules! is_free {
    () => {
        "(f.released_host IS NULL OR f.released_at <= $2 OR ($1 = 1 AND EXISTS (
            SELECT 1 FROM observed_hosts o WHERE o.host = f.released_host
            AND o.generation_applied >= f.released_generation
            AND NOT EXISTS (SELECT 1 FROM observed_problems p WHERE p.host = o.host
                            AND p.key IN (f.link_key, f.dhcp_host_key, f.lease_key)))))"
    };
}

/// Gives the interface an address: a fresh one, or the one released longest ago.
pub(crate) async fn allocate(
    write: &mut Write,
    network: &NetworkRecord,
    interface: InterfaceId,
    policy: ReleasePolicy,
) -> Result<Result<Ipv4Addr, Refusal>, StoreError> {
    let id = network.network.id;
    let mut candidate = network.next_address;
    let mut fresh = None;
    while let (Some(address), None) = (candidate, fresh) {
        // Someone may have asked for an address that lies ahead.
        fresh = insert(write.connection(), address, id, interface).await?.then_some(address);
        candidate = network.layout.after(address);
    }
    if candidate != network.next_address {
        move_cursor(write.connection(), id, candidate).await?;
    }
    if let Some(address) = fresh {
        return Ok(Ok(address));
    }
    let cutoff = policy.cutoff(write.at());
    let row = sqlx::query(concat!(
        "SELECT f.address FROM fixed_ips f
         WHERE f.network = $3 AND f.interface IS NULL AND f.address >= $4 AND ",
        is_free!(),
        " ORDER BY f.released_at, f.address LIMIT 1"
    ))
    .bind(policy.forced())
    .bind(cutoff)
    .bind(id.to_string())
    .bind(number(network.layout.dhcp_start()))
    .fetch_optional(write.connection())
    .await
    .during("look for a released address")?;
    let Some(row) = row else {
        let cooling = cooling(write.connection(), id).await?;
        return Ok(Err(Refusal::Full { cooling }));
    };
    let address = Columns::of(&row).address()?;
    take_again(write.connection(), address, interface).await?;
    Ok(Ok(address))
}

/// Gives the interface this address.
pub(crate) async fn claim(
    write: &mut Write,
    network: NetworkId,
    interface: InterfaceId,
    address: Ipv4Addr,
    policy: ReleasePolicy,
) -> Result<Result<(), Refusal>, StoreError> {
    if insert(write.connection(), address, network, interface).await? {
        return Ok(Ok(()));
    }
    let cutoff = policy.cutoff(write.at());
    let row = sqlx::query(concat!(
        "SELECT CASE WHEN f.interface IS NULL THEN 0 ELSE 1 END, CASE WHEN ",
        is_free!(),
        " THEN 1 ELSE 0 END FROM fixed_ips f WHERE f.address = $3"
    ))
    .bind(policy.forced())
    .bind(cutoff)
    .bind(number(address))
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
    take_again(write.connection(), address, interface).await?;
    Ok(Ok(()))
}

/// Gives an interface's addresses back. If it was ever plugged in, its host must have taken it
/// down before they go to anyone else.
pub(crate) async fn release(write: &mut Write, record: &InterfaceRecord) -> Result<(), StoreError> {
    let (at, revision) = (write.at(), write.revision());
    let interface = &record.interface;
    // Plugged in until now, the host takes it down at this revision; else it was told earlier.
    let generation = if interface.attachment.is_some() { Some(revision) } else { record.generation };
    let network = || record.network_name.clone();
    sqlx::query(
        "UPDATE fixed_ips SET interface = NULL, released_at = $2, released_host = $3, released_generation = $4,
             link_key = $5, dhcp_host_key = $6, lease_key = $7
         WHERE interface = $1",
    )
    .bind(interface.id.to_string())
    .bind(at.as_microsecond())
    .bind(record.last_host.map(|host| host.to_string()))
    .bind(generation.map(u64::cast_signed))
    .bind(Key::Link(interface.device.clone()).to_string())
    .bind(Key::DhcpHost(network(), interface.mac).to_string())
    .bind(Key::Lease(network(), interface.mac).to_string())
    .execute(write.connection())
    .await
    .during("release an address")?;
    Ok(())
}

/// How many of a network's addresses for instances are taken or not yet free again.
pub(crate) async fn used(
    connection: &mut AnyConnection,
    network: &NetworkRecord,
    policy: ReleasePolicy,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let row = sqlx::query(concat!(
        "SELECT COUNT(*) FROM fixed_ips f
         WHERE f.network = $3 AND f.address BETWEEN $4 AND $5 AND (f.interface IS NOT NULL OR NOT ",
        is_free!(),
        ")"
    ))
    .bind(policy.forced())
    .bind(policy.cutoff(now))
    .bind(network.network.id.to_string())
    .bind(number(network.layout.dhcp_start()))
    .bind(number(network.network.cidr.net().broadcast()))
    .fetch_one(connection)
    .await
    .during("count a network's addresses")?;
    Columns::of(&row).count()
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
    pub(crate) address: Option<Ipv4Addr>,
}

/// The fixed IPs after this address, by address.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    filter: &Filter,
    (policy, now): (ReleasePolicy, Timestamp),
    (after, limit): (i64, i64),
) -> Result<Vec<FixedIp>, StoreError> {
    let rows = sqlx::query(concat!(
        "SELECT f.address, n.name, v.name, p.name, i.mac, f.released_at,
                CASE WHEN f.interface IS NULL AND ",
        is_free!(),
        " THEN 1 ELSE 0 END,
                CASE WHEN EXISTS (SELECT 1 FROM observed_leases l WHERE l.address = f.address AND l.mac = i.mac)
                     THEN 1 ELSE 0 END
         FROM fixed_ips f JOIN networks n ON n.id = f.network
         LEFT JOIN interfaces i ON i.id = f.interface
         LEFT JOIN instances v ON v.id = i.instance
         LEFT JOIN projects p ON p.id = v.project
         WHERE f.address > $3 AND (CAST($4 AS TEXT) IS NULL OR f.network = $4)
           AND (CAST($5 AS TEXT) IS NULL OR v.project = $5)
           AND (CAST($6 AS TEXT) IS NULL OR v.project = $6)
           AND (CAST($7 AS BIGINT) IS NULL OR f.address = $7)
         ORDER BY f.address LIMIT $8"
    ))
    .bind(policy.forced())
    .bind(policy.cutoff(now))
    .bind(after)
    .bind(filter.network.as_deref())
    .bind(filter.project.as_deref())
    .bind(filter.visible_to.map(|id| id.to_string()))
    .bind(filter.address.map(number))
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
        "SELECT COUNT(f.interface),
                COUNT(CASE WHEN f.interface IS NULL AND NOT ",
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

/// Whether there was no row for the address.
async fn insert(
    connection: &mut AnyConnection,
    address: Ipv4Addr,
    network: NetworkId,
    interface: InterfaceId,
) -> Result<bool, StoreError> {
    let sql = "INSERT INTO fixed_ips (address, network, interface) VALUES ($1, $2, $3) ON CONFLICT (address) DO NOTHING";
    let result = sqlx::query(sql)
        .bind(number(address))
        .bind(network.to_string())
        .bind(interface.to_string())
        .execute(connection)
        .await
        .during("allocate an address")?;
    Ok(result.rows_affected() == 1)
}

async fn take_again(
    connection: &mut AnyConnection,
    address: Ipv4Addr,
    interface: InterfaceId,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE fixed_ips SET interface = $2, released_at = NULL, released_host = NULL, released_generation = NULL,
             link_key = NULL, dhcp_host_key = NULL, lease_key = NULL
         WHERE address = $1 AND interface IS NULL",
    )
    .bind(number(address))
    .bind(interface.to_string())
    .execute(connection)
    .await
    .during("allocate an address again")?;
    Ok(())
}

async fn move_cursor(
    connection: &mut AnyConnection,
    network: NetworkId,
    to: Option<Ipv4Addr>,
) -> Result<(), StoreError> {
    let sql = "UPDATE networks SET next_address = $2 WHERE id = $1";
    let query = sqlx::query(sql).bind(network.to_string()).bind(to.map(number));
    query.execute(connection).await.during("note which addresses were given out")?;
    Ok(())
}

/// Only asked where nothing is free: everything released is cooling.
async fn cooling(connection: &mut AnyConnection, network: NetworkId) -> Result<u64, StoreError> {
    let row = sqlx::query("SELECT COUNT(*) FROM fixed_ips WHERE network = $1 AND interface IS NULL")
        .bind(network.to_string())
        .fetch_one(connection)
        .await
        .during("count released addresses")?;
    Columns::of(&row).count()
}

fn from_row(row: &AnyRow) -> Result<FixedIp, StoreError> {
    let mut columns = Columns::of(row);
    let (address, network) = (columns.address()?, columns.parse()?);
    let (instance, project) = (columns.optional_parse()?, columns.optional_parse()?);
    let mac = columns.optional_parse()?;
    let released_at = columns.optional_time()?;
    let (free, leased) = (columns.flag()?, columns.flag()?);
    let state = match (released_at, free, leased) {
        (None, _, true) => FixedIpState::Leased,
        (None, _, false) => FixedIpState::Allocated,
        (Some(_), true, _) => FixedIpState::Free,
        (Some(_), false, _) => FixedIpState::Cooling,
    };
    Ok(FixedIp { address, network, state, instance, project, mac, released_at })
}
