//! What is remembered of a device, to tell a notice that says something new from one that does not.

use trestle_core::ownership::Owner;
use trestle_core::types::Mac;

use crate::host::linux::link::Device;

/// What of a device bears on a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint {
    pub(super) name: String,
    pub(super) owner: Owner,
    pub(super) is_our_bridge: bool,
    pub(super) master: Option<u32>,
    pub(super) mtu: u32,
    pub(super) mac: Option<Mac>,
    pub(super) up: bool,
    pub(super) filtered: bool,
}

impl Fingerprint {
    /// What of this device does.
    pub(super) fn of(device: &Device) -> Self {
        Self {
            name: device.name.clone(),
            owner: device.owner(),
            is_our_bridge: device.is_our_bridge(),
            master: device.master,
            mtu: device.mtu,
            mac: device.mac,
            up: device.up,
            filtered: device.filtered,
        }
    }
}
