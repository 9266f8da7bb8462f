//! Hosts.

use sqlx::AnyConnection;
use trestle_api::host::HostStatus;
use trestle_api::{Host, HostFilter, HostPatch, NewHost, Page, PageQuery};
use trestle_core::compile::Entity;
use trestle_core::types::{AddressRange, HostId, LinkName};
use trestle_core::world::{self, RoutingSourceIp};
use uuid::Uuid;

use crate::app::check::{self, Checks};
use crate::app::floating_ip::device::refuse_no_device;
use crate::app::network::change as network_change;
use crate::app::network::gateway::uplink;
use crate::app::{App, Caller};
use crate::error::AppError;
use crate::feed;
use crate::store::Write;
use crate::store::change::Change;
use crate::store::floating_ip;
use crate::store::host::{self, HostRecord};
use crate::store::network::{self, NetworkRecord};
use crate::store::observed;
use crate::store::pool;

/// How a host comes out of use.
const LEAVE_FIRST: &str = "move instances with `trestle instance move INSTANCE --to HOST` or detach them, and gateways with `trestle network set-gateway NETWORK HOST`";

impl App {
    /// Makes a host known. Admins only.
    pub async fn create_host(&self, caller: &Caller, new: NewHost) -> Result<Host, AppError> {
        caller.must_be_admin("making a host known")?;
        let mut checks = Checks::default();
        let name = checks.name("name", &new.name);
        let flat_interface = device(&mut checks, "flat_interface", new.flat_interface.as_deref());
        let vlan_interface = device(&mut checks, "vlan_interface", new.vlan_interface.as_deref());
        let public_interface = device(&mut checks, "public_interface", new.public_interface.as_deref());
        let routing_source_ip = source_ip(&mut checks, new.routing_source_ip.as_deref()).unwrap_or_default();
        checks.finish()?;
        let Some(name) = name else {
            return Err(AppError::defect("a host without a name passed its checks"));
        };
        let mut write = self.write().await?;
        if host::find(write.connection(), name.as_str()).await?.is_some() {
            return Err(AppError::conflict("name_taken", format!("there is a host `{name}` already")));
        }
        refuse_floating_source(write.connection(), routing_source_ip).await?;
        let id = HostId(Uuid::now_v7());
        let host =
            world::Host { id, name, flat_interface, vlan_interface, public_interface, routing_source_ip };
        let gateway = new.gateway.unwrap_or(true);
        let record = HostRecord { host, gateway, created_at: write.at(), observed: None };
        host::insert(write.connection(), &record).await?;
        let message = format!("host `{}` was made known", record.host.name);
        write.log(change("host.created", message, &record.host));
        write.commit().await?;
        Ok(answer(record, HostStatus::default()))
    }

    /// The hosts that the caller may see: all of them, or an agent's own.
    pub async fn list_hosts(
        &self,
        caller: &Caller,
        filter: &HostFilter,
        page: &PageQuery,
    ) -> Result<Page<Host>, AppError> {
        let own = visible_host(caller)?;
        let (limit, after) = (check::limit(page)?, check::after_id(page)?);
        let mut read = self.store().read().await?;
        let records =
            host::list(&mut read, (filter.name.as_deref(), own), &after, check::rows(limit)).await?;
        let mut hosts = Vec::with_capacity(records.len());
        for record in records {
            hosts.push(self.with_status(&mut read, record).await?);
        }
        Ok(check::page(hosts, limit, |host| host.id.to_string()))
    }

    /// One host.
    pub async fn host(&self, caller: &Caller, host: &str) -> Result<Host, AppError> {
        let mut read = self.store().read().await?;
        let record = find(&mut read, caller, host).await?;
        self.with_status(&mut read, record).await
    }

