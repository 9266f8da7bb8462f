//! Reads which addresses networks are to have.

use std::net::IpAddr;

use trestle_core::alloc::{GatewayWish, Layout, LayoutProblem, LayoutWish, SplitProblem, prefix_for, split};
use trestle_core::types::{AddressRange, Cidr, Family, InvalidCidr};
use trestle_core::world::NetworkType;

use crate::app::network::request::Reader;

/// The addresses of one family that were asked for.
pub(super) struct RangeWish {
    /// What to make of each network's range; `cidr` is the whole range.
    layout: LayoutWish,
    /// The prefix length of the networks that the range is split into; `None` if it is one's.
    split: Option<u8>,
}

impl RangeWish {
    /// The range, whole.
    pub(super) fn range(&self) -> Cidr {
        self.layout.cidr
    }

    /// The prefix length of the networks that the range is split into, if it is.
    pub(super) fn split(&self) -> Option<u8> {
        self.split
    }

    /// What to ask of the addresses of one of the networks, which has this range.
    pub(super) fn layout(&self, cidr: Cidr) -> LayoutWish {
        LayoutWish { cidr, ..self.layout.clone() }
    }

    /// A range such as each network will have.
    pub(super) fn sample(&self) -> Cidr {
        let first = self.split.and_then(|prefix| split(self.range(), prefix, 1, []).ok()?.pop());
        first.unwrap_or(self.range())
    }
}

/// The fields of a request about one family.
struct Fields {
    family: Family,
    cidr: &'static str,
    gateway: &'static str,
}

const IPV4: Fields = Fields { family: Family::Ipv4, cidr: "cidr", gateway: "gateway" };
const IPV6: Fields = Fields { family: Family::Ipv6, cidr: "cidr_v6", gateway: "gateway_v6" };

