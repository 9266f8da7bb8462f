//! Projects.

use sqlx::AnyConnection;
use trestle_api::{NewProject, Page, PageQuery, Project};
use trestle_core::types::ProjectId;
use uuid::Uuid;

use crate::app::check::{self, Checks};
use crate::app::{App, Caller};
use crate::error::AppError;
use crate::store::change::Change;
use crate::store::project;

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
        let project = Project { id: ProjectId(Uuid::now_v7()), name, created_at: write.at() };
        project::insert(write.connection(), &project).await?;
        let message = format!("project `{}` was made", project.name);
        write.log(Change::new("project.created", &project.name, message).project(project.id, &project.name));
        write.commit().await?;
        Ok(project)
    }

    /// The projects that the caller may see.
    pub async fn list_projects(&self, caller: &Caller, page: &PageQuery) -> Result<Page<Project>, AppError> {
        let (limit, after) = (check::limit(page)?, check::after_id(page)?);
        let mut read = self.store().read().await?;
        let projects = project::list(&mut read, caller.only_project(), &after, check::rows(limit)).await?;
        Ok(check::page(projects, limit, |project| project.id.to_string()))
    }

    /// One project.
    pub async fn project(&self, caller: &Caller, project: &str) -> Result<Project, AppError> {
        let mut read = self.store().read().await?;
        find(&mut read, caller, project).await
    }

    /// Deletes a project that owns nothing. Admins only.
    pub async fn delete_project(&self, caller: &Caller, project: &str) -> Result<(), AppError> {
        caller.must_be_admin("deleting a project")?;
        let mut write = self.write().await?;
        let project = find(write.connection(), caller, project).await?;
        let uses = project::uses(write.connection(), project.id).await?;
        if !uses.is_empty() {
            return Err(AppError::in_use(&format!("project `{}` still owns", project.name), &uses));
        }
        project::delete(write.connection(), project.id).await?;
        let message = format!("project `{}` was deleted", project.name);
        write.log(Change::new("project.deleted", &project.name, message).project(project.id, &project.name));
        write.commit().await?;
        Ok(())
    }
}

/// The project of this name or id, if the caller may see it.
pub(super) async fn find(
    connection: &mut AnyConnection,
    caller: &Caller,
    text: &str,
) -> Result<Project, AppError> {
    let found = project::find(connection, &check::reference(text)).await?;
    let visible = |project: &Project| caller.only_project().is_none_or(|only| only == project.id);
    found.filter(visible).ok_or_else(|| AppError::not_found("project", text))
}
