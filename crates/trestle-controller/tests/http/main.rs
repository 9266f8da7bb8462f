//! The API as its clients see it: a server in process, over real sockets.

// Clippy allows it in test functions only, not in what they share.
#![allow(clippy::unwrap_used)]

mod attaching;
mod bodies;
mod dns;
mod document;
mod events;
mod explain;
mod floating_ips;
mod gateways;
mod harness;
mod history;
mod listening;
mod lists;
mod moving;
mod networks;
mod owners;
mod pools;
mod port_security;
mod quotas;
mod refusals;
mod reports;
mod reserving;
mod security_groups;
mod service;
mod settings;
mod unconfirmed;
mod vpn_keys;
mod vpn_places;
mod vpns;
