//! VLAN devices of 802.1Q, by rtnetlink(7): what `ip link add link PARENT name NAME type vlan id ID`
//! makes.

use std::path::Path;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVlan, LinkAttribute, LinkInfo, VlanProtocol};
use nix::errno::Errno;
use trestle_core::ownership::{LINK_GROUP, Owner};
use trestle_core::spec::{Link, LinkKind};
use trestle_core::types::{LinkName, VlanId};

use super::link;
use super::netlink::Netlink;
use crate::host::error::ApplyError;

/// Where a kernel with 802.1Q shows its VLANs, in every namespace.
const VLANS: &str = "/proc/net/vlan";

/// What a VLAN device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Vlan {
    pub(super) id: VlanId,
    /// The number of the device that carries it.
    pub(super) parent: u32,
}

/// `None` for what is no VLAN, or one that is told by another tag than 802.1Q's.
pub(super) fn id(info: &[LinkInfo]) -> Option<VlanId> {
    let data = info.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vlan(data)) => Some(data),
        _ => None,
    })?;
    if data.contains(&InfoVlan::Protocol(VlanProtocol::Ieee8021Ad)) {
        return None;
    }
    data.iter().find_map(|attribute| match attribute {
        InfoVlan::Id(id) => VlanId::try_from(u32::from(*id)).ok(),
        _ => None,
    })
}

/// Makes a VLAN device, then sets the device that carries it up, without which the kernel does not
/// set it up itself, then makes it a port of its bridge and sets it up.
pub(super) async fn create(netlink: &Netlink, name: &LinkName, vlan: &Link) -> Result<(), ApplyError> {
    let (LinkKind::Vlan { id, parent }, Some(bridge)) = (&vlan.kind, &vlan.master) else {
        return Err(ApplyError::LinkDiffers { link: name.clone() });
    };
    let carrier = link::existing(netlink, parent).await?;
    let made = Vlan { id: *id, parent: carrier.index };
    add(netlink, name, made, vlan.mtu).await?;
    let Some(device) = link::if_exists(netlink, name).await? else {
        return Err(ApplyError::VlanTaken { id: *id, parent: parent.clone() });
    };
    if device.owner() != Owner::Ours || device.vlan != Some(made) {
        return Err(ApplyError::LinkDiffers { link: name.clone() });
    }
    let attributes = vec![LinkAttribute::Mtu(vlan.mtu)];
    link::set(netlink, device.index, attributes, format!("set the MTU of {name}")).await?;
    link::without_own_address(netlink, device.index, name).await?;
    if !carrier.up {
        link::set_up(netlink, carrier.index, parent).await?;
    }
    link::set_master_up(netlink, device.index, name, bridge).await
}

/// Makes the device alone, down, if neither one of this name is there nor one of this VLAN.
pub(super) async fn add(netlink: &Netlink, name: &LinkName, vlan: Vlan, mtu: u32) -> Result<(), ApplyError> {
    let message = link::request(vec![
        link::if_name(name),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Vlan),
            LinkInfo::Data(InfoData::Vlan(vec![InfoVlan::Id(vlan.id.number())])),
        ]),
        LinkAttribute::Link(vlan.parent),
        LinkAttribute::Group(LINK_GROUP),
        LinkAttribute::Mtu(mtu),
    ]);
    let made = netlink.request(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL).await;
    match made {
        Err(source) => match source.errno() {
            Some(Errno::EEXIST) => Ok(()),
            // Of a device that can carry no VLANs it says the same.
            Some(Errno::EOPNOTSUPP) if !Path::new(VLANS).exists() => {
                Err(ApplyError::No8021q { link: name.clone() })
            }
            _ => Err(link::kernel(format!("make VLAN {} as {name}", vlan.id))(source)),
        },
        Ok(_) => Ok(()),
    }
}
