//! History: who had an address when, and for how long that is kept.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::time::{MissedTickBehavior, interval};
use trestle_api::{HistoryFilter, Holding, Page, PageQuery};

use crate::app::check::{self, Checks};
use crate::app::{App, Caller, Clock};
use crate::error::AppError;
use crate::store::history::{self, Filter};
use crate::store::{Store, StoreError};

/// How often it is looked what is too old to be kept.
const LOOK: Duration = Duration::from_secs(3600);

/// How long a day is.
const DAY: SignedDuration = SignedDuration::from_hours(24);

impl App {
    /// Who had an address when, as far as the caller may know, the newest first: a member when its
    /// project had it.
    pub async fn address_history(
        &self,
        caller: &Caller,
        address: &str,
        filter: &HistoryFilter,
        page: &PageQuery,
    ) -> Result<Page<Holding>, AppError> {
        caller.must_not_be_agent("looking into the history of addresses")?;
        let limit = check::limit(page)?;
        let mut checks = Checks::default();
        let address = checks.address("address", Some(address));
        let at = filter.at.as_deref().and_then(|text| checks.time("at", text));
        let before: Option<i64> = checks.optional("after", "bad_cursor", page.after.as_deref());
        checks.finish()?;
        let address: IpAddr =
            address.ok_or_else(|| AppError::defect("an address that is none passed its checks"))?;
        let filter = Filter { at, visible_to: caller.only_project() };
        let mut read = self.store().read().await?;
        let place = (before.unwrap_or(i64::MAX), check::rows(limit));
        let found = history::list(&mut read, address, &filter, place).await?;
        let Page { items, next } = check::page(found, limit, |(place, _)| place.to_string());
        Ok(Page { items: items.into_iter().map(|(_, holding)| holding).collect(), next })
    }
}

/// Forgets what is too old.
pub(super) struct Sweep {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    /// How many days are kept; all of them if 0.
    days: u32,
}

impl Sweep {
    pub(super) fn new(store: Arc<Store>, clock: Arc<dyn Clock>, days: u32) -> Self {
        Self { store, clock, days }
    }

    /// Sweeps for as long as it is polled.
    pub(super) async fn sweep(self) {
        if self.days == 0 {
            return;
        }
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            if let Err(error) = self.forget_old().await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "cannot forget old history, will try again");
            }
        }
    }

    async fn forget_old(&self) -> Result<(), StoreError> {
        let kept = DAY.saturating_mul(self.days.try_into().unwrap_or(i32::MAX));
        let Ok(oldest) = self.clock.now().checked_sub(kept) else { return Ok(()) };
        let mut transaction = self.store.observe().await?;
        history::forget_before(&mut transaction, oldest).await?;
        let committed = transaction.commit().await;
        committed
            .map_err(|source| StoreError::Query { operation: "commit that old history is forgotten", source })
    }
}
