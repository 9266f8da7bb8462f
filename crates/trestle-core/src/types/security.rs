//! The words of security groups and of the guard.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Cidr, Family, Mac, serde_as_text};

/// Seen from the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// To it.
    Ingress,
    /// From it.
    Egress,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}

/// A protocol over IP: `tcp`, `udp`, `sctp`, `icmp`, `icmpv6` or its number (IANA, assigned Internet
/// protocol numbers).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpProtocol(u8);

/// Why a text is not an [`IpProtocol`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an IP protocol: use tcp, udp, sctp, icmp, icmpv6 or a number from 1 to 254")]
pub struct InvalidIpProtocol(String);

impl IpProtocol {
    /// RFC 792.
    pub const ICMP: Self = Self(1);
    /// RFC 9293.
    pub const TCP: Self = Self(6);
    /// RFC 768.
    pub const UDP: Self = Self(17);
    /// RFC 4443.
    pub const ICMPV6: Self = Self(58);
    /// RFC 9260.
    pub const SCTP: Self = Self(132);
    const NAMED: [(&'static str, Self); 5] = [
        ("icmp", Self::ICMP),
        ("tcp", Self::TCP),
        ("udp", Self::UDP),
        ("icmpv6", Self::ICMPV6),
        ("sctp", Self::SCTP),
    ];

    /// The protocol with this number; `None` for 0, which begins a chain of IPv6 headers, and for 255,
    /// which is reserved.
    pub fn new(number: u8) -> Option<Self> {
        (1..255).contains(&number).then_some(Self(number))
    }

    /// Its number.
    pub fn number(self) -> u8 {
        self.0
    }

    /// Whether its messages have ports.
    pub fn has_ports(self) -> bool {
        matches!(self, Self::TCP | Self::UDP | Self::SCTP)
    }

    /// The one family that it belongs to, if it does.
    pub fn family(self) -> Option<Family> {
        match self {
            Self::ICMP => Some(Family::Ipv4),
            Self::ICMPV6 => Some(Family::Ipv6),
            _ => None,
        }
    }
}

impl FromStr for IpProtocol {
    type Err = InvalidIpProtocol;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = Self::NAMED.into_iter().find(|(name, _)| *name == text);
        let number = || text.parse().ok().and_then(Self::new);
        named.map(|(_, protocol)| protocol).or_else(number).ok_or_else(|| InvalidIpProtocol(text.to_owned()))
    }
}

impl fmt::Display for IpProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMED.into_iter().find(|(_, protocol)| protocol == self) {
            Some((name, _)) => f.write_str(name),
            None => self.0.fmt(f),
        }
    }
}

serde_as_text!(IpProtocol);

/// Some ports, the first and the last among them: `80` or `8000-8080`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// Why a text is not a [`PortRange`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a range of ports: write it as 80 or 8000-8080, from 1 to 65535")]
pub struct InvalidPortRange(String);

impl PortRange {
    /// The first.
    pub fn first(self) -> u16 {
        self.first
    }

    /// The last.
    pub fn last(self) -> u16 {
        self.last
    }

    /// Whether the port is among them.
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl FromStr for PortRange {
    type Err = InvalidPortRange;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range = first.parse().ok().zip(last.parse().ok());
        let range = range.filter(|(first, last)| *first > 0 && first <= last);
        range.map(|(first, last)| Self { first, last }).ok_or_else(|| InvalidPortRange(text.to_owned()))
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { self.first.fmt(f) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

serde_as_text!(PortRange);

/// A type of ICMP messages, and a code where one is meant: `8`, `3/4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IcmpType {
    /// The type.
    pub number: u8,
    /// The code; all of them if absent.
    pub code: Option<u8>,
}

/// Why a text is not an [`IcmpType`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a type of ICMP messages: write it as 8, or as 3/4 with its code")]
pub struct InvalidIcmpType(String);

impl FromStr for IcmpType {
    type Err = InvalidIcmpType;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidIcmpType(text.to_owned());
        let (number, code) = match text.split_once('/') {
            Some((number, code)) => (number, Some(code.parse().map_err(|_| invalid())?)),
            None => (text, None),
        };
        Ok(Self { number: number.parse().map_err(|_| invalid())?, code })
    }
}

impl fmt::Display for IcmpType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "{}/{code}", self.number),
            None => self.number.fmt(f),
        }
    }
}

serde_as_text!(IcmpType);

/// What an Ethernet frame carries, by number (IEEE 802 numbers, RFC 9542): `0x88cc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EtherType(u16);

/// Why a text is not an [`EtherType`] that may be allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEtherType {
    /// Not four hexadecimal digits.
    #[error("`{0}` is not an EtherType: write it as 0x8863, from 0x0600 on")]
    Syntax(String),
    /// One that the guard itself looks into, or that hides what is inside.
    #[error(
        "EtherType {0} cannot be allowed: IPv4, ARP and IPv6 pass as they are guarded, and tags never do"
    )]
    Guarded(String),
}

impl EtherType {
    /// What a network's guard knows itself: IPv4, ARP, IPv6, and the tags of IEEE 802.1Q.
    const GUARDED: [u16; 5] = [0x0800, 0x0806, 0x86dd, 0x8100, 0x88a8];

    /// Its number.
    pub fn number(self) -> u16 {
        self.0
    }
}

impl FromStr for EtherType {
    type Err = InvalidEtherType;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix("0x").filter(|digits| digits.len() == 4);
        let number = digits.and_then(|digits| u16::from_str_radix(digits, 16).ok());
        match number.filter(|number| *number >= 0x0600) {
            Some(number) if Self::GUARDED.contains(&number) => {
                Err(InvalidEtherType::Guarded(text.to_owned()))
            }
            Some(number) => Ok(Self(number)),
            None => Err(InvalidEtherType::Syntax(text.to_owned())),
        }
    }
}

impl fmt::Display for EtherType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:04x}", self.0)
    }
}

serde_as_text!(EtherType);

/// Addresses that a guest may send from besides its own: one, such as a router's of VRRP, or a whole
/// range that it routes for. Written `10.0.0.9`, `10.9.0.0/16` or, with a MAC that is not its own,
/// `10.0.0.9,00:00:5e:00:01:07`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressPair {
    /// The addresses.
    pub range: Cidr,
    /// The MAC that it sends them from; its own if absent.
    pub mac: Option<Mac>,
}

/// Why a text is not an [`AddressPair`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an allowed address pair: write it as 10.0.0.9 or 10.9.0.0/16, with `,` and a MAC if that is not its own"
)]
pub struct InvalidAddressPair(String);

impl FromStr for AddressPair {
    type Err = InvalidAddressPair;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidAddressPair(text.to_owned());
        let (range, mac) = match text.split_once(',') {
            Some((range, mac)) => (range, Some(mac.parse().map_err(|_| invalid())?)),
            None => (text, None),
        };
        let one = || Some(Cidr::new(ipnet::IpNet::from(range.parse::<std::net::IpAddr>().ok()?)));
        let range = range.parse().ok().or_else(one).ok_or_else(invalid)?;
        Ok(Self { range, mac })
    }
}

impl fmt::Display for AddressPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.range.short())?;
        match self.mac {
            Some(mac) => write!(f, ",{mac}"),
            None => Ok(()),
        }
    }
}

serde_as_text!(AddressPair);
