//! The controller: keeps what should be in SQL, compiles it for each host and answers the API.
//!
//! Inside it the direction is `http → app → store`, never back. [`app`] decides who may do what
//! and what is wrong with a request, `store` alone knows SQL, `feed` follows the change log and
//! tells each host what changed for it. The controller never dials a host.

pub mod app;
pub mod config;
pub mod error;
mod feed;
pub mod http;
pub mod metrics;
pub mod server;
mod store;
