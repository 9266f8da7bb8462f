//! Security groups, without their rules.

mod rule;

use std::collections::BTreeMap;

use jiff::Timestamp;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use trestle_api::SecurityGroupMembers;
use trestle_core::types::{Name, ProjectId, SecurityGroupId};
use trestle_core::world::{self, Rule};

use crate::store::columns::Columns;
use crate::store::error::{During, StoreError};
use crate::store::number::{self, Numbered};

pub(crate) use rule::{
    RuleRecord, count_rules, delete_expired, delete_rule, find_rule, groups_with_expired, insert_rule,
    list_rules, rules_of,
};

/// A security group as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct GroupRecord {
    /// Names it for life.
    pub(crate) id: SecurityGroupId,
    /// What it is called by on hosts.
    pub(crate) number: u32,
    /// Its project.
    pub(crate) project: ProjectId,
    /// The name of its project.
    pub(crate) project_name: Name,
    /// Its name, unique in its project.
    pub(crate) name: Name,
    /// What it is for.
    pub(crate) description: String,
    /// When it was made.
    pub(crate) created_at: Timestamp,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT g.id, g.number, g.project, p.name, g.name, g.description, g.created_at
             FROM security_groups g JOIN projects p ON p.id = g.project ",
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
) -> Result<Vec<GroupRecord>, StoreError> {
    let rows = sqlx::query(select!(
        "WHERE (g.id = $1 OR g.name = $1) AND (CAST($2 AS TEXT) IS NULL OR g.project = $2) ORDER BY g.id LIMIT 2"
    ))
    .bind(reference)
    .bind(project.map(|id| id.to_string()))
    .fetch_all(connection)
    .await
    .during("read a security group")?;
    rows.iter().map(from_row).collect()
}

/// Which groups.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter<'a> {
    /// Of this project.
    pub(crate) project: Option<ProjectId>,
    /// Of this name.
    pub(crate) name: Option<&'a str>,
}

/// The groups after this id.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    filter: &Filter<'_>,
    after: &str,
    limit: i64,
) -> Result<Vec<GroupRecord>, StoreError> {
    let rows = sqlx::query(select!(
        "WHERE g.id > $1 AND (CAST($2 AS TEXT) IS NULL OR g.project = $2)
           AND (CAST($3 AS TEXT) IS NULL OR g.name = $3)
         ORDER BY g.id LIMIT $4"
    ))
    .bind(after)
    .bind(filter.project.map(|id| id.to_string()))
    .bind(filter.name)
    .bind(limit)
    .fetch_all(connection)
    .await
    .during("list security groups")?;
    rows.iter().map(from_row).collect()
}

/// Every group there is, with its rules, as hosts know it.
pub(crate) async fn all(connection: &mut AnyConnection) -> Result<Vec<world::SecurityGroup>, StoreError> {
    let query = sqlx::query(select!("ORDER BY g.id"));
    let rows = query.fetch_all(&mut *connection).await.during("read every security group")?;
    with_rules(&rows, rule::all(connection).await?)
}

/// The groups that changed after this place in the change log, with their rules, as they are now.
pub(crate) async fn changed_after(
    connection: &mut AnyConnection,
    last: i64,
) -> Result<Vec<world::SecurityGroup>, StoreError> {
    let query = sqlx::query(select!(
        "WHERE g.id IN (SELECT entity FROM changes WHERE id > $1 AND entity_kind = 'security_group')"
    ));
    let rows = query.bind(last).fetch_all(&mut *connection).await.during("read changed security groups")?;
    with_rules(&rows, rule::changed_after(connection, last).await?)
}

/// Puts a new one in and gives its number, unless its project has one of this name: then nothing.
pub(crate) async fn insert(
    connection: &mut AnyConnection,
    group: &GroupRecord,
) -> Result<Option<u32>, StoreError> {
    let number = number::next(connection, Numbered::SecurityGroup).await?;
    let result = sqlx::query(
        "INSERT INTO security_groups (id, number, project, name, description, created_at)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (project, name) DO NOTHING",
    )
    .bind(group.id.to_string())
    .bind(i64::from(number))
    .bind(group.project.to_string())
    .bind(group.name.as_str())
    .bind(group.description.as_str())
    .bind(group.created_at.as_microsecond())
    .execute(connection)
    .await
    .during("insert a security group")?;
    Ok((result.rows_affected() == 1).then_some(number))
}

