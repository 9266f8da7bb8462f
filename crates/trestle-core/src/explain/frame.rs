//! A packet at one place of its way, and what nftables can ask of it there.

use std::fmt;
use std::net::IpAddr;

use crate::types::{Family, IcmpType, IpProtocol, LinkName, Mac};

/// The packet as it is now.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) inbound: Option<LinkName>,
    pub(super) outbound: Option<LinkName>,
    pub(super) sender_mac: Option<Mac>,
    pub(super) receiver_mac: Option<Mac>,
    pub(super) source: Source,
    pub(super) destination: IpAddr,
    pub(super) protocol: IpProtocol,
    pub(super) port: Option<u16>,
    pub(super) icmp: Option<IcmpType>,
    pub(super) mark: u64,
    pub(super) flow: Flow,
    pub(super) now: i64,
}

/// From which address a packet comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Known(IpAddr),
    /// A host put one of its own in its place: one of these, and where there is none, nobody said which
    /// those are.
    OneOf(Vec<IpAddr>),
}

impl Source {
    pub(super) fn known(&self) -> Option<IpAddr> {
        match self {
            Self::Known(address) => Some(*address),
            Self::OneOf(_) => None,
        }
    }
}

/// How the connection began on this host: each host sees one of its own.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    source: Source,
    destination: IpAddr,
    port: Option<u16>,
    pub(super) is_translated: bool,
}

/// What a rule asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Inbound,
    Outbound,
    SenderMac,
    ReceiverMac,
    EtherType,
    Nfproto,
    Source(Family),
    Destination(Family),
    Protocol,
    /// As the packet's own header says.
    ProtocolIn(Family),
    HeaderLength,
    Port(Option<IpProtocol>),
    SourcePort(Option<IpProtocol>),
    IcmpType(IpProtocol),
    IcmpCode(IpProtocol),
    /// The address that a message of neighbour discovery is about.
    Target,
    FragmentOffset,
    Mark,
    FlowMark,
    Time,
    PacketType,
    OriginalSource(Family),
    OriginalDestination(Family),
    OriginalPort,
    ReplySource(Family),
    ReplyPort,
    FlowState,
    FlowStatus,
    FlowDirection,
    /// What none of the packets that are explained is or has: ARP, IGMP, neighbour discovery, DHCP, options,
    /// extension headers.
    Never,
}

