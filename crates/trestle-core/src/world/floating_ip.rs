//! Floating IPs, where they lead, and on which host they are.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Gateways, Interface, NetworkType, World};
use crate::types::{HostId, InterfaceId, LinkName, Protocol, serde_as_text};

/// A floating IP that leads somewhere: to one fixed IP, or its ports to several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FloatingIp {
    /// The address, unique.
    pub address: IpAddr,
    /// The device that it is on, where its pool names one; else the host's public one.
    pub device: Option<LinkName>,
    /// Where all that is sent to it goes, and what leaves under it.
    pub target: Option<Target>,
    /// Where what is sent to a port of it goes, in the order in which they were made. These come
    /// before `target`.
    pub forwards: Vec<Forward>,
}

/// A fixed IP of an interface, in the family of the floating IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Target {
    /// The interface.
    pub interface: InterfaceId,
    /// Its address.
    pub fixed: IpAddr,
}

/// A port of a floating IP that leads to one of a fixed IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Forward {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The floating IP's.
    pub port: u16,
    /// Where it goes.
    pub to: Target,
    /// The port there.
    pub to_port: u16,
}

impl FloatingIp {
    /// Where it leads, the one fixed IP first.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        self.target.iter().chain(self.forwards.iter().map(|forward| &forward.to))
    }
}

/// Under which address an instance without a floating IP leaves a host (reference LX-38).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum RoutingSourceIp {
    /// The one that the kernel takes for the device it leaves by.
    #[default]
    OfDevice,
    /// This one.
    Address(Ipv4Addr),
    /// Its own: nothing is translated.
    Off,
}

/// Why a text is not a [`RoutingSourceIp`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no source for what is routed: use an IPv4 address, `device` or `none`")]
pub struct InvalidRoutingSourceIp(String);

impl FromStr for RoutingSourceIp {
    type Err = InvalidRoutingSourceIp;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "device" => Ok(Self::OfDevice),
            "none" => Ok(Self::Off),
            text => text.parse().map(Self::Address).map_err(|_| InvalidRoutingSourceIp(text.to_owned())),
        }
    }
}

impl fmt::Display for RoutingSourceIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OfDevice => f.write_str("device"),
            Self::Address(address) => address.fmt(f),
            Self::Off => f.write_str("none"),
        }
    }
}

serde_as_text!(RoutingSourceIp);

impl World {
    /// The floating IP, if it leads somewhere.
    pub fn floating_ip(&self, address: IpAddr) -> Option<&FloatingIp> {
        self.floating_ips.get(&address)
    }

    /// The floating IPs that lead to an interface, in their order.
    pub fn floating_ips_of(&self, interface: InterfaceId) -> impl Iterator<Item = &FloatingIp> {
        let (first, last) = (Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::from_bits(u128::MAX).into());
        let all = self.leading_to.range((interface, first)..=(interface, last));
        all.filter_map(|(_, address)| self.floating_ips.get(address))
    }

    /// The host on which an interface's traffic with the outside is translated: its network's one
    /// gateway, or where it is plugged in. A flat network's is not Trestle's.
    pub fn serving_host(&self, interface: &Interface) -> Option<HostId> {
        let attachment = interface.attachment.as_ref()?;
        let network = self.networks.get(&interface.network)?;
        match (network.network_type, &network.gateways) {
            (NetworkType::Flat, _) => None,
            (_, Gateways::One(gateway)) => *gateway,
            (_, Gateways::Shared | Gateways::PerHost(_)) => Some(attachment.host),
        }
    }

    /// The one host that has a floating IP: what it leads to is served there. Of several that ports
    /// lead to, the first that is served anywhere decides.
    pub fn holder(&self, floating: &FloatingIp) -> Option<HostId> {
        let mut interfaces = floating.targets().filter_map(|target| self.interface(target.interface));
        interfaces.find_map(|interface| self.serving_host(interface))
    }

    /// Puts the floating IP in, in place of what it was.
    pub fn put_floating_ip(&mut self, floating: FloatingIp) {
        self.remove_floating_ip(floating.address);
        self.leading_to.extend(floating.targets().map(|target| (target.interface, floating.address)));
        self.floating_ips.insert(floating.address, floating);
    }

    /// Takes the floating IP out; gives what it was.
    pub fn remove_floating_ip(&mut self, address: IpAddr) -> Option<FloatingIp> {
        let floating = self.floating_ips.remove(&address)?;
        for target in floating.targets() {
            self.leading_to.remove(&(target.interface, address));
        }
        Some(floating)
    }
}
