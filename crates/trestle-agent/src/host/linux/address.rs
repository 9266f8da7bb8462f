//! Addresses, by rtnetlink(7).

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol, AddressScope,
    CacheInfo,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use trestle_core::ownership::{self, Owner, PROTOCOL};
use trestle_core::types::LinkName;

use super::link;
use super::netlink::Netlink;
use crate::host::error::{ApplyError, NetlinkError};

/// An address of more than its own link, as the kernel tells of it.
#[derive(Clone, Debug)]
pub(super) struct Held {
    /// The number of the device it is on.
    pub(super) index: u32,
    /// The address and its prefix.
    pub(super) address: IpNet,
    /// Whose it is.
    pub(super) owner: Owner,
    message: AddressMessage,
}

impl Held {
    /// Addresses of link or host scope are the kernel's own business.
    pub(super) fn from_message(message: &AddressMessage) -> Option<Self> {
        let (mut local, mut given, mut protocol) = (None, None, None);
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Local(address) => local = Some(*address),
                AddressAttribute::Address(address) => given = Some(*address),
                AddressAttribute::Protocol(number) => protocol = Some(u8::from(*number)),
                _ => {}
            }
        }
        let address = IpNet::new(local.or(given)?, message.header.prefix_len).ok()?;
        let owner = ownership::address_owner(protocol);
        let held = Self { index: message.header.index, address, owner, message: message.clone() };
        (message.header.scope == AddressScope::Universe).then_some(held)
    }
}

/// The addresses of one device, or of all.
pub(super) async fn list(netlink: &Netlink, index: Option<u32>) -> Result<Vec<Held>, NetlinkError> {
    let mut request = AddressMessage::default();
    request.header.index = index.unwrap_or(0);
    let messages = match netlink.dump(RouteNetlinkMessage::GetAddress(request)).await {
        Err(error) if error.errno() == Some(Errno::ENODEV) => Vec::new(),
        other => other?,
    };
    let held = messages.iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewAddress(message) => Held::from_message(message),
        _ => None,
    });
    Ok(held.collect())
}

/// Adds an address of ours, with our mark. On a device that others make it is a guest's, and what the
/// host itself sends does not leave under it: of IPv6 it is deprecated (RFC 6724 §5, rule 3).
pub(super) async fn add(netlink: &Netlink, name: &LinkName, address: IpNet) -> Result<(), ApplyError> {
    let mut message = plain(address);
    let device = link::existing(netlink, name).await?;
    message.header.index = device.index;
    if address.addr().is_ipv6() && device.owner() == Owner::Foreign {
        message.attributes.push(AddressAttribute::CacheInfo(deprecated()));
    }
    message.attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL)));
    send(netlink, message, format!("add {address} to {name}")).await
}

/// Lifetimes of an address that is valid for ever and never preferred as a source (RFC 4862, 5.5.4).
fn deprecated() -> CacheInfo {
    let mut lifetimes = CacheInfo::default();
    lifetimes.ifa_preferred = 0;
    lifetimes.ifa_valid = u32::MAX;
    lifetimes
}

/// Adds a foreign address of `from` to `to` with all that belongs to it: broadcast, lifetimes,
/// flags, mark.
pub(super) async fn copy(
    netlink: &Netlink,
    address: IpNet,
    from: &LinkName,
    to: &LinkName,
) -> Result<(), ApplyError> {
    let target = link::existing(netlink, to).await?.index;
    let held = match link::if_exists(netlink, from).await? {
        Some(source) => find(netlink, source.index, address).await?,
        None => None,
    };
    let mut message = held.map_or_else(|| plain(address), |held| held.message);
    let kept_flags = kept_flags(&message);
    message.header.index = target;
    message.header.flags = AddressHeaderFlags::empty();
    // A label names the old device.
    message.attributes.retain(|a| !matches!(a, AddressAttribute::Label(_) | AddressAttribute::Flags(_)));
    message.attributes.push(AddressAttribute::Flags(kept_flags));
    send(netlink, message, format!("copy {address} from {from} to {to}")).await
}

/// What was asked for when the address was set; the other flags are the kernel's own. Nobody else
/// can have an address that this host holds already, so looking for duplicates would only delay it.
fn kept_flags(message: &AddressMessage) -> AddressFlags {
    let given = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Flags(flags) => Some(*flags),
        _ => None,
    });
    let asked = AddressFlags::Noprefixroute
        | AddressFlags::Managetempaddr
        | AddressFlags::Homeaddress
        | AddressFlags::Mcautojoin;
    given.unwrap_or(AddressFlags::empty()) & asked | AddressFlags::Nodad
}

/// Deletes an address if it is there and this one's.
pub(super) async fn delete(
    netlink: &Netlink,
    name: &LinkName,
    address: IpNet,
    owner: Owner,
) -> Result<(), ApplyError> {
    let operation = || format!("delete {address} from {name}");
    let Some(device) = link::if_exists(netlink, name).await? else { return Ok(()) };
    let held = find(netlink, device.index, address).await?;
    let Some(held) = held.filter(|held| held.owner == owner) else { return Ok(()) };
    match netlink.request(RouteNetlinkMessage::DelAddress(held.message), 0).await {
        Err(error) if !matches!(error.errno(), Some(Errno::EADDRNOTAVAIL | Errno::ENODEV)) => {
            Err(ApplyError::Kernel { operation: operation(), source: error })
        }
        _ => Ok(()),
    }
}

async fn find(netlink: &Netlink, index: u32, address: IpNet) -> Result<Option<Held>, ApplyError> {
    let held = list(netlink, Some(index)).await;
    let held =
        held.map_err(|source| ApplyError::Kernel { operation: format!("look up {address}"), source })?;
    Ok(held.into_iter().find(|held| held.address == address))
}

fn plain(address: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.prefix_len = address.prefix_len();
    message.header.family = match address {
        IpNet::V4(_) => AddressFamily::Inet,
        IpNet::V6(_) => AddressFamily::Inet6,
    };
    message.attributes =
        vec![AddressAttribute::Local(address.addr()), AddressAttribute::Address(address.addr())];
    if address.addr().is_ipv6() {
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    message
}

async fn send(netlink: &Netlink, message: AddressMessage, operation: String) -> Result<(), ApplyError> {
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    match netlink.request(RouteNetlinkMessage::NewAddress(message), flags).await {
        Err(error) if error.errno() != Some(Errno::EEXIST) => {
            Err(ApplyError::Kernel { operation, source: error })
        }
        _ => Ok(()),
    }
}
