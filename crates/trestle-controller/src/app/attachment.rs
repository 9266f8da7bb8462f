//! Plugging interfaces in and out.

use trestle_api::{AttachRequest, Attached};

use crate::app::{App, Caller};
use crate::error::AppError;

impl App {
    /// Asks a host to plug an instance's interface in. Admins and the host's agent only.
    pub async fn attach(&self, caller: &Caller, instance: &str, project: Option<&str>, request: AttachRequest) -> Result<Attached, AppError> {
        let _ = (caller, instance, project, request);
        todo!()
    }

    /// Asks its host to take an instance's interface out.
    pub async fn detach(&self, caller: &Caller, instance: &str, project: Option<&str>, network: Option<&str>) -> Result<Attached, AppError> {
        let _ = (caller, instance, project, network);
        todo!()
    }
}
