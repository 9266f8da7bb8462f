//! Floating IPs: reserved for a project, led to its instances, given back.

mod associate;
mod auto_assign;
mod confirm;
pub(super) mod device;
pub(super) mod endpoint;
mod forward;
mod reserve;
mod target;

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use sqlx::AnyConnection;
use trestle_api::{
    FloatingIp, FloatingIpFilter, FloatingIpState, FloatingIpTarget, Page, PageQuery, PortForward,
};
use trestle_core::compile::Entity;
use trestle_core::spec::Key;
use trestle_core::types::HostId;

pub(super) use self::auto_assign::{auto_assign, leave_interface};
use crate::app::check::{self, Checks};
use crate::app::{App, Caller, instance, pool, project};
use crate::error::AppError;
use crate::store::change::Change;
use crate::store::floating_ip::{self, Filter, FloatingIpRecord, ForwardRecord, Server, TargetRecord};
use crate::store::observed;

/// What hosts report a problem with.
type Problems = BTreeSet<(HostId, Key)>;

impl App {
    /// The floating IPs that projects have and that the caller may see.
    pub async fn list_floating_ips(
        &self,
        caller: &Caller,
        filter: &FloatingIpFilter,
        page: &PageQuery,
    ) -> Result<Page<FloatingIp>, AppError> {
        let limit = check::limit(page)?;
        let mut checks = Checks::default();
        let after: Option<IpAddr> = checks.optional("after", "bad_cursor", page.after.as_deref());
        checks.finish()?;
        let mut read = self.store().read().await?;
        let project = project::wanted(&mut read, caller, filter.project.as_deref()).await?;
        let mut wanted = Filter { project, ..Filter::default() };
        if let Some(text) = filter.pool.as_deref() {
            wanted.pool = Some(pool::find(&mut read, text).await?.id);
        }
        if let Some(text) = filter.instance.as_deref() {
            let within = filter.project.as_deref();
            wanted.instance = Some(instance::find(&mut read, caller, text, within).await?.id);
        }
        let records = floating_ip::list(&mut read, &wanted, (after, check::rows(limit))).await?;
        let problems = problems_of(&mut read, &records).await?;
        let items = records.into_iter().map(|record| answer(record, &problems)).collect();
        Ok(check::page(items, limit, |item: &FloatingIp| item.address.to_string()))
    }

    /// One floating IP.
    pub async fn floating_ip(&self, caller: &Caller, address: &str) -> Result<FloatingIp, AppError> {
        let mut read = self.store().read().await?;
        let record = find(&mut read, caller, address).await?;
        shown(&mut read, record).await
    }

    /// The floating IP, for an answer to what it was led to already: a host that has not confirmed that
    /// is waited for once more.
    async fn floating_ip_as_it_was(&self, record: &FloatingIpRecord) -> Result<FloatingIp, AppError> {
        self.wait_for_hosts(record.holder().map(|holder| holder.id), record.since()).await;
        self.floating_ip_again(record.address).await
    }

    /// The floating IP as it is now, for an answer to a change of it.
    async fn floating_ip_again(&self, address: IpAddr) -> Result<FloatingIp, AppError> {
        self.floating_ip(&Caller::Admin, &address.to_string()).await
    }
}

/// The floating IP, if a project has it and the caller may see it.
async fn find(
    connection: &mut AnyConnection,
    caller: &Caller,
    text: &str,
) -> Result<FloatingIpRecord, AppError> {
    let unknown = || {
        AppError::not_found("floating IP", text).hint("`trestle floating-ip list` shows those that there are")
    };
    let address = text.parse().map_err(|_| unknown())?;
    let found = floating_ip::find(connection, address).await?;
    let visible = |record: &FloatingIpRecord| caller.only_project().is_none_or(|only| only == record.project);
    found.filter(visible).ok_or_else(unknown)
}

/// A change of this floating IP, for the log; its host has to see to it.
fn change(kind: &'static str, message: String, record: &FloatingIpRecord, host: Option<&Server>) -> Change {
    let change = Change::new(kind, record.address, message).entity(Entity::FloatingIp(record.address));
    let change = change.project(record.project, &record.project_name);
    match host {
        Some(host) => change.host(host.id, &host.name),
        None => change,
    }
}

/// What a host must have without a problem to have this floating IP.
fn key(record: &FloatingIpRecord, holder: &Server) -> Option<Key> {
    let device = record.device.as_ref().or(holder.public_interface.as_ref())?;
    Some(Key::Address(device.clone(), IpNet::from(record.address)))
}

async fn shown(connection: &mut AnyConnection, record: FloatingIpRecord) -> Result<FloatingIp, AppError> {
    let problems = problems_of(connection, std::slice::from_ref(&record)).await?;
    Ok(answer(record, &problems))
}

/// Which of these their hosts report a problem with.
async fn problems_of(
    connection: &mut AnyConnection,
    records: &[FloatingIpRecord],
) -> Result<Problems, AppError> {
    let keys = |record: &FloatingIpRecord| {
        let holder = record.holder()?;
        Some((holder.id, key(record, holder)?))
    };
    let wanted: Vec<(HostId, Key)> = records.iter().filter_map(keys).collect();
    Ok(observed::having_problems(connection, &wanted).await?)
}

fn state(record: &FloatingIpRecord, problems: &Problems) -> FloatingIpState {
    let Some(holder) = record.holder() else {
        let leads_somewhere = record.targets().next().is_some();
        return if leads_somewhere { FloatingIpState::Detached } else { FloatingIpState::Reserved };
    };
    match key(record, holder) {
        _ if holder.applied < record.since() => FloatingIpState::Pending,
        Some(key) if !problems.contains(&(holder.id, key.clone())) => FloatingIpState::Active,
        _ => FloatingIpState::Failed,
    }
}

fn answer(record: FloatingIpRecord, problems: &Problems) -> FloatingIp {
    let state = state(&record, problems);
    let holder = record.holder().map(|holder| (holder.id, holder.name.clone()));
    let (id, host) = holder.unzip();
    FloatingIp {
        address: record.address,
        pool: record.pool_name,
        project: record.project_name,
        state,
        target: record.target.map(target_answer),
        forwards: record.forwards.into_iter().map(|forward| forward_answer(forward, id)).collect(),
        host,
        auto_assigned: record.auto_assigned,
        reserved_at: record.reserved_at,
    }
}

fn target_answer(record: TargetRecord) -> FloatingIpTarget {
    let TargetRecord { target, instance_name, network_name, .. } = record;
    FloatingIpTarget { instance: instance_name, network: network_name, fixed_ip: target.fixed }
}

fn forward_answer(record: ForwardRecord, holder: Option<HostId>) -> PortForward {
    let ForwardRecord { protocol, port, to, fixed_port } = record;
    let served = holder.is_some() && to.server.as_ref().map(|server| server.id) == holder;
    PortForward { protocol, port, target: target_answer(to), fixed_port, served }
}
