//! Cloudpipe: the servers of VPNs, each in a namespace of its own behind a veth, which outlive us.

mod folder;
mod netns;
mod openvpn;
mod processes;
mod wireguard;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use trestle_api::VpnConnection;
use trestle_core::plan::Step;
use trestle_core::spec::{Key, Object, VpnServer};
use trestle_core::state::HostState;
use trestle_core::types::{LinkName, Name, VpnKind};
use trestle_core::world::Vpn;

use super::files::{Files, file_names};
use super::{LinuxHost, link, process};
use crate::error_chain;
use crate::host::error::{ApplyError, ObserveError, VpnError};
use crate::vpn_keys::VpnKeys;
use folder::{Folder, Started};
use processes::tell;

/// How long the keys of a VPN are awaited.
const KEYS_PATIENCE: Duration = Duration::from_secs(5);
/// How far this host's clock may be from the controller's: certificates are good from an hour before they are
/// made.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(50);

/// What is remembered of VPNs.
#[derive(Debug, Default)]
pub(super) struct Vpns {
    /// Who gives their keys.
    pub(super) keys: Option<Arc<dyn VpnKeys>>,
    /// Since when users of WireGuard are connected, by VPN.
    since: Mutex<BTreeMap<Name, BTreeMap<Name, Timestamp>>>,
}

fn failed(vpn: &Name) -> impl Fn(VpnError) -> ApplyError {
    move |source| ApplyError::Vpn { vpn: vpn.clone(), source }
}

/// Blocks without holding up others.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VpnError> + Send + 'static,
) -> Result<T, VpnError> {
    let panicked = |source| VpnError::Netns { operation: "enter", source: std::io::Error::other(source) };
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(panicked(error)))
}

impl LinuxHost {
    pub(super) async fn apply_vpn(&self, step: &Step) -> Result<(), ApplyError> {
        match step {
            Step::CreateVpnNetns { vpn } => {
                let folder = Folder::of(&self.files, vpn);
                folder.create()?;
                netns::create(&folder).map_err(failed(vpn))
            }
            Step::DeleteVpnNetns { vpn } => {
                // A server that was never noted is stopped, too.
                self.stop_vpn(vpn).await?;
                let folder = Folder::of(&self.files, vpn);
                self.watch.remove_process(&Key::VpnNetns(vpn.clone()));
                processes::end_keeper(&folder).map_err(failed(vpn))?;
                folder.delete()
            }
            Step::PutVpnUser { vpn, user, text } => self.put_vpn_user(vpn, user, text).await,
            Step::DeleteVpnUser { vpn, user } => self.delete_vpn_user(vpn, user).await,
            Step::StartVpn { vpn, server } => self.start_vpn(vpn, server).await,
            Step::StopVpn { vpn } => self.stop_vpn(vpn).await,
            _ => Ok(()),
        }
    }

    /// The way to a user comes before the user, so that nobody is let in who is not answered.
    async fn put_vpn_user(&self, vpn: &Name, user: &Name, text: &str) -> Result<(), ApplyError> {
        let folder = Folder::of(&self.files, vpn);
        folder.expect_user(user, text)?;
        if let Some(server) = running(&folder)? {
            let (inner, told) = (folder.clone(), text.to_owned());
            let let_in = move || {
                netns::inside(&inner, || {
                    tell("ip", &["-batch", "-"], &routes([&told], &server.tunnel))?;
                    match server.kind {
                        VpnKind::OpenVpn => Ok(()),
                        VpnKind::WireGuard => wireguard::add_user(&server.tunnel, &told),
                    }
                })
            };
            blocking(let_in).await.map_err(failed(vpn))?;
        }
        folder.let_in(user, text)
    }

    async fn delete_vpn_user(&self, vpn: &Name, user: &Name) -> Result<(), ApplyError> {
        let folder = Folder::of(&self.files, vpn);
        let text = folder.take_user(user)?;
        if let Some(server) = running(&folder)? {
            if server.kind == VpnKind::OpenVpn {
                openvpn::cut(&folder, user).await.map_err(failed(vpn))?;
            }
            // Who has a new certificate has the same address.
            let own = address(&text);
            let way = own.filter(|own| {
                !users(&folder).is_ok_and(|all| all.values().any(|other| address(other) == Some(*own)))
            });
            let inner = folder.clone();
            let cut = move || {
                netns::inside(&inner, || {
                    if let Some(address) = way {
                        let route = format!("route flush {address}/32 dev {}\n", server.tunnel);
                        tell("ip", &["-batch", "-"], &route)?;
                    }
                    match server.kind {
                        VpnKind::OpenVpn => Ok(()),
                        VpnKind::WireGuard => wireguard::cut(&server.tunnel, &text),
                    }
                })
            };
            blocking(cut).await.map_err(failed(vpn))?;
        }
        folder.forget_user(user)
    }

