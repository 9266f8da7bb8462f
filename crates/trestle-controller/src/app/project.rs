//! Projects.

use sqlx::AnyConnection;
use trestle_api::{NewProject, Page, PageQuery, Project, ProjectPatch, Usage};
use trestle_core::types::ProjectId;
use uuid::Uuid;

use crate::app::check::{self, Checks};
use crate::app::{App, Caller, address_group, pool, security_group, vpn};
use crate::config::Limit;
use crate::error::AppError;
use crate::store::Write;
use crate::store::change::Change;
use crate::store::project::{self, Limits, ProjectRecord};

impl App {
    /// Makes a project. Admins only.
    pub async fn create_project(&self, caller: &Caller, new: NewProject) -> Result<Project, AppError> {
        caller.must_be_admin("making a project")?;
        let mut checks = Checks::default();
        let name = checks.name("name", &new.name);
        checks.finish()?;
        let Some(name) = name else {
            return Err(AppError::defect("a project without a name passed its checks"));
        };
        let mut write = self.write().await?;
        if project::find(write.connection(), name.as_str()).await?.is_some() {
            return Err(AppError::conflict("name_taken", format!("there is a project `{name}` already")));
        }
        let (id, created_at) = (ProjectId(Uuid::now_v7()), write.at());
        let project = ProjectRecord { id, name, created_at, quota: Limits::default(), auto_assign: None };
        project::insert(write.connection(), &project).await?;
        write.log(change("project.created", format!("project `{}` was made", project.name), &project));
        self.make_default_group(&mut write, &project).await?;
        let usage = project::usage(write.connection(), project.id).await?;
        write.commit().await?;
        Ok(self.project_answer(project, usage))
    }

    /// The projects that the caller may see.
    pub async fn list_projects(&self, caller: &Caller, page: &PageQuery) -> Result<Page<Project>, AppError> {
        let (limit, after) = (check::limit(page)?, check::after_id(page)?);
        let mut read = self.store().read().await?;
        let projects = project::list(&mut read, caller.only_project(), &after, check::rows(limit)).await?;
        let projects = projects.into_iter().map(|(record, usage)| self.project_answer(record, usage));
        Ok(check::page(projects.collect(), limit, |project: &Project| project.id.to_string()))
    }

    /// One project.
    pub async fn project(&self, caller: &Caller, project: &str) -> Result<Project, AppError> {
        let mut read = self.store().read().await?;
        let record = find(&mut read, caller, project).await?;
        let usage = project::usage(&mut read, record.id).await?;
        Ok(self.project_answer(record, usage))
    }

    /// Changes a project's quota, what it has beyond a lower one staying, and the pool of which its new
    /// instances get floating IPs. Admins only.
    pub async fn patch_project(
        &self,
        caller: &Caller,
        project: &str,
        patch: ProjectPatch,
    ) -> Result<Project, AppError> {
        caller.must_be_admin("changing a project")?;
        let mut checks = Checks::default();
        let fields = [
            ("networks", patch.networks),
            ("fixed_ips", patch.fixed_ips),
            ("floating_ips", patch.floating_ips),
            ("security_groups", patch.security_groups),
            ("security_group_rules", patch.security_group_rules),
        ];
        for (field, number) in fields {
            if let Some(Err(error)) = number.map(Limit::try_from) {
                checks.add(field, "bad_quota", error);
            }
        }
        checks.finish()?;
        let mut write = self.write().await?;
        let mut record = find(write.connection(), caller, project).await?;
        let kept = record.quota;
        record.quota = Limits {
            networks: patch.networks.or(kept.networks),
            fixed_ips: patch.fixed_ips.or(kept.fixed_ips),
            floating_ips: patch.floating_ips.or(kept.floating_ips),
            security_groups: patch.security_groups.or(kept.security_groups),
            security_group_rules: patch.security_group_rules.or(kept.security_group_rules),
        };
        let usage = project::usage(write.connection(), record.id).await?;
        if record.quota != kept {
            project::set_quota(write.connection(), record.id, record.quota).await?;
            let set = fields.iter().filter_map(|(field, number)| Some(format!("{field} {}", (*number)?)));
            let set: Vec<String> = set.collect();
            let message = format!("the quota of project `{}` was set: {}", record.name, set.join(", "));
            write.log(change("project.changed", message, &record));
        }
        let changed_pool = set_auto_assign(&mut write, &mut record, patch.auto_assign.as_deref()).await?;
        if changed_pool || record.quota != kept {
            write.commit().await?;
        }
        Ok(self.project_answer(record, usage))
    }

