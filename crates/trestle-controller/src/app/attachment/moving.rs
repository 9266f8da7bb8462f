//! Moving an instance to another host, in two phases: everything is made on the new host while the
//! instance runs on the old one, then all of it is switched at once.
//!
//! Between the phases a hypervisor copies the running guest. For admins alone: who may move an
//! instance to a host takes it from another.

use std::collections::BTreeSet;
use std::time::Duration;

use sqlx::AnyConnection;
use trestle_api::{Instance, MovePhase, MoveRequest};
use trestle_core::compile::Entity;
use trestle_core::plan::Problem;
use trestle_core::spec::Key;
use trestle_core::types::{HostId, LinkName, Name};
use trestle_core::world::{Attachment, Host, Plug};

use crate::app::attachment::plug::read_plug;
use crate::app::attachment::{change, network_of, refuse_no_place, server};
use crate::app::check::{self, Checks};
use crate::app::floating_ip::device::refuse_without_devices;
use crate::app::network::gateway::network_keys;
use crate::app::{App, Caller, host, instance, vpn};
use crate::error::AppError;
use crate::store::Write;
use crate::store::change::last_kind;
use crate::store::host::HostRecord;
use crate::store::instance::InstanceRecord;
use crate::store::interface::{self, InterfaceRecord};
use crate::store::observed;

/// How long a host may take to prepare an instance.
const PREPARE_PATIENCE: Duration = Duration::from_secs(10);

/// The kind of change that says that an interface is on another host.
const MOVED: &str = "interface.moved";

/// What is moved: the instance and its interfaces that are plugged in.
struct Moved {
    owner: InstanceRecord,
    interfaces: Vec<InterfaceRecord>,
}

/// What a host must have made before an instance can be switched to it.
struct Prepared {
    host: HostId,
    host_name: Name,
    revision: u64,
    keys: BTreeSet<Key>,
}

impl App {
    /// Moves an instance to another host, or does a part of that. The same again changes nothing.
    /// Admins only.
    pub async fn move_instance(
        &self,
        caller: &Caller,
        instance: &str,
        project: Option<&str>,
        request: MoveRequest,
    ) -> Result<Instance, AppError> {
        caller.must_be_admin("moving an instance")?;
        refuse_wrong_fields(&request)?;
        let target = (instance, project);
        match request.phase {
            MovePhase::Prepare => self.prepare(target, &request).await?,
            MovePhase::Switch => self.switch(target, request.host.as_deref()).await?,
            MovePhase::Cancel => self.cancel(target).await?,
            MovePhase::Both if self.has_or_gets_veth(target, &request).await? => {
                self.replug(target, &request).await?;
            }
            MovePhase::Both => {
                self.prepare(target, &request).await?;
                self.switch(target, request.host.as_deref()).await?;
            }
        }
        self.instance(caller, instance, project).await
    }

    /// Has everything made on the new host, and waits until it stands there. If it does not, what
    /// was begun is taken back.
    async fn prepare(&self, target: (&str, Option<&str>), request: &MoveRequest) -> Result<(), AppError> {
        let mut write = self.write().await?;
        let moved = find_moved(write.connection(), target).await?;
        let host = self.find_target(&mut write, (&moved.owner, &moved.interfaces), request).await?;
        let plugs = read_plugs(&moved.interfaces, request)?;
        let mut revision = None;
        let mut keys = BTreeSet::new();
        for (record, plug) in moved.interfaces.iter().zip(plugs) {
            let network = network_of(&mut write, record).await?;
            keys.extend(network_keys(&network.network));
            keys.insert(Key::Link(record.interface.device.clone()));
            let place = Attachment { host: host.host.id, plug };
            if record.interface.moving_to.as_ref() == Some(&place) || is_on(record, host.host.id) {
                continue;
            }
            refuse_other_move(&moved.owner, record)?;
            refuse_no_place(&mut write, &host, &network).await?;
            if let Some(server) = server(&network.network, host.host.id) {
                refuse_without_devices(&mut write, server, record.interface.id).await?;
            }
            self.ensure_gateway(&mut write, &network, &host.host).await?;
            interface::place(&mut write, record, record.interface.attachment.as_ref(), Some(&place)).await?;
            let message = format!(
                "host `{}` prepares for instance `{}` on network `{}`",
                host.host.name, moved.owner.name, record.network_name
            );
            let change = change("interface.prepared", message, &moved.owner, record);
            write.log(change.host(host.host.id, &host.host.name));
            revision = Some(write.revision());
        }
        let revision = match revision {
            Some(revision) => {
                write.commit().await?;
                revision
            }
            // Prepared before: what it was asked for stands, or is about to.
            None => {
                drop(write);
                *self.feed().generation(host.host.id).borrow()
            }
        };
        let prepared = Prepared { host: host.host.id, host_name: host.host.name, revision, keys };
        let standing = self.wait_until_prepared(&moved.owner, &prepared).await;
        if standing.is_err() {
            self.cancel(target).await?;
        }
        standing
    }

