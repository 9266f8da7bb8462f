//! What agents ask, and waiting for what they do. What they say is in `report`.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};
use trestle_api::agent::SpecQuery;
use trestle_core::compile::Entity;
use trestle_core::spec::SpecUpdate;
use trestle_core::types::{HostId, Name};

use crate::app::{App, Caller, host, unconfirmed};
use crate::error::AppError;
use crate::store::Write;
use crate::store::host::{self as host_store, HostRecord};

/// The longest that a poll waits, in seconds.
const LONGEST_WAIT: u32 = 60;

/// How long a request that takes things down waits for connected hosts to have done so.
pub(super) const HOST_PATIENCE: Duration = Duration::from_secs(2);

/// How often it is looked whether a host that is connected to another controller is done.
const LOOK: Duration = Duration::from_millis(200);

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

    /// Commits a change of this thing, and waits for the hosts that it bears on, before or after.
    pub(super) async fn commit_and_wait(&self, write: Write, entity: Entity) -> Result<(), AppError> {
        let mut hosts = self.feed().hosts_affected(entity);
        let revision = write.commit().await?;
        self.feed().wait_for(revision).await;
        hosts.extend(self.feed().hosts_affected(entity));
        self.wait_for_hosts(hosts, revision).await;
        Ok(())
    }

    /// Waits until these hosts, as far as they are connected, have worked through this revision: for all
    /// of them together two seconds at most. Notes those that have not.
    pub(super) async fn wait_for_hosts(&self, hosts: impl IntoIterator<Item = HostId>, revision: u64) {
        let deadline = Instant::now() + HOST_PATIENCE;
        self.feed().wait_for(revision).await;
        let mut hosts: BTreeSet<HostId> = hosts.into_iter().collect();
        hosts.retain(|id| self.feed().is_asked(*id, revision));
        let mut silent = BTreeSet::new();
        for id in hosts {
            let mut applied = self.feed().applied(id);
            let has_followed = match self.is_connected_here(id) {
                true => timeout_at(deadline, applied.wait_for(|at| *at >= revision))
                    .await
                    .is_ok_and(|at| at.is_ok()),
                false => *applied.borrow() >= revision,
            };
            if !has_followed {
                silent.insert(id);
            }
        }
        if silent.is_empty() {
            return;
        }
        // Too late or gone is no failure: what hangs on it, such as an address, stays back until it says so.
        match self.still_silent(silent, revision, deadline).await {
            Ok(silent) => unconfirmed::note(silent),
            Err(error) => {
                tracing::warn!(error = &error as &dyn Error, "cannot look which hosts have followed")
            }
        }
    }

    /// Those of these hosts that have not followed when the time is over. Waits only for those that are
    /// connected to another controller.
    async fn still_silent(
        &self,
        mut silent: BTreeSet<HostId>,
        revision: u64,
        deadline: Instant,
    ) -> Result<Vec<Name>, AppError> {
        loop {
            let mut read = self.store().read().await?;
            let mut records = host_store::list(&mut read, (None, None), "", i64::MAX).await?;
            drop(read);
            let has_followed = |record: &HostRecord| {
                record.observed.as_ref().is_some_and(|observed| observed.generation_applied >= revision)
            };
            records.retain(|record| silent.contains(&record.host.id) && !has_followed(record));
            silent = records.iter().map(|record| record.host.id).collect();
            let may_follow =
                |record: &HostRecord| self.is_connected(record) && !self.is_connected_here(record.host.id);
            if Instant::now() >= deadline || !records.iter().any(may_follow) {
                return Ok(records.into_iter().map(|record| record.host.name).collect());
            }
            sleep_until(deadline.min(Instant::now() + LOOK)).await;
        }
    }

    /// Whether the host, connected to this controller or another, has worked through this revision
    /// when the time is over; as soon as it has.
    pub(super) async fn has_applied(
        &self,
        host: HostId,
        revision: u64,
        patience: Duration,
    ) -> Result<bool, AppError> {
        let deadline = Instant::now() + patience;
        let mut applied = self.feed().applied(host);
        loop {
            let look = deadline.min(Instant::now() + LOOK);
            if let Ok(Ok(_)) = timeout_at(look, applied.wait_for(|applied| *applied >= revision)).await {
                return Ok(true);
            }
            let mut read = self.store().read().await?;
            let record = host_store::find(&mut read, &host.to_string()).await?;
            let said = record.and_then(|record| record.observed).map(|observed| observed.generation_applied);
            if said.is_some_and(|said| said >= revision) {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
        }
    }
}
