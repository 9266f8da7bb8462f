//! Who hosts say is connected to the VPNs that run there.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::AnyConnection;
use trestle_api::VpnConnection;
use trestle_core::types::{HostId, Name};

use crate::store::columns::Columns;
use crate::store::error::{During, StoreError};

/// The largest number that is kept: JSON carries it without loss (RFC 8259 §6).
const LARGEST: u64 = (1 << 53) - 1;

/// The users that are connected, by VPN and by the name that each is known by.
pub(crate) type Connections = BTreeMap<(Name, Name), VpnConnection>;

/// Writes down who is connected, in place of who was. Only what changed is written.
pub(crate) async fn put_connections(
    connection: &mut AnyConnection,
    host: HostId,
    connections: &Connections,
) -> Result<(), StoreError> {
    let before = before(connection, host).await?;
    let known: BTreeSet<&(Name, Name)> = connections.keys().collect();
    for (vpn, credential) in before.keys().filter(|who| !known.contains(who)) {
        sqlx::query("DELETE FROM observed_vpn_connections WHERE host = $1 AND vpn = $2 AND credential = $3")
            .bind(host.to_string())
            .bind(vpn.as_str())
            .bind(credential.as_str())
            .execute(&mut *connection)
            .await
            .during("forget who was connected")?;
    }
    for (who, said) in connections {
        let said = kept(said);
        if before.get(who) != Some(&said) {
            put(connection, (host, who), &said).await?;
        }
    }
    Ok(())
}

/// As it is read back.
fn kept(said: &VpnConnection) -> VpnConnection {
    let since = said.since.as_microsecond();
    VpnConnection {
        remote: said.remote.clone(),
        since: jiff::Timestamp::from_microsecond(since).unwrap_or(said.since),
        received_bytes: said.received_bytes.min(LARGEST),
        sent_bytes: said.sent_bytes.min(LARGEST),
    }
}

async fn put(
    connection: &mut AnyConnection,
    (host, (vpn, credential)): (HostId, &(Name, Name)),
    said: &VpnConnection,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO observed_vpn_connections (host, vpn, credential, remote, since, received_bytes, sent_bytes)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (host, vpn, credential) DO UPDATE SET remote = excluded.remote, since = excluded.since,
             received_bytes = excluded.received_bytes, sent_bytes = excluded.sent_bytes",
    )
    .bind(host.to_string())
    .bind(vpn.as_str())
    .bind(credential.as_str())
    .bind(said.remote.as_str())
    .bind(said.since.as_microsecond())
    .bind(said.received_bytes.cast_signed())
    .bind(said.sent_bytes.cast_signed())
    .execute(connection)
    .await
    .during("write down who is connected")?;
    Ok(())
}

async fn before(connection: &mut AnyConnection, host: HostId) -> Result<Connections, StoreError> {
    let rows = sqlx::query(
        "SELECT vpn, credential, remote, since, received_bytes, sent_bytes FROM observed_vpn_connections
         WHERE host = $1",
    )
    .bind(host.to_string())
    .fetch_all(connection)
    .await
    .during("read who was connected")?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            let who = (columns.parse()?, columns.parse()?);
            let said = VpnConnection {
                remote: columns.text()?.to_owned(),
                since: columns.time()?,
                received_bytes: columns.count()?,
                sent_bytes: columns.count()?,
            };
            Ok((who, said))
        })
        .collect()
}