    /// Fails unless the host says that all of it stands.
    async fn wait_until_prepared(&self, owner: &InstanceRecord, prepared: &Prepared) -> Result<(), AppError> {
        let Prepared { host, host_name, revision, keys } = prepared;
        if !self.has_applied(*host, *revision, PREPARE_PATIENCE).await? {
            let message = format!(
                "host `{host_name}` did not take instance `{}` within {} s",
                owner.name,
                PREPARE_PATIENCE.as_secs()
            );
            return Err(AppError::conflict("host_away", message)
                .hint(format!("nothing was moved; see its agent with `trestle host show {host_name}`")));
        }
        let mut read = self.store().read().await?;
        refuse_problems(&mut read, (*host, host_name), owner, keys).await
    }

    /// The instance runs on the new host from now on. Connected hosts have followed when this
    /// returns, the new one first, or two seconds each have passed.
    async fn switch(&self, target: (&str, Option<&str>), to: Option<&str>) -> Result<(), AppError> {
        let mut write = self.write().await?;
        let moved = find_moved(write.connection(), target).await?;
        let wanted = match to {
            Some(text) => Some(host::find(write.connection(), &Caller::Admin, text).await?.host),
            None => None,
        };
        let wanted = wanted.as_ref().map(|host| host.id);
        let (mut new, mut old) = (BTreeSet::new(), BTreeSet::new());
        for record in &moved.interfaces {
            if was_switched(&mut write, record, wanted).await? {
                continue;
            }
            let (place, name) = next_place(&moved.owner, record, wanted)?;
            new.insert(place.host);
            old.extend(record.interface.attachment.iter().map(|before| before.host));
            interface::place(&mut write, record, Some(place), None).await?;
            instance::leave_hosts(&mut write, record).await?;
            let message = format!(
                "instance `{}` moved on network `{}` from host `{}` to host `{name}`",
                moved.owner.name,
                record.network_name,
                record.host_name.as_ref().map_or("", Name::as_str)
            );
            write.log(change(MOVED, message, &moved.owner, record).host(place.host, name));
        }
        if new.is_empty() {
            return Ok(());
        }
        let revision = write.commit().await?;
        self.wait_for_hosts(new.into_iter().chain(old), revision).await;
        Ok(())
    }

    /// Takes down what was prepared; connected hosts have done so when this returns, or two
    /// seconds have passed.
    async fn cancel(&self, target: (&str, Option<&str>)) -> Result<(), AppError> {
        let mut write = self.write().await?;
        let moved = find_moved(write.connection(), target).await?;
        let mut hosts = BTreeSet::new();
        for record in &moved.interfaces {
            let Some((place, name)) = record.interface.moving_to.as_ref().zip(record.next_host_name.as_ref())
            else {
                continue;
            };
            hosts.insert(place.host);
            interface::place(&mut write, record, record.interface.attachment.as_ref(), None).await?;
            instance::leave_hosts(&mut write, record).await?;
            let message = format!(
                "host `{name}` is not to prepare for instance `{}` on network `{}` any more",
                moved.owner.name, record.network_name
            );
            write.log(
                change("interface.move_cancelled", message, &moved.owner, record).host(place.host, name),
            );
        }
        if hosts.is_empty() {
            return Ok(());
        }
        let revision = write.commit().await?;
        self.wait_for_hosts(hosts, revision).await;
        Ok(())
    }

