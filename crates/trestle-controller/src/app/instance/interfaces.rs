//! Makes interfaces with their addresses, and takes them out.

use std::net::IpAddr;

use trestle_api::{InterfaceState, NewInterface};
use trestle_core::compile::Entity;
use trestle_core::ownership::device_name;
use trestle_core::types::{Family, InterfaceId, Mac, Name, PoolId};
use trestle_core::world::{self, Ipv6Mode, NetworkType, Security};
use uuid::Uuid;

use crate::app::check::{self, Checks};
use crate::app::floating_ip::{auto_assign, leave_interface};
use crate::app::instance::security::{SecurityWish, refuse_pairs, refuse_unguarded};
use crate::app::instance::{change, plugged_in_on};
use crate::app::network::gateway::leave_host;
use crate::app::network::{MacOf, generated_mac};
use crate::app::{App, Caller};
use crate::error::AppError;
use crate::store::Write;
use crate::store::change::Change;
use crate::store::fixed_ip::{self, Holder, Refusal};
use crate::store::history;
use crate::store::instance::InstanceRecord;
use crate::store::interface::{self, InterfaceRecord};
use crate::store::network::{self as network_store, NetworkRecord, mac_is_taken};

/// What the MACs of bridges begin with; a guest's must not.
pub(super) const BRIDGE_MAC: [u8; 3] = [0xfe, 0x16, 0x3e];
/// What those of guests begin with that anybody may ask for (reference DM-40).
const GUEST_MAC: [u8; 3] = [0xfa, 0x16, 0x3e];

/// An interface that was asked for, read.
#[derive(Default)]
pub(super) struct Wish {
    /// Where it stands in the request: `interfaces[0].`.
    pub(super) field: String,
    pub(super) network: String,
    /// One of a family at most.
    addresses: Vec<IpAddr>,
    mac: Option<Mac>,
    pub(super) security: SecurityWish,
}

impl Wish {
    /// Reads a request; notes what is wrong with it.
    pub(super) fn read(checks: &mut Checks, caller: &Caller, field: String, new: &NewInterface) -> Self {
        if new.network.is_empty() {
            checks.add(format!("{field}network"), "required", "an interface needs a network");
        }
        let mut addresses: Vec<IpAddr> = Vec::new();
        for (i, text) in new.addresses.iter().enumerate() {
            let place = format!("{field}addresses[{i}]");
            let Some(address) = checks.address(&place, Some(text)) else { continue };
            let family = Family::of(address);
            if addresses.iter().any(|other| Family::of(*other) == family) {
                let message = format!("an interface has one {family} address on a network, this is a second");
                checks.add(place, "duplicate_family", message);
            }
            addresses.push(address);
        }
        let mac: Option<Mac> = checks.optional(&format!("{field}mac"), "bad_mac", new.mac.as_deref());
        if let Some(mac) = mac.filter(|mac| mac.bytes().starts_with(&BRIDGE_MAC)) {
            let message = format!("{mac} is not for guests: MACs under fe:16:3e are kept for bridges");
            checks.add(format!("{field}mac"), "bad_mac", message);
        } else if let Some(mac) = mac.filter(|mac| !mac.bytes().starts_with(&GUEST_MAC))
            && *caller != Caller::Admin
        {
            // Any other may be that of a machine on the segment, or of the host itself.
            let message = format!("{mac} is for administrators to give: choose one under fa:16:3e");
            checks.add(format!("{field}mac"), "bad_mac", message);
        }
        let security = SecurityWish::read(checks, &field, new.into());
        Self { field, network: new.network.clone(), addresses, mac, security }
    }

    /// The place of a requested address of this family in the request, and the address.
    fn address(&self, family: Family) -> Option<(String, IpAddr)> {
        let mut numbered = self.addresses.iter().copied().enumerate();
        let (i, address) = numbered.find(|(_, address)| Family::of(*address) == family)?;
        Some((format!("{}addresses[{i}]", self.field), address))
    }
}

impl App {
    /// Makes an interface with an address of each family that its network has.
    pub(super) async fn make_interface(
        &self,
        write: &mut Write,
        (caller, instance): (&Caller, &InstanceRecord),
        network: &NetworkRecord,
        wish: &Wish,
    ) -> Result<InterfaceRecord, AppError> {
        refuse_unknown_family(network, wish)?;
        let on = &network.network;
        let held = wish.security.held(write, instance.project, None).await?;
        refuse_unguarded(caller, network, None, &held)?;
        refuse_pairs(write, (instance.project, network), &held).await?;
        let mut interface = insert_interface(write, instance, on, (wish.mac, held.security)).await?;
        for family in [Family::Ipv4, Family::Ipv6] {
            if network.subnet(family).is_some() {
                let address = self.give_address(write, network, &interface, (family, wish)).await?;
                interface.addresses.push(address);
            }
        }
        let addresses: Vec<String> = interface.addresses.iter().map(ToString::to_string).collect();
        let message =
            format!("instance `{}` got {} on network `{}`", instance.name, addresses.join(" and "), on.name);
        write.log(change("interface.created", message, instance).entity(Entity::Interface(interface.id)));
        Ok(InterfaceRecord {
            interface,
            network_name: on.name.clone(),
            group_names: held.group_names,
            kept: held.kept,
            floating_ips: Vec::new(),
            host_name: None,
            next_host_name: None,
            last_host: None,
            generation: None,
            state: InterfaceState::Detached,
        })
    }

