//! What becomes of a packet, and why: names and addresses resolved, then asked of the World that hosts are
//! told of.

use std::net::IpAddr;

use sqlx::AnyConnection;
use trestle_api::explain::Outcome as Word;
use trestle_api::{ExplainQuery, Explanation, explain as wire};
use trestle_core::explain::{self, Outcome, Packet, Sender, Stage};
use trestle_core::types::{Family, IcmpType, InstanceId, IpProtocol, Name, NetworkId};
use trestle_core::world::{Interface, Network, World};
use uuid::Uuid;

use crate::app::check::{self, Checks};
use crate::app::{App, Caller, instance, network};
use crate::error::{AppError, ErrorKind};
use crate::store::{address_group, change, security_group};

impl App {
    /// Explains a packet between instances that the caller may see, or between one of them and any other
    /// address.
    pub async fn explain(&self, caller: &Caller, query: &ExplainQuery) -> Result<Explanation, AppError> {
        caller.must_not_be_agent("asking what becomes of packets")?;
        let message = Message::read(query)?;
        let mut read = self.store().read().await?;
        let from = End::find(&mut read, caller, &query.from, query.project.as_deref()).await?;
        let to = End::find(&mut read, caller, &query.to, query.project.as_deref()).await?;
        let (_, revision) = change::position(&mut read).await?;
        drop(read);
        self.feed().wait_for(revision).await;
        let now = self.now().as_second();
        let mut explanation = self.feed().ask(|world| {
            let packet = Question { world, caller, message }.packet(from, to)?;
            let explanation = explain::explain(world, &packet, now);
            Ok::<_, AppError>(answer(world, &packet, explanation))
        })?;
        let mut read = self.store().read().await?;
        for stage in &mut explanation.stages {
            stage.reason = with_names(&mut read, &stage.reason).await?;
        }
        Ok(explanation)
    }
}

/// The sentence with the names of the groups that it has the ids of: hosts know no names.
async fn with_names(connection: &mut AnyConnection, reason: &str) -> Result<String, AppError> {
    let mut words = Vec::new();
    for word in reason.split(' ') {
        let id = word.trim_end_matches(',');
        let name = if Uuid::try_parse(id).is_ok() { group_name(connection, id).await? } else { None };
        words.push(name.map_or_else(|| word.to_owned(), |name| word.replace(id, name.as_str())));
    }
    Ok(words.join(" "))
}

async fn group_name(connection: &mut AnyConnection, id: &str) -> Result<Option<Name>, AppError> {
    if let Some(group) = security_group::find(connection, id, None).await?.pop() {
        return Ok(Some(group.name));
    }
    Ok(address_group::find(connection, id, None).await?.pop().map(|group| group.name))
}

/// What a packet carries.
#[derive(Clone, Copy)]
struct Message {
    protocol: IpProtocol,
    port: Option<u16>,
    icmp: Option<IcmpType>,
}

impl Message {
    fn read(query: &ExplainQuery) -> Result<Self, AppError> {
        let mut checks = Checks::default();
        let protocol: Option<IpProtocol> =
            checks.parse("protocol", "bad_protocol", &query.protocol.to_lowercase());
        let port = read_port(&mut checks, query.port.as_deref());
        let icmp = checks.optional("icmp_type", "bad_icmp_type", query.icmp_type.as_deref());
        if let Some(protocol) = protocol {
            refuse_unfit(&mut checks, protocol, query);
        }
        checks.finish()?;
        let protocol =
            protocol.ok_or_else(|| AppError::defect("a protocol that is none passed its checks"))?;
        Ok(Self { protocol, port, icmp: icmp.or_else(|| echo_request(protocol)) })
    }
}

fn read_port(checks: &mut Checks, text: Option<&str>) -> Option<u16> {
    let port = text?.parse().ok().filter(|port| *port > 0);
    if port.is_none() {
        let message = format!("`{}` is not a port: use a number from 1 to 65535", text.unwrap_or_default());
        checks.add("port", "bad_port", message);
    }
    port
}

