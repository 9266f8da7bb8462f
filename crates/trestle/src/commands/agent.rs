//! `trestle agent`

use std::path::{Path, PathBuf};

use clap::Args;
use trestle_agent::AgentConfig;

use super::Context;
use super::server::shutdown;
use crate::logging::{self, LogArgs};
use crate::settings::{self, SettingsError};

/// Run the agent of this host
///
/// Makes this host's kernel match what the controller says it must have, and keeps it so while
/// the controller is away. Options are read from the file, then the flags win. Ending it changes
/// nothing on the host.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: trestle agent --host kvm1 --controller https://cloud.example.org:7117 --token-file agent.token"
)]
pub(crate) struct AgentArgs {
    /// The file of options [default: /etc/trestle/trestle.toml if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The name of this host, as in `trestle host list`
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Where the controller is [default: --url, else http://127.0.0.1:7117]
    #[arg(long, value_name = "URL")]
    controller: Option<String>,
    /// The folder of its ledger, its socket and the files of every dnsmasq
    /// [default: /var/lib/trestle-agent]
    #[arg(long, value_name = "FOLDER")]
    state_dir: Option<PathBuf>,
    /// The file with the secret that the metadata service knows this host by [default: none, and
    /// instances are not signed for]
    #[arg(long, value_name = "FILE")]
    metadata_secret_file: Option<PathBuf>,
    #[command(flatten)]
    log: LogArgs,
}

pub(crate) async fn run(args: AgentArgs, context: &Context) -> anyhow::Result<()> {
    let config = config(&args, context)?;
    logging::start(&args.log)?;
    Ok(trestle_agent::serve(&config, shutdown()?).await?)
}

fn config(args: &AgentArgs, context: &Context) -> Result<AgentConfig, SettingsError> {
    let mut options = settings::load(args.config.as_deref())?.agent;
    let mut set = |name: &str, flag: Option<String>| {
        if let Some(value) = flag {
            options.insert(name.to_owned(), value.into());
        }
    };
    let path = |path: &Option<PathBuf>| path.as_deref().map(Path::display).map(|path| path.to_string());
    set("host", args.host.clone());
    set("controller", args.controller.clone().or_else(|| context.global.url.clone()));
    set("token_file", path(&context.global.token_file));
    set("ca", path(&context.global.ca));
    set("state_dir", path(&args.state_dir));
    set("metadata_secret_file", path(&args.metadata_secret_file));
    settings::agent_config(options)
}
