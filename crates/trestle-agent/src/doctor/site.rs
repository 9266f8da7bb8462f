//! What Trestle has on a host: its bridges with what is on them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use trestle_core::ownership::{DEVICE_PREFIX, Owner};
use trestle_core::spec::{HostSpec, Key, Link, LinkKind, Object, Set};
use trestle_core::types::{Family, LinkName, Name};

use crate::host::linux::look::Devices;

/// What Trestle has on a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Site {
    pub(super) bridges: BTreeMap<LinkName, Bridge>,
    /// What leads outside, where that is known.
    pub(super) public: Option<LinkName>,
    /// Of which families there are floating IPs.
    pub(super) floating: BTreeSet<Family>,
    /// The TCP port on which instances are answered for the metadata service.
    pub(super) metadata: Option<u16>,
}

/// A bridge that instances are on, or that this host routes for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bridge {
    /// The size of the network's packets; `None` where nobody said it.
    pub(super) mtu: Option<u32>,
    /// The addresses by which this host routes for it.
    pub(super) gateways: BTreeSet<IpNet>,
    /// The devices by which it leads to other hosts: a port, and what carries that if it is a VLAN.
    pub(super) leads_out: BTreeSet<LinkName>,
    /// Whether the guard keeps what DHCP servers elsewhere say from its instances.
    pub(super) hears_no_server: bool,
    /// The network that a dnsmasq of ours serves on it here.
    pub(super) served: Option<Name>,
    /// The instances' devices.
    pub(super) ports: BTreeMap<LinkName, Port>,
    /// Those among them that are VPNs'.
    pub(super) vpns: BTreeSet<LinkName>,
}

/// An instance's device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Port {
    /// The instance's host name, where this host knows it.
    pub(super) hostname: Option<String>,
    pub(super) addresses: BTreeSet<IpAddr>,
}

impl Port {
    /// What people are told of it.
    pub(super) fn called(&self, device: &LinkName) -> String {
        self.hostname.clone().unwrap_or_else(|| device.to_string())
    }
}

impl Bridge {
    /// Whether this host routes for it, in this family.
    pub(super) fn is_routed(&self, family: Family) -> bool {
        self.gateways.iter().any(|gateway| Family::of(gateway.addr()) == family)
    }

    /// The addresses of this family that instances have here; where none is known, one that they could have.
    pub(super) fn guests(&self, family: Family) -> BTreeSet<IpAddr> {
        let all = self.ports.values().flat_map(|port| &port.addresses).copied();
        let guests: BTreeSet<IpAddr> = all.filter(|guest| Family::of(*guest) == family).collect();
        if !guests.is_empty() {
            return guests;
        }
        let gateway = self.gateways.iter().find(|gateway| Family::of(gateway.addr()) == family);
        let possible =
            gateway.and_then(|gateway| gateway.trunc().hosts().find(|address| *address != gateway.addr()));
        possible.into_iter().collect()
    }

    /// One of these.
    pub(super) fn guest(&self, family: Family) -> Option<IpAddr> {
        self.guests(family).first().copied()
    }
}

impl Site {
    /// The bridges that this host routes for, in this family.
    pub(super) fn routed(&self, family: Family) -> impl Iterator<Item = (&LinkName, &Bridge)> {
        self.bridges.iter().filter(move |(_, bridge)| bridge.is_routed(family))
    }

    /// The families that this host routes.
    pub(super) fn families(&self) -> BTreeSet<Family> {
        let gateways = self.bridges.values().flat_map(|bridge| &bridge.gateways);
        gateways.map(|gateway| Family::of(gateway.addr())).collect()
    }

    /// By what packets leave for the outside: the bridge that the public interface is a port of, if it is
    /// one.
    pub(super) fn way_out<'a>(&'a self, devices: &'a Devices) -> Option<&'a LinkName> {
        let public = self.public.as_ref()?;
        Some(devices.get(public).and_then(|device| device.master.as_ref()).unwrap_or(public))
    }

    /// The bridge that something of the host's spec belongs to.
    pub(super) fn bridge_of(&self, key: &Key) -> Option<(&LinkName, &Bridge)> {
        let has = |(name, bridge): &(&LinkName, &Bridge)| match key {
            Key::Link(link)
            | Key::Device(link)
            | Key::Uplink(link)
            | Key::Address(link, _)
            | Key::Station(link, _) => {
                link == *name || bridge.leads_out.contains(link) || bridge.ports.contains_key(link)
            }
            Key::Dnsmasq(network)
            | Key::DhcpHost(network, _)
            | Key::DhcpHost6(network, _)
            | Key::DnsName(network, _)
            | Key::DnsRecord(network, _) => bridge.served.as_ref() == Some(network),
            _ => false,
        };
        self.bridges.iter().find(has)
    }

