//! Events.

use trestle_api::{Event, EventFilter, Page, PageQuery};

use crate::app::{App, Caller};
use crate::error::AppError;

impl App {
    /// What happened, as far as the caller may know, the oldest first.
    pub async fn list_events(&self, caller: &Caller, filter: &EventFilter, page: &PageQuery) -> Result<Page<Event>, AppError> {
        let _ = (caller, filter, page);
        todo!()
    }

    /// What happened after the event of this id, at most 1000 of them, the oldest first.
    pub async fn events_after(&self, caller: &Caller, filter: &EventFilter, after: u64) -> Result<Vec<Event>, AppError> {
        let _ = (caller, filter, after);
        todo!()
    }
}
