//! What was found, in a form for people and for programs.

use std::collections::BTreeSet;
use std::error::Error;

use serde::Serialize;
use trestle_core::types::LinkName;

use super::site::{Bridge, Site};
use crate::error_chain;

/// Something that is wrong on a host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What kind of thing it is.
    pub code: Code,
    /// The bridges it bears on.
    pub bridges: BTreeSet<LinkName>,
    /// The instances it bears on, by host name, or by device where the host does not know that.
    pub instances: BTreeSet<String>,
    /// What is wrong, for people.
    pub text: String,
    /// What to do about it, for people.
    pub mend: String,
    /// The commands that do it, in order, for a shell; none where it takes more than that.
    pub commands: Vec<String>,
}

/// How bad a finding is; the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Something does not work now.
    Broken,
    /// Something does not work under some condition.
    MayBreak,
    /// Nothing has to be done.
    Note,
}

/// The kinds of findings; stable, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// A check could not look.
    NotLooked,
    /// There is no answer from the agent.
    AgentUnreachable,
    /// The agent does not reach its controller.
    ControllerUnreachable,
    /// Something troubles the agent itself.
    AgentTrouble,
    /// The agent cannot give the host something it must have.
    HostProblem,
    /// A network's dnsmasq does not run.
    DnsmasqNotRunning,
    /// The kernel lacks something.
    KernelLacks,
    /// Rules of somebody else drop instances' packets.
    PacketsDropped,
    /// The kernel does not forward.
    ForwardingOff,
    /// A reverse path filter drops what arrives.
    ReversePathStrict,
    /// A device carries no frames of the network's size.
    MtuTooSmall,
    /// Somebody else serves DHCP on a network's wire.
    ForeignDhcp,
    /// The module `br_netfilter` is not there.
    BrNetfilterMissing,
    /// What all bridges pass on goes through the rules of IP.
    BridgesFiltered,
}

impl Finding {
    /// That something could not be looked at.
    pub(super) fn not_looked(what: &str, error: &dyn Error) -> Self {
        Self {
            severity: Severity::MayBreak,
            code: Code::NotLooked,
            bridges: BTreeSet::new(),
            instances: BTreeSet::new(),
            text: format!("it is not known whether {what} are right: {}", error_chain(error)),
            mend: "run this as root, with the program that is missing installed".to_owned(),
            commands: Vec::new(),
        }
    }

    /// One that bears on nothing in particular, with nothing that mends it yet.
    pub(super) fn new(severity: Severity, code: Code, text: impl Into<String>) -> Self {
        Self {
            severity,
            code,
            bridges: BTreeSet::new(),
            instances: BTreeSet::new(),
            text: text.into(),
            mend: String::new(),
            commands: Vec::new(),
        }
    }

    /// The same with what is to be done.
    pub(super) fn mended_by(
        self,
        mend: impl Into<String>,
        commands: impl IntoIterator<Item = String>,
    ) -> Self {
        Self { mend: mend.into(), commands: commands.into_iter().collect(), ..self }
    }

    /// The same, bearing on a bridge and all that is on it.
    pub(super) fn on(mut self, name: &LinkName, bridge: &Bridge) -> Self {
        self.bridges.insert(name.clone());
        self.instances.extend(bridge.ports.iter().map(|(device, port)| port.called(device)));
        self
    }

    /// The same, bearing on every bridge.
    pub(super) fn everywhere(self, site: &Site) -> Self {
        site.bridges.iter().fold(self, |finding, (name, bridge)| finding.on(name, bridge))
    }
}
