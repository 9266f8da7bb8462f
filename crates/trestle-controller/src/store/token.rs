//! Tokens: the hash of each secret and whose it is.

use jiff::Timestamp;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use trestle_api::{Role, Token};
use trestle_core::types::{HostId, ProjectId};
use uuid::Uuid;

use crate::store::columns::Columns;
use crate::store::error::{During, StoreError};

/// Whose a token is, by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// An admin's.
    Admin,
    /// A member's of this project.
    Member(ProjectId),
    /// The agent's of this host.
    Agent(HostId),
}

/// A token to be kept.
#[derive(Clone, Debug)]
pub(crate) struct NewTokenRecord<'a> {
    /// Names it for life.
    pub(crate) id: Uuid,
    /// SHA-256 of the secret, in hex.
    pub(crate) hash: &'a str,
    /// Whose it is.
    pub(crate) holder: Holder,
    /// For people.
    pub(crate) description: &'a str,
    /// When it was made.
    pub(crate) created_at: Timestamp,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT t.id, t.role, p.name, h.name, t.description, t.created_at
             FROM tokens t LEFT JOIN projects p ON p.id = t.project LEFT JOIN hosts h ON h.id = t.host ",
            $rest
        )
    };
}

/// Whose the token of this hash is.
pub(crate) async fn holder(connection: &mut AnyConnection, hash: &str) -> Result<Option<Holder>, StoreError> {
    let row = sqlx::query("SELECT role, project, host FROM tokens WHERE hash = $1")
        .bind(hash)
        .fetch_optional(connection)
        .await
        .during("read a token")?;
    let Some(row) = row else { return Ok(None) };
    let mut columns = Columns::of(&row);
    let role = role(&mut columns)?;
    let (project, host) = (columns.optional_parse()?, columns.optional_parse()?);
    Ok(Some(match (role, project, host) {
        (Role::Admin, None, None) => Holder::Admin,
        (Role::Member, Some(project), None) => Holder::Member(project),
        (Role::Agent, None, Some(host)) => Holder::Agent(host),
        _ => return Err(columns.corrupt("a token of nobody")),
    }))
}

/// Whether there is a token of an admin's.
pub(crate) async fn admin_exists(connection: &mut AnyConnection) -> Result<bool, StoreError> {
    let query = sqlx::query("SELECT 1 FROM tokens WHERE role = 'admin' LIMIT 1");
    Ok(query.fetch_optional(connection).await.during("look for an admin's token")?.is_some())
}

/// The token of this id.
pub(crate) async fn find(connection: &mut AnyConnection, id: &str) -> Result<Option<Token>, StoreError> {
    let query = sqlx::query(select!("WHERE t.id = $1")).bind(id);
    query.fetch_optional(connection).await.during("read a token")?.as_ref().map(from_row).transpose()
}

/// The tokens after this id.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    after: &str,
    limit: i64,
) -> Result<Vec<Token>, StoreError> {
    let query = sqlx::query(select!("WHERE t.id > $1 ORDER BY t.id LIMIT $2")).bind(after).bind(limit);
    query.fetch_all(connection).await.during("list tokens")?.iter().map(from_row).collect()
}

/// Puts a new one in.
pub(crate) async fn insert(
    connection: &mut AnyConnection,
    token: &NewTokenRecord<'_>,
) -> Result<(), StoreError> {
    let (role, project, host) = match token.holder {
        Holder::Admin => ("admin", None, None),
        Holder::Member(project) => ("member", Some(project.to_string()), None),
        Holder::Agent(host) => ("agent", None, Some(host.to_string())),
    };
    sqlx::query(
        "INSERT INTO tokens (id, hash, role, project, host, description, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(token.id.to_string())
    .bind(token.hash)
    .bind(role)
    .bind(project)
    .bind(host)
    .bind(token.description)
    .bind(token.created_at.as_microsecond())
    .execute(connection)
    .await
    .during("insert a token")?;
    Ok(())
}

/// Takes it out.
pub(crate) async fn delete(connection: &mut AnyConnection, id: Uuid) -> Result<(), StoreError> {
    let query = sqlx::query("DELETE FROM tokens WHERE id = $1").bind(id.to_string());
    query.execute(connection).await.during("delete a token")?;
    Ok(())
}

fn role(columns: &mut Columns<'_>) -> Result<Role, StoreError> {
    match columns.text()? {
        "admin" => Ok(Role::Admin),
        "member" => Ok(Role::Member),
        "agent" => Ok(Role::Agent),
        other => Err(columns.corrupt(other)),
    }
}

fn from_row(row: &AnyRow) -> Result<Token, StoreError> {
    let mut columns = Columns::of(row);
    Ok(Token {
        id: columns.parse()?,
        role: role(&mut columns)?,
        project: columns.optional_parse()?,
        host: columns.optional_parse()?,
        description: columns.text()?.to_owned(),
        created_at: columns.time()?,
    })
}
