//! VPNs: what lets a project's people into its network (the original's cloudpipe).
//!
//! A VPN is an instance of Trestle's own with one interface. Where that is plugged in, the host's agent
//! runs the server. Its users have fixed IPs of the same interface.

mod autostart;
mod certificate;
mod change;
mod client_file;
mod create;
mod delete;
mod endpoint;
mod keys;
mod place;
mod sealing;
mod upkeep;
mod user;

use jiff::Timestamp;
use sqlx::AnyConnection;
use trestle_api::vpn::VpnIdentity;
use trestle_api::{Page, PageQuery, Vpn, VpnFilter, VpnState};
use trestle_core::compile::Entity;
use trestle_core::types::{InstanceId, Name, ProjectId};

pub(super) use self::delete::end_of_project;
pub(super) use self::place::follow_gateway;
pub(super) use self::sealing::Sealing;
pub(super) use self::upkeep::Upkeep;
use crate::app::check::{self, Checks};
use crate::app::{App, Caller, VpnCounts, host, project};
use crate::error::AppError;
use crate::store::change::Change;
use crate::store::floating_ip::{self, FloatingIpRecord};
use crate::store::interface::{self, InterfaceRecord};
use crate::store::network::NetworkRecord;
use crate::store::vpn::{self, Shown, VpnRecord};

impl App {
    /// The VPNs that the caller may see, by project.
    pub async fn list_vpns(
        &self,
        caller: &Caller,
        filter: &VpnFilter,
        page: &PageQuery,
    ) -> Result<Page<Vpn>, AppError> {
        caller.must_not_be_agent("listing VPNs")?;
        let (limit, after) = (check::limit(page)?, after_name(page)?);
        let mut read = self.store().read().await?;
        let project = project::wanted(&mut read, caller, filter.project.as_deref()).await?;
        let records = vpn::list(&mut read, project, (&after, check::rows(limit))).await?;
        let mut vpns = Vec::with_capacity(records.len());
        for record in records {
            vpns.push(answer(&mut read, record).await?);
        }
        Ok(check::page(vpns, limit, |vpn: &Vpn| vpn.project.to_string()))
    }

    /// A project's VPN.
    pub async fn vpn(&self, caller: &Caller, project: &str) -> Result<Vpn, AppError> {
        caller.must_not_be_agent("looking at a VPN")?;
        let mut read = self.store().read().await?;
        let record = find(&mut read, caller, project).await?;
        answer(&mut read, record).await
    }

    /// The keys of a VPN that is or is about to be plugged in on the host. That host's agent only.
    pub async fn vpn_identity(
        &self,
        caller: &Caller,
        host: &str,
        vpn: &str,
    ) -> Result<VpnIdentity, AppError> {
        let own = caller
            .own_host()
            .ok_or_else(|| AppError::forbidden("a VPN's keys are for the agent of the host that runs it"))?;
        let mut read = self.store().read().await?;
        host::find(&mut read, caller, host).await?;
        let unknown = || AppError::not_found("VPN on this host", vpn);
        let record = vpn::of_name(&mut read, vpn).await?.ok_or_else(unknown)?;
        let interface = interface_of(&mut read, &record).await?;
        if !interface.interface.places().any(|place| place.host == own) {
            return Err(unknown());
        }
        keys::identity(&mut read, self.sealing(), &record, self.now()).await
    }

    /// What goes by each VPN.
    pub(super) async fn vpn_counts(
        &self,
        connection: &mut AnyConnection,
    ) -> Result<Vec<VpnCounts>, AppError> {
        let counts = |traffic: vpn::Traffic| VpnCounts {
            project: traffic.project.to_string(),
            users: traffic.users,
            connected: traffic.connected,
            received_bytes: traffic.received_bytes,
            sent_bytes: traffic.sent_bytes,
        };
        Ok(vpn::traffic(connection).await?.into_iter().map(counts).collect())
    }

    /// The VPN as it is now, for an answer to a change of it.
    async fn vpn_again(&self, project: ProjectId) -> Result<Vpn, AppError> {
        let mut read = self.store().read().await?;
        let record = vpn::find(&mut read, project).await?;
        let record = record.ok_or_else(|| AppError::not_found("VPN of project", &project.to_string()))?;
        answer(&mut read, record).await
    }
}

/// The project's VPN, if it has one and the caller may see it.
async fn find(connection: &mut AnyConnection, caller: &Caller, project: &str) -> Result<VpnRecord, AppError> {
    let owner = project::find(connection, caller, project).await?;
    let record = vpn::find(connection, owner.id).await?;
    record.ok_or_else(|| {
        AppError::not_found("VPN of project", owner.name.as_str())
            .hint(format!("`trestle vpn create --project {}` makes one", owner.name))
    })
}

