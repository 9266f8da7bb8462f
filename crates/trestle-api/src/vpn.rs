//! VPNs: what lets a project's people into its network (the original's cloudpipe).

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trestle_core::types::Name;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// A VPN to be made for a project.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewVpn {
    /// The project, by name or id; the token's own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// `openvpn`, the default, or `wireguard`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The network it leads into, by name or id; the only one that the project has if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// The address that clients send to. If absent the installation's `vpn_ip`, without one a floating
    /// IP that is reserved for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// The UDP port there; the first from `vpn_start` on that no other VPN has on this address if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The host it runs on, by name or id, of a network that has no single gateway host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// What is to be another about a VPN; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VpnPatch {
    /// The address that clients send to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// The UDP port there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The host it runs on, by name or id, of a network that has no single gateway host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// Which VPNs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct VpnFilter {
    /// Of this project, by name or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
}

/// Where a VPN stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VpnState {
    /// Its host has been asked for it and has not said that it runs.
    Pending,
    /// It runs.
    Active,
    /// Its host says that it cannot run.
    Failed,
}

/// A project's VPN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Vpn {
    /// The name of the project whose it is.
    #[schema(value_type = String)]
    pub project: Name,
    /// `openvpn` or `wireguard`.
    pub kind: String,
    /// The name of its instance.
    #[schema(value_type = String)]
    pub instance: Name,
    /// The name of the network it leads into.
    #[schema(value_type = String)]
    pub network: Name,
    /// Its own address there.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// The address that clients send to.
    #[schema(value_type = String)]
    pub ip: IpAddr,
    /// The UDP port there.
    pub port: u16,
    /// The host it runs on.
    #[schema(value_type = Option<String>)]
    pub host: Option<Name>,
    /// Where it stands.
    pub state: VpnState,
    /// What its host says of it, where it cannot run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What else clients need to reach it, where the address that they send to is not one of its host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// How many users it has.
    pub users: u64,
    /// How many of them are connected.
    pub connected: u64,
    /// When its certificate authority ends; WireGuard has none.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ca_expires_at: Option<Timestamp>,
    /// Since when the project has it.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// A user to be let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewVpnUser {
    /// The user's name, unique within the VPN.
    pub name: String,
    /// For how many days; the installation's `vpn_user_days` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<u32>,
}

/// How a user is let in anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VpnUserRenewal {
    /// For how many days; if absent as many as were said last, or the installation's `vpn_user_days`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<u32>,
}

/// What came of a new certificate authority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VpnCaRenewed {
    /// The VPN.
    pub vpn: Vpn,
    /// The users whose files are void: each needs another, by `renew`.
    #[schema(value_type = Vec<String>)]
    pub void: Vec<Name>,
}

/// A user of a VPN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VpnUser {
    /// The name, unique within the VPN.
    #[schema(value_type = String)]
    pub name: Name,
    /// The address this user has on the project's network.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// Since when there is such a user.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When what the user shows ends to be good.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// Whether that is over: the user is not let in until `renew`.
    pub expired: bool,
    /// Whether it ended before its time, by a new authority: the file is void.
    #[serde(default)]
    pub void: bool,
    /// The connection there is now, as the host last said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<VpnConnection>,
}

/// A user that is connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VpnConnection {
    /// From where: address and port.
    pub remote: String,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// How many bytes came from the user.
    pub received_bytes: u64,
    /// How many bytes went to the user.
    pub sent_bytes: u64,
}

/// What a user needs to connect, told once: nobody has the key any more after that.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VpnCredentials {
    /// The user.
    pub user: VpnUser,
    /// What to call the file: `acme-alice.ovpn`, or `.conf` of WireGuard, whose programs take the rest for
    /// the name of a device: it is shortened to 15 characters then.
    pub file_name: String,
    /// The whole client configuration, with the user's private key in it.
    pub config: String,
}

/// The keys that a VPN has on its host, the answer to `GET /v1/hosts/{host}/vpns/{vpn}/identity`, which
/// is for that host's agent alone.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VpnIdentity {
    /// Their number, as in the spec.
    pub id: Uuid,
    /// Files by name, as the VPN's configuration names them: of OpenVPN `ca.crt`, `server.crt`,
    /// `server.key` and `tls-crypt.key`; of WireGuard `private.key`, one line of base64.
    pub files: BTreeMap<String, String>,
    /// The controller's clock: certificates are good from about now on.
    pub now: Timestamp,
}

/// Without what is secret.
impl std::fmt::Debug for VpnCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("VpnCredentials");
        shown.field("user", &self.user).field("file_name", &self.file_name).finish_non_exhaustive()
    }
}

/// Without what is secret.
impl std::fmt::Debug for VpnIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&String> = self.files.keys().collect();
        let mut shown = f.debug_struct("VpnIdentity");
        shown.field("id", &self.id).field("files", &names).finish_non_exhaustive()
    }
}
