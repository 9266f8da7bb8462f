//! Reads a request for networks: what is asked for, and everything that is wrong with it.
//!
//! What depends on the networks there are, such as which VLAN ids are free, is decided when they
//! are made.

use std::collections::BTreeSet;
use std::net::IpAddr;

use trestle_api::NewNetwork;
use trestle_core::types::{AddressRange, DhcpOption, Domain, EtherType, Family, LinkName, Mtu, Name, VlanId};
use trestle_core::world::{Ipv6Mode, NetworkType};

use crate::app::check::Checks;
use crate::app::network::ranges::RangeWish;
use crate::config::ControllerConfig;
use crate::error::AppError;

/// How many EtherTypes a network allows at most, besides those that the guard knows.
const ETHER_TYPES: usize = 32;

/// The smallest MTU that IPv6 goes over (RFC 8200 §5).
const IPV6_MTU: u16 = 1280;

/// Why no device is put into a flat network's bridge.
pub(super) const FLAT_BRIDGE: &str =
    "the bridge of a network of type `flat` is the administrator's: Trestle puts no device into it";

/// Why a flat network has no gateway of Trestle's, and what goes by one.
pub(super) const FLAT_UNROUTED: &str = "Trestle does not route for a network of type `flat`";

/// Why a flat network has no DHCP options.
pub(super) const FLAT_DHCP: &str = "a network of type `flat` has no DHCP";

/// Why a bridge is not its own device.
pub(super) const OWN_BRIDGE: &str = "a bridge cannot lead out by itself";

/// Networks that were asked for, read.
pub(super) struct Wish {
    pub(super) name: Name,
    /// How many.
    pub(super) count: u16,
    pub(super) network_type: NetworkType,
    pub(super) ipv4: Option<RangeWish>,
    pub(super) ipv6: Option<RangeWish>,
    pub(super) ipv6_mode: Ipv6Mode,
    /// Of type VLAN alone.
    pub(super) vlan: Option<VlanWish>,
    pub(super) gateways: GatewaysWish,
    /// `br` and the VLAN id if absent.
    pub(super) bridge: Option<LinkName>,
    pub(super) bridge_interface: Option<LinkName>,
    pub(super) guests: GuestWish,
    pub(super) reserved: Vec<AddressRange>,
}

/// Which VLAN ids.
#[derive(Clone, Copy)]
pub(super) enum VlanWish {
    /// This one.
    Id(VlanId),
    /// The lowest free ones from here on.
    From(VlanId),
}

/// Who is to route.
pub(super) enum GatewaysWish {
    /// One host, by name or id; chosen at the first use if absent.
    One(Option<String>),
    Shared,
    PerHost,
}

/// What guests are told and may send.
pub(super) struct GuestWish {
    pub(super) dns: Vec<IpAddr>,
    pub(super) domain: Domain,
    pub(super) mtu: Mtu,
    pub(super) dhcp_options: Vec<DhcpOption>,
    /// What they may send besides IPv4, ARP and IPv6.
    pub(super) ether_types: BTreeSet<EtherType>,
}

/// A request while it is read.
pub(super) struct Reader<'a> {
    pub(super) new: &'a NewNetwork,
    pub(super) options: &'a ControllerConfig,
    pub(super) checks: Checks,
    /// How many networks; 1 where it says nonsense.
    pub(super) count: u16,
}

