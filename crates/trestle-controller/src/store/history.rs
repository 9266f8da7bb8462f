//! History: who had an address when.
//!
//! What is open in it is compared with what is now, in the transaction that changed that: what is no
//! more ends, what is new begins, at the same time. Nothing else writes here.

use std::net::IpAddr;

use jiff::Timestamp;
use sqlx::AnyConnection;
use trestle_api::{HeldAs, Holding};
use trestle_core::types::{InterfaceId, ProjectId};

use crate::store::Write;
use crate::store::columns::{Columns, address_text};
use crate::store::error::{During, StoreError};

// What is now of the interface `$1`.
macro_rules! now_of_interface {
    () => {
        concat!(
            "SELECT x.address, 'fixed_ip' AS held_as, ",
            of_interface!(),
            "JOIN fixed_ips x ON x.interface = i.id WHERE i.id = $1
             UNION ALL SELECT x.address, 'floating_ip', ",
            of_interface!(),
            "JOIN floating_ips x ON x.interface = i.id WHERE i.id = $1
             UNION SELECT x.address, 'port_forward', ",
            of_interface!(),
            "JOIN port_forwards x ON x.interface = i.id WHERE i.id = $1"
        )
    };
}

// What is now of the floating IP `$1`.
macro_rules! now_of_floating_ip {
    () => {
        concat!(
            "SELECT x.address, 'floating_ip' AS held_as, ",
            of_interface!(),
            "JOIN floating_ips x ON x.interface = i.id WHERE x.address = $1
             UNION SELECT x.address, 'port_forward', ",
            of_interface!(),
            "JOIN port_forwards x ON x.interface = i.id WHERE x.address = $1
             UNION ALL SELECT x.address, 'reserved', x.project, p.name, NULL, NULL, NULL, NULL, NULL, NULL, NULL
             FROM floating_ips x JOIN projects p ON p.id = x.project
             WHERE x.address = $1 AND x.interface IS NULL
               AND NOT EXISTS (SELECT 1 FROM port_forwards w WHERE w.address = $1)"
        )
    };
}

// Columns `project` to `vpn_user`, and the tables they are of.
macro_rules! of_interface {
    () => {
        "v.project AS project, p.name AS project_name, i.id AS interface, v.id AS instance,
         v.name AS instance_name, i.mac AS mac, i.host AS host, h.name AS host_name,
         (SELECT u.name FROM vpn_users u WHERE u.address = x.address) AS vpn_user
         FROM interfaces i JOIN instances v ON v.id = i.instance JOIN projects p ON p.id = v.project
         LEFT JOIN hosts h ON h.id = i.host "
    };
}

// Whether what is open in `a` is what `n` says: the rest cannot change while these stay.
macro_rules! is_same {
    () => {
        "a.address = n.address AND a.held_as = n.held_as AND a.project = n.project
         AND COALESCE(a.interface, '') = COALESCE(n.interface, '') AND COALESCE(a.host, '') = COALESCE(n.host, '')"
    };
}

macro_rules! end {
    ($which:literal, $now:ident) => {
        concat!(
            "UPDATE address_history AS a SET until = $2 WHERE a.until IS NULL AND a.",
            $which,
            " = $1 AND NOT EXISTS (SELECT 1 FROM (",
            $now!(),
            ") n WHERE ",
            is_same!(),
            ")"
        )
    };
}

macro_rules! begin {
    ($which:literal, $now:ident) => {
        concat!(
            "INSERT INTO address_history (address, held_as, project, project_name, interface, instance,
                 instance_name, mac, host, host_name, vpn_user, since)
             SELECT n.address, n.held_as, n.project, n.project_name, n.interface, n.instance,
                    n.instance_name, n.mac, n.host, n.host_name, n.vpn_user, CAST($2 AS BIGINT)
             FROM (",
            $now!(),
            ") n WHERE NOT EXISTS (SELECT 1 FROM address_history a WHERE a.until IS NULL AND a.",
            $which,
            " = $1 AND ",
            is_same!(),
            ") ORDER BY n.address"
        )
    };
}

/// Notes that an interface is new, with its addresses.
pub(crate) async fn note_new_interface(write: &mut Write, id: InterfaceId) -> Result<(), StoreError> {
    compare(write, &[begin!("interface", now_of_interface)], id.to_string()).await
}

/// Notes where an interface is plugged in now, or that it is gone.
pub(crate) async fn note_interface(write: &mut Write, id: InterfaceId) -> Result<(), StoreError> {
    let both = [end!("interface", now_of_interface), begin!("interface", now_of_interface)];
    compare(write, &both, id.to_string()).await
}

/// Notes who has a floating IP now and where it leads, if anybody has it.
pub(crate) async fn note_floating_ip(write: &mut Write, address: IpAddr) -> Result<(), StoreError> {
    let both = [end!("address", now_of_floating_ip), begin!("address", now_of_floating_ip)];
    compare(write, &both, address_text(address)).await
}

async fn compare(write: &mut Write, statements: &[&'static str], which: String) -> Result<(), StoreError> {
    let at = write.at().as_microsecond();
    for sql in statements {
        let query = sqlx::query(*sql).bind(which.as_str()).bind(at);
        query.execute(write.connection()).await.during("keep an address' history")?;
    }
    Ok(())
}

/// Which part of an address' history.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    /// Who had it then.
    pub(crate) at: Option<Timestamp>,
    /// When this project had it: what a member may see.
    pub(crate) visible_to: Option<ProjectId>,
}

/// Who had an address before this place of its history, with each one's place; the newest first.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    address: IpAddr,
    filter: &Filter,
    (before, limit): (i64, i64),
) -> Result<Vec<(i64, Holding)>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, address, held_as, project_name, instance_name, vpn_user, mac, host_name, since, until
         FROM address_history
         WHERE address = $1 AND id < $2 AND (CAST($3 AS TEXT) IS NULL OR project = $3)
           AND (CAST($4 AS BIGINT) IS NULL OR (since <= $4 AND (until IS NULL OR until > $4)))
         ORDER BY id DESC LIMIT $5",
    )
    .bind(address_text(address))
    .bind(before)
    .bind(filter.visible_to.map(|id| id.to_string()))
    .bind(filter.at.map(Timestamp::as_microsecond))
    .bind(limit)
    .fetch_all(connection)
    .await
    .during("read an address' history")?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            let id = columns.number()?;
            let address = columns.address()?;
            let held_as = match columns.text()? {
                "fixed_ip" => HeldAs::FixedIp,
                "floating_ip" => HeldAs::FloatingIp,
                "port_forward" => HeldAs::PortForward,
                "reserved" => HeldAs::Reserved,
                other => return Err(columns.corrupt(other)),
            };
            let holding = Holding {
                address,
                held_as,
                project: columns.parse()?,
                instance: columns.optional_parse()?,
                vpn_user: columns.optional_parse()?,
                mac: columns.optional_parse()?,
                host: columns.optional_parse()?,
                since: columns.time()?,
                until: columns.optional_time()?,
            };
            Ok((id, holding))
        })
        .collect()
}

/// Forgets what was over before this time.
pub(crate) async fn forget_before(connection: &mut AnyConnection, time: Timestamp) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM address_history WHERE until < $1")
        .bind(time.as_microsecond())
        .execute(connection)
        .await
        .during("forget old history")?;
    Ok(())
}
