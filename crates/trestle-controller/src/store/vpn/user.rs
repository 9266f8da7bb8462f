//! Who may come in by a project's VPN.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe};
use trestle_api::VpnConnection;
use trestle_core::types::{Name, ProjectId};
use trestle_core::world::VpnUser;

use crate::store::Write;
use crate::store::columns::{Columns, address_text};
use crate::store::error::{During, StoreError};

/// How many projects one statement is about.
const PROJECTS: usize = 500;

/// A user as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct UserRecord {
    /// The name, unique within the VPN.
    pub(crate) name: Name,
    /// The address of the VPN's interface that is this user's.
    pub(crate) address: IpAddr,
    /// How it is known again.
    pub(crate) credential: Credential,
    /// Whether hosts let it in; else it has ended.
    pub(crate) admitted: bool,
    /// Whether what it shows has ended before its time.
    pub(crate) void: bool,
    /// For how many days each file is, if somebody said so.
    pub(crate) days: Option<u32>,
    /// Since when there is such a user.
    pub(crate) created_at: Timestamp,
    /// What the host said last.
    pub(crate) connection: Option<VpnConnection>,
}

/// What a user shows, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Credential {
    /// The name that hosts know it by; of a certificate its common name.
    pub(crate) name: Name,
    /// What it is.
    pub(crate) shown: UserShown,
    /// Until when it is good.
    pub(crate) expires_at: Timestamp,
}

/// What a user shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UserShown {
    /// A certificate of this number, in hex.
    Serial(String),
    /// A key, in base64.
    PublicKey(String),
}

impl UserShown {
    /// The columns `serial` and `public_key`.
    fn columns(&self) -> (Option<&str>, Option<&str>) {
        match self {
            Self::Serial(serial) => (Some(serial), None),
            Self::PublicKey(key) => (None, Some(key)),
        }
    }
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT u.name, u.address, u.credential, u.serial, u.public_key, u.admitted, u.void, u.days, u.created_at, u.expires_at,
                    c.remote, c.since, c.received_bytes, c.sent_bytes
             FROM vpn_users u JOIN vpns x ON x.project = u.project JOIN instances v ON v.id = x.instance
             JOIN interfaces i ON i.id = x.interface
             LEFT JOIN observed_vpn_connections c
                 ON c.credential = u.credential AND c.host = i.host AND c.vpn = v.name ",
            $rest
        )
    };
}

/// The users after this name, by name.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    project: ProjectId,
    (after, limit): (&str, i64),
) -> Result<Vec<UserRecord>, StoreError> {
    let query = sqlx::query(select!("WHERE u.project = $1 AND u.name > $2 ORDER BY u.name LIMIT $3"));
    let query = query.bind(project.to_string()).bind(after).bind(limit);
    let rows = query.fetch_all(connection).await.during("list a VPN's users")?;
    rows.iter().map(from_row).collect()
}

/// The user of this name.
pub(crate) async fn find(
    connection: &mut AnyConnection,
    project: ProjectId,
    name: &str,
) -> Result<Option<UserRecord>, StoreError> {
    let query = sqlx::query(select!("WHERE u.project = $1 AND u.name = $2"));
    let query = query.bind(project.to_string()).bind(name);
    let row = query.fetch_optional(connection).await.during("read a VPN's user")?;
    row.as_ref().map(from_row).transpose()
}

/// Those that hosts let in by these projects' VPNs, as the World has them.
pub(crate) async fn admitted(
    connection: &mut AnyConnection,
    projects: &[ProjectId],
) -> Result<BTreeMap<ProjectId, BTreeMap<Name, VpnUser>>, StoreError> {
    let mut users: BTreeMap<ProjectId, BTreeMap<Name, VpnUser>> = BTreeMap::new();
    for chunk in projects.chunks(PROJECTS) {
        let places: Vec<String> = (1..=chunk.len()).map(|place| format!("${place}")).collect();
        let sql = format!(
            "SELECT project, credential, address, public_key FROM vpn_users WHERE admitted = 1 AND project IN ({})",
            places.join(", ")
        );
        let query = sqlx::query(AssertSqlSafe(sql));
        let query = chunk.iter().fold(query, |query, project| query.bind(project.to_string()));
        let rows = query.fetch_all(&mut *connection).await.during("read who may come in by VPNs")?;
        for row in &rows {
            let mut columns = Columns::of(row);
            let (project, credential) = (columns.parse()?, columns.parse()?);
            let (address, public_key) = (columns.address()?, columns.optional_text()?.map(str::to_owned));
            users.entry(project).or_default().insert(credential, VpnUser { address, public_key });
        }
    }
    Ok(users)
}

