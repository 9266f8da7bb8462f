//! The ledger: what this host must have, on disk, so that it comes up without its controller.
//!
//! A file of lines, each a [`SpecUpdate`] as JSON behind a checksum. Replaying them gives the
//! spec. A line is appended for each update, whatever the number of instances; when the file has
//! grown to twice what one line with everything needs, it is replaced by that line.
//!
//! **What is safe, and why.**
//!
//! - *An update is written before it is applied.* A process that is killed loses nothing that it
//!   wrote, because the page cache is the kernel's. So the ledger is never behind the host, and a
//!   restart never takes down what was just attached. It may be ahead by the update that was not
//!   applied any more; the round at start applies it.
//! - *The disk follows up to [`GATHER`] later*, on a thread of its own, because no attach should
//!   wait for a disk and a burst should cost one flush. A power cut loses those lines, and with
//!   them every device, rule and process of the host, so nothing is left that could be undone.
//!   The host comes up at an older generation, tells the controller which, and is given the rest.
//!   Until then it may have the device and the DHCP entry of an interface that was released last;
//!   no guest is behind that device, and no other MAC is given its address.
//! - *A torn end is dropped*: a power cut can leave a part of the last write. Everything after the
//!   last good line is such an end, unless a good line follows it. A damaged line between good
//!   ones, or one that does not join, is something else: then nothing is known, nothing on the
//!   host is touched, and the controller is asked for everything.
//! - *A replacement is whole or not there*: written beside, flushed, renamed, the folder flushed.
//! - *When the disk refuses a line* the agent goes on in memory and replaces the file as soon as
//!   it can. If it is killed before that, it comes up at the generation of the last good line and
//!   undoes what came after until the controller answers. The report says so all the while.

mod disk;
mod line;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use trestle_core::spec::{GenerationGap, HostSpec, SpecUpdate};

use disk::Flusher;
pub(crate) use line::Line;

/// How long lines gather before they are flushed to the disk.
const GATHER: Duration = Duration::from_millis(100);
/// Below this many bytes the file is not replaced, however little of it still counts.
const SMALL: u64 = 1 << 20;

/// The ledger file, open for appending.
#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    file: Arc<File>,
    flusher: Flusher,
    length: u64,
    /// How long the file was when it last held one line with everything.
    whole_length: u64,
    /// Whether the file does not say what is held, and must be replaced before it is appended to.
    stale: bool,
}

/// What a ledger said when it was opened.
#[derive(Debug)]
pub(crate) enum Content {
    /// Nothing; the host is new.
    Nothing,
    /// What the host must have.
    Spec(HostSpec),
    /// Something that cannot be trusted.
    Damaged(Damage),
}

/// Why a ledger cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Damage {
    /// Bytes changed between good lines.
    #[error("line {0} of the ledger is damaged")]
    Checksum(usize),
    /// Written by another version, or by someone else.
    #[error("line {line} of the ledger cannot be understood")]
    Form {
        /// Which, from 1.
        line: usize,
        /// What was not understood.
        source: serde_json::Error,
    },
    /// A line is missing, or one is there twice.
    #[error("line {line} of the ledger does not follow from those before")]
    Gap {
        /// Which, from 1.
        line: usize,
        /// What does not join.
        source: GenerationGap,
    },
}

/// What the disk refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {path}")]
pub(crate) struct LedgerError {
    operation: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl Ledger {
    /// Opens the ledger of this state folder and replays it. A torn end is cut off.
    pub(crate) fn open(state_dir: &Path) -> Result<(Self, Content), LedgerError> {
        let path = state_dir.join("ledger");
        let failed = |operation| {
            let path = path.clone();
            move |source| LedgerError { operation, path, source }
        };
        let file = disk::open_for_appending(&path).map_err(failed("open"))?;
        let bytes = std::fs::read(&path).map_err(failed("read"))?;
        let (content, good) = replay(&bytes);
        if good < bytes.len() {
            tracing::warn!(path = %path.display(), bytes = bytes.len() - good, "dropped the torn end of the ledger");
            file.set_len(good as u64).map_err(failed("truncate"))?;
        }
        let flusher = Flusher::start(GATHER).map_err(failed("start flushing"))?;
        let ledger = Self {
            path,
            file: Arc::new(file),
            flusher,
            length: good as u64,
            whole_length: 0,
            stale: matches!(content, Content::Damaged(_)),
        };
        Ok((ledger, content))
    }

    /// Appends an update. When this fails the file holds what it held before, and every later call
    /// does nothing until the file is replaced.
    pub(crate) fn append(&mut self, line: &Line) -> Result<(), LedgerError> {
        if self.stale {
            return Ok(());
        }
        if let Err(source) = (&*self.file).write_all(line.bytes()) {
            self.stale = true;
            // A part of the line may be in the file; as a torn end it is dropped at the next start.
            let _ = self.file.set_len(self.length);
            return Err(self.failed("append to", source));
        }
        self.length += line.bytes().len() as u64;
        self.flusher.wake(&self.file);
        Ok(())
    }

    /// Whether the file should be replaced: it was not written or flushed, or it has grown.
    pub(crate) fn wants_replacing(&mut self) -> bool {
        if let Some(error) = self.flusher.failure() {
            tracing::warn!(path = %self.path.display(), %error, "cannot flush the ledger to the disk");
            self.stale = true;
        }
        self.stale || (self.length > SMALL && self.length > 2 * self.whole_length)
    }

    /// Replaces the file by one line that holds everything.
    pub(crate) async fn replace(&mut self, spec: &HostSpec) -> Result<(), LedgerError> {
        let everything = SpecUpdate {
            base: None,
            generation: spec.generation,
            put: spec.objects.clone(),
            gone: Default::default(),
        };
        let line = Line::new(&everything);
        let length = line.bytes().len() as u64;
        let path = self.path.clone();
        let written = tokio::task::spawn_blocking(move || disk::replace(&path, line.bytes())).await;
        let file =
            written.map_err(io::Error::other).flatten().map_err(|source| self.failed("replace", source))?;
        self.file = Arc::new(file);
        self.length = length;
        self.whole_length = length;
        self.stale = false;
        Ok(())
    }

    fn failed(&self, operation: &'static str, source: io::Error) -> LedgerError {
        LedgerError { operation, path: self.path.clone(), source }
    }
}

/// What these bytes say, and how many of them are good.
fn replay(bytes: &[u8]) -> (Content, usize) {
    let mut spec: Option<HostSpec> = None;
    let mut good = 0;
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n').enumerate();
    while let Some((index, text)) = lines.next() {
        let number = index + 1;
        let Some(json) = line::checked(text) else {
            if lines.any(|(_, later)| line::checked(later).is_some()) {
                return (Content::Damaged(Damage::Checksum(number)), bytes.len());
            }
            break;
        };
        match take(spec.take(), json, number) {
            Ok(next) => spec = Some(next),
            Err(damage) => return (Content::Damaged(damage), bytes.len()),
        }
        good += text.len();
    }
    (spec.map_or(Content::Nothing, Content::Spec), good)
}

fn take(spec: Option<HostSpec>, json: &[u8], line: usize) -> Result<HostSpec, Damage> {
    let update: SpecUpdate = serde_json::from_slice(json).map_err(|source| Damage::Form { line, source })?;
    let mut spec = spec.unwrap_or_default();
    spec.apply(update).map_err(|source| Damage::Gap { line, source })?;
    Ok(spec)
}

#[cfg(test)]
mod tests;
