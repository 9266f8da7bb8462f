//! Networks.

use std::net::Ipv4Addr;

use sqlx::AnyConnection;
use trestle_api::{Network, NetworkFilter, NewNetwork, Page, PageQuery};
use trestle_core::alloc::{Layout, LayoutProblem};
use trestle_core::compile::Entity;
use trestle_core::types::{Cidr, Domain, LinkName, Mac, Mtu, Name, NetworkId};
use trestle_core::world::{self, NetworkType};
use uuid::Uuid;

use crate::app::check::{self, Checks};
use crate::app::{App, Caller, project};
use crate::error::AppError;
use crate::store::change::Change;
use crate::store::network::{self, Collision, Filter, NetworkRecord};
use crate::store::{Write, fixed_ip};

/// A network that was asked for, read.
struct Wish {
    name: Name,
    network_type: NetworkType,
    layout: Layout,
    bridge: LinkName,
    bridge_interface: Option<LinkName>,
    dns: Vec<Ipv4Addr>,
    domain: Domain,
    mtu: Mtu,
}

impl App {
    /// Makes a network. Admins only.
    pub async fn create_network(&self, caller: &Caller, new: NewNetwork) -> Result<Network, AppError> {
        caller.must_be_admin("making a network")?;
        let wish = self.read_wish(&new)?;
        let mut write = self.write().await?;
        let owner = match new.project.as_deref() {
            Some(text) => Some(project::find(write.connection(), caller, text).await?),
            None => None,
        };
        refuse_collisions(&mut write, &wish, new.bridge.is_none()).await?;
        let bridge_mac = unused_bridge_mac(&mut write).await?;
        let network = world::Network {
            id: NetworkId(Uuid::now_v7()),
            name: wish.name,
            network_type: wish.network_type,
            project: owner.as_ref().map(|project| project.id),
            cidr: wish.layout.cidr(),
            gateway: wish.layout.gateway(),
            bridge: wish.bridge,
            bridge_interface: wish.bridge_interface,
            bridge_mac,
            dns: wish.dns,
            domain: wish.domain,
            mtu: wish.mtu,
            dhcp_lease_time: self.dhcp_lease_time(),
        };
        let record = NetworkRecord {
            network,
            project_name: owner.map(|project| project.name),
            layout: wish.layout,
            next_address: wish.layout.first(),
            created_at: write.at(),
        };
        network::insert(write.connection(), &record).await?;
        let message = format!("network `{}` was made with {}", record.network.name, record.network.cidr);
        write.log(change("network.created", message, &record));
        write.commit().await?;
        Ok(answer(record, 0))
    }

    /// The networks that the caller may use.
    pub async fn list_networks(
        &self,
        caller: &Caller,
        filter: &NetworkFilter,
        page: &PageQuery,
    ) -> Result<Page<Network>, AppError> {
        let (limit, after) = (check::limit(page)?, check::after_id(page)?);
        let mut read = self.store().read().await?;
        let project = match filter.project.as_deref() {
            Some(text) => Some(project::find(&mut read, caller, text).await?.id),
            None => None,
        };
        let filter = Filter { name: filter.name.as_deref(), usable_by: [project, caller.only_project()] };
        let records = network::list(&mut read, &filter, &after, check::rows(limit)).await?;
        let mut networks = Vec::with_capacity(records.len());
        for record in records {
            networks.push(self.with_usage(&mut read, record).await?);
        }
        Ok(check::page(networks, limit, |network| network.id.to_string()))
    }

    /// One network.
    pub async fn network(&self, caller: &Caller, network: &str) -> Result<Network, AppError> {
        let mut read = self.store().read().await?;
        let record = find(&mut read, caller, network).await?;
        self.with_usage(&mut read, record).await
    }

    /// Deletes a network that has no interfaces. Admins only.
    pub async fn delete_network(&self, caller: &Caller, network: &str) -> Result<(), AppError> {
        caller.must_be_admin("deleting a network")?;
        let mut write = self.write().await?;
        let record = find(write.connection(), caller, network).await?;
        let NetworkRecord { network: world::Network { id, name, .. }, .. } = &record;
        let uses = network::uses(write.connection(), *id).await?;
        if !uses.is_empty() {
            return Err(AppError::in_use(&format!("network `{name}` still has"), &uses));
        }
        network::delete(write.connection(), *id).await?;
        let message = format!("network `{name}` was deleted");
        write.log(change("network.deleted", message, &record));
        write.commit().await?;
        Ok(())
    }

