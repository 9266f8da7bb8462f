//! What keeps a network from being made: names, bridges, VLANs and ranges that others have.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use sqlx::AnyConnection;
use trestle_core::types::{AddressRange, Cidr, Family, LinkName, Name, VlanId};
use trestle_core::world::Network;

use super::vlan_from;
use crate::store::columns::{Columns, address_text};
use crate::store::error::{During, StoreError};
use crate::store::pool;

/// How many collisions are told of.
const COLLISIONS_TOLD: usize = 10;

/// What a new network would collide with, by name of the other network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Collision {
    /// It has the name.
    Name(Name),
    /// It has the bridge.
    Bridge(LinkName, Name),
    /// It has the VLAN.
    Vlan(VlanId, Name),
    /// Of the first range it has some addresses, which lie in the second one.
    Range(Cidr, Name, Cidr),
    /// A pool has some addresses of the first range, which lie in the second one.
    Pool(Cidr, Name, AddressRange),
}

/// What these new networks collide with: the first ones of each kind.
pub(crate) async fn collisions(
    connection: &mut AnyConnection,
    wanted: &[Network],
) -> Result<Vec<Collision>, StoreError> {
    let mut collisions = identity_collisions(connection, wanted).await?;
    for family in [Family::Ipv4, Family::Ipv6] {
        collisions.extend(range_collisions(connection, wanted, family).await?);
    }
    Ok(collisions)
}

/// For one network the database picks; for many it is asked once for all there are.
async fn identity_collisions(
    connection: &mut AnyConnection,
    wanted: &[Network],
) -> Result<Vec<Collision>, StoreError> {
    let only = if let [only] = wanted { Some(only) } else { None };
    let rows = sqlx::query(
        "SELECT name, bridge, vlan FROM networks
         WHERE CAST($1 AS TEXT) IS NULL OR name = $1 OR bridge = $2 OR vlan = CAST($3 AS BIGINT) ORDER BY id",
    )
    .bind(only.map(|network| network.name.as_str()))
    .bind(only.map(|network| network.bridge.as_str()))
    .bind(only.and_then(|network| network.vlan).map(|vlan| i64::from(vlan.number())))
    .fetch_all(connection)
    .await
    .during("look for networks in the way")?;
    let names: BTreeSet<&Name> = wanted.iter().map(|network| &network.name).collect();
    let bridges: BTreeSet<&LinkName> = wanted.iter().map(|network| &network.bridge).collect();
    let vlans: BTreeSet<VlanId> = wanted.iter().filter_map(|network| network.vlan).collect();
    let mut collisions = Vec::new();
    for row in &rows {
        let mut columns = Columns::of(row);
        let (name, bridge): (Name, LinkName) = (columns.parse()?, columns.parse()?);
        let vlan = vlan_from(&mut columns)?;
        if names.contains(&name) {
            collisions.push(Collision::Name(name.clone()));
        }
        if bridges.contains(&bridge) {
            collisions.push(Collision::Bridge(bridge, name.clone()));
        }
        if let Some(vlan) = vlan.filter(|vlan| vlans.contains(vlan)) {
            collisions.push(Collision::Vlan(vlan, name));
        }
        if collisions.len() >= COLLISIONS_TOLD {
            break;
        }
    }
    Ok(collisions)
}

async fn range_collisions(
    connection: &mut AnyConnection,
    wanted: &[Network],
    family: Family,
) -> Result<Vec<Collision>, StoreError> {
    let subnets = wanted.iter().flat_map(Network::subnets).map(|subnet| subnet.cidr);
    let ranges = subnets.filter(|cidr| cidr.family() == family).map(|cidr| (AddressRange::from(cidr), cidr));
    let wanted: BTreeMap<IpAddr, (AddressRange, Cidr)> =
        ranges.map(|(range, cidr)| (range.first(), (range, cidr))).collect();
    let last = wanted.values().map(|(range, _)| range.last()).max();
    let Some((first, last)) = wanted.keys().next().copied().zip(last) else { return Ok(Vec::new()) };
    let Some(whole) = AddressRange::new(first, last) else { return Ok(Vec::new()) };
    // Those that are wanted do not overlap, so they end in the order in which they begin.
    let hit = |taken: AddressRange| {
        let before = wanted.range(..=taken.last()).rev().map(|(_, wanted)| wanted);
        before.take_while(move |(range, _)| range.last() >= taken.first()).map(|(_, cidr)| *cidr)
    };
    let mut collisions = Vec::new();
    for (holder, there) in subnets_in(connection, &whole).await? {
        collisions.extend(hit(there.into()).map(|cidr| Collision::Range(cidr, holder.clone(), there)));
        if collisions.len() >= COLLISIONS_TOLD {
            break;
        }
    }
    for (holder, there) in pool::overlapping(connection, &whole).await? {
        collisions.extend(hit(there).map(|cidr| Collision::Pool(cidr, holder.clone(), there)));
        if collisions.len() >= COLLISIONS_TOLD {
            break;
        }
    }
    Ok(collisions)
}

/// What has addresses of this range already: subnets, and pools, as networks that make them up.
pub(crate) async fn taken_ranges(
    connection: &mut AnyConnection,
    range: Cidr,
) -> Result<Vec<Cidr>, StoreError> {
    let range = AddressRange::from(range);
    let subnets = subnets_in(connection, &range).await?.into_iter().map(|(_, cidr)| cidr);
    let pools = pool::overlapping(connection, &range).await?;
    Ok(subnets.chain(pools.iter().flat_map(|(_, range)| range.cidrs())).collect())
}

/// The subnets that overlap with this range, each with the name of its network.
pub(crate) async fn subnets_in(
    connection: &mut AnyConnection,
    range: &AddressRange,
) -> Result<Vec<(Name, Cidr)>, StoreError> {
    let rows = sqlx::query(
        "SELECT n.name, s.cidr FROM subnets s JOIN networks n ON n.id = s.network
         WHERE s.first_address <= $2 AND s.last_address >= $1 ORDER BY s.first_address",
    )
    .bind(address_text(range.first()))
    .bind(address_text(range.last()))
    .fetch_all(connection)
    .await
    .during("look for overlapping networks")?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            Ok((columns.parse()?, columns.parse()?))
        })
        .collect()
}