    /// One that runs goes on until there is all that the next one takes.
    async fn start_vpn(&self, vpn: &Name, server: &VpnServer) -> Result<(), ApplyError> {
        let folder = Folder::of(&self.files, vpn);
        let device = link::existing(&self.netlink, &server.link).await?;
        self.take_keys(vpn, server, &folder).await?;
        self.stop_vpn(vpn).await?;
        folder.put_config(&self.files.expand(&server.config))?;
        let users = users(&folder)?;
        let (wanted, inner) = (server.clone(), folder.clone());
        let start = move || netns::inside(&inner, || start_inside(&inner, &wanted, &users));
        let process = blocking(start).await.map_err(failed(vpn))?;
        let Some(netns) = netns::number(&folder) else { return Ok(()) };
        let noted = VpnServer { link_index: Some(device.index), ..server.clone() };
        folder.put_started(&Started { server: noted, netns, pid: process.map(|(pid, _)| pid) })?;
        self.watch_vpn(vpn, &folder)?;
        match (server.kind, process) {
            (VpnKind::OpenVpn, Some(process)) => openvpn::ready(&folder, process).await.map_err(failed(vpn)),
            _ => Ok(()),
        }
    }

    async fn stop_vpn(&self, vpn: &Name) -> Result<(), ApplyError> {
        let folder = Folder::of(&self.files, vpn);
        if !folder.exists() {
            return Ok(());
        }
        self.watch.remove_process(&Key::Vpn(vpn.clone()));
        processes::stop_server(&folder).await.map_err(failed(vpn))?;
        if let Some(Started { server, .. }) = folder.started()?
            && netns::path(&folder).is_some()
        {
            let inner = folder.clone();
            let delete = move || netns::inside(&inner, || netns::delete_device(&server.tunnel));
            blocking(delete).await.map_err(failed(vpn))?;
        }
        folder.forget_started()
    }

    /// Has the keys from the controller, if they are not here. What is not here cannot be started; what runs
    /// goes on without the controller.
    async fn take_keys(&self, vpn: &Name, server: &VpnServer, folder: &Folder) -> Result<(), ApplyError> {
        if folder.identity()? == Some(server.identity) {
            return Ok(());
        }
        let nobody = || VpnError::Keys("there is no controller to ask".into());
        let keys = self.vpns.keys.as_ref().ok_or_else(nobody).map_err(failed(vpn))?;
        let asked = tokio::time::timeout(KEYS_PATIENCE, keys.identity(vpn)).await;
        let late =
            |_| VpnError::Keys(format!("no answer from the controller within {KEYS_PATIENCE:?}").into());
        let answer =
            asked.map_err(late).and_then(|answer| answer.map_err(|error| VpnError::Keys(error.into())));
        let identity = answer.map_err(failed(vpn))?;
        let here = Timestamp::now();
        if here.duration_since(identity.now).abs() > CLOCK_TOLERANCE {
            return Err(failed(vpn)(VpnError::Clock { here, there: identity.now }));
        }
        if identity.id != server.identity {
            return Err(failed(vpn)(VpnError::Keys("the controller has given it others meanwhile".into())));
        }
        folder.put_identity(&identity)
    }

    fn watch_vpn(&self, vpn: &Name, folder: &Folder) -> Result<(), ObserveError> {
        if let Some(keeper) = netns::keeper(folder) {
            self.watch.add_process(&Key::VpnNetns(vpn.clone()), keeper);
        }
        if let Some(pid) =
            folder.started()?.filter(|started| is_alive(folder, started)).and_then(|one| one.pid)
        {
            self.watch.add_process(&Key::Vpn(vpn.clone()), pid);
        }
        Ok(())
    }

    /// Everything that there is of VPNs.
    pub(super) fn put_vpns(&self, state: &mut HostState) -> Result<(), ObserveError> {
        for name in file_names(&self.files.vpns_dir())? {
            let Ok(vpn) = name.parse::<Name>() else { continue };
            let folder = Folder::of(&self.files, &vpn);
            if !folder.exists() {
                continue;
            }
            for user in folder.users()? {
                self.put_vpn(state, &Key::VpnUser(vpn.clone(), user))?;
            }
            self.put_vpn(state, &Key::VpnNetns(vpn.clone()))?;
            self.put_vpn(state, &Key::Vpn(vpn))?;
        }
        Ok(())
    }

    /// What stands under this key, if it is one of a VPN.
    pub(super) fn put_vpn(&self, state: &mut HostState, key: &Key) -> Result<(), ObserveError> {
        let (Key::VpnNetns(vpn) | Key::Vpn(vpn) | Key::VpnUser(vpn, _)) = key else { return Ok(()) };
        let folder = Folder::of(&self.files, vpn);
        let object = match key {
            _ if !folder.exists() => None,
            Key::VpnUser(_, user) => folder.user(user)?.map(Object::VpnUser),
            Key::VpnNetns(_) => Some(Object::VpnNetns { exists: netns::path(&folder).is_some() }),
            Key::Vpn(_) => {
                self.watch_vpn(vpn, &folder)?;
                running(&folder)?.map(Object::Vpn)
            }
            _ => None,
        };
        if let Some(object) = object {
            state.put_ours(key.clone(), object);
        }
        Ok(())
    }

