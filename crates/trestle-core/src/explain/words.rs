//! Decisions as sentences for people.

use std::net::IpAddr;

use super::StageKind;
use super::frame::{Frame, Source};
use super::host::{Decisive, HostView};
use crate::spec::{Key, Set};
use crate::types::{Direction, HostId, LinkName};
use crate::world::{Host, Interface, Network, Remote, Rule, SecurityGroup, Traffic, World};

pub(super) fn plugged_in(sender: &Interface, network: &Network, host: &Host, address: IpAddr) -> String {
    format!("{} on network {} sends it from {address}, on host {}", sender.hostname, network.name, host.name)
}

pub(super) fn sent_by_host(host: &Host, address: IpAddr) -> String {
    format!("host {} itself sends it from {address}, held to no security group there", host.name)
}

pub(super) fn bridged(network: &Network, from: &Host, to: &Host, uplink: Option<&LinkName>) -> String {
    let by = uplink.map(|uplink| format!(" by {uplink}")).unwrap_or_default();
    format!("bridge {} leads from host {} to host {}{by}", network.bridge, from.name, to.name)
}

pub(super) fn led_to(floating: IpAddr, address: IpAddr, port: Option<u16>) -> String {
    let port = port.map(|port| format!(", port {port}")).unwrap_or_default();
    format!("floating IP {floating} leads to {address}{port}")
}

pub(super) fn answered(host: &Host) -> String {
    format!("host {} answers for the metadata service", host.name)
}

pub(super) fn routed(host: &Host, network: Option<&Network>, outbound: Option<&LinkName>) -> String {
    match (network, outbound) {
        (Some(network), _) => {
            format!("host {} routes it to network {}, on {}", host.name, network.name, network.bridge)
        }
        (None, Some(device)) => format!("host {} routes it outside, by {device}", host.name),
        (None, None) => format!("host {} routes it outside as its own routes say", host.name),
    }
}

pub(super) fn leaves_under(source: &Source, frame: &Frame, host: &Host) -> String {
    let before = frame.source.known().map_or_else(|| "it".to_owned(), |address| address.to_string());
    match (source, &frame.outbound) {
        (Source::Known(source), _) => format!("{before} goes on as {source}"),
        (_, Some(device)) => format!("{before} goes on as host {}'s own address on {device}", host.name),
        (_, None) => format!("{before} goes on as an address of host {}'s own", host.name),
    }
}

pub(super) fn comes_in(frame: &Frame, host: &Host) -> String {
    match &frame.inbound {
        Some(device) => format!("it comes from outside to host {}, by {device}", host.name),
        None => format!("it comes from outside to host {}", host.name),
    }
}

/// The rule of a security group on this host that a number stands for.
pub(super) fn rule(world: &World, host: HostId, number: u32) -> Option<(&SecurityGroup, &Rule)> {
    groups_on(world, host).find_map(|group| {
        let rule = group.rules.iter().find(|rule| rule.number == number)?;
        Some((group, rule))
    })
}

fn groups_on(world: &World, host: HostId) -> impl Iterator<Item = &SecurityGroup> {
    world.combinations(host).flatten().filter_map(|id| world.security_group(*id))
}

/// What a rule of a chain decided, and why.
pub(super) fn decided(
    world: &World,
    view: &HostView<'_>,
    kind: StageKind,
    by: &Decisive,
    frame: &Frame,
) -> String {
    let set = match &by.key {
        Some(Key::Element(set, _)) => Some(*set),
        _ => None,
    };
    let known = match kind {
        StageKind::Guard => guarded(set, by, frame),
        StageKind::Egress | StageKind::Ingress => judged(world, view.host.id, by),
        StageKind::Isolation => isolated(world, view.host.id, set, by, frame),
        StageKind::Host => came_to_host(set, by),
        _ => None,
    };
    known.unwrap_or_else(|| format!("so says `{}`, of chain {}", by.line, by.chain))
}

fn guarded(set: Option<Set>, by: &Decisive, frame: &Frame) -> Option<String> {
    let is_sent = by.chain != "prerouting" && !by.chain.starts_with("from_");
    let device = if is_sent { &frame.outbound } else { &frame.inbound }.as_ref()?;
    let (source, to) =
        (frame.source.known().map(|source| source.to_string()).unwrap_or_default(), frame.destination);
    Some(match (set, &by.chain[..], &by.line[..]) {
        (Some(Set::Unguarded), _, _) => format!("{device} is not guarded: port security is off"),
        (Some(Set::GuardIp4 | Set::GuardIp6), _, _) if is_sent => {
            format!("{device} is sent what is for {to}")
        }
        (Some(Set::GuardIp4 | Set::GuardIp6), _, _) => format!("{device} may send from {source}"),
        (Some(Set::GuardRange4 | Set::GuardRange6), _, _) if is_sent => format!("{device} forwards for {to}"),
        (Some(Set::GuardRange4 | Set::GuardRange6), _, _) => format!("{device} forwards for {source}"),
        (Some(Set::SharedMac | Set::SharedIp4 | Set::SharedIp6), _, _) => {
            format!("{device} leads to hosts that have the same gateway: nothing of it passes there")
        }
        (_, "to_range", "ether type ip drop" | "ether type ip6 drop") => {
            format!("{device} is not sent what is for {to}")
        }
        (_, "from_instance" | "from_instance6", "drop") => format!("{device} may not send from {source}"),
        (None, "from_instance", line) if line.ends_with("@guard_mac drop") => {
            format!("{device} may not send from its MAC")
        }
        _ => return None,
    })
}

