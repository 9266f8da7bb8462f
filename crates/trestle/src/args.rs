//! The command line as a whole. Each noun's own arguments are with its commands.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands;

const ENVIRONMENT: &str = "\
Environment:
  TRESTLE_URL           where the controller is, as --url
  TRESTLE_TOKEN         the token to call it with
  TRESTLE_CA            the certificate authority of the controller's certificate, as --ca
  TRESTLE_STATE_DIR     the controller's state folder, where trestle.sock and admin.token are
                        looked for [default: /var/lib/trestle]
  TRESTLE_AGENT_SOCKET  the agent's socket, as --agent-socket
  TRESTLE_LOG           what server and agent log, such as `info,trestle_agent=debug`
  NO_COLOR              set to anything, output has no colour

Exit status:
  0  it is done
  1  it failed
  2  the command line is wrong

Example: trestle status";

/// Networks for virtual machines.
///
/// On the controller's machine the commands find the server and its admin token by themselves;
/// elsewhere give --url and --token-file, or TRESTLE_URL and TRESTLE_TOKEN.
#[derive(Debug, Parser)]
#[command(name = "trestle", version, after_help = ENVIRONMENT, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// Where the controller is: http://HOST:PORT, https://HOST:PORT or unix:/PATH
    #[arg(long, global = true, env = "TRESTLE_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// A file that holds the token; wins over TRESTLE_TOKEN
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// A PEM file with the certificate authority of the controller's certificate
    #[arg(long, global = true, env = "TRESTLE_CA", hide_env_values = true, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Print JSON, for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Server(commands::server::ServerArgs),
    Agent(commands::agent::AgentArgs),
    Status(commands::status::StatusArgs),
    #[command(subcommand)]
    Project(commands::project::ProjectCommand),
    #[command(subcommand)]
    Host(commands::host::HostCommand),
    #[command(subcommand)]
    Network(commands::network::NetworkCommand),
    #[command(subcommand)]
    Instance(commands::instance::InstanceCommand),
    #[command(subcommand, name = "fixed-ip")]
    FixedIp(commands::fixed_ip::FixedIpCommand),
    #[command(subcommand)]
    Pool(commands::pool::PoolCommand),
    #[command(subcommand, name = "floating-ip")]
    FloatingIp(commands::floating_ip::FloatingIpCommand),
    #[command(subcommand, name = "security-group")]
    SecurityGroup(commands::security_group::SecurityGroupCommand),
    #[command(subcommand, name = "address-group")]
    AddressGroup(commands::address_group::AddressGroupCommand),
    #[command(subcommand)]
    Vpn(commands::vpn::VpnCommand),
    #[command(subcommand)]
    Dns(commands::dns::DnsCommand),
    #[command(subcommand)]
    Address(commands::address::AddressCommand),
    #[command(subcommand)]
    Token(commands::token::TokenCommand),
    Events(commands::events::EventsArgs),
    Explain(commands::explain::ExplainArgs),
    Attach(commands::attach::AttachArgs),
    Detach(commands::attach::DetachArgs),
    Inject(commands::inject::InjectArgs),
    Plan(commands::plan::PlanArgs),
    Doctor(commands::doctor::DoctorArgs),
    #[command(subcommand)]
    Lab(commands::lab::LabCommand),
    Completions(commands::completions::CompletionsArgs),
    Man(commands::completions::ManArgs),
}
