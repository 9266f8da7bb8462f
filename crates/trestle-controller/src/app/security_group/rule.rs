//! Rules of security groups.

use jiff::{SignedDuration, Timestamp};
use trestle_api::{NewSecurityGroupRule, Page, PageQuery, SecurityGroupRule};
use trestle_core::compile::Entity;
use trestle_core::types::{Cidr, Direction, Family, IcmpType, IpProtocol, PortRange, RuleId};
use trestle_core::world::{Remote, Rule, Traffic};
use uuid::Uuid;

use crate::app::check::{self, Checks};
use crate::app::security_group::{change, expiry, find, find_within};
use crate::app::{App, Caller, address_group};
use crate::error::AppError;
use crate::store::Write;
use crate::store::security_group::{self, GroupRecord, RuleRecord};

/// A rule that was asked for, read.
#[derive(Clone)]
pub(in crate::app) struct RuleWish {
    direction: Direction,
    family: Option<Family>,
    traffic: Traffic,
    pub(super) remote: RemoteWish,
    /// In seconds since 1970.
    pub(super) expires_at: Option<i64>,
}

/// Who is to be at the other end.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum RemoteWish {
    Any,
    Range(Cidr),
    /// By name or id.
    Group(String),
    /// By name or id.
    AddressGroup(String),
}

impl App {
    /// Adds a rule to a security group. One that is there already is refused, whenever it ends.
    /// Connected hosts have followed when this returns, or two seconds have passed.
    pub async fn add_security_group_rule(
        &self,
        caller: &Caller,
        group: &str,
        project: Option<&str>,
        new: NewSecurityGroupRule,
    ) -> Result<SecurityGroupRule, AppError> {
        caller.must_not_be_agent("adding a rule")?;
        let wish = RuleWish::read(&new, self.now())?;
        let mut write = self.write().await?;
        let group = find(write.connection(), caller, group, project).await?;
        // What has ended takes no place and is in nobody's way.
        expiry::end_rules(&mut write, &group).await?;
        self.refuse_rules_over_quota(&mut write, &group).await?;
        let record = put(&mut write, &group, &wish).await?.map_err(|same| duplicate(&group, &same))?;
        let message = format!("rule `{}` was added to security group `{}`", text(&record), group.name);
        write.log(change("security_group.rule_added", message, &group));
        self.commit_and_wait(write, Entity::SecurityGroup(group.id)).await?;
        Ok(answer(record))
    }

    /// The rules of a security group, in the order they were made.
    pub async fn list_security_group_rules(
        &self,
        caller: &Caller,
        group: &str,
        project: Option<&str>,
        page: &PageQuery,
    ) -> Result<Page<SecurityGroupRule>, AppError> {
        let limit = check::limit(page)?;
        let mut checks = Checks::default();
        let after: Option<u32> = checks.optional("after", "bad_cursor", page.after.as_deref());
        checks.finish()?;
        let mut read = self.store().read().await?;
        let group = find(&mut read, caller, group, project).await?;
        let place = (after.map_or(0, i64::from), check::rows(limit));
        let records = security_group::list_rules(&mut read, group.id, place).await?;
        let rules = records.into_iter().map(answer).collect();
        Ok(check::page(rules, limit, |rule: &SecurityGroupRule| rule.number.to_string()))
    }

    /// Deletes a rule of a security group, by id. Connected hosts have followed as with adding one.
    pub async fn delete_security_group_rule(
        &self,
        caller: &Caller,
        group: &str,
        project: Option<&str>,
        rule: &str,
    ) -> Result<(), AppError> {
        caller.must_not_be_agent("deleting a rule")?;
        let mut write = self.write().await?;
        let group = find(write.connection(), caller, group, project).await?;
        let found = security_group::find_rule(write.connection(), group.id, &check::reference(rule)).await?;
        let record = found.ok_or_else(|| {
            AppError::not_found(&format!("rule of security group `{}` with the id", group.name), rule)
                .hint(format!("`trestle security-group rule list {}` shows their ids", group.name))
        })?;
        security_group::delete_rule(write.connection(), record.rule.id).await?;
        let message = format!("rule `{}` was deleted from security group `{}`", text(&record), group.name);
        write.log(change("security_group.rule_deleted", message, &group));
        self.commit_and_wait(write, Entity::SecurityGroup(group.id)).await
    }
}

