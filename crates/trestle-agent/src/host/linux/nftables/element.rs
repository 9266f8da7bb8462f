//! The elements of our sets and maps, in the words of our keys, of nft's text and JSON, and of the kernel.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::Value;
use trestle_core::spec::Set;
use trestle_core::types::{LinkName, Mac, Protocol};

use crate::host::error::NftError;

/// The room for a device's name in a key (`net/if.h`).
const IFNAMSIZ: usize = 16;

/// What a part of an element is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Device,
    Mac,
    Ipv4,
    Ipv6,
    /// An IPv6 address as nft writes bytes whose meaning it does not know.
    Number,
    /// A MAC in the same way.
    MacNumber,
    Range,
    /// A protocol with ports.
    Protocol,
    Port,
    /// A number in the byte order of the host.
    Mark,
    EtherType,
    /// A jump to a chain.
    Jump,
}

/// What the elements of a set are made of, in the order of its type.
fn parts(set: Set) -> &'static [Part] {
    use Part::{Device, Ipv4, Ipv6, Number, Port, Protocol, Range};
    match set {
        Set::GuardRange4 | Set::GuardRange6 => &[Device, Part::Mac, Range],
        Set::GuardEtherType => &[Device, Part::EtherType],
        Set::Unguarded | Set::HeardBy => &[Device],
        Set::Groups4 | Set::Remote4 | Set::Members4(_) => &[Ipv4],
        Set::Groups6 | Set::Remote6 | Set::Members6(_) => &[Ipv6],
        Set::Addresses4(_) | Set::Addresses6(_) | Set::Subnet4 | Set::Subnet6 => &[Range],
        Set::Home4 | Set::Home6 => &[Range, Device],
        Set::Egress | Set::Ingress => &[Part::Mark],
        Set::Metadata => &[Device, Part::Mac, Ipv4],
        Set::MetadataPort => &[Port],
        Set::MetadataFrom => &[Device],
        Set::Served4 => &[Device, Ipv4],
        Set::Served6 => &[Device, Ipv6],
        Set::GuardMac | Set::SharedMac => &[Device, Part::Mac],
        Set::GatewayMac => &[Part::Mac],
        Set::GuardIp4 => &[Device, Part::Mac, Ipv4],
        Set::GuardIp6 => &[Device, Part::Mac, Ipv6],
        Set::GuardNd => &[Device, Part::Mac, Number],
        Set::SharedUplink | Set::Network | Set::Private => &[Device],
        Set::SharedIp4 | Set::Held | Set::Yielded => &[Device, Ipv4],
        Set::SharedIp6 | Set::Held6 | Set::Yielded6 => &[Device, Ipv6],
        Set::SharedNd => &[Device, Number],
        Set::GuardHardware => &[Device, Part::MacNumber],
        Set::Routed => &[Device, Device],
        Set::NatSource | Set::NatSourceIp | Set::NatLocal | Set::NatLocal6 => &[Range, Device],
        Set::NatExempt | Set::NatForced => &[Range, Range],
        Set::FloatingTo | Set::FloatingBack | Set::Floating => &[Ipv4],
        Set::FloatingTo6 | Set::FloatingBack6 | Set::Floating6 => &[Ipv6],
        Set::FloatingFrom => &[Ipv4, Device],
        Set::FloatingFrom6 => &[Ipv6, Device],
        Set::ForwardTo => &[Ipv4, Protocol, Port],
        Set::ForwardTo6 => &[Ipv6, Protocol, Port],
    }
}

/// What the elements of a map lead to, in the same way.
fn value_parts(set: Set) -> &'static [Part] {
    use Part::{Ipv4, Ipv6, Port};
    match set {
        Set::HeardBy | Set::Groups4 | Set::Groups6 => &[Part::Mark],
        set if set.leads_to_chain() => &[Part::Jump],
        Set::NatSourceIp | Set::FloatingTo | Set::FloatingFrom | Set::FloatingBack => &[Ipv4],
        Set::FloatingTo6 | Set::FloatingFrom6 | Set::FloatingBack6 => &[Ipv6],
        Set::ForwardTo | Set::Metadata => &[Ipv4, Port],
        Set::ForwardTo6 => &[Ipv6, Port],
        _ => &[],
    }
}

