//! Instances and their interfaces.

use trestle_api::{Instance, InstanceFilter, NewInstance, NewInterface, Page, PageQuery};

use crate::app::{App, Caller};
use crate::error::AppError;

impl App {
    /// Makes an instance with its interfaces, each with its address.
    pub async fn create_instance(&self, caller: &Caller, new: NewInstance) -> Result<Instance, AppError> {
        let _ = (caller, new);
        todo!()
    }

    /// The instances that the caller may see.
    pub async fn list_instances(&self, caller: &Caller, filter: &InstanceFilter, page: &PageQuery) -> Result<Page<Instance>, AppError> {
        let _ = (caller, filter, page);
        todo!()
    }

    /// One instance. A name needs its project where several projects have it.
    pub async fn instance(&self, caller: &Caller, instance: &str, project: Option<&str>) -> Result<Instance, AppError> {
        let _ = (caller, instance, project);
        todo!()
    }

    /// Deletes an instance; connected hosts have taken it down when this returns, or two seconds have passed.
    pub async fn delete_instance(&self, caller: &Caller, instance: &str, project: Option<&str>) -> Result<(), AppError> {
        let _ = (caller, instance, project);
        todo!()
    }

    /// Adds an interface to an instance.
    pub async fn add_interface(&self, caller: &Caller, instance: &str, project: Option<&str>, new: NewInterface) -> Result<Instance, AppError> {
        let _ = (caller, instance, project, new);
        todo!()
    }

    /// Takes an interface from an instance.
    pub async fn delete_interface(&self, caller: &Caller, instance: &str, project: Option<&str>, interface: &str) -> Result<Instance, AppError> {
        let _ = (caller, instance, project, interface);
        todo!()
    }
}
