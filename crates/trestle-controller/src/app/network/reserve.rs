//! Addresses that are kept from instances.

use trestle_api::{Network, ReserveRequest, ReservedRange};
use trestle_core::types::AddressRange;

use crate::app::check::{self, Checks};
use crate::app::network::{change, find};
use crate::app::{App, Caller};
use crate::error::AppError;
use crate::store::network::NetworkRecord;
use crate::store::subnet;

/// The longest reason, in characters.
const REASON: usize = 256;

impl App {
    /// Keeps a range from instances; one that has an address of it keeps that. The same again
    /// changes nothing. Admins only.
    pub async fn reserve(
        &self,
        caller: &Caller,
        network: &str,
        request: ReserveRequest,
    ) -> Result<Network, AppError> {
        caller.must_be_admin("reserving addresses")?;
        let wanted = read(&request)?;
        let mut write = self.write().await?;
        let record = find(write.connection(), caller, network).await?;
        refuse_outside(&record, &wanted.range)?;
        let (id, name, range) = (record.network.id, &record.network.name, wanted.range);
        if record.reserved.iter().any(|known| known.range == range) {
            return self.shown_again(id).await;
        }
        refuse_overlap(&record, &range)?;
        subnet::reserve(write.connection(), id, &wanted).await?;
        let in_use = subnet::in_use(write.connection(), id, &range).await?;
        let mut message = format!("{range} of network `{name}` is reserved");
        if !wanted.reason.is_empty() {
            message += &format!(": {}", wanted.reason);
        }
        if !in_use.is_empty() {
            let addresses: Vec<String> = in_use.iter().map(ToString::to_string).collect();
            message += &format!("; still in use until given back: {}", addresses.join(", "));
        }
        write.log(change("network.reserved", message, &record));
        write.commit().await?;
        self.shown_again(id).await
    }

    /// Gives a range that was kept from instances back. One that is not reserved at all stays
    /// so. Admins only.
    pub async fn unreserve(
        &self,
        caller: &Caller,
        network: &str,
        request: ReserveRequest,
    ) -> Result<Network, AppError> {
        caller.must_be_admin("giving reserved addresses back")?;
        let range = read(&request)?.range;
        let mut write = self.write().await?;
        let record = find(write.connection(), caller, network).await?;
        refuse_outside(&record, &range)?;
        let (id, name) = (record.network.id, &record.network.name);
        if !subnet::unreserve(write.connection(), &record, &range).await? {
            refuse_overlap(&record, &range)?;
            return self.shown_again(id).await;
        }
        let message = format!("{range} of network `{name}` is reserved no more");
        write.log(change("network.unreserved", message, &record));
        write.commit().await?;
        self.shown_again(id).await
    }
}

fn read(request: &ReserveRequest) -> Result<ReservedRange, AppError> {
    let mut checks = Checks::default();
    let range: Option<AddressRange> = checks.parse("range", "bad_range", &request.range);
    if request.reason.chars().count() > REASON || request.reason.chars().any(char::is_control) {
        let message = format!("a reason has {REASON} characters at most, on one line");
        checks.add("reason", "bad_reason", message);
    }
    checks.finish()?;
    let range = range.ok_or_else(|| AppError::defect("a range that is none passed its checks"))?;
    Ok(ReservedRange { range, reason: request.reason.clone() })
}

fn refuse_outside(record: &NetworkRecord, range: &AddressRange) -> Result<(), AppError> {
    let ranges = || record.network.subnets().map(|subnet| subnet.cidr);
    if ranges().any(|cidr| cidr.contains(range.first()) && cidr.contains(range.last())) {
        return Ok(());
    }
    let ranges: Vec<String> = ranges().map(|cidr| cidr.to_string()).collect();
    let message =
        format!("{range} is not in network `{}`, which has {}", record.network.name, ranges.join(" and "));
    Err(check::invalid("range", "range_outside", message))
}

fn refuse_overlap(record: &NetworkRecord, range: &AddressRange) -> Result<(), AppError> {
    let Some(other) = record.reserved.iter().find(|other| other.range.overlaps(range)) else { return Ok(()) };
    let message = format!(
        "{range} overlaps with {}, which is reserved on network `{}`",
        other.range, record.network.name
    );
    Err(AppError::conflict("range_overlap", message)
        .hint("a range is given back as it was reserved: `trestle network show` lists them"))
}