    /// Changes a host's devices, but for those that lead networks in use out of it, and whether it may
    /// be chosen to route. Admins only.
    pub async fn patch_host(&self, caller: &Caller, host: &str, patch: HostPatch) -> Result<Host, AppError> {
        caller.must_be_admin("changing a host")?;
        let mut checks = Checks::default();
        let fields = [
            ("flat_interface", &patch.flat_interface),
            ("vlan_interface", &patch.vlan_interface),
            ("public_interface", &patch.public_interface),
        ];
        let [flat, vlan, public] = fields.map(|(field, text)| device(&mut checks, field, text.as_deref()));
        let source = source_ip(&mut checks, patch.routing_source_ip.as_deref());
        checks.finish()?;
        let mut write = self.write().await?;
        let mut record = find(write.connection(), caller, host).await?;
        let before = (record.host.clone(), record.gateway);
        let now = &mut record.host;
        for (old, given, new) in [
            (&mut now.flat_interface, &patch.flat_interface, flat),
            (&mut now.vlan_interface, &patch.vlan_interface, vlan),
            (&mut now.public_interface, &patch.public_interface, public),
        ] {
            if given.is_some() {
                *old = new;
            }
        }
        now.routing_source_ip = source.unwrap_or(now.routing_source_ip);
        record.gateway = patch.gateway.unwrap_or(record.gateway);
        if (&record.host, record.gateway) != (&before.0, before.1) {
            refuse_used_devices(&mut write, &before.0, &record.host).await?;
            refuse_floating_source(write.connection(), record.host.routing_source_ip).await?;
            refuse_lost_floating_ips(&mut write, &before.0, &record).await?;
            host::update(write.connection(), &record).await?;
            write.log(change("host.changed", changed_message((&before.0, before.1), &record), &record.host));
            write.commit().await?;
        }
        let mut read = self.store().read().await?;
        self.with_status(&mut read, record).await
    }

    /// Forgets a host that has no interfaces plugged in and routes for no network in use. Admins only.
    pub async fn delete_host(&self, caller: &Caller, host: &str) -> Result<(), AppError> {
        caller.must_be_admin("deleting a host")?;
        let mut write = self.write().await?;
        let HostRecord { host, .. } = find(write.connection(), caller, host).await?;
        let uses = host::uses(write.connection(), host.id).await?;
        if !uses.is_empty() {
            let error = AppError::in_use(&format!("host `{}` still has", host.name), &uses);
            return Err(error.hint(LEAVE_FIRST));
        }
        for network in network::of_gateway(write.connection(), host.id).await? {
            network::set_gateway_host(&mut write, &network, None).await?;
            let message = format!("network `{}` has no gateway host any more", network.network.name);
            write.log(network_change("network.gateway_moved", message, &network));
        }
        host::delete(write.connection(), host.id).await?;
        let message = format!("host `{}` was deleted", host.name);
        write.log(change("host.deleted", message, &host));
        write.commit().await?;
        Ok(())
    }

    /// Whether the host's agent is connected, here or to another controller.
    pub(super) fn is_connected(&self, record: &HostRecord) -> bool {
        let now = self.now();
        let heard_here = self.feed().last_heard(record.host.id, now);
        let heard = heard_here.max(record.observed.as_ref().map(|observed| observed.last_seen));
        heard.is_some_and(|heard| now.duration_since(heard) <= feed::SILENCE)
    }

    async fn with_status(
        &self,
        connection: &mut AnyConnection,
        record: HostRecord,
    ) -> Result<Host, AppError> {
        let problems = observed::problems(connection, record.host.id).await?;
        let observed = record.observed.as_ref();
        let heard_here = self.feed().last_heard(record.host.id, self.now());
        let status = HostStatus {
            connected: self.is_connected(&record),
            last_seen: heard_here.max(observed.map(|observed| observed.last_seen)),
            generation_wanted: *self.feed().generation(record.host.id).borrow(),
            generation_applied: observed.map_or(0, |observed| observed.generation_applied),
            problems: problems.into_iter().collect(),
            agent_problems: observed.map_or_else(Vec::new, |observed| observed.agent_problems.clone()),
            missing_features: observed
                .map_or_else(Vec::new, |observed| observed.missing_features.iter().copied().collect()),
            agent_version: observed.map(|observed| observed.agent_version.clone()),
            kernel: observed.map(|observed| observed.kernel.clone()),
            devices: observed.map_or_else(Vec::new, |observed| observed.devices.iter().cloned().collect()),
        };
        Ok(answer(record, status))
    }
}

/// The host of this name or id, if the caller may see it.
pub(super) async fn find(
    connection: &mut AnyConnection,
    caller: &Caller,
    text: &str,
) -> Result<HostRecord, AppError> {
    let own = visible_host(caller)?;
    let found = host::find(connection, &check::reference(text)).await?;
    let visible = |record: &HostRecord| own.is_none_or(|own| own == record.host.id);
    found.filter(visible).ok_or_else(|| AppError::not_found("host", text))
}

/// The one host that the caller may see, if it is not all of them.
fn visible_host(caller: &Caller) -> Result<Option<HostId>, AppError> {
    match caller {
        Caller::Admin => Ok(None),
        Caller::Agent(own) => Ok(Some(*own)),
        Caller::Member(_) => Err(AppError::forbidden("hosts are for admins to see")),
    }
}

