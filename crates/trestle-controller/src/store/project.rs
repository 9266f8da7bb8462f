//! Projects.

use jiff::Timestamp;
use sqlx::AnyConnection;
use trestle_api::project::Usage;
use trestle_core::types::{Name, PoolId, ProjectId};

use crate::store::columns::Columns;
use crate::store::error::{During, StoreError};

/// A project as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct ProjectRecord {
    /// Names it for life.
    pub(crate) id: ProjectId,
    /// Its name, unique.
    pub(crate) name: Name,
    /// How much it may have.
    pub(crate) quota: Limits,
    /// The pool of which each of its new instances gets a floating IP.
    pub(crate) auto_assign: Option<(PoolId, Name)>,
    /// When it was made.
    pub(crate) created_at: Timestamp,
}

/// How much a project may have: `None` is what the controller's option says, -1 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Networks of its own.
    pub(crate) networks: Option<i64>,
    /// Fixed IPs of its instances.
    pub(crate) fixed_ips: Option<i64>,
    /// Floating IPs.
    pub(crate) floating_ips: Option<i64>,
    /// Security groups.
    pub(crate) security_groups: Option<i64>,
    /// Rules of each security group.
    pub(crate) security_group_rules: Option<i64>,
}

macro_rules! columns {
    () => {
        "SELECT p.id, p.name, p.quota_networks, p.quota_fixed_ips, p.quota_floating_ips, p.quota_security_groups,
                p.quota_security_group_rules, a.id, a.name, p.created_at"
    };
}

// Projects `p`.
macro_rules! from {
    () => {
        " FROM projects p LEFT JOIN pools a ON a.id = p.auto_assign "
    };
}

macro_rules! usage {
    () => {
        "(SELECT COUNT(*) FROM networks n WHERE n.project = p.id),
         (SELECT COUNT(*) FROM instances v JOIN interfaces i ON i.instance = v.id
          JOIN fixed_ips f ON f.interface = i.id WHERE v.project = p.id),
         (SELECT COUNT(*) FROM floating_ips f WHERE f.project = p.id AND f.auto_assigned = 0),
         (SELECT COUNT(*) FROM security_groups g WHERE g.project = p.id),
         (SELECT COALESCE(MAX(c.rules), 0) FROM (
             SELECT COUNT(*) AS rules FROM security_groups g JOIN security_group_rules r ON r.security_group = g.id
             WHERE g.project = p.id GROUP BY g.id) c)"
    };
}

/// The project of this id or name.
pub(crate) async fn find(
    connection: &mut AnyConnection,
    reference: &str,
) -> Result<Option<ProjectRecord>, StoreError> {
    let row = sqlx::query(concat!(columns!(), from!(), "WHERE p.id = $1 OR p.name = $1"))
        .bind(reference)
        .fetch_optional(connection)
        .await
        .during("read a project")?;
    row.map(|row| from_columns(&mut Columns::of(&row))).transpose()
}

/// The projects after this id, with what they have; only this one if one is given.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    only: Option<ProjectId>,
    after: &str,
    limit: i64,
) -> Result<Vec<(ProjectRecord, Usage)>, StoreError> {
    let rows = sqlx::query(concat!(
        columns!(),
        ", ",
        usage!(),
        from!(),
        "WHERE p.id > $1 AND (CAST($2 AS TEXT) IS NULL OR p.id = $2) ORDER BY p.id LIMIT $3"
    ))
    .bind(after)
    .bind(only.map(|id| id.to_string()))
    .bind(limit)
    .fetch_all(connection)
    .await
    .during("list projects")?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            Ok((from_columns(&mut columns)?, usage_from(&mut columns)?))
        })
        .collect()
}

/// How much the project has; takes as long as that is much.
pub(crate) async fn usage(connection: &mut AnyConnection, id: ProjectId) -> Result<Usage, StoreError> {
    let row = sqlx::query(concat!("SELECT ", usage!(), " FROM projects p WHERE p.id = $1"))
        .bind(id.to_string())
        .fetch_one(connection)
        .await
        .during("count a project's things")?;
    usage_from(&mut Columns::of(&row))
}

