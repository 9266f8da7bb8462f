//! HostSpec: what one host must have, a map from [`Key`] to [`Object`].
//!
//! The same keys and objects make up a [`crate::state::HostState`]; a plan is their difference.
//! What goes over the wire is a [`SpecUpdate`]: "these keys now hold these whole objects, those
//! are gone", never a change inside an object.

mod flows;
mod set;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::step::Step;
use crate::types::{
    InstanceId, LinkName, Mac, MetadataService, Name, ProjectId, VlanId, VpnKind, serde_as_text,
};
pub use flows::Flows;
pub use set::{Set, Table};

/// What an object is called, on one host. Printed as a path: `link/br100`,
/// `address/br100/10.0.0.1/24`, `dhcp-host/public/fa:16:3e:00:00:01`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A kernel setting by its dotted name.
    Sysctl(String),
    /// The chains of one of our nftables tables.
    Ruleset(Table),
    /// A set that is made as it is needed, without elements.
    Set(Set),
    /// A chain of security groups, by its name in nftables.
    Chain(String),
    /// One element of a named nftables set, in nft's own words: `tr-0a.. . fa:16:3e:00:00:01`; of a
    /// map, what it is looked up by.
    Element(Set, String),
    /// A network device.
    Link(LinkName),
    /// A bridge whose packets go through the filter of routed ones.
    BridgeFilter(LinkName),
    /// A device that others make and that must be there. Never part of a state: its link is.
    Device(LinkName),
    /// A physical device that one of our bridges has enslaved.
    Uplink(LinkName),
    /// An address on a device; on one that others make, a floating IP.
    Address(LinkName, IpNet),
    /// Who else answers for an address on a device's wire. Never part of a spec.
    Neighbour(LinkName, IpAddr),
    /// A route through a device. Only foreign ones are observed, where a device with routes is
    /// enslaved: they move to the bridge.
    Route(LinkName, Route),
    /// Which port of a bridge leads to a MAC, whatever anybody else sends under it.
    Station(LinkName, Mac),
    /// dnsmasq's IPv4 entry for one MAC on a network.
    DhcpHost(Name, Mac),
    /// dnsmasq's entry for one IPv6 address on a network.
    DhcpHost6(Name, Ipv6Addr),
    /// A name that dnsmasq resolves on a network, with its domain.
    DnsName(Name, String),
    /// A name that somebody gave to addresses, and that dnsmasq resolves on a network: whole.
    DnsRecord(Name, String),
    /// The lease that dnsmasq holds for a MAC on a network. Never part of a spec.
    Lease(Name, Mac),
    /// The lease that dnsmasq holds for an IPv6 address on a network. Never part of a spec.
    Lease6(Name, Ipv6Addr),
    /// The dnsmasq of a network.
    Dnsmasq(Name),
    /// Who asks for metadata from this address.
    Metadata(Ipv4Addr),
    /// What answers for the metadata service on this TCP port.
    MetadataProxy(u16),
    /// The network namespace that a VPN of this name lives in.
    VpnNetns(Name),
    /// The server of a VPN.
    Vpn(Name),
    /// A user that a VPN lets in, by the name of what the user shows.
    VpnUser(Name, Name),
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Route {
    /// What it is for; `0.0.0.0/0` is the default route.
    pub destination: IpNet,
    /// The next router, if it is not on the link itself.
    pub via: Option<IpAddr>,
    /// The kernel's priority; less is preferred.
    pub metric: u32,
}

