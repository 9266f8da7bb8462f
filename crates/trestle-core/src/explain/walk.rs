//! A packet on its way from host to host, and what was decided so far.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use super::frame::{Flow, Frame, Source};
use super::host::{Decision, Decisive, HostView};
use super::line::Ruling;
use super::{OwnAddresses, Packet, Problem, Sender, Stage, StageKind, Verdict, vpn, words};
use crate::spec::{Key, Table};
use crate::types::{Family, HostId, Mac};
use crate::world::{Interface, Network, World};

/// Why a packet does not go on.
pub(super) enum End {
    Dropped,
    Unknown(Problem),
}

impl From<Problem> for End {
    fn from(problem: Problem) -> Self {
        Self::Unknown(problem)
    }
}

/// Whether the packet goes on.
pub(super) type Onward<T = ()> = Result<T, End>;

pub(super) struct Walk<'a> {
    pub(super) world: &'a World,
    pub(super) own: &'a OwnAddresses,
    pub(super) frame: Frame,
    pub(super) stages: Vec<Stage>,
    hosts: BTreeMap<HostId, Rc<HostView<'a>>>,
}

/// An interface, and the network that it is on.
pub(super) type Place<'a> = (&'a Interface, &'a Network);

impl<'a> Walk<'a> {
    pub(super) fn new(world: &'a World, own: &'a OwnAddresses, packet: &Packet, now: i64) -> Self {
        let source = Source::OneOf(Vec::new());
        let frame = Frame {
            inbound: None,
            outbound: None,
            sender_mac: None,
            receiver_mac: None,
            source: source.clone(),
            destination: packet.to,
            protocol: packet.protocol,
            port: packet.port,
            icmp: packet.icmp,
            mark: 0,
            flow: Flow::of(source, packet.to, packet.port),
            now,
        };
        Self { world, own, frame, stages: Vec::new(), hosts: BTreeMap::new() }
    }

    pub(super) fn begin(&mut self, from: Sender) -> Onward {
        let to = self.frame.destination;
        if to.is_multicast() || to == IpAddr::from([255; 4]) {
            return Err(Problem::ToMany(to).into());
        }
        match from {
            Sender::Interface(id, address) => {
                let Some(sender) = self.world.interface(id) else {
                    return self.stop(StageKind::Sender, None, "there is no such interface".to_owned());
                };
                let Some(network) = self.world.network(sender.network) else {
                    return self.stop(StageKind::Sender, None, "its network is not known".to_owned());
                };
                self.begin_at_guest((sender, network), address)
            }
            Sender::Host(host, address) => self.begin_at_host(host, address),
            Sender::Outside(address) => {
                self.frame.source = Source::Known(address);
                self.come_from_outside(None)
            }
        }
    }

    fn begin_at_guest(&mut self, (sender, network): Place<'a>, address: Option<IpAddr>) -> Onward {
        let Some(place) = &sender.attachment else {
            return self.stop(StageKind::Sender, None, format!("{} is not plugged in", sender.hostname));
        };
        // A VPN's other addresses are its users'.
        let of_vpn = || self.world.vpn_of(sender.id).map(|vpn| vpn.address);
        let of_vpn = || of_vpn().filter(|own| Family::of(*own) == self.frame.family());
        let Some(address) = address.or_else(of_vpn).or_else(|| self.address_of(sender, network)) else {
            let reason = format!("{} has no {} address there", sender.hostname, self.frame.family());
            return self.stop(StageKind::Sender, Some(place.host), reason);
        };
        let to = self.frame.destination;
        let is_its_own = to.is_loopback() || to.is_unspecified();
        if is_its_own || sender.guest_addresses(network).any(|own| own == to) {
            let reason = self.world.vpn_of(sender.id).and_then(|vpn| vpn::between_its_own(vpn, address, to));
            let reason = reason.unwrap_or_else(|| format!("{to} is its own: it does not leave the instance"));
            return self.stop(StageKind::Sender, Some(place.host), reason);
        }
        let view = self.view(place.host)?;
        let reason = words::plugged_in(sender, network, view.host, address);
        self.pass(StageKind::Sender, Some(place.host), Verdict::Pass, reason);
        self.frame.source = Source::Known(address);
        self.leave_vpn((sender, network), &view)?;
        self.frame.sender_mac = Some(mac_for(sender, address));
        self.frame.inbound = Some(sender.device.clone());
        self.leave_guest(&view, (sender, network))
    }

    /// What it sends from: of its network's range that it writes to if there is one, of the link alone if it
    /// writes to one of those.
    fn address_of(&self, sender: &Interface, network: &Network) -> Option<IpAddr> {
        let to = self.frame.destination;
        let fits = |own: &IpAddr| own.is_ipv4() == to.is_ipv4() && is_link_local(*own) == is_link_local(to);
        let own = || sender.guest_addresses(network).filter(fits);
        let range = network.subnet_of(to).map(|subnet| subnet.cidr);
        own().find(|own| range.is_some_and(|range| range.contains(*own))).or_else(|| own().next())
    }

