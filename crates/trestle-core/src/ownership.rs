//! What is ours. Everything else is foreign: never changed, never deleted, even if it is in the
//! way. Every delete in every plan asks here, and nothing else says what is ours.
//!
//! - **Links** are ours by name (`tr-` and twelve hex digits: an interface's device) or by the
//!   device group that every bridge and VLAN of ours is created with. The kernel sets the group in the
//!   same request that makes the link, so no crash leaves one of ours without its mark.
//! - **Addresses** are ours on a link of ours with our protocol mark (`IFA_PROTO`, Linux 5.18).
//! - **nftables** tables are ours by name and family: `bridge trestle`, `inet trestle`, `arp trestle`
//!   and `inet trestle_groups`.
//! - **Physical devices** are never ours; those that we enslaved are listed in our state folder,
//!   under `uplinks`, and only those are ever taken out of a bridge again.
//! - **The TCP port** 7118 is ours on hosts that answer instances for the metadata service.
//! - **Files and processes** are ours by lying in, or naming, our state folder.

use crate::types::{InterfaceId, LinkName};

/// The device group (`IFLA_GROUP`) of every bridge of ours: the bytes `tr`.
pub const LINK_GROUP: u32 = 0x7472;

/// The address protocol (`IFA_PROTO`) and route protocol (`RTA_PROTOCOL`) of what we add.
pub const PROTOCOL: u8 = 201;

/// What the name of every interface's device begins with. The guard's chains match this prefix,
/// so a device of ours without an entry in the guard's sets passes nothing.
pub const DEVICE_PREFIX: &str = "tr-";

/// The TCP port of a host on which its agent answers instances for the metadata service. Nobody reaches it
/// but by the translation of what was sent to `METADATA_ADDRESS`.
pub const METADATA_PORT: u16 = 7118;

/// The name of our nftables tables, of each family.
pub const TABLE: &str = "trestle";

/// The name of the second one of family `inet`: its chains come and go with security groups.
pub const GROUPS_TABLE: &str = "trestle_groups";

/// Whose a thing on the host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    /// Made by Trestle; may be changed and deleted.
    Ours,
    /// Made by anyone else; sacred.
    Foreign,
}

/// The device of an interface: the prefix and the last twelve digits of its id. Twelve hex digits
/// of a version 7 UUID's random tail (RFC 9562 §5.7); the store holds a unique constraint too.
pub fn device_name(interface: InterfaceId) -> LinkName {
    let id = interface.0.simple().to_string();
    let name = format!("{DEVICE_PREFIX}{}", &id[id.len() - 12..]);
    name.parse().expect("the prefix and twelve hex digits are fifteen plain bytes")
}

/// Whose a link is, from its name and its device group.
pub fn link_owner(name: &str, group: u32) -> Owner {
    let digits = name.strip_prefix(DEVICE_PREFIX);
    let is_device = digits.is_some_and(|d| d.len() == 12 && d.bytes().all(|b| b.is_ascii_hexdigit()));
    if is_device || group == LINK_GROUP { Owner::Ours } else { Owner::Foreign }
}

/// Whose an address is, from its protocol mark.
pub fn address_owner(protocol: Option<u8>) -> Owner {
    if protocol == Some(PROTOCOL) { Owner::Ours } else { Owner::Foreign }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_names_and_marks_are_ours() {
        let device = device_name(InterfaceId(uuid::Uuid::from_u128(0xabcdef)));
        assert_eq!(device.as_str(), "tr-000000abcdef");
        assert_eq!(link_owner(device.as_str(), 0), Owner::Ours);
        assert_eq!(link_owner("br100", LINK_GROUP), Owner::Ours);
        assert_eq!(link_owner("tr-uplink", 0), Owner::Foreign);
        assert_eq!(link_owner("docker0", 0), Owner::Foreign);
        assert_eq!(address_owner(None), Owner::Foreign);
    }
}
