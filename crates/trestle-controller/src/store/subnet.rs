//! A network's addresses in each family: what exists, what is reserved, and how far they were given
//! out. Who has which is in `fixed_ip`.

use std::net::IpAddr;

use sqlx::{AnyConnection, AssertSqlSafe};
use trestle_api::network::ReservedRange;
use trestle_core::alloc::Layout;
use trestle_core::types::{AddressRange, Cidr, Family, NetworkId};
use trestle_core::world::Subnet;

use crate::store::columns::{self, Columns, address_text};
use crate::store::error::{During, StoreError};
use crate::store::network::NetworkRecord;

/// How many rows one statement inserts.
const ROWS: usize = 50;

/// A network's addresses in one family.
#[derive(Clone, Debug)]
pub(crate) struct SubnetRecord {
    /// Which there are; those that are reserved are none of them.
    pub(crate) layout: Layout,
    /// No address from here on was ever given out unasked; `None` when all were.
    pub(crate) next_address: Option<IpAddr>,
}

impl SubnetRecord {
    /// What bears on compiling.
    pub(crate) fn subnet(&self) -> Subnet {
        Subnet { cidr: self.layout.cidr(), gateway: self.layout.gateway() }
    }

    /// The address to try first for one that nobody asked for.
    pub(crate) fn candidate(&self) -> Option<IpAddr> {
        // It may have been reserved since the last one was given out.
        let next = self.next_address?;
        if self.layout.may_be_requested(next) { Some(next) } else { self.layout.after(next) }
    }
}

/// Reserves a range that overlaps with none that is reserved.
pub(crate) async fn reserve(
    connection: &mut AnyConnection,
    network: NetworkId,
    reserved: &ReservedRange,
) -> Result<(), StoreError> {
    insert_reserved(connection, &[(network, reserved)]).await
}

/// Gives exactly this range to instances again; false if it is not reserved. Its addresses may
/// never have been given out, so the next one is looked for from its start.
pub(crate) async fn unreserve(
    connection: &mut AnyConnection,
    record: &NetworkRecord,
    range: &AddressRange,
) -> Result<bool, StoreError> {
    let result = sqlx::query(
        "DELETE FROM reserved_ranges WHERE network = $1 AND first_address = $2 AND last_address = $3",
    )
    .bind(record.network.id.to_string())
    .bind(address_text(range.first()))
    .bind(address_text(range.last()))
    .execute(&mut *connection)
    .await
    .during("take a reserved range out")?;
    if result.rows_affected() == 0 {
        return Ok(false);
    }
    let Some(subnet) = record.subnet_of(range.first()) else { return Ok(true) };
    let first = range.first().max(subnet.layout.dhcp_start());
    let again = first <= range.last() && subnet.layout.allowed().contains(first);
    if again && subnet.next_address.is_none_or(|next| next > first) {
        move_cursor(connection, record.network.id, Family::of(first), Some(first)).await?;
    }
    Ok(true)
}

/// The first addresses of the range that someone has.
pub(crate) async fn in_use(
    connection: &mut AnyConnection,
    network: NetworkId,
    range: &AddressRange,
) -> Result<Vec<IpAddr>, StoreError> {
    let rows = sqlx::query(
        "SELECT address FROM fixed_ips
         WHERE network = $1 AND address BETWEEN $2 AND $3 AND released_at IS NULL ORDER BY address LIMIT 10",
    )
    .bind(network.to_string())
    .bind(address_text(range.first()))
    .bind(address_text(range.last()))
    .fetch_all(connection)
    .await
    .during("look who has a range's addresses")?;
    rows.iter().map(|row| Columns::of(row).address()).collect()
}

/// Notes from where on no address was ever given out unasked.
pub(crate) async fn move_cursor(
    connection: &mut AnyConnection,
    network: NetworkId,
    family: Family,
    to: Option<IpAddr>,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE subnets SET next_address = $3 WHERE network = $1 AND family = $2")
        .bind(network.to_string())
        .bind(family_number(family))
        .bind(to.map(address_text))
        .execute(connection)
        .await
        .during("note which addresses were given out")?;
    Ok(())
}