    async fn give_address(
        &self,
        write: &mut Write,
        network: &NetworkRecord,
        interface: &world::Interface,
        (family, wish): (Family, &Wish),
    ) -> Result<IpAddr, AppError> {
        let policy = self.release_policy();
        let requested = wish.address(family);
        let own = own_address(network, interface).filter(|_| family == Family::Ipv6);
        if let Some((own, (field, wanted))) = own.zip(requested.as_ref())
            && own != *wanted
        {
            let message = format!(
                "guests of network `{}` make their addresses of their MACs: {} makes {own}, not {wanted}",
                network.network.name, interface.mac
            );
            return Err(check::invalid(field, "bad_address", message));
        }
        let field = requested.as_ref().map(|(field, _)| field.clone());
        let Some(wanted) = own.or(requested.map(|(_, address)| address)) else {
            let holder = Holder::Interface(interface.id);
            let given = fixed_ip::allocate(write, network, family, holder, policy).await?;
            return given.map_err(|refusal| refused_address(refusal, network, (family, None)));
        };
        refuse_blocked(network, wanted, field)?;
        let given = fixed_ip::claim(write, network.network.id, interface.id, wanted, policy).await?;
        given.map(|()| wanted).map_err(|refusal| refused_address(refusal, network, (family, Some(wanted))))
    }
}

/// Gives new interfaces, in the order of their networks, the floating IPs that come by themselves: out of
/// a network's own pool, and out of the project's for the first that is routed for. Notes in the history
/// what each has then.
pub(super) async fn give_floating_ips(
    write: &mut Write,
    instance: &InstanceRecord,
    networks: &[(NetworkRecord, Wish)],
    mut of_project: Option<&(PoolId, Name)>,
    interfaces: &mut [InterfaceRecord],
) -> Result<(), AppError> {
    for ((network, _), record) in networks.iter().zip(interfaces) {
        if network.network.network_type != NetworkType::Flat {
            let first = of_project.take();
            if let Some(pool) = network.auto_assign.as_ref().or(first) {
                record.floating_ips.push(auto_assign(write, instance, &record.interface, pool).await?);
            }
        }
        history::note_new_interface(write, record.interface.id).await?;
    }
    Ok(())
}

/// Gives an interface's addresses back and takes it out.
pub(in crate::app) async fn drop_interface(
    write: &mut Write,
    instance: &InstanceRecord,
    record: &InterfaceRecord,
) -> Result<(), AppError> {
    leave_interface(write, instance, record).await?;
    fixed_ip::release(write, record).await?;
    history::note_interface(write, record.interface.id).await?;
    interface::delete(write.connection(), record.interface.id).await?;
    let message = format!("instance `{}` left network `{}`", instance.name, record.network_name);
    write.log(interface_change("interface.deleted", message, (instance, record)));
    leave_hosts(write, record).await
}

/// A change of this interface, for the log; its host has to see to it.
pub(super) fn interface_change(
    kind: &'static str,
    message: String,
    (instance, record): (&InstanceRecord, &InterfaceRecord),
) -> Change {
    let change = change(kind, message, instance).entity(Entity::Interface(record.interface.id));
    match plugged_in_on(record).zip(record.host_name.as_ref()) {
        Some((host, name)) => change.host(host, name),
        None => change,
    }
}

/// Sees to the gateways of the hosts that an interface was on, after it has left them.
pub(in crate::app) async fn leave_hosts(write: &mut Write, before: &InterfaceRecord) -> Result<(), AppError> {
    let names = [before.host_name.as_ref(), before.next_host_name.as_ref()];
    let interface = &before.interface;
    let places = [interface.attachment.as_ref(), interface.moving_to.as_ref()];
    let left: Vec<_> =
        places.into_iter().zip(names).filter_map(|(place, name)| Some((place?.host, name?))).collect();
    if left.is_empty() {
        return Ok(());
    }
    let network = network_store::find(write.connection(), &interface.network.to_string()).await?;
    let Some(network) = network else { return Ok(()) };
    for host in left {
        leave_host(write, &network, host).await?;
    }
    Ok(())
}

