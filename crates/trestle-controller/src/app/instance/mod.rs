//! Instances and their interfaces.

mod interfaces;
mod networks;
mod security;

use sqlx::AnyConnection;
use trestle_api::{Instance, InstanceFilter, Interface, NewInstance, NewInterface, Page, PageQuery};
use trestle_core::types::{AddressPair, HostId, InstanceId, Name, NetworkId};
use trestle_core::world::Security;
use uuid::Uuid;

use self::interfaces::{Wish, give_floating_ips};
pub(super) use self::interfaces::{drop_interface, insert_interface, leave_hosts, refused_address};
use self::security::SecurityWish;
use crate::app::check::{self, Checks};
use crate::app::{App, Caller, host, listed, network, project, vpn};
use crate::error::AppError;
use crate::store::Write;
use crate::store::change::Change;
use crate::store::instance::{self, Filter, InstanceRecord};
use crate::store::interface::{self, InterfaceRecord};
use crate::store::network::NetworkRecord;
use crate::store::project::ProjectRecord;

/// An instance that was asked for, read.
struct NewWish {
    name: Name,
    project: String,
    /// `None` for the networks that its project's instances join.
    interfaces: Option<Vec<Wish>>,
    /// What those are held to that say nothing themselves.
    security: SecurityWish,
}

impl App {
    /// Makes an instance with its interfaces, each with its address.
    pub async fn create_instance(&self, caller: &Caller, new: NewInstance) -> Result<Instance, AppError> {
        caller.must_not_be_agent("making an instance")?;
        let wish = read(caller, &new)?;
        let mut write = self.write().await?;
        let owner = project::find(write.connection(), caller, &wish.project).await?;
        let record = InstanceRecord {
            id: InstanceId(Uuid::now_v7()),
            name: wish.name,
            project: owner.id,
            project_name: owner.name.clone(),
            created_at: write.at(),
        };
        if !instance::insert(write.connection(), &record).await? {
            let message =
                format!("project `{}` has an instance `{}` already", record.project_name, record.name);
            return Err(AppError::conflict("name_taken", message));
        }
        let message = format!("instance `{}` was made in project `{}`", record.name, record.project_name);
        write.log(change("instance.created", message, &record));
        let mut networks = match wish.interfaces {
            Some(wishes) => self.wished_networks(&mut write, (caller, &owner), wishes).await?,
            None => self.default_networks(&mut write, &owner).await?,
        };
        for (_, each) in &mut networks {
            each.security = each.security.clone().or(&wish.security);
        }
        let who = (caller, &record, &owner);
        let mut interfaces = self.make_interfaces(&mut write, who, &networks).await?;
        give_floating_ips(&mut write, &record, &networks, owner.auto_assign.as_ref(), &mut interfaces)
            .await?;
        write.commit().await?;
        Ok(answer(record, interfaces))
    }

    /// The instances that the caller may see.
    pub async fn list_instances(
        &self,
        caller: &Caller,
        filter: &InstanceFilter,
        page: &PageQuery,
    ) -> Result<Page<Instance>, AppError> {
        let (limit, after) = (check::limit(page)?, check::after_id(page)?);
        let mut read = self.store().read().await?;
        let project = project::wanted(&mut read, caller, filter.project.as_deref()).await?;
        let mut wanted = Filter { name: filter.name.clone(), ..Filter::default() };
        wanted.project = project.map(|id| id.to_string());
        if let Some(text) = filter.host.as_deref() {
            wanted.host = Some(host::find(&mut read, caller, text).await?.host.id.to_string());
        }
        if let Some(text) = filter.network.as_deref() {
            wanted.network = Some(network::find(&mut read, caller, text).await?.network.id.to_string());
        }
        let records = instance::list(&mut read, &wanted, &after, check::rows(limit)).await?;
        let mut instances = Vec::with_capacity(records.len());
        for record in records {
            instances.push(with_interfaces(&mut read, record).await?);
        }
        Ok(check::page(instances, limit, |instance| instance.id.to_string()))
    }

