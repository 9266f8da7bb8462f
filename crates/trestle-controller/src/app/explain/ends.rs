//! Who the ends of a packet are, by who has which address now.

use std::net::IpAddr;

use sqlx::AnyConnection;
use trestle_core::explain::{OwnAddresses, Packet, Sender};
use trestle_core::types::{Family, HostId, InstanceId, NetworkId};
use trestle_core::world::{Interface, Network, NetworkType, World};

use super::Message;
use crate::app::check::{self, Checks};
use crate::app::{Caller, instance, network};
use crate::error::{AppError, ErrorKind};

/// One end of a packet, as it was named.
#[derive(Clone, Copy)]
pub(super) enum End {
    /// An instance, on this network if one is named.
    Instance(InstanceId, Option<NetworkId>),
    Address(IpAddr),
}

impl End {
    pub(super) async fn find(
        connection: &mut AnyConnection,
        caller: &Caller,
        text: &str,
        project: Option<&str>,
    ) -> Result<Self, AppError> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        let (instance, network) = match text.split_once('/') {
            Some((instance, network)) => (instance, Some(network)),
            None => (text, None),
        };
        let instance = instance::find(connection, caller, instance, project).await?.id;
        let network = match network {
            Some(text) => Some(network::find(connection, caller, text).await?.network.id),
            None => None,
        };
        Ok(Self::Instance(instance, network))
    }
}

/// Makes a packet out of its ends.
pub(super) struct Question<'a> {
    pub(super) world: &'a World,
    pub(super) own: &'a OwnAddresses,
    pub(super) caller: &'a Caller,
    pub(super) message: Message,
}

/// Who may have sent it.
enum Who<'a> {
    /// One of these, from this address if it is known.
    Guests(Vec<&'a Interface>, Option<IpAddr>),
    Host(HostId, IpAddr),
    Outside(IpAddr),
}

impl<'a> Question<'a> {
    pub(super) fn packet(&self, from: End, to: End) -> Result<Packet, AppError> {
        let receivers = self.receivers(to)?;
        let who = match from {
            End::Instance(instance, network) => Who::Guests(self.interfaces_of(instance, network)?, None),
            End::Address(address) => self.who_has(address, &receivers)?,
        };
        if !matches!(who, Who::Guests(..)) && receivers.is_empty() {
            let message = "neither end is an instance: no host decides about it";
            return Err(check::invalid("from", "not_possible", message));
        }
        let (from, sender) = match who {
            Who::Host(host, address) => (Sender::Host(host, address), None),
            Who::Outside(address) => (Sender::Outside(address), None),
            Who::Guests(guests, address) => {
                let is_near = |sender: &&&Interface| self.is_near(sender, to, &receivers);
                let sender = guests.iter().find(is_near).or(guests.first()).copied();
                let none = || AppError::defect("an instance without interfaces is asked about");
                (Sender::Interface(sender.ok_or_else(none)?.id, address), sender)
            }
        };
        let to = match to {
            End::Address(address) => address,
            End::Instance(..) => self.address_of(sender, from, &receivers)?,
        };
        self.refuse_mixed_families(from, to)?;
        let Message { protocol, port, icmp } = self.message;
        Ok(Packet { from, to, protocol, port, icmp })
    }

