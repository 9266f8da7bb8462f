//! In a VPN: what passes between its users, itself and its network. That is no host's chain; as
//! [`crate::render::VpnPlace::filter`] has it.

use std::net::IpAddr;

use super::StageKind;
use super::host::HostView;
use super::walk::{Onward, Place, Walk};
use crate::types::IpProtocol;
use crate::world::{Network, VPN_PORT, Vpn};

impl Walk<'_> {
    /// Out of the VPN, if it is one that sends: its users reach the network and nothing else.
    pub(super) fn leave_vpn(&mut self, (sender, network): Place<'_>, view: &HostView<'_>) -> Onward {
        let Some(vpn) = self.world.vpn_of(sender.id) else { return Ok(()) };
        let is_user_s = self.frame.source.known().is_some_and(|source| is_user_s(vpn, source));
        if !is_user_s || is_near(network, self.frame.destination) {
            return Ok(());
        }
        let reason = format!("VPN {} leads its users to network {}, nowhere else", vpn.name, network.name);
        self.stop(StageKind::Guard, Some(view.host.id), reason)
    }

    /// Into the VPN, if it is one that receives: its users are reached from the network alone, and it is
    /// itself asked for nothing but an echo and what it is there for.
    pub(super) fn enter_vpn(&mut self, (receiver, network): Place<'_>, view: &HostView<'_>) -> Onward {
        let Some(vpn) = self.world.vpn_of(receiver.id) else { return Ok(()) };
        let is_near = self.frame.source.known().is_some_and(|source| is_near(network, source));
        let is_server_s = self.frame.protocol == IpProtocol::UDP && self.frame.port == Some(VPN_PORT);
        let is_served = is_server_s || self.frame.protocol == IpProtocol::ICMP;
        let reason = match is_user_s(vpn, self.frame.destination) {
            true if is_near => return Ok(()),
            true => format!("users of VPN {} are reached from network {} alone", vpn.name, network.name),
            false if is_served => return Ok(()),
            false => format!("VPN {} itself has nothing but its server and an echo", vpn.name),
        };
        self.stop(StageKind::Guard, Some(view.host.id), reason)
    }
}

fn is_user_s(vpn: &Vpn, address: IpAddr) -> bool {
    address != vpn.address
}

fn is_near(network: &Network, address: IpAddr) -> bool {
    network.ipv4.is_some_and(|subnet| subnet.cidr.contains(address))
}

/// Why what one of a VPN's own addresses sends to another does not leave it.
pub(super) fn between_its_own(vpn: &Vpn, from: IpAddr, to: IpAddr) -> Option<String> {
    let name = &vpn.name;
    match (is_user_s(vpn, from), is_user_s(vpn, to)) {
        _ if from == to || to.is_loopback() || to.is_unspecified() => None,
        (true, true) => {
            Some(format!("{from} and {to} are users of VPN {name}, which do not reach each other"))
        }
        (true, false) => Some(format!("{to} is VPN {name} itself, of which its users have nothing")),
        (false, _) => Some(format!("{to} is a user of VPN {name}: it does not leave the VPN")),
    }
}
