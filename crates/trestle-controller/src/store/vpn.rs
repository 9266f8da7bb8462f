//! VPNs. Who may come in by them is in `vpn/user`, their private keys in `vpn/secret`.

pub(crate) mod secret;
pub(crate) mod user;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AnyConnection};
use trestle_core::plan::Problem;
use trestle_core::types::{
    HostId, InstanceId, InterfaceId, Name, NetworkId, ProjectId, VpnEndpoint, VpnKind,
};
use trestle_core::world::Vpn;
use uuid::Uuid;

use crate::store::Write;
use crate::store::columns::{Columns, address_text};
use crate::store::error::{During, StoreError};

/// A VPN as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct VpnRecord {
    /// What bears on compiling.
    pub(crate) vpn: Vpn,
    /// The name of the project.
    pub(crate) project_name: Name,
    /// Its instance.
    pub(crate) instance: InstanceId,
    /// The network it leads into.
    pub(crate) network: NetworkId,
    /// The name of that.
    pub(crate) network_name: Name,
    /// Where clients send to.
    pub(crate) endpoint: VpnEndpoint,
    /// Whose the address of that is.
    pub(crate) endpoint_of: EndpointOf,
    /// What it shows its clients.
    pub(crate) shown: Shown,
    /// When it was made.
    pub(crate) created_at: Timestamp,
    /// How it stands on its host.
    pub(crate) standing: Standing,
}

/// Whose the address is that clients of a VPN send to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndpointOf {
    /// The operator's, or the host's own.
    Operator,
    /// A floating IP that the project has of its own.
    Project,
    /// A floating IP that was reserved for the VPN and goes with it.
    Vpn,
}

/// What a VPN shows its clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// OpenVPN's, and what signed it.
    Certificates {
        /// The project's authority.
        ca: Certificate,
        /// The VPN's own, signed by that.
        server: Certificate,
    },
    /// WireGuard's, in base64.
    PublicKey(String),
}

/// A certificate, without its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// PEM.
    pub(crate) pem: String,
    /// From when on it is good.
    pub(crate) begins_at: Timestamp,
    /// Until when.
    pub(crate) expires_at: Timestamp,
}

/// How a VPN stands on its host.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    /// Where it is plugged in.
    pub(crate) host: Option<(HostId, Name)>,
    /// The revision since which it is to be as it is.
    pub(crate) since: u64,
    /// What the host says it has worked through.
    pub(crate) applied: u64,
    /// What the host says is wrong with it.
    pub(crate) problem: Option<Problem>,
    /// Whether its floating IP leads to others too.
    pub(crate) shares_floating_ip: bool,
    /// How many users it has.
    pub(crate) users: u64,
    /// How many of them are connected.
    pub(crate) connected: u64,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT x.project, p.name, v.id, v.name, x.kind, i.id, x.address, x.identity, n.id, n.name, x.ip, x.port,
                    CASE WHEN x.floating_ip IS NULL THEN 0 ELSE 1 END, x.came_with_it,
                    x.ca_certificate, x.ca_begins_at, x.ca_expires_at,
                    x.server_certificate, x.server_begins_at, x.server_expires_at, x.public_key, x.created_at,
                    h.id, h.name, x.generation, COALESCE(i.generation, 0), COALESCE(o.generation_applied, 0),
                    (SELECT b.problem FROM observed_problems b
                     WHERE b.host = i.host
                       AND (b.key IN ('vpn/' || v.name, 'vpn-netns/' || v.name, 'link/' || i.device)
                            OR b.key LIKE 'vpn-user/' || v.name || '/%')
                     ORDER BY b.key DESC, b.problem LIMIT 1),
                    CASE WHEN EXISTS (SELECT 1 FROM floating_ips f
                                      WHERE f.address = x.floating_ip AND f.interface IS NOT NULL)
                           OR EXISTS (SELECT 1 FROM port_forwards w
                                      WHERE w.address = x.floating_ip AND w.interface <> x.interface)
                         THEN 1 ELSE 0 END,
                    (SELECT COUNT(*) FROM vpn_users u WHERE u.project = x.project),
                    (SELECT COUNT(*) FROM vpn_users u JOIN observed_vpn_connections c ON c.credential = u.credential
                     WHERE u.project = x.project AND c.host = i.host AND c.vpn = v.name)
             FROM vpns x JOIN projects p ON p.id = x.project JOIN instances v ON v.id = x.instance
             JOIN interfaces i ON i.id = x.interface JOIN networks n ON n.id = i.network
             LEFT JOIN hosts h ON h.id = i.host LEFT JOIN observed_hosts o ON o.host = i.host ",
            $rest
        )
    };
}

