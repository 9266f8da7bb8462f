//! The controller, as the agent sees it: where spec updates come from and reports go.
//!
//! Both go on for ever, with pauses that grow while the controller is away. That it went and came
//! back is logged once each. Nothing here touches the host.

use std::error::Error;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use trestle_api::agent::{Report, SpecQuery};
use trestle_api::local::ControllerLink;
use trestle_api::spec::SpecUpdate;
use trestle_api::types::Name;
use trestle_api::vpn::VpnIdentity;
use trestle_api::{ApiError, AttachRequest, Attached, Client, ClientConfig, ClientError};

use crate::backoff::Backoff;
use crate::{AgentConfig, error_chain};

/// How long the controller is asked to wait for a change, in seconds.
const LONG_POLL: u32 = 30;
/// A report is sent at least this often, so that the controller knows that the agent lives.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// What the agent asks of the controller. Tests have one that follows a script.
pub trait Controller: Send + Sync + 'static {
    /// What the host must have; waits as the query says, `None` if nothing changed.
    fn spec(
        &self,
        query: &SpecQuery,
    ) -> impl Future<Output = Result<Option<SpecUpdate>, ControllerError>> + Send;

    /// Says what the agent saw.
    fn report(&self, report: &Report) -> impl Future<Output = Result<(), ControllerError>> + Send;

    /// Plugs an interface in on this host.
    fn attach(
        &self,
        instance: &str,
        project: Option<&str>,
        request: &AttachRequest,
    ) -> impl Future<Output = Result<Attached, ControllerError>> + Send;

    /// Unplugs an interface.
    fn detach(
        &self,
        instance: &str,
        project: Option<&str>,
        network: Option<&str>,
    ) -> impl Future<Output = Result<Attached, ControllerError>> + Send;
}

/// Why the controller did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// It said no.
    #[error("the controller refused")]
    Refused(#[source] ApiError),
    /// It did not answer, or not in a way that can be understood.
    #[error("no answer from the controller")]
    NoAnswer(#[source] Box<dyn Error + Send + Sync>),
}

/// A controller over the network, asked for one host.
#[derive(Clone, Debug)]
pub struct RemoteController {
    client: Client,
    host: String,
}

/// Why an agent cannot even ask its controller.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The file with the token.
    #[error("cannot read the agent's token from {path}")]
    Token {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The URL, the token or the certificates are of no use.
    #[error("cannot ask the controller")]
    Client(#[source] ClientError),
}

impl RemoteController {
    /// Reads the token and prepares connections; the controller need not be there yet.
    pub fn new(config: &AgentConfig) -> Result<Self, ConnectError> {
        let path = config.token_path();
        let token = std::fs::read_to_string(&path).map_err(|source| ConnectError::Token { path, source })?;
        let client = Client::new(ClientConfig {
            url: config.controller.clone(),
            token: Some(token.trim().to_owned()),
            ca_cert: config.ca.clone(),
        });
        Ok(Self { client: client.map_err(ConnectError::Client)?, host: config.host.clone() })
    }
}

impl RemoteController {
    /// The keys of a VPN that runs on this host.
    pub(crate) async fn vpn_identity(&self, vpn: &Name) -> Result<VpnIdentity, ControllerError> {
        Ok(self.client.vpn_identity(&self.host, vpn.as_str()).await?)
    }
}

impl Controller for RemoteController {
    async fn spec(&self, query: &SpecQuery) -> Result<Option<SpecUpdate>, ControllerError> {
        Ok(self.client.spec(&self.host, query).await?)
    }

    async fn report(&self, report: &Report) -> Result<(), ControllerError> {
        Ok(self.client.report(&self.host, report).await?)
    }

    async fn attach(
        &self,
        instance: &str,
        project: Option<&str>,
        request: &AttachRequest,
    ) -> Result<Attached, ControllerError> {
        Ok(self.client.attach(instance, project, request).await?)
    }

    async fn detach(
        &self,
        instance: &str,
        project: Option<&str>,
        network: Option<&str>,
    ) -> Result<Attached, ControllerError> {
        Ok(self.client.detach(instance, project, network).await?)
    }
}

impl From<ClientError> for ControllerError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Api { error, .. } => Self::Refused(error),
            other => Self::NoAnswer(Box::new(other)),
        }
    }
}

/// Whether the controller can be reached; all who ask it tell each other here.
#[derive(Debug)]
pub(crate) struct Connection(watch::Sender<ControllerLink>);

impl Connection {
    /// Nobody has asked yet.
    pub(crate) fn new() -> Self {
        let link = ControllerLink { connected: false, since: Timestamp::now(), error: None };
        Self(watch::Sender::new(link))
    }

    /// How it stands.
    pub(crate) fn link(&self) -> ControllerLink {
        self.0.borrow().clone()
    }

    /// Passes on an answer, and notes whether there was one. That the controller refused something
    /// tells nothing about the next thing it is asked.
    pub(crate) fn note<T>(&self, answer: Result<T, ControllerError>) -> Result<T, ControllerError> {
        match &answer {
            Ok(_) => self.is_up(),
            Err(error @ ControllerError::NoAnswer(_)) => self.is_down(error),
            Err(ControllerError::Refused(_)) => {}
        }
        answer
    }

