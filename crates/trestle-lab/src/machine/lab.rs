//! A lab in a machine: up, used and down as one that needs no machine.

use std::io::Write;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::door::Stream;
use super::{Machine, MachineOptions};
use crate::asking::Asking;
use crate::image::kernel_version;
use crate::lab::Programs;
use crate::running::Running;
use crate::topology::Topology;

/// What happens to the lab in the machine.
enum News {
    Said(Stream, Vec<u8>),
    Ended(Result<ExitStatus>),
}

/// As [`crate::up::run`], with the lab in a machine. It has the same name, the same folder and
/// the same sockets as if it were here.
pub(crate) fn up(topology: &Topology, programs: &Programs, out: &mut dyn Write) -> Result<()> {
    let version = kernel_version(Path::new("/boot"))?;
    say(
        out,
        &format!("this kernel has no 802.1Q: the lab runs in a virtual machine, under Debian's {version}"),
    )?;
    let machine = Machine::boot(&MachineOptions {
        name: topology.name.clone(),
        trestle: programs.trestle.clone(),
        programs: Vec::new(),
        keep_folder: topology.keep_folder,
    })?;
    let told = hold(&machine, topology, programs, out);
    let console = machine.console();
    drop(machine);
    told.context(console)?;
    say(out, "everything is removed")
}

/// Starts the lab in the machine, shows what it says, and returns when it is to end.
fn hold(machine: &Machine, topology: &Topology, programs: &Programs, out: &mut dyn Write) -> Result<()> {
    /// How late it may be seen that the machine was ended from elsewhere.
    const LOOK: Duration = Duration::from_millis(200);
    let asking = Asking::new()?;
    let interrupts = asking.interrupts()?;
    let news = start(machine, topology, programs);
    let mut is_up = false;
    loop {
        match news.recv_timeout(LOOK) {
            Ok(News::Said(Stream::Complaints, text)) => {
                std::io::stderr().write_all(&text).context("writing to the terminal")?;
            }
            Ok(News::Said(Stream::Output, text)) => {
                // The first thing it says, it says when it stands.
                if !std::mem::replace(&mut is_up, true) {
                    show_here(machine, topology, programs)?;
                }
                out.write_all(&text).and_then(|()| out.flush()).context("writing to the terminal")?;
            }
            Ok(News::Ended(_)) if machine.has_ended() => return Ok(()),
            Ok(News::Ended(status)) => bail!("the lab in the virtual machine ended: {}", status?),
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if interrupts.try_recv().is_ok() || machine.has_ended() {
            return Ok(());
        }
    }
}

fn start(machine: &Machine, topology: &Topology, programs: &Programs) -> Receiver<News> {
    let (tell, told) = channel();
    let door = machine.door();
    let argv = [vec![programs.trestle.display().to_string()], topology.command_line()].concat();
    std::thread::spawn(move || {
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        let status = door.run(&argv, |stream, bytes| Ok(tell.send(News::Said(stream, bytes.to_owned()))?));
        let _ = tell.send(News::Ended(status));
    });
    told
}

/// Makes it look from here as if the lab were here: its token, its sockets and the way in.
fn show_here(machine: &Machine, topology: &Topology, programs: &Programs) -> Result<()> {
    let door = machine.door();
    let running = Running {
        name: topology.name.clone(),
        state_dir: machine.folder.join("controller"),
        trestle: programs.trestle.clone(),
        hosts: topology.hosts.iter().map(|host| host.name.clone()).collect(),
        entrance: machine.universe.entrance(),
        is_in_machine: true,
        folder: machine.folder.clone(),
    };
    running.make_state_folders()?;
    let token = running.state_dir.join("admin.token");
    let read = door.output(&["cat", &token.to_string_lossy()])?;
    crate::running::write_secret(&token, &read.stdout)?;
    let agents = running.hosts.iter().map(|host| running.agent_dir(host).join("agent.sock"));
    for socket in agents.chain([running.state_dir.join("trestle.sock")]) {
        door.offer(socket.clone(), &socket)?;
    }
    running.write()
}

fn say(out: &mut dyn Write, text: &str) -> Result<()> {
    writeln!(out, "{text}").context("writing to the terminal")
}
