//! Routes of the main table, by rtnetlink(7).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
    RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use trestle_core::spec::Route;
use trestle_core::types::LinkName;

use super::link;
use super::netlink::Netlink;
use crate::host::error::{ApplyError, NetlinkError};

/// A route through one device that somebody set, as the kernel tells of it.
#[derive(Clone, Debug)]
pub(super) struct Led {
    /// The number of the device.
    pub(super) index: u32,
    /// Where it leads.
    pub(super) route: Route,
    /// `RTA_PREFSRC`.
    pub(super) source: Option<IpAddr>,
    /// `rtm_protocol`.
    pub(super) protocol: u8,
    message: RouteMessage,
}

impl Led {
    /// `None` for what the kernel makes of addresses by itself, for other tables, and for routes
    /// over several devices, which do not move with one.
    pub(super) fn from_message(message: &RouteMessage) -> Option<Self> {
        let header = &message.header;
        let (mut destination, mut via, mut source) = (None, None, None);
        let (mut metric, mut index, mut table) = (0, None, u32::from(header.table));
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(address) => destination = ip(address),
                RouteAttribute::Gateway(address) => via = ip(address),
                RouteAttribute::Via(RouteVia::Inet(address)) => via = Some(IpAddr::V4(*address)),
                RouteAttribute::Via(RouteVia::Inet6(address)) => via = Some(IpAddr::V6(*address)),
                RouteAttribute::PrefSource(address) => source = ip(address),
                RouteAttribute::Priority(number) => metric = *number,
                RouteAttribute::Oif(number) => index = Some(*number),
                RouteAttribute::Table(number) => table = *number,
                _ => {}
            }
        }
        let anywhere = match header.address_family {
            AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            _ => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let destination =
            IpNet::new(destination.unwrap_or(anywhere), header.destination_prefix_length).ok()?;
        let route = Route { destination, via, metric };
        let protocol = u8::from(header.protocol);
        let set_by_somebody = header.kind == RouteType::Unicast
            && header.protocol != RouteProtocol::Kernel
            && table == u32::from(RouteHeader::RT_TABLE_MAIN);
        let led = Self { index: index?, route, source, protocol, message: message.clone() };
        set_by_somebody.then_some(led)
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

/// The routes through one device, or through all.
pub(super) async fn list(netlink: &Netlink, index: Option<u32>) -> Result<Vec<Led>, NetlinkError> {
    let mut led = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut request = RouteMessage::default();
        request.header.address_family = family;
        request.header.table = RouteHeader::RT_TABLE_MAIN;
        request.attributes.extend(index.map(RouteAttribute::Oif));
        let messages = match netlink.dump(RouteNetlinkMessage::GetRoute(request)).await {
            // The table is made with its first route.
            Err(error)
                if matches!(
                    error.errno(),
                    Some(Errno::ENOENT | Errno::ENODEV | Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP)
                ) =>
            {
                Vec::new()
            }
            other => other?,
        };
        led.extend(messages.iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewRoute(message) => Led::from_message(message),
            _ => None,
        }));
    }
    Ok(led)
}

/// `RTPROT_RA` (`linux/rtnetlink.h`): a router advertised it.
const ADVERTISED: u8 = 9;

/// A route, and where it goes from and to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Move<'a> {
    pub(super) route: &'a Route,
    pub(super) source: Option<IpAddr>,
    pub(super) protocol: u8,
    pub(super) from: &'a LinkName,
    pub(super) to: &'a LinkName,
}

/// Adds a foreign route of `from` to `to` with all that belongs to it, then deletes it from `from`.
pub(super) async fn shift(netlink: &Netlink, step: Move<'_>) -> Result<(), ApplyError> {
    let failed = |operation: &str, source| {
        let operation =
            format!("{operation} the route {} from {} to {}", step.route.destination, step.from, step.to);
        ApplyError::Kernel { operation, source }
    };
    let to = link::existing(netlink, step.to).await?.index;
    let find = async |index| {
        let led = list(netlink, Some(index)).await.map_err(|source| failed("look up", source))?;
        Ok::<_, ApplyError>(led.into_iter().find(|led| led.route == *step.route))
    };
    let old = match link::if_exists(netlink, step.from).await? {
        Some(from) => find(from.index).await?,
        None => None,
    };
    if find(to).await?.is_none() {
        let mut message = old.as_ref().map_or_else(|| plain(step), |old| old.message.clone());
        // The other flags are what the kernel found out, and it refuses to be told them.
        message.header.flags &= RouteFlags::Onlink;
        message
            .attributes
            .retain(|attribute| !matches!(attribute, RouteAttribute::Oif(_) | RouteAttribute::CacheInfo(_)));
        message.attributes.push(RouteAttribute::Oif(to));
        // Only appended may it stand beside the one it replaces.
        let added =
            netlink.request(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_APPEND).await;
        match added {
            // It leads over an address that is the bridge's own now: the network's gateway was on
            // another host, which advertised it, and has come here.
            Err(error) if error.errno() == Some(Errno::EINVAL) && step.protocol == ADVERTISED => {}
            added => drop(added.map_err(|source| failed("move", source))?),
        }
    }
    let Some(old) = old else { return Ok(()) };
    match netlink.request(RouteNetlinkMessage::DelRoute(old.message), 0).await {
        Err(error) if error.errno() != Some(Errno::ESRCH) => Err(failed("move", error)),
        _ => Ok(()),
    }
}

/// The route from what the step says of it, for when its old device has lost it.
fn plain(step: Move<'_>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = match step.route.destination {
        IpNet::V4(_) => AddressFamily::Inet,
        IpNet::V6(_) => AddressFamily::Inet6,
    };
    message.header.destination_prefix_length = step.route.destination.prefix_len();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::from(step.protocol);
    message.header.kind = RouteType::Unicast;
    message.header.scope = match step.route.via {
        Some(_) => RouteScope::Universe,
        None => RouteScope::Link,
    };
    message.attributes = vec![
        RouteAttribute::Destination(step.route.destination.addr().into()),
        RouteAttribute::Priority(step.route.metric),
    ];
    message.attributes.extend(step.route.via.map(|via| match (via, step.route.destination) {
        (IpAddr::V6(via), IpNet::V4(_)) => RouteAttribute::Via(RouteVia::Inet6(via)),
        (via, _) => RouteAttribute::Gateway(via.into()),
    }));
    message.attributes.extend(step.source.map(|source| RouteAttribute::PrefSource(source.into())));
    message
}
