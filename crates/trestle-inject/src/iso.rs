//! An ISO that cloud-init reads, for guests that nothing can be written into.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::str::FromStr;

use crate::error::InjectError;
use crate::guest::GuestNetwork;
use crate::program::XORRISO;
use crate::render::{self, cloud_init, config_drive};

/// Which data source of cloud-init reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IsoKind {
    /// NoCloud: a disk with the label `cidata`.
    #[default]
    NoCloud,
    /// OpenStack's: a disk with the label `config-2`.
    ConfigDrive,
}

/// Why a text is not an [`IsoKind`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a kind of ISO: use nocloud or configdrive")]
pub struct InvalidIsoKind(String);

impl FromStr for IsoKind {
    type Err = InvalidIsoKind;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "nocloud" => Ok(Self::NoCloud),
            "configdrive" => Ok(Self::ConfigDrive),
            _ => Err(InvalidIsoKind(text.to_owned())),
        }
    }
}

impl IsoKind {
    fn label(self) -> &'static str {
        match self {
            Self::NoCloud => "cidata",
            Self::ConfigDrive => "config-2",
        }
    }

    /// What is on it. User data is cloud-init's and passes through as it is.
    pub fn files(self, network: &GuestNetwork, user_data: Option<&str>) -> Vec<render::File> {
        let given = |path: &str| user_data.map(|text| render::File::new(path, text.to_owned()));
        match self {
            Self::NoCloud => vec![
                cloud_init::meta_data(network),
                given("user-data").unwrap_or_else(cloud_init::user_data),
                cloud_init::network_config(network),
            ],
            Self::ConfigDrive => {
                let mut files = config_drive::files(network);
                files.extend(given("openstack/latest/user_data"));
                files
            }
        }
    }
}

/// Makes an ISO with a guest's network, or replaces one at once. The same network gives the same
/// bytes.
///
/// # Errors
/// See [`InjectError`]; a file that is there and is no ISO is kept.
pub fn make_iso(
    iso: &Path,
    kind: IsoKind,
    network: &GuestNetwork,
    user_data: Option<&str>,
) -> Result<(), InjectError> {
    if !may_be_replaced(iso)? {
        return Err(InjectError::NotAnIso(iso.to_owned()));
    }
    let folder = match iso.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    // Beside the ISO, whose name it takes when it is whole.
    let work = tempfile::Builder::new().prefix(".trestle-inject-").tempdir_in(folder);
    let work = work.map_err(InjectError::io("make a folder in", folder))?;
    let tree = work.path().join("tree");
    for file in kind.files(network, user_data) {
        let path = tree.join(&file.path);
        let above = path.parent().unwrap_or(&tree);
        fs::create_dir_all(above).map_err(InjectError::io("make", above))?;
        fs::write(&path, &file.text).map_err(InjectError::io("write to", &path))?;
    }
    let unfinished = work.path().join("iso");
    let mut command = XORRISO.command();
    // Without it, the time of day would be in the bytes.
    command.env("SOURCE_DATE_EPOCH", "0");
    command.args(["-as", "mkisofs", "-quiet", "-volid", kind.label(), "-joliet", "-rock"]);
    // From a user's own umask only this makes files that any guest reads.
    command.args(["-file-mode", "0444", "-dir-mode", "0555", "--set_all_file_dates", "1980010100000000"]);
    XORRISO.succeed(command.arg("-o").arg(&unfinished).arg(&tree))?;
    let whole = File::open(&unfinished).and_then(|file| file.sync_all());
    whole.map_err(InjectError::io("write to", &unfinished))?;
    fs::rename(&unfinished, iso).map_err(InjectError::io("replace", iso))
}

/// Whether there is nothing by this name, or an ISO: its first descriptor begins at sector 16
/// (ECMA-119 §6.2.1, §8.1.2).
fn may_be_replaced(iso: &Path) -> Result<bool, InjectError> {
    let mut file = match File::open(iso) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        opened => opened.map_err(InjectError::io("open", iso))?,
    };
    let mut descriptor = [0; 6];
    let read = file.seek(SeekFrom::Start(16 * 2048)).and_then(|_| file.read_exact(&mut descriptor));
    match read {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        read => read.map(|()| descriptor[1..] == *b"CD001").map_err(InjectError::io("read", iso)),
    }
}
