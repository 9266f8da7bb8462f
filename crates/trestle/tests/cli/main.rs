//! The command line as a user sees it: exit status, stdout and stderr of the program that ships,
//! against a server that the test starts in a folder of its own.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod agent;
mod doctor;
mod explain;
mod floating;
mod help;
mod inject;
mod local;
mod nouns;
mod packaging;
mod refusals;
mod security;
mod server;
mod support;
mod vpn;
