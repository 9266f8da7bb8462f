//! Moving an instance to another host, in two phases: everything is made on the new host while the
//! instance runs on the old one, then all of it is switched at once.
//!
//! Between the phases a hypervisor copies the running guest. For admins alone: who may move an
//! instance to a host takes it from another.

use std::collections::BTreeSet;
use std::time::Duration;

use sqlx::AnyConnection;
use trestle_api::{Instance, MovePhase, MoveRequest};
use trestle_core::plan::Problem;
use trestle_core::spec::Key;
use trestle_core::types::{HostId, LinkName, Name};
use trestle_core::world::{Attachment, Network, Plug};

use crate::app::attachment::plug::read_plug;
use crate::app::attachment::{change, network_of, refuse_no_place};
use crate::app::check::{self, Checks};
use crate::app::{App, Caller, host, instance};
use crate::error::AppError;
use crate::store::Write;
use crate::store::host::HostRecord;
use crate::store::instance::InstanceRecord;
use crate::store::interface::{self, InterfaceRecord};
use crate::store::observed;

/// How long a host may take to prepare an instance.
const PREPARE_PATIENCE: Duration = Duration::from_secs(10);

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
        let host = self.find_target(&mut write, &moved, request).await?;
        let plugs = read_plugs(&moved, request)?;
        let mut revision = None;
        let mut keys = BTreeSet::new();
        for (record, plug) in moved.interfaces.iter().zip(plugs) {
            let network = network_of(&mut write, record).await?;
            keys.extend(device_keys(record, &network.network));
            let place = Attachment { host: host.host.id, plug };
            if record.interface.moving_to.as_ref() == Some(&place) || is_on(record, host.host.id) {
                continue;
            }
            refuse_other_move(&moved.owner, record)?;
            refuse_no_place(&mut write, &host, &network).await?;
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
                "host `{host_name}` did not prepare for instance `{}` within {} s",
                owner.name,
                PREPARE_PATIENCE.as_secs()
            );
            return Err(AppError::conflict("host_away", message)
                .hint("nothing was changed; see its agent with `trestle host show`"));
        }
        let mut read = self.store().read().await?;
        let problems = observed::problems(&mut read, *host).await?;
        let Some(problem) = problems.iter().find(|problem| keys.contains(&problem.key)) else {
            return Ok(());
        };
        Err(cannot_prepare(host_name, owner, problem))
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
        let done = |record: &InterfaceRecord| wanted.as_ref().is_some_and(|host| is_on(record, host.id));
        let left: Vec<&InterfaceRecord> = moved.interfaces.iter().filter(|record| !done(record)).collect();
        let (mut new, mut old) = (BTreeSet::new(), BTreeSet::new());
        for record in left {
            let (place, name) = next_place(&moved.owner, record, wanted.as_ref().map(|host| host.id))?;
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
            write.log(change("interface.moved", message, &moved.owner, record).host(place.host, name));
        }
        if new.is_empty() {
            return Ok(());
        }
        let revision = write.commit().await?;
        self.wait_for_hosts(new.into_iter().collect(), revision).await;
        self.wait_for_hosts(old.into_iter().collect(), revision).await;
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
        self.wait_for_hosts(hosts.into_iter().collect(), revision).await;
        Ok(())
    }

    async fn has_or_gets_veth(
        &self,
        target: (&str, Option<&str>),
        request: &MoveRequest,
    ) -> Result<bool, AppError> {
        let mut read = self.store().read().await?;
        let moved = find_moved(&mut read, target).await?;
        let plugs = read_plugs(&moved, request)?;
        Ok(plugs.iter().any(|plug| matches!(plug, Plug::Veth { .. })))
    }

    /// Moves an instance whose guest's side is in a namespace, out first and then in: two devices
    /// of one name cannot be in it at once.
    async fn replug(&self, target: (&str, Option<&str>), request: &MoveRequest) -> Result<(), AppError> {
        let mut write = self.write().await?;
        let moved = find_moved(write.connection(), target).await?;
        let host = self.find_target(&mut write, &moved, request).await?;
        let plugs = read_plugs(&moved, request)?;
        for record in &moved.interfaces {
            refuse_other_move(&moved.owner, record)?;
            let network = network_of(&mut write, record).await?;
            refuse_no_place(&mut write, &host, &network).await?;
        }
        let old: Vec<HostId> = moved.interfaces.iter().flat_map(instance::hosts_of).collect();
        for record in &moved.interfaces {
            interface::place(&mut write, record, None, None).await?;
            instance::leave_hosts(&mut write, record).await?;
            let message = format!(
                "instance `{}` leaves network `{}` to be moved",
                moved.owner.name, record.network_name
            );
            write.log(change("interface.detached", message, &moved.owner, record));
        }
        let revision = write.commit().await?;
        self.wait_for_hosts(old, revision).await;

        let mut write = self.write().await?;
        let interfaces = interface::of_instance(write.connection(), moved.owner.id).await?;
        for (before, plug) in moved.interfaces.iter().zip(plugs) {
            let record = interfaces.iter().find(|record| record.interface.id == before.interface.id);
            // Deleted, or plugged in by somebody else meanwhile.
            let Some(record) = record.filter(|record| record.interface.attachment.is_none()) else {
                continue;
            };
            let network = network_of(&mut write, record).await?;
            self.ensure_gateway(&mut write, &network, &host.host).await?;
            let place = Attachment { host: host.host.id, plug };
            interface::place(&mut write, record, Some(&place), None).await?;
            let message = format!(
                "instance `{}` moved on network `{}` to host `{}`",
                moved.owner.name, record.network_name, host.host.name
            );
            let change = change("interface.moved", message, &moved.owner, record);
            write.log(change.host(host.host.id, &host.host.name));
        }
        let revision = write.commit().await?;
        self.wait_for_hosts(vec![host.host.id], revision).await;
        Ok(())
    }

    /// The host to move to, if there is anything to move and the host is there.
    async fn find_target(
        &self,
        write: &mut Write,
        moved: &Moved,
        request: &MoveRequest,
    ) -> Result<HostRecord, AppError> {
        let target =
            host::find(write.connection(), &Caller::Admin, request.host.as_deref().unwrap_or_default())
                .await?;
        let name = &target.host.name;
        if moved.interfaces.iter().all(|record| is_on(record, target.host.id)) {
            let message = format!("instance `{}` is on host `{name}` already", moved.owner.name);
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
fn read_plugs(moved: &Moved, request: &MoveRequest) -> Result<Vec<Plug>, AppError> {
    let mut checks = Checks::default();
    let mut plugs: Vec<Plug> = Vec::with_capacity(moved.interfaces.len());
    for record in &moved.interfaces {
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
        AppError::conflict("not_prepared", message).hint("do the phase `prepare` first")
    })
}

fn refuse_other_move(owner: &InstanceRecord, record: &InterfaceRecord) -> Result<(), AppError> {
    let Some(name) = &record.next_host_name else { return Ok(()) };
    let message = format!(
        "instance `{}` is being moved to host `{name}` on network `{}`",
        owner.name, record.network_name
    );
    Err(AppError::conflict("already_moving", message).hint("switch or cancel that move first"))
}

/// What must be without a problem on a host for the interface to stand there.
fn device_keys(record: &InterfaceRecord, network: &Network) -> [Key; 4] {
    let vlan = network.vlan.map_or_else(|| network.bridge.clone(), |id| id.device());
    [
        Key::Link(record.interface.device.clone()),
        Key::Link(network.bridge.clone()),
        Key::Link(vlan),
        Key::Device(network.bridge.clone()),
    ]
}

fn cannot_prepare(host: &Name, owner: &InstanceRecord, problem: &Problem) -> AppError {
    let message =
        format!("host `{host}` cannot take instance `{}`: {}: {}", owner.name, problem.key, problem.detail);
    AppError::conflict("host_problem", message)
        .hint("nothing was moved; `trestle host show` lists the host's problems")
}