    /// Who is connected now. Of a server that does not say, nobody is known to be.
    pub(super) async fn connections(&self) -> BTreeMap<Name, BTreeMap<Name, VpnConnection>> {
        let mut all = BTreeMap::new();
        let names = file_names(&self.files.vpns_dir()).unwrap_or_default();
        for vpn in names.iter().filter_map(|name| name.parse::<Name>().ok()) {
            match self.connections_of(&vpn).await {
                Ok(Some(connections)) => drop(all.insert(vpn, connections)),
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(%vpn, error = error_chain(&error), "cannot tell who is connected")
                }
            }
        }
        all
    }

    async fn connections_of(&self, vpn: &Name) -> Result<Option<BTreeMap<Name, VpnConnection>>, ApplyError> {
        let folder = Folder::of(&self.files, vpn);
        let Some(server) = running(&folder)? else { return Ok(None) };
        // Whoever may send to it can have it say something to each packet.
        process::trim_log(&folder.log());
        match server.kind {
            VpnKind::OpenVpn => openvpn::connections(&folder).await.map(Some).map_err(failed(vpn)),
            VpnKind::WireGuard => {
                let users = users(&folder)?;
                let mut since = self.since_of(vpn);
                let ask = move || {
                    let connections = wireguard::connections(&folder, &server.tunnel, &users, &mut since)?;
                    Ok((connections, since))
                };
                let (connections, since) = blocking(ask).await.map_err(failed(vpn))?;
                self.vpns.since.lock().unwrap_or_else(PoisonError::into_inner).insert(vpn.clone(), since);
                Ok(Some(connections))
            }
        }
    }

    fn since_of(&self, vpn: &Name) -> BTreeMap<Name, Timestamp> {
        let since = self.vpns.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.get(vpn).cloned().unwrap_or_default()
    }
}

/// Makes what is in the namespace, and starts the server there; gives its process, if it is one.
fn start_inside(
    folder: &Folder,
    server: &VpnServer,
    users: &BTreeMap<Name, String>,
) -> Result<Option<(i32, u64)>, VpnError> {
    // With it go the routes to users who left meanwhile.
    netns::delete_device(&server.tunnel)?;
    let userspace = match server.kind {
        VpnKind::OpenVpn => None,
        VpnKind::WireGuard => {
            let process = wireguard::create(folder, &server.tunnel)?;
            let texts: String = users.values().map(String::as_str).collect();
            wireguard::configure(folder, &server.tunnel, &texts)?;
            process
        }
    };
    netns::set_up(server, &routes(users.values(), &server.tunnel))?;
    match server.kind {
        VpnKind::OpenVpn => openvpn::spawn(folder).map(Some),
        VpnKind::WireGuard => Ok(userspace.map(|pid| (pid, 0))),
    }
}

/// The server that runs, with the number of the device it was started on: none if its namespace or its tunnel
/// is another than that which is there.
fn running(folder: &Folder) -> Result<Option<VpnServer>, ObserveError> {
    let Some(started) = folder.started()? else { return Ok(None) };
    let tunnel = started.server.tunnel.clone();
    let has_tunnel = || Ok(netns::has_device(&tunnel));
    let is_there =
        netns::number(folder) == Some(started.netns) && netns::inside(folder, has_tunnel).unwrap_or(false);
    let link_index = started.server.link_index.filter(|_| is_there);
    let is_running = is_alive(folder, &started) && (started.pid.is_some() || is_there);
    Ok(is_running.then_some(VpnServer { link_index, ..started.server }))
}

/// Whether the process of the server lives, if it is one.
fn is_alive(folder: &Folder, started: &Started) -> bool {
    let program = match started.server.kind {
        VpnKind::OpenVpn => openvpn::OPENVPN,
        VpnKind::WireGuard => wireguard::WIREGUARD_GO,
    };
    started.pid.is_none_or(|pid| processes::is_of(folder, pid, program))
}

/// The users that are let in, with what the server is told of them.
fn users(folder: &Folder) -> Result<BTreeMap<Name, String>, ObserveError> {
    let mut users = BTreeMap::new();
    for user in folder.users()? {
        let text = folder.user(&user)?.filter(|text| !text.is_empty());
        users.extend(text.map(|text| (user, text)));
    }
    Ok(users)
}

/// The commands for `ip` that lead to these users.
fn routes<'a>(users: impl IntoIterator<Item = &'a String>, tunnel: &LinkName) -> String {
    let addresses = users.into_iter().filter_map(|text| address(text));
    addresses.map(|address| format!("route replace {address}/32 dev {tunnel}\n")).collect()
}

/// The user's address is the first in what the server is told.
fn address(text: &str) -> Option<IpAddr> {
    let words = text.split_whitespace().map(|word| word.trim_end_matches("/32"));
    words.filter_map(|word| word.parse().ok()).next()
}

/// The path of the namespace that a spec names: a VPN's own, or one that stands there as it is. Of a VPN that
/// has none it leads nowhere.
pub(super) fn netns_path(files: &Files, named: &str) -> String {
    match Vpn::of_netns(named) {
        Some(vpn) => {
            let folder = Folder::of(files, &vpn);
            netns::path(&folder).unwrap_or_else(|| folder.path().join("no-netns")).display().to_string()
        }
        None => named.to_owned(),
    }
}
