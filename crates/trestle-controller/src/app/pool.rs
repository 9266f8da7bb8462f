//! Pools of floating IPs.

use std::net::IpAddr;

use sqlx::AnyConnection;
use trestle_api::{FieldProblem, NewPool, Page, PageQuery, Pool, PoolRangeRequest};
use trestle_core::alloc::are_for_hosts;
use trestle_core::types::{AddressRange, Cidr, Family, Name, PoolId};
use trestle_core::world::RoutingSourceIp;
use uuid::Uuid;

use crate::app::check::{self, Checks, LARGEST_COUNT};
use crate::app::{App, Caller};
use crate::error::AppError;
use crate::store::change::Change;
use crate::store::host as host_store;
use crate::store::network::subnets_in;
use crate::store::pool::{self, PoolRecord};

/// The longest prefix of an IPv4 CIDR whose first and last address are none of a pool's: they name the
/// network and everybody on it (reference AP-20).
const LONGEST_NETWORK: u8 = 30;

/// A range that was asked for, and the field that it was in.
type Wish = (String, AddressRange);

impl App {
    /// Makes a pool. Admins only.
    pub async fn create_pool(&self, caller: &Caller, new: NewPool) -> Result<Pool, AppError> {
        caller.must_be_admin("making a pool")?;
        let mut checks = Checks::default();
        let name = checks.name("name", &new.name);
        let interface = new.interface.as_deref().and_then(|text| checks.link("interface", text));
        let wishes = read_ranges(&mut checks, &new.ranges);
        checks.finish()?;
        let Some(name) = name else {
            return Err(AppError::defect("a pool without a name passed its checks"));
        };
        let mut write = self.write().await?;
        if pool::find(write.connection(), name.as_str()).await?.is_some() {
            return Err(AppError::conflict("name_taken", format!("there is a pool `{name}` already")));
        }
        refuse_taken(write.connection(), &wishes).await?;
        let mut ranges: Vec<AddressRange> = wishes.into_iter().map(|(_, range)| range).collect();
        ranges.sort();
        let (id, created_at) = (PoolId(Uuid::now_v7()), write.at());
        let record = PoolRecord { id, name, interface, ranges, used: 0, created_at };
        pool::insert(write.connection(), &record).await?;
        pool::add_ranges(write.connection(), id, &record.ranges).await?;
        let ranges: Vec<String> = record.ranges.iter().map(ToString::to_string).collect();
        let with = if ranges.is_empty() { "no addresses".to_owned() } else { ranges.join(", ") };
        write.log(change("pool.created", format!("pool `{}` was made with {with}", record.name), &record));
        write.commit().await?;
        Ok(answer(record))
    }

    /// The pools.
    pub async fn list_pools(&self, _: &Caller, page: &PageQuery) -> Result<Page<Pool>, AppError> {
        let (limit, after) = (check::limit(page)?, check::after_id(page)?);
        let mut read = self.store().read().await?;
        let records = pool::list(&mut read, &after, check::rows(limit)).await?;
        Ok(check::page(records.into_iter().map(answer).collect(), limit, |pool: &Pool| pool.id.to_string()))
    }

    /// One pool.
    pub async fn pool(&self, _: &Caller, pool: &str) -> Result<Pool, AppError> {
        let mut read = self.store().read().await?;
        Ok(answer(find(&mut read, pool).await?))
    }

    /// Deletes a pool of which no project has an address. Admins only.
    pub async fn delete_pool(&self, caller: &Caller, pool: &str) -> Result<(), AppError> {
        caller.must_be_admin("deleting a pool")?;
        let mut write = self.write().await?;
        let record = find(write.connection(), pool).await?;
        let reserved = pool::reserved_of(write.connection(), record.id).await?;
        let givers = pool::givers(write.connection(), record.id).await?;
        let uses: Vec<String> =
            reserved.iter().map(|address| format!("floating IP `{address}`")).chain(givers).collect();
        if !uses.is_empty() {
            let error = AppError::in_use(&format!("pool `{}` is used by", record.name), &uses);
            return Err(error.hint(
                "release floating IPs with `trestle floating-ip release`, and end what projects give out by themselves with `trestle project set PROJECT --auto-assign ''`; a network does so for as long as it is there",
            ));
        }
        pool::delete(&mut write, record.id).await?;
        write.log(change("pool.deleted", format!("pool `{}` was deleted", record.name), &record));
        write.commit().await?;
        Ok(())
    }