    fn is_up(&self) {
        let went_up = self.0.send_if_modified(|link| {
            let before = link.connected;
            if !before {
                *link = ControllerLink { connected: true, since: Timestamp::now(), error: None };
            }
            !before
        });
        if went_up {
            tracing::info!("connected to the controller");
        }
    }

    /// A controller that is away says so in many ways while it goes and comes; only that it is
    /// away, and why at first, is worth a line.
    fn is_down(&self, error: &ControllerError) {
        let reason = error_chain(error);
        let went_down = self.0.send_if_modified(|link| {
            let is_news = link.connected || link.error.is_none();
            if link.connected {
                link.since = Timestamp::now();
            }
            link.connected = false;
            link.error = Some(reason.clone());
            is_news
        });
        if went_down {
            tracing::warn!(error = reason, "lost the controller; the host is kept as it was last asked for");
        }
    }

    /// Waits this long, or until somebody reached the controller.
    async fn pause(&self, time: Duration) {
        let mut link = self.0.subscribe();
        // Only somebody who holds the sender calls this, so it cannot be gone.
        let _ = tokio::time::timeout(time, link.wait_for(|link| link.connected)).await;
    }
}

fn controller_backoff() -> Backoff {
    Backoff::new(Duration::from_millis(200), Duration::from_secs(5))
}

/// Asks the controller for spec updates, one after the other, and hands them to the loop.
pub(crate) struct Follower<C> {
    /// Who is asked.
    pub(crate) controller: Arc<C>,
    /// Whether it answers.
    pub(crate) connection: Arc<Connection>,
    /// Where updates go.
    pub(crate) updates: mpsc::Sender<SpecUpdate>,
    /// Notified when an update did not join and everything is needed.
    pub(crate) everything: Arc<Notify>,
    /// Where it is said whether the last update is the last word.
    pub(crate) confirmed: watch::Sender<bool>,
}

impl<C: Controller> Follower<C> {
    fn is_confirmed(&self, confirmed: bool) {
        self.confirmed.send_if_modified(|before| std::mem::replace(before, confirmed) != confirmed);
    }

    /// Follows from this generation, or from everything; ends when the loop does.
    pub(crate) async fn follow(self, mut since: Option<u64>) {
        let mut backoff = controller_backoff();
        loop {
            // At first it is enough to hear that nothing changed.
            let wait = if *self.confirmed.borrow() { LONG_POLL } else { 0 };
            let query = SpecQuery { since, wait: Some(wait) };
            let answer = tokio::select! {
                biased;
                () = self.everything.notified() => {
                    since = None;
                    continue;
                }
                answer = self.controller.spec(&query) => answer,
            };
            match self.connection.note(answer) {
                Ok(None) => {
                    backoff.succeeded();
                    self.is_confirmed(true);
                }
                Ok(Some(update)) => {
                    backoff.succeeded();
                    since = Some(update.generation);
                    if self.updates.send(update).await.is_err() {
                        return;
                    }
                    self.is_confirmed(true);
                }
                Err(error) => {
                    self.is_confirmed(false);
                    // Without a spec there is no controller, whatever it says.
                    self.connection.is_down(&error);
                    self.connection.pause(backoff.failed()).await;
                }
            }
        }
    }
}

/// Sends the report: at once when it changed, and every now and then all the same.
pub(crate) struct Reporter<C> {
    controller: Arc<C>,
    connection: Arc<Connection>,
    report: Arc<watch::Sender<Report>>,
    changes: watch::Receiver<Report>,
}

impl<C: Controller> Reporter<C> {
    /// Every change from here on is told, even one that comes before the first report.
    pub(crate) fn new(
        controller: Arc<C>,
        connection: Arc<Connection>,
        report: Arc<watch::Sender<Report>>,
    ) -> Self {
        let changes = report.subscribe();
        Self { controller, connection, report, changes }
    }

    /// Goes on for ever. Changes that come while a report is under way go with the next one.
    pub(crate) async fn send_reports(mut self) {
        loop {
            let heartbeat = tokio::time::sleep_until(Instant::now() + HEARTBEAT);
            tokio::select! {
                // The sender is held here, so the wait cannot fail.
                _ = self.changes.changed() => {}
                () = heartbeat => {}
            }
            self.deliver().await;
        }
    }

    async fn deliver(&mut self) {
        let mut backoff = controller_backoff();
        let mut refused = false;
        loop {
            let report = self.changes.borrow_and_update().clone();
            match self.connection.note(self.controller.report(&report).await) {
                Ok(()) => return self.forget_drift(report.drift.len()),
                Err(ControllerError::NoAnswer(_)) => self.connection.pause(backoff.failed()).await,
                Err(ControllerError::Refused(error)) => {
                    if !std::mem::replace(&mut refused, true) {
                        tracing::warn!(code = error.code, %error, "the controller refuses the report");
                    }
                    tokio::time::sleep(backoff.failed()).await;
                }
            }
        }
    }

    /// Drift is told once. Newer drift is behind what was delivered and stays.
    fn forget_drift(&self, delivered: usize) {
        self.report.send_if_modified(|report| {
            report.drift.drain(..delivered.min(report.drift.len()));
            false
        });
    }
}
