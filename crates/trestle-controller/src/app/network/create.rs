//! Makes networks: one, or several out of one range; all of them or none.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use trestle_api::{FieldProblem, NetworksCreated, NewNetwork, ReservedRange};
use trestle_core::alloc::{Layout, LayoutProblem, split};
use trestle_core::types::{AddressRange, Cidr, Family, LinkName, Mac, Name, NetworkId, PoolId, VlanId};
use trestle_core::world::{self, Gateways, NetworkType};
use uuid::Uuid;

use crate::app::network::gateway::refuse_unfit;
use crate::app::network::ranges::RangeWish;
use crate::app::network::request::{self, GatewaysWish, VlanWish, Wish};
use crate::app::network::{MacOf, answer, change, generated_mac};
use crate::app::{App, Caller, host, pool, project};
use crate::error::{AppError, ErrorKind};
use crate::store::Write;
use crate::store::host::HostRecord;
use crate::store::network::{self, Collision, NetworkRecord};
use crate::store::project::ProjectRecord;

/// New networks while they are put together: what each has for itself, in the same order.
struct Draft<'a> {
    wish: &'a Wish,
    owner: Option<ProjectRecord>,
    gateway_host: Option<HostRecord>,
    auto_assign: Option<(PoolId, Name)>,
    dhcp_lease_time: u32,
    created_at: Timestamp,
    macs: Vec<Mac>,
    ipv4: Vec<Cidr>,
    ipv6: Vec<Cidr>,
    /// Of type VLAN alone.
    vlans: Vec<VlanId>,
}

impl App {
    /// Makes networks. Admins only.
    pub async fn create_networks(
        &self,
        caller: &Caller,
        new: NewNetwork,
    ) -> Result<NetworksCreated, AppError> {
        caller.must_be_admin("making a network")?;
        let wish = request::read(self.config(), &new)?;
        let mut write = self.write().await?;
        let owner = match new.project.as_deref() {
            Some(text) => Some(project::find(write.connection(), caller, text).await?),
            None => None,
        };
        if let Some(owner) = &owner {
            self.refuse_networks_over_quota(&mut write, owner, wish.count.into()).await?;
        }
        let gateway_host = match &wish.gateways {
            GatewaysWish::One(Some(text)) => Some(host::find(write.connection(), caller, text).await?),
            _ => None,
        };
        let auto_assign = match new.auto_assign.as_deref() {
            Some(text) => Some(pool::find(write.connection(), text).await?),
            None => None,
        };
        let draft = Draft {
            wish: &wish,
            owner,
            gateway_host,
            auto_assign: auto_assign.map(|pool| (pool.id, pool.name)),
            dhcp_lease_time: self.config().dhcp_lease_time,
            created_at: write.at(),
            macs: unused_macs(&mut write, wish.count).await?,
            ipv4: Vec::new(),
            ipv6: Vec::new(),
            vlans: Vec::new(),
        };
        let records = place(&mut write, draft).await?;
        network::insert(write.connection(), &records).await?;
        for record in &records {
            write.log(change("network.created", created_message(record), record));
        }
        write.commit().await?;
        Ok(NetworksCreated {
            items: records.into_iter().map(|record| answer(record, &BTreeMap::new())).collect(),
        })
    }
}

/// Finds a place for every network among those there are, or says everything that is in the way.
async fn place(write: &mut Write, mut draft: Draft<'_>) -> Result<Vec<NetworkRecord>, AppError> {
    let wish = draft.wish;
    let mut way = InTheWay::default();
    draft.ipv4 = way.ranges(write, wish.ipv4.as_ref(), ("cidr", wish.count)).await?;
    draft.ipv6 = way.ranges(write, wish.ipv6.as_ref(), ("cidr_v6", wish.count)).await?;
    let mut passed_over = BTreeSet::new();
    loop {
        let full = draft.choose_vlans(write, &passed_over).await?;
        let records = draft.records()?;
        let networks: Vec<world::Network> = records.iter().map(|record| record.network.clone()).collect();
        let collisions = network::collisions(write.connection(), &networks).await?;
        let bridges = draft.vlans_of_taken_bridges(&collisions);
        if bridges.is_empty() {
            way.problems.extend(full);
            way.problems.extend(told(&collisions).map(problem_of));
            way.finish()?;
            if let Some((host, first)) = draft.gateway_host.as_ref().zip(records.first()) {
                refuse_unfit(write, host, first).await?;
            }
            return Ok(records);
        }
        passed_over.extend(bridges);
    }
}

