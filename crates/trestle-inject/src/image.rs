//! A disk image, raw or qcow2. It is copied (for nothing on file systems that share blocks), the
//! copy is changed and checked, and then takes the image's name at once: an image is the old one or
//! the new one, whenever one looks.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::InjectError;
use crate::ext::ExtFiles;
use crate::guest::GuestNetwork;
use crate::lock::Locked;
use crate::partitions::{described, pieces};
use crate::place::{self, Outcome};
use crate::program::CP;
use crate::qcow2::{Export, Header, header};
use crate::render::Form;

/// How a disk is laid out in its image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageFormat {
    /// Byte by byte.
    Raw,
    /// QEMU's.
    Qcow2,
}

/// Why a text is not an [`ImageFormat`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an image format: use raw or qcow2")]
pub struct InvalidImageFormat(String);

impl FromStr for ImageFormat {
    type Err = InvalidImageFormat;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "raw" => Ok(Self::Raw),
            "qcow2" => Ok(Self::Qcow2),
            _ => Err(InvalidImageFormat(text.to_owned())),
        }
    }
}

/// What is not to be found out.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImageOptions {
    /// The form; the one the guest reads if absent.
    pub form: Option<Form>,
    /// How the disk is laid out; as the image's header says if absent, unless that names other
    /// files.
    pub format: Option<ImageFormat>,
    /// The partition with the guest's root; the only one with a root if absent.
    pub partition: Option<u32>,
}

/// Writes a guest's network into its disk image, which nobody uses.
///
/// # Errors
/// See [`InjectError`]; the image is as it was then.
pub fn inject_image(
    image: &Path,
    network: &GuestNetwork,
    options: &ImageOptions,
) -> Result<Outcome, InjectError> {
    let image = &image.canonicalize().map_err(InjectError::io("open", image))?;
    if !image.is_file() {
        return Err(InjectError::NotAnImage(image.clone()));
    }
    let _lock = Locked::lock(image)?;
    let format = format(image, options.format)?;
    let copy = Copy::of(image)?;
    let folder = tempfile::tempdir().map_err(InjectError::io("make a folder in", &std::env::temp_dir()))?;
    let disk = Disk { folder: folder.path(), image, options };
    let outcome = match format {
        ImageFormat::Raw => {
            let raw = folder.path().join("disk");
            symlink(&copy.path, &raw).map_err(InjectError::io("make", &raw))?;
            disk.inject(&raw, network)?
        }
        ImageFormat::Qcow2 => {
            let export = Export::open(&copy.path, folder.path())?;
            let outcome = disk.inject(&export.disk(), network)?;
            export.close()?;
            outcome
        }
    };
    if !outcome.is_unchanged() {
        copy.take_the_place_of(image)?;
    }
    Ok(outcome)
}

/// How the image is laid out. A guest can write any header into a raw disk of its own, so one that
/// would make other files of this machine parts of the disk is believed only if somebody says so.
fn format(image: &Path, given: Option<ImageFormat>) -> Result<ImageFormat, InjectError> {
    match (given, header(image)?) {
        (Some(ImageFormat::Raw), _) | (None, Header::Foreign) => Ok(ImageFormat::Raw),
        (Some(ImageFormat::Qcow2), Header::Foreign) => Err(InjectError::NotQcow2(image.to_owned())),
        (Some(ImageFormat::Qcow2), _) | (None, Header::Alone) => Ok(ImageFormat::Qcow2),
        (None, Header::NamesOthers) => Err(InjectError::NamesAnotherFile(image.to_owned())),
    }
}

/// The copy of an image that is changed in its stead; gone when dropped.
struct Copy {
    path: PathBuf,
}

impl Copy {
    /// It is in the same folder, since it takes the image's name later, and since a qcow2 image
    /// names its backing file from there. What an interrupted run has left is replaced.
    fn of(image: &Path) -> Result<Self, InjectError> {
        let name = image.file_name().unwrap_or_default().to_string_lossy();
        let copy = Self { path: image.with_file_name(format!(".{name}.trestle-inject")) };
        let mut command = CP.command();
        command.args(["--reflink=auto", "--preserve=all", "--no-target-directory", "--remove-destination"]);
        CP.succeed(command.arg(image).arg(&copy.path))?;
        Ok(copy)
    }

    fn take_the_place_of(self, image: &Path) -> Result<(), InjectError> {
        let whole = File::open(&self.path).and_then(|copy| copy.sync_all());
        whole.map_err(InjectError::io("write", &self.path))?;
        fs::rename(&self.path, image).map_err(InjectError::io("replace", image))?;
        let folder = image.parent().unwrap_or(Path::new("/"));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(InjectError::io("write", folder))
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // After it has taken the image's place there is nothing by its name.
        let _ = fs::remove_file(&self.path);
    }
}

/// What is needed to find the guest's root on a disk.
struct Disk<'a> {
    folder: &'a Path,
    image: &'a Path,
    options: &'a ImageOptions,
}

impl Disk<'_> {
    fn inject(&self, disk: &Path, network: &GuestNetwork) -> Result<Outcome, InjectError> {
        let mut root = self.root(disk)?;
        root.repair()?;
        let outcome = place::inject(&mut root, network, self.options.form)?;
        root.verify()?;
        Ok(outcome)
    }

    fn root(&self, disk: &Path) -> Result<ExtFiles<'_>, InjectError> {
        let mut pieces = pieces(disk)?;
        if let Some(number) = self.options.partition {
            pieces.retain(|piece| piece.number == number);
        }
        let mut roots = Vec::new();
        for piece in pieces.iter().filter(|piece| piece.is_ext()) {
            let mut files = ExtFiles::new(disk, piece.offset, self.folder, self.image);
            if place::is_root(&mut files)? {
                roots.push((piece.number, files));
            }
        }
        if roots.len() > 1 {
            let partitions = roots.iter().map(|(number, _)| *number).collect();
            return Err(InjectError::SeveralRoots { image: self.image.to_owned(), partitions });
        }
        let found =
            if pieces.is_empty() { "it has no such partition".to_owned() } else { described(&pieces) };
        let none = || InjectError::NoFileSystem { image: self.image.to_owned(), found };
        roots.pop().map(|(_, files)| files).ok_or_else(none)
    }
}
