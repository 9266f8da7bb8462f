//! Puts together what a host has: all of it, or what stands under some keys.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use trestle_core::ownership::Owner;
use trestle_core::plan::reads;
use trestle_core::spec::{HostSpec, Key, Object, Route};
use trestle_core::state::{HostState, Observed};
use trestle_core::types::{LinkName, Name};

use super::address::Held;
use super::files::{Reading, record_file};
use super::link::Device;
use super::nftables::{Asked, Tables};
use super::route::Led;
use super::watch::Scope;
use super::{LinuxHost, address, bridge, dnsmasq, link, probe, route, station, sysctl};
use crate::host::error::{NetlinkError, ObserveError};

/// Looked up one by one up to here, by one listing from here on.
const FEW_LINKS: usize = 64;

fn listing(what: &'static str) -> impl FnOnce(NetlinkError) -> ObserveError {
    move |source| ObserveError::List { what: what.to_owned(), source }
}

/// Devices that were looked at.
#[derive(Debug)]
struct Devices {
    by_index: BTreeMap<u32, Device>,
    by_name: BTreeMap<LinkName, u32>,
    /// The physical devices that we enslaved.
    uplinks: BTreeSet<String>,
}

impl Devices {
    fn new(uplinks: BTreeSet<String>) -> Self {
        Self { by_index: BTreeMap::new(), by_name: BTreeMap::new(), uplinks }
    }

    fn insert(&mut self, device: Device) {
        self.by_name.insert(device.link_name(), device.index);
        self.by_index.insert(device.index, device);
    }

    fn named(&self, name: &LinkName) -> Option<&Device> {
        self.by_index.get(self.by_name.get(name)?)
    }

    fn master(&self, device: &Device) -> Option<&Device> {
        self.by_index.get(&device.master?)
    }

    /// The bridge of ours that a physical device is in because we put it there.
    fn enslaver(&self, device: &Device) -> Option<&Device> {
        let enslaved_by_us = self.uplinks.contains(&device.name);
        self.master(device).filter(|master| master.is_our_bridge() && enslaved_by_us)
    }

    fn parent(&self, device: &Device) -> Option<&Device> {
        self.by_index.get(&device.vlan?.parent)
    }

    fn put_link(&self, state: &mut HostState, device: &Device) {
        let name = Device::link_name;
        let link = device.link(self.master(device).map(name), self.parent(device).map(name));
        let (key, object) = (Key::Link(device.link_name()), Object::Link(link));
        state.objects.insert(key, Observed { owner: device.owner(), object });
    }

    fn put_filter(&self, state: &mut HostState, device: &Device) {
        if device.filtered && bridge::has_filter() {
            state.put_foreign(Key::BridgeFilter(device.link_name()), Object::BridgeFilter);
        }
    }

    fn put_uplink(&self, state: &mut HostState, device: &Device) {
        if let Some(bridge) = self.enslaver(device) {
            state.put_ours(Key::Uplink(device.link_name()), Object::Uplink(bridge.link_name()));
        }
    }

    /// Only what is held fast at a port of ours is ours.
    fn put_station(&self, state: &mut HostState, held: &station::Held) {
        let (bridge, port) = (self.by_index.get(&held.bridge), self.by_index.get(&held.port));
        if let Some((bridge, port)) = bridge.zip(port).filter(|(_, port)| port.owner() == Owner::Ours) {
            let key = Key::Station(bridge.link_name(), held.mac);
            let addresses = BTreeSet::new();
            state.put_ours(key, Object::Station { port: port.link_name(), addresses });
        }
    }
}

fn put_address(state: &mut HostState, device: &Device, held: &Held) {
    let key = Key::Address(device.link_name(), held.address);
    state.objects.insert(key, Observed { owner: held.owner, object: Object::Address });
}

fn put_route(state: &mut HostState, device: &Device, led: &Led) {
    let key = Key::Route(device.link_name(), led.route.clone());
    state.put_foreign(key, Object::Route { source: led.source, protocol: led.protocol });
}

