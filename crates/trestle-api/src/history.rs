//! History: who had an address when.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trestle_core::types::{Mac, Name};
use utoipa::{IntoParams, ToSchema};

/// What kind of address it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeldAs {
    /// An interface's own.
    FixedIp,
    /// A floating IP that led to the instance.
    FloatingIp,
    /// A floating IP of which ports led to the instance.
    PortForward,
    /// A floating IP that a project had and that led nowhere.
    Reserved,
}

/// Who had an address for some time. The names are those of then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Holding {
    /// The address.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// What it was.
    pub held_as: HeldAs,
    /// The project.
    #[schema(value_type = String)]
    pub project: Name,
    /// The instance.
    #[schema(value_type = Option<String>)]
    pub instance: Option<Name>,
    /// Who came in by it, if the instance is a VPN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub vpn_user: Option<Name>,
    /// The MAC of its interface.
    #[schema(value_type = Option<String>)]
    pub mac: Option<Mac>,
    /// The host that the interface was plugged in on.
    #[schema(value_type = Option<String>)]
    pub host: Option<Name>,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Until when; still, if absent.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
}

/// Which part of an address' history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct HistoryFilter {
    /// Only who had it then, in RFC 3339: `2026-11-29T01:00:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}
