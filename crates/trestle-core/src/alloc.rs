//! Which addresses of a network exist, in which order new ones are tried, and how a range is split
//! into networks.
//!
//! Pure arithmetic: a /8 and a /64 cost what a /29 costs. Who has which address, and that nobody
//! has the same, is the store's to say, by constraint.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::types::{AddressRange, Cidr, Family};

/// What is asked of a network's addresses in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayoutWish {
    /// The range.
    pub cidr: Cidr,
    /// The router's address.
    pub gateway: GatewayWish,
    /// The first address that is the network's to use, the router's included (reference MG-8).
    pub allowed_start: Option<IpAddr>,
    /// The last one that is.
    pub allowed_end: Option<IpAddr>,
    /// The first address that is given out unasked.
    pub dhcp_start: Option<IpAddr>,
    /// Whether the network's VPN has an address of its own: the one behind the router's.
    pub vpn: bool,
}

/// Which address a network's router has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GatewayWish {
    /// The first that is allowed.
    #[default]
    First,
    /// This one.
    Address(IpAddr),
    /// There is no router.
    None,
}

/// The addresses of a network in one family: what the router and the VPN have, and what instances
/// may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    cidr: Cidr,
    gateway: Option<IpAddr>,
    vpn: Option<IpAddr>,
    allowed: AddressRange,
    dhcp_start: IpAddr,
    /// What instances never have: the router's, the VPN's, reserved ranges. In order, apart.
    blocked: Vec<AddressRange>,
}

/// The ranges of [`LayoutProblem::NotForHosts`].
const NOT_FOR_HOSTS: [IpNet; 8] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(0, 0, 0, 0), 8)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 3)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 0), 8)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8)),
];

/// Whether hosts can have these addresses: none of them is one that [`LayoutProblem::NotForHosts`]
/// speaks of.
pub fn are_for_hosts(range: &AddressRange) -> bool {
    !NOT_FOR_HOSTS.iter().any(|none| range.overlaps(&Cidr::new(*none).into()))
}

/// What is wrong with a network's addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutProblem {
    /// Too small or too large.
    #[error("{0} is not a size for a network: use a prefix from /8 to /30, for IPv6 from /32 to /126")]
    Size(Cidr),
    /// Addresses that no host can have (RFC 6890): this network, loopback, link-local, multicast
    /// and reserved.
    #[error(
        "{0} has addresses that no instance can have; use 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16, for IPv6 fd00::/8 or what your provider gave you"
    )]
    NotForHosts(Cidr),
    /// The gateway is not an address that a router in the range can have.
    #[error("the gateway {gateway} is not an address between the first and the last of {cidr}")]
    GatewayOutside {
        /// What was asked for.
        gateway: IpAddr,
        /// The range.
        cidr: Cidr,
    },
    /// The first address to give out is not one that an instance can have.
    #[error("the DHCP start {dhcp_start} is not an address between the first and the last of {cidr}")]
    DhcpStartOutside {
        /// What was asked for.
        dhcp_start: IpAddr,
        /// The range.
        cidr: Cidr,
    },
    /// The allowed addresses do not lie inside, or end before they start.
    #[error("{start} to {end} are not addresses between the first and the last of {cidr}, in order")]
    AllowedOutside {
        /// The first.
        start: IpAddr,
        /// The last.
        end: IpAddr,
        /// The range.
        cidr: Cidr,
    },
    /// The router, the VPN and what is reserved take all there are.
    #[error("{0} has no address left for an instance")]
    NoneLeft(Cidr),
}

