//! On which host a VPN runs, and how it comes to another.

use std::cmp::Reverse;

use trestle_core::compile::Entity;
use trestle_core::render::VPN_DEVICE;
use trestle_core::types::{HostId, Name, NetworkId, ProjectId};
use trestle_core::world::{self, Attachment, Gateways, Plug};

use super::{change, interface_of};
use crate::app::attachment::refuse_no_place;
use crate::app::check;
use crate::app::floating_ip::device::refuse_without_devices;
use crate::app::{App, Caller, host, instance};
use crate::error::AppError;
use crate::store::Write;
use crate::store::change::Change;
use crate::store::host::{self as host_store, HostRecord};
use crate::store::interface;
use crate::store::network::NetworkRecord;
use crate::store::vpn::{self, VpnRecord};

impl App {
    /// The host that a VPN into this network is to run on: the one that routes for all, else the one that
    /// is named, else one that is connected and leads outside, where most of the project is.
    pub(super) async fn choose_vpn_host(
        &self,
        write: &mut Write,
        (network, project): (&NetworkRecord, ProjectId),
        wanted: Option<&str>,
    ) -> Result<HostRecord, AppError> {
        let named = match wanted {
            Some(text) => Some(host::find(write.connection(), &Caller::Admin, text).await?),
            None => None,
        };
        match (&network.network.gateways, named) {
            (Gateways::One(chosen), named) => {
                let gateway = match chosen {
                    Some(chosen) => *chosen,
                    None => self.choose_gateway(write, network, None).await?,
                };
                let record = host::find(write.connection(), &Caller::Admin, &gateway.to_string()).await?;
                match named.filter(|named| named.host.id != gateway) {
                    Some(named) => Err(not_the_gateway(network, &named.host.name, &record.host.name)),
                    None => Ok(record),
                }
            }
            (_, Some(named)) => {
                refuse_no_place(write, &named, network).await?;
                Ok(named)
            }
            (_, None) => self.best_vpn_host(write, (network, project)).await,
        }
    }

    async fn best_vpn_host(
        &self,
        write: &mut Write,
        (network, project): (&NetworkRecord, ProjectId),
    ) -> Result<HostRecord, AppError> {
        let instances = interface::per_host(write.connection(), project).await?;
        let mut hosts = host_store::list(write.connection(), (None, None), "", i64::MAX).await?;
        hosts.retain(|record| record.host.public_interface.is_some() && self.is_connected(record));
        hosts.sort_by_key(|record| Reverse(instances.get(&record.host.id).copied().unwrap_or_default()));
        let mut reasons = Vec::new();
        for record in hosts {
            match refuse_no_place(write, &record, network).await {
                Ok(()) => return Ok(record),
                Err(error) => reasons.push(error.to_string()),
            }
        }
        let why = match reasons.is_empty() {
            true => "none that is connected has a public interface".to_owned(),
            false => reasons.join("; "),
        };
        let message = format!("no host can run a VPN into network `{}`: {why}", network.network.name);
        Err(AppError::conflict("no_gateway_host", message).hint(
            "start a host's agent, name its device that leads outside with `trestle host set HOST --public-interface DEVICE`, or name the host with `--host`",
        ))
    }

    /// Has a VPN run on this host from now on, if it did elsewhere; whether it did.
    pub(super) async fn move_vpn(
        &self,
        write: &mut Write,
        (record, network): (&VpnRecord, &NetworkRecord),
        to: &world::Host,
    ) -> Result<bool, AppError> {
        self.ensure_gateway(write, network, to).await?;
        let has_moved = move_to(write, record, to).await?;
        if has_moved {
            refuse_without_devices(write, to.id, record.vpn.interface).await?;
        }
        Ok(has_moved)
    }
}

/// Has the VPN of a network, if there is one, run where the gateway is from now on.
pub(in crate::app) async fn follow_gateway(
    write: &mut Write,
    network: NetworkId,
    gateway: &world::Host,
) -> Result<(), AppError> {
    if let Some(record) = vpn::of_network(write.connection(), network).await? {
        move_to(write, &record, gateway).await?;
    }
    Ok(())
}

/// Where a VPN of this name is plugged in on a host.
pub(super) fn attachment(host: HostId, name: &Name) -> Result<Attachment, AppError> {
    let device = VPN_DEVICE.parse().map_err(|_| AppError::defect("a constant device is none"))?;
    Ok(Attachment { host, plug: Plug::Veth { netns: world::Vpn::netns(name), name: device } })
}

async fn move_to(write: &mut Write, record: &VpnRecord, to: &world::Host) -> Result<bool, AppError> {
    let interface = interface_of(write.connection(), record).await?;
    let place = attachment(to.id, &record.vpn.name)?;
    if interface.interface.attachment.as_ref() == Some(&place) {
        return Ok(false);
    }
    interface::place(write, &interface, Some(&place), None).await?;
    instance::leave_hosts(write, &interface).await?;
    let from = interface.host_name.as_ref();
    let message = match from {
        Some(from) => {
            format!(
                "the VPN of project `{}` runs on host `{}`, on host `{from}` no more",
                record.project_name, to.name
            )
        }
        None => format!("the VPN of project `{}` runs on host `{}`", record.project_name, to.name),
    };
    let moved = Change::new("interface.moved", &record.vpn.name, message.clone());
    let moved = moved.project(record.vpn.project, &record.project_name);
    write.log(moved.entity(Entity::Interface(record.vpn.interface)).host(to.id, &to.name));
    // Told to the host before, too.
    write.log(change("vpn.moved", message, record));
    Ok(true)
}

fn not_the_gateway(network: &NetworkRecord, named: &Name, gateway: &Name) -> AppError {
    let name = &network.network.name;
    let message =
        format!("host `{gateway}` routes for network `{name}`, so its VPN runs there and not on `{named}`");
    check::invalid("host", "not_the_gateway", message)
        .hint(format!("`trestle network set-gateway {name} {named}` moves both"))
}
