//! On a host that routes: translation, security groups, isolation, and where it goes next.

use std::net::IpAddr;

use super::frame::{Frame, Source};
use super::host::{Decision, HostView};
use super::line::Ruling;
use super::walk::{End, Onward, Walk, is_link_local, mac_for};
use super::{Problem, StageKind, Verdict, words};
use crate::spec::{Key, Set, Table};
use crate::types::{Cidr, Family, HostId};
use crate::world::{FloatingIp, Network, NetworkType};

impl<'a> Walk<'a> {
    /// Where a floating IP leads, or a question for metadata; whether it leads anywhere.
    pub(super) fn lead_in(&mut self, view: &HostView<'a>) -> Onward<bool> {
        self.lead_by(view, "prerouting")
    }

    fn lead_by(&mut self, view: &HostView<'a>, chain: &str) -> Onward<bool> {
        let before = self.frame.destination;
        let Decision { ruling, by } = self.translate(view, chain)?;
        let Ruling::LeadTo(address, port) = ruling else { return Ok(false) };
        self.frame.lead_to(address, port);
        let reason = match by.as_ref().and_then(|by| by.key.as_ref()) {
            Some(Key::Element(Set::Metadata, _)) => words::answered(view.host),
            _ => words::led_to(before, address, port),
        };
        let stage = (StageKind::DestinationNat, Verdict::Translated);
        self.pass_by(view, stage, reason, by.and_then(|by| by.key));
        Ok(true)
    }

    /// The kernel translates connections: what begins none stays as it is.
    fn translate(&mut self, view: &HostView<'a>, chain: &str) -> Onward<Decision> {
        match self.frame.begins_a_flow() {
            true => Ok(view.ask(Table::Gateway, chain, &mut self.frame)?),
            false => Ok(Decision { ruling: Ruling::Accept, by: None }),
        }
    }

    /// From a device of this host, by its own addresses and routes.
    pub(super) fn route(&mut self, view: &HostView<'a>) -> Onward {
        let to = self.frame.destination;
        self.frame.outbound = None;
        if view.is_its_own(to) == Some(true) || is_link_local(to) {
            return self.reach_host(view);
        }
        if !view.forwards(self.frame.family()) {
            let reason = format!("host {} does not route {}", view.host.name, self.frame.family());
            return self.stop(StageKind::Route, Some(view.host.id), reason);
        }
        let network = self.next(view);
        if network.is_none() && view.is_its_own(to).is_none() && self.is_outside(to) {
            return Err(Problem::OwnAddresses { host: view.host.name.clone(), address: to }.into());
        }
        self.pass_on(view)?;
        self.leave_under(view)?;
        match network {
            Some(network) => self.send_to_guest(view, network),
            None => self.leave_for_outside(view),
        }
    }