fn put_tables(state: &mut HostState, tables: Tables) {
    for (table, text) in tables.rulesets {
        state.put_ours(Key::Ruleset(table), Object::Ruleset(text));
    }
    for (chain, rules) in tables.chains {
        state.put_ours(Key::Chain(chain), Object::Chain(rules));
    }
    for set in tables.sets {
        state.put_ours(Key::Set(set), Object::Set);
    }
    for ((set, element), value) in tables.elements {
        state.put_ours(Key::Element(set, element), value.map_or(Object::Element, Object::Mapping));
    }
}

impl LinuxHost {
    pub(super) async fn observe_all(&self, spec: &HostSpec) -> Result<HostState, ObserveError> {
        let mut scope = whole_scope(spec);
        self.watch.set_scope(scope.clone());
        let texts = spec.objects.iter().filter_map(|(key, object)| match (key, object) {
            (Key::Ruleset(table), Object::Ruleset(text)) => Some((*table, text.clone())),
            _ => None,
        });
        let chains = spec.objects.iter().filter_map(|(key, object)| match (key, object) {
            (Key::Chain(chain), Object::Chain(rules)) => Some((chain.clone(), rules.clone())),
            _ => None,
        });
        let tables = self.nftables.observe(texts.collect(), chains.collect());
        let links = async {
            let mut devices = Devices::new(self.files.uplinks()?);
            let listed = link::list(&self.netlink).await.map_err(listing("the devices"))?;
            listed.into_values().for_each(|device| devices.insert(device));
            let addresses = address::list(&self.netlink, None).await.map_err(listing("the addresses"))?;
            let routes = route::list(&self.netlink, None).await.map_err(listing("the routes"))?;
            let stations = station::list(&self.netlink).await.map_err(listing("the bridges' tables"))?;
            Ok((devices, addresses, routes, stations))
        };
        let (tables, links) = tokio::join!(tables, links);
        let tables = tables.map_err(|source| ObserveError::Nftables { what: "our tables".into(), source })?;
        let (mut devices, addresses, routes, stations) = links?;
        self.watch.seen(devices.by_index.values());
        let mut state = HostState::default();
        put_tables(&mut state, tables);
        self.put_all_links(&mut state, &devices, &mut scope);
        for held in &addresses {
            let Some(device) = devices.by_index.get(&held.index) else { continue };
            let is_asked_for = scope.addresses.contains(&(device.name.clone(), held.address.addr()));
            if held.owner == Owner::Ours || is_asked_for || has_addresses(device, &scope) {
                put_address(&mut state, device, held);
            }
        }
        for led in &routes {
            let device = devices.by_index.get(&led.index);
            if let Some(device) = device.filter(|device| has_addresses(device, &scope)) {
                put_route(&mut state, device, led);
            }
        }
        stations.iter().for_each(|held| devices.put_station(&mut state, held));
        for key in spec.objects.keys() {
            self.put_sysctl(&mut state, key)?;
            if !state.objects.contains_key(key) {
                self.put_some_station(&mut state, key, &mut devices).await?;
            }
        }
        for network in self.files.networks()? {
            self.put_network(&mut state, &network)?;
        }
        for (key, object) in self.metadata.all() {
            state.put_ours(key, object);
        }
        self.put_vpns(&mut state)?;
        let missing = |key: &&Key| matches!(key, Key::Address(..)) && !state.objects.contains_key(key);
        let missing: Vec<&Key> = spec.objects.keys().filter(missing).collect();
        let asked = missing.into_iter().flat_map(|key| reads(spec, key)).collect();
        self.put_neighbours(&mut state, &asked, &devices).await?;
        Ok(state)
    }

