//! Asking who on a wire answers for an address, without a word of one's own: an ARP probe (RFC 5227
//! §2.1.1), or the solicitation by which a duplicate is looked for (RFC 4862 §5.4.2).

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use etherparse::{
    ArpHardwareId, ArpOperation, ArpPacket, EtherType, Icmpv6Type, NetSlice, PacketBuilder, SlicedPacket,
    TransportSlice,
};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, bind, recv, sendto, socket};
use trestle_core::types::Mac;

use super::announce::{BROADCAST, ON_LINK, link_address};

/// How long an answer is awaited. On a wire it takes less than a millisecond.
const PATIENCE: Duration = Duration::from_millis(300);
/// When the question is asked once more, because a frame may be lost.
const AGAIN: Duration = Duration::from_millis(100);

/// The device that asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker {
    /// Its number.
    pub(super) index: u32,
    /// Its MAC.
    pub(super) mac: Mac,
}

/// Who answers for these addresses, of those that somebody answers for.
pub(super) fn who_has(asker: Asker, addresses: &[IpAddr]) -> io::Result<BTreeMap<IpAddr, Mac>> {
    let mut found = BTreeMap::new();
    for (protocol, is_family) in
        [(EtherType::ARP, IpAddr::is_ipv4 as fn(&IpAddr) -> bool), (EtherType::IPV6, IpAddr::is_ipv6)]
    {
        let asked: Vec<IpAddr> = addresses.iter().copied().filter(is_family).collect();
        if !asked.is_empty() {
            ask(asker, protocol, &asked, &mut found)?;
        }
    }
    Ok(found)
}

fn ask(
    asker: Asker,
    protocol: EtherType,
    addresses: &[IpAddr],
    found: &mut BTreeMap<IpAddr, Mac>,
) -> io::Result<()> {
    let socket = listen(asker.index, protocol)?;
    let begun = Instant::now();
    for until in [AGAIN, PATIENCE] {
        for address in addresses.iter().filter(|address| !found.contains_key(address)) {
            let frame = question(asker.mac, *address)?;
            let to = link_address(asker.index, protocol)?;
            match sendto(socket.as_raw_fd(), &frame, &to, MsgFlags::empty()) {
                // A wire that is down has nobody on it.
                Ok(_) | Err(Errno::ENETDOWN) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        gather(&socket, asker, addresses, begun + until, found)?;
    }
    Ok(())
}

/// Hears frames of this protocol on the device.
fn listen(index: u32, protocol: EtherType) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    // Without a protocol the socket hears nothing until it is bound to the one device.
    let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
    bind(socket.as_raw_fd(), &link_address(index, protocol)?)?;
    Ok(socket)
}

fn gather(
    socket: &OwnedFd,
    asker: Asker,
    asked: &[IpAddr],
    until: Instant,
    found: &mut BTreeMap<IpAddr, Mac>,
) -> io::Result<()> {
    let mut frame = [0; 2048];
    while asked.iter().any(|address| !found.contains_key(address)) {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        if timeout == PollTimeout::ZERO
            || poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], timeout)? == 0
        {
            return Ok(());
        }
        let length = match recv(socket.as_raw_fd(), &mut frame, MsgFlags::empty()) {
            Ok(length) => length,
            Err(Errno::EAGAIN | Errno::ENETDOWN) => continue,
            Err(errno) => return Err(errno.into()),
        };
        let answer = answer(&frame[..length]).filter(|(address, _)| asked.contains(address));
        // What this device says itself is heard here, too.
        found.extend(answer.filter(|(_, mac)| *mac != asker.mac));
    }
    Ok(())
}

fn question(mac: Mac, address: IpAddr) -> io::Result<Vec<u8>> {
    let (mac, mut frame) = (mac.bytes(), Vec::new());
    match address {
        IpAddr::V4(address) => {
            let (hardware, protocol) = (ArpHardwareId::ETHERNET, EtherType::IPV4);
            let nobody = Ipv4Addr::UNSPECIFIED.octets();
            let request = ArpOperation::REQUEST;
            let packet =
                ArpPacket::new(hardware, protocol, request, &mac, &nobody, &[0; 6], &address.octets())
                    .map_err(io::Error::other)?;
            PacketBuilder::ethernet2(mac, BROADCAST)
                .arp(packet)
                .write(&mut frame)
                .map_err(io::Error::other)?;
        }
        IpAddr::V6(address) => {
            let [.., a, b, c] = address.octets();
            // The solicited-node group (RFC 4291 §2.7.1), and its MAC (RFC 2464 §7).
            let group =
                Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
            let group_mac = [0x33, 0x33, 0xff, a, b, c];
            PacketBuilder::ethernet2(mac, group_mac)
                .ipv6(Ipv6Addr::UNSPECIFIED.octets(), group.octets(), ON_LINK)
                .icmpv6(Icmpv6Type::NeighborSolicitation)
                .write(&mut frame, &address.octets())
                .map_err(io::Error::other)?;
        }
    }
    Ok(frame)
}

/// The address that a frame says its sender has, and the sender's MAC.
fn answer(frame: &[u8]) -> Option<(IpAddr, Mac)> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let sender = |bytes: &[u8]| Mac::new(bytes.try_into().ok()?).ok();
    if let Some(NetSlice::Arp(arp)) = &packet.net {
        let arp = arp.to_packet();
        let address: [u8; 4] = arp.sender_protocol_addr().try_into().ok()?;
        return Some((Ipv4Addr::from(address).into(), sender(arp.sender_hw_addr())?));
    }
    let Some(TransportSlice::Icmpv6(message)) = &packet.transport else { return None };
    let Icmpv6Type::NeighborAdvertisement(_) = message.icmp_type() else { return None };
    let target: [u8; 16] = message.payload().get(..16)?.try_into().ok()?;
    Some((Ipv6Addr::from(target).into(), sender(frame.get(6..12)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::linux::announce::{Role, announcement};

    #[test]
    fn a_question_says_nothing_and_an_answer_is_understood() {
        let mac: Mac = "fa:16:3e:00:00:01".parse().unwrap();
        for address in ["203.0.113.20", "2001:db8::20"] {
            let address: IpAddr = address.parse().unwrap();
            let said = answer(&question(mac, address).unwrap());
            assert_ne!(said.map(|(said, _)| said), Some(address), "who asks claims nothing");
            let told = announcement(mac, address, Role::Router).unwrap();
            assert_eq!(answer(&told), Some((address, mac)));
        }
    }
}
