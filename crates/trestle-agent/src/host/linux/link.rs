//! Devices, by rtnetlink(7): reading them, and the steps that change them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::RangeInclusive;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use futures_util::TryFutureExt;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, Nla};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkExtentMask,
    LinkFlags, LinkInfo, LinkMessage,
};
use nix::errno::Errno;
use nix::libc;
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};
use trestle_core::ownership::{self, LINK_GROUP, Owner};
use trestle_core::plan::LinkChange;
use trestle_core::spec::{Link, LinkKind, LinkMac};
use trestle_core::types::{LinkName, Mac};

use super::bridge;
use super::netlink::Netlink;
use super::tap;
use super::vlan::{self, Vlan};
use crate::host::error::{ApplyError, NetlinkError};

/// `IFLA_TUN_*` (`linux/if_link.h`), which the crate does not name.
const IFLA_TUN_OWNER: u16 = 1;
const IFLA_TUN_TYPE: u16 = 3;
const IFLA_TUN_PERSIST: u16 = 6;
/// `IFF_TAP` (`linux/if_tun.h`).
const TYPE_TAP: u8 = 2;
/// Groups for devices that are about to be deleted together: one that is empty is taken, because a
/// crash may leave some behind in another.
const LEAVING_GROUPS: RangeInclusive<u32> = 0x7472_0000..=0x7472_ffff;
/// What the alias of a veth of ours begins with.
const ALIAS_PREFIX: &str = "trestle ";
// `NS_GET_NSTYPE` (`linux/nsfs.h`): of which kind a namespace is, as a `CLONE_NEW…`.
nix::ioctl_none!(namespace_kind, 0xb7, 0x3);

/// A device as the kernel tells of it.
#[derive(Clone, Debug)]
pub(super) struct Device {
    pub(super) index: u32,
    /// As it is; may be no [`LinkName`].
    pub(super) name: String,
    pub(super) group: u32,
    /// What it is, by itself: a VLAN takes its parent's name too.
    pub(super) kind: LinkKind,
    pub(super) vlan: Option<Vlan>,
    pub(super) mac: Option<Mac>,
    pub(super) mtu: u32,
    pub(super) master: Option<u32>,
    pub(super) up: bool,
    /// Of a bridge, whether what is bridged there goes through the filter of what is routed.
    pub(super) filtered: bool,
}

impl Device {
    /// Whose it is.
    pub(super) fn owner(&self) -> Owner {
        ownership::link_owner(&self.name, self.group)
    }

    /// Whether it is a bridge of ours.
    pub(super) fn is_our_bridge(&self) -> bool {
        self.kind == LinkKind::Bridge && self.owner() == Owner::Ours
    }

    /// Its name. The kernel allows names that we never write; such a device is foreign and must
    /// still be told apart from none, where it is a master: it goes by its number.
    pub(super) fn link_name(&self) -> LinkName {
        let numbered = || format!("if{}", self.index).parse();
        self.name.parse().or_else(|_| numbered()).unwrap_or_else(|_| unreachable!("digits are plain"))
    }

    /// The device as an object, the names of its master and of what carries it given.
    pub(super) fn link(&self, master: Option<LinkName>, parent: Option<LinkName>) -> Link {
        let kind = match (self.vlan, parent) {
            (Some(Vlan { id, .. }), Some(parent)) => LinkKind::Vlan { id, parent },
            _ => self.kind.clone(),
        };
        Link {
            kind,
            mac: self.mac.map(LinkMac::Fixed),
            mtu: self.mtu,
            master,
            uplink: None,
            up: self.up,
            index: Some(self.index),
        }
    }

