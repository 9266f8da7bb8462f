//! Security groups, and the rules in them.

mod default;
mod expiry;
mod rule;

use std::collections::BTreeMap;

use sqlx::AnyConnection;
use trestle_api::{
    NewSecurityGroup, Page, PageQuery, SecurityGroup, SecurityGroupFilter, SecurityGroupPatch,
};
use trestle_core::compile::Entity;
use trestle_core::types::{ProjectId, SecurityGroupId};
use uuid::Uuid;

pub(super) use self::default::{DEFAULT, end_vpn_group, read_default_rules};
pub(super) use self::expiry::Expiry;
pub(super) use self::rule::RuleWish;
use crate::app::check::{self, Checks};
use crate::app::{App, Caller, project};
use crate::error::AppError;
use crate::store::Write;
use crate::store::change::Change;
use crate::store::security_group::{self, Filter, GroupRecord, RuleRecord};

/// The longest description, in characters.
const DESCRIPTION: usize = 255;

impl App {
    /// Makes a security group without rules: nothing passes for who is in no other.
    pub async fn create_security_group(
        &self,
        caller: &Caller,
        new: NewSecurityGroup,
    ) -> Result<SecurityGroup, AppError> {
        caller.must_not_be_agent("making a security group")?;
        let mut checks = Checks::default();
        let name = checks.name("name", &new.name);
        let owner = checks.owner(caller, new.project.as_deref(), "a security group");
        check_description(&mut checks, &new.description);
        checks.finish()?;
        let named = name.zip(owner);
        let (name, owner) =
            named.ok_or_else(|| AppError::defect("a group without a name passed its checks"))?;
        let mut write = self.write().await?;
        let owner = project::find(write.connection(), caller, &owner).await?;
        self.refuse_security_groups_over_quota(&mut write, &owner).await?;
        let record = GroupRecord {
            id: SecurityGroupId(Uuid::now_v7()),
            number: 0,
            project: owner.id,
            project_name: owner.name,
            name,
            description: new.description,
            created_at: write.at(),
        };
        let record = put(&mut write, record).await?;
        write.commit().await?;
        Ok(answer(record, Vec::new()))
    }

    /// The security groups that the caller may see.
    pub async fn list_security_groups(
        &self,
        caller: &Caller,
        filter: &SecurityGroupFilter,
        page: &PageQuery,
    ) -> Result<Page<SecurityGroup>, AppError> {
        let (limit, after) = (check::limit(page)?, check::after_id(page)?);
        let mut read = self.store().read().await?;
        let project = project::wanted(&mut read, caller, filter.project.as_deref()).await?;
        let filter = Filter { project, name: filter.name.as_deref() };
        let records = security_group::list(&mut read, &filter, &after, check::rows(limit)).await?;
        let groups = with_rules(&mut read, records).await?;
        Ok(check::page(groups, limit, |group: &SecurityGroup| group.id.to_string()))
    }

    /// One security group. A name needs its project where several have it.
    pub async fn security_group(
        &self,
        caller: &Caller,
        group: &str,
        project: Option<&str>,
    ) -> Result<SecurityGroup, AppError> {
        let mut read = self.store().read().await?;
        let record = find(&mut read, caller, group, project).await?;
        let members = security_group::members(&mut read, record.id).await?;
        Ok(SecurityGroup { members: Some(members), ..with_own_rules(&mut read, record).await? })
    }

    /// Changes a security group's name, but for `default`, or its description.
    pub async fn patch_security_group(
        &self,
        caller: &Caller,
        group: &str,
        project: Option<&str>,
        patch: SecurityGroupPatch,
    ) -> Result<SecurityGroup, AppError> {
        caller.must_not_be_agent("changing a security group")?;
        let mut checks = Checks::default();
        let name = patch.name.as_deref().and_then(|text| checks.name("name", text));
        patch.description.iter().for_each(|text| check_description(&mut checks, text));
        checks.finish()?;
        let mut write = self.write().await?;
        let before = find(write.connection(), caller, group, project).await?;
        let mut after = before.clone();
        after.name = name.unwrap_or(after.name);
        after.description = patch.description.unwrap_or(after.description);
        let mut changes = Vec::new();
        if after.name != before.name {
            refuse_default(&before, "renamed")?;
            let others = security_group::find(write.connection(), after.name.as_str(), Some(before.project));
            if !others.await?.is_empty() {
                return Err(name_taken(&after));
            }
            changes.push(format!("it is called `{}` now", after.name));
        }
        if after.description != before.description {
            changes.push(match after.description.as_str() {
                "" => "it has no description now".to_owned(),
                text => format!("its description is `{text}` now"),
            });
        }
        if !changes.is_empty() {
            security_group::update(write.connection(), &after).await?;
            let message = format!("security group `{}` was changed: {}", before.name, changes.join(", "));
            write.log(change("security_group.changed", message, &after));
            write.commit().await?;
        }
        let mut read = self.store().read().await?;
        with_own_rules(&mut read, after).await
    }

