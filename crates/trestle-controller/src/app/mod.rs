//! What can be asked of the controller: one method per request, one file per resource.
//!
//! Every method takes the [`Caller`], decides what it may see and do, lists everything that is
//! wrong with the request, and changes nothing unless all of it can be done. Arguments that name
//! a thing are its name or its id.

mod address_group;
mod agent;
mod attachment;
mod caller;
mod check;
mod dns;
mod event;
mod explain;
mod fixed_ip;
mod floating_ip;
mod history;
mod host;
mod instance;
mod network;
mod pool;
mod presence;
mod project;
mod quota;
mod report;
mod security_group;
mod token;
pub(crate) mod unconfirmed;
mod vpn;

use std::error::Error;
use std::fmt::Display;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use trestle_core::types::HostId;

pub use self::caller::Caller;
use self::history::Sweep;
use self::presence::Presence;
use self::security_group::{Expiry, RuleWish, read_default_rules};
use self::vpn::{Sealing, Upkeep};
use crate::config::ControllerConfig;
use crate::error::AppError;
use crate::feed::{self, Feed};
use crate::store::change::{self, Change};
use crate::store::fixed_ip::{self as fixed_ip_store, ReleasePolicy};
use crate::store::{self, Store, Write, floating_ip as floating_ip_store, host as host_store, observed};

/// The controller's inside. Cheap to clone; every clone is the same one.
#[derive(Clone)]
pub struct App {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<Store>,
    feed: Arc<Feed>,
    clock: Arc<dyn Clock>,
    config: ControllerConfig,
    default_rules: Vec<RuleWish>,
    sealing: Sealing,
    tasks: [AbortHandle; 5],
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.end_tasks();
    }
}