    pub(super) fn from_message(message: &LinkMessage) -> Self {
        let mut device = Self {
            index: message.header.index,
            name: String::new(),
            group: 0,
            kind: LinkKind::Other,
            vlan: None,
            mac: None,
            mtu: 0,
            master: None,
            up: message.header.flags.contains(LinkFlags::Up),
            filtered: false,
        };
        let (mut info, mut alias, mut parent, mut is_elsewhere) = (&[][..], None, None, false);
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => device.name.clone_from(name),
                LinkAttribute::Group(group) => device.group = *group,
                LinkAttribute::Address(bytes) => device.mac = mac(bytes),
                LinkAttribute::Mtu(mtu) => device.mtu = *mtu,
                LinkAttribute::Controller(index) if *index != 0 => device.master = Some(*index),
                LinkAttribute::IfAlias(text) => alias = Some(text.as_str()),
                LinkAttribute::Link(index) => parent = Some(*index),
                LinkAttribute::LinkNetNsId(_) => is_elsewhere = true,
                LinkAttribute::LinkInfo(attributes) => info = attributes,
                _ => {}
            }
        }
        device.kind = kind(info, alias, &device);
        device.filtered = bridge::is_filtered(info);
        // In another namespace the number means another device.
        let parent = parent.filter(|_| !is_elsewhere);
        device.vlan = parent.and_then(|parent| Some(Vlan { id: vlan::id(info)?, parent }));
        device
    }
}

pub(super) fn mac(bytes: &[u8]) -> Option<Mac> {
    <[u8; 6]>::try_from(bytes).ok().and_then(|bytes| Mac::new(bytes).ok())
}

fn kind(info: &[LinkInfo], alias: Option<&str>, device: &Device) -> LinkKind {
    let kind = info.iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    });
    match kind {
        Some(InfoKind::Bridge) => LinkKind::Bridge,
        Some(InfoKind::Tun) => tun_kind(info),
        Some(InfoKind::Veth) if device.owner() == Owner::Ours => veth_kind(alias, device),
        _ => LinkKind::Other,
    }
}

/// Only a persistent tap is what we make; a tun, or a tap that ends with its program, is not.
fn tun_kind(info: &[LinkInfo]) -> LinkKind {
    let data = info.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Tun(data)) => Some(data),
        _ => None,
    });
    let value = |number: u16| {
        let attribute = data?.iter().find(|attribute| attribute.kind() == number)?;
        let mut bytes = vec![0; attribute.value_len()];
        attribute.emit_value(&mut bytes);
        Some(bytes)
    };
    let is = |number, byte| value(number).is_some_and(|bytes| bytes == [byte]);
    let owner = value(IFLA_TUN_OWNER).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
    match is(IFLA_TUN_TYPE, TYPE_TAP) && is(IFLA_TUN_PERSIST, 1) {
        true => LinkKind::Tap { owner },
        false => LinkKind::Other,
    }
}

/// A veth that was made half has no alias: it reads as one that leads nowhere, so that it differs
/// from every spec and is made anew.
fn veth_kind(alias: Option<&str>, device: &Device) -> LinkKind {
    alias.and_then(parse_alias).unwrap_or_else(|| LinkKind::Veth {
        netns: String::new(),
        name: device.link_name(),
        mac: device.mac.unwrap_or(Mac::generated([0; 3])),
    })
}

/// The other end's name and MAC, then the namespace, which may have any character in it.
fn alias(netns: &str, name: &LinkName, mac: Mac) -> String {
    format!("{ALIAS_PREFIX}{name} {mac} {netns}")
}

fn parse_alias(text: &str) -> Option<LinkKind> {
    let mut parts = text.strip_prefix(ALIAS_PREFIX)?.splitn(3, ' ');
    let (name, mac) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some(LinkKind::Veth { netns: parts.next()?.to_owned(), name, mac })
}

/// Every device of the namespace, by number.
pub(super) async fn list(netlink: &Netlink) -> Result<BTreeMap<u32, Device>, NetlinkError> {
    let messages = netlink.dump(RouteNetlinkMessage::GetLink(request(vec![without_statistics()]))).await?;
    let devices = messages.iter().filter_map(device).map(|device| (device.index, device));
    Ok(devices.collect())
}

