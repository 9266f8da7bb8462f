//! What the kernel lacks that some networks need. Found out by trying, in a network namespace that
//! goes when that is done: a module that is not loaded yet is loaded by it.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use trestle_api::agent::Feature;
use trestle_core::types::{Mac, VlanId};

use super::link;
use super::netlink::Netlink;
use super::vlan::{self, Vlan};
use crate::host::error::{ApplyError, OpenError};

/// The settings of IPv6, without which there is none.
const IPV6: &str = "/proc/sys/net/ipv6";

/// What is missing.
pub(super) fn missing() -> Result<BTreeSet<Feature>, OpenError> {
    let mut missing = BTreeSet::new();
    if !has_8021q()? {
        missing.insert(Feature::Vlan);
    }
    if !Path::new(IPV6).exists() {
        missing.insert(Feature::Ipv6);
    }
    Ok(missing)
}

fn has_8021q() -> Result<bool, OpenError> {
    let in_a_namespace = || {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| OpenError::Namespace(errno.into()))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(OpenError::Namespace)?.block_on(try_8021q())
    };
    let thread = std::thread::Builder::new().name("trestle-try".to_owned());
    let running = thread.spawn(in_a_namespace).map_err(OpenError::Namespace)?;
    running.join().unwrap_or_else(|_| Err(OpenError::Namespace(io::Error::other("the thread panicked"))))
}

async fn try_8021q() -> Result<bool, OpenError> {
    let netlink = Netlink::open().map_err(OpenError::Namespace)?;
    match make_vlan(&netlink).await {
        Ok(()) => Ok(true),
        Err(ApplyError::No8021q { .. }) => Ok(false),
        Err(error) => Err(OpenError::Try(Box::new(error))),
    }
}

/// On a bridge, because a host that cannot make one is of no use, and the loopback carries none.
async fn make_vlan(netlink: &Netlink) -> Result<(), ApplyError> {
    let (id, bridge) = (VlanId::MIN, VlanId::MIN.bridge());
    link::create_bridge(netlink, &bridge, Mac::generated([0; 3]), 1500).await?;
    let parent = link::existing(netlink, &bridge).await?.index;
    vlan::add(netlink, &id.device(), Vlan { id, parent }, 1500).await
}
