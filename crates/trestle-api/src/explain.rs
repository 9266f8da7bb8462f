//! What becomes of a packet, and why.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use trestle_core::explain::{StageKind, Verdict};
use trestle_core::spec::Key;
use trestle_core::types::{IcmpType, IpProtocol, Name, RuleId};
use utoipa::{IntoParams, ToSchema};

/// A packet to explain: one that begins a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ExplainQuery {
    /// Who sends it: an instance by name or id, `INSTANCE/NETWORK`, or any address. One that an instance has,
    /// may send from or sends under is that instance's, one of a host's own the host's; what nobody on a
    /// network has is forged by somebody there, and all else is outside.
    pub from: String,
    /// Whom to: an instance by name or id, `INSTANCE/NETWORK`, or any address.
    pub to: String,
    /// `tcp`, `udp`, `sctp`, `icmp`, `icmpv6` or a number from 1 to 254.
    pub protocol: String,
    /// The destination port, of `tcp`, `udp` and `sctp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// The message of `icmp` or `icmpv6`, such as `8` or `3/4`; an echo request if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp_type: Option<String>,
    /// The project of the instances, by name or id. Needed only for a name that several projects use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It arrives, or leaves for where it is not Trestle's to say; so does what answers it.
    Passes,
    /// It does not.
    Dropped,
    /// That cannot be said; `problem` tells why.
    Unknown,
}

/// A decision on a packet's way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Stage {
    /// What is decided: `sender`, `guard`, `egress`, `ingress`, `destination_nat`, `source_nat`, `route`,
    /// `isolation`, `host` or `bridge`.
    #[schema(value_type = String)]
    pub stage: StageKind,
    /// The host that decides.
    #[schema(value_type = Option<String>)]
    pub host: Option<Name>,
    /// `pass`, `drop`, `translated` or `routed`.
    #[schema(value_type = String)]
    pub verdict: Verdict,
    /// Why, as a sentence.
    pub reason: String,
    /// The rule of a security group that decided.
    #[schema(value_type = Option<String>)]
    pub rule: Option<RuleId>,
    /// The object of the host that decided.
    #[schema(value_type = Option<String>)]
    pub key: Option<Key>,
}

/// Every decision on a packet's way, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// The address that it is sent to.
    #[schema(value_type = String)]
    pub destination: IpAddr,
    /// What it carries.
    #[schema(value_type = String)]
    pub protocol: IpProtocol,
    /// The destination port.
    pub port: Option<u16>,
    /// The message, of ICMP.
    #[schema(value_type = Option<String>)]
    pub icmp_type: Option<IcmpType>,
    /// In the order in which they are made.
    pub stages: Vec<Stage>,
    /// What becomes of it.
    pub outcome: Outcome,
    /// Why that cannot be said.
    pub problem: Option<String>,
}