impl Layout {
    /// Lays a network out; the gateway is the first allowed address, the VPN has the next, and
    /// DHCP starts at the first free one where they are not given (reference MG-8, MG-9). Gives
    /// every problem, not the first.
    pub fn new(wish: &LayoutWish) -> Result<Self, Vec<LayoutProblem>> {
        let cidr = wish.cidr;
        let sizes = if cidr.family() == Family::Ipv4 { 8..=30 } else { 32..=126 };
        if !sizes.contains(&cidr.net().prefix_len()) {
            return Err(vec![LayoutProblem::Size(cidr)]);
        }
        if NOT_FOR_HOSTS.iter().any(|range| cidr.overlaps(&Cidr::new(*range))) {
            return Err(vec![LayoutProblem::NotForHosts(cidr)]);
        }
        let stations = stations(cidr);
        let start = wish.allowed_start.unwrap_or(stations.first());
        let end = wish.allowed_end.unwrap_or(stations.last());
        let inside = stations.contains(start) && stations.contains(end);
        let Some(allowed) = AddressRange::new(start, end).filter(|_| inside) else {
            return Err(vec![LayoutProblem::AllowedOutside { start, end, cidr }]);
        };
        let gateway = match wish.gateway {
            GatewayWish::First => Some(start),
            GatewayWish::Address(gateway) => Some(gateway),
            GatewayWish::None => None,
        };
        let mut problems = Vec::new();
        if let Some(gateway) = gateway.filter(|gateway| !stations.contains(*gateway)) {
            problems.push(LayoutProblem::GatewayOutside { gateway, cidr });
        }
        let dhcp_start = wish.dhcp_start.unwrap_or(start);
        if !allowed.contains(dhcp_start) {
            problems.push(LayoutProblem::DhcpStartOutside { dhcp_start, cidr });
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let vpn = wish.vpn.then(|| if gateway == Some(start) { next(start) } else { start });
        Self::with(cidr, (gateway, vpn), allowed, dhcp_start).ok_or(vec![LayoutProblem::NoneLeft(cidr)])
    }

    /// The layout that was worked out before, from what was kept of it.
    pub fn kept(
        cidr: Cidr,
        gateway: Option<IpAddr>,
        vpn: Option<IpAddr>,
        allowed: AddressRange,
        dhcp_start: IpAddr,
    ) -> Self {
        let blocked = merge(gateway.into_iter().chain(vpn).filter_map(|one| AddressRange::new(one, one)));
        Self { cidr, gateway, vpn, allowed, dhcp_start, blocked }
    }

    fn with(
        cidr: Cidr,
        (gateway, vpn): (Option<IpAddr>, Option<IpAddr>),
        allowed: AddressRange,
        dhcp_start: IpAddr,
    ) -> Option<Self> {
        let layout = Self::kept(cidr, gateway, vpn, allowed, dhcp_start);
        let dhcp_start = layout.first()?;
        Some(Self { dhcp_start, ..layout })
    }

    /// The same without these ranges for instances.
    pub fn reserving(mut self, ranges: impl IntoIterator<Item = AddressRange>) -> Self {
        self.blocked = merge(self.blocked.into_iter().chain(ranges));
        self
    }

    /// The range.
    pub fn cidr(&self) -> Cidr {
        self.cidr
    }

    /// The router's address.
    pub fn gateway(&self) -> Option<IpAddr> {
        self.gateway
    }

    /// The VPN's address.
    pub fn vpn(&self) -> Option<IpAddr> {
        self.vpn
    }

    /// The addresses that are the network's to use.
    pub fn allowed(&self) -> AddressRange {
        self.allowed
    }

    /// The first address that is given out unasked.
    pub fn dhcp_start(&self) -> IpAddr {
        self.dhcp_start
    }

    /// Whether an instance may ask for this address: allowed, and neither the router's, the VPN's
    /// nor reserved.
    pub fn may_be_requested(&self, address: IpAddr) -> bool {
        self.allowed.contains(address) && !self.blocked.iter().any(|range| range.contains(address))
    }

    /// The first address that is given out unasked.
    pub fn first(&self) -> Option<IpAddr> {
        self.at_or_after(self.dhcp_start)
    }

    /// The address that is given out unasked after this one.
    pub fn after(&self, address: IpAddr) -> Option<IpAddr> {
        self.at_or_after(next(address))
    }

    /// How many addresses are given out unasked.
    pub fn total(&self) -> u128 {
        let size = |first: IpAddr, last: IpAddr| bits(last).saturating_sub(bits(first)).saturating_add(1);
        let Some(given) = AddressRange::new(self.dhcp_start, self.allowed.last()) else { return 0 };
        let blocked = self.blocked.iter().filter(|range| range.overlaps(&given));
        let blocked =
            blocked.map(|range| size(range.first().max(given.first()), range.last().min(given.last())));
        size(given.first(), given.last()) - blocked.sum::<u128>()
    }

    fn at_or_after(&self, mut address: IpAddr) -> Option<IpAddr> {
        for range in &self.blocked {
            if range.contains(address) {
                address = next(range.last());
            }
        }
        self.allowed.contains(address).then_some(address)
    }
}

/// What a network's stations can have: not its first address, which names the network or, in IPv6,
/// any router of it (RFC 4291 §2.6.1), and in IPv4 not its last, which is everybody.
fn stations(cidr: Cidr) -> AddressRange {
    let range = AddressRange::from(cidr);
    let last = if cidr.family() == Family::Ipv4 { previous(range.last()) } else { range.last() };
    AddressRange::new(next(range.first()), last).unwrap_or(range)
}

/// The same addresses as ranges in order and apart.
fn merge(ranges: impl Iterator<Item = AddressRange>) -> Vec<AddressRange> {
    let mut sorted: Vec<AddressRange> = ranges.collect();
    sorted.sort();
    let mut merged: Vec<AddressRange> = Vec::with_capacity(sorted.len());
    for range in sorted {
        let joined = merged
            .last()
            .filter(|before| before.overlaps(&range))
            .and_then(|before| AddressRange::new(before.first(), before.last().max(range.last())));
        if let Some(joined) = joined {
            merged.pop();
            merged.push(joined);
        } else {
            merged.push(range);
        }
    }
    merged
}

/// Why a range cannot be split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitProblem {
    /// The networks would be larger than the range.
    #[error("networks of /{prefix} do not fit into {range}")]
    TooLarge {
        /// Each network's prefix length.
        prefix: u8,
        /// The range.
        range: Cidr,
    },
    /// There is room for fewer.
    #[error("{range} has room for {room} more networks of /{prefix}, not for {wanted}")]
    NoRoom {
        /// The range.
        range: Cidr,
        /// Each network's prefix length.
        prefix: u8,
        /// For how many there is room.
        room: usize,
        /// How many were asked for.
        wanted: usize,
    },
}

