//! Our nftables tables, and the named sets and maps in them. The chains are in [`crate::render`].

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ownership;

/// One of our nftables tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Table {
    /// `bridge trestle`: what instances may send.
    Guard,
    /// `inet trestle`: floating IPs and NAT.
    Gateway,
    /// `arp trestle`: a floating IP that another host has claimed is not answered for.
    Claims,
    /// `inet trestle_groups`: which networks reach which, and what passes to and from instances by their security groups.
    Groups,
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Guard, Self::Gateway, Self::Claims, Self::Groups];

    /// The nftables family.
    pub fn family(self) -> &'static str {
        match self {
            Self::Guard => "bridge",
            Self::Gateway | Self::Groups => "inet",
            Self::Claims => "arp",
        }
    }

    /// Its name in nftables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Groups => ownership::GROUPS_TABLE,
            Self::Guard | Self::Gateway | Self::Claims => ownership::TABLE,
        }
    }
}

/// One of the named nftables sets that hold everything that is per instance or per network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Set {
    /// `device . MAC`: who may send at all.
    GuardMac,
    /// `device . MAC . address`: who may send from which IPv4 address.
    GuardIp4,
    /// `device . MAC . address`: who may send from which IPv6 address.
    GuardIp6,
    /// `device . MAC . address as a number`: who may say of which IPv6 address that it is theirs.
    GuardNd,
    /// Device . MAC, as a number, that its guest may say is its own in a message. Part of `guard_mac`'s
    /// promise: nft compares what stands somewhere in a packet with numbers only.
    GuardHardware,
    /// `device . MAC . range`: what its guest forwards for others.
    GuardRange4,
    /// The same of IPv6.
    GuardRange6,
    /// `device . EtherType`: what its guest may send besides IP and ARP.
    GuardEtherType,
    /// `device`: neither guarded nor filtered.
    Unguarded,
    /// `device : mark`: by which security groups what is sent to many reaches its guest.
    HeardBy,
    /// `device`: what leads from a shared gateway's bridge to other hosts with the same gateway.
    SharedUplink,
    /// `device . MAC`: the gateway's MAC, which never passes that device.
    SharedMac,
    /// `device . address`: the gateway's IPv4 address, which never passes it either.
    SharedIp4,
    /// `device . address`: the gateway's IPv6 address.
    SharedIp6,
    /// `device . address as a number`: the same, for neighbours that ask for it.
    SharedNd,
    /// `MAC`: the gateways, on other hosts, of networks that this host only bridges. It does not
    /// take them for its own routers.
    GatewayMac,
    /// `bridge`: the networks that this host routes for.
    Network,
    /// `bridge`: those of them that nobody outside reaches by their own addresses.
    Private,
    /// `bridge . bridge`: from the first network the second is reached.
    Routed,
    /// `range . device`: what leaves by the device is translated to its own address.
    NatSource,
    /// `range . device : address`: what leaves by the device is translated to this address.
    NatSourceIp,
    /// `range . range`: from the first to the second nothing is translated.
    NatExempt,
    /// `range . range`: from the first to the second everything is translated.
    NatForced,
    /// `range . bridge`: who reaches a floating IP on the bridge it is itself on is translated, since
    /// the answer would go past the gateway else.
    NatLocal,
    /// The same of IPv6.
    NatLocal6,
    /// `floating IP : fixed IP`: where what is sent to it goes.
    FloatingTo,
    /// The same of IPv6.
    FloatingTo6,
    /// `fixed IP . device : floating IP`: under which address leaves by the device what comes from it.
    FloatingFrom,
    /// The same of IPv6.
    FloatingFrom6,
    /// `fixed IP : floating IP`: under which address it reaches other floating IPs of this host.
    FloatingBack,
    /// The same of IPv6.
    FloatingBack6,
    /// `floating IP . protocol . port : fixed IP . port`: where what is sent to the port goes.
    ForwardTo,
    /// The same of IPv6.
    ForwardTo6,
    /// `floating IP`: what is not for a guest does not reach the host by it.
    Floating,
    /// The same of IPv6.
    Floating6,
    /// `device . floating IP`: what this host answers for there.
    Held,
    /// The same of IPv6.
    Held6,
    /// `device . floating IP`: of these, what another host has claimed since. The kernel adds to it.
    Yielded,
    /// The same of IPv6.
    Yielded6,
    /// `bridge . MAC . address : gateway . port`: whose requests for metadata the host answers itself, and
    /// where.
    Metadata,
    /// `port`: where it answers them, and nothing else.
    MetadataPort,
    /// `range`: of networks that this host routes for.
    Subnet4,
    /// The same of IPv6.
    Subnet6,
    /// `range . bridge`: where each of these is, and what it reaches.
    Home4,
    /// The same of IPv6.
    Home6,
    /// `address : mark`: whose groups what is sent from it and to it is held to.
    Groups4,
    /// The same of IPv6.
    Groups6,
    /// `address`: those of guests on other hosts that this one routes for.
    Remote4,
    /// The same of IPv6.
    Remote6,
    /// `mark : verdict`: what guests in these groups may send.
    Egress,
    /// `mark : verdict`: what guests in these groups may be sent.
    Ingress,
    /// `bridge . address`: where guests are served DNS.
    Served4,
    /// The same of IPv6.
    Served6,
    /// `bridge`: where guests may ask for metadata.
    MetadataFrom,
    /// The addresses of a security group's members, by the group's number.
    Members4(u32),
    /// The same of IPv6.
    Members6(u32),
    /// The ranges of an address group, by its number.
    Addresses4(u32),
    /// The same of IPv6.
    Addresses6(u32),
}

