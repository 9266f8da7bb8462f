//! DNS: domains, and names in them for addresses, beside the names that instances have by themselves.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trestle_core::types::{Domain, Name};
use utoipa::{IntoParams, ToSchema};

/// A domain to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDnsDomain {
    /// Its name, unique: `example.org`.
    pub name: String,
    /// The project that owns it, by name or id: only on its networks the domain is known. If absent, a
    /// member's own; else it is known on all, and only administrators make those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
}

/// A domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DnsDomain {
    /// Its name, unique.
    #[schema(value_type = String)]
    pub name: Domain,
    /// The name of the project that owns it; known on all networks if absent.
    #[schema(value_type = Option<String>)]
    pub project: Option<Name>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// A name to be made in a domain, or to be given other addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DnsRecordRequest {
    /// Its addresses: fixed or floating IPs of the domain's project, or any, where an administrator
    /// asks.
    pub addresses: Vec<String>,
}

/// A name in a domain. Who asks for one of its addresses is told the name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DnsRecord {
    /// One or several labels: `www`, `a.b`. With the domain it is a whole name.
    #[schema(value_type = String)]
    pub name: Domain,
    /// The domain.
    #[schema(value_type = String)]
    pub domain: Domain,
    /// Its addresses.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpAddr>,
}

/// Which names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DnsRecordFilter {
    /// Only those that lead to this address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}