/// What the request asks for.
pub(super) fn read(options: &ControllerConfig, new: &NewNetwork) -> Result<Wish, AppError> {
    let mut reader = Reader { new, options, checks: Checks::default(), count: 1 };
    let name = reader.checks.name("name", &new.name);
    let network_type = reader.network_type();
    reader.count = reader.count();
    reader.refuse_for_many(name.as_ref());
    let (ipv4, ipv6) = reader.ranges(network_type);
    let ipv6_mode = reader.ipv6_mode(ipv6.as_ref());
    let reserved = reader.reserved(&[ipv4.as_ref(), ipv6.as_ref()]);
    let bridge = new.bridge.as_deref().and_then(|text| reader.checks.link("bridge", text));
    let bridge_interface =
        new.bridge_interface.as_deref().and_then(|text| reader.checks.link("bridge_interface", text));
    let vlan = reader.vlan();
    let gateways = reader.gateways(network_type);
    let bridge = network_type.and_then(|network_type| {
        reader.refuse_for_type(network_type);
        reader.bridge(network_type, bridge, bridge_interface.as_ref())
    });
    let guests = reader.guests();
    let count = reader.count;
    reader.checks.finish()?;
    let Some(((name, network_type), guests)) = name.zip(network_type).zip(guests) else {
        return Err(AppError::defect("a network without all it needs passed its checks"));
    };
    let vlan = vlan.filter(|_| network_type == NetworkType::Vlan);
    Ok(Wish {
        name,
        count,
        network_type,
        ipv4,
        ipv6,
        ipv6_mode,
        vlan,
        gateways,
        bridge,
        bridge_interface,
        guests,
        reserved,
    })
}