/// The address that the guest makes of its MAC, where guests do so.
fn own_address(network: &NetworkRecord, interface: &world::Interface) -> Option<IpAddr> {
    match (network.network.ipv6_mode, network.network.ipv6?.cidr.net()) {
        (Ipv6Mode::Slaac, ipnet::IpNet::V6(prefix)) => Some(interface.mac.eui64(prefix).into()),
        _ => None,
    }
}

fn refuse_unknown_family(network: &NetworkRecord, wish: &Wish) -> Result<(), AppError> {
    for (i, address) in wish.addresses.iter().enumerate() {
        let family = Family::of(*address);
        if network.subnet(family).is_none() {
            let message = format!("network `{}` has no {family} addresses", network.network.name);
            return Err(check::invalid(format!("{}addresses[{i}]", wish.field), "bad_address", message));
        }
    }
    Ok(())
}

/// Fails if no instance may have the address: it lies outside, is the router's or the VPN's, or is
/// reserved. The field is where it was asked for, if it was.
fn refuse_blocked(network: &NetworkRecord, address: IpAddr, field: Option<String>) -> Result<(), AppError> {
    let name = &network.network.name;
    if let Some(reserved) = network.reservation_of(address) {
        let message = format!("{address} is reserved on network `{name}`, with {}", reserved.range);
        let error = AppError::conflict("address_reserved", message);
        return Err(match reserved.reason.as_str() {
            "" => error,
            reason => error.hint(format!("it is reserved for: {reason}")),
        });
    }
    let subnet = network.subnet(Family::of(address));
    let Some(subnet) = subnet.filter(|subnet| !subnet.layout.may_be_requested(address)) else {
        return Ok(());
    };
    let allowed = subnet.layout.allowed();
    let kept: Vec<String> = [("router", subnet.layout.gateway()), ("VPN", subnet.layout.vpn())]
        .into_iter()
        .filter_map(|(whose, address)| Some(format!("the {whose}'s {}", address?)))
        .collect();
    let but = if kept.is_empty() { String::new() } else { format!(" but {}", kept.join(" and ")) };
    let message = format!(
        "{address} is not an address for instances on network `{name}`: these are {} to {}{but}",
        allowed.first(),
        allowed.last()
    );
    Err(check::invalid(field.unwrap_or_else(|| "addresses".to_owned()), "bad_address", message))
}

/// Puts a new interface in, with this MAC or a generated one, held to this.
pub(in crate::app) async fn insert_interface(
    write: &mut Write,
    instance: &InstanceRecord,
    network: &world::Network,
    (wanted, security): (Option<Mac>, Option<Security>),
) -> Result<world::Interface, AppError> {
    if let Some(mac) = wanted
        && mac_is_taken(write.connection(), mac).await?
    {
        return Err(AppError::conflict("mac_taken", format!("another interface has the MAC {mac}")));
    }
    loop {
        let id = InterfaceId(Uuid::now_v7());
        let interface = world::Interface {
            id,
            instance: instance.id,
            project: instance.project,
            network: network.id,
            mac: wanted.map_or_else(|| generated_mac(MacOf::Guest), Ok)?,
            device: device_name(id),
            hostname: instance.name.clone(),
            addresses: Vec::new(),
            attachment: None,
            security: security.clone(),
            moving_to: None,
        };
        if interface::insert(write.connection(), &interface).await? {
            interface::insert_security(write.connection(), id, security.as_ref()).await?;
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

/// Why a network gives no address, or not this one.
pub(in crate::app) fn refused_address(
    refusal: Refusal,
    network: &NetworkRecord,
    (family, requested): (Family, Option<IpAddr>),
) -> AppError {
    let name = &network.network.name;
    let address = requested.map_or_else(|| "the address".to_owned(), |address| address.to_string());
    let total = || network.subnet(family).map_or(0, |subnet| subnet.layout.total());
    match refusal {
        Refusal::Full { cooling: 0 } => {
            let message =
                format!("network `{name}` is full: all of its {} {family} addresses are taken", total());
            AppError::conflict("network_full", message).hint("delete instances that are not needed")
        }
        Refusal::Full { cooling } => {
            let message = format!(
                "network `{name}` is full: of its {} {family} addresses, {cooling} were given back and are not free yet",
                total()
            );
            AppError::conflict("network_full", message)
                .hint("try again when their hosts have ended the leases, or the option fixed_ip_disassociate_timeout has passed")
        }
        Refusal::Taken => {
            AppError::conflict("address_taken", format!("{address} on network `{name}` is in use"))
                .hint("`trestle fixed-ip list` shows who has it")
        }
        Refusal::Cooling => {
            let message = format!("{address} on network `{name}` was given back and is not free yet");
            AppError::conflict("address_taken", message).hint("its host has not said that it ended the lease")
        }
    }
}
