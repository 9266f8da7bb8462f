//! Looking at all that a host has, whosever it is, for who looks for faults. Nothing is changed.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use netlink_packet_route::link::{InfoBridge, InfoData, LinkAttribute, LinkInfo, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use tokio::process::Command;
use trestle_core::ownership::Owner;
use trestle_core::spec::LinkKind;
use trestle_core::types::LinkName;

use super::libnftables::{Context, Output};
use super::netlink::Netlink;
use super::{address, link, sysctl};
use crate::host::error::{NetlinkError, ObserveError};

/// The kernel's list of tables that programs of before nftables use; of this namespace.
const LEGACY_TABLES: &str = "/proc/net/ip_tables_names";
/// The same of IPv6.
const LEGACY_TABLES6: &str = "/proc/net/ip6_tables_names";

/// A device of the host.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    /// The kernel's number.
    pub(crate) index: u32,
    /// Whose it is.
    pub(crate) owner: Owner,
    /// Whether it is a bridge.
    pub(crate) is_bridge: bool,
    /// In bytes.
    pub(crate) mtu: u32,
    /// The bridge it is a port of.
    pub(crate) master: Option<LinkName>,
    /// What carries it, if it is a VLAN.
    pub(crate) parent: Option<LinkName>,
    /// Whether this bridge by itself hands what it bridges to the hooks of IP.
    pub(crate) filters_bridged: bool,
}

/// All devices by name.
pub(crate) type Devices = BTreeMap<LinkName, Device>;

/// A way to the kernel.
#[derive(Debug)]
pub(crate) struct Look(Netlink);

impl Look {
    /// Opens it in the network namespace of the calling thread, within a tokio runtime.
    pub(crate) fn open() -> Result<Self, ObserveError> {
        Netlink::open().map(Self).map_err(ObserveError::Socket)
    }

    /// All devices.
    pub(crate) async fn devices(&self) -> Result<Devices, ObserveError> {
        let listed = self.0.dump(RouteNetlinkMessage::GetLink(link::request(Vec::new()))).await;
        let messages = listed.map_err(|source| ObserveError::List { what: "devices".into(), source })?;
        let known: BTreeMap<u32, (link::Device, bool)> = messages
            .iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewLink(message) => {
                    let device = link::Device::from_message(message);
                    Some((device.index, (device, filters_bridged(message))))
                }
                _ => None,
            })
            .collect();
        let name = |index: u32| known.get(&index).map(|(device, _)| device.link_name());
        let seen = |(device, filters_bridged): &(link::Device, bool)| {
            let seen = Device {
                index: device.index,
                owner: device.owner(),
                is_bridge: device.kind == LinkKind::Bridge,
                mtu: device.mtu,
                master: device.master.and_then(name),
                parent: device.vlan.and_then(|vlan| name(vlan.parent)),
                filters_bridged: *filters_bridged,
            };
            (device.link_name(), seen)
        };
        Ok(known.values().map(seen).collect())
    }

    /// The addresses that Trestle has put on devices, each with the device's number.
    pub(crate) async fn our_addresses(&self) -> Result<Vec<(u32, IpNet)>, ObserveError> {
        let listed = address::list(&self.0, None).await;
        let held = listed.map_err(|source| ObserveError::List { what: "addresses".into(), source })?;
        let ours = held.into_iter().filter(|held| held.owner == Owner::Ours);
        Ok(ours.map(|held| (held.index, held.address)).collect())
    }

    /// The number of the device by which this host sends on from one device what is sent from an address
    /// to another; `None` where it knows no way. One that the kernel would not take in is looked up as
    /// the host's own.
    pub(crate) async fn way(&self, flow: Flow) -> Result<Option<u32>, ObserveError> {
        if let Some(index) = self.look_up(routed(flow), flow.to).await? {
            return Ok(Some(index));
        }
        self.look_up(towards(flow.to), flow.to).await
    }

    async fn look_up(&self, question: RouteMessage, to: IpAddr) -> Result<Option<u32>, ObserveError> {
        match self.0.request(RouteNetlinkMessage::GetRoute(question), 0).await {
            Ok(Some(RouteNetlinkMessage::NewRoute(route))) => Ok(leaves_by(&route)),
            Ok(_) => Ok(None),
            Err(error) if is_no_route(&error) => Ok(None),
            Err(source) => Err(ObserveError::List { what: format!("the route to {to}"), source }),
        }
    }
}

/// What is to be sent on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    /// Who sends.
    pub(crate) from: IpAddr,
    /// The number of the device that it comes in by.
    pub(crate) comes_by: u32,
    /// Who is to have it.
    pub(crate) to: IpAddr,
}

fn towards(address: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.header.destination_prefix_length = prefix_length(address);
    message.attributes.push(RouteAttribute::Destination(route_address(address)));
    message
}

fn routed(flow: Flow) -> RouteMessage {
    let mut message = towards(flow.to);
    message.header.source_prefix_length = prefix_length(flow.from);
    message.attributes.push(RouteAttribute::Source(route_address(flow.from)));
    message.attributes.push(RouteAttribute::Iif(flow.comes_by));
    message
}

fn prefix_length(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn route_address(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    }
}

fn leaves_by(route: &RouteMessage) -> Option<u32> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

/// What the kernel answers where there is no route, or one that says so: `unreachable`, `prohibit`,
/// `blackhole` (ip-route(8)); and where it would not take in what comes by that device.
fn is_no_route(error: &NetlinkError) -> bool {
    matches!(
        error.errno(),
        Some(Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EACCES | Errno::EINVAL | Errno::EXDEV)
    )
}

fn filters_bridged(message: &LinkMessage) -> bool {
    let filters = |data: &InfoBridge| {
        matches!(data, InfoBridge::NfCallIpTables(true) | InfoBridge::NfCallIp6Tables(true))
    };
    let bridge = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(attributes) => attributes.iter().find_map(|info| match info {
            LinkInfo::Data(InfoData::Bridge(data)) => Some(data),
            _ => None,
        }),
        _ => None,
    });
    bridge.is_some_and(|data| data.iter().any(filters))
}

/// All tables and chains of nftables as JSON (libnftables-json(5)), without the elements of sets.
pub(crate) fn ruleset() -> Result<String, ObserveError> {
    let list = || Context::open()?.run("list ruleset", Output::JsonChains);
    list().map_err(|source| ObserveError::Nftables { what: "the rules".into(), source })
}

/// Whether the kernel has tables that iptables of before nftables made, which nftables does not show.
pub(crate) fn has_legacy_tables() -> Result<bool, ObserveError> {
    let has = |path: &str| match std::fs::read_to_string(path) {
        Ok(names) => Ok(!names.trim().is_empty()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(ObserveError::File { path: path.into(), source }),
    };
    Ok(has(LEGACY_TABLES)? || has(LEGACY_TABLES6)?)
}

/// What a program prints; `None` where it is not installed.
pub(crate) async fn printed_by(program: &'static str) -> Result<Option<String>, ObserveError> {
    let failed = |source| ObserveError::Program { program, source };
    let output = match Command::new(program).output().await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(failed)?,
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(failed(io::Error::other(said)));
    }
    Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// A kernel setting by its dotted name; `None` where the kernel has none of this name.
pub(crate) fn setting(name: &str) -> Result<Option<String>, ObserveError> {
    sysctl::read(name)
}

/// Whether the kernel can hand what is bridged to the hooks of IP (`br_netfilter`).
pub(crate) fn has_br_netfilter() -> bool {
    Path::new("/proc/sys/net/bridge").exists()
}
