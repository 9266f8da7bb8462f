//! Ending leases as if the guest had, with the programs that dnsmasq brings for it: only a message
//! makes it end one, and addresses of another host's guest must be free at once.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Stdio;

use tokio::process::Command;
use tokio::time::Instant;
use trestle_core::spec::Object;
use trestle_core::types::{LinkName, Mac, Name};

use super::dnsmasq::{LOOK_AGAIN, PATIENCE};
use super::files::{Files, Reading};
use crate::host::error::{ApplyError, ObserveError};

/// The program for IPv4 leases.
pub(super) const DHCP_RELEASE: &str = "dhcp_release";
/// The program for IPv6 leases.
pub(super) const DHCP_RELEASE6: &str = "dhcp_release6";

/// An IPv4 lease that is to end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lease4<'a> {
    pub(super) network: &'a Name,
    pub(super) bridge: &'a LinkName,
    pub(super) address: Ipv4Addr,
    pub(super) mac: Mac,
}

/// An IPv6 lease that is to end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lease6<'a> {
    pub(super) network: &'a Name,
    pub(super) bridge: &'a LinkName,
    pub(super) address: Ipv6Addr,
    pub(super) client: &'a str,
    pub(super) iaid: u32,
}

/// Ends a lease and waits until dnsmasq has written so.
pub(super) async fn release4(files: &Files, lease: Lease4<'_>) -> Result<(), ApplyError> {
    let is_held = || Ok(files.lease(lease.network, lease.mac, Reading::Patient)? == Some(lease.address));
    let (address, mac) = (lease.address.to_string(), lease.mac.to_string());
    let ending = Ending {
        network: lease.network,
        address: lease.address.into(),
        holder: &mac,
        program: DHCP_RELEASE,
        arguments: &[lease.bridge.as_str(), &address, &mac],
    };
    ending.run(is_held).await
}

/// The same of an IPv6 lease. The program has to say which server it is for: dnsmasq's own id is in
/// its lease file.
pub(super) async fn release6(files: &Files, lease: Lease6<'_>) -> Result<(), ApplyError> {
    let wanted = Object::Lease6 { client: lease.client.to_owned(), iaid: lease.iaid };
    let is_held = || {
        let held = files.lease6(lease.network, lease.address, Reading::Patient)?;
        Ok(held.as_ref() == Some(&wanted))
    };
    let Some(server) = files.server_id(lease.network)? else {
        return Err(ApplyError::NoServerId { network: lease.network.clone(), address: lease.address });
    };
    let (address, iaid) = (lease.address.to_string(), lease.iaid.to_string());
    let options = [
        ("--iface", lease.bridge.as_str()),
        ("--ip", &address),
        ("--iaid", &iaid),
        ("--client-id", lease.client),
        ("--server-id", &server),
    ];
    let ending = Ending {
        network: lease.network,
        address: lease.address.into(),
        holder: lease.client,
        program: DHCP_RELEASE6,
        arguments: &options.map(|(name, value)| [name, value]).concat(),
    };
    ending.run(is_held).await
}

/// How a lease is ended.
struct Ending<'a> {
    network: &'a Name,
    address: IpAddr,
    holder: &'a str,
    program: &'static str,
    arguments: &'a [&'a str],
}

impl Ending<'_> {
    /// Only the lease file tells whether it was done: `dhcp_release` gets no answer, and
    /// `dhcp_release6` looks for its answer a second after it came.
    async fn run(&self, is_held: impl Fn() -> Result<bool, ObserveError>) -> Result<(), ApplyError> {
        if !is_held()? {
            return Ok(());
        }
        let program = self.program;
        let failed = |source| ApplyError::Program { program, source };
        let mut command = Command::new(program);
        command.args(self.arguments).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(failed)?;
        let deadline = Instant::now() + PATIENCE;
        while is_held()? {
            if Instant::now() > deadline {
                child.start_kill().map_err(failed)?;
                return Err(ApplyError::LeaseHeld {
                    network: self.network.clone(),
                    address: self.address,
                    holder: self.holder.to_owned(),
                    waited: PATIENCE,
                    program,
                    status: child.wait().await.map_err(failed)?,
                });
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        child.kill().await.map_err(failed)
    }
}
