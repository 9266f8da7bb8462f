//! Who routes for a network, and whether a host can.

use std::time::Duration;

use trestle_api::{Feature, GatewayRequest, Network};
use trestle_core::plan::Problem;
use trestle_core::spec::Key;
use trestle_core::types::{HostId, LinkName, Name};
use trestle_core::world::{self, Gateways, NetworkType};

use crate::app::floating_ip::device::refuse_no_device;
use crate::app::network::{change, find};
use crate::app::vpn::follow_gateway;
use crate::app::{App, Caller, host};
use crate::error::AppError;
use crate::store::Write;
use crate::store::fixed_ip;
use crate::store::floating_ip;
use crate::store::host::{self as host_store, HostRecord};
use crate::store::interface::{self, UplinkHolder};
use crate::store::network::{self, NetworkRecord};
use crate::store::observed;

/// How long a host may take to route for a network in use before the one before it does so again.
const TAKEOVER_PATIENCE: Duration = Duration::from_secs(10);

impl App {
    /// Moves the gateway of a single-host network to another host. That of a network in use stands
    /// there when this succeeds; else it is where it was. The same again changes nothing. Admins
    /// only.
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
        let needed = floating_ip::needed_on(write.connection(), id).await?;
        refuse_no_device(&target, &needed)?;
        let is_in_use = network::is_in_use(write.connection(), id).await?;
        if is_in_use && !self.is_connected(&target) {
            let message = format!(
                "host `{}` is away: network `{name}` is in use and would have no gateway",
                target.host.name
            );
            return Err(AppError::conflict("host_away", message)
                .hint("start its agent first, or choose another host"));
        }
        let before = match old {
            Some(old) => Some(host::find(write.connection(), caller, &old.to_string()).await?.host),
            None => None,
        };
        refuse_lesser(&mut write, &record, &target.host, before.as_ref()).await?;
        let message = match &before {
            Some(before) => {
                format!(
                    "host `{}` routes for network `{name}`, host `{}` no more",
                    target.host.name, before.name
                )
            }
            None => format!("host `{}` routes for network `{name}`", target.host.name),
        };
        network::set_gateway_host(&mut write, &record, Some(target.host.id)).await?;
        write.log(change("network.gateway_moved", message, &record).host(target.host.id, &target.host.name));
        follow_gateway(&mut write, id, &target.host).await?;
        let revision = write.commit().await?;
        if let Some(before) = before.as_ref().filter(|_| is_in_use) {
            self.confirm_gateway(&record, &target.host, before, revision).await?;
        }
        self.wait_for_hosts([Some(target.host.id), old].into_iter().flatten(), revision).await;
        self.shown_again(id).await
    }

    /// Fails unless the new gateway of a network in use stands; the one before it routes again then.
    async fn confirm_gateway(
        &self,
        record: &NetworkRecord,
        target: &world::Host,
        before: &world::Host,
        revision: u64,
    ) -> Result<(), AppError> {
        let name = &record.network.name;
        let why = match self.has_applied(target.id, revision, TAKEOVER_PATIENCE).await? {
            false => {
                let patience = TAKEOVER_PATIENCE.as_secs();
                ("host_away", format!("host `{}` did not follow within {patience} s", target.name))
            }
            true => {
                let keys = network_keys(&record.network);
                let mut read = self.store().read().await?;
                let problems = observed::problems(&mut read, target.id).await?;
                match problems.into_iter().find(|problem| keys.contains(&problem.key)) {
                    None => return Ok(()),
                    Some(Problem { key, detail, .. }) => {
                        let message = format!(
                            "host `{}` cannot route for network `{name}`: {key}: {detail}",
                            target.name
                        );
                        ("host_problem", message)
                    }
                }
            }
        };
        let mut write = self.write().await?;
        let now = network::find(write.connection(), &record.network.id.to_string()).await?;
        // Somebody else may have moved it on, or deleted it, meanwhile.
        if let Some(now) = now.filter(|now| now.network.gateway_host() == Some(target.id)) {
            network::set_gateway_host(&mut write, &now, Some(before.id)).await?;
            let message = format!(
                "host `{}` routes for network `{name}` again: host `{}` did not take over",
                before.name, target.name
            );
            write.log(change("network.gateway_moved", message, &now).host(before.id, &before.name));
            follow_gateway(&mut write, now.network.id, before).await?;
            let revision = write.commit().await?;
            self.wait_for_hosts(vec![before.id], revision).await;
        }
        let (code, message) = why;
        Err(AppError::conflict(code, message).hint(format!(
            "host `{}` routes for it as before; `trestle host show {}` says how the other is",
            before.name, target.name
        )))
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
            Gateways::One(None) => self.choose_gateway(write, record, Some(host)).await.map(Some),
            Gateways::PerHost(_) => {
                self.give_own_addresses(write, record, host).await?;
                Ok(None)
            }
        }
    }

    /// Gives the gateway host of a network that has none yet and is being plugged in on this host, or on
    /// whichever it becomes: of those that can, one that is connected, leads the network out and has a public interface, as
    /// far as there are such; of these the one with the fewest networks.
    pub(in crate::app) async fn choose_gateway(
        &self,
        write: &mut Write,
        record: &NetworkRecord,
        guests: Option<&world::Host>,
    ) -> Result<HostId, AppError> {
        let mut candidates = host_store::gateways(write.connection()).await?;
        candidates.sort_by_key(|(candidate, networks)| {
            let host = &candidate.host;
            let lacks = (uplink(host, &record.network).is_none(), host.public_interface.is_none());
            (!self.is_connected(candidate), lacks, *networks, host.id)
        });
        let mut reasons = Vec::new();
        for (candidate, _) in candidates {
            let host = &candidate.host;
            let fits = refuse_unfit(write, &candidate, record).await;
            match fits.and_then(|()| refuse_cut_off(&record.network, host, guests.unwrap_or(host))) {
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

/// The device by which a network is led out of a host: the host's own wins over the network's. Of
/// what the administrator has in a flat network's bridge nothing is known.
pub(in crate::app) fn uplink<'a>(host: &'a world::Host, network: &'a world::Network) -> Option<&'a LinkName> {
    match network.network_type {
        NetworkType::Vlan => host.vlan_interface.as_ref().or(network.bridge_interface.as_ref()),
        NetworkType::FlatDhcp => host.flat_interface.as_ref().or(network.bridge_interface.as_ref()),
        NetworkType::Flat => None,
    }
}

/// What must be without a problem on a host for the network to stand there.
pub(in crate::app) fn network_keys(network: &world::Network) -> [Key; 3] {
    let vlan = network.vlan.map_or_else(|| network.bridge.clone(), |id| id.device());
    [Key::Link(network.bridge.clone()), Key::Link(vlan), Key::Device(network.bridge.clone())]
}

/// Fails if the guests of a network on one host cannot reach the other host, which routes for it.
pub(in crate::app) fn refuse_cut_off(
    network: &world::Network,
    gateway: &world::Host,
    guests: &world::Host,
) -> Result<(), AppError> {
    let without = [guests, gateway].into_iter().find(|host| uplink(host, network).is_none());
    match without.filter(|_| gateway.id != guests.id) {
        None => Ok(()),
        Some(host) => Err(no_uplink(network, host, &gateway.name)),
    }
}

fn no_uplink(network: &world::Network, without: &world::Host, gateway: &Name) -> AppError {
    let (name, host) = (&network.name, &without.name);
    let message = format!(
        "host `{host}` has no device in the bridge of network `{name}`: host `{gateway}`, which routes for it, and guests on other hosts do not reach each other"
    );
    let option = match network.vlan {
        Some(_) => "--vlan-interface",
        None => "--flat-interface",
    };
    let hint = format!("name one with `trestle host set {host} {option} DEVICE`");
    AppError::conflict("no_uplink", message).hint(hint)
}

/// Fails if a host would route for a network less well than the one before: not reached by guests
/// that others have, or without the source NAT that they go out by.
async fn refuse_lesser(
    write: &mut Write,
    record: &NetworkRecord,
    target: &world::Host,
    before: Option<&world::Host>,
) -> Result<(), AppError> {
    let network = &record.network;
    if uplink(target, network).is_none()
        && network::is_on_others(write.connection(), network.id, target.id).await?
    {
        return Err(no_uplink(network, target, &target.name));
    }
    let nat_before = before.filter(|before| before.public_interface.is_some() && network.ipv4.is_some());
    match nat_before.filter(|_| target.public_interface.is_none()) {
        None => Ok(()),
        Some(before) => {
            let message = format!(
                "host `{}` has no public interface: guests of network `{}` would not get out as they do by host `{}`",
                target.name, network.name, before.name
            );
            let hint = format!("name one with `trestle host set {} --public-interface DEVICE`", target.name);
            Err(AppError::conflict("no_public_interface", message).hint(hint))
        }
    }
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
    match (network.network.network_type, uplink(host, &network.network)) {
        (NetworkType::Vlan, None) => {
            let message = format!("host `{}` has no device for the VLAN of network `{name}`", host.name);
            Err(AppError::conflict("no_vlan_interface", message)
                .hint(format!("name one with `trestle host set {} --vlan-interface DEVICE`", host.name)))
        }
        (NetworkType::FlatDhcp, Some(device)) => {
            let id = network.network.id;
            match interface::uplink_holder(write.connection(), host.id, id, device).await? {
                None => Ok(()),
                Some(holder) => Err(interface_taken(host, device, &holder)),
            }
        }
        _ => Ok(()),
    }
}

fn interface_taken(host: &world::Host, device: &LinkName, holder: &UplinkHolder) -> AppError {
    let why = match holder.is_plugged_in {
        true => String::new(),
        false => format!(" ({} routes for it)", host.name),
    };
    let message =
        format!("on host `{}` {device} is in the bridge of network `{}`{why}", host.name, holder.network);
    let hint = match host.flat_interface {
        Some(_) => format!(
            "a device can be in one bridge only, and a host's flat_interface wins over the networks' bridge_interface: use another host, or, when nothing is plugged in here, `trestle host set {} --flat-interface ''` and networks with a `--bridge-interface` each",
            host.name
        ),
        None => "a device can be in one bridge only: use another host, or networks with a `--bridge-interface` each".to_owned(),
    };
    AppError::conflict("interface_taken", message).hint(hint)
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
