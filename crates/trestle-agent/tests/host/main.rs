//! The host on a real kernel, each test in network namespaces of its own. What is true is asked
//! of `ip`, `nft` and `/proc`, never of our own observation alone.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bench;
#[path = "../../../trestle-core/tests/common/mod.rs"]
mod cloud;

mod attacks;
mod explain;
mod floating;
mod groups;
mod ipv6;
mod known;
mod notices;
mod sees;
mod station;
mod steps;
mod turmoil;
mod vpn;
