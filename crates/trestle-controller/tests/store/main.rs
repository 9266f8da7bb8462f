//! The app layer on its store, the same tests on SQLite and on PostgreSQL.

// A test that cannot go on says so best by panicking.
#![allow(clippy::unwrap_used)]

mod addresses;
mod cloud;
mod feed;
mod floating_ips;
mod history;
mod names;
mod networks;
mod requests;
mod security_groups;
mod vpns;
