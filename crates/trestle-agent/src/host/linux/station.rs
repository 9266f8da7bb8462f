//! Which port of a bridge leads to a MAC, held fast in the bridge's forwarding table by
//! rtnetlink(7): what `bridge fdb replace MAC dev PORT master static sticky` makes.
//!
//! `sticky` matters (Linux 4.20): a static entry alone never ages, but still follows whoever sends
//! under the MAC.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use trestle_core::ownership::Owner;
use trestle_core::types::{LinkName, Mac};

use super::link;
use super::netlink::Netlink;
use crate::host::error::{ApplyError, NetlinkError};

/// A MAC that is held fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// The number of the bridge.
    pub(super) bridge: u32,
    pub(super) mac: Mac,
    /// The number of the port.
    pub(super) port: u32,
}

impl Held {
    /// `None` for what bridges learn by themselves.
    fn from_message(message: &NeighbourMessage) -> Option<Self> {
        let (mut bridge, mut mac) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::Controller(index) => bridge = Some(*index),
                NeighbourAttribute::LinkLayerAddress(bytes) => mac = link::mac(bytes),
                _ => {}
            }
        }
        let header = &message.header;
        let is_fast = header.state == NeighbourState::Noarp && header.flags.contains(NeighbourFlags::Sticky);
        let held = Self { bridge: bridge?, mac: mac?, port: header.ifindex };
        (is_fast && header.family == AddressFamily::Bridge).then_some(held)
    }
}

/// What the bridges of the namespace hold fast. The kernel goes through a table from its beginning
/// for each part of the listing, and what is deleted meanwhile has it pass over something: who
/// misses an entry asks for it with [`find`].
pub(super) async fn list(netlink: &Netlink) -> Result<Vec<Held>, NetlinkError> {
    let messages = netlink.dump(RouteNetlinkMessage::GetNeighbour(message())).await?;
    let held = messages.iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewNeighbour(message) => Held::from_message(message),
        _ => None,
    });
    Ok(held.collect())
}

/// Where this bridge holds the MAC fast, if it does.
pub(super) async fn find(netlink: &Netlink, bridge: u32, mac: Mac) -> Result<Option<Held>, NetlinkError> {
    Ok(look_up(netlink, bridge, mac).await?.as_ref().and_then(Held::from_message))
}

async fn look_up(netlink: &Netlink, bridge: u32, mac: Mac) -> Result<Option<NeighbourMessage>, NetlinkError> {
    let mut request = message();
    request.attributes = vec![
        NeighbourAttribute::LinkLayerAddress(mac.bytes().to_vec()),
        NeighbourAttribute::Controller(bridge),
    ];
    match netlink.request(RouteNetlinkMessage::GetNeighbour(request), 0).await {
        Ok(Some(RouteNetlinkMessage::NewNeighbour(message))) => Ok(Some(message)),
        Ok(_) => Ok(None),
        Err(error) => match error.errno() {
            // The kernel says the second of a bridge that is gone, the third of what is no bridge.
            Some(Errno::ENOENT | Errno::EINVAL | Errno::EOPNOTSUPP) => Ok(None),
            _ => Err(error),
        },
    }
}

/// A MAC, and where it is to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) bridge: &'a LinkName,
    pub(super) mac: Mac,
    pub(super) port: &'a LinkName,
}

/// Holds a MAC fast at a port of ours. Gives the number of the bridge. The MAC of the host's own
/// devices is left to them: without its entry the host would not be reached any more.
pub(super) async fn hold(netlink: &Netlink, place: Place<'_>) -> Result<u32, ApplyError> {
    let bridge = link::existing(netlink, place.bridge).await?.index;
    let port = link::existing_ours(netlink, place.port).await?;
    if port.master != Some(bridge) {
        return Err(ApplyError::NoPort { link: place.port.clone(), bridge: place.bridge.clone() });
    }
    let failed = |source| {
        let operation = format!("hold {} fast at {}", place.mac, place.port);
        ApplyError::Kernel { operation, source }
    };
    let known = look_up(netlink, bridge, place.mac).await.map_err(failed)?;
    if known.is_some_and(|known| known.header.state == NeighbourState::Permanent) {
        return Err(ApplyError::MacOfHost { mac: place.mac, bridge: place.bridge.clone() });
    }
    let message = of_port(port.index, place.mac);
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    netlink.request(RouteNetlinkMessage::NewNeighbour(message), flags).await.map_err(failed)?;
    Ok(bridge)
}

/// Lets a bridge learn where a MAC is, if it is held fast at a port of ours.
pub(super) async fn let_go(netlink: &Netlink, bridge: &LinkName, mac: Mac) -> Result<(), ApplyError> {
    let failed =
        |source| ApplyError::Kernel { operation: format!("let {bridge} learn where {mac} is"), source };
    let Some(device) = link::if_exists(netlink, bridge).await? else { return Ok(()) };
    let Some(held) = find(netlink, device.index, mac).await.map_err(failed)? else { return Ok(()) };
    let port = link::by_index(netlink, held.port).await.map_err(failed)?;
    if port.is_none_or(|port| port.owner() == Owner::Foreign) {
        return Ok(());
    }
    let message = of_port(held.port, mac);
    match netlink.request(RouteNetlinkMessage::DelNeighbour(message), 0).await {
        Err(error) if !matches!(error.errno(), Some(Errno::ENOENT | Errno::ENODEV)) => Err(failed(error)),
        _ => Ok(()),
    }
}

fn message() -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message
}

fn of_port(port: u32, mac: Mac) -> NeighbourMessage {
    let mut message = message();
    message.header.ifindex = port;
    message.header.state = NeighbourState::Noarp;
    message.header.flags = NeighbourFlags::Controller | NeighbourFlags::Sticky;
    message.attributes = vec![NeighbourAttribute::LinkLayerAddress(mac.bytes().to_vec())];
    message
}
