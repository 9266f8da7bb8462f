//! DNS: domains, and names in them for addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;

use sqlx::AnyConnection;
use trestle_api::{DnsDomain, DnsRecord, DnsRecordFilter, DnsRecordRequest, NewDnsDomain, Page, PageQuery};
use trestle_core::compile::Entity;
use trestle_core::types::{DnsRecordId, Domain};
use trestle_core::world;
use uuid::Uuid;

use crate::app::check::{self, Checks};
use crate::app::{App, Caller, project};
use crate::error::AppError;
use crate::store::Write;
use crate::store::change::Change;
use crate::store::dns::{self, DomainRecord, NameRecord};

/// How many addresses a name has at most: an answer must go into one packet.
const ADDRESSES: usize = 64;

impl App {
    /// Makes a domain: of a project, or, for admins alone, one that is known to all.
    pub async fn create_dns_domain(&self, caller: &Caller, new: NewDnsDomain) -> Result<DnsDomain, AppError> {
        caller.must_not_be_agent("making a domain")?;
        let mut checks = Checks::default();
        let name = domain(&mut checks, "name", &new.name);
        checks.finish()?;
        let Some(name) = name else {
            return Err(AppError::defect("a domain without a name passed its checks"));
        };
        let mut write = self.write().await?;
        let owner = new.project.clone().or_else(|| caller.only_project().map(|id| id.to_string()));
        let owner = match owner {
            Some(text) => Some(project::find(write.connection(), caller, &text).await?),
            None => None,
        };
        if dns::find_domain(write.connection(), &name.to_string()).await?.is_some() {
            return Err(AppError::conflict("name_taken", format!("there is a domain `{name}` already")));
        }
        let project = owner.map(|owner| (owner.id, owner.name));
        let record = DomainRecord { name, project, created_at: write.at() };
        dns::insert_domain(write.connection(), &record).await?;
        let message = match &record.project {
            Some((_, owner)) => format!("domain `{}` was made for project `{owner}`", record.name),
            None => format!("domain `{}` was made", record.name),
        };
        write.log(domain_change("dns.domain_created", message, &record));
        write.commit().await?;
        Ok(domain_answer(record))
    }

    /// The domains that the caller may see: its project's and those that are known to all.
    pub async fn list_dns_domains(
        &self,
        caller: &Caller,
        page: &PageQuery,
    ) -> Result<Page<DnsDomain>, AppError> {
        let limit = check::limit(page)?;
        let after = page.after.as_deref().unwrap_or_default();
        let mut read = self.store().read().await?;
        let records = dns::list_domains(&mut read, caller.only_project(), after, check::rows(limit)).await?;
        let domains = records.into_iter().map(domain_answer).collect();
        Ok(check::page(domains, limit, |domain: &DnsDomain| domain.name.to_string()))
    }

    /// Deletes a domain, with every name in it.
    pub async fn delete_dns_domain(&self, caller: &Caller, domain: &str) -> Result<(), AppError> {
        let mut write = self.write().await?;
        let record = find_own(write.connection(), caller, domain).await?;
        let names = dns::list(write.connection(), &record.name, None, ("", i64::MAX)).await?;
        for name in &names {
            write.log(deleted(name));
        }
        dns::delete_domain(write.connection(), &record.name).await?;
        let message = match names.is_empty() {
            true => format!("domain `{}` was deleted", record.name),
            false => format!("domain `{}` was deleted, with every name in it", record.name),
        };
        write.log(domain_change("dns.domain_deleted", message, &record));
        write.commit().await?;
        Ok(())
    }

