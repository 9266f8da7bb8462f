//! DHCP options that an administrator gives.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Family, serde_as_text};

/// A DHCP option that a network's guests are given: its number in DHCP (RFC 2132) or DHCPv6 (RFC
/// 8415), and its value as dnsmasq takes it. Written `42,192.0.2.1` or `option6:31,[2001:db8::1]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DhcpOption {
    family: Family,
    code: u16,
    value: String,
}

/// Why a text is not a [`DhcpOption`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDhcpOption {
    /// Not a number, a comma and a value.
    #[error(
        "`{0}` is not a DHCP option: write number,value such as 42,192.0.2.1, for DHCPv6 option6:number,value"
    )]
    Syntax(String),
    /// Not the addresses that the option is made of; dnsmasq would not start with it.
    #[error("DHCP option {0} is a list of IPv4 addresses, such as 192.0.2.1,192.0.2.2")]
    NotAddresses(u16),
    /// One that the network sets by itself, or that says how DHCP itself goes.
    #[error("DHCP option {0} is not to be set: the network's own addresses, names and MTU say what it is")]
    Own(u16),
}

impl DhcpOption {
    /// Those that a network sets from what it is, and those of the protocol itself (RFC 2132 §9).
    const OWN: [u16; 16] = [1, 3, 6, 12, 15, 26, 28, 50, 51, 52, 53, 54, 55, 57, 58, 59];
    /// The same in DHCPv6: RFC 8415 §21, RFC 3646.
    const OWN6: [u16; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 23, 24];

    /// Those whose value dnsmasq reads as IPv4 addresses (its src/option.c; RFC 2132 §3 to §8).
    const ADDRESSES: [u16; 19] = [7, 9, 16, 21, 32, 33, 41, 42, 44, 45, 48, 49, 65, 68, 69, 70, 71, 74, 150];

    /// Which DHCP it is for.
    pub fn family(&self) -> Family {
        self.family
    }
}

impl FromStr for DhcpOption {
    type Err = InvalidDhcpOption;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || InvalidDhcpOption::Syntax(text.to_owned());
        let (family, rest) =
            text.strip_prefix("option6:").map_or((Family::Ipv4, text), |rest| (Family::Ipv6, rest));
        let (code, value) = rest.split_once(',').ok_or_else(wrong)?;
        let code: u16 = code.parse().map_err(|_| wrong())?;
        let plain = !value.is_empty() && value.len() <= 255 && !value.chars().any(char::is_control);
        let own = match family {
            Family::Ipv4 if !(1..=254).contains(&code) => return Err(wrong()),
            Family::Ipv4 => &Self::OWN[..],
            Family::Ipv6 => &Self::OWN6[..],
        };
        if own.contains(&code) {
            return Err(InvalidDhcpOption::Own(code));
        }
        let is_address = |part: &str| part.trim().parse::<Ipv4Addr>().is_ok();
        let is_list = family == Family::Ipv4 && Self::ADDRESSES.contains(&code);
        if is_list && !value.split(',').all(is_address) {
            return Err(InvalidDhcpOption::NotAddresses(code));
        }
        if plain { Ok(Self { family, code, value: value.to_owned() }) } else { Err(wrong()) }
    }
}

impl fmt::Display for DhcpOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = if self.family == Family::Ipv6 { "option6:" } else { "" };
        write!(f, "{prefix}{},{}", self.code, self.value)
    }
}

serde_as_text!(DhcpOption);