/// What stands under a [`Key`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Object {
    /// The setting's value.
    Sysctl(String),
    /// The table with its sets and chains, without elements, as text for nft. When observed, the
    /// same text if the kernel's chains are what it makes, else what is wrong.
    Ruleset(String),
    /// The set is there.
    Set,
    /// The chain's rules as text for nft, a line each. When observed, the same text if the kernel's
    /// rules are what it makes, else that somebody edited it.
    Chain(String),
    /// Packets that are bridged there are filtered as routed ones are.
    BridgeFilter,
    /// The element is in the set.
    Element,
    /// The element is in the map, and leads to this, in nft's own words.
    Mapping(String),
    /// A device.
    Link(Link),
    /// The device is there.
    Device,
    /// The bridge that has enslaved the device.
    Uplink(LinkName),
    /// The address is on the device.
    Address,
    /// Who answers for the address.
    Neighbour(Mac),
    /// The route stands. The address packets leave from, and the kernel's number of who set it
    /// (`RTPROT_*`, rtnetlink(7)), so that it moves as it was.
    Route {
        /// `RTA_PREFSRC`.
        source: Option<IpAddr>,
        /// `rtm_protocol`.
        protocol: u8,
    },
    /// The port of the bridge, and the addresses that the MAC's neighbours are told to find there
    /// when it comes; in a state none, since only the port is seen.
    Station {
        /// The port.
        port: LinkName,
        /// Announced once, when the port becomes the right one.
        addresses: BTreeSet<IpAddr>,
    },
    /// The one address the MAC is given, and its host name.
    DhcpHost {
        /// The fixed IP.
        address: Ipv4Addr,
        /// Without the domain.
        hostname: Name,
    },
    /// The MAC that is given the address, and its host name.
    DhcpHost6 {
        /// The guest's.
        mac: Mac,
        /// Without the domain.
        hostname: Name,
    },
    /// The addresses of the name.
    DnsName(BTreeSet<IpAddr>),
    /// The address that is leased.
    Lease(Ipv4Addr),
    /// Who leased the address, in dnsmasq's own words: what its lease file says of the client.
    Lease6 {
        /// The client's DUID (RFC 8415 §11), in hex with colons.
        client: String,
        /// The identity association (RFC 8415 §12).
        iaid: u32,
    },
    /// A running dnsmasq.
    Dnsmasq(Dnsmasq),
    /// The instance that has the address, as the metadata service is told of it.
    Metadata {
        /// The instance.
        instance: InstanceId,
        /// Its project.
        project: ProjectId,
    },
    /// The service that is asked.
    MetadataProxy(MetadataService),
    /// The namespace.
    VpnNetns {
        /// Whether it is there; in a state it may be that its folder alone is.
        exists: bool,
    },
    /// A VPN's server that runs.
    Vpn(VpnServer),
    /// What the server is told of the user, as text for it. The address that the user has is the first
    /// one in it.
    VpnUser(String),
}

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Link {
    /// What it is.
    pub kind: LinkKind,
    /// Its MAC; `None` in a spec leaves it to the kernel.
    pub mac: Option<LinkMac>,
    /// In bytes.
    pub mtu: u32,
    /// The bridge it is a port of.
    pub master: Option<LinkName>,
    /// The device that a bridge leads out by: without it the bridge is not made. Only in a spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink: Option<LinkName>,
    /// Whether it is administratively up.
    pub up: bool,
    /// The kernel's number; only in a state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
}

/// What a device is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkKind {
    /// A Linux bridge.
    Bridge,
    /// An 802.1Q VLAN of another device.
    Vlan {
        /// The VLAN.
        id: VlanId,
        /// The device that carries it, a physical one.
        parent: LinkName,
    },
    /// A persistent tap.
    Tap {
        /// The uid that may open it; root alone if `None`.
        owner: Option<u32>,
    },
    /// A veth whose other end went into a namespace. The device's alias (`IFLA_IFALIAS`) keeps
    /// where, because the kernel does not tell.
    Veth {
        /// A path to the namespace.
        netns: String,
        /// What the other end is called there.
        name: LinkName,
        /// The MAC of the other end.
        mac: Mac,
    },
    /// Anything that we never make. Only in a state.
    Other,
}

/// Where a device's MAC comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkMac {
    /// This one.
    Fixed(Mac),
    /// That of another device on this host, so that its neighbours notice nothing when a bridge
    /// takes over its addresses. Only in a spec.
    Of(LinkName),
    /// The gateway's, which all its hosts have, unless the device that the bridge leads out by
    /// brought addresses of the host's own: then that device's, by which they are known. Only in
    /// a spec.
    Gateway {
        /// The gateway's.
        mac: Mac,
        /// The device.
        uplink: LinkName,
    },
}

/// A dnsmasq, one per network and host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Dnsmasq {
    /// Its arguments; `%S` stands for the host's state folder.
    pub arguments: Vec<String>,
    /// The bridge it serves.
    pub bridge: LinkName,
    /// The number of the bridge it was started on; only in a state. dnsmasq binds its DHCP socket
    /// to that number at start, so a bridge made anew needs a dnsmasq started anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge_index: Option<u32>,
    /// Whether entries were deleted that it has not been told of yet: it serves them on until it is
    /// reloaded. Only in a state.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}