    async fn has_or_gets_veth(
        &self,
        target: (&str, Option<&str>),
        request: &MoveRequest,
    ) -> Result<bool, AppError> {
        let mut read = self.store().read().await?;
        let moved = find_moved(&mut read, target).await?;
        let plugs = read_plugs(&moved.interfaces, request)?;
        Ok(plugs.iter().any(|plug| matches!(plug, Plug::Veth { .. })))
    }

    /// Moves an instance whose guest's side is in a namespace, out first and then in: two devices
    /// of one name cannot be in it at once. If it does not stand on the new host then, it is plugged
    /// in where it was.
    async fn replug(&self, target: (&str, Option<&str>), request: &MoveRequest) -> Result<(), AppError> {
        let mut write = self.write().await?;
        let Moved { owner, interfaces } = find_moved(write.connection(), target).await?;
        let host = self.find_target(&mut write, (&owner, &interfaces), request).await?;
        let plugs = read_plugs(&interfaces, request)?;
        let goes = |(record, _): &(InterfaceRecord, Plug)| !is_on(record, host.host.id);
        let going: Vec<(InterfaceRecord, Plug)> = interfaces.into_iter().zip(plugs).filter(goes).collect();
        let keys = refuse_troubles(&mut write, (&owner, &host), &going).await?;
        self.unplug(write, &owner, &going).await?;
        let standing = match self.plug_on(&host, &owner, &going).await {
            Ok(revision) => {
                let Host { id, name, .. } = host.host.clone();
                let prepared = Prepared { host: id, host_name: name, revision, keys };
                self.wait_until_prepared(&owner, &prepared).await
            }
            Err(error) => Err(error),
        };
        if standing.is_err() {
            self.plug_back(&host, &owner, &going).await?;
        }
        standing
    }

    /// Takes the interfaces out; connected hosts have done so when this returns, or two seconds
    /// have passed.
    async fn unplug(
        &self,
        mut write: Write,
        owner: &InstanceRecord,
        going: &[(InterfaceRecord, Plug)],
    ) -> Result<(), AppError> {
        for (record, _) in going {
            interface::place(&mut write, record, None, None).await?;
            instance::leave_hosts(&mut write, record).await?;
            let message =
                format!("instance `{}` leaves network `{}` to be moved", owner.name, record.network_name);
            write.log(change("interface.detached", message, owner, record));
        }
        let revision = write.commit().await?;
        let old = going.iter().flat_map(|(record, _)| instance::hosts_of(record));
        self.wait_for_hosts(old, revision).await;
        Ok(())
    }

    /// Plugs in on the new host what was taken out; gives the revision at which it is to stand.
    async fn plug_on(
        &self,
        HostRecord { host, .. }: &HostRecord,
        owner: &InstanceRecord,
        going: &[(InterfaceRecord, Plug)],
    ) -> Result<u64, AppError> {
        let mut write = self.write().await?;
        let interfaces = interface::of_instance(write.connection(), owner.id).await?;
        for (before, plug) in going {
            let record = interfaces.iter().find(|record| record.interface.id == before.interface.id);
            // Deleted, or plugged in by somebody else meanwhile.
            let Some(record) = record.filter(|record| record.interface.attachment.is_none()) else {
                continue;
            };
            let network = network_of(&mut write, record).await?;
            self.ensure_gateway(&mut write, &network, host).await?;
            let place = Attachment { host: host.id, plug: plug.clone() };
            interface::place(&mut write, record, Some(&place), None).await?;
            let message = format!(
                "instance `{}` moved on network `{}` to host `{}`",
                owner.name, record.network_name, host.name
            );
            write.log(change(MOVED, message, owner, record).host(host.id, &host.name));
        }
        Ok(write.commit().await?)
    }

