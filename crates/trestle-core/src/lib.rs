//! The pure core of Trestle: what a host must have, what it has, and what must change.
//!
//! Nothing here does I/O, reads a clock, takes a random number or logs. The same input gives the
//! same bytes, so every decision can be tested as text and replayed from a bug report.
//!
//! The direction is always the same: [`world::World`] → [`compile`] → [`spec::HostSpec`] →
//! [`plan`] against a [`state::HostState`] → [`plan::Plan`].

pub mod alloc;
pub mod compile;
pub mod explain;
pub mod ownership;
pub mod plan;
pub mod render;
pub mod simulate;
pub mod spec;
pub mod state;
pub mod step;
pub mod types;
pub mod world;
