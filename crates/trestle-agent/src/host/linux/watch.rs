//! What the kernel says by itself: devices, addresses, routes and forwarding by rtnetlink(7), transactions of
//! nftables, the end of processes, and files.
//!
//! A notification is a hint: it wakes the loop, which then looks. So losing one costs time, not
//! truth, and here they are only sorted: what nobody of ours is concerned with, and what we did
//! ourselves, is left out as well as can be told.
//!
//! The kernel names the author of a change of addresses and rules, but not of devices (Linux 6.18
//! leaves the port at 0) nor of files. Those of ours are told apart by time: the kernel queues
//! what a step causes before the step returns, so what is queued when the steps are done, and is
//! about what they touched, is theirs.

mod fingerprint;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::constants::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr, TokioSocket};
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use trestle_core::ownership::Owner;
use trestle_core::spec::Key;
use trestle_core::types::Name;

use super::address::Held;
use super::files::Files;
use super::link::Device;
use super::netconf;
use super::nfnetlink::NFNLGRP_NFTABLES;
use super::nftables::Nftables;
use super::process::{self, Process};
use super::route::Led;
use crate::host::Change;
use crate::host::error::OpenError;
use fingerprint::Fingerprint;
use rules::watch_rules;

/// `RTNLGRP_LINK`, `_IPV4_IFADDR`, `_IPV4_ROUTE`, `_IPV6_IFADDR`, `_IPV6_ROUTE`.
const ROUTE_GROUPS: [u32; 5] = [1, 5, 7, 9, 11];
/// A thousand devices made at once are about 5 MB of notifications.
const RECEIVE_BUFFER: usize = 16 << 20;
/// For how long more is awaited after the first change. A bridge that is deleted loses its ports
/// first and is said to be gone about 17 ms later, and that is what an operator wants to read.
const SETTLE: Duration = Duration::from_millis(30);
/// The greatest number a process can have (`PID_MAX_LIMIT`, `linux/threads.h`).
const PID_MAX: u32 = 4 << 20;

/// Which devices matter besides our own.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    /// Devices of the spec, by name.
    pub(super) links: BTreeSet<String>,
    /// Those of them whose addresses and routes matter.
    pub(super) uplinks: BTreeSet<String>,
    /// Addresses of the spec, by device.
    pub(super) addresses: BTreeSet<(String, IpAddr)>,
}

/// Listens until it is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    shared: Arc<Shared>,
    tasks: Vec<AbortHandle>,
}

#[derive(Debug)]
struct Shared {
    wake: Notify,
    inner: Mutex<Inner>,
    links: AsyncFd<Socket>,
    inotify: AsyncFd<InotifyFd>,
    files: Files,
    /// The port of the socket that our own steps are done by.
    own_port: u32,
}

#[derive(Debug, Default)]
struct Inner {
    pending: Option<Pending>,
    scope: Scope,
    /// What was last seen of each device, by number.
    devices: BTreeMap<u32, Fingerprint>,
    /// What our steps are changing.
    own: BTreeSet<Touched>,
    folders: BTreeMap<WatchDescriptor, PathBuf>,
    /// The programs of ours, by the key of what they are.
    processes: BTreeMap<Key, (i32, AbortHandle)>,
}

#[derive(Debug)]
struct Pending {
    change: Change,
    others: usize,
}

/// Something a step of ours changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Touched {
    /// A device is made or changed.
    Link(String),
    /// A device goes.
    LinkGone(String),
    /// A setting of the kernel is written.
    Settings,
    /// A file is moved to its place.
    File(PathBuf),
    /// A file goes.
    FileGone(PathBuf),
}

#[derive(Debug)]
struct InotifyFd(Inotify);

impl AsRawFd for InotifyFd {
    fn as_raw_fd(&self) -> i32 {
        self.0.as_fd().as_raw_fd()
    }
}

