//! Trestle's agent: makes one host match its spec, and says what it saw.

pub mod host;
