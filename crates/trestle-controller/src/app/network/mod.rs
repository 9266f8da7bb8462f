//! Networks.

mod create;
pub(super) mod gateway;
pub(super) mod owner;
mod ranges;
mod request;
mod reserve;
mod settings;

use std::collections::BTreeMap;

use sqlx::AnyConnection;
use trestle_api::{Network, NetworkFilter, Page, PageQuery, Subnet};
use trestle_core::compile::Entity;
use trestle_core::types::{Family, Mac, NetworkId, ProjectId};
use trestle_core::world::{Gateways, NetworkType};

use crate::app::check::{self, LARGEST_COUNT};
use crate::app::{App, Caller, host, project, vpn};
use crate::error::AppError;
use crate::store::change::Change;
use crate::store::fixed_ip::{self, UsedAddresses};
use crate::store::network::{self, Filter, NetworkRecord};
use crate::store::subnet::SubnetRecord;

/// How many addresses of networks are in use.
type Used = BTreeMap<(NetworkId, Family), UsedAddresses>;

impl App {
    /// The networks that the caller may use.
    pub async fn list_networks(
        &self,
        caller: &Caller,
        filter: &NetworkFilter,
        page: &PageQuery,
    ) -> Result<Page<Network>, AppError> {
        let (limit, after) = (check::limit(page)?, check::after_id(page)?);
        let mut read = self.store().read().await?;
        let project = match filter.project.as_deref() {
            Some(text) => Some(project::find(&mut read, caller, text).await?.id),
            None => None,
        };
        let gateway_host = match filter.gateway_host.as_deref() {
            Some(text) => Some(host::find(&mut read, caller, text).await?.host.id),
            None => None,
        };
        let usable_by = [project, caller.only_project()];
        let filter = Filter { name: filter.name.as_deref(), usable_by, gateway_host };
        let records = network::list(&mut read, &filter, &after, check::rows(limit)).await?;
        let used = self.used(&mut read, &records).await?;
        let networks = records.into_iter().map(|record| answer(record, &used)).collect();
        Ok(check::page(networks, limit, |network: &Network| network.id.to_string()))
    }

    /// One network.
    pub async fn network(&self, caller: &Caller, network: &str) -> Result<Network, AppError> {
        let mut read = self.store().read().await?;
        let record = find(&mut read, caller, network).await?;
        self.shown(&mut read, record).await
    }

    /// Deletes a network that has no interfaces. Admins only.
    pub async fn delete_network(&self, caller: &Caller, network: &str) -> Result<(), AppError> {
        caller.must_be_admin("deleting a network")?;
        let mut write = self.write().await?;
        let record = find(write.connection(), caller, network).await?;
        let (id, name) = (record.network.id, &record.network.name);
        vpn::refuse_network(write.connection(), &record, "deleted").await?;
        let uses = network::uses(write.connection(), id).await?;
        if !uses.is_empty() {
            return Err(still_has(&format!("network `{name}` still has"), &uses, &record));
        }
        network::delete(write.connection(), id).await?;
        let message = match &record.project_name {
            Some(owner) => format!("network `{name}` of project `{owner}` was deleted"),
            None => format!("network `{name}` was deleted"),
        };
        write.log(change("network.deleted", message, &record));
        write.commit().await?;
        Ok(())
    }

    /// The network of a record, with how much of it is in use.
    async fn shown(
        &self,
        connection: &mut AnyConnection,
        record: NetworkRecord,
    ) -> Result<Network, AppError> {
        let used = self.used(connection, std::slice::from_ref(&record)).await?;
        Ok(answer(record, &used))
    }

    /// The network of this id as it is now, for an answer to a change of it.
    async fn shown_again(&self, id: NetworkId) -> Result<Network, AppError> {
        let mut read = self.store().read().await?;
        let record = network::find(&mut read, &id.to_string()).await?;
        let record = record.ok_or_else(|| AppError::not_found("network", &id.to_string()))?;
        self.shown(&mut read, record).await
    }

    async fn used(
        &self,
        connection: &mut AnyConnection,
        records: &[NetworkRecord],
    ) -> Result<Used, AppError> {
        Ok(fixed_ip::used(connection, records, self.release_policy(), self.now()).await?)
    }
}