impl Reader<'_> {
    /// The addresses of both families.
    pub(super) fn ranges(
        &mut self,
        network_type: Option<NetworkType>,
    ) -> (Option<RangeWish>, Option<RangeWish>) {
        let new = self.new;
        let vlan = network_type == Some(NetworkType::Vlan);
        if new.cidr.is_none() && vlan {
            self.checks.add(
                "cidr",
                "required",
                "a network of type `vlan` needs an IPv4 range, such as 10.0.0.0/24",
            );
        } else if new.cidr.is_none() && new.cidr_v6.is_none() {
            self.checks.add("cidr", "required", "a range is needed, such as 10.0.0.0/24");
        }
        self.refuse_without_range();
        let addresses = [
            self.address("allowed_start", new.allowed_start.as_deref(), Family::Ipv4),
            self.address("allowed_end", new.allowed_end.as_deref(), Family::Ipv4),
            self.address("dhcp_start", new.dhcp_start.as_deref(), Family::Ipv4),
        ];
        let gateways =
            [self.gateway(&IPV4, new.gateway.as_deref()), self.gateway(&IPV6, new.gateway_v6.as_deref())];
        let [gateway, gateway_v6] = gateways;
        let ipv4 = self.cidr(&IPV4, new.cidr.as_deref()).and_then(|cidr| {
            let [allowed_start, allowed_end, dhcp_start] = addresses;
            let split = self.ipv4_prefix(cidr);
            let layout = LayoutWish { cidr, gateway, allowed_start, allowed_end, dhcp_start, vpn: vlan };
            self.fitting(&IPV4, RangeWish { layout, split })
        });
        let ipv6 = self.cidr(&IPV6, new.cidr_v6.as_deref()).and_then(|cidr| {
            let split = (self.count > 1).then(|| prefix_for(Family::Ipv6, 1));
            let none = (None, None, None);
            let (allowed_start, allowed_end, dhcp_start) = none;
            let layout =
                LayoutWish { cidr, gateway: gateway_v6, allowed_start, allowed_end, dhcp_start, vpn: false };
            self.fitting(&IPV6, RangeWish { layout, split })
        });
        (ipv4, ipv6)
    }

    /// The ranges that are reserved from the start.
    pub(super) fn reserved(&mut self, subnets: &[Option<&RangeWish>]) -> Vec<AddressRange> {
        let mut reserved: Vec<AddressRange> = Vec::new();
        for (i, text) in self.new.reserved.iter().enumerate() {
            let field = format!("reserved[{i}]");
            let Some(range) = self.checks.parse::<AddressRange>(&field, "bad_range", text) else { continue };
            let inside = |subnet: &&RangeWish| {
                subnet.range().contains(range.first()) && subnet.range().contains(range.last())
            };
            if !subnets.iter().flatten().any(inside) {
                self.checks.add(&field, "range_outside", format!("{range} is not in a range of the network"));
            }
            if let Some(other) = reserved.iter().find(|other| other.overlaps(&range)) {
                self.checks.add(field, "range_overlap", format!("{range} overlaps with {other}"));
            }
            reserved.push(range);
        }
        for subnet in subnets.iter().flatten() {
            let layout = Layout::new(&subnet.layout).map(|layout| layout.reserving(reserved.clone()));
            if layout.is_ok_and(|layout| layout.total() == 0) && !reserved.is_empty() {
                let message = format!("no address of {} is left for an instance", subnet.range());
                self.checks.add("reserved", "none_left", message);
            }
        }
        reserved
    }

    fn refuse_without_range(&mut self) {
        let new = self.new;
        let of_ipv4 = [
            ("network_size", new.network_size.is_some()),
            ("gateway", new.gateway.is_some()),
            ("allowed_start", new.allowed_start.is_some()),
            ("allowed_end", new.allowed_end.is_some()),
            ("dhcp_start", new.dhcp_start.is_some()),
        ];
        if new.cidr.is_none() {
            self.refuse(&of_ipv4, "the network has no IPv4 range (`cidr`)");
        } else if new.network_size.is_some() && self.count == 1 {
            self.refuse(
                &of_ipv4[1..],
                "not possible with `network_size`: which addresses the network gets is not known yet",
            );
        }
        let of_ipv6 = [("gateway_v6", new.gateway_v6.is_some() && new.cidr_v6.is_none())];
        self.refuse(&of_ipv6, "the network has no IPv6 range (`cidr_v6`)");
    }

    fn address(&mut self, field: &str, text: Option<&str>, family: Family) -> Option<IpAddr> {
        let address = self.checks.address(field, text)?;
        if Family::of(address) != family {
            self.checks.add(field, "wrong_family", format!("{address} is not an {family} address"));
            return None;
        }
        Some(address)
    }

    fn gateway(&mut self, fields: &Fields, text: Option<&str>) -> GatewayWish {
        match text {
            None => GatewayWish::First,
            Some("none") => GatewayWish::None,
            text => self
                .address(fields.gateway, text, fields.family)
                .map_or(GatewayWish::First, GatewayWish::Address),
        }
    }

    fn cidr(&mut self, fields: &Fields, text: Option<&str>) -> Option<Cidr> {
        let cidr = match text?.parse::<Cidr>() {
            Ok(cidr) => cidr,
            Err(error) => {
                let host_bits = matches!(error, InvalidCidr::HostBits { .. });
                self.checks.add(fields.cidr, if host_bits { "cidr_host_bits" } else { "bad_cidr" }, error);
                return None;
            }
        };
        if cidr.family() != fields.family {
            self.checks.add(fields.cidr, "wrong_family", format!("{cidr} is not an {} range", fields.family));
            return None;
        }
        Some(cidr)
    }

    /// The prefix length of the networks that an IPv4 range is split into, if it is: of the size
    /// that was asked for; else of the usual size, or of the largest that fits.
    fn ipv4_prefix(&self, range: Cidr) -> Option<u8> {
        match (self.new.network_size, self.count) {
            (None, 1) => None,
            (Some(size), _) => Some(prefix_for(Family::Ipv4, size)),
            (None, count) => {
                let halvings = count.next_power_of_two().trailing_zeros() as u8;
                let largest = range.net().prefix_len().saturating_add(halvings).min(32);
                Some(prefix_for(Family::Ipv4, self.options.network_size).max(largest))
            }
        }
    }

    /// The wish, if as many such networks fit into the range and can be laid out as it says.
    fn fitting(&mut self, fields: &Fields, wish: RangeWish) -> Option<RangeWish> {
        let mut cidr = wish.range();
        if let Some(prefix) = wish.split {
            match split(cidr, prefix, self.count.into(), []) {
                Ok(networks) => cidr = networks.first().copied().unwrap_or(cidr),
                Err(problem) => {
                    let field = match problem {
                        SplitProblem::TooLarge { .. } if self.new.network_size.is_some() => "network_size",
                        SplitProblem::TooLarge { .. } => fields.cidr,
                        SplitProblem::NoRoom { .. } => "num_networks",
                    };
                    self.checks.add(field, "does_not_fit", problem);
                    return None;
                }
            }
        }
        let problems = match Layout::new(&wish.layout(cidr)) {
            Ok(_) => return Some(wish),
            Err(problems) => problems,
        };
        for problem in problems {
            self.add_layout_problem(fields, &wish, problem);
        }
        None
    }

    fn add_layout_problem(&mut self, fields: &Fields, wish: &RangeWish, problem: LayoutProblem) {
        let (field, code) = match problem {
            LayoutProblem::Size(_) if self.new.network_size.is_some() => ("network_size", "bad_size"),
            LayoutProblem::Size(_) if wish.split.is_some() => {
                let message = format!(
                    "{} has no room for {} networks: the smallest has 4 addresses",
                    wish.range(),
                    self.count
                );
                return self.checks.add("num_networks", "does_not_fit", message);
            }
            LayoutProblem::Size(_) | LayoutProblem::NoneLeft(_) => (fields.cidr, "bad_size"),
            LayoutProblem::NotForHosts(_) => (fields.cidr, "bad_cidr"),
            LayoutProblem::GatewayOutside { .. } => (fields.gateway, "gateway_outside"),
            LayoutProblem::DhcpStartOutside { .. } => ("dhcp_start", "dhcp_start_outside"),
            LayoutProblem::AllowedOutside { .. } => ("allowed_start", "allowed_outside"),
        };
        self.checks.add(field, code, problem);
    }
}