impl Field {
    /// Each by its name in nftables.
    const NAMED: [(&'static str, Self); 59] = [
        ("iifname", Self::Inbound),
        ("oifname", Self::Outbound),
        ("ether saddr", Self::SenderMac),
        ("ether daddr", Self::ReceiverMac),
        ("ether type", Self::EtherType),
        ("ip saddr", Self::Source(Family::Ipv4)),
        ("ip6 saddr", Self::Source(Family::Ipv6)),
        ("ip daddr", Self::Destination(Family::Ipv4)),
        ("ip6 daddr", Self::Destination(Family::Ipv6)),
        ("ip protocol", Self::ProtocolIn(Family::Ipv4)),
        ("ip frag-off", Self::FragmentOffset),
        ("ip hdrlength", Self::HeaderLength),
        ("ip6 length", Self::Never),
        ("ip6 nexthdr", Self::ProtocolIn(Family::Ipv6)),
        ("exthdr rt", Self::Never),
        ("igmp type", Self::Never),
        ("arp htype", Self::Never),
        ("arp ptype", Self::Never),
        ("arp hlen", Self::Never),
        ("arp plen", Self::Never),
        ("@nh,160,32", Self::Never),
        ("@th,64,8", Self::Never),
        ("@th,64,24", Self::Never),
        ("@th,80,48", Self::Never),
        ("@th,208,48", Self::Never),
        ("@th,288,48", Self::Never),
        ("ip6 hoplimit", Self::Never),
        ("arp saddr ether", Self::Never),
        ("arp saddr ip", Self::Never),
        ("arp daddr ip", Self::Never),
        ("arp operation", Self::Never),
        ("meta l4proto", Self::Protocol),
        ("meta nfproto", Self::Nfproto),
        ("meta protocol", Self::EtherType),
        ("meta mark", Self::Mark),
        ("meta time", Self::Time),
        ("meta pkttype", Self::PacketType),
        ("th sport", Self::SourcePort(None)),
        ("th dport", Self::Port(None)),
        ("tcp dport", Self::Port(Some(IpProtocol::TCP))),
        ("udp dport", Self::Port(Some(IpProtocol::UDP))),
        ("udp sport", Self::SourcePort(Some(IpProtocol::UDP))),
        ("icmp type", Self::IcmpType(IpProtocol::ICMP)),
        ("icmp code", Self::IcmpCode(IpProtocol::ICMP)),
        ("icmpv6 type", Self::IcmpType(IpProtocol::ICMPV6)),
        ("icmpv6 code", Self::IcmpCode(IpProtocol::ICMPV6)),
        ("@th,64,128", Self::Target),
        ("ct mark", Self::FlowMark),
        ("ct state", Self::FlowState),
        ("ct status", Self::FlowStatus),
        ("ct direction", Self::FlowDirection),
        ("ct original ip saddr", Self::OriginalSource(Family::Ipv4)),
        ("ct original ip6 saddr", Self::OriginalSource(Family::Ipv6)),
        ("ct original ip daddr", Self::OriginalDestination(Family::Ipv4)),
        ("ct original ip6 daddr", Self::OriginalDestination(Family::Ipv6)),
        ("ct original proto-dst", Self::OriginalPort),
        ("ct reply ip saddr", Self::ReplySource(Family::Ipv4)),
        ("ct reply ip6 saddr", Self::ReplySource(Family::Ipv6)),
        ("ct reply proto-src", Self::ReplyPort),
    ];

    /// The field that these words begin with, and how many of them are its name.
    pub(super) fn read(words: &[&str]) -> Option<(Self, usize)> {
        (1..=words.len().min(4)).rev().find_map(|length| {
            let name = words[..length].join(" ");
            let (_, field) = Self::NAMED.into_iter().find(|(named, _)| *named == name)?;
            Some((field, length))
        })
    }
}

/// What a packet has in a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// It has no such field: a rule that asks for it does not match.
    Absent,
    /// It has one, of a host's own, but which is not known here: one of these, or any if there is none.
    Unknown(Vec<IpAddr>),
    Word(String),
    Mac(Mac),
    Address(IpAddr),
    Number(i128),
}

impl Value {
    fn number(number: impl Into<i128>) -> Self {
        Self::Number(number.into())
    }

    fn optional<T>(value: Option<T>, make: impl Fn(T) -> Self) -> Self {
        value.map_or(Self::Absent, make)
    }

    /// Whether it is what one of these words of nftables means; `None` if that is not known.
    pub(super) fn is_any<'w>(&self, words: impl Iterator<Item = &'w str> + Clone) -> Option<bool> {
        let Self::Unknown(addresses) = self else {
            return Some({ words }.any(|word| self.is(word)));
        };
        let is_all = |word: &str| word.parse().is_ok_and(|range: ipnet::IpNet| range.prefix_len() == 0);
        if words.clone().any(is_all) {
            return Some(true);
        }
        let is_meant = |address: &&IpAddr| words.clone().any(|word| Self::Address(**address).is(word));
        match addresses.iter().filter(is_meant).count() {
            0 => (!addresses.is_empty()).then_some(false),
            meant => (meant == addresses.len()).then_some(true),
        }
    }

    /// Whether it is what this word of nftables means: a name, a number, an address, a range of these.
    pub(super) fn is(&self, word: &str) -> bool {
        let word = word.trim_matches('"');
        match self {
            Self::Absent | Self::Unknown(_) => false,
            Self::Word(own) => match word.strip_suffix('*') {
                Some(start) => own.starts_with(start),
                None => own == word,
            },
            Self::Mac(mac) => mac.to_string() == word,
            Self::Address(address) => match word.parse::<ipnet::IpNet>() {
                Ok(range) => range.contains(address),
                Err(_) => word.parse() == Ok(*address),
            },
            Self::Number(number) => {
                let (first, last) = word
                    .split_once('-')
                    .and_then(|(a, b)| a.parse().ok().zip(b.parse().ok()))
                    .or_else(|| self::number(word).map(|one| (one, one)))
                    .unwrap_or((1, 0));
                (first..=last).contains(number)
            }
        }
    }
}

