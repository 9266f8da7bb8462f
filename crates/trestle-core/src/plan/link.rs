//! Devices, what they rest on, and the addresses that move with an uplink.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::{LinkChange, Planner, ProblemCode, Step, rests_on};
use crate::ownership::Owner;
use crate::spec::{Key, Link, LinkKind, LinkMac, Object};
use crate::state::Observed;
use crate::types::{LinkName, Mac};

impl Planner<'_> {
    pub(super) fn plan_link(&mut self, key: &Key, name: &LinkName) {
        match (self.spec.link(name), self.state.link(name)) {
            (Some(wanted), have) => self.plan_wanted_link(key, name, wanted, have),
            (None, Some((have, Owner::Ours))) => self.step(delete_link(name, have)),
            (None, _) => {}
        }
    }

    fn plan_wanted_link(&mut self, key: &Key, name: &LinkName, wanted: &Link, have: Option<(&Link, Owner)>) {
        if let Some((code, detail)) = self.obstacle(name) {
            return self.problem(key, code, detail);
        }
        if let Some(bridge) = wanted.master.as_ref()
            && let Some(detail) = self.bridge_obstacle(bridge)
        {
            return self.problem(key, ProblemCode::Blocked, detail);
        }
        match have {
            Some((have, _)) if have.kind == wanted.kind => {
                let changes = self.link_changes(wanted, have);
                if !changes.is_empty() {
                    self.step(Step::SetLink { link: name.clone(), changes });
                }
            }
            Some((have, _)) => {
                self.step(delete_link(name, have));
                self.create_link(name, wanted);
            }
            None => self.create_link(name, wanted),
        }
    }

    fn create_link(&mut self, name: &LinkName, wanted: &Link) {
        let link = name.clone();
        match (&wanted.kind, self.mac(wanted)) {
            (LinkKind::Bridge, Some(mac)) => self.step(Step::CreateBridge { link, mac, mtu: wanted.mtu }),
            (LinkKind::Vlan { .. }, _) => self.step(Step::CreateVlan { link, vlan: wanted.clone() }),
            _ => self.step(Step::CreatePort { link, port: wanted.clone() }),
        }
    }

    fn link_changes(&self, wanted: &Link, have: &Link) -> BTreeSet<LinkChange> {
        let mac = self.mac(wanted).filter(|mac| have.mac != Some(LinkMac::Fixed(*mac)));
        let mtu = (have.mtu != wanted.mtu).then_some(wanted.mtu);
        let master = wanted.master.clone().filter(|_| have.master != wanted.master);
        let up = (!have.up).then_some(LinkChange::Up);
        let carrier = match &wanted.kind {
            LinkKind::Vlan { parent, .. } => Some(parent),
            _ => None,
        };
        let is_down = |device: &&LinkName| self.state.link(device).is_some_and(|(device, _)| !device.up);
        let carrier = carrier.filter(is_down).cloned().map(LinkChange::Carrier);
        let changes =
            [mac.map(LinkChange::Mac), mtu.map(LinkChange::Mtu), carrier, master.map(LinkChange::Master), up];
        changes.into_iter().flatten().collect()
    }

    /// The MAC a link is to have, if the spec says and the device it is taken from is there.
    fn mac(&self, wanted: &Link) -> Option<Mac> {
        match wanted.mac.as_ref()? {
            LinkMac::Fixed(mac) => Some(*mac),
            LinkMac::Of(other) => self.seen_mac(other),
            LinkMac::Gateway { mac, uplink } => {
                if self.brings_addresses(uplink) {
                    self.seen_mac(uplink)
                } else {
                    Some(*mac)
                }
            }
        }
    }

    /// Whether the host has addresses of its own on this device, on the bridge that it is in, or on
    /// the one that it is just being switched to. On a bridge that it is to be put into from
    /// outside they are another device's, and leave with that.
    fn brings_addresses(&self, uplink: &LinkName) -> bool {
        let key = Key::Uplink(uplink.clone());
        let is_in = self.state.get(&key).map(|have| &have.object);
        let is_to_be_in = self.wanted(&key).filter(|_| is_in.is_some());
        let bridges = is_in.into_iter().chain(is_to_be_in).filter_map(|object| match object {
            Object::Uplink(bridge) => Some(bridge),
            _ => None,
        });
        // One that another device is about to leave has that one's addresses until it does.
        let is_left = |bridge: &&LinkName| {
            let mut others = self.spec.uplinks().filter(|(other, to)| *other != uplink && to != bridge);
            others.any(|(other, _)| {
                let is_in = self.state.get(&Key::Uplink(other.clone())).map(|have| &have.object);
                matches!(is_in, Some(Object::Uplink(is_in)) if is_in == *bridge)
            })
        };
        let mut devices = bridges.filter(|bridge| !is_left(bridge)).chain([uplink]);
        devices.any(|device| self.state.foreign_addresses(device).next().is_some())
    }

    fn seen_mac(&self, name: &LinkName) -> Option<Mac> {
        match self.state.link(name)?.0.mac {
            Some(LinkMac::Fixed(mac)) => Some(mac),
            _ => None,
        }
    }

    /// What keeps a port out of this bridge, as its owner reads it. One that is not in the spec is
    /// the administrator's, and has to be there.
    pub(super) fn bridge_obstacle(&self, bridge: &LinkName) -> Option<String> {
        if self.spec.link(bridge).is_some() {
            let (_, detail) = self.obstacle(bridge)?;
            return Some(format!("its bridge {bridge} cannot be made: {detail}"));
        }
        match self.state.link(bridge) {
            Some((have, _)) if have.kind == LinkKind::Bridge => None,
            Some(_) => {
                Some(format!("{bridge} is not a bridge; make one, a flat network's is not made by Trestle"))
            }
            None => Some(format!(
                "the bridge {bridge} does not exist on this host; make it, a flat network's is not made by Trestle"
            )),
        }
    }

    /// What keeps a link of the spec from being made, itself and what it rests on considered.
    pub(super) fn obstacle(&self, name: &LinkName) -> Option<(ProblemCode, String)> {
        let wanted = self.spec.link(name)?;
        if let Some((have, owner)) = self.state.link(name) {
            let of_another_kind = wanted.kind == LinkKind::Bridge && have.kind != LinkKind::Bridge;
            if owner == Owner::Foreign || of_another_kind {
                let detail = format!(
                    "a device {name} exists that is not Trestle's; give the network another bridge, or the device another name"
                );
                return Some((ProblemCode::ForeignInTheWay, detail));
            }
        }
        let under = rests_on(self.spec, name)?;
        if self.spec.link(under).is_some() {
            return self.obstacle(under);
        }
        match self.state.link(under) {
            None => Some((ProblemCode::InterfaceMissing, missing_interface(under))),
            Some((have, _)) if wanted.kind == LinkKind::Bridge => self.taken(under, have, name),
            Some((have, _)) if have.mtu < wanted.mtu => {
                let detail = format!(
                    "{under} has an MTU of {}, the network needs {}; set the MTU of {under}, or give the network a smaller one",
                    have.mtu, wanted.mtu
                );
                Some((ProblemCode::MtuTooLarge, detail))
            }
            Some(_) => None,
        }
    }

    fn taken(&self, link: &LinkName, have: &Link, bridge: &LinkName) -> Option<(ProblemCode, String)> {
        let master = have.master.as_ref().filter(|master| *master != bridge)?;
        let foreign = !matches!(self.state.link(master), Some((_, Owner::Ours)));
        let detail = format!(
            "{link} is a port of {master}, which is not Trestle's; take it out or name another device"
        );
        foreign.then_some((ProblemCode::InterfaceTaken, detail))
    }

    /// Others make it; all there is to do is to say that it is missing.
    pub(super) fn plan_device(&mut self, key: &Key, link: &LinkName) {
        if self.wanted(key).is_some() && self.state.link(link).is_none() {
            self.problem(key, ProblemCode::InterfaceMissing, missing_interface(link));
        }
    }

    /// Whether the link is there and will not be made anew.
    pub(super) fn is_as_wanted(&self, name: &LinkName) -> bool {
        let kind = self.spec.link(name).map(|wanted| &wanted.kind);
        self.state.link(name).is_some_and(|(have, _)| kind.is_none_or(|wanted| *wanted == have.kind))
    }

    pub(super) fn plan_station(&mut self, key: &Key, bridge: &LinkName, mac: Mac) {
        let have = match self.state.get(key) {
            Some(Observed { owner: Owner::Ours, object: Object::Station { port, .. } }) => Some(port),
            _ => None,
        };
        let bridge = bridge.clone();
        match self.wanted(key).cloned() {
            Some(Object::Station { port, addresses }) => {
                if let Some((_, detail)) = self.obstacle(&port) {
                    return self.problem(key, ProblemCode::Blocked, detail);
                }
                if let Some(detail) = self.bridge_obstacle(&bridge) {
                    return self.problem(key, ProblemCode::Blocked, detail);
                }
                if have != Some(&port) || !self.is_as_wanted(&port) || !self.is_as_wanted(&bridge) {
                    self.step(Step::SetStation { bridge, mac, port, addresses });
                }
            }
            _ if have.is_some() => self.step(Step::DeleteStation { bridge, mac }),
            _ => {}
        }
    }

    pub(super) fn plan_uplink(&mut self, key: &Key, link: &LinkName) {
        let enslaved = match self.state.get(key) {
            Some(Observed { object: Object::Uplink(bridge), .. }) => Some(bridge.clone()),
            _ => None,
        };
        match (self.wanted(key).cloned(), enslaved) {
            (Some(Object::Uplink(bridge)), enslaved) => match self.uplink_obstacle(link, &bridge) {
                None => self.enslave(link, &bridge, enslaved),
                Some((code, detail)) => {
                    self.problem(key, code, detail);
                    if let Some(old) = enslaved.filter(|old| *old != bridge) {
                        self.release_uplink(link, &old);
                    }
                }
            },
            (_, Some(bridge)) => self.release_uplink(link, &bridge),
            _ => {}
        }
    }

    fn uplink_obstacle(&self, link: &LinkName, bridge: &LinkName) -> Option<(ProblemCode, String)> {
        let Some((have, _)) = self.state.link(link) else {
            return Some((ProblemCode::InterfaceMissing, missing_interface(link)));
        };
        let blocked =
            |(_, detail)| (ProblemCode::Blocked, format!("its bridge {bridge} cannot be made: {detail}"));
        self.taken(link, have, bridge).or_else(|| self.obstacle(bridge).map(blocked))
    }

    fn enslave(&mut self, link: &LinkName, bridge: &LinkName, enslaved: Option<LinkName>) {
        let have = self.state.link(link).map(|(have, _)| have);
        let is_port = have.is_some_and(|have| have.up && have.master.as_ref() == Some(bridge));
        let (link, bridge) = (link.clone(), bridge.clone());
        self.move_addresses(&link, &bridge);
        match enslaved.filter(|old| *old != bridge) {
            Some(old) => {
                self.move_addresses(&old, &bridge);
                self.step(Step::SwitchUplink { link, bridge });
            }
            None if is_port && self.state.get(&Key::Uplink(link.clone())).is_some() => {}
            None => self.step(Step::Enslave { link, bridge }),
        }
    }

    fn release_uplink(&mut self, link: &LinkName, bridge: &LinkName) {
        let state = self.state;
        for address in state.foreign_addresses(bridge) {
            self.step(Step::ReturnAddress { address, from: bridge.clone(), to: link.clone() });
            self.step(Step::DropReturned { address, from: bridge.clone() });
        }
        for (route, source, protocol) in state.foreign_routes(bridge) {
            let (from, to, route) = (bridge.clone(), link.clone(), route.clone());
            self.step(Step::ReturnRoute { route, source, protocol, from, to });
        }
        self.step(Step::ReleaseUplink { link: link.clone() });
    }

    /// Every address and route is on the new device before it leaves the old one, so that no
    /// connection is cut and no crash loses one.
    fn move_addresses(&mut self, from: &LinkName, to: &LinkName) {
        let state = self.state;
        for address in state.foreign_addresses(from) {
            self.step(Step::CopyAddress { address, from: from.clone(), to: to.clone() });
            self.step(Step::DropAddress { address, from: from.clone() });
        }
        for (route, source, protocol) in state.foreign_routes(from) {
            let (from, to, route) = (from.clone(), to.clone(), route.clone());
            self.step(Step::MoveRoute { route, source, protocol, from, to });
        }
    }

    pub(super) fn plan_address(&mut self, key: &Key, link: &LinkName, address: IpNet) {
        let have = self.state.get(key).map(|have| have.owner);
        if self.wanted(key).is_none() {
            if have == Some(Owner::Ours) {
                self.step(Step::DeleteAddress { link: link.clone(), address });
            }
            self.plan_claim_of(link, address);
        } else if self.spec.link(link).is_none() {
            self.plan_floating_address(key, link, address);
        } else if let Some((_, detail)) = self.obstacle(link) {
            let detail = format!("its device {link} cannot be made: {detail}");
            self.problem(key, ProblemCode::Blocked, detail);
        } else if have.is_none() {
            self.step(Step::AddAddress { link: link.clone(), address });
        }
    }
}

fn delete_link(name: &LinkName, have: &Link) -> Step {
    match have.kind {
        LinkKind::Bridge => Step::DeleteBridge { link: name.clone() },
        LinkKind::Vlan { .. } => Step::DeleteVlan { link: name.clone() },
        _ => Step::DeletePort { link: name.clone() },
    }
}

pub(super) fn missing_interface(link: &LinkName) -> String {
    format!("the device {link} does not exist on this host; make it, or name another with `trestle host set`")
}
