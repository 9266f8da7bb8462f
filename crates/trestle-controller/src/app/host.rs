//! Hosts.

use trestle_api::{Host, HostFilter, HostPatch, NewHost, Page, PageQuery};

use crate::app::{App, Caller};
use crate::error::AppError;

impl App {
    /// Makes a host known. Admins only.
    pub async fn create_host(&self, caller: &Caller, new: NewHost) -> Result<Host, AppError> {
        let _ = (caller, new);
        todo!()
    }

    /// The hosts that the caller may see.
    pub async fn list_hosts(&self, caller: &Caller, filter: &HostFilter, page: &PageQuery) -> Result<Page<Host>, AppError> {
        let _ = (caller, filter, page);
        todo!()
    }

    /// One host.
    pub async fn host(&self, caller: &Caller, host: &str) -> Result<Host, AppError> {
        let _ = (caller, host);
        todo!()
    }

    /// Changes a host's devices. Admins only.
    pub async fn patch_host(&self, caller: &Caller, host: &str, patch: HostPatch) -> Result<Host, AppError> {
        let _ = (caller, host, patch);
        todo!()
    }

    /// Forgets a host that has no interfaces plugged in. Admins only.
    pub async fn delete_host(&self, caller: &Caller, host: &str) -> Result<(), AppError> {
        let _ = (caller, host);
        todo!()
    }
}