fn judged(world: &World, host: HostId, by: &Decisive) -> Option<String> {
    if let Some(number) = by.rule {
        return Some(match rule(world, host, number) {
            Some((group, rule)) => format!("{} is allowed, by security group {}", allowed(rule), group.id),
            None => format!("rule {number} allows it, which is of no group that is known"),
        });
    }
    match (&by.chain[..], &by.line[..]) {
        ("neighbours", _) => Some("neighbours find each other whatever the groups say".to_owned()),
        (_, line) if line.contains("@served") => {
            Some("DNS is had from the gateway whatever the groups say".to_owned())
        }
        (_, line) if line.contains("@metadata_from") => {
            Some("metadata are had whatever the groups say".to_owned())
        }
        (_, line) if line.contains("udp sport") => Some("DHCP is had whatever the groups say".to_owned()),
        (_, line) if line.starts_with("ct state invalid") => {
            Some("it neither begins a connection nor belongs to one".to_owned())
        }
        (chain, "drop") => Some(refused(world, host, chain)),
        _ => None,
    }
}

/// What a rule is about, in a few words: `tcp 22 from 10.0.0.0/24`.
fn allowed(rule: &Rule) -> String {
    let traffic = match rule.traffic {
        Traffic::Any => "everything".to_owned(),
        Traffic::Protocol(protocol) => protocol.to_string(),
        Traffic::Ports(protocol, ports) => format!("{protocol} {ports}"),
        Traffic::Icmp(protocol, icmp) => format!("{protocol} {icmp}"),
    };
    let remote = match rule.remote {
        Remote::Any => "anybody".to_owned(),
        Remote::Range(range) => range.short(),
        Remote::Group(group) => format!("members of security group {group}"),
        Remote::AddressGroup(group) => format!("address group {group}"),
    };
    let way = if rule.direction == Direction::Ingress { "from" } else { "to" };
    format!("{traffic} {way} {remote}")
}

/// The chain of a combination of groups has their numbers in its name: `in_3_7`.
fn refused(world: &World, host: HostId, chain: &str) -> String {
    let numbers: Vec<u32> = chain.split('_').filter_map(|number| number.parse().ok()).collect();
    let mut groups: Vec<String> = groups_on(world, host)
        .filter(|group| numbers.contains(&group.number))
        .map(|group| group.id.to_string())
        .collect();
    groups.sort();
    groups.dedup();
    match &groups[..] {
        [] => "it is in no security group, so nothing passes".to_owned(),
        [one] => format!("no rule of security group {one} allows it"),
        more => format!("no rule of security groups {} allows it", more.join(", ")),
    }
}

fn isolated(world: &World, host: HostId, set: Option<Set>, by: &Decisive, frame: &Frame) -> Option<String> {
    let name = |bridge: &Option<LinkName>| {
        let network = world.networks_on(host).find(|network| Some(&network.bridge) == bridge.as_ref());
        network.map_or_else(|| "outside".to_owned(), |network| format!("network {}", network.name))
    };
    let (from, to) = (name(&frame.inbound), name(&frame.outbound));
    match set {
        _ if by.line.ends_with("169.254.0.0/16 drop") => {
            Some("what is for a link alone is not routed".to_owned())
        }
        _ if by.line == "ct status dnat return" => Some("what is sent to a floating IP is let in".to_owned()),
        Some(Set::Routed) if from == to => Some(format!("{from} reaches itself")),
        Some(Set::Routed) => Some(format!("{from} reaches {to}: both are of one project")),
        Some(Set::Private) => {
            Some(format!("{to} is reached from its own project's networks alone, not from {from}"))
        }
        Some(Set::Network) => Some(format!("{from} does not reach {to}: they are not of one project")),
        _ => None,
    }
}

fn came_to_host(set: Option<Set>, by: &Decisive) -> Option<String> {
    let sentence = match (set, &by.line[..]) {
        (Some(Set::Served4 | Set::Served6), _) => "DNS is served there",
        (Some(Set::Floating | Set::Floating6), _) => {
            "it is for a floating IP, which leads to no instance for this"
        }
        (Some(Set::MetadataPort), line) if line.ends_with("accept") => "metadata are answered there",
        (Some(Set::MetadataPort), _) => "metadata are asked for at 169.254.169.254, nowhere else",
        (_, "ct status dnat accept") => "it was led there",
        (_, line) if line.starts_with("udp dport") => "DHCP is served there",
        (_, line) if line.starts_with("meta l4proto") => "the host answers this",
        (_, "drop") => "instances have nothing of a host but DHCP, DNS and an echo",
        _ => return None,
    };
    Some(sentence.to_owned())
}
