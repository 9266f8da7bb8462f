//! The rtnetlink socket: requests that are answered, and dumps that are whole.
//!
//! The crate's own `get().execute()` hides `NLM_F_DUMP_INTR`: with links coming and going, about
//! half of all dumps carry it and every one of them is handed on as if it were whole. So
//! messages are sent through [`rtnetlink::Handle::request`] here and the flag is looked at.

use std::fs::File;
use std::io;

use futures_util::StreamExt;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{AsyncSocket, SocketAddr};
use rtnetlink::Handle;

use crate::host::error::NetlinkError;

/// How often a dump is begun anew before it is given up. Two programs that change links without
/// pause spoil every second dump; this many in a row are something else.
const DUMP_ATTEMPTS: u32 = 50;

/// A socket to the kernel's links, addresses and routes.
#[derive(Clone, Debug)]
pub(super) struct Netlink {
    handle: Handle,
    port: u32,
}

impl Netlink {
    /// Opens a socket in the network namespace of the calling thread, where it stays.
    pub(super) fn open() -> io::Result<Self> {
        let (mut connection, handle, _) = rtnetlink::new_connection_with_strict_check()?;
        // The end of a dump may be the only message with the flag.
        connection.set_forward_done(true);
        let mut address = SocketAddr::new(0, 0);
        connection.socket_mut().socket_mut().bind_auto()?;
        connection.socket_mut().socket_ref().get_address(&mut address)?;
        tokio::spawn(connection);
        Ok(Self { handle, port: address.port_number() })
    }

    /// Opens a socket in another network namespace. A thread goes there for it and ends; the
    /// socket stays there.
    pub(super) fn open_in(namespace: File) -> io::Result<Self> {
        let runtime = tokio::runtime::Handle::current();
        let open = move || {
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET)?;
            let _entered = runtime.enter();
            Self::open()
        };
        let thread = std::thread::Builder::new().name("trestle-netns".to_owned()).spawn(open)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
    }

    /// The number by which the kernel names this socket in notifications of what it changed.
    pub(super) fn port(&self) -> u32 {
        self.port
    }

    /// Sends one message and waits until the kernel has done it. Gives what it answered, which is
    /// nothing for a change.
    pub(super) async fn request(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Option<RouteNetlinkMessage>, NetlinkError> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let mut answers = self.handle.clone().request(request).map_err(NetlinkError::Socket)?;
        let mut answer = None;
        while let Some(message) = answers.next().await {
            match message.payload {
                NetlinkPayload::InnerMessage(inner) => answer = Some(inner),
                NetlinkPayload::Error(error) if error.code.is_some() => {
                    return Err(NetlinkError::Refused(error.to_io()));
                }
                _ => {}
            }
        }
        Ok(answer)
    }

    /// Everything the message asks for, as it was at one moment.
    pub(super) async fn dump(
        &self,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        for _ in 0..DUMP_ATTEMPTS {
            if let Some(whole) = self.try_dump(message.clone()).await? {
                return Ok(whole);
            }
        }
        Err(NetlinkError::Interrupted(DUMP_ATTEMPTS))
    }

    /// `None` if the kernel's tables changed meanwhile.
    async fn try_dump(
        &self,
        message: RouteNetlinkMessage,
    ) -> Result<Option<Vec<RouteNetlinkMessage>>, NetlinkError> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        let mut answers = self.handle.clone().request(request).map_err(NetlinkError::Socket)?;
        let (mut list, mut whole, mut ended) = (Vec::new(), true, false);
        while let Some(message) = answers.next().await {
            whole &= message.header.flags & NLM_F_DUMP_INTR == 0;
            match message.payload {
                NetlinkPayload::InnerMessage(inner) => list.push(inner),
                NetlinkPayload::Error(error) if error.code.is_some() => {
                    return Err(NetlinkError::Refused(error.to_io()));
                }
                NetlinkPayload::Done(done) if done.code < 0 => {
                    return Err(NetlinkError::Refused(io::Error::from_raw_os_error(-done.code)));
                }
                NetlinkPayload::Done(_) => ended = true,
                NetlinkPayload::Overrun(_) => whole = false,
                _ => {}
            }
        }
        if !ended {
            return Err(NetlinkError::Socket(rtnetlink::Error::RequestFailed));
        }
        Ok(whole.then_some(list))
    }
}
