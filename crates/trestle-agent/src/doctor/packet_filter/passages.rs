//! The packets that must pass for instances to have their network, one of each kind.

use std::fmt;
use std::net::IpAddr;

use trestle_core::ownership::Owner;
use trestle_core::types::{Family, LinkName};
use trestle_core::world::VPN_PORT;

use crate::doctor::rules::{Field, Packet};
use crate::doctor::site::{Bridge, Site};
use crate::host::linux::look::{Device, Devices};

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    Leaves,
    Answers,
    Comes,
    Bridged,
    Vpn,
    Dhcp,
    Dns,
    Metadata,
    Echo,
}

impl Way {
    /// Whether it ends at the host itself.
    pub(super) fn is_to_host(self) -> bool {
        matches!(self, Self::Dhcp | Self::Dns | Self::Metadata | Self::Echo)
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Leaves => "what instances send outside",
            Self::Answers => "answers from outside",
            Self::Comes => "what is sent to floating IPs",
            Self::Bridged => "what instances on one bridge send to each other",
            Self::Vpn => "what is sent to VPNs",
            Self::Dhcp => "instances' requests for an address",
            Self::Dns => "instances' questions to the DNS of their gateway",
            Self::Metadata => "what instances ask the metadata service",
            Self::Echo => "instances' pings of their gateway",
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
    pub(super) extent: Extent,
    pub(super) packet: Packet,
}

/// How much a packet stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Extent {
    /// One that has to pass: who drops it breaks something.
    Needed,
    /// Whatever goes the same way. Who drops all that nothing accepts has a reason; a rule that drops a
    /// part of it by name may be meant otherwise.
    Anything,
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
    let public = ways_out(site, devices);
    let public = &public[..];
    let mut passages = Vec::new();
    for (name, bridge) in &site.bridges {
        for family in [Family::Ipv4, Family::Ipv6] {
            let maker = Maker { site, public, name, bridge, family };
            if bridge.is_routed(family) {
                passages.extend(maker.routed());
                passages.extend(maker.to_gateway());
                passages.extend(maker.metadata());
                passages.extend(maker.vpns());
                passages.push(maker.echo());
            }
            let is_filtered = filters_all || devices.get(name).is_some_and(|device| device.filters_bridged);
            if !bridge.guests(family).is_empty() && is_filtered {
                passages.extend(with_anything(maker.bridged()));
            }
        }
        let maker = Maker { site, public, name, bridge, family: Family::Ipv4 };
        passages.extend(maker.frame().into_iter().flat_map(with_anything));
    }
    passages.sort_by_key(|passage| passage.extent);
    passages
}

/// The same, and whatever goes the same way.
fn with_anything(passage: Passage<'_>) -> [Passage<'_>; 2] {
    let mut anything = Passage { extent: Extent::Anything, ..passage.clone() };
    anything.packet.0.remove(&Field::Protocol);
    [passage, anything]
}

/// What leads outside: where nobody says what does, every device that may.
fn ways_out(site: &Site, devices: &Devices) -> Vec<String> {
    let may_lead_out = |name: &&LinkName| {
        let is_other = |device: &Device| device.owner != Owner::Ours && !device.is_bridge;
        name.as_str() != "lo" && devices.get(*name).is_some_and(is_other)
    };
    match site.way_out(devices) {
        Some(public) => vec![public.to_string()],
        None => devices.keys().filter(may_lead_out).map(LinkName::to_string).collect(),
    }
}

/// What is known of a packet, and, where it is empty, what is not.
type Fields = Vec<(Field, Vec<String>)>;

fn one(value: impl ToString) -> Vec<String> {
    vec![value.to_string()]
}

struct Maker<'a, 'p> {
    site: &'a Site,
    public: &'p [String],
    name: &'a LinkName,
    bridge: &'a Bridge,
    family: Family,
}

