//! Leads floating IPs to instances, and nowhere again.

use trestle_api::{FloatingIp, FloatingIpAssociation};
use trestle_core::types::HostId;

use crate::app::floating_ip::confirm::Undo;
use crate::app::floating_ip::device::refuse_no_device;
use crate::app::floating_ip::reserve::refuse_auto_assigned;
use crate::app::floating_ip::target::choose;
use crate::app::floating_ip::{change, find, shown};
use crate::app::{App, Caller, host};
use crate::error::AppError;
use crate::store::Write;
use crate::store::floating_ip::{self, FloatingIpRecord, Server, TargetRecord};
use crate::store::history;

impl App {
    /// Leads a floating IP to an instance. If its host is there and has it not, it leads where it did
    /// before. The same again changes nothing.
    pub async fn associate_floating_ip(
        &self,
        caller: &Caller,
        address: &str,
        request: FloatingIpAssociation,
    ) -> Result<FloatingIp, AppError> {
        caller.must_not_be_agent("associating a floating IP")?;
        let mut write = self.write().await?;
        let record = find(write.connection(), caller, address).await?;
        let wanted = (request.instance.as_str(), request.fixed_ip.as_deref());
        let to = choose(&mut write, caller, &record, wanted).await;
        let now = record.target.as_ref().map(|now| now.target);
        if now.is_some() && to.as_ref().ok().map(|to| to.target) == now {
            drop(write);
            return self.floating_ip_as_it_was(&record).await;
        }
        refuse_auto_assigned(&record, "moved")?;
        let to = to?;
        if !request.r#move {
            refuse_associated(&record, &to)?;
        }
        let apart = record.forwards.iter().find_map(|forward| apart(&to, &forward.to));
        if let Some((server, other)) = apart {
            return Err(served_elsewhere(&record, (&to, server), other));
        }
        refuse_unfit(&mut write, &record, &to).await?;
        floating_ip::set_target(&mut write, record.address, Some(to.target)).await?;
        history::note_floating_ip(&mut write, record.address).await?;
        log_left(&mut write, &record);
        let message = format!(
            "floating IP {} leads to instance `{}`, to {} on network `{}`",
            record.address, to.instance_name, to.target.fixed, to.network_name
        );
        // Of one that is plugged in nowhere, who has the ports has the address.
        let of_ports = record.forwards.iter().find_map(|forward| forward.to.server.as_ref());
        write.log(change("floating_ip.associated", message, &record, to.server.as_ref().or(of_ports)));
        let revision = write.commit().await?;
        if let Some(server) = &to.server {
            self.confirm_floating_ip(&record, server, revision, Undo::Target(now)).await?;
        }
        self.wait_for_hosts(old_holder(&record), revision).await;
        self.floating_ip_again(record.address).await
    }

    /// Leads a floating IP nowhere; its project keeps it. Its host has let go of it when this returns,
    /// if that is connected, or two seconds have passed. The same again changes nothing.
    pub async fn disassociate_floating_ip(
        &self,
        caller: &Caller,
        address: &str,
    ) -> Result<FloatingIp, AppError> {
        caller.must_not_be_agent("disassociating a floating IP")?;
        let mut write = self.write().await?;
        let record = find(write.connection(), caller, address).await?;
        if record.target.is_none() {
            return shown(write.connection(), record).await;
        }
        refuse_auto_assigned(&record, "disassociated")?;
        floating_ip::set_target(&mut write, record.address, None).await?;
        history::note_floating_ip(&mut write, record.address).await?;
        log_left(&mut write, &record);
        let revision = write.commit().await?;
        self.wait_for_hosts(old_holder(&record), revision).await;
        self.floating_ip_again(record.address).await
    }
}

/// Says that the floating IP does not lead any more where it led, if it did anywhere.
fn log_left(write: &mut Write, record: &FloatingIpRecord) {
    let Some(target) = &record.target else { return };
    let message = format!(
        "floating IP {} does not lead to instance `{}` any more",
        record.address, target.instance_name
    );
    write.log(change("floating_ip.disassociated", message, record, record.holder()));
}

fn old_holder(record: &FloatingIpRecord) -> Vec<HostId> {
    record.holder().map(|holder| holder.id).into_iter().collect()
}

/// Fails if the host that serves it cannot have the floating IP.
pub(super) async fn refuse_unfit(
    write: &mut Write,
    record: &FloatingIpRecord,
    to: &TargetRecord,
) -> Result<(), AppError> {
    let Some(server) = &to.server else { return Ok(()) };
    let server = host::find(write.connection(), &Caller::Admin, &server.id.to_string()).await?;
    refuse_no_device(&server, &[(record.address, record.device.clone())])
}

/// The hosts that serve these, if both are served and not by the same.
pub(super) fn apart<'a>(one: &'a TargetRecord, other: &'a TargetRecord) -> Option<(&'a Server, &'a Server)> {
    let both = one.server.as_ref().zip(other.server.as_ref());
    both.filter(|(one, other)| one.id != other.id)
}

/// A floating IP cannot be on two hosts.
pub(super) fn served_elsewhere(
    record: &FloatingIpRecord,
    (to, server): (&TargetRecord, &Server),
    holder: &Server,
) -> AppError {
    let message = format!(
        "instance `{}` is served by host `{}`, and floating IP {} is on host `{}`: all that one leads to is served by one host",
        to.instance_name, server.name, record.address, holder.name
    );
    AppError::conflict("served_elsewhere", message).hint(format!(
        "move the instance with `trestle instance move {} --to {}`, or use another floating IP",
        to.instance_name, holder.name
    ))
}

fn refuse_associated(record: &FloatingIpRecord, to: &TargetRecord) -> Result<(), AppError> {
    let Some(now) = &record.target else { return Ok(()) };
    let (address, fixed) = (record.address, now.target.fixed);
    let message = format!("floating IP {address} leads to instance `{}`, to {fixed}", now.instance_name);
    Err(AppError::conflict("already_associated", message)
        .hint(format!("`trestle floating-ip move {address} {}` moves it at once", to.instance_name)))
}
