//! `trestle lab`: thin calls of the lab's crate.

use std::io;
use std::net::Ipv4Addr;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use trestle_lab::demo::{self, DemoOptions};
use trestle_lab::{Networks, Node, Programs, Running, Topology, init, keep_door, up};

use crate::printer;

/// A whole cloud on this machine: hosts are namespaces, instances namespaces or virtual machines
#[derive(Debug, Subcommand)]
pub(crate) enum LabCommand {
    /// Start a lab and hold it until Ctrl-C
    #[command(after_help = "Example: trestle lab up --hosts 3 --type vlan")]
    Up {
        #[command(flatten)]
        lab: LabArgs,
        /// Make a project and a network of this type: flat_dhcp, vlan, flat, or all of them. Where
        /// the kernel lacks VLANs, the lab runs in a virtual machine
        #[arg(long = "type", value_name = "TYPE")]
        networks: Option<Networks>,
    },
    /// Start a lab and show what Trestle does, a real virtual machine included
    #[command(after_help = "Example: trestle lab run --once")]
    Run {
        #[command(flatten)]
        lab: LabArgs,
        /// End when all is shown, instead of leaving the lab up until Ctrl-C
        #[arg(long)]
        once: bool,
    },
    /// Run a command on a host or in an instance of a lab
    #[command(after_help = "Example: trestle lab exec host1 -- bridge link")]
    Exec {
        #[command(flatten)]
        place: PlaceArgs,
        /// The command and its arguments, behind --
        #[arg(last = true, required = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Open a shell on a host or in an instance of a lab
    #[command(after_help = "Example: trestle lab shell host1")]
    Shell(PlaceArgs),
    /// End a lab; nothing of it is left
    #[command(after_help = "Example: trestle lab down")]
    Down {
        /// The lab's name [default: the only one that is up]
        name: Option<String>,
    },
    /// Be the first process of a lab
    #[command(hide = true)]
    Init {
        /// The lab's folder
        folder: PathBuf,
    },
    /// Answer at the door of the machine that a lab is in
    #[command(hide = true)]
    Door {
        /// The address to listen on
        address: Ipv4Addr,
    },
    /// Run a command in the machine that a lab is in
    #[command(hide = true)]
    Inside {
        /// On a terminal of its own
        #[arg(long)]
        terminal: bool,
        /// The lab's folder
        folder: PathBuf,
        /// The command and its arguments, behind --
        #[arg(last = true, required = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
}

/// A lab to be started.
#[derive(Debug, Args)]
pub(crate) struct LabArgs {
    /// The lab's name, unique on this machine
    #[arg(long, default_value = "lab")]
    name: String,
    /// How many hosts it has
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=200))]
    hosts: u8,
}

/// Somewhere in a lab.
#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    /// host1, outside, switch, controller, or vm-NAME for an instance that is a namespace
    place: String,
    /// The lab's name [default: the only one that is up]
    #[arg(long, value_name = "NAME")]
    lab: Option<String>,
}

pub(crate) fn run(command: LabCommand) -> anyhow::Result<()> {
    match command {
        LabCommand::Up { lab: LabArgs { name, hosts }, networks } => {
            let topology = Topology { networks, ..Topology::new(name, hosts) };
            up::run(&topology, &programs()?, &mut io::stdout())
        }
        LabCommand::Run { lab: LabArgs { name, hosts }, once } => {
            demo::run(&DemoOptions { name, hosts, once }, &programs()?, &mut io::stdout())
        }
        LabCommand::Exec { place, command } => {
            let argv: Vec<&str> = command.iter().map(String::as_str).collect();
            let lab = Running::find(place.lab.as_deref())?;
            become_command(lab.command(place.node(), &argv))
        }
        LabCommand::Shell(place) => become_command(Running::find(place.lab.as_deref())?.shell(place.node())),
        LabCommand::Down { name } => {
            let lab = Running::find(name.as_deref())?;
            lab.down()?;
            printer::say(&format!("ended lab {}", lab.name));
            Ok(())
        }
        LabCommand::Init { folder } => init::run(&folder),
        LabCommand::Door { address } => keep_door(address),
        LabCommand::Inside { terminal, folder, command } => {
            let argv: Vec<&str> = command.iter().map(String::as_str).collect();
            let door = Running::door(&folder)?;
            let status = if terminal { door.attend_terminal(&argv)? } else { door.attend(&argv)? };
            // As a shell says how a command ended.
            let code = status.code().or(status.signal().map(|signal| 128 + signal));
            std::process::exit(code.unwrap_or(1))
        }
    }
}

impl PlaceArgs {
    fn node(&self) -> Node<'_> {
        self.place.as_str().into()
    }
}

/// The lab runs the program that runs the lab.
fn programs() -> anyhow::Result<Programs> {
    let trestle = std::env::current_exe().context("cannot find the program that is running")?;
    Ok(Programs { trestle })
}

/// Runs it in our place, so that its terminal, signals and exit status are its own.
fn become_command(mut command: Command) -> anyhow::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    Err(command.exec()).with_context(|| format!("cannot start {program}"))
}