impl AsFd for InotifyFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Watch {
    /// Begins to listen in the network namespace of the calling thread. What the socket with the
    /// port `own_port` changes is not reported.
    ///
    /// What others change of the tables that hold guests has the guard closed at once.
    pub(super) fn open(own_port: u32, files: Files, nftables: Nftables) -> Result<Self, OpenError> {
        let failed = |purpose| move |source| OpenError::Socket { purpose, source };
        let links = listen(NETLINK_ROUTE, &[&ROUTE_GROUPS[..], &netconf::GROUPS].concat())
            .and_then(|socket| {
                socket.set_non_blocking(true)?;
                // SAFETY: the descriptor is the same open one as long as the `Socket` lives.
                Ok(unsafe { AsyncFd::register(socket) }?)
            })
            .map_err(failed("changes of devices"))?;
        let rules = listen(NETLINK_NETFILTER, &[NFNLGRP_NFTABLES])
            // SAFETY: the descriptor leaves its `Socket` and is nobody else's.
            .map(|socket| unsafe { TokioSocket::from_raw_fd(socket.into_raw_fd()) })
            .map_err(failed("changes of nftables"))?;
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
            .map_err(io::Error::from)
            // SAFETY: the descriptor is the same open one as long as the `Inotify` lives.
            .and_then(|inotify| Ok(unsafe { AsyncFd::register(InotifyFd(inotify)) }?))
            .map_err(failed("changes of files"))?;
        let (wake, inner) = (Notify::new(), Mutex::default());
        let shared = Arc::new(Shared { wake, inner, links, inotify, files, own_port });
        let tasks = vec![
            tokio::spawn(watch_links(shared.clone())).abort_handle(),
            tokio::spawn(watch_rules(shared.clone(), rules, nftables)).abort_handle(),
            tokio::spawn(watch_files(shared.clone())).abort_handle(),
        ];
        Ok(Self { shared, tasks })
    }

    /// Waits until something changed; changes close together come as one.
    pub(super) async fn changed(&self) -> Change {
        loop {
            let woken = self.shared.wake.notified();
            if !self.shared.has_pending() {
                woken.await;
            }
            tokio::time::sleep(SETTLE).await;
            // Taken at the very end, so that a future dropped before loses nothing.
            if let Some(pending) = self.shared.take_pending() {
                return pending.into_change();
            }
        }
    }

    /// From now on these devices matter.
    pub(super) fn set_scope(&self, scope: Scope) {
        self.shared.lock().scope = scope;
    }

    /// From now on these devices matter too.
    pub(super) fn extend_scope(&self, scope: Scope) {
        let mut inner = self.shared.lock();
        inner.scope.links.extend(scope.links);
        inner.scope.uplinks.extend(scope.uplinks);
        inner.scope.addresses.extend(scope.addresses);
    }

    /// These devices are known: notifications that say the same are none.
    pub(super) fn seen<'a>(&self, devices: impl Iterator<Item = &'a Device>) {
        let mut inner = self.shared.lock();
        for device in devices {
            // What notifications said is not older than a listing made before they were read.
            inner.devices.entry(device.index).or_insert_with(|| Fingerprint::of(device));
        }
    }

    /// We are about to change this.
    pub(super) fn touch(&self, touched: Touched) {
        self.shared.lock().own.insert(touched);
    }

    /// We have changed everything that was touched; from now on others may.
    pub(super) fn settle(&self) {
        let mut inner = self.shared.lock();
        self.shared.drain(&mut inner);
        inner.own.clear();
    }

    /// Listens to the network's folders from now on.
    pub(super) fn add_network(&self, network: &Name) {
        let files = &self.shared.files;
        let folders = [files.dhcp_hosts_dir(network), files.dns_names_dir(network)];
        folders.iter().for_each(|folder| self.shared.watch_folder(folder));
    }

    /// Listens for the end of the program under this key from now on.
    pub(super) fn add_process(&self, key: &Key, pid: i32) {
        let mut inner = self.shared.lock();
        if inner.processes.get(key).is_some_and(|(watched, _)| *watched == pid) {
            return;
        }
        let task = tokio::spawn(watch_process(self.shared.clone(), key.clone(), pid));
        if let Some((_, old)) = inner.processes.insert(key.clone(), (pid, task.abort_handle())) {
            old.abort();
        }
    }

    /// We are about to end the program under this key.
    pub(super) fn remove_process(&self, key: &Key) {
        if let Some((_, task)) = self.shared.lock().processes.remove(key) {
            task.abort();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        self.shared.lock().processes.values().for_each(|(_, task)| task.abort());
    }
}