/// As it stands in an element.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent | Self::Unknown(_) => Ok(()),
            Self::Word(word) => f.write_str(word),
            Self::Mac(mac) => mac.fmt(f),
            Self::Address(address) => address.fmt(f),
            Self::Number(number) => number.fmt(f),
        }
    }
}

/// A number in nftables' words. No name stands for two.
pub(super) fn number(word: &str) -> Option<i128> {
    const NAMED: [(&str, i128); 21] = [
        ("icmp", 1),
        ("igmp", 2),
        ("tcp", 6),
        ("udp", 17),
        ("ipv6-icmp", 58),
        ("mld-listener-query", 130),
        ("mld-listener-report", 131),
        ("mld-listener-done", 132),
        ("nd-router-solicit", 133),
        ("nd-router-advert", 134),
        ("nd-neighbor-solicit", 135),
        ("nd-neighbor-advert", 136),
        ("nd-redirect", 137),
        ("mld2-listener-report", 143),
        ("ip", 0x0800),
        ("ip6", 0x86dd),
        ("8021q", 0x8100),
        ("8021ad", 0x88a8),
        ("ipv4", 2),
        ("ipv6", 10),
        ("sctp", 132),
    ];
    let named = NAMED.into_iter().find(|(name, _)| *name == word).map(|(_, number)| number);
    let hexadecimal = || i128::from_str_radix(word.strip_prefix("0x")?, 16).ok();
    named.or_else(hexadecimal).or_else(|| word.parse().ok())
}

impl Frame {
    pub(super) fn family(&self) -> Family {
        Family::of(self.destination)
    }

    /// A host that has not seen it before takes it for the beginning of a connection.
    pub(super) fn begin(&mut self) {
        self.flow = Flow::of(self.source.clone(), self.destination, self.port);
        self.mark = 0;
    }

    /// Where it leads by the translation of the host that it is on.
    pub(super) fn lead_to(&mut self, address: IpAddr, port: Option<u16>) {
        self.destination = address;
        self.port = port.or(self.port);
        self.flow.is_translated = true;
    }

    pub(super) fn value(&self, field: Field) -> Value {
        match field {
            Field::Inbound => Value::optional(self.inbound.as_ref(), |link| Value::Word(link.to_string())),
            Field::Outbound => Value::optional(self.outbound.as_ref(), |link| Value::Word(link.to_string())),
            Field::SenderMac => Value::optional(self.sender_mac, Value::Mac),
            Field::ReceiverMac => Value::optional(self.receiver_mac, Value::Mac),
            Field::EtherType => self.of_family(Value::Number(0x0800), Value::Number(0x86dd)),
            Field::Nfproto => self.of_family(Value::Number(2), Value::Number(10)),
            Field::Source(family) => self.source_in(family, &self.source),
            Field::Destination(family) => self.in_family(family, self.destination),
            Field::Protocol => Value::number(self.protocol.number()),
            Field::ProtocolIn(family) if family != self.family() => Value::Absent,
            Field::ProtocolIn(_) => Value::number(self.protocol.number()),
            Field::HeaderLength => self.of_family(Value::Number(5), Value::Absent),
            Field::Port(of) => self.port_of(of, self.port),
            Field::SourcePort(of) => self.port_of(of, Some(self.source_port())),
            Field::IcmpType(of) => self.of_icmp(of, |icmp| icmp.number),
            Field::IcmpCode(of) => self.of_icmp(of, |icmp| icmp.code.unwrap_or(0)),
            Field::Target => self.target(),
            Field::FragmentOffset => self.of_family(Value::Number(0), Value::Absent),
            Field::Mark => Value::number(self.mark),
            Field::Time => Value::number(self.now),
            Field::PacketType => Value::Word("unicast".to_owned()),
            Field::FlowState => self.state(),
            Field::FlowMark | Field::Never => Value::Absent,
            _ => self.of_flow(field),
        }
    }

