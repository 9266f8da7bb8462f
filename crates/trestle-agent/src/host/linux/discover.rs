//! Asking on a wire who gives out addresses by DHCP, as a client that takes none: a DHCPDISCOVER
//! (RFC 2131 §4.4.1) from a MAC of its own, and the offers that come back.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use etherparse::{EtherType, NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, bind, recv, sendto, socket};
use trestle_core::types::Mac;

use super::announce::{BROADCAST, link_address};

/// How long offers are awaited; a server may look first whether the address is in use (RFC 2131 §2.2).
const PATIENCE: Duration = Duration::from_secs(3);
/// When it is asked once more, because a frame may be lost.
const AGAIN: Duration = Duration::from_secs(1);

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
/// What the options begin with (RFC 2131 §3), and where.
const MAGIC: [u8; 4] = [99, 130, 83, 99];
const OPTIONS: usize = 236;
/// Options of RFC 2132: the kind of message, who sent it, and those that a client wants.
const MESSAGE_TYPE: u8 = 53;
const SERVER_ID: u8 = 54;
const PARAMETERS: u8 = 55;
const PAD: u8 = 0;
const END: u8 = 255;
const DISCOVER: u8 = 1;
const OFFER: u8 = 2;

/// Somebody who offers addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Server {
    /// What it says it is called by (option 54), or the address it wrote from.
    pub(crate) address: Ipv4Addr,
    /// The MAC its offer came from: its own, or that of a relay.
    pub(crate) mac: Mac,
}

/// Who offers an address to this MAC on the device of this number. Blocks for some seconds.
pub(crate) fn servers(index: u32, mac: Mac) -> io::Result<BTreeSet<Server>> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
    let device = link_address(index, EtherType::IPV4)?;
    bind(socket.as_raw_fd(), &device)?;
    let question = discover(mac)?;
    let mut servers = BTreeSet::new();
    let begun = Instant::now();
    for until in [AGAIN, PATIENCE] {
        sendto(socket.as_raw_fd(), &question, &device, MsgFlags::empty())?;
        gather(&socket, mac, begun + until, &mut servers)?;
    }
    Ok(servers)
}

fn gather(socket: &OwnedFd, mac: Mac, until: Instant, servers: &mut BTreeSet<Server>) -> io::Result<()> {
    let mut frame = [0; 2048];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        if timeout == PollTimeout::ZERO
            || poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], timeout)? == 0
        {
            return Ok(());
        }
        match recv(socket.as_raw_fd(), &mut frame, MsgFlags::empty()) {
            Ok(length) => servers.extend(offer(&frame[..length], mac)),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// The number that an answer repeats: the end of a MAC that nobody else has.
fn transaction(mac: Mac) -> [u8; 4] {
    let [.., a, b, c, d] = mac.bytes();
    [a, b, c, d]
}

fn discover(mac: Mac) -> io::Result<Vec<u8>> {
    // op: a request; Ethernet with six bytes of address; no hops.
    let mut message = vec![1, 1, 6, 0];
    message.extend(transaction(mac));
    // No time has passed; answers are to be broadcast, since the MAC has no address yet.
    message.extend([0, 0, 0x80, 0]);
    // No addresses known: of the client, offered, of the server, of a relay.
    message.extend([0; 16]);
    message.extend(mac.bytes());
    message.resize(OPTIONS, 0);
    message.extend(MAGIC);
    // Mask, router and DNS are asked for, as every client does.
    message.extend([MESSAGE_TYPE, 1, DISCOVER, PARAMETERS, 3, 1, 3, 6, END]);
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(mac.bytes(), BROADCAST)
        .ipv4(Ipv4Addr::UNSPECIFIED.octets(), Ipv4Addr::BROADCAST.octets(), 64)
        .udp(CLIENT_PORT, SERVER_PORT)
        .write(&mut frame, &message)
        .map_err(io::Error::other)?;
    Ok(frame)
}

/// Who offers this MAC an address by this frame.
fn offer(frame: &[u8], to: Mac) -> Option<Server> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let Some(NetSlice::Ipv4(ip)) = &packet.net else { return None };
    let Some(TransportSlice::Udp(udp)) = &packet.transport else { return None };
    let message = udp.payload();
    let is_answer = udp.source_port() == SERVER_PORT && message.get(4..8)? == transaction(to);
    if !is_answer || message.get(28..34)? != to.bytes() || message.get(OPTIONS..OPTIONS + 4)? != MAGIC {
        return None;
    }
    let options = message.get(OPTIONS + 4..)?;
    if option(options, MESSAGE_TYPE)? != [OFFER] {
        return None;
    }
    let named = option(options, SERVER_ID).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
    let address = named.map_or_else(|| ip.header().source_addr(), Ipv4Addr::from);
    let mac = Mac::new(frame.get(6..12)?.try_into().ok()?).ok()?;
    Some(Server { address, mac })
}

/// The value of an option (RFC 2132 §2).
fn option(mut options: &[u8], wanted: u8) -> Option<&[u8]> {
    loop {
        match options {
            [PAD, rest @ ..] => options = rest,
            [END, ..] | [] | [_] => return None,
            [code, length, rest @ ..] => {
                let value = rest.get(..usize::from(*length))?;
                if *code == wanted {
                    return Some(value);
                }
                options = &rest[value.len()..];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_to_us_names_its_server_and_nothing_else_is_one() {
        let (ours, server): (Mac, Mac) =
            ("fa:16:3e:01:02:03".parse().unwrap(), "52:54:00:00:00:01".parse().unwrap());
        let question = discover(ours).unwrap();
        assert_eq!(offer(&question, ours), None, "a question is no offer");
        let mut message = question[42..].to_vec();
        message.truncate(OPTIONS + 4);
        message.extend([PAD, MESSAGE_TYPE, 1, OFFER, SERVER_ID, 4, 10, 0, 0, 66, END]);
        let mut frame = Vec::new();
        let answer = PacketBuilder::ethernet2(server.bytes(), BROADCAST);
        let answer = answer.ipv4([10, 0, 0, 67], [255; 4], 64).udp(SERVER_PORT, CLIENT_PORT);
        answer.write(&mut frame, &message).unwrap();
        let expected = Server { address: Ipv4Addr::new(10, 0, 0, 66), mac: server };
        assert_eq!(offer(&frame, ours), Some(expected));
        assert_eq!(offer(&frame, server), None, "it is for somebody else");
        for length in 0..frame.len() {
            assert_eq!(offer(&frame[..length], ours), None, "a frame that was cut off is nothing");
        }
    }
}
