//! Bridges: making them, what they send back, and sending what is bridged through the filter of what is
//! routed (`br_netfilter`). That is done bridge by bridge: what others bridge is nobody's business here
//! (`IFLA_BR_NF_CALL_IPTABLES`, `net/bridge/br_netlink.c`).

use std::path::Path;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    BridgeStpState, InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind,
    LinkAttribute, LinkInfo,
};
use nix::errno::Errno;
use trestle_core::ownership::LINK_GROUP;
use trestle_core::plan::LinkChange;
use trestle_core::types::{LinkName, Mac};

use super::link::{change_all, existing, if_name, kernel, request};
use super::netlink::Netlink;
use crate::host::error::{ApplyError, NetlinkError};

/// The group address of LLDP, 01:80:c2:00:00:0e, among the reserved ones (`group_fwd_mask`, IEEE 802.1D §7.12.6).
const LLDP: u16 = 1 << 14;
/// What the module shows. Without it a bridge takes the setting and does not heed it.
const MODULE: &str = "/proc/sys/net/bridge";

/// Whether bridges can be filtered.
pub(super) fn has_filter() -> bool {
    Path::new(MODULE).exists()
}

/// Whether a bridge with these attributes is set to be filtered.
pub(super) fn is_filtered(info: &[LinkInfo]) -> bool {
    let data = info.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Bridge(data)) => Some(data),
        _ => None,
    });
    let both = [InfoBridge::NfCallIpTables(true), InfoBridge::NfCallIp6Tables(true)];
    data.is_some_and(|data| both.iter().all(|one| data.contains(one)))
}

/// Has a bridge filtered, loading the module where it is not.
pub(super) async fn filter(netlink: &Netlink, bridge: &LinkName) -> Result<(), ApplyError> {
    if !has_filter() {
        let tried = tokio::process::Command::new("modprobe").arg("br_netfilter").output().await;
        if !has_filter() {
            tracing::debug!(?tried, "br_netfilter is not to be had");
            return Err(ApplyError::NoBridgeFilter { bridge: bridge.clone() });
        }
    }
    let index = existing(netlink, bridge).await?.index;
    let both = vec![InfoBridge::NfCallIpTables(true), InfoBridge::NfCallIp6Tables(true)];
    let info = vec![LinkInfo::Kind(InfoKind::Bridge), LinkInfo::Data(InfoData::Bridge(both))];
    set_info(netlink, index, info).await.map_err(kernel(format!("filter what is bridged on {bridge}")))
}

/// Makes a bridge of ours, or makes the one that is there so.
pub(super) async fn create(netlink: &Netlink, name: &LinkName, mac: Mac, mtu: u32) -> Result<(), ApplyError> {
    let info = vec![
        InfoBridge::StpState(BridgeStpState::Disabled),
        InfoBridge::ForwardDelay(0),
        // LLDP alone among the reserved group addresses meets no hook where it is not forwarded:
        // forwarded, it meets the guard.
        InfoBridge::GroupFwdMask(LLDP),
        // Without a querier, snooping forgets who listens and cuts off neighbour discovery.
        InfoBridge::MulticastSnooping(false),
    ];
    let message = request(vec![
        if_name(name),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Bridge),
            LinkInfo::Data(InfoData::Bridge(info)),
        ]),
        LinkAttribute::Address(mac.bytes().to_vec()),
        LinkAttribute::Group(LINK_GROUP),
        // A bridge takes the least MTU of its ports until somebody changes its own, and setting
        // what it has is no change. So it is made with another one first.
        LinkAttribute::Mtu(mtu - 1),
    ]);
    let made = netlink.request(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL).await;
    match made {
        Err(error) if error.errno() != Some(Errno::EEXIST) => {
            return Err(kernel(format!("make bridge {name}"))(error));
        }
        _ => {}
    }
    let bridge = existing(netlink, name).await?;
    if !bridge.is_our_bridge() {
        return Err(ApplyError::LinkDiffers { link: name.clone() });
    }
    let changes = [LinkChange::Mac(mac), LinkChange::Mtu(mtu), LinkChange::Up];
    change_all(netlink, &bridge, name, changes.iter()).await
}

/// Makes a port of a bridge a guest's. LLDP is forwarded from it, whatever the bridge itself does: what a
/// bridge keeps to its host meets no hook. And what is for the guest is sent back to it: one that asks for
/// itself by a floating IP is translated where its packets are filtered, which is before the bridge chooses
/// the port. The guard keeps from it what it sends to all.
pub(super) async fn set_guest_port(netlink: &Netlink, index: u32, name: &LinkName) -> Result<(), ApplyError> {
    let port = vec![InfoBridgePort::GroupFwdMask(LLDP), InfoBridgePort::HairpinMode(true)];
    let info =
        vec![LinkInfo::PortKind(InfoPortKind::Bridge), LinkInfo::PortData(InfoPortData::BridgePort(port))];
    set_info(netlink, index, info).await.map_err(kernel(format!("make {name} a guest's port")))
}

async fn set_info(netlink: &Netlink, index: u32, info: Vec<LinkInfo>) -> Result<(), NetlinkError> {
    let mut message = request(vec![LinkAttribute::LinkInfo(info)]);
    message.header.index = index;
    netlink.request(RouteNetlinkMessage::NewLink(message), 0).await.map(drop)
}