/// The server of a VPN, which runs in the VPN's own namespace. In all texts `%S` stands for the host's state
/// folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VpnServer {
    /// What it speaks.
    pub kind: VpnKind,
    /// The device on the host whose other end is in the namespace.
    pub link: LinkName,
    /// The device in the namespace by which its clients come.
    pub tunnel: LinkName,
    /// Which keys it has: the host asks the controller for these.
    pub identity: Uuid,
    /// The namespace's kernel settings, by their dotted names.
    pub settings: BTreeMap<String, String>,
    /// The commands that make the namespace's devices, addresses and routes, a line each, for `ip -batch`.
    pub network: String,
    /// What passes there, for nft.
    pub filter: String,
    /// The server's own configuration; WireGuard's has none.
    pub config: String,
    /// The number of the device it was started on, and nothing if it runs elsewhere than there; only in
    /// a state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_index: Option<u32>,
}

/// Everything one host must have, at one generation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSpec {
    /// The controller's revision at which this was so.
    pub generation: u64,
    /// What must be.
    pub objects: BTreeMap<Key, Object>,
    /// Whether the controller may know of a later one: it is away, or was not asked yet. A floating
    /// IP may be another host's by then.
    #[serde(skip)]
    pub unconfirmed: bool,
}

/// What a host is told: whole objects by key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecUpdate {
    /// The generation this is a change to; `None` when `put` is everything.
    pub base: Option<u64>,
    /// The generation this leads to.
    pub generation: u64,
    /// These keys now hold these whole objects.
    pub put: BTreeMap<Key, Object>,
    /// These keys hold nothing any more.
    pub gone: BTreeSet<Key>,
}

/// An update that does not join what is held; ask for everything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the update is a change to generation {base}, held is {held}")]
pub struct GenerationGap {
    /// What the update is a change to.
    pub base: u64,
    /// What is held.
    pub held: u64,
}

impl HostSpec {
    /// Takes an update in and gives the keys whose objects may differ now.
    pub fn apply(&mut self, update: SpecUpdate) -> Result<BTreeSet<Key>, GenerationGap> {
        let changed = match update.base {
            Some(base) if base != self.generation => {
                return Err(GenerationGap { base, held: self.generation });
            }
            Some(_) => {
                for key in &update.gone {
                    self.objects.remove(key);
                }
                let changed = update.gone.into_iter().chain(update.put.keys().cloned()).collect();
                self.objects.extend(update.put);
                changed
            }
            None => {
                let before = std::mem::replace(&mut self.objects, update.put);
                let differs = |key: &&Key| before.get(key) != self.objects.get(key);
                before.keys().chain(self.objects.keys()).filter(differs).cloned().collect()
            }
        };
        self.generation = update.generation;
        Ok(changed)
    }

    /// The step that ends what comes to the floating IP of these flows, or to their port of it, and goes
    /// by no way that it has.
    pub fn strays_of(&self, flows: Flows) -> Step {
        let floating = flows.floating;
        let port = flows.ports.map(|(protocol, port, _)| (protocol, port));
        let mut ways = BTreeSet::from([flows]);
        if port.is_none() {
            let set = if floating.is_ipv4() { Set::ForwardTo } else { Set::ForwardTo6 };
            let prefix = format!("{floating} . ");
            let forwards = self.objects.range(Key::Element(set, prefix.clone())..);
            ways.extend(forwards.map_while(|(key, object)| match (key, object) {
                (Key::Element(of, element), Object::Mapping(value))
                    if *of == set && element.starts_with(&prefix) =>
                {
                    Flows::of(set, element, value)
                }
                _ => None,
            }));
        }
        Step::EndStrayFlows { floating, port, ways }
    }

    /// Whether the host answers for floating IPs.
    pub fn has_floating_ips(&self) -> bool {
        let has = |set: Set| {
            let first = self.objects.range(Key::Element(set, String::new())..).next();
            matches!(first, Some((Key::Element(found, _), _)) if *found == set)
        };
        has(Set::Held) || has(Set::Held6)
    }

    /// Whether the host holds guests to security groups.
    pub fn has_groups(&self) -> bool {
        matches!(self.objects.range(Key::Chain(String::new())..).next(), Some((Key::Chain(_), _)))
    }

    /// The VPNs that run on the host.
    pub fn vpns(&self) -> impl Iterator<Item = (&Name, &VpnServer)> {
        self.objects.iter().filter_map(|(key, object)| match (key, object) {
            (Key::Vpn(name), Object::Vpn(server)) => Some((name, server)),
            _ => None,
        })
    }

