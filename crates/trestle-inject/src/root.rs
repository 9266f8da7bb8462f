//! A guest's root file system that is mounted on a folder.
//!
//! The guest may have put links anywhere. The kernel resolves every folder as if the root were `/`
//! (`RESOLVE_IN_ROOT`, openat2(2)), and what is done in that folder goes by the open folder and a
//! last name that is never followed.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use crate::error::{InjectError, WRITE_GUEST};
use crate::files::{Change, Entry, Files, Kind, LARGEST, split};
use crate::guest::GuestNetwork;
use crate::place::{self, Outcome};
use crate::render::Form;

/// What a file of ours is called until it is whole.
const UNFINISHED: &str = ".trestle-inject";

/// Writes a guest's network into its root file system, which is mounted on a folder.
///
/// Without a form, it is the one that the guest reads. Files are replaced one after the other,
/// each at once; a second run finds nothing to do.
///
/// # Errors
/// See [`InjectError`].
pub fn inject_root(root: &Path, network: &GuestNetwork, form: Option<Form>) -> Result<Outcome, InjectError> {
    place::inject(&mut MountedRoot::open(root)?, network, form)
}

struct MountedRoot {
    path: PathBuf,
    root: OwnedFd,
}

impl MountedRoot {
    fn open(path: &Path) -> Result<Self, InjectError> {
        let metadata = fs::metadata(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => InjectError::NoRoot(path.to_owned()),
            _ => InjectError::io("open", path)(source),
        })?;
        if !metadata.is_dir() {
            return Err(InjectError::NoRoot(path.to_owned()));
        }
        let own = fs::metadata("/").map_err(InjectError::io("open", Path::new("/")))?;
        if (own.dev(), own.ino()) == (metadata.dev(), metadata.ino()) {
            return Err(InjectError::OwnRoot(path.to_owned()));
        }
        let root = File::open(path).map_err(InjectError::io("open", path))?;
        Ok(Self { path: path.to_owned(), root: root.into() })
    }

    /// The folder, if it is there.
    fn folder(&self, path: &str) -> Result<Option<Folder>, InjectError> {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT);
        let relative = if path.is_empty() { "." } else { path };
        match openat2(&self.root, relative, how) {
            Ok(open) => Ok(Some(Folder { open, path: self.path.join(path) })),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            Err(Errno::ELOOP) => Err(InjectError::NotAFolder(path.to_owned())),
            Err(errno) => Err(InjectError::io("open", &self.path.join(path))(errno.into())),
        }
    }

    /// The folder, made where it is not there, with those above it.
    fn made_folder(&self, path: &str) -> Result<Folder, InjectError> {
        if let Some(folder) = self.folder(path)? {
            return Ok(folder);
        }
        let not_a_folder = || InjectError::NotAFolder(path.to_owned());
        if path.is_empty() {
            return Err(not_a_folder());
        }
        let (above, name) = split(path);
        let above = self.made_folder(above)?;
        match fs::create_dir(above.at(name)) {
            // A link that leads nowhere, or a file.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(not_a_folder()),
            made => made.map_err(above.error(WRITE_GUEST, name))?,
        }
        let made = self.folder(path)?.ok_or_else(not_a_folder)?;
        above.share_owner(&File::open(made.itself()).map_err(made.error("open", ""))?)?;
        Ok(made)
    }

    fn write(&self, path: &str, text: &[u8], mode: u32) -> Result<(), InjectError> {
        let (folder, name) = split(path);
        let folder = self.made_folder(folder)?;
        let unfinished = format!("{UNFINISHED}-{name}");
        let error = folder.error(WRITE_GUEST, name);
        match fs::remove_file(folder.at(&unfinished)) {
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => {}
            removed => removed.map_err(&error)?,
        }
        let written = folder.write_new(&unfinished, text, mode);
        let replaced = written.and_then(|()| {
            fs::rename(folder.at(&unfinished), folder.at(name)).map_err(&error)?;
            File::open(folder.itself()).and_then(|folder| folder.sync_all()).map_err(&error)
        });
        if replaced.is_err() {
            // What went wrong first is what is told.
            let _ = fs::remove_file(folder.at(&unfinished));
        }
        replaced
    }
}

