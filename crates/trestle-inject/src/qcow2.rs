//! qcow2 images: what their header says, and their contents as a raw disk.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::error::InjectError;
use crate::program::{STORAGE_DAEMON, UNSHARE, said};

const MAGIC: &[u8; 4] = b"QFI\xfb";

/// What the header of a file says (QEMU's docs/interop/qcow2.txt).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    /// It is not qcow2's.
    Foreign,
    /// The whole disk is in this file.
    Alone,
    /// Other files are parts of the disk: a backing file or one with the data.
    NamesOthers,
}

/// Reads the header.
pub(crate) fn header(image: &Path) -> Result<Header, InjectError> {
    let mut bytes = Vec::new();
    let file = File::open(image).map_err(InjectError::io("open", image))?;
    file.take(80).read_to_end(&mut bytes).map_err(InjectError::io("read", image))?;
    if !bytes.starts_with(MAGIC) {
        return Ok(Header::Foreign);
    }
    bytes.resize(80, 0);
    let version = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
    let has_backing_file = bytes[8..16].iter().any(|byte| *byte != 0);
    // Of the incompatible features of version 3, bit 2 is an external data file.
    let has_data_file = version >= 3 && bytes[79] & 0b100 != 0;
    Ok(if has_backing_file || has_data_file { Header::NamesOthers } else { Header::Alone })
}

/// The contents of a qcow2 image as a raw disk, for as long as it lives: by FUSE, in a mount
/// namespace of its own, so that nothing stays mounted whatever happens.
pub(crate) struct Export {
    daemon: Child,
    mountpoint: PathBuf,
    messages: PathBuf,
}

impl Export {
    /// Opens an image that nobody else uses. The folder is one of ours, for this alone.
    pub(crate) fn open(image: &Path, folder: &Path) -> Result<Self, InjectError> {
        let mountpoint = folder.join("exported");
        let messages = folder.join("messages");
        let ready = folder.join("ready");
        File::create(&mountpoint).map_err(InjectError::io("make", &mountpoint))?;
        let log = File::create(&messages).map_err(InjectError::io("make", &messages))?;
        let file = json!({ "driver": "file", "node-name": "file", "filename": image });
        let disk = json!({ "driver": "qcow2", "node-name": "disk", "file": "file" });
        let export = json!({
            "type": "fuse", "id": "export", "node-name": "disk", "mountpoint": mountpoint, "writable": true,
        });
        let mut command = UNSHARE.command();
        // Should we be killed, it ends in order by itself.
        command.args(["--mount", "setpriv", "--pdeathsig", "TERM", STORAGE_DAEMON.name]);
        command.args(["--blockdev", &file.to_string(), "--blockdev", &disk.to_string()]);
        command.args(["--export", &export.to_string(), "--pidfile"]).arg(&ready);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let daemon = UNSHARE.start(&mut command)?;
        let mut export = Self { daemon, mountpoint, messages };
        // It writes its process id when everything stands.
        while !ready.exists() {
            if let Some(status) = export.wait_no_longer()? {
                return Err(export.failed(status));
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(export)
    }

    /// The raw disk, as seen from outside of its mount namespace.
    pub(crate) fn disk(&self) -> PathBuf {
        let mountpoint = self.mountpoint.strip_prefix("/").unwrap_or(&self.mountpoint);
        Path::new(&format!("/proc/{}/root", self.daemon.id())).join(mountpoint)
    }

    /// Writes out everything and closes the image.
    pub(crate) fn close(mut self) -> Result<(), InjectError> {
        self.ask_to_end();
        let status =
            self.daemon.wait().map_err(InjectError::io("wait for", Path::new(STORAGE_DAEMON.name)))?;
        if status.success() { Ok(()) } else { Err(self.failed(status)) }
    }

    fn wait_no_longer(&mut self) -> Result<Option<ExitStatus>, InjectError> {
        self.daemon.try_wait().map_err(InjectError::io("wait for", Path::new(STORAGE_DAEMON.name)))
    }

    fn ask_to_end(&self) {
        if let Ok(id) = i32::try_from(self.daemon.id()) {
            // It fails where the daemon has ended already, which is what is wanted.
            let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        }
    }

    fn failed(&self, status: ExitStatus) -> InjectError {
        // What env(1) and its like say of a program that is not there.
        if status.code() == Some(127) {
            return STORAGE_DAEMON.missing();
        }
        let said = said(&fs::read(&self.messages).unwrap_or_default());
        let said = if said.is_empty() { status.to_string() } else { said };
        InjectError::Program { program: STORAGE_DAEMON.name, said }
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        if let Ok(None) = self.daemon.try_wait() {
            self.ask_to_end();
            let _ = self.daemon.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: Header) {
        let image = tempfile::NamedTempFile::new().unwrap();
        fs::write(image.path(), bytes).unwrap();
        assert_eq!(header(image.path()).unwrap(), expected);
    }

    #[test]
    fn a_header_says_whether_other_files_are_part_of_the_disk() {
        let mut bytes = [0; 104];
        check(&bytes, Header::Foreign);
        check(b"", Header::Foreign);
        bytes[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
        check(&bytes, Header::Alone);
        check(&bytes[..8], Header::Alone);
        bytes[14] = 1;
        check(&bytes, Header::NamesOthers);
        bytes[14] = 0;
        bytes[79] = 0b100;
        check(&bytes, Header::NamesOthers);
        bytes[7] = 2;
        check(&bytes, Header::Alone);
    }
}