    /// What the host must have, by its spec.
    pub(super) fn asked_for(spec: &HostSpec) -> Self {
        let mut site = Self::default();
        for (key, object) in &spec.objects {
            match (key, object) {
                (Key::Link(name), Object::Link(link)) => site.take_link(name, link),
                (Key::Uplink(device), Object::Uplink(bridge)) => {
                    site.bridge(bridge).leads_out.insert(device.clone());
                }
                (Key::Address(device, address), _) if spec.link(device).is_some() => {
                    site.bridge(device).gateways.insert(*address);
                }
                (Key::Dnsmasq(network), Object::Dnsmasq(dnsmasq)) => {
                    site.bridge(&dnsmasq.bridge).served = Some(network.clone());
                }
                (Key::MetadataProxy(port), _) => site.metadata = Some(*port),
                (Key::Element(Set::FloatingTo | Set::ForwardTo, _), _) => {
                    site.floating.insert(Family::Ipv4);
                }
                (Key::Element(Set::FloatingTo6 | Set::ForwardTo6, _), _) => {
                    site.floating.insert(Family::Ipv6);
                }
                _ => {}
            }
        }
        site.note_instances(spec);
        site.note_vpns(spec);
        site.note_hidden(spec);
        // Of the devices that others make, what is no bridge of a flat network leads outside.
        site.public = spec.objects.keys().find_map(|key| match key {
            Key::Device(device) if !site.bridges.contains_key(device) => Some(device.clone()),
            _ => None,
        });
        site
    }

    /// What has Trestle's marks: all that can be known where no agent says what must be.
    pub(super) fn found(devices: &Devices, addresses: &[(u32, IpNet)]) -> Self {
        let mut site = Self::default();
        for (name, device) in devices.iter().filter(|(_, device)| device.owner == Owner::Ours) {
            let is_port = name.as_str().starts_with(DEVICE_PREFIX);
            match &device.master {
                Some(master) if is_port => {
                    site.bridge(master).ports.insert(name.clone(), Port::default());
                }
                _ if device.is_bridge => site.bridge(name).mtu = Some(device.mtu),
                _ => {}
            }
        }
        for (name, device) in devices {
            let bridge = device.master.as_ref().and_then(|master| site.bridges.get_mut(master));
            let Some(bridge) = bridge.filter(|bridge| !bridge.ports.contains_key(name)) else { continue };
            bridge.leads_out.extend(device.parent.iter().chain([name]).cloned());
        }
        for (index, address) in addresses {
            let holder = devices.iter().find(|(_, device)| device.index == *index);
            if let Some(bridge) = holder.and_then(|(name, _)| site.bridges.get_mut(name)) {
                bridge.gateways.insert(*address);
            }
        }
        site
    }

    fn bridge(&mut self, name: &LinkName) -> &mut Bridge {
        self.bridges.entry(name.clone()).or_default()
    }

    fn take_link(&mut self, name: &LinkName, link: &Link) {
        match (&link.kind, &link.master) {
            (LinkKind::Bridge, _) => self.bridge(name).mtu = Some(link.mtu),
            (LinkKind::Vlan { parent, .. }, Some(master)) => {
                self.bridge(master).leads_out.extend([name.clone(), parent.clone()]);
            }
            (_, Some(master)) => {
                let bridge = self.bridge(master);
                bridge.mtu = Some(link.mtu);
                bridge.ports.insert(name.clone(), Port::default());
            }
            (_, None) => {}
        }
    }

    /// Names and addresses: the guard has each device's MAC and addresses, DHCP each MAC's host name.
    fn note_instances(&mut self, spec: &HostSpec) {
        let hostnames: BTreeMap<String, String> = spec
            .objects
            .iter()
            .filter_map(|(key, object)| match (key, object) {
                (Key::DhcpHost(_, mac), Object::DhcpHost { hostname, .. }) => {
                    Some((mac.to_string(), hostname.to_string()))
                }
                (Key::DhcpHost6(..), Object::DhcpHost6 { mac, hostname }) => {
                    Some((mac.to_string(), hostname.to_string()))
                }
                _ => None,
            })
            .collect();
        for key in spec.objects.keys() {
            let Key::Element(set @ (Set::GuardMac | Set::GuardIp4 | Set::GuardIp6), element) = key else {
                continue;
            };
            let mut parts = element.split(" . ");
            let (Some(device), Some(mac)) = (parts.next(), parts.next()) else { continue };
            let Some(port) = self.port(device) else { continue };
            match set {
                Set::GuardMac => port.hostname = hostnames.get(mac).cloned(),
                _ => port.addresses.extend(parts.next().and_then(|address| address.parse::<IpAddr>().ok())),
            }
        }
    }

    fn note_vpns(&mut self, spec: &HostSpec) {
        for object in spec.objects.values() {
            let Object::Vpn(server) = object else { continue };
            let has_port = |bridge: &&mut Bridge| bridge.ports.contains_key(&server.link);
            self.bridges.values_mut().filter(has_port).for_each(|bridge| {
                bridge.vpns.insert(server.link.clone());
            });
        }
    }

    fn port(&mut self, device: &str) -> Option<&mut Port> {
        let device: LinkName = device.parse().ok()?;
        self.bridges.values_mut().find_map(|bridge| bridge.ports.get_mut(&device))
    }

    /// Through what leads to other hosts with the same gateway no word of DHCP is heard.
    fn note_hidden(&mut self, spec: &HostSpec) {
        for key in spec.objects.keys() {
            let Key::Element(Set::SharedUplink, device) = key else { continue };
            let leads_out =
                |bridge: &&mut Bridge| bridge.leads_out.iter().any(|name| name.as_str() == device);
            self.bridges.values_mut().filter(leads_out).for_each(|bridge| bridge.hears_no_server = true);
        }
    }
}