    /// Makes a name, or gives it these addresses in place of those that it had. The same again changes
    /// nothing.
    pub async fn put_dns_record(
        &self,
        caller: &Caller,
        (domain, name): (&str, &str),
        request: DnsRecordRequest,
    ) -> Result<DnsRecord, AppError> {
        let mut write = self.write().await?;
        let owner = find_own(write.connection(), caller, domain).await?;
        let (name, whole, addresses) = read(&owner.name, name, &request)?;
        refuse_others(&mut write, caller, &request, &addresses).await?;
        let before = dns::find_whole(write.connection(), &whole).await?;
        if let Some(other) = before.as_ref().filter(|before| before.domain != owner.name) {
            return Err(same_elsewhere(caller, other));
        }
        if let Some(before) = before.as_ref().filter(|before| before.record.addresses == addresses) {
            return Ok(answer(before.clone()));
        }
        let id = before.as_ref().map_or_else(|| DnsRecordId(Uuid::now_v7()), |before| before.record.id);
        let (project, project_name) = owner.project.clone().unzip();
        let record = world::DnsRecord { id, name: whole, project, addresses };
        let record = NameRecord { record, name, domain: owner.name, project_name };
        dns::put(write.connection(), &record).await?;
        let addresses: Vec<String> = record.record.addresses.iter().map(ToString::to_string).collect();
        let message = format!("name `{}` leads to {}", record.record.name, addresses.join(", "));
        let kind = if before.is_some() { "dns.record_changed" } else { "dns.record_created" };
        write.log(change(kind, message, &record));
        write.commit().await?;
        Ok(answer(record))
    }

    /// The names in a domain.
    pub async fn list_dns_records(
        &self,
        caller: &Caller,
        domain: &str,
        filter: &DnsRecordFilter,
        page: &PageQuery,
    ) -> Result<Page<DnsRecord>, AppError> {
        let limit = check::limit(page)?;
        let mut checks = Checks::default();
        let address = checks.address("address", filter.address.as_deref());
        checks.finish()?;
        let after = page.after.as_deref().unwrap_or_default();
        let mut read = self.store().read().await?;
        let domain = find_domain(&mut read, caller, domain).await?.name;
        let names = dns::list(&mut read, &domain, address, (after, check::rows(limit))).await?;
        let names = names.into_iter().map(answer).collect();
        Ok(check::page(names, limit, |name: &DnsRecord| name.name.to_string()))
    }

    /// One name in a domain.
    pub async fn dns_record(&self, caller: &Caller, domain: &str, name: &str) -> Result<DnsRecord, AppError> {
        let mut read = self.store().read().await?;
        let domain = find_domain(&mut read, caller, domain).await?.name;
        Ok(answer(find(&mut read, &domain, name).await?))
    }

    /// Deletes a name in a domain.
    pub async fn delete_dns_record(&self, caller: &Caller, domain: &str, name: &str) -> Result<(), AppError> {
        let mut write = self.write().await?;
        let domain = find_own(write.connection(), caller, domain).await?.name;
        let record = find(write.connection(), &domain, name).await?;
        dns::delete(write.connection(), record.record.id).await?;
        write.log(deleted(&record));
        write.commit().await?;
        Ok(())
    }
}

/// Takes these addresses, which nobody has any more, out of all names.
pub(super) async fn forget(write: &mut Write, addresses: &[IpAddr]) -> Result<(), AppError> {
    let gone: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    for name in dns::forget(write, addresses).await? {
        let is_left = name.record.addresses.iter().any(|address| !addresses.contains(address));
        let whole = &name.record.name;
        let change = match is_left {
            true => {
                let message = format!("name `{whole}` does not lead to {} any more", gone.join(", "));
                change("dns.record_changed", message, &name)
            }
            false => deleted(&name),
        };
        write.log(change);
    }
    Ok(())
}

/// The domain of this name, if the caller may see it.
async fn find_domain(
    connection: &mut AnyConnection,
    caller: &Caller,
    text: &str,
) -> Result<DomainRecord, AppError> {
    let found = dns::find_domain(connection, text).await?;
    let visible = |record: &DomainRecord| {
        let owner = record.project.as_ref().map(|(id, _)| *id);
        caller.only_project().is_none_or(|only| owner.is_none_or(|owner| owner == only))
    };
    found.filter(visible).ok_or_else(|| AppError::not_found("domain", text))
}

/// As [`find_domain`], if the caller may change it too.
async fn find_own(
    connection: &mut AnyConnection,
    caller: &Caller,
    text: &str,
) -> Result<DomainRecord, AppError> {
    caller.must_not_be_agent("changing a domain")?;
    let record = find_domain(connection, caller, text).await?;
    if record.project.is_none() {
        caller.must_be_admin("changing a domain that is known to all")?;
    }
    Ok(record)
}

