//! The vocabulary as types: a wrong value cannot be built.
//!
//! Everything that enters Trestle, from a request body or a command line, is parsed into one of
//! these at the door. Nothing behind the door checks again.

mod address;
mod dhcp;
mod metadata;
mod security;
mod vpn;

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use address::{AddressRange, Cidr, Family, InvalidAddressRange, InvalidCidr};
pub use dhcp::{DhcpOption, InvalidDhcpOption};
pub use metadata::{InvalidMetadataHost, METADATA_ADDRESS, MetadataHost, MetadataService};
pub use security::{
    AddressPair, Direction, EtherType, IcmpType, InvalidAddressPair, InvalidEtherType, InvalidIcmpType,
    InvalidIpProtocol, InvalidPortRange, IpProtocol, PortRange,
};
pub use vpn::{InvalidVpnKind, VpnEndpoint, VpnKind};

/// Implements `Display`-based serde for a type that has `FromStr`.
macro_rules! serde_as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use serde_as_text;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

id!(
    /// Names a project for life.
    ProjectId
);
id!(
    /// Names a host for life.
    HostId
);
id!(
    /// Names a network for life.
    NetworkId
);
id!(
    /// Names an instance for life.
    InstanceId
);
id!(
    /// Names an interface, an instance's attachment to a network, for life.
    InterfaceId
);
id!(
    /// Names a pool of floating IPs for life.
    PoolId
);
id!(
    /// Names a DNS record for life.
    DnsRecordId
);
id!(
    /// Names a security group for life.
    SecurityGroupId
);
id!(
    /// Names a rule of a security group for life.
    RuleId
);
id!(
    /// Names an address group for life.
    AddressGroupId
);

/// A name people give: one DNS label (RFC 1123 §2.1), so that it can stand in host names, file
/// names and keys as it is. 1 to 63 of `a-z`, `0-9` and `-`, no `-` at either end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// Why a text is not a [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a name: use 1 to 63 of a-z, 0-9 and `-`, with no `-` at either end")]
pub struct InvalidName(String);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_dns_label(text) { Ok(Self(text.to_owned())) } else { Err(InvalidName(text.to_owned())) }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_as_text!(Name);

fn is_dns_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A DNS domain without its final dot (RFC 1035 §2.3.4: at most 253 octets here).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain(String);

/// Why a text is not a [`Domain`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a DNS domain: use labels of a-z, 0-9 and `-` joined by dots, 253 characters at most")]
pub struct InvalidDomain(String);

impl FromStr for Domain {
    type Err = InvalidDomain;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() <= 253 && text.split('.').all(is_dns_label) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidDomain(text.to_owned()))
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_as_text!(Domain);

/// The name of a network device: 1 to 15 bytes (`IFNAMSIZ` less the final NUL, `net/if.h`), with
/// what the kernel's `dev_valid_name` refuses refused here, and only characters that need no
/// quoting in nftables, dnsmasq and sysctl paths.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkName(String);

/// Why a text is not a [`LinkName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLinkName {
    /// Longer than the kernel takes.
    #[error("`{0}` is not a device name: it has {len} bytes, the kernel takes 15", len = .0.len())]
    TooLong(String),
    /// Empty, a path, or with characters that would need quoting.
    #[error("`{0}` is not a device name: use 1 to 15 letters, digits, `-`, `_` and `.`, not `.` or `..`")]
    Characters(String),
}

impl LinkName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LinkName {
    type Err = InvalidLinkName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if text.len() > 15 {
            return Err(InvalidLinkName::TooLong(text.to_owned()));
        }
        if text.is_empty() || text == "." || text == ".." || !text.bytes().all(plain) {
            return Err(InvalidLinkName::Characters(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_as_text!(LinkName);

/// A 48-bit Ethernet address of one station: not a group address, not all zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac([u8; 6]);

/// Why a text or six bytes are not a [`Mac`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not the MAC address of a station: write six bytes as fa:16:3e:00:00:01, the first one even"
)]
pub struct InvalidMac(String);

impl Mac {
    /// Refuses group addresses (the lowest bit of the first byte, IEEE 802) and all zeros.
    pub fn new(bytes: [u8; 6]) -> Result<Self, InvalidMac> {
        if bytes[0] & 1 == 1 || bytes == [0; 6] {
            return Err(InvalidMac(Self(bytes).to_string()));
        }
        Ok(Self(bytes))
    }

    /// A MAC under the original's prefix `fa:16:3e` (reference DM-40) with these last three bytes.
    pub fn generated(tail: [u8; 3]) -> Self {
        Self([0xfa, 0x16, 0x3e, tail[0], tail[1], tail[2]])
    }

    /// The six bytes in the order of the wire.
    pub fn bytes(&self) -> [u8; 6] {
        self.0
    }

    /// The six bytes as one number.
    pub fn to_bits(&self) -> u64 {
        self.0.iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte))
    }