/// The device of this name, if there is one.
pub(super) async fn by_name(netlink: &Netlink, name: &LinkName) -> Result<Option<Device>, NetlinkError> {
    get(netlink, request(vec![if_name(name), without_statistics()])).await
}

/// The device of this number, if there is one.
pub(super) async fn by_index(netlink: &Netlink, index: u32) -> Result<Option<Device>, NetlinkError> {
    let mut message = request(vec![without_statistics()]);
    message.header.index = index;
    get(netlink, message).await
}

async fn get(netlink: &Netlink, message: LinkMessage) -> Result<Option<Device>, NetlinkError> {
    match netlink.request(RouteNetlinkMessage::GetLink(message), 0).await {
        Ok(answer) => Ok(answer.as_ref().and_then(device)),
        Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

fn device(message: &RouteNetlinkMessage) -> Option<Device> {
    match message {
        RouteNetlinkMessage::NewLink(message) => Some(Device::from_message(message)),
        _ => None,
    }
}

pub(super) fn request(attributes: Vec<LinkAttribute>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = attributes;
    message
}

/// Counters are most of a listing and nobody here reads them.
fn without_statistics() -> LinkAttribute {
    LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])
}

pub(super) fn if_name(name: &LinkName) -> LinkAttribute {
    LinkAttribute::IfName(name.to_string())
}

fn up(message: &mut LinkMessage) {
    message.header.flags |= LinkFlags::Up;
    message.header.change_mask |= LinkFlags::Up;
}

pub(super) fn kernel(operation: String) -> impl FnOnce(NetlinkError) -> ApplyError {
    move |source| ApplyError::Kernel { operation, source }
}

/// The device of this name, if there is one, for a step.
pub(super) async fn if_exists(netlink: &Netlink, name: &LinkName) -> Result<Option<Device>, ApplyError> {
    by_name(netlink, name).await.map_err(kernel(format!("look up {name}")))
}

/// The device of this name, or that it is missing.
pub(super) async fn existing(netlink: &Netlink, name: &LinkName) -> Result<Device, ApplyError> {
    let device = if_exists(netlink, name).await?;
    device.ok_or_else(|| ApplyError::LinkMissing { link: name.clone() })
}

/// The device of this name, which has to be ours: between observing and doing, somebody may have
/// put another one in its place.
pub(super) async fn existing_ours(netlink: &Netlink, name: &LinkName) -> Result<Device, ApplyError> {
    let device = existing(netlink, name).await?;
    match device.owner() {
        Owner::Ours => Ok(device),
        Owner::Foreign => Err(ApplyError::LinkDiffers { link: name.clone() }),
    }
}

pub(super) async fn set(
    netlink: &Netlink,
    index: u32,
    attributes: Vec<LinkAttribute>,
    operation: String,
) -> Result<(), ApplyError> {
    let mut message = request(attributes);
    message.header.index = index;
    send_set(netlink, message).map_err(kernel(operation)).await
}

async fn send_set(netlink: &Netlink, message: LinkMessage) -> Result<(), NetlinkError> {
    netlink.request(RouteNetlinkMessage::SetLink(message), 0).await.map(drop)
}

/// Puts a device into a bridge and sets it up, in this order (Linux 5.10 on does both in one
/// request this way round): up outside its bridge it would be a way into the host.
pub(super) async fn set_master_up(
    netlink: &Netlink,
    index: u32,
    name: &LinkName,
    bridge: &LinkName,
) -> Result<(), ApplyError> {
    let mut message = master(netlink, index, bridge).await?;
    up(&mut message);
    send_set(netlink, message).await.map_err(no_port(name, bridge))
}

/// The same of a guest's device, which is the port that it should be before it is up.
async fn set_guest_master_up(
    netlink: &Netlink,
    index: u32,
    name: &LinkName,
    bridge: &LinkName,
) -> Result<(), ApplyError> {
    let message = master(netlink, index, bridge).await?;
    send_set(netlink, message).await.map_err(no_port(name, bridge))?;
    bridge::set_guest_port(netlink, index, name).await?;
    set_up(netlink, index, name).await
}