    /// The physical devices that are to be in bridges, each with its bridge.
    pub fn uplinks(&self) -> impl Iterator<Item = (&LinkName, &LinkName)> {
        let first =
            "-".parse().map(Key::Uplink).expect("a plain byte is a device name, and this is the least");
        self.objects.range(first..).map_while(|(key, object)| match (key, object) {
            (Key::Uplink(link), Object::Uplink(bridge)) => Some((link, bridge)),
            _ => None,
        })
    }

    /// The link under this name, if the spec has it.
    pub fn link(&self, name: &LinkName) -> Option<&Link> {
        match self.objects.get(&Key::Link(name.clone())) {
            Some(Object::Link(link)) => Some(link),
            _ => None,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sysctl(name) => write!(f, "sysctl/{name}"),
            Self::Ruleset(table) => write!(f, "ruleset/{table}"),
            Self::Set(set) => write!(f, "set/{set}"),
            Self::Chain(name) => write!(f, "chain/{name}"),
            Self::Element(set, element) => write!(f, "element/{set}/{element}"),
            Self::Link(link) => write!(f, "link/{link}"),
            Self::BridgeFilter(bridge) => write!(f, "bridge-filter/{bridge}"),
            Self::Device(link) => write!(f, "device/{link}"),
            Self::Uplink(link) => write!(f, "uplink/{link}"),
            Self::Address(link, address) => write!(f, "address/{link}/{address}"),
            Self::Neighbour(link, address) => write!(f, "neighbour/{link}/{address}"),
            Self::Route(link, route) => write!(f, "route/{link}/{route}"),
            Self::Station(bridge, mac) => write!(f, "station/{bridge}/{mac}"),
            Self::DhcpHost(network, mac) => write!(f, "dhcp-host/{network}/{mac}"),
            Self::DhcpHost6(network, address) => write!(f, "dhcp-host6/{network}/{address}"),
            Self::DnsName(network, name) => write!(f, "dns-name/{network}/{name}"),
            Self::DnsRecord(network, name) => write!(f, "dns-record/{network}/{name}"),
            Self::Lease(network, mac) => write!(f, "lease/{network}/{mac}"),
            Self::Lease6(network, address) => write!(f, "lease6/{network}/{address}"),
            Self::Dnsmasq(network) => write!(f, "dnsmasq/{network}"),
            Self::Metadata(address) => write!(f, "metadata/{address}"),
            Self::MetadataProxy(port) => write!(f, "metadata-proxy/{port}"),
            Self::VpnNetns(vpn) => write!(f, "vpn-netns/{vpn}"),
            Self::Vpn(vpn) => write!(f, "vpn/{vpn}"),
            Self::VpnUser(vpn, user) => write!(f, "vpn-user/{vpn}/{user}"),
        }
    }
}

/// Why a text is not a [`Key`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a key")]
pub struct InvalidKey(String);

impl FromStr for Key {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_key(text).ok_or_else(|| InvalidKey(text.to_owned()))
    }
}

fn parse_key(text: &str) -> Option<Key> {
    let (kind, rest) = text.split_once('/')?;
    let pair = || rest.split_once('/');
    Some(match kind {
        "sysctl" => Key::Sysctl(rest.to_owned()),
        "ruleset" => Key::Ruleset(Table::ALL.into_iter().find(|table| table.to_string() == rest)?),
        "set" => Key::Set(Set::named(rest)?),
        "chain" => Key::Chain(rest.to_owned()),
        "element" => {
            let (set, element) = pair()?;
            Key::Element(Set::named(set)?, element.to_owned())
        }
        "link" => Key::Link(rest.parse().ok()?),
        "bridge-filter" => Key::BridgeFilter(rest.parse().ok()?),
        "device" => Key::Device(rest.parse().ok()?),
        "uplink" => Key::Uplink(rest.parse().ok()?),
        "address" => Key::Address(pair()?.0.parse().ok()?, pair()?.1.parse().ok()?),
        "neighbour" => Key::Neighbour(pair()?.0.parse().ok()?, pair()?.1.parse().ok()?),
        "route" => Key::Route(pair()?.0.parse().ok()?, pair()?.1.parse().ok()?),
        "station" => Key::Station(pair()?.0.parse().ok()?, pair()?.1.parse().ok()?),
        "dhcp-host6" => Key::DhcpHost6(pair()?.0.parse().ok()?, pair()?.1.parse().ok()?),
        "lease6" => Key::Lease6(pair()?.0.parse().ok()?, pair()?.1.parse().ok()?),
        "dhcp-host" => Key::DhcpHost(pair()?.0.parse().ok()?, pair()?.1.parse().ok()?),
        "dns-name" => Key::DnsName(pair()?.0.parse().ok()?, pair()?.1.to_owned()),
        "dns-record" => Key::DnsRecord(pair()?.0.parse().ok()?, pair()?.1.to_owned()),
        "lease" => Key::Lease(pair()?.0.parse().ok()?, pair()?.1.parse().ok()?),
        "dnsmasq" => Key::Dnsmasq(rest.parse().ok()?),
        "metadata" => Key::Metadata(rest.parse().ok()?),
        "metadata-proxy" => Key::MetadataProxy(rest.parse().ok()?),
        "vpn-netns" => Key::VpnNetns(rest.parse().ok()?),
        "vpn" => Key::Vpn(rest.parse().ok()?),
        "vpn-user" => Key::VpnUser(pair()?.0.parse().ok()?, pair()?.1.parse().ok()?),
        _ => return None,
    })
}

