//! On a bridge: from a guest to its neighbours or its router, and from host to host.

use std::net::IpAddr;

use super::host::HostView;
use super::walk::{Onward, Place, Walk, is_link_local, mac_for};
use super::{StageKind, Verdict, words};
use crate::spec::{Key, Table};
use crate::types::{Family, HostId, LinkName};
use crate::world::{Gateways, Interface, Network, NetworkType};

impl<'a> Walk<'a> {
    /// From the guest's device on: to a neighbour, or to the network's router.
    pub(super) fn leave_guest(&mut self, view: &HostView<'a>, (sender, network): Place<'a>) -> Onward {
        self.frame.begin();
        self.filter(view, (StageKind::Guard, Table::Guard, "prerouting"), None)?;
        let to = self.frame.destination;
        let is_near = network.subnet_of(to).is_some() || is_link_local(to);
        let port = self.frame.inbound.replace(network.bridge.clone());
        // A bridge whose packets are filtered as routed ones are has them translated as well.
        if self.lead_in(view)? {
            return self.route(view);
        }
        self.frame.inbound = port;
        let router = self.router(network, sender);
        if let Some(router) = router.filter(|router| !is_near || has_router(network, *router, to)) {
            return self.hand_to_router(view, network, router);
        }
        if is_near && !has_foreign_router(network, to) {
            return self.hand_to_neighbour(view, network);
        }
        self.leave_for_foreign_router(view, network)
    }

    /// The host that routes for what the guest sends.
    fn router(&self, network: &Network, sender: &Interface) -> Option<HostId> {
        let host = match (network.network_type, &network.gateways) {
            (NetworkType::Flat, _) => None,
            (_, Gateways::One(gateway)) => *gateway,
            (_, Gateways::Shared | Gateways::PerHost(_)) => {
                sender.attachment.as_ref().map(|place| place.host)
            }
        };
        host.filter(|host| self.world.routes(*host, network))
    }

    fn hand_to_router(&mut self, view: &HostView<'a>, network: &'a Network, router: HostId) -> Onward {
        if router == view.host.id {
            self.frame.inbound = Some(network.bridge.clone());
            return self.route(view);
        }
        self.leave_host(view, network)?;
        let there = self.view(router)?;
        self.enter_host(view, &there, network)?;
        self.frame.inbound = Some(network.bridge.clone());
        self.lead_in(&there)?;
        self.route(&there)
    }

    fn hand_to_neighbour(&mut self, view: &HostView<'a>, network: &'a Network) -> Onward {
        let to = self.frame.destination;
        let receiver = self.receiver(network, Some(view.host.id))?;
        self.frame.receiver_mac = Some(mac_for(receiver, to));
        self.bridge_to(view, (receiver, network))
    }

    /// Bridged from here to the receiver's device, on this host or another one.
    fn bridge_to(&mut self, view: &HostView<'a>, (receiver, network): Place<'a>) -> Onward {
        let there = receiver.attachment.as_ref().map_or(view.host.id, |place| place.host);
        if there == view.host.id {
            return self.reach_port(view, (receiver, network));
        }
        self.leave_host(view, network)?;
        let there = self.view(there)?;
        self.enter_host(view, &there, network)?;
        self.reach_port(&there, (receiver, network))
    }

    /// Off the wire of a network, to a port of its bridge here.
    pub(super) fn reach_port(&mut self, view: &HostView<'a>, (receiver, network): Place<'a>) -> Onward {
        let device = receiver.device.clone();
        self.cross_bridge(view, network, Some(device))?;
        self.deliver(view, (receiver, network))
    }

    fn deliver(&mut self, view: &HostView<'a>, (receiver, network): Place<'a>) -> Onward {
        self.enter_vpn((receiver, network), view)?;
        let key = Some(Key::Link(receiver.device.clone())).filter(|key| view.has(key));
        let reason = format!("it is delivered to {}, by {}", receiver.hostname, receiver.device);
        self.pass_by(view, (StageKind::Bridge, Verdict::Pass), reason, key);
        Ok(())
    }

