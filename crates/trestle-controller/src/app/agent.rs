//! What agents ask and say.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sqlx::AnyConnection;
use tokio::time::{Instant, timeout_at};
use trestle_api::agent::{Drift, Report, SpecQuery};
use trestle_core::plan::Problem;
use trestle_core::spec::SpecUpdate;
use trestle_core::types::HostId;
use trestle_core::world::Host;

use crate::app::token::digest;
use crate::app::{App, Caller, host};
use crate::error::AppError;
use crate::store::StoreError;
use crate::store::change::Change;
use crate::store::observed::{self, Status};

/// The longest that a poll waits, in seconds.
const LONGEST_WAIT: u32 = 60;

/// How long a request that takes things down waits for connected hosts to have done so.
const HOST_PATIENCE: Duration = Duration::from_secs(2);

/// How many repaired things an event tells of.
const REPAIRS_TOLD: usize = 5;

impl App {
    /// What the host must have; waits as long as asked if that is what the agent holds, and then
    /// gives nothing. Admins and the host's agent only.
    pub async fn spec(
        &self,
        caller: &Caller,
        host: &str,
        query: SpecQuery,
    ) -> Result<Option<SpecUpdate>, AppError> {
        let mut read = self.store().read().await?;
        let id = host::find(&mut read, caller, host).await?.host.id;
        drop(read);
        // An admin that looks is no agent that is there.
        let polling = caller.own_host().map(|own| self.feed().polling(own, Arc::clone(self.clock())));
        let mut generation = self.feed().generation(id);
        let wait = query.wait.unwrap_or(0).min(LONGEST_WAIT);
        let deadline = Instant::now() + Duration::from_secs(wait.into());
        let update = loop {
            generation.mark_unchanged();
            if let Some(update) = self.feed().update(id, query.since) {
                break Some(update);
            }
            match timeout_at(deadline, generation.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(AppError::not_found("host", host)),
                Err(_) => break None,
            }
        };
        drop(polling);
        Ok(update)
    }

    /// Takes in what an agent saw. The host's agent only.
    pub async fn report(&self, caller: &Caller, host: &str, report: Report) -> Result<(), AppError> {
        if caller.own_host().is_none() {
            return Err(AppError::forbidden("reporting is for the host's agent"));
        }
        let mut read = self.store().read().await?;
        let host = host::find(&mut read, caller, host).await?.host;
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
            digest: &digest,
        };
        let news = news(&host, &before, &report);
        let what = (!same).then_some(&report);
        if news.is_empty() {
            let mut transaction = self.store().observe().await?;
            put(&mut transaction, host.id, &status, what).await?;
            let committed = transaction.commit().await;
            committed.map_err(|source| StoreError::Query { operation: "commit a report", source })?;
        } else {
            let mut write = self.write().await?;
            put(write.connection(), host.id, &status, what).await?;
            for change in news {
                write.log(change);
            }
            write.commit().await?;
        }
        self.feed().heard(host.id, now, report.generation);
        Ok(())
    }

    /// Waits until these hosts, as far as they are connected, have worked through this revision.
    pub(super) async fn wait_for_hosts(&self, hosts: Vec<HostId>, revision: u64) {
        let deadline = Instant::now() + HOST_PATIENCE;
        for id in hosts.into_iter().collect::<BTreeSet<_>>() {
            let mut applied = self.feed().applied(id);
            if self.is_connected_here(id) {
                // Too late or gone is no failure: the address stays back until the host says so.
                let _ = timeout_at(deadline, applied.wait_for(|applied| *applied >= revision)).await;
            }
        }
    }
}

async fn put(
    connection: &mut AnyConnection,
    host: HostId,
    status: &Status<'_>,
    changed: Option<&Report>,
) -> Result<(), StoreError> {
    observed::put_status(connection, host, status).await?;
    if let Some(report) = changed {
        observed::put_problems(connection, host, &report.problems).await?;
        let leases = report.leases.iter().map(|lease| (lease.address, lease.mac)).collect();
        observed::put_leases(connection, host, &leases).await?;
    }
    Ok(())
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
