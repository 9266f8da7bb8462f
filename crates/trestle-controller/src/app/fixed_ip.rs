//! Fixed IPs.

use trestle_api::{FixedIp, FixedIpFilter, Page, PageQuery};

use crate::app::{App, Caller};
use crate::error::AppError;

impl App {
    /// The fixed IPs that are or were in use and that the caller may see.
    pub async fn list_fixed_ips(&self, caller: &Caller, filter: &FixedIpFilter, page: &PageQuery) -> Result<Page<FixedIp>, AppError> {
        let _ = (caller, filter, page);
        todo!()
    }
}
