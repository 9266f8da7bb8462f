//! What agents ask, and waiting for what they do. What they say is in `report`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use trestle_api::agent::SpecQuery;
use trestle_core::spec::SpecUpdate;
use trestle_core::types::HostId;

use crate::app::{App, Caller, host};
use crate::error::AppError;
use crate::store::host as host_store;

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
