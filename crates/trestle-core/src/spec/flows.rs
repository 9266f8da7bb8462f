//! Flows that the kernel goes on translating by what it knew when they began.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Key, Set};
use crate::types::Protocol;

/// A way through the host's address translation, by which flows go on when it is gone: the kernel
/// translates by what it knew when they began.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Flows {
    /// The floating IP.
    pub floating: IpAddr,
    /// The guest's.
    pub fixed: IpAddr,
    /// Only what came to this port and went to that one, of this protocol.
    pub ports: Option<(Protocol, u16, u16)>,
}

impl Flows {
    /// The way that an element of a map is, where one may still be on it afterwards.
    pub fn of(set: Set, element: &str, value: &str) -> Option<Self> {
        match set {
            Set::FloatingTo | Set::FloatingTo6 => {
                Some(Self { floating: element.parse().ok()?, fixed: value.parse().ok()?, ports: None })
            }
            Set::ForwardTo | Set::ForwardTo6 => {
                let mut from = element.split(" . ");
                let (floating, protocol, port) = (from.next()?, from.next()?, from.next()?);
                let (fixed, fixed_port) = value.split_once(" . ")?;
                let ports = (protocol.parse().ok()?, port.parse().ok()?, fixed_port.parse().ok()?);
                Some(Self {
                    floating: floating.parse().ok()?,
                    fixed: fixed.parse().ok()?,
                    ports: Some(ports),
                })
            }
            _ => None,
        }
    }

    /// The element that they go by.
    pub fn key(&self) -> Key {
        let (to, forward) = match self.floating {
            IpAddr::V4(_) => (Set::FloatingTo, Set::ForwardTo),
            IpAddr::V6(_) => (Set::FloatingTo6, Set::ForwardTo6),
        };
        match self.ports {
            None => Key::Element(to, self.floating.to_string()),
            Some((protocol, port, _)) => {
                Key::Element(forward, format!("{} . {protocol} . {port}", self.floating))
            }
        }
    }
}

impl fmt::Display for Flows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ports {
            None => write!(f, "{} and {}", self.floating, self.fixed),
            Some((protocol, port, fixed_port)) => {
                write!(f, "{} {protocol} {port} and {} {fixed_port}", self.floating, self.fixed)
            }
        }
    }
}
