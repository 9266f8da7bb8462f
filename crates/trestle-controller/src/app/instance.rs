//! Instances and their interfaces.

use std::net::Ipv4Addr;

use sqlx::AnyConnection;
use trestle_api::{
    Instance, InstanceFilter, Interface, InterfaceState, NewInstance, NewInterface, Page, PageQuery,
};
use trestle_core::compile::Entity;
use trestle_core::ownership::device_name;
use trestle_core::types::{HostId, InstanceId, InterfaceId, Mac, ProjectId};
use trestle_core::world;
use uuid::Uuid;

use crate::app::check::{self, Checks};
use crate::app::network::{MacOf, generated_mac};
use crate::app::{App, Caller, host, network, project};
use crate::error::{AppError, ErrorKind};
use crate::store::Write;
use crate::store::change::Change;
use crate::store::fixed_ip::{self, Refusal};
use crate::store::instance::{self, Filter, InstanceRecord};
use crate::store::interface::{self, InterfaceRecord};
use crate::store::network::{NetworkRecord, defaults, mac_is_taken};

/// An interface that was asked for, read.
struct Wish {
    /// Where it stands in the request: `interfaces[0].`.
    field: String,
    network: String,
    address: Option<Ipv4Addr>,
    mac: Option<Mac>,
}

impl App {
    /// Makes an instance with its interfaces, each with its address.
    pub async fn create_instance(&self, caller: &Caller, new: NewInstance) -> Result<Instance, AppError> {
        caller.must_not_be_agent("making an instance")?;
        let mut checks = Checks::default();
        let name = checks.name("name", &new.name);
        let owner = new.project.clone().or_else(|| caller.only_project().map(|id| id.to_string()));
        if owner.is_none() {
            checks.add("project", "required", "an instance needs a project");
        }
        let wishes = new.interfaces.as_ref().map(|interfaces| {
            let numbered = interfaces.iter().enumerate();
            numbered
                .map(|(i, new)| read_wish(&mut checks, format!("interfaces[{i}]."), new))
                .collect::<Vec<_>>()
        });
        checks.finish()?;
        let Some((name, owner)) = name.zip(owner) else {
            return Err(AppError::defect("an instance without a name passed its checks"));
        };
        let mut write = self.write().await?;
        let owner = project::find(write.connection(), caller, &owner).await?;
        let record = InstanceRecord {
            id: InstanceId(Uuid::now_v7()),
            name,
            project: owner.id,
            project_name: owner.name,
            created_at: write.at(),
        };
        if !instance::insert(write.connection(), &record).await? {
            let message =
                format!("project `{}` has an instance `{}` already", record.project_name, record.name);
            return Err(AppError::conflict("name_taken", message));
        }
        let message = format!("instance `{}` was made in project `{}`", record.name, record.project_name);
        write.log(change("instance.created", message, &record));
        let mut interfaces = Vec::new();
        for (network, wish) in networks_for(write.connection(), caller, owner.id, wishes).await? {
            interfaces.push(self.make_interface(&mut write, &record, &network, &wish).await?);
        }
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
        let project = match filter.project.as_deref() {
            Some(text) => Some(project::find(&mut read, caller, text).await?.id),
            None => caller.only_project(),
        };
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
        let interfaces = interface::of_instance(write.connection(), record.id).await?;
        for interface in &interfaces {
            drop_interface(&mut write, &record, interface).await?;
        }
        instance::delete(write.connection(), record.id).await?;
        let message = format!("instance `{}` of project `{}` was deleted", record.name, record.project_name);
        write.log(change("instance.deleted", message, &record));
        let revision = write.commit().await?;
        self.wait_for_hosts(interfaces.iter().filter_map(plugged_in_on).collect(), revision).await;
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
        let wish = read_wish(&mut checks, String::new(), &new);
        checks.finish()?;
        let mut write = self.write().await?;
        let record = find(write.connection(), caller, instance, project).await?;
        let wishes = Some(vec![wish]);
        for (network, wish) in networks_for(write.connection(), caller, record.project, wishes).await? {
            self.make_interface(&mut write, &record, &network, &wish).await?;
        }
        let interfaces = interface::of_instance(write.connection(), record.id).await?;
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
        let mut interfaces = interface::of_instance(write.connection(), record.id).await?;
        let id = check::reference(interface);
        let place = interfaces.iter().position(|known| known.interface.id.to_string() == id);
        let place = place.ok_or_else(|| AppError::not_found("interface", interface))?;
        let gone = interfaces.remove(place);
        drop_interface(&mut write, &record, &gone).await?;
        let revision = write.commit().await?;
        self.wait_for_hosts(plugged_in_on(&gone).into_iter().collect(), revision).await;
        Ok(answer(record, interfaces))
    }