async fn master(netlink: &Netlink, index: u32, bridge: &LinkName) -> Result<LinkMessage, ApplyError> {
    let master = existing(netlink, bridge).await?.index;
    let mut message = request(vec![LinkAttribute::Controller(master)]);
    message.header.index = index;
    Ok(message)
}

fn no_port(name: &LinkName, bridge: &LinkName) -> impl FnOnce(NetlinkError) -> ApplyError {
    let (operation, bridge) = (format!("make {name} a port of {bridge}"), bridge.clone());
    move |source| match source.errno() {
        Some(Errno::EXFULL) => ApplyError::BridgeFull { bridge },
        _ => ApplyError::Kernel { operation, source },
    }
}

pub(super) async fn set_down(netlink: &Netlink, device: &Device) -> Result<(), NetlinkError> {
    let mut message = request(Vec::new());
    message.header.index = device.index;
    message.header.change_mask |= LinkFlags::Up;
    send_set(netlink, message).await
}

pub(super) async fn set_up(netlink: &Netlink, index: u32, name: &LinkName) -> Result<(), ApplyError> {
    let mut message = request(Vec::new());
    message.header.index = index;
    up(&mut message);
    send_set(netlink, message).map_err(kernel(format!("set {name} up"))).await
}

/// Sets what differs on a device of ours.
pub(super) async fn change(
    netlink: &Netlink,
    name: &LinkName,
    changes: &BTreeSet<LinkChange>,
) -> Result<(), ApplyError> {
    let device = existing_ours(netlink, name).await?;
    change_all(netlink, &device, name, changes.iter()).await
}

pub(super) async fn change_all(
    netlink: &Netlink,
    device: &Device,
    name: &LinkName,
    changes: impl Iterator<Item = &LinkChange>,
) -> Result<(), ApplyError> {
    for change in changes {
        match change {
            LinkChange::Mac(mac) => {
                let attributes = vec![LinkAttribute::Address(mac.bytes().to_vec())];
                set(netlink, device.index, attributes, format!("set the MAC of {name}")).await?;
            }
            LinkChange::Mtu(mtu) => {
                let attributes = vec![LinkAttribute::Mtu(*mtu)];
                set(netlink, device.index, attributes, format!("set the MTU of {name}")).await?;
            }
            LinkChange::Carrier(carrier) => {
                let index = existing(netlink, carrier).await?.index;
                set_up(netlink, index, carrier).await?;
            }
            // A port of ours is in its bridge and up, or neither.
            LinkChange::Master(bridge) => match device.kind {
                LinkKind::Tap { .. } | LinkKind::Veth { .. } => {
                    set_guest_master_up(netlink, device.index, name, bridge).await?;
                }
                _ => set_master_up(netlink, device.index, name, bridge).await?,
            },
            LinkChange::Up => set_up(netlink, device.index, name).await?,
        }
    }
    Ok(())
}

/// Makes a tap or veth, then a port of its bridge, then sets it up. `expand` makes a path of what names the
/// namespace of a veth.
pub(super) async fn create_port(
    netlink: &Netlink,
    name: &LinkName,
    port: &Link,
    expand: impl FnOnce(&str) -> String,
) -> Result<(), ApplyError> {
    let alias = match &port.kind {
        LinkKind::Tap { owner } => {
            create_tap(netlink, name, *owner).await?;
            None
        }
        LinkKind::Veth { netns, name: inner, mac } => {
            let other_end = OtherEnd { netns: &expand(netns), name: inner, mac: *mac };
            create_veth(netlink, name, port, &other_end).await?;
            Some(alias(netns, inner, *mac))
        }
        LinkKind::Bridge | LinkKind::Vlan { .. } | LinkKind::Other => {
            return Err(ApplyError::LinkDiffers { link: name.clone() });
        }
    };
    let index = existing(netlink, name).await?.index;
    let mut attributes = vec![LinkAttribute::Group(LINK_GROUP), LinkAttribute::Mtu(port.mtu)];
    attributes.extend(alias.map(LinkAttribute::IfAlias));
    if let Some(mac) = port_mac(netlink, port).await? {
        attributes.push(LinkAttribute::Address(mac.bytes().to_vec()));
    }
    set(netlink, index, attributes, format!("set up {name}")).await?;
    without_own_address(netlink, index, name).await?;
    match &port.master {
        Some(bridge) => set_guest_master_up(netlink, index, name, bridge).await,
        None => set_up(netlink, index, name).await,
    }
}

