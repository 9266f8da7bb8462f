//! The World: everything the store holds that bears on what hosts must have.
//!
//! A plain value with the indexes that compiling needs, so that the cost of one more instance
//! does not grow with their number. It never reads the store; the controller feeds it.

mod dns;
mod floating_ip;
mod security;
mod vpn;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::types::{
    Cidr, DhcpOption, DnsRecordId, Domain, EtherType, HostId, InstanceId, InterfaceId, LinkName, Mac,
    MetadataService, Mtu, Name, NetworkId, ProjectId, VlanId,
};
pub use dns::DnsRecord;
pub use floating_ip::{FloatingIp, Forward, InvalidRoutingSourceIp, RoutingSourceIp, Target};
pub use security::{AddressGroup, Remote, Rule, Security, SecurityGroup, Traffic};
pub use vpn::{VPN_PORT, Vpn, VpnUser};

/// Options of the installation that bear on hosts. Names are the original's where it had one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Ranges that instances reach without source NAT (reference LX-38).
    pub dmz_cidr: Vec<Cidr>,
    /// Ranges that instances reach by source NAT whatever device leads there (reference LX-38).
    pub force_snat_range: Vec<Cidr>,
    /// The service that tells instances of themselves; without one they find none.
    pub metadata: Option<MetadataService>,
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
    /// The device that carries VLANs on this host; wins over the network's own.
    pub vlan_interface: Option<LinkName>,
    /// The device that leads outside; without one this host does no source NAT.
    pub public_interface: Option<LinkName>,
    /// Under which address instances without a floating IP leave by that device.
    pub routing_source_ip: RoutingSourceIp,
}

/// How instances get onto a network and who routes for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkType {
    /// A bridge of the administrator's, addresses by injection. Nothing on a host but its ports.
    Flat,
    /// A bridge made on first use, `flat_interface` enslaved, addresses by dnsmasq.
    FlatDhcp,
    /// A bridge on a VLAN of `vlan_interface`, both made on first use, addresses by dnsmasq.
    Vlan,
}

/// Who routes for a network and serves DHCP on it. A flat network has none of Trestle's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gateways {
    /// Single-host: one host, for all; `None` until the network is used first.
    One(Option<HostId>),
    /// Multi-host: every host with an instance, all under one address and MAC that never leave
    /// the host, so that an instance keeps its router when it moves.
    Shared,
    /// Multi-host: every host with an instance, under addresses of its own.
    PerHost(BTreeMap<HostId, Vec<IpAddr>>),
}

/// A network's addresses in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// The range.
    pub cidr: Cidr,
    /// The router's address, inside `cidr`.
    pub gateway: Option<IpAddr>,
}

/// How guests come by their IPv6 addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ipv6Mode {
    /// From DHCPv6; the controller chooses them as it does IPv4's.
    #[default]
    Dhcpv6,
    /// Guests make them from the advertised prefix and their MAC (EUI-64, RFC 4862).
    Slaac,
}

/// A network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Names it for life.
    pub id: NetworkId,
    /// Its name, unique; part of keys and of the state folder's paths.
    pub name: Name,
    /// Flat, Flat DHCP or VLAN.
    pub network_type: NetworkType,
    /// The owner; `None` is shared by all projects, or, of type VLAN, free.
    pub project: Option<ProjectId>,
    /// Its IPv4 addresses.
    pub ipv4: Option<Subnet>,
    /// Its IPv6 addresses.
    pub ipv6: Option<Subnet>,
    /// How guests come by the latter.
    pub ipv6_mode: Ipv6Mode,
    /// Who routes for it.
    pub gateways: Gateways,
    /// The VLAN, of type VLAN.
    pub vlan: Option<VlanId>,
    /// The bridge on every host that has an instance of this network.
    pub bridge: LinkName,
    /// The device the bridge, or the VLAN, is on where the host names none.
    pub bridge_interface: Option<LinkName>,
    /// The gateway's MAC, and the bridge's where it is on no device.
    pub bridge_mac: Mac,
    /// Servers that dnsmasq asks; empty means the host's own. Of type flat, what guests are told.
    pub dns: Vec<IpAddr>,
    /// The DNS domain of its instances.
    pub domain: Domain,
    /// Told to guests and set on every device.
    pub mtu: Mtu,
    /// How long a lease holds, in seconds.
    pub dhcp_lease_time: u32,
    /// What else guests are told by DHCP.
    pub dhcp_options: Vec<DhcpOption>,
    /// What guests may send besides IPv4, ARP and IPv6.
    pub ether_types: BTreeSet<EtherType>,
}

impl Network {
    /// Its ranges, IPv4's first.
    pub fn subnets(&self) -> impl Iterator<Item = &Subnet> {
        self.ipv4.iter().chain(&self.ipv6)
    }