    fn read_wish(&self, new: &NewNetwork) -> Result<Wish, AppError> {
        let mut checks = Checks::default();
        let name = checks.name("name", &new.name);
        let network_type = network_type(&mut checks, new.network_type.as_deref());
        let layout = layout(&mut checks, new);
        let bridge = self.bridge(&mut checks, new.bridge.as_deref());
        let bridge_interface =
            new.bridge_interface.as_deref().and_then(|text| checks.link("bridge_interface", text));
        if bridge.is_some() && bridge == bridge_interface {
            checks.add("bridge_interface", "bad_link_name", "a bridge cannot enslave itself");
        }
        let servers = new.dns.iter().enumerate();
        let dns =
            servers.filter_map(|(i, text)| checks.parse(&format!("dns[{i}]"), "bad_address", text)).collect();
        let domain = checks.optional("domain", "bad_domain", new.domain.as_deref());
        let mtu = new.mtu.map_or(Some(Mtu::ETHERNET), |bytes| match Mtu::try_from(bytes) {
            Ok(mtu) => Some(mtu),
            Err(error) => {
                checks.add("mtu", "bad_mtu", error);
                None
            }
        });
        checks.finish()?;
        let whole = name.zip(network_type).zip(layout).zip(bridge).zip(mtu);
        let Some(((((name, network_type), layout), bridge), mtu)) = whole else {
            return Err(AppError::defect("a network without all it needs passed its checks"));
        };
        let domain = domain.unwrap_or_else(|| self.dhcp_domain().clone());
        Ok(Wish { name, network_type, layout, bridge, bridge_interface, dns, domain, mtu })
    }

    fn bridge(&self, checks: &mut Checks, text: Option<&str>) -> Option<LinkName> {
        let default = self.flat_network_bridge().cloned();
        if text.is_none() && default.is_none() {
            let message =
                "a flat_dhcp network needs a bridge: name one here, or set the option flat_network_bridge";
            checks.add("bridge", "no_bridge", message);
        }
        text.map_or(default, |text| checks.link("bridge", text))
    }

    async fn with_usage(
        &self,
        connection: &mut AnyConnection,
        record: NetworkRecord,
    ) -> Result<Network, AppError> {
        let used = fixed_ip::used(connection, &record, self.release_policy(), self.now()).await?;
        Ok(answer(record, used))
    }
}

/// The network of this name or id, if the caller may use it.
pub(super) async fn find(
    connection: &mut AnyConnection,
    caller: &Caller,
    text: &str,
) -> Result<NetworkRecord, AppError> {
    let found = network::find(connection, &check::reference(text)).await?;
    let visible = |record: &NetworkRecord| match (caller.only_project(), record.network.project) {
        (Some(only), Some(owner)) => only == owner,
        _ => true,
    };
    found.filter(visible).ok_or_else(|| AppError::not_found("network", text))
}

fn network_type(checks: &mut Checks, text: Option<&str>) -> Option<NetworkType> {
    match text.unwrap_or("flat_dhcp") {
        "flat_dhcp" => Some(NetworkType::FlatDhcp),
        other => {
            checks.add(
                "type",
                "unknown_type",
                format!("`{other}` is not a type of network; there is `flat_dhcp`"),
            );
            None
        }
    }
}

fn layout(checks: &mut Checks, new: &NewNetwork) -> Option<Layout> {
    let gateway = checks.optional("gateway", "bad_address", new.gateway.as_deref());
    let dhcp_start = checks.optional("dhcp_start", "bad_address", new.dhcp_start.as_deref());
    if new.cidr.is_empty() {
        checks.add("cidr", "required", "a range is needed, such as 10.0.0.0/24");
        return None;
    }
    let cidr: Cidr = match new.cidr.parse() {
        Ok(cidr) => cidr,
        Err(error) => {
            let host_bits = matches!(error, trestle_core::types::InvalidCidr::HostBits { .. });
            checks.add("cidr", if host_bits { "cidr_host_bits" } else { "bad_cidr" }, error);
            return None;
        }
    };
    let problems = match Layout::new(cidr, gateway, dhcp_start) {
        Ok(layout) => return Some(layout),
        Err(problems) => problems,
    };
    for problem in problems {
        let (field, code) = match problem {
            LayoutProblem::Size(_) => ("cidr", "bad_size"),
            LayoutProblem::NotForHosts(_) => ("cidr", "bad_cidr"),
            LayoutProblem::GatewayOutside { .. } => ("gateway", "gateway_outside"),
            LayoutProblem::DhcpStartOutside { .. } => ("dhcp_start", "dhcp_start_outside"),
            LayoutProblem::NoneLeft(_) => ("cidr", "bad_size"),
        };
        checks.add(field, code, problem);
    }
    None
}

