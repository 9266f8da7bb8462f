//! `trestle server`

use std::path::PathBuf;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use trestle_api::types::LinkName;
use trestle_controller::app::App;
use trestle_controller::config::ControllerConfig;
use trestle_controller::server::Server;

use crate::logging::{self, LogArgs};
use crate::{printer, settings};

/// Run the controller
///
/// Options are read from the file, then the flags win. Ends on SIGINT or SIGTERM, after the
/// requests that are under way.
#[derive(Debug, Args)]
#[command(after_help = "Example: trestle server --flat-network-bridge br100")]
pub(crate) struct ServerArgs {
    /// The file of options [default: /etc/trestle/trestle.toml if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder of the database, the admin token and the local socket
    /// [default: /var/lib/trestle]
    #[arg(long, value_name = "FOLDER", env = "TRESTLE_STATE_DIR", hide_env_values = true)]
    state_dir: Option<PathBuf>,
    /// sqlite:PATH or postgres://USER@HOST/NAME [default: sqlite:FOLDER/trestle.db]
    #[arg(long, value_name = "URL", env = "TRESTLE_DATABASE", hide_env_values = true)]
    database: Option<String>,
    /// ADDRESS:PORT or unix:PATH; may be repeated
    /// [default: 127.0.0.1:7117 and unix:FOLDER/trestle.sock]
    #[arg(long, value_name = "WHERE")]
    listen: Vec<String>,
    /// The certificate chain, PEM; needed to listen beyond loopback
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Listen beyond loopback without TLS: tokens can be read on the way
    #[arg(long)]
    insecure: bool,
    /// The bridge of networks that name none
    #[arg(long, value_name = "DEVICE")]
    flat_network_bridge: Option<LinkName>,
    /// Print every option with its meaning and value as a file of options, and end
    #[arg(long)]
    print_config: bool,
    #[command(flatten)]
    log: LogArgs,
}

pub(crate) async fn run(args: ServerArgs) -> anyhow::Result<()> {
    let mut settings = settings::load(args.config.as_deref())?;
    override_with(&mut settings.server, &args);
    if args.print_config {
        return printer::print_text(&settings::print(&settings)?);
    }
    logging::start(&args.log)?;
    // rustls wants one provider for the whole process; somebody else having set it is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let shutdown = shutdown()?;
    // The addresses first: a second controller must not begin to work on the first one's database.
    let server = Server::bind(&settings.server).await?;
    let app = App::open(&settings.server).await?;
    server.run(app.clone(), shutdown).await;
    app.close().await;
    Ok(())
}

fn override_with(config: &mut ControllerConfig, args: &ServerArgs) {
    if let Some(state_dir) = &args.state_dir {
        config.state_dir = state_dir.clone();
    }
    if !args.listen.is_empty() {
        config.listen = Some(args.listen.clone());
    }
    config.insecure |= args.insecure;
    replace(&mut config.database, &args.database);
    replace(&mut config.tls_cert, &args.tls_cert);
    replace(&mut config.tls_key, &args.tls_key);
    replace(&mut config.flat_network_bridge, &args.flat_network_bridge);
}

fn replace<T: Clone>(option: &mut Option<T>, flag: &Option<T>) {
    if flag.is_some() {
        option.clone_from(flag);
    }
}

/// Done when the process is asked to end. The handlers stand when this returns, so that a signal
/// during the start is not lost.
pub(crate) fn shutdown() -> anyhow::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
