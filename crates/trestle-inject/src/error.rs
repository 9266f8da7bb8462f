//! Why a guest's network cannot be written.

use std::io;
use std::path::{Path, PathBuf};

/// Why a guest's network cannot be written. Nothing was changed, unless it says so.
#[derive(Debug, thiserror::Error)]
pub enum InjectError {
    /// The folder is not there.
    #[error("there is no folder {path}", path = .0.display())]
    NoRoot(PathBuf),
    /// The folder is what this machine itself runs on.
    #[error("{path} is the root of this machine, not of a guest", path = .0.display())]
    OwnRoot(PathBuf),
    /// Nothing in the guest reads any of the forms.
    #[error("the guest has none of the places where a network is configured: it has no {}", .looked_for.join(", no "))]
    NoPlace {
        /// What was looked for.
        looked_for: Vec<String>,
    },
    /// A path of the guest's is something else than a file, such as a link or a device.
    #[error("/{0} of the guest is not a plain file")]
    NotPlain(String),
    /// A path of the guest's leads out of what can be written, or through what is not a folder.
    #[error("/{0} of the guest is not a folder")]
    NotAFolder(String),
    /// A file that cannot be a network configuration.
    #[error("/{path} of the guest has more than {most} bytes")]
    TooLarge {
        /// The file.
        path: String,
        /// How many are read.
        most: u64,
    },
    /// The image is no file that another one can take the place of.
    #[error("{path} is not a plain file", path = .0.display())]
    NotAnImage(PathBuf),
    /// Somebody has it open: QEMU, or this command in another terminal.
    #[error("{path} is in use", path = .0.display())]
    InUse(PathBuf),
    /// The image's header names other files, and nobody said that it may.
    #[error("the header of {path} names another file of this machine as part of the disk", path = .0.display())]
    NamesAnotherFile(PathBuf),
    /// The image is said to be qcow2 and is not.
    #[error("{path} is not a qcow2 image", path = .0.display())]
    NotQcow2(PathBuf),
    /// There is no file system that can be written, or none that looks like a guest's root.
    #[error("{image} has no root file system that can be written: {found}", image = .image.display())]
    NoFileSystem {
        /// The image.
        image: PathBuf,
        /// What it has.
        found: String,
    },
    /// More than one file system looks like a guest's root.
    #[error("{image} has several root file systems, on partitions {numbers}", image = .image.display(), numbers = joined(.partitions))]
    SeveralRoots {
        /// The image.
        image: PathBuf,
        /// Their numbers.
        partitions: Vec<u32>,
    },
    /// The file system must be repaired by somebody who knows it.
    #[error("the file system of {image} has errors: {said}", image = .image.display())]
    Damaged {
        /// The image.
        image: PathBuf,
        /// What e2fsck said.
        said: String,
    },
    /// The file system of the guest is full.
    #[error("the guest's file system has no space left")]
    NoSpace,
    /// What was written is not what is read.
    #[error("/{path} of the guest was not written: {said}")]
    NotWritten {
        /// The file.
        path: String,
        /// What the program said that wrote it.
        said: String,
    },
    /// The file is something else, and would be lost.
    #[error("{path} is there and is not an ISO image", path = .0.display())]
    NotAnIso(PathBuf),
    /// A program that is needed is not installed.
    #[error("the program {program} is missing, which the Debian package {package} brings")]
    Missing {
        /// The program.
        program: &'static str,
        /// The Debian package that brings it.
        package: &'static str,
    },
    /// A program failed.
    #[error("{program} failed: {said}")]
    Program {
        /// The program.
        program: &'static str,
        /// What it said.
        said: String,
    },
    /// The system says why.
    #[error("cannot {doing} {path}", path = .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl InjectError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::OwnRoot(_) => "name the folder that the guest's root is mounted on",
            Self::NoPlace { .. } => {
                "say which form the guest reads with --format, or make it an ISO with --iso"
            }
            Self::NotAnImage(_) | Self::NoFileSystem { .. } => {
                "mount its file system and give --root, which writes into any of them"
            }
            Self::InUse(_) => "switch the virtual machine off first",
            Self::NamesAnotherFile(_) => {
                "a guest can write such a header into its raw disk: say with --image-format what it is"
            }
            Self::SeveralRoots { .. } => "say which one with --partition",
            Self::Damaged { .. } => "repair it with e2fsck, or boot the guest once",
            Self::NotAnIso(_) => "name a file that is not there yet",
            _ => return None,
        })
    }

    /// What the system said of this path.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull if doing == WRITE_GUEST => Self::NoSpace,
            _ => Self::Io { doing, path: path.clone(), source },
        }
    }
}

/// What is being done when a guest's own file system can be full.
pub(crate) const WRITE_GUEST: &str = "write";

fn joined(numbers: &[u32]) -> String {
    let texts: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    texts.join(" and ")
}
