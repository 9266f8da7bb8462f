//! Address groups, with their ranges.

use std::collections::BTreeSet;

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe};
use trestle_core::types::{AddressGroupId, Cidr, Name, ProjectId};
use trestle_core::world::AddressGroup;

use crate::store::columns::{self, Columns};
use crate::store::error::{During, StoreError};
use crate::store::number::{self, Numbered};

/// How many rows one statement inserts.
const ROWS: usize = 50;

/// An address group as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct AddressGroupRecord {
    /// What bears on compiling.
    pub(crate) group: AddressGroup,
    /// Its project.
    pub(crate) project: ProjectId,
    /// The name of its project.
    pub(crate) project_name: Name,
    /// Its name, unique in its project.
    pub(crate) name: Name,
    /// When it was made.
    pub(crate) created_at: Timestamp,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT a.id, a.number, a.project, p.name, a.name, a.created_at,
                    (SELECT string_agg(r.cidr, ',') FROM address_group_ranges r WHERE r.address_group = a.id)
             FROM address_groups a JOIN projects p ON p.id = a.project ",
            $rest
        )
    };
}

/// The groups of this id or name, in this project if one is given; two at most, so that the caller
/// sees that there are several.
pub(crate) async fn find(
    connection: &mut AnyConnection,
    reference: &str,
    project: Option<ProjectId>,
) -> Result<Vec<AddressGroupRecord>, StoreError> {
    let rows = sqlx::query(select!(
        "WHERE (a.id = $1 OR a.name = $1) AND (CAST($2 AS TEXT) IS NULL OR a.project = $2) ORDER BY a.id LIMIT 2"
    ))
    .bind(reference)
    .bind(project.map(|id| id.to_string()))
    .fetch_all(connection)
    .await
    .during("read an address group")?;
    rows.iter().map(from_row).collect()
}

/// The groups after this id; only this project's and of this name, if those are given.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    (project, name): (Option<ProjectId>, Option<&str>),
    after: &str,
    limit: i64,
) -> Result<Vec<AddressGroupRecord>, StoreError> {
    let rows = sqlx::query(select!(
        "WHERE a.id > $1 AND (CAST($2 AS TEXT) IS NULL OR a.project = $2)
           AND (CAST($3 AS TEXT) IS NULL OR a.name = $3)
         ORDER BY a.id LIMIT $4"
    ))
    .bind(after)
    .bind(project.map(|id| id.to_string()))
    .bind(name)
    .bind(limit)
    .fetch_all(connection)
    .await
    .during("list address groups")?;
    rows.iter().map(from_row).collect()
}

/// The groups that changed after this place in the change log, as they are now.
pub(crate) async fn changed_after(
    connection: &mut AnyConnection,
    last: i64,
) -> Result<Vec<AddressGroupRecord>, StoreError> {
    let query = sqlx::query(select!(
        "WHERE a.id IN (SELECT entity FROM changes WHERE id > $1 AND entity_kind = 'address_group')"
    ));
    let rows = query.bind(last).fetch_all(connection).await.during("read changed address groups")?;
    rows.iter().map(from_row).collect()
}

/// Puts a new one in with its ranges and gives its number, unless its project has one of this name:
/// then nothing.
pub(crate) async fn insert(
    connection: &mut AnyConnection,
    record: &AddressGroupRecord,
) -> Result<Option<u32>, StoreError> {
    let number = number::next(connection, Numbered::AddressGroup).await?;
    let result = sqlx::query(
        "INSERT INTO address_groups (id, number, project, name, created_at)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (project, name) DO NOTHING",
    )
    .bind(record.group.id.to_string())
    .bind(i64::from(number))
    .bind(record.project.to_string())
    .bind(record.name.as_str())
    .bind(record.created_at.as_microsecond())
    .execute(&mut *connection)
    .await
    .during("insert an address group")?;
    if result.rows_affected() == 0 {
        return Ok(None);
    }
    insert_ranges(connection, &record.group).await?;
    Ok(Some(number))
}

/// Changes its name, which must be free, and its ranges.
pub(crate) async fn update(
    connection: &mut AnyConnection,
    record: &AddressGroupRecord,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE address_groups SET name = $2 WHERE id = $1")
        .bind(record.group.id.to_string())
        .bind(record.name.as_str())
        .execute(&mut *connection)
        .await
        .during("change an address group")?;
    sqlx::query("DELETE FROM address_group_ranges WHERE address_group = $1")
        .bind(record.group.id.to_string())
        .execute(&mut *connection)
        .await
        .during("empty an address group")?;
    insert_ranges(connection, &record.group).await
}

/// Takes it out with its ranges; no rule may name it.
pub(crate) async fn delete(connection: &mut AnyConnection, id: AddressGroupId) -> Result<(), StoreError> {
    let query = sqlx::query("DELETE FROM address_groups WHERE id = $1").bind(id.to_string());
    query.execute(connection).await.during("delete an address group")?;
    Ok(())
}

/// What keeps it from being deleted: some security groups with rules that name it.
pub(crate) async fn uses(
    connection: &mut AnyConnection,
    id: AddressGroupId,
) -> Result<Vec<String>, StoreError> {
    let rows = sqlx::query(
        "SELECT DISTINCT g.name FROM security_group_rules r JOIN security_groups g ON g.id = r.security_group
         WHERE r.remote_address_group = $1 ORDER BY g.name LIMIT 10",
    )
    .bind(id.to_string())
    .fetch_all(connection)
    .await
    .during("look for rules that name an address group")?;
    rows.iter().map(|row| Ok(format!("security group `{}`", Columns::of(row).text()?))).collect()
}

async fn insert_ranges(connection: &mut AnyConnection, group: &AddressGroup) -> Result<(), StoreError> {
    let ranges: Vec<&Cidr> = group.ranges.iter().collect();
    for chunk in ranges.chunks(ROWS) {
        let sql = format!(
            "INSERT INTO address_group_ranges (address_group, cidr) VALUES {}",
            columns::rows(chunk.len(), 2)
        );
        let query = sqlx::query(AssertSqlSafe(sql));
        let query =
            chunk.iter().fold(query, |query, range| query.bind(group.id.to_string()).bind(range.to_string()));
        query.execute(&mut *connection).await.during("insert the ranges of an address group")?;
    }
    Ok(())
}

fn from_row(row: &AnyRow) -> Result<AddressGroupRecord, StoreError> {
    let mut columns = Columns::of(row);
    let (id, number) = (columns.parse()?, columns.small()?);
    let (project, project_name, name) = (columns.parse()?, columns.parse()?, columns.parse()?);
    let created_at = columns.time()?;
    let ranges: BTreeSet<Cidr> = columns.parse_list(',')?;
    let group = AddressGroup { id, number, ranges };
    Ok(AddressGroupRecord { group, project, project_name, name, created_at })
}
