//! HostState: what one host has, under the same keys as its spec, ours and foreign.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ownership::Owner;
use crate::spec::{Dnsmasq, Key, Link, Object, Route, Table};
use crate::types::{LinkName, Mac, Name};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr};

/// An object as it was seen, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Whose it is.
    pub owner: Owner,
    /// What it is.
    pub object: Object,
}

/// What one host has. Complete for the keys that were asked for, or never built: an observation
/// that failed half way is an error, not a smaller map.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostState {
    /// What is there.
    pub objects: BTreeMap<Key, Observed>,
}

impl HostState {
    /// What stands under the key.
    pub fn get(&self, key: &Key) -> Option<&Observed> {
        self.objects.get(key)
    }

    /// Notes something of ours.
    pub fn put_ours(&mut self, key: Key, object: Object) {
        self.objects.insert(key, Observed { owner: Owner::Ours, object });
    }

    /// Notes something of anyone else's.
    pub fn put_foreign(&mut self, key: Key, object: Object) {
        self.objects.insert(key, Observed { owner: Owner::Foreign, object });
    }

    /// The link and whose it is.
    pub fn link(&self, name: &LinkName) -> Option<(&Link, Owner)> {
        match self.get(&Key::Link(name.clone())) {
            Some(Observed { owner, object: Object::Link(link) }) => Some((link, *owner)),
            _ => None,
        }
    }

    /// The text of a table of ours, if it is there.
    pub fn ruleset(&self, table: Table) -> Option<&str> {
        match self.get(&Key::Ruleset(table)) {
            Some(Observed { object: Object::Ruleset(text), .. }) => Some(text),
            _ => None,
        }
    }

    /// The running dnsmasq of a network.
    pub fn dnsmasq(&self, network: &Name) -> Option<&Dnsmasq> {
        match self.get(&Key::Dnsmasq(network.clone())) {
            Some(Observed { object: Object::Dnsmasq(dnsmasq), .. }) => Some(dnsmasq),
            _ => None,
        }
    }

    /// The address that a MAC holds a lease for.
    pub fn lease(&self, network: &Name, mac: Mac) -> Option<Ipv4Addr> {
        match self.get(&Key::Lease(network.clone(), mac)) {
            Some(Observed { object: Object::Lease(address), .. }) => Some(*address),
            _ => None,
        }
    }

    /// The foreign addresses on a device.
    pub fn foreign_addresses(&self, link: &LinkName) -> impl Iterator<Item = IpNet> {
        self.objects.iter().filter_map(move |(key, observed)| match key {
            Key::Address(on, address) if on == link && observed.owner == Owner::Foreign => Some(*address),
            _ => None,
        })
    }

    /// The foreign routes through a device, with the address packets leave from and who set them.
    pub fn foreign_routes(&self, link: &LinkName) -> impl Iterator<Item = (&Route, Option<IpAddr>, u8)> {
        self.objects.iter().filter_map(move |(key, observed)| match (key, &observed.object) {
            (Key::Route(by, route), Object::Route { source, protocol })
                if by == link && observed.owner == Owner::Foreign =>
            {
                Some((route, *source, *protocol))
            }
            _ => None,
        })
    }
}