/// Puts a new one in; its address is the VPN's interface's.
pub(crate) async fn insert(
    write: &mut Write,
    project: ProjectId,
    user: &UserRecord,
) -> Result<(), StoreError> {
    let (serial, public_key) = user.credential.shown.columns();
    sqlx::query(
        "INSERT INTO vpn_users (project, name, address, credential, serial, public_key, admitted, created_at, expires_at, days)
         VALUES ($1, $2, $3, $4, $5, $6, 1, $7, $8, $9)",
    )
    .bind(project.to_string())
    .bind(user.name.as_str())
    .bind(address_text(user.address))
    .bind(user.credential.name.as_str())
    .bind(serial)
    .bind(public_key)
    .bind(user.created_at.as_microsecond())
    .bind(user.credential.expires_at.as_microsecond())
    .bind(user.days.map(i64::from))
    .execute(write.connection())
    .await
    .during("insert a VPN's user")?;
    Ok(())
}

/// Lets a user in by what it shows now, and by nothing else any more.
pub(crate) async fn renew(
    write: &mut Write,
    project: ProjectId,
    UserRecord { name, credential, days, .. }: &UserRecord,
) -> Result<(), StoreError> {
    let (serial, public_key) = credential.shown.columns();
    sqlx::query(
        "UPDATE vpn_users SET credential = $3, serial = $4, public_key = $5, expires_at = $6, days = $7, admitted = 1, void = 0
         WHERE project = $1 AND name = $2",
    )
    .bind(project.to_string())
    .bind(name.as_str())
    .bind(credential.name.as_str())
    .bind(serial)
    .bind(public_key)
    .bind(credential.expires_at.as_microsecond())
    .bind(days.map(i64::from))
    .execute(write.connection())
    .await
    .during("renew a VPN's user")?;
    Ok(())
}

/// Ends what all of a VPN's users show, now; they stay.
pub(crate) async fn end_all(write: &mut Write, project: ProjectId) -> Result<(), StoreError> {
    let at = write.at().as_microsecond();
    sqlx::query(
        "UPDATE vpn_users SET admitted = 0, void = 1, expires_at = CASE WHEN expires_at < $2 THEN expires_at ELSE $2 END
         WHERE project = $1",
    )
    .bind(project.to_string())
    .bind(at)
    .execute(write.connection())
    .await
    .during("end what a VPN's users show")?;
    Ok(())
}

/// Lets those in no more whose time is over; gives their names.
pub(crate) async fn end_expired(write: &mut Write, project: ProjectId) -> Result<Vec<Name>, StoreError> {
    let at = write.at().as_microsecond();
    let rows = sqlx::query(
        "UPDATE vpn_users SET admitted = 0 WHERE project = $1 AND admitted = 1 AND expires_at <= $2
         RETURNING name",
    )
    .bind(project.to_string())
    .bind(at)
    .fetch_all(write.connection())
    .await
    .during("end users whose time is over")?;
    rows.iter().map(|row| Columns::of(row).parse()).collect()
}

/// The projects whose VPNs let users in whose time is over.
pub(crate) async fn with_expired(
    connection: &mut AnyConnection,
    now: Timestamp,
) -> Result<Vec<ProjectId>, StoreError> {
    let sql = "SELECT DISTINCT project FROM vpn_users WHERE admitted = 1 AND expires_at <= $1";
    let query = sqlx::query(sql).bind(now.as_microsecond());
    let rows = query.fetch_all(connection).await.during("look whose time is over")?;
    rows.iter().map(|row| Columns::of(row).parse()).collect()
}

/// Takes a user out; the address must have been released.
pub(crate) async fn delete(write: &mut Write, project: ProjectId, name: &Name) -> Result<(), StoreError> {
    let query = sqlx::query("DELETE FROM vpn_users WHERE project = $1 AND name = $2");
    let query = query.bind(project.to_string()).bind(name.as_str());
    query.execute(write.connection()).await.during("delete a VPN's user")?;
    Ok(())
}

fn from_row(row: &AnyRow) -> Result<UserRecord, StoreError> {
    let mut columns = Columns::of(row);
    let (name, address, credential) = (columns.parse()?, columns.address()?, columns.parse()?);
    let serial = columns.optional_text()?.map(|serial| UserShown::Serial(serial.to_owned()));
    let public_key = columns.optional_text()?.map(|key| UserShown::PublicKey(key.to_owned()));
    let shown = serial.or(public_key).ok_or_else(|| columns.corrupt("a user who shows nothing"))?;
    let (admitted, void, days) = (columns.flag()?, columns.flag()?, columns.optional_number()?);
    let days = days.map(|days| u32::try_from(days).map_err(|_| columns.corrupt(days))).transpose()?;
    let (created_at, expires_at) = (columns.time()?, columns.time()?);
    let connection = match columns.optional_text()? {
        Some(remote) => Some(VpnConnection {
            remote: remote.to_owned(),
            since: columns.time()?,
            received_bytes: columns.count()?,
            sent_bytes: columns.count()?,
        }),
        None => None,
    };
    let credential = Credential { name: credential, shown, expires_at };
    Ok(UserRecord { name, address, credential, admitted, void, days, created_at, connection })
}