    /// Ours, those in the spec, what is in a bridge of ours, and the masters of all of them.
    fn put_all_links(&self, state: &mut HostState, devices: &Devices, scope: &mut Scope) {
        for device in devices.by_index.values() {
            let enslaved = devices.enslaver(device).is_some();
            if enslaved {
                scope.uplinks.insert(device.name.clone());
            }
            if device.owner() == Owner::Ours || enslaved || scope.links.contains(&device.name) {
                devices.put_link(state, device);
                devices.put_uplink(state, device);
                devices.put_filter(state, device);
                if let Some(master) = devices.master(device) {
                    devices.put_link(state, master);
                }
            }
        }
    }

    fn put_sysctl(&self, state: &mut HostState, key: &Key) -> Result<(), ObserveError> {
        if let Key::Sysctl(name) = key
            && let Some(value) = sysctl::read(name)?
        {
            state.put_foreign(key.clone(), Object::Sysctl(value));
        }
        Ok(())
    }

    fn put_network(&self, state: &mut HostState, network: &Name) -> Result<(), ObserveError> {
        self.watch.add_network(network);
        for key in self.files.dhcp_hosts(network)? {
            self.put_file(state, &key)?;
        }
        for key in self.files.dns_names(network)? {
            self.put_file(state, &key)?;
        }
        for (key, lease) in self.files.leases(network)? {
            state.put_ours(key, lease);
        }
        self.put_file(state, &Key::Dnsmasq(network.clone()))
    }

    fn put_file(&self, state: &mut HostState, key: &Key) -> Result<(), ObserveError> {
        let object = match key {
            Key::DhcpHost(network, mac) => self.files.dhcp_host(network, *mac)?,
            Key::DhcpHost6(network, address) => self.files.dhcp_host6(network, *address)?,
            Key::DnsName(network, name) => self.files.dns_name(network, (name, name))?,
            Key::DnsRecord(network, name) => self.files.dns_name(network, (&record_file(name), name))?,
            Key::Lease(network, mac) => self.files.lease(network, *mac, Reading::Glance)?.map(Object::Lease),
            Key::Lease6(network, address) => self.files.lease6(network, *address, Reading::Glance)?,
            Key::Dnsmasq(network) => dnsmasq::running(&self.files, network)?.map(|running| {
                self.watch.add_process(key, running.pid);
                Object::Dnsmasq(running.dnsmasq)
            }),
            _ => None,
        };
        if let Some(object) = object {
            state.put_ours(key.clone(), object);
        }
        Ok(())
    }

    pub(super) async fn observe_some(&self, keys: &BTreeSet<Key>) -> Result<HostState, ObserveError> {
        self.watch.extend_scope(scope(keys.iter()));
        let mut state = HostState::default();
        self.put_some_tables(&mut state, keys).await?;
        self.put_some_links(&mut state, keys).await?;
        for key in keys {
            self.put_sysctl(&mut state, key)?;
            self.put_file(&mut state, key)?;
            if let Some(object) = self.metadata.get(key) {
                state.put_ours(key.clone(), object);
            }
            self.put_vpn(&mut state, key)?;
        }
        Ok(state)
    }

    async fn put_some_tables(&self, state: &mut HostState, keys: &BTreeSet<Key>) -> Result<(), ObserveError> {
        let mut asked = Asked::default();
        for key in keys {
            match key {
                Key::Ruleset(table) => drop(asked.tables.insert(*table)),
                Key::Chain(chain) => drop(asked.chains.insert(chain.clone())),
                Key::Set(set) => drop(asked.sets.insert(*set)),
                Key::Element(set, element) => {
                    asked.elements.entry(*set).or_default().insert(element.clone());
                }
                _ => {}
            }
        }
        if asked.is_empty() {
            return Ok(());
        }
        let found = self.nftables.observe_some(asked).await;
        put_tables(
            state,
            found.map_err(|source| ObserveError::Nftables { what: "our tables".into(), source })?,
        );
        Ok(())
    }

