//! Floating IPs that clients of VPNs send to: a port of one leads to the VPN.

use std::net::IpAddr;

use sqlx::AnyConnection;
use trestle_core::types::{Family, InstanceId, Name, PoolId, Protocol};
use trestle_core::world::{Forward, VPN_PORT};

use crate::app::App;
use crate::app::check;
use crate::app::dns;
use crate::app::floating_ip::associate::{apart, served_elsewhere};
use crate::app::floating_ip::change;
use crate::app::floating_ip::reserve::{Wanted, no_pool, refuse_auto_assigned};
use crate::error::AppError;
use crate::store::Write;
use crate::store::floating_ip::{self, FloatingIpRecord, forward};
use crate::store::history;
use crate::store::pool as pool_store;
use crate::store::project::ProjectRecord;
use crate::store::vpn;

/// A floating IP for a VPN.
#[derive(Clone, Copy, Debug)]
pub(in crate::app) struct ForVpn {
    /// The address.
    pub(in crate::app) address: IpAddr,
    /// Whether it was reserved just now.
    pub(in crate::app) is_new: bool,
}

impl App {
    /// Sees to it that a project has a floating IP that its VPN's clients can send to: this one, or any.
    /// Nothing if the address is in no pool.
    pub(in crate::app) async fn floating_ip_for_vpn(
        &self,
        write: &mut Write,
        owner: &ProjectRecord,
        wanted: Option<IpAddr>,
    ) -> Result<Option<ForVpn>, AppError> {
        let pool = match wanted {
            Some(address) => match pool_store::of_address(write.connection(), address).await? {
                Some(pool) => pool,
                None => return Ok(None),
            },
            None => default_pool(write, owner).await?,
        };
        if wanted.is_some_and(|address| address.is_ipv6()) {
            let message = "a VPN has an IPv4 address, to which no IPv6 floating IP leads";
            return Err(check::invalid("ip", "wrong_family", message));
        }
        if let Some(address) = wanted {
            let record = floating_ip::find(write.connection(), address).await?;
            if let Some(record) = record.filter(|record| record.project == owner.id) {
                refuse_auto_assigned(&record, "a VPN's")?;
                return Ok(Some(ForVpn { address, is_new: false }));
            }
        }
        let wanted = Wanted { address: wanted, family: Family::Ipv4 };
        let given = self.give_floating_ip(write, owner, pool, wanted).await;
        let address = given.map_err(|error| match error.error.code.as_str() {
            "address_taken" => error.hint("name another address with `ip`"),
            _ => error,
        })?;
        Ok(Some(ForVpn { address, is_new: true }))
    }
}

/// The pool of which the project's instances get floating IPs, or the only one there is.
async fn default_pool(write: &mut Write, owner: &ProjectRecord) -> Result<(PoolId, Name), AppError> {
    if let Some(pool) = &owner.auto_assign
        && pool_store::has_family(write.connection(), pool.0, Family::Ipv4).await?
    {
        return Ok(pool.clone());
    }
    let mut pools = pool_store::of_family(write.connection(), Family::Ipv4).await?;
    match (pools.len(), pools.pop()) {
        (1, Some(only)) => Ok(only),
        (_, None) => Err(no_pool(Family::Ipv4).hint(
            "name the address that clients send to with `ip`; an administrator makes a pool with `trestle pool create`, or sets the option vpn_ip",
        )),
        (_, Some(_)) => {
            let message = "several pools have ipv4 addresses: say which address clients are to send to";
            Err(check::invalid("ip", "required", message)
                .hint("`trestle floating-ip reserve --pool POOL` gives one"))
        }
    }
}

/// Leads a port of a floating IP to a VPN, whose instance and address these are.
pub(in crate::app) async fn lead_to_vpn(
    write: &mut Write,
    (address, port): (IpAddr, u16),
    (instance, fixed): (InstanceId, IpAddr),
) -> Result<(), AppError> {
    let record = found(write, address).await?;
    let candidates = floating_ip::candidates(write.connection(), instance).await?;
    let to = candidates.into_iter().map(|candidate| candidate.target).find(|to| to.target.fixed == fixed);
    let to = to.ok_or_else(|| AppError::defect("a VPN lacks its address"))?;
    let held = record.targets().find(|target| target.server.is_some());
    if let Some((server, holder)) = held.and_then(|held| apart(&to, held)) {
        return Err(served_elsewhere(&record, (&to, server), holder)
            .hint("use another address for the VPN: leave `ip` out to have one of its own"));
    }
    let forward = Forward { protocol: Protocol::Udp, port, to: to.target, to_port: VPN_PORT };
    forward::insert(write, address, &forward).await?;
    history::note_floating_ip(write, address).await?;
    let message = format!("port udp/{port} of floating IP {address} leads to VPN `{}`", to.instance_name);
    write.log(change("floating_ip.forwarded", message, &record, to.server.as_ref()));
    Ok(())
}

/// Leads a VPN's port of a floating IP where the rest of it leads.
pub(in crate::app) async fn take_from_vpn(
    write: &mut Write,
    (address, port): (IpAddr, u16),
) -> Result<(), AppError> {
    let record = found(write, address).await?;
    forward::delete(write, address, (Protocol::Udp, port)).await?;
    history::note_floating_ip(write, address).await?;
    let message = format!("port udp/{port} of floating IP {address} does not lead to a VPN any more");
    write.log(change("floating_ip.unforwarded", message, &record, record.holder()));
    Ok(())
}

/// Gives a floating IP back that came with a VPN, unless the project uses it for something else.
pub(in crate::app) async fn release_of_vpn(write: &mut Write, address: IpAddr) -> Result<(), AppError> {
    let record = found(write, address).await?;
    if record.targets().next().is_some() {
        return Ok(());
    }
    floating_ip::release(write, address).await?;
    history::note_floating_ip(write, address).await?;
    let message = format!("floating IP {address} was released: it went with the project's VPN");
    write.log(change("floating_ip.released", message, &record, None));
    dns::forget(write, &[address]).await
}

/// Fails if clients of a VPN send to the floating IP; `what` cannot be done to it. With a port, only if
/// they send to that.
pub(super) async fn refuse_vpn(
    connection: &mut AnyConnection,
    record: &FloatingIpRecord,
    port: Option<(Protocol, u16)>,
    what: &str,
) -> Result<(), AppError> {
    let Some(vpn) = vpn::of_floating_ip(connection, record.address).await? else { return Ok(()) };
    let theirs = (Protocol::Udp, vpn.endpoint.port);
    if port.is_some_and(|port| port != theirs) {
        return Ok(());
    }
    let (address, project) = (record.address, &vpn.project_name);
    let message = format!(
        "clients of the VPN of project `{project}` send to port udp/{} of floating IP {address}, which cannot be {what}",
        theirs.1
    );
    Err(AppError::conflict("vpn_endpoint", message).hint(format!(
        "`trestle vpn set --project {project}` gives the VPN another address or port, `trestle vpn delete --project {project}` ends it"
    )))
}

async fn found(write: &mut Write, address: IpAddr) -> Result<FloatingIpRecord, AppError> {
    let record = floating_ip::find(write.connection(), address).await?;
    record.ok_or_else(|| AppError::defect("a VPN's floating IP is nobody's"))
}
