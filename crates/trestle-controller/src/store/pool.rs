//! Pools, with their ranges. Who has which address of them is in `floating_ip`.

use std::net::IpAddr;

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe};
use trestle_core::types::{AddressRange, Family, LinkName, Name, PoolId};

use crate::store::Write;
use crate::store::columns::{self, Columns, address_text};
use crate::store::error::{During, StoreError};

/// How many rows one statement inserts.
const ROWS: usize = 50;

/// A pool as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct PoolRecord {
    /// Names it for life.
    pub(crate) id: PoolId,
    /// Its name, unique.
    pub(crate) name: Name,
    /// The device that its addresses are on; each host's public one if absent.
    pub(crate) interface: Option<LinkName>,
    /// Its addresses, in order.
    pub(crate) ranges: Vec<AddressRange>,
    /// How many of them projects have.
    pub(crate) used: u64,
    /// When it was made.
    pub(crate) created_at: Timestamp,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT l.id, l.name, l.interface, l.created_at,
                    (SELECT COUNT(*) FROM floating_ips f WHERE f.pool = l.id AND f.project IS NOT NULL),
                    (SELECT '[' || string_agg('[\"' || r.first_address || '\",\"' || r.last_address || '\"]', ',')
                            || ']' FROM pool_ranges r WHERE r.pool = l.id)
             FROM pools l ",
            $rest
        )
    };
}

/// The pool of this id or name.
pub(crate) async fn find(
    connection: &mut AnyConnection,
    reference: &str,
) -> Result<Option<PoolRecord>, StoreError> {
    let query = sqlx::query(select!("WHERE l.id = $1 OR l.name = $1")).bind(reference);
    let row = query.fetch_optional(connection).await.during("read a pool")?;
    row.as_ref().map(from_row).transpose()
}

/// The pools after this id.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    after: &str,
    limit: i64,
) -> Result<Vec<PoolRecord>, StoreError> {
    let query = sqlx::query(select!("WHERE l.id > $1 ORDER BY l.id LIMIT $2")).bind(after).bind(limit);
    let rows = query.fetch_all(connection).await.during("list pools")?;
    rows.iter().map(from_row).collect()
}

/// The first pools, by name, that have addresses of this family.
pub(crate) async fn of_family(
    connection: &mut AnyConnection,
    family: Family,
) -> Result<Vec<(PoolId, Name)>, StoreError> {
    let rows = sqlx::query(
        "SELECT l.id, l.name FROM pools l WHERE EXISTS (
             SELECT 1 FROM pool_ranges r WHERE r.pool = l.id AND substr(r.first_address, 1, 1) = $1)
         ORDER BY l.name LIMIT 10",
    )
    .bind(family_text(family))
    .fetch_all(connection)
    .await
    .during("look for pools of a family")?;
    rows.iter().map(|row| named(&mut Columns::of(row))).collect()
}

/// Whether the pool has addresses of this family.
pub(crate) async fn has_family(
    connection: &mut AnyConnection,
    id: PoolId,
    family: Family,
) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM pool_ranges WHERE pool = $1 AND substr(first_address, 1, 1) = $2 LIMIT 1";
    let query = sqlx::query(sql).bind(id.to_string()).bind(family_text(family));
    let row = query.fetch_optional(connection).await.during("look for a pool's families")?;
    Ok(row.is_some())
}

/// The pool that has this address.
pub(crate) async fn of_address(
    connection: &mut AnyConnection,
    address: IpAddr,
) -> Result<Option<(PoolId, Name)>, StoreError> {
    // Ranges do not overlap: the one that begins last before it is the only one that can have it.
    let row = sqlx::query(
        "SELECT l.id, l.name, r.last_address FROM pool_ranges r JOIN pools l ON l.id = r.pool
         WHERE r.first_address <= $1 ORDER BY r.first_address DESC LIMIT 1",
    )
    .bind(address_text(address))
    .fetch_optional(connection)
    .await
    .during("look whose pool an address is in")?;
    let Some(row) = row else { return Ok(None) };
    let mut columns = Columns::of(&row);
    let pool = named(&mut columns)?;
    Ok((columns.address()? >= address).then_some(pool))
}

