//! The local socket: programs on the host, such as a hypervisor's hooks, ask here.
//!
//! An attach is the controller's to decide. The agent passes it on, waits until its loop has
//! worked through the generation of the answer, and only then says that the device is ready.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use trestle_api::agent::Report;
use trestle_api::local::{AgentStatus, LocalReply, LocalRequest};
use trestle_api::{ApiError, AttachRequest, Attached};
use trestle_core::plan::Problem;
use trestle_core::spec::{Key, Set, Table};

use crate::controller::{Connection, Controller, ControllerError};
use crate::error_chain;
use crate::reconcile::Question;

/// How long an attach or a detach may take in all.
const DEADLINE: Duration = Duration::from_secs(10);
/// The longest request, in bytes; the longest real one has a few hundred.
const LONGEST: u64 = 64 * 1024;

/// Why the socket cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {path}")]
pub struct ListenError {
    path: PathBuf,
    source: io::Error,
}

/// Listens on this path with mode 0600, in place of what an agent before left there. The socket
/// is made in a folder that nobody else can enter, so it has its mode before anyone can reach it.
pub(crate) fn listen(path: &Path) -> Result<UnixListener, ListenError> {
    let private = path.with_extension("new");
    let bind = || {
        match std::fs::remove_dir_all(&private) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => DirBuilder::new().mode(0o700).create(&private)?,
        }
        let unnamed = private.join("sock");
        let listener = UnixListener::bind(&unnamed)?;
        std::fs::set_permissions(&unnamed, PermissionsExt::from_mode(0o600))?;
        std::fs::rename(&unnamed, path)?;
        std::fs::remove_dir(&private)?;
        Ok(listener)
    };
    bind().map_err(|source| ListenError { path: path.to_owned(), source })
}

/// Answers programs on the host.
pub(crate) struct LocalServer<C> {
    /// The host's name, as the agent was told.
    pub(crate) host: String,
    /// Who decides.
    pub(crate) controller: Arc<C>,
    /// Whether it answers.
    pub(crate) connection: Arc<Connection>,
    /// How far the loop is.
    pub(crate) report: watch::Receiver<Report>,
    /// To the loop.
    pub(crate) questions: mpsc::Sender<Question>,
}