    /// Who sends from an address: what leads to an instance is the instance, and what nobody has and lies on
    /// a network of ours is forged by somebody there.
    fn who_has(&self, address: IpAddr, receivers: &[&'a Interface]) -> Result<Who<'a>, AppError> {
        if address.is_loopback() || address.is_unspecified() || address.is_multicast() {
            let message = format!("nobody sends from {address} to others: name the instance or the host");
            return Err(check::invalid("from", "not_possible", message));
        }
        if let Some(who) = self.behind_floating_ip(address)? {
            return Ok(who);
        }
        let holders = self.visible(address, self.holders(address))?;
        if !holders.is_empty() {
            return Ok(Who::Guests(holders, Some(address)));
        }
        if let Some(host) = self.host_of(address, receivers)? {
            return Ok(Who::Host(host, address));
        }
        let allowed = self.allowed(address);
        if !allowed.is_empty() {
            return Ok(Who::Guests(allowed, Some(address)));
        }
        match self.network_of(address) {
            // On the administrator's own wire there may be others.
            Some(network) if network.network_type != NetworkType::Flat => {
                self.forger(network, address, receivers)
            }
            _ => Ok(Who::Outside(address)),
        }
    }

    /// The instance that sends under a floating IP; a member is told of its own project's alone.
    fn behind_floating_ip(&self, address: IpAddr) -> Result<Option<Who<'a>>, AppError> {
        let Some(floating) = self.world.floating_ip(address) else { return Ok(None) };
        let led_to = floating.targets().filter_map(|target| self.world.interface(target.interface));
        if !{ led_to }.all(|interface| self.may_see(interface)) {
            return Ok(None);
        }
        let interface = |target| self.world.interface(target);
        match floating.target.and_then(|target| Some((interface(target.interface)?, target.fixed))) {
            Some((interface, fixed)) => Ok(Some(Who::Guests(vec![interface], Some(fixed)))),
            None => {
                let message = format!(
                    "nobody sends from {address}, of which only ports lead to instances: name the instance"
                );
                Err(check::invalid("from", "not_possible", message))
            }
        }
    }

    /// The host that has it: of several the one that the receiver is on.
    fn host_of(&self, address: IpAddr, receivers: &[&Interface]) -> Result<Option<HostId>, AppError> {
        let network = self.network_of(address);
        let gateway = network.filter(|network| network.network_type != NetworkType::Flat);
        let has = |host: HostId| {
            self.own.get(&host).is_some_and(|own| own.contains(&address))
                || gateway.is_some_and(|network| self.is_gateway(network, host, address))
        };
        let hosts: Vec<HostId> = self.world.hosts().map(|host| host.id).filter(|host| has(*host)).collect();
        let is_there = |host: &&HostId| receivers.iter().any(|receiver| receiver.is_on(**host));
        let found = hosts.iter().find(is_there).or(hosts.first()).copied();
        let owner = network.and_then(|network| network.project);
        if found.is_some()
            && self.caller.only_project().is_some_and(|only| owner.is_some_and(|owner| owner != only))
        {
            return Err(nobody_has(address));
        }
        Ok(found)
    }

    fn is_gateway(&self, network: &Network, host: HostId, address: IpAddr) -> bool {
        let mut gateways = network.gateway_addresses(host).into_iter();
        self.world.routes(host, network) && gateways.any(|(gateway, _)| gateway == address)
    }

    /// Those who may send from it besides their own, single addresses before ranges. Who may send from any
    /// is not meant by each.
    fn allowed(&self, address: IpAddr) -> Vec<&'a Interface> {
        let single = self.world.senders(address);
        let has_range = |one: &&Interface| {
            let pairs = one.security.iter().flat_map(|security| &security.address_pairs);
            { pairs }.any(|pair| pair.range.contains(address) && pair.range.net().prefix_len() > 0)
        };
        let all = single.chain(self.world.interfaces().filter(has_range));
        all.filter(|one| self.may_see(one)).collect()
    }

