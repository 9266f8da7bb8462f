//! What agents say.
//!
//! Whoever holds an agent's token can say anything, and what is kept of it reaches terminals and
//! logs: it is made harmless and short at this door.

use std::collections::BTreeSet;

use sqlx::AnyConnection;
use trestle_api::agent::{Drift, Report};
use trestle_api::{ApiError, VpnConnection};
use trestle_core::plan::Problem;
use trestle_core::types::HostId;
use trestle_core::world::Host;

use crate::app::token::digest;
use crate::app::{App, Caller, host};
use crate::error::AppError;
use crate::store::StoreError;
use crate::store::change::Change;
use crate::store::observed::{self, Connections, Status};

/// How many repaired things an event tells of.
const REPAIRS_TOLD: usize = 5;

/// The longest name that is kept, in characters: a version, a kernel's release, a key, a code.
const NAME: usize = 256;

/// The longest sentence that is kept, in characters.
const SENTENCE: usize = 4096;

/// How many troubles of an agent itself are kept; there are three kinds.
const AGENT_PROBLEMS: usize = 16;

/// How many of a host's devices and of its addresses are kept.
const DEVICES: usize = 1024;

/// How many rules' counters are kept of one report.
const COUNTERS: usize = 20_000;

/// How many connections to VPNs are.
const CONNECTIONS: usize = 20_000;

impl App {
    /// Takes in what an agent saw. The host's agent only.
    pub async fn report(&self, caller: &Caller, host: &str, report: Report) -> Result<(), AppError> {
        if caller.own_host().is_none() {
            return Err(AppError::forbidden("reporting is for the host's agent"));
        }
        let mut read = self.store().read().await?;
        let record = host::find(&mut read, caller, host).await?;
        let host = &record.host;
        // Beyond what it was asked for, it would free addresses that it may still serve.
        let asked_for = *self.feed().generation(host.id).borrow();
        let report = tidied(report, asked_for);
        let now = self.now();
        let digest = digest(serde_json::json!([report.problems, report.leases]).to_string().as_bytes());
        let same = observed::digest(&mut read, host.id).await?.as_deref() == Some(digest.as_str());
        let before = observed::problems(&mut read, host.id).await?;
        drop(read);
        let status = Status {
            last_seen: now,
            generation_applied: report.generation,
            agent_version: &report.agent_version,
            kernel: &report.kernel,
            missing_features: &report.missing_features,
            agent_problems: &report.agent_problems,
            devices: &report.devices,
            addresses: &report.addresses,
            digest: &digest,
        };
        let mut news = news(host, &before, &report);
        let troubles = record.observed.as_ref().map_or(&[][..], |observed| &observed.agent_problems);
        news.extend(agent_news(host, troubles, &report.agent_problems));
        let what = (!same).then_some(&report);
        if news.is_empty() {
            let mut transaction = self.store().observe().await?;
            put(&mut transaction, host.id, (&status, &report), what).await?;
            let committed = transaction.commit().await;
            committed.map_err(|source| StoreError::Query { operation: "commit a report", source })?;
        } else {
            let mut write = self.write().await?;
            put(write.connection(), host.id, (&status, &report), what).await?;
            for change in news {
                write.log(change);
            }
            write.commit().await?;
        }
        self.feed().heard(host.id, now, report.generation);
        Ok(())
    }
}

/// The report without what could harm a terminal or fill the database, and about no generation
/// that the agent was not asked for.
fn tidied(report: Report, asked_for: u64) -> Report {
    let agent_problems = report.agent_problems.into_iter().take(AGENT_PROBLEMS);
    Report {
        generation: report.generation.min(asked_for),
        problems: report.problems.into_iter().filter_map(tidied_problem).collect(),
        agent_problems: agent_problems.map(tidied_error).collect(),
        drift: report.drift.into_iter().map(tidied_drift).collect(),
        agent_version: tidied_text(&report.agent_version, NAME),
        kernel: tidied_text(&report.kernel, NAME),
        leases: report.leases,
        missing_features: report.missing_features,
        devices: report.devices.into_iter().take(DEVICES).collect(),
        addresses: report.addresses.into_iter().take(DEVICES).collect(),
        rule_counters: report.rule_counters.into_iter().take(COUNTERS).collect(),
        vpn_connections: report.vpn_connections,
    }
}

/// Nothing if its key is none without what was taken out of it.
fn tidied_problem(problem: Problem) -> Option<Problem> {
    // A name in DNS has 253 characters at most, a key with it some more.
    let key = tidied_text(&problem.key.to_string(), 2 * NAME).parse().ok()?;
    Some(Problem { key, code: problem.code, detail: tidied_text(&problem.detail, SENTENCE) })
}

