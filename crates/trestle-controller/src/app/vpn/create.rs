//! Makes VPNs.

use std::net::IpAddr;
use std::num::NonZeroU16;

use trestle_api::{NewVpn, Vpn, VpnState};
use trestle_core::compile::Entity;
use trestle_core::types::{Family, HostId, InstanceId, Name, VpnKind};
use trestle_core::world::{NetworkType, Security};
use uuid::Uuid;

use super::endpoint::{self, EndpointWish};
use super::keys::NewKeys;
use super::{change, place};
use crate::app::check::Checks;
use crate::app::floating_ip::device::refuse_without_devices;
use crate::app::security_group::DEFAULT;
use crate::app::{App, Caller, check, instance, network, project, security_group};
use crate::error::AppError;
use crate::store::Write;
use crate::store::change::Change;
use crate::store::fixed_ip::{self, Holder};
use crate::store::instance::{self as instance_store, InstanceRecord};
use crate::store::interface::{self, InterfaceRecord};
use crate::store::network::{self as network_store, NetworkRecord};
use crate::store::project::ProjectRecord;
use crate::store::vpn;

/// A VPN that was asked for, read.
#[derive(Default)]
pub(super) struct Wish {
    project: String,
    kind: VpnKind,
    network: Option<String>,
    ip: Option<IpAddr>,
    port: Option<NonZeroU16>,
    host: Option<String>,
}

impl Wish {
    /// All by default, into this network.
    pub(super) fn into_network(network: &NetworkRecord) -> Self {
        Self { network: Some(network.network.id.to_string()), ..Self::default() }
    }
}

impl App {
    /// Makes a project's VPN. Its host, if that is connected, has been told when this returns, or two
    /// seconds have passed.
    pub async fn create_vpn(&self, caller: &Caller, new: NewVpn) -> Result<Vpn, AppError> {
        caller.must_not_be_agent("making a VPN")?;
        let wish = read(caller, &new)?;
        let mut write = self.write().await?;
        let owner = project::find(write.connection(), caller, &wish.project).await?;
        let host = self.make_vpn(&mut write, (caller, &owner), &wish).await?;
        let revision = write.commit().await?;
        self.wait_for_hosts(vec![host], revision).await;
        let made = self.vpn_again(owner.id).await?;
        match (&made.problem, made.state) {
            (Some(problem), VpnState::Failed) => {
                self.delete_vpn(caller, &owner.id.to_string()).await?;
                Err(cannot_run(&made, problem))
            }
            _ => Ok(made),
        }
    }

    /// Makes all of it in this transaction; gives the host it is to run on.
    pub(super) async fn make_vpn(
        &self,
        write: &mut Write,
        (caller, owner): (&Caller, &ProjectRecord),
        wish: &Wish,
    ) -> Result<HostId, AppError> {
        if let Some(known) = vpn::find(write.connection(), owner.id).await? {
            let message =
                format!("project `{}` has a VPN already, into network `{}`", owner.name, known.network_name);
            return Err(AppError::conflict("vpn_exists", message).hint(format!(
                "`trestle vpn set --project {}` changes it; to make another, delete it first",
                owner.name
            )));
        }
        let network = choose_network(write, (caller, owner), wish.network.as_deref()).await?;
        let target = self.choose_vpn_host(write, (&network, owner.id), wish.host.as_deref()).await?;
        self.ensure_gateway(write, &network, &target.host).await?;
        let network = again(write, &network).await?;
        let record = make_instance(write, owner).await?;
        let (interface, address) = self.make_vpn_interface(write, owner, (&record, &network)).await?;
        let attachment = place::attachment(target.host.id, &record.name)?;
        interface::place(write, &interface, Some(&attachment), None).await?;
        let wanted = EndpointWish { ip: wish.ip, port: wish.port };
        let endpoint = self.choose_endpoint(write, (caller, owner), wanted).await?;
        endpoint::lead(write, &endpoint, (record.id, address)).await?;
        refuse_without_devices(write, target.host.id, interface.interface.id).await?;
        let keys = NewKeys::generate(wish.kind, (&owner.name, &record.name), write.at())?;
        let new = vpn::NewVpn {
            project: owner.id,
            instance: record.id,
            interface: interface.interface.id,
            kind: wish.kind,
            address,
            endpoint,
            identity: Uuid::now_v7(),
            shown: keys.shown.clone(),
        };
        vpn::insert(write, &new).await?;
        keys.keep(write, self.sealing(), owner.id).await?;
        let made = vpn::find(write.connection(), owner.id).await?;
        let made = made.ok_or_else(|| AppError::defect("a VPN is not there that was made"))?;
        let message = format!(
            "project `{}` got a VPN into network `{}`: clients send to {} port {}",
            owner.name, network.network.name, endpoint.at.ip, endpoint.at.port
        );
        let plugged = Change::new("interface.created", &record.name, message.clone());
        let plugged = plugged.project(owner.id, &owner.name).host(target.host.id, &target.host.name);
        write.log(plugged.entity(Entity::Interface(interface.interface.id)));
        write.log(change("vpn.created", message, &made));
        Ok(target.host.id)
    }

