//! The lab as its user meets it: started, looked into, and gone without a trace however it ends.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use trestle_lab::{Lab, Node, Programs, Running, Topology, has_802_1q, until};

/// An emulated machine may have to boot.
const DEADLINE: Duration = Duration::from_secs(180);

#[test]
fn nothing_is_left_of_a_lab_whose_supervisor_was_killed() -> Result<()> {
    let name = format!("killed-{}", std::process::id());
    let mut supervisor = Supervisor::start(&["lab", "up", "--name", &name])?;
    let lab = supervisor.lab(&name)?;
    let members = processes_beside(&lab)?;
    ensure!(members.len() >= 3, "PID 1, the controller and the agent run: {members:?}");
    supervisor.0.kill()?;
    nothing_is_left(&lab, &members)
}

/// Where the kernel has no VLANs the lab is in a virtual machine, and nothing else is different.
#[test]
fn a_lab_for_vlans_is_used_from_outside_wherever_it_runs() -> Result<()> {
    let name = format!("vlan-{}", std::process::id());
    let mut supervisor = Supervisor::start(&["lab", "up", "--type", "vlan", "--name", &name])?;
    let lab = supervisor.lab(&name)?;
    let trestle = |arguments: &[&str]| {
        let mut command = Command::new(trestle());
        command.env("TRESTLE_STATE_DIR", &lab.state_dir).args(arguments).output().context("starting trestle")
    };
    let status = trestle(&["status"])?;
    ensure!(String::from_utf8_lossy(&status.stdout).contains("1 connected"), "{status:?}");
    let tag = ["lab", "exec", "--lab", &name, "host1", "--", "ip", "link", "add", "link", "eth2"];
    let tagged = trestle(&[&tag[..], &["name", "tagged", "type", "vlan", "id", "4000"]].concat())?;
    ensure!(tagged.status.success(), "{tagged:?}");
    let both =
        trestle(&["lab", "exec", "--lab", &name, "host1", "--", "sh", "-c", "ls /sys/class/net; exit 7"])?;
    ensure!(both.status.code() == Some(7), "the exit status is the command's: {both:?}");
    ensure!(String::from_utf8_lossy(&both.stdout).contains("tagged"), "{both:?}");
    let guest = ["lab", "guest", "web1", "--host", "host1", "--lab", &name];
    for line in [&["instance", "create", "web1", "--project", "demo"][..], &guest] {
        let done = trestle(line)?;
        ensure!(done.status.success(), "{line:?}: {done:?}");
    }
    let pinged =
        trestle(&["lab", "exec", "--lab", &name, "vm-web1", "--", "ping", "-c", "1", "198.51.100.10"])?;
    ensure!(pinged.status.success(), "the guest has an address and a router: {pinged:?}");
    let known = trestle(&["lab", "exec", "--lab", &name, "host1", "--", "trestle", "plan"])?;
    ensure!(known.status.success(), "`trestle` is found there, and its agent: {known:?}");
    let counted = counted_in_the_lab(&name, 300_000)?;
    ensure!(counted == "300000", "all of the standard input arrives: {counted}");
    ensure!(lab.is_in_machine != has_802_1q()?, "in a machine only where the kernel has no VLANs: {lab:?}");

    let members = processes_beside(&lab)?;
    supervisor.0.kill()?;
    nothing_is_left(&lab, &members)
}

#[test]
fn a_lab_ends_by_its_own_command() -> Result<()> {
    let name = format!("down-{}", std::process::id());
    let mut supervisor = Supervisor::start(&["lab", "up", "--name", &name])?;
    let lab = supervisor.lab(&name)?;

    let down = Command::new(trestle()).args(["lab", "down", &name]).status()?;

    ensure!(down.success(), "trestle lab down: {down}");
    let ended = until("the supervisor ends", DEADLINE, || Ok(supervisor.0.try_wait()?))?;
    ensure!(ended.success(), "it was asked to end: {ended}");
    ensure!(!lab.folder.exists(), "the folder is left");
    Ok(())
}

/// A program that waits for one that is stopped stops too, and the kernel waits for both.
#[test]
fn a_lab_ends_though_a_command_in_it_is_stopped() -> Result<()> {
    let lab = Lab::bare(&Topology::for_test(1), &programs())?;
    let mut stopped = lab.spawn("host1", &["sleep", "1000"])?;
    stopped.signal(nix::sys::signal::Signal::SIGSTOP)?;
    let watcher = PathBuf::from(format!("/proc/{}/stat", parent(stopped.pid()?)?));
    until("who waits for it stops too", DEADLINE, || {
        Ok(std::fs::read_to_string(&watcher)?.contains(") T ").then_some(()))
    })?;
    lab.running().down()?;
    // Its PID 1 is gone; whoever started that is told a moment later.
    until("the lab is known to have ended", DEADLINE, || Ok(lab.has_ended().then_some(())))
}

