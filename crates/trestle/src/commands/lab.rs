//! `trestle lab`: thin calls of the lab's crate.

use std::io;
use std::net::Ipv4Addr;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use trestle_lab::demo::{self, DemoOptions};
use trestle_lab::{NetnsGuest, Networks, Node, Programs, Running, Topology, init, keep_door, up};

use super::Context;
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
        /// An option of the server's configuration, as in vpn_ip=203.0.113.11; may be repeated
        #[arg(long = "server-option", value_name = "KEY=VALUE")]
        server_options: Vec<String>,
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
    /// Make an instance a namespace `vm-INSTANCE`, plugged in on a host, with its addresses
    ///
    /// The instance is there already: `trestle instance create` made it. Its interfaces are eth0,
    /// eth1 and on, in their order; repeat the command for what has come since.
    #[command(after_help = "Example: trestle lab guest web1 --host host1")]
    Guest {
        /// The instance, by name or id
        instance: String,
        /// The host to plug it in on
        #[arg(long)]
        host: String,
        /// Only its interface on this network [default: all it has]
        #[arg(long)]
        network: Option<String>,
        #[command(flatten)]
        lab: WhichLab,
    },
    /// Open a shell on a host or in an instance of a lab
    #[command(after_help = "Example: trestle lab shell host1")]
    Shell(PlaceArgs),
    /// List the labs that are up
    #[command(after_help = "Example: trestle lab list")]
    List,
    /// End a lab; nothing of it is left
    #[command(after_help = "Example: trestle lab down")]
    Down {
        /// The lab's name [default: the only one that is up]
        name: Option<String>,
        /// The same, as the other commands take it
        #[arg(long = "lab", alias = "name", value_name = "NAME", conflicts_with = "name")]
        lab: Option<String>,
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
    #[arg(long, alias = "lab", default_value = "lab")]
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
    #[command(flatten)]
    lab: WhichLab,
}

/// One of the labs that are up.
#[derive(Debug, Args)]
pub(crate) struct WhichLab {
    /// The lab's name [default: the only one that is up]
    #[arg(long, alias = "name", value_name = "NAME")]
    lab: Option<String>,
}

pub(crate) fn run(command: LabCommand, context: &Context) -> anyhow::Result<()> {
    match command {
        LabCommand::Up { lab: LabArgs { name, hosts }, networks, server_options } => {
            let topology = Topology { networks, server_options, ..Topology::new(name, hosts) };
            up::run(&topology, &programs()?, &mut io::stdout())
        }
        LabCommand::Run { lab: LabArgs { name, hosts }, once } => {
            demo::run(&DemoOptions { name, hosts, once }, &programs()?, &mut io::stdout())
        }
        LabCommand::Exec { place, command } => {
            let argv: Vec<&str> = command.iter().map(String::as_str).collect();
            let lab = place.lab.find()?;
            become_command(lab.command(place.node(), &argv))
        }
        LabCommand::Shell(place) => become_command(place.lab.find()?.shell(place.node())),
        LabCommand::Guest { instance, host, network, lab } => {
            guest(&lab.find()?, &instance, &host, network.as_deref())
        }
        LabCommand::List => context.printer().show(&Running::list(), |labs| list(labs)),
        LabCommand::Down { name, lab } => {
            let lab = Running::find(name.or(lab).as_deref())?;
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

/// Makes an instance a namespace and says how to go on, in the machine that the lab is in if it is
/// in one: there are the namespaces.
fn guest(lab: &Running, instance: &str, host: &str, network: Option<&str>) -> anyhow::Result<()> {
    let mut arguments = vec!["guest", instance, "--host", host];
    arguments.extend(network.map(|network| ["--network", network]).into_iter().flatten());
    if let Some(command) = lab.over_there(&arguments) {
        return become_command(command);
    }
    for guest in lab.guest(host, instance, network)? {
        let NetnsGuest { node, attached, .. } = &guest;
        let addresses = printer::listed(&attached.addresses);
        printer::say(&format!("{node} on {} of {host} has {addresses}", attached.network));
        if let Some(gateway) = attached.gateways.first() {
            printer::say(&format!("try: trestle lab exec --lab {} {node} -- ping -c 3 {gateway}", lab.name));
        }
    }
    Ok(())
}

fn list(labs: &[Running]) -> String {
    let row = |lab: &Running| {
        let place = if lab.is_in_machine { "a virtual machine" } else { "namespaces" };
        vec![
            lab.name.clone(),
            lab.hosts.len().to_string(),
            place.to_owned(),
            lab.state_dir.display().to_string(),
        ]
    };
    printer::table(&["NAME", "HOSTS", "IN", "TRESTLE_STATE_DIR"], labs.iter().map(row))
}

impl WhichLab {
    fn find(&self) -> anyhow::Result<Running> {
        Running::find(self.lab.as_deref())
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
