//! dnsmasq processes: one per network, each of which outlives us.

use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::time::Instant;
use trestle_core::spec::Dnsmasq;
use trestle_core::types::Name;

use super::files::Files;
use super::process::{self, Process};
use crate::host::error::{ApplyError, ObserveError};

/// The program.
pub(super) const DNSMASQ: &str = "dnsmasq";
/// Tells of a running dnsmasq which bridge it was started on. It binds its DHCP socket to the
/// bridge's number at start and goes on silently with nothing when the bridge is made anew.
const BRIDGE_INDEX: &str = "TRESTLE_BRIDGE_INDEX";
/// Tells of a running dnsmasq which folders it was started with. It listens to them from then on,
/// and a folder that is made anew is another one, of whose files it never hears.
const FOLDERS: &str = "TRESTLE_FOLDERS";
/// How long dnsmasq may take to start. A machine that is emulated, or has much else to do, takes
/// seconds; who attaches waits for ten.
const START_PATIENCE: Duration = Duration::from_secs(8);
/// How long it may take to stop and to end a lease.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// How long between two looks at what nothing announces.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// A dnsmasq of ours that runs.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub(super) pid: i32,
    pub(super) dnsmasq: Dnsmasq,
}

/// The dnsmasq that runs for a network, if any.
pub(super) fn running(files: &Files, network: &Name) -> Result<Option<Running>, ObserveError> {
    let path = files.pid(network);
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|source| ObserveError::File { path, source })?,
    };
    match text.trim().parse() {
        Ok(pid) => inspect(files, network, pid),
        Err(_) => Ok(None),
    }
}

/// What a process is, if it is a dnsmasq for this network of our state folder.
fn inspect(files: &Files, network: &Name, pid: i32) -> Result<Option<Running>, ObserveError> {
    let failed = |source| ObserveError::File { path: PathBuf::from(format!("/proc/{pid}")), source };
    let command_line = process::arguments(pid).map_err(failed)?;
    let Some((program, arguments)) = command_line.split_first() else { return Ok(None) };
    let folder = files.network_dir(network);
    let is_in_folder = |argument: &String| argument.contains(&format!("{}/", folder.display()));
    if !program.ends_with(DNSMASQ) || !arguments.iter().any(is_in_folder) {
        return Ok(None);
    }
    let bridge = arguments.iter().find_map(|argument| argument.strip_prefix("--interface="));
    let Some(bridge) = bridge.and_then(|bridge| bridge.parse().ok()) else { return Ok(None) };
    let bridge_index = process::variable(pid, BRIDGE_INDEX).map_err(failed)?;
    let folders = process::variable(pid, FOLDERS).map_err(failed)?;
    let there = files.folders(network).map_err(|source| ObserveError::File { path: folder, source })?;
    let state_dir = files.state_dir().display().to_string();
    let dnsmasq = Dnsmasq {
        arguments: arguments.iter().map(|argument| argument.replace(&state_dir, "%S")).collect(),
        bridge,
        // One that is deaf to its files is of no more use than one on a bridge that is gone.
        bridge_index: bridge_index.filter(|_| folders == Some(there)).and_then(|index| index.parse().ok()),
        stale: files.is_stale(network),
    };
    Ok(Some(Running { pid, dnsmasq }))
}

/// Starts a network's dnsmasq on the bridge that has this number now, and waits until it serves.
/// Gives its number. One that runs just so already is left alone; any other is stopped first.
pub(super) async fn start(
    files: &Files,
    network: &Name,
    dnsmasq: &Dnsmasq,
    bridge_index: u32,
) -> Result<i32, ApplyError> {
    files.create_network(network)?;
    let mut wanted = dnsmasq.clone();
    wanted.bridge_index = Some(bridge_index);
    for running in all_of(files, network).map_err(|source| not_looked_at(files, network, source))? {
        if running.dnsmasq == wanted && named_by_pid_file(files, network, running.pid) {
            return Ok(running.pid);
        }
        stop_process(network, running.pid).await?;
    }
    let failed = |source| ApplyError::Program { program: DNSMASQ, source };
    let pid_file = files.pid(network);
    match std::fs::remove_file(&pid_file) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(ApplyError::File { operation: "delete", path: pid_file, source });
        }
        _ => {}
    }
    files.not_stale(network)?;
    let (pid, log_start) = spawn(files, network, &wanted).map_err(failed)?;
    let Some(process) = Process::open(pid).map_err(failed)? else {
        return Err(died(files, network, log_start));
    };
    serving(files, network, &process, log_start).await
}