/// Every VPN.
pub(crate) async fn all(connection: &mut AnyConnection) -> Result<Vec<VpnRecord>, StoreError> {
    read(connection, sqlx::query(select!(""))).await
}

/// Those that changed after this place in the change log, as they are now.
pub(crate) async fn changed_after(
    connection: &mut AnyConnection,
    last: i64,
) -> Result<Vec<VpnRecord>, StoreError> {
    let query = sqlx::query(select!(
        "WHERE x.project IN (SELECT entity FROM changes WHERE id > $1 AND entity_kind = 'vpn')"
    ));
    read(connection, query.bind(last)).await
}

/// The project's.
pub(crate) async fn find(
    connection: &mut AnyConnection,
    project: ProjectId,
) -> Result<Option<VpnRecord>, StoreError> {
    let query = sqlx::query(select!("WHERE x.project = $1")).bind(project.to_string());
    Ok(read(connection, query).await?.pop())
}

/// The one whose instance this is.
pub(crate) async fn of_instance(
    connection: &mut AnyConnection,
    instance: InstanceId,
) -> Result<Option<VpnRecord>, StoreError> {
    let query = sqlx::query(select!("WHERE x.instance = $1")).bind(instance.to_string());
    Ok(read(connection, query).await?.pop())
}

/// The one whose instance has this name.
pub(crate) async fn of_name(
    connection: &mut AnyConnection,
    name: &str,
) -> Result<Option<VpnRecord>, StoreError> {
    let query = sqlx::query(select!("WHERE v.name = $1")).bind(name);
    Ok(read(connection, query).await?.pop())
}

/// The one that leads into this network: it is its project's own.
pub(crate) async fn of_network(
    connection: &mut AnyConnection,
    network: NetworkId,
) -> Result<Option<VpnRecord>, StoreError> {
    let query = sqlx::query(select!("WHERE n.id = $1")).bind(network.to_string());
    Ok(read(connection, query).await?.pop())
}

/// The one whose clients send to this floating IP.
pub(crate) async fn of_floating_ip(
    connection: &mut AnyConnection,
    address: IpAddr,
) -> Result<Option<VpnRecord>, StoreError> {
    let query = sqlx::query(select!("WHERE x.floating_ip = $1")).bind(address_text(address));
    Ok(read(connection, query).await?.pop())
}

/// Those after the one of this project's name, by that; only this project's if one is given.
pub(crate) async fn list(
    connection: &mut AnyConnection,
    project: Option<ProjectId>,
    (after, limit): (&str, i64),
) -> Result<Vec<VpnRecord>, StoreError> {
    let query = sqlx::query(select!(
        "WHERE p.name > $1 AND (CAST($2 AS TEXT) IS NULL OR x.project = $2) ORDER BY p.name LIMIT $3"
    ));
    read(connection, query.bind(after).bind(project.map(|id| id.to_string())).bind(limit)).await
}

/// The UDP ports of an address that something has: a VPN, or a port of a floating IP that leads elsewhere
/// than the rest.
pub(crate) async fn taken_ports(
    connection: &mut AnyConnection,
    ip: IpAddr,
) -> Result<BTreeSet<u16>, StoreError> {
    let rows = sqlx::query(
        "SELECT port FROM vpns WHERE ip = $1
         UNION SELECT port FROM port_forwards WHERE address = $1 AND protocol = 'udp'",
    )
    .bind(address_text(ip))
    .fetch_all(connection)
    .await
    .during("look which ports of an address are taken")?;
    rows.iter().map(|row| Columns::of(row).small()).collect()
}

/// Where clients of a VPN send to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Address and port.
    pub(crate) at: VpnEndpoint,
    /// Whose the address is.
    pub(crate) of: EndpointOf,
}

impl Endpoint {
    /// The columns `ip`, `port`, `floating_ip` and `came_with_it`.
    fn columns(&self) -> (String, i64, Option<String>, i64) {
        let ip = address_text(self.at.ip);
        let floating = (self.of != EndpointOf::Operator).then(|| ip.clone());
        (ip, self.at.port.into(), floating, (self.of == EndpointOf::Vpn).into())
    }
}

/// A VPN that is new.
#[derive(Clone, Debug)]
pub(crate) struct NewVpn {
    /// Whose.
    pub(crate) project: ProjectId,
    /// Its instance.
    pub(crate) instance: InstanceId,
    /// Its interface.
    pub(crate) interface: InterfaceId,
    /// What it speaks.
    pub(crate) kind: VpnKind,
    /// Its own address, one that the interface has.
    pub(crate) address: IpAddr,
    /// Where clients send to.
    pub(crate) endpoint: Endpoint,
    /// The number of its keys.
    pub(crate) identity: Uuid,
    /// What it shows its clients.
    pub(crate) shown: Shown,
}

