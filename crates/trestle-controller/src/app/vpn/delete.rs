//! Ends VPNs.

use trestle_core::types::{HostId, ProjectId};

use super::{change, endpoint, find};
use crate::app::network::owner::free_if_unused;
use crate::app::{App, Caller, instance, security_group};
use crate::error::AppError;
use crate::store::Write;
use crate::store::instance as instance_store;
use crate::store::interface;
use crate::store::vpn::{self, VpnRecord};

impl App {
    /// Ends a project's VPN: its users, its keys, its instance, and the security group and the floating IP
    /// that came with it. Its host has taken it down when this returns, if it is connected, or two seconds have passed.
    pub async fn delete_vpn(&self, caller: &Caller, project: &str) -> Result<(), AppError> {
        caller.must_not_be_agent("deleting a VPN")?;
        let mut write = self.write().await?;
        let record = find(write.connection(), caller, project).await?;
        end(&mut write, &record).await?;
        let revision = write.commit().await?;
        let host = record.standing.host.map(|(host, _)| host);
        self.wait_for_hosts(host, revision).await;
        Ok(())
    }
}

/// Ends the VPN of a project that is about to go, if it has one; gives the host that runs it. A VLAN network that
/// nothing else was on is free then.
pub(in crate::app) async fn end_of_project(
    write: &mut Write,
    project: ProjectId,
) -> Result<Option<HostId>, AppError> {
    let Some(record) = vpn::find(write.connection(), project).await? else { return Ok(None) };
    end(write, &record).await?;
    free_if_unused(write, record.network).await?;
    Ok(record.standing.host.map(|(host, _)| host))
}

async fn end(write: &mut Write, record: &VpnRecord) -> Result<(), AppError> {
    let project = record.vpn.project;
    let found = instance_store::find(write.connection(), &record.instance.to_string(), Some(project)).await?;
    let instance = found.into_iter().next().ok_or_else(|| AppError::defect("a VPN has no instance"))?;
    vpn::delete(write.connection(), project).await?;
    endpoint::leave(write, record, None).await?;
    for interface in interface::of_instance(write.connection(), instance.id).await? {
        instance::drop_interface(write, &instance, &interface).await?;
    }
    instance_store::delete(write.connection(), instance.id).await?;
    security_group::end_vpn_group(write, project, record.created_at).await?;
    let message = format!("the VPN of project `{}` was deleted", record.project_name);
    write.log(change("vpn.deleted", message, record));
    Ok(())
}
