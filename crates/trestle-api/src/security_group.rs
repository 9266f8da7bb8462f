//! Security groups: what may reach instances and what they may reach.

mod text;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trestle_core::types::{
    Cidr, Direction, Family, IcmpType, IpProtocol, Name, PortRange, RuleId, SecurityGroupId,
};
use utoipa::{IntoParams, ToSchema};

pub use text::InvalidRuleText;

/// A security group to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSecurityGroup {
    /// Its name: one DNS label, unique in its project.
    pub name: String,
    /// The project that owns it, by name or id; a member's own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// What to change of a security group; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecurityGroupPatch {
    /// As in [`NewSecurityGroup`]. `default` keeps its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// As in [`NewSecurityGroup`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A security group. An interface passes what any rule of any of its groups allows, and what belongs
/// to a connection that one allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecurityGroup {
    /// Names it for life.
    #[schema(value_type = String, format = Uuid)]
    pub id: SecurityGroupId,
    /// What it is called by on hosts; never used again.
    pub number: u32,
    /// Its name, unique in its project.
    #[schema(value_type = String)]
    pub name: Name,
    /// The name of its project.
    #[schema(value_type = String)]
    pub project: Name,
    /// What it is for.
    pub description: String,
    /// Its rules, in the order they were made.
    pub rules: Vec<SecurityGroupRule>,
    /// Who is in it; only where one group was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<SecurityGroupMembers>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// The instances that have an interface in a security group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecurityGroupMembers {
    /// How many there are.
    pub instances: u64,
    /// The names of the first ten of them.
    #[schema(value_type = Vec<String>)]
    pub first: Vec<Name>,
}

/// A rule to be added to a security group; its text form is `ingress tcp 8000-8080 from 10.0.0.0/8`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSecurityGroupRule {
    /// `ingress`, to the instance, or `egress`, from it.
    pub direction: String,
    /// `ipv4` or `ipv6`; both if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// `tcp`, `udp`, `sctp`, `icmp`, `icmpv6` or a protocol's number; all of them if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Destination ports of a protocol that has them: `80`, `8000-8080`; all of them if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<String>,
    /// Messages of ICMP or ICMPv6: `8`, or `3/4` with a code; all of them if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp_type: Option<String>,
    /// Who is at the other end: who has an address of this range. Anybody if none of the three is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_cidr: Option<String>,
    /// Who is at the other end: the members of this security group of the project, by name or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_group: Option<String>,
    /// Who is at the other end: who has an address of this address group of the project, by name or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_address_group: Option<String>,
    /// From when on it allows nothing, to the second; it is deleted then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// The same, in seconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<u32>,
}

/// A rule of a security group: it allows some packets of one direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecurityGroupRule {
    /// Names it for life.
    #[schema(value_type = String, format = Uuid)]
    pub id: RuleId,
    /// What it is called by on hosts; never used again.
    pub number: u32,
    /// All that it says, in words.
    pub text: String,
    /// To the instance or from it.
    #[schema(value_type = String)]
    pub direction: Direction,
    /// The one family that it is about.
    #[schema(value_type = Option<String>)]
    pub family: Option<Family>,
    /// What is in the packets.
    #[schema(value_type = Option<String>)]
    pub protocol: Option<IpProtocol>,
    /// Their destination ports.
    #[schema(value_type = Option<String>)]
    pub ports: Option<PortRange>,
    /// The messages of ICMP that they are.
    #[schema(value_type = Option<String>)]
    pub icmp_type: Option<IcmpType>,
    /// Who is at the other end, by address.
    #[schema(value_type = Option<String>)]
    pub remote_cidr: Option<Cidr>,
    /// Who is at the other end, by the name of their security group.
    #[schema(value_type = Option<String>)]
    pub remote_group: Option<Name>,
    /// Who is at the other end, by the name of an address group.
    #[schema(value_type = Option<String>)]
    pub remote_address_group: Option<Name>,
    /// From when on it allows nothing.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// How many packets it decided on, the first of each connection, on all hosts together since each
    /// began to count; absent until one has said so.
    pub packets: Option<u64>,
    /// How many bytes these had.
    pub bytes: Option<u64>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// Which security groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SecurityGroupFilter {
    /// Only those of this project, by name or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Only those of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}
