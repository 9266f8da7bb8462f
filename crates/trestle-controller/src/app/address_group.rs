//! Address groups: addresses under a name, for rules of security groups to refer to.

use std::collections::BTreeSet;

use ipnet::IpNet;
use sqlx::AnyConnection;
use trestle_api::{AddressGroup, AddressGroupFilter, AddressGroupPatch, NewAddressGroup, Page, PageQuery};
use trestle_core::compile::Entity;
use trestle_core::types::{AddressGroupId, AddressRange, Cidr, ProjectId};
use trestle_core::world;
use uuid::Uuid;

use crate::app::check::{self, Checks};
use crate::app::{App, Caller, project};
use crate::error::AppError;
use crate::store::Write;
use crate::store::address_group::{self, AddressGroupRecord};
use crate::store::change::Change;

/// How many ranges a group has at most.
const RANGES: usize = 1000;

impl App {
    /// Makes an address group. Ranges that overlap or adjoin are put together.
    pub async fn create_address_group(
        &self,
        caller: &Caller,
        new: NewAddressGroup,
    ) -> Result<AddressGroup, AppError> {
        caller.must_not_be_agent("making an address group")?;
        let mut checks = Checks::default();
        let name = checks.name("name", &new.name);
        let owner = checks.owner(caller, new.project.as_deref(), "an address group");
        let ranges = ranges(&mut checks, &new.ranges);
        checks.finish()?;
        let named = name.zip(owner);
        let (name, owner) =
            named.ok_or_else(|| AppError::defect("a group without a name passed its checks"))?;
        let mut write = self.write().await?;
        let owner = project::find(write.connection(), caller, &owner).await?;
        let group = world::AddressGroup { id: AddressGroupId(Uuid::now_v7()), number: 0, ranges };
        let created_at = write.at();
        let mut record =
            AddressGroupRecord { group, project: owner.id, project_name: owner.name, name, created_at };
        let number = address_group::insert(write.connection(), &record).await?;
        record.group.number = number.ok_or_else(|| name_taken(&record))?;
        let message = format!("address group `{}` was made with {}", record.name, listed(&record));
        write.log(change("address_group.created", message, &record));
        write.commit().await?;
        Ok(answer(record))
    }

    /// The address groups that the caller may see.
    pub async fn list_address_groups(
        &self,
        caller: &Caller,
        filter: &AddressGroupFilter,
        page: &PageQuery,
    ) -> Result<Page<AddressGroup>, AppError> {
        let (limit, after) = (check::limit(page)?, check::after_id(page)?);
        let mut read = self.store().read().await?;
        let project = project::wanted(&mut read, caller, filter.project.as_deref()).await?;
        let which = (project, filter.name.as_deref());
        let records = address_group::list(&mut read, which, &after, check::rows(limit)).await?;
        let groups = records.into_iter().map(answer).collect();
        Ok(check::page(groups, limit, |group: &AddressGroup| group.id.to_string()))
    }

    /// One address group. A name needs its project where several have it.
    pub async fn address_group(
        &self,
        caller: &Caller,
        group: &str,
        project: Option<&str>,
    ) -> Result<AddressGroup, AppError> {
        let mut read = self.store().read().await?;
        Ok(answer(find(&mut read, caller, group, project).await?))
    }

    /// Changes an address group's name, or gives it other ranges in place of those that it has.
    /// Connected hosts have followed when this returns, or two seconds have passed.
    pub async fn patch_address_group(
        &self,
        caller: &Caller,
        group: &str,
        project: Option<&str>,
        patch: AddressGroupPatch,
    ) -> Result<AddressGroup, AppError> {
        caller.must_not_be_agent("changing an address group")?;
        let mut checks = Checks::default();
        let name = patch.name.as_deref().and_then(|text| checks.name("name", text));
        let ranges = patch.ranges.as_deref().map(|texts| ranges(&mut checks, texts));
        checks.finish()?;
        let mut write = self.write().await?;
        let before = find(write.connection(), caller, group, project).await?;
        let mut after = before.clone();
        after.name = name.unwrap_or(after.name);
        after.group.ranges = ranges.unwrap_or(after.group.ranges);
        let mut changes = Vec::new();
        if after.name != before.name {
            let others = address_group::find(write.connection(), after.name.as_str(), Some(before.project));
            if !others.await?.is_empty() {
                return Err(name_taken(&after));
            }
            changes.push(format!("it is called `{}` now", after.name));
        }
        if after.group != before.group {
            changes.push(format!("it has {}", listed(&after)));
        }
        if !changes.is_empty() {
            address_group::update(write.connection(), &after).await?;
            let message = format!("address group `{}` was changed: {}", before.name, changes.join(", "));
            write.log(change("address_group.changed", message, &after));
            self.commit_and_wait(write, Entity::AddressGroup(after.group.id)).await?;
        }
        Ok(answer(after))
    }

