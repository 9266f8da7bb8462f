//! A program that runs inside a universe, held from outside.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::until;

/// How long a program may take to be there and, once killed, to be gone: a bound on never, on a
/// machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running program; killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    /// `nsenter`, which waits for the program and ends as it ends.
    nsenter: Child,
    log: PathBuf,
}

impl Process {
    /// Starts the command, as made by [`crate::Entrance::command`]. What it prints goes to the
    /// end of `log`.
    pub(crate) fn start(name: impl Into<String>, mut command: Command, log: &Path) -> Result<Self> {
        let name = name.into();
        let open = || File::options().create(true).append(true).open(log);
        let out = open().with_context(|| format!("opening {}", log.display()))?;
        let errors = out.try_clone().with_context(|| format!("opening {}", log.display()))?;
        // A group of its own: Ctrl-C at the terminal is for us, not for it.
        command.stdin(Stdio::piped()).stdout(out).stderr(errors).process_group(0);
        let nsenter = command.spawn().with_context(|| format!("starting {name}"))?;
        Ok(Self { name, nsenter, log: log.to_owned() })
    }

    /// Where what it prints goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// All it has printed so far.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub fn output(&self) -> Result<String> {
        let bytes = std::fs::read(&self.log).with_context(|| format!("reading {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The program's process id, as seen from outside.
    ///
    /// # Errors
    /// Where it does not run any more.
    pub fn pid(&mut self) -> Result<i32> {
        let id = self.nsenter.id();
        let children = PathBuf::from(format!("/proc/{id}/task/{id}/children"));
        until(&format!("{} starts", self.name), PATIENCE, || {
            if let Some(status) = self.nsenter.try_wait()? {
                bail!("{} has ended: {status}\n{}", self.name, tail(&self.log, 15));
            }
            let text = std::fs::read_to_string(&children).unwrap_or_default();
            Ok(text.split_whitespace().next().and_then(|pid| pid.parse().ok()))
        })
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// Where it does not run any more.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        let pid = self.pid()?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("sending {signal} to {}", self.name))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Where it still runs after the deadline.
    pub fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        until(&format!("{} ends", self.name), deadline, || Ok(self.nsenter.try_wait()?))
    }

    /// Asks it to end (SIGTERM) and waits for it.
    ///
    /// # Errors
    /// Where it still runs after the deadline.
    pub fn stop(&mut self, deadline: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait(deadline)
    }

    /// Kills it with no chance to do anything, and waits for its end.
    ///
    /// # Errors
    /// Where it does not run any more.
    pub fn kill9(&mut self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.wait(PATIENCE).map(drop)
    }

    /// Gives an error, with the end of its log, where it does not run any more.
    ///
    /// # Errors
    /// Exactly then.
    pub fn must_run(&mut self) -> Result<()> {
        match self.nsenter.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} has ended: {status}\n{}", self.name, tail(&self.log, 15)),
        }
    }

    /// Waits until it has printed a line with this in it; gives that line.
    ///
    /// # Errors
    /// Where it ends before, or the deadline passes; with the end of what it printed.
    pub(crate) fn wait_for(&mut self, text: &str, deadline: Duration) -> Result<String> {
        let awaited = until(&format!("{} prints `{text}`", self.name), deadline, || {
            // In this order: what it printed before it ended counts.
            let running = self.must_run();
            let output = self.output()?;
            // A line without its end may be half of one.
            let mut lines = output.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            match lines.find(|line| line.contains(text)) {
                Some(line) => Ok(Some(line.trim().to_owned())),
                None => running.map(|()| None),
            }
        });
        awaited.with_context(|| tail(&self.log, 20))
    }

    pub(crate) fn input(&mut self) -> Result<&mut ChildStdin> {
        self.nsenter.stdin.as_mut().with_context(|| format!("{} has no input", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.nsenter.try_wait() {
            let _ = self.kill9();
        }
    }
}

/// The last lines of a log, for a message.
pub(crate) fn tail(log: &Path, lines: usize) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    let last = &all[all.len().saturating_sub(lines)..];
    format!("last lines of {}:\n  {}", log.display(), last.join("\n  "))
}

/// What a command printed; an error with what it said where it failed.
pub(crate) fn succeeded(output: Output, what: impl Fn() -> String) -> Result<String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}\n{text}{said}", what(), output.status);
    }
    Ok(text)
}