impl Pending {
    fn into_change(self) -> Change {
        let mut change = self.change;
        match self.others {
            0 => {}
            1 => change.what.push_str(" and one more change"),
            others => change.what.push_str(&format!(" and {others} more changes")),
        }
        change
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_pending(&self) -> bool {
        self.lock().pending.is_some()
    }

    fn take_pending(&self) -> Option<Pending> {
        self.lock().pending.take()
    }

    fn report(&self, what: String, culprit: Option<String>) {
        self.lock().report(what, culprit);
        self.wake.notify_one();
    }

    /// Takes in everything that is queued. Reading and noting are one, under the lock, so that
    /// nothing that was queued before is noted after.
    fn drain(&self, inner: &mut Inner) {
        while let Some(bytes) = self.next_links(inner) {
            for message in split(&bytes) {
                inner.note_message(message, self.own_port);
            }
        }
        loop {
            match self.inotify.get_ref().0.read_events() {
                Ok(events) => events.into_iter().for_each(|event| inner.note_file(event)),
                Err(Errno::EAGAIN) => break,
                Err(errno) => {
                    tracing::error!(%errno, "cannot read changes of files");
                    break;
                }
            }
        }
        if inner.pending.is_some() {
            self.wake.notify_one();
        }
    }

    /// The next queued messages about devices, if there are any.
    fn next_links(&self, inner: &mut Inner) -> Option<Vec<u8>> {
        loop {
            match self.links.get_ref().recv_from_full() {
                Ok((bytes, _)) => return Some(bytes),
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                    inner.report("changes of devices were missed".to_owned(), None);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) => {
                    tracing::error!(%error, "cannot read changes of devices");
                    return None;
                }
            }
        }
    }

    fn watch_folder(&self, folder: &Path) {
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        // A folder that is not there has nothing to tell; it is listened to once it is made.
        if let Ok(descriptor) = self.inotify.get_ref().0.add_watch(folder, flags) {
            self.lock().folders.insert(descriptor, folder.to_owned());
        }
    }
}

impl Inner {
    fn report(&mut self, what: String, culprit: Option<String>) {
        tracing::debug!(what, culprit, "something changed");
        let change = Change { culprit, at: Instant::now(), what };
        match &mut self.pending {
            Some(pending) => {
                pending.others += 1;
                if telling(&change) > telling(&pending.change) {
                    pending.change = Change { at: pending.change.at, ..change };
                }
            }
            none => *none = Some(Pending { change, others: 0 }),
        }
    }

    fn matters(&self, device: &Fingerprint) -> bool {
        device.owner == Owner::Ours || self.scope.links.contains(&device.name) || self.is_our_port(device)
    }

    fn is_our_port(&self, device: &Fingerprint) -> bool {
        device.master.and_then(|index| self.devices.get(&index)).is_some_and(|master| master.is_our_bridge)
    }

    /// The name of the device that the address is on, if that one alone matters there.
    fn device_of_ours(&self, held: &Held) -> Option<&str> {
        let device = self.devices.get(&held.index)?;
        let is_in_spec = self.scope.addresses.contains(&(device.name.clone(), held.address.addr()));
        is_in_spec.then_some(device.name.as_str())
    }

    /// The name of the device, if its addresses and routes matter.
    fn address_device(&self, index: u32) -> Option<&str> {
        let device = self.devices.get(&index)?;
        let matters =
            device.is_our_bridge || self.scope.uplinks.contains(&device.name) || self.is_our_port(device);
        matters.then_some(device.name.as_str())
    }
}

/// How much a change says to an operator: who did it is most, then that something is gone.
fn telling(change: &Change) -> (bool, bool) {
    (change.culprit.is_some(), change.what.ends_with(" was deleted"))
}

fn listen(protocol: isize, groups: &[u32]) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    for group in groups {
        socket.add_membership(*group)?;
    }
    let by_force = setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER);
    by_force.or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER))?;
    Ok(socket)
}

async fn watch_links(shared: Arc<Shared>) {
    while let Ok(mut ready) = shared.links.readable().await {
        ready.clear_ready();
        shared.drain(&mut shared.lock());
    }
}

async fn watch_files(shared: Arc<Shared>) {
    while let Ok(mut ready) = shared.inotify.readable().await {
        ready.clear_ready();
        shared.drain(&mut shared.lock());
    }
}

