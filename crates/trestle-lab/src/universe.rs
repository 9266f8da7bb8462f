//! One tree of processes in PID, mount and network namespaces of its own.
//!
//! `unshare` (util-linux) makes the namespaces and starts `trestle lab init` as PID 1 in them.
//! Each link of the chain dies with the one before it (`PR_SET_PDEATHSIG`, prctl(2)), and when
//! PID 1 of a namespace is gone the kernel kills all that is in it (pid_namespaces(7)) and with
//! them the mounts, bridges and devices. So nothing can be left behind, whoever is killed how.

use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid, getppid};
use serde::{Deserialize, Serialize};

use crate::process::{succeeded, tail};
use crate::topology::Node;
use crate::wait::until;

/// A running universe; gone when dropped.
#[derive(Debug)]
pub(crate) struct Universe {
    entrance: Entrance,
    /// Starts `unshare` and waits for it. PDEATHSIG fires when the *thread* that started a
    /// process ends, so that one thread must live as long as the universe.
    keeper: Option<JoinHandle<()>>,
    /// Removes the folder once nobody in the universe is left; outlives even `kill -9` of us.
    sweeper: Option<Child>,
}

/// How to get into a universe from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entrance {
    /// The process id of its PID 1, as seen from outside.
    init: i32,
    /// When that process was started, in clock ticks since boot: tells it from a later process
    /// under the same id (field 22 of proc_pid_stat(5)).
    started: u64,
}

impl Universe {
    /// Starts one; `trestle` is the program, `folder` the lab's folder, which has `logs` in it.
    pub(crate) fn start(trestle: &Path, folder: &Path, keep_folder: bool) -> Result<Self> {
        let (lifeline, held_by_init) = std::io::pipe().context("making a pipe")?;
        let (answer, answered_by_init) = std::io::pipe().context("making a pipe")?;
        let sweeper = if keep_folder { None } else { Some(start_sweeper(folder, lifeline)?) };
        let mut command = init_command(trestle, folder);
        let log = folder.join("logs").join("init.log");
        let complaints = File::create(&log).with_context(|| format!("making {}", log.display()))?;
        command.stdin(held_by_init).stdout(answered_by_init).stderr(complaints);
        let keeper = start_keeper(command)?;
        let mut universe = Self { entrance: Entrance { init: 0, started: 0 }, keeper: Some(keeper), sweeper };
        universe.entrance = read_answer(answer).with_context(|| tail(&log, 5))?;
        Ok(universe)
    }

    pub(crate) fn entrance(&self) -> Entrance {
        self.entrance
    }

