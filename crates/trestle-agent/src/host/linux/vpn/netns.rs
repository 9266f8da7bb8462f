//! The network namespace of a VPN: a process that only sleeps keeps it, so that it is there whether or not its
//! server is. A mount would be seen by those alone who share the agent's mounts, which another agent after it
//! need not.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use trestle_core::spec::VpnServer;
use trestle_core::types::LinkName;

use super::super::{process, sysctl};
use super::folder::Folder;
use crate::host::error::VpnError;

/// What keeps the namespace, and which folder's it is, in its environment.
const KEEPER: &str = "sleep";
const FOLDER: &str = "TRESTLE_VPN";

/// The path of the namespace, if it is there.
pub(super) fn path(folder: &Folder) -> Option<PathBuf> {
    let link = fs::read_link(folder.netns()).ok()?;
    let pid = link.strip_prefix("/proc").ok()?.iter().next()?.to_str()?.parse().ok()?;
    // Its number may be anybody's by now.
    is_keeper(folder, pid).then_some(link)
}

fn is_keeper(folder: &Folder, pid: i32) -> bool {
    let ours = process::variable(pid, FOLDER).ok().flatten();
    ours.is_some_and(|ours| ours == folder.path().to_string_lossy())
        && process::arguments(pid).is_ok_and(|all| all.first().is_some_and(|program| program == KEEPER))
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
    let keeper = || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        let mut command = Command::new(KEEPER);
        command.arg("infinity").env_clear().env(FOLDER, folder.path()).current_dir("/");
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        process::spawn_apart(&mut command)
    };
    let link = |pid| {
        let draft = folder.path().join(".netns");
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::os::unix::fs::symlink(format!("/proc/{pid}/ns/net"), &draft)?;
        fs::rename(&draft, folder.netns())
    };
    // One that an agent started and had no time to note.
    delete(folder)?;
    in_thread(keeper).and_then(link).map_err(failed)
}

/// Lets the namespace go, if it is there. It ends with the last process in it.
pub(super) fn delete(folder: &Folder) -> Result<(), VpnError> {
    let failed = |source| VpnError::Netns { operation: "delete", source };
    for entry in fs::read_dir("/proc").map_err(failed)? {
        let Ok(pid) = entry.map_err(failed)?.file_name().to_string_lossy().parse::<i32>() else { continue };
        if is_keeper(folder, pid) {
            process::signal_pid(Pid::from_raw(pid), Signal::SIGKILL).map_err(failed)?;
        }
    }
    Ok(())
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
