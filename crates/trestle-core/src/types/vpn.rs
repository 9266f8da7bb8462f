//! What a project's VPN is.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::serde_as_text;

/// What a VPN speaks with its clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VpnKind {
    /// OpenVPN: certificates, by UDP.
    #[default]
    OpenVpn,
    /// WireGuard: keys alone.
    WireGuard,
}

/// Why a text is not a [`VpnKind`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no kind of VPN: use `openvpn` or `wireguard`")]
pub struct InvalidVpnKind(String);

impl FromStr for VpnKind {
    type Err = InvalidVpnKind;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "openvpn" => Ok(Self::OpenVpn),
            "wireguard" => Ok(Self::WireGuard),
            text => Err(InvalidVpnKind(text.to_owned())),
        }
    }
}

impl fmt::Display for VpnKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OpenVpn => "openvpn",
            Self::WireGuard => "wireguard",
        })
    }
}

serde_as_text!(VpnKind);

/// Where clients reach a VPN: `vpn_ip:vpn_port`, UDP (reference CP-28).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VpnEndpoint {
    /// The address that clients send to.
    pub ip: IpAddr,
    /// The UDP port there.
    pub port: u16,
}
