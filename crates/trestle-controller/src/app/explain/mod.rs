//! What becomes of a packet, and why: names and addresses resolved, then asked of the World that hosts are
//! told of.

mod ends;

use sqlx::AnyConnection;
use trestle_api::explain::Outcome as Word;
use trestle_api::{ExplainQuery, Explanation, explain as wire};
use trestle_core::explain::{self, Outcome, Packet, Stage};
use trestle_core::types::{IcmpType, IpProtocol, Name};
use trestle_core::world::World;
use uuid::Uuid;

use crate::app::check::Checks;
use crate::app::{App, Caller};
use crate::error::AppError;
use crate::store::{address_group, change, observed, security_group};
use ends::{End, Question};

impl App {
    /// Explains a packet between instances that the caller may see, or between one of them and any other
    /// address.
    pub async fn explain(&self, caller: &Caller, query: &ExplainQuery) -> Result<Explanation, AppError> {
        caller.must_not_be_agent("asking what becomes of packets")?;
        let message = Message::read(query)?;
        let mut read = self.store().read().await?;
        let from = End::find(&mut read, caller, &query.from, query.project.as_deref()).await?;
        let to = End::find(&mut read, caller, &query.to, query.project.as_deref()).await?;
        let own = observed::own_addresses(&mut read).await?;
        let (_, revision) = change::position(&mut read).await?;
        drop(read);
        self.feed().wait_for(revision).await;
        let now = self.now().as_second();
        let mut explanation = self.feed().ask(|world| {
            let packet = Question { world, own: &own, caller, message }.packet(from, to)?;
            let explanation = explain::explain(world, &own, &packet, now);
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
