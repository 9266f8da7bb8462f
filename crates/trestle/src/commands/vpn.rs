//! `trestle vpn`

mod user;

use std::net::SocketAddr;

use clap::{ArgGroup, Args, Subcommand};
use trestle_api::client::Client;
use trestle_api::{NewVpn, PageQuery, Vpn, VpnFilter, VpnPatch, VpnState};

use self::user::VpnUserCommand;
use super::Context;
use crate::connection::every_page;
use crate::error::CommandError;
use crate::printer::{self, Confirmation, Printer};

/// VPNs let a project's people into its network
///
/// A project has one VPN, an instance that Trestle runs itself. Each user has an address of the network
/// and a file for OpenVPN or WireGuard.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum VpnCommand {
    /// Make a project's VPN into a network of its own
    ///
    /// It runs on the host that routes for the network. Clients send to a floating IP that is reserved for
    /// it, unless the server's vpn_ip or --ip says otherwise.
    #[command(after_help = CREATE_EXAMPLES)]
    Create(CreateArgs),
    /// List VPNs
    #[command(after_help = "Example: trestle vpn list")]
    List {
        /// Only that of this project
        #[arg(long)]
        project: Option<String>,
    },
    /// Show a project's VPN
    #[command(after_help = "Example: trestle vpn show --project alpha")]
    Show(ProjectArg),
    /// Change where clients send to, or the host that a VPN runs on
    ///
    /// Another address or port cuts its users off until their files say so, too: in these only the line
    /// `remote` is another, or `Endpoint` of WireGuard.
    #[command(after_help = "Example: trestle vpn set --project alpha --port 1195 --yes")]
    Set(SetArgs),
    /// End a project's VPN, with its users and its keys
    #[command(after_help = "Example: trestle vpn delete --project alpha --yes")]
    Delete {
        #[command(flatten)]
        project: ProjectArg,
        #[command(flatten)]
        confirmation: Confirmation,
    },
    /// Make a new certificate authority: every user's file is void then
    #[command(name = "renew-ca", after_help = "Example: trestle vpn renew-ca --project alpha --yes")]
    RenewCa {
        #[command(flatten)]
        project: ProjectArg,
        #[command(flatten)]
        confirmation: Confirmation,
    },
    #[command(subcommand)]
    User(VpnUserCommand),
}

const EXAMPLES: &str = "\
Examples:
  trestle vpn create --project alpha
  trestle vpn user add alice --project alpha -o alice.ovpn
  trestle vpn user list --project alpha
  trestle vpn user revoke alice --project alpha";

const CREATE_EXAMPLES: &str = "\
Examples:
  trestle vpn create --project alpha
  trestle vpn create --project alpha --kind wireguard --network alpha-net
  trestle vpn create --project alpha --ip 203.0.113.20 --port 1194";

/// Whose VPN.
#[derive(Debug, Args)]
pub(crate) struct ProjectArg {
    /// The project whose VPN it is [default: that of the only VPN to be seen]
    #[arg(long)]
    project: Option<String>,
}

impl ProjectArg {
    /// The project's name, or what the person gave for it.
    async fn find(self, client: &Client) -> anyhow::Result<String> {
        if let Some(project) = self.project {
            return Ok(project);
        }
        let page = PageQuery { limit: Some(2), ..PageQuery::default() };
        let mut vpns = client.list_vpns(&VpnFilter::default(), &page).await?.items;
        match (vpns.pop(), vpns.is_empty()) {
            (Some(only), true) => Ok(only.project.to_string()),
            (Some(_), false) => Err(CommandError::SeveralVpns.into()),
            (None, _) => Err(CommandError::NoVpn.into()),
        }
    }
}

/// A new VPN.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The project [default: a member's own]
    #[arg(long)]
    project: Option<String>,
    /// openvpn or wireguard [default: openvpn]
    #[arg(long)]
    kind: Option<String>,
    /// The network it leads into [default: the project's only one]
    #[arg(long)]
    network: Option<String>,
    /// The address that clients send to [default: the server's vpn_ip, else a floating IP of its own]
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,
    /// The UDP port there [default: the first that is free, from the server's vpn_start on]
    #[arg(long)]
    port: Option<u16>,
    /// The host it runs on, of a network that many hosts route for [default: where most of the project is]
    #[arg(long)]
    host: Option<String>,
}

/// What can change about a VPN.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("setting").required(true).multiple(true))]
pub(crate) struct SetArgs {
    #[command(flatten)]
    project: ProjectArg,
    /// The address that clients send to
    #[arg(long, value_name = "ADDRESS", group = "setting")]
    ip: Option<String>,
    /// The UDP port there
    #[arg(long, group = "setting")]
    port: Option<u16>,
    /// The host it runs on, of a network that many hosts route for
    #[arg(long, group = "setting")]
    host: Option<String>,
    #[command(flatten)]
    confirmation: Confirmation,
}

pub(crate) async fn run(command: VpnCommand, context: &Context) -> anyhow::Result<()> {
    let client = context.client()?;
    let printer = context.printer();
    match command {
        VpnCommand::Create(CreateArgs { project, kind, network, ip, port, host }) => {
            let new = NewVpn { project, kind, network, ip, port, host };
            let vpn = client.create_vpn(&new).await?;
            printer.done(&vpn, &created(&vpn))?;
            say_note(&vpn);
            Ok(())
        }
        VpnCommand::List { project } => {
            let filter = VpnFilter { project };
            let page = every_page(async |page| client.list_vpns(&filter, &page).await).await?;
            printer.show(&page, |page| list(&page.items))
        }
        VpnCommand::Show(project) => {
            let project = project.find(&client).await?;
            printer.show(&client.vpn(&project).await?, show)
        }
        VpnCommand::Set(args) => set(&client, printer, args).await,
        VpnCommand::Delete { project, confirmation } => {
            let project = project.find(&client).await?;
            let thing = format!("the VPN of project {project}");
            printer::confirm(&confirmation, printer::DELETE, &thing)?;
            client.delete_vpn(&project).await?;
            printer::say(&format!("deleted {thing}"));
            Ok(())
        }
        VpnCommand::RenewCa { project, confirmation } => {
            renew_ca(&client, printer, (project, confirmation)).await
        }
        VpnCommand::User(command) => user::run(command, &client, printer).await,
    }
}