    /// Deletes a project that owns nothing but its VPN and its security and address groups. Admins only.
    pub async fn delete_project(&self, caller: &Caller, project: &str) -> Result<(), AppError> {
        caller.must_be_admin("deleting a project")?;
        let mut write = self.write().await?;
        let project = find(write.connection(), caller, project).await?;
        let host = vpn::end_of_project(&mut write, project.id).await?;
        let uses = project::uses(write.connection(), project.id).await?;
        if !uses.is_empty() {
            let error = AppError::in_use(&format!("project `{}` still owns", project.name), &uses);
            return Err(error.hint(
                "delete instances with `trestle instance delete`, and take networks from it with `trestle network disassociate` or `delete`, floating IPs with `trestle floating-ip release`, and DNS domains with `trestle dns domain delete`",
            ));
        }
        security_group::log_deleted(&mut write, project.id).await?;
        address_group::log_deleted(&mut write, project.id).await?;
        project::delete(write.connection(), project.id).await?;
        write.log(change("project.deleted", format!("project `{}` was deleted", project.name), &project));
        let revision = write.commit().await?;
        self.wait_for_hosts(host, revision).await;
        Ok(())
    }

    fn project_answer(&self, record: ProjectRecord, usage: Usage) -> Project {
        let quota = self.quota(&record);
        let ProjectRecord { id, name, auto_assign, created_at, .. } = record;
        Project { id, name, quota, usage, auto_assign: auto_assign.map(|(_, name)| name), created_at }
    }
}

/// Changes the pool of which new instances get floating IPs, if one is given, an empty text for none;
/// whether that was another.
async fn set_auto_assign(
    write: &mut Write,
    record: &mut ProjectRecord,
    pool: Option<&str>,
) -> Result<bool, AppError> {
    let wanted = match pool {
        None => return Ok(false),
        Some("") => None,
        Some(text) => Some(pool::find(write.connection(), text).await?),
    };
    let wanted = wanted.map(|pool| (pool.id, pool.name));
    if wanted == record.auto_assign {
        return Ok(false);
    }
    project::set_auto_assign(write.connection(), record.id, wanted.as_ref().map(|(id, _)| *id)).await?;
    let message = match &wanted {
        Some((_, pool)) => {
            format!("new instances of project `{}` get a floating IP of pool `{pool}`", record.name)
        }
        None => format!("new instances of project `{}` get no floating IP by themselves", record.name),
    };
    write.log(change("project.changed", message, record));
    record.auto_assign = wanted;
    Ok(true)
}

/// The project of this name or id, if the caller may see it.
pub(super) async fn find(
    connection: &mut AnyConnection,
    caller: &Caller,
    text: &str,
) -> Result<ProjectRecord, AppError> {
    let found = project::find(connection, &check::reference(text)).await?;
    let visible = |project: &ProjectRecord| caller.only_project().is_none_or(|only| only == project.id);
    found.filter(visible).ok_or_else(|| AppError::not_found("project", text))
}

/// The project to look into: the one of this name or id, or the only one the caller may see, if there
/// is one.
pub(super) async fn wanted(
    connection: &mut AnyConnection,
    caller: &Caller,
    text: Option<&str>,
) -> Result<Option<ProjectId>, AppError> {
    match text {
        Some(text) => Ok(Some(find(connection, caller, text).await?.id)),
        None => Ok(caller.only_project()),
    }
}

fn change(kind: &'static str, message: String, project: &ProjectRecord) -> Change {
    Change::new(kind, &project.name, message).project(project.id, &project.name)
}