    /// Somebody on the network who could try: who is not guarded first, as nothing keeps that one from it.
    fn forger(
        &self,
        network: &'a Network,
        address: IpAddr,
        receivers: &[&Interface],
    ) -> Result<Who<'a>, AppError> {
        let owner = network.project;
        if self.caller.only_project().is_some_and(|only| owner.is_some_and(|owner| owner != only)) {
            return Err(nobody_has(address));
        }
        if network.subnets().any(|subnet| subnet.gateway == Some(address)) {
            let name = &network.name;
            let message = format!(
                "no host has {address}, the gateway of network {name}, now: nothing is plugged in there"
            );
            return Err(check::invalid("from", "not_possible", message));
        }
        let is_receiver = |one: &Interface| receivers.iter().any(|receiver| receiver.id == one.id);
        let could = |one: &&Interface| {
            one.network == network.id && one.attachment.is_some() && self.may_see(one) && !is_receiver(one)
        };
        let mut could: Vec<&Interface> = self.world.interfaces().filter(could).collect();
        could.sort_by_key(|one| one.security.is_some());
        match could.first() {
            Some(first) => Ok(Who::Guests(vec![first], Some(address))),
            None => {
                let message = format!(
                    "nobody has {address}, and nobody else is there who could send from it: name the instance"
                );
                Err(check::invalid("from", "not_possible", message))
            }
        }
    }

    fn may_see(&self, interface: &Interface) -> bool {
        self.caller.only_project().is_none_or(|only| interface.project == only)
    }

    fn interfaces_of(
        &self,
        instance: InstanceId,
        network: Option<NetworkId>,
    ) -> Result<Vec<&'a Interface>, AppError> {
        let is_meant = |one: &&Interface| {
            one.instance == instance && network.is_none_or(|network| one.network == network)
        };
        let found: Vec<_> = self.world.interfaces().filter(is_meant).collect();
        if found.is_empty() {
            let place = if network.is_some() { " on this network" } else { "" };
            let message = format!("the instance has no interface{place}");
            return Err(AppError::new(ErrorKind::NotFound, "not_found", message));
        }
        Ok(found)
    }

    /// The interfaces that may be meant, or that a floating IP leads to; none for an address that is
    /// nobody's.
    fn receivers(&self, to: End) -> Result<Vec<&'a Interface>, AppError> {
        match to {
            End::Instance(instance, network) => self.interfaces_of(instance, network),
            End::Address(address) => {
                let floating =
                    self.world.floating_ip(address).into_iter().flat_map(|floating| floating.targets());
                let led_to = floating.filter_map(|target| self.world.interface(target.interface));
                self.visible(address, self.holders(address).into_iter().chain(led_to).collect())
            }
        }
    }

    fn holders(&self, address: IpAddr) -> Vec<&'a Interface> {
        self.world.senders(address).filter(|one| one.addresses.contains(&address)).collect()
    }

    fn network_of(&self, address: IpAddr) -> Option<&'a Network> {
        self.world.networks().find(|network| network.subnet_of(address).is_some())
    }

    /// Those of them that the caller may see. Of what is another project's it is not even said that it is
    /// there.
    fn visible(&self, address: IpAddr, found: Vec<&'a Interface>) -> Result<Vec<&'a Interface>, AppError> {
        let Some(only) = self.caller.only_project() else { return Ok(found) };
        let owner = self.network_of(address).and_then(|network| network.project);
        if owner.is_some_and(|owner| owner != only) || found.iter().any(|one| one.project != only) {
            return Err(nobody_has(address));
        }
        Ok(found)
    }

    /// Whether it writes to a neighbour from this interface.
    fn is_near(&self, sender: &Interface, to: End, receivers: &[&Interface]) -> bool {
        let has_range = |address| {
            let network = self.world.network(sender.network);
            network.is_some_and(|network| network.subnet_of(address).is_some())
        };
        match to {
            End::Address(address) => has_range(address),
            End::Instance(..) => receivers.iter().any(|receiver| receiver.network == sender.network),
        }
    }

    /// The address of an instance that the sender writes to: on its own network if it has one there.
    fn address_of(
        &self,
        sender: Option<&Interface>,
        from: Sender,
        receivers: &[&Interface],
    ) -> Result<IpAddr, AppError> {
        let own = match from {
            Sender::Outside(address) | Sender::Host(_, address) | Sender::Interface(_, Some(address)) => {
                vec![address]
            }
            Sender::Interface(..) => sender.map(|sender| sender.addresses.clone()).unwrap_or_default(),
        };
        let fits = |address: &IpAddr| {
            let family = Family::of(*address);
            own.iter().any(|own| Family::of(*own) == family)
                && self.message.protocol.family().is_none_or(|only| only == family)
        };
        let has_range = |network: &Network| own.iter().any(|own| network.subnet_of(*own).is_some());
        let is_near = |receiver: &&Interface| {
            sender.is_some_and(|sender| sender.network == receiver.network)
                || self.world.network(receiver.network).is_some_and(has_range)
        };
        let (near, far): (Vec<_>, Vec<_>) = receivers.iter().copied().partition(is_near);
        let mut all = near.into_iter().chain(far).flat_map(|receiver: &Interface| &receiver.addresses);
        let found = all.find(|address| fits(address)).copied();
        found
            .ok_or_else(|| check::invalid("to", "not_possible", "it has no address that is reached this way"))
    }

    fn refuse_mixed_families(&self, from: Sender, to: IpAddr) -> Result<(), AppError> {
        let family = Family::of(to);
        let mut checks = Checks::default();
        if self.message.protocol.family().is_some_and(|only| only != family) {
            let message = format!("{} is not sent to {to}, which is {family}", self.message.protocol);
            checks.add("protocol", "not_possible", message);
        }
        if let Sender::Outside(address) | Sender::Host(_, address) | Sender::Interface(_, Some(address)) =
            from
            && Family::of(address) != family
        {
            checks.add("to", "not_possible", format!("{to} is {family}, but {address} is not"));
        }
        checks.finish()
    }
}

fn nobody_has(address: IpAddr) -> AppError {
    AppError::new(ErrorKind::NotFound, "not_found", format!("no instance has the address {address}"))
}
