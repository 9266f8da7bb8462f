//! What a step makes of a state, so that plans can be proved right and many hosts simulated.

use std::collections::BTreeSet;

use crate::ownership::Owner;
use crate::plan::{LinkChange, Step};
use crate::spec::{Key, Link, LinkKind, LinkMac, Object, Table, VpnServer};
use crate::state::{HostState, Observed};
use crate::types::{LinkName, Name};

/// Changes the state as the step changes a host.
pub fn simulate(state: &mut HostState, step: &Step) {
    match step {
        Step::DeletePort { link } | Step::DeleteVlan { link } => delete_link(state, link),
        Step::DeleteBridge { link } => {
            delete_link(state, link);
            release_ports(state, link);
        }
        Step::ForgetLeases { network } => {
            state.objects.retain(|key, _| match key {
                Key::Lease(on, _) | Key::Lease6(on, _) => on != network,
                _ => true,
            });
        }
        Step::SetSysctl { name, value } => {
            state.put_foreign(Key::Sysctl(name.clone()), Object::Sysctl(value.clone()));
        }
        Step::PutRuleset { table, text } => {
            empty_table(state, *table);
            state.put_ours(Key::Ruleset(*table), Object::Ruleset(text.clone()));
        }
        Step::DeleteRuleset { table } => {
            empty_table(state, *table);
            state.objects.remove(&Key::Ruleset(*table));
        }
        Step::AddElement { element, .. } => {
            let object = match element.split_once(" : ") {
                Some((_, value)) => Object::Mapping(value.to_owned()),
                None => Object::Element,
            };
            state.put_ours(step.key(), object);
        }
        Step::PutSet { .. } => state.put_ours(step.key(), Object::Set),
        Step::PutChain { rules, .. } => state.put_ours(step.key(), Object::Chain(rules.clone())),
        Step::FilterBridge { .. } => state.put_foreign(step.key(), Object::BridgeFilter),
        Step::JudgeAnew => {}
        Step::ReplaceElement { to, .. } => state.put_ours(step.key(), Object::Mapping(to.clone())),
        Step::EndFlows { .. } | Step::EndLateFlows { .. } | Step::EndStrayFlows { .. } => {}
        Step::CreateBridge { link, mac, mtu } => {
            let mac = Some(LinkMac::Fixed(*mac));
            let bridge = Link {
                kind: LinkKind::Bridge,
                mac,
                mtu: *mtu,
                master: None,
                uplink: None,
                up: true,
                index: None,
            };
            create_link(state, link, bridge);
        }
        Step::CreatePort { link, port } | Step::CreateVlan { link, vlan: port } => {
            if let LinkKind::Vlan { parent, .. } = &port.kind {
                change_link(state, parent, &LinkChange::Up);
            }
            create_link(state, link, port.clone());
        }
        Step::SetStation { port, .. } => {
            let station = Object::Station { port: port.clone(), addresses: BTreeSet::new() };
            state.put_ours(step.key(), station);
        }
        Step::SetLink { link, changes } => {
            changes.iter().for_each(|change| change_link(state, link, change));
        }
        Step::Enslave { link, bridge } | Step::SwitchUplink { link, bridge } => {
            change_link(state, link, &LinkChange::Master(bridge.clone()));
            change_link(state, link, &LinkChange::Up);
            state.put_ours(step.key(), Object::Uplink(bridge.clone()));
        }
        Step::ReleaseUplink { link } => {
            if let Some(have) = link_mut(state, link) {
                have.master = None;
            }
            state.objects.remove(&step.key());
        }
        Step::CopyAddress { .. } | Step::ReturnAddress { .. } => {
            let foreign = Observed { owner: Owner::Foreign, object: Object::Address };
            state.objects.entry(step.key()).or_insert(foreign);
        }
        Step::MoveRoute { route, source, protocol, from, .. }
        | Step::ReturnRoute { route, source, protocol, from, .. } => {
            state.put_foreign(step.key(), Object::Route { source: *source, protocol: *protocol });
            state.objects.remove(&Key::Route(from.clone(), route.clone()));
        }
        Step::AddAddress { .. } => state.put_ours(step.key(), Object::Address),
        Step::WriteDhcpHost { address, hostname, .. } => {
            let entry = Object::DhcpHost { address: *address, hostname: hostname.clone() };
            state.put_ours(step.key(), entry);
        }
        Step::WriteDhcpHost6 { mac, hostname, .. } => {
            let entry = Object::DhcpHost6 { mac: *mac, hostname: hostname.clone() };
            state.put_ours(step.key(), entry);
        }
        Step::WriteDnsName { addresses, .. } | Step::WriteDnsRecord { addresses, .. } => {
            state.put_ours(step.key(), Object::DnsName(addresses.clone()));
        }
        Step::StartDnsmasq { dnsmasq, .. } => {
            let mut dnsmasq = dnsmasq.clone();
            dnsmasq.bridge_index = state.link(&dnsmasq.bridge).and_then(|(bridge, _)| bridge.index);
            state.put_ours(step.key(), Object::Dnsmasq(dnsmasq));
        }
        Step::DeleteDhcpHost { network, .. } | Step::DeleteDhcpHost6 { network, .. } => {
            state.objects.remove(&step.key());
            set_stale(state, network, true);
        }
        Step::ReloadDhcp { network } => set_stale(state, network, false),
        Step::PutMetadata { instance, project, .. } => {
            let identity = Object::Metadata { instance: *instance, project: *project };
            state.put_ours(step.key(), identity);
        }
        Step::StartMetadataProxy { service, .. } => {
            state.put_ours(step.key(), Object::MetadataProxy(service.clone()));
        }
        Step::CreateVpnNetns { .. } => state.put_ours(step.key(), Object::VpnNetns { exists: true }),
        Step::DeleteVpnNetns { vpn } => {
            let is_its = |key: &Key| match key {
                Key::VpnNetns(of) | Key::Vpn(of) | Key::VpnUser(of, _) => of == vpn,
                _ => false,
            };
            state.objects.retain(|key, _| !is_its(key));
        }
        Step::PutVpnUser { text, .. } => state.put_ours(step.key(), Object::VpnUser(text.clone())),
        Step::StartVpn { server, .. } => {
            let link_index = state.link(&server.link).and_then(|(link, _)| link.index);
            state.put_ours(step.key(), Object::Vpn(VpnServer { link_index, ..server.clone() }));
        }
        Step::DeleteVpnUser { .. }
        | Step::StopVpn { .. }
        | Step::DeleteDnsName { .. }
        | Step::DeleteDnsRecord { .. }
        | Step::DeleteMetadata { .. }
        | Step::StopMetadataProxy { .. }
        | Step::DeleteStation { .. }
        | Step::ReleaseLease6 { .. }
        | Step::StopDnsmasq { .. }
        | Step::DropAddress { .. }
        | Step::DropReturned { .. }
        | Step::DeleteAddress { .. }
        | Step::ReleaseLease { .. }
        | Step::ForgetClaim { .. }
        | Step::TakeElement { .. }
        | Step::DeleteChain { .. }
        | Step::DeleteSet { .. }
        | Step::DeleteElement { .. } => {
            state.objects.remove(&step.key());
        }
    }
}

