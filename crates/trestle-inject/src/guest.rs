//! What a guest is to be told of its network.

use std::net::IpAddr;

use ipnet::IpNet;
use trestle_core::types::{Domain, InstanceId, LinkName, Mac, Mtu, Name};

/// A guest and all its interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestNetwork {
    /// What cloud-init knows the guest by: another id makes it a new guest to cloud-init.
    pub id: InstanceId,
    /// Its host name.
    pub hostname: Name,
    /// Its interfaces, in the order in which the guest numbers them.
    pub interfaces: Vec<GuestInterface>,
}

/// One interface of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestInterface {
    /// By this the guest tells its interfaces apart, in every form that can.
    pub mac: Mac,
    /// What the guest calls it; by default `eth` and its place in the order.
    pub name: Option<LinkName>,
    /// The largest packet it takes.
    pub mtu: Mtu,
    /// Where its addresses come from.
    pub addressing: Addressing,
}

/// Where an interface's addresses come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// From DHCP and router advertisements.
    Dhcp,
    /// From here.
    Static(StaticAddresses),
}

/// The addresses of an interface, and what goes with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StaticAddresses {
    /// The addresses with their prefix lengths.
    pub addresses: Vec<IpNet>,
    /// The routers, one of each family at most.
    pub gateways: Vec<IpAddr>,
    /// The DNS servers.
    pub dns: Vec<IpAddr>,
    /// Where short names are looked up.
    pub domain: Option<Domain>,
}

impl GuestNetwork {
    /// Every interface with its name, and with the gateways that it brings: of each family only
    /// the first interface that has one brings the default route, since two default routes of the
    /// same weight are an error to some guests and a matter of chance to others.
    pub(crate) fn links(&self) -> Vec<Link<'_>> {
        let mut routed = [false, false];
        let mut links = Vec::new();
        for (place, interface) in self.interfaces.iter().enumerate() {
            let name = interface.name.as_ref().map_or_else(|| format!("eth{place}"), ToString::to_string);
            let mut gateways = Vec::new();
            if let Addressing::Static(addresses) = &interface.addressing {
                for gateway in &addresses.gateways {
                    let is_routed = &mut routed[usize::from(gateway.is_ipv6())];
                    if !std::mem::replace(is_routed, true) {
                        gateways.push(*gateway);
                    }
                }
            }
            links.push(Link { name, interface, gateways });
        }
        links
    }
}

/// An interface as it is written down.
pub(crate) struct Link<'a> {
    pub(crate) name: String,
    pub(crate) interface: &'a GuestInterface,
    pub(crate) gateways: Vec<IpAddr>,
}

impl Link<'_> {
    pub(crate) fn mac(&self) -> Mac {
        self.interface.mac
    }

    pub(crate) fn mtu(&self) -> Mtu {
        self.interface.mtu
    }

    pub(crate) fn addressing(&self) -> &Addressing {
        &self.interface.addressing
    }

    /// Its MAC without the colons, for names of files.
    pub(crate) fn label(&self) -> String {
        self.mac().to_string().replace(':', "")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A guest with everything: two families, two addresses, a second interface with a gateway of
    /// its own and a third one with DHCP.
    pub(crate) fn web1() -> GuestNetwork {
        let interface = |mac: &str, mtu: u32, addressing| GuestInterface {
            mac: mac.parse().unwrap(),
            name: None,
            mtu: Mtu::try_from(mtu).unwrap(),
            addressing,
        };
        GuestNetwork {
            id: "0198f0d2-6d5c-7c1e-9a53-5b0c6f3d2e1a".parse().unwrap(),
            hostname: "web1".parse().unwrap(),
            interfaces: vec![
                interface("fa:16:3e:00:00:01", 1450, Addressing::Static(public())),
                interface("fa:16:3e:00:00:02", 1500, Addressing::Static(backend())),
                interface("fa:16:3e:00:00:03", 1500, Addressing::Dhcp),
            ],
        }
    }

    fn public() -> StaticAddresses {
        StaticAddresses {
            addresses: ["10.0.0.5/24", "10.0.0.6/24", "2001:db8::5/64"].map(|a| a.parse().unwrap()).to_vec(),
            gateways: ["10.0.0.1", "2001:db8::1"].map(|a| a.parse().unwrap()).to_vec(),
            dns: ["10.0.0.53", "2001:db8::53"].map(|a| a.parse().unwrap()).to_vec(),
            domain: Some("trestle.internal".parse().unwrap()),
        }
    }

    fn backend() -> StaticAddresses {
        StaticAddresses {
            addresses: vec!["192.168.7.2/31".parse().unwrap()],
            gateways: vec!["192.168.7.3".parse().unwrap()],
            ..StaticAddresses::default()
        }
    }

    #[test]
    fn the_first_interface_with_a_gateway_brings_the_default_route() {
        let guest = web1();
        let gateways: Vec<usize> = guest.links().iter().map(|link| link.gateways.len()).collect();
        assert_eq!(gateways, [2, 0, 0]);
    }
}
