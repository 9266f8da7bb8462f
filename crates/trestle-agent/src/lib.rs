//! Trestle's agent: makes one host match its spec, and says what it saw.
//!
//! There is one loop (`reconcile`) for first boot, restart, repair and change: observe, plan,
//! apply. What to plan comes from `trestle_core`, how to observe and apply from [`host`], what the
//! host must have from the controller through a ledger on disk. The agent never chooses an
//! address, a MAC or a name, and while it does not know what its host must have it changes
//! nothing there.

mod agent;
mod backoff;
mod config;
mod controller;
pub mod doctor;
pub mod host;
mod ledger;
mod metadata;
mod news;
mod reconcile;
mod schedule;
mod socket;
mod vpn_keys;

pub use agent::{AgentError, run, serve};
pub use config::{AgentConfig, DEFAULT_CONTROLLER, DEFAULT_STATE_DIR};
pub use controller::{ConnectError, Controller, ControllerError, RemoteController};
pub use metadata::{MetadataSecret, SecretError};
pub use vpn_keys::VpnKeys;

/// An error and its causes on one line, for reports and logs.
fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        // Some libraries print their cause as well as naming it.
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}
