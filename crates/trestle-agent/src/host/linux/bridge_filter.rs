//! Sending what is bridged through the filter of what is routed (`br_netfilter`), bridge by bridge: what
//! others bridge is nobody's business here (`IFLA_BR_NF_CALL_IPTABLES`, `net/bridge/br_netlink.c`).

use std::path::Path;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoBridge, InfoData, InfoKind, LinkAttribute, LinkInfo};
use trestle_core::types::LinkName;

use super::link;
use super::netlink::Netlink;
use crate::host::error::ApplyError;

/// What the module shows. Without it a bridge takes the setting and does not heed it.
const MODULE: &str = "/proc/sys/net/bridge";

/// Whether bridges can be filtered.
pub(super) fn is_loaded() -> bool {
    Path::new(MODULE).exists()
}

/// Whether a bridge with these attributes is set to be filtered.
pub(super) fn is_set(info: &[LinkInfo]) -> bool {
    let data = info.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Bridge(data)) => Some(data),
        _ => None,
    });
    let both = [InfoBridge::NfCallIpTables(true), InfoBridge::NfCallIp6Tables(true)];
    data.is_some_and(|data| both.iter().all(|one| data.contains(one)))
}

/// Has a bridge filtered, loading the module where it is not.
pub(super) async fn set(netlink: &Netlink, bridge: &LinkName) -> Result<(), ApplyError> {
    if !is_loaded() {
        let tried = tokio::process::Command::new("modprobe").arg("br_netfilter").output().await;
        if !is_loaded() {
            tracing::debug!(?tried, "br_netfilter is not to be had");
            return Err(ApplyError::NoBridgeFilter { bridge: bridge.clone() });
        }
    }
    let index = link::existing(netlink, bridge).await?.index;
    let both = vec![InfoBridge::NfCallIpTables(true), InfoBridge::NfCallIp6Tables(true)];
    let info = vec![LinkInfo::Kind(InfoKind::Bridge), LinkInfo::Data(InfoData::Bridge(both))];
    let mut message = link::request(vec![LinkAttribute::LinkInfo(info)]);
    message.header.index = index;
    let done = netlink.request(RouteNetlinkMessage::NewLink(message), 0).await;
    done.map(drop).map_err(link::kernel(format!("filter what is bridged on {bridge}")))
}