    /// Adds addresses to a pool. The same again changes nothing. Admins only.
    pub async fn add_pool_range(
        &self,
        caller: &Caller,
        pool: &str,
        request: PoolRangeRequest,
    ) -> Result<Pool, AppError> {
        caller.must_be_admin("adding addresses to a pool")?;
        let range = read_one(&request)?;
        let mut write = self.write().await?;
        let mut record = find(write.connection(), pool).await?;
        if record.ranges.contains(&range) {
            return Ok(answer(record));
        }
        refuse_taken(write.connection(), &[("range".to_owned(), range)]).await?;
        pool::add_ranges(write.connection(), record.id, &[range]).await?;
        record.ranges.push(range);
        record.ranges.sort();
        let message = format!("{range} was added to pool `{}`", record.name);
        write.log(change("pool.range_added", message, &record));
        write.commit().await?;
        Ok(answer(record))
    }

    /// Takes addresses of which no project has any out of a pool. What is not in it stays so. Admins
    /// only.
    pub async fn remove_pool_range(
        &self,
        caller: &Caller,
        pool: &str,
        request: PoolRangeRequest,
    ) -> Result<Pool, AppError> {
        caller.must_be_admin("taking addresses out of a pool")?;
        let range = read_one(&request)?;
        let mut write = self.write().await?;
        let mut record = find(write.connection(), pool).await?;
        if !record.ranges.contains(&range) {
            refuse_part(&record, &range)?;
            return Ok(answer(record));
        }
        let reserved = pool::reserved_in(write.connection(), &range).await?;
        if !reserved.is_empty() {
            let uses: Vec<String> =
                reserved.iter().map(|address| format!("floating IP `{address}`")).collect();
            let sentence = format!("{range} of pool `{}` has", record.name);
            return Err(
                AppError::in_use(&sentence, &uses).hint("release them with `trestle floating-ip release`")
            );
        }
        pool::remove_range(&mut write, &range).await?;
        record.ranges.retain(|known| *known != range);
        let message = format!("{range} was taken out of pool `{}`", record.name);
        write.log(change("pool.range_removed", message, &record));
        write.commit().await?;
        Ok(answer(record))
    }
}

/// The pool of this name or id.
pub(super) async fn find(connection: &mut AnyConnection, text: &str) -> Result<PoolRecord, AppError> {
    let found = pool::find(connection, &check::reference(text)).await?;
    found.ok_or_else(|| AppError::not_found("pool", text))
}

fn read_ranges(checks: &mut Checks, texts: &[String]) -> Vec<Wish> {
    let mut wishes: Vec<Wish> = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        let field = format!("ranges[{i}]");
        let Some(range) = read_range(checks, &field, text) else { continue };
        if let Some((first, other)) = wishes.iter().find(|(_, other)| other.overlaps(&range)) {
            checks.add(&field, "range_overlaps", format!("{range} overlaps with {other}, which {first} is"));
        }
        wishes.push((field, range));
    }
    wishes
}

fn read_one(request: &PoolRangeRequest) -> Result<AddressRange, AppError> {
    let mut checks = Checks::default();
    let range = read_range(&mut checks, "range", &request.range);
    checks.finish()?;
    range.ok_or_else(|| AppError::defect("a range that is none passed its checks"))
}

fn read_range(checks: &mut Checks, field: &str, text: &str) -> Option<AddressRange> {
    let range = match text.contains('/') {
        true => addresses_of(checks.parse::<Cidr>(field, "bad_range", text)?),
        false => checks.parse::<AddressRange>(field, "bad_range", text)?,
    };
    if !are_for_hosts(&range) {
        checks.add(field, "bad_range", format!("{range} has addresses that no host can have"));
        return None;
    }
    Some(range)
}

