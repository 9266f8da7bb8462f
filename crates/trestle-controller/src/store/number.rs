//! Numbers by which hosts call things; none is given twice.

use sqlx::AnyConnection;

use crate::store::columns::Columns;
use crate::store::error::{During, StoreError};

/// What is numbered.
#[derive(Clone, Copy, Debug)]
pub(super) enum Numbered {
    SecurityGroup,
    SecurityGroupRule,
    AddressGroup,
}

/// The next number of things of this kind.
pub(super) async fn next(connection: &mut AnyConnection, kind: Numbered) -> Result<u32, StoreError> {
    let kind = match kind {
        Numbered::SecurityGroup => "security_group",
        Numbered::SecurityGroupRule => "security_group_rule",
        Numbered::AddressGroup => "address_group",
    };
    let row = sqlx::query("UPDATE numbers SET last = last + 1 WHERE kind = $1 RETURNING last")
        .bind(kind)
        .fetch_one(connection)
        .await
        .during("number a thing")?;
    Columns::of(&row).small()
}
