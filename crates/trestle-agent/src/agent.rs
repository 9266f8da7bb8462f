//! An agent as a whole: its state folder, its loop and the tasks around it.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::future::Future;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{self, Notify, mpsc};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep};

use crate::config::AgentConfig;
use crate::controller::{ConnectError, Connection, Controller, Follower, RemoteController, Reporter};
use crate::host::{Host, LinuxHost, OpenError};
use crate::ledger::{Ledger, LedgerError};
use crate::metadata::{MetadataSecret, SecretError};
use crate::news;
use crate::reconcile::{Inputs, Loop, Outputs, watch, watch_connections};
use crate::socket::{ListenError, LocalServer, listen};

/// How many spec updates, changes or questions may wait for the loop.
const QUEUE: usize = 64;

/// How long an agent waits for the one before it to be gone.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
/// How long between two looks at whether it is.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Why an agent cannot start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The state folder cannot be made or locked.
    #[error("cannot use the state folder {path}")]
    StateDir {
        /// The folder.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another agent keeps its state in the same folder.
    #[error("another agent runs with the state folder {path}")]
    AlreadyRunning {
        /// The folder.
        path: PathBuf,
    },
    /// The ledger cannot be opened.
    #[error("cannot use the ledger")]
    Ledger(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The local socket cannot be made.
    #[error("cannot answer programs on this host")]
    Socket(#[source] ListenError),
    /// The controller cannot be asked.
    #[error("cannot speak to the controller")]
    Controller(#[source] ConnectError),
    /// There is no secret to sign for instances with.
    #[error("cannot sign for instances to the metadata service")]
    MetadataSecret(#[source] SecretError),
    /// The host cannot be kept.
    #[error("cannot keep this host")]
    Host(#[source] OpenError),
    /// A task of the agent panicked.
    #[error("a task of the agent ended")]
    Task(#[source] JoinError),
}

/// Keeps this Linux host until `shutdown`.
pub async fn serve(config: &AgentConfig, shutdown: impl Future<Output = ()>) -> Result<(), AgentError> {
    let secret = config.metadata_secret_file.as_deref().map(MetadataSecret::read);
    let secret = secret.transpose().map_err(AgentError::MetadataSecret)?;
    make_state_dir(&config.state_dir)?;
    let controller = RemoteController::new(config).map_err(AgentError::Controller)?;
    let mut host = LinuxHost::open(&config.state_dir, secret).map_err(AgentError::Host)?;
    host.take_vpn_keys_from(Arc::new(controller.clone()));
    run(config, host, controller, shutdown).await
}

/// Keeps a host until `shutdown`: first as the ledger says, without waiting for the controller,
/// then as the controller says. Ending takes nothing down.
pub async fn run<H: Host, C: Controller>(
    config: &AgentConfig,
    host: H,
    controller: C,
    shutdown: impl Future<Output = ()>,
) -> Result<(), AgentError> {
    make_state_dir(&config.state_dir)?;
    let _lock = lock(&config.state_dir).await?;
    let (ledger, content) = Ledger::open(&config.state_dir).map_err(ledger_error)?;
    let host = Arc::new(host);
    let listener = listen(&config.socket_path()).map_err(AgentError::Socket)?;
    let (updates_in, updates) = mpsc::channel(QUEUE);
    let (changes_in, changes) = mpsc::channel(QUEUE);
    let (questions_in, questions) = mpsc::channel(QUEUE);
    let report = Arc::new(sync::watch::Sender::new(news::first_report(host.missing_features())));
    let everything = Arc::new(Notify::new());
    let outputs = Outputs { report: Arc::clone(&report), everything: Arc::clone(&everything) };
    let (confirmed_in, confirmed) = sync::watch::channel(false);
    let inputs = Inputs { updates, changes, questions, confirmed };
    let the_loop = Loop::new(Arc::clone(&host), ledger, content, inputs, outputs);
    let since = the_loop.generation();
    tracing::info!(
        host = config.host,
        controller = config.controller,
        generation = since,
        "the agent starts"
    );

    let connection = Arc::new(Connection::new());
    let controller = Arc::new(controller);
    let follower = Follower {
        controller: Arc::clone(&controller),
        connection: Arc::clone(&connection),
        updates: updates_in,
        everything,
        confirmed: confirmed_in,
    };
    let local = LocalServer {
        host: config.host.clone(),
        controller: Arc::clone(&controller),
        connection: Arc::clone(&connection),
        report: report.subscribe(),
        questions: questions_in,
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(watch_connections(Arc::clone(&host), Arc::clone(&report)));
    let reporter = Reporter::new(controller, connection, report);
    tasks.spawn(watch(host, changes_in));
    tasks.spawn(follower.follow(since));
    tasks.spawn(reporter.send_reports());
    tasks.spawn(local.serve(listener));
    // Dropping the set ends the tasks, once the loop is done or one of them has failed.
    tokio::select! {
        () = the_loop.run(shutdown) => Ok(()),
        ended = failed_task(&mut tasks) => Err(AgentError::Task(ended)),
    }
}

/// The first task that panics. None of them ends otherwise while the loop runs.
async fn failed_task(tasks: &mut JoinSet<()>) -> JoinError {
    loop {
        match tasks.join_next().await {
            Some(Err(error)) => return error,
            Some(Ok(())) => {}
            None => std::future::pending().await,
        }
    }
}

/// Others may look into the folder, because a dnsmasq that gave up its privileges reads its files
/// there. What only root may read or write has a mode of its own.
fn make_state_dir(path: &Path) -> Result<(), AgentError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(|source| AgentError::StateDir { path: path.to_owned(), source })
}

/// Held for as long as the file is open; the kernel lets go of it however the agent ends. One that was
/// killed while it started a program has left the file to that program until it is executed.
async fn lock(state_dir: &Path) -> Result<File, AgentError> {
    let failed = |source| AgentError::StateDir { path: state_dir.to_owned(), source };
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(state_dir.join("agent.lock")).map_err(failed)?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => sleep(LOOK_AGAIN).await,
            Err(TryLockError::WouldBlock) => {
                return Err(AgentError::AlreadyRunning { path: state_dir.to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
    }
}

fn ledger_error(error: LedgerError) -> AgentError {
    AgentError::Ledger(Box::new(error))
}