    async fn put_some_links(&self, state: &mut HostState, keys: &BTreeSet<Key>) -> Result<(), ObserveError> {
        let names: BTreeSet<&LinkName> = keys.iter().filter_map(link_of).collect();
        let mut devices = self.look_up(&names).await?;
        for key in keys {
            let Some(device) = link_of(key).and_then(|name| devices.named(name)) else { continue };
            match key {
                Key::Link(_) => {
                    devices.put_link(state, device);
                    if let Some(master) = devices.master(device) {
                        devices.put_link(state, master);
                    }
                }
                Key::Uplink(_) => devices.put_uplink(state, device),
                Key::BridgeFilter(_) => devices.put_filter(state, device),
                _ => {}
            }
        }
        for key in keys {
            self.put_some_station(state, key, &mut devices).await?;
        }
        self.put_some_addresses(state, keys, &devices).await?;
        self.put_neighbours(state, keys, &devices).await
    }

    /// Who else answers for the addresses that are asked about.
    async fn put_neighbours(
        &self,
        state: &mut HostState,
        keys: &BTreeSet<Key>,
        devices: &Devices,
    ) -> Result<(), ObserveError> {
        let mut asked: BTreeMap<&LinkName, Vec<IpAddr>> = BTreeMap::new();
        for key in keys {
            if let Key::Neighbour(link, address) = key {
                asked.entry(link).or_default().push(*address);
            }
        }
        for (link, addresses) in asked {
            let Some(device) = devices.named(link) else { continue };
            let Some(asker) = device.mac.map(|mac| probe::Asker { index: device.index, mac }) else {
                continue;
            };
            let answers = tokio::task::spawn_blocking(move || probe::who_has(asker, &addresses)).await;
            let answers = answers.unwrap_or_else(|panicked| Err(io::Error::other(panicked)));
            let failed = |source| ObserveError::Probe { link: link.clone(), source };
            for (address, mac) in answers.map_err(failed)? {
                state.put_foreign(Key::Neighbour(link.clone(), address), Object::Neighbour(mac));
            }
        }
        Ok(())
    }

    /// The station of this key, if it is a station's.
    async fn put_some_station(
        &self,
        state: &mut HostState,
        key: &Key,
        devices: &mut Devices,
    ) -> Result<(), ObserveError> {
        let Key::Station(bridge, mac) = key else { return Ok(()) };
        let Some(index) = devices.named(bridge).map(|bridge| bridge.index) else { return Ok(()) };
        let failed = |source| ObserveError::List { what: format!("where {mac} is on {bridge}"), source };
        if let Some(held) = station::find(&self.netlink, index, *mac).await.map_err(failed)? {
            self.look_up_number(devices, held.port).await?;
            devices.put_station(state, &held);
        }
        Ok(())
    }

    /// These devices and their masters and parents, those that there are.
    async fn look_up(&self, names: &BTreeSet<&LinkName>) -> Result<Devices, ObserveError> {
        let mut devices = Devices::new(self.files.uplinks()?);
        if names.len() > FEW_LINKS {
            let listed = link::list(&self.netlink).await.map_err(listing("the devices"))?;
            listed.into_values().for_each(|device| devices.insert(device));
            return Ok(devices);
        }
        for name in names {
            let found = link::by_name(&self.netlink, name).await;
            let found =
                found.map_err(|source| ObserveError::List { what: format!("device {name}"), source })?;
            let Some(device) = found else { continue };
            let others = [device.master, device.vlan.map(|vlan| vlan.parent)];
            devices.insert(device);
            for index in others.into_iter().flatten() {
                self.look_up_number(&mut devices, index).await?;
            }
        }
        self.watch.seen(devices.by_index.values());
        Ok(devices)
    }

    async fn look_up_number(&self, devices: &mut Devices, index: u32) -> Result<(), ObserveError> {
        if !devices.by_index.contains_key(&index) {
            let found = link::by_index(&self.netlink, index).await;
            let found = found.map_err(listing("the master or parent of a device"))?;
            found.into_iter().for_each(|device| devices.insert(device));
        }
        Ok(())
    }

