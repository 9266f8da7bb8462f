//! What an agent and the controller say to each other.
//!
//! The agent asks, with a long poll, what its host must have, and reports what it saw. The
//! controller never dials a host, and a report never edits intent.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use trestle_core::plan::Problem;
use trestle_core::types::{LinkName, Mac, Name};
use utoipa::{IntoParams, ToSchema};

use crate::{ApiError, VpnConnection};

/// What the agent holds, in the query of `GET /v1/hosts/{host}/spec`.
///
/// The answer is 200 with a [`trestle_core::spec::SpecUpdate`], or 204 when nothing changed
/// within `wait` seconds. Without `since` the answer is everything, at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SpecQuery {
    /// The generation it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// How many seconds to wait for a change; 0 if absent, 60 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<u32>,
}

/// What an agent saw, the body of `PUT /v1/hosts/{host}/report`. Each report is whole, the last
/// one holds; `drift` alone is news since the report before that was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The generation it has worked through.
    pub generation: u64,
    /// What it cannot do.
    pub problems: BTreeSet<Problem>,
    /// What troubles the agent itself and so belongs to no key: `observe_failed`,
    /// `ledger_unwritable`, `ledger_damaged`. Sorted by code, each code once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agent_problems: Vec<ApiError>,
    /// The leases that its dnsmasqs hold.
    pub leases: BTreeSet<ReportedLease>,
    /// What others changed and it put right.
    pub drift: Vec<Drift>,
    /// Its version.
    pub agent_version: String,
    /// The kernel's release.
    pub kernel: String,
    /// What the kernel lacks that some networks need.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub missing_features: BTreeSet<Feature>,
    /// The host's devices, those that Trestle makes aside.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub devices: BTreeSet<LinkName>,
    /// The addresses that the host has for itself; those of a link alone and its own loopback aside.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub addresses: BTreeSet<IpAddr>,
    /// What each rule of security groups decided on, by the rule's number, since the host began to count.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rule_counters: BTreeMap<u32, RuleCounter>,
    /// Who is connected to the VPNs that run there: of each, by its name, its users, by the names that
    /// stand under `vpn-user/` in the spec.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vpn_connections: BTreeMap<Name, BTreeMap<Name, VpnConnection>>,
}

/// What a rule decided on: the first packets of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleCounter {
    /// How many packets.
    pub packets: u64,
    /// How many bytes these had.
    pub bytes: u64,
}

/// What some networks need of a host's kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    /// 802.1Q, for networks of type `vlan` (`CONFIG_VLAN_8021Q`).
    Vlan,
    /// IPv6.
    Ipv6,
}

impl std::fmt::Display for Feature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Vlan => "802.1Q",
            Self::Ipv6 => "IPv6",
        })
    }
}

/// A lease that a guest holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReportedLease {
    /// The network's name.
    pub network: Name,
    /// The address.
    pub address: IpAddr,
    /// The guest's MAC; of an IPv6 lease that of its entry, since DHCPv6 does not tell it.
    pub mac: Mac,
}

/// Something that another program changed and the agent put right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// The steps that put it right, as people read them.
    pub repaired: Vec<String>,
    /// The program that did it, where the kernel told: `nft (pid 4242)`.
    pub culprit: Option<String>,
    /// How long it took from the kernel's notice to repaired, in milliseconds.
    pub took_ms: u64,
}