/// The network of this name or id, if the caller may use it.
pub(super) async fn find(
    connection: &mut AnyConnection,
    caller: &Caller,
    text: &str,
) -> Result<NetworkRecord, AppError> {
    let found = network::find(connection, &check::reference(text)).await?;
    let usable = |record: &NetworkRecord| caller.only_project().is_none_or(|only| is_usable(record, only));
    found.filter(usable).ok_or_else(|| AppError::not_found("network", text))
}

/// Whether a project can use it as it is: its own, or one that is shared by all. A VLAN network
/// that belongs to nobody is not shared but free.
pub(super) fn is_usable(record: &NetworkRecord, project: ProjectId) -> bool {
    let network = &record.network;
    match network.project {
        Some(owner) => owner == project,
        None => network.network_type != NetworkType::Vlan,
    }
}

/// What a generated MAC is for. Each has a prefix of its own, so that a guest is never given the
/// MAC of a bridge.
#[derive(Clone, Copy, Debug)]
pub(super) enum MacOf {
    /// An instance's interface: `fa:16:3e`, the original's.
    Guest,
    /// A bridge: `fe:16:3e`.
    Bridge,
}

/// A random MAC.
pub(super) fn generated_mac(of: MacOf) -> Result<Mac, AppError> {
    let mut tail = [0; 3];
    getrandom::fill(&mut tail).map_err(|error| AppError::defect("no random numbers").caused_by(error))?;
    let [b, c, d] = tail;
    match of {
        MacOf::Guest => Ok(Mac::generated(tail)),
        MacOf::Bridge => Mac::new([0xfe, 0x16, 0x3e, b, c, d])
            .map_err(|error| AppError::defect("a generated MAC is none").caused_by(error)),
    }
}

/// A network is in use by these instances, and how they leave it.
fn still_has(sentence: &str, uses: &[String], record: &NetworkRecord) -> AppError {
    AppError::in_use(sentence, uses).hint(format!(
        "take each out with `trestle instance remove-interface INSTANCE {}`, or delete it with `trestle instance delete INSTANCE`",
        record.network.name
    ))
}

/// A change of this network, for the log.
pub(super) fn change(kind: &'static str, message: String, record: &NetworkRecord) -> Change {
    let network = &record.network;
    let change = Change::new(kind, &network.name, message).entity(Entity::Network(network.id));
    match network.project.zip(record.project_name.as_ref()) {
        Some((id, name)) => change.project(id, name),
        None => change,
    }
}

fn answer(record: NetworkRecord, used: &Used) -> Network {
    let subnet = |family| {
        let used = used.get(&(record.network.id, family)).copied().unwrap_or_default();
        record.subnet(family).map(|subnet| subnet_answer(subnet, used))
    };
    let (ipv4, ipv6) = (subnet(Family::Ipv4), subnet(Family::Ipv6));
    let network = record.network;
    // Trestle does not route for a flat network, on no host.
    let is_flat = network.network_type == NetworkType::Flat;
    Network {
        id: network.id,
        name: network.name,
        network_type: network.network_type,
        project: record.project_name,
        ipv6_mode: ipv6.as_ref().map(|_| network.ipv6_mode),
        ipv4,
        ipv6,
        vlan: network.vlan,
        multi_host: !is_flat && !matches!(network.gateways, Gateways::One(_)),
        share_address: !is_flat && network.gateways == Gateways::Shared,
        gateway_host: record.gateway_host_name,
        bridge: network.bridge,
        bridge_interface: network.bridge_interface,
        dns: network.dns,
        domain: network.domain,
        mtu: network.mtu,
        dhcp_options: network.dhcp_options,
        ether_types: network.ether_types.into_iter().collect(),
        reserved: record.reserved,
        auto_assign: record.auto_assign.map(|(_, name)| name),
        created_at: record.created_at,
    }
}

fn subnet_answer(subnet: &SubnetRecord, used: UsedAddresses) -> Subnet {
    let layout = &subnet.layout;
    let told = |count: u128| u64::try_from(count).unwrap_or(u64::MAX).min(LARGEST_COUNT);
    Subnet {
        cidr: layout.cidr(),
        gateway: layout.gateway(),
        vpn: layout.vpn(),
        dhcp_start: layout.dhcp_start(),
        total: told(layout.total()),
        used: used.all,
        free: told(layout.total().saturating_sub(used.given_out.into())),
    }
}
