//! What is sent and heard on a device, frame by frame, past everything that the kernel makes of it.

use std::net::UdpSocket;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike, bind, recvfrom, send, socket,
};

use crate::bench::{Namespace, wait_until};

/// Every protocol, before a bridge has the frame.
const ALL: u16 = 0x0003;
/// What a host's own programs listen to on every device: they hear what is left when a bridge has seen it.
const OF_PROGRAMS: [u16; 4] = [LLC, 0x88cc, 0x8809, 0x888e];
/// Frames whose type is their length.
const LLC: u16 = 0x0004;

/// The wire that a device of some namespace is on.
pub struct Wire(Vec<OwnedFd>);

impl Wire {
    /// The wire of a device where this thread is.
    pub fn new(device: &str) -> Self {
        let index = nix::net::if_::if_nametoindex(device).unwrap();
        Self(vec![listen(index, ALL)])
    }

    /// The same, of another namespace.
    pub fn within(namespace: &Namespace, device: &str) -> Self {
        std::thread::scope(|scope| {
            let enter = || {
                setns(std::fs::File::open(namespace.path()).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
                Self::new(device)
            };
            scope.spawn(enter).join().unwrap()
        })
    }

    /// What reaches a host by its bridge, and past it.
    pub fn of_host(bridge: &str) -> Self {
        let mut wire = Self::new(bridge);
        wire.0.extend(OF_PROGRAMS.map(|protocol| listen(0, protocol)));
        wire
    }

    /// What a program hears that is bound to a port. It is no wire, but it is heard the same way.
    pub fn of_service(port: u16) -> Self {
        let service = UdpSocket::bind(("::", port)).unwrap();
        service.set_nonblocking(true).unwrap();
        Self(vec![service.into()])
    }

    pub fn send(&self, frame: &[u8]) {
        assert_eq!(send(self.0[0].as_raw_fd(), frame, MsgFlags::empty()), Ok(frame.len()));
    }

    /// What nobody asks for any more; there is not room for everything.
    pub fn forget(&self) {
        self.0.iter().for_each(|socket| drain(socket, &mut Vec::new()));
    }

    /// Everything that came in since then, once the marker is there: what was sent before the
    /// marker and is not there then does not come any more.
    pub fn heard_until(&self, marker: [u8; 4], after: &str) -> Vec<Vec<u8>> {
        let mut heard = Vec::new();
        wait_until(&format!("the marker comes after {after}"), || {
            self.0.iter().for_each(|socket| drain(socket, &mut heard));
            heard.iter().any(|frame| contains(frame, marker))
        });
        self.0.iter().for_each(|socket| drain(socket, &mut heard));
        heard
    }
}

pub fn contains(frame: &[u8], token: [u8; 4]) -> bool {
    frame.windows(token.len()).any(|window| window == token)
}

fn listen(index: u32, protocol: u16) -> OwnedFd {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    // Without a protocol it hears nothing until it is bound.
    let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None).unwrap();
    bind(socket.as_raw_fd(), &link_address(index, protocol)).unwrap();
    socket
}

fn link_address(index: u32, protocol: u16) -> LinkAddr {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol.to_be(),
        sll_ifindex: index.try_into().unwrap(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let (pointer, length) = (std::ptr::from_ref(&address).cast(), size_of_val(&address) as u32);
    // SAFETY: the pointer is to a whole `sockaddr_ll` that lives until the call is done.
    unsafe { LinkAddr::from_raw(pointer, Some(length)) }.unwrap()
}

fn drain(socket: &OwnedFd, heard: &mut Vec<Vec<u8>>) {
    let mut frame = [0; 4096];
    while let Ok((length, from)) = recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut frame) {
        // Its own frames are seen by a wire, too.
        if from.is_none_or(|from| from.pkttype() != libc::PACKET_OUTGOING) {
            heard.push(frame[..length].to_vec());
        }
    }
}