async fn port_mac(netlink: &Netlink, port: &Link) -> Result<Option<Mac>, ApplyError> {
    match &port.mac {
        // A port is no gateway.
        None | Some(LinkMac::Gateway { .. }) => Ok(None),
        Some(LinkMac::Fixed(mac)) => Ok(Some(*mac)),
        Some(LinkMac::Of(other)) => Ok(existing(netlink, other).await?.mac),
    }
}

/// The host must not answer guests from a link-local address on the port itself. A kernel without
/// IPv6 has none to take away and says so.
pub(super) async fn without_own_address(
    netlink: &Netlink,
    index: u32,
    name: &LinkName,
) -> Result<(), ApplyError> {
    let none = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    let attributes = vec![LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![none])])];
    let mut message = request(attributes);
    message.header.index = index;
    match send_set(netlink, message).await {
        Err(error) if !matches!(error.errno(), Some(Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP)) => {
            Err(kernel(format!("keep {name} without an address of its own"))(error))
        }
        _ => Ok(()),
    }
}

async fn create_tap(netlink: &Netlink, name: &LinkName, owner: Option<u32>) -> Result<(), ApplyError> {
    let Err(source) = tap::create(name, owner) else { return Ok(()) };
    match if_exists(netlink, name).await? {
        Some(device) if device.kind == (LinkKind::Tap { owner }) => Ok(()),
        Some(_) => Err(ApplyError::LinkDiffers { link: name.clone() }),
        None => Err(kernel(format!("make tap {name}"))(NetlinkError::Refused(source))),
    }
}

/// The end of a veth that goes into a namespace.
struct OtherEnd<'a> {
    netns: &'a str,
    name: &'a LinkName,
    mac: Mac,
}

async fn create_veth(
    netlink: &Netlink,
    name: &LinkName,
    port: &Link,
    other_end: &OtherEnd<'_>,
) -> Result<(), ApplyError> {
    let netns = open_netns(other_end.netns)?;
    let peer = request(vec![
        if_name(other_end.name),
        LinkAttribute::Address(other_end.mac.bytes().to_vec()),
        LinkAttribute::Mtu(port.mtu),
        LinkAttribute::NetNsFd(netns.as_raw_fd()),
    ]);
    let message = request(vec![
        if_name(name),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
        LinkAttribute::Group(LINK_GROUP),
        LinkAttribute::Mtu(port.mtu),
    ]);
    let made = netlink.request(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL).await;
    if let Err(source) = made {
        // Either end may be what exists.
        match if_exists(netlink, name).await? {
            Some(device) if device.kind == port.kind => {}
            Some(_) => return Err(ApplyError::LinkDiffers { link: name.clone() }),
            None => {
                let operation = format!("make veth {name} to {} in {}", other_end.name, other_end.netns);
                return Err(ApplyError::Kernel { operation, source });
            }
        }
    }
    set_other_end_up(netns, other_end).await
}

/// Opens a network namespace. Opening does not wait, because a path may lead anywhere and a FIFO
/// waits for a writer; whether it led to a network namespace is asked of what was opened.
fn open_netns(path: &str) -> Result<File, ApplyError> {
    let failed = |source| ApplyError::Netns { path: path.to_owned(), source };
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
    match is_netns(&file).map_err(|errno| failed(errno.into()))? {
        true => Ok(file),
        false => Err(ApplyError::NoNetns { path: path.to_owned() }),
    }
}