async fn set(client: &Client, printer: Printer, args: SetArgs) -> anyhow::Result<()> {
    let SetArgs { project, ip, port, host, confirmation } = args;
    let project = project.find(client).await?;
    let before = client.vpn(&project).await?;
    let sends_elsewhere = ip.as_ref().is_some_and(|ip| *ip != before.ip.to_string())
        || port.is_some_and(|port| port != before.port);
    if sends_elsewhere && before.users > 0 {
        let users = printer::counted(before.users, "user");
        let thing =
            format!("where clients of the VPN of project {} send to (cuts off {users})", before.project);
        printer::confirm(&confirmation, printer::CHANGE, &thing)?;
    }
    let vpn = client.patch_vpn(&project, &VpnPatch { ip, port, host }).await?;
    printer.done(&vpn, &format!("changed the VPN of project {}{}", vpn.project, standing(&vpn)))?;
    say_note(&vpn);
    if (before.ip, before.port) != (vpn.ip, vpn.port) && vpn.users > 0 {
        printer::say(&format!(
            "clients send to {} now: in users' files only the line `{}` is another; `trestle vpn user renew NAME --project {}` makes a whole new file",
            endpoint(&vpn),
            endpoint_line(&vpn),
            vpn.project
        ));
    }
    Ok(())
}

async fn renew_ca(
    client: &Client,
    printer: Printer,
    (project, confirmation): (ProjectArg, Confirmation),
) -> anyhow::Result<()> {
    let project = project.find(client).await?;
    let thing = format!("the certificate authority of project {project}'s VPN");
    printer::confirm(&confirmation, printer::RENEW, &thing)?;
    let renewed = client.renew_vpn_ca(&project).await?;
    printer.done(&renewed, &format!("renewed {thing}"))?;
    if !renewed.void.is_empty() {
        printer::say(&format!(
            "void now: the files of {}; `trestle vpn user renew NAME --project {project}` makes another",
            printer::listed(&renewed.void)
        ));
    }
    Ok(())
}

fn say_note(vpn: &Vpn) {
    if let Some(note) = &vpn.note {
        printer::say(&format!("note: {note}"));
    }
}

fn created(vpn: &Vpn) -> String {
    format!(
        "created a VPN of kind {} for project {} into network {}: clients send to {}{}",
        vpn.kind,
        vpn.project,
        vpn.network,
        endpoint(vpn),
        standing(vpn)
    )
}

/// Where clients send to.
fn endpoint(vpn: &Vpn) -> String {
    format!("{} port {}", vpn.ip, vpn.port)
}

/// The line of a client's file that says so.
fn endpoint_line(vpn: &Vpn) -> String {
    match vpn.kind.as_str() {
        "wireguard" => format!("Endpoint = {}", SocketAddr::new(vpn.ip, vpn.port)),
        _ => format!("remote {} {}", vpn.ip, vpn.port),
    }
}

/// What its host says of it, at the end of a sentence.
fn standing(vpn: &Vpn) -> String {
    let Some(host) = &vpn.host else { return ", which no host runs yet".to_owned() };
    match (vpn.state, &vpn.problem) {
        (VpnState::Active | VpnState::Pending, _) => format!(", on {host}"),
        (VpnState::Failed, Some(problem)) => format!(", on {host}, which cannot run it: {problem}"),
        (VpnState::Failed, None) => format!(", on {host}, which cannot run it"),
    }
}

fn list(vpns: &[Vpn]) -> String {
    let row = |vpn: &Vpn| {
        vec![
            vpn.project.to_string(),
            vpn.kind.clone(),
            vpn.network.to_string(),
            vpn.ip.to_string(),
            vpn.port.to_string(),
            printer::or_dash(vpn.host.as_ref()),
            printer::word(&vpn.state),
            vpn.users.to_string(),
            vpn.connected.to_string(),
        ]
    };
    let header = ["PROJECT", "KIND", "NETWORK", "IP", "PORT", "HOST", "STATE", "USERS", "CONNECTED"];
    printer::table(&header, vpns.iter().map(row))
}

fn show(vpn: &Vpn) -> String {
    let mut fields = vec![
        ("project", vpn.project.to_string()),
        ("kind", vpn.kind.clone()),
        ("instance", vpn.instance.to_string()),
        ("network", vpn.network.to_string()),
        ("address", vpn.address.to_string()),
        ("clients send to", endpoint(vpn)),
        ("host", printer::or_dash(vpn.host.as_ref())),
        ("state", printer::word(&vpn.state)),
    ];
    fields.extend(vpn.problem.iter().map(|problem| ("problem", problem.clone())));
    fields.extend(vpn.note.iter().map(|note| ("note", note.clone())));
    fields.push(("users", vpn.users.to_string()));
    fields.push(("connected", vpn.connected.to_string()));
    fields.extend(vpn.ca_expires_at.iter().map(|at| ("authority ends", printer::time(*at))));
    fields.push(("created", printer::time(vpn.created_at)));
    printer::fields(&fields)
}
