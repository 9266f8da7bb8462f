//! Plugging interfaces in and out.
//!
//! Only admins and the host's own agent plug in: it makes devices for a user or in a namespace
//! of the host, which is not for a project's member to say.

mod moving;
mod plug;

use std::net::IpAddr;
use std::time::Duration;

use trestle_api::{AttachRequest, Attached};
use trestle_core::compile::Entity;
use trestle_core::types::HostId;
use trestle_core::world::{Attachment, Gateways, Host, Network, NetworkType, Plug};

use self::plug::read_plug;
use crate::app::check::{self, Checks};
use crate::app::floating_ip::device::refuse_without_devices;
use crate::app::network::gateway::{refuse_cut_off, refuse_unfit, uplink};
use crate::app::{App, Caller, host, instance, vpn};
use crate::error::AppError;
use crate::store::Write;
use crate::store::change::Change;
use crate::store::host::HostRecord;
use crate::store::instance::InstanceRecord;
use crate::store::interface::{self, InterfaceRecord};
use crate::store::network::{self, NetworkRecord};

/// The ports that Linux gives a bridge (`BR_MAX_PORTS`, net/bridge/br_private.h, less port 0).
const BRIDGE_PORTS: u64 = 1023;

/// How long the host that routes for a network may take to serve one guest more: less than the
/// agent that asks for the guest waits for it all.
const GATEWAY_PATIENCE: Duration = Duration::from_secs(5);

impl App {
    /// Asks a host to plug an instance's interface in. Admins and the host's agent only. Where
    /// another host routes for the network, that one serves the guest when this succeeds. The same
    /// again changes nothing.
    pub async fn attach(
        &self,
        caller: &Caller,
        instance: &str,
        project: Option<&str>,
        request: AttachRequest,
    ) -> Result<Attached, AppError> {
        let (host, plug) = read_request(caller, &request)?;
        let mut write = self.write().await?;
        let owner = instance::find(write.connection(), caller, instance, project).await?;
        vpn::refuse_instance(write.connection(), owner.id, "plugged in by hand").await?;
        let target = host::find(write.connection(), caller, &host).await?;
        let host = &target.host;
        let (record, network) = choose(&mut write, &owner, request.network.as_deref()).await?;
        let attachment = Attachment { host: host.id, plug };
        if refuse_other_plug(&owner, &record, &attachment)? {
            drop(write);
            let gateway = network.network.gateway_host().filter(|gateway| *gateway != host.id);
            if let Some((gateway, since)) = gateway.zip(record.generation) {
                self.wait_for_gateway(gateway, (&owner, &record), since).await?;
            }
            return answer(&owner, &record, &network, (host, record.generation));
        }
        refuse_no_place(&mut write, &target, &network).await?;
        let gateway = self.ensure_gateway(&mut write, &network, host).await?;
        let elsewhere = gateway.filter(|gateway| *gateway != host.id);
        if let Some(gateway) = elsewhere {
            self.refuse_gateway_away(&mut write, gateway, &record).await?;
        }
        let network = network_of(&mut write, &record).await?;
        if let Some(server) = server(&network.network, host.id) {
            refuse_without_devices(&mut write, server, record.interface.id).await?;
        }
        let revision = write.revision();
        let brings_vpn = self.brings_vpn(&mut write, &owner, &network).await?;
        interface::place(&mut write, &record, Some(&attachment), None).await?;
        let message = format!("instance `{}` is plugged in on host `{}`", owner.name, host.name);
        write.log(change("interface.attached", message, &owner, &record).host(host.id, &host.name));
        write.commit().await?;
        if brings_vpn {
            self.autostart_vpn(&owner, &network).await;
        }
        if let Some(gateway) = elsewhere {
            self.wait_for_gateway(gateway, (&owner, &record), revision).await?;
        }
        answer(&owner, &record, &network, (host, Some(revision)))
    }

    /// Fails if the host that routes for the network is known to be away: who is plugged in then is
    /// told no address.
    async fn refuse_gateway_away(
        &self,
        write: &mut Write,
        gateway: HostId,
        record: &InterfaceRecord,
    ) -> Result<(), AppError> {
        let gateway = host::find(write.connection(), &Caller::Admin, &gateway.to_string()).await?;
        if self.is_connected(&gateway) {
            return Ok(());
        }
        let (name, network) = (&gateway.host.name, &record.network_name);
        let message = format!("host `{name}`, which routes for network `{network}`, is away");
        Err(AppError::conflict("gateway_away", message).hint(format!(
            "start its agent, or name another host with `trestle network set-gateway {network} HOST`"
        )))
    }