/// The element with its devices in quotes: `fwd` and `log` are device names to the kernel and
/// keywords to nft.
pub(super) fn quoted(set: Set, element: &str) -> String {
    let quote = |(text, part): (&str, &Part)| match part {
        Part::Device => format!("\"{text}\""),
        _ => text.to_owned(),
    };
    let (key, value) = element.split_once(" : ").map_or((element, None), |(key, value)| (key, Some(value)));
    let key = key.split(" . ").zip(parts(set)).map(quote).collect::<Vec<_>>().join(" . ");
    value.map_or(key.clone(), |value| format!("{key} : {value}"))
}

/// An element as the kernel has it: the parts one after the other, each of several filled up to four
/// bytes. `None` for ranges, and for what is no element of the set.
pub(super) fn element_key(set: Set, element: &str) -> Option<Vec<u8>> {
    let texts: Vec<&str> = element.split(" . ").collect();
    if texts.len() != parts(set).len() {
        return None;
    }
    let keys: Option<Vec<Vec<u8>>> =
        texts.into_iter().zip(parts(set)).map(|(text, part)| part_key(*part, text)).collect();
    let mut keys = keys?;
    if keys.len() > 1 {
        keys.iter_mut().for_each(|key| key.resize(key.len().next_multiple_of(4), 0));
    }
    Some(keys.concat())
}

fn part_key(part: Part, text: &str) -> Option<Vec<u8>> {
    Some(match part {
        Part::Device => {
            let mut name = text.parse::<LinkName>().ok()?.as_str().as_bytes().to_vec();
            name.resize(IFNAMSIZ, 0);
            name
        }
        Part::Mac => text.parse::<Mac>().ok()?.bytes().to_vec(),
        Part::Ipv4 => text.parse::<Ipv4Addr>().ok()?.octets().to_vec(),
        Part::Ipv6 => text.parse::<Ipv6Addr>().ok()?.octets().to_vec(),
        Part::Number => u128::from_str_radix(text.strip_prefix("0x")?, 16).ok()?.to_be_bytes().to_vec(),
        Part::MacNumber => {
            let number = u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()?;
            number.to_be_bytes()[2..].to_vec()
        }
        Part::Protocol => vec![text.parse::<Protocol>().ok()?.number()],
        Part::Port => text.parse::<u16>().ok()?.to_be_bytes().to_vec(),
        Part::Mark => text.parse::<u32>().ok()?.to_ne_bytes().to_vec(),
        Part::EtherType => text.parse::<u16>().ok()?.to_be_bytes().to_vec(),
        Part::Range | Part::Jump => return None,
    })
}

/// What an element of a map leads to, from what the kernel has; nothing of a set.
pub(super) fn value_text(set: Set, value: &[u8]) -> Result<Option<String>, NftError> {
    let strange = || NftError::Element { set, element: format!("{value:02x?}") };
    let (mut rest, mut texts) = (value, Vec::new());
    for part in value_parts(set) {
        let (text, length) = match part {
            Part::Ipv4 => (rest.first_chunk::<4>().map(|bytes| Ipv4Addr::from(*bytes).to_string()), 4),
            Part::Ipv6 => (rest.first_chunk::<16>().map(|bytes| Ipv6Addr::from(*bytes).to_string()), 16),
            Part::Port => (rest.first_chunk::<2>().map(|bytes| u16::from_be_bytes(*bytes).to_string()), 4),
            Part::Mark => (rest.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes).to_string()), 4),
            Part::Jump => (String::from_utf8(rest.to_vec()).ok(), rest.len()),
            _ => (None, 0),
        };
        texts.push(text.ok_or_else(strange)?);
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok((!texts.is_empty()).then(|| texts.join(" . ")))
}

/// The elements of a set in `nft -j list set` (libnftables-json(5)), in the words of our keys.
pub(super) fn parse_elements(set: Set, listing: &str) -> Result<BTreeMap<String, Option<String>>, NftError> {
    let listing: Value = serde_json::from_str(listing).map_err(NftError::Answer)?;
    let objects = listing.get("nftables").and_then(Value::as_array).into_iter().flatten();
    let sets = objects.filter_map(|object| object.get("set").or_else(|| object.get("map")));
    let elements = sets.filter_map(|set| set.get("elem")?.as_array()).flatten();
    elements
        .map(|element| {
            let strange = || NftError::Element { set, element: element.to_string() };
            parse_element(set, element).ok_or_else(strange)
        })
        .collect()
}

fn parse_element(set: Set, element: &Value) -> Option<(String, Option<String>)> {
    let (key, value) = match element.as_array().map(Vec::as_slice) {
        Some([key, value]) if set.is_map() => (key, Some(value)),
        _ => (element, None),
    };
    let value = match value {
        Some(value) => Some(parse_parts(value_parts(set), value)?),
        None => None,
    };
    // With a comment or timeout, the element is wrapped once more.
    let key = key.get("elem").and_then(|elem| elem.get("val")).unwrap_or(key);
    Some((parse_parts(parts(set), key)?, value))
}

