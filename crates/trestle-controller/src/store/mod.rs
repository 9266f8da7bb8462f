//! The store: everything the controller keeps, in SQLite or PostgreSQL.
//!
//! One SQL text serves both databases. Every change is one transaction that first raises the
//! revision, which makes writers take turns, and appends to the change log. No rule rests on
//! the code alone: the schema refuses what must not be.

pub(crate) mod address_group;
pub(crate) mod change;
mod columns;
pub(crate) mod dns;
mod durable;
mod error;
pub(crate) mod fixed_ip;
pub(crate) mod floating_ip;
pub(crate) mod history;
pub(crate) mod host;
pub(crate) mod instance;
pub(crate) mod interface;
pub(crate) mod network;
mod number;
pub(crate) mod observed;
pub(crate) mod pool;
pub(crate) mod project;
mod schema;
pub(crate) mod security_group;
pub(crate) mod subnet;
pub(crate) mod token;
pub(crate) mod vpn;

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AnyPool, ConnectOptions, Connection, Transaction};
use tokio::sync::Notify;

use change::Change;
use columns::Columns;
use durable::Log;
use error::During;
pub(crate) use error::StoreError;

/// How long a request waits for its turn at the database.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many connections read at once.
const READERS: u32 = 4;

/// How many connections of one controller write to PostgreSQL at once. The revision's row makes
/// them take turns; two keep it busy while the other begins.
const POSTGRES_WRITERS: u32 = 4;

/// Which database it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    /// A file, with one controller.
    Sqlite,
    /// A server, with any number of controllers.
    Postgres,
}

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// Neither kind of URL.
    #[error("neither `sqlite:<path>` nor `postgres://…`")]
    Scheme,
    /// It cannot be reached.
    #[error("cannot connect to it")]
    Connect(#[source] sqlx::Error),
    /// Its schema cannot be brought up to date.
    #[error("cannot bring its schema up to date")]
    Migrate(#[source] sqlx::migrate::MigrateError),
}

/// The database.
pub(crate) struct Store {
    backend: Backend,
    writers: AnyPool,
    readers: AnyPool,
    log: Option<Arc<Log>>,
    changed: Arc<Notify>,
}

/// A transaction that changes what is kept.
pub(crate) struct Write {
    transaction: Transaction<'static, Any>,
    revision: u64,
    at: Timestamp,
    changes: Vec<Change>,
    log: Option<Arc<Log>>,
    changed: Arc<Notify>,
}

/// Wakes who follows the change log when it is dropped: a request may be dropped while it waits for
/// its commit.
struct Wake(Arc<Notify>);

impl Drop for Wake {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// The URL of a SQLite database in this file.
pub(crate) fn sqlite_url(path: &Path) -> String {
    let mut url = "sqlite://".to_owned();
    for character in path.to_string_lossy().chars() {
        match character {
            '%' => url.push_str("%25"),
            '?' => url.push_str("%3F"),
            '#' => url.push_str("%23"),
            ' ' => url.push_str("%20"),
            plain => url.push(plain),
        }
    }
    url
}

impl Store {
    /// Connects and brings the schema up to date.
    pub(crate) async fn open(url: &str) -> Result<Self, ConnectError> {
        sqlx::any::install_default_drivers();
        let backend = match url.split_once(':') {
            Some(("sqlite", _)) => Backend::Sqlite,
            Some(("postgres" | "postgresql", _)) => Backend::Postgres,
            _ => return Err(ConnectError::Scheme),
        };
        let options =
            AnyConnectOptions::from_str(url).map_err(ConnectError::Connect)?.disable_statement_logging();
        if backend == Backend::Postgres {
            // A pool tries until its patience is over, and then says only that.
            let first = AnyConnection::connect_with(&options).await.map_err(ConnectError::Connect)?;
            first.close().await.map_err(ConnectError::Connect)?;
        }
        let writers = if backend == Backend::Sqlite { 1 } else { POSTGRES_WRITERS };
        let writers = connect(backend, writers, &options).await?;
        schema::migrate(backend, &writers).await.map_err(ConnectError::Migrate)?;
        let readers = connect(backend, READERS, &options).await?;
        let log = match backend {
            Backend::Sqlite => Log::of(&writers).await.map_err(ConnectError::Connect)?.map(Arc::new),
            Backend::Postgres => None,
        };
        Ok(Self { backend, writers, readers, log, changed: Arc::new(Notify::new()) })
    }

    /// Which database it is.
    pub(crate) fn backend(&self) -> Backend {
        self.backend
    }

    /// Woken by every change of this process.
    pub(crate) fn changed(&self) -> Arc<Notify> {
        Arc::clone(&self.changed)
    }

    /// A connection to read with.
    pub(crate) async fn read(&self) -> Result<PoolConnection<Any>, StoreError> {
        self.readers.acquire().await.during("connect to the database")
    }

    /// A transaction that sees the store as it is at one moment.
    pub(crate) async fn snapshot(&self) -> Result<Transaction<'static, Any>, StoreError> {
        let begin = match self.backend {
            Backend::Sqlite => "BEGIN",
            Backend::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        };
        self.readers.begin_with(begin).await.during("begin to read")
    }

    /// Begins a change; everyone else's waits until it is committed or dropped.
    pub(crate) async fn write(&self, at: Timestamp) -> Result<Write, StoreError> {
        let mut transaction = self.observe().await?;
        let row = sqlx::query("UPDATE revision SET value = value + 1 RETURNING value")
            .fetch_one(&mut *transaction)
            .await
            .during("raise the revision")?;
        let revision = Columns::of(&row).count()?;
        let (log, changed) = (self.log.clone(), Arc::clone(&self.changed));
        Ok(Write { transaction, revision, at, changes: Vec::new(), log, changed })
    }

    /// Returns when this revision, which was read, survives a power cut.
    pub(crate) async fn flush(&self, revision: u64) -> Result<(), StoreError> {
        match &self.log {
            Some(log) => log.flush(revision).await,
            None => Ok(()),
        }
    }

    /// Begins to write down what a host says, or to forget what is old; this is no change. It may be
    /// lost in a power cut: the host says it again.
    pub(crate) async fn observe(&self) -> Result<Transaction<'static, Any>, StoreError> {
        // A deferred transaction of SQLite that has read before it writes fails at once when
        // someone else wrote in between, whatever the busy timeout.
        let begin = match self.backend {
            Backend::Sqlite => "BEGIN IMMEDIATE",
            Backend::Postgres => "BEGIN",
        };
        self.writers.begin_with(begin).await.during("begin to write")
    }

    /// Closes every connection.
    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.writers.close().await;
    }
}

