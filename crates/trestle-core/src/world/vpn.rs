//! Cloudpipe: the VPNs that lead into projects' networks.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::World;
use crate::types::{InterfaceId, Name, ProjectId, VpnEndpoint, VpnKind};

/// The UDP port that a VPN listens on at its own address, behind whatever its clients send to.
pub const VPN_PORT: u16 = 1194;

/// A project's VPN: an instance of Trestle's own, which runs where its interface is plugged in. That is
/// plugged in by a veth into the VPN's own namespace ([`Vpn::netns`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vpn {
    /// Whose it is; a project has one at most.
    pub project: ProjectId,
    /// The name of its instance, unique; part of keys and of the state folder's paths.
    pub name: Name,
    /// What it speaks.
    pub kind: VpnKind,
    /// Its only interface. Of that one's fixed IPs one is the VPN's own, the others are its users'.
    pub interface: InterfaceId,
    /// Its own.
    pub address: IpAddr,
    /// Which keys it has: the host asks the controller for these. New ones have a new number.
    pub identity: Uuid,
    /// Where its clients reach it, if that is no floating IP of Trestle's: whoever has the address
    /// sends it to the host, or it is the host's own.
    pub endpoint: Option<VpnEndpoint>,
    /// Its users by the names of what they show: new certificates or keys have a new name.
    pub users: BTreeMap<Name, VpnUser>,
}

/// Who may come in by a VPN.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VpnUser {
    /// The fixed IP of the VPN's interface that is this user's.
    pub address: IpAddr,
    /// Of WireGuard the user's public key, in base64. OpenVPN tells a user by the common name of a
    /// certificate, which is the name this stands under.
    pub public_key: Option<String>,
}

impl Vpn {
    /// The path of the namespace that a VPN of this name lives in on its host; `%S` stands for the
    /// host's state folder.
    pub fn netns(name: &Name) -> String {
        format!("%S/vpns/{name}/netns")
    }

    /// The name of the VPN that lives in the namespace of this path, if it is one's.
    pub fn of_netns(path: &str) -> Option<Name> {
        path.strip_prefix("%S/vpns/")?.strip_suffix("/netns")?.parse().ok()
    }
}

impl World {
    /// The project's VPN.
    pub fn vpn(&self, project: ProjectId) -> Option<&Vpn> {
        self.vpns.get(&project)
    }

    /// The VPN that an interface belongs to.
    pub fn vpn_of(&self, interface: InterfaceId) -> Option<&Vpn> {
        let interface = self.interfaces.get(&interface)?;
        self.vpns.get(&interface.project).filter(|vpn| vpn.interface == interface.id)
    }

    /// Puts the VPN in, in place of what it was.
    pub fn put_vpn(&mut self, vpn: Vpn) {
        self.vpns.insert(vpn.project, vpn);
    }

    /// Takes the project's VPN out; gives what it was.
    pub fn remove_vpn(&mut self, project: ProjectId) -> Option<Vpn> {
        self.vpns.remove(&project)
    }
}