    /// The range that the address lies in.
    pub fn subnet_of(&self, address: IpAddr) -> Option<&Subnet> {
        self.subnets().find(|subnet| subnet.cidr.contains(address))
    }

    /// The host that routes for all, in single-host mode.
    pub fn gateway_host(&self) -> Option<HostId> {
        match self.gateways {
            Gateways::One(host) if self.network_type != NetworkType::Flat => host,
            _ => None,
        }
    }

    /// The router's addresses on this host, each with its range; what is served there.
    pub fn gateway_addresses(&self, host: HostId) -> Vec<(IpAddr, Cidr)> {
        let own = match &self.gateways {
            Gateways::PerHost(hosts) => Some(hosts.get(&host).map_or(&[][..], Vec::as_slice)),
            _ => None,
        };
        let of_subnet = |subnet: &Subnet| {
            let address = match own {
                Some(own) => own.iter().copied().find(|address| subnet.cidr.contains(*address)),
                None => subnet.gateway,
            };
            address.map(|address| (address, subnet.cidr))
        };
        self.subnets().filter_map(of_subnet).collect()
    }
}

/// An instance's attachment to a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Names it for life.
    pub id: InterfaceId,
    /// The instance it belongs to.
    pub instance: InstanceId,
    /// The project whose instance that is.
    pub project: ProjectId,
    /// The network it is on.
    pub network: NetworkId,
    /// The guest's MAC, unique.
    pub mac: Mac,
    /// The host's end of it, unique.
    pub device: LinkName,
    /// The name the guest is given by DHCP and found by in DNS, unique on its network.
    pub hostname: Name,
    /// Its fixed IPs.
    pub addresses: Vec<IpAddr>,
    /// What it is held to; `None` lets everything pass.
    pub security: Option<Security>,
    /// Where it is plugged in, if it is.
    pub attachment: Option<Attachment>,
    /// Where it is about to be plugged in instead: everything stands there already.
    pub moving_to: Option<Attachment>,
}

impl Interface {
    /// Where it has a device: where it is plugged in and where it is about to be.
    pub fn places(&self) -> impl Iterator<Item = &Attachment> {
        self.attachment.iter().chain(&self.moving_to)
    }

    /// What its guest may send from: its fixed IPs and the link-local address its MAC makes.
    pub fn guest_addresses(&self, network: &Network) -> impl Iterator<Item = IpAddr> {
        let link_local = network.ipv6.map(|_| self.mac.link_local().into());
        self.addresses.iter().copied().chain(link_local)
    }
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
    /// Who has a device where.
    attached: BTreeMap<(HostId, NetworkId), BTreeSet<InterfaceId>>,
    /// The keys of `attached`, turned round.
    hosts_of: BTreeSet<(NetworkId, HostId)>,
    /// The networks that a host is the one gateway of.
    gateway_of: BTreeSet<(HostId, NetworkId)>,
    /// The networks of each owner.
    owned: BTreeSet<(ProjectId, NetworkId)>,
    floating_ips: BTreeMap<IpAddr, FloatingIp>,
    /// The floating IPs that lead to an interface.
    leading_to: BTreeSet<(InterfaceId, IpAddr)>,
    dns_records: BTreeMap<DnsRecordId, DnsRecord>,
    /// The records of each project, and those known to all.
    dns_known: BTreeSet<(Option<ProjectId>, DnsRecordId)>,
    /// The interfaces of each project on each network that are plugged in, and on which hosts.
    neighbours: BTreeMap<(NetworkId, ProjectId), BTreeSet<InterfaceId>>,
    neighbour_hosts: BTreeMap<(NetworkId, ProjectId), BTreeMap<HostId, usize>>,
    security: security::Index,
    vpns: BTreeMap<ProjectId, Vpn>,
}