/// Puts a new one in.
pub(crate) async fn insert(write: &mut Write, new: &NewVpn) -> Result<(), StoreError> {
    let (at, revision) = (write.at().as_microsecond(), write.revision().cast_signed());
    let (ip, port, floating_ip, came_with_it) = new.endpoint.columns();
    let query = sqlx::query(
        "INSERT INTO vpns (project, identity, ca_certificate, ca_begins_at, ca_expires_at, server_certificate,
             server_begins_at, server_expires_at, public_key, instance, interface, kind, address, ip, port,
             floating_ip, came_with_it, generation, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)",
    );
    let query = query.bind(new.project.to_string()).bind(new.identity.to_string());
    bind_shown(query, &new.shown)
        .bind(new.instance.to_string())
        .bind(new.interface.to_string())
        .bind(new.kind.to_string())
        .bind(address_text(new.address))
        .bind(ip)
        .bind(port)
        .bind(floating_ip)
        .bind(came_with_it)
        .bind(revision)
        .bind(at)
        .execute(write.connection())
        .await
        .during("insert a VPN")?;
    Ok(())
}

/// Changes where clients send to.
pub(crate) async fn set_endpoint(
    write: &mut Write,
    project: ProjectId,
    endpoint: &Endpoint,
) -> Result<(), StoreError> {
    let revision = write.revision().cast_signed();
    let (ip, port, floating_ip, came_with_it) = endpoint.columns();
    sqlx::query(
        "UPDATE vpns SET ip = $2, port = $3, floating_ip = $4, came_with_it = $5, generation = $6
         WHERE project = $1",
    )
    .bind(project.to_string())
    .bind(ip)
    .bind(port)
    .bind(floating_ip)
    .bind(came_with_it)
    .bind(revision)
    .execute(write.connection())
    .await
    .during("change where a VPN's clients send to")?;
    Ok(())
}

/// Gives it other keys, of this number.
pub(crate) async fn set_shown(
    write: &mut Write,
    project: ProjectId,
    (identity, shown): (Uuid, &Shown),
) -> Result<(), StoreError> {
    let revision = write.revision().cast_signed();
    let query = sqlx::query(
        "UPDATE vpns SET identity = $2, ca_certificate = $3, ca_begins_at = $4, ca_expires_at = $5,
             server_certificate = $6, server_begins_at = $7, server_expires_at = $8, public_key = $9, generation = $10
         WHERE project = $1",
    );
    let query = query.bind(project.to_string()).bind(identity.to_string());
    let query = bind_shown(query, shown).bind(revision);
    query.execute(write.connection()).await.during("give a VPN other keys")?;
    Ok(())
}

/// Notes that it, or who may come in by it, changed at this revision.
pub(crate) async fn touch(write: &mut Write, project: ProjectId) -> Result<(), StoreError> {
    let revision = write.revision().cast_signed();
    let query = sqlx::query("UPDATE vpns SET generation = $2 WHERE project = $1");
    let query = query.bind(project.to_string()).bind(revision);
    query.execute(write.connection()).await.during("note that a VPN changed")?;
    Ok(())
}

/// Takes it out, with its users and its keys; its instance stays.
pub(crate) async fn delete(connection: &mut AnyConnection, project: ProjectId) -> Result<(), StoreError> {
    let query = sqlx::query("DELETE FROM vpns WHERE project = $1").bind(project.to_string());
    query.execute(connection).await.during("delete a VPN")?;
    Ok(())
}

/// How many users of a project's VPN are connected, and what goes by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// The project's name.
    pub(crate) project: Name,
    /// How many users it has.
    pub(crate) users: u64,
    /// How many are connected.
    pub(crate) connected: u64,
    /// How many bytes came from these since they connected.
    pub(crate) received_bytes: u64,
    /// How many went to them.
    pub(crate) sent_bytes: u64,
}

/// What goes by each VPN, as hosts last said.
pub(crate) async fn traffic(connection: &mut AnyConnection) -> Result<Vec<Traffic>, StoreError> {
    let rows = sqlx::query(
        "SELECT p.name, COUNT(u.name), COUNT(c.credential), CAST(COALESCE(SUM(c.received_bytes), 0) AS BIGINT),
                CAST(COALESCE(SUM(c.sent_bytes), 0) AS BIGINT)
         FROM vpns x JOIN projects p ON p.id = x.project JOIN instances v ON v.id = x.instance
         JOIN interfaces i ON i.id = x.interface LEFT JOIN vpn_users u ON u.project = x.project
         LEFT JOIN observed_vpn_connections c ON c.credential = u.credential AND c.host = i.host AND c.vpn = v.name
         GROUP BY p.name ORDER BY p.name",
    )
    .fetch_all(connection)
    .await
    .during("count what goes by VPNs")?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            Ok(Traffic {
                project: columns.parse()?,
                users: columns.count()?,
                connected: columns.count()?,
                received_bytes: columns.count()?,
                sent_bytes: columns.count()?,
            })
        })
        .collect()
}