/// The prefix length of the smallest network of this family that has this many addresses, rounded
/// up to a power of two (reference MG-6). IPv6 networks are /64 whatever their number.
pub fn prefix_for(family: Family, addresses: u32) -> u8 {
    let bits = addresses.max(1).next_power_of_two().trailing_zeros();
    match family {
        Family::Ipv4 => 32_u32.saturating_sub(bits) as u8,
        Family::Ipv6 => 64,
    }
}

/// Splits a range into networks of this prefix length, from its start, passing over what overlaps
/// with those that are taken (reference MG-14).
pub fn split(
    range: Cidr,
    prefix: u8,
    wanted: usize,
    taken: impl IntoIterator<Item = Cidr>,
) -> Result<Vec<Cidr>, SplitProblem> {
    let width = if range.family() == Family::Ipv4 { 32 } else { 128 };
    if prefix < range.net().prefix_len() || prefix > width {
        return Err(SplitProblem::TooLarge { prefix, range });
    }
    let taken = taken.into_iter().filter(|other| other.family() == range.family());
    let taken: BTreeMap<u128, u128> =
        taken.map(|cidr| (bits(cidr.net().network()), bits(cidr.net().broadcast()))).collect();
    let size = 1_u128.checked_shl(u32::from(width - prefix)).unwrap_or(0);
    let end = bits(range.net().broadcast());
    let (mut found, mut first) = (Vec::new(), bits(range.net().network()));
    while found.len() < wanted {
        let Some(last) = first.checked_add(size.wrapping_sub(1)).filter(|last| *last <= end) else {
            return Err(SplitProblem::NoRoom { range, prefix, room: found.len(), wanted });
        };
        let in_the_way = taken.range(..=last).next_back().filter(|(_, taken_to)| **taken_to >= first);
        let behind = match in_the_way {
            // On, to the next boundary behind it.
            Some((_, taken_to)) => (taken_to / size.max(1) + 1).checked_mul(size),
            None => {
                found.extend(network(range.family(), first, prefix));
                last.checked_add(1)
            }
        };
        match behind {
            Some(behind) => first = behind,
            None if found.len() == wanted => break,
            None => return Err(SplitProblem::NoRoom { range, prefix, room: found.len(), wanted }),
        }
    }
    Ok(found)
}