    /// Puts the VPN on its network: with the address that is kept for it there, else with the next.
    async fn make_vpn_interface(
        &self,
        write: &mut Write,
        owner: &ProjectRecord,
        (record, network): (&InstanceRecord, &NetworkRecord),
    ) -> Result<(InterfaceRecord, IpAddr), AppError> {
        self.refuse_fixed_ips_over_quota(write, owner, 1).await?;
        let default = security_group::find_within(write.connection(), Some(owner.id), DEFAULT).await?;
        let clients = self.ensure_vpn_group(write, owner).await?;
        let security = Security { groups: [default.id, clients.id].into(), ..Security::default() };
        let on = &network.network;
        let made = instance::insert_interface(write, record, on, (None, Some(security))).await?;
        let policy = self.release_policy();
        let kept = network.subnet(Family::Ipv4).and_then(|subnet| subnet.layout.vpn());
        let given = match kept {
            Some(kept) => {
                let claimed = fixed_ip::claim(write, on.id, made.id, kept, policy).await?;
                claimed.map(|()| kept)
            }
            None => {
                let holder = Holder::Interface(made.id);
                fixed_ip::allocate(write, network, Family::Ipv4, holder, policy).await?
            }
        };
        let address =
            given.map_err(|refusal| instance::refused_address(refusal, network, (Family::Ipv4, kept)))?;
        let mut interfaces = interface::of_instance(write.connection(), record.id).await?;
        let interface = interfaces.pop().ok_or_else(|| AppError::defect("an interface was not made"))?;
        Ok((interface, address))
    }
}

/// A host that is away or slow is no failure: it follows when it can.
fn cannot_run(vpn: &Vpn, problem: &str) -> AppError {
    let host = vpn.host.as_ref().map(Name::as_str).unwrap_or_default();
    AppError::conflict("host_problem", format!("host `{host}` cannot run the VPN: {problem}"))
        .hint(format!("mend that and ask again: nothing was made; `trestle host show {host}` says more"))
}

fn read(caller: &Caller, new: &NewVpn) -> Result<Wish, AppError> {
    let mut checks = Checks::default();
    let project = checks.owner(caller, new.project.as_deref(), "a VPN");
    let kind = checks.optional("kind", "bad_kind", new.kind.as_deref());
    let ip = checks.address("ip", new.ip.as_deref());
    let port = port(&mut checks, new.port);
    checks.finish()?;
    if new.host.is_some() {
        caller.must_be_admin("choosing a VPN's host")?;
    }
    let project = project.ok_or_else(|| AppError::defect("a VPN without a project passed its checks"))?;
    let (network, host) = (new.network.clone(), new.host.clone());
    Ok(Wish { project, kind: kind.unwrap_or_default(), network, ip, port, host })
}

