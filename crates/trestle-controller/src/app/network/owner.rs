//! Whom VLAN networks belong to: one is free until a project claims it or is given it.

use trestle_api::{AssociateRequest, Network};
use trestle_core::types::{Name, NetworkId};
use trestle_core::world::NetworkType;

use crate::app::network::{change, find, still_has};
use crate::app::{App, Caller, project, vpn};
use crate::error::AppError;
use crate::store::Write;
use crate::store::network::{self, NetworkRecord};
use crate::store::project::ProjectRecord;

impl App {
    /// Gives a free VLAN network to a project. Admins only.
    pub async fn associate(
        &self,
        caller: &Caller,
        network: &str,
        request: AssociateRequest,
    ) -> Result<Network, AppError> {
        caller.must_be_admin("giving a network to a project")?;
        let mut write = self.write().await?;
        let record = find(write.connection(), caller, network).await?;
        let project = project::find(write.connection(), caller, &request.project).await?;
        refuse_other_types(&record)?;
        let (id, name) = (record.network.id, &record.network.name);
        match &record.project_name {
            Some(owner) if *owner == project.name => return self.shown_again(id).await,
            Some(owner) => {
                let message = format!("network `{name}` belongs to project `{owner}`");
                return Err(AppError::conflict("network_taken", message)
                    .hint("`trestle network disassociate` takes it from that project"));
            }
            None => {}
        }
        self.claim(&mut write, record, &project).await?;
        write.commit().await?;
        self.shown_again(id).await
    }

    /// Takes a VLAN network that no instance is on from its project. Admins only.
    pub async fn disassociate(&self, caller: &Caller, network: &str) -> Result<Network, AppError> {
        caller.must_be_admin("taking a network from a project")?;
        let mut write = self.write().await?;
        let record = find(write.connection(), caller, network).await?;
        refuse_other_types(&record)?;
        let (id, name) = (record.network.id, &record.network.name);
        let Some(owner) = &record.project_name else { return self.shown_again(id).await };
        vpn::refuse_network(write.connection(), &record, "taken from it").await?;
        let uses = network::uses(write.connection(), id).await?;
        if !uses.is_empty() {
            let sentence = format!("network `{name}` of project `{owner}` still has");
            return Err(still_has(&sentence, &uses, &record));
        }
        free(&mut write, &record).await?;
        write.commit().await?;
        self.shown_again(id).await
    }

    /// Makes a free VLAN network the project's, within its quota.
    pub(in crate::app) async fn claim(
        &self,
        write: &mut Write,
        mut record: NetworkRecord,
        project: &ProjectRecord,
    ) -> Result<NetworkRecord, AppError> {
        self.refuse_networks_over_quota(write, project, 1).await?;
        network::set_project(write.connection(), record.network.id, Some(project.id)).await?;
        record.network.project = Some(project.id);
        record.project_name = Some(project.name.clone());
        log_claim(write, &record, &project.name);
        Ok(record)
    }

    /// Makes the free VLAN network with the lowest id the project's, within its quota; nothing if
    /// none is free.
    pub(in crate::app) async fn claim_next(
        &self,
        write: &mut Write,
        project: &ProjectRecord,
    ) -> Result<Option<NetworkRecord>, AppError> {
        let Some(record) = network::claim_next(write.connection(), project.id).await? else {
            return Ok(None);
        };
        // A project that may have none is refused one only where there is one to be had.
        self.refuse_claimed_over_quota(write, project).await?;
        log_claim(write, &record, &project.name);
        Ok(Some(record))
    }
}

/// Takes a VLAN network from its project, if it is one and nothing is on it.
pub(in crate::app) async fn free_if_unused(write: &mut Write, network: NetworkId) -> Result<(), AppError> {
    let record = find(write.connection(), &Caller::Admin, &network.to_string()).await?;
    let is_vlan = record.network.network_type == NetworkType::Vlan;
    if is_vlan && network::uses(write.connection(), network).await?.is_empty() {
        free(write, &record).await?;
    }
    Ok(())
}

async fn free(write: &mut Write, record: &NetworkRecord) -> Result<(), AppError> {
    network::set_project(write.connection(), record.network.id, None).await?;
    let owner = record.project_name.as_ref().map(Name::as_str).unwrap_or_default();
    let message = format!("network `{}` was taken from project `{owner}` and is free", record.network.name);
    write.log(change("network.disassociated", message, record));
    Ok(())
}

fn log_claim(write: &mut Write, record: &NetworkRecord, project: &Name) {
    let message = format!("network `{}` belongs to project `{project}` from now on", record.network.name);
    write.log(change("network.associated", message, record));
}

fn refuse_other_types(record: &NetworkRecord) -> Result<(), AppError> {
    if record.network.network_type == NetworkType::Vlan {
        return Ok(());
    }
    let message = format!(
        "network `{}` is of type `{}`: only networks of type `vlan` change their project",
        record.network.name,
        network::type_name(record.network.network_type)
    );
    Err(AppError::conflict("not_vlan", message))
}
