//! The secret that the metadata service knows us by.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use trestle_core::types::InstanceId;

/// What is shared with the metadata service, and never said to anybody.
pub struct MetadataSecret(Vec<u8>);

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file has nothing in it.
    #[error("{0} is empty")]
    Empty(PathBuf),
}

impl MetadataSecret {
    /// The file's content, less the end of its line.
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        let content =
            std::fs::read(path).map_err(|source| SecretError::Read { path: path.to_owned(), source })?;
        match content.trim_ascii_end() {
            [] => Err(SecretError::Empty(path.to_owned())),
            secret => Ok(Self(secret.to_owned())),
        }
    }

    /// HMAC-SHA256 of the instance's id under the secret (RFC 2104), in hex: what Nova's metadata service
    /// takes as `X-Instance-ID-Signature`.
    pub(super) fn sign(&self, instance: InstanceId) -> String {
        let mut signing = Hmac::<Sha256>::new_from_slice(&self.0).expect("a key of any length is one");
        signing.update(instance.to_string().as_bytes());
        signing.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for MetadataSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MetadataSecret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By openssl: `printf 00000000-0000-0000-0000-000000000001 | openssl dgst -sha256 -hmac hunter2`.
    #[test]
    fn an_instance_is_signed_for_as_openssl_does() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, "hunter2\n").unwrap();
        let secret = MetadataSecret::read(&file).unwrap();
        let signature = secret.sign(InstanceId(uuid::Uuid::from_u128(1)));
        assert_eq!(signature, "b30b843255d476fbe51bcdb120089de624df279935f78cab0294dd51ad704c37");
        assert!(!format!("{secret:?}").contains("hunter2"));
    }

    #[test]
    fn a_file_without_a_secret_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        assert!(matches!(MetadataSecret::read(&file), Err(SecretError::Read { .. })));
        std::fs::write(&file, "\n").unwrap();
        assert!(matches!(MetadataSecret::read(&file), Err(SecretError::Empty(_))));
    }
}
