//! Kernel settings, by `/proc/sys`. Those under `net` are of the calling thread's namespace.

use std::io;
use std::path::PathBuf;

use crate::host::error::{ApplyError, ObserveError};

/// The value, if the kernel has the setting. The module that brings it may not be loaded.
pub(super) fn read(name: &str) -> Result<Option<String>, ObserveError> {
    let path = path(name);
    match std::fs::read_to_string(&path) {
        Ok(value) => Ok(Some(value.trim_end().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ObserveError::File { path, source }),
    }
}

/// Sets the value.
pub(super) fn write(name: &str, value: &str) -> Result<(), ApplyError> {
    set(name, value).map_err(|source| ApplyError::File { operation: "write", path: path(name), source })
}

/// The same, without the words for it.
pub(super) fn set(name: &str, value: &str) -> io::Result<()> {
    std::fs::write(path(name), value)
}

/// A `/` in a name stands for a `.` that separates nothing, as in sysctl(8).
fn path(name: &str) -> PathBuf {
    let swapped = name.chars().map(|c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    });
    PathBuf::from("/proc/sys").join(swapped.collect::<String>())
}