/// Changes its name, which must be free, and its description.
pub(crate) async fn update(connection: &mut AnyConnection, group: &GroupRecord) -> Result<(), StoreError> {
    sqlx::query("UPDATE security_groups SET name = $2, description = $3 WHERE id = $1")
        .bind(group.id.to_string())
        .bind(group.name.as_str())
        .bind(group.description.as_str())
        .execute(connection)
        .await
        .during("change a security group")?;
    Ok(())
}

/// Takes it out with its rules; nothing may use it.
pub(crate) async fn delete(connection: &mut AnyConnection, id: SecurityGroupId) -> Result<(), StoreError> {
    for sql in [
        "DELETE FROM security_group_rules WHERE security_group = $1",
        // Of interfaces that would be in it again with their port security on.
        "DELETE FROM interface_security_groups WHERE security_group = $1",
        "DELETE FROM security_groups WHERE id = $1",
    ] {
        let query = sqlx::query(sql).bind(id.to_string());
        query.execute(&mut *connection).await.during("delete a security group")?;
    }
    Ok(())
}

/// What keeps it from being deleted: the names of some instances that are in it, and of some other
/// groups with rules that name it.
pub(crate) async fn uses(
    connection: &mut AnyConnection,
    id: SecurityGroupId,
) -> Result<Vec<String>, StoreError> {
    let rows = sqlx::query(
        "SELECT DISTINCT 'instance `' || v.name || '`' AS used FROM interface_security_groups m
         JOIN interfaces i ON i.id = m.interface JOIN instances v ON v.id = i.instance
         WHERE m.security_group = $1 AND i.port_security = 1
         UNION SELECT 'security group `' || g.name || '` (by a rule)' FROM security_group_rules r
         JOIN security_groups g ON g.id = r.security_group WHERE r.remote_group = $1 AND g.id <> $1
         ORDER BY used LIMIT 10",
    )
    .bind(id.to_string())
    .fetch_all(connection)
    .await
    .during("look for what uses a security group")?;
    rows.iter().map(|row| Ok(Columns::of(row).text()?.to_owned())).collect()
}

/// The instances that have an interface in it.
pub(crate) async fn members(
    connection: &mut AnyConnection,
    id: SecurityGroupId,
) -> Result<SecurityGroupMembers, StoreError> {
    let row = sqlx::query(
        "SELECT COUNT(DISTINCT i.instance) FROM interface_security_groups m
         JOIN interfaces i ON i.id = m.interface WHERE m.security_group = $1 AND i.port_security = 1",
    )
    .bind(id.to_string())
    .fetch_one(&mut *connection)
    .await
    .during("count who is in a security group")?;
    let rows = sqlx::query(
        "SELECT DISTINCT v.name FROM interface_security_groups m JOIN interfaces i ON i.id = m.interface
         JOIN instances v ON v.id = i.instance WHERE m.security_group = $1 AND i.port_security = 1
         ORDER BY v.name LIMIT 10",
    )
    .bind(id.to_string())
    .fetch_all(connection)
    .await
    .during("look who is in a security group")?;
    let first = rows.iter().map(|row| Columns::of(row).parse()).collect::<Result<_, _>>()?;
    Ok(SecurityGroupMembers { instances: Columns::of(&row).count()?, first })
}

fn with_rules(
    rows: &[AnyRow],
    rules: Vec<(SecurityGroupId, Rule)>,
) -> Result<Vec<world::SecurityGroup>, StoreError> {
    let mut of_groups: BTreeMap<SecurityGroupId, Vec<Rule>> = BTreeMap::new();
    for (group, rule) in rules {
        of_groups.entry(group).or_default().push(rule);
    }
    let group = |row| {
        let GroupRecord { id, number, project, .. } = from_row(row)?;
        Ok(world::SecurityGroup { id, number, project, rules: of_groups.remove(&id).unwrap_or_default() })
    };
    rows.iter().map(group).collect()
}

fn from_row(row: &AnyRow) -> Result<GroupRecord, StoreError> {
    let mut columns = Columns::of(row);
    Ok(GroupRecord {
        id: columns.parse()?,
        number: columns.small()?,
        project: columns.parse()?,
        project_name: columns.parse()?,
        name: columns.parse()?,
        description: columns.text()?.to_owned(),
        created_at: columns.time()?,
    })
}
