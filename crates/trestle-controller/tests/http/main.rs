//! The API as its clients see it: a server in process, over real sockets.

// Clippy allows it in test functions only, not in what they share.
#![allow(clippy::unwrap_used)]

mod bodies;
mod document;
mod events;
mod harness;
mod listening;
mod lists;
mod refusals;
mod service;