    /// The interface on a network that has the address: whose it is, else who may have it besides.
    pub(super) fn holder(&self, network: &Network, address: IpAddr) -> Option<&'a Interface> {
        let there =
            |interface: &&Interface| interface.network == network.id && interface.attachment.is_some();
        let holders = || self.world.senders(address).filter(there);
        let own = holders().find(|one| one.guest_addresses(network).any(|own| own == address));
        own.or_else(|| holders().find(|one| one.filtered_addresses(network).contains(&address)))
    }

    /// The same, or why the packet ends there.
    pub(super) fn receiver(&mut self, network: &'a Network, host: Option<HostId>) -> Onward<&'a Interface> {
        let address = self.frame.destination;
        if let Some(receiver) = self.holder(network, address) {
            return Ok(receiver);
        }
        if let Some(away) = self.world.senders(address).find(|one| one.network == network.id) {
            let reason = format!("{}, which has {address}, is not plugged in", away.hostname);
            return Err(self.end(StageKind::Bridge, host, reason));
        }
        let mut there = self.world.interfaces().filter(|one| one.network == network.id);
        if there.any(|one| one.security.is_none() && one.attachment.is_some()) {
            return Err(Problem::Unguarded { address, network: network.name.clone() }.into());
        }
        let reason = format!("nobody on network {} has {address}", network.name);
        Err(self.end(StageKind::Bridge, host, reason))
    }

    pub(super) fn view(&mut self, host: HostId) -> Onward<Rc<HostView<'a>>> {
        if let Some(view) = self.hosts.get(&host) {
            return Ok(view.clone());
        }
        let Some(known) = self.world.host(host) else {
            return Err(self.end(StageKind::Route, None, "its host is not known".to_owned()));
        };
        let view = Rc::new(HostView::new(self.world, known, self.own.get(&host)));
        self.hosts.insert(host, view.clone());
        Ok(view)
    }

    /// Asks a chain that only lets pass or drops, and notes what it said; where it said nothing, what its
    /// `silence` means, if that is worth a word.
    pub(super) fn filter(
        &mut self,
        view: &HostView<'a>,
        (kind, table, chain): (StageKind, Table, &str),
        silence: Option<String>,
    ) -> Onward {
        let Decision { ruling, by } = view.ask(table, chain, &mut self.frame)?;
        let verdict = if ruling == Ruling::Drop { Verdict::Drop } else { Verdict::Pass };
        match by {
            Some(by) => self.note(view, kind, verdict, by),
            None => {
                if let Some(reason) = silence {
                    self.pass(kind, Some(view.host.id), verdict, reason);
                }
            }
        }
        if verdict == Verdict::Drop { Err(End::Dropped) } else { Ok(()) }
    }

    /// Notes what a rule decided.
    fn note(&mut self, view: &HostView<'a>, kind: StageKind, verdict: Verdict, by: Decisive) {
        let reason = words::decided(self.world, view, kind, &by, &self.frame);
        let rule = by.rule.and_then(|number| words::rule(self.world, view.host.id, number));
        let rule = rule.map(|(_, rule)| rule.id);
        self.stages.push(Stage { kind, host: Some(view.host.id), verdict, reason, rule, key: by.key });
    }

    pub(super) fn pass(&mut self, kind: StageKind, host: Option<HostId>, verdict: Verdict, reason: String) {
        self.stages.push(Stage { kind, host, verdict, reason, rule: None, key: None });
    }

    /// Notes what an object decided.
    pub(super) fn pass_by(
        &mut self,
        view: &HostView<'a>,
        (kind, verdict): (StageKind, Verdict),
        reason: String,
        key: Option<Key>,
    ) {
        self.stages.push(Stage { kind, host: Some(view.host.id), verdict, reason, rule: None, key });
    }

    pub(super) fn end(&mut self, kind: StageKind, host: Option<HostId>, reason: String) -> End {
        self.pass(kind, host, Verdict::Drop, reason);
        End::Dropped
    }

    pub(super) fn stop(&mut self, kind: StageKind, host: Option<HostId>, reason: String) -> Onward {
        Err(self.end(kind, host, reason))
    }
}

/// Whether it holds on one link alone (RFC 4291 §2.5.6).
pub(super) fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// The MAC that an interface has an address under.
pub(super) fn mac_for(interface: &Interface, address: IpAddr) -> Mac {
    if interface.addresses.contains(&address) {
        return interface.mac;
    }
    let pairs = interface.security.iter().flat_map(|security| &security.address_pairs);
    let pair = pairs.filter(|pair| pair.range.contains(address)).find_map(|pair| pair.mac);
    pair.unwrap_or(interface.mac)
}
