//! Floating IPs: public addresses that projects reserve and that lead to their instances.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trestle_core::types::{Name, Protocol};
use utoipa::{IntoParams, ToSchema};

/// An address to be reserved for a project.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewFloatingIp {
    /// The pool, by name or id; the only one there is if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// The project, by name or id; the token's own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// This one. If absent, of the family one that nobody had yet, or the one released longest ago.
    /// One that the project has already is given again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// `ipv4`, the default, or `ipv6`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
}

/// Where a floating IP stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FloatingIpState {
    /// A project has it, and it leads nowhere.
    Reserved,
    /// It leads to an instance that is served nowhere: it is not plugged in.
    Detached,
    /// Its host has been asked for it and has not said that it has it.
    Pending,
    /// Its host has it.
    Active,
    /// Its host says that it cannot have it.
    Failed,
}

/// A floating IP that a project has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FloatingIp {
    /// The address, unique.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// The name of its pool.
    #[schema(value_type = String)]
    pub pool: Name,
    /// The name of the project that has it.
    #[schema(value_type = String)]
    pub project: Name,
    /// Where it stands.
    pub state: FloatingIpState,
    /// Where all that is sent to it goes.
    #[serde(flatten)]
    pub target: Option<FloatingIpTarget>,
    /// Where what is sent to a port of it goes, whatever `target` says.
    pub forwards: Vec<PortForward>,
    /// The host that has it.
    #[schema(value_type = Option<String>)]
    pub host: Option<Name>,
    /// Whether it came with its instance and goes with it.
    pub auto_assigned: bool,
    /// Since when the project has it.
    #[schema(value_type = String, format = DateTime)]
    pub reserved_at: Timestamp,
}

/// A fixed IP that a floating IP leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FloatingIpTarget {
    /// The name of the instance.
    #[schema(value_type = String)]
    pub instance: Name,
    /// The name of the network that it has the address on.
    #[schema(value_type = String)]
    pub network: Name,
    /// The address.
    #[schema(value_type = String)]
    pub fixed_ip: IpAddr,
}

/// A port of a floating IP that leads to a port of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PortForward {
    /// `tcp` or `udp`.
    #[schema(value_type = String)]
    pub protocol: Protocol,
    /// The floating IP's port.
    pub port: u16,
    /// Where it leads.
    #[serde(flatten)]
    pub target: FloatingIpTarget,
    /// The port there.
    pub fixed_port: u16,
    /// Whether the floating IP's host serves that instance too. Where each host is the gateway of its own
    /// instances, a port leads to those of one host only.
    pub served: bool,
}

/// The instance that a floating IP is to lead to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FloatingIpAssociation {
    /// By name or id, of the project that has the floating IP.
    pub instance: String,
    /// Which of its fixed IPs; the only one of the family that can have one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed_ip: Option<String>,
    /// Whether it may lead elsewhere until now: then it moves, at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub r#move: bool,
}

/// A port of a floating IP that is to lead to an instance; the same again changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPortForward {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The floating IP's port.
    pub port: u32,
    /// The instance, by name or id, of the project that has the floating IP.
    pub instance: String,
    /// Which of its fixed IPs; as in [`FloatingIpAssociation`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed_ip: Option<String>,
    /// The port there; the same if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed_port: Option<u32>,
}

/// Which floating IPs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct FloatingIpFilter {
    /// Only those of this pool, by name or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Only those of this project, by name or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Only those that lead to this instance, by name or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
}