/// The port that is asked for, if one is.
pub(super) fn port(checks: &mut Checks, number: Option<u16>) -> Option<NonZeroU16> {
    let port = NonZeroU16::new(number?);
    if port.is_none() {
        checks.add("port", "bad_port", "0 is not a port: use 1 to 65535");
    }
    port
}

/// The network that is named, or the only one of the project's that a VPN can lead into.
async fn choose_network(
    write: &mut Write,
    (caller, owner): (&Caller, &ProjectRecord),
    named: Option<&str>,
) -> Result<NetworkRecord, AppError> {
    if let Some(text) = named {
        let record = network::find(write.connection(), caller, text).await?;
        refuse_unfit(&record, owner)?;
        return Ok(record);
    }
    let owned = network_store::owned(write.connection(), owner.id).await?;
    let mut fit: Vec<NetworkRecord> =
        owned.into_iter().filter(|record| refuse_unfit(record, owner).is_ok()).collect();
    if fit.len() > 1 {
        let names: Vec<String> = fit.iter().map(|record| format!("`{}`", record.network.name)).collect();
        let message =
            format!("project `{}` has several networks: say which of {}", owner.name, names.join(", "));
        return Err(check::invalid("network", "required", message));
    }
    fit.pop().ok_or_else(|| {
        let message = format!("project `{}` has no network that a VPN can lead into", owner.name);
        AppError::conflict("no_network", message)
            .hint("it needs one of its own with IPv4, of type `vlan` or `flat_dhcp`: its first instance claims a free `vlan` network, and `trestle network create --project` makes one")
    })
}

/// Fails if a project's VPN cannot lead into a network: not its own, or not routed for in IPv4.
fn refuse_unfit(record: &NetworkRecord, owner: &ProjectRecord) -> Result<(), AppError> {
    let (network, name) = (&record.network, &record.network.name);
    let (code, message) = match &record.project_name {
        None if network.network_type == NetworkType::Vlan => {
            ("not_own", format!("network `{name}` belongs to no project yet"))
        }
        None => ("not_own", format!("network `{name}` is shared by all projects")),
        Some(other) if *other != owner.name => {
            ("not_own", format!("network `{name}` belongs to project `{other}`"))
        }
        Some(_) if network.network_type == NetworkType::Flat => {
            ("not_routed", format!("network `{name}` is of type `flat`: Trestle does not route for it"))
        }
        Some(_) if network.ipv4.is_none() => ("no_ipv4", format!("network `{name}` has no IPv4 addresses")),
        Some(_) => return Ok(()),
    };
    Err(AppError::conflict(code, message).hint(format!(
        "a VPN leads into a network of project `{}`'s own with IPv4, of type `vlan` or `flat_dhcp`",
        owner.name
    )))
}

async fn again(write: &mut Write, network: &NetworkRecord) -> Result<NetworkRecord, AppError> {
    let found = network_store::find(write.connection(), &network.network.id.to_string()).await?;
    found.ok_or_else(|| AppError::defect("a network was lost while a VPN was made"))
}

async fn make_instance(write: &mut Write, owner: &ProjectRecord) -> Result<InstanceRecord, AppError> {
    let text = format!("{}-vpn", owner.name);
    let name: Name = text.parse().map_err(|error| {
        let message = format!(
            "the VPN of project `{}` would have a name of {} characters, which is longer than 63",
            owner.name,
            text.len()
        );
        AppError::conflict("name_too_long", message)
            .hint("a project with a VPN has a name of 59 characters at most")
            .caused_by(error)
    })?;
    let record = InstanceRecord {
        id: InstanceId(Uuid::now_v7()),
        name,
        project: owner.id,
        project_name: owner.name.clone(),
        created_at: write.at(),
    };
    if instance_store::insert(write.connection(), &record).await? {
        return Ok(record);
    }
    let message = format!(
        "project `{}` has an instance `{}`, which is what its VPN would be called",
        owner.name, record.name
    );
    Err(AppError::conflict("name_taken", message).hint("delete that instance first"))
}