/// A VPN's only interface.
async fn interface_of(
    connection: &mut AnyConnection,
    record: &VpnRecord,
) -> Result<InterfaceRecord, AppError> {
    let mut interfaces = interface::of_instance(connection, record.instance).await?;
    interfaces.pop().ok_or_else(|| AppError::defect("a VPN has no interface"))
}

/// Fails if an instance is a VPN; `what` cannot be done to it.
pub(super) async fn refuse_instance(
    connection: &mut AnyConnection,
    instance: InstanceId,
    what: &str,
) -> Result<(), AppError> {
    let Some(record) = vpn::of_instance(connection, instance).await? else { return Ok(()) };
    let (name, project) = (&record.vpn.name, &record.project_name);
    let message = format!("instance `{name}` is the VPN of project `{project}`: it cannot be {what}");
    Err(AppError::conflict("vpn_instance", message).hint(format!(
        "`trestle vpn set --project {project}` changes the VPN, `trestle vpn delete --project {project}` ends it"
    )))
}

/// Fails if a network has a VPN; `what` cannot be done to it.
pub(super) async fn refuse_network(
    connection: &mut AnyConnection,
    network: &NetworkRecord,
    what: &str,
) -> Result<(), AppError> {
    let Some(record) = vpn::of_network(connection, network.network.id).await? else { return Ok(()) };
    let (name, project) = (&network.network.name, &record.project_name);
    let message =
        format!("the VPN of project `{project}` leads into network `{name}`, which cannot be {what}");
    Err(AppError::conflict("vpn_network", message)
        .hint(format!("`trestle vpn delete --project {project}` ends the VPN")))
}

/// A change of this VPN, for the log; its host has to see to it.
fn change(kind: &'static str, message: String, record: &VpnRecord) -> Change {
    let change = Change::new(kind, &record.vpn.name, message);
    let change = change.project(record.vpn.project, &record.project_name);
    let change = change.entity(Entity::Vpn(record.vpn.project));
    match &record.standing.host {
        Some((host, name)) => change.host(*host, name),
        None => change,
    }
}

/// The name a page starts behind; empty for the first page.
fn after_name(page: &PageQuery) -> Result<String, AppError> {
    let mut checks = Checks::default();
    let after: Option<Name> = checks.optional("after", "bad_cursor", page.after.as_deref());
    checks.finish()?;
    Ok(after.map(|name| name.to_string()).unwrap_or_default())
}

async fn answer(connection: &mut AnyConnection, record: VpnRecord) -> Result<Vpn, AppError> {
    let elsewhere = elsewhere(connection, &record).await?;
    let note = endpoint::note(connection, &record).await?;
    let ca_expires_at = match &record.shown {
        Shown::Certificates { ca, .. } => Some(ca.expires_at),
        Shown::PublicKey(_) => None,
    };
    let standing = record.standing;
    let problem = standing.problem.map(|problem| problem.detail).or(elsewhere);
    let state = match &problem {
        _ if standing.host.is_none() || standing.applied < standing.since => VpnState::Pending,
        Some(_) => VpnState::Failed,
        None => VpnState::Active,
    };
    Ok(Vpn {
        project: record.project_name,
        kind: record.vpn.kind.to_string(),
        instance: record.vpn.name,
        network: record.network_name,
        address: record.vpn.address,
        ip: record.endpoint.ip,
        port: record.endpoint.port,
        host: standing.host.map(|(_, name)| name),
        state,
        problem,
        note,
        users: standing.users,
        connected: standing.connected,
        ca_expires_at,
        created_at: record.created_at,
    })
}

/// That clients do not reach the VPN, since its floating IP is where something else is that it leads to.
async fn elsewhere(connection: &mut AnyConnection, record: &VpnRecord) -> Result<Option<String>, AppError> {
    let Some((host, name)) = record.standing.host.as_ref().filter(|_| record.standing.shares_floating_ip)
    else {
        return Ok(None);
    };
    let ip = record.endpoint.ip;
    let floating = floating_ip::find(connection, ip).await?;
    let holder = floating.as_ref().and_then(FloatingIpRecord::holder).filter(|holder| holder.id != *host);
    Ok(holder.map(|holder| {
        format!(
            "floating IP {ip} is on host `{}`, with an instance that it leads to, and the VPN on host `{name}`",
            holder.name
        )
    }))
}

fn random<const N: usize>() -> Result<[u8; N], AppError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| AppError::defect("no random numbers").caused_by(error))?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// No finer than the database keeps it.
fn kept(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