impl Inner {
    fn end_tasks(&self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
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
    /// Floating IPs that lead nowhere, single ports aside.
    pub floating_ips_reserved: u64,
    /// Floating IPs that lead to an instance.
    pub floating_ips_associated: u64,
    /// Hosts.
    pub hosts: u64,
    /// Hosts whose agent is connected.
    pub hosts_connected: u64,
    /// What hosts cannot do, all together.
    pub problems: u64,
    /// The store's revision.
    pub revision: u64,
    /// What goes by each VPN.
    pub vpns: Vec<VpnCounts>,
}

/// How many come in by a project's VPN, and what goes by it, for metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VpnCounts {
    /// The project's name.
    pub project: String,
    /// Users it has.
    pub users: u64,
    /// Users that are connected.
    pub connected: u64,
    /// Bytes that came from these since they connected.
    pub received_bytes: u64,
    /// Bytes that went to them.
    pub sent_bytes: u64,
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
        source: io::Error,
    },
    /// The option `security_group_default_rules` has a text that is no rule for every new project.
    #[error("cannot use `{rule}` of the option security_group_default_rules")]
    DefaultRule {
        /// The text.
        rule: String,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The database cannot be used.
    #[error("cannot use the database {url}")]
    Database {
        /// Its URL, without a password.
        url: String,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The database cannot be read or written.
    #[error("cannot load what the database holds")]
    Load {
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The first admin token cannot be written down.
    #[error("cannot write the first admin token to {}", path.display())]
    AdminToken {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
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
        let default_rules = read_default_rules(&config.security_group_default_rules)?;
        let unusable = |source| OpenError::StateDir { path: config.state_dir.clone(), source };
        config.make_state_dir().map_err(unusable)?;
        let url = match &config.database {
            Some(url) => url.clone(),
            None => default_database(&config.default_database_path()).map_err(unusable)?,
        };
        let opened = Store::open(&url).await;
        let store =
            Arc::new(opened.map_err(|error| OpenError::Database {
                url: without_password(&url),
                source: Box::new(error),
            })?);
        let unreadable = |source| OpenError::Load { source };
        note_start(&store, clock.now()).await.map_err(|error| unreadable(Box::new(error)))?;
        let feed = Feed::load(Arc::clone(&store), config.options())
            .await
            .map_err(|error| unreadable(Box::new(error)))?;
        let feed = Arc::new(feed);
        let following = Arc::clone(&feed);
        let follower = tokio::spawn(async move { following.follow().await }).abort_handle();
        let watching = Presence::new(Arc::clone(&store), Arc::clone(&feed), Arc::clone(&clock));
        let watcher = tokio::spawn(watching.watch()).abort_handle();
        let sweep = Sweep::new(Arc::clone(&store), Arc::clone(&clock), config.address_history_days);
        let sweeper = tokio::spawn(sweep.sweep()).abort_handle();
        let expiry = Expiry::new(Arc::clone(&store), Arc::clone(&clock));
        let ender = tokio::spawn(expiry.sweep()).abort_handle();
        let sealing = Sealing::new(config.secret_key_path());
        let upkeep = Upkeep::new(Arc::clone(&store), Arc::clone(&clock), sealing.clone());
        let keeper = tokio::spawn(upkeep.keep()).abort_handle();
        let tasks = [follower, watcher, sweeper, ender, keeper];
        let inner = Inner { store, feed, clock, config: config.clone(), default_rules, sealing, tasks };
        let app = Self { inner: Arc::new(inner) };
        app.ensure_admin_token(&config.admin_token_path()).await?;
        Ok(app)
    }

    /// Ends what runs beside requests and closes the database; requests fail from here on.
    pub async fn close(&self) {
        self.inner.end_tasks();
        self.store().close().await;
    }

    /// Whether the database answers.
    pub async fn health(&self) -> Result<(), AppError> {
        let mut read = self.store().read().await?;
        change::position(&mut read).await?;
        Ok(())
    }

    /// How much there is.
    pub async fn counts(&self) -> Result<Counts, AppError> {
        let mut read = self.store().read().await?;
        let [projects, networks, instances, problems] = observed::counts(&mut read).await?;
        let [interfaces_detached, interfaces_pending, interfaces_ready, interfaces_failed] =
            observed::interface_counts(&mut read).await?;
        let (fixed_ips_allocated, fixed_ips_cooling) =
            fixed_ip_store::counts(&mut read, self.release_policy(), self.now()).await?;
        let (floating_ips_reserved, floating_ips_associated) = floating_ip_store::counts(&mut read).await?;
        let (_, revision) = change::position(&mut read).await?;
        let hosts = host_store::list(&mut read, (None, None), "", i64::MAX).await?;
        let vpns = self.vpn_counts(&mut read).await?;
        let connected = hosts.iter().filter(|host| self.is_connected(host));
        Ok(Counts {
            projects,
            networks,
            instances,
            interfaces_detached,
            interfaces_pending,
            interfaces_ready,
            interfaces_failed,
            fixed_ips_allocated,
            fixed_ips_cooling,
            floating_ips_reserved,
            floating_ips_associated,
            hosts_connected: connected.count() as u64,
            hosts: hosts.len() as u64,
            problems,
            revision,
            vpns,
        })
    }

    /// The latest revision that was taken in; changes with every change, events included.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.feed().revision()
    }

    fn store(&self) -> &Store {
        &self.inner.store
    }

    fn feed(&self) -> &Arc<Feed> {
        &self.inner.feed
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    /// Now, no finer than the database keeps it: an answer says what a later one will say.
    fn now(&self) -> Timestamp {
        let now = self.inner.clock.now();
        Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
    }

    async fn write(&self) -> Result<Write, AppError> {
        Ok(self.store().write(self.now()).await?)
    }

    fn release_policy(&self) -> ReleasePolicy {
        let config = &self.inner.config;
        ReleasePolicy {
            force_dhcp_release: config.force_dhcp_release,
            timeout: SignedDuration::from_secs(config.fixed_ip_disassociate_timeout.into()),
        }
    }

    fn config(&self) -> &ControllerConfig {
        &self.inner.config
    }

    /// What keeps private keys encrypted.
    fn sealing(&self) -> &Sealing {
        &self.inner.sealing
    }

    /// What each new project's default security group allows.
    fn default_rules(&self) -> &[RuleWish] {
        &self.inner.default_rules
    }

    /// Whether the host's agent is connected to this controller.
    fn is_connected_here(&self, host: HostId) -> bool {
        let now = self.now();
        let heard = self.feed().last_heard(host, now);
        heard.is_some_and(|heard| now.duration_since(heard) <= feed::SILENCE)
    }
}

/// What there are, for people.
fn listed<T: Display>(things: impl IntoIterator<Item = T>) -> String {
    let things: Vec<String> = things.into_iter().map(|thing| thing.to_string()).collect();
    if things.is_empty() { "none".to_owned() } else { things.join(" and ") }
}

/// What of these fields became another, for people.
fn changes<const N: usize>(fields: [(&str, String, String); N]) -> String {
    let changes = fields.into_iter().filter(|(_, old, new)| old != new);
    let changes: Vec<String> = changes.map(|(field, old, new)| format!("{field} {old} → {new}")).collect();
    changes.join(", ")
}

/// Raises the revision: this controller may have other options or compile otherwise than the one
/// before it, so no agent may take a generation it holds for current.
async fn note_start(store: &Store, now: Timestamp) -> Result<(), store::StoreError> {
    let mut write = store.write(now).await?;
    let version = env!("CARGO_PKG_VERSION");
    write.log(Change::new("controller.started", version, format!("controller {version} started")));
    write.commit().await?;
    Ok(())
}

/// Makes the database's file, for its owner alone, and gives its URL.
fn default_database(path: &Path) -> io::Result<String> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    Ok(store::sqlite_url(path))
}

fn without_password(url: &str) -> String {
    let hidden = || {
        let (scheme, rest) = url.split_once("://")?;
        let (user, place) = rest.rsplit_once('@')?;
        let (name, _) = user.split_once(':')?;
        Some(format!("{scheme}://{name}:…@{place}"))
    };
    hidden().unwrap_or_else(|| url.to_owned())
}