#[test]
fn a_lab_touches_no_network_but_its_own() -> Result<()> {
    let before = own_network()?;
    let lab = Lab::bare(&Topology::for_test(2), &programs())?;
    ensure!(own_network()? == before, "the machine's own network changed");
    let outside = lab.exec_ok("outside", &["ip", "route", "get", "10.0.0.2"]);
    ensure!(outside.is_err(), "the outside host knows the way to private addresses: {outside:?}");
    lab.exec_ok("host1", &["ping", "-c", "1", "-W", "5", "198.51.100.10"])?;
    let folder = lab.folder().to_owned();
    drop(lab);
    ensure!(!folder.exists(), "the folder is left");
    ensure!(own_network()? == before, "the machine's own network changed");
    Ok(())
}

#[test]
fn the_demo_shows_a_virtual_machine_that_reaches_the_world() -> Result<()> {
    let name = format!("demo-{}", std::process::id());
    let output = Command::new(trestle()).args(["lab", "run", "--once", "--name", &name]).output()?;
    let told = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}\n{told}\n{complaints}", output.status);
    for claim in ["vm1: pings 198.51.100.10", "vm1: resolves web1.trestle.internal", "everything worked"] {
        ensure!(told.contains(claim), "`{claim}` is not in:\n{told}");
    }
    ensure!(!Running::base().join(&name).exists(), "the folder is left");
    Ok(())
}

/// A `trestle lab` of which only the outcome counts; killed when dropped.
struct Supervisor(Child);

impl Supervisor {
    fn start(arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(trestle());
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        Ok(Self(command.spawn().context("starting trestle")?))
    }

    /// Waits until the lab is up: its last part, the agent, answers.
    fn lab(&mut self, name: &str) -> Result<Running> {
        until("the lab is up", DEADLINE, || {
            if let Some(status) = self.0.try_wait()? {
                anyhow::bail!("trestle lab ended: {status}");
            }
            let Ok(lab) = Running::find(Some(name)) else { return Ok(None) };
            let trestle = lab.trestle.to_string_lossy().into_owned();
            let asked = lab.command(Node::Named("host1"), &[&trestle, "plan"]).output()?;
            Ok(asked.status.success().then_some(lab))
        })
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process by its id and its start time, which tells it from a later one under the same id.
type Process = (String, String);

/// The processes in the PID namespace of a lab.
fn processes_beside(lab: &Running) -> Result<BTreeSet<Process>> {
    let text = std::fs::read_to_string(lab.folder.join("lab.json"))?;
    let lab: serde_json::Value = serde_json::from_str(&text)?;
    let namespace_of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let ours = namespace_of(&lab["entrance"]["init"].to_string()).context("the lab has no PID 1")?;
    let all = std::fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let members = all.filter(|pid| namespace_of(pid).as_ref() == Some(&ours));
    Ok(members.filter_map(|pid| Some((pid.clone(), start_time(&pid)?))).collect())
}

/// How many of so many bytes `wc` on host1 sees.
fn counted_in_the_lab(lab: &str, bytes: usize) -> Result<String> {
    let mut command = Command::new(trestle());
    command.args(["lab", "exec", "--lab", lab, "host1", "--", "wc", "-c"]);
    let mut counting = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    counting.stdin.take().context("it has an input")?.write_all(&vec![b'x'; bytes])?;
    Ok(String::from_utf8_lossy(&counting.wait_with_output()?.stdout).trim().to_owned())
}

fn nothing_is_left(lab: &Running, members: &BTreeSet<Process>) -> Result<()> {
    until("every process of the lab ends", DEADLINE, || Ok(members.iter().all(is_gone).then_some(())))?;
    until("the lab's folder is removed", DEADLINE, || Ok((!lab.folder.exists()).then_some(())))?;
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    ensure!(!mounts.contains(&lab.name), "a mount is left:\n{mounts}");
    Ok(())
}

fn parent(pid: i32) -> Result<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(')').context("reading a stat file")?;
    rest.split_whitespace().nth(1).and_then(|pid| pid.parse().ok()).context("a process has a parent")
}

fn is_gone((pid, started): &Process) -> bool {
    start_time(pid).is_none_or(|now| now != *started)
}

/// Field 22 of proc_pid_stat(5); the name, field 2, is in parentheses.
fn start_time(pid: &str) -> Option<String> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).ok()?;
    Some(stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.to_owned())
}

/// The machine's own links, addresses, routes and rules.
fn own_network() -> Result<String> {
    let mut all = String::new();
    for arguments in [["-br", "link"], ["-br", "address"], ["-o", "route"], ["netns", "list"]] {
        let output = Command::new("ip").args(arguments).output().context("starting ip")?;
        all += &String::from_utf8_lossy(&output.stdout);
    }
    let rules =
        Command::new("nft").args(["--stateless", "list", "ruleset"]).output().context("starting nft")?;
    Ok(all + &String::from_utf8_lossy(&rules.stdout))
}

fn programs() -> Programs {
    Programs { trestle: trestle().into() }
}

fn trestle() -> &'static str {
    env!("CARGO_BIN_EXE_trestle")
}
