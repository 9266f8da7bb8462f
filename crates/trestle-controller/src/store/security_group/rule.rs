//! Rules of security groups, with what hosts say of them.

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe};
use trestle_core::types::{Direction, Family, IcmpType, IpProtocol, Name, RuleId, SecurityGroupId};
use trestle_core::world::{Remote, Rule, Traffic};

use crate::store::columns::{self, Columns};
use crate::store::error::{During, StoreError};
use crate::store::number::{self, Numbered};

/// A rule as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct RuleRecord {
    /// What bears on compiling.
    pub(crate) rule: Rule,
    /// The name of the group, or of the address group, that it names.
    pub(crate) remote_name: Option<Name>,
    /// When it was made.
    pub(crate) created_at: Timestamp,
    /// How many packets and bytes hosts say that it decided on, if one did.
    pub(crate) counted: Option<(u64, u64)>,
}

macro_rules! select {
    ($rest:expr) => {
        concat!(
            "SELECT r.security_group, r.id, r.number, r.direction, r.family, r.protocol, r.first_port, r.last_port,
                    r.icmp_type, r.icmp_code, r.remote_cidr, r.remote_group, r.remote_address_group, r.expires_at,
                    COALESCE(g.name, a.name), r.created_at,
                    (SELECT CAST(SUM(c.packets) AS BIGINT) FROM observed_rule_counters c WHERE c.rule = r.number),
                    (SELECT CAST(SUM(c.bytes) AS BIGINT) FROM observed_rule_counters c WHERE c.rule = r.number)
             FROM security_group_rules r LEFT JOIN security_groups g ON g.id = r.remote_group
             LEFT JOIN address_groups a ON a.id = r.remote_address_group ",
            $rest
        )
    };
}

/// Every rule, as hosts know it, each with its group; in their order.
pub(super) async fn all(connection: &mut AnyConnection) -> Result<Vec<(SecurityGroupId, Rule)>, StoreError> {
    let query = sqlx::query(select!("ORDER BY r.number"));
    for_hosts(&query.fetch_all(connection).await.during("read every rule")?)
}

/// As [`all`], of the groups that changed after this place in the change log.
pub(super) async fn changed_after(
    connection: &mut AnyConnection,
    last: i64,
) -> Result<Vec<(SecurityGroupId, Rule)>, StoreError> {
    let query = sqlx::query(select!(
        "WHERE r.security_group IN (
             SELECT entity FROM changes WHERE id > $1 AND entity_kind = 'security_group')
         ORDER BY r.number"
    ));
    for_hosts(&query.bind(last).fetch_all(connection).await.during("read changed rules")?)
}

fn for_hosts(rows: &[AnyRow]) -> Result<Vec<(SecurityGroupId, Rule)>, StoreError> {
    let rule = |row| from_row(row).map(|(group, record)| (group, record.rule));
    rows.iter().map(rule).collect()
}

/// The rules of these groups, in their order, each with its group.
pub(crate) async fn rules_of(
    connection: &mut AnyConnection,
    groups: &[SecurityGroupId],
) -> Result<Vec<(SecurityGroupId, RuleRecord)>, StoreError> {
    if groups.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        select!("WHERE r.security_group IN {places} ORDER BY r.number"),
        places = columns::rows(1, groups.len())
    );
    let query = groups.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, id| query.bind(id.to_string()));
    let rows = query.fetch_all(connection).await.during("read the rules of security groups")?;
    rows.iter().map(from_row).collect()
}

/// The rules of a group after this number.
pub(crate) async fn list_rules(
    connection: &mut AnyConnection,
    group: SecurityGroupId,
    (after, limit): (i64, i64),
) -> Result<Vec<RuleRecord>, StoreError> {
    let rows =
        sqlx::query(select!("WHERE r.security_group = $1 AND r.number > $2 ORDER BY r.number LIMIT $3"))
            .bind(group.to_string())
            .bind(after)
            .bind(limit)
            .fetch_all(connection)
            .await
            .during("list the rules of a security group")?;
    rows.iter().map(|row| from_row(row).map(|(_, record)| record)).collect()
}

/// A group's rule of this id.
pub(crate) async fn find_rule(
    connection: &mut AnyConnection,
    group: SecurityGroupId,
    id: &str,
) -> Result<Option<RuleRecord>, StoreError> {
    let row = sqlx::query(select!("WHERE r.security_group = $1 AND r.id = $2"))
        .bind(group.to_string())
        .bind(id)
        .fetch_optional(connection)
        .await
        .during("read a rule")?;
    row.map(|row| from_row(&row).map(|(_, record)| record)).transpose()
}

/// How many rules a group has.
pub(crate) async fn count_rules(
    connection: &mut AnyConnection,
    group: SecurityGroupId,
) -> Result<u64, StoreError> {
    let row = sqlx::query("SELECT COUNT(*) FROM security_group_rules WHERE security_group = $1")
        .bind(group.to_string())
        .fetch_one(connection)
        .await
        .during("count the rules of a security group")?;
    Columns::of(&row).count()
}

