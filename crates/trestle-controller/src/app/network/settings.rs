//! Changing what can change on a network in use: what its guests are told and may send, and, where it does not
//! stand, the device it leads out by.

use trestle_api::{Network, NetworkPatch};
use trestle_core::types::{DhcpOption, Family, HostId, LinkName, Name, PoolId};
use trestle_core::world::{self, NetworkType};

use crate::app::check::{self, Checks};
use crate::app::network::gateway::uplink;
use crate::app::network::request::{self, FLAT_BRIDGE, FLAT_DHCP, FLAT_UNROUTED, OWN_BRIDGE};
use crate::app::network::{change, find};
use crate::app::{App, Caller, changes, listed, pool};
use crate::error::AppError;
use crate::store::Write;
use crate::store::host::{self, HostRecord};
use crate::store::network::{self, NetworkRecord};

impl App {
    /// Changes a network; what is absent stays. Connected hosts have followed when this returns, or
    /// two seconds have passed. The same again changes nothing. Admins only.
    pub async fn patch_network(
        &self,
        caller: &Caller,
        network: &str,
        patch: NetworkPatch,
    ) -> Result<Network, AppError> {
        caller.must_be_admin("changing a network")?;
        let mut write = self.write().await?;
        let record = find(write.connection(), caller, network).await?;
        let (before, after) = (&record.network, patched(&record.network, &patch)?);
        let auto_assign = auto_assign(&mut write, &record, patch.auto_assign.as_deref()).await?;
        if after == *before && auto_assign == record.auto_assign {
            return self.shown_again(before.id).await;
        }
        let hosts = host::with_network(write.connection(), before.id).await?;
        refuse_used_device(before, &after, &hosts)?;
        let pools =
            [&record.auto_assign, &auto_assign].map(|pool| pool.as_ref().map(|(id, name)| (*id, name)));
        network::update(write.connection(), &after, pools[1].map(|(id, _)| id)).await?;
        let message = changed_message((before, &after), pools.map(|pool| pool.map(|(_, name)| name)));
        write.log(change("network.changed", message, &record));
        let revision = write.commit().await?;
        let hosts: Vec<HostId> = hosts.iter().map(|record| record.host.id).collect();
        self.wait_for_hosts(hosts, revision).await;
        self.shown_again(before.id).await
    }
}

/// The network with these changes, or everything that is wrong with them.
fn patched(before: &world::Network, patch: &NetworkPatch) -> Result<world::Network, AppError> {
    let mut checks = Checks::default();
    let mut after = before.clone();
    let has = |family| before.subnets().any(|subnet| subnet.cidr.family() == family);
    if let Some(texts) = &patch.dns {
        after.dns = request::dns(&mut checks, texts);
    }
    if let Some(domain) = checks.optional("domain", "bad_domain", patch.domain.as_deref()) {
        after.domain = domain;
    }
    if let Some(mtu) = patch.mtu.and_then(|bytes| request::mtu(&mut checks, bytes, has)) {
        after.mtu = mtu;
    }
    if let Some(texts) = &patch.dhcp_options {
        after.dhcp_options = dhcp_options(&mut checks, before, texts, has);
    }
    if let Some(texts) = &patch.ether_types {
        after.ether_types = request::ether_types(&mut checks, texts);
    }
    if let Some(text) = &patch.bridge_interface {
        after.bridge_interface = bridge_interface(&mut checks, before, text);
    }
    checks.finish()?;
    Ok(after)
}

/// The pool of which new interfaces get floating IPs from now on; an empty text is none.
async fn auto_assign(
    write: &mut Write,
    record: &NetworkRecord,
    wanted: Option<&str>,
) -> Result<Option<(PoolId, Name)>, AppError> {
    match wanted {
        None => Ok(record.auto_assign.clone()),
        Some("") => Ok(None),
        Some(_) if record.network.network_type == NetworkType::Flat => {
            Err(check::invalid("auto_assign", "not_possible", FLAT_UNROUTED))
        }
        Some(text) => {
            let pool = pool::find(write.connection(), text).await?;
            Ok(Some((pool.id, pool.name)))
        }
    }
}

fn dhcp_options(
    checks: &mut Checks,
    network: &world::Network,
    texts: &[String],
    has: impl Fn(Family) -> bool,
) -> Vec<DhcpOption> {
    if network.network_type == NetworkType::Flat && !texts.is_empty() {
        checks.add("dhcp_options", "not_possible", FLAT_DHCP);
    }
    request::dhcp_options(checks, texts, has)
}

/// The device in this text; an empty one is none.
fn bridge_interface(checks: &mut Checks, network: &world::Network, text: &str) -> Option<LinkName> {
    if text.is_empty() {
        return None;
    }
    if network.network_type == NetworkType::Flat {
        checks.add("bridge_interface", "not_possible", FLAT_BRIDGE);
    }
    let device = checks.link("bridge_interface", text)?;
    if device == network.bridge {
        checks.add("bridge_interface", "bad_link_name", OWN_BRIDGE);
    }
    Some(device)
}

/// Fails if the network would be led out of a host that it stands on by another device: guests there
/// would be cut off, or those of another network that has the device now.
fn refuse_used_device(
    before: &world::Network,
    after: &world::Network,
    hosts: &[HostRecord],
) -> Result<(), AppError> {
    let changes = |record: &&HostRecord| uplink(&record.host, before) != uplink(&record.host, after);
    let used = |record: &HostRecord| format!("host `{}`", record.host.name);
    let uses: Vec<String> = hosts.iter().filter(changes).map(used).collect();
    if uses.is_empty() {
        return Ok(());
    }
    let name = &before.name;
    let sentence = format!("the device of network `{name}` cannot be changed while the network stands on");
    Err(AppError::in_use(&sentence, &uses)
        .hint(format!("detach its instances first: `trestle instance list --network {name}` shows them")))
}

fn changed_message(
    (before, after): (&world::Network, &world::Network),
    [pool_before, pool_after]: [Option<&Name>; 2],
) -> String {
    let device = |network: &world::Network| listed(&network.bridge_interface);
    let changes = changes([
        ("dns", listed(&before.dns), listed(&after.dns)),
        ("domain", before.domain.to_string(), after.domain.to_string()),
        ("mtu", before.mtu.to_string(), after.mtu.to_string()),
        ("dhcp_options", listed(&before.dhcp_options), listed(&after.dhcp_options)),
        ("bridge_interface", device(before), device(after)),
        ("auto_assign", listed(pool_before), listed(pool_after)),
        ("ether_types", listed(&before.ether_types), listed(&after.ether_types)),
    ]);
    format!("network `{}` was changed: {changes}", before.name)
}