    /// Deletes an address group that no rule names.
    pub async fn delete_address_group(
        &self,
        caller: &Caller,
        group: &str,
        project: Option<&str>,
    ) -> Result<(), AppError> {
        caller.must_not_be_agent("deleting an address group")?;
        let mut write = self.write().await?;
        let record = find(write.connection(), caller, group, project).await?;
        let uses = address_group::uses(write.connection(), record.group.id).await?;
        if !uses.is_empty() {
            let sentence = format!("address group `{}` is still named by rules of", record.name);
            return Err(AppError::in_use(&sentence, &uses)
                .hint("delete the rules that name it with `trestle security-group rule delete`"));
        }
        address_group::delete(write.connection(), record.group.id).await?;
        write.log(deleted(&record));
        write.commit().await?;
        Ok(())
    }
}

/// Notes that groups go with their project.
pub(super) async fn log_deleted(write: &mut Write, project: ProjectId) -> Result<(), AppError> {
    let which = (Some(project), None);
    for record in address_group::list(write.connection(), which, "", i64::MAX).await? {
        write.log(deleted(&record));
    }
    Ok(())
}

/// The address group of this name or id, if the caller may see it.
async fn find(
    connection: &mut AnyConnection,
    caller: &Caller,
    text: &str,
    project: Option<&str>,
) -> Result<AddressGroupRecord, AppError> {
    let project = project::wanted(connection, caller, project).await?;
    find_within(connection, project, text).await
}

/// The address group of this name or id, in this project if one is given.
pub(super) async fn find_within(
    connection: &mut AnyConnection,
    project: Option<ProjectId>,
    text: &str,
) -> Result<AddressGroupRecord, AppError> {
    let found = address_group::find(connection, &check::reference(text), project).await?;
    check::only_one(found, "address group", text)
}

/// As few ranges as make these up.
fn ranges(checks: &mut Checks, texts: &[String]) -> BTreeSet<Cidr> {
    let mut nets: Vec<IpNet> = Vec::new();
    for (i, text) in texts.iter().enumerate() {
        let range: Option<AddressRange> = checks.parse(&format!("ranges[{i}]"), "bad_range", text);
        nets.extend(range.iter().flat_map(AddressRange::cidrs).map(|cidr| cidr.net()));
    }
    let together: BTreeSet<Cidr> = IpNet::aggregate(&nets).into_iter().map(Cidr::new).collect();
    if together.len() > RANGES {
        let message = format!("an address group has {RANGES} ranges at most, not {}", together.len());
        checks.add("ranges", "too_many", message);
    }
    together
}

fn name_taken(record: &AddressGroupRecord) -> AppError {
    let message = format!("project `{}` has an address group `{}` already", record.project_name, record.name);
    AppError::conflict("name_taken", message)
}

/// A change of this group, for the log.
fn change(kind: &'static str, message: String, record: &AddressGroupRecord) -> Change {
    Change::new(kind, &record.name, message)
        .entity(Entity::AddressGroup(record.group.id))
        .project(record.project, &record.project_name)
}

fn deleted(record: &AddressGroupRecord) -> Change {
    let message = format!("address group `{}` of project `{}` was deleted", record.name, record.project_name);
    change("address_group.deleted", message, record)
}

/// How many ranges it has and the first of them, for people.
fn listed(record: &AddressGroupRecord) -> String {
    const TOLD: usize = 5;
    let ranges = &record.group.ranges;
    let first: Vec<String> = ranges.iter().take(TOLD).map(Cidr::short).collect();
    match ranges.len() {
        0 => "no addresses".to_owned(),
        count if count > TOLD => format!("{} and {} more ranges", first.join(", "), count - TOLD),
        _ => first.join(", "),
    }
}

fn answer(record: AddressGroupRecord) -> AddressGroup {
    AddressGroup {
        id: record.group.id,
        number: record.group.number,
        name: record.name,
        project: record.project_name,
        ranges: record.group.ranges.into_iter().collect(),
        created_at: record.created_at,
    }
}
