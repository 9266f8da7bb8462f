//! Durable commits on SQLite, several with one flush.
//!
//! A commit that flushes by itself holds the writer back for as long as the disk takes, and the next
//! one takes as long again. So commits only write (`synchronous = NORMAL`, which in WAL mode is whole
//! after a power cut but may lack the last commits), and who waits for a commit flushes the log
//! afterwards. Whoever comes while a flush runs shares the next one. Nothing is told to anyone, to
//! hosts neither, before it is flushed.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use sqlx::AnyPool;
use tokio::sync::Mutex;

use crate::store::columns::Columns;
use crate::store::error::{During, StoreError};

/// The write-ahead log of a SQLite database (sqlite.org/walformat.html).
#[derive(Debug)]
pub(crate) struct Log {
    file: PathBuf,
    /// The latest revision that is known to be written to it.
    written: AtomicU64,
    /// The latest revision that is flushed. Locked by who flushes.
    flushed: Mutex<u64>,
}

impl Log {
    /// The log of the database in this pool, if it has one: file systems without shared memory are
    /// refused one by SQLite.
    pub(super) async fn of(pool: &AnyPool) -> Result<Option<Self>, sqlx::Error> {
        let row = sqlx::query(
            "SELECT d.file, j.journal_mode FROM pragma_database_list d, pragma_journal_mode j WHERE d.name = 'main'",
        );
        let row = row.fetch_one(pool).await?;
        let mut columns = Columns::of(&row);
        let read = columns.text().and_then(|file| Ok((file, columns.text()?)));
        let Ok((file, "wal")) = read else { return Ok(None) };
        let file = PathBuf::from(format!("{file}-wal"));
        Ok(Some(Self { file, written: AtomicU64::new(0), flushed: Mutex::new(0) }))
    }

    /// Returns when this revision, which is committed, survives a power cut.
    pub(super) async fn flush(&self, revision: u64) -> Result<(), StoreError> {
        self.written.fetch_max(revision, Ordering::SeqCst);
        let mut flushed = self.flushed.lock().await;
        if *flushed >= revision {
            return Ok(());
        }
        let covered = self.written.load(Ordering::SeqCst);
        let file = self.file.clone();
        let flush = tokio::task::spawn_blocking(move || match File::open(file) {
            // SQLite deletes the log when it has moved all of it into the database, flushed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            opened => opened?.sync_data(),
        });
        let done = flush.await.unwrap_or_else(|ended| Err(io::Error::other(ended)));
        done.map_err(sqlx::Error::Io).during("flush the database's log")?;
        *flushed = covered;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_flushed_is_not_flushed_again() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("trestle.db-wal");
        File::create(&file).unwrap();
        let log = Log { file: file.clone(), written: AtomicU64::new(7), flushed: Mutex::new(0) };
        log.flush(5).await.unwrap();
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        for covered in [5, 4, 7] {
            log.flush(covered).await.unwrap();
        }
        std::fs::remove_dir(&file).unwrap();
        std::os::unix::net::UnixListener::bind(&file).unwrap();
        assert_eq!(log.flush(8).await.unwrap_err().to_string(), "cannot flush the database's log");
        std::fs::remove_file(&file).unwrap();
        log.flush(8).await.unwrap();
    }
}
