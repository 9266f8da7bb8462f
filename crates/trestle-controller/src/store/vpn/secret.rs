//! The private keys of VPNs, encrypted: what is here cannot be read without the controllers' own key.

use sqlx::AnyConnection;
use trestle_core::types::ProjectId;

use crate::store::Write;
use crate::store::columns::Columns;
use crate::store::error::{During, StoreError};

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Signs certificates.
    CaKey,
    /// The VPN's own certificate's.
    ServerKey,
    /// What OpenVPN's clients and server have in common.
    TlsCrypt,
    /// WireGuard's.
    WireGuardKey,
}

impl Purpose {
    /// Its name in the database, which is bound to the ciphertext too.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CaKey => "ca_key",
            Self::ServerKey => "server_key",
            Self::TlsCrypt => "tls_crypt",
            Self::WireGuardKey => "wireguard_key",
        }
    }
}

/// A ciphertext.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sealed {
    /// Stands for the key it was made with.
    pub(crate) key_id: String,
    /// Base64.
    pub(crate) text: String,
}

/// Keeps a VPN's key, in place of the one before.
pub(crate) async fn put(
    write: &mut Write,
    (project, purpose): (ProjectId, Purpose),
    sealed: &Sealed,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO vpn_secrets (project, purpose, key_id, sealed) VALUES ($1, $2, $3, $4)
         ON CONFLICT (project, purpose) DO UPDATE SET key_id = excluded.key_id, sealed = excluded.sealed",
    )
    .bind(project.to_string())
    .bind(purpose.name())
    .bind(sealed.key_id.as_str())
    .bind(sealed.text.as_str())
    .execute(write.connection())
    .await
    .during("keep a VPN's key")?;
    Ok(())
}

/// Whether any VPN has keys.
pub(crate) async fn are_any(connection: &mut AnyConnection) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT 1 FROM vpn_secrets LIMIT 1").fetch_optional(connection).await;
    Ok(row.during("look whether any VPN has keys")?.is_some())
}

/// A VPN's key.
pub(crate) async fn find(
    connection: &mut AnyConnection,
    project: ProjectId,
    purpose: Purpose,
) -> Result<Option<Sealed>, StoreError> {
    let row = sqlx::query("SELECT key_id, sealed FROM vpn_secrets WHERE project = $1 AND purpose = $2")
        .bind(project.to_string())
        .bind(purpose.name())
        .fetch_optional(connection)
        .await
        .during("read a VPN's key")?;
    row.map(|row| {
        let mut columns = Columns::of(&row);
        Ok(Sealed { key_id: columns.text()?.to_owned(), text: columns.text()?.to_owned() })
    })
    .transpose()
}