    async fn make_interface(
        &self,
        write: &mut Write,
        instance: &InstanceRecord,
        network: &NetworkRecord,
        wish: &Wish,
    ) -> Result<InterfaceRecord, AppError> {
        let on = &network.network;
        let mut interface = insert_interface(write, instance, on, wish.mac).await?;
        let id = interface.id;
        let address = self.give_address(write, network, id, wish).await?;
        interface.addresses.push(address);
        let message = format!("instance `{}` got {address} on network `{}`", instance.name, on.name);
        write.log(change("interface.created", message, instance).entity(Entity::Interface(id)));
        Ok(InterfaceRecord {
            interface,
            network_name: on.name.clone(),
            host_name: None,
            last_host: None,
            generation: None,
            state: InterfaceState::Detached,
        })
    }

    async fn give_address(
        &self,
        write: &mut Write,
        network: &NetworkRecord,
        interface: InterfaceId,
        wish: &Wish,
    ) -> Result<Ipv4Addr, AppError> {
        let policy = self.release_policy();
        let on = &network.network;
        let given = match wish.address {
            None => fixed_ip::allocate(write, network, interface, policy).await?,
            Some(address) if !network.layout.may_be_requested(address) => {
                let message = format!(
                    "{address} is not an address for instances on network `{}`, which has {} and the router {}",
                    on.name, on.cidr, on.gateway
                );
                return Err(check::invalid(format!("{}address", wish.field), "bad_address", message));
            }
            Some(address) => {
                fixed_ip::claim(write, on.id, interface, address, policy).await?.map(|()| address)
            }
        };
        given.map_err(|refusal| refused(refusal, network, wish.address))
    }
}

/// The instance of this name or id, if the caller may see it.
pub(super) async fn find(
    connection: &mut AnyConnection,
    caller: &Caller,
    text: &str,
    project: Option<&str>,
) -> Result<InstanceRecord, AppError> {
    let project = match project {
        Some(text) => Some(project::find(connection, caller, text).await?.id),
        None => caller.only_project(),
    };
    let mut found = instance::find(connection, &check::reference(text), project).await?;
    match found.len() {
        2.. => {
            let message = format!("several projects have an instance `{text}`: say which project");
            Err(check::invalid("project", "required", message))
        }
        _ => found.pop().ok_or_else(|| AppError::not_found("instance", text)),
    }
}

fn read_wish(checks: &mut Checks, field: String, new: &NewInterface) -> Wish {
    if new.network.is_empty() {
        checks.add(format!("{field}network"), "required", "an interface needs a network");
    }
    let address = checks.optional(&format!("{field}address"), "bad_address", new.address.as_deref());
    let mac = checks.optional(&format!("{field}mac"), "bad_mac", new.mac.as_deref());
    Wish { field, network: new.network.clone(), address, mac }
}

/// The network of each wish; without wishes those that the project's instances join by default.
async fn networks_for(
    connection: &mut AnyConnection,
    caller: &Caller,
    project: ProjectId,
    wishes: Option<Vec<Wish>>,
) -> Result<Vec<(NetworkRecord, Wish)>, AppError> {
    let Some(wishes) = wishes else {
        let networks = defaults(connection, project).await?;
        if networks.is_empty() {
            let message =
                "there is no network that the project can use; make one, or give an empty list of interfaces";
            return Err(check::invalid("interfaces", "required", message));
        }
        let wish = || Wish { field: String::new(), network: String::new(), address: None, mac: None };
        return Ok(networks.into_iter().map(|network| (network, wish())).collect());
    };
    let mut networks = Vec::with_capacity(wishes.len());
    for wish in wishes {
        let record = network::find(connection, caller, &wish.network).await?;
        if record.network.project.is_some_and(|owner| owner != project) {
            let message = format!("network `{}` belongs to another project", record.network.name);
            return Err(AppError::forbidden(message)
                .hint("join a network of the instance's own project, or a shared one"));
        }
        networks.push((record, wish));
    }
    Ok(networks)
}

