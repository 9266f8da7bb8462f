//! Reserves floating IPs for projects, and gives them back.

use std::net::IpAddr;

use trestle_api::{FloatingIp, NewFloatingIp};
use trestle_core::types::{Family, Name, PoolId};

use crate::app::check::{self, Checks};
use crate::app::floating_ip::endpoint::refuse_vpn;
use crate::app::floating_ip::{change, find, shown};
use crate::app::{App, Caller, dns, pool, project};
use crate::error::AppError;
use crate::store::Write;
use crate::store::change::Change;
use crate::store::floating_ip::{self, Reservation, Reserved};
use crate::store::history;
use crate::store::pool as pool_store;
use crate::store::project::ProjectRecord;

/// A floating IP that was asked for, read.
struct Wish {
    project: String,
    pool: Option<String>,
    address: Option<IpAddr>,
    family: Family,
}

/// Which address of a pool: this one, or any of the family.
pub(super) struct Wanted {
    pub(super) address: Option<IpAddr>,
    pub(super) family: Family,
}

impl App {
    /// Reserves a floating IP for a project. One that it has already is given again.
    pub async fn reserve_floating_ip(
        &self,
        caller: &Caller,
        new: NewFloatingIp,
    ) -> Result<FloatingIp, AppError> {
        caller.must_not_be_agent("reserving a floating IP")?;
        let wish = read(caller, &new)?;
        let mut write = self.write().await?;
        let owner = project::find(write.connection(), caller, &wish.project).await?;
        let pool = choose_pool(&mut write, &wish).await?;
        if let Some(address) = wish.address {
            let record = floating_ip::find(write.connection(), address).await?;
            if let Some(record) = record.filter(|record| record.project == owner.id) {
                return shown(write.connection(), record).await;
            }
        }
        let wanted = Wanted { address: wish.address, family: wish.family };
        let address = self.give_floating_ip(&mut write, &owner, pool, wanted).await?;
        write.commit().await?;
        self.floating_ip_again(address).await
    }

    /// Gives a project a floating IP of a pool within its quota.
    pub(super) async fn give_floating_ip(
        &self,
        write: &mut Write,
        owner: &ProjectRecord,
        (pool, pool_name): (PoolId, Name),
        wanted: Wanted,
    ) -> Result<IpAddr, AppError> {
        self.refuse_floating_ips_over_quota(write, owner, 1).await?;
        let reservation = Reservation { pool, project: owner.id, auto_assigned: None };
        let address = match wanted.address {
            Some(address) => match floating_ip::claim(write, address, &reservation).await? {
                Reserved::Given | Reserved::Kept => address,
                Reserved::Taken => {
                    let message = format!("another project has floating IP {address}");
                    return Err(AppError::conflict("address_taken", message)
                        .hint("leave `address` out to have one that is free"));
                }
            },
            None => {
                let given = floating_ip::reserve(write, wanted.family, &reservation).await?;
                given.ok_or_else(|| pool_full(&pool_name, wanted.family))?
            }
        };
        history::note_floating_ip(write, address).await?;
        let message = format!("floating IP {address} was reserved for project `{}`", owner.name);
        write.log(Change::new("floating_ip.reserved", address, message).project(owner.id, &owner.name));
        Ok(address)
    }

    /// Gives a floating IP that leads nowhere back to its pool.
    pub async fn release_floating_ip(&self, caller: &Caller, address: &str) -> Result<(), AppError> {
        caller.must_not_be_agent("releasing a floating IP")?;
        let mut write = self.write().await?;
        let record = find(write.connection(), caller, address).await?;
        let address = record.address;
        refuse_auto_assigned(&record, "released")?;
        refuse_vpn(write.connection(), &record, None, "released").await?;
        let mut uses: Vec<String> = Vec::new();
        uses.extend(record.target.iter().map(|target| format!("instance `{}`", target.instance_name)));
        uses.extend(record.forwards.iter().map(|forward| {
            let (protocol, port, name) = (forward.protocol, forward.port, &forward.to.instance_name);
            format!("instance `{name}` (port {protocol}/{port})")
        }));
        if !uses.is_empty() {
            let error = AppError::in_use(&format!("floating IP {address} still leads to"), &uses);
            return Err(error.hint(format!(
                "`trestle floating-ip disassociate {address}` and `trestle floating-ip unforward {address} PROTOCOL/PORT` end that"
            )));
        }
        floating_ip::release(&mut write, address).await?;
        history::note_floating_ip(&mut write, address).await?;
        let message = format!("floating IP {address} was released by project `{}`", record.project_name);
        write.log(change("floating_ip.released", message, &record, None));
        dns::forget(&mut write, &[address]).await?;
        write.commit().await?;
        Ok(())
    }
}

