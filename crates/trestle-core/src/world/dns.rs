//! Names: those that somebody gave to addresses, and who may ask for whose.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Interface, Network, World};
use crate::types::{DnsRecordId, Domain, HostId, NetworkId, ProjectId};

/// A name in DNS that somebody gave to some addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsRecord {
    /// Names it for life.
    pub id: DnsRecordId,
    /// The whole name, with its domain; unique.
    pub name: Domain,
    /// The project on whose networks it is known; on all if absent.
    pub project: Option<ProjectId>,
    /// Its addresses.
    pub addresses: BTreeSet<IpAddr>,
}

impl World {
    /// The DNS record, if it is known.
    pub fn dns_record(&self, id: DnsRecordId) -> Option<&DnsRecord> {
        self.dns_records.get(&id)
    }

    /// The DNS records that are known on a network: everybody's and its owner's.
    pub fn dns_records_on(&self, network: &Network) -> impl Iterator<Item = &DnsRecord> {
        let owners = [None].into_iter().chain(network.project.map(Some));
        let ids = owners.flat_map(|owner| {
            let all = (owner, DnsRecordId(uuid::Uuid::nil()))..=(owner, DnsRecordId(uuid::Uuid::max()));
            self.dns_known.range(all).map(|(_, id)| id)
        });
        ids.filter_map(|id| self.dns_records.get(id))
    }

    /// How many interfaces of a project are plugged in on a network, on each host.
    pub fn neighbour_hosts(
        &self,
        network: NetworkId,
        project: ProjectId,
    ) -> Option<&BTreeMap<HostId, usize>> {
        self.neighbour_hosts.get(&(network, project))
    }

    /// The interfaces of a project that are plugged in on a network, wherever that is.
    pub fn neighbours(&self, network: NetworkId, project: ProjectId) -> impl Iterator<Item = &Interface> {
        let ids = self.neighbours.get(&(network, project)).into_iter().flatten();
        ids.filter_map(|id| self.interfaces.get(id))
    }

    /// Whether the guests of a project on this host may ask for an interface of it on another one:
    /// each host that routes for the network knows the names of its own guests' projects.
    pub fn is_known_on(&self, host: HostId, interface: &Interface) -> bool {
        let hosts = self.neighbour_hosts(interface.network, interface.project);
        hosts.is_some_and(|hosts| hosts.contains_key(&host))
    }

    /// Puts the DNS record in, in place of what it was.
    pub fn put_dns_record(&mut self, record: DnsRecord) {
        self.remove_dns_record(record.id);
        self.dns_known.insert((record.project, record.id));
        self.dns_records.insert(record.id, record);
    }

    /// Takes the DNS record out; gives what it was.
    pub fn remove_dns_record(&mut self, id: DnsRecordId) -> Option<DnsRecord> {
        let record = self.dns_records.remove(&id)?;
        self.dns_known.remove(&(record.project, id));
        Some(record)
    }

    /// Forgets that the interface is plugged in anywhere.
    pub(super) fn forget_neighbour(&mut self, interface: &Interface) {
        let neighbours = (interface.network, interface.project);
        let Some(hosts) = self.neighbour_hosts.get_mut(&neighbours) else { return };
        for place in interface.places() {
            if let Some(count) = hosts.get_mut(&place.host) {
                *count -= 1;
            }
        }
        hosts.retain(|_, count| *count > 0);
        if hosts.is_empty() {
            self.neighbour_hosts.remove(&neighbours);
            self.neighbours.remove(&neighbours);
        } else if let Some(there) = self.neighbours.get_mut(&neighbours) {
            there.remove(&interface.id);
        }
    }
}
