//! What the loop found out, in the report that goes to the controller and that everyone on the
//! host who waits for something looks at.
//!
//! A change is logged here when it is news: a problem once when it appears and once when it is
//! gone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use tokio::sync::watch;
use trestle_api::agent::{Drift, Feature, Report, ReportedLease, RuleCounter};
use trestle_api::{ApiError, VpnConnection};
use trestle_core::ownership::DEVICE_PREFIX;
use trestle_core::plan::{Plan, Problem, ProblemCode, Step};
use trestle_core::spec::{HostSpec, Key, Object};
use trestle_core::state::HostState;
use trestle_core::types::{LinkName, Name};

use crate::error_chain;
use crate::host::{ApplyError, StepFailure};

/// How much drift is kept for a controller that is away; what comes after is in the log alone.
const DRIFT_KEPT: usize = 1000;

/// What a round looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scope<'a> {
    /// Everything.
    Host,
    /// These keys, with what planning them reads.
    Keys {
        /// What was planned.
        planned: &'a BTreeSet<Key>,
        /// What was observed for it.
        observed: &'a BTreeSet<Key>,
    },
}

/// A round that was made.
#[derive(Debug)]
pub(crate) struct Round<'a> {
    /// The generation that was planned for.
    pub(crate) generation: u64,
    /// What it looked at.
    pub(crate) scope: Scope<'a>,
    /// What was there.
    pub(crate) state: &'a HostState,
    /// What was to be done.
    pub(crate) plan: &'a Plan,
    /// What of it was not.
    pub(crate) failures: &'a [StepFailure],
}

impl Round<'_> {
    fn is_smooth(&self) -> bool {
        self.plan.problems.is_empty() && self.failures.is_empty()
    }
}

/// Whether the problems are what they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Problems {
    /// There are none.
    None,
    /// The same as before.
    Same,
    /// Others than before.
    Different,
}

/// The report's first state: nothing is known yet.
pub(crate) fn first_report(missing_features: BTreeSet<Feature>) -> Report {
    Report {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")
            .map(|release| release.trim().to_owned())
            .unwrap_or_default(),
        missing_features,
        ..Report::default()
    }
}

/// Takes a round into the report.
pub(crate) fn publish(report: &watch::Sender<Report>, round: &Round<'_>) -> Problems {
    let (problems, leases) = {
        let before = report.borrow();
        (problems_after(round, &before.problems), leases_after(round, &before.leases))
    };
    let mut verdict = Problems::Same;
    report.send_if_modified(|report| {
        let changed = report.generation != round.generation || leases.is_some() || problems.is_some();
        report.generation = round.generation;
        if let Some(leases) = leases {
            report.leases = leases;
        }
        if let Some(problems) = problems {
            verdict = log_problems(&report.problems, &problems);
            report.problems = problems;
        }
        if report.problems.is_empty() {
            verdict = Problems::None;
        }
        changed
    });
    verdict
}

/// Notes what the rules of security groups have counted.
pub(crate) fn note_counters(report: &watch::Sender<Report>, counters: BTreeMap<u32, RuleCounter>) {
    report.send_if_modified(|report| {
        let changed = report.rule_counters != counters;
        report.rule_counters = counters;
        changed
    });
}

/// Notes who is connected to VPNs.
pub(crate) fn note_connections(
    report: &watch::Sender<Report>,
    connections: BTreeMap<Name, BTreeMap<Name, VpnConnection>>,
) {
    report.send_if_modified(|report| {
        let changed = report.vpn_connections != connections;
        report.vpn_connections = connections;
        changed
    });
}

/// Notes which devices and addresses the host has, those that Trestle makes aside.
pub(crate) fn note_own(
    report: &watch::Sender<Report>,
    spec: &HostSpec,
    (mut devices, mut addresses): (BTreeSet<LinkName>, BTreeSet<IpAddr>),
) {
    devices.retain(|device| !device.as_str().starts_with(DEVICE_PREFIX) && spec.link(device).is_none());
    let made = spec.objects.keys().filter_map(|key| match key {
        Key::Address(_, address) => Some(address.addr()),
        _ => None,
    });
    let made: BTreeSet<IpAddr> = made.collect();
    addresses.retain(|address| !made.contains(address) && !is_local(*address));
    report.send_if_modified(|report| {
        let before = (std::mem::take(&mut report.devices), std::mem::take(&mut report.addresses));
        (report.devices, report.addresses) = (devices, addresses);
        before.0 != report.devices || before.1 != report.addresses
    });
}

/// Whether an address means something else on every host, or on every link.
fn is_local(address: IpAddr) -> bool {
    address.is_loopback()
        || match address {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        }
}

/// Notes a trouble of the agent itself, or under this code that it is over.
pub(crate) fn note_trouble(report: &watch::Sender<Report>, code: &str, trouble: Option<ApiError>) {
    report.send_if_modified(|report| {
        let position = report.agent_problems.iter().position(|problem| problem.code == code);
        match (position, trouble) {
            (None, None) => false,
            (None, Some(problem)) => {
                tracing::error!(code, "{problem}");
                report.agent_problems.push(problem);
                report.agent_problems.sort_by(|a, b| a.code.cmp(&b.code));
                true
            }
            (Some(position), None) => {
                tracing::info!(code, "gone: {}", report.agent_problems[position]);
                report.agent_problems.remove(position);
                true
            }
            (Some(position), Some(problem)) => {
                let changed = report.agent_problems[position] != problem;
                report.agent_problems[position] = problem;
                changed
            }
        }
    });
}

