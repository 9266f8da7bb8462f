//! Projects.

use trestle_api::{NewProject, Page, PageQuery, Project};

use crate::app::{App, Caller};
use crate::error::AppError;

impl App {
    /// Makes a project. Admins only.
    pub async fn create_project(&self, caller: &Caller, new: NewProject) -> Result<Project, AppError> {
        let _ = (caller, new);
        todo!()
    }

    /// The projects that the caller may see.
    pub async fn list_projects(&self, caller: &Caller, page: &PageQuery) -> Result<Page<Project>, AppError> {
        let _ = (caller, page);
        todo!()
    }

    /// One project.
    pub async fn project(&self, caller: &Caller, project: &str) -> Result<Project, AppError> {
        let _ = (caller, project);
        todo!()
    }

    /// Deletes a project that owns nothing. Admins only.
    pub async fn delete_project(&self, caller: &Caller, project: &str) -> Result<(), AppError> {
        let _ = (caller, project);
        todo!()
    }
}
