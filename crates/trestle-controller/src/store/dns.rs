//! DNS: domains, and names in them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe};
use trestle_core::types::{DnsRecordId, Domain, Name, ProjectId};
use trestle_core::world::DnsRecord;

use crate::store::Write;
use crate::store::columns::{self, Columns, address_text};
use crate::store::error::{During, StoreError};

/// How many rows one statement inserts.
const ROWS: usize = 50;

/// A domain as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct DomainRecord {
    /// Its name, unique.
    pub(crate) name: Domain,
    /// The project that owns it, and its name; known to all if absent.
    pub(crate) project: Option<(ProjectId, Name)>,
    /// When it was made.
    pub(crate) created_at: Timestamp,
}

/// A name in a domain, as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct NameRecord {
    /// What bears on compiling, with the whole name.
    pub(crate) record: DnsRecord,
    /// The name without its domain.
    pub(crate) name: Domain,
    /// The domain.
    pub(crate) domain: Domain,
    /// The name of the project that owns the domain.
    pub(crate) project_name: Option<Name>,
}

macro_rules! select_domains {
    ($rest:literal) => {
        concat!(
            "SELECT d.name, d.project, p.name, d.created_at
             FROM dns_domains d LEFT JOIN projects p ON p.id = d.project ",
            $rest
        )
    };
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT r.id, r.name, r.domain, r.whole, d.project, p.name,
                    (SELECT string_agg(a.address, ',') FROM dns_addresses a WHERE a.record = r.id)
             FROM dns_records r JOIN dns_domains d ON d.name = r.domain
             LEFT JOIN projects p ON p.id = d.project ",
            $rest
        )
    };
}

/// The domain of this name.
pub(crate) async fn find_domain(
    connection: &mut AnyConnection,
    name: &str,
) -> Result<Option<DomainRecord>, StoreError> {
    let query = sqlx::query(select_domains!("WHERE d.name = $1")).bind(name);
    let row = query.fetch_optional(connection).await.during("read a domain")?;
    row.as_ref().map(domain_from).transpose()
}

/// The domains after this name; only this project's and those known to all, if one is given.
pub(crate) async fn list_domains(
    connection: &mut AnyConnection,
    visible_to: Option<ProjectId>,
    after: &str,
    limit: i64,
) -> Result<Vec<DomainRecord>, StoreError> {
    let rows = sqlx::query(select_domains!(
        "WHERE d.name > $1 AND (CAST($2 AS TEXT) IS NULL OR d.project = $2 OR d.project IS NULL)
         ORDER BY d.name LIMIT $3"
    ))
    .bind(after)
    .bind(visible_to.map(|id| id.to_string()))
    .bind(limit)
    .fetch_all(connection)
    .await
    .during("list domains")?;
    rows.iter().map(domain_from).collect()
}

/// Puts a new domain in.
pub(crate) async fn insert_domain(
    connection: &mut AnyConnection,
    record: &DomainRecord,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO dns_domains (name, project, created_at) VALUES ($1, $2, $3)")
        .bind(record.name.to_string())
        .bind(record.project.as_ref().map(|(id, _)| id.to_string()))
        .bind(record.created_at.as_microsecond())
        .execute(connection)
        .await
        .during("insert a domain")?;
    Ok(())
}

/// Takes a domain out, with its names.
pub(crate) async fn delete_domain(connection: &mut AnyConnection, name: &Domain) -> Result<(), StoreError> {
    let query = sqlx::query("DELETE FROM dns_domains WHERE name = $1").bind(name.to_string());
    query.execute(connection).await.during("delete a domain")?;
    Ok(())
}

/// Every name there is.
pub(crate) async fn all(connection: &mut AnyConnection) -> Result<Vec<NameRecord>, StoreError> {
    let rows = sqlx::query(select!("ORDER BY r.id")).fetch_all(connection).await.during("read every name")?;
    rows.iter().map(from_row).collect()
}

/// The names that changed after this place in the change log, as they are now.
pub(crate) async fn changed_after(
    connection: &mut AnyConnection,
    last: i64,
) -> Result<Vec<NameRecord>, StoreError> {
    let query = sqlx::query(select!(
        "WHERE r.id IN (SELECT entity FROM changes WHERE id > $1 AND entity_kind = 'dns_record')"
    ));
    let rows = query.bind(last).fetch_all(connection).await.during("read changed names")?;
    rows.iter().map(from_row).collect()
}

/// This name of this domain.
pub(crate) async fn find(
    connection: &mut AnyConnection,
    domain: &Domain,
    name: &str,
) -> Result<Option<NameRecord>, StoreError> {
    let query = sqlx::query(select!("WHERE r.domain = $1 AND r.name = $2"));
    let query = query.bind(domain.to_string()).bind(name);
    let row = query.fetch_optional(connection).await.during("read a name")?;
    row.as_ref().map(from_row).transpose()
}

/// The name of which this is the whole, with its domain.
pub(crate) async fn find_whole(
    connection: &mut AnyConnection,
    whole: &Domain,
) -> Result<Option<NameRecord>, StoreError> {
    let query = sqlx::query(select!("WHERE r.whole = $1")).bind(whole.to_string());
    let row = query.fetch_optional(connection).await.during("look for a whole name")?;
    row.as_ref().map(from_row).transpose()
}

