//! Projects.

use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use trestle_api::Project;
use trestle_core::types::ProjectId;

use crate::store::columns::Columns;
use crate::store::error::{During, StoreError};

/// The project of this id or name.
pub(crate) async fn find(
    connection: &mut AnyConnection,
    reference: &str,
) -> Result<Option<Project>, StoreError> {
    let row = sqlx::query("SELECT id, name, created_at FROM projects WHERE id = $1 OR name = $1")
        .bind(reference)
        .fetch_optional(connection)
        .await
        .during("read a project")?;
    row.as_ref().map(from_row).transpose()
}

/// The projects after this id; only this one if one is given.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    only: Option<ProjectId>,
    after: &str,
    limit: i64,
) -> Result<Vec<Project>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, name, created_at FROM projects
         WHERE id > $1 AND (CAST($2 AS TEXT) IS NULL OR id = $2) ORDER BY id LIMIT $3",
    )
    .bind(after)
    .bind(only.map(|id| id.to_string()))
    .bind(limit)
    .fetch_all(connection)
    .await
    .during("list projects")?;
    rows.iter().map(from_row).collect()
}

/// Puts a new one in.
pub(crate) async fn insert(connection: &mut AnyConnection, project: &Project) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO projects (id, name, created_at) VALUES ($1, $2, $3)")
        .bind(project.id.to_string())
        .bind(project.name.as_str())
        .bind(project.created_at.as_microsecond())
        .execute(connection)
        .await
        .during("insert a project")?;
    Ok(())
}

/// Takes it out, and its members' tokens with it.
pub(crate) async fn delete(connection: &mut AnyConnection, id: ProjectId) -> Result<(), StoreError> {
    for sql in ["DELETE FROM tokens WHERE project = $1", "DELETE FROM projects WHERE id = $1"] {
        let query = sqlx::query(sql).bind(id.to_string());
        query.execute(&mut *connection).await.during("delete a project")?;
    }
    Ok(())
}

/// What keeps it from being deleted: the names of some of its instances and networks.
pub(crate) async fn uses(connection: &mut AnyConnection, id: ProjectId) -> Result<Vec<String>, StoreError> {
    let rows = sqlx::query(
        "SELECT 'network `' || name || '`' FROM networks WHERE project = $1
         UNION ALL SELECT 'instance `' || name || '`' FROM instances WHERE project = $1 LIMIT 10",
    )
    .bind(id.to_string())
    .fetch_all(connection)
    .await
    .during("look for a project's things")?;
    rows.iter().map(|row| Ok(Columns::of(row).text()?.to_owned())).collect()
}

fn from_row(row: &AnyRow) -> Result<Project, StoreError> {
    let mut columns = Columns::of(row);
    Ok(Project { id: columns.parse()?, name: columns.parse()?, created_at: columns.time()? })
}