fn network(family: Family, first: u128, prefix: u8) -> Option<Cidr> {
    IpNet::new(address(family, first)?, prefix).ok().map(Cidr::new)
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn address(family: Family, bits: u128) -> Option<IpAddr> {
    match family {
        Family::Ipv4 => u32::try_from(bits).ok().map(|bits| Ipv4Addr::from_bits(bits).into()),
        Family::Ipv6 => Some(Ipv6Addr::from_bits(bits).into()),
    }
}

/// The address after it; behind the last comes the first.
fn next(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits().wrapping_add(1)).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits().wrapping_add(1)).into(),
    }
}

fn previous(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits().wrapping_sub(1)).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits().wrapping_sub(1)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(cidr: &str) -> LayoutWish {
        LayoutWish {
            cidr: cidr.parse().unwrap(),
            gateway: GatewayWish::First,
            allowed_start: None,
            allowed_end: None,
            dhcp_start: None,
            vpn: false,
        }
    }

    fn gateway(address: &str) -> GatewayWish {
        GatewayWish::Address(address.parse().unwrap())
    }

    fn at(address: &str) -> Option<IpAddr> {
        Some(address.parse().unwrap())
    }

    fn ranges(texts: &[&str]) -> Vec<AddressRange> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn all(wish: LayoutWish, reserved: &[&str]) -> String {
        match Layout::new(&wish) {
            Ok(layout) => {
                let layout = layout.reserving(ranges(reserved));
                let first = std::iter::successors(layout.first(), |address| layout.after(*address));
                let given: Vec<String> = first.map(|address| address.to_string()).collect();
                assert_eq!(given.len() as u128, layout.total());
                let gateway = layout.gateway().map_or("none".to_owned(), |gateway| gateway.to_string());
                format!("gateway {gateway}: {}", given.join(" "))
            }
            Err(problems) => problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        }
    }

    #[test]
    fn every_address_but_the_router_s_is_given_out_once_and_in_order() {
        insta::assert_snapshot!(all(wish("10.0.0.0/29"), &[]), @"gateway 10.0.0.1: 10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6");
        let last = LayoutWish { gateway: gateway("10.0.0.6"), ..wish("10.0.0.0/29") };
        insta::assert_snapshot!(all(last, &[]), @"gateway 10.0.0.6: 10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5");
        let middle =
            LayoutWish { gateway: gateway("10.0.0.4"), dhcp_start: at("10.0.0.4"), ..wish("10.0.0.0/29") };
        insta::assert_snapshot!(all(middle, &[]), @"gateway 10.0.0.4: 10.0.0.5 10.0.0.6");
        insta::assert_snapshot!(all(wish("10.0.0.0/30"), &[]), @"gateway 10.0.0.1: 10.0.0.2");
        insta::assert_snapshot!(all(LayoutWish { gateway: GatewayWish::None, ..wish("10.0.0.0/30") }, &[]), @"gateway none: 10.0.0.1 10.0.0.2");
        insta::assert_snapshot!(all(LayoutWish { vpn: true, ..wish("10.0.0.0/29") }, &[]), @"gateway 10.0.0.1: 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6");
        insta::assert_snapshot!(all(wish("2001:db8::/125"), &[]), @"gateway 2001:db8::1: 2001:db8::2 2001:db8::3 2001:db8::4 2001:db8::5 2001:db8::6 2001:db8::7");
    }

    #[test]
    fn what_is_reserved_or_not_allowed_is_passed_over() {
        insta::assert_snapshot!(all(wish("10.0.0.0/28"), &["10.0.0.2-10.0.0.4", "10.0.0.4-10.0.0.9", "10.0.0.12"]), @"gateway 10.0.0.1: 10.0.0.10 10.0.0.11 10.0.0.13 10.0.0.14");
        insta::assert_snapshot!(all(wish("10.0.0.0/29"), &["10.0.0.5-10.0.0.6"]), @"gateway 10.0.0.1: 10.0.0.2 10.0.0.3 10.0.0.4");
        let allowed =
            LayoutWish { allowed_start: at("10.0.0.4"), allowed_end: at("10.0.0.7"), ..wish("10.0.0.0/28") };
        insta::assert_snapshot!(all(allowed, &[]), @"gateway 10.0.0.4: 10.0.0.5 10.0.0.6 10.0.0.7");
    }

    #[test]
    fn every_problem_is_listed() {
        let two =
            LayoutWish { gateway: gateway("10.0.1.1"), dhcp_start: at("10.0.0.255"), ..wish("10.0.0.0/24") };
        insta::assert_snapshot!(all(two, &[]), @"the gateway 10.0.1.1 is not an address between the first and the last of 10.0.0.0/24; the DHCP start 10.0.0.255 is not an address between the first and the last of 10.0.0.0/24");
        insta::assert_snapshot!(all(wish("127.0.0.0/24"), &[]), @"127.0.0.0/24 has addresses that no instance can have; use 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16, for IPv6 fd00::/8 or what your provider gave you");
        insta::assert_snapshot!(all(wish("10.0.0.0/31"), &[]), @"10.0.0.0/31 is not a size for a network: use a prefix from /8 to /30, for IPv6 from /32 to /126");
        insta::assert_snapshot!(all(LayoutWish { vpn: true, ..wish("10.0.0.0/30") }, &[]), @"10.0.0.0/30 has no address left for an instance");
        let upside_down =
            LayoutWish { allowed_start: at("10.0.0.9"), allowed_end: at("10.0.0.4"), ..wish("10.0.0.0/24") };
        insta::assert_snapshot!(all(upside_down, &[]), @"10.0.0.9 to 10.0.0.4 are not addresses between the first and the last of 10.0.0.0/24, in order");
    }

    #[test]
    fn a_huge_range_is_counted_not_walked() {
        assert_eq!(Layout::new(&wish("10.0.0.0/8")).unwrap().total(), (1 << 24) - 3);
        assert_eq!(Layout::new(&wish("2001:db8::/64")).unwrap().total(), (1 << 64) - 2);
    }

    fn carved(range: &str, prefix: u8, wanted: usize, taken: &[&str]) -> String {
        let taken = taken.iter().map(|text| text.parse().unwrap());
        match split(range.parse().unwrap(), prefix, wanted, taken) {
            Ok(networks) => networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Err(problem) => problem.to_string(),
        }
    }

    #[test]
    fn a_range_is_split_from_its_start_around_what_is_taken() {
        insta::assert_snapshot!(carved("10.0.0.0/8", 28, 3, &[]), @"10.0.0.0/28 10.0.0.16/28 10.0.0.32/28");
        insta::assert_snapshot!(carved("10.0.0.0/24", 26, 3, &["10.0.0.64/27"]), @"10.0.0.0/26 10.0.0.128/26 10.0.0.192/26");
        insta::assert_snapshot!(carved("10.0.0.0/24", 26, 4, &["10.0.0.64/27", "2001:db8::/64"]), @"10.0.0.0/24 has room for 3 more networks of /26, not for 4");
        insta::assert_snapshot!(carved("10.0.0.0/24", 26, 1, &["10.0.0.0/8"]), @"10.0.0.0/24 has room for 0 more networks of /26, not for 1");
        insta::assert_snapshot!(carved("10.0.0.0/24", 23, 1, &[]), @"networks of /23 do not fit into 10.0.0.0/24");
        insta::assert_snapshot!(carved("255.255.255.0/24", 24, 1, &[]), @"255.255.255.0/24");
        insta::assert_snapshot!(carved("fd00::/48", 64, 2, &["fd00::/64"]), @"fd00:0:0:1::/64 fd00:0:0:2::/64");
        assert_eq!([1, 16, 100, 256].map(|size| prefix_for(Family::Ipv4, size)), [32, 28, 25, 24]);
    }
}
