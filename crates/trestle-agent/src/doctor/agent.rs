//! What the agent of this host says: what the host must have, and what it cannot do.

use std::path::Path;

use trestle_api::ApiError;
use trestle_api::local::{
    AgentStatus, ControllerLink, DnsmasqStatus, LocalError, LocalReply, LocalRequest, call,
};
use trestle_core::plan::{Problem, ProblemCode};
use trestle_core::spec::HostSpec;

use super::finding::{Code, Finding, Severity};
use super::site::Site;

/// What the agent answered.
pub(super) struct Asked {
    status: Result<AgentStatus, NoAnswer>,
    spec: Result<Option<HostSpec>, NoAnswer>,
}

/// Why there is nothing from the agent.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    #[error(transparent)]
    Local(#[from] LocalError),
    #[error("the agent refused: {}", .0.message)]
    Refused(ApiError),
    #[error("the agent answered another question")]
    Other,
}

/// Asks the agent that listens on this socket.
pub(super) async fn ask(socket: &Path) -> Asked {
    Asked { status: status(socket).await, spec: spec(socket).await }
}

async fn status(socket: &Path) -> Result<AgentStatus, NoAnswer> {
    match call(socket, &LocalRequest::Status).await? {
        LocalReply::Status(status) => Ok(status),
        LocalReply::Error(error) => Err(NoAnswer::Refused(error)),
        _ => Err(NoAnswer::Other),
    }
}

async fn spec(socket: &Path) -> Result<Option<HostSpec>, NoAnswer> {
    match call(socket, &LocalRequest::Spec).await? {
        LocalReply::Spec(spec) => Ok(spec),
        LocalReply::Error(error) => Err(NoAnswer::Refused(error)),
        _ => Err(NoAnswer::Other),
    }
}

impl Asked {
    /// What the host must have, if the agent knows it.
    pub(super) fn spec(&self) -> Option<&HostSpec> {
        self.spec.as_ref().ok()?.as_ref()
    }

    /// What is wrong with the agent, and what it says is wrong.
    pub(super) fn findings(&self, site: &Site) -> Vec<Finding> {
        let status = match &self.status {
            Ok(status) => status,
            Err(error) => return vec![unreachable(error)],
        };
        let mut findings: Vec<Finding> = status.agent_problems.iter().map(trouble).collect();
        findings.extend(no_controller(&status.controller));
        // What rests on something that has a problem itself needs no mend of its own.
        let roots = status.problems.iter().filter(|problem| problem.code != ProblemCode::Blocked);
        findings.extend(roots.map(|problem| host_problem(problem, site)));
        let idle = status.dnsmasqs.iter().filter(|dnsmasq| !dnsmasq.running);
        findings.extend(idle.map(|dnsmasq| not_running(dnsmasq, site)));
        match &self.spec {
            Ok(Some(_)) => {}
            Ok(None) => findings.push(untold()),
            Err(error) => findings.push(Finding::not_looked("what this host must have", error)),
        }
        findings
    }
}

fn unreachable(error: &NoAnswer) -> Finding {
    let why = crate::error_chain(error);
    let text = format!(
        "the agent does not answer: nothing is repaired or plugged in here, and what only it knows (the public \
         interface, the networks' MTUs) is not checked: {why}"
    );
    let mend =
        "start it; its log says why it ended. Name its socket with --agent-socket if that is elsewhere";
    Finding::new(Severity::Broken, Code::AgentUnreachable, text)
        .mended_by(mend, ["systemctl restart trestle-agent".to_owned()])
}

fn untold() -> Finding {
    let text = "the agent was never told what this host must have, and changes nothing";
    Finding::new(Severity::Broken, Code::AgentTrouble, text)
        .mended_by("look why it does not reach the controller", [])
}

fn no_controller(link: &ControllerLink) -> Option<Finding> {
    let why = link.error.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
    let text =
        format!("the agent does not reach the controller since {}{why}", link.since.strftime("%FT%TZ"));
    let mend = "instances go on and nothing new can be asked for; look whether `trestle server` runs and can be \
                reached from here";
    let finding = Finding::new(Severity::MayBreak, Code::ControllerUnreachable, text).mended_by(mend, []);
    (!link.connected).then_some(finding)
}

fn trouble(error: &ApiError) -> Finding {
    let text = format!("the agent says: {} ({})", error.message, error.code);
    let mend = error.hint.as_deref().unwrap_or("its log has more");
    Finding::new(Severity::Broken, Code::AgentTrouble, text).mended_by(mend, [])
}

fn host_problem(problem: &Problem, site: &Site) -> Finding {
    let Problem { key, code, detail } = problem;
    let mend = match code {
        ProblemCode::InterfaceMissing => "make the device, or name another with `trestle host set`",
        ProblemCode::InterfaceTaken => {
            "take it out of the other bridge, or name another with `trestle host set`"
        }
        ProblemCode::ForeignInTheWay => "rename or remove what is in the way; Trestle never touches it",
        ProblemCode::MtuTooLarge => {
            "raise the MTU of the device below, or make the network with a smaller --mtu"
        }
        ProblemCode::BridgeFull => "use another network or host for further instances",
        ProblemCode::Blocked | ProblemCode::StepFailed => {
            "it is tried again by itself; `trestle plan` has all"
        }
    };
    let finding = Finding::new(Severity::Broken, Code::HostProblem, format!("{key}: {detail}"));
    let finding = finding.mended_by(mend, []);
    match site.bridge_of(key) {
        Some((name, bridge)) => finding.on(name, bridge),
        None => finding,
    }
}

fn not_running(dnsmasq: &DnsmasqStatus, site: &Site) -> Finding {
    let DnsmasqStatus { network, bridge: name, .. } = dnsmasq;
    let text = format!("the dnsmasq of network {network} does not run: no instance there gets an address");
    let mend = format!(
        "the agent starts it again by itself; networks/{network}/log in its state folder says why it ended"
    );
    let finding = Finding::new(Severity::Broken, Code::DnsmasqNotRunning, text).mended_by(mend, []);
    match site.bridges.get(name) {
        Some(bridge) => finding.on(name, bridge),
        None => finding,
    }
}