fn not_looked_at(files: &Files, network: &Name, source: io::Error) -> ApplyError {
    ApplyError::File { operation: "look for a dnsmasq of", path: files.network_dir(network), source }
}

fn named_by_pid_file(files: &Files, network: &Name, pid: i32) -> bool {
    std::fs::read_to_string(files.pid(network)).is_ok_and(|text| text.trim() == pid.to_string())
}

/// Every dnsmasq for this network, one whose pid file is lost included: it would hold the sockets.
fn all_of(files: &Files, network: &Name) -> io::Result<Vec<Running>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse::<i32>() else { continue };
        // A process that cannot be looked at is not one that we started.
        found.extend(inspect(files, network, pid).ok().flatten());
    }
    Ok(found)
}

/// Starts the process apart from us. Gives its number and where its part of the log begins.
fn spawn(files: &Files, network: &Name, dnsmasq: &Dnsmasq) -> io::Result<(i32, u64)> {
    let (log, log_start) = process::open_log(&files.log(network))?;
    let state_dir = files.state_dir().display().to_string();
    // Noted before it listens: a folder that is replaced in between is seen as another.
    let folders = files.folders(network)?;
    let mut command = Command::new(DNSMASQ);
    command
        .args(dnsmasq.arguments.iter().map(|argument| argument.replace("%S", &state_dir)))
        .envs(dnsmasq.bridge_index.map(|index| (BRIDGE_INDEX, index.to_string())))
        .env(FOLDERS, folders)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    Ok((process::spawn_apart(&mut command)?, log_start))
}

/// dnsmasq writes its number when its sockets are open and its files are read.
async fn serving(
    files: &Files,
    network: &Name,
    process: &Process,
    log_start: u64,
) -> Result<i32, ApplyError> {
    let deadline = Instant::now() + START_PATIENCE;
    loop {
        if let Some(running) = running(files, network)? {
            return Ok(running.pid);
        }
        let ended = tokio::time::timeout(LOOK_AGAIN, process.ended()).await.is_ok();
        // Without `--keep-in-foreground` the first process ends when the second serves.
        if ended && running(files, network)?.is_none() {
            return Err(died(files, network, log_start));
        }
        if Instant::now() > deadline {
            let log = process::log_tail(&files.log(network), log_start);
            let waited = START_PATIENCE;
            return Err(ApplyError::DnsmasqNotServing { network: network.clone(), waited, log });
        }
    }
}

fn died(files: &Files, network: &Name, log_start: u64) -> ApplyError {
    ApplyError::DnsmasqDied {
        network: network.clone(),
        log: process::log_tail(&files.log(network), log_start),
    }
}

/// Stops a network's dnsmasq, if it runs.
pub(super) async fn stop(files: &Files, network: &Name) -> Result<(), ApplyError> {
    match running(files, network)? {
        Some(running) => stop_process(network, running.pid).await,
        None => Ok(()),
    }
}

async fn stop_process(network: &Name, pid: i32) -> Result<(), ApplyError> {
    let failed = |source| ApplyError::Stop { network: network.clone(), pid, source };
    match Process::open(pid).map_err(failed)? {
        Some(process) => process.stop(PATIENCE).await.map_err(failed),
        None => Ok(()),
    }
}

/// Makes dnsmasq forget deleted entries; nothing if it does not run.
pub(super) fn reload(files: &Files, network: &Name) -> Result<(), ApplyError> {
    let failed = |source| ApplyError::Program { program: DNSMASQ, source };
    match running(files, network)? {
        Some(running) => process::signal_pid(Pid::from_raw(running.pid), Signal::SIGHUP).map_err(failed)?,
        None => return Ok(()),
    }
    files.not_stale(network)
}