impl Write {
    /// The revision this change makes.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// When it was begun.
    pub(crate) fn at(&self) -> Timestamp {
        self.at
    }

    /// Where to send queries.
    pub(crate) fn connection(&mut self) -> &mut AnyConnection {
        &mut self.transaction
    }

    /// Notes what is appended to the change log when it is committed.
    pub(crate) fn log(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// Makes it last, and wakes who follows the change log.
    pub(crate) async fn commit(mut self) -> Result<u64, StoreError> {
        change::append(&mut self.transaction, (self.revision, self.at), &self.changes).await?;
        let _wake = Wake(self.changed);
        self.transaction.commit().await.during("commit the change")?;
        if let Some(log) = &self.log {
            log.flush(self.revision).await?;
        }
        Ok(self.revision)
    }
}

async fn connect(backend: Backend, count: u32, options: &AnyConnectOptions) -> Result<AnyPool, ConnectError> {
    let pool = AnyPoolOptions::new()
        .max_connections(count)
        .acquire_timeout(PATIENCE)
        // A file cannot go away between two requests, a server can.
        .test_before_acquire(backend == Backend::Postgres)
        .idle_timeout(None)
        .max_lifetime(None)
        // SQLite ends a transaction itself when the disk is full at its commit, and the driver goes
        // on counting it as open: such a connection is good for nothing more.
        .after_release(|connection, _| Box::pin(std::future::ready(Ok(!connection.is_in_transaction()))))
        .after_connect(move |connection, _| Box::pin(prepare_connection(backend, connection)));
    pool.connect_with(options.clone()).await.map_err(ConnectError::Connect)
}

/// SQLite: readers beside the writer, and a commit that survives a power cut, by itself where there
/// is no log to flush afterwards. Foreign keys are off unless asked for.
async fn prepare_connection(backend: Backend, connection: &mut AnyConnection) -> sqlx::Result<()> {
    if backend == Backend::Sqlite {
        sqlx::query("PRAGMA busy_timeout = 5000").execute(&mut *connection).await?;
        let mode = sqlx::query("PRAGMA journal_mode = WAL").fetch_one(&mut *connection).await?;
        let has_log = Columns::of(&mode).text().is_ok_and(|mode| mode == "wal");
        for pragma in [
            if has_log { "PRAGMA synchronous = NORMAL" } else { "PRAGMA synchronous = FULL" },
            "PRAGMA foreign_keys = ON",
            // 64 MiB of pages: with the default 2 MiB every allocation reads its indexes anew.
            "PRAGMA cache_size = -65536",
        ] {
            sqlx::query(pragma).execute(&mut *connection).await?;
        }
    }
    Ok(())
}