async fn refuse_collisions(write: &mut Write, wish: &Wish, bridge_is_default: bool) -> Result<(), AppError> {
    let wanted = (&wish.name, &wish.bridge, wish.layout.cidr());
    let collisions = network::collisions(write.connection(), wanted).await?;
    let Some(first) = collisions.first() else { return Ok(()) };
    let (name, bridge, cidr) = wanted;
    let error = match first {
        Collision::Name => AppError::conflict("name_taken", format!("there is a network `{name}` already")),
        Collision::Bridge(other) => {
            let message =
                format!("bridge `{bridge}` is that of network `{other}`; two networks cannot share one");
            let error = AppError::conflict("bridge_taken", message);
            if bridge_is_default { error.hint("name another bridge with `bridge`") } else { error }
        }
        Collision::Range(other, range) => {
            let message = format!("{cidr} overlaps with network `{other}`, which has {range}");
            AppError::conflict("network_overlap", message)
        }
    };
    Err(error.with_problems(collisions.iter().map(|collision| match collision {
        Collision::Name => ("name", "name_taken", format!("there is a network `{name}` already")),
        Collision::Bridge(other) => ("bridge", "bridge_taken", format!("it is that of network `{other}`")),
        Collision::Range(other, range) => {
            ("cidr", "network_overlap", format!("it overlaps with network `{other}`, which has {range}"))
        }
    })))
}

/// What a generated MAC is for. Each has a prefix of its own, so that a guest is never given the
/// MAC of a bridge.
#[derive(Clone, Copy, Debug)]
pub(super) enum MacOf {
    /// An instance's interface: `fa:16:3e`, the original's.
    Guest,
    /// A bridge: `fe:16:3e`.
    Bridge,
}

/// A random MAC.
pub(super) fn generated_mac(of: MacOf) -> Result<Mac, AppError> {
    let mut tail = [0; 3];
    getrandom::fill(&mut tail).map_err(|error| AppError::defect("no random numbers").caused_by(error))?;
    let [b, c, d] = tail;
    match of {
        MacOf::Guest => Ok(Mac::generated(tail)),
        MacOf::Bridge => Mac::new([0xfe, 0x16, 0x3e, b, c, d])
            .map_err(|error| AppError::defect("a generated MAC is none").caused_by(error)),
    }
}

async fn unused_bridge_mac(write: &mut Write) -> Result<Mac, AppError> {
    loop {
        let mac = generated_mac(MacOf::Bridge)?;
        if !network::mac_is_taken(write.connection(), mac).await? {
            return Ok(mac);
        }
    }
}

fn change(kind: &'static str, message: String, record: &NetworkRecord) -> Change {
    let network = &record.network;
    let change = Change::new(kind, &network.name, message).entity(Entity::Network(network.id));
    match network.project.zip(record.project_name.as_ref()) {
        Some((id, name)) => change.project(id, name),
        None => change,
    }
}

fn answer(record: NetworkRecord, addresses_used: u64) -> Network {
    let NetworkRecord { network, project_name, layout, created_at, .. } = record;
    Network {
        id: network.id,
        name: network.name,
        network_type: network.network_type,
        project: project_name,
        cidr: network.cidr,
        gateway: network.gateway,
        dhcp_start: layout.dhcp_start(),
        bridge: network.bridge,
        bridge_interface: network.bridge_interface,
        dns: network.dns,
        domain: network.domain,
        mtu: network.mtu,
        addresses_total: layout.total(),
        addresses_used,
        created_at,
    }
}
