//! The change log: what every change appends, what controllers follow and events are read from.

use std::collections::BTreeSet;

use jiff::Timestamp;
use sqlx::any::AnyArguments;
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, AssertSqlSafe};
use trestle_api::Event;
use trestle_core::compile::Entity;
use trestle_core::types::{HostId, Name, ProjectId};

use crate::store::columns::{Columns, address_text, rows};
use crate::store::error::{During, StoreError};

/// Something that is being changed, for the log.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// `instance.created`, …
    pub(crate) kind: &'static str,
    /// One sentence for people.
    pub(crate) message: String,
    /// The name of the thing.
    pub(crate) subject: String,
    /// The project it is about.
    pub(crate) project: Option<(ProjectId, Name)>,
    /// The host it is about.
    pub(crate) host: Option<(HostId, Name)>,
    /// What bears on hosts and must be loaded again.
    pub(crate) entity: Option<Entity>,
}

impl Change {
    /// A change that is about no project and no host and bears on no host.
    pub(crate) fn new(kind: &'static str, subject: impl ToString, message: String) -> Self {
        Self { kind, message, subject: subject.to_string(), project: None, host: None, entity: None }
    }

    /// It is about this project.
    pub(crate) fn project(mut self, id: ProjectId, name: &Name) -> Self {
        self.project = Some((id, name.clone()));
        self
    }

    /// It is about this host.
    pub(crate) fn host(mut self, id: HostId, name: &Name) -> Self {
        self.host = Some((id, name.clone()));
        self
    }

    /// It changed this.
    pub(crate) fn entity(mut self, entity: Entity) -> Self {
        self.entity = Some(entity);
        self
    }
}

/// How many changes one statement appends. Most requests make one or two, and every statement costs
/// as much as a row.
const ROWS: usize = 50;

/// Appends to the log.
pub(crate) async fn append(
    connection: &mut AnyConnection,
    stamp: (u64, Timestamp),
    changes: &[Change],
) -> Result<(), StoreError> {
    for chunk in changes.chunks(ROWS) {
        let sql = format!(
            "INSERT INTO changes (revision, at, kind, message, subject, project, project_name, host, host_name,
                 entity_kind, entity) VALUES {}",
            rows(chunk.len(), 11)
        );
        let query = sqlx::query(AssertSqlSafe(sql));
        let query = chunk.iter().fold(query, |query, change| bind(query, stamp, change));
        query.execute(&mut *connection).await.during("append to the change log")?;
    }
    Ok(())
}

fn bind<'q>(
    query: Query<'q, Any, AnyArguments>,
    (revision, at): (u64, Timestamp),
    change: &Change,
) -> Query<'q, Any, AnyArguments> {
    let (project, project_name) = change.project.as_ref().map(|(id, name)| (id, name)).unzip();
    let (host, host_name) = change.host.as_ref().map(|(id, name)| (id, name)).unzip();
    let (entity_kind, entity) = change.entity.map(entity_columns).unzip();
    query
        .bind(revision.cast_signed())
        .bind(at.as_microsecond())
        .bind(change.kind)
        .bind(change.message.clone())
        .bind(change.subject.clone())
        .bind(project.map(ToString::to_string))
        .bind(project_name.map(ToString::to_string))
        .bind(host.map(ToString::to_string))
        .bind(host_name.map(ToString::to_string))
        .bind(entity_kind)
        .bind(entity)
}

fn entity_columns(entity: Entity) -> (&'static str, String) {
    match entity {
        Entity::Host(id) => ("host", id.to_string()),
        Entity::Network(id) => ("network", id.to_string()),
        Entity::Interface(id) => ("interface", id.to_string()),
        // As it is kept elsewhere, so that the database finds it by this.
        Entity::FloatingIp(address) => ("floating_ip", address_text(address)),
        Entity::DnsRecord(id) => ("dns_record", id.to_string()),
        Entity::SecurityGroup(id) => ("security_group", id.to_string()),
        Entity::AddressGroup(id) => ("address_group", id.to_string()),
        Entity::Vpn(project) => ("vpn", project.to_string()),
    }
}

/// What changed since some place in the log.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The id of the last change.
    pub(crate) last: i64,
    /// The revision of the last change.
    pub(crate) revision: u64,
    /// What must be loaded again.
    pub(crate) entities: BTreeSet<Entity>,
    /// The hosts that changes of things on them name.
    pub(crate) hosts: BTreeSet<HostId>,
}