    /// What is bridged passes the guard, then, where the bridge's packets are filtered as routed ones are,
    /// the security groups and the gateway's chains, for which both its devices are the bridge.
    fn cross_bridge(&mut self, view: &HostView<'a>, network: &Network, out: Option<LinkName>) -> Onward {
        self.frame.outbound = out;
        self.filter(view, (StageKind::Guard, Table::Guard, "forward"), None)?;
        if !view.has(&Key::BridgeFilter(network.bridge.clone())) {
            return Ok(());
        }
        let port = self.frame.inbound.replace(network.bridge.clone());
        self.frame.outbound = Some(network.bridge.clone());
        self.pass_on(view)?;
        self.leave_under(view)?;
        self.frame.inbound = port;
        Ok(())
    }

    /// Out by the device that the bridge leads to other hosts by.
    fn leave_host(&mut self, view: &HostView<'a>, network: &Network) -> Onward {
        let uplink = self.way_out(view, network)?;
        self.cross_bridge(view, network, uplink)
    }

    /// A bridge without such a device leads to nobody. A flat network's is the administrator's, who
    /// alone knows.
    fn way_out(&mut self, view: &HostView<'a>, network: &Network) -> Onward<Option<LinkName>> {
        let uplink = view.uplink(&network.bridge).cloned();
        if uplink.is_none() && network.network_type != NetworkType::Flat {
            let reason = format!("{} leads to no other host", network.bridge);
            return Err(self.end(StageKind::Bridge, Some(view.host.id), reason));
        }
        Ok(uplink)
    }

    /// On to another host, by the wire between them.
    fn enter_host(&mut self, from: &HostView<'a>, view: &HostView<'a>, network: &Network) -> Onward {
        self.frame.inbound = self.way_out(view, network)?;
        self.frame.outbound = None;
        let key = Some(Key::Link(network.bridge.clone())).filter(|key| from.has(key));
        let reason = words::bridged(network, from.host, view.host, from.uplink(&network.bridge));
        self.pass_by(from, (StageKind::Bridge, Verdict::Pass), reason, key);
        self.frame.begin();
        self.filter(view, (StageKind::Guard, Table::Guard, "prerouting"), None)
    }

    /// What this host itself sends on a bridge, to a guest.
    pub(super) fn send_to_guest(&mut self, view: &HostView<'a>, network: &'a Network) -> Onward {
        let to = self.frame.destination;
        let receiver = self.receiver(network, Some(view.host.id))?;
        let there = receiver.attachment.as_ref().map_or(view.host.id, |place| place.host);
        self.frame.inbound = None;
        self.frame.sender_mac = view.bridge_mac(&network.bridge);
        self.frame.receiver_mac = Some(mac_for(receiver, to));
        if there == view.host.id {
            self.frame.outbound = Some(receiver.device.clone());
            self.filter(view, (StageKind::Guard, Table::Guard, "output"), None)?;
            return self.deliver(view, (receiver, network));
        }
        self.frame.outbound = self.way_out(view, network)?;
        self.filter(view, (StageKind::Guard, Table::Guard, "output"), None)?;
        let there = self.view(there)?;
        self.enter_host(view, &there, network)?;
        self.reach_port(&there, (receiver, network))
    }

    /// A router that is not Trestle's: what it does with it is not known here.
    fn leave_for_foreign_router(&mut self, view: &HostView<'a>, network: &Network) -> Onward {
        let family = self.frame.family();
        let Some(router) = foreign_routers(network).find(|router| Family::of(*router) == family) else {
            let reason = format!("no host routes for network {}", network.name);
            return self.stop(StageKind::Route, Some(view.host.id), reason);
        };
        self.cross_bridge(view, network, None)?;
        let reason =
            format!("it leaves for {router}, the router of network {}, which is not Trestle's", network.name);
        self.pass(StageKind::Route, Some(view.host.id), Verdict::Routed, reason);
        Ok(())
    }
}

/// The routers of a flat network.
fn foreign_routers(network: &Network) -> impl Iterator<Item = IpAddr> {
    let is_flat = network.network_type == NetworkType::Flat;
    network.subnets().filter(move |_| is_flat).filter_map(|subnet| subnet.gateway)
}

fn has_foreign_router(network: &Network, address: IpAddr) -> bool {
    foreign_routers(network).any(|router| router == address)
}

/// Whether the address is the router's on this host.
fn has_router(network: &Network, host: HostId, address: IpAddr) -> bool {
    let own = network.gateway_addresses(host);
    own.iter().any(|(gateway, _)| *gateway == address)
        || address == IpAddr::from(network.bridge_mac.link_local())
}
