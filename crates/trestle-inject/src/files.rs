//! A guest's files, wherever they are.

use crate::error::InjectError;

/// No network configuration is larger, in bytes.
pub(crate) const LARGEST: u64 = 1 << 20;

/// A guest's root file system. Paths are ASCII, have no slash in front and never lead out of it.
pub(crate) trait Files {
    /// What is in a folder, by name; nothing where there is no such folder.
    fn list(&mut self, folder: &str) -> Result<Vec<Entry>, InjectError>;

    /// What is in a plain file, which is there; a link is not followed.
    fn read(&mut self, path: &str) -> Result<Vec<u8>, InjectError>;

    /// Makes these changes, each whole or not at all, with the folders they need.
    fn apply(&mut self, changes: &[Change]) -> Result<(), InjectError>;
}

/// A name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// Its permission bits.
    pub(crate) mode: u32,
}

/// What a name in a folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    Link,
    Other,
}

impl Kind {
    /// From the file type bits of `st_mode`, inode(7).
    pub(crate) fn of(mode: u32) -> Self {
        match mode & 0o170_000 {
            0o100_000 => Self::File,
            0o040_000 => Self::Folder,
            0o120_000 => Self::Link,
            _ => Self::Other,
        }
    }
}

/// A change of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is to have this text and these permission bits; a link by its name is replaced.
    Write { path: String, text: Vec<u8>, mode: u32 },
    /// It is to be gone.
    Remove { path: String },
}

/// A path's folder and the name in it.
pub(crate) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// What is at a path; a link is not followed.
pub(crate) fn entry(files: &mut dyn Files, path: &str) -> Result<Option<Entry>, InjectError> {
    let (folder, name) = split(path);
    Ok(files.list(folder)?.into_iter().find(|entry| entry.name == name))
}
