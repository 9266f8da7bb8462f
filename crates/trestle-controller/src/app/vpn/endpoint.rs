//! Where clients of a VPN send to.

use std::net::IpAddr;
use std::num::NonZeroU16;

use sqlx::AnyConnection;
use trestle_core::alloc::are_for_hosts;
use trestle_core::types::{AddressRange, InstanceId, VpnEndpoint};

use crate::app::floating_ip::endpoint::{ForVpn, lead_to_vpn, release_of_vpn, take_from_vpn};
use crate::app::{App, Caller, check};
use crate::error::AppError;
use crate::store::Write;
use crate::store::host as host_store;
use crate::store::network::subnets_in;
use crate::store::project::ProjectRecord;
use crate::store::vpn::{self, Endpoint, EndpointOf, VpnRecord};

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct EndpointWish {
    pub(super) ip: Option<IpAddr>,
    pub(super) port: Option<NonZeroU16>,
}

impl App {
    /// The address and port for a project's VPN. An address of a pool becomes the project's floating IP.
    pub(super) async fn choose_endpoint(
        &self,
        write: &mut Write,
        (caller, owner): (&Caller, &ProjectRecord),
        wish: EndpointWish,
    ) -> Result<Endpoint, AppError> {
        let wanted = wish.ip.or(self.config().vpn_ip);
        let floating = self.floating_ip_for_vpn(write, owner, wanted).await?;
        let (ip, of) = match (floating, wanted) {
            (Some(ForVpn { address, is_new: true }), _) => (address, EndpointOf::Vpn),
            (Some(ForVpn { address, is_new: false }), _) => (address, EndpointOf::Project),
            (None, Some(ip)) => (ip, EndpointOf::Operator),
            (None, None) => return Err(AppError::defect("a VPN has no address")),
        };
        if of == EndpointOf::Operator {
            refuse_nobodys(write.connection(), ip).await?;
            self.refuse_operators(caller, ip, wish.port)?;
        }
        let port = self.choose_port(write, ip, wish.port).await?;
        Ok(Endpoint { at: VpnEndpoint { ip, port }, of })
    }

    /// Fails if a member would take an address or a port of a host's own that was not meant for VPNs:
    /// what is sent there would not reach the host any more.
    fn refuse_operators(
        &self,
        caller: &Caller,
        ip: IpAddr,
        port: Option<NonZeroU16>,
    ) -> Result<(), AppError> {
        if *caller == Caller::Admin {
            return Ok(());
        }
        if self.config().vpn_ip != Some(ip) {
            let message = format!("{ip} is in no pool: such an address is for administrators to give");
            return Err(AppError::forbidden(message)
                .hint("leave `ip` out, or name a floating IP that the project may have"));
        }
        let first = self.config().vpn_start;
        match port.filter(|port| *port < first) {
            None => Ok(()),
            Some(port) => {
                let message = format!("port {port} of {ip} is not for VPNs: use {first} to 65535");
                Err(check::invalid("port", "bad_port", message))
            }
        }
    }

    async fn choose_port(
        &self,
        write: &mut Write,
        ip: IpAddr,
        wanted: Option<NonZeroU16>,
    ) -> Result<u16, AppError> {
        let taken = vpn::taken_ports(write.connection(), ip).await?;
        if let Some(port) = wanted {
            return match taken.contains(&port.get()) {
                false => Ok(port.get()),
                true => {
                    let message = format!("port udp/{port} of {ip} leads elsewhere already");
                    Err(AppError::conflict("port_taken", message)
                        .hint("name another port; a new VPN that names none has the first that is free"))
                }
            };
        }
        let first = self.config().vpn_start.get();
        let free = (first..=u16::MAX).find(|port| !taken.contains(port));
        free.ok_or_else(|| {
            let message = format!("no port of {ip} from udp/{first} on is free");
            AppError::conflict("port_taken", message).hint("name another address with `ip`")
        })
    }
}

/// Fails if no host can have the address, or what is sent there is a network's own: its gateway answers guests,
/// and one of these may have it.
async fn refuse_nobodys(connection: &mut AnyConnection, ip: IpAddr) -> Result<(), AppError> {
    let range = AddressRange::new(ip, ip).ok_or_else(|| AppError::defect("one address is no range"))?;
    let wrong = |message| Err(check::invalid("ip", "bad_address", message));
    if !are_for_hosts(&range) {
        return wrong(format!("no host can be reached at {ip}"));
    }
    if ip.is_ipv6() {
        return wrong(format!(
            "{ip} is of IPv6: a VPN has an IPv4 address, and what comes to it is translated"
        ));
    }
    match subnets_in(connection, &range).await?.first() {
        Some((network, cidr)) => {
            wrong(format!("{ip} is in {cidr} of network `{network}`: nobody outside reaches it"))
        }
        None => Ok(()),
    }
}

/// What has to be so for clients to reach the VPN at an address that is not Trestle's to lead there, if
/// its host does not have that. Nothing while the host has not said which it has.
pub(super) async fn note(
    connection: &mut AnyConnection,
    record: &VpnRecord,
) -> Result<Option<String>, AppError> {
    let Some((host, name)) = record.standing.host.as_ref() else { return Ok(None) };
    if record.endpoint_of != EndpointOf::Operator {
        return Ok(None);
    }
    let ip = record.endpoint.ip;
    let said = host_store::find(connection, &host.to_string()).await?.and_then(|record| record.observed);
    let Some(said) = said.filter(|said| !said.addresses.is_empty()) else { return Ok(None) };
    if said.addresses.contains(&ip) {
        return Ok(None);
    }
    let holders = host_store::having_address(connection, ip).await?;
    Ok(Some(match holders.first() {
        Some(other) => format!(
            "{ip} is an address of host `{other}`, and the VPN runs on host `{name}`: see to it that what clients send there comes to `{name}`"
        ),
        None => format!(
            "{ip} is no host's address and in no pool: see to it that what clients send there comes to host `{name}`"
        ),
    }))
}

/// Has what clients send there come to the VPN, whose instance and address these are.
pub(super) async fn lead(
    write: &mut Write,
    endpoint: &Endpoint,
    to: (InstanceId, IpAddr),
) -> Result<(), AppError> {
    if endpoint.of == EndpointOf::Operator {
        return Ok(());
    }
    lead_to_vpn(write, (endpoint.at.ip, endpoint.at.port), to).await
}

/// Has what clients send where they did until now come to it no more. A floating IP that came with the
/// VPN is given back, unless it is kept for another port.
pub(super) async fn leave(
    write: &mut Write,
    record: &VpnRecord,
    kept: Option<IpAddr>,
) -> Result<(), AppError> {
    let VpnEndpoint { ip, port } = record.endpoint;
    if record.endpoint_of != EndpointOf::Operator {
        take_from_vpn(write, (ip, port)).await?;
    }
    if record.endpoint_of == EndpointOf::Vpn && kept != Some(ip) {
        release_of_vpn(write, ip).await?;
    }
    Ok(())
}