serde_as_text!(Key);

impl fmt::Display for LinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bridge => f.write_str("bridge"),
            Self::Vlan { id, parent } => write!(f, "VLAN {id} of {parent}"),
            Self::Tap { owner: Some(uid) } => write!(f, "tap of user {uid}"),
            Self::Tap { owner: None } => f.write_str("tap"),
            Self::Veth { netns, name, .. } => write!(f, "veth to {name} in {netns}"),
            Self::Other => f.write_str("device"),
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.via {
            Some(via) => write!(f, "{}/{via}/{}", self.destination, self.metric),
            None => write!(f, "{}/-/{}", self.destination, self.metric),
        }
    }
}

impl FromStr for Route {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let mut parts = text.rsplitn(3, '/');
            let metric = parts.next()?.parse().ok()?;
            let via = match parts.next()? {
                "-" => None,
                address => Some(address.parse().ok()?),
            };
            Some(Self { destination: parts.next()?.parse().ok()?, via, metric })
        };
        parse().ok_or_else(|| InvalidKey(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_parse_as_they_print() {
        for text in [
            "sysctl/net.ipv4.ip_forward",
            "ruleset/guard",
            "element/nat_source/10.0.0.0/24 . eth0",
            "element/guard_mac/tr-000000abcdef . fa:16:3e:00:00:01",
            "link/br100",
            "device/eth0",
            "bridge-filter/br100",
            "set/members4_17",
            "chain/to_17",
            "element/addresses6_4/2001:db8::/32",
            "element/groups4/10.0.0.5",
            "uplink/eth1",
            "address/br100/10.0.0.1/24",
            "address/eth1/2001:db8::5/64",
            "address/eth0/203.0.113.20/32",
            "element/floating_to/203.0.113.20",
            "neighbour/eth0/203.0.113.20",
            "route/eth1/0.0.0.0/0/192.168.5.1/100",
            "route/eth1/10.9.0.0/16/-/0",
            "station/br100/fa:16:3e:00:00:01",
            "dhcp-host/public/fa:16:3e:00:00:01",
            "dhcp-host6/public/2001:db8::5",
            "lease6/public/2001:db8::5",
            "dns-name/public/web.trestle.internal",
            "dns-record/public/www.example.org",
            "lease/public/fa:16:3e:00:00:01",
            "dnsmasq/public",
            "metadata/10.0.0.5",
            "metadata-proxy/7118",
            "vpn-netns/acme-vpn",
            "vpn/acme-vpn",
            "vpn-user/acme-vpn/alice-0f3a",
        ] {
            assert_eq!(text.parse::<Key>().unwrap().to_string(), text);
        }
        assert!("link/".parse::<Key>().is_err());
        assert!("nonsense/x".parse::<Key>().is_err());
    }

    #[test]
    fn an_update_that_does_not_join_is_refused_and_changes_nothing() {
        let mut spec = HostSpec { generation: 7, ..HostSpec::default() };
        let update = SpecUpdate {
            base: Some(6),
            generation: 8,
            put: BTreeMap::from([(Key::Sysctl("a".into()), Object::Sysctl("1".into()))]),
            gone: BTreeSet::new(),
        };
        assert_eq!(spec.apply(update), Err(GenerationGap { base: 6, held: 7 }));
        assert_eq!(spec, HostSpec { generation: 7, ..HostSpec::default() });
    }
}
