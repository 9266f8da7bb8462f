//! Guests' networks written into real places, and read there by the programs of others.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod image;
mod iso;
mod root;
mod support;
