//! What the kernel lacks that some networks need. Found out by trying, in a network namespace that
//! goes when that is done: a module that is not loaded yet is loaded by it.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use trestle_api::agent::Feature;
use trestle_core::types::{Mac, VlanId};

use super::bridge;
use super::libnftables::{Context, Output};
use super::link;
use super::netlink::Netlink;
use super::vlan::{self, Vlan};
use crate::host::error::{ApplyError, NftError, OpenError};

/// The settings of IPv6, without which there is none.
const IPV6: &str = "/proc/sys/net/ipv6";

/// What every host needs of nftables, each with a transaction that takes it and with what a kernel
/// that has it was built with.
const RULES: [Rules; 4] = [
    Rules {
        what: "nftables at bridges",
        option: "CONFIG_NF_TABLES_BRIDGE",
        transaction: "add table bridge t; add chain bridge t c { type filter hook forward priority 0; }",
    },
    Rules {
        what: "nftables of ARP",
        option: "CONFIG_NF_TABLES_ARP",
        transaction: "add table arp t; add chain arp t c { type filter hook input priority 0; }",
    },
    Rules {
        what: "nftables' NAT",
        option: "CONFIG_NFT_NAT and CONFIG_NFT_MASQ",
        transaction: "add table inet t; add chain inet t c { type nat hook postrouting priority 100; }; \
                      add rule inet t c snat ip to 192.0.2.1; add rule inet t c masquerade",
    },
    Rules {
        what: "connection tracking in nftables",
        option: "CONFIG_NFT_CT",
        transaction: "add table ip t; add chain ip t c { type filter hook forward priority 0; }; \
                      add rule ip t c ct state established accept",
    },
];

/// Something that every host needs of nftables.
#[derive(Debug)]
pub(crate) struct Rules {
    /// What it is, in words.
    pub(crate) what: &'static str,
    /// The kernel's options that bring it.
    pub(crate) option: &'static str,
    transaction: &'static str,
}

/// What every host needs of nftables and this kernel refuses, each with what nft says.
pub(crate) fn missing_rules() -> Result<Vec<(Rules, NftError)>, OpenError> {
    in_a_namespace(|| {
        let mut context = Context::open().map_err(OpenError::Library)?;
        let refused =
            |rules: Rules| context.run(rules.transaction, Output::Chains).err().map(|error| (rules, error));
        Ok(RULES.into_iter().filter_map(refused).collect())
    })
}

/// What is missing that some networks need.
pub(crate) fn missing() -> Result<BTreeSet<Feature>, OpenError> {
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
    in_a_namespace(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(OpenError::Namespace)?.block_on(try_8021q())
    })
}

/// Does something in a network namespace of its own, by a thread that goes with it.
fn in_a_namespace<T: Send + 'static>(
    attempt: impl FnOnce() -> Result<T, OpenError> + Send + 'static,
) -> Result<T, OpenError> {
    let within = || {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| OpenError::Namespace(errno.into()))?;
        attempt()
    };
    let thread = std::thread::Builder::new().name("trestle-try".to_owned());
    let running = thread.spawn(within).map_err(OpenError::Namespace)?;
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
    bridge::create(netlink, &bridge, Mac::generated([0; 3]), 1500).await?;
    let parent = link::existing(netlink, &bridge).await?.index;
    vlan::add(netlink, &id.device(), Vlan { id, parent }, 1500).await
}