fn is_netns(file: &File) -> nix::Result<bool> {
    if fstatfs(file)?.filesystem_type() != NSFS_MAGIC {
        return Ok(false);
    }
    // SAFETY: the descriptor is open and the request takes no argument.
    Ok(unsafe { namespace_kind(file.as_raw_fd()) }? == libc::CLONE_NEWNET)
}

/// Made up, it would be opened before its other end is there, which the kernel refuses
/// (`ENOTCONN`); and it changes devices only for those who are in their namespace.
async fn set_other_end_up(netns: File, other_end: &OtherEnd<'_>) -> Result<(), ApplyError> {
    let there = Netlink::open_in(netns);
    let there = there.map_err(|source| ApplyError::Netns { path: other_end.netns.to_owned(), source })?;
    let index = existing(&there, other_end.name).await?.index;
    set_up(&there, index, other_end.name).await
}

/// Puts a physical device into a bridge and sets it up.
pub(super) async fn enslave(netlink: &Netlink, name: &LinkName, bridge: &LinkName) -> Result<(), ApplyError> {
    let index = existing(netlink, name).await?.index;
    set_master_up(netlink, index, name, bridge).await
}

/// Takes a physical device out of the bridge of ours that it is in.
pub(super) async fn release(netlink: &Netlink, name: &LinkName) -> Result<(), ApplyError> {
    let Some(device) = if_exists(netlink, name).await? else { return Ok(()) };
    let Some(master) = device.master else { return Ok(()) };
    let master = by_index(netlink, master).await;
    let master = master.map_err(kernel(format!("look up the bridge of {name}")))?;
    if !master.is_some_and(|master| master.is_our_bridge()) {
        return Ok(());
    }
    let attributes = vec![LinkAttribute::Controller(0)];
    set(netlink, device.index, attributes, format!("take {name} out of its bridge")).await
}

/// Deletes a device of ours, if it is there.
pub(super) async fn delete(netlink: &Netlink, name: &LinkName) -> Result<(), ApplyError> {
    let device = match existing_ours(netlink, name).await {
        Ok(device) => device,
        Err(ApplyError::LinkMissing { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut message = LinkMessage::default();
    message.header.index = device.index;
    match netlink.request(RouteNetlinkMessage::DelLink(message), 0).await {
        Err(error) if error.errno() != Some(Errno::ENODEV) => Err(kernel(format!("delete {name}"))(error)),
        _ => Ok(()),
    }
}

/// Deletes devices of ours together, as far as that can be done: the kernel waits for everyone who
/// may still use a device, about 17 ms, and for a whole device group it waits once. What is left
/// after this, and why, is for [`delete`] to find out.
pub(super) async fn delete_together(
    netlink: &Netlink,
    names: &BTreeSet<&LinkName>,
) -> Result<(), NetlinkError> {
    let listed = list(netlink).await?;
    // By name alone: while it is in another group, nothing else says that a device is ours.
    let is_ours = |device: &Device| ownership::link_owner(&device.name, 0) == Owner::Ours;
    let leaving: BTreeSet<u32> = listed
        .values()
        .filter(|device| is_ours(device) && names.contains(&device.link_name()))
        .map(|device| device.index)
        .collect();
    let taken: BTreeSet<u32> = listed.values().map(|device| device.group).collect();
    let Some(group) = LEAVING_GROUPS.into_iter().find(|group| !taken.contains(group)) else { return Ok(()) };
    if leaving.len() < 2 {
        return Ok(());
    }
    for index in &leaving {
        let mut message = request(vec![LinkAttribute::Group(group)]);
        message.header.index = *index;
        send_set(netlink, message).await?;
    }
    let members = list(netlink).await?.into_values().filter(|device| device.group == group);
    if members.map(|device| device.index).collect::<BTreeSet<_>>() != leaving {
        return Ok(());
    }
    let message = request(vec![LinkAttribute::Group(group)]);
    netlink.request(RouteNetlinkMessage::DelLink(message), 0).await.map(drop)
}