/// The changes after this one, gathered.
pub(crate) async fn after(connection: &mut AnyConnection, last: i64) -> Result<Batch, StoreError> {
    let rows =
        sqlx::query("SELECT id, revision, host, entity_kind, entity FROM changes WHERE id > $1 ORDER BY id")
            .bind(last)
            .fetch_all(connection)
            .await
            .during("follow the change log")?;
    let mut batch = Batch { last, ..Batch::default() };
    for row in &rows {
        let mut columns = Columns::of(row);
        batch.last = columns.number()?;
        batch.revision = columns.count()?;
        let host = columns.optional_parse::<HostId>()?;
        let entity = match columns.optional_text()? {
            None => continue,
            Some("host") => Entity::Host(columns.parse()?),
            Some("network") => Entity::Network(columns.parse()?),
            Some("interface") => Entity::Interface(columns.parse()?),
            Some("floating_ip") => Entity::FloatingIp(columns.address()?),
            Some("dns_record") => Entity::DnsRecord(columns.parse()?),
            Some("security_group") => Entity::SecurityGroup(columns.parse()?),
            Some("address_group") => Entity::AddressGroup(columns.parse()?),
            Some("vpn") => Entity::Vpn(columns.parse()?),
            Some(kind) => return Err(columns.corrupt(kind)),
        };
        batch.entities.insert(entity);
        batch.hosts.extend(host);
    }
    Ok(batch)
}

/// The last change's id and the revision, as they are now.
pub(crate) async fn position(connection: &mut AnyConnection) -> Result<(i64, u64), StoreError> {
    let row = sqlx::query("SELECT COALESCE((SELECT MAX(id) FROM changes), 0), value FROM revision")
        .fetch_one(connection)
        .await
        .during("read the revision")?;
    let mut columns = Columns::of(&row);
    Ok((columns.number()?, columns.count()?))
}

/// The kind of what changed this last.
pub(crate) async fn last_kind(
    connection: &mut AnyConnection,
    entity: Entity,
) -> Result<Option<String>, StoreError> {
    let (kind, id) = entity_columns(entity);
    let row = sqlx::query(
        "SELECT kind FROM changes WHERE entity_kind = $1 AND entity = $2 ORDER BY id DESC LIMIT 1",
    )
    .bind(kind)
    .bind(id)
    .fetch_optional(connection)
    .await
    .during("look what changed last")?;
    row.map(|row| Ok(Columns::of(&row).text()?.to_owned())).transpose()
}

/// Which events.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    /// Of this kind, or with it and a dot in front.
    pub(crate) kind: Option<String>,
    /// About this project, by id or by a name it had.
    pub(crate) project: Option<String>,
    /// About the project of this id: what a member may see.
    pub(crate) project_visible: Option<ProjectId>,
    /// About this host, by id or by a name it had.
    pub(crate) host: Option<String>,
    /// About the host of this id: what an agent may see.
    pub(crate) host_visible: Option<HostId>,
}

macro_rules! select_events {
    ($order:literal) => {
        concat!(
            "SELECT id, at, kind, message, project_name, host_name, subject FROM changes
             WHERE id > $1
               AND (CAST($2 AS TEXT) IS NULL OR kind = $2 OR substr(kind, 1, length($2) + 1) = $2 || '.')
               AND (CAST($3 AS TEXT) IS NULL OR project = $3 OR project_name = $3)
               AND (CAST($4 AS TEXT) IS NULL OR project = $4)
               AND (CAST($5 AS TEXT) IS NULL OR host = $5 OR host_name = $5)
               AND (CAST($6 AS TEXT) IS NULL OR host = $6) ",
            $order,
            " LIMIT $7"
        )
    };
}

/// The events after this one, the oldest first.
pub(crate) async fn events(
    connection: &mut AnyConnection,
    filter: &Filter,
    after: i64,
    limit: i64,
) -> Result<Vec<Event>, StoreError> {
    read_events(connection, select_events!("ORDER BY id"), filter, (after, limit)).await
}

/// The last so many of the events after this one, the oldest first all the same.
pub(crate) async fn last_events(
    connection: &mut AnyConnection,
    filter: &Filter,
    after: i64,
    count: i64,
) -> Result<Vec<Event>, StoreError> {
    let sql = select_events!("ORDER BY id DESC");
    let mut events = read_events(connection, sql, filter, (after, count)).await?;
    events.reverse();
    Ok(events)
}

async fn read_events(
    connection: &mut AnyConnection,
    sql: &'static str,
    filter: &Filter,
    (after, limit): (i64, i64),
) -> Result<Vec<Event>, StoreError> {
    let rows = sqlx::query(sql)
        .bind(after)
        .bind(filter.kind.as_deref())
        .bind(filter.project.as_deref())
        .bind(filter.project_visible.map(|id| id.to_string()))
        .bind(filter.host.as_deref())
        .bind(filter.host_visible.map(|id| id.to_string()))
        .bind(limit)
        .fetch_all(connection)
        .await
        .during("read events")?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            Ok(Event {
                id: columns.count()?,
                at: columns.time()?,
                kind: columns.text()?.to_owned(),
                message: columns.text()?.to_owned(),
                project: columns.optional_parse()?,
                host: columns.optional_parse()?,
                subject: columns.text()?.to_owned(),
            })
        })
        .collect()
}
