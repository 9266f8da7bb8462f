//! The programs of a VPN: its server, and what keeps its namespace. They outlive us and are found again by a
//! variable of their environment, which says whose folder they are for.

use std::io::{self, Write};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::super::dnsmasq::PATIENCE;
use super::super::process::{self, Process};
use super::folder::Folder;
use crate::host::error::VpnError;

/// What keeps the namespace.
pub(super) const KEEPER: &str = "sleep";

const FOLDER: &str = "TRESTLE_VPN";
/// Programs that are asked or told something have this long, in seconds: the loop waits for them.
const TOLD_WITHIN: &str = "5";
/// How timeout(1) says that the program was not done, and that there is no such program.
const TIMED_OUT: i32 = 124;
const NO_PROGRAM: i32 = 127;

/// A program that belongs to the VPN of this folder.
pub(super) fn of_vpn(folder: &Folder, program: &str) -> Command {
    let mut command = Command::new(program);
    command.env(FOLDER, folder.path()).current_dir("/").stdin(Stdio::null());
    command
}

/// Whether the process is that program, for the VPN of this folder.
pub(super) fn is_of(folder: &Folder, pid: i32, program: &str) -> bool {
    is_of_folder(folder, pid)
        && process::arguments(pid).is_ok_and(|all| all.first().is_some_and(|first| first.ends_with(program)))
}

fn is_of_folder(folder: &Folder, pid: i32) -> bool {
    let named = process::variable(pid, FOLDER).ok().flatten();
    named.is_some_and(|named| named == folder.path().to_string_lossy())
}

/// The processes of the VPN of this folder. One that cannot be looked at is not one that we started.
fn all_of(folder: &Folder) -> io::Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse() else { continue };
        if is_of_folder(folder, pid) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// The process of this program, if it runs.
pub(super) fn find(folder: &Folder, program: &str) -> Option<i32> {
    all_of(folder).ok()?.into_iter().find(|pid| is_of(folder, *pid, program))
}

/// Stops everything but what keeps the namespace, and waits until it has ended.
pub(super) async fn stop_server(folder: &Folder) -> Result<(), VpnError> {
    let failed = |pid| move |source| VpnError::Stop { pid, source };
    for pid in all_of(folder).map_err(failed(0))? {
        if is_of(folder, pid, KEEPER) {
            continue;
        }
        if let Some(process) = Process::open(pid).map_err(failed(pid))? {
            process.stop(PATIENCE).await.map_err(failed(pid))?;
        }
    }
    Ok(())
}

/// Ends what keeps the namespace, if it is there.
pub(super) fn end_keeper(folder: &Folder) -> Result<(), VpnError> {
    let failed = |pid| move |source| VpnError::Stop { pid, source };
    for pid in all_of(folder).map_err(failed(0))? {
        if is_of(folder, pid, KEEPER) {
            process::signal_pid(Pid::from_raw(pid), Signal::SIGKILL).map_err(failed(pid))?;
        }
    }
    Ok(())
}

/// Runs a program, gives it this text to read, and gives what it printed.
pub(super) fn tell(program: &'static str, arguments: &[&str], text: &str) -> Result<String, VpnError> {
    let failed = |source| VpnError::Program { program, source };
    let mut command = Command::new("timeout");
    command.args([TOLD_WITHIN, program]).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        // A program that ends early says why.
        let _ = input.write_all(text.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    match output.status.code() {
        Some(0) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Some(NO_PROGRAM) => Err(failed(io::ErrorKind::NotFound.into())),
        Some(TIMED_OUT) => Err(failed(io::ErrorKind::TimedOut.into())),
        _ => {
            let output = one_line(&String::from_utf8_lossy(&output.stderr));
            Err(VpnError::Refused { program, output })
        }
    }
}

/// What a program said on several lines, for a sentence.
fn one_line(text: &str) -> String {
    text.trim().lines().collect::<Vec<_>>().join("; ")
}

/// The end of what a VPN's server has logged since `start`.
pub(super) fn said(folder: &Folder, start: u64) -> String {
    one_line(&process::log_tail(&folder.log(), start))
}
