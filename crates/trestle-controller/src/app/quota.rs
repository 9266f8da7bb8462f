//! How much a project may have. What an admin asks for in its name counts too.

use crate::app::App;
use crate::config::Limit;
use crate::error::AppError;
use crate::store::Write;
use crate::store::floating_ip;
use crate::store::project::{self, ProjectRecord};
use crate::store::security_group::{self, GroupRecord};
use trestle_api::Quota;

impl App {
    /// What holds for a project: what was set for it, else the options.
    pub(super) fn quota(&self, project: &ProjectRecord) -> Quota {
        let (config, kept) = (self.config(), project.quota);
        Quota {
            networks: limit(kept.networks, config.quota_networks),
            fixed_ips: limit(kept.fixed_ips, config.quota_fixed_ips),
            floating_ips: limit(kept.floating_ips, config.quota_floating_ips),
            security_groups: limit(kept.security_groups, config.quota_security_groups),
            security_group_rules: limit(kept.security_group_rules, config.quota_security_group_rules),
        }
    }

    /// Fails if the project may not own so many more networks.
    pub(super) async fn refuse_networks_over_quota(
        &self,
        write: &mut Write,
        project: &ProjectRecord,
        more: u64,
    ) -> Result<(), AppError> {
        let Some(limit) = self.quota(project).networks else { return Ok(()) };
        let used = project::usage(write.connection(), project.id).await?.networks;
        refuse_over(project, ("networks", limit), used, more)
    }

    /// Fails if the project may not own the network that it was just given.
    pub(super) async fn refuse_claimed_over_quota(
        &self,
        write: &mut Write,
        project: &ProjectRecord,
    ) -> Result<(), AppError> {
        let Some(limit) = self.quota(project).networks else { return Ok(()) };
        let owned = project::usage(write.connection(), project.id).await?.networks;
        refuse_over(project, ("networks", limit), owned.saturating_sub(1), 1)
    }

    /// Fails if the project's instances may not have so many more fixed IPs.
    pub(super) async fn refuse_fixed_ips_over_quota(
        &self,
        write: &mut Write,
        project: &ProjectRecord,
        more: u64,
    ) -> Result<(), AppError> {
        let Some(limit) = self.quota(project).fixed_ips else { return Ok(()) };
        let used = project::usage(write.connection(), project.id).await?.fixed_ips;
        refuse_over(project, ("fixed IPs", limit), used, more)
    }

    /// Fails if the project may not have so many more floating IPs.
    pub(super) async fn refuse_floating_ips_over_quota(
        &self,
        write: &mut Write,
        project: &ProjectRecord,
        more: u64,
    ) -> Result<(), AppError> {
        let Some(limit) = self.quota(project).floating_ips else { return Ok(()) };
        let used = floating_ip::counted(write.connection(), project.id).await?;
        refuse_over(project, ("floating IPs", limit), used, more)
    }

    /// Fails if the project may not have one more security group.
    pub(super) async fn refuse_security_groups_over_quota(
        &self,
        write: &mut Write,
        project: &ProjectRecord,
    ) -> Result<(), AppError> {
        let Some(limit) = self.quota(project).security_groups else { return Ok(()) };
        let used = project::usage(write.connection(), project.id).await?.security_groups;
        refuse_over(project, ("security groups", limit), used, 1)
    }

    /// Fails if a security group of the project may not have one more rule.
    pub(super) async fn refuse_rules_over_quota(
        &self,
        write: &mut Write,
        group: &GroupRecord,
    ) -> Result<(), AppError> {
        let owner = project::find(write.connection(), &group.project.to_string()).await?;
        let owner = owner.ok_or_else(|| AppError::defect("a security group has no project"))?;
        let Some(limit) = self.quota(&owner).security_group_rules else { return Ok(()) };
        let used = security_group::count_rules(write.connection(), group.id).await?;
        refuse_over_of(&format!("security group `{}`", group.name), ("rules", limit), used, 1)
    }
}

/// What was set for a project wins over the option.
fn limit(kept: Option<i64>, option: Limit) -> Option<u32> {
    kept.and_then(|kept| Limit::try_from(kept).ok()).unwrap_or(option).number()
}

fn refuse_over(project: &ProjectRecord, what: (&str, u32), used: u64, more: u64) -> Result<(), AppError> {
    refuse_over_of(&format!("project `{}`", project.name), what, used, more)
}

/// As [`refuse_over`], of whatever has these.
fn refuse_over_of(owner: &str, (what, limit): (&str, u32), used: u64, more: u64) -> Result<(), AppError> {
    if used.saturating_add(more) <= limit.into() {
        return Ok(());
    }
    let message =
        format!("{owner} has {used} of the {limit} {what} that it may have, and this takes {more} more");
    Err(AppError::conflict("quota_exceeded", message)
        .hint("delete what is not needed, or raise the limit with `trestle project set-quota`"))
}
