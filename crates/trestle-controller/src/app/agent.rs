//! What agents ask and say.

use trestle_api::agent::{Report, SpecQuery};
use trestle_core::spec::SpecUpdate;

use crate::app::{App, Caller};
use crate::error::AppError;

impl App {
    /// What the host must have; waits as long as asked if that is what the agent holds, and then gives nothing.
    pub async fn spec(&self, caller: &Caller, host: &str, query: SpecQuery) -> Result<Option<SpecUpdate>, AppError> {
        let _ = (caller, host, query);
        todo!()
    }

    /// Takes in what an agent saw.
    pub async fn report(&self, caller: &Caller, host: &str, report: Report) -> Result<(), AppError> {
        let _ = (caller, host, report);
        todo!()
    }
}
