//! Telling the neighbours on a link where an address is, in the name of a guest or a gateway.
//!
//! The kernel does so for addresses of its own only, and not when one is added. The frames leave by
//! the bridge, so they pass the guard's output hook as all of the host's own frames do: what is not
//! to be heard on other hosts is not.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use etherparse::icmpv6::NeighborAdvertisementHeader;
use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, EtherType, Icmpv6Type, PacketBuilder};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike, sendto, socket};
use trestle_core::types::Mac;

pub(super) const BROADCAST: [u8; 6] = [0xff; 6];
/// All nodes of the link (RFC 4291 §2.7.1), and the group MAC they hear it by (RFC 2464 §7).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
/// Neighbour discovery is heard only with the greatest hop limit there is (RFC 4861 §7.1.2).
pub(super) const ON_LINK: u8 = 255;
/// The option of a target's link-layer address (RFC 4861 §4.6.1), and its length of eight bytes.
const TARGET_MAC: [u8; 2] = [2, 1];

/// Whose an address is. Neighbours forget a router that says it is none (RFC 4861 §7.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Guest,
    Router,
}

/// What announcements are sent by. It is kept: the kernel takes a grace period to close such a socket,
/// more than ten milliseconds, and a host with many guests announces each.
#[derive(Debug)]
pub(super) struct Announcer(OwnedFd);

impl Announcer {
    /// Opens it in the network namespace of the calling thread. Without a protocol it hears nothing.
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self(socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?))
    }

    /// Says once on a device that these addresses are at this MAC. One that is down has no neighbours.
    pub(super) fn announce(
        &self,
        index: u32,
        mac: Mac,
        role: Role,
        addresses: &BTreeSet<IpAddr>,
    ) -> io::Result<()> {
        for address in addresses {
            let protocol = if address.is_ipv4() { EtherType::ARP } else { EtherType::IPV6 };
            let frame = announcement(mac, *address, role)?;
            match sendto(self.0.as_raw_fd(), &frame, &link_address(index, protocol)?, MsgFlags::empty()) {
                Ok(_) | Err(Errno::ENETDOWN) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

pub(super) fn announcement(mac: Mac, address: IpAddr, role: Role) -> io::Result<Vec<u8>> {
    match address {
        IpAddr::V4(address) => gratuitous_arp(mac, address),
        IpAddr::V6(address) => neighbour_advertisement(mac, address, role),
    }
}

/// By packet(7).
pub(super) fn link_address(index: u32, protocol: EtherType) -> io::Result<LinkAddr> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol.0.to_be(),
        sll_ifindex: index.try_into().map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let (pointer, length) = (std::ptr::from_ref(&address).cast(), size_of_val(&address) as u32);
    // SAFETY: the pointer is to a whole `sockaddr_ll` that lives until the call is done.
    let address = unsafe { LinkAddr::from_raw(pointer, Some(length)) };
    address.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
}

/// An announcement is a request for an address by who has it (RFC 5227 §3).
fn gratuitous_arp(mac: Mac, address: Ipv4Addr) -> io::Result<Vec<u8>> {
    let (mac, address) = (mac.bytes(), address.octets());
    let (hardware, protocol) = (ArpHardwareId::ETHERNET, EtherType::IPV4);
    let packet = ArpPacket::new(hardware, protocol, ArpOperation::REQUEST, &mac, &address, &[0; 6], &address)
        .map_err(io::Error::other)?;
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(mac, BROADCAST).arp(packet).write(&mut frame).map_err(io::Error::other)?;
    Ok(frame)
}

/// An unsolicited advertisement that overrides what neighbours know (RFC 4861 §7.2.6).
fn neighbour_advertisement(mac: Mac, address: Ipv6Addr, role: Role) -> io::Result<Vec<u8>> {
    let mac = mac.bytes();
    let header =
        NeighborAdvertisementHeader { router: role == Role::Router, solicited: false, r#override: true };
    let payload = [&address.octets()[..], &TARGET_MAC, &mac].concat();
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(mac, ALL_NODES_MAC)
        .ipv6(address.octets(), ALL_NODES.octets(), ON_LINK)
        .icmpv6(Icmpv6Type::NeighborAdvertisement(header))
        .write(&mut frame, &payload)
        .map_err(io::Error::other)?;
    Ok(frame)
}