    /// Deletes a security group that no interface is in and no other group's rule names; `default`
    /// goes with its project alone.
    pub async fn delete_security_group(
        &self,
        caller: &Caller,
        group: &str,
        project: Option<&str>,
    ) -> Result<(), AppError> {
        caller.must_not_be_agent("deleting a security group")?;
        let mut write = self.write().await?;
        let record = find(write.connection(), caller, group, project).await?;
        refuse_default(&record, "deleted")?;
        let uses = security_group::uses(write.connection(), record.id).await?;
        if !uses.is_empty() {
            let sentence = format!("security group `{}` is still used by", record.name);
            return Err(AppError::in_use(&sentence, &uses).hint(
                "take instances out of it with `trestle instance interface set`, and delete rules that name it with `trestle security-group rule delete`",
            ));
        }
        security_group::delete(write.connection(), record.id).await?;
        write.log(deleted(&record));
        write.commit().await?;
        Ok(())
    }
}

/// The security group of this name or id, if the caller may see it.
pub(super) async fn find(
    connection: &mut AnyConnection,
    caller: &Caller,
    text: &str,
    project: Option<&str>,
) -> Result<GroupRecord, AppError> {
    let project = project::wanted(connection, caller, project).await?;
    find_within(connection, project, text).await
}

/// The security group of this name or id, in this project if one is given.
pub(super) async fn find_within(
    connection: &mut AnyConnection,
    project: Option<ProjectId>,
    text: &str,
) -> Result<GroupRecord, AppError> {
    let found = security_group::find(connection, &check::reference(text), project).await?;
    check::only_one(found, "security group", text)
}

/// Puts a new group in, which has no number yet.
async fn put(write: &mut Write, record: GroupRecord) -> Result<GroupRecord, AppError> {
    let number = security_group::insert(write.connection(), &record).await?;
    let Some(number) = number else { return Err(name_taken(&record)) };
    let message = format!("security group `{}` was made in project `{}`", record.name, record.project_name);
    write.log(change("security_group.created", message, &record));
    Ok(GroupRecord { number, ..record })
}

/// Notes that groups go with their project.
pub(super) async fn log_deleted(write: &mut Write, project: ProjectId) -> Result<(), AppError> {
    let filter = Filter { project: Some(project), name: None };
    for record in security_group::list(write.connection(), &filter, "", i64::MAX).await? {
        write.log(deleted(&record));
    }
    Ok(())
}

fn deleted(record: &GroupRecord) -> Change {
    let message =
        format!("security group `{}` of project `{}` was deleted", record.name, record.project_name);
    change("security_group.deleted", message, record)
}

/// Fails if the group is the one that its project has always; `what` cannot be done to it.
fn refuse_default(record: &GroupRecord, what: &str) -> Result<(), AppError> {
    if record.name.as_str() != DEFAULT {
        return Ok(());
    }
    let message = format!(
        "security group `{DEFAULT}` of project `{}` is one that every project has: it cannot be {what}",
        record.project_name
    );
    Err(AppError::conflict("default_group", message)
        .hint("its rules can be changed: see `trestle security-group rule --help`"))
}

fn name_taken(record: &GroupRecord) -> AppError {
    let message = format!("project `{}` has a security group `{}` already", record.project_name, record.name);
    AppError::conflict("name_taken", message)
}

fn check_description(checks: &mut Checks, text: &str) {
    if text.chars().count() > DESCRIPTION {
        let message = format!("a description has {DESCRIPTION} characters at most");
        checks.add("description", "too_long", message);
    } else if text.chars().any(char::is_control) {
        checks.add("description", "bad_description", "a description has no control characters");
    }
}

/// A change of this group, for the log.
fn change(kind: &'static str, message: String, record: &GroupRecord) -> Change {
    Change::new(kind, &record.name, message)
        .entity(Entity::SecurityGroup(record.id))
        .project(record.project, &record.project_name)
}

async fn with_own_rules(
    connection: &mut AnyConnection,
    record: GroupRecord,
) -> Result<SecurityGroup, AppError> {
    let mut groups = with_rules(connection, vec![record]).await?;
    groups.pop().ok_or_else(|| AppError::defect("a group was lost while its rules were read"))
}

async fn with_rules(
    connection: &mut AnyConnection,
    records: Vec<GroupRecord>,
) -> Result<Vec<SecurityGroup>, AppError> {
    let ids: Vec<SecurityGroupId> = records.iter().map(|record| record.id).collect();
    let mut rules: BTreeMap<SecurityGroupId, Vec<RuleRecord>> = BTreeMap::new();
    for (group, rule) in security_group::rules_of(connection, &ids).await? {
        rules.entry(group).or_default().push(rule);
    }
    let mut with_rules = |record: GroupRecord| {
        let rules = rules.remove(&record.id).unwrap_or_default();
        answer(record, rules)
    };
    Ok(records.into_iter().map(&mut with_rules).collect())
}

fn answer(record: GroupRecord, rules: Vec<RuleRecord>) -> SecurityGroup {
    SecurityGroup {
        id: record.id,
        number: record.number,
        name: record.name,
        project: record.project_name,
        description: record.description,
        rules: rules.into_iter().map(rule::answer).collect(),
        members: None,
        created_at: record.created_at,
    }
}
