//! Plugging interfaces in and out.
//!
//! Only admins and the host's own agent plug in: it makes devices for a user or in a namespace
//! of the host, which is not for a project's member to say.

use trestle_api::{AttachRequest, Attached, PlugRequest};
use trestle_core::compile::Entity;
use trestle_core::types::{LinkName, Name};
use trestle_core::world::{Attachment, Host, Plug};

use crate::app::check::{self, Checks};
use crate::app::{App, Caller, host, instance};
use crate::error::AppError;
use crate::store::Write;
use crate::store::change::Change;
use crate::store::host::HostRecord;
use crate::store::instance::InstanceRecord;
use crate::store::interface::{self, InterfaceRecord};
use crate::store::network::{self, NetworkRecord};

/// The ports that Linux gives a bridge (`BR_MAX_PORTS`, net/bridge/br_private.h, less port 0).
const BRIDGE_PORTS: u64 = 1023;

/// The longest path of a namespace: with a name it must fit a device's alias (`IFALIASZ`, 256).
const NETNS_PATH: usize = 200;

impl App {
    /// Asks a host to plug an instance's interface in. Admins and the host's agent only. The same
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
        let HostRecord { host, .. } = host::find(write.connection(), caller, &host).await?;
        let (record, network) = choose(&mut write, &owner, request.network.as_deref()).await?;
        let attachment = Attachment { host: host.id, plug };
        if refuse_other_plug(&owner, &record, &attachment)? {
            return answer(&owner, &record, &network, host.name, record.generation);
        }
        let uplink = host.flat_interface.as_ref().or(network.network.bridge_interface.as_ref());
        if let Some(uplink) = uplink {
            refuse_taken_uplink(&mut write, &host, &network, uplink).await?;
        }
        let ports = interface::ports(write.connection(), host.id, network.network.id).await?;
        if ports + u64::from(uplink.is_some()) >= BRIDGE_PORTS {
            let message = format!(
                "bridge `{}` on host `{}` is full: Linux gives a bridge {BRIDGE_PORTS} ports",
                network.network.bridge, host.name
            );
            return Err(
                AppError::conflict("bridge_full", message).hint("plug the interface in on another host")
            );
        }
        let revision = write.revision();
        interface::plug(write.connection(), record.interface.id, Some(&attachment), revision).await?;
        let message = format!("instance `{}` is plugged in on host `{}`", owner.name, host.name);
        write.log(change("interface.attached", message, &owner, &record).host(host.id, &host.name));
        write.commit().await?;
        answer(&owner, &record, &network, host.name, Some(revision))
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
        let (record, network) = choose(&mut write, &owner, network).await?;
        let Some(last_host) = record.last_host else {
            let message = format!(
                "instance `{}` was never plugged in on network `{}`",
                owner.name, record.network_name
            );
            return Err(AppError::conflict("not_attached", message));
        };
        if caller.own_host().is_some_and(|own| own != last_host) {
            return Err(elsewhere(&owner, &record));
        }
        let host = host::find(write.connection(), &Caller::Admin, &last_host.to_string()).await?.host;
        if record.interface.attachment.is_none() {
            return answer(&owner, &record, &network, host.name, record.generation);
        }
        let revision = write.revision();
        interface::plug(write.connection(), record.interface.id, None, revision).await?;
        let message = format!("instance `{}` is plugged in on host `{}` no more", owner.name, host.name);
        write.log(change("interface.detached", message, &owner, &record).host(host.id, &host.name));
        write.commit().await?;
        self.wait_for_hosts(vec![host.id], revision).await;
        answer(&owner, &record, &network, host.name, Some(revision))
    }
}

/// A device can be a port of one bridge only, so the first network on a host keeps it.
async fn refuse_taken_uplink(
    write: &mut Write,
    host: &Host,
    network: &NetworkRecord,
    uplink: &LinkName,
) -> Result<(), AppError> {
    let id = network.network.id;
    match interface::uplink_holder(write.connection(), host.id, id, uplink).await? {
        None => Ok(()),
        Some(holder) => Err(AppError::conflict(
            "interface_taken",
            format!("on host `{}` {uplink} is in the bridge of network `{holder}`", host.name),
        )
        .hint(
            "a device can be in one bridge only: use another host, or a device of its own for each network",
        )),
    }
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
    let plug = read_plug(&mut checks, &request.plug);
    checks.finish()?;
    host.zip(plug).ok_or_else(|| AppError::defect("an attach request without a host passed its checks"))
}

fn read_plug(checks: &mut Checks, plug: &PlugRequest) -> Option<Plug> {
    match plug {
        PlugRequest::Tap { owner } => Some(Plug::Tap { owner: *owner }),
        PlugRequest::Veth { netns, name } => {
            let plain = netns.starts_with('/') && !netns.chars().any(|c| c.is_control() || c.is_whitespace());
            if !plain || netns.len() > NETNS_PATH {
                let message =
                    format!("`{netns}` is not a path to a network namespace, such as /run/netns/web1");
                checks.add("plug.netns", "bad_path", message);
            }
            let name: Option<LinkName> =
                checks.parse("plug.name", "bad_link_name", name.as_deref().unwrap_or("eth0"));
            name.map(|name| Plug::Veth { netns: netns.clone(), name })
        }
    }
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
    let found = network::find(write.connection(), &record.interface.network.to_string()).await?;
    let network = found.ok_or_else(|| AppError::defect("an interface is on no network"))?;
    Ok((record, network))
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
                "instance `{}` is plugged in on network `{}` in another way",
                owner.name, record.network_name
            );
            Err(AppError::conflict("already_attached", message).hint("detach it first"))
        }
        Some(_) => Err(elsewhere(owner, record)),
    }
}

fn elsewhere(owner: &InstanceRecord, record: &InterfaceRecord) -> AppError {
    let place =
        record.host_name.as_ref().map_or_else(|| "another host".to_owned(), |name| format!("host `{name}`"));
    let message =
        format!("instance `{}` is plugged in on network `{}` on {place}", owner.name, record.network_name);
    AppError::conflict("attached_elsewhere", message).hint("detach it there first")
}

fn change(kind: &'static str, message: String, owner: &InstanceRecord, record: &InterfaceRecord) -> Change {
    let change = Change::new(kind, &owner.name, message).project(owner.project, &owner.project_name);
    change.entity(Entity::Interface(record.interface.id))
}

fn answer(
    owner: &InstanceRecord,
    record: &InterfaceRecord,
    network: &NetworkRecord,
    host: Name,
    generation: Option<u64>,
) -> Result<Attached, AppError> {
    let generation =
        generation.ok_or_else(|| AppError::defect("an interface is plugged in since no revision"))?;
    let (interface, network) = (&record.interface, &network.network);
    let prefix = network.cidr.net().prefix_len();
    Ok(Attached {
        instance: owner.name.clone(),
        network: network.name.clone(),
        interface: interface.id,
        device: interface.device.clone(),
        mac: interface.mac,
        addresses: interface.addresses.iter().map(|address| format!("{address}/{prefix}")).collect(),
        gateway: network.gateway,
        bridge: network.bridge.clone(),
        mtu: network.mtu,
        host,
        generation,
    })
}
