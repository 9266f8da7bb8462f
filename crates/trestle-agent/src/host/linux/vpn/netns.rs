//! The network namespace of a VPN: a mount in its folder, so that it is there without a process in it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{NSFS_MAGIC, statfs};

use trestle_core::spec::VpnServer;
use trestle_core::types::LinkName;

use super::super::sysctl;
use crate::host::error::VpnError;

/// Whether the namespace is there: after the machine was started the file alone is.
pub(super) fn is_mounted(path: &Path) -> bool {
    statfs(path).is_ok_and(|stat| stat.filesystem_type() == NSFS_MAGIC)
}

/// Which namespace it is: another one has another number.
pub(super) fn number(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().filter(|_| is_mounted(path)).map(|metadata| metadata.ino())
}

/// Makes the namespace, if it is not there.
pub(super) fn create(path: &Path) -> Result<(), VpnError> {
    if is_mounted(path) {
        return Ok(());
    }
    let made = in_thread(|| {
        File::options().create(true).truncate(false).write(true).open(path)?;
        unshare(CloneFlags::CLONE_NEWNET)?;
        let own = Path::new("/proc/thread-self/ns/net");
        Ok(mount(Some(own), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
    });
    made.map_err(|source| VpnError::Netns { operation: "make", source })
}

/// Lets the namespace go, if it is there. It ends with the last process in it.
pub(super) fn delete(path: &Path) -> Result<(), VpnError> {
    if !is_mounted(path) {
        return Ok(());
    }
    let gone = umount2(path, MntFlags::MNT_DETACH);
    gone.map_err(|errno| VpnError::Netns { operation: "delete", source: errno.into() })
}

/// Does something in the namespace: programs that are started there stay there. Blocks.
pub(super) fn inside<T: Send>(
    path: &Path,
    work: impl FnOnce() -> Result<T, VpnError> + Send,
) -> Result<T, VpnError> {
    let entered = || {
        let namespace = File::open(path)?;
        Ok(setns(namespace, CloneFlags::CLONE_NEWNET)?)
    };
    let done = in_thread(|| Ok(entered().map(|()| work())));
    let failed = |source| VpnError::Netns { operation: "enter", source };
    done.and_then(|done| done).map_err(failed)?
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
    tell("ip", &["-batch", "-"], &format!("{}{more}", server.network))
}

/// Whether the device is there, in the namespace of the calling thread.
pub(super) fn has_device(name: &LinkName) -> bool {
    nix::net::if_::if_nametoindex(name.as_str()).is_ok()
}

/// Deletes the device, if it is there; a program that made it ends with it.
pub(super) fn delete_device(name: &LinkName) -> Result<(), VpnError> {
    if !has_device(name) {
        return Ok(());
    }
    tell("ip", &["link", "delete", name.as_str()], "")
}

/// Runs a program and gives it this text to read.
pub(super) fn tell(program: &'static str, arguments: &[&str], text: &str) -> Result<(), VpnError> {
    let failed = |source| VpnError::Program { program, source };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        // A program that ends early says why.
        let _ = io::Write::write_all(&mut input, text.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let output = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(VpnError::Refused { program, output })
}