impl RuleWish {
    /// What the request asks for, or everything that is wrong with it.
    pub(in crate::app) fn read(new: &NewSecurityGroupRule, now: Timestamp) -> Result<Self, AppError> {
        let mut checks = Checks::default();
        let direction = direction(&mut checks, &new.direction);
        let family = new.family.as_deref().and_then(|text| checks.family("family", text));
        let traffic = traffic(&mut checks, new);
        let remote = remote(&mut checks, new);
        let expires_at = expires_at(&mut checks, new, now);
        let read = direction.zip(traffic).zip(remote);
        let wish = read.map(|((direction, traffic), remote)| Self {
            direction,
            family,
            traffic,
            remote,
            expires_at,
        });
        if wish.as_ref().is_some_and(Self::is_about_nothing) {
            let message = "what the rule says is of different families: no packet is all of it";
            checks.add("family", "wrong_family", message);
        }
        checks.finish()?;
        wish.ok_or_else(|| AppError::defect("a rule that is none passed its checks"))
    }

    fn is_about_nothing(&self) -> bool {
        let remote = match self.remote {
            RemoteWish::Range(range) => Remote::Range(range),
            _ => Remote::Any,
        };
        self.rule(remote).families().next().is_none()
    }

    /// The rule; its number comes when it is put in.
    fn rule(&self, remote: Remote) -> Rule {
        let Self { direction, family, traffic, expires_at, .. } = *self;
        Rule { id: RuleId(Uuid::now_v7()), number: 0, direction, family, traffic, remote, expires_at }
    }
}

/// Puts a rule into a group; what it names is of the group's project. Gives it back as it would have
/// been if one that allows the same is there.
pub(super) async fn put(
    write: &mut Write,
    group: &GroupRecord,
    wish: &RuleWish,
) -> Result<Result<RuleRecord, RuleRecord>, AppError> {
    let hint = "a rule names groups of its own project";
    let (remote, remote_name) = match &wish.remote {
        RemoteWish::Any => (Remote::Any, None),
        RemoteWish::Range(range) => (Remote::Range(*range), None),
        RemoteWish::Group(text) => {
            let found = find_within(write.connection(), Some(group.project), text).await;
            let named = found.map_err(|error| error.hint(hint))?;
            (Remote::Group(named.id), Some(named.name))
        }
        RemoteWish::AddressGroup(text) => {
            let found = address_group::find_within(write.connection(), Some(group.project), text).await;
            let named = found.map_err(|error| error.hint(hint))?;
            (Remote::AddressGroup(named.group.id), Some(named.name))
        }
    };
    let (rule, created_at) = (wish.rule(remote), write.at());
    let number = security_group::insert_rule(write.connection(), group.id, &rule, created_at).await?;
    let record = RuleRecord { rule, remote_name, created_at, counted: None };
    Ok(match number {
        Some(number) => Ok(RuleRecord { rule: Rule { number, ..record.rule }, ..record }),
        None => Err(record),
    })
}

fn duplicate(group: &GroupRecord, same: &RuleRecord) -> AppError {
    let unending = RuleRecord { rule: Rule { expires_at: None, ..same.rule.clone() }, ..same.clone() };
    let message = format!("security group `{}` has the rule `{}` already", group.name, text(&unending));
    AppError::conflict("rule_exists", message)
        .hint("to give it another end, delete it first: `trestle security-group rule list` shows its id")
}

fn direction(checks: &mut Checks, text: &str) -> Option<Direction> {
    match text {
        "ingress" => Some(Direction::Ingress),
        "egress" => Some(Direction::Egress),
        "" => {
            checks.add("direction", "required", "a rule needs a direction: ingress or egress");
            None
        }
        other => {
            let message =
                format!("`{other}` is no direction: use ingress, to the instance, or egress, from it");
            checks.add("direction", "bad_direction", message);
            None
        }
    }
}

fn traffic(checks: &mut Checks, new: &NewSecurityGroupRule) -> Option<Traffic> {
    let text = new.protocol.as_deref().map(str::to_lowercase).filter(|text| text != "any");
    let protocol: Option<IpProtocol> = checks.optional("protocol", "bad_protocol", text.as_deref());
    let ports: Option<PortRange> = checks.optional("ports", "bad_ports", new.ports.as_deref());
    let icmp: Option<IcmpType> = checks.optional("icmp_type", "bad_icmp_type", new.icmp_type.as_deref());
    let is_readable = protocol.is_some() || text.is_none();
    let has_types = matches!(protocol, Some(IpProtocol::ICMP | IpProtocol::ICMPV6));
    if let Some(ports) = &ports
        && is_readable
        && !protocol.is_some_and(IpProtocol::has_ports)
    {
        let message = match protocol.filter(|_| has_types) {
            Some(protocol) => format!("{protocol} has types and no ports: write `type {ports}`"),
            None => "only tcp, udp and sctp have ports: say which protocol".to_owned(),
        };
        checks.add("ports", "not_possible", message);
        return None;
    }
    if icmp.is_some() && is_readable && !has_types {
        checks.add("icmp_type", "not_possible", "only icmp and icmpv6 have types: say which protocol");
        return None;
    }
    let Some(protocol) = protocol else { return is_readable.then_some(Traffic::Any) };
    let of_ports = ports.map(|ports| Traffic::Ports(protocol, ports));
    let of_types = icmp.map(|icmp| Traffic::Icmp(protocol, icmp));
    Some(of_ports.or(of_types).unwrap_or(Traffic::Protocol(protocol)))
}

