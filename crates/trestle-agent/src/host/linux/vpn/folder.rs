//! The folder of a VPN: `<state folder>/vpns/<VPN>` with `netns`, a link to the namespace, a file per user under
//! `clients`, the keys (0600), `server.conf`, `log`, and `started`, which says what was started.
//!
//! Debian's openvpn serves as nobody and looks for `clients/<user>` when the user comes, so folders are 0755.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use trestle_api::vpn::VpnIdentity;
use trestle_core::spec::VpnServer;
use trestle_core::types::Name;
use uuid::Uuid;

use super::super::files::{Files, create_folder, delete_file, file_names, read, write_whole};
use crate::host::error::{ApplyError, ObserveError};

/// The socket by which openvpn is asked and told.
pub(super) const MANAGEMENT: &str = "management";

const CLIENTS: &str = "clients";
/// Who is about to be let in, and whose connections are to be ended yet: nobody is let in by a file here.
const LEAVING: &str = "leaving";
const IDENTITY: &str = "identity";
const STARTED: &str = "started";

/// Where the files of a VPN are.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

/// What was started, and where.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Started {
    /// With the number of the device.
    pub(super) server: VpnServer,
    /// The number of the namespace's file.
    pub(super) netns: u64,
    /// The process; the kernel's WireGuard has none.
    pub(super) pid: Option<i32>,
}

impl Folder {
    pub(super) fn of(files: &Files, vpn: &Name) -> Self {
        Self { path: files.vpns_dir().join(vpn.as_str()) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn netns(&self) -> PathBuf {
        self.path.join("netns")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// The socket by which openvpn is asked and told.
    pub(super) fn management(&self) -> PathBuf {
        self.path.join(MANAGEMENT)
    }

    /// Whether it is one: somebody else may have put something there.
    pub(super) fn exists(&self) -> bool {
        self.path.join(CLIENTS).is_dir()
    }

    /// Makes the folder.
    pub(super) fn create(&self) -> Result<(), ApplyError> {
        if let Some(all) = self.path.parent() {
            create_folder(all)?;
        }
        for folder in [self.path.clone(), self.path.join(CLIENTS), self.path.join(LEAVING)] {
            create_folder(&folder)?;
        }
        Ok(())
    }

    /// Deletes the folder with all that is in it.
    pub(super) fn delete(&self) -> Result<(), ApplyError> {
        match fs::remove_dir_all(&self.path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(ApplyError::File { operation: "delete", path: self.path.clone(), source })
            }
            _ => Ok(()),
        }
    }

    /// The users that are let in, are about to be, or whose connections are to be ended yet.
    pub(super) fn users(&self) -> Result<Vec<Name>, ObserveError> {
        let mut names = file_names(&self.path.join(CLIENTS))?;
        names.extend(file_names(&self.path.join(LEAVING))?);
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// What the server is told of a user; nothing, which differs from every spec, of one that is coming or
    /// leaving.
    pub(super) fn user(&self, user: &Name) -> Result<Option<String>, ObserveError> {
        if self.path.join(LEAVING).join(user.as_str()).exists() {
            return Ok(Some(String::new()));
        }
        read(self.path.join(CLIENTS).join(user.as_str()))
    }

    /// Notes that a user is about to be let in: a crash before `let_in` leaves the note, and it is done again.
    pub(super) fn expect_user(&self, user: &Name, text: &str) -> Result<(), ApplyError> {
        self.create()?;
        write_whole(&self.path.join(LEAVING), user.as_str(), text)
    }

    /// Lets a user in who comes from now on; all else that it takes is done.
    pub(super) fn let_in(&self, user: &Name, text: &str) -> Result<(), ApplyError> {
        write_whole(&self.path.join(CLIENTS), user.as_str(), text)?;
        self.forget_user(user)
    }

    /// Lets a user in no more, and gives what the server was told: the connection is to be ended yet, and a
    /// crash before leaves the note.
    pub(super) fn take_user(&self, user: &Name) -> Result<String, ApplyError> {
        let (client, leaving) =
            (self.path.join(CLIENTS).join(user.as_str()), self.path.join(LEAVING).join(user.as_str()));
        match fs::rename(&client, &leaving) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(ApplyError::File { operation: "move away", path: client, source });
            }
            _ => {}
        }
        Ok(read(leaving)?.unwrap_or_default())
    }

    /// The connection of a user who left has ended.
    pub(super) fn forget_user(&self, user: &Name) -> Result<(), ApplyError> {
        delete_file(self.path.join(LEAVING).join(user.as_str()))
    }

    /// Which keys are here, all of them.
    pub(super) fn identity(&self) -> Result<Option<Uuid>, ObserveError> {
        let Some(text) = read(self.path.join(IDENTITY))? else { return Ok(None) };
        let mut lines = text.lines();
        let id = lines.next().and_then(|id| id.parse().ok());
        Ok(id.filter(|_| lines.all(|name| self.path.join(name).exists())))
    }

    /// Takes other keys in. Their number comes last, with the names of their files.
    pub(super) fn put_identity(&self, identity: &VpnIdentity) -> Result<(), ApplyError> {
        delete_file(self.path.join(IDENTITY))?;
        let mut noted = format!("{}\n", identity.id);
        for (name, content) in &identity.files {
            self.put_secret(name, content)?;
            noted.push_str(&format!("{name}\n"));
        }
        write_whole(&self.path, IDENTITY, &noted)
    }

    /// `name` is one that the controller chose, but it leads nowhere else.
    fn put_secret(&self, name: &str, content: &str) -> Result<(), ApplyError> {
        let path = self.path.join(name);
        let failed = |source| ApplyError::File { operation: "write", path: path.clone(), source };
        if Path::new(name).components().count() != 1 || path.parent() != Some(self.path()) {
            return Err(failed(io::Error::from(io::ErrorKind::InvalidFilename)));
        }
        let draft = self.path.join(format!(".{name}"));
        let write = || {
            let mut options = fs::OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            file.write_all(content.as_bytes())?;
            file.sync_all()?;
            fs::rename(&draft, &path)
        };
        write().map_err(failed)
    }

    /// Writes the server's own configuration.
    pub(super) fn put_config(&self, text: &str) -> Result<(), ApplyError> {
        write_whole(&self.path, "server.conf", text)
    }

    /// What was started last, if it was not stopped since.
    pub(super) fn started(&self) -> Result<Option<Started>, ObserveError> {
        Ok(read(self.path.join(STARTED))?.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Notes what runs.
    pub(super) fn put_started(&self, started: &Started) -> Result<(), ApplyError> {
        let failed = |source: serde_json::Error| ApplyError::File {
            operation: "write",
            path: self.path.join(STARTED),
            source: source.into(),
        };
        let text = serde_json::to_string(started).map_err(failed)?;
        write_whole(&self.path, STARTED, &text)
    }

    /// Notes that nothing is known to run.
    pub(super) fn forget_started(&self) -> Result<(), ApplyError> {
        delete_file(self.path.join(STARTED))
    }
}