/// The addresses of a network that hosts on it can have.
fn addresses_of(cidr: Cidr) -> AddressRange {
    let whole = AddressRange::from(cidr);
    let (first, last) = (whole.after(whole.first()), whole.before(whole.last()));
    let inner = match (cidr.family(), cidr.net().prefix_len()) {
        (Family::Ipv4, 0..=LONGEST_NETWORK) => first.zip(last),
        // The first is every router's (RFC 4291 §2.6.1), but on a link of two (RFC 6164).
        (Family::Ipv6, 0..127) => first.map(|first| (first, whole.last())),
        _ => None,
    };
    inner.and_then(|(first, last)| AddressRange::new(first, last)).unwrap_or(whole)
}

/// The hosts that have some of these addresses for themselves, or let instances leave under them.
async fn hosts_in(
    connection: &mut AnyConnection,
    range: &AddressRange,
) -> Result<Vec<(Name, IpAddr)>, AppError> {
    let mut found = Vec::new();
    for record in host_store::list(connection, (None, None), "", i64::MAX).await? {
        let source = match record.host.routing_source_ip {
            RoutingSourceIp::Address(address) => Some(IpAddr::from(address)),
            RoutingSourceIp::OfDevice | RoutingSourceIp::Off => None,
        };
        let own = record.observed.iter().flat_map(|observed| observed.addresses.iter().copied());
        let address = own.chain(source).find(|address| range.contains(*address));
        found.extend(address.map(|address| (record.host.name.clone(), address)));
    }
    Ok(found)
}

/// Fails if networks, pools or hosts have some of these addresses; says which.
async fn refuse_taken(connection: &mut AnyConnection, wishes: &[Wish]) -> Result<(), AppError> {
    let mut problems = Vec::new();
    for (field, range) in wishes {
        let networks = subnets_in(connection, range).await?;
        let networks = networks.into_iter().map(|(name, cidr)| format!("network `{name}`, which has {cidr}"));
        let pools = pool::overlapping(connection, range).await?;
        let pools = pools.into_iter().map(|(name, other)| format!("pool `{name}`, which has {other}"));
        let hosts = hosts_in(connection, range).await?;
        let hosts = hosts.into_iter().map(|(name, address)| format!("host `{name}`, which has {address}"));
        problems.extend(networks.chain(pools).chain(hosts).map(|other| FieldProblem {
            field: field.clone(),
            code: "range_overlaps".to_owned(),
            message: format!("{range} overlaps with {other}"),
        }));
    }
    let Some(first) = problems.first() else { return Ok(()) };
    let mut error = AppError::conflict("range_overlaps", first.message.clone())
        .hint("`trestle network list` and `trestle pool list` show the ranges that are taken; a host's own addresses cannot float");
    error.error.problems = problems;
    Err(error)
}

/// Fails if the range is a part of one that the pool has, or several.
fn refuse_part(record: &PoolRecord, range: &AddressRange) -> Result<(), AppError> {
    let Some(other) = record.ranges.iter().find(|other| other.overlaps(range)) else { return Ok(()) };
    let message = format!("{range} is not the same as {other}, which pool `{}` has", record.name);
    Err(AppError::conflict("range_overlaps", message).hint(format!(
        "a range is taken out as it was added: `trestle pool show {}` lists them",
        record.name
    )))
}

fn change(kind: &'static str, message: String, record: &PoolRecord) -> Change {
    Change::new(kind, &record.name, message)
}

fn answer(record: PoolRecord) -> Pool {
    let PoolRecord { id, name, interface, ranges, used, created_at } = record;
    let total = ranges.iter().fold(0_u128, |total, range| total.saturating_add(range.size()));
    let total = u64::try_from(total).unwrap_or(u64::MAX).min(LARGEST_COUNT);
    Pool { id, name, interface, ranges, total, used, created_at }
}
