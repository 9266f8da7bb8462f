//! Instances, without their interfaces.

use jiff::Timestamp;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use trestle_core::types::{InstanceId, Name, ProjectId};

use crate::store::columns::Columns;
use crate::store::error::{During, StoreError};

/// An instance as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct InstanceRecord {
    /// Names it for life.
    pub(crate) id: InstanceId,
    /// Its name, unique in its project.
    pub(crate) name: Name,
    /// Its project.
    pub(crate) project: ProjectId,
    /// The name of its project.
    pub(crate) project_name: Name,
    /// When it was made.
    pub(crate) created_at: Timestamp,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT i.id, i.name, i.project, p.name, i.created_at
             FROM instances i JOIN projects p ON p.id = i.project ",
            $rest
        )
    };
}

/// The instances of this id or name, in this project if one is given; two at most, so that the
/// caller sees that there are several.
pub(crate) async fn find(
    connection: &mut AnyConnection,
    reference: &str,
    project: Option<ProjectId>,
) -> Result<Vec<InstanceRecord>, StoreError> {
    let rows = sqlx::query(select!(
        "WHERE (i.id = $1 OR i.name = $1) AND (CAST($2 AS TEXT) IS NULL OR i.project = $2) ORDER BY i.id LIMIT 2"
    ))
    .bind(reference)
    .bind(project.map(|id| id.to_string()))
    .fetch_all(connection)
    .await
    .during("read an instance")?;
    rows.iter().map(from_row).collect()
}

/// Which instances.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    /// Of this project.
    pub(crate) project: Option<String>,
    /// Of this name.
    pub(crate) name: Option<String>,
    /// With an interface plugged in on this host.
    pub(crate) host: Option<String>,
    /// With an interface on this network.
    pub(crate) network: Option<String>,
}

/// The instances after this id.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    filter: &Filter,
    after: &str,
    limit: i64,
) -> Result<Vec<InstanceRecord>, StoreError> {
    let rows = sqlx::query(select!(
        "WHERE i.id > $1 AND (CAST($2 AS TEXT) IS NULL OR i.project = $2)
           AND (CAST($3 AS TEXT) IS NULL OR i.name = $3)
           AND (CAST($4 AS TEXT) IS NULL OR EXISTS (SELECT 1 FROM interfaces f WHERE f.instance = i.id AND f.host = $4))
           AND (CAST($5 AS TEXT) IS NULL OR EXISTS (SELECT 1 FROM interfaces f WHERE f.instance = i.id AND f.network = $5))
         ORDER BY i.id LIMIT $6"
    ))
    .bind(after)
    .bind(filter.project.as_deref())
    .bind(filter.name.as_deref())
    .bind(filter.host.as_deref())
    .bind(filter.network.as_deref())
    .bind(limit)
    .fetch_all(connection)
    .await
    .during("list instances")?;
    rows.iter().map(from_row).collect()
}

/// Puts a new one in, unless its project has one of this name: then nothing, and false.
pub(crate) async fn insert(
    connection: &mut AnyConnection,
    instance: &InstanceRecord,
) -> Result<bool, StoreError> {
    let sql = "INSERT INTO instances (id, name, project, created_at) VALUES ($1, $2, $3, $4)
               ON CONFLICT (project, name) DO NOTHING";
    let result = sqlx::query(sql)
        .bind(instance.id.to_string())
        .bind(instance.name.as_str())
        .bind(instance.project.to_string())
        .bind(instance.created_at.as_microsecond())
        .execute(connection)
        .await
        .during("insert an instance")?;
    Ok(result.rows_affected() == 1)
}

/// Takes it out; its interfaces must be gone.
pub(crate) async fn delete(connection: &mut AnyConnection, id: InstanceId) -> Result<(), StoreError> {
    let query = sqlx::query("DELETE FROM instances WHERE id = $1").bind(id.to_string());
    query.execute(connection).await.during("delete an instance")?;
    Ok(())
}

fn from_row(row: &AnyRow) -> Result<InstanceRecord, StoreError> {
    let mut columns = Columns::of(row);
    Ok(InstanceRecord {
        id: columns.parse()?,
        name: columns.parse()?,
        project: columns.parse()?,
        project_name: columns.parse()?,
        created_at: columns.time()?,
    })
}
