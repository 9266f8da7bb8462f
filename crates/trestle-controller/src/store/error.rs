//! Errors of the store, and which of them are the database's condition rather than a defect.

use crate::error::{AppError, ErrorKind};

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The database refused or did not answer.
    #[error("cannot {operation}")]
    Query {
        /// What was to be done.
        operation: &'static str,
        /// What the database says.
        source: sqlx::Error,
    },
    /// A value that nothing of ours writes.
    #[error("column {column} holds `{value}`, which is not what belongs there")]
    Corrupt {
        /// Its place in the row.
        column: usize,
        /// What it holds.
        value: String,
    },
}

/// Says what was to be done when the database refused.
pub(crate) trait During<T> {
    /// `operation` reads on from "cannot".
    fn during(self, operation: &'static str) -> Result<T, StoreError>;
}

impl<T> During<T> for Result<T, sqlx::Error> {
    fn during(self, operation: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Query { operation, source })
    }
}

/// The condition of the database that an error tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It does not answer, or not as a database does.
    Away,
    /// Somebody else holds it.
    Locked,
    /// It cannot write for want of space.
    Full,
    /// None of these: a defect.
    Other,
}

impl Condition {
    /// What this error tells.
    pub(crate) fn of(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(database) => {
                database.code().map_or(Self::Other, |code| Self::of_code(&code))
            }
            sqlx::Error::Io(io) if io.kind() == std::io::ErrorKind::StorageFull => Self::Full,
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed => Self::Away,
            _ => Self::Other,
        }
    }

    /// PostgreSQL's codes have five characters (its manual, appendix A); SQLite's are numbers
    /// whose lowest byte is the primary code (sqlite.org/rescode.html).
    fn of_code(code: &str) -> Self {
        match code {
            "53100" => return Self::Full,
            "40001" | "40P01" | "55P03" => return Self::Locked,
            _ if code.len() == 5 => {
                let away =
                    ["08", "28", "3D", "53", "55", "57P", "58"].iter().any(|class| code.starts_with(class));
                return if away { Self::Away } else { Self::Other };
            }
            _ => {}
        }
        match code.parse::<u32>().map(|code| code & 0xff) {
            Ok(5 | 6) => Self::Locked,
            Ok(13) => Self::Full,
            // READONLY, IOERR, CORRUPT, CANTOPEN, NOTADB
            Ok(8 | 10 | 11 | 14 | 26) => Self::Away,
            _ => Self::Other,
        }
    }
}

impl From<StoreError> for AppError {
    fn from(error: StoreError) -> Self {
        let condition = match &error {
            StoreError::Query { source, .. } => Condition::of(source),
            StoreError::Corrupt { .. } => Condition::Other,
        };
        let unavailable = |code, message: &str| Self::new(ErrorKind::Unavailable, code, message);
        let told = match condition {
            Condition::Away => unavailable("database_unavailable", "the controller cannot reach its database")
                .hint("nothing was changed; it goes on by itself when the database is back, see the controller's log"),
            Condition::Locked => unavailable("database_locked", "the controller's database is held by another program")
                .hint("nothing was changed; try again, and end the program that holds the database open for long"),
            Condition::Full => unavailable("disk_full", "the disk with the controller's database is full")
                .hint("nothing was changed; free some space, it goes on by itself"),
            Condition::Other => Self::new(ErrorKind::Internal, "internal", "the controller failed; its log says more"),
        };
        told.caused_by(error)
    }
}