    /// One instance. A name needs its project where several projects have it.
    pub async fn instance(
        &self,
        caller: &Caller,
        instance: &str,
        project: Option<&str>,
    ) -> Result<Instance, AppError> {
        let mut read = self.store().read().await?;
        let record = find(&mut read, caller, instance, project).await?;
        with_interfaces(&mut read, record).await
    }

    /// Deletes an instance; connected hosts have taken it down when this returns, or two seconds
    /// have passed.
    pub async fn delete_instance(
        &self,
        caller: &Caller,
        instance: &str,
        project: Option<&str>,
    ) -> Result<(), AppError> {
        caller.must_not_be_agent("deleting an instance")?;
        let mut write = self.write().await?;
        let record = find(write.connection(), caller, instance, project).await?;
        vpn::refuse_instance(write.connection(), record.id, "deleted by itself").await?;
        let interfaces = interface::of_instance(write.connection(), record.id).await?;
        for interface in &interfaces {
            drop_interface(&mut write, &record, interface).await?;
        }
        instance::delete(write.connection(), record.id).await?;
        let message = format!("instance `{}` of project `{}` was deleted", record.name, record.project_name);
        write.log(change("instance.deleted", message, &record));
        let revision = write.commit().await?;
        self.wait_for_hosts(interfaces.iter().flat_map(hosts_of), revision).await;
        Ok(())
    }

    /// Adds an interface to an instance.
    pub async fn add_interface(
        &self,
        caller: &Caller,
        instance: &str,
        project: Option<&str>,
        new: NewInterface,
    ) -> Result<Instance, AppError> {
        caller.must_not_be_agent("adding an interface")?;
        let mut checks = Checks::default();
        let wish = Wish::read(&mut checks, caller, String::new(), &new);
        checks.finish()?;
        let mut write = self.write().await?;
        let record = find(write.connection(), caller, instance, project).await?;
        vpn::refuse_instance(write.connection(), record.id, "put on another network").await?;
        let owner = project::find(write.connection(), caller, &record.project.to_string()).await?;
        let networks = self.wished_networks(&mut write, (caller, &owner), vec![wish]).await?;
        let mut interfaces = interface::of_instance(write.connection(), record.id).await?;
        let joined: Vec<NetworkId> = interfaces.iter().map(|known| known.interface.network).collect();
        for (network, _) in &networks {
            networks::refuse_second(&record.name, &joined, network)?;
        }
        let mut new = self.make_interfaces(&mut write, (caller, &record, &owner), &networks).await?;
        give_floating_ips(&mut write, &record, &networks, None, &mut new).await?;
        interfaces.extend(new);
        write.commit().await?;
        Ok(answer(record, interfaces))
    }

    /// Takes an interface from an instance; its host has taken it down when this returns, as with
    /// deleting the instance.
    pub async fn delete_interface(
        &self,
        caller: &Caller,
        instance: &str,
        project: Option<&str>,
        interface: &str,
    ) -> Result<Instance, AppError> {
        caller.must_not_be_agent("deleting an interface")?;
        let mut write = self.write().await?;
        let record = find(write.connection(), caller, instance, project).await?;
        vpn::refuse_instance(write.connection(), record.id, "taken out of its network").await?;
        let mut interfaces = interface::of_instance(write.connection(), record.id).await?;
        let gone = interfaces.remove(place_of(&interfaces, interface)?);
        drop_interface(&mut write, &record, &gone).await?;
        let revision = write.commit().await?;
        self.wait_for_hosts(hosts_of(&gone), revision).await;
        Ok(answer(record, interfaces))
    }

    /// Makes an interface for each wish, within the project's quota.
    async fn make_interfaces(
        &self,
        write: &mut Write,
        (caller, instance, project): (&Caller, &InstanceRecord, &ProjectRecord),
        networks: &[(NetworkRecord, Wish)],
    ) -> Result<Vec<InterfaceRecord>, AppError> {
        let addresses: usize = networks.iter().map(|(network, _)| network.subnets.len()).sum();
        self.refuse_fixed_ips_over_quota(write, project, addresses as u64).await?;
        let mut interfaces = Vec::with_capacity(networks.len());
        for (network, wish) in networks {
            interfaces.push(self.make_interface(write, (caller, instance), network, wish).await?);
        }
        Ok(interfaces)
    }
}