/// Notes something that others changed and that was put right.
pub(crate) fn note_drift(report: &watch::Sender<Report>, drift: Drift) {
    report.send_if_modified(|report| {
        let room = report.drift.len() < DRIFT_KEPT;
        if room {
            report.drift.push(drift);
        }
        room
    });
}

/// The problems after a round, if they are not those before.
fn problems_after(round: &Round<'_>, before: &BTreeSet<Problem>) -> Option<BTreeSet<Problem>> {
    let failed = round.failures.iter().map(|failure| Problem {
        key: failure.step.key(),
        code: match failure.error {
            ApplyError::BridgeFull { .. } => ProblemCode::BridgeFull,
            _ => ProblemCode::StepFailed,
        },
        detail: error_chain(&failure.error),
    });
    let new = round.plan.problems.iter().cloned().chain(failed);
    match round.scope {
        Scope::Host => Some(new.collect()),
        // The usual attach: nothing to compare, however many problems others have.
        Scope::Keys { .. } if before.is_empty() && round.is_smooth() => None,
        Scope::Keys { planned, .. } => {
            let others = before.iter().filter(|problem| !planned.contains(&problem.key));
            Some(others.cloned().chain(new).collect())
        }
    }
    .filter(|after| after != before)
}

/// The leases after a round, if they are not those before.
fn leases_after(round: &Round<'_>, before: &BTreeSet<ReportedLease>) -> Option<BTreeSet<ReportedLease>> {
    let ended = Ended::new(round);
    let seen: BTreeSet<ReportedLease> = round
        .state
        .objects
        .iter()
        .filter(|(key, _)| !ended.contains(key))
        .filter_map(|(key, observed)| lease(round.state, key, &observed.object))
        .collect();
    let is_known = |lease: &&ReportedLease| match round.scope {
        Scope::Host => true,
        Scope::Keys { observed, .. } => {
            let key = lease_key(lease);
            observed.contains(&key) || ended.contains(&key)
        }
    };
    if before.iter().filter(is_known).eq(&seen) {
        return None;
    }
    let others = before.iter().filter(|lease| !is_known(lease)).cloned();
    Some(others.chain(seen).collect())
}

/// The leases that a round ended, whether it had seen them or not.
struct Ended<'a> {
    keys: BTreeSet<Key>,
    /// All of theirs.
    networks: BTreeSet<&'a Name>,
}

impl<'a> Ended<'a> {
    fn new(round: &Round<'a>) -> Self {
        let (mut keys, mut networks) = (BTreeSet::new(), BTreeSet::new());
        for step in round.plan.steps.iter().filter(|step| !is_failed(step, round.failures)) {
            match step {
                Step::ReleaseLease { .. } | Step::ReleaseLease6 { .. } => drop(keys.insert(step.key())),
                Step::ForgetLeases { network } => drop(networks.insert(network)),
                _ => {}
            }
        }
        Self { keys, networks }
    }

    fn contains(&self, key: &Key) -> bool {
        let of_network = match key {
            Key::Lease(network, _) | Key::Lease6(network, _) => self.networks.contains(network),
            _ => false,
        };
        of_network || self.keys.contains(key)
    }
}

fn lease(state: &HostState, key: &Key, object: &Object) -> Option<ReportedLease> {
    let (network, address, mac) = match (key, object) {
        (Key::Lease(network, mac), Object::Lease(address)) => (network, IpAddr::V4(*address), *mac),
        (Key::Lease6(network, address), Object::Lease6 { .. }) => {
            let entry = state.get(&Key::DhcpHost6(network.clone(), *address))?;
            let Object::DhcpHost6 { mac, .. } = entry.object else { return None };
            (network, IpAddr::V6(*address), mac)
        }
        _ => return None,
    };
    Some(ReportedLease { network: network.clone(), address, mac })
}

fn lease_key(lease: &ReportedLease) -> Key {
    match lease.address {
        IpAddr::V4(_) => Key::Lease(lease.network.clone(), lease.mac),
        IpAddr::V6(address) => Key::Lease6(lease.network.clone(), address),
    }
}

/// Whether this step is among those that failed.
pub(crate) fn is_failed(step: &Step, failures: &[StepFailure]) -> bool {
    failures.iter().any(|failure| failure.step == *step)
}

/// Logs what problems came and went. A detail that changes is no news; that a key has another kind
/// of problem is.
fn log_problems(before: &BTreeSet<Problem>, after: &BTreeSet<Problem>) -> Problems {
    let name = |problem: &Problem| (problem.key.clone(), problem.code);
    let (known, present): (BTreeSet<_>, BTreeSet<_>) =
        (before.iter().map(name).collect(), after.iter().map(name).collect());
    for problem in after.iter().filter(|problem| !known.contains(&name(problem))) {
        tracing::warn!(key = %problem.key, code = ?problem.code, "problem: {}", problem.detail);
    }
    for problem in before.iter().filter(|problem| !present.contains(&name(problem))) {
        tracing::info!(key = %problem.key, code = ?problem.code, "problem gone");
    }
    if known == present { Problems::Same } else { Problems::Different }
}