    /// Plugs in where it was what does not stand on the new host; connected hosts have done so when
    /// this returns, or two seconds have passed.
    async fn plug_back(
        &self,
        HostRecord { host, .. }: &HostRecord,
        owner: &InstanceRecord,
        going: &[(InterfaceRecord, Plug)],
    ) -> Result<(), AppError> {
        let mut write = self.write().await?;
        let interfaces = interface::of_instance(write.connection(), owner.id).await?;
        let mut old = BTreeSet::new();
        for (before, _) in going {
            let is_ours = |record: &&InterfaceRecord| {
                let now = record.interface.attachment.as_ref();
                record.interface.id == before.interface.id && now.is_none_or(|now| now.host == host.id)
            };
            let Some((record, place)) =
                interfaces.iter().find(is_ours).zip(before.interface.attachment.as_ref())
            else {
                continue;
            };
            let home = host::find(write.connection(), &Caller::Admin, &place.host.to_string()).await?.host;
            let network = network_of(&mut write, record).await?;
            self.ensure_gateway(&mut write, &network, &home).await?;
            interface::place(&mut write, record, Some(place), None).await?;
            instance::leave_hosts(&mut write, record).await?;
            let message = format!(
                "instance `{}` is back on network `{}` on host `{}`: host `{}` did not take it",
                owner.name, record.network_name, home.name, host.name
            );
            write.log(change("interface.attached", message, owner, record).host(home.id, &home.name));
            old.insert(home.id);
        }
        let revision = write.commit().await?;
        self.wait_for_hosts(old, revision).await;
        Ok(())
    }

    /// The host to move to, if there is anything to move and the host is there.
    async fn find_target(
        &self,
        write: &mut Write,
        (owner, interfaces): (&InstanceRecord, &[InterfaceRecord]),
        request: &MoveRequest,
    ) -> Result<HostRecord, AppError> {
        let target =
            host::find(write.connection(), &Caller::Admin, request.host.as_deref().unwrap_or_default())
                .await?;
        let name = &target.host.name;
        if interfaces.iter().all(|record| is_on(record, target.host.id)) {
            let message = format!("instance `{}` is on host `{name}` already", owner.name);
            return Err(AppError::conflict("already_there", message));
        }
        if !self.is_connected(&target) {
            return Err(AppError::conflict(
                "host_away",
                format!("host `{name}` is away: its agent does not answer"),
            )
            .hint("start its agent first, or choose another host"));
        }
        Ok(target)
    }
}

fn refuse_wrong_fields(request: &MoveRequest) -> Result<(), AppError> {
    let begins = matches!(request.phase, MovePhase::Both | MovePhase::Prepare);
    let mut checks = Checks::default();
    if begins && request.host.as_deref().is_none_or(str::is_empty) {
        checks.add("host", "required", "say to which host");
    }
    if !begins && request.plug.is_some() {
        checks.add("plug", "not_possible", "the guest's side is said when the move is prepared");
    }
    checks.finish()
}

/// The instance, with its interfaces that are plugged in: one at least.
async fn find_moved(
    connection: &mut AnyConnection,
    (text, project): (&str, Option<&str>),
) -> Result<Moved, AppError> {
    let owner = instance::find(connection, &Caller::Admin, text, project).await?;
    vpn::refuse_instance(connection, owner.id, "moved by hand").await?;
    let mut interfaces = interface::of_instance(connection, owner.id).await?;
    interfaces.retain(|record| record.interface.attachment.is_some());
    if interfaces.is_empty() {
        let message = format!("instance `{}` is plugged in nowhere", owner.name);
        return Err(AppError::conflict("not_attached", message)
            .hint("plug it in on the new host with `trestle attach`"));
    }
    Ok(Moved { owner, interfaces })
}

/// The guest's side of each interface on the new host: what the request says, else what it is now.
fn read_plugs(interfaces: &[InterfaceRecord], request: &MoveRequest) -> Result<Vec<Plug>, AppError> {
    let mut checks = Checks::default();
    let mut plugs: Vec<Plug> = Vec::with_capacity(interfaces.len());
    for record in interfaces {
        let now = record.interface.attachment.as_ref().map(|place| &place.plug);
        let wanted = match &request.plug {
            Some(wanted) => read_plug(&mut checks, wanted, now),
            None => now.cloned(),
        };
        plugs.extend(wanted);
    }
    checks.finish()?;
    let mut ends = BTreeSet::new();
    for plug in &plugs {
        if let Plug::Veth { netns, name } = plug
            && !ends.insert((netns, name))
        {
            return Err(two_of_one_name(name, netns));
        }
    }
    Ok(plugs)
}

