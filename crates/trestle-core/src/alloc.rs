//! Which addresses of a network exist and in which order new ones are tried.
//!
//! Pure arithmetic on the range: a /8 costs what a /29 costs. Who has which address, and that
//! nobody has the same, is the store's to say, by constraint.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::types::Cidr;

/// The addresses of a network: what the router has, and what instances may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    cidr: Cidr,
    gateway: Ipv4Addr,
    dhcp_start: Ipv4Addr,
}

/// The ranges of [`LayoutProblem::NotForHosts`].
const NOT_FOR_HOSTS: [Ipv4Net; 4] = [
    Ipv4Net::new_assert(Ipv4Addr::new(0, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16),
    Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 3),
];

/// What is wrong with a network's addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutProblem {
    /// Smaller than /30 or larger than /8.
    #[error("{0} is not a size for a network: use a prefix from /8 to /30")]
    Size(Cidr),
    /// Addresses that no host can have (RFC 6890): this network, loopback, link-local, multicast
    /// and reserved.
    #[error("{0} has addresses that no instance can have; use 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16")]
    NotForHosts(Cidr),
    /// The gateway is not an address that a router in the range can have.
    #[error("the gateway {gateway} is not an address between the first and the last of {cidr}")]
    GatewayOutside {
        /// What was asked for.
        gateway: Ipv4Addr,
        /// The range.
        cidr: Cidr,
    },
    /// The first address to give out is not one that an instance can have.
    #[error("the DHCP start {dhcp_start} is not an address between the first and the last of {cidr}")]
    DhcpStartOutside {
        /// What was asked for.
        dhcp_start: Ipv4Addr,
        /// The range.
        cidr: Cidr,
    },
    /// The gateway takes the only address that was left.
    #[error("{0} has no address left for an instance")]
    NoneLeft(Cidr),
}

impl Layout {
    /// Lays a network out; the gateway is the first address and DHCP starts at the first free one
    /// where they are not given (reference MG-8). Gives every problem, not the first.
    pub fn new(
        cidr: Cidr,
        gateway: Option<Ipv4Addr>,
        dhcp_start: Option<Ipv4Addr>,
    ) -> Result<Self, Vec<LayoutProblem>> {
        if !(8..=30).contains(&cidr.net().prefix_len()) {
            return Err(vec![LayoutProblem::Size(cidr)]);
        }
        if NOT_FOR_HOSTS.iter().any(|range| cidr.overlaps(&Cidr::new(*range))) {
            return Err(vec![LayoutProblem::NotForHosts(cidr)]);
        }
        let gateway = gateway.unwrap_or_else(|| next(cidr.net().network()));
        let dhcp_start = dhcp_start.unwrap_or_else(|| next(cidr.net().network()));
        let layout = Self { cidr, gateway, dhcp_start };
        let mut problems = Vec::new();
        if !layout.is_station(gateway) {
            problems.push(LayoutProblem::GatewayOutside { gateway, cidr });
        }
        if !layout.is_station(dhcp_start) {
            problems.push(LayoutProblem::DhcpStartOutside { dhcp_start, cidr });
        }
        if problems.is_empty() && layout.first().is_none() {
            problems.push(LayoutProblem::NoneLeft(cidr));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let dhcp_start = layout.first().unwrap_or(dhcp_start);
        Ok(Self { dhcp_start, ..layout })
    }

    /// The range.
    pub fn cidr(&self) -> Cidr {
        self.cidr
    }

    /// The router's address.
    pub fn gateway(&self) -> Ipv4Addr {
        self.gateway
    }

    /// The first address that is given out unasked.
    pub fn dhcp_start(&self) -> Ipv4Addr {
        self.dhcp_start
    }

    /// Whether an instance may ask for this address: inside, not the first, the last or the
    /// router's.
    pub fn may_be_requested(&self, address: Ipv4Addr) -> bool {
        self.is_station(address) && address != self.gateway
    }

    /// The first address that is given out unasked.
    pub fn first(&self) -> Option<Ipv4Addr> {
        self.at_or_after(self.dhcp_start)
    }

    /// The address that is given out unasked after this one.
    pub fn after(&self, address: Ipv4Addr) -> Option<Ipv4Addr> {
        self.at_or_after(next(address))
    }

    /// How many addresses are given out unasked.
    pub fn total(&self) -> u64 {
        let span = u32::from(self.cidr.net().broadcast()) - u32::from(self.dhcp_start);
        u64::from(span) - u64::from(self.gateway >= self.dhcp_start)
    }

    fn at_or_after(&self, address: Ipv4Addr) -> Option<Ipv4Addr> {
        let candidate = if address == self.gateway { next(address) } else { address };
        self.may_be_requested(candidate).then_some(candidate)
    }

    fn is_station(&self, address: Ipv4Addr) -> bool {
        let net = self.cidr.net();
        net.contains(&address) && address != net.network() && address != net.broadcast()
    }
}

fn next(address: Ipv4Addr) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(address).wrapping_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(cidr: &str, gateway: Option<&str>, dhcp_start: Option<&str>) -> String {
        let parse = |text: Option<&str>| text.map(|text| text.parse().unwrap());
        match Layout::new(cidr.parse().unwrap(), parse(gateway), parse(dhcp_start)) {
            Ok(layout) => {
                let first = std::iter::successors(layout.first(), |address| layout.after(*address));
                let given: Vec<String> = first.map(|address| address.to_string()).collect();
                assert_eq!(given.len() as u64, layout.total());
                format!("gateway {}: {}", layout.gateway(), given.join(" "))
            }
            Err(problems) => problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        }
    }

    #[test]
    fn every_address_but_the_router_s_is_given_out_once_and_in_order() {
        insta::assert_snapshot!(all("10.0.0.0/29", None, None), @"gateway 10.0.0.1: 10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6");
        insta::assert_snapshot!(all("10.0.0.0/29", Some("10.0.0.6"), None), @"gateway 10.0.0.6: 10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5");
        insta::assert_snapshot!(all("10.0.0.0/29", Some("10.0.0.4"), Some("10.0.0.4")), @"gateway 10.0.0.4: 10.0.0.5 10.0.0.6");
        insta::assert_snapshot!(all("10.0.0.0/30", None, None), @"gateway 10.0.0.1: 10.0.0.2");
    }

    #[test]
    fn every_problem_is_listed() {
        insta::assert_snapshot!(all("10.0.0.0/24", Some("10.0.1.1"), Some("10.0.0.255")), @"the gateway 10.0.1.1 is not an address between the first and the last of 10.0.0.0/24; the DHCP start 10.0.0.255 is not an address between the first and the last of 10.0.0.0/24");
        insta::assert_snapshot!(all("127.0.0.0/24", None, None), @"127.0.0.0/24 has addresses that no instance can have; use 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16");
        insta::assert_snapshot!(all("10.0.0.0/31", None, None), @"10.0.0.0/31 is not a size for a network: use a prefix from /8 to /30");
        insta::assert_snapshot!(all("10.0.0.0/30", Some("10.0.0.2"), Some("10.0.0.2")), @"10.0.0.0/30 has no address left for an instance");
    }

    #[test]
    fn a_huge_range_is_counted_not_walked() {
        let layout = Layout::new("10.0.0.0/8".parse().unwrap(), None, None).unwrap();
        assert_eq!(layout.total(), (1 << 24) - 3);
    }
}
