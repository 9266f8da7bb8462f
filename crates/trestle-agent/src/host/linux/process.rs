//! Processes by pidfd: they may be ours to wait for, or started by an agent before this one.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A log longer than this is begun anew when its program starts.
const LOG_LIMIT: u64 = 1 << 20;
/// How much of the end of a log an error shows.
const LOG_TAIL: u64 = 1024;

/// A process that was alive when it was opened. Its number cannot come to mean another process as
/// long as nobody reaps it, which only its parent can.
#[derive(Debug)]
pub(super) struct Process {
    pid: Pid,
    handle: AsyncFd<OwnedFd>,
}

impl Process {
    /// `None` if there is no such process.
    pub(super) fn open(pid: i32) -> io::Result<Option<Self>> {
        // SAFETY: pidfd_open(2) takes two numbers and gives a new descriptor or -1.
        let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if descriptor < 0 {
            return match Errno::last() {
                Errno::ESRCH => Ok(None),
                errno => Err(errno.into()),
            };
        }
        let descriptor = i32::try_from(descriptor).map_err(io::Error::other)?;
        // SAFETY: the descriptor is new and nobody else's.
        let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
        // SAFETY: an `OwnedFd` names the same open descriptor as long as it lives.
        let handle = unsafe { AsyncFd::register_with_interest(owned, Interest::READABLE) }?;
        Ok(Some(Self { pid: Pid::from_raw(pid), handle }))
    }

    /// Waits until the process has ended, and reaps it if it is our child.
    pub(super) async fn ended(&self) -> io::Result<()> {
        // A pidfd becomes readable once and stays so.
        drop(self.handle.readable().await?);
        let _ = waitpid(self.pid, Some(WaitPidFlag::WNOHANG));
        Ok(())
    }

    /// Asks the process to end, makes it end after `patience`, and waits until it has.
    pub(super) async fn stop(&self, patience: Duration) -> io::Result<()> {
        self.signal(Signal::SIGTERM)?;
        if let Ok(ended) = tokio::time::timeout(patience, self.ended()).await {
            return ended;
        }
        self.signal(Signal::SIGKILL)?;
        self.ended().await
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        signal_pid(self.pid, signal)
    }
}

/// Starts a program with a session of its own, so that it serves on when we end; no terminal and no pipe may
/// lead to it either. Gives its number.
pub(super) fn spawn_apart(command: &mut Command) -> io::Result<i32> {
    // SAFETY: setsid(2) may be called between fork and exec.
    unsafe {
        command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(io::Error::from));
    }
    command.spawn()?.id().try_into().map_err(io::Error::other)
}

/// Opens what a program logs to, and gives where its part begins.
pub(super) fn open_log(path: &Path) -> io::Result<(File, u64)> {
    let log = File::options().create(true).append(true).open(path)?;
    if log.metadata()?.len() > LOG_LIMIT {
        log.set_len(0)?;
    }
    let start = log.metadata()?.len();
    Ok((log, start))
}

/// Begins a log anew that has become too long; what writes it writes on at its end.
pub(super) fn trim_log(path: &Path) {
    let is_long = std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > LOG_LIMIT);
    if is_long && let Err(error) = File::options().write(true).truncate(true).open(path) {
        tracing::warn!(path = %path.display(), %error, "cannot begin a log anew");
    }
}

/// The end of what was logged since `start`; a log that cannot be read says why.
pub(super) fn log_tail(path: &Path, start: u64) -> String {
    let read = || {
        let mut log = File::open(path)?;
        let length = log.metadata()?.len();
        log.seek(SeekFrom::Start(start.max(length.saturating_sub(LOG_TAIL))))?;
        let mut bytes = Vec::new();
        log.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    read().unwrap_or_else(|error: io::Error| format!("(the log cannot be read: {error})"))
}

/// Sends a signal; a process that is gone needs none.
pub(super) fn signal_pid(pid: Pid, signal: Signal) -> io::Result<()> {
    match kill(pid, signal) {
        Err(Errno::ESRCH) | Ok(()) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// The arguments of a process, its own name first; none if it is gone or a zombie.
pub(super) fn arguments(pid: i32) -> io::Result<Vec<String>> {
    nul_separated(Path::new(&format!("/proc/{pid}/cmdline")))
}

/// A variable of the environment that a process was started with.
pub(super) fn variable(pid: i32, name: &str) -> io::Result<Option<String>> {
    let all = nul_separated(Path::new(&format!("/proc/{pid}/environ")))?;
    Ok(all.iter().find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=').map(str::to_owned)))
}

/// What a process or thread calls itself, if it lives.
pub(super) fn name(pid: u32) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|name| name.trim_end().to_owned())
}

fn nul_separated(path: &Path) -> io::Result<Vec<String>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error)
            if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH) =>
        {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.split_terminator('\0').map(str::to_owned).collect())
}