fn read(caller: &Caller, new: &NewInstance) -> Result<NewWish, AppError> {
    let mut checks = Checks::default();
    let name = checks.name("name", &new.name);
    let project = checks.owner(caller, new.project.as_deref(), "an instance");
    let interfaces = new.interfaces.as_ref().map(|interfaces| {
        let numbered = interfaces.iter().enumerate();
        let read = |(i, new)| Wish::read(&mut checks, caller, format!("interfaces[{i}]."), new);
        numbered.map(read).collect::<Vec<_>>()
    });
    let security = SecurityWish::read(&mut checks, "", new.into());
    checks.finish()?;
    match name.zip(project) {
        Some((name, project)) => Ok(NewWish { name, project, interfaces, security }),
        None => Err(AppError::defect("an instance without a name passed its checks")),
    }
}

/// The instance of this name or id, if the caller may see it.
pub(super) async fn find(
    connection: &mut AnyConnection,
    caller: &Caller,
    text: &str,
    project: Option<&str>,
) -> Result<InstanceRecord, AppError> {
    let project = project::wanted(connection, caller, project).await?;
    let found = instance::find(connection, &check::reference(text), project).await?;
    check::only_one(found, "instance", text)
}

/// Where among an instance's interfaces is that of this id, or on the network of this name or id.
fn place_of(interfaces: &[InterfaceRecord], text: &str) -> Result<usize, AppError> {
    let wanted = check::reference(text);
    let is_meant = |InterfaceRecord { interface, network_name, .. }: &InterfaceRecord| {
        interface.id.to_string() == wanted
            || interface.network.to_string() == wanted
            || network_name.as_str() == wanted
    };
    interfaces.iter().position(is_meant).ok_or_else(|| {
        let networks: Vec<String> =
            interfaces.iter().map(|known| format!("`{}`", known.network_name)).collect();
        let unknown = AppError::not_found("interface", text);
        match networks.is_empty() {
            true => unknown.hint("the instance is on no network"),
            false => unknown.hint(format!("the instance is on {}", listed(networks))),
        }
    })
}

fn plugged_in_on(record: &InterfaceRecord) -> Option<HostId> {
    record.interface.attachment.as_ref().map(|attachment| attachment.host)
}

/// Every host that has a device of it.
pub(super) fn hosts_of(record: &InterfaceRecord) -> impl Iterator<Item = HostId> {
    record.interface.places().map(|place| place.host)
}

/// The instance of a record, with its interfaces.
pub(super) async fn with_interfaces(
    connection: &mut AnyConnection,
    record: InstanceRecord,
) -> Result<Instance, AppError> {
    let interfaces = interface::of_instance(connection, record.id).await?;
    Ok(answer(record, interfaces))
}

/// A change of this instance, for the log.
pub(super) fn change(kind: &'static str, message: String, record: &InstanceRecord) -> Change {
    Change::new(kind, &record.name, message).project(record.project, &record.project_name)
}

fn pairs(security: Option<Security>) -> Vec<AddressPair> {
    security.into_iter().flat_map(|security| security.address_pairs).collect()
}

fn answer(record: InstanceRecord, interfaces: Vec<InterfaceRecord>) -> Instance {
    let interface = |record: InterfaceRecord| Interface {
        id: record.interface.id,
        network: record.network_name,
        mac: record.interface.mac,
        addresses: record.interface.addresses,
        floating_ips: record.floating_ips,
        security_groups: record.group_names,
        port_security: record.interface.security.is_some(),
        allowed_address_pairs: pairs(record.interface.security),
        device: record.interface.device,
        host: record.host_name,
        plug: record.interface.attachment.map(|attachment| attachment.plug),
        moving_to: record.next_host_name,
        state: record.state,
    };
    Instance {
        id: record.id,
        name: record.name,
        project: record.project_name,
        interfaces: interfaces.into_iter().map(interface).collect(),
        created_at: record.created_at,
    }
}