impl Reader<'_> {
    /// Notes that a field makes no sense beside the others, if it is given.
    pub(super) fn refuse(&mut self, fields: &[(&str, bool)], why: &str) {
        for (field, _) in fields.iter().filter(|(_, given)| *given) {
            self.checks.add(*field, "not_possible", why);
        }
    }

    fn network_type(&mut self) -> Option<NetworkType> {
        match self.new.network_type.as_deref() {
            None => Some(self.options.network_type),
            Some("vlan") => Some(NetworkType::Vlan),
            Some("flat_dhcp") => Some(NetworkType::FlatDhcp),
            Some("flat") => Some(NetworkType::Flat),
            Some(other) => {
                let message =
                    format!("`{other}` is not a type of network; there are `vlan`, `flat_dhcp` and `flat`");
                self.checks.add("type", "unknown_type", message);
                None
            }
        }
    }

    fn count(&mut self) -> u16 {
        let count = self.new.num_networks.unwrap_or(1);
        match u16::try_from(count) {
            Ok(count @ 1..=4094) => count,
            _ => {
                let message = format!("{count} networks cannot be made at once: use 1 to 4094");
                self.checks.add("num_networks", "bad_count", message);
                1
            }
        }
    }

    fn refuse_for_many(&mut self, name: Option<&Name>) {
        if self.count == 1 {
            return;
        }
        let new = self.new;
        let own = [
            ("vlan", new.vlan.is_some()),
            ("bridge", new.bridge.is_some()),
            ("gateway", new.gateway.is_some()),
            ("gateway_v6", new.gateway_v6.is_some()),
            ("allowed_start", new.allowed_start.is_some()),
            ("allowed_end", new.allowed_end.is_some()),
            ("dhcp_start", new.dhcp_start.is_some()),
            ("reserved", !new.reserved.is_empty()),
        ];
        self.refuse(&own, "not possible with several networks, each of which has its own");
        let longest = name.map(|name| numbered(name, self.count - 1));
        if let Some(Err(error)) = longest {
            self.checks.add("name", "bad_name", error);
        }
    }

    fn refuse_for_type(&mut self, network_type: NetworkType) {
        let new = self.new;
        if network_type != NetworkType::Vlan {
            let vlan = [("vlan", new.vlan.is_some()), ("vlan_start", new.vlan_start.is_some())];
            self.refuse(&vlan, "only networks of type `vlan` have a VLAN id");
            let many = [("num_networks", self.count > 1)];
            self.refuse(
                &many,
                "only networks of type `vlan` are made several at once: others need a bridge named for each",
            );
        }
        if network_type == NetworkType::Flat {
            let gateway = [
                ("multi_host", new.multi_host.is_some()),
                ("share_address", new.share_address.is_some()),
                ("gateway_host", new.gateway_host.is_some()),
                ("auto_assign", new.auto_assign.is_some()),
            ];
            self.refuse(&gateway, FLAT_UNROUTED);
            let bridge = [("bridge_interface", new.bridge_interface.is_some())];
            self.refuse(&bridge, FLAT_BRIDGE);
            let dhcp = [("dhcp_options", !new.dhcp_options.is_empty())];
            self.refuse(&dhcp, FLAT_DHCP);
        } else {
            for (field, given) in [("gateway", &new.gateway), ("gateway_v6", &new.gateway_v6)] {
                let none = [(field, given.as_deref() == Some("none"))];
                self.refuse(&none, "only a network of type `flat` can do without a gateway");
            }
        }
    }

    /// The wish for a VLAN; what it says is read whatever the type is.
    fn vlan(&mut self) -> Option<VlanWish> {
        let id = self.vlan_id("vlan", self.new.vlan);
        let start = self.vlan_id("vlan_start", self.new.vlan_start);
        let both = [("vlan_start", self.new.vlan.is_some() && self.new.vlan_start.is_some())];
        self.refuse(&both, "not possible with `vlan`, which says the id");
        let start = start.unwrap_or(self.options.vlan_start);
        Some(id.map_or(VlanWish::From(start), VlanWish::Id))
    }

    fn vlan_id(&mut self, field: &str, number: Option<u32>) -> Option<VlanId> {
        match VlanId::try_from(number?) {
            Ok(id) => Some(id),
            Err(error) => {
                self.checks.add(field, "bad_vlan", error);
                None
            }
        }
    }

    fn gateways(&mut self, network_type: Option<NetworkType>) -> GatewaysWish {
        let new = self.new;
        if network_type == Some(NetworkType::Flat) {
            return GatewaysWish::One(None);
        }
        if !new.multi_host.unwrap_or(self.options.multi_host) {
            let shared = [("share_address", new.share_address.is_some())];
            self.refuse(
                &shared,
                "only a multi-host network has several gateways: give `multi_host` true too",
            );
            return GatewaysWish::One(new.gateway_host.clone());
        }
        let one = [("gateway_host", new.gateway_host.is_some())];
        self.refuse(&one, "only a single-host network has one gateway host: give `multi_host` false too");
        match new.share_address.unwrap_or(self.options.share_address) {
            true => GatewaysWish::Shared,
            false => GatewaysWish::PerHost,
        }
    }

    /// The bridge where the VLAN id does not say it.
    fn bridge(
        &mut self,
        network_type: NetworkType,
        given: Option<LinkName>,
        interface: Option<&LinkName>,
    ) -> Option<LinkName> {
        let default = self.options.flat_network_bridge.as_ref().filter(|_| network_type != NetworkType::Vlan);
        let bridge = given.or_else(|| default.cloned());
        if bridge.is_none() && self.new.bridge.is_none() && network_type != NetworkType::Vlan {
            self.checks.add(
                "bridge",
                "no_bridge",
                "a network of this type needs a bridge: name one here, or set the option flat_network_bridge",
            );
        }
        let bridge = bridge?;
        if interface == Some(&bridge) {
            self.checks.add("bridge_interface", "bad_link_name", OWN_BRIDGE);
        }
        if network_type != NetworkType::Flat && is_vlan_device(&bridge) {
            let message = format!("`{bridge}` is what the device of that VLAN is called");
            self.checks.add("bridge", "bad_link_name", message);
        }
        Some(bridge)
    }

    fn ipv6_mode(&mut self, ipv6: Option<&RangeWish>) -> Ipv6Mode {
        let without = [("ipv6_mode", self.new.ipv6_mode.is_some() && self.new.cidr_v6.is_none())];
        self.refuse(&without, "the network has no IPv6 range (`cidr_v6`)");
        match self.new.ipv6_mode.as_deref() {
            None | Some("dhcpv6") => Ipv6Mode::Dhcpv6,
            Some("slaac") => {
                if let Some(cidr) = ipv6.map(RangeWish::sample).filter(|cidr| cidr.net().prefix_len() != 64) {
                    let message = format!("guests make addresses of a /64 only, not of {cidr}");
                    self.checks.add("cidr_v6", "bad_size", message);
                }
                Ipv6Mode::Slaac
            }
            Some(other) => {
                let message =
                    format!("`{other}` is not a way to IPv6 addresses; there are `dhcpv6` and `slaac`");
                self.checks.add("ipv6_mode", "unknown_mode", message);
                Ipv6Mode::Dhcpv6
            }
        }
    }

    fn guests(&mut self) -> Option<GuestWish> {
        let new = self.new;
        let has = |family| if family == Family::Ipv4 { new.cidr.is_some() } else { new.cidr_v6.is_some() };
        let dns = dns(&mut self.checks, &new.dns);
        let domain = self.checks.optional("domain", "bad_domain", new.domain.as_deref());
        let mtu = mtu(&mut self.checks, new.mtu.unwrap_or(Mtu::ETHERNET.into()), has);
        let dhcp_options = dhcp_options(&mut self.checks, &new.dhcp_options, has);
        let domain = domain.unwrap_or_else(|| self.options.dhcp_domain.clone());
        let ether_types = ether_types(&mut self.checks, &new.ether_types);
        Some(GuestWish { dns, domain, mtu: mtu?, dhcp_options, ether_types })
    }
}