    /// Whether it was ended, by whomever.
    pub(crate) fn has_ended(&self) -> bool {
        self.keeper.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Universe {
    fn drop(&mut self) {
        // The keeper ends when PID 1 has, whose end the kernel reports when all others have ended.
        let _ = self.entrance.end(Duration::from_secs(60));
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
        if let Some(mut sweeper) = self.sweeper.take() {
            let _ = sweeper.wait();
        }
    }
}

impl Entrance {
    /// A command that runs these arguments in the universe, on this node.
    pub fn command(&self, node: Node<'_>, argv: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.init)).args(["--mount", "--pid"]);
        match node {
            Node::Controller => command.args(["--net", "--"]),
            Node::Named(name) => command.args(["--", "ip", "netns", "exec", name]),
        };
        command.args(argv);
        command
    }

    /// Does what these lines say, each an `ip` command without its first word.
    pub(crate) fn ip_batch(&self, node: Node<'_>, lines: &str) -> Result<()> {
        let mut command = self.command(node, &["ip", "-batch", "-"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("starting ip -batch")?;
        let mut input = child.stdin.take().context("ip -batch has no input")?;
        input.write_all(lines.as_bytes()).context("writing to ip -batch")?;
        drop(input);
        let output = child.wait_with_output().context("waiting for ip -batch")?;
        succeeded(output, || format!("ip -batch on {node}")).map(drop)
    }

    /// One of the namespaces of its PID 1, as a file; `None` where the universe is gone.
    pub(crate) fn namespace(&self, kind: &str) -> Option<PathBuf> {
        self.is_alive().then(|| PathBuf::from(format!("/proc/{}/ns/{kind}", self.init)))
    }

    /// Whether the universe is still there.
    pub fn is_alive(&self) -> bool {
        self.init > 0 && start_time(self.init).is_some_and(|started| started == self.started)
    }

    /// Ends the universe and waits until the kernel has removed everything in it.
    ///
    /// # Errors
    /// Where it is still there after the deadline.
    pub fn end(&self, deadline: Duration) -> Result<()> {
        let processes = self.namespace("pid").and_then(|path| std::fs::read_link(path).ok());
        if self.is_alive() {
            // Gone in the meantime is as good.
            let _ = kill(Pid::from_raw(self.init), Signal::SIGKILL);
        }
        until("the lab ends", deadline, || {
            let is_alive = self.is_alive();
            if let (true, Some(processes)) = (is_alive, &processes) {
                wake_watchers(processes);
            }
            Ok((!is_alive).then_some(()))
        })
    }
}

/// Lets those outside who wait for a process in this PID namespace see that it has ended, which
/// the kernel waits for. `nsenter` stops itself when its process is stopped, and waits no more.
fn wake_watchers(processes: &Path) {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    for path in all.map(|entry| entry.path()) {
        let is_watcher =
            std::fs::read_link(path.join("ns/pid_for_children")).is_ok_and(|theirs| theirs == processes);
        let pid = path.file_name().and_then(|name| name.to_str()?.parse().ok());
        if let (true, Some(pid)) = (is_watcher, pid) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGCONT);
        }
    }
}

/// The command that becomes PID 1, with the universe around it.
fn init_command(trestle: &Path, folder: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--pid", "--fork", "--kill-child=KILL", "--"]);
    command.arg(trestle).args(["lab", "init"]).arg(folder);
    command.process_group(0);
    let us = getpid();
    // SAFETY: only async-signal-safe calls (prctl, getppid) between fork and exec.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            // We may have died before the call above: then nobody would tell this process.
            if getppid() == us { Ok(()) } else { Err(std::io::ErrorKind::NotConnected.into()) }
        });
    }
    command
}

fn start_keeper(mut command: Command) -> Result<JoinHandle<()>> {
    let (tell, told) = mpsc::channel();
    let keeper = std::thread::Builder::new().name("lab-keeper".into()).spawn(move || {
        let started = command.spawn();
        // Our copies of the pipes' ends must go, or nobody would see their other ends close.
        drop(command);
        match started {
            Ok(mut child) => {
                let _ = tell.send(Ok(()));
                let _ = child.wait();
            }
            Err(error) => drop(tell.send(Err(error))),
        }
    });
    let keeper = keeper.context("starting the lab's keeper thread")?;
    told.recv().context("the lab's keeper thread ended")?.context("starting `unshare`")?;
    Ok(keeper)
}

/// PID 1 says `ready <pid>` once the universe stands; what goes wrong is in its log.
fn read_answer(answer: PipeReader) -> Result<Entrance> {
    let mut line = String::new();
    BufReader::new(answer).read_line(&mut line).context("reading from the lab's PID 1")?;
    let Some(init) = line.strip_prefix("ready ").and_then(|pid| pid.trim().parse().ok()) else {
        bail!("the lab's PID 1 did not start");
    };
    let started = start_time(init).context("the lab's PID 1 ended at once")?;
    Ok(Entrance { init, started })
}

/// A process that outlives us: reads until the universe's end closes the pipe, then removes the
/// folder, again if a process that was just ending wrote into it.
fn start_sweeper(folder: &Path, lifeline: PipeReader) -> Result<Child> {
    const SCRIPT: &str = r#"read -r _; for try in 1 2 3 4 5 6 7 8 9; do rm -rf -- "$1" && break; done
        rmdir --ignore-fail-on-non-empty -- "$(dirname -- "$1")""#;
    let mut command = Command::new("sh");
    command.args(["-c", SCRIPT, "sh"]).arg(folder);
    command.stdin(lifeline).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    command.spawn().context("starting the process that removes the lab's folder")
}

fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(PathBuf::from(format!("/proc/{pid}/stat"))).ok()?;
    // The name, field 2, is in parentheses and may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}
