//! Whether a host has the devices that floating IPs are on.

use trestle_core::types::{HostId, InterfaceId};

use crate::app::{Caller, host};
use crate::error::AppError;
use crate::store::Write;
use crate::store::floating_ip::{self, Needed};
use crate::store::host::HostRecord;

/// Fails if a host lacks a device that one of these floating IPs is to be on there.
pub(in crate::app) fn refuse_no_device(record: &HostRecord, needed: &[Needed]) -> Result<(), AppError> {
    let name = &record.host.name;
    for (address, device) in needed {
        let Some(device) = device.as_ref().or(record.host.public_interface.as_ref()) else {
            let message =
                format!("host `{name}` has no public interface, which floating IP {address} is to be on");
            let hint = format!("name one with `trestle host set {name} --public-interface DEVICE`");
            return Err(AppError::conflict("no_public_interface", message).hint(hint));
        };
        // A host that said nothing yet may have it.
        let known = record.observed.as_ref().map(|observed| &observed.devices);
        if known.is_some_and(|known| !known.is_empty() && !known.contains(device)) {
            let message =
                format!("host `{name}` has no device `{device}`, which floating IP {address} is to be on");
            return Err(AppError::conflict("no_such_device", message).hint(format!(
                "`trestle host show {name}` lists its devices, and `trestle host set {name} --public-interface DEVICE` names another where the pool names none"
            )));
        }
    }
    Ok(())
}

/// Fails if the host that is to serve an interface lacks a device for its floating IPs.
pub(in crate::app) async fn refuse_without_devices(
    write: &mut Write,
    server: HostId,
    interface: InterfaceId,
) -> Result<(), AppError> {
    let needed = floating_ip::needed_by(write.connection(), interface).await?;
    if needed.is_empty() {
        return Ok(());
    }
    let record = host::find(write.connection(), &Caller::Admin, &server.to_string()).await?;
    refuse_no_device(&record, &needed)
}