/// Puts a new one in and gives its number, unless its group has one that allows the same: then nothing.
pub(crate) async fn insert_rule(
    connection: &mut AnyConnection,
    group: SecurityGroupId,
    rule: &Rule,
    created_at: Timestamp,
) -> Result<Option<u32>, StoreError> {
    let number = number::next(connection, Numbered::SecurityGroupRule).await?;
    let (protocol, ports, icmp) = rule.traffic.parts();
    let (mut cidr, mut remote_group, mut addresses) = (None, None, None);
    match rule.remote {
        Remote::Any => {}
        Remote::Range(range) => cidr = Some(range.to_string()),
        Remote::Group(id) => remote_group = Some(id.to_string()),
        Remote::AddressGroup(id) => addresses = Some(id.to_string()),
    }
    let result = sqlx::query(
        "INSERT INTO security_group_rules (id, number, security_group, direction, family, protocol, first_port,
             last_port, icmp_type, icmp_code, remote_cidr, remote_group, remote_address_group, expires_at,
             created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) ON CONFLICT DO NOTHING",
    )
    .bind(rule.id.to_string())
    .bind(i64::from(number))
    .bind(group.to_string())
    .bind(rule.direction.to_string())
    .bind(rule.family.map(family_number))
    .bind(protocol.map(|protocol| i64::from(protocol.number())))
    .bind(ports.map(|ports| i64::from(ports.first())))
    .bind(ports.map(|ports| i64::from(ports.last())))
    .bind(icmp.map(|icmp| i64::from(icmp.number)))
    .bind(icmp.and_then(|icmp| icmp.code).map(i64::from))
    .bind(cidr)
    .bind(remote_group)
    .bind(addresses)
    .bind(rule.expires_at.map(|second| second.saturating_mul(1_000_000)))
    .bind(created_at.as_microsecond())
    .execute(connection)
    .await
    .during("insert a rule")?;
    Ok((result.rows_affected() == 1).then_some(number))
}

/// Takes one out.
pub(crate) async fn delete_rule(connection: &mut AnyConnection, id: RuleId) -> Result<(), StoreError> {
    let query = sqlx::query("DELETE FROM security_group_rules WHERE id = $1").bind(id.to_string());
    query.execute(connection).await.during("delete a rule")?;
    Ok(())
}

fn family_number(family: Family) -> i64 {
    match family {
        Family::Ipv4 => 4,
        Family::Ipv6 => 6,
    }
}

/// The groups with rules that have ended by now.
pub(crate) async fn groups_with_expired(
    connection: &mut AnyConnection,
    now: Timestamp,
) -> Result<Vec<SecurityGroupId>, StoreError> {
    let rows = sqlx::query("SELECT DISTINCT security_group FROM security_group_rules WHERE expires_at <= $1")
        .bind(now.as_microsecond())
        .fetch_all(connection)
        .await
        .during("look for rules that have ended")?;
    rows.iter().map(|row| Columns::of(row).parse()).collect()
}

/// Takes the rules of a group out that have ended by now; gives what they were.
pub(crate) async fn delete_expired(
    connection: &mut AnyConnection,
    group: SecurityGroupId,
    now: Timestamp,
) -> Result<Vec<RuleRecord>, StoreError> {
    let rows = sqlx::query(select!("WHERE r.security_group = $1 AND r.expires_at <= $2 ORDER BY r.number"))
        .bind(group.to_string())
        .bind(now.as_microsecond())
        .fetch_all(&mut *connection)
        .await
        .during("read rules that have ended")?;
    let ended: Vec<RuleRecord> =
        rows.iter().map(|row| from_row(row).map(|(_, record)| record)).collect::<Result<_, _>>()?;
    for record in &ended {
        delete_rule(connection, record.rule.id).await?;
    }
    Ok(ended)
}

fn from_row(row: &AnyRow) -> Result<(SecurityGroupId, RuleRecord), StoreError> {
    let mut columns = Columns::of(row);
    let (group, id, number) = (columns.parse()?, columns.parse()?, columns.small()?);
    let direction = match columns.text()? {
        "ingress" => Direction::Ingress,
        "egress" => Direction::Egress,
        other => return Err(columns.corrupt(other)),
    };
    let family = match columns.optional_number()? {
        None => None,
        Some(4) => Some(Family::Ipv4),
        Some(6) => Some(Family::Ipv6),
        Some(other) => return Err(columns.corrupt(other)),
    };
    let traffic = traffic(&mut columns)?;
    let remote = remote(&mut columns)?;
    let expires_at = columns.optional_time()?.map(Timestamp::as_second);
    let rule = Rule { id, number, direction, family, traffic, remote, expires_at };
    let (remote_name, created_at) = (columns.optional_parse()?, columns.time()?);
    let mut sum = || Ok::<_, StoreError>(columns.optional_number()?.map(i64::cast_unsigned));
    let counted = sum()?.zip(sum()?);
    Ok((group, RuleRecord { rule, remote_name, created_at, counted }))
}

fn traffic(columns: &mut Columns<'_>) -> Result<Traffic, StoreError> {
    let protocol: Option<u8> = columns.optional_small()?;
    let protocol = protocol.map(|number| IpProtocol::new(number).ok_or_else(|| columns.corrupt(number)));
    let protocol = protocol.transpose()?;
    let (first, last): (Option<u16>, Option<u16>) = (columns.optional_small()?, columns.optional_small()?);
    let (number, code) = (columns.optional_small()?, columns.optional_small()?);
    let Some(protocol) = protocol else { return Ok(Traffic::Any) };
    if let Some((first, last)) = first.zip(last) {
        let text = format!("{first}-{last}");
        let ports = text.parse().map_err(|_| columns.corrupt(text))?;
        return Ok(Traffic::Ports(protocol, ports));
    }
    let icmp = number.map(|number| IcmpType { number, code });
    Ok(icmp.map_or(Traffic::Protocol(protocol), |icmp| Traffic::Icmp(protocol, icmp)))
}

fn remote(columns: &mut Columns<'_>) -> Result<Remote, StoreError> {
    let range = columns.optional_parse()?.map(Remote::Range);
    let group = columns.optional_parse()?.map(Remote::Group);
    let addresses = columns.optional_parse()?.map(Remote::AddressGroup);
    Ok(range.or(group).or(addresses).unwrap_or(Remote::Any))
}
