//! Pools of floating IPs: ranges of public addresses, and the device they are on.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trestle_core::types::{AddressRange, LinkName, Name, PoolId};
use utoipa::ToSchema;

/// A pool to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPool {
    /// Its name: one DNS label, unique.
    pub name: String,
    /// The device that its addresses are on, on every host that has one; the host's public one if
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Its addresses: `203.0.113.20-203.0.113.99`, one address, or a CIDR, of which the first
    /// address is left out, in IPv4 the last, too. May be empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<String>,
}

/// Addresses to be added to a pool, or taken out; the same again changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolRangeRequest {
    /// As in [`NewPool`]. Taken out is a range as the pool shows it, or the CIDR that it was given as.
    pub range: String,
}

/// A pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pool {
    /// Names it for life.
    #[schema(value_type = String, format = Uuid)]
    pub id: PoolId,
    /// Its name, unique.
    #[schema(value_type = String)]
    pub name: Name,
    /// The device that its addresses are on; the host's public one if absent.
    #[schema(value_type = Option<String>)]
    pub interface: Option<LinkName>,
    /// Its addresses, in order.
    #[schema(value_type = Vec<String>)]
    pub ranges: Vec<AddressRange>,
    /// How many addresses it has; 2^53 - 1 at most, which stands for more.
    pub total: u64,
    /// How many of them are reserved for projects.
    pub used: u64,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}
