//! The public wire types of Trestle's REST API, and the typed client.
//!
//! Requests carry plain text, so that the controller can list everything that is wrong in one
//! answer; responses carry what core's types print.

pub mod address_group;
pub mod agent;
pub mod client;
pub mod dns;
pub mod error;
pub mod event;
pub mod explain;
pub mod fixed_ip;
pub mod floating_ip;
pub mod history;
pub mod host;
pub mod instance;
pub mod local;
pub mod network;
pub mod page;
pub mod pool;
pub mod project;
pub mod security_group;
pub mod token;
pub mod vpn;

pub use address_group::{AddressGroup, AddressGroupFilter, AddressGroupPatch, NewAddressGroup};
pub use agent::Feature;
pub use client::{Client, ClientConfig, ClientError, EventStream};
pub use dns::{DnsDomain, DnsRecord, DnsRecordFilter, DnsRecordRequest, NewDnsDomain};
pub use error::{ApiError, ErrorBody, FieldProblem};
pub use event::{Event, EventFilter};
pub use explain::{ExplainQuery, Explanation};
pub use fixed_ip::{FixedIp, FixedIpFilter, FixedIpState};
pub use floating_ip::{
    FloatingIp, FloatingIpAssociation, FloatingIpFilter, FloatingIpState, FloatingIpTarget, NewFloatingIp,
    NewPortForward, PortForward,
};
pub use history::{HeldAs, HistoryFilter, Holding};
pub use host::{Host, HostFilter, HostPatch, HostStatus, NewHost};
pub use instance::{
    AttachRequest, Attached, Instance, InstanceFilter, Interface, InterfacePatch, InterfaceState, MovePhase,
    MoveRequest, NewInstance, NewInterface, PlugRequest,
};
pub use network::{
    AssociateRequest, GatewayRequest, Network, NetworkFilter, NetworkPatch, NetworksCreated, NewNetwork,
    ReserveRequest, ReservedRange, Subnet,
};
pub use page::{Page, PageQuery};
pub use pool::{NewPool, Pool, PoolRangeRequest};
pub use project::{NewProject, Project, ProjectPatch, Quota, Usage};
pub use security_group::{
    InvalidRuleText, NewSecurityGroup, NewSecurityGroupRule, SecurityGroup, SecurityGroupFilter,
    SecurityGroupMembers, SecurityGroupPatch, SecurityGroupRule,
};
pub use token::{NewToken, Role, Token, TokenCreated};
pub use vpn::{
    NewVpn, NewVpnUser, Vpn, VpnCaRenewed, VpnConnection, VpnCredentials, VpnFilter, VpnPatch, VpnState,
    VpnUser, VpnUserRenewal,
};

/// Core's types that appear on the wire.
pub use trestle_core::{plan, spec, types};

pub use trestle_core::world::{Ipv6Mode, NetworkType, Plug};