    /// Where the host's own ranges lead: to a network on it, or outside.
    fn next(&mut self, view: &HostView<'a>) -> Option<&'a Network> {
        let found = view.route_to(self.frame.destination);
        let network = found.and_then(|(_, link)| {
            self.world.networks_on(view.host.id).find(|network| network.bridge == *link)
        });
        self.frame.outbound =
            network.map(|network| network.bridge.clone()).or_else(|| view.host.public_interface.clone());
        let reason = words::routed(view.host, network, self.frame.outbound.as_ref());
        let key = found.map(|(key, _)| key.clone());
        self.pass_by(view, (StageKind::Route, Verdict::Routed), reason, key);
        network
    }

    /// Whether nothing of Trestle's has the address.
    fn is_outside(&self, address: IpAddr) -> bool {
        self.world.floating_ip(address).is_none() && self.network_of(address).is_none()
    }

    /// What a host sends itself is held to no groups where it sends it.
    pub(super) fn begin_at_host(&mut self, host: HostId, address: IpAddr) -> Onward {
        let view = self.view(host)?;
        let reason = words::sent_by_host(view.host, address);
        self.pass(StageKind::Sender, Some(host), Verdict::Pass, reason);
        self.frame.source = Source::Known(address);
        self.frame.begin();
        self.lead_by(&view, "nat_output")?;
        let to = self.frame.destination;
        if view.is_its_own(to) == Some(true) || to.is_loopback() {
            let reason = format!("it does not leave host {}", view.host.name);
            self.pass(StageKind::Host, Some(host), Verdict::Pass, reason);
            return Ok(());
        }
        let network = match self.flat_neighbour(&view, to) {
            Some(network) => Some(network),
            None => self.next(&view),
        };
        self.filter(&view, (StageKind::Host, Table::Gateway, "output"), None)?;
        self.leave_under(&view)?;
        match network {
            Some(network) => self.send_to_guest(&view, network),
            None => self.leave_for_outside(&view),
        }
    }

    /// The flat network that the host is on by an address of its own, on the administrator's bridge.
    fn flat_neighbour(&mut self, view: &HostView<'a>, to: IpAddr) -> Option<&'a Network> {
        let is_there = |network: &&Network| {
            let range = network.subnet_of(to).map(|subnet| subnet.cidr);
            let has_own =
                |range: Cidr| view.own.is_some_and(|own| own.iter().any(|own| range.contains(*own)));
            network.network_type == NetworkType::Flat && range.is_some_and(has_own)
        };
        let network = self.world.networks_on(view.host.id).find(is_there)?;
        self.frame.outbound = Some(network.bridge.clone());
        let reason = words::routed(view.host, Some(network), None);
        self.pass(StageKind::Route, Some(view.host.id), Verdict::Routed, reason);
        Some(network)
    }

    /// The host itself. What it answers there is not Trestle's to say.
    fn reach_host(&mut self, view: &HostView<'a>) -> Onward {
        let before = self.stages.len();
        self.filter(view, (StageKind::Host, Table::Groups, "input"), None)?;
        self.filter(view, (StageKind::Host, Table::Gateway, "input"), None)?;
        // Two chains that let it pass are one decision.
        self.stages.truncate(before + 1);
        if self.stages.len() == before {
            let reason = format!("it comes to host {} itself", view.host.name);
            self.pass(StageKind::Host, Some(view.host.id), Verdict::Pass, reason);
        }
        Ok(())
    }

    /// What is passed on, routed or bridged: by which networks reach which, and by the security groups of the
    /// guests that are on this host, as `judge` asks them. A packet of a connection that was let through before is
    /// asked none of it.
    pub(super) fn pass_on(&mut self, view: &HostView<'a>) -> Onward {
        self.filter(view, (StageKind::Isolation, Table::Groups, "isolation"), None)?;
        let sender = self.frame.source.known().and_then(|source| self.unheld(view, source));
        self.filter(view, (StageKind::Egress, Table::Groups, "from_guest"), sender)?;
        let receiver = self.unheld(view, self.frame.destination);
        self.filter(view, (StageKind::Ingress, Table::Groups, "to_guest"), receiver)?;
        self.frame.mark = 0;
        Ok(())
    }

    /// What to say where no group speaks of a guest that is here.
    fn unheld(&self, view: &HostView<'a>, address: IpAddr) -> Option<String> {
        let here = self.world.senders(address).find(|interface| interface.is_on(view.host.id))?;
        let is_off = view.has(&Key::Element(Set::Unguarded, here.device.to_string()));
        let why = if is_off { "port security is off" } else { "no group of its is on this host" };
        Some(format!("{} is held to no security group: {why}", here.hostname))
    }

    /// Under which address it leaves.
    pub(super) fn leave_under(&mut self, view: &HostView<'a>) -> Onward {
        let Decision { ruling, by } = self.translate(view, "postrouting")?;
        let key = by.and_then(|by| by.key);
        let source = match ruling {
            Ruling::SendFrom(address) => Source::Known(address),
            Ruling::Masquerade => masqueraded(view, &self.frame),
            _ => {
                if let Some(key) = key {
                    let reason = format!("{} is exempt from source NAT", self.frame.destination);
                    self.pass_by(view, (StageKind::SourceNat, Verdict::Pass), reason, Some(key));
                }
                return Ok(());
            }
        };
        let reason = words::leaves_under(&source, &self.frame, view.host);
        self.frame.source = source;
        self.pass_by(view, (StageKind::SourceNat, Verdict::Translated), reason, key);
        Ok(())
    }

    /// Outside others lead it; what is for a floating IP or a network comes back by the host that has it.
    fn leave_for_outside(&mut self, view: &HostView<'a>) -> Onward {
        let to = self.frame.destination;
        if self.is_outside(to) {
            return Ok(());
        }
        self.come_from_outside(Some(view.host.id))
    }

    /// From outside, where it left a host for, if it did.
    pub(super) fn come_from_outside(&mut self, left: Option<HostId>) -> Onward {
        let to = self.frame.destination;
        self.frame.sender_mac = None;
        self.frame.outbound = None;
        if let Some(floating) = self.world.floating_ip(to) {
            return self.come_to_floating_ip(floating);
        }
        let Some(network) = self.network_of(to) else {
            return self.come_to_host(to);
        };
        if network.network_type == NetworkType::Flat {
            return self.come_by_wire(network);
        }
        let Some(host) = self.way_in(network).filter(|host| left != Some(*host)) else {
            let reason = format!("no host leads from outside to {to} on network {}", network.name);
            return self.stop(StageKind::Route, None, reason);
        };
        let view = self.view(host)?;
        self.frame.inbound = view.host.public_interface.clone();
        self.come_in(&view)
    }

    /// By an address that a host has for itself.
    fn come_to_host(&mut self, to: IpAddr) -> Onward {
        let Some((host, _)) = self.own.iter().find(|(_, own)| own.contains(&to)) else {
            return self.stop(StageKind::Route, None, format!("no host has {to}, or leads to it"));
        };
        let view = self.view(*host)?;
        self.frame.inbound = view.host.public_interface.clone();
        self.come_in(&view)
    }

    fn come_to_floating_ip(&mut self, floating: &'a FloatingIp) -> Onward {
        let to = floating.address;
        let Some(host) = self.world.holder(floating) else {
            let reason = format!("no host has floating IP {to}: what it leads to is not plugged in");
            return self.stop(StageKind::Route, None, reason);
        };
        let view = self.view(host)?;
        let Some((_, device)) = view.has_address(to) else {
            let reason = format!("host {} does not have floating IP {to}", view.host.name);
            return self.stop(StageKind::Route, Some(host), reason);
        };
        self.frame.inbound = Some(device.clone());
        self.come_in(&view)
    }

    fn come_in(&mut self, view: &HostView<'a>) -> Onward {
        let reason = words::comes_in(&self.frame, view.host);
        self.pass(StageKind::Route, Some(view.host.id), Verdict::Routed, reason);
        self.frame.begin();
        self.lead_in(view)?;
        self.route(view)
    }

    /// By the administrator's bridge of a flat network.
    fn come_by_wire(&mut self, network: &'a Network) -> Onward {
        let receiver = self.receiver(network, None)?;
        let Some(place) = &receiver.attachment else { return Err(End::Dropped) };
        let view = self.view(place.host)?;
        self.frame.inbound = None;
        self.frame.receiver_mac = Some(mac_for(receiver, self.frame.destination));
        let reason = format!("it comes to host {} by bridge {}", view.host.name, network.bridge);
        self.pass(StageKind::Route, Some(place.host), Verdict::Routed, reason);
        self.frame.begin();
        self.reach_port(&view, (receiver, network))
    }

    fn network_of(&self, address: IpAddr) -> Option<&'a Network> {
        self.world.networks().find(|network| network.subnet_of(address).is_some())
    }

    /// The host that leads to an address of a network.
    fn way_in(&self, network: &Network) -> Option<HostId> {
        let receiver = self.holder(network, self.frame.destination);
        let serving = receiver.and_then(|receiver| self.world.serving_host(receiver));
        let any = || self.world.hosts().map(|host| host.id).find(|host| self.world.routes(*host, network));
        serving.or_else(any).filter(|host| self.world.routes(*host, network))
    }
}

/// What a host has on the device that the packet leaves by; of one that others make it is one of its own.
fn masqueraded(view: &HostView<'_>, frame: &Frame) -> Source {
    let bridge = frame.outbound.as_ref().filter(|device| view.has(&Key::Link((*device).clone())));
    let address = bridge.and_then(|bridge| view.address_on(bridge, frame.destination));
    address.map_or_else(
        || {
            let is_of_family = |own: &&IpAddr| Family::of(**own) == frame.family();
            Source::OneOf(view.own.into_iter().flatten().filter(is_of_family).copied().collect())
        },
        Source::Known,
    )
}
