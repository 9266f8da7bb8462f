//! Notifications of how the kernel speaks IP (`linux/netconf.h`), which the crate does not read:
//! whether it forwards is a setting of ours, and `/proc/sys` tells nobody that it was written.

use netlink_packet_core::{NlaBuffer, NlasIterator};

/// `RTNLGRP_IPV4_NETCONF` and `_IPV6_NETCONF` (`linux/rtnetlink.h`).
pub(super) const GROUPS: [u32; 2] = [24, 25];
const RTM_NEWNETCONF: u16 = 80;
const NETCONFA_IFINDEX: u16 = 1;
/// `NETCONFA_IFINDEX_ALL`: not about one device.
const ALL_DEVICES: i32 = -1;
/// Where `struct nlmsghdr` has the kind, and where what comes after it and after `struct
/// netconfmsg` begins.
const KIND: std::ops::Range<usize> = 4..6;
const FAMILY: usize = 16;
const ATTRIBUTES: usize = 20;

/// The protocol, if a message says that a setting of it changed for all devices.
pub(super) fn changed_for_all(message: &[u8]) -> Option<&'static str> {
    /// `AF_INET` and `AF_INET6`.
    const PROTOCOLS: [(u8, &str); 2] = [(2, "IPv4"), (10, "IPv6")];
    let kind = message.get(KIND)?.try_into().ok().map(u16::from_ne_bytes)?;
    let family = message.get(FAMILY)?;
    let (_, protocol) = PROTOCOLS.into_iter().find(|(number, _)| number == family)?;
    let mut attributes = NlasIterator::new(message.get(ATTRIBUTES..)?).flatten();
    let is_device = |attribute: &NlaBuffer<&[u8]>| attribute.kind() == NETCONFA_IFINDEX;
    let device = attributes.find(is_device)?.value().try_into().ok().map(i32::from_ne_bytes);
    (kind == RTM_NEWNETCONF && device == Some(ALL_DEVICES)).then_some(protocol)
}
