//! What a program on a host and the agent there say to each other over the agent's Unix socket.
//!
//! One connection carries one request and one reply, each a line of JSON. The socket is mode 0600,
//! so whoever can open it may ask. Nothing here decides: the agent passes intent on to the
//! controller and answers when its host has followed.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use trestle_core::plan::Problem;
use trestle_core::spec::HostSpec;
use trestle_core::types::{LinkName, Name};

use crate::{ApiError, Attached, PlugRequest};

/// What is asked of the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum LocalRequest {
    /// Plug an instance's interface in on this host; answered when the device is ready.
    Attach {
        /// The instance, by name or id.
        instance: String,
        /// The instance's project, by name or id, where the name alone is not unique.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        project: Option<String>,
        /// The network whose interface is meant; may be left out where the instance has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        network: Option<String>,
        /// What the guest's side is to be.
        #[serde(default)]
        plug: PlugRequest,
    },
    /// Unplug an instance's interface; answered when the device is gone.
    Detach {
        /// The instance, by name or id.
        instance: String,
        /// As in `Attach`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        project: Option<String>,
        /// As in `Attach`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        network: Option<String>,
    },
    /// What the agent would do now; nothing is changed.
    Plan,
    /// How the agent is.
    Status,
    /// What the host must have.
    Spec,
}

/// What the agent answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LocalReply {
    /// The device is ready, with its guard and its DHCP entry.
    Attached(Attached),
    /// The device is gone.
    Detached(Attached),
    /// What would be done.
    Plan {
        /// In order, as people read them.
        steps: Vec<String>,
        /// What cannot be done.
        problems: Vec<Problem>,
    },
    /// How the agent is.
    Status(AgentStatus),
    /// What the host must have; `None` while the agent was never told.
    Spec(Option<HostSpec>),
    /// It was not done, and why.
    Error(ApiError),
}

/// How an agent is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// The host it keeps, as it was told at start.
    pub host: String,
    /// The generation that its host is asked for; `None` until it was told once.
    pub generation_held: Option<u64>,
    /// The generation that it has worked through.
    pub generation: u64,
    /// Whether the controller can be reached.
    pub controller: ControllerLink,
    /// What cannot be done on the host.
    pub problems: Vec<Problem>,
    /// What troubles the agent itself.
    pub agent_problems: Vec<ApiError>,
    /// How many objects the host must have.
    pub objects: usize,
    /// How many of those are interfaces' devices.
    pub interfaces: usize,
    /// How many leases the dnsmasqs hold.
    pub leases: usize,
    /// The dnsmasqs that the host must have.
    pub dnsmasqs: Vec<DnsmasqStatus>,
    /// Its version.
    pub agent_version: String,
}

/// Whether an agent reaches its controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControllerLink {
    /// Whether the last attempt succeeded.
    pub connected: bool,
    /// Since when that is so.
    pub since: Timestamp,
    /// Why not, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A dnsmasq that a host must have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsmasqStatus {
    /// Its network.
    pub network: Name,
    /// The bridge it serves.
    pub bridge: LinkName,
    /// Whether it runs.
    pub running: bool,
}

/// Why there is no answer from an agent.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Nobody listens, or the socket may not be opened.
    #[error("cannot reach the agent at {socket}")]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The agent ended, or the connection broke, before it answered.
    #[error("the agent at {socket} did not answer")]
    NoAnswer {
        /// The socket.
        socket: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Somebody answered, but not as an agent does.
    #[error("the agent at {socket} does not answer like a Trestle agent")]
    Unexpected {
        /// The socket.
        socket: PathBuf,
        /// What in the answer was not understood.
        source: serde_json::Error,
    },
}

/// Asks the agent that listens on this socket.
pub async fn call(socket: &Path, request: &LocalRequest) -> Result<LocalReply, LocalError> {
    let unreachable = |source| LocalError::Unreachable { socket: socket.to_owned(), source };
    let stream = UnixStream::connect(socket).await.map_err(unreachable)?;
    let line = exchange(stream, request)
        .await
        .map_err(|source| LocalError::NoAnswer { socket: socket.to_owned(), source })?;
    serde_json::from_str(&line).map_err(|source| LocalError::Unexpected { socket: socket.to_owned(), source })
}

async fn exchange(mut stream: UnixStream, request: &LocalRequest) -> io::Result<String> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).await?;
    if answer.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_short_lines() {
        let attach = LocalRequest::Attach {
            instance: "web".to_owned(),
            project: None,
            network: Some("public".to_owned()),
            plug: PlugRequest::default(),
        };
        let text = |request| serde_json::to_string(&request).unwrap();
        insta::assert_snapshot!(text(attach), @r#"{"attach":{"instance":"web","network":"public","plug":{"type":"tap"}}}"#);
        insta::assert_snapshot!(text(LocalRequest::Status), @r#""status""#);
    }
}
