//! What the World is made of, as it is read from the store.

use std::collections::BTreeMap;

use sqlx::AnyConnection;
use trestle_core::compile::Entity;
use trestle_core::world::{
    AddressGroup, DnsRecord, FloatingIp, Host, Interface, Network, SecurityGroup, Vpn, World,
};

use crate::store::change::Batch;
use crate::store::{
    StoreError, address_group, dns, floating_ip, host, interface, network, security_group, vpn,
};

/// One thing, or that it is gone.
#[derive(Clone)]
pub(super) enum Loaded {
    Host(Host),
    Network(Network),
    Interface(Interface),
    FloatingIp(FloatingIp),
    DnsRecord(DnsRecord),
    SecurityGroup(SecurityGroup),
    AddressGroup(AddressGroup),
    Vpn(Vpn),
    Gone(Entity),
}

impl Loaded {
    pub(super) fn entity(&self) -> Entity {
        match self {
            Self::Host(host) => Entity::Host(host.id),
            Self::Network(network) => Entity::Network(network.id),
            Self::Interface(interface) => Entity::Interface(interface.id),
            Self::FloatingIp(floating) => Entity::FloatingIp(floating.address),
            Self::DnsRecord(record) => Entity::DnsRecord(record.id),
            Self::SecurityGroup(group) => Entity::SecurityGroup(group.id),
            Self::AddressGroup(group) => Entity::AddressGroup(group.id),
            Self::Vpn(vpn) => Entity::Vpn(vpn.project),
            Self::Gone(entity) => *entity,
        }
    }

    pub(super) fn put_into(self, world: &mut World) {
        match self {
            Self::Host(host) => world.put_host(host),
            Self::Network(network) => world.put_network(network),
            Self::Interface(interface) => world.put_interface(interface),
            Self::FloatingIp(floating) => world.put_floating_ip(floating),
            Self::DnsRecord(record) => world.put_dns_record(record),
            Self::SecurityGroup(group) => world.put_security_group(group),
            Self::AddressGroup(group) => world.put_address_group(group),
            Self::Vpn(vpn) => world.put_vpn(vpn),
            Self::Gone(Entity::Host(id)) => drop(world.remove_host(id)),
            Self::Gone(Entity::Network(id)) => drop(world.remove_network(id)),
            Self::Gone(Entity::Interface(id)) => drop(world.remove_interface(id)),
            Self::Gone(Entity::FloatingIp(address)) => drop(world.remove_floating_ip(address)),
            Self::Gone(Entity::DnsRecord(id)) => drop(world.remove_dns_record(id)),
            Self::Gone(Entity::SecurityGroup(id)) => drop(world.remove_security_group(id)),
            Self::Gone(Entity::AddressGroup(id)) => drop(world.remove_address_group(id)),
            Self::Gone(Entity::Vpn(project)) => drop(world.remove_vpn(project)),
        }
    }

    /// The same as the World has it.
    pub(super) fn current(world: &World, entity: Entity) -> Self {
        let loaded = match entity {
            Entity::Host(id) => world.host(id).cloned().map(Self::Host),
            Entity::Network(id) => world.network(id).cloned().map(Self::Network),
            Entity::Interface(id) => world.interface(id).cloned().map(Self::Interface),
            Entity::FloatingIp(address) => world.floating_ip(address).cloned().map(Self::FloatingIp),
            Entity::DnsRecord(id) => world.dns_record(id).cloned().map(Self::DnsRecord),
            Entity::SecurityGroup(id) => world.security_group(id).cloned().map(Self::SecurityGroup),
            Entity::AddressGroup(id) => world.address_group(id).cloned().map(Self::AddressGroup),
            Entity::Vpn(project) => world.vpn(project).cloned().map(Self::Vpn),
        };
        loaded.unwrap_or(Self::Gone(entity))
    }
}

/// Everything that there is.
pub(super) async fn all(connection: &mut AnyConnection) -> Result<Vec<Loaded>, StoreError> {
    let mut all = Vec::new();
    let hosts = host::list(connection, (None, None), "", i64::MAX).await?;
    all.extend(hosts.into_iter().map(|record| Loaded::Host(record.host)));
    let networks = network::list(connection, &network::Filter::default(), "", i64::MAX).await?;
    all.extend(networks.into_iter().map(|record| Loaded::Network(record.network)));
    let interfaces = interface::all(connection).await?;
    all.extend(interfaces.into_iter().map(|record| Loaded::Interface(record.interface)));
    let floating_ips = floating_ip::all(connection).await?;
    all.extend(floating_ips.iter().filter_map(|record| record.floating()).map(Loaded::FloatingIp));
    let dns_records = dns::all(connection).await?;
    all.extend(dns_records.into_iter().map(|record| Loaded::DnsRecord(record.record)));
    let security_groups = security_group::all(connection).await?;
    all.extend(security_groups.into_iter().map(Loaded::SecurityGroup));
    let address_groups = address_group::list(connection, (None, None), "", i64::MAX).await?;
    all.extend(address_groups.into_iter().map(|record| Loaded::AddressGroup(record.group)));
    let vpns = vpn::all(connection).await?;
    all.extend(vpns.into_iter().map(|record| Loaded::Vpn(record.vpn)));
    Ok(all)
}

/// What the batch changed, as it is in the batch's snapshot: each kind of thing in one query, since
/// a bulk of networks is made in one change.
pub(super) async fn changed(
    connection: &mut AnyConnection,
    batch: &Batch,
    last: i64,
) -> Result<Vec<Loaded>, StoreError> {
    let has = |kind: fn(&Entity) -> bool| batch.entities.iter().any(kind);
    let mut there: BTreeMap<Entity, Loaded> = BTreeMap::new();
    let mut put = |loaded: Loaded| there.insert(loaded.entity(), loaded);
    if has(|entity| matches!(entity, Entity::Host(_))) {
        for record in host::changed_after(connection, last).await? {
            put(Loaded::Host(record.host));
        }
    }
    if has(|entity| matches!(entity, Entity::Network(_))) {
        for record in network::changed_after(connection, last).await? {
            put(Loaded::Network(record.network));
        }
    }
    if has(|entity| matches!(entity, Entity::Interface(_))) {
        for record in interface::changed_after(connection, last).await? {
            put(Loaded::Interface(record.interface));
        }
    }
    if has(|entity| matches!(entity, Entity::FloatingIp(_))) {
        // One that leads nowhere is nothing to any host.
        for record in floating_ip::changed_after(connection, last).await? {
            record.floating().into_iter().for_each(|floating| drop(put(Loaded::FloatingIp(floating))));
        }
    }
    if has(|entity| matches!(entity, Entity::DnsRecord(_))) {
        for record in dns::changed_after(connection, last).await? {
            put(Loaded::DnsRecord(record.record));
        }
    }
    if has(|entity| matches!(entity, Entity::SecurityGroup(_))) {
        for group in security_group::changed_after(connection, last).await? {
            put(Loaded::SecurityGroup(group));
        }
    }
    if has(|entity| matches!(entity, Entity::AddressGroup(_))) {
        for record in address_group::changed_after(connection, last).await? {
            put(Loaded::AddressGroup(record.group));
        }
    }
    if has(|entity| matches!(entity, Entity::Vpn(_))) {
        for record in vpn::changed_after(connection, last).await? {
            put(Loaded::Vpn(record.vpn));
        }
    }
    let loaded = |entity: &Entity| there.remove(entity).unwrap_or(Loaded::Gone(*entity));
    Ok(batch.entities.iter().map(loaded).collect())
}
