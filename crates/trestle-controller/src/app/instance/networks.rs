//! Which networks an instance joins: those that it asks for, else its project's.

use trestle_api::FieldProblem;
use trestle_core::types::NetworkId;
use trestle_core::world::NetworkType;

use crate::app::instance::interfaces::Wish;
use crate::app::{App, Caller, network};
use crate::error::AppError;
use crate::store::Write;
use crate::store::network::{self as network_store, NetworkRecord};
use crate::store::project::ProjectRecord;

impl App {
    /// The network of each wish. A free VLAN network that an admin names becomes the project's.
    pub(super) async fn wished_networks(
        &self,
        write: &mut Write,
        (caller, project): (&Caller, &ProjectRecord),
        wishes: Vec<Wish>,
    ) -> Result<Vec<(NetworkRecord, Wish)>, AppError> {
        let mut networks: Vec<(NetworkRecord, Wish)> = Vec::with_capacity(wishes.len());
        for wish in wishes {
            let found = network::find(write.connection(), caller, &wish.network).await;
            let record = found.map_err(|error| match caller {
                Caller::Member(_) => error
                    .hint("a project joins its own networks and the shared ones: see `trestle network list`"),
                _ => error,
            })?;
            let record = self.usable(write, record, project).await?;
            if let Some((_, first)) = networks.iter().find(|(other, _)| other.network.id == record.network.id)
            {
                return Err(duplicate(&record, &wish, first));
            }
            networks.push((record, wish));
        }
        Ok(networks)
    }

    /// The networks that an instance joins which names none: the project's own; if it has none,
    /// the next free VLAN network, which becomes its own; if none is free, the shared ones.
    pub(super) async fn default_networks(
        &self,
        write: &mut Write,
        project: &ProjectRecord,
    ) -> Result<Vec<(NetworkRecord, Wish)>, AppError> {
        let mut networks = network_store::owned(write.connection(), project.id).await?;
        if networks.is_empty() {
            networks.extend(self.claim_next(write, project).await?);
        }
        if networks.is_empty() {
            networks = network_store::shared(write.connection()).await?;
        }
        if networks.is_empty() {
            let message = format!(
                "there is no network for project `{}`: it owns none, no VLAN network is free, and none is shared",
                project.name
            );
            return Err(AppError::conflict("no_free_network", message).hint(
                "an administrator makes some with `trestle network create`; an instance without a network has an empty list of interfaces",
            ));
        }
        Ok(networks.into_iter().map(|network| (network, Wish::default())).collect())
    }

    async fn usable(
        &self,
        write: &mut Write,
        record: NetworkRecord,
        project: &ProjectRecord,
    ) -> Result<NetworkRecord, AppError> {
        if network::is_usable(&record, project.id) {
            return Ok(record);
        }
        let name = &record.network.name;
        match &record.project_name {
            // Only admins come as far as this with a network that is not their project's.
            None if record.network.network_type == NetworkType::Vlan => {
                self.claim(write, record, project).await
            }
            None => Err(AppError::defect("a shared network is not usable")),
            Some(owner) => {
                let message = format!(
                    "network `{name}` belongs to project `{owner}`, the instance to `{}`",
                    project.name
                );
                Err(AppError::forbidden(message)
                    .hint("join a network of the instance's own project, or a shared one"))
            }
        }
    }
}

fn duplicate(record: &NetworkRecord, wish: &Wish, first: &Wish) -> AppError {
    let field = |wish: &Wish| format!("{}network", wish.field);
    let message =
        format!("{} is network `{}`, which {} is too", field(wish), record.network.name, field(first));
    let problem =
        FieldProblem { field: field(wish), code: "duplicate_network".to_owned(), message: message.clone() };
    let mut error = AppError::conflict("duplicate_network", message)
        .hint("an instance has one interface on a network, with one address of each family");
    error.error.problems.push(problem);
    error
}

/// Fails if the instance is on the network already.
pub(super) fn refuse_second(
    instance: &trestle_core::types::Name,
    networks: &[NetworkId],
    record: &NetworkRecord,
) -> Result<(), AppError> {
    if !networks.contains(&record.network.id) {
        return Ok(());
    }
    let message =
        format!("instance `{instance}` has an interface on network `{}` already", record.network.name);
    Err(AppError::conflict("duplicate_network", message)
        .hint("an instance has one interface on a network, with one address of each family"))
}
