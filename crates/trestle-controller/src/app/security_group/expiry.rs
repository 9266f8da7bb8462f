//! Deletes rules that have ended. Hosts end them by themselves, to the second; this is what is left.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::app::Clock;
use crate::app::security_group::{change, find_within, rule};
use crate::error::AppError;
use crate::store::security_group::{self, GroupRecord};
use crate::store::{Store, Write};

/// How often it is looked which rules have ended.
const LOOK: Duration = Duration::from_secs(10);

/// Deletes what has ended.
pub(in crate::app) struct Expiry {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
}

impl Expiry {
    pub(in crate::app) fn new(store: Arc<Store>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    /// Sweeps for as long as it is polled.
    pub(in crate::app) async fn sweep(self) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            if let Err(error) = self.end().await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "cannot delete rules that have ended, will try again");
            }
        }
    }

    async fn end(&self) -> Result<(), AppError> {
        let now = self.clock.now();
        let mut read = self.store.read().await?;
        let groups = security_group::groups_with_expired(&mut read, now).await?;
        drop(read);
        if groups.is_empty() {
            return Ok(());
        }
        let mut write = self.store.write(now).await?;
        for id in groups {
            // Another controller may have done it, or deleted the group.
            if let Ok(group) = find_within(write.connection(), None, &id.to_string()).await {
                end_rules(&mut write, &group).await?;
            }
        }
        write.commit().await?;
        Ok(())
    }
}

/// Deletes the rules of a group that have ended.
pub(super) async fn end_rules(write: &mut Write, group: &GroupRecord) -> Result<(), AppError> {
    let now = write.at();
    for record in security_group::delete_expired(write.connection(), group.id, now).await? {
        let message = format!("rule `{}` of security group `{}` ended", rule::text(&record), group.name);
        write.log(change("security_group.rule_expired", message, group));
    }
    Ok(())
}
