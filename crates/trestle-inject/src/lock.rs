//! QEMU's own lock on disk images, so that no virtual machine uses an image while it is replaced.
//!
//! QEMU locks a byte from 100 on for each thing that it does with an image, and one from 200 on
//! for each thing that nobody else may do (block/file-posix.c, `RAW_LOCK_PERM_BASE`). Whoever has
//! all these bytes for itself knows that nobody has the image open, and keeps others from opening it.

use std::fs::{File, OpenOptions};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::error::InjectError;

const FIRST_BYTE: libc::off_t = 100;
const BYTES: libc::off_t = 200;

/// An image that nobody else uses, until it is dropped.
pub(crate) struct Locked {
    _file: File,
}

impl Locked {
    pub(crate) fn lock(image: &Path) -> Result<Self, InjectError> {
        let file =
            OpenOptions::new().read(true).write(true).open(image).map_err(InjectError::io("open", image))?;
        let range = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: FIRST_BYTE,
            l_len: BYTES,
            l_pid: 0,
        };
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&range)) {
            Ok(_) => Ok(Self { _file: file }),
            Err(Errno::EAGAIN | Errno::EACCES) => Err(InjectError::InUse(image.to_owned())),
            Err(errno) => Err(InjectError::io("lock", image)(errno.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn qemu_and_we_ourselves_keep_away_from_a_locked_image() {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(1 << 20).unwrap();
        let read = ["-r", "-f", "raw", "-c", "read 0 512"];
        let looked_at = || Command::new("qemu-io").args(read).arg(image.path()).output().unwrap();
        let locked = Locked::lock(image.path()).unwrap();
        assert!(matches!(Locked::lock(image.path()), Err(InjectError::InUse(_))));
        let stderr = String::from_utf8_lossy(&looked_at().stderr).into_owned();
        assert!(stderr.contains("Failed to lock byte"), "{stderr}");
        drop(locked);
        assert!(looked_at().status.success());
    }
}
