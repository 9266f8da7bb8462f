//! The network namespace of a VPN: a process that only sleeps keeps it, so that it is there whether or not its
//! server is. A mount would be seen by those alone who share the agent's mounts, which another agent after it
//! need not.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Stdio;

use nix::sched::{CloneFlags, setns, unshare};
use trestle_core::spec::VpnServer;
use trestle_core::types::LinkName;

use super::super::{process, sysctl};
use super::folder::Folder;
use super::processes::{self, KEEPER, tell};
use crate::host::error::VpnError;

/// What keeps the namespace, if it is there.
pub(super) fn keeper(folder: &Folder) -> Option<i32> {
    let link = fs::read_link(folder.netns()).ok()?;
    let pid = link.strip_prefix("/proc").ok()?.iter().next()?.to_str()?.parse().ok()?;
    // Its number may be anybody's by now.
    processes::is_of(folder, pid, KEEPER).then_some(pid)
}

/// The path of the namespace, if it is there.
pub(super) fn path(folder: &Folder) -> Option<PathBuf> {
    keeper(folder).map(of_process)
}

fn of_process(pid: i32) -> PathBuf {
    format!("/proc/{pid}/ns/net").into()
}

/// Which namespace it is: another one has another number.
pub(super) fn number(folder: &Folder) -> Option<u64> {
    fs::metadata(path(folder)?).ok().map(|metadata| metadata.ino())
}

/// Makes the namespace, if it is not there.
pub(super) fn create(folder: &Folder) -> Result<(), VpnError> {
    if path(folder).is_some() {
        return Ok(());
    }
    let failed = |source| VpnError::Netns { operation: "make", source };
    let keep = || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        let mut command = processes::of_vpn(folder, KEEPER);
        command.arg("infinity").stdout(Stdio::null()).stderr(Stdio::null());
        process::spawn_apart(&mut command)
    };
    let link = |pid| {
        let draft = folder.path().join(".netns");
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::os::unix::fs::symlink(of_process(pid), &draft)?;
        fs::rename(&draft, folder.netns())
    };
    // One that an agent started and had no time to note.
    processes::end_keeper(folder)?;
    in_thread(keep).and_then(link).map_err(failed)
}

/// Does something in the namespace: programs that are started there stay there. Blocks.
pub(super) fn inside<T: Send>(
    folder: &Folder,
    work: impl FnOnce() -> Result<T, VpnError> + Send,
) -> Result<T, VpnError> {
    let failed = |source| VpnError::Netns { operation: "enter", source };
    let path = path(folder).ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    let entered = || Ok(setns(File::open(path)?, CloneFlags::CLONE_NEWNET)?);
    in_thread(|| Ok(entered().map(|()| work()))).and_then(|done| done).map_err(failed)?
}

/// A thread that was in another namespace is not used for anything else.
fn in_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("trestle-vpn".to_owned()).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
    })
}

/// Makes the settings, devices, addresses, routes and filter of the namespace that this runs in; twice is
/// once. `more` are further commands for `ip`.
pub(super) fn set_up(server: &VpnServer, more: &str) -> Result<(), VpnError> {
    for (name, value) in &server.settings {
        match sysctl::set(name, value) {
            // A kernel without IPv6 has none to turn off.
            Err(error) if error.kind() == io::ErrorKind::NotFound && name.starts_with("net.ipv6.") => {}
            other => other.map_err(|source| VpnError::Setting { name: name.clone(), source })?,
        }
    }
    let anew = format!("table inet trestle_vpn\ndelete table inet trestle_vpn\n{}", server.filter);
    tell("nft", &["-f", "-"], &anew)?;
    tell("ip", &["-batch", "-"], &format!("{}{more}", server.network)).map(drop)
}

/// Whether the device is there, in the namespace of the calling thread.
pub(super) fn has_device(name: &LinkName) -> bool {
    nix::net::if_::if_nametoindex(name.as_str()).is_ok()
}

/// Deletes the device, if it is there.
pub(super) fn delete_device(name: &LinkName) -> Result<(), VpnError> {
    if !has_device(name) {
        return Ok(());
    }
    tell("ip", &["link", "delete", name.as_str()], "").map(drop)
}