/// Fails if the floating IP goes with its instance; `what` cannot be done to it.
pub(super) fn refuse_auto_assigned(
    record: &floating_ip::FloatingIpRecord,
    what: &str,
) -> Result<(), AppError> {
    let Some(target) = record.target.as_ref().filter(|_| record.auto_assigned) else { return Ok(()) };
    let (address, instance) = (record.address, &target.instance_name);
    let message = format!(
        "floating IP {address} came with instance `{instance}` and goes with it: it cannot be {what}"
    );
    Err(AppError::conflict("auto_assigned", message)
        .hint("one that is reserved with `trestle floating-ip reserve` goes where you want it"))
}

/// Nothing of this family is free in a pool.
pub(super) fn pool_full(pool: &Name, family: Family) -> AppError {
    let message = format!("no {family} address of pool `{pool}` is free");
    AppError::conflict("pool_full", message).hint(
        "release floating IPs that are not needed; an administrator adds addresses with `trestle pool add-range`",
    )
}

/// There is no pool of this family.
pub(super) fn no_pool(family: Family) -> AppError {
    AppError::conflict("no_pool", format!("no pool has {family} addresses"))
}

fn read(caller: &Caller, new: &NewFloatingIp) -> Result<Wish, AppError> {
    let mut checks = Checks::default();
    let project = checks.owner(caller, new.project.as_deref(), "a floating IP");
    let address = checks.address("address", new.address.as_deref());
    let family = match new.family.as_deref() {
        None => address.map_or(Family::Ipv4, Family::of),
        Some(text) => checks.family("family", text).unwrap_or(Family::Ipv4),
    };
    if let Some(address) = address.filter(|address| Family::of(*address) != family) {
        checks.add("family", "wrong_family", format!("{address} is not an {family} address"));
    }
    checks.finish()?;
    let project = project.ok_or_else(|| AppError::defect("a request without a project passed its checks"))?;
    Ok(Wish { project, pool: new.pool.clone(), address, family })
}

/// The pool that is asked for, the one that has the address, or the only one of the family.
async fn choose_pool(write: &mut Write, wish: &Wish) -> Result<(PoolId, Name), AppError> {
    let named = match wish.pool.as_deref() {
        Some(text) => Some(pool::find(write.connection(), text).await?),
        None => None,
    };
    if let Some(address) = wish.address {
        let holder = pool_store::of_address(write.connection(), address).await?;
        return match (named, holder) {
            (None, Some(holder)) => Ok(holder),
            (Some(named), Some(holder)) if named.id == holder.0 => Ok(holder),
            (None, None) => Err(check::invalid("address", "bad_address", format!("{address} is in no pool"))),
            (Some(named), _) => {
                let message = format!("{address} is not an address of pool `{}`", named.name);
                Err(check::invalid("address", "bad_address", message))
            }
        };
    }
    if let Some(named) = named {
        return Ok((named.id, named.name));
    }
    let family = wish.family;
    let mut pools = pool_store::of_family(write.connection(), family).await?;
    match (pools.len(), pools.pop()) {
        (1, Some(only)) => Ok(only),
        (_, None) => Err(no_pool(family).hint("an administrator makes one with `trestle pool create`")),
        (_, Some(last)) => {
            let names: Vec<String> =
                pools.iter().chain([&last]).map(|(_, name)| format!("`{name}`")).collect();
            let message = format!("several pools have {family} addresses: say which of {}", names.join(", "));
            Err(check::invalid("pool", "required", message))
        }
    }
}
