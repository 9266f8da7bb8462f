//! The packets that must pass for instances to have their network, one of each kind.

use std::fmt;
use std::net::IpAddr;

use trestle_core::types::{Family, LinkName};

use crate::doctor::rules::{Field, Packet};
use crate::doctor::site::{Bridge, Site};
use crate::host::linux::look::Devices;

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    Leaves,
    Answers,
    Comes,
    Bridged,
    Dhcp,
    Dns,
    Metadata,
}

impl Way {
    /// Whether it ends at the host itself.
    pub(super) fn is_to_host(self) -> bool {
        matches!(self, Self::Dhcp | Self::Dns | Self::Metadata)
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Leaves => "what instances send outside",
            Self::Answers => "answers from outside",
            Self::Comes => "what is sent to floating IPs",
            Self::Bridged => "what instances on one bridge send to each other",
            Self::Dhcp => "instances' requests for an address",
            Self::Dns => "instances' questions to the DNS of their gateway",
            Self::Metadata => "what instances ask the metadata service",
        })
    }
}

/// A packet and the chains that it meets.
#[derive(Clone, Debug)]
pub(super) struct Passage<'a> {
    pub(super) way: Way,
    pub(super) bridge: &'a LinkName,
    pub(super) family: Family,
    /// Whether it meets the chains of bridges, in place of those of IP.
    pub(super) is_frame: bool,
    pub(super) packet: Packet,
}

impl Passage<'_> {
    /// Whether it comes to chains of this hook and this family, as nft calls them.
    pub(super) fn meets(&self, hook: &str, family: &str) -> bool {
        let own_hook = if self.way.is_to_host() { "input" } else { "forward" };
        let is_own_family = match (self.is_frame, self.family) {
            (true, _) => family == "bridge",
            (false, Family::Ipv4) => matches!(family, "ip" | "inet"),
            (false, Family::Ipv6) => matches!(family, "ip6" | "inet"),
        };
        hook == own_hook && is_own_family
    }
}

/// One of each kind for each bridge.
pub(super) fn passages<'a>(site: &'a Site, devices: &'a Devices, filters_all: bool) -> Vec<Passage<'a>> {
    let public = site.way_out(devices);
    let mut passages = Vec::new();
    for (name, bridge) in &site.bridges {
        for family in [Family::Ipv4, Family::Ipv6] {
            let maker = Maker { site, public, name, bridge, family };
            if bridge.is_routed(family) {
                passages.extend(maker.routed());
                passages.extend(maker.to_gateway());
                passages.extend(maker.metadata());
            }
            let is_filtered = filters_all || devices.get(name).is_some_and(|device| device.filters_bridged);
            if bridge.guest(family).is_some() && is_filtered {
                passages.push(maker.bridged());
            }
        }
        let maker = Maker { site, public, name, bridge, family: Family::Ipv4 };
        passages.extend(maker.frame());
    }
    passages
}

/// What is known of a packet, and what is not.
type Fields = Vec<(Field, Option<String>)>;

struct Maker<'a> {
    site: &'a Site,
    public: Option<&'a LinkName>,
    name: &'a LinkName,
    bridge: &'a Bridge,
    family: Family,
}

