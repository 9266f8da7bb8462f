//! What dnsmasq has to know, and the leases that must end.

use std::net::Ipv6Addr;

use super::{Object, Planner, ProblemCode, Step};
use crate::spec::Key;
use crate::types::{Mac, Name};

impl Planner<'_> {
    pub(super) fn plan_dhcp_host(&mut self, key: &Key, network: &Name, mac: Mac) {
        let have = self.state.get(key).map(|have| &have.object);
        let network = network.clone();
        match (self.wanted(key).cloned(), have) {
            (Some(wanted), have) if have != Some(&wanted) => {
                let Object::DhcpHost { address, hostname } = wanted else { return };
                self.step(Step::WriteDhcpHost { network, mac, address, hostname });
            }
            (None, Some(_)) => {
                self.step(Step::DeleteDhcpHost { network: network.clone(), mac });
                self.step(Step::ReloadDhcp { network });
            }
            _ => {}
        }
    }

    pub(super) fn plan_dhcp_host6(&mut self, key: &Key, network: &Name, address: Ipv6Addr) {
        let have = self.state.get(key).map(|have| &have.object);
        let network = network.clone();
        match (self.wanted(key).cloned(), have) {
            (Some(wanted), have) if have != Some(&wanted) => {
                let Object::DhcpHost6 { mac, hostname } = wanted else { return };
                self.step(Step::WriteDhcpHost6 { network, address, mac, hostname });
            }
            (None, Some(_)) => {
                self.step(Step::DeleteDhcpHost6 { network: network.clone(), address });
                self.step(Step::ReloadDhcp { network });
            }
            _ => {}
        }
    }

    pub(super) fn plan_dns_name(&mut self, key: &Key, network: &Name, name: &str) {
        let have = self.state.get(key).map(|have| &have.object);
        let (network, name) = (network.clone(), name.to_owned());
        match (self.wanted(key).cloned(), have) {
            (Some(wanted), have) if have != Some(&wanted) => {
                let Object::DnsName(addresses) = wanted else { return };
                self.step(Step::WriteDnsName { network, name, addresses });
            }
            (None, Some(_)) => self.step(Step::DeleteDnsName { network, name }),
            _ => {}
        }
    }

    pub(super) fn plan_dns_record(&mut self, key: &Key, network: &Name, name: &str) {
        let have = self.state.get(key).map(|have| &have.object);
        let (network, name) = (network.clone(), name.to_owned());
        match (self.wanted(key).cloned(), have) {
            (Some(wanted), have) if have != Some(&wanted) => {
                let Object::DnsName(addresses) = wanted else { return };
                self.step(Step::WriteDnsRecord { network, name, addresses });
            }
            (None, Some(_)) => self.step(Step::DeleteDnsRecord { network, name }),
            _ => {}
        }
    }

    /// A lease stands only for the entry it was given by. Any other keeps its address from the
    /// next owner (reference MG-65), so it is ended wherever it came from.
    pub(super) fn plan_lease(&mut self, network: &Name, mac: Mac) {
        let Some(address) = self.state.lease(network, mac) else { return };
        let entry = self.wanted(&Key::DhcpHost(network.clone(), mac));
        if matches!(entry, Some(Object::DhcpHost { address: entitled, .. }) if *entitled == address) {
            return;
        }
        let network = network.clone();
        match self.wanted(&Key::Dnsmasq(network.clone())) {
            Some(Object::Dnsmasq(dnsmasq)) => {
                let bridge = dnsmasq.bridge.clone();
                self.step(Step::ReleaseLease { network, bridge, address, mac });
            }
            _ => self.step(Step::ForgetLeases { network }),
        }
    }

    /// The same of an IPv6 lease, which does not tell the MAC of who has it: it ends when its entry
    /// goes or is given to another MAC.
    pub(super) fn plan_lease6(&mut self, network: &Name, address: Ipv6Addr) {
        let lease = self.state.get(&Key::Lease6(network.clone(), address)).map(|have| &have.object);
        let Some(Object::Lease6 { client, iaid }) = lease.cloned() else { return };
        let key = Key::DhcpHost6(network.clone(), address);
        let entitled = match (self.wanted(&key), self.state.get(&key).map(|have| &have.object)) {
            (Some(Object::DhcpHost6 { mac, .. }), Some(Object::DhcpHost6 { mac: before, .. })) => {
                mac == before
            }
            (wanted, _) => wanted.is_some(),
        };
        if entitled {
            return;
        }
        let network = network.clone();
        match self.wanted(&Key::Dnsmasq(network.clone())) {
            Some(Object::Dnsmasq(dnsmasq)) => {
                let bridge = dnsmasq.bridge.clone();
                self.step(Step::ReleaseLease6 { network, bridge, address, client, iaid });
            }
            _ => self.step(Step::ForgetLeases { network }),
        }
    }

    pub(super) fn plan_dnsmasq(&mut self, key: &Key, network: &Name) {
        let have = self.state.dnsmasq(network);
        let Some(Object::Dnsmasq(wanted)) = self.wanted(key).cloned() else {
            if have.is_some() {
                self.step(Step::StopDnsmasq { network: network.clone() });
                self.step(Step::ForgetLeases { network: network.clone() });
            }
            return;
        };
        if let Some((_, detail)) = self.obstacle(&wanted.bridge) {
            let detail = format!("its bridge {} cannot be made: {detail}", wanted.bridge);
            return self.problem(key, ProblemCode::Blocked, detail);
        }
        let bridge_index = self.state.link(&wanted.bridge).and_then(|(link, _)| link.index);
        let right = have.is_some_and(|have| {
            have.arguments == wanted.arguments
                && have.bridge_index.is_some()
                && have.bridge_index == bridge_index
        });
        if right {
            if have.is_some_and(|have| have.stale) {
                self.step(Step::ReloadDhcp { network: network.clone() });
            }
            return;
        }
        if have.is_some() {
            self.step(Step::StopDnsmasq { network: network.clone() });
        }
        self.step(Step::StartDnsmasq { network: network.clone(), dnsmasq: wanted });
    }
}