impl Set {
    /// All that are part of a table's text; those with a number are made as they are needed.
    pub const FIXED: [Self; 54] = [
        Self::GuardMac,
        Self::GuardIp4,
        Self::GuardIp6,
        Self::GuardNd,
        Self::GuardHardware,
        Self::GuardRange4,
        Self::GuardRange6,
        Self::GuardEtherType,
        Self::Unguarded,
        Self::HeardBy,
        Self::SharedUplink,
        Self::SharedMac,
        Self::SharedIp4,
        Self::SharedIp6,
        Self::SharedNd,
        Self::GatewayMac,
        Self::Network,
        Self::Private,
        Self::Routed,
        Self::NatSource,
        Self::NatSourceIp,
        Self::NatExempt,
        Self::NatForced,
        Self::NatLocal,
        Self::NatLocal6,
        Self::FloatingTo,
        Self::FloatingTo6,
        Self::FloatingFrom,
        Self::FloatingFrom6,
        Self::FloatingBack,
        Self::FloatingBack6,
        Self::ForwardTo,
        Self::ForwardTo6,
        Self::Floating,
        Self::Floating6,
        Self::Held,
        Self::Held6,
        Self::Yielded,
        Self::Yielded6,
        Self::Metadata,
        Self::MetadataPort,
        Self::Subnet4,
        Self::Subnet6,
        Self::Home4,
        Self::Home6,
        Self::Groups4,
        Self::Groups6,
        Self::Remote4,
        Self::Remote6,
        Self::Egress,
        Self::Ingress,
        Self::Served4,
        Self::Served6,
        Self::MetadataFrom,
    ];