/// The messages in what was received at once.
fn split(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut messages = Vec::new();
    while let Some(length) = bytes.first_chunk::<4>().map(|length| u32::from_ne_bytes(*length) as usize) {
        let Some(message) = bytes.get(..length).filter(|message| !message.is_empty()) else { break };
        messages.push(message);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    messages
}

impl Inner {
    fn note_message(&mut self, message: &[u8], own_port: u32) {
        if let Some(protocol) = netconf::changed_for_all(message) {
            self.note_settings(protocol);
        } else if let Ok(message) = NetlinkMessage::deserialize(message) {
            self.note_route_message(&message, own_port);
        }
    }

    /// The kernel does not say who wrote a setting.
    fn note_settings(&mut self, protocol: &str) {
        if !self.own.contains(&Touched::Settings) {
            self.report(format!("the settings of {protocol} changed"), None);
        }
    }

    fn note_route_message(&mut self, message: &NetlinkMessage<RouteNetlinkMessage>, own_port: u32) {
        let port = message.header.port_number;
        let NetlinkPayload::InnerMessage(inner) = &message.payload else { return };
        let what = match inner {
            // Other families tell of the device as a port or as a speaker of IPv6.
            RouteNetlinkMessage::NewLink(link) if link.header.interface_family == AddressFamily::Unspec => {
                self.note_link(&Device::from_message(link))
            }
            RouteNetlinkMessage::DelLink(link) if link.header.interface_family == AddressFamily::Unspec => {
                self.note_link_gone(&Device::from_message(link))
            }
            RouteNetlinkMessage::NewAddress(address) => {
                self.note_address(Held::from_message(address), "added to")
            }
            RouteNetlinkMessage::DelAddress(address) => {
                self.note_address(Held::from_message(address), "deleted from")
            }
            RouteNetlinkMessage::NewRoute(route) => self.note_route(Led::from_message(route), "added to"),
            RouteNetlinkMessage::DelRoute(route) => self.note_route(Led::from_message(route), "deleted from"),
            _ => None,
        };
        if let Some(what) = what.filter(|_| port != own_port) {
            self.report(what, culprit(port));
        }
    }

    fn note_link(&mut self, device: &Device) -> Option<String> {
        let now = Fingerprint::of(device);
        let before = self.devices.insert(device.index, now.clone());
        let echo = self.own.contains(&Touched::Link(device.name.clone()));
        let matters = self.matters(&now) || before.as_ref().is_some_and(|before| self.matters(before));
        let verb = if before.is_some() { "changed" } else { "appeared" };
        (before.as_ref() != Some(&now) && !echo && matters).then(|| format!("{} {verb}", device.name))
    }

    fn note_link_gone(&mut self, device: &Device) -> Option<String> {
        let now = self.devices.remove(&device.index).unwrap_or_else(|| Fingerprint::of(device));
        let echo = self.own.contains(&Touched::LinkGone(device.name.clone()));
        (!echo && self.matters(&now)).then(|| format!("{} was deleted", device.name))
    }

    fn note_address(&self, held: Option<Held>, verb: &str) -> Option<String> {
        let held = held?;
        let device = self.address_device(held.index).or_else(|| self.device_of_ours(&held))?;
        // Addresses go with their devices in nobody's name.
        let echo = self.own.contains(&Touched::LinkGone(device.to_owned()));
        (!echo).then(|| format!("{} was {verb} {device}", held.address))
    }

    fn note_route(&self, led: Option<Led>, verb: &str) -> Option<String> {
        let led = led?;
        let device = self.address_device(led.index)?;
        // Routes go with their devices and addresses in nobody's name.
        let echo = self.own.contains(&Touched::Link(device.to_owned()));
        (!echo).then(|| format!("the route to {} was {verb} {device}", led.route.destination))
    }
}

/// The port of a socket is the number of its process, unless the process has several.
fn culprit(port: u32) -> Option<String> {
    if port == 0 || port > PID_MAX {
        return None;
    }
    match process::name(port) {
        Some(name) => Some(format!("{name} (pid {port})")),
        None => Some(format!("pid {port}")),
    }
}

async fn watch_process(shared: Arc<Shared>, key: Key, pid: i32) {
    let ended = match Process::open(pid) {
        Ok(Some(process)) => process.ended().await,
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = ended {
        return tracing::error!(%error, %key, pid, "the end of a program will not be noticed");
    }
    let watched = shared.lock().processes.remove(&key);
    if watched.is_some() {
        let what = match key {
            Key::Dnsmasq(network) => format!("the dnsmasq of {network}"),
            Key::Vpn(vpn) => format!("the server of VPN {vpn}"),
            key => key.to_string(),
        };
        shared.report(format!("{what} (pid {pid}) ended"), None);
    }
}

impl Inner {
    fn note_file(&mut self, event: InotifyEvent) {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            return self.report("changes of files were missed".to_owned(), None);
        }
        if event.mask.contains(AddWatchFlags::IN_IGNORED) {
            self.folders.remove(&event.wd);
            return;
        }
        let Some(folder) = self.folders.get(&event.wd) else { return };
        let name = event.name.unwrap_or_default();
        // Drafts begin with a dot; dnsmasq does not read them either.
        if name.to_string_lossy().starts_with('.') {
            return;
        }
        let path = if name.is_empty() { folder.clone() } else { folder.join(name) };
        let gone = AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_MOVED_FROM;
        let (touched, verb) = match event.mask.intersects(gone) {
            true => (Touched::FileGone(path), "deleted"),
            false => (Touched::File(path), "changed"),
        };
        let echo = self.own.contains(&touched);
        if let (Touched::File(path) | Touched::FileGone(path), false) = (touched, echo) {
            self.report(format!("{} was {verb}", path.display()), None);
        }
    }
}