impl Files for MountedRoot {
    fn list(&mut self, folder: &str) -> Result<Vec<Entry>, InjectError> {
        let Some(folder) = self.folder(folder)? else { return Ok(Vec::new()) };
        let error = folder.error("list", "");
        let mut entries = Vec::new();
        for entry in fs::read_dir(folder.itself()).map_err(&error)? {
            let entry = entry.map_err(&error)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let mode = fs::symlink_metadata(folder.at(&name)).map_err(&error)?.mode();
            entries.push(Entry { name, kind: Kind::of(mode), mode: mode & 0o7777 });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn read(&mut self, path: &str) -> Result<Vec<u8>, InjectError> {
        let (folder, name) = split(path);
        let folder = self.folder(folder)?.ok_or_else(|| InjectError::NotAFolder(folder.to_owned()))?;
        let error = folder.error("read", name);
        // Opening a pipe would wait, and opening a device can do anything.
        if !fs::symlink_metadata(folder.at(name)).map_err(&error)?.is_file() {
            return Err(InjectError::NotPlain(path.to_owned()));
        }
        let mut options = OpenOptions::new();
        options.read(true).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
        let file = options.open(folder.at(name)).map_err(&error)?;
        let mut text = Vec::new();
        file.take(LARGEST + 1).read_to_end(&mut text).map_err(&error)?;
        if text.len() as u64 > LARGEST {
            return Err(InjectError::TooLarge { path: path.to_owned(), most: LARGEST });
        }
        Ok(text)
    }

    fn apply(&mut self, changes: &[Change]) -> Result<(), InjectError> {
        for change in changes {
            match change {
                Change::Write { path, text, mode } => self.write(path, text, *mode)?,
                Change::Remove { path } => {
                    let (folder, name) = split(path);
                    if let Some(folder) = self.folder(folder)? {
                        fs::remove_file(folder.at(name)).map_err(folder.error("remove", name))?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// An open folder of the guest's.
struct Folder {
    open: OwnedFd,
    /// For messages: what it leads to may have changed.
    path: PathBuf,
}

impl Folder {
    fn itself(&self) -> PathBuf {
        format!("/proc/self/fd/{}/.", self.open.as_raw_fd()).into()
    }

    fn at(&self, name: &str) -> PathBuf {
        format!("/proc/self/fd/{}/{name}", self.open.as_raw_fd()).into()
    }

    fn error(&self, doing: &'static str, name: &str) -> impl Fn(io::Error) -> InjectError + use<> {
        InjectError::io(doing, &self.path.join(name))
    }

    fn write_new(&self, name: &str, text: &[u8], mode: u32) -> Result<(), InjectError> {
        let error = self.error(WRITE_GUEST, name);
        let mut file = OpenOptions::new().write(true).create_new(true).open(self.at(name)).map_err(&error)?;
        self.share_owner(&file)?;
        file.set_permissions(Permissions::from_mode(mode)).map_err(&error)?;
        file.write_all(text).map_err(&error)?;
        file.sync_all().map_err(&error)
    }

    /// What is made belongs to whom the folder belongs to: a container's root is not uid 0 here.
    fn share_owner(&self, made: &File) -> Result<(), InjectError> {
        let error = self.error("change the owner in", "");
        let folder = fs::metadata(self.itself()).map_err(&error)?;
        let of_made = made.metadata().map_err(&error)?;
        if (of_made.uid(), of_made.gid()) == (folder.uid(), folder.gid()) {
            return Ok(());
        }
        fchown(made, Some(folder.uid()), Some(folder.gid())).map_err(&error)
    }
}