    /// Its name in nftables.
    pub fn name(self) -> Cow<'static, str> {
        let (_, name) = self.facts();
        match self.number() {
            Some(number) => Cow::Owned(format!("{name}{number}")),
            None => Cow::Borrowed(name),
        }
    }

    /// The set of this name.
    pub fn named(name: &str) -> Option<Self> {
        let fixed = Self::FIXED.into_iter().find(|set| set.facts().1 == name);
        let numbered = [Self::Members4, Self::Members6, Self::Addresses4, Self::Addresses6];
        let numbered = || {
            numbered.into_iter().find_map(|set| {
                let number = name.strip_prefix(set(0).facts().1)?.parse().ok()?;
                Some(set(number)).filter(|set| set.name() == name)
            })
        };
        fixed.or_else(numbered)
    }

    /// The number of the group that it is about.
    pub fn number(self) -> Option<u32> {
        match self {
            Self::Members4(number)
            | Self::Members6(number)
            | Self::Addresses4(number)
            | Self::Addresses6(number) => Some(number),
            _ => None,
        }
    }

    /// The table it lies in.
    pub fn table(self) -> Table {
        self.facts().0
    }

    /// Whether its elements lead to something.
    pub fn is_map(self) -> bool {
        matches!(
            self,
            Self::NatSourceIp
                | Self::FloatingTo
                | Self::FloatingTo6
                | Self::FloatingFrom
                | Self::FloatingFrom6
                | Self::FloatingBack
                | Self::FloatingBack6
                | Self::ForwardTo
                | Self::ForwardTo6
                | Self::Metadata
                | Self::HeardBy
                | Self::Groups4
                | Self::Groups6
        ) || self.leads_to_chain()
    }

    /// Whether its elements are ranges, which must not overlap.
    pub fn is_of_ranges(self) -> bool {
        matches!(
            self,
            Self::Addresses4(_)
                | Self::Addresses6(_)
                | Self::Subnet4
                | Self::Subnet6
                | Self::Home4
                | Self::Home6
        )
    }

    /// Whether one more element may forbid what passed before.
    pub fn narrows(self) -> bool {
        matches!(
            self,
            Self::Groups4 | Self::Groups6 | Self::Network | Self::Private | Self::Subnet4 | Self::Subnet6
        )
    }

    /// Whether its elements lead to chains.
    pub fn leads_to_chain(self) -> bool {
        matches!(self, Self::Egress | Self::Ingress)
    }

    fn facts(self) -> (Table, &'static str) {
        match self {
            Self::GuardMac => (Table::Guard, "guard_mac"),
            Self::GuardIp4 => (Table::Guard, "guard_ip4"),
            Self::GuardIp6 => (Table::Guard, "guard_ip6"),
            Self::GuardNd => (Table::Guard, "guard_nd"),
            Self::GuardHardware => (Table::Guard, "guard_hardware"),
            Self::GuardRange4 => (Table::Guard, "guard_range4"),
            Self::GuardRange6 => (Table::Guard, "guard_range6"),
            Self::GuardEtherType => (Table::Guard, "guard_ether_type"),
            Self::Unguarded => (Table::Guard, "unguarded"),
            Self::HeardBy => (Table::Guard, "heard_by"),
            Self::SharedUplink => (Table::Guard, "shared_uplink"),
            Self::SharedMac => (Table::Guard, "shared_mac"),
            Self::SharedIp4 => (Table::Guard, "shared_ip4"),
            Self::SharedIp6 => (Table::Guard, "shared_ip6"),
            Self::SharedNd => (Table::Guard, "shared_nd"),
            Self::GatewayMac => (Table::Guard, "gateway_mac"),
            Self::Network => (Table::Groups, "network"),
            Self::Private => (Table::Groups, "private"),
            Self::Routed => (Table::Groups, "routed"),
            Self::NatSource => (Table::Gateway, "nat_source"),
            Self::NatSourceIp => (Table::Gateway, "nat_source_ip"),
            Self::NatExempt => (Table::Gateway, "nat_exempt"),
            Self::NatForced => (Table::Gateway, "nat_forced"),
            Self::NatLocal => (Table::Gateway, "nat_local"),
            Self::NatLocal6 => (Table::Gateway, "nat_local6"),
            Self::FloatingTo => (Table::Gateway, "floating_to"),
            Self::FloatingTo6 => (Table::Gateway, "floating_to6"),
            Self::FloatingFrom => (Table::Gateway, "floating_from"),
            Self::FloatingFrom6 => (Table::Gateway, "floating_from6"),
            Self::FloatingBack => (Table::Gateway, "floating_back"),
            Self::FloatingBack6 => (Table::Gateway, "floating_back6"),
            Self::ForwardTo => (Table::Gateway, "forward_to"),
            Self::ForwardTo6 => (Table::Gateway, "forward_to6"),
            Self::Floating => (Table::Gateway, "floating"),
            Self::Floating6 => (Table::Gateway, "floating6"),
            Self::Held => (Table::Claims, "held"),
            Self::Held6 => (Table::Gateway, "held6"),
            Self::Yielded => (Table::Claims, "yielded"),
            Self::Yielded6 => (Table::Gateway, "yielded6"),
            Self::Metadata => (Table::Gateway, "metadata"),
            Self::MetadataPort => (Table::Gateway, "metadata_port"),
            Self::Subnet4 => (Table::Groups, "subnet4"),
            Self::Subnet6 => (Table::Groups, "subnet6"),
            Self::Home4 => (Table::Groups, "home4"),
            Self::Home6 => (Table::Groups, "home6"),
            Self::Groups4 => (Table::Groups, "groups4"),
            Self::Groups6 => (Table::Groups, "groups6"),
            Self::Remote4 => (Table::Groups, "remote4"),
            Self::Remote6 => (Table::Groups, "remote6"),
            Self::Egress => (Table::Groups, "egress"),
            Self::Ingress => (Table::Groups, "ingress"),
            Self::Served4 => (Table::Groups, "served4"),
            Self::Served6 => (Table::Groups, "served6"),
            Self::MetadataFrom => (Table::Groups, "metadata_from"),
            Self::Members4(_) => (Table::Groups, "members4_"),
            Self::Members6(_) => (Table::Groups, "members6_"),
            Self::Addresses4(_) => (Table::Groups, "addresses4_"),
            Self::Addresses6(_) => (Table::Groups, "addresses6_"),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Guard => "guard",
            Self::Gateway => "gateway",
            Self::Claims => "claims",
            Self::Groups => "groups",
        })
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}
