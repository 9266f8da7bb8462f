//! Changes VPNs: where clients send to, on which host it runs, its authority.

use std::net::IpAddr;
use std::num::NonZeroU16;

use trestle_api::{Vpn, VpnCaRenewed, VpnPatch};
use trestle_core::types::{HostId, Name, VpnKind};
use trestle_core::world::Gateways;
use uuid::Uuid;

use super::endpoint::{self, EndpointWish};
use super::keys::NewKeys;
use super::{change, create, find};
use crate::app::check::Checks;
use crate::app::floating_ip::device::refuse_without_devices;
use crate::app::{App, Caller, check, host, project};
use crate::error::AppError;
use crate::store::Write;
use crate::store::network::{self as network_store, NetworkRecord};
use crate::store::vpn::{self, Endpoint, EndpointOf, VpnRecord, user};

/// What is to be another, read.
struct Patch {
    ip: Option<IpAddr>,
    port: Option<NonZeroU16>,
    host: Option<String>,
}

impl App {
    /// Changes where clients send to and on which host the VPN runs; what is absent stays, and so does all
    /// else. Connected hosts have followed when this returns, or two seconds have passed.
    pub async fn patch_vpn(&self, caller: &Caller, project: &str, patch: VpnPatch) -> Result<Vpn, AppError> {
        caller.must_not_be_agent("changing a VPN")?;
        let patch = read(caller, &patch)?;
        let mut write = self.write().await?;
        let record = find(write.connection(), caller, project).await?;
        let has_moved = match patch.host.as_deref() {
            Some(text) => self.change_host(&mut write, &record, text).await?,
            None => false,
        };
        let has_changed = self.change_endpoint(&mut write, (caller, &record), &patch).await?;
        if !has_moved && !has_changed {
            let host = record.standing.host.as_ref().map(|(host, _)| *host);
            let since = record.standing.since;
            drop(write);
            self.wait_for_hosts(host, since).await;
            return self.vpn_again(record.vpn.project).await;
        }
        let now = vpn::find(write.connection(), record.vpn.project).await?;
        let now = now.ok_or_else(|| AppError::defect("a VPN was lost while it was changed"))?;
        if let Some((host, _)) = &now.standing.host {
            refuse_without_devices(&mut write, *host, now.vpn.interface).await?;
        }
        if has_changed {
            let (ip, port) = (now.endpoint.ip, now.endpoint.port);
            let message =
                format!("clients of the VPN of project `{}` send to {ip} port {port} now", now.project_name);
            write.log(change("vpn.changed", message, &now));
        }
        let hosts = [&record, &now].into_iter().filter_map(|record| Some(record.standing.host.as_ref()?.0));
        let hosts: Vec<HostId> = hosts.collect();
        let revision = write.commit().await?;
        self.wait_for_hosts(hosts, revision).await;
        self.vpn_again(record.vpn.project).await
    }

    async fn change_host(&self, write: &mut Write, record: &VpnRecord, text: &str) -> Result<bool, AppError> {
        let network = network_of(write, record).await?;
        let target = host::find(write.connection(), &Caller::Admin, text).await?;
        let runs_there = record.standing.host.as_ref().is_some_and(|(host, _)| *host == target.host.id);
        if runs_there {
            return Ok(false);
        }
        if let Gateways::One(_) = network.network.gateways {
            // Says who routes, and how that is changed.
            self.choose_vpn_host(write, (&network, record.vpn.project), Some(text)).await?;
        }
        crate::app::attachment::refuse_no_place(write, &target, &network).await?;
        self.move_vpn(write, (record, &network), &target.host).await
    }

    async fn change_endpoint(
        &self,
        write: &mut Write,
        (caller, record): (&Caller, &VpnRecord),
        patch: &Patch,
    ) -> Result<bool, AppError> {
        let before = record.endpoint;
        let ip = patch.ip.unwrap_or(before.ip);
        let port = patch.port.map_or(before.port, NonZeroU16::get);
        if (ip, port) == (before.ip, before.port) {
            return Ok(false);
        }
        let owner = project::find(write.connection(), caller, &record.vpn.project.to_string()).await?;
        // A floating IP that came with it stays with it.
        let kept_with_it = ip == before.ip && record.endpoint_of == EndpointOf::Vpn;
        endpoint::leave(write, record, Some(ip)).await?;
        let wish = EndpointWish { ip: Some(ip), port: NonZeroU16::new(port) };
        let chosen = self.choose_endpoint(write, (caller, &owner), wish).await?;
        let of = if kept_with_it { EndpointOf::Vpn } else { chosen.of };
        let chosen = Endpoint { of, ..chosen };
        endpoint::lead(write, &chosen, (record.instance, record.vpn.address)).await?;
        vpn::set_endpoint(write, record.vpn.project, &chosen).await?;
        Ok(true)
    }

    /// Makes a new authority for a project's VPN, and with it a new certificate and new keys. Every file
    /// that a user has is void then; the users stay, and are named.
    pub async fn renew_vpn_ca(&self, caller: &Caller, project: &str) -> Result<VpnCaRenewed, AppError> {
        caller.must_not_be_agent("renewing a VPN's authority")?;
        let mut write = self.write().await?;
        let record = find(write.connection(), caller, project).await?;
        let (id, name) = (record.vpn.project, &record.project_name);
        if record.vpn.kind != VpnKind::OpenVpn {
            let message = format!(
                "the VPN of project `{name}` is of kind `{}`, which has no certificate authority",
                record.vpn.kind
            );
            return Err(AppError::conflict("no_authority", message)
                .hint("`trestle vpn user renew` gives a user other keys"));
        }
        let keys = NewKeys::generate(record.vpn.kind, (name, &record.vpn.name), write.at())?;
        vpn::set_shown(&mut write, id, (Uuid::now_v7(), &keys.shown)).await?;
        keys.keep(&mut write, self.sealing(), id).await?;
        let users = user::list(write.connection(), id, ("", i64::MAX)).await?;
        user::end_all(&mut write, id).await?;
        let message = format!(
            "the VPN of project `{name}` has a new certificate authority: all its users' files are void"
        );
        write.log(change("vpn.ca_renewed", message, &record));
        let revision = write.commit().await?;
        let host = record.standing.host.as_ref().map(|(host, _)| *host);
        self.wait_for_hosts(host, revision).await;
        let void: Vec<Name> = users.into_iter().map(|user| user.name).collect();
        Ok(VpnCaRenewed { vpn: self.vpn_again(id).await?, void })
    }
}

fn read(caller: &Caller, patch: &VpnPatch) -> Result<Patch, AppError> {
    let mut checks = Checks::default();
    let ip = checks.address("ip", patch.ip.as_deref());
    let port = create::port(&mut checks, patch.port);
    checks.finish()?;
    if patch.host.is_some() {
        caller.must_be_admin("choosing a VPN's host")?;
    }
    if patch.host.as_deref() == Some("") {
        return Err(check::invalid("host", "required", "say which host"));
    }
    Ok(Patch { ip, port, host: patch.host.clone() })
}

/// The network that a VPN leads into.
pub(super) async fn network_of(write: &mut Write, record: &VpnRecord) -> Result<NetworkRecord, AppError> {
    let found = network_store::find(write.connection(), &record.network.to_string()).await?;
    found.ok_or_else(|| AppError::defect("a VPN leads into no network"))
}