/// Puts a new one in.
pub(crate) async fn insert(connection: &mut AnyConnection, record: &ProjectRecord) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO projects (id, name, quota_networks, quota_fixed_ips, quota_floating_ips,
             quota_security_groups, quota_security_group_rules, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(record.id.to_string())
    .bind(record.name.as_str())
    .bind(record.quota.networks)
    .bind(record.quota.fixed_ips)
    .bind(record.quota.floating_ips)
    .bind(record.quota.security_groups)
    .bind(record.quota.security_group_rules)
    .bind(record.created_at.as_microsecond())
    .execute(connection)
    .await
    .during("insert a project")?;
    Ok(())
}

/// Changes how much it may have.
pub(crate) async fn set_quota(
    connection: &mut AnyConnection,
    id: ProjectId,
    quota: Limits,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE projects SET quota_networks = $2, quota_fixed_ips = $3, quota_floating_ips = $4,
             quota_security_groups = $5, quota_security_group_rules = $6
         WHERE id = $1",
    )
    .bind(id.to_string())
    .bind(quota.networks)
    .bind(quota.fixed_ips)
    .bind(quota.floating_ips)
    .bind(quota.security_groups)
    .bind(quota.security_group_rules)
    .execute(connection)
    .await
    .during("change a project's quota")?;
    Ok(())
}

/// Changes the pool of which each of its new instances gets a floating IP.
pub(crate) async fn set_auto_assign(
    connection: &mut AnyConnection,
    id: ProjectId,
    pool: Option<PoolId>,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE projects SET auto_assign = $2 WHERE id = $1")
        .bind(id.to_string())
        .bind(pool.map(|id| id.to_string()))
        .execute(connection)
        .await
        .during("change what a project's instances get")?;
    Ok(())
}

/// Takes it out, and its members' tokens and its security and address groups with it.
pub(crate) async fn delete(connection: &mut AnyConnection, id: ProjectId) -> Result<(), StoreError> {
    for sql in [
        "DELETE FROM tokens WHERE project = $1",
        // All rules first: they may name any of the groups.
        "DELETE FROM security_group_rules WHERE security_group IN (SELECT id FROM security_groups WHERE project = $1)",
        "DELETE FROM security_groups WHERE project = $1",
        "DELETE FROM address_groups WHERE project = $1",
        "DELETE FROM projects WHERE id = $1",
    ] {
        let query = sqlx::query(sql).bind(id.to_string());
        query.execute(&mut *connection).await.during("delete a project")?;
    }
    Ok(())
}

/// What keeps it from being deleted: the names of some of its instances, networks and DNS domains, and
/// some of its floating IPs.
pub(crate) async fn uses(connection: &mut AnyConnection, id: ProjectId) -> Result<Vec<String>, StoreError> {
    let rows = sqlx::query(
        "SELECT 'network `' || name || '`' AS used FROM networks WHERE project = $1
         UNION ALL SELECT 'instance `' || name || '`' FROM instances WHERE project = $1
         UNION ALL SELECT 'DNS domain `' || name || '`' FROM dns_domains WHERE project = $1
         ORDER BY used LIMIT 10",
    )
    .bind(id.to_string())
    .fetch_all(&mut *connection)
    .await
    .during("look for a project's things")?;
    let mut uses: Vec<String> =
        rows.iter().map(|row| Ok(Columns::of(row).text()?.to_owned())).collect::<Result<_, StoreError>>()?;
    let floating =
        sqlx::query("SELECT address FROM floating_ips WHERE project = $1 ORDER BY address LIMIT 10")
            .bind(id.to_string())
            .fetch_all(connection)
            .await
            .during("look for a project's floating IPs")?;
    for row in &floating {
        uses.push(format!("floating IP `{}`", Columns::of(row).address()?));
    }
    Ok(uses)
}

fn from_columns(columns: &mut Columns<'_>) -> Result<ProjectRecord, StoreError> {
    let (id, name) = (columns.parse()?, columns.parse()?);
    let quota = Limits {
        networks: columns.optional_number()?,
        fixed_ips: columns.optional_number()?,
        floating_ips: columns.optional_number()?,
        security_groups: columns.optional_number()?,
        security_group_rules: columns.optional_number()?,
    };
    let auto_assign = columns.optional_parse()?.zip(columns.optional_parse()?);
    Ok(ProjectRecord { id, name, quota, auto_assign, created_at: columns.time()? })
}

fn usage_from(columns: &mut Columns<'_>) -> Result<Usage, StoreError> {
    Ok(Usage {
        networks: columns.count()?,
        fixed_ips: columns.count()?,
        floating_ips: columns.count()?,
        security_groups: columns.count()?,
        security_group_rules: columns.count()?,
    })
}