fn parse_parts(parts: &[Part], value: &Value) -> Option<String> {
    let values = match value.get("concat") {
        Some(values) => &values.as_array()?[..],
        None => std::slice::from_ref(value),
    };
    let texts: Option<Vec<String>> =
        values.iter().zip(parts).map(|(value, part)| parse_part(*part, value)).collect();
    Some(texts?.join(" . "))
}

fn parse_part(part: Part, value: &Value) -> Option<String> {
    if let Some(prefix) = value.get("prefix") {
        return Some(format!("{}/{}", prefix.get("addr")?.as_str()?, prefix.get("len")?.as_u64()?));
    }
    if let Some(range) = value.get("range") {
        return Some(format!("{}-{}", range.get(0)?.as_str()?, range.get(1)?.as_str()?));
    }
    if part == Part::Jump {
        // Where it leads otherwise, somebody edited it: that is no value that anybody asks for.
        let target = value.get("jump").and_then(|jump| jump.get("target")?.as_str());
        return Some(target.map_or_else(|| value.to_string(), |target| format!("jump {target}")));
    }
    match (part, value.as_u64()) {
        // Beyond 64 bits they are texts in hex; the text form has all of them so.
        (Part::Number | Part::MacNumber, Some(number)) => Some(format!("{number:#x}")),
        (_, Some(number)) => Some(number.to_string()),
        (_, None) => value.as_str().map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_read_in_the_words_of_keys() {
        let listing = r#"{"nftables": [{"metainfo": {}}, {"set": {"elem": [
            {"concat": [{"prefix": {"addr": "10.0.0.0", "len": 24}}, "eth0"]},
            {"elem": {"val": {"concat": ["10.0.3.7", "fwd"]}, "comment": "x"}},
            {"concat": [{"range": ["10.1.0.1", "10.1.0.9"]}, "eth0"]}]}}]}"#;
        let parse =
            |set, listing: &str| parse_elements(set, listing).unwrap().into_keys().collect::<Vec<_>>();
        let elements = parse(Set::NatSource, listing);
        assert_eq!(elements, ["10.0.0.0/24 . eth0", "10.0.3.7 . fwd", "10.1.0.1-10.1.0.9 . eth0"]);
        let listing =
            r#"{"nftables": [{"set": {"elem": ["br100", {"elem": {"val": "fwd", "comment": "x"}}]}}]}"#;
        assert_eq!(parse(Set::Network, listing), ["br100", "fwd"]);
        let listing = r#"{"nftables": [{"set": {"elem": [{"concat": ["a", "fa:16:3e:00:00:01", 5]},
            {"concat": ["a", "fa:16:3e:00:00:01", "0xfe80000000000000f8163efffe000001"]}]}}]}"#;
        assert_eq!(
            parse(Set::GuardNd, listing),
            ["a . fa:16:3e:00:00:01 . 0x5", "a . fa:16:3e:00:00:01 . 0xfe80000000000000f8163efffe000001"]
        );
        let listing = r#"{"nftables": [{"map": {"elem": [
            [{"concat": ["203.0.113.21", "tcp", 80]}, {"concat": ["10.0.0.5", 8080]}]]}}]}"#;
        let leads_to = Some("10.0.0.5 . 8080".to_owned());
        let elements = parse_elements(Set::ForwardTo, listing).unwrap();
        assert_eq!(elements, BTreeMap::from([("203.0.113.21 . tcp . 80".to_owned(), leads_to.clone())]));
        assert_eq!(value_text(Set::ForwardTo, &[10, 0, 0, 5, 31, 144, 0, 0]).unwrap(), leads_to);
        let listing = r#"{"nftables": [{"map": {"elem": [[2147483665, {"jump": {"target": "in_3"}}]]}}]}"#;
        let elements = parse_elements(Set::Ingress, listing).unwrap();
        assert_eq!(elements, BTreeMap::from([("2147483665".to_owned(), Some("jump in_3".to_owned()))]));
        let listing = r#"{"nftables": [{"map": {"elem": [["tr-x", 2147483665]]}}]}"#;
        let elements = parse_elements(Set::HeardBy, listing).unwrap();
        assert_eq!(elements, BTreeMap::from([("tr-x".to_owned(), Some("2147483665".to_owned()))]));
    }
}