/// Puts the subnets and reserved ranges of new networks in.
pub(super) async fn insert(
    connection: &mut AnyConnection,
    records: &[NetworkRecord],
) -> Result<(), StoreError> {
    let subnets: Vec<(NetworkId, &SubnetRecord)> = records
        .iter()
        .flat_map(|record| record.subnets.iter().map(|subnet| (record.network.id, subnet)))
        .collect();
    for chunk in subnets.chunks(ROWS) {
        let sql = format!(
            "INSERT INTO subnets (network, family, cidr, first_address, last_address, gateway, vpn,
                 allowed_first, allowed_last, dhcp_start, next_address) VALUES {}",
            columns::rows(chunk.len(), 11)
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for (network, SubnetRecord { layout, next_address }) in chunk {
            let range = AddressRange::from(layout.cidr());
            query = query
                .bind(network.to_string())
                .bind(family_number(layout.cidr().family()))
                .bind(layout.cidr().to_string())
                .bind(address_text(range.first()))
                .bind(address_text(range.last()))
                .bind(layout.gateway().map(address_text))
                .bind(layout.vpn().map(address_text))
                .bind(address_text(layout.allowed().first()))
                .bind(address_text(layout.allowed().last()))
                .bind(address_text(layout.dhcp_start()))
                .bind(next_address.map(address_text));
        }
        query.execute(&mut *connection).await.during("insert a network's subnets")?;
    }
    let reserved: Vec<(NetworkId, &ReservedRange)> = records
        .iter()
        .flat_map(|record| record.reserved.iter().map(|reserved| (record.network.id, reserved)))
        .collect();
    for chunk in reserved.chunks(ROWS) {
        insert_reserved(connection, chunk).await?;
    }
    Ok(())
}

async fn insert_reserved(
    connection: &mut AnyConnection,
    ranges: &[(NetworkId, &ReservedRange)],
) -> Result<(), StoreError> {
    let sql = format!(
        "INSERT INTO reserved_ranges (network, first_address, last_address, reason) VALUES {}",
        columns::rows(ranges.len(), 4)
    );
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for (network, ReservedRange { range, reason }) in ranges {
        query = query
            .bind(network.to_string())
            .bind(address_text(range.first()))
            .bind(address_text(range.last()))
            .bind(serde_json::json!(reason).to_string());
    }
    query.execute(connection).await.during("reserve a range")?;
    Ok(())
}

/// Reads the columns of one subnet, `cidr` to `next_address`; nothing where the network has none of
/// this family.
pub(super) fn from_columns(
    columns: &mut Columns<'_>,
    reserved: &[ReservedRange],
) -> Result<Option<SubnetRecord>, StoreError> {
    let cidr: Option<Cidr> = columns.optional_parse()?;
    let (gateway, vpn) = (columns.optional_address()?, columns.optional_address()?);
    let allowed = (columns.optional_address()?, columns.optional_address()?);
    let (dhcp_start, next_address) = (columns.optional_address()?, columns.optional_address()?);
    let Some(cidr) = cidr else { return Ok(None) };
    let allowed = allowed.0.zip(allowed.1).and_then(|(first, last)| AddressRange::new(first, last));
    let (Some(allowed), Some(dhcp_start)) = (allowed, dhcp_start) else {
        return Err(columns.corrupt(cidr));
    };
    let layout = Layout::kept(cidr, gateway, vpn, allowed, dhcp_start);
    let layout = layout.reserving(reserved.iter().map(|reserved| reserved.range));
    Ok(Some(SubnetRecord { layout, next_address }))
}

/// Reads reserved ranges that SQL joined into one JSON text.
pub(super) fn reserved_from_column(columns: &mut Columns<'_>) -> Result<Vec<ReservedRange>, StoreError> {
    let joined: Option<Vec<(String, String, String)>> = columns.optional_json()?;
    let range = |(first, last, reason): (String, String, String)| {
        let ends = columns::address_of(&first).zip(columns::address_of(&last));
        let range = ends.and_then(|(first, last)| AddressRange::new(first, last));
        range.map(|range| ReservedRange { range, reason }).ok_or_else(|| columns.corrupt(first))
    };
    let mut reserved: Vec<ReservedRange> =
        joined.unwrap_or_default().into_iter().map(range).collect::<Result<_, _>>()?;
    reserved.sort_by_key(|reserved| reserved.range);
    Ok(reserved)
}

/// A family as it is kept.
pub(super) fn family_number(family: Family) -> i64 {
    match family {
        Family::Ipv4 => 4,
        Family::Ipv6 => 6,
    }
}

/// Reads a family.
pub(super) fn family_from(columns: &mut Columns<'_>) -> Result<Family, StoreError> {
    match columns.number()? {
        4 => Ok(Family::Ipv4),
        6 => Ok(Family::Ipv6),
        other => Err(columns.corrupt(other)),
    }
}