    /// Fails unless the host that routes for the network has followed up to this revision in time.
    async fn wait_for_gateway(
        &self,
        gateway: HostId,
        (owner, record): (&InstanceRecord, &InterfaceRecord),
        revision: u64,
    ) -> Result<(), AppError> {
        if self.has_applied(gateway, revision, GATEWAY_PATIENCE).await? {
            return Ok(());
        }
        // Taken out and plugged in faster than the feed looks, it is nothing new to the gateway.
        let asked_for = *self.feed().generation(gateway).borrow();
        if asked_for < revision && self.has_applied(gateway, asked_for, Duration::ZERO).await? {
            return Ok(());
        }
        let mut read = self.store().read().await?;
        let gateway = host::find(&mut read, &Caller::Admin, &gateway.to_string()).await?.host.name;
        let message = format!(
            "instance `{}` is plugged in, but host `{gateway}`, which routes for network `{}`, did not follow within {} s",
            owner.name,
            record.network_name,
            GATEWAY_PATIENCE.as_secs()
        );
        Err(AppError::conflict("gateway_silent", message).hint(format!(
            "the same again waits for it once more; `trestle host show {gateway}` says how it is"
        )))
    }

    /// Asks its host to take an instance's interface out; a connected host has done so when this
    /// returns, or two seconds have passed. The same again changes nothing.
    pub async fn detach(
        &self,
        caller: &Caller,
        instance: &str,
        project: Option<&str>,
        network: Option<&str>,
    ) -> Result<Attached, AppError> {
        let mut write = self.write().await?;
        let owner = instance::find(write.connection(), caller, instance, project).await?;
        vpn::refuse_instance(write.connection(), owner.id, "taken out by hand").await?;
        let (record, network) = choose(&mut write, &owner, network).await?;
        let Some(last_host) = record.last_host else {
            let message = format!(
                "instance `{}` was never plugged in on network `{}`",
                owner.name, record.network_name
            );
            return Err(AppError::conflict("not_attached", message));
        };
        if caller.own_host().is_some_and(|own| own != last_host) {
            return Err(elsewhere(&owner, &record, caller.own_host()));
        }
        let host = host::find(write.connection(), &Caller::Admin, &last_host.to_string()).await?.host;
        if record.interface.attachment.is_none() {
            return answer(&owner, &record, &network, (&host, record.generation));
        }
        let revision = write.revision();
        interface::place(&mut write, &record, None, None).await?;
        let message = format!("instance `{}` is plugged in on host `{}` no more", owner.name, host.name);
        write.log(change("interface.detached", message, &owner, &record).host(host.id, &host.name));
        instance::leave_hosts(&mut write, &record).await?;
        write.commit().await?;
        self.wait_for_hosts(instance::hosts_of(&record), revision).await;
        answer(&owner, &record, &network, (&host, Some(revision)))
    }
}

/// The host that translates for what of a network is plugged in on this one.
fn server(network: &Network, host: HostId) -> Option<HostId> {
    match (network.network_type, &network.gateways) {
        (NetworkType::Flat, _) => None,
        (_, Gateways::One(gateway)) => *gateway,
        (_, Gateways::Shared | Gateways::PerHost(_)) => Some(host),
    }
}

/// Fails if a host cannot take one more interface of a network. Nothing is asked of it for this.
pub(in crate::app) async fn refuse_no_place(
    write: &mut Write,
    target: &HostRecord,
    network: &NetworkRecord,
) -> Result<(), AppError> {
    refuse_unfit(write, target, network).await?;
    let host = &target.host;
    if let Some(gateway) = network.network.gateway_host() {
        let gateway = host::find(write.connection(), &Caller::Admin, &gateway.to_string()).await?.host;
        refuse_cut_off(&network.network, &gateway, host)?;
    }
    let ports = interface::ports(write.connection(), host.id, network.network.id).await?;
    if ports + u64::from(uplink(host, &network.network).is_some()) < BRIDGE_PORTS {
        return Ok(());
    }
    let message = format!(
        "bridge `{}` on host `{}` is full: Linux gives a bridge {BRIDGE_PORTS} ports",
        network.network.bridge, host.name
    );
    Err(AppError::conflict("bridge_full", message).hint("plug the interface in on another host"))
}

/// The host and the plug that a request asks for.
fn read_request(caller: &Caller, request: &AttachRequest) -> Result<(String, Plug), AppError> {
    if let Caller::Member(_) = caller {
        return Err(AppError::forbidden("plugging in is for admins and the host's agent")
            .hint("run `trestle attach` on the host"));
    }
    let mut checks = Checks::default();
    let host = request.host.clone().or_else(|| caller.own_host().map(|own| own.to_string()));
    if host.is_none() {
        checks.add("host", "required", "say on which host to plug it in");
    }
    let plug = read_plug(&mut checks, &request.plug, None);
    checks.finish()?;
    host.zip(plug).ok_or_else(|| AppError::defect("an attach request without a host passed its checks"))
}

