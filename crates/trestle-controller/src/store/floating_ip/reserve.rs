//! Which floating IP is given out next: one that nobody had, or the one released longest ago.

use std::net::IpAddr;

use sqlx::AnyConnection;
use trestle_core::types::{AddressRange, Family, PoolId, ProjectId};
use trestle_core::world::Target;

use crate::store::Write;
use crate::store::columns::{Columns, address_text};
use crate::store::error::{During, StoreError};
use crate::store::pool;

/// How many addresses are looked at together to find one that nobody had.
const LOOK_AHEAD: i64 = 256;

/// Who is given an address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reservation {
    /// Of this pool.
    pub(crate) pool: PoolId,
    /// This project.
    pub(crate) project: ProjectId,
    /// It comes with an interface, leads to this address of it, and goes with it.
    pub(crate) auto_assigned: Option<Target>,
}

/// What came of asking for one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reserved {
    /// It was free.
    Given,
    /// The project had it already.
    Kept,
    /// Another project has it.
    Taken,
}

/// Gives an address of this family, if one is free.
pub(crate) async fn reserve(
    write: &mut Write,
    family: Family,
    reservation: &Reservation,
) -> Result<Option<IpAddr>, StoreError> {
    while let Some((range, next)) = pool::fresh_range(write.connection(), reservation.pool, family).await? {
        let given = take_fresh(write, reservation, &range, next).await?;
        if given.is_some() {
            return Ok(given);
        }
    }
    let row = sqlx::query(
        "SELECT address FROM floating_ips
         WHERE pool = $1 AND substr(address, 1, 1) = $2 AND released_at IS NOT NULL
         ORDER BY released_at, address LIMIT 1",
    )
    .bind(reservation.pool.to_string())
    .bind(pool::family_text(family))
    .fetch_optional(write.connection())
    .await
    .during("look for a released floating IP")?;
    let Some(row) = row else { return Ok(None) };
    let address = Columns::of(&row).address()?;
    take_again(write, address, reservation).await?;
    Ok(Some(address))
}

/// Gives this address, which is one of the pool.
pub(crate) async fn claim(
    write: &mut Write,
    address: IpAddr,
    reservation: &Reservation,
) -> Result<Reserved, StoreError> {
    if insert(write, address, reservation).await? {
        return Ok(Reserved::Given);
    }
    let row = sqlx::query("SELECT project FROM floating_ips WHERE address = $1")
        .bind(address_text(address))
        .fetch_one(write.connection())
        .await
        .during("look at a floating IP")?;
    match Columns::of(&row).optional_parse()? {
        Some(project) if reservation.project == project => Ok(Reserved::Kept),
        Some(_) => Ok(Reserved::Taken),
        None => {
            take_again(write, address, reservation).await?;
            Ok(Reserved::Given)
        }
    }
}

/// The next address of a range that nobody ever had, if there is one, and moves on behind it.
async fn take_fresh(
    write: &mut Write,
    reservation: &Reservation,
    range: &AddressRange,
    next: IpAddr,
) -> Result<Option<IpAddr>, StoreError> {
    let mut candidate = Some(next);
    while let Some(address) = candidate {
        if insert(write, address, reservation).await? {
            break;
        }
        // Someone asked for it.
        candidate = pass_over(write.connection(), range, address).await?;
    }
    let next = candidate.and_then(|given| range.after(given));
    pool::move_cursor(write.connection(), range, next).await?;
    Ok(candidate)
}

/// The first address from this one on that has no row, as far as this looks.
async fn pass_over(
    connection: &mut AnyConnection,
    range: &AddressRange,
    from: IpAddr,
) -> Result<Option<IpAddr>, StoreError> {
    let rows = sqlx::query(
        "SELECT address FROM floating_ips WHERE address BETWEEN $1 AND $2 ORDER BY address LIMIT $3",
    )
    .bind(address_text(from))
    .bind(address_text(range.last()))
    .bind(LOOK_AHEAD)
    .fetch_all(connection)
    .await
    .during("look for a floating IP that nobody had")?;
    let mut candidate = Some(from);
    for row in &rows {
        let taken = Columns::of(row).address()?;
        if candidate == Some(taken) {
            candidate = range.after(taken);
        }
    }
    Ok(candidate)
}

/// Whether there was no row for the address.
async fn insert(write: &mut Write, address: IpAddr, reservation: &Reservation) -> Result<bool, StoreError> {
    let (at, revision) = (write.at().as_microsecond(), write.revision().cast_signed());
    let target = reservation.auto_assigned;
    let result = sqlx::query(
        "INSERT INTO floating_ips (address, pool, project, interface, fixed, auto_assigned, reserved_at, generation)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (address) DO NOTHING",
    )
    .bind(address_text(address))
    .bind(reservation.pool.to_string())
    .bind(reservation.project.to_string())
    .bind(target.map(|target| target.interface.to_string()))
    .bind(target.map(|target| address_text(target.fixed)))
    .bind(i64::from(target.is_some()))
    .bind(at)
    .bind(revision)
    .execute(write.connection())
    .await
    .during("reserve a floating IP")?;
    Ok(result.rows_affected() == 1)
}

async fn take_again(write: &mut Write, address: IpAddr, reservation: &Reservation) -> Result<(), StoreError> {
    let (at, revision) = (write.at().as_microsecond(), write.revision().cast_signed());
    let target = reservation.auto_assigned;
    sqlx::query(
        "UPDATE floating_ips SET project = $2, interface = $3, fixed = $4, auto_assigned = $5, reserved_at = $6,
             generation = $7, released_at = NULL
         WHERE address = $1 AND released_at IS NOT NULL",
    )
    .bind(address_text(address))
    .bind(reservation.project.to_string())
    .bind(target.map(|target| target.interface.to_string()))
    .bind(target.map(|target| address_text(target.fixed)))
    .bind(i64::from(target.is_some()))
    .bind(at)
    .bind(revision)
    .execute(write.connection())
    .await
    .during("reserve a floating IP again")?;
    Ok(())
}
