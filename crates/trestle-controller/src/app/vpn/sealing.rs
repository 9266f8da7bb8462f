//! Keeps private keys encrypted: what is in the database cannot be read without a file that is not.
//!
//! AES-256-GCM (NIST SP 800-38D) with a random nonce. Whose key it is and what for is authenticated with
//! it, so that a row put in another's place does not open.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::{Digest, Sha256};
use trestle_core::types::ProjectId;
use uuid::Uuid;

use crate::error::{AppError, ErrorKind};
use crate::store::vpn::secret::{Purpose, Sealed};

/// How many bytes the key has.
const KEY_LEN: usize = 32;

/// Encrypts and decrypts with the key in a file. It is read each time: who restores it need not start
/// the controller anew.
#[derive(Clone, Debug)]
pub(in crate::app) struct Sealing {
    path: PathBuf,
}

/// Why something cannot be encrypted or decrypted. Names no secret.
#[derive(Debug, thiserror::Error)]
enum SealingError {
    #[error("cannot use the secret key file {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("the secret key file {} does not hold 32 bytes in base64", path.display())]
    NoKey { path: PathBuf },
    #[error("it was encrypted with key {was}, and the secret key file {} holds key {is}", path.display())]
    OtherKey { path: PathBuf, was: String, is: String },
    #[error("the ciphertext was changed, or put in another's place")]
    Damaged,
    #[error("there are no random numbers")]
    NoRandom(#[source] getrandom::Error),
}

/// The key, and what stands for it.
struct Key {
    id: String,
    key: LessSafeKey,
}

impl Sealing {
    pub(in crate::app) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Makes the key if there is none.
    pub(super) fn ensure_key(&self) -> Result<(), AppError> {
        let made = match self.key() {
            Err(SealingError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                random::<KEY_LEN>().and_then(|key| {
                    let text = format!("{}\n", STANDARD.encode(key));
                    self.put_new(&text).map_err(|source| self.failed(source))
                })
            }
            other => other.map(drop),
        };
        made.map_err(unusable)
    }

    /// Encrypts.
    pub(super) fn seal(&self, project: ProjectId, purpose: Purpose, plain: &str) -> Result<Sealed, AppError> {
        let sealed = || {
            let Key { id, key } = self.key()?;
            let nonce = random::<NONCE_LEN>()?;
            let mut text = plain.as_bytes().to_vec();
            let about = Aad::from(about(project, purpose));
            key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), about, &mut text)
                .map_err(|_| SealingError::Damaged)?;
            let text = STANDARD.encode([nonce.as_slice(), &text].concat());
            Ok(Sealed { key_id: id, text })
        };
        sealed().map_err(unusable)
    }

    /// Decrypts what [`Sealing::seal`] gave for the same.
    pub(super) fn open(
        &self,
        project: ProjectId,
        purpose: Purpose,
        sealed: &Sealed,
    ) -> Result<String, AppError> {
        let opened = || {
            let Key { id, key } = self.key()?;
            if id != sealed.key_id {
                let (path, was) = (self.path.clone(), sealed.key_id.clone());
                return Err(SealingError::OtherKey { path, was, is: id });
            }
            let bytes = STANDARD.decode(&sealed.text).map_err(|_| SealingError::Damaged)?;
            let (nonce, text) = bytes.split_first_chunk::<NONCE_LEN>().ok_or(SealingError::Damaged)?;
            let about = Aad::from(about(project, purpose));
            let mut text = text.to_vec();
            let plain = key
                .open_in_place(Nonce::assume_unique_for_key(*nonce), about, &mut text)
                .map_err(|_| SealingError::Damaged)?;
            String::from_utf8(plain.to_vec()).map_err(|_| SealingError::Damaged)
        };
        opened().map_err(unusable)
    }

    fn key(&self) -> Result<Key, SealingError> {
        let text = fs::read_to_string(&self.path).map_err(|source| self.failed(source))?;
        let no_key = || SealingError::NoKey { path: self.path.clone() };
        let bytes = STANDARD.decode(text.trim()).map_err(|_| no_key())?;
        let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| no_key())?;
        let digest = Sha256::digest([b"trestle secret key".as_slice(), &bytes].concat());
        let id = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Ok(Key { id, key: LessSafeKey::new(key) })
    }

    /// Writes the file, for its owner alone, unless somebody else has just done so: then that holds. It
    /// is there whole or not at all.
    fn put_new(&self, text: &str) -> io::Result<()> {
        let draft = self.path.with_extension(Uuid::now_v7().to_string());
        let written = write_whole(&draft, text).and_then(|()| fs::hard_link(&draft, &self.path));
        let _ = fs::remove_file(&draft);
        match written {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Ok(()) => match self.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                // What is encrypted with it must not outlive it in a power cut.
                Some(folder) => fs::File::open(folder)?.sync_all(),
                None => Ok(()),
            },
            failed => failed,
        }
    }

    fn failed(&self, source: io::Error) -> SealingError {
        SealingError::File { path: self.path.clone(), source }
    }
}

fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// What is authenticated beside the text.
fn about(project: ProjectId, purpose: Purpose) -> String {
    format!("trestle vpn {project} {}", purpose.name())
}

fn random<const N: usize>() -> Result<[u8; N], SealingError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(SealingError::NoRandom)?;
    Ok(bytes)
}

/// Who asks is not told where the controller's files are; its log is.
fn unusable(error: SealingError) -> AppError {
    let (message, hint) = match &error {
        SealingError::OtherKey { .. } => (
            "the VPN's keys were encrypted with another key than the controller has now",
            "an administrator restores the file that the option secret_key_file named when the VPN was made; the controller's log says more",
        ),
        SealingError::Damaged => (
            "the VPN's keys in the database were changed and cannot be read",
            "restore the database, or delete the VPN and make it anew",
        ),
        SealingError::File { .. } | SealingError::NoKey { .. } | SealingError::NoRandom(_) => (
            "the controller cannot use its secret key file",
            "an administrator sees to the file of the option secret_key_file; the controller's log says why",
        ),
    };
    AppError::new(ErrorKind::Unavailable, "secret_key", message).hint(hint).caused_by(error)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const ONE: ProjectId = ProjectId(Uuid::from_u128(1));
    const OTHER: ProjectId = ProjectId(Uuid::from_u128(2));

    fn why<T: std::fmt::Debug>(result: Result<T, AppError>) -> String {
        let error = result.unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        format!("{}: {cause}", error.error.code)
    }

    #[test]
    fn what_is_sealed_opens_with_the_same_key_for_the_same_alone() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("secret.key");
        let sealing = Sealing::new(path.clone());
        assert!(why(sealing.seal(ONE, Purpose::CaKey, "x")).contains("cannot use the secret key file"));
        sealing.ensure_key().unwrap();
        let sealed = sealing.seal(ONE, Purpose::CaKey, "the key").unwrap();
        sealing.ensure_key().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");
        assert_eq!(sealing.open(ONE, Purpose::CaKey, &sealed).unwrap(), "the key");
        assert_ne!(sealing.seal(ONE, Purpose::CaKey, "the key").unwrap().text, sealed.text);
        let damaged = "secret_key: the ciphertext was changed, or put in another's place";
        assert_eq!(why(sealing.open(OTHER, Purpose::CaKey, &sealed)), damaged);
        assert_eq!(why(sealing.open(ONE, Purpose::ServerKey, &sealed)), damaged);
        let short = Sealed { text: "AAAA".to_owned(), ..sealed.clone() };
        assert_eq!(why(sealing.open(ONE, Purpose::CaKey, &short)), damaged);
        fs::rename(&path, folder.path().join("before")).unwrap();
        assert!(why(sealing.open(ONE, Purpose::CaKey, &sealed)).contains("cannot use the secret key file"));
        sealing.ensure_key().unwrap();
        assert!(why(sealing.open(ONE, Purpose::CaKey, &sealed)).contains("it was encrypted with key"));
        fs::write(&path, "no key").unwrap();
        assert!(why(sealing.seal(ONE, Purpose::CaKey, "x")).contains("does not hold 32 bytes in base64"));
    }
}
