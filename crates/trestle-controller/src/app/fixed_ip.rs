//! Fixed IPs.

use std::net::IpAddr;

use trestle_api::{FixedIp, FixedIpFilter, Page, PageQuery};

use crate::app::check::{self, Checks};
use crate::app::{App, Caller, network, project};
use crate::error::AppError;
use crate::store::fixed_ip::{self, Filter};

impl App {
    /// The fixed IPs that are or were in use and that the caller may see; a member sees those its
    /// project's instances have.
    pub async fn list_fixed_ips(
        &self,
        caller: &Caller,
        filter: &FixedIpFilter,
        page: &PageQuery,
    ) -> Result<Page<FixedIp>, AppError> {
        let limit = check::limit(page)?;
        let mut checks = Checks::default();
        let address = checks.optional("address", "bad_address", filter.address.as_deref());
        let after: Option<IpAddr> = checks.optional("after", "bad_cursor", page.after.as_deref());
        checks.finish()?;
        let mut read = self.store().read().await?;
        let mut wanted = Filter { visible_to: caller.only_project(), address, ..Filter::default() };
        if let Some(text) = filter.network.as_deref() {
            wanted.network = Some(network::find(&mut read, caller, text).await?.network.id.to_string());
        }
        if let Some(text) = filter.project.as_deref() {
            wanted.project = Some(project::find(&mut read, caller, text).await?.id.to_string());
        }
        let when = (self.release_policy(), self.now());
        let items = fixed_ip::list(&mut read, &wanted, when, (after, check::rows(limit))).await?;
        Ok(check::page(items, limit, |item| item.address.to_string()))
    }
}