    /// What nftables asks of a connection; a packet that begins none has nothing of it.
    fn of_flow(&self, field: Field) -> Value {
        if !self.begins_a_flow() {
            return Value::Absent;
        }
        match field {
            Field::OriginalSource(family) => self.source_in(family, &self.flow.source),
            Field::OriginalDestination(family) => self.in_family(family, self.flow.destination),
            Field::OriginalPort => self.port_of(None, self.flow.port),
            Field::ReplySource(family) => self.in_family(family, self.destination),
            Field::ReplyPort => self.port_of(None, self.port),
            Field::FlowStatus if self.flow.is_translated => Value::Word("dnat".to_owned()),
            Field::FlowDirection => Value::Word("original".to_owned()),
            _ => Value::Absent,
        }
    }

    /// Of ICMP only what asks for an answer begins a connection (net/netfilter/nf_conntrack_proto_icmp.c and
    /// _icmpv6.c); what neighbours and routers say to each other is not followed at all.
    pub(super) fn begins_a_flow(&self) -> bool {
        match (self.protocol, self.icmp) {
            (IpProtocol::ICMP, Some(icmp)) => matches!(icmp.number, 8 | 13 | 15 | 17),
            (IpProtocol::ICMPV6, Some(icmp)) => matches!(icmp.number, 128 | 139),
            _ => true,
        }
    }

    fn state(&self) -> Value {
        let number = self.icmp.filter(|_| self.protocol == IpProtocol::ICMPV6).map(|icmp| icmp.number);
        let state = match number {
            _ if self.begins_a_flow() => "new",
            Some(130..=136 | 143) => "untracked",
            _ => "invalid",
        };
        Value::Word(state.to_owned())
    }

    fn of_family(&self, ipv4: Value, ipv6: Value) -> Value {
        if self.family() == Family::Ipv4 { ipv4 } else { ipv6 }
    }

    fn in_family(&self, family: Family, address: IpAddr) -> Value {
        if Family::of(address) == family { Value::Address(address) } else { Value::Absent }
    }

    fn source_in(&self, family: Family, source: &Source) -> Value {
        match source {
            _ if self.family() != family => Value::Absent,
            Source::Known(source) => Value::Address(*source),
            Source::OneOf(addresses) => Value::Unknown(addresses.clone()),
        }
    }

    fn port_of(&self, of: Option<IpProtocol>, port: Option<u16>) -> Value {
        let is_of = of.is_none_or(|of| of == self.protocol) && self.protocol.has_ports();
        Value::optional(port.filter(|_| is_of), Value::number)
    }

    /// A client chooses any but those that DHCP has for itself, and DHCP's chooses that one (RFC 2131 §4.1,
    /// RFC 8415 §7.2).
    fn source_port(&self) -> u16 {
        match self.port {
            Some(67) => 68,
            Some(547) => 546,
            _ => 49152,
        }
    }

    fn of_icmp(&self, of: IpProtocol, part: impl Fn(IcmpType) -> u8) -> Value {
        let icmp = self.icmp.filter(|_| self.protocol == of);
        Value::optional(icmp, |icmp| Value::number(part(icmp)))
    }

    /// Who asks, asks for whom it writes to; who advertises, itself.
    fn target(&self) -> Value {
        let address = match self.icmp.map(|icmp| icmp.number) {
            Some(136) => self.source.known(),
            _ => Some(self.destination),
        };
        match address {
            Some(IpAddr::V6(address)) => Value::Word(format!("{:#x}", address.to_bits())),
            _ => Value::Absent,
        }
    }
}

impl Flow {
    pub(super) fn of(source: Source, destination: IpAddr, port: Option<u16>) -> Self {
        Self { source, destination, port, is_translated: false }
    }
}
