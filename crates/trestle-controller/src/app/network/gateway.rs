//! Who routes for a network, and whether a host can.

use trestle_api::{Feature, GatewayRequest, Network};
use trestle_core::types::{HostId, Name};
use trestle_core::world::{self, Gateways, NetworkType};

use crate::app::network::{change, find};
use crate::app::{App, Caller, host};
use crate::error::AppError;
use crate::store::Write;
use crate::store::fixed_ip;
use crate::store::host::{self as host_store, HostRecord};
use crate::store::interface;
use crate::store::network::{self, NetworkRecord};

impl App {
    /// Moves the gateway of a single-host network to another host; connected hosts have followed
    /// when this returns, the new one first, or two seconds each have passed. The same again
    /// changes nothing. Admins only.
    pub async fn set_gateway(
        &self,
        caller: &Caller,
        network: &str,
        request: GatewayRequest,
    ) -> Result<Network, AppError> {
        caller.must_be_admin("moving a gateway")?;
        let mut write = self.write().await?;
        let record = find(write.connection(), caller, network).await?;
        let target = host::find(write.connection(), caller, &request.host).await?;
        let (id, name) = (record.network.id, &record.network.name);
        let old = match record.network.gateways {
            Gateways::One(old) => old,
            Gateways::Shared | Gateways::PerHost(_) => return Err(no_single_host(&record)),
        };
        if old == Some(target.host.id) {
            return self.shown_again(id).await;
        }
        refuse_unfit(&mut write, &target, &record).await?;
        if network::is_in_use(write.connection(), id).await? && !self.is_connected(&target) {
            let message = format!(
                "host `{}` is away: network `{name}` is in use and would have no gateway",
                target.host.name
            );
            return Err(AppError::conflict("host_away", message)
                .hint("start its agent first, or choose another host"));
        }
        let message = match &record.gateway_host_name {
            Some(before) => {
                format!("host `{}` routes for network `{name}`, host `{before}` no more", target.host.name)
            }
            None => format!("host `{}` routes for network `{name}`", target.host.name),
        };
        network::set_gateway_host(&mut write, &record, Some(target.host.id)).await?;
        write.log(change("network.gateway_moved", message, &record).host(target.host.id, &target.host.name));
        let revision = write.commit().await?;
        for host in [Some(target.host.id), old].into_iter().flatten() {
            self.wait_for_hosts(vec![host], revision).await;
        }
        self.shown_again(id).await
    }

    /// Sees to it that a network that is being plugged in on a host has its gateway: the one of a
    /// single-host network is chosen, one of a host's own has its address. Gives the one host that
    /// routes for all, if one does.
    pub(in crate::app) async fn ensure_gateway(
        &self,
        write: &mut Write,
        record: &NetworkRecord,
        host: &world::Host,
    ) -> Result<Option<HostId>, AppError> {
        if record.network.network_type == NetworkType::Flat {
            return Ok(None);
        }
        match &record.network.gateways {
            Gateways::Shared => Ok(None),
            Gateways::One(Some(chosen)) => Ok(Some(*chosen)),
            Gateways::One(None) => self.choose_gateway(write, record).await.map(Some),
            Gateways::PerHost(_) => {
                self.give_own_addresses(write, record, host).await?;
                Ok(None)
            }
        }
    }

    /// Gives the gateway host of a network that has none yet: of those that can, one that is
    /// connected, and of these the one with the fewest networks.
    async fn choose_gateway(&self, write: &mut Write, record: &NetworkRecord) -> Result<HostId, AppError> {
        let mut candidates = host_store::gateways(write.connection()).await?;
        candidates.sort_by_key(|(host, networks)| (!self.is_connected(host), *networks, host.host.id));
        let mut reasons = Vec::new();
        for (candidate, _) in candidates {
            let host = &candidate.host;
            match refuse_unfit(write, &candidate, record).await {
                Err(error) => reasons.push(error.to_string()),
                Ok(()) => {
                    network::set_gateway_host(write, record, Some(host.id)).await?;
                    let message = format!(
                        "host `{}` was chosen to route for network `{}`",
                        host.name, record.network.name
                    );
                    write.log(change("network.gateway_chosen", message, record).host(host.id, &host.name));
                    return Ok(host.id);
                }
            }
        }
        let name = &record.network.name;
        let why = match reasons.is_empty() {
            true => "no host may be chosen as a gateway".to_owned(),
            false => reasons.join("; "),
        };
        Err(AppError::conflict("no_gateway_host", format!("no host can route for network `{name}`: {why}"))
            .hint("give a host the role with `trestle host set HOST --gateway yes`, or name one with `trestle network set-gateway`"))
    }

