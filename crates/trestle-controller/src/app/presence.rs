//! Says when agents go away and come back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval};
use trestle_core::types::HostId;

use crate::app::Clock;
use crate::feed::{self, Feed};
use crate::store::change::Change;
use crate::store::host::{self, HostRecord};
use crate::store::{Store, StoreError};

/// How often it is looked who is there.
const LOOK: Duration = Duration::from_secs(1);

/// Watches which agents are there.
pub(super) struct Presence {
    store: Arc<Store>,
    feed: Arc<Feed>,
    clock: Arc<dyn Clock>,
    /// A host that was heard of before this controller began is given time to come back to it.
    began: Timestamp,
    away: BTreeSet<HostId>,
}

impl Presence {
    pub(super) fn new(store: Arc<Store>, feed: Arc<Feed>, clock: Arc<dyn Clock>) -> Self {
        let began = clock.now();
        Self { store, feed, clock, began, away: BTreeSet::new() }
    }

    /// Watches for as long as it is polled.
    pub(super) async fn watch(mut self) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            if let Err(error) = self.look().await {
                // Requests say so louder; here it is only too early to tell.
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "cannot look which agents are there"
                );
            }
        }
    }

    async fn look(&mut self) -> Result<(), StoreError> {
        let mut read = self.store.read().await?;
        let hosts = host::list(&mut read, (None, None), "", i64::MAX).await?;
        drop(read);
        self.away.retain(|id| hosts.iter().any(|record| record.host.id == *id));
        let now = self.clock.now();
        let mut changes = Vec::new();
        for record in &hosts {
            let Some(heard) = self.last_heard(record, now) else { continue };
            let (id, name) = (record.host.id, &record.host.name);
            let is_there = now.duration_since(heard) <= feed::SILENCE;
            if is_there && self.away.remove(&id) {
                let message = format!("the agent of host `{name}` is back");
                changes.push(Change::new("host.back", name, message).host(id, name));
            } else if !is_there && self.away.insert(id) {
                let message =
                    format!("the agent of host `{name}` is away: nothing was heard of it since {heard:.0}");
                changes.push(Change::new("host.away", name, message).host(id, name));
            }
        }
        if changes.is_empty() {
            return Ok(());
        }
        let mut write = self.store.write(now).await?;
        changes.into_iter().for_each(|change| write.log(change));
        write.commit().await?;
        Ok(())
    }

    /// When the host was heard of last, by any controller; nothing if it never was.
    fn last_heard(&self, record: &HostRecord, now: Timestamp) -> Option<Timestamp> {
        let here = self.feed.last_heard(record.host.id, now);
        let ever = record.observed.as_ref().map(|observed| observed.last_seen.max(self.began));
        here.max(ever)
    }
}