fn set_stale(state: &mut HostState, network: &Name, stale: bool) {
    let dnsmasq = state.objects.get_mut(&Key::Dnsmasq(network.clone()));
    if let Some(Observed { object: Object::Dnsmasq(dnsmasq), .. }) = dnsmasq {
        dnsmasq.stale = stale;
    }
}

/// The kernel numbers devices upwards and never gives a number again soon.
fn create_link(state: &mut HostState, name: &LinkName, mut link: Link) {
    let indexes = state.objects.values().filter_map(|have| match &have.object {
        Object::Link(link) => link.index,
        Object::Dnsmasq(dnsmasq) => dnsmasq.bridge_index,
        Object::Vpn(server) => server.link_index,
        _ => None,
    });
    link.index = Some(indexes.max().unwrap_or(0) + 1);
    state.put_ours(Key::Link(name.clone()), Object::Link(link));
}

/// What is on a device, or led to by it, goes with it.
fn delete_link(state: &mut HostState, name: &LinkName) {
    state.objects.retain(|key, have| match (key, &have.object) {
        (Key::Link(link) | Key::Address(link, _) | Key::Route(link, _) | Key::BridgeFilter(link), _) => {
            link != name
        }
        (Key::Station(bridge, _), Object::Station { port, .. }) => bridge != name && port != name,
        _ => true,
    });
}

fn release_ports(state: &mut HostState, bridge: &LinkName) {
    for have in state.objects.values_mut() {
        if let Object::Link(link) = &mut have.object
            && link.master.as_ref() == Some(bridge)
        {
            link.master = None;
        }
    }
    state.objects.retain(|_, have| have.object != Object::Uplink(bridge.clone()));
}

fn empty_table(state: &mut HostState, table: Table) {
    let goes = |key: &Key| match key {
        Key::Element(set, _) | Key::Set(set) => set.table() == table,
        Key::Chain(_) => table == Table::Groups,
        _ => false,
    };
    state.objects.retain(|key, _| !goes(key));
}

fn change_link(state: &mut HostState, name: &LinkName, change: &LinkChange) {
    if let LinkChange::Carrier(device) = change {
        return change_link(state, device, &LinkChange::Up);
    }
    let Some(link) = link_mut(state, name) else { return };
    match change {
        LinkChange::Mac(mac) => link.mac = Some(LinkMac::Fixed(*mac)),
        LinkChange::Mtu(mtu) => link.mtu = *mtu,
        LinkChange::Master(bridge) => link.master = Some(bridge.clone()),
        LinkChange::Up => link.up = true,
        LinkChange::Carrier(_) => {}
    }
}

fn link_mut<'a>(state: &'a mut HostState, name: &LinkName) -> Option<&'a mut Link> {
    match state.objects.get_mut(&Key::Link(name.clone())) {
        Some(Observed { object: Object::Link(link), .. }) => Some(link),
        _ => None,
    }
}