fn tidied_error(error: ApiError) -> ApiError {
    ApiError {
        code: tidied_text(&error.code, NAME),
        message: tidied_text(&error.message, SENTENCE),
        hint: error.hint.map(|hint| tidied_text(&hint, SENTENCE)),
        problems: Vec::new(),
    }
}

fn tidied_drift(drift: Drift) -> Drift {
    Drift {
        repaired: drift.repaired.iter().map(|step| tidied_text(step, SENTENCE)).collect(),
        culprit: drift.culprit.map(|culprit| tidied_text(&culprit, NAME)),
        took_ms: drift.took_ms,
    }
}

/// The text on one line and cut to so many characters; a replacement character stands for
/// everything that a terminal takes for an order: control characters, and those that turn the
/// direction of writing.
fn tidied_text(text: &str, longest: usize) -> String {
    let is_order = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let harmless = |c| if is_order(c) { char::REPLACEMENT_CHARACTER } else { c };
    let mut tidied: String = text.chars().take(longest).map(harmless).collect();
    if text.chars().nth(longest).is_some() {
        tidied.push('…');
    }
    tidied
}

async fn put(
    connection: &mut AnyConnection,
    host: HostId,
    (status, always): (&Status<'_>, &Report),
    changed: Option<&Report>,
) -> Result<(), StoreError> {
    observed::put_status(connection, host, status).await?;
    observed::put_counters(connection, host, &always.rule_counters).await?;
    observed::put_connections(connection, host, &connections(always)).await?;
    if let Some(report) = changed {
        observed::put_problems(connection, host, &report.problems).await?;
        let leases = report.leases.iter().map(|lease| (lease.address, lease.mac)).collect();
        observed::put_leases(connection, host, &leases).await?;
    }
    Ok(())
}

/// Who is connected to which VPN, made harmless.
fn connections(report: &Report) -> Connections {
    let all = report.vpn_connections.iter().flat_map(|(vpn, users)| {
        users.iter().map(move |(user, said)| {
            let said = VpnConnection { remote: tidied_text(&said.remote, NAME), ..said.clone() };
            ((vpn.clone(), user.clone()), said)
        })
    });
    all.take(CONNECTIONS).collect()
}

/// What a report tells that was not so before.
fn news(host: &Host, before: &BTreeSet<Problem>, report: &Report) -> Vec<Change> {
    let change =
        |kind, subject: String, message| Change::new(kind, subject, message).host(host.id, &host.name);
    let drift =
        report.drift.iter().map(|drift| change("host.drift", host.name.to_string(), drift_message(drift)));
    let new = report.problems.difference(before);
    let new = new.map(|problem| change("host.problem", problem.key.to_string(), problem.detail.clone()));
    let over = before.difference(&report.problems).map(|problem| {
        change("host.recovered", problem.key.to_string(), format!("no more: {}", problem.detail))
    });
    drift.chain(new).chain(over).collect()
}

fn drift_message(drift: &Drift) -> String {
    let culprit = drift.culprit.as_deref().unwrap_or("another program");
    let told: Vec<&str> = drift.repaired.iter().take(REPAIRS_TOLD).map(String::as_str).collect();
    let rest = match drift.repaired.len().saturating_sub(REPAIRS_TOLD) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{culprit} changed the host; repaired in {} ms: {}{rest}", drift.took_ms, told.join("; "))
}

/// What troubles the agent itself that did not before, and what does not any more.
fn agent_news(host: &Host, before: &[ApiError], now: &[ApiError]) -> Vec<Change> {
    let change = |kind, message| Change::new(kind, "agent", message).host(host.id, &host.name);
    let only_in = |those: &[ApiError], others: &[ApiError]| {
        let is_new = |error: &&ApiError| others.iter().all(|other| other.code != error.code);
        those.iter().filter(is_new).map(|error| error.message.clone()).collect::<Vec<_>>()
    };
    let new = only_in(now, before).into_iter().map(|message| change("host.problem", message));
    let over = only_in(before, now).into_iter();
    new.chain(over.map(|message| change("host.recovered", format!("no more: {message}")))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_taken_out_and_what_is_too_long_is_cut() {
        let tidied = tidied_text("a\x1b[2Jb\nc\u{9b}d\u{202e}e", 99);
        assert_eq!(tidied, "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d\u{fffd}e");
        assert_eq!(tidied_text("6.12-amd64 ü", 99), "6.12-amd64 ü");
        assert_eq!(tidied_text("abcdef", 3), "abc…");
    }
}
