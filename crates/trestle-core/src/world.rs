//! The World: everything the store holds that bears on what hosts must have.
//!
//! A plain value with the indexes that compiling needs, so that the cost of one more instance
//! does not grow with their number. It never reads the store; the controller feeds it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::types::{
    Cidr, Domain, HostId, InstanceId, InterfaceId, LinkName, Mac, Mtu, Name, NetworkId, ProjectId,
};

/// Options of the installation that bear on hosts. Names are the original's where it had one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Ranges that instances reach without source NAT (reference LX-38).
    pub dmz_cidr: Vec<Cidr>,
}

/// A VM host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Names it for life.
    pub id: HostId,
    /// Its name, unique.
    pub name: Name,
    /// The device that flat bridges enslave on this host; wins over the network's own.
    pub flat_interface: Option<LinkName>,
    /// The device that leads outside; without one this host does no source NAT.
    pub public_interface: Option<LinkName>,
}

/// How instances get onto a network and who routes for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkType {
    /// A bridge made on first use, `flat_interface` enslaved, addresses by dnsmasq.
    FlatDhcp,
}

/// A network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Names it for life.
    pub id: NetworkId,
    /// Its name, unique; part of keys and of the state folder's paths.
    pub name: Name,
    /// Flat DHCP for now.
    pub network_type: NetworkType,
    /// The owner; `None` is shared by all projects.
    pub project: Option<ProjectId>,
    /// The IPv4 range.
    pub cidr: Cidr,
    /// The router's address, inside `cidr`.
    pub gateway: Ipv4Addr,
    /// The bridge on every host that has an instance of this network.
    pub bridge: LinkName,
    /// The device the bridge enslaves where the host names none.
    pub bridge_interface: Option<LinkName>,
    /// The bridge's MAC where it enslaves nothing.
    pub bridge_mac: Mac,
    /// Servers that dnsmasq asks; empty means the host's own.
    pub dns: Vec<Ipv4Addr>,
    /// The DNS domain of its instances.
    pub domain: Domain,
    /// Told to guests and set on every device.
    pub mtu: Mtu,
    /// How long a lease holds, in seconds.
    pub dhcp_lease_time: u32,
}

/// An instance's attachment to a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Names it for life.
    pub id: InterfaceId,
    /// The instance it belongs to.
    pub instance: InstanceId,
    /// The network it is on.
    pub network: NetworkId,
    /// The guest's MAC, unique.
    pub mac: Mac,
    /// The host's end of it, unique.
    pub device: LinkName,
    /// The name the guest is given by DHCP and found by in DNS, unique on its network.
    pub hostname: Name,
    /// Its fixed IPs.
    pub addresses: Vec<Ipv4Addr>,
    /// Where it is plugged in, if it is.
    pub attachment: Option<Attachment>,
}

/// Where and how an interface is plugged in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The host.
    pub host: HostId,
    /// What the guest's side is.
    pub plug: Plug,
}

/// What the guest's side of an interface is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum Plug {
    /// A persistent tap that a hypervisor opens.
    Tap {
        /// The user that may open it without privilege, a numeric uid; root alone if `None`.
        owner: Option<u32>,
    },
    /// A veth whose other end is moved into a network namespace.
    Veth {
        /// A path to the namespace, such as `/run/netns/web1` or `/proc/4242/ns/net`.
        netns: String,
        /// What the moved end is called there.
        name: LinkName,
    },
}

/// Everything the store holds that bears on hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    options: Options,
    hosts: BTreeMap<HostId, Host>,
    networks: BTreeMap<NetworkId, Network>,
    interfaces: BTreeMap<InterfaceId, Interface>,
    attached: BTreeMap<(HostId, NetworkId), BTreeSet<InterfaceId>>,
}

impl World {
    /// An empty world under these options.
    pub fn new(options: Options) -> Self {
        Self { options, ..Self::default() }
    }

    /// The installation's options.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The host, if it is known.
    pub fn host(&self, id: HostId) -> Option<&Host> {
        self.hosts.get(&id)
    }

    /// The network, if it is known.
    pub fn network(&self, id: NetworkId) -> Option<&Network> {
        self.networks.get(&id)
    }

    /// The interface, if it is known.
    pub fn interface(&self, id: InterfaceId) -> Option<&Interface> {
        self.interfaces.get(&id)
    }

    /// Every host.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.hosts.values()
    }

    /// Every network.
    pub fn networks(&self) -> impl Iterator<Item = &Network> {
        self.networks.values()
    }

    /// Every interface.
    pub fn interfaces(&self) -> impl Iterator<Item = &Interface> {
        self.interfaces.values()
    }

    /// The networks that have an interface plugged in on this host.
    pub fn networks_on(&self, host: HostId) -> impl Iterator<Item = NetworkId> {
        let whole_host = (host, NetworkId(uuid::Uuid::nil()))..=(host, NetworkId(uuid::Uuid::max()));
        self.attached.range(whole_host).map(|((_, network), _)| *network)
    }

    /// The interfaces of a network that are plugged in on this host.
    pub fn interfaces_on(&self, host: HostId, network: NetworkId) -> impl Iterator<Item = &Interface> {
        let ids = self.attached.get(&(host, network)).into_iter().flatten();
        ids.filter_map(|id| self.interfaces.get(id))
    }

    /// The hosts on which a network has an interface plugged in.
    pub fn hosts_of(&self, network: NetworkId) -> impl Iterator<Item = HostId> {
        self.attached.keys().filter(move |(_, on)| *on == network).map(|(host, _)| *host)
    }

    /// Whether a network has an interface plugged in on this host.
    pub fn is_on(&self, host: HostId, network: NetworkId) -> bool {
        self.attached.contains_key(&(host, network))
    }

    /// Whether any interface is plugged in on this host.
    pub fn has_interfaces(&self, host: HostId) -> bool {
        self.networks_on(host).next().is_some()
    }

    /// Puts the host in, in place of what it was.
    pub fn put_host(&mut self, host: Host) {
        self.hosts.insert(host.id, host);
    }

    /// Puts the network in, in place of what it was.
    pub fn put_network(&mut self, network: Network) {
        self.networks.insert(network.id, network);
    }

    /// Puts the interface in, in place of what it was, and keeps the index of who is where.
    pub fn put_interface(&mut self, interface: Interface) {
        self.remove_interface(interface.id);
        if let Some(attachment) = &interface.attachment {
            let place = (attachment.host, interface.network);
            self.attached.entry(place).or_default().insert(interface.id);
        }
        self.interfaces.insert(interface.id, interface);
    }

    /// Takes the host out; gives what it was.
    pub fn remove_host(&mut self, id: HostId) -> Option<Host> {
        self.hosts.remove(&id)
    }

    /// Takes the network out; gives what it was.
    pub fn remove_network(&mut self, id: NetworkId) -> Option<Network> {
        self.networks.remove(&id)
    }

    /// Takes the interface out; gives what it was.
    pub fn remove_interface(&mut self, id: InterfaceId) -> Option<Interface> {
        let interface = self.interfaces.remove(&id)?;
        if let Some(attachment) = &interface.attachment {
            let place = (attachment.host, interface.network);
            if let Some(there) = self.attached.get_mut(&place) {
                there.remove(&id);
                if there.is_empty() {
                    self.attached.remove(&place);
                }
            }
        }
        Some(interface)
    }
}