/// The first ranges of pools that overlap with this one, each with the name of its pool.
pub(crate) async fn overlapping(
    connection: &mut AnyConnection,
    range: &AddressRange,
) -> Result<Vec<(Name, AddressRange)>, StoreError> {
    let rows = sqlx::query(
        "SELECT l.name, r.first_address, r.last_address FROM pool_ranges r JOIN pools l ON l.id = r.pool
         WHERE r.first_address <= $2 AND r.last_address >= $1 ORDER BY r.first_address",
    )
    .bind(address_text(range.first()))
    .bind(address_text(range.last()))
    .fetch_all(connection)
    .await
    .during("look for overlapping pools")?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            let (name, first, last) = (columns.parse()?, columns.address()?, columns.address()?);
            let range = AddressRange::new(first, last).ok_or_else(|| columns.corrupt(last))?;
            Ok((name, range))
        })
        .collect()
}

/// Puts a new one in, without its ranges.
pub(crate) async fn insert(connection: &mut AnyConnection, record: &PoolRecord) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO pools (id, name, interface, created_at) VALUES ($1, $2, $3, $4)")
        .bind(record.id.to_string())
        .bind(record.name.as_str())
        .bind(record.interface.as_ref().map(ToString::to_string))
        .bind(record.created_at.as_microsecond())
        .execute(connection)
        .await
        .during("insert a pool")?;
    Ok(())
}