impl Draft<'_> {
    /// Takes the VLAN id that was asked for, or the lowest free ones but these; says so if there
    /// are not enough.
    async fn choose_vlans(
        &mut self,
        write: &mut Write,
        passed_over: &BTreeSet<VlanId>,
    ) -> Result<Option<FieldProblem>, AppError> {
        let start = match self.wish.vlan {
            None => return Ok(None),
            Some(VlanWish::Id(id)) => {
                self.vlans = vec![id];
                return Ok(None);
            }
            Some(VlanWish::From(start)) => start,
        };
        let mut free = network::free_vlans(write.connection(), start).await?;
        free.retain(|id| !passed_over.contains(id));
        let (count, wanted) = (free.len(), self.wish.count);
        free.truncate(wanted.into());
        self.vlans = free;
        let message = || format!("of the VLAN ids {start} to 4094, {count} are free and {wanted} are needed");
        Ok((count < wanted.into()).then(|| problem("vlan_start", "vlan_range_full", message())))
    }

    /// The VLANs that we chose and whose bridge, being called after them, another network has.
    fn vlans_of_taken_bridges(&self, collisions: &[Collision]) -> Vec<VlanId> {
        if self.wish.bridge.is_some() || !matches!(self.wish.vlan, Some(VlanWish::From(_))) {
            return Vec::new();
        }
        let bridges: BTreeSet<_> = collisions
            .iter()
            .filter_map(|collision| match collision {
                Collision::Bridge(bridge, _) => Some(bridge),
                _ => None,
            })
            .collect();
        self.vlans.iter().copied().filter(|id| bridges.contains(&id.bridge())).collect()
    }

    fn records(&self) -> Result<Vec<NetworkRecord>, AppError> {
        let mut records = Vec::with_capacity(self.macs.len());
        for number in 0..self.wish.count {
            records.extend(self.record(number)?);
        }
        Ok(records)
    }

    /// The network of this number; nothing where it has no VLAN.
    fn record(&self, number: u16) -> Result<Option<NetworkRecord>, AppError> {
        let (wish, place) = (self.wish, usize::from(number));
        let vlan = self.vlans.get(place).copied();
        let bridge = wish.bridge.clone().or_else(|| vlan.map(VlanId::bridge));
        let Some((bridge, bridge_mac)) = bridge.zip(self.macs.get(place).copied()) else { return Ok(None) };
        let name = match wish.count {
            1 => wish.name.clone(),
            _ => request::numbered(&wish.name, number)
                .map_err(|error| AppError::defect("a numbered name passed its checks").caused_by(error))?,
        };
        let layouts = [
            layout(wish.ipv4.as_ref(), self.ipv4.get(place).copied())?,
            layout(wish.ipv6.as_ref(), self.ipv6.get(place).copied())?,
        ];
        let network = world::Network {
            id: NetworkId(Uuid::now_v7()),
            name,
            network_type: wish.network_type,
            project: self.owner.as_ref().map(|project| project.id),
            // The record fills them in from what they are laid out as.
            ipv4: None,
            ipv6: None,
            ipv6_mode: wish.ipv6_mode,
            gateways: self.gateways(),
            vlan,
            bridge,
            bridge_interface: wish.bridge_interface.clone(),
            bridge_mac,
            dns: wish.guests.dns.clone(),
            domain: wish.guests.domain.clone(),
            mtu: wish.guests.mtu,
            dhcp_lease_time: self.dhcp_lease_time,
            dhcp_options: wish.guests.dhcp_options.clone(),
            ether_types: wish.guests.ether_types.clone(),
        };
        let owner = self.owner.as_ref().map(|project| project.name.clone());
        let gateway_host = self.gateway_host.as_ref().map(|record| record.host.name.clone());
        let reserved = |range: &AddressRange| ReservedRange { range: *range, reason: String::new() };
        let reserved = wish.reserved.iter().map(reserved).collect();
        let layouts = layouts.into_iter().flatten();
        let names = (owner, gateway_host);
        let record = NetworkRecord::new(network, names, layouts, reserved, self.created_at);
        Ok(Some(NetworkRecord { auto_assign: self.auto_assign.clone(), ..record }))
    }

    fn gateways(&self) -> Gateways {
        match self.wish.gateways {
            _ if self.wish.network_type == NetworkType::Flat => Gateways::Shared,
            GatewaysWish::One(_) => Gateways::One(self.gateway_host.as_ref().map(|record| record.host.id)),
            GatewaysWish::Shared => Gateways::Shared,
            GatewaysWish::PerHost => Gateways::PerHost(BTreeMap::new()),
        }
    }
}

fn layout(wish: Option<&RangeWish>, cidr: Option<Cidr>) -> Result<Option<Layout>, AppError> {
    let Some((wish, cidr)) = wish.zip(cidr) else { return Ok(None) };
    let field = if cidr.family() == Family::Ipv4 { "cidr" } else { "cidr_v6" };
    let problem = |wrong: LayoutProblem| problem(field, "bad_cidr", wrong.to_string());
    Layout::new(&wish.layout(cidr))
        .map(Some)
        .map_err(|problems| AppError::invalid(problems.into_iter().map(problem).collect()))
}

