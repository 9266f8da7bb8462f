//! What the loop found out, in the report that goes to the controller and that everyone on the
//! host who waits for something looks at.
//!
//! A change is logged here when it is news: a problem once when it appears and once when it is
//! gone.

use std::collections::BTreeSet;

use tokio::sync::watch;
use trestle_api::ApiError;
use trestle_api::agent::{Drift, Report, ReportedLease};
use trestle_core::plan::{Plan, Problem, ProblemCode, Step};
use trestle_core::spec::{Key, Object};
use trestle_core::state::{HostState, Observed};
use trestle_core::types::{Mac, Name};

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
pub(crate) fn first_report() -> Report {
    Report {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")
            .map(|release| release.trim().to_owned())
            .unwrap_or_default(),
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
    let done = |step: &&Step| !is_failed(step, round.failures);
    let mut seen: BTreeSet<ReportedLease> = round.state.objects.iter().filter_map(lease).collect();
    let mut forgotten = BTreeSet::new();
    for step in round.plan.steps.iter().filter(done) {
        match step {
            Step::ReleaseLease { network, address, mac, .. } => {
                seen.remove(&ReportedLease { network: network.clone(), address: *address, mac: *mac });
            }
            Step::ForgetLeases { network } => {
                forgotten.insert(network);
            }
            _ => {}
        }
    }
    seen.retain(|lease| !forgotten.contains(&lease.network));
    let looked_at: Option<BTreeSet<(&Name, Mac)>> = match round.scope {
        Scope::Host => None,
        Scope::Keys { observed, .. } => Some(observed.iter().filter_map(lease_key).collect()),
    };
    let is_known = |lease: &&ReportedLease| {
        forgotten.contains(&lease.network)
            || looked_at.as_ref().is_none_or(|keys| keys.contains(&(&lease.network, lease.mac)))
    };
    if before.iter().filter(is_known).eq(&seen) {
        return None;
    }
    let others = before.iter().filter(|lease| !is_known(lease)).cloned();
    Some(others.chain(seen).collect())
}

fn lease((key, observed): (&Key, &Observed)) -> Option<ReportedLease> {
    match (key, &observed.object) {
        (Key::Lease(network, mac), Object::Lease(address)) => {
            Some(ReportedLease { network: network.clone(), address: *address, mac: *mac })
        }
        _ => None,
    }
}

fn lease_key(key: &Key) -> Option<(&Name, Mac)> {
    match key {
        Key::Lease(network, mac) => Some((network, *mac)),
        _ => None,
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
