//! Events.

use trestle_api::{Event, EventFilter, Page, PageQuery};

use crate::app::check::{self, Checks};
use crate::app::{App, Caller};
use crate::error::AppError;
use crate::store::change::{self, Filter};

/// How many events a stream reads at once, and how many last ones can be asked for.
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
        let last = last(&mut checks, filter);
        checks.finish()?;
        let mut read = self.store().read().await?;
        let wanted = visible(caller, filter);
        let after = after.unwrap_or(0);
        if let Some(last) = last {
            let items = change::last_events(&mut read, &wanted, after, last).await?;
            return Ok(Page { items, next: None });
        }
        let events = change::events(&mut read, &wanted, after, check::rows(limit)).await?;
        Ok(check::page(events, limit, |event| event.id.to_string()))
    }

    /// Where to begin to follow events so that only the last so many that the filter asks for are
    /// behind it; where it was, if the filter asks for all.
    pub async fn first_event(
        &self,
        caller: &Caller,
        filter: &EventFilter,
        after: u64,
    ) -> Result<u64, AppError> {
        let mut checks = Checks::default();
        let last = last(&mut checks, filter);
        checks.finish()?;
        let Some(last) = last else { return Ok(after) };
        let mut read = self.store().read().await?;
        let from = i64::try_from(after).unwrap_or(i64::MAX);
        let events = change::last_events(&mut read, &visible(caller, filter), from, last).await?;
        Ok(events.first().map_or(after, |event| event.id.saturating_sub(1)))
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

/// How many events at the end are asked for, if not all.
fn last(checks: &mut Checks, filter: &EventFilter) -> Option<i64> {
    let last = filter.last.map(i64::from)?;
    if !(1..=STREAM_READ).contains(&last) {
        checks.add("last", "bad_limit", format!("the last 1 to {STREAM_READ} events, not the last {last}"));
    }
    Some(last)
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