/// Everything in an ordered set of pairs that begins with this.
fn beginning<A: Copy + Ord>(set: &BTreeSet<(A, NetworkId)>, with: A) -> impl Iterator<Item = NetworkId> {
    let range = (with, NetworkId(uuid::Uuid::nil()))..=(with, NetworkId(uuid::Uuid::max()));
    set.range(range).map(|(_, network)| *network)
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

    /// The networks that a host has something of: those with a device there, and those that it is
    /// the one gateway of and that have a device anywhere.
    pub fn networks_on(&self, host: HostId) -> impl Iterator<Item = &Network> {
        let whole_host = (host, NetworkId(uuid::Uuid::nil()))..=(host, NetworkId(uuid::Uuid::max()));
        let attached = self.attached.range(whole_host).map(|((_, network), _)| *network);
        let routed = beginning(&self.gateway_of, host).filter(|network| self.is_used(*network));
        let all: BTreeSet<NetworkId> = attached.chain(routed).collect();
        all.into_iter().filter_map(|id| self.networks.get(&id))
    }

    /// The interfaces of a network that bear on a host: those with a device there, and all where
    /// it is the one gateway.
    pub fn interfaces_on<'a>(
        &'a self,
        host: HostId,
        network: &Network,
    ) -> impl Iterator<Item = &'a Interface> + use<'a> {
        let is_gateway = network.gateway_host() == Some(host);
        let hosts = if is_gateway { self.hosts_of(network.id).collect() } else { vec![host] };
        let id = network.id;
        let ids =
            hosts.into_iter().flat_map(move |host| self.attached.get(&(host, id)).into_iter().flatten());
        ids.filter_map(|id| self.interfaces.get(id))
    }

    /// The hosts on which a network has a device.
    pub fn hosts_of(&self, network: NetworkId) -> impl Iterator<Item = HostId> {
        let range = (network, HostId(uuid::Uuid::nil()))..=(network, HostId(uuid::Uuid::max()));
        self.hosts_of.range(range).map(|(_, host)| *host)
    }

    /// Whether a network has a device anywhere.
    pub fn is_used(&self, network: NetworkId) -> bool {
        self.hosts_of(network).next().is_some()
    }

    /// Whether a network has a device on a host.
    pub fn has_device(&self, host: HostId, network: NetworkId) -> bool {
        self.attached.contains_key(&(host, network))
    }

    /// Whether a host has something of a network.
    pub fn is_on(&self, host: HostId, network: &Network) -> bool {
        self.attached.contains_key(&(host, network.id)) || self.routes(host, network)
    }

    /// Whether a host routes for a network and serves DHCP on it.
    pub fn routes(&self, host: HostId, network: &Network) -> bool {
        match (network.network_type, &network.gateways) {
            (NetworkType::Flat, _) => false,
            (_, Gateways::One(gateway)) => *gateway == Some(host) && self.is_used(network.id),
            (_, Gateways::Shared | Gateways::PerHost(_)) => self.attached.contains_key(&(host, network.id)),
        }
    }

    /// The networks of this owner.
    pub fn networks_of(&self, project: ProjectId) -> impl Iterator<Item = &Network> {
        beginning(&self.owned, project).filter_map(|id| self.networks.get(&id))
    }

    /// Puts the host in, in place of what it was.
    pub fn put_host(&mut self, host: Host) {
        self.hosts.insert(host.id, host);
    }

    /// Puts the network in, in place of what it was.
    pub fn put_network(&mut self, network: Network) {
        self.remove_network(network.id);
        self.gateway_of.extend(network.gateway_host().map(|host| (host, network.id)));
        self.owned.extend(network.project.map(|project| (project, network.id)));
        self.networks.insert(network.id, network);
    }

    /// Puts the interface in, in place of what it was, and keeps the index of who is where.
    pub fn put_interface(&mut self, interface: Interface) {
        self.remove_interface(interface.id);
        let neighbours = (interface.network, interface.project);
        for place in interface.places() {
            self.attached.entry((place.host, interface.network)).or_default().insert(interface.id);
            self.hosts_of.insert((interface.network, place.host));
            self.neighbours.entry(neighbours).or_default().insert(interface.id);
            *self.neighbour_hosts.entry(neighbours).or_default().entry(place.host).or_default() += 1;
        }
        self.security.add(&interface);
        self.interfaces.insert(interface.id, interface);
    }

    /// Takes the host out; gives what it was.
    pub fn remove_host(&mut self, id: HostId) -> Option<Host> {
        self.hosts.remove(&id)
    }

    /// Takes the network out; gives what it was.
    pub fn remove_network(&mut self, id: NetworkId) -> Option<Network> {
        let network = self.networks.remove(&id)?;
        if let Some(host) = network.gateway_host() {
            self.gateway_of.remove(&(host, id));
        }
        if let Some(project) = network.project {
            self.owned.remove(&(project, id));
        }
        Some(network)
    }

    /// Takes the interface out; gives what it was.
    pub fn remove_interface(&mut self, id: InterfaceId) -> Option<Interface> {
        let interface = self.interfaces.remove(&id)?;
        for place in interface.places() {
            let (host, network) = (place.host, interface.network);
            let Some(there) = self.attached.get_mut(&(host, network)) else { continue };
            there.remove(&id);
            if there.is_empty() {
                self.attached.remove(&(host, network));
                self.hosts_of.remove(&(network, host));
            }
        }
        self.forget_neighbour(&interface);
        self.security.remove(&interface);
        Some(interface)
    }
}