/// Puts a new interface in, with this MAC or a generated one.
async fn insert_interface(
    write: &mut Write,
    instance: &InstanceRecord,
    network: &world::Network,
    wanted: Option<Mac>,
) -> Result<world::Interface, AppError> {
    if let Some(mac) = wanted
        && mac_is_taken(write.connection(), mac).await?
    {
        let message = format!("another interface or bridge has the MAC {mac}");
        return Err(AppError::conflict("mac_taken", message));
    }
    loop {
        let id = InterfaceId(Uuid::now_v7());
        let interface = world::Interface {
            id,
            instance: instance.id,
            network: network.id,
            mac: wanted.map_or_else(|| generated_mac(MacOf::Guest), Ok)?,
            device: device_name(id),
            hostname: instance.name.clone(),
            addresses: Vec::new(),
            attachment: None,
        };
        if interface::insert(write.connection(), &interface).await? {
            return Ok(interface);
        }
        if interface::hostname_is_taken(write.connection(), network.id, &instance.name).await? {
            let message = format!(
                "network `{}` has an interface of an instance called `{}` already",
                network.name, instance.name
            );
            return Err(AppError::conflict("name_taken", message)
                .hint("names are unique on a network because guests are found by them"));
        }
        // The generated MAC or device is taken; the next one is another.
    }
}

/// Gives an interface's addresses back and takes it out.
async fn drop_interface(
    write: &mut Write,
    instance: &InstanceRecord,
    record: &InterfaceRecord,
) -> Result<(), AppError> {
    fixed_ip::release(write, record).await?;
    interface::delete(write.connection(), record.interface.id).await?;
    let message = format!("instance `{}` left network `{}`", instance.name, record.network_name);
    let change =
        change("interface.deleted", message, instance).entity(Entity::Interface(record.interface.id));
    let change = match plugged_in_on(record).zip(record.host_name.as_ref()) {
        Some((host, name)) => change.host(host, name),
        None => change,
    };
    write.log(change);
    Ok(())
}

fn refused(refusal: Refusal, network: &NetworkRecord, requested: Option<Ipv4Addr>) -> AppError {
    let name = &network.network.name;
    let address = requested.map_or_else(|| "the address".to_owned(), |address| address.to_string());
    match refusal {
        Refusal::Full { cooling: 0 } => {
            let message = format!(
                "network `{name}` is full: all of its {} addresses are taken",
                network.layout.total()
            );
            AppError::new(ErrorKind::Conflict, "network_full", message)
                .hint("delete instances that are not needed")
        }
        Refusal::Full { cooling } => {
            let message = format!(
                "network `{name}` is full: of its {} addresses, {cooling} were given back and are not free yet",
                network.layout.total()
            );
            AppError::new(ErrorKind::Conflict, "network_full", message)
                .hint("try again when their hosts have ended the leases, or the option fixed_ip_disassociate_timeout has passed")
        }
        Refusal::Taken => AppError::conflict(
            "address_taken",
            format!("another interface on network `{name}` has {address}"),
        ),
        Refusal::Cooling => {
            let message = format!("{address} on network `{name}` was given back and is not free yet");
            AppError::conflict("address_taken", message).hint("its host has not said that it ended the lease")
        }
    }
}

fn plugged_in_on(record: &InterfaceRecord) -> Option<HostId> {
    record.interface.attachment.as_ref().map(|attachment| attachment.host)
}

async fn with_interfaces(
    connection: &mut AnyConnection,
    record: InstanceRecord,
) -> Result<Instance, AppError> {
    let interfaces = interface::of_instance(connection, record.id).await?;
    Ok(answer(record, interfaces))
}

fn change(kind: &'static str, message: String, record: &InstanceRecord) -> Change {
    Change::new(kind, &record.name, message).project(record.project, &record.project_name)
}

fn answer(record: InstanceRecord, interfaces: Vec<InterfaceRecord>) -> Instance {
    let interface = |record: InterfaceRecord| Interface {
        id: record.interface.id,
        network: record.network_name,
        mac: record.interface.mac,
        addresses: record.interface.addresses,
        device: record.interface.device,
        host: record.host_name,
        plug: record.interface.attachment.map(|attachment| attachment.plug),
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