async fn find(connection: &mut AnyConnection, domain: &Domain, name: &str) -> Result<NameRecord, AppError> {
    let found = dns::find(connection, domain, name).await?;
    found.ok_or_else(|| AppError::not_found("name", &format!("{name}.{domain}")))
}

fn domain(checks: &mut Checks, field: &str, text: &str) -> Option<Domain> {
    if text.is_empty() {
        checks.add(field, "required", "a name is needed, such as example.org");
        return None;
    }
    checks.parse(field, "bad_domain", text)
}

/// A name, the same with its domain, and its addresses.
fn read(
    within: &Domain,
    name: &str,
    request: &DnsRecordRequest,
) -> Result<(Domain, Domain, BTreeSet<IpAddr>), AppError> {
    let mut checks = Checks::default();
    let name: Option<Domain> = checks.parse("name", "bad_domain", name);
    let whole = name
        .as_ref()
        .and_then(|name| checks.parse::<Domain>("name", "bad_domain", &format!("{name}.{within}")));
    let mut addresses = BTreeSet::new();
    for (i, text) in request.addresses.iter().enumerate() {
        addresses.extend(checks.address(&format!("addresses[{i}]"), Some(text)));
    }
    if request.addresses.is_empty() {
        checks.add("addresses", "required", "a name needs an address");
    } else if addresses.len() > ADDRESSES {
        let message = format!("a name has {ADDRESSES} addresses at most, not {}", addresses.len());
        checks.add("addresses", "too_many", message);
    }
    checks.finish()?;
    let named = name.zip(whole);
    let (name, whole) = named.ok_or_else(|| AppError::defect("a name that is none passed its checks"))?;
    Ok((name, whole, addresses))
}

/// Fails if a member gives names to what is not its project's.
async fn refuse_others(
    write: &mut Write,
    caller: &Caller,
    request: &DnsRecordRequest,
    addresses: &BTreeSet<IpAddr>,
) -> Result<(), AppError> {
    let Some(project) = caller.only_project() else { return Ok(()) };
    let all: Vec<IpAddr> = addresses.iter().copied().collect();
    let held = dns::held_by(write.connection(), project, &all).await?;
    let mut checks = Checks::default();
    for (i, text) in request.addresses.iter().enumerate() {
        if text.parse().is_ok_and(|address: IpAddr| !held.contains(&address)) {
            let message = format!("{text} is neither a fixed nor a floating IP of the project");
            checks.add(format!("addresses[{i}]"), "not_held", message);
        }
    }
    checks.finish()
}

/// `a.b` in `c` and `a` in `b.c` are the same name.
fn same_elsewhere(caller: &Caller, other: &NameRecord) -> AppError {
    let whole = &other.record.name;
    let error = AppError::conflict("name_taken", format!("there is a name `{whole}` already"));
    let is_visible =
        caller.only_project().is_none_or(|only| other.record.project.is_none_or(|it| it == only));
    if is_visible {
        error.hint(format!("it is `{}` in domain `{}`", other.name, other.domain))
    } else {
        error
    }
}

fn domain_change(kind: &'static str, message: String, record: &DomainRecord) -> Change {
    let change = Change::new(kind, &record.name, message);
    match &record.project {
        Some((id, name)) => change.project(*id, name),
        None => change,
    }
}

/// A change of this name, for the log.
fn change(kind: &'static str, message: String, name: &NameRecord) -> Change {
    let record = &name.record;
    let change = Change::new(kind, &record.name, message).entity(Entity::DnsRecord(record.id));
    match record.project.zip(name.project_name.as_ref()) {
        Some((id, name)) => change.project(id, name),
        None => change,
    }
}

fn deleted(name: &NameRecord) -> Change {
    change("dns.record_deleted", format!("name `{}` was deleted", name.record.name), name)
}

fn domain_answer(record: DomainRecord) -> DnsDomain {
    let project = record.project.map(|(_, name)| name);
    DnsDomain { name: record.name, project, created_at: record.created_at }
}

fn answer(record: NameRecord) -> DnsRecord {
    let addresses = record.record.addresses.into_iter().collect();
    DnsRecord { name: record.name, domain: record.domain, addresses }
}