    /// The address that a guest with this MAC makes itself under a prefix (EUI-64, RFC 4291
    /// appendix A): of the prefix only the first 64 bits count.
    pub fn eui64(&self, prefix: Ipv6Net) -> Ipv6Addr {
        let [a, b, c, d, e, g] = self.0;
        let interface = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, g]);
        let network = prefix.network().to_bits() >> 64 << 64;
        Ipv6Addr::from_bits(network | u128::from(interface))
    }

    /// The link-local address that a guest with this MAC makes itself (RFC 4291 §2.5.6).
    pub fn link_local(&self) -> Ipv6Addr {
        self.eui64(Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 64))
    }
}

impl FromStr for Mac {
    type Err = InvalidMac;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || InvalidMac(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() {
            return Err(wrong());
        }
        Self::new(bytes).map_err(|_| wrong())
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

serde_as_text!(Mac);

/// A maximum transmission unit in bytes: 576 (RFC 791, what every host must take, and the least
/// dnsmasq announces) to 9216.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Mtu(u16);

/// Why a number is not an [`Mtu`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an MTU of {0} bytes is not possible: use 576 to 9216")]
pub struct InvalidMtu(u32);

impl Mtu {
    /// Ethernet's own, 1500 bytes.
    pub const ETHERNET: Self = Self(1500);

    /// The number of bytes.
    pub fn bytes(self) -> u16 {
        self.0
    }
}

impl TryFrom<u32> for Mtu {
    type Error = InvalidMtu;

    fn try_from(bytes: u32) -> Result<Self, Self::Error> {
        match u16::try_from(bytes) {
            Ok(small) if (576..=9216).contains(&small) => Ok(Self(small)),
            _ => Err(InvalidMtu(bytes)),
        }
    }
}

impl From<Mtu> for u32 {
    fn from(mtu: Mtu) -> Self {
        mtu.0.into()
    }
}

impl fmt::Display for Mtu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An 802.1Q VLAN id that a network can have: 1 to 4094 (IEEE 802.1Q table 9-2 keeps 0 and 4095).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct VlanId(u16);

/// Why a number is not a [`VlanId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a VLAN id: use 1 to 4094")]
pub struct InvalidVlanId(u32);

impl VlanId {
    /// The lowest.
    pub const MIN: Self = Self(1);

    /// The number on the wire.
    pub fn number(self) -> u16 {
        self.0
    }

    /// The id after it, if there is one.
    pub fn next(self) -> Option<Self> {
        Self::try_from(u32::from(self.0) + 1).ok()
    }

    /// What the original called the device of a VLAN: `vlan100` (reference LX-10).
    pub fn device(self) -> LinkName {
        LinkName(format!("vlan{}", self.0))
    }

    /// What the original called its bridge: `br100` (reference MG-9).
    pub fn bridge(self) -> LinkName {
        LinkName(format!("br{}", self.0))
    }
}

impl TryFrom<u32> for VlanId {
    type Error = InvalidVlanId;

    fn try_from(number: u32) -> Result<Self, Self::Error> {
        match u16::try_from(number) {
            Ok(small) if (1..=4094).contains(&small) => Ok(Self(small)),
            _ => Err(InvalidVlanId(number)),
        }
    }
}

impl From<VlanId> for u32 {
    fn from(vlan: VlanId) -> Self {
        vlan.0.into()
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A protocol with ports (RFC 9293, RFC 768).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Why a text is not a [`Protocol`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a protocol with ports: use tcp or udp")]
pub struct InvalidProtocol(String);

impl Protocol {
    /// Its number in an IP header (IANA, assigned Internet protocol numbers).
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

impl FromStr for Protocol {
    type Err = InvalidProtocol;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            other => Err(InvalidProtocol(other.to_owned())),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

serde_as_text!(Protocol);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_values_cannot_be_built() {
        let messages = [
            "Web".parse::<Name>().unwrap_err().to_string(),
            "a..b".parse::<Domain>().unwrap_err().to_string(),
            "a-very-long-bridge".parse::<LinkName>().unwrap_err().to_string(),
            "br 100".parse::<LinkName>().unwrap_err().to_string(),
            "01:00:5e:00:00:01".parse::<Mac>().unwrap_err().to_string(),
            "fa:16:3e:00:00".parse::<Mac>().unwrap_err().to_string(),
            Mtu::try_from(100).unwrap_err().to_string(),
            "10.0.0.5/24".parse::<Cidr>().unwrap_err().to_string(),
            "10.0.0.0/33".parse::<Cidr>().unwrap_err().to_string(),
            VlanId::try_from(4095).unwrap_err().to_string(),
            "3,10.0.0.1".parse::<DhcpOption>().unwrap_err().to_string(),
            "ntp".parse::<DhcpOption>().unwrap_err().to_string(),
            "42,zzz".parse::<DhcpOption>().unwrap_err().to_string(),
            "10.0.0.9-10.0.0.5".parse::<AddressRange>().unwrap_err().to_string(),
        ];
        insta::assert_snapshot!(messages.join("\n"), @r"
        `Web` is not a name: use 1 to 63 of a-z, 0-9 and `-`, with no `-` at either end
        `a..b` is not a DNS domain: use labels of a-z, 0-9 and `-` joined by dots, 253 characters at most
        `a-very-long-bridge` is not a device name: it has 18 bytes, the kernel takes 15
        `br 100` is not a device name: use 1 to 15 letters, digits, `-`, `_` and `.`, not `.` or `..`
        `01:00:5e:00:00:01` is not the MAC address of a station: write six bytes as fa:16:3e:00:00:01, the first one even
        `fa:16:3e:00:00` is not the MAC address of a station: write six bytes as fa:16:3e:00:00:01, the first one even
        an MTU of 100 bytes is not possible: use 576 to 9216
        `10.0.0.5/24` has host bits set; the network is 10.0.0.0/24
        `10.0.0.0/33` is not a CIDR: write it as 10.0.0.0/24 or 2001:db8::/64
        4095 is not a VLAN id: use 1 to 4094
        DHCP option 3 is not to be set: the network's own addresses, names and MTU say what it is
        `ntp` is not a DHCP option: write number,value such as 42,192.0.2.1, for DHCPv6 option6:number,value
        DHCP option 42 is a list of IPv4 addresses, such as 192.0.2.1,192.0.2.2
        `10.0.0.9-10.0.0.5` is not a range of addresses: write it as 10.0.0.5-10.0.0.9, 10.0.0.5 or 10.0.0.0/29
        ");
    }

    #[test]
    fn values_print_as_they_parse() {
        assert_eq!("FA:16:3E:00:00:01".parse::<Mac>().unwrap().to_string(), "fa:16:3e:00:00:01");
        assert_eq!("10.0.0.0/24".parse::<Cidr>().unwrap().to_string(), "10.0.0.0/24");
        assert_eq!("br100".parse::<LinkName>().unwrap().to_string(), "br100");
        for text in ["42,192.0.2.1", "option6:31,[2001:db8::1]"] {
            assert_eq!(text.parse::<DhcpOption>().unwrap().to_string(), text);
        }
        for text in ["10.0.0.5", "10.0.0.5-10.0.0.9", "2001:db8::-2001:db8::ff"] {
            assert_eq!(text.parse::<AddressRange>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_guest_s_own_ipv6_addresses_are_known_from_its_mac() {
        let mac: Mac = "fa:16:3e:12:34:56".parse().unwrap();
        assert_eq!(mac.link_local().to_string(), "fe80::f816:3eff:fe12:3456");
        let address = mac.eui64("2001:db8:1::/64".parse().unwrap());
        assert_eq!(address.to_string(), "2001:db8:1:0:f816:3eff:fe12:3456");
    }
}