impl<C: Controller> LocalServer<C> {
    /// Goes on for ever, each connection for itself.
    pub(crate) async fn serve(self, listener: UnixListener) {
        let server = Arc::new(self);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let server = Arc::clone(&server);
                        connections.spawn(async move { server.converse(stream).await });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept on the agent's socket");
                        // Out of file descriptors, most likely: accepting at once would spin.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }

    /// One request, one reply. A program that goes away meanwhile misses the reply, nothing else.
    async fn converse(&self, mut stream: UnixStream) {
        let (read, mut write) = stream.split();
        let mut line = Vec::new();
        let received = BufReader::new(read.take(LONGEST)).read_until(b'\n', &mut line).await;
        if received.is_err() || line.is_empty() {
            return;
        }
        let reply = match serde_json::from_slice(&line) {
            Ok(request) => self.answer(request).await.unwrap_or_else(LocalReply::Error),
            Err(error) => LocalReply::Error(api_error("malformed", format!("not a request: {error}"), None)),
        };
        let mut bytes = serde_json::to_vec(&reply).expect("a reply has only maps with text keys");
        bytes.push(b'\n');
        if let Err(error) = write.write_all(&bytes).await {
            tracing::debug!(%error, "nobody took the reply");
        }
    }

    async fn answer(&self, request: LocalRequest) -> Result<LocalReply, ApiError> {
        match request {
            LocalRequest::Attach { instance, project, network, plug } => {
                let request = AttachRequest { host: None, network, plug };
                let asked = self.controller.attach(&instance, project.as_deref(), &request);
                self.change(asked, keeps_from_standing).await.map(LocalReply::Attached)
            }
            LocalRequest::Detach { instance, project, network } => {
                let asked = self.controller.detach(&instance, project.as_deref(), network.as_deref());
                self.change(asked, keeps_from_going).await.map(LocalReply::Detached)
            }
            LocalRequest::Plan => self.plan().await,
            LocalRequest::Status => self.status().await,
            LocalRequest::Spec => self.ask(Question::Spec).await.map(LocalReply::Spec),
        }
    }

    /// Has the controller change its intent and waits until the host has followed; a problem that
    /// `concerns` what was asked is its failure.
    async fn change(
        &self,
        asked: impl Future<Output = Result<Attached, ControllerError>>,
        concerns: fn(&Problem, &Attached) -> bool,
    ) -> Result<Attached, ApiError> {
        let deadline = Instant::now() + DEADLINE;
        let answer = match tokio::time::timeout_at(deadline, asked).await {
            Ok(answer) => self.connection.note(answer).map_err(refusal)?,
            Err(_) => return Err(unreachable(format!("the controller did not answer within {DEADLINE:?}"))),
        };
        let mut report = self.report.clone();
        let followed = report.wait_for(|report| report.generation >= answer.generation);
        let report = match tokio::time::timeout_at(deadline, followed).await {
            Ok(Ok(report)) => report,
            Ok(Err(_)) => return Err(ending()),
            Err(_) => return Err(self.not_followed(&answer)),
        };
        match report.problems.iter().find(|problem| concerns(problem, &answer)) {
            None => Ok(answer.clone()),
            Some(problem) => Err(host_problem(format!("{}: {}", problem.key, problem.detail))),
        }
    }

    fn not_followed(&self, answer: &Attached) -> ApiError {
        let report = self.report.borrow();
        let why = match report.agent_problems.first() {
            Some(trouble) => trouble.message.clone(),
            None => format!("it has worked through generation {}", report.generation),
        };
        let wanted = answer.generation;
        host_problem(format!("the host did not reach generation {wanted} within {DEADLINE:?}: {why}"))
    }

    async fn plan(&self) -> Result<LocalReply, ApiError> {
        let plan = self.ask(Question::Plan).await?;
        let plan = plan.map_err(|error| api_error("no_plan", error_chain(&error), None))?;
        Ok(LocalReply::Plan {
            steps: plan.steps.iter().map(ToString::to_string).collect(),
            problems: plan.problems.into_iter().collect(),
        })
    }

    async fn status(&self) -> Result<LocalReply, ApiError> {
        let inventory = self.ask(Question::Inventory).await?;
        let report = self.report.borrow().clone();
        Ok(LocalReply::Status(AgentStatus {
            host: self.host.clone(),
            generation_held: inventory.generation,
            generation: report.generation,
            controller: self.connection.link(),
            problems: report.problems.into_iter().collect(),
            agent_problems: report.agent_problems,
            objects: inventory.objects,
            interfaces: inventory.interfaces,
            leases: report.leases.len(),
            dnsmasqs: inventory.dnsmasqs,
            agent_version: report.agent_version,
        }))
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Result<T, ApiError> {
        let (reply, answer) = oneshot::channel();
        self.questions.send(question(reply)).await.map_err(|_| ending())?;
        answer.await.map_err(|_| ending())
    }
}

/// Whether an interface is not gone because of this problem. What else is wrong with its network
/// is not its affair any more.
fn keeps_from_going(problem: &Problem, attached: &Attached) -> bool {
    problem.key == Key::Link(attached.device.clone())
}

/// Whether an interface is not ready because of this problem: its device, its bridge, its guard,
/// its place or its DHCP entries.
fn keeps_from_standing(problem: &Problem, attached: &Attached) -> bool {
    match &problem.key {
        Key::Link(link) => *link == attached.device || *link == attached.bridge,
        Key::Element(
            Set::GuardMac | Set::GuardIp4 | Set::GuardIp6 | Set::GuardNd | Set::GuardHardware,
            element,
        ) => element.split(" . ").next() == Some(attached.device.as_str()),
        Key::Ruleset(table) => *table == Table::Guard,
        Key::Station(bridge, mac) => *bridge == attached.bridge && *mac == attached.mac,
        Key::DhcpHost(network, mac) => *network == attached.network && *mac == attached.mac,
        Key::DhcpHost6(network, address) => {
            let is_address = |text: &String| text.split('/').next() == Some(address.to_string().as_str());
            *network == attached.network && attached.addresses.iter().any(is_address)
        }
        Key::Dnsmasq(network) => *network == attached.network,
        _ => false,
    }
}

fn refusal(error: ControllerError) -> ApiError {
    match error {
        ControllerError::Refused(error) => error,
        ControllerError::NoAnswer(error) => unreachable(error_chain(&*error)),
    }
}

fn unreachable(message: String) -> ApiError {
    let hint = "running instances are not affected; ask again when the controller is back, \
                asking twice is as good as once";
    api_error("controller_unreachable", message, Some(hint))
}

fn host_problem(message: String) -> ApiError {
    let hint = "the host goes on trying; `trestle plan` on the host shows what is left to do";
    api_error("host_problem", message, Some(hint))
}

fn ending() -> ApiError {
    api_error("agent_ending", "the agent is ending".to_owned(), Some("ask again when it is back"))
}

fn api_error(code: &str, message: String, hint: Option<&str>) -> ApiError {
    ApiError { code: code.to_owned(), message, hint: hint.map(str::to_owned), problems: Vec::new() }
}
