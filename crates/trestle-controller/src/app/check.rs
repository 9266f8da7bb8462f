//! Reads requests: text into the vocabulary's types, and a list of everything that is wrong.

use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;

use jiff::Timestamp;
use trestle_api::{FieldProblem, Page, PageQuery};
use trestle_core::ownership::DEVICE_PREFIX;
use trestle_core::types::{Family, LinkName, Name};
use uuid::Uuid;

use crate::app::Caller;
use crate::error::AppError;

/// How many things a page has unless asked for more or less.
const PAGE: u32 = 100;

/// How many things a page has at most.
const LARGEST_PAGE: u32 = 1000;

/// The largest number that JSON carries without loss (RFC 8259 §6).
pub(super) const LARGEST_COUNT: u64 = (1 << 53) - 1;

/// What is wrong with a request so far.
#[derive(Debug, Default)]
pub(super) struct Checks {
    problems: Vec<FieldProblem>,
}

impl Checks {
    /// Notes that something is wrong.
    pub(super) fn add(&mut self, field: impl Into<String>, code: &str, message: impl Display) {
        let (field, code) = (field.into(), code.to_owned());
        self.problems.push(FieldProblem { field, code, message: message.to_string() });
    }

    /// The text as what it must be.
    pub(super) fn parse<T>(&mut self, field: &str, code: &str, text: &str) -> Option<T>
    where
        T: FromStr<Err: Display>,
    {
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.add(field, code, error);
                None
            }
        }
    }

    /// The text as what it must be, if there is one.
    pub(super) fn optional<T>(&mut self, field: &str, code: &str, text: Option<&str>) -> Option<T>
    where
        T: FromStr<Err: Display>,
    {
        text.and_then(|text| self.parse(field, code, text))
    }

    /// The text as an address, if there is one.
    pub(super) fn address(&mut self, field: &str, text: Option<&str>) -> Option<IpAddr> {
        let text = text?;
        let address = text.parse().ok();
        if address.is_none() {
            self.add(field, "bad_address", format!("`{text}` is not an IP address"));
        }
        address
    }

    /// The text as a time, if it is one.
    pub(super) fn time(&mut self, field: &str, text: &str) -> Option<Timestamp> {
        let time = text.parse().ok();
        if time.is_none() {
            let message = format!("`{text}` is not a time: write it as 2026-11-29T01:00:00Z");
            self.add(field, "bad_time", message);
        }
        time
    }

    /// The text as a family, if it is one.
    pub(super) fn family(&mut self, field: &str, text: &str) -> Option<Family> {
        match text {
            "ipv4" => Some(Family::Ipv4),
            "ipv6" => Some(Family::Ipv6),
            other => {
                self.add(field, "bad_family", format!("`{other}` is no family: use ipv4 or ipv6"));
                None
            }
        }
    }

    /// The project that is to own a new thing, by name or id: a member's own if none is named.
    pub(super) fn owner(&mut self, caller: &Caller, named: Option<&str>, what: &str) -> Option<String> {
        let owner = named.map(str::to_owned).or_else(|| caller.only_project().map(|id| id.to_string()));
        if owner.is_none() {
            self.add("project", "required", format!("{what} needs a project"));
        }
        owner
    }

    /// A name for a new thing; one that reads as an id would be ambiguous.
    pub(super) fn name(&mut self, field: &str, text: &str) -> Option<Name> {
        if text.is_empty() {
            self.add(field, "required", "a name is needed");
            return None;
        }
        if Uuid::try_parse(text).is_ok() {
            self.add(field, "bad_name", format!("`{text}` reads as an id and cannot be a name"));
            return None;
        }
        self.parse(field, "bad_name", text)
    }

    /// A device that is not one of an interface's.
    pub(super) fn link(&mut self, field: &str, text: &str) -> Option<LinkName> {
        let link: LinkName = self.parse(field, "bad_link_name", text)?;
        if link.as_str().starts_with(DEVICE_PREFIX) {
            let message =
                format!("`{link}` begins with `{DEVICE_PREFIX}`, which is kept for instances' devices");
            self.add(field, "bad_link_name", message);
            return None;
        }
        Some(link)
    }

    /// Fails if anything is wrong.
    pub(super) fn finish(self) -> Result<(), AppError> {
        if self.problems.is_empty() { Ok(()) } else { Err(AppError::invalid(self.problems)) }
    }
}

/// One thing that is wrong, as an error.
pub(super) fn invalid(field: impl Into<String>, code: &str, message: impl Display) -> AppError {
    let mut checks = Checks::default();
    checks.add(field, code, message);
    AppError::invalid(checks.problems)
}

/// The only thing that has this name or id.
pub(super) fn only_one<T>(mut found: Vec<T>, what: &str, text: &str) -> Result<T, AppError> {
    if found.len() > 1 {
        let article = if what.starts_with('a') || what.starts_with('i') { "an" } else { "a" };
        let message = format!("several projects have {article} {what} `{text}`: say which project");
        return Err(invalid("project", "required", message));
    }
    found.pop().ok_or_else(|| AppError::not_found(what, text))
}

/// A name or id as the store has it: ids in lower case with hyphens.
pub(super) fn reference(text: &str) -> String {
    Uuid::try_parse(text).map_or_else(|_| text.to_owned(), |id| id.to_string())
}

/// How many things a page is to have.
pub(super) fn limit(page: &PageQuery) -> Result<usize, AppError> {
    match page.limit.unwrap_or(PAGE) {
        limit @ 1..=LARGEST_PAGE => Ok(limit as usize),
        other => {
            Err(invalid("limit", "bad_limit", format!("a page has 1 to {LARGEST_PAGE} things, not {other}")))
        }
    }
}

/// The id a page of things with ids starts behind; empty for the first page.
pub(super) fn after_id(page: &PageQuery) -> Result<String, AppError> {
    match page.after.as_deref() {
        None => Ok(String::new()),
        Some(text) if Uuid::try_parse(text).is_ok() => Ok(reference(text)),
        Some(text) => Err(invalid("after", "bad_cursor", format!("`{text}` is not the `next` of a page"))),
    }
}

/// How many to ask the store for: one more, to see whether there is a next page.
pub(super) fn rows(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1)
}

/// The page out of one thing more than it has.
pub(super) fn page<T>(mut items: Vec<T>, limit: usize, cursor: impl Fn(&T) -> String) -> Page<T> {
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(cursor);
    Page { items, next }
}