/// The servers in these texts.
pub(super) fn dns(checks: &mut Checks, texts: &[String]) -> Vec<IpAddr> {
    let servers = texts.iter().enumerate();
    servers.filter_map(|(i, text)| checks.address(&format!("dns[{i}]"), Some(text))).collect()
}

/// The MTU of a network that has ranges of these families.
pub(super) fn mtu(checks: &mut Checks, bytes: u32, has: impl Fn(Family) -> bool) -> Option<Mtu> {
    let mtu = Mtu::try_from(bytes);
    match &mtu {
        Err(error) => checks.add("mtu", "bad_mtu", error),
        Ok(mtu) if has(Family::Ipv6) && mtu.bytes() < IPV6_MTU => {
            let message = format!("IPv6 needs an MTU of {IPV6_MTU} bytes at least, not {mtu}");
            checks.add("mtu", "bad_mtu", message);
        }
        Ok(_) => {}
    }
    mtu.ok()
}

/// The options in these texts, of a network that has ranges of these families.
pub(super) fn dhcp_options(
    checks: &mut Checks,
    texts: &[String],
    has: impl Fn(Family) -> bool,
) -> Vec<DhcpOption> {
    let mut options = Vec::new();
    for (i, text) in texts.iter().enumerate() {
        let field = format!("dhcp_options[{i}]");
        let Some(option) = checks.parse::<DhcpOption>(&field, "bad_dhcp_option", text) else { continue };
        if !has(option.family()) {
            let message = format!("the network has no {} range", option.family());
            checks.add(field, "not_possible", message);
        }
        options.push(option);
    }
    options
}

/// The EtherTypes in these texts.
pub(super) fn ether_types(checks: &mut Checks, texts: &[String]) -> BTreeSet<EtherType> {
    if texts.len() > ETHER_TYPES {
        let message = format!("a network allows {ETHER_TYPES} more EtherTypes at most");
        checks.add("ether_types", "too_many", message);
    }
    let numbered = texts.iter().enumerate();
    let read = |(i, text): (usize, &String)| {
        checks.parse(&format!("ether_types[{i}]"), "bad_ether_type", &text.to_lowercase())
    };
    numbered.filter_map(read).collect()
}

/// The name of one of several networks.
pub(super) fn numbered(name: &Name, number: u16) -> Result<Name, trestle_core::types::InvalidName> {
    format!("{name}-{number}").parse()
}

fn is_vlan_device(link: &LinkName) -> bool {
    let number = link.as_str().strip_prefix("vlan").and_then(|number| number.parse::<u32>().ok());
    number.and_then(|number| VlanId::try_from(number).ok()).is_some_and(|id| id.device() == *link)
}
