//! Kernel settings that checks ask for.

use std::collections::BTreeMap;

use trestle_core::render::sysctl_part;
use trestle_core::types::LinkName;

use crate::host::ObserveError;
use crate::host::linux::look::setting;

/// What settings hold, by their dotted names; those that the kernel does not have are absent.
pub(super) type Settings = BTreeMap<String, String>;

/// Reads settings.
pub(super) fn read(names: impl IntoIterator<Item = String>) -> Result<Settings, ObserveError> {
    let mut settings = Settings::new();
    for name in names {
        if let Some(value) = setting(&name)? {
            settings.insert(name, value);
        }
    }
    Ok(settings)
}

/// The name of a setting of IPv4 for one device.
pub(super) fn of_device(device: &LinkName, setting: &str) -> String {
    format!("net.ipv4.conf.{}.{setting}", sysctl_part(device))
}

/// The command that sets one until the next boot.
pub(super) fn set(name: &str, value: &str) -> String {
    format!("sysctl -w {name}={value}")
}

/// What keeps settings over a boot.
pub(super) const KEEP: &str = "put it into a file in /etc/sysctl.d to keep it";
