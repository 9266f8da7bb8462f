//! What an agent is told at start.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where the agent keeps its state unless told otherwise.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/trestle-agent";
/// Where the agent looks for the controller unless told otherwise.
pub const DEFAULT_CONTROLLER: &str = "http://127.0.0.1:7117";

/// What an agent is told at start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// The host that the agent keeps, by the name or id the controller knows it under.
    pub host: String,
    /// The controller: `http://host:port`, `https://host:port` or `unix:/path`.
    /// Default: `http://127.0.0.1:7117`.
    #[serde(default = "default_controller")]
    pub controller: String,
    /// A file with the host's agent token. Default: `agent.token` in the state folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// With `https`, the only certificates to trust, a PEM file. Default: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Where the ledger, the socket and the files of every dnsmasq lie.
    /// Default: `/var/lib/trestle-agent`.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// A file with the secret that the metadata service knows the agent by. Default: none, and instances are
    /// not signed for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata_secret_file: Option<PathBuf>,
}

impl AgentConfig {
    /// Everything at its default.
    pub fn new(host: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            controller: default_controller(),
            token_file: None,
            ca: None,
            state_dir: default_state_dir(),
            metadata_secret_file: None,
        }
    }

    /// The file with the agent's token.
    pub fn token_path(&self) -> PathBuf {
        self.token_file.clone().unwrap_or_else(|| self.state_dir.join("agent.token"))
    }

    /// The socket that programs on the host ask.
    pub fn socket_path(&self) -> PathBuf {
        self.state_dir.join("agent.sock")
    }
}

fn default_controller() -> String {
    DEFAULT_CONTROLLER.to_owned()
}

fn default_state_dir() -> PathBuf {
    DEFAULT_STATE_DIR.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_is_all_that_must_be_said() {
        let config: AgentConfig = serde_json::from_str(r#"{"host":"vm1"}"#).unwrap();
        assert_eq!(config, AgentConfig::new("vm1"));
        assert_eq!(config.token_path(), PathBuf::from("/var/lib/trestle-agent/agent.token"));
    }

    #[test]
    fn an_unknown_option_is_refused() {
        let error = serde_json::from_str::<AgentConfig>(r#"{"host":"vm1","hots":1}"#).unwrap_err();
        assert!(error.to_string().starts_with("unknown field `hots`"), "{error}");
    }
}