impl<'a> Maker<'a, '_> {
    /// TCP stands for all: who accepts that alone has a reason.
    fn routed(&self) -> Vec<Passage<'a>> {
        let out = [
            (Field::In, one(self.name)),
            (Field::Out, self.public.to_vec()),
            (Field::Source, self.guests()),
            (Field::DestinationType, one("unicast")),
            (Field::Protocol, one("tcp")),
        ];
        let back = [
            (Field::In, self.public.to_vec()),
            (Field::Out, one(self.name)),
            (Field::Destination, self.guests()),
            (Field::DestinationType, one("unicast")),
            (Field::Protocol, one("tcp")),
        ];
        // To the port that was asked from.
        let answer: Fields = [&back[..], &[(Field::DestinationPort, one("49152"))]].concat();
        let with = |fields: &[(Field, Vec<String>)], state: &str, status: &str| {
            let flow = [(Field::State, one(state)), (Field::Status, one(status))];
            fields.iter().cloned().chain(flow).collect::<Fields>()
        };
        let mut passages = vec![
            self.passage(Way::Leaves, with(&out, "new", "none")),
            self.passage(Way::Answers, with(&answer, "established", "snat")),
        ];
        if self.site.floating.contains(&self.family) {
            passages.push(self.passage(Way::Comes, with(&back, "new", "dnat")));
        }
        passages.into_iter().flat_map(with_anything).collect()
    }

    /// What clients send to a VPN, once it was led there.
    fn vpns(&self) -> impl Iterator<Item = Passage<'a>> {
        let ports = self.bridge.vpns.iter().filter_map(|device| self.bridge.ports.get(device));
        ports.filter(|_| self.family == Family::Ipv4).map(|port| {
            let addresses = port.addresses.iter().filter(|address| Family::of(**address) == self.family);
            let fields = vec![
                (Field::In, self.public.to_vec()),
                (Field::Out, one(self.name)),
                (Field::Destination, addresses.map(ToString::to_string).collect()),
                (Field::DestinationType, one("unicast")),
                (Field::Protocol, one("udp")),
                (Field::DestinationPort, one(VPN_PORT)),
                (Field::State, one("new")),
                (Field::Status, one("dnat")),
            ];
            self.passage(Way::Vpn, fields)
        })
    }

    /// What the host itself is asked for: by who has no address yet, and by who has one.
    fn to_gateway(&self) -> Vec<Passage<'a>> {
        let (nobody, servers, servers_type, ports) = match self.family {
            Family::Ipv4 => ("0.0.0.0", "255.255.255.255", "broadcast", ("68", "67")),
            Family::Ipv6 => ("fe80::1", "ff02::1:2", "multicast", ("546", "547")),
        };
        let dhcp = [
            (Field::Source, one(nobody)),
            (Field::Destination, one(servers)),
            (Field::DestinationType, one(servers_type)),
        ];
        let dns = [
            (Field::Source, self.guests()),
            (Field::Destination, self.gateway()),
            (Field::DestinationType, one("local")),
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
            (Field::In, one(self.name)),
            (Field::Source, self.guests()),
            (Field::Destination, self.gateway()),
            (Field::DestinationType, one("local")),
            (Field::Protocol, one("tcp")),
            (Field::SourcePort, one("49152")),
            (Field::DestinationPort, one(port)),
            (Field::State, one("new")),
            (Field::Status, one("dnat")),
        ];
        Some(self.passage(Way::Metadata, fields))
    }

    /// What else a gateway is sent; with the message of MLD the header says of itself only that there are
    /// options. Who lets none of it in has a reason.
    fn echo(&self) -> Passage<'a> {
        let protocols = match self.family {
            Family::Ipv4 => ["icmp", "igmp"],
            Family::Ipv6 => ["ipv6-icmp", "hopopt"],
        };
        let fields = vec![
            (Field::In, one(self.name)),
            (Field::Source, self.guests()),
            (Field::Destination, self.gateway()),
            (Field::DestinationType, one("local")),
            (Field::Protocol, protocols.map(str::to_owned).into()),
            (Field::Message, one("echo-request")),
            (Field::State, one("new")),
        ];
        Passage { extent: Extent::Anything, ..self.passage(Way::Echo, fields) }
    }

    fn datagram(&self, (from, to): (&str, &str), addresses: [(Field, Vec<String>); 3]) -> Fields {
        let fields = [
            (Field::In, one(self.name)),
            (Field::Protocol, one("udp")),
            (Field::SourcePort, one(from)),
            (Field::DestinationPort, one(to)),
            (Field::State, one("new")),
        ];
        fields.into_iter().chain(addresses).collect()
    }

    /// What is bridged and meets the chains of IP all the same, as coming and going by the bridge.
    fn bridged(&self) -> Passage<'a> {
        let name = one(self.name);
        let fields = vec![
            (Field::In, name.clone()),
            (Field::Out, name),
            (Field::Source, self.guests()),
            (Field::Protocol, one("tcp")),
            (Field::State, one("new")),
        ];
        self.passage(Way::Bridged, fields)
    }

    /// From an instance's device to another port.
    fn frame(&self) -> Option<Passage<'a>> {
        let ports: Vec<String> = self.bridge.ports.keys().map(LinkName::to_string).collect();
        let others = self.bridge.leads_out.iter().map(LinkName::to_string);
        let all: Vec<String> = ports.iter().cloned().chain(others).collect();
        let fields = vec![
            (Field::Out, if all.len() > 1 { all } else { Vec::new() }),
            (Field::In, Some(ports).filter(|ports| !ports.is_empty())?),
            (Field::Source, self.guests()),
            (Field::Protocol, one("tcp")),
            (Field::State, one("new")),
        ];
        Some(Passage { is_frame: true, ..self.passage(Way::Bridged, fields) })
    }

    fn passage(&self, way: Way, fields: Fields) -> Passage<'a> {
        let family = match self.family {
            Family::Ipv4 => "ipv4",
            Family::Ipv6 => "ipv6",
        };
        let is_bridged = if way == Way::Bridged { "yes" } else { "no" };
        let common =
            [(Field::Family, one(family)), (Field::Bridged, one(is_bridged)), (Field::Status, one("none"))];
        // What is told of this packet comes last and wins.
        let fields = common.into_iter().chain(fields);
        let packet = Packet(fields.filter(|(_, values)| !values.is_empty()).collect());
        let extent = Extent::Needed;
        Passage { way, bridge: self.name, family: self.family, is_frame: false, extent, packet }
    }

    fn gateway(&self) -> Vec<String> {
        let mut gateways = self.bridge.gateways.iter().map(ipnet::IpNet::addr);
        gateways.find(|gateway| Family::of(*gateway) == self.family).iter().map(IpAddr::to_string).collect()
    }

    fn guests(&self) -> Vec<String> {
        self.bridge.guests(self.family).iter().map(IpAddr::to_string).collect()
    }
}