fn two_of_one_name(name: &LinkName, netns: &str) -> AppError {
    let message = format!("two interfaces of the instance would be called {name} in {netns}");
    check::invalid("plug.name", "name_taken", message)
}

fn is_on(record: &InterfaceRecord, host: HostId) -> bool {
    record.interface.attachment.as_ref().is_some_and(|place| place.host == host)
}

/// Whether the interface is where it was to be switched to: on this host, or, if none is said, where
/// a move was the last that happened to it.
async fn was_switched(
    write: &mut Write,
    record: &InterfaceRecord,
    wanted: Option<HostId>,
) -> Result<bool, AppError> {
    match wanted {
        Some(host) => Ok(is_on(record, host)),
        None if record.interface.moving_to.is_some() => Ok(false),
        None => {
            let entity = Entity::Interface(record.interface.id);
            Ok(last_kind(write.connection(), entity).await?.as_deref() == Some(MOVED))
        }
    }
}

/// Where the interface was prepared to go: to this host, if one is said.
fn next_place<'a>(
    owner: &InstanceRecord,
    record: &'a InterfaceRecord,
    wanted: Option<HostId>,
) -> Result<(&'a Attachment, &'a Name), AppError> {
    let next = record.interface.moving_to.as_ref().zip(record.next_host_name.as_ref());
    let next = next.filter(|(place, _)| wanted.is_none_or(|wanted| wanted == place.host));
    next.ok_or_else(|| {
        let message = format!(
            "instance `{}` is not prepared {} on network `{}`",
            owner.name,
            if wanted.is_some() { "on that host" } else { "on any host" },
            record.network_name
        );
        let hint = format!("prepare it first: `trestle instance move {} --to HOST --prepare`", owner.name);
        AppError::conflict("not_prepared", message).hint(hint)
    })
}

fn refuse_other_move(owner: &InstanceRecord, record: &InterfaceRecord) -> Result<(), AppError> {
    let Some(name) = &record.next_host_name else { return Ok(()) };
    let message = format!(
        "instance `{}` is being moved to host `{name}` on network `{}`",
        owner.name, record.network_name
    );
    Err(AppError::conflict("already_moving", message).hint(format!(
        "end that move first: `trestle instance move {}` with `--switch` or `--cancel`",
        owner.name
    )))
}

/// Fails if the new host cannot take every one of these as far as is known, so that none is taken
/// out for nothing. Gives what must be without a problem there for them to stand.
async fn refuse_troubles(
    write: &mut Write,
    (owner, target): (&InstanceRecord, &HostRecord),
    going: &[(InterfaceRecord, Plug)],
) -> Result<BTreeSet<Key>, AppError> {
    let mut of_networks = BTreeSet::new();
    let mut devices = BTreeSet::new();
    for (record, _) in going {
        refuse_other_move(owner, record)?;
        let network = network_of(write, record).await?;
        refuse_no_place(write, target, &network).await?;
        if let Some(server) = server(&network.network, target.host.id) {
            refuse_without_devices(write, server, record.interface.id).await?;
        }
        of_networks.extend(network_keys(&network.network));
        devices.insert(Key::Link(record.interface.device.clone()));
    }
    let host = (target.host.id, &target.host.name);
    refuse_problems(write.connection(), host, owner, &of_networks).await?;
    Ok(of_networks.into_iter().chain(devices).collect())
}

/// Fails if the host last reported a problem with one of these.
async fn refuse_problems(
    connection: &mut AnyConnection,
    (host, name): (HostId, &Name),
    owner: &InstanceRecord,
    keys: &BTreeSet<Key>,
) -> Result<(), AppError> {
    let problems = observed::problems(connection, host).await?;
    let Some(Problem { key, detail, .. }) = problems.iter().find(|problem| keys.contains(&problem.key))
    else {
        return Ok(());
    };
    let message = format!("host `{name}` cannot take instance `{}`: {key}: {detail}", owner.name);
    Err(AppError::conflict("host_problem", message)
        .hint(format!("nothing was moved; `trestle host show {name}` lists the host's problems")))
}
