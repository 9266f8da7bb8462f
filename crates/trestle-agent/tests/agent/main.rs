//! The agent as it ships, between a controller and a machine that follow scripts.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../../trestle-core/tests/common/mod.rs"]
mod cloud;
mod crash;
mod drift;
mod fake;
mod socket;
mod spec;