fn remote(checks: &mut Checks, new: &NewSecurityGroupRule) -> Option<RemoteWish> {
    match (new.remote_cidr.as_deref(), &new.remote_group, &new.remote_address_group) {
        (None, None, None) => Some(RemoteWish::Any),
        (Some(text), None, None) => checks.parse("remote_cidr", "bad_cidr", text).map(RemoteWish::Range),
        (None, Some(text), None) => Some(RemoteWish::Group(text.clone())),
        (None, None, Some(text)) => Some(RemoteWish::AddressGroup(text.clone())),
        _ => {
            let message = "a rule has one remote: a CIDR, a group or an address group";
            checks.add("remote_cidr", "several_remotes", message);
            None
        }
    }
}

fn expires_at(checks: &mut Checks, new: &NewSecurityGroupRule, now: Timestamp) -> Option<i64> {
    let (field, end) = match (new.expires_at.as_deref(), new.expires_in) {
        (None, None) => return None,
        (Some(text), None) => ("expires_at", checks.time("expires_at", text)?),
        (None, Some(seconds)) => {
            ("expires_in", now.saturating_add(SignedDuration::from_secs(seconds.into())).unwrap_or(now))
        }
        (Some(_), Some(_)) => {
            checks.add("expires_in", "not_possible", "a rule ends at a time or after some seconds, not both");
            return None;
        }
    };
    if end.as_second() <= now.as_second() {
        checks.add(field, "in_the_past", format!("a rule that ends at {end:.0} allows nothing: it is over"));
    }
    Some(end.as_second())
}

/// All that a rule says, in words.
pub(super) fn text(record: &RuleRecord) -> String {
    let Rule { direction, family, traffic, remote, expires_at, .. } = &record.rule;
    let (protocol, ports, icmp) = traffic.parts();
    let named = record.remote_name.as_ref().map(ToString::to_string);
    let words = NewSecurityGroupRule {
        direction: direction.to_string(),
        family: family.map(|family| family.to_string().to_lowercase()),
        protocol: protocol.map(|protocol| protocol.to_string()),
        ports: ports.map(|ports| ports.to_string()),
        icmp_type: icmp.map(|icmp| icmp.to_string()),
        remote_cidr: range(*remote).map(|range| range.to_string()),
        remote_group: named.clone().filter(|_| matches!(remote, Remote::Group(_))),
        remote_address_group: named.filter(|_| matches!(remote, Remote::AddressGroup(_))),
        expires_at: expires_at.and_then(end).map(|end| end.to_string()),
        expires_in: None,
    };
    words.to_string()
}

fn range(remote: Remote) -> Option<Cidr> {
    match remote {
        Remote::Range(range) => Some(range),
        Remote::Any | Remote::Group(_) | Remote::AddressGroup(_) => None,
    }
}

fn end(second: i64) -> Option<Timestamp> {
    Timestamp::from_second(second).ok()
}

pub(super) fn answer(record: RuleRecord) -> SecurityGroupRule {
    let text = text(&record);
    let RuleRecord { rule, remote_name, created_at, counted } = record;
    let (protocol, ports, icmp_type) = rule.traffic.parts();
    let (packets, bytes) = counted.unzip();
    SecurityGroupRule {
        id: rule.id,
        number: rule.number,
        text,
        direction: rule.direction,
        family: rule.family,
        protocol,
        ports,
        icmp_type,
        remote_cidr: range(rule.remote),
        remote_group: remote_name.clone().filter(|_| matches!(rule.remote, Remote::Group(_))),
        remote_address_group: remote_name.filter(|_| matches!(rule.remote, Remote::AddressGroup(_))),
        expires_at: rule.expires_at.and_then(end),
        packets,
        bytes,
        created_at,
    }
}
