//! What can be asked of the controller: one method per request, one file per resource.
//!
//! Every method takes the [`Caller`], decides what it may see and do, lists everything that is
//! wrong with the request, and changes nothing unless all of it can be done. Arguments that name
//! a thing are its name or its id.

mod agent;
mod attachment;
mod event;
mod fixed_ip;
mod host;
mod instance;
mod network;
mod project;
mod token;

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;
use trestle_core::types::{HostId, ProjectId};

use crate::config::ControllerConfig;
use crate::error::AppError;

/// The controller's inside. Cheap to clone; every clone is the same one.
#[derive(Clone)]
pub struct App {
    #[allow(dead_code)]
    inner: Arc<()>,
}

/// Whose token a request came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// May do everything.
    Admin,
    /// May see and change this project.
    Member(ProjectId),
    /// Is the agent of this host.
    Agent(HostId),
}

/// How much there is, for metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Projects.
    pub projects: u64,
    /// Networks.
    pub networks: u64,
    /// Instances.
    pub instances: u64,
    /// Interfaces that are plugged in nowhere.
    pub interfaces_detached: u64,
    /// Interfaces that were asked for.
    pub interfaces_pending: u64,
    /// Interfaces that their host says stand.
    pub interfaces_ready: u64,
    /// Interfaces that their host says it cannot make.
    pub interfaces_failed: u64,
    /// Fixed IPs that an interface has.
    pub fixed_ips_allocated: u64,
    /// Fixed IPs given back and not yet free.
    pub fixed_ips_cooling: u64,
    /// Hosts.
    pub hosts: u64,
    /// Hosts whose agent is connected.
    pub hosts_connected: u64,
    /// What hosts cannot do, all together.
    pub problems: u64,
    /// The store's revision.
    pub revision: u64,
}

/// Tells the time; tests have their own.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// Why the controller cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The state folder cannot be made or used.
    #[error("cannot use the state folder {}", path.display())]
    StateDir {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl App {
    /// Connects to the database, brings its schema up to date, loads what hosts must have, and
    /// writes the first admin token if there is no admin's token yet.
    pub async fn open(config: &ControllerConfig) -> Result<Self, OpenError> {
        Self::open_with(config, Arc::new(SystemClock)).await
    }

    /// As [`App::open`], with a clock of the caller's.
    pub async fn open_with(config: &ControllerConfig, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let _ = (config, clock);
        todo!()
    }

    /// Ends the follower and closes the database; requests fail from here on.
    pub async fn close(&self) {
        todo!()
    }

    /// Whether the database answers.
    pub async fn health(&self) -> Result<(), AppError> {
        todo!()
    }

    /// How much there is.
    pub async fn counts(&self) -> Result<Counts, AppError> {
        todo!()
    }

    /// The latest revision that was taken in; changes with every change, events included.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        todo!()
    }
}