/// The projects of whose VPNs the own certificate has less than a third of its life left.
pub(crate) async fn with_worn_certificates(
    connection: &mut AnyConnection,
    now: Timestamp,
) -> Result<Vec<ProjectId>, StoreError> {
    let sql =
        "SELECT project FROM vpns WHERE (server_expires_at - $1) * 3 < server_expires_at - server_begins_at";
    let query = sqlx::query(sql).bind(now.as_microsecond());
    let rows = query.fetch_all(connection).await.during("look whose certificate ends soon")?;
    rows.iter().map(|row| Columns::of(row).parse()).collect()
}

/// The columns `ca_certificate` to `public_key`.
fn bind_shown<'q>(query: Query<'q, Any, AnyArguments>, shown: &Shown) -> Query<'q, Any, AnyArguments> {
    let (certificates, public_key) = match shown {
        Shown::Certificates { ca, server } => ([Some(ca), Some(server)], None),
        Shown::PublicKey(key) => ([None, None], Some(key.clone())),
    };
    let query = certificates.into_iter().fold(query, |query, certificate| {
        query
            .bind(certificate.map(|certificate| certificate.pem.clone()))
            .bind(certificate.map(|certificate| certificate.begins_at.as_microsecond()))
            .bind(certificate.map(|certificate| certificate.expires_at.as_microsecond()))
    });
    query.bind(public_key)
}

async fn read(
    connection: &mut AnyConnection,
    query: Query<'_, Any, AnyArguments>,
) -> Result<Vec<VpnRecord>, StoreError> {
    let rows = query.fetch_all(&mut *connection).await.during("read VPNs")?;
    let mut records: Vec<VpnRecord> = rows.iter().map(from_row).collect::<Result<_, _>>()?;
    let projects: Vec<ProjectId> = records.iter().map(|record| record.vpn.project).collect();
    let mut users = user::admitted(connection, &projects).await?;
    for record in &mut records {
        record.vpn.users = users.remove(&record.vpn.project).unwrap_or_default();
    }
    Ok(records)
}

fn from_row(row: &AnyRow) -> Result<VpnRecord, StoreError> {
    let mut columns = Columns::of(row);
    let (project, project_name) = (columns.parse()?, columns.parse()?);
    let (instance, name, kind) = (columns.parse()?, columns.parse()?, columns.parse()?);
    let (interface, address, identity) = (columns.parse()?, columns.address()?, columns.parse()?);
    let (network, network_name) = (columns.parse()?, columns.parse()?);
    let endpoint = VpnEndpoint { ip: columns.address()?, port: columns.small()? };
    let endpoint_of = match (columns.flag()?, columns.flag()?) {
        (false, _) => EndpointOf::Operator,
        (true, false) => EndpointOf::Project,
        (true, true) => EndpointOf::Vpn,
    };
    let (ca, server) = (certificate_from(&mut columns)?, certificate_from(&mut columns)?);
    let public_key = columns.optional_text()?.map(str::to_owned);
    let shown = match (ca.zip(server), public_key) {
        (Some((ca, server)), None) => Shown::Certificates { ca, server },
        (None, Some(key)) => Shown::PublicKey(key),
        _ => return Err(columns.corrupt("a VPN that shows nothing")),
    };
    let created_at = columns.time()?;
    let host = columns.optional_parse()?.zip(columns.optional_parse()?);
    let since = columns.count()?.max(columns.count()?);
    let standing = Standing {
        host,
        since,
        applied: columns.count()?,
        problem: columns.optional_json()?,
        shares_floating_ip: columns.flag()?,
        users: columns.count()?,
        connected: columns.count()?,
    };
    let vpn = Vpn {
        project,
        name,
        kind,
        interface,
        address,
        identity,
        endpoint: (endpoint_of == EndpointOf::Operator).then_some(endpoint),
        users: BTreeMap::new(),
    };
    Ok(VpnRecord {
        vpn,
        project_name,
        instance,
        network,
        network_name,
        endpoint,
        endpoint_of,
        shown,
        created_at,
        standing,
    })
}

fn certificate_from(columns: &mut Columns<'_>) -> Result<Option<Certificate>, StoreError> {
    let pem = columns.optional_text()?.map(str::to_owned);
    let times = columns.optional_time()?.zip(columns.optional_time()?);
    Ok(pem.zip(times).map(|(pem, (begins_at, expires_at))| Certificate { pem, begins_at, expires_at }))
}
