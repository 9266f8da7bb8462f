//! Events.

use trestle_api::{Event, EventFilter, Page, PageQuery};

use crate::app::check::{self, Checks};
use crate::app::{App, Caller};
use crate::error::AppError;
use crate::store::change::{self, Filter};

/// How many events a stream reads at once.
const STREAM_READ: i64 = 1000;

impl App {
    /// What happened, as far as the caller may know, the oldest first: a member its project's
    /// events, an agent its host's.
    pub async fn list_events(
        &self,
        caller: &Caller,
        filter: &EventFilter,
        page: &PageQuery,
    ) -> Result<Page<Event>, AppError> {
        let limit = check::limit(page)?;
        let mut checks = Checks::default();
        let after: Option<i64> = checks.optional("after", "bad_cursor", page.after.as_deref());
        checks.finish()?;
        let mut read = self.store().read().await?;
        let wanted = visible(caller, filter);
        let after = after.unwrap_or(0);
        let events = change::events(&mut read, &wanted, after, check::rows(limit)).await?;
        Ok(check::page(events, limit, |event| event.id.to_string()))
    }

    /// What happened after the event of this id, at most 1000 of them, the oldest first.
    pub async fn events_after(
        &self,
        caller: &Caller,
        filter: &EventFilter,
        after: u64,
    ) -> Result<Vec<Event>, AppError> {
        let mut read = self.store().read().await?;
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        Ok(change::events(&mut read, &visible(caller, filter), after, STREAM_READ).await?)
    }
}

fn visible(caller: &Caller, filter: &EventFilter) -> Filter {
    Filter {
        kind: filter.kind.clone(),
        project: filter.project.as_deref().map(check::reference),
        host: filter.host.as_deref().map(check::reference),
        project_visible: caller.only_project(),
        host_visible: caller.own_host(),
    }
}