/// The instance's interface on this network, or its only one.
async fn choose(
    write: &mut Write,
    owner: &InstanceRecord,
    network: Option<&str>,
) -> Result<(InterfaceRecord, NetworkRecord), AppError> {
    let mut interfaces = interface::of_instance(write.connection(), owner.id).await?;
    let wanted = network.map(check::reference);
    if let Some(wanted) = &wanted {
        let on = |record: &InterfaceRecord| {
            record.network_name.as_str() == wanted || record.interface.network.to_string() == *wanted
        };
        interfaces.retain(on);
    }
    if interfaces.len() > 1 {
        let message =
            format!("instance `{}` has {} interfaces: say which network", owner.name, interfaces.len());
        return Err(check::invalid("network", "required", message));
    }
    let record = interfaces.pop().ok_or_else(|| match network {
        Some(text) => {
            AppError::not_found(&format!("interface of instance `{}` on network", owner.name), text)
        }
        None => AppError::not_found("interface of instance", owner.name.as_str()),
    })?;
    let network = network_of(write, &record).await?;
    Ok((record, network))
}

async fn network_of(write: &mut Write, record: &InterfaceRecord) -> Result<NetworkRecord, AppError> {
    let found = network::find(write.connection(), &record.interface.network.to_string()).await?;
    found.ok_or_else(|| AppError::defect("an interface is on no network"))
}

/// Whether it is plugged in like this already; an error if it is plugged in otherwise.
fn refuse_other_plug(
    owner: &InstanceRecord,
    record: &InterfaceRecord,
    wanted: &Attachment,
) -> Result<bool, AppError> {
    match &record.interface.attachment {
        None => Ok(false),
        Some(there) if there == wanted => Ok(true),
        Some(there) if there.host == wanted.host => {
            let message = format!(
                "instance `{}` is plugged in on network `{}` already, as {}, not as {}",
                owner.name,
                record.network_name,
                plug::told(&there.plug),
                plug::told(&wanted.plug)
            );
            Err(AppError::conflict("already_attached", message).hint("detach it first"))
        }
        Some(_) => Err(elsewhere(owner, record, Some(wanted.host))),
    }
}

/// It is plugged in on another host than this one; says how it comes here.
fn elsewhere(owner: &InstanceRecord, record: &InterfaceRecord, here: Option<HostId>) -> AppError {
    let name = &owner.name;
    let place =
        record.host_name.as_ref().map_or_else(|| "another host".to_owned(), |name| format!("host `{name}`"));
    let message = format!("instance `{name}` is plugged in on network `{}` on {place}", record.network_name);
    let next = record.interface.moving_to.as_ref().map(|place| place.host);
    let hint = match next.is_some() && next == here {
        true => {
            format!("it is prepared here: run `trestle instance move {name} --switch` when the guest runs")
        }
        false => format!("`trestle instance move {name} --to HOST` moves it to another host"),
    };
    AppError::conflict("attached_elsewhere", message).hint(hint)
}

fn change(kind: &'static str, message: String, owner: &InstanceRecord, record: &InterfaceRecord) -> Change {
    let change = Change::new(kind, &owner.name, message).project(owner.project, &owner.project_name);
    change.entity(Entity::Interface(record.interface.id))
}

fn answer(
    owner: &InstanceRecord,
    record: &InterfaceRecord,
    network: &NetworkRecord,
    (host, generation): (&Host, Option<u64>),
) -> Result<Attached, AppError> {
    let generation =
        generation.ok_or_else(|| AppError::defect("an interface is plugged in since no revision"))?;
    let (interface, network) = (&record.interface, &network.network);
    let addresses = interface.addresses.iter().map(|address| {
        let prefix = network.subnet_of(*address).map_or(0, |subnet| subnet.cidr.net().prefix_len());
        format!("{address}/{prefix}")
    });
    let gateways: Vec<IpAddr> =
        network.gateway_addresses(host.id).iter().map(|(address, _)| *address).collect();
    // Of type flat the guest asks these itself; else dnsmasq asks them, and the guest its gateway.
    let dns = if network.network_type == NetworkType::Flat { network.dns.clone() } else { gateways.clone() };
    Ok(Attached {
        instance: owner.name.clone(),
        network: network.name.clone(),
        interface: interface.id,
        device: interface.device.clone(),
        mac: interface.mac,
        addresses: addresses.collect(),
        gateways,
        dns,
        domain: network.domain.clone(),
        bridge: network.bridge.clone(),
        mtu: network.mtu,
        host: host.name.clone(),
        generation,
    })
}