    async fn give_own_addresses(
        &self,
        write: &mut Write,
        record: &NetworkRecord,
        host: &world::Host,
    ) -> Result<(), AppError> {
        let name = &record.network.name;
        let given = fixed_ip::give_host(write, record, host.id, self.release_policy()).await?;
        let addresses = given.map_err(|_| {
            let message =
                format!("network `{name}` is full: host `{}` finds no gateway address of its own", host.name);
            AppError::conflict("network_full", message).hint("delete instances that are not needed")
        })?;
        if !addresses.is_empty() {
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            let message =
                format!("host `{}` routes for network `{name}` as {}", host.name, addresses.join(" and "));
            write.log(change("network.gateway_added", message, record).host(host.id, &host.name));
        }
        Ok(())
    }
}

/// Takes a host's own gateway addresses back when the network's last interface has left it.
pub(in crate::app) async fn leave_host(
    write: &mut Write,
    record: &NetworkRecord,
    (host, host_name): (HostId, &Name),
) -> Result<(), AppError> {
    let of_host = matches!(&record.network.gateways, Gateways::PerHost(hosts) if hosts.contains_key(&host));
    if of_host && fixed_ip::release_host(write, record, host).await? {
        let message = format!("host `{host_name}` routes for network `{}` no more", record.network.name);
        write.log(change("network.gateway_removed", message, record).host(host, host_name));
    }
    Ok(())
}

/// Fails if a host cannot have a network: for want of something in its kernel, or of a device to
/// lead it out by. Nothing is asked of the host for this.
pub(in crate::app) async fn refuse_unfit(
    write: &mut Write,
    record: &HostRecord,
    network: &NetworkRecord,
) -> Result<(), AppError> {
    refuse_missing_features(record, &network.network)?;
    let (host, name) = (&record.host, &network.network.name);
    match network.network.network_type {
        NetworkType::Flat => Ok(()),
        NetworkType::Vlan if host.vlan_interface.is_none() && network.network.bridge_interface.is_none() => {
            let message = format!("host `{}` has no device for the VLAN of network `{name}`", host.name);
            Err(AppError::conflict("no_vlan_interface", message)
                .hint(format!("name one with `trestle host set {} --vlan-interface DEVICE`", host.name)))
        }
        NetworkType::Vlan => Ok(()),
        NetworkType::FlatDhcp => {
            let uplink = host.flat_interface.as_ref().or(network.network.bridge_interface.as_ref());
            let Some(uplink) = uplink else { return Ok(()) };
            let id = network.network.id;
            match interface::uplink_holder(write.connection(), host.id, id, uplink).await? {
                None => Ok(()),
                Some(holder) => Err(AppError::conflict(
                    "interface_taken",
                    format!("on host `{}` {uplink} is in the bridge of network `{holder}`", host.name),
                )
                .hint("a device can be in one bridge only: use another host, or a device of its own for each network")),
            }
        }
    }
}

fn refuse_missing_features(record: &HostRecord, network: &world::Network) -> Result<(), AppError> {
    let missing =
        |feature| record.observed.as_ref().is_some_and(|seen| seen.missing_features.contains(&feature));
    let (feature, code, hint) = if network.vlan.is_some() && missing(Feature::Vlan) {
        (
            Feature::Vlan,
            "host_lacks_vlan",
            "load the module 8021q or boot a kernel with CONFIG_VLAN_8021Q, and start the agent anew",
        )
    } else if network.ipv6.is_some() && missing(Feature::Ipv6) {
        (
            Feature::Ipv6,
            "host_lacks_ipv6",
            "boot without ipv6.disable=1 or a kernel with CONFIG_IPV6, and start the agent anew",
        )
    } else {
        return Ok(());
    };
    let message = format!(
        "host `{}` cannot have network `{}`: its kernel has no {feature}",
        record.host.name, network.name
    );
    Err(AppError::conflict(code, message).hint(hint))
}

fn no_single_host(record: &NetworkRecord) -> AppError {
    let name = &record.network.name;
    let message = match record.network.network_type {
        NetworkType::Flat => format!("network `{name}` is of type `flat`: Trestle does not route for it"),
        NetworkType::FlatDhcp | NetworkType::Vlan => {
            format!("network `{name}` is multi-host: every host with an instance routes for it")
        }
    };
    AppError::conflict("not_single_host", message)
}