/// The names of a domain after this one; only those that lead to this address, if one is given.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    domain: &Domain,
    address: Option<IpAddr>,
    (after, limit): (&str, i64),
) -> Result<Vec<NameRecord>, StoreError> {
    let rows = sqlx::query(select!(
        "WHERE r.domain = $1 AND r.name > $2 AND (CAST($3 AS TEXT) IS NULL OR EXISTS (
             SELECT 1 FROM dns_addresses a WHERE a.record = r.id AND a.address = $3))
         ORDER BY r.name LIMIT $4"
    ))
    .bind(domain.to_string())
    .bind(after)
    .bind(address.map(address_text))
    .bind(limit)
    .fetch_all(connection)
    .await
    .during("list names")?;
    rows.iter().map(from_row).collect()
}

/// Puts a name in, or gives it other addresses.
pub(crate) async fn put(connection: &mut AnyConnection, name: &NameRecord) -> Result<(), StoreError> {
    let id = name.record.id.to_string();
    let sql = "INSERT INTO dns_records (id, domain, name, whole) VALUES ($1, $2, $3, $4)
               ON CONFLICT (id) DO NOTHING";
    sqlx::query(sql)
        .bind(id.as_str())
        .bind(name.domain.to_string())
        .bind(name.name.to_string())
        .bind(name.record.name.to_string())
        .execute(&mut *connection)
        .await
        .during("insert a name")?;
    let forget = sqlx::query("DELETE FROM dns_addresses WHERE record = $1").bind(id.as_str());
    forget.execute(&mut *connection).await.during("forget a name's addresses")?;
    let addresses: Vec<&IpAddr> = name.record.addresses.iter().collect();
    for chunk in addresses.chunks(ROWS) {
        let sql =
            format!("INSERT INTO dns_addresses (record, address) VALUES {}", columns::rows(chunk.len(), 2));
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for address in chunk {
            query = query.bind(id.as_str()).bind(address_text(**address));
        }
        query.execute(&mut *connection).await.during("insert a name's addresses")?;
    }
    Ok(())
}

/// Takes a name out.
pub(crate) async fn delete(connection: &mut AnyConnection, id: DnsRecordId) -> Result<(), StoreError> {
    let query = sqlx::query("DELETE FROM dns_records WHERE id = $1").bind(id.to_string());
    query.execute(connection).await.during("delete a name")?;
    Ok(())
}

/// Takes these addresses out of all names, and out what has none left; gives the names as they were.
pub(crate) async fn forget(write: &mut Write, addresses: &[IpAddr]) -> Result<Vec<NameRecord>, StoreError> {
    if addresses.is_empty() {
        return Ok(Vec::new());
    }
    let places = places(1, addresses.len());
    let bound = |sql: String| {
        let query = sqlx::query(AssertSqlSafe(sql));
        addresses.iter().fold(query, |query, address| query.bind(address_text(*address)))
    };
    let sql = format!(
        "{} WHERE r.id IN (SELECT record FROM dns_addresses WHERE address IN ({places}))",
        select!("")
    );
    let rows = bound(sql).fetch_all(write.connection()).await.during("look for names of an address")?;
    let named: Vec<NameRecord> = rows.iter().map(from_row).collect::<Result<_, _>>()?;
    if named.is_empty() {
        return Ok(named);
    }
    let sql = format!("DELETE FROM dns_addresses WHERE address IN ({places})");
    bound(sql).execute(write.connection()).await.during("take an address out of names")?;
    for name in &named {
        if name.record.addresses.iter().all(|address| addresses.contains(address)) {
            delete(write.connection(), name.record.id).await?;
        }
    }
    Ok(named)
}

/// Which of these addresses are the project's: fixed IPs of its instances, or floating IPs.
pub(crate) async fn held_by(
    connection: &mut AnyConnection,
    project: ProjectId,
    addresses: &[IpAddr],
) -> Result<BTreeSet<IpAddr>, StoreError> {
    let places = places(2, addresses.len());
    let sql = format!(
        "SELECT f.address FROM fixed_ips f JOIN interfaces i ON i.id = f.interface
         JOIN instances v ON v.id = i.instance WHERE v.project = $1 AND f.address IN ({places})
         UNION SELECT address FROM floating_ips WHERE project = $1 AND address IN ({places})"
    );
    let query = sqlx::query(AssertSqlSafe(sql)).bind(project.to_string());
    let query = addresses.iter().fold(query, |query, address| query.bind(address_text(*address)));
    let rows = query.fetch_all(connection).await.during("look whose addresses these are")?;
    rows.iter().map(|row| Columns::of(row).address()).collect()
}

/// So many places of a statement from this one on: `$2, $3`.
fn places(from: usize, count: usize) -> String {
    (from..from + count).map(|place| format!("${place}")).collect::<Vec<_>>().join(", ")
}

fn domain_from(row: &AnyRow) -> Result<DomainRecord, StoreError> {
    let mut columns = Columns::of(row);
    let name = columns.parse()?;
    let project = columns.optional_parse()?.zip(columns.optional_parse()?);
    Ok(DomainRecord { name, project, created_at: columns.time()? })
}

fn from_row(row: &AnyRow) -> Result<NameRecord, StoreError> {
    let mut columns = Columns::of(row);
    let (id, name, domain, whole) = (columns.parse()?, columns.parse()?, columns.parse()?, columns.parse()?);
    let (project, project_name) = (columns.optional_parse()?, columns.optional_parse()?);
    let addresses = columns.addresses()?.into_iter().collect();
    let record = DnsRecord { id, name: whole, project, addresses };
    Ok(NameRecord { record, name, domain, project_name })
}