/// A device's name; an empty text is none.
fn device(checks: &mut Checks, field: &str, text: Option<&str>) -> Option<LinkName> {
    text.filter(|text| !text.is_empty()).and_then(|text| checks.link(field, text))
}

/// Fails if instances would leave under an address that a pool has.
async fn refuse_floating_source(
    connection: &mut AnyConnection,
    source: RoutingSourceIp,
) -> Result<(), AppError> {
    let RoutingSourceIp::Address(address) = source else { return Ok(()) };
    let range = AddressRange::new(address.into(), address.into());
    let range = range.ok_or_else(|| AppError::defect("one address is no range"))?;
    match pool::overlapping(connection, &range).await?.first() {
        None => Ok(()),
        Some((name, range)) => {
            let message = format!("{address} is an address of pool `{name}`, which has {range}");
            Err(AppError::conflict("range_overlaps", message)
                .hint("name an address of the host's own, or take it out of the pool"))
        }
    }
}

fn source_ip(checks: &mut Checks, text: Option<&str>) -> Option<RoutingSourceIp> {
    checks.optional("routing_source_ip", "bad_source_ip", text)
}

/// Fails if a network that stands on the host is led out of it by a device that would be another.
async fn refuse_used_devices(
    write: &mut Write,
    before: &world::Host,
    after: &world::Host,
) -> Result<(), AppError> {
    let networks = network::on_host(write.connection(), before.id).await?;
    let changes = |record: &&NetworkRecord| {
        let device = uplink(before, &record.network);
        device.is_some() && device != uplink(after, &record.network)
    };
    let used = |record: &NetworkRecord| format!("network `{}`", record.network.name);
    let uses: Vec<String> = networks.iter().filter(changes).map(used).collect();
    if uses.is_empty() {
        return Ok(());
    }
    let sentence = format!("the devices of host `{}` cannot be changed while they lead out", before.name);
    Err(AppError::in_use(&sentence, &uses).hint(LEAVE_FIRST))
}

/// Fails if floating IPs are on the host's public interface and it would be none, or one that the host
/// has not.
async fn refuse_lost_floating_ips(
    write: &mut Write,
    before: &world::Host,
    after: &HostRecord,
) -> Result<(), AppError> {
    if before.public_interface == after.host.public_interface {
        return Ok(());
    }
    let on = floating_ip::on_public_interface(write.connection(), before.id).await?;
    let needed: Vec<_> = on.into_iter().map(|address| (address, None)).collect();
    refuse_no_device(after, &needed)
}

fn changed_message((before, was_gateway): (&world::Host, bool), record: &HostRecord) -> String {
    let (now, name) = (&record.host, &record.host.name);
    let device =
        |device: &Option<LinkName>| device.as_ref().map_or_else(|| "none".into(), LinkName::to_string);
    let devices: Vec<String> = [
        ("flat_interface", &before.flat_interface, &now.flat_interface),
        ("vlan_interface", &before.vlan_interface, &now.vlan_interface),
        ("public_interface", &before.public_interface, &now.public_interface),
    ]
    .into_iter()
    .filter(|(_, old, new)| old != new)
    .map(|(field, old, new)| format!("{field} {} → {}", device(old), device(new)))
    .collect();
    let devices = (!devices.is_empty())
        .then(|| format!("the devices of host `{name}` were changed: {}", devices.join(", ")));
    let source = (before.routing_source_ip != now.routing_source_ip).then(|| {
        let (old, new) = (before.routing_source_ip, now.routing_source_ip);
        format!("the routing_source_ip of host `{name}` was changed: {old} → {new}")
    });
    let gateway = (was_gateway != record.gateway).then(|| match record.gateway {
        true => format!("host `{name}` may be chosen to route for single-host networks"),
        false => format!("host `{name}` is not chosen to route for single-host networks any more"),
    });
    devices.into_iter().chain(source).chain(gateway).collect::<Vec<_>>().join("; ")
}

fn change(kind: &'static str, message: String, host: &world::Host) -> Change {
    Change::new(kind, &host.name, message).host(host.id, &host.name).entity(Entity::Host(host.id))
}

fn answer(record: HostRecord, status: HostStatus) -> Host {
    let world::Host { id, name, flat_interface, vlan_interface, public_interface, routing_source_ip } =
        record.host;
    let HostRecord { gateway, created_at, .. } = record;
    Host {
        id,
        name,
        flat_interface,
        vlan_interface,
        public_interface,
        routing_source_ip,
        gateway,
        created_at,
        status,
    }
}
