//! What hosts say. Nothing here is intent, and none of it is in the change log.

mod connections;
mod counters;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;
use sqlx::{AnyConnection, AssertSqlSafe};
use trestle_api::{ApiError, Feature};
use trestle_core::plan::Problem;
use trestle_core::spec::Key;
use trestle_core::types::{HostId, LinkName, Mac};

use crate::store::columns::{Columns, address_text};
use crate::store::error::{During, StoreError};

pub(crate) use connections::{Connections, put_connections};
pub(crate) use counters::put_counters;

/// A lease as a host reports it.
pub(crate) type Lease = (IpAddr, Mac);

/// What a host says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Status<'a> {
    /// When.
    pub(crate) last_seen: Timestamp,
    /// The generation it has worked through.
    pub(crate) generation_applied: u64,
    /// The agent's version.
    pub(crate) agent_version: &'a str,
    /// The kernel's release.
    pub(crate) kernel: &'a str,
    /// What the kernel lacks.
    pub(crate) missing_features: &'a BTreeSet<Feature>,
    /// What troubles the agent itself.
    pub(crate) agent_problems: &'a [ApiError],
    /// Its devices, those that Trestle makes aside.
    pub(crate) devices: &'a BTreeSet<LinkName>,
    /// The addresses that it has for itself.
    pub(crate) addresses: &'a BTreeSet<IpAddr>,
    /// Stands for its problems and leases.
    pub(crate) digest: &'a str,
}

/// The digest of what a host said last, if it ever spoke.
pub(crate) async fn digest(
    connection: &mut AnyConnection,
    host: HostId,
) -> Result<Option<String>, StoreError> {
    let row = sqlx::query("SELECT digest FROM observed_hosts WHERE host = $1")
        .bind(host.to_string())
        .fetch_optional(connection)
        .await
        .during("read what a host said last")?;
    row.map(|row| Ok(Columns::of(&row).text()?.to_owned())).transpose()
}

/// Writes down what a host says of itself.
pub(crate) async fn put_status(
    connection: &mut AnyConnection,
    host: HostId,
    status: &Status<'_>,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO observed_hosts (host, last_seen, generation_applied, agent_version, kernel, missing_features,
             agent_problems, devices, addresses, digest)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         ON CONFLICT (host) DO UPDATE SET last_seen = $2, generation_applied = $3, agent_version = $4, kernel = $5,
             missing_features = $6, agent_problems = $7, devices = $8, addresses = $9, digest = $10",
    )
    .bind(host.to_string())
    .bind(status.last_seen.as_microsecond())
    // An agent may say any number; what is kept must be one that can be read back.
    .bind(i64::try_from(status.generation_applied).unwrap_or(i64::MAX))
    .bind(status.agent_version)
    .bind(status.kernel)
    .bind(serde_json::json!(status.missing_features).to_string())
    .bind(serde_json::json!(status.agent_problems).to_string())
    .bind(serde_json::json!(status.devices).to_string())
    .bind(serde_json::json!(status.addresses).to_string())
    .bind(status.digest)
    .execute(connection)
    .await
    .during("write down what a host says")?;
    Ok(())
}

/// The addresses that hosts have for themselves. One that told of none has not said.
pub(crate) async fn own_addresses(
    connection: &mut AnyConnection,
) -> Result<BTreeMap<HostId, BTreeSet<IpAddr>>, StoreError> {
    let rows = sqlx::query("SELECT host, addresses FROM observed_hosts WHERE addresses <> '[]'")
        .fetch_all(connection)
        .await
        .during("read hosts' own addresses")?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            Ok((columns.parse()?, columns.json()?))
        })
        .collect()
}

/// What a host cannot do.
pub(crate) async fn problems(
    connection: &mut AnyConnection,
    host: HostId,
) -> Result<BTreeSet<Problem>, StoreError> {
    let rows = sqlx::query("SELECT problem FROM observed_problems WHERE host = $1")
        .bind(host.to_string())
        .fetch_all(connection)
        .await
        .during("read a host's problems")?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            columns.optional_json()?.ok_or_else(|| columns.corrupt(""))
        })
        .collect()
}

/// Which of these, each on its host, that host has a problem with.
pub(crate) async fn having_problems(
    connection: &mut AnyConnection,
    wanted: &[(HostId, Key)],
) -> Result<BTreeSet<(HostId, Key)>, StoreError> {
    let hosts: BTreeSet<HostId> = wanted.iter().map(|(host, _)| *host).collect();
    if hosts.is_empty() {
        return Ok(BTreeSet::new());
    }
    let places = |from: usize, count: usize| {
        (from..from + count).map(|place| format!("${place}")).collect::<Vec<_>>().join(", ")
    };
    let sql = format!(
        "SELECT host, key FROM observed_problems WHERE host IN ({}) AND key IN ({})",
        places(1, hosts.len()),
        places(hosts.len() + 1, wanted.len())
    );
    let query =
        hosts.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, host| query.bind(host.to_string()));
    let query = wanted.iter().fold(query, |query, (_, key)| query.bind(key.to_string()));
    let rows = query.fetch_all(connection).await.during("look which problems hosts have")?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            Ok((columns.parse()?, columns.parse()?))
        })
        .collect()
}