/// What is in the way of new networks.
#[derive(Default)]
struct InTheWay {
    problems: Vec<FieldProblem>,
}

impl InTheWay {
    /// A range for each network, as many as there is room for; the whole range, if it is one's, is
    /// looked at with everything else.
    async fn ranges(
        &mut self,
        write: &mut Write,
        wish: Option<&RangeWish>,
        (field, count): (&str, u16),
    ) -> Result<Vec<Cidr>, AppError> {
        let Some(wish) = wish else { return Ok(Vec::new()) };
        let Some(prefix) = wish.split() else { return Ok(vec![wish.range()]) };
        let taken = network::taken_ranges(write.connection(), wish.range()).await?;
        match split(wish.range(), prefix, count.into(), taken) {
            Ok(ranges) => Ok(ranges),
            Err(error) => {
                self.problems.push(problem(field, "does_not_fit", error.to_string()));
                Ok(Vec::new())
            }
        }
    }

    /// Fails if anything is in the way.
    fn finish(self) -> Result<(), AppError> {
        let Some(first) = self.problems.first() else { return Ok(()) };
        let mut error = AppError::new(ErrorKind::Conflict, &first.code, first.message.clone());
        error.error.hint = hint(&first.code).map(str::to_owned);
        error.error.problems = self.problems;
        Err(error)
    }
}

fn problem(field: &str, code: &str, message: String) -> FieldProblem {
    FieldProblem { field: field.to_owned(), code: code.to_owned(), message }
}

/// The collisions without those of bridges that are called after a VLAN that is taken itself.
fn told(collisions: &[Collision]) -> impl Iterator<Item = &Collision> {
    let vlans: BTreeSet<LinkName> = collisions
        .iter()
        .filter_map(|collision| match collision {
            Collision::Vlan(id, _) => Some(id.bridge()),
            _ => None,
        })
        .collect();
    let follows = move |collision: &Collision| match collision {
        Collision::Bridge(bridge, _) => vlans.contains(bridge),
        _ => false,
    };
    collisions.iter().filter(move |collision| !follows(collision))
}

fn problem_of(collision: &Collision) -> FieldProblem {
    match collision {
        Collision::Name(name) => {
            problem("name", "name_taken", format!("there is a network `{name}` already"))
        }
        Collision::Bridge(bridge, other) => {
            let message =
                format!("bridge `{bridge}` is that of network `{other}`; two networks cannot share one");
            problem("bridge", "bridge_taken", message)
        }
        Collision::Vlan(id, other) => {
            problem("vlan", "vlan_taken", format!("VLAN {id} is that of network `{other}`"))
        }
        Collision::Range(cidr, other, range) => {
            let field = if cidr.family() == Family::Ipv4 { "cidr" } else { "cidr_v6" };
            let message = format!("{cidr} overlaps with network `{other}`, which has {range}");
            problem(field, "network_overlap", message)
        }
        Collision::Pool(cidr, pool, range) => {
            let field = if cidr.family() == Family::Ipv4 { "cidr" } else { "cidr_v6" };
            let message = format!("{cidr} overlaps with pool `{pool}`, which has {range}");
            problem(field, "range_overlaps", message)
        }
    }
}

fn hint(code: &str) -> Option<&'static str> {
    match code {
        "bridge_taken" => Some("name another bridge with `bridge`"),
        "vlan_taken" => Some("leave `vlan` out to have the lowest free one"),
        "vlan_range_full" => Some("begin lower with `vlan_start`, or delete networks that are not needed"),
        "network_overlap" => Some("`trestle network list` shows the ranges that are taken"),
        "range_overlaps" => Some("`trestle pool list` shows the ranges that are taken"),
        "does_not_fit" => Some("give a larger range, smaller networks or fewer of them"),
        _ => None,
    }
}

fn created_message(record: &NetworkRecord) -> String {
    let ranges: Vec<String> = record.network.subnets().map(|subnet| subnet.cidr.to_string()).collect();
    format!("network `{}` was made with {}", record.network.name, ranges.join(" and "))
}

/// As many bridge MACs that nobody has.
async fn unused_macs(write: &mut Write, count: u16) -> Result<Vec<Mac>, AppError> {
    let mut taken = network::bridge_macs(write.connection()).await?;
    let mut macs = Vec::with_capacity(count.into());
    while macs.len() < count.into() {
        let mac = generated_mac(MacOf::Bridge)?;
        if taken.insert(mac) {
            macs.push(mac);
        }
    }
    Ok(macs)
}