/// Adds ranges to it.
pub(crate) async fn add_ranges(
    connection: &mut AnyConnection,
    id: PoolId,
    ranges: &[AddressRange],
) -> Result<(), StoreError> {
    for chunk in ranges.chunks(ROWS) {
        let sql = format!(
            "INSERT INTO pool_ranges (first_address, last_address, pool, next_address) VALUES {}",
            columns::rows(chunk.len(), 4)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for range in chunk {
            let first = address_text(range.first());
            query =
                query.bind(first.clone()).bind(address_text(range.last())).bind(id.to_string()).bind(first);
        }
        query.execute(&mut *connection).await.during("add addresses to a pool")?;
    }
    Ok(())
}

/// Takes a range of which nothing is reserved out, with what was released of it.
pub(crate) async fn remove_range(write: &mut Write, range: &AddressRange) -> Result<(), StoreError> {
    for sql in [
        "DELETE FROM floating_ips WHERE address BETWEEN $1 AND $2",
        "DELETE FROM pool_ranges WHERE first_address = $1 AND last_address = $2",
    ] {
        let query = sqlx::query(sql).bind(address_text(range.first())).bind(address_text(range.last()));
        query.execute(write.connection()).await.during("take addresses out of a pool")?;
    }
    Ok(())
}

/// Takes one of which nothing is reserved out, with what was released of it.
pub(crate) async fn delete(write: &mut Write, id: PoolId) -> Result<(), StoreError> {
    for sql in ["DELETE FROM floating_ips WHERE pool = $1", "DELETE FROM pools WHERE id = $1"] {
        let query = sqlx::query(sql).bind(id.to_string());
        query.execute(write.connection()).await.during("delete a pool")?;
    }
    Ok(())
}

/// The first addresses of it that projects have.
pub(crate) async fn reserved_of(
    connection: &mut AnyConnection,
    id: PoolId,
) -> Result<Vec<IpAddr>, StoreError> {
    let sql = "SELECT address FROM floating_ips WHERE pool = $1 AND project IS NOT NULL
               ORDER BY address LIMIT 10";
    let query = sqlx::query(sql).bind(id.to_string());
    let rows = query.fetch_all(connection).await.during("look who has a pool's addresses")?;
    rows.iter().map(|row| Columns::of(row).address()).collect()
}

/// The first addresses of a range that projects have.
pub(crate) async fn reserved_in(
    connection: &mut AnyConnection,
    range: &AddressRange,
) -> Result<Vec<IpAddr>, StoreError> {
    let sql = "SELECT address FROM floating_ips WHERE address BETWEEN $1 AND $2 AND project IS NOT NULL
               ORDER BY address LIMIT 10";
    let query = sqlx::query(sql).bind(address_text(range.first())).bind(address_text(range.last()));
    let rows = query.fetch_all(connection).await.during("look who has a range's addresses")?;
    rows.iter().map(|row| Columns::of(row).address()).collect()
}

/// The names of some networks and projects that give out of it by themselves.
pub(crate) async fn givers(connection: &mut AnyConnection, id: PoolId) -> Result<Vec<String>, StoreError> {
    let rows = sqlx::query(
        "SELECT 'network `' || name || '`' AS used FROM networks WHERE auto_assign = $1
         UNION ALL SELECT 'project `' || name || '`' FROM projects WHERE auto_assign = $1
         ORDER BY used LIMIT 10",
    )
    .bind(id.to_string())
    .fetch_all(connection)
    .await
    .during("look who gives out of a pool")?;
    rows.iter().map(|row| Ok(Columns::of(row).text()?.to_owned())).collect()
}

/// The first range of the pool of this family that has addresses which were never given out unasked,
/// with the first of these.
pub(super) async fn fresh_range(
    connection: &mut AnyConnection,
    id: PoolId,
    family: Family,
) -> Result<Option<(AddressRange, IpAddr)>, StoreError> {
    let text = family_text(family);
    let row = sqlx::query(
        "SELECT first_address, last_address, next_address FROM pool_ranges
         WHERE pool = $1 AND next_address IS NOT NULL AND first_address BETWEEN $2 AND $3
         ORDER BY first_address LIMIT 1",
    )
    .bind(id.to_string())
    .bind(text)
    .bind(format!("{text}g"))
    .fetch_optional(connection)
    .await
    .during("look for addresses that nobody had")?;
    row.map(|row| {
        let mut columns = Columns::of(&row);
        let (first, last) = (columns.address()?, columns.address()?);
        let range = AddressRange::new(first, last).ok_or_else(|| columns.corrupt(last))?;
        Ok((range, columns.address()?))
    })
    .transpose()
}

/// Notes from where on no address of a range was ever given out unasked.
pub(super) async fn move_cursor(
    connection: &mut AnyConnection,
    range: &AddressRange,
    to: Option<IpAddr>,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE pool_ranges SET next_address = $2 WHERE first_address = $1")
        .bind(address_text(range.first()))
        .bind(to.map(address_text))
        .execute(connection)
        .await
        .during("note which floating IPs were given out")?;
    Ok(())
}

/// What an address of this family begins with as it is kept.
pub(super) fn family_text(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "4",
        Family::Ipv6 => "6",
    }
}

fn named(columns: &mut Columns<'_>) -> Result<(PoolId, Name), StoreError> {
    Ok((columns.parse()?, columns.parse()?))
}

fn from_row(row: &AnyRow) -> Result<PoolRecord, StoreError> {
    let mut columns = Columns::of(row);
    let (id, name, interface) = (columns.parse()?, columns.parse()?, columns.optional_parse()?);
    let (created_at, used) = (columns.time()?, columns.count()?);
    let joined: Option<Vec<(String, String)>> = columns.optional_json()?;
    let range = |(first, last): (String, String)| {
        let ends = columns::address_of(&first).zip(columns::address_of(&last));
        let range = ends.and_then(|(first, last)| AddressRange::new(first, last));
        range.ok_or_else(|| columns.corrupt(first))
    };
    let mut ranges: Vec<AddressRange> =
        joined.unwrap_or_default().into_iter().map(range).collect::<Result<_, _>>()?;
    ranges.sort();
    Ok(PoolRecord { id, name, interface, ranges, used, created_at })
}