/// Writes down what a host cannot do, in place of what it could not.
pub(crate) async fn put_problems(
    connection: &mut AnyConnection,
    host: HostId,
    problems: &BTreeSet<Problem>,
) -> Result<(), StoreError> {
    let before = self::problems(connection, host).await?;
    for gone in before.difference(problems) {
        sqlx::query("DELETE FROM observed_problems WHERE host = $1 AND key = $2 AND problem = $3")
            .bind(host.to_string())
            .bind(gone.key.to_string())
            .bind(serde_json::json!(gone).to_string())
            .execute(&mut *connection)
            .await
            .during("forget a host's problem")?;
    }
    for new in problems.difference(&before) {
        sqlx::query("INSERT INTO observed_problems (host, key, problem) VALUES ($1, $2, $3)")
            .bind(host.to_string())
            .bind(new.key.to_string())
            .bind(serde_json::json!(new).to_string())
            .execute(&mut *connection)
            .await
            .during("write down a host's problem")?;
    }
    Ok(())
}

/// Writes down the leases a host's dnsmasqs hold, in place of those they held.
pub(crate) async fn put_leases(
    connection: &mut AnyConnection,
    host: HostId,
    leases: &BTreeSet<Lease>,
) -> Result<(), StoreError> {
    let before = self::leases(connection, host).await?;
    for (address, mac) in before.difference(leases) {
        sqlx::query("DELETE FROM observed_leases WHERE host = $1 AND address = $2 AND mac = $3")
            .bind(host.to_string())
            .bind(address_text(*address))
            .bind(mac.to_string())
            .execute(&mut *connection)
            .await
            .during("forget a lease")?;
    }
    for (address, mac) in leases.difference(&before) {
        sqlx::query("INSERT INTO observed_leases (host, address, mac) VALUES ($1, $2, $3)")
            .bind(host.to_string())
            .bind(address_text(*address))
            .bind(mac.to_string())
            .execute(&mut *connection)
            .await
            .during("write down a lease")?;
    }
    Ok(())
}

/// How much there is of each kind of thing, and how many problems hosts have.
pub(crate) async fn counts(connection: &mut AnyConnection) -> Result<[u64; 4], StoreError> {
    let row = sqlx::query(
        "SELECT (SELECT COUNT(*) FROM projects), (SELECT COUNT(*) FROM networks),
                (SELECT COUNT(*) FROM instances), (SELECT COUNT(*) FROM observed_problems)",
    )
    .fetch_one(connection)
    .await
    .during("count")?;
    let mut columns = Columns::of(&row);
    Ok([columns.count()?, columns.count()?, columns.count()?, columns.count()?])
}

/// Detached, pending, ready and failed interfaces.
pub(crate) async fn interface_counts(connection: &mut AnyConnection) -> Result<[u64; 4], StoreError> {
    let row = sqlx::query(
        "SELECT COUNT(CASE WHEN host IS NULL THEN 1 END),
                COUNT(CASE WHEN host IS NOT NULL AND applied < generation THEN 1 END),
                COUNT(CASE WHEN host IS NOT NULL AND applied >= generation AND failed = 0 THEN 1 END),
                COUNT(CASE WHEN host IS NOT NULL AND applied >= generation AND failed = 1 THEN 1 END)
         FROM (SELECT i.host, i.generation, COALESCE(o.generation_applied, 0) AS applied,
                      CASE WHEN EXISTS (SELECT 1 FROM observed_problems p
                                        WHERE p.host = i.host AND p.key = 'link/' || i.device)
                           THEN 1 ELSE 0 END AS failed
               FROM interfaces i LEFT JOIN observed_hosts o ON o.host = i.host) AS states",
    )
    .fetch_one(connection)
    .await
    .during("count interfaces")?;
    let mut columns = Columns::of(&row);
    Ok([columns.count()?, columns.count()?, columns.count()?, columns.count()?])
}

async fn leases(connection: &mut AnyConnection, host: HostId) -> Result<BTreeSet<Lease>, StoreError> {
    let rows = sqlx::query("SELECT address, mac FROM observed_leases WHERE host = $1")
        .bind(host.to_string())
        .fetch_all(connection)
        .await
        .during("read a host's leases")?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            Ok((columns.address()?, columns.parse()?))
        })
        .collect()
}