impl<'a> Maker<'a> {
    /// TCP stands for all: who accepts that alone or drops it alone has a reason.
    fn routed(&self) -> Vec<Passage<'a>> {
        let out = [
            (Field::In, Some(self.name.to_string())),
            (Field::Out, self.public()),
            (Field::Source, self.guest()),
            (Field::DestinationType, Some("unicast".to_owned())),
            (Field::Protocol, Some("tcp".to_owned())),
        ];
        let back = [
            (Field::In, self.public()),
            (Field::Out, Some(self.name.to_string())),
            (Field::Destination, self.guest()),
            (Field::DestinationType, Some("unicast".to_owned())),
            (Field::Protocol, Some("tcp".to_owned())),
        ];
        let with = |fields: &[(Field, Option<String>)], state: &str, status: &str| {
            let flow = [(Field::State, Some(state.to_owned())), (Field::Status, Some(status.to_owned()))];
            fields.iter().cloned().chain(flow).collect::<Fields>()
        };
        let mut passages = vec![
            self.passage(Way::Leaves, with(&out, "new", "none")),
            self.passage(Way::Answers, with(&back, "established", "snat")),
        ];
        if self.site.floating.contains(&self.family) {
            passages.push(self.passage(Way::Comes, with(&back, "new", "dnat")));
        }
        passages
    }

    /// What the host itself is asked for: by who has no address yet, and by who has one.
    fn to_gateway(&self) -> Vec<Passage<'a>> {
        let (nobody, servers, servers_type, ports) = match self.family {
            Family::Ipv4 => ("0.0.0.0", "255.255.255.255", "broadcast", ("68", "67")),
            Family::Ipv6 => ("fe80::1", "ff02::1:2", "multicast", ("546", "547")),
        };
        let dhcp = [
            (Field::Source, Some(nobody.to_owned())),
            (Field::Destination, Some(servers.to_owned())),
            (Field::DestinationType, Some(servers_type.to_owned())),
        ];
        let dns = [
            (Field::Source, self.guest()),
            (Field::Destination, self.gateway()),
            (Field::DestinationType, Some("local".to_owned())),
        ];
        vec![
            self.passage(Way::Dhcp, self.datagram(ports, dhcp)),
            self.passage(Way::Dns, self.datagram(("49152", "53"), dns)),
        ]
    }

    /// What the host answers in place of the metadata service.
    fn metadata(&self) -> Option<Passage<'a>> {
        let port = self.site.metadata.filter(|_| self.family == Family::Ipv4)?;
        let fields = vec![
            (Field::In, Some(self.name.to_string())),
            (Field::Source, self.guest()),
            (Field::Destination, self.gateway()),
            (Field::DestinationType, Some("local".to_owned())),
            (Field::Protocol, Some("tcp".to_owned())),
            (Field::SourcePort, Some("49152".to_owned())),
            (Field::DestinationPort, Some(port.to_string())),
            (Field::State, Some("new".to_owned())),
            (Field::Status, Some("dnat".to_owned())),
        ];
        Some(self.passage(Way::Metadata, fields))
    }

    fn datagram(&self, (from, to): (&str, &str), addresses: [(Field, Option<String>); 3]) -> Fields {
        let fields = [
            (Field::In, Some(self.name.to_string())),
            (Field::Protocol, Some("udp".to_owned())),
            (Field::SourcePort, Some(from.to_owned())),
            (Field::DestinationPort, Some(to.to_owned())),
            (Field::State, Some("new".to_owned())),
        ];
        fields.into_iter().chain(addresses).collect()
    }

    /// What is bridged and meets the chains of IP all the same, as coming and going by the bridge.
    fn bridged(&self) -> Passage<'a> {
        let name = Some(self.name.to_string());
        let fields = vec![
            (Field::In, name.clone()),
            (Field::Out, name),
            (Field::Source, self.guest()),
            (Field::Protocol, Some("tcp".to_owned())),
            (Field::State, Some("new".to_owned())),
        ];
        self.passage(Way::Bridged, fields)
    }

    /// From an instance's device to the next port.
    fn frame(&self) -> Option<Passage<'a>> {
        let mut ports = self.bridge.ports.keys().chain(&self.bridge.leads_out);
        let port = ports.next().filter(|port| self.bridge.ports.contains_key(*port))?;
        let fields = vec![
            (Field::In, Some(port.to_string())),
            (Field::Out, ports.next().map(LinkName::to_string)),
            (Field::Source, self.guest()),
            (Field::Protocol, Some("tcp".to_owned())),
            (Field::State, Some("new".to_owned())),
        ];
        Some(Passage { is_frame: true, ..self.passage(Way::Bridged, fields) })
    }

    fn passage(&self, way: Way, fields: Fields) -> Passage<'a> {
        let family = match self.family {
            Family::Ipv4 => "ipv4",
            Family::Ipv6 => "ipv6",
        };
        let is_bridged = if way == Way::Bridged { "yes" } else { "no" };
        let common = [
            (Field::Family, Some(family.to_owned())),
            (Field::Bridged, Some(is_bridged.to_owned())),
            (Field::Status, Some("none".to_owned())),
        ];
        // What is told of this packet comes last and wins.
        let fields = common.into_iter().chain(fields);
        let packet = Packet(fields.filter_map(|(field, value)| Some((field, value?))).collect());
        Passage { way, bridge: self.name, family: self.family, is_frame: false, packet }
    }

    fn public(&self) -> Option<String> {
        self.public.map(LinkName::to_string)
    }

    fn gateway(&self) -> Option<String> {
        let mut gateways = self.bridge.gateways.iter().map(ipnet::IpNet::addr);
        Some(gateways.find(|gateway| Family::of(*gateway) == self.family)?.to_string())
    }

    fn guest(&self) -> Option<String> {
        self.bridge.guest(self.family).as_ref().map(IpAddr::to_string)
    }
}
