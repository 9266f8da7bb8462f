//! Networks.

use trestle_api::{Network, NetworkFilter, NewNetwork, Page, PageQuery};

use crate::app::{App, Caller};
use crate::error::AppError;

impl App {
    /// Makes a network. Admins only.
    pub async fn create_network(&self, caller: &Caller, new: NewNetwork) -> Result<Network, AppError> {
        let _ = (caller, new);
        todo!()
    }

    /// The networks that the caller may use.
    pub async fn list_networks(&self, caller: &Caller, filter: &NetworkFilter, page: &PageQuery) -> Result<Page<Network>, AppError> {
        let _ = (caller, filter, page);
        todo!()
    }

    /// One network.
    pub async fn network(&self, caller: &Caller, network: &str) -> Result<Network, AppError> {
        let _ = (caller, network);
        todo!()
    }

    /// Deletes a network that has no interfaces. Admins only.
    pub async fn delete_network(&self, caller: &Caller, network: &str) -> Result<(), AppError> {
        let _ = (caller, network);
        todo!()
    }
}