    async fn put_some_addresses(
        &self,
        state: &mut HostState,
        keys: &BTreeSet<Key>,
        devices: &Devices,
    ) -> Result<(), ObserveError> {
        let whole = moving(keys, devices);
        let asked = keys.iter().filter(|key| matches!(key, Key::Address(..) | Key::Route(..)));
        let asked: BTreeSet<u32> =
            asked.filter_map(link_of).filter_map(|name| devices.by_name.get(name).copied()).collect();
        for index in whole.union(&asked) {
            let Some(device) = devices.by_index.get(index) else { continue };
            let wanted = |key: &Key| whole.contains(index) || keys.contains(key);
            let name = device.link_name();
            let scope = scope(keys.iter());
            for held in address::list(&self.netlink, Some(*index)).await.map_err(listing("the addresses"))? {
                let is_asked_for = scope.addresses.contains(&(device.name.clone(), held.address.addr()));
                if is_asked_for || wanted(&Key::Address(name.clone(), held.address)) {
                    put_address(state, device, &held);
                }
            }
            let is_asked_for = |led: &Led| wanted(&route_key(device, &led.route));
            for led in route::list(&self.netlink, Some(*index)).await.map_err(listing("the routes"))? {
                if is_asked_for(&led) {
                    put_route(state, device, &led);
                }
            }
        }
        Ok(())
    }
}

fn route_key(device: &Device, route: &Route) -> Key {
    Key::Route(device.link_name(), route.clone())
}

/// The devices between which addresses may have to move: uplinks, their masters, and the bridges
/// asked for with them.
fn moving(keys: &BTreeSet<Key>, devices: &Devices) -> BTreeSet<u32> {
    let uplinks: Vec<&Device> = keys
        .iter()
        .filter(|key| matches!(key, Key::Uplink(_)))
        .filter_map(|key| devices.named(link_of(key)?))
        .collect();
    if uplinks.is_empty() {
        return BTreeSet::new();
    }
    let asked = keys.iter().filter_map(|key| devices.named(link_of(key)?));
    let bridges = asked.filter(|device| device.is_our_bridge());
    let masters = uplinks.iter().filter_map(|device| devices.enslaver(device));
    uplinks.iter().copied().chain(masters).chain(bridges).map(|device| device.index).collect()
}

fn has_addresses(device: &Device, scope: &Scope) -> bool {
    device.is_our_bridge() || scope.uplinks.contains(&device.name)
}

fn link_of(key: &Key) -> Option<&LinkName> {
    match key {
        Key::Link(link)
        | Key::BridgeFilter(link)
        | Key::Device(link)
        | Key::Uplink(link)
        | Key::Address(link, _)
        | Key::Neighbour(link, _)
        | Key::Route(link, _)
        | Key::Station(link, _) => Some(link),
        _ => None,
    }
}

/// What matters for a whole spec: the devices in it, and those that planning them reads, such as a
/// bridge of the administrator's.
fn whole_scope(spec: &HostSpec) -> Scope {
    let mut whole = scope(spec.objects.keys());
    for key in spec.objects.keys().filter(|key| link_of(key).is_some()) {
        whole.links.extend(scope(reads(spec, key).iter()).links);
    }
    whole
}

fn scope<'a>(keys: impl Iterator<Item = &'a Key>) -> Scope {
    let mut scope = Scope::default();
    for key in keys {
        scope.links.extend(link_of(key).map(LinkName::to_string));
        match key {
            Key::Uplink(link) => drop(scope.uplinks.insert(link.to_string())),
            // Whatever its prefix there: the same address is the host's own.
            Key::Address(link, address) => {
                scope.addresses.insert((link.to_string(), address.addr()));
            }
            _ => {}
        }
    }
    scope
}
