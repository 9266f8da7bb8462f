//! Addresses by family, ranges and networks of them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use serde::{Deserialize, Serialize};

use super::serde_as_text;

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Internet Protocol, version 4.
    Ipv4,
    /// Version 6.
    Ipv6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        })
    }
}

/// An IPv4 or IPv6 network by its exact first address: `10.0.0.5/24` is refused, not rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr(IpNet);

/// Why a text is not a [`Cidr`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCidr {
    /// Not an address, a slash and a prefix length.
    #[error("`{0}` is not a CIDR: write it as 10.0.0.0/24 or 2001:db8::/64")]
    Syntax(String),
    /// The address has bits beyond the prefix.
    #[error("`{given}` has host bits set; the network is {network}")]
    HostBits {
        /// What was given.
        given: String,
        /// The network it lies in.
        network: IpNet,
    },
}

impl Cidr {
    /// The network that this address and prefix lie in.
    pub fn new(net: impl Into<IpNet>) -> Self {
        Self(net.into().trunc())
    }

    /// The same as the network type of the `ipnet` crate.
    pub fn net(&self) -> IpNet {
        self.0
    }

    /// Its family.
    pub fn family(&self) -> Family {
        Family::of(self.0.addr())
    }

    /// Whether the address lies in this network, its first and last address included.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// The one address that it is, if it is one.
    pub fn single(&self) -> Option<IpAddr> {
        (self.0.prefix_len() == self.0.max_prefix_len()).then(|| self.0.addr())
    }

    /// As nft prints it: one address has no prefix length.
    pub fn short(&self) -> String {
        self.single().map_or_else(|| self.to_string(), |address| address.to_string())
    }

    /// Whether the two have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.0.contains(&other.0) || other.0.contains(&self.0)
    }
}

impl FromStr for Cidr {
    type Err = InvalidCidr;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let net: IpNet = text.parse().map_err(|_| InvalidCidr::Syntax(text.to_owned()))?;
        if net.addr() != net.network() {
            return Err(InvalidCidr::HostBits { given: text.to_owned(), network: net.trunc() });
        }
        Ok(Self(net))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

serde_as_text!(Cidr);

/// Some addresses of one family, the first and the last among them. Written `10.0.0.5-10.0.0.9`;
/// one address and a CIDR are read too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressRange {
    first: IpAddr,
    last: IpAddr,
}

/// Why a text is not an [`AddressRange`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a range of addresses: write it as 10.0.0.5-10.0.0.9, 10.0.0.5 or 10.0.0.0/29")]
pub struct InvalidAddressRange(String);

impl AddressRange {
    /// From the first to the last, if they are of one family and in order.
    pub fn new(first: IpAddr, last: IpAddr) -> Option<Self> {
        (Family::of(first) == Family::of(last) && first <= last).then_some(Self { first, last })
    }

    /// The first.
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// The last.
    pub fn last(&self) -> IpAddr {
        self.last
    }

    /// The one after this one, if that is one of them.
    pub fn after(&self, address: IpAddr) -> Option<IpAddr> {
        let next = match address {
            IpAddr::V4(address) => {
                address.to_bits().checked_add(1).map(|bits| Ipv4Addr::from_bits(bits).into())
            }
            IpAddr::V6(address) => {
                address.to_bits().checked_add(1).map(|bits| Ipv6Addr::from_bits(bits).into())
            }
        };
        next.filter(|next| self.contains(*next))
    }

    /// The one before this one, if that is one of them.
    pub fn before(&self, address: IpAddr) -> Option<IpAddr> {
        let before = match address {
            IpAddr::V4(address) => {
                address.to_bits().checked_sub(1).map(|bits| Ipv4Addr::from_bits(bits).into())
            }
            IpAddr::V6(address) => {
                address.to_bits().checked_sub(1).map(|bits| Ipv6Addr::from_bits(bits).into())
            }
        };
        before.filter(|before| self.contains(*before))
    }

    /// The networks that they make up, in order.
    pub fn cidrs(&self) -> Vec<Cidr> {
        match (self.first, self.last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                Ipv4Subnets::new(first, last, 0).map(Cidr::new).collect()
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                Ipv6Subnets::new(first, last, 0).map(Cidr::new).collect()
            }
            _ => Vec::new(),
        }
    }

    /// How many they are; the largest number there is for all of IPv6.
    pub fn size(&self) -> u128 {
        let bits = |address| match address {
            IpAddr::V4(address) => u128::from(Ipv4Addr::to_bits(address)),
            IpAddr::V6(address) => address.to_bits(),
        };
        (bits(self.last) - bits(self.first)).saturating_add(1)
    }

    /// Whether the address is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        Family::of(address) == Family::of(self.first) && self.first <= address && address <= self.last
    }

    /// Whether the two have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        Family::of(self.first) == Family::of(other.first)
            && self.first <= other.last
            && other.first <= self.last
    }
}

impl From<Cidr> for AddressRange {
    /// All of a network's, its first and last address included.
    fn from(cidr: Cidr) -> Self {
        Self { first: cidr.0.network(), last: cidr.0.broadcast() }
    }
}

impl FromStr for AddressRange {
    type Err = InvalidAddressRange;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || InvalidAddressRange(text.to_owned());
        if text.contains('/') {
            return text.parse().map(|cidr: Cidr| cidr.into()).map_err(|_| wrong());
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let parse = |text: &str| text.trim().parse().map_err(|_| wrong());
        Self::new(parse(first)?, parse(last)?).ok_or_else(wrong)
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => self.first.fmt(f),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

serde_as_text!(AddressRange);

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> AddressRange {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_is_walked_and_counted_within_its_ends() {
        let few = range("10.0.0.255-10.0.1.1");
        let next = |text: &str| few.after(text.parse().unwrap()).map(|address| address.to_string());
        assert_eq!(next("10.0.0.255").as_deref(), Some("10.0.1.0"));
        assert_eq!((next("10.0.1.1"), next("10.9.9.9"), next("::1")), (None, None, None));
        assert_eq!(few.before(few.last()).unwrap().to_string(), "10.0.1.0");
        assert_eq!((few.before(few.first()), few.size()), (None, 3));
        let all = range("::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
        assert_eq!((all.after(all.last()), all.before(all.first()), all.size()), (None, None, u128::MAX));
    }

    #[test]
    fn a_range_is_made_up_of_networks() {
        let networks = |text: &str| {
            let networks: Vec<String> = range(text).cidrs().iter().map(Cidr::to_string).collect();
            networks.join(" ")
        };
        assert_eq!(networks("10.0.0.5-10.0.0.8"), "10.0.0.5/32 10.0.0.6/31 10.0.0.8/32");
        assert_eq!(networks("2001:db8::/64"), "2001:db8::/64");
        assert_eq!(networks("0.0.0.0-255.255.255.255"), "0.0.0.0/0");
    }
}