/// What does not fit the protocol.
fn refuse_unfit(checks: &mut Checks, protocol: IpProtocol, query: &ExplainQuery) {
    match (protocol.has_ports(), &query.port) {
        (true, None) => checks.add("port", "required", format!("{protocol} needs a destination port")),
        (false, Some(_)) => checks.add("port", "not_possible", format!("{protocol} has no ports")),
        _ => {}
    }
    if query.icmp_type.is_some() && echo_request(protocol).is_none() {
        checks.add("icmp_type", "not_possible", format!("{protocol} is not ICMP"));
    }
}

fn echo_request(protocol: IpProtocol) -> Option<IcmpType> {
    let number = match protocol {
        IpProtocol::ICMP => 8,
        IpProtocol::ICMPV6 => 128,
        _ => return None,
    };
    Some(IcmpType { number, code: None })
}

/// One end of a packet, as it was named.
#[derive(Clone, Copy)]
enum End {
    /// An instance, on this network if one is named.
    Instance(InstanceId, Option<NetworkId>),
    Address(IpAddr),
}

impl End {
    async fn find(
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

/// Makes a packet out of its ends, by who has which address now.
struct Question<'a> {
    world: &'a World,
    caller: &'a Caller,
    message: Message,
}

impl<'a> Question<'a> {
    fn packet(&self, from: End, to: End) -> Result<Packet, AppError> {
        let senders = self.senders(from)?;
        let receivers = self.receivers(to)?;
        if senders.is_empty() && receivers.is_empty() {
            let message = "neither end is an instance: no host decides about it";
            return Err(check::invalid("from", "not_possible", message));
        }
        let is_near = |sender: &&&Interface| self.is_near(sender, to, &receivers);
        let sender = senders.iter().find(is_near).or(senders.first()).copied();
        let from = match (from, sender) {
            (End::Address(address), Some(sender)) => Sender::Interface(sender.id, Some(address)),
            (End::Address(address), None) => Sender::Outside(address),
            (End::Instance(..), Some(sender)) => Sender::Interface(sender.id, None),
            (End::Instance(..), None) => {
                return Err(AppError::defect("an instance without interfaces is asked about"));
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

    /// The interfaces that may be meant; none for an address outside.
    fn senders(&self, from: End) -> Result<Vec<&'a Interface>, AppError> {
        let End::Address(address) = from else { return self.receivers(from) };
        let holders = self.holders(address);
        if holders.is_empty() && self.network_of(address).is_some() {
            return Err(nobody_has(address));
        }
        self.visible(address, holders)
    }

    /// The interfaces that may be meant, or that a floating IP leads to; none for an address that is
    /// nobody's.
    fn receivers(&self, to: End) -> Result<Vec<&'a Interface>, AppError> {
        match to {
            End::Instance(instance, network) => {
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
            Sender::Outside(address) | Sender::Interface(_, Some(address)) => vec![address],
            Sender::Interface(..) => sender.map(|sender| sender.addresses.clone()).unwrap_or_default(),
        };
        let fits = |address: &IpAddr| {
            let family = Family::of(*address);
            own.iter().any(|own| Family::of(*own) == family)
                && self.message.protocol.family().is_none_or(|only| only == family)
        };
        let is_near = |receiver: &&Interface| sender.is_some_and(|sender| sender.network == receiver.network);
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
        if let Sender::Outside(address) | Sender::Interface(_, Some(address)) = from
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

fn answer(world: &World, packet: &Packet, explanation: explain::Explanation) -> Explanation {
    let (outcome, problem) = match explanation.outcome {
        Outcome::Passes => (Word::Passes, None),
        Outcome::Dropped => (Word::Dropped, None),
        Outcome::Unknown(problem) => (Word::Unknown, Some(problem.to_string())),
    };
    let stage = |stage: Stage| wire::Stage {
        stage: stage.kind,
        host: stage.host.and_then(|host| world.host(host)).map(|host| host.name.clone()),
        verdict: stage.verdict,
        reason: stage.reason,
        rule: stage.rule,
        key: stage.key,
    };
    Explanation {
        destination: packet.to,
        protocol: packet.protocol,
        port: packet.port,
        icmp_type: packet.icmp,
        stages: explanation.stages.into_iter().map(stage).collect(),
        outcome,
        problem,
    }
}
