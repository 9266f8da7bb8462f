//! Instances and their interfaces.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trestle_core::types::{AddressPair, Domain, InstanceId, InterfaceId, LinkName, Mac, Mtu, Name};
use trestle_core::world::Plug;
use utoipa::{IntoParams, ToSchema};

/// An instance to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewInstance {
    /// Its name and host name: one DNS label, unique in its project.
    pub name: String,
    /// The project that owns it, by name or id; a member's own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The networks it joins, in order. If absent, the project's own; if it has none, the next free
    /// VLAN network becomes its own; if there is none either, the shared ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interfaces: Option<Vec<NewInterface>>,
    /// The security groups of interfaces that name none themselves, by name or id; `default` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_groups: Option<Vec<String>>,
    /// What guests may send from besides their fixed IPs, by interfaces that say nothing themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_address_pairs: Option<Vec<String>>,
    /// Whether interfaces that say nothing themselves are guarded and held to security groups; yes if
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_security: Option<bool>,
}

/// An interface to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewInterface {
    /// The network, by name or id.
    pub network: String,
    /// These addresses, one of a family at most; the next free one of each family that the network
    /// has if absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// This MAC; one under `fa:16:3e` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Its security groups, by name or id: 16 at most, of the instance's project. As the instance says
    /// if absent. With an empty list nothing passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_groups: Option<Vec<String>>,
    /// What its guest may send from besides its fixed IPs, 64 at most: `10.0.0.9`, `10.9.0.0/16`, or with
    /// `,` and a MAC that is not its own. As the instance says if absent. On a network that is not the
    /// project's own, only administrators allow any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_address_pairs: Option<Vec<String>>,
    /// Whether it is guarded against forging, and held to its security groups; else everything passes,
    /// and both lists must be empty. As the instance says if absent. On a network that is not the
    /// project's own, only administrators switch it off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_security: Option<bool>,
}

/// What to change of an interface; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InterfacePatch {
    /// As in [`NewInterface`], in place of those that it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_groups: Option<Vec<String>>,
    /// As in [`NewInterface`], in place of those that it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_address_pairs: Option<Vec<String>>,
    /// As in [`NewInterface`]. While it is off the lists that the interface had are kept, unless the request
    /// empties them; switched on, it has them again, or is in `default` if it was in no group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_security: Option<bool>,
}

/// An instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Instance {
    /// Names it for life.
    #[schema(value_type = String, format = Uuid)]
    pub id: InstanceId,
    /// Its name, unique in its project.
    #[schema(value_type = String)]
    pub name: Name,
    /// The name of its project.
    #[schema(value_type = String)]
    pub project: Name,
    /// Its interfaces, in the order they were made.
    pub interfaces: Vec<Interface>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// An instance's attachment to a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Interface {
    /// Names it for life.
    #[schema(value_type = String, format = Uuid)]
    pub id: InterfaceId,
    /// The name of its network.
    #[schema(value_type = String)]
    pub network: Name,
    /// The guest's MAC.
    #[schema(value_type = String)]
    pub mac: Mac,
    /// Its fixed IPs.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpAddr>,
    /// The floating IPs that lead to these, single ports aside.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub floating_ips: Vec<IpAddr>,
    /// The names of its security groups.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub security_groups: Vec<Name>,
    /// What its guest may send from besides its fixed IPs: `10.0.0.9`, `10.9.0.0/16`, or with `,` and a
    /// MAC that is not its own.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub allowed_address_pairs: Vec<AddressPair>,
    /// Whether it is guarded against forging, and held to its security groups; else everything passes.
    #[serde(default = "is_guarded")]
    pub port_security: bool,
    /// The host's end of it.
    #[schema(value_type = String)]
    pub device: LinkName,
    /// The host it is plugged in on.
    #[schema(value_type = Option<String>)]
    pub host: Option<Name>,
    /// What the guest's side is, where it is plugged in.
    #[schema(value_type = Option<Object>)]
    pub plug: Option<Plug>,
    /// The host it is about to be moved to: it is prepared there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub moving_to: Option<Name>,
    /// Where it stands.
    pub state: InterfaceState,
}

/// What every interface is unless it says otherwise.
fn is_guarded() -> bool {
    true
}

/// Where an interface stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum InterfaceState {
    /// Not plugged in anywhere.
    Detached,
    /// Asked for; the host has not said yet that it stands.
    Pending,
    /// The host says it stands.
    Ready,
    /// The host says it cannot.
    Failed,
}

/// Where to plug an interface in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachRequest {
    /// The host, by name or id; an agent's own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The network whose interface is meant, by name or id; may be left out where the instance
    /// has one interface only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// What the guest's side is.
    #[serde(default)]
    pub plug: PlugRequest,
}

/// What the guest's side is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "type", deny_unknown_fields)]
pub enum PlugRequest {
    /// A persistent tap that a hypervisor opens.
    Tap {
        /// The numeric uid that may open it without privilege.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner: Option<u32>,
    },
    /// A veth whose other end is moved into a network namespace.
    Veth {
        /// A path to the namespace on the host.
        netns: String,
        /// What the moved end is called there; `eth0` if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
}

impl Default for PlugRequest {
    fn default() -> Self {
        Self::Tap { owner: None }
    }
}

/// What was asked of a host, and what a hypervisor needs to know once the device is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Attached {
    /// The instance's name.
    #[schema(value_type = String)]
    pub instance: Name,
    /// The network's name.
    #[schema(value_type = String)]
    pub network: Name,
    /// The interface.
    #[schema(value_type = String, format = Uuid)]
    pub interface: InterfaceId,
    /// The device on the host: give it to the hypervisor.
    #[schema(value_type = String)]
    pub device: LinkName,
    /// The guest's MAC: give it to the hypervisor.
    #[schema(value_type = String)]
    pub mac: Mac,
    /// The guest's addresses with their prefix lengths.
    pub addresses: Vec<String>,
    /// The guest's routers, one of a family.
    #[schema(value_type = Vec<String>)]
    pub gateways: Vec<IpAddr>,
    /// The name servers that the guest is told of.
    #[schema(value_type = Vec<String>)]
    pub dns: Vec<IpAddr>,
    /// The DNS domain of the network.
    #[schema(value_type = String)]
    pub domain: Domain,
    /// The bridge that the device is a port of.
    #[schema(value_type = String)]
    pub bridge: LinkName,
    /// The MTU of the device.
    #[schema(value_type = u32)]
    pub mtu: Mtu,
    /// The host it is plugged in on.
    #[schema(value_type = String)]
    pub host: Name,
    /// The host's generation at which this holds.
    pub generation: u64,
}

/// Where to move an instance, with all interfaces that are plugged in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveRequest {
    /// The host, by name or id. With `switch` and `cancel` it may be left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Which part of the move to do.
    #[serde(default)]
    pub phase: MovePhase,
    /// What the guest's side is there; what it is now if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plug: Option<PlugRequest>,
}

/// The parts of moving an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MovePhase {
    /// Prepare, wait for the host, switch.
    #[default]
    Both,
    /// Make everything stand on the new host, beside the old one: for a live migration to copy into.
    Prepare,
    /// The instance runs on the new host from now on; nothing of it stays on the old one.
    Switch,
    /// Take down what was prepared.
    Cancel,
}

/// Which instances.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct InstanceFilter {
    /// Only those of this project, by name or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Only those of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Only those with an interface plugged in on this host, by name or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Only those with an interface on this network, by name or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
}
