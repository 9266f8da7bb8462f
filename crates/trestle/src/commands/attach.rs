//! `trestle attach` and `trestle detach`: what a hypervisor's script calls on a host.

use std::path::{Path, PathBuf};

use clap::Args;
use nix::unistd::User;
use trestle_api::local::{self, LocalError, LocalReply, LocalRequest};
use trestle_api::{Attached, PlugRequest};

use super::Context;
use crate::error::CommandError;
use crate::printer;

/// Where named network namespaces are (ip-netns(8)).
const NAMESPACES: &str = "/run/netns";

/// Plug an instance in on this host and print its device
///
/// Returns when the device is ready, with its guard and its DHCP entry, and prints what a
/// hypervisor needs as JSON: device, mac, addresses, gateways, dns, domain, bridge, mtu.
#[derive(Debug, Args)]
#[command(after_help = "Example: trestle attach web --network public --user qemu")]
pub(crate) struct AttachArgs {
    #[command(flatten)]
    interface: InterfaceArgs,
    /// The user, by name or uid, that may open the tap without privilege [default: root alone]
    #[arg(long)]
    user: Option<String>,
    /// Make a veth instead of a tap and move its other end into this namespace, by path or by
    /// name under /run/netns
    #[arg(long, value_name = "NAMESPACE", conflicts_with = "user")]
    netns: Option<String>,
    /// What the moved end is called in the namespace [default: eth0]
    #[arg(long, value_name = "DEVICE", requires = "netns")]
    name: Option<String>,
}

/// Unplug an instance on this host; it keeps its MAC and addresses
///
/// Returns when the device is gone.
#[derive(Debug, Args)]
#[command(after_help = "Example: trestle detach web --network public")]
pub(crate) struct DetachArgs {
    #[command(flatten)]
    interface: InterfaceArgs,
}

/// Which interface, and whom to ask.
#[derive(Debug, Args)]
struct InterfaceArgs {
    /// The instance, by name or id
    instance: String,
    /// The network; needed where the instance is on several
    #[arg(long)]
    network: Option<String>,
    /// The instance's project, where the name alone is not unique
    #[arg(long)]
    project: Option<String>,
    #[command(flatten)]
    agent: AgentSocket,
}

/// Where this host's agent is.
#[derive(Debug, Args)]
pub(crate) struct AgentSocket {
    /// The socket of this host's agent
    #[arg(
        long,
        env = "TRESTLE_AGENT_SOCKET",
        hide_env_values = true,
        value_name = "PATH",
        default_value = "/var/lib/trestle-agent/agent.sock"
    )]
    agent_socket: PathBuf,
}

impl AgentSocket {
    /// Asks the agent; a refusal is an error.
    pub(crate) async fn call(&self, request: &LocalRequest) -> anyhow::Result<LocalReply> {
        match local::call(&self.agent_socket, request).await? {
            LocalReply::Error(error) => Err(error.into()),
            reply => Ok(reply),
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.agent_socket
    }

    /// For a reply to another question than the one that was asked.
    pub(crate) fn unexpected(&self) -> anyhow::Error {
        let source = serde::de::Error::custom("it answered another question");
        LocalError::Unexpected { socket: self.agent_socket.clone(), source }.into()
    }
}

pub(crate) async fn attach(args: AttachArgs) -> anyhow::Result<()> {
    let plug = plug(&args)?;
    let InterfaceArgs { instance, network, project, agent } = args.interface;
    match agent.call(&LocalRequest::Attach { instance, project, network, plug }).await? {
        LocalReply::Attached(attached) => {
            let Attached { instance, network, device, addresses, .. } = &attached;
            let addresses = printer::listed(addresses);
            printer::say(&format!("attached {instance} to {network} (device {device}, {addresses})"));
            printer::print_json(&attached)
        }
        _ => Err(agent.unexpected()),
    }
}

pub(crate) async fn detach(args: DetachArgs, context: &Context) -> anyhow::Result<()> {
    let InterfaceArgs { instance, network, project, agent } = args.interface;
    match agent.call(&LocalRequest::Detach { instance, project, network }).await? {
        LocalReply::Detached(detached) => {
            let text = format!("detached {} from {}", detached.instance, detached.network);
            context.printer().done(&detached, &text)
        }
        _ => Err(agent.unexpected()),
    }
}

fn plug(args: &AttachArgs) -> Result<PlugRequest, CommandError> {
    match &args.netns {
        Some(netns) => Ok(PlugRequest::Veth { netns: namespace_path(netns)?, name: args.name.clone() }),
        None => Ok(PlugRequest::Tap { owner: args.user.as_deref().map(uid).transpose()? }),
    }
}

fn uid(user: &str) -> Result<u32, CommandError> {
    if let Ok(uid) = user.parse() {
        return Ok(uid);
    }
    match User::from_name(user) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        _ => Err(CommandError::NoUser(user.to_owned())),
    }
}

/// A namespace is given by its path, or by its name among the named ones.
pub(crate) fn namespace(given: &str) -> PathBuf {
    if given.contains('/') { PathBuf::from(given) } else { Path::new(NAMESPACES).join(given) }
}

fn namespace_path(given: &str) -> Result<String, CommandError> {
    let path = namespace(given);
    let missing = || CommandError::NoNamespace { name: given.to_owned(), path: path.clone() };
    let absolute = std::path::absolute(&path).map_err(|_| missing())?;
    // What cannot be looked at may be there; the agent will say.
    if matches!(absolute.try_exists(), Ok(false)) {
        return Err(missing());
    }
    Ok(absolute.display().to_string())
}
