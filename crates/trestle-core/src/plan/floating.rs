//! Floating IPs on the devices that lead outside, and what other hosts say of them.
//!
//! A host answers for a floating IP until it is told not to, and it may be away when that is said.
//! The kernel hears the next holder's announcement and yields by itself (`Table::Claims`). Here it is
//! decided who is right: the controller, when it is there.

use std::net::IpAddr;

use ipnet::IpNet;

use super::link::missing_interface;
use super::{HostSpec, Planner, ProblemCode, Step};
use crate::spec::{Key, Object, Set, Table};
use crate::types::LinkName;

/// The element by which the kernel notes that another host has claimed an address.
fn claim(link: &LinkName, address: IpAddr) -> Key {
    let set = if address.is_ipv4() { Set::Yielded } else { Set::Yielded6 };
    Key::Element(set, format!("{link} . {address}"))
}

/// The address that such an element is about.
fn claimed(set: Set, element: &str) -> Option<(LinkName, IpNet)> {
    let (link, address) = match set {
        Set::Yielded | Set::Yielded6 => element.split_once(" . ")?,
        _ => return None,
    };
    Some((link.parse().ok()?, IpNet::from(address.parse::<IpAddr>().ok()?)))
}

/// What must have been observed to plan an element of who claimed what.
pub(super) fn claim_reads(set: Set, element: &str) -> Option<Key> {
    claimed(set, element).map(|(link, address)| Key::Address(link, address))
}

/// What must have been observed to plan an address: of one that stands on a device of others, who has
/// claimed it, and, where the controller may have given it to another host, who answers for it.
pub(super) fn address_reads(spec: &HostSpec, link: &LinkName, address: IpNet) -> Vec<Key> {
    if spec.link(link).is_some() {
        return Vec::new();
    }
    let claim = claim(link, address.addr());
    let table = match &claim {
        Key::Element(set, _) => set.table(),
        _ => Table::Claims,
    };
    let is_wanted = spec.objects.contains_key(&Key::Address(link.clone(), address));
    let asked = (spec.unconfirmed && is_wanted).then(|| Key::Neighbour(link.clone(), address.addr()));
    [claim, Key::Ruleset(table)].into_iter().chain(asked).collect()
}

impl Planner<'_> {
    pub(super) fn plan_floating_address(&mut self, key: &Key, link: &LinkName, address: IpNet) {
        let have = self.state.get(key).map(|have| have.owner);
        let ip = address.addr();
        if self.state.link(link).is_none() {
            return self.problem(key, ProblemCode::InterfaceMissing, missing_interface(link));
        }
        if self.state.foreign_addresses(link).any(|foreign| foreign.addr() == ip) {
            let detail = format!(
                "{link} has {ip} already, and not from Trestle; take the address off the device, or out of its pool"
            );
            return self.problem(key, ProblemCode::ForeignInTheWay, detail);
        }
        self.plan_claim_of(link, address);
        let is_claimed = self.state.get(&claim(link, ip)).is_some();
        let neighbour = self.state.get(&Key::Neighbour(link.clone(), ip)).map(|have| &have.object);
        match (self.spec.unconfirmed, have, neighbour) {
            // The controller says so: whoever else has it is wrong, and the neighbours are told.
            (false, have, _) if have.is_none() || is_claimed => {
                self.step(Step::AddAddress { link: link.clone(), address });
            }
            (true, None, Some(Object::Neighbour(mac))) => {
                let detail = format!(
                    "{mac} answers for {ip} on {link}: the controller, which is away, may have given it to another host"
                );
                self.problem(key, ProblemCode::ForeignInTheWay, detail);
            }
            (true, None, _) => self.step(Step::AddAddress { link: link.clone(), address }),
            _ => {}
        }
    }

    /// What becomes of a claim is planned with the address, too: the kernel notes claims by itself, so
    /// no change of the spec names them.
    pub(super) fn plan_claim_of(&mut self, link: &LinkName, address: IpNet) {
        let key = claim(link, address.addr());
        if let Key::Element(set, element) = &key
            && self.spec.link(link).is_none()
            && address.prefix_len() == address.max_prefix_len()
        {
            self.plan_claim(&key, *set, element);
        }
    }

    /// A claim stands as long as the controller cannot say whether it is right. One of an address that
    /// is not this host's any more goes after the address, which would be answered for again else.
    pub(super) fn plan_claim(&mut self, key: &Key, set: Set, element: &str) {
        let is_wanted =
            claim_reads(set, element).is_some_and(|address| self.spec.objects.contains_key(&address));
        if self.state.get(key).is_none() || !self.table_stays(set.table()) {
            return;
        }
        let element = element.to_owned();
        match (is_wanted, self.spec.unconfirmed) {
            (true, true) => {}
            (true, false) => self.step(Step::ForgetClaim { set, element }),
            (false, _) => self.step(Step::DeleteElement { set, element }),
        }
    }
}
