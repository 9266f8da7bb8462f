//! The ledger's dealings with the disk: files that are whole or not there, and flushing apart from
//! the hot path.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Opens a file that root alone may read, for appending; makes it if it is not there.
pub(super) fn open_for_appending(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Replaces a file as a whole, so that a power cut leaves the one or the other; gives the new one,
/// open for appending.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()?;
    open_for_appending(path)
}

/// A thread that flushes a file some time after it was written to. Dropping it flushes what is
/// left and waits for that.
#[derive(Debug)]
pub(super) struct Flusher {
    wakes: Option<Sender<Arc<File>>>,
    thread: Option<JoinHandle<()>>,
    failure: Arc<Mutex<Option<io::Error>>>,
}

impl Flusher {
    /// Starts the thread; writes within `gather` are flushed as one.
    pub(super) fn start(gather: Duration) -> io::Result<Self> {
        let (wakes, woken) = channel();
        let failure = Arc::default();
        let noted = Arc::clone(&failure);
        let thread = std::thread::Builder::new()
            .name("ledger-flush".to_owned())
            .spawn(move || flush_until_closed(&woken, gather, &noted))?;
        Ok(Self { wakes: Some(wakes), thread: Some(thread), failure })
    }

    /// Says that the file was written to.
    pub(super) fn wake(&self, file: &Arc<File>) {
        if let Some(wakes) = &self.wakes {
            // The thread ends only when this end is dropped.
            let _ = wakes.send(Arc::clone(file));
        }
    }

    /// What the disk said, if a flush failed since the last call. What was written may be lost
    /// then, even if a later flush succeeds (fsync(2)).
    pub(super) fn failure(&self) -> Option<io::Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.wakes = None;
        if let Some(thread) = self.thread.take() {
            // A flush that panicked has nothing left to be waited for.
            let _ = thread.join();
        }
    }
}

fn flush_until_closed(woken: &Receiver<Arc<File>>, gather: Duration, failure: &Mutex<Option<io::Error>>) {
    while let Ok(first) = woken.recv() {
        let file = gathered(woken, first, Instant::now() + gather);
        if let Err(error) = file.sync_data() {
            *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
    }
}

/// The last file that was written to before the deadline. An earlier one was replaced by it.
fn gathered(woken: &Receiver<Arc<File>>, mut file: Arc<File>, deadline: Instant) -> Arc<File> {
    loop {
        match woken.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(next) => file = next,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return file,
        }
    }
}
