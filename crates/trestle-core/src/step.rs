//! The steps of a plan: what each is, in which order they are done, and how an operator reads them.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::spec::{Dnsmasq, Flows, Key, Link, Route, Set, Table, VpnServer};
use crate::types::{InstanceId, LinkName, Mac, MetadataService, Name, ProjectId, Protocol};

/// One change to a host. Every step is idempotent: doing it twice is doing it once.
///
/// **The order of the variants is the order of execution.** On the way in: sets and chains, then
/// the bridge, then DHCP, and a guest's device last. On the way out the device goes first and the
/// guard's elements last. An interface is never up without its guard.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the fields are the words of the variant's own sentence")]
pub enum Step {
    /// Lets a user in by a VPN no more, and ends the connection there is.
    DeleteVpnUser { vpn: Name, user: Name },
    /// Stops the server of a VPN.
    StopVpn { vpn: Name },
    /// Deletes a tap or veth of ours.
    DeletePort { link: LinkName },
    /// Lets a bridge learn where a MAC is again. Nothing if it does not hold it fast.
    DeleteStation { bridge: LinkName, mac: Mac },
    /// Deletes dnsmasq's entry for a MAC. It is served on until `ReloadDhcp`.
    DeleteDhcpHost { network: Name, mac: Mac },
    /// Deletes dnsmasq's entry for an IPv6 address. It is served on until `ReloadDhcp`.
    DeleteDhcpHost6 { network: Name, address: Ipv6Addr },
    /// Deletes a DNS name; dnsmasq sees it at once.
    DeleteDnsName { network: Name, name: String },
    /// Deletes a DNS record; dnsmasq sees it at once.
    DeleteDnsRecord { network: Name, name: String },
    /// Forgets who asks for metadata from an address.
    DeleteMetadata { address: Ipv4Addr },
    /// Makes dnsmasq forget deleted entries (SIGHUP). Nothing if it does not run.
    ReloadDhcp { network: Name },
    /// Stops a network's dnsmasq.
    StopDnsmasq { network: Name },
    /// No longer answers for the metadata service.
    StopMetadataProxy { port: u16 },
    /// Deletes the leases and the folder of a network that has no dnsmasq any more.
    ForgetLeases { network: Name },
    /// Adds a foreign address of the bridge `from` to the device `to` that leaves it.
    ReturnAddress { address: IpNet, from: LinkName, to: LinkName },
    /// Adds a foreign route of the bridge `from` to the device `to`, then deletes it from `from`.
    ReturnRoute { route: Route, source: Option<IpAddr>, protocol: u8, from: LinkName, to: LinkName },
    /// Deletes an address from the bridge `from` after it was returned.
    DropReturned { address: IpNet, from: LinkName },
    /// Takes a physical device out of a bridge of ours. It comes before any other is put in, so
    /// that it is always known whose the addresses on a bridge are.
    ReleaseUplink { link: LinkName },
    /// Deletes a VLAN device of ours.
    DeleteVlan { link: LinkName },
    /// Ends the flows that go by a translation that is about to go; see `EndLateFlows`.
    EndFlows { flows: Flows },
    /// Sets a kernel setting.
    SetSysctl { name: String, value: String },
    /// Makes one of our tables anew, sets and chains, without elements, in place of what it was.
    /// All adjacent steps from here to `AddElement` are one nftables transaction.
    PutRuleset { table: Table, text: String },
    /// Makes a set that security groups need, without elements.
    PutSet { set: Set },
    /// Makes a chain with these rules, a line each, in place of what it was.
    PutChain { chain: String, rules: String },
    /// Adds an element to a set; of a map, with what it leads to: `203.0.113.20 : 10.0.0.5`.
    AddElement { set: Set, element: String },
    /// Lets an element of a map lead to something else.
    ReplaceElement { set: Set, element: String, from: String, to: String },
    /// Deletes an element of those sets that say what passes by security groups, together with what
    /// comes in its place.
    TakeElement { set: Set, element: String },
    /// Deletes a chain.
    DeleteChain { chain: String },
    /// Deletes a set.
    DeleteSet { set: Set },
    /// Has every connection of a guest held to its groups once more: something that allowed one may be
    /// gone, or have come that forbids one.
    JudgeAnew,
    /// Makes a bridge, marked as ours, with its MAC and MTU, up.
    CreateBridge { link: LinkName, mac: Mac, mtu: u32 },
    /// Sends what is bridged there through the filter of what is routed.
    FilterBridge { bridge: LinkName },
    /// Sets what differs on a device of ours.
    SetLink { link: LinkName, changes: BTreeSet<LinkChange> },
    /// Makes a VLAN device, marked as ours, a port of its bridge, up, and sets the device that
    /// carries it up.
    CreateVlan { link: LinkName, vlan: Link },
    /// Puts a physical device into a bridge and sets it up.
    Enslave { link: LinkName, bridge: LinkName },
    /// Adds a foreign address of `from` to `to` as well.
    CopyAddress { address: IpNet, from: LinkName, to: LinkName },
    /// Adds a foreign route of `from` to `to`, then deletes it from `from`.
    MoveRoute { route: Route, source: Option<IpAddr>, protocol: u8, from: LinkName, to: LinkName },
    /// Deletes an address from `from` after it was copied.
    DropAddress { address: IpNet, from: LinkName },
    /// Puts a physical device that is in another bridge of ours into this one. It comes after the
    /// addresses: until it is done, the old bridge is known as where they are.
    SwitchUplink { link: LinkName, bridge: LinkName },
    /// Forgets that another host has claimed an address: it is this one's again.
    ForgetClaim { set: Set, element: String },
    /// Adds an address of ours, with our mark, and tells the neighbours (gratuitous ARP, RFC 5227
    /// §3; unsolicited neighbour advertisement, RFC 4861 §7.2.6).
    AddAddress { link: LinkName, address: IpNet },
    /// Deletes an address of ours.
    DeleteAddress { link: LinkName, address: IpNet },
    /// Writes dnsmasq's entry for a MAC; dnsmasq sees it at once.
    WriteDhcpHost { network: Name, mac: Mac, address: Ipv4Addr, hostname: Name },
    /// Writes dnsmasq's entry for an IPv6 address; dnsmasq sees it at once.
    WriteDhcpHost6 { network: Name, address: Ipv6Addr, mac: Mac, hostname: Name },
    /// Writes a DNS name; dnsmasq sees it at once.
    WriteDnsName { network: Name, name: String, addresses: BTreeSet<IpAddr> },
    /// Writes a DNS record; dnsmasq sees it at once.
    WriteDnsRecord { network: Name, name: String, addresses: BTreeSet<IpAddr> },
    /// Starts a network's dnsmasq.
    StartDnsmasq { network: Name, dnsmasq: Dnsmasq },
    /// Ends a lease with `dhcp_release`, so that the address may go to another MAC.
    ReleaseLease { network: Name, bridge: LinkName, address: Ipv4Addr, mac: Mac },
    /// The same of an IPv6 lease, with `dhcp_release6`.
    ReleaseLease6 { network: Name, bridge: LinkName, address: Ipv6Addr, client: String, iaid: u32 },
    /// Makes the namespace that a VPN lives in.
    CreateVpnNetns { vpn: Name },
    /// Makes a tap or veth, a port of its bridge, up.
    CreatePort { link: LinkName, port: Link },
    /// Holds fast which port of a bridge leads to a MAC, and tells its neighbours in its name
    /// that its addresses are there: switches and bridges learn where it came to.
    SetStation { bridge: LinkName, mac: Mac, port: LinkName, addresses: BTreeSet<IpAddr> },
    /// Lets a user in by a VPN from now on. It comes before the server: who asks and is not known is told
    /// so, and asks no more.
    PutVpnUser { vpn: Name, user: Name, text: String },
    /// Starts the server of a VPN, or another one in place of the one that runs.
    StartVpn { vpn: Name, server: VpnServer },
    /// Deletes the namespace that a VPN lived in, and its folder.
    DeleteVpnNetns { vpn: Name },
    /// Deletes a bridge of ours.
    DeleteBridge { link: LinkName },
    /// Deletes an element from a set; of a map, with what it leads to. All adjacent steps from here
    /// on are one transaction.
    DeleteElement { set: Set, element: String },
    /// Deletes one of our tables.
    DeleteRuleset { table: Table },
    /// Notes who asks for metadata from an address. It comes after whoever had the address before cannot
    /// send from it any more.
    PutMetadata { address: Ipv4Addr, instance: InstanceId, project: ProjectId },
    /// Answers for the metadata service, or for another one from now on.
    StartMetadataProxy { port: u16, service: MetadataService },
    /// Ends the flows that began by a translation until it was gone. What began before was ended by
    /// `EndFlows`, which is planned again after a crash; this one no plan would know of.
    EndLateFlows { flows: Flows },
    /// Ends the flows that come to a floating IP and go by none of these, though they are all there
    /// is: they began when there was no rule, or another one that nobody knows of any more. `port` is
    /// the only one that is looked at.
    EndStrayFlows { floating: IpAddr, port: Option<(Protocol, u16)>, ways: BTreeSet<Flows> },
}

/// What an element's text begins with: of a map, what it is looked up by.
fn looked_up_by(element: &str) -> String {
    element.split(" : ").next().unwrap_or_default().to_owned()
}

/// What differs on a device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkChange {
    /// Set this MAC.
    Mac(Mac),
    /// Set this MTU.
    Mtu(u32),
    /// Set the device up that carries it: with that, it is down too.
    Carrier(LinkName),
    /// Make it a port of this bridge.
    Master(LinkName),
    /// Set it up; always the last.
    Up,
}

impl Step {
    /// The key whose object this step makes true.
    pub fn key(&self) -> Key {
        match self {
            Self::DeletePort { link }
            | Self::CreateBridge { link, .. }
            | Self::SetLink { link, .. }
            | Self::CreateVlan { link, .. }
            | Self::DeleteVlan { link }
            | Self::CreatePort { link, .. }
            | Self::DeleteBridge { link } => Key::Link(link.clone()),
            Self::SetStation { bridge, mac, .. } | Self::DeleteStation { bridge, mac } => {
                Key::Station(bridge.clone(), *mac)
            }
            Self::DeleteDhcpHost6 { network, address } | Self::WriteDhcpHost6 { network, address, .. } => {
                Key::DhcpHost6(network.clone(), *address)
            }
            Self::ReleaseLease6 { network, address, .. } => Key::Lease6(network.clone(), *address),
            Self::DeleteDhcpHost { network, mac } | Self::WriteDhcpHost { network, mac, .. } => {
                Key::DhcpHost(network.clone(), *mac)
            }
            Self::DeleteDnsName { network, name } | Self::WriteDnsName { network, name, .. } => {
                Key::DnsName(network.clone(), name.clone())
            }
            Self::DeleteDnsRecord { network, name } | Self::WriteDnsRecord { network, name, .. } => {
                Key::DnsRecord(network.clone(), name.clone())
            }
            Self::ReloadDhcp { network }
            | Self::StopDnsmasq { network }
            | Self::ForgetLeases { network }
            | Self::StartDnsmasq { network, .. } => Key::Dnsmasq(network.clone()),
            Self::PutMetadata { address, .. } | Self::DeleteMetadata { address } => Key::Metadata(*address),
            Self::StartMetadataProxy { port, .. } | Self::StopMetadataProxy { port } => {
                Key::MetadataProxy(*port)
            }
            Self::SetSysctl { name, .. } => Key::Sysctl(name.clone()),
            Self::PutRuleset { table, .. } | Self::DeleteRuleset { table } => Key::Ruleset(*table),
            Self::PutSet { set } | Self::DeleteSet { set } => Key::Set(*set),
            Self::PutChain { chain, .. } | Self::DeleteChain { chain } => Key::Chain(chain.clone()),
            Self::JudgeAnew => Key::Ruleset(Table::Groups),
            Self::FilterBridge { bridge } => Key::BridgeFilter(bridge.clone()),
            Self::AddElement { set, element }
            | Self::TakeElement { set, element }
            | Self::ReplaceElement { set, element, .. }
            | Self::ForgetClaim { set, element }
            | Self::DeleteElement { set, element } => Key::Element(*set, looked_up_by(element)),
            Self::EndFlows { flows } | Self::EndLateFlows { flows } => flows.key(),
            Self::EndStrayFlows { floating, port, .. } => {
                let ports = port.map(|(protocol, port)| (protocol, port, port));
                Flows { floating: *floating, fixed: *floating, ports }.key()
            }
            Self::Enslave { link, .. } | Self::SwitchUplink { link, .. } | Self::ReleaseUplink { link } => {
                Key::Uplink(link.clone())
            }
            Self::CopyAddress { address, to, .. } | Self::ReturnAddress { address, to, .. } => {
                Key::Address(to.clone(), *address)
            }
            Self::MoveRoute { route, to, .. } | Self::ReturnRoute { route, to, .. } => {
                Key::Route(to.clone(), route.clone())
            }
            Self::DropAddress { address, from } | Self::DropReturned { address, from } => {
                Key::Address(from.clone(), *address)
            }
            Self::AddAddress { link, address } | Self::DeleteAddress { link, address } => {
                Key::Address(link.clone(), *address)
            }
            Self::ReleaseLease { network, mac, .. } => Key::Lease(network.clone(), *mac),
            Self::CreateVpnNetns { vpn } | Self::DeleteVpnNetns { vpn } => Key::VpnNetns(vpn.clone()),
            Self::StartVpn { vpn, .. } | Self::StopVpn { vpn } => Key::Vpn(vpn.clone()),
            Self::PutVpnUser { vpn, user, .. } | Self::DeleteVpnUser { vpn, user } => {
                Key::VpnUser(vpn.clone(), user.clone())
            }
        }
    }
}

/// As an operator reads it: what is done, to what.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeletePort { link } => write!(f, "delete device {link}"),
            Self::DeleteStation { bridge, mac } => write!(f, "let {bridge} learn where {mac} is"),
            Self::DeleteDhcpHost6 { network, address } => {
                write!(f, "delete DHCP entry of {address} on {network}")
            }
            Self::DeleteVlan { link } => write!(f, "delete VLAN device {link}"),
            Self::CreateVlan { link, vlan } => write!(f, "make {} as {link}", vlan.kind),
            Self::WriteDhcpHost6 { network, address, mac, hostname } => {
                write!(f, "write DHCP entry of {address} on {network}: {mac}, {hostname}")
            }
            Self::ReleaseLease6 { network, address, client, .. } => {
                write!(f, "release lease of {address} by {client} on {network}")
            }
            Self::SetStation { bridge, mac, port, .. } => {
                write!(f, "hold {mac} fast at {port} of {bridge} and announce it")
            }
            Self::DeleteDhcpHost { network, mac } => write!(f, "delete DHCP entry of {mac} on {network}"),
            Self::DeleteDnsRecord { network, name } => write!(f, "delete DNS record {name} on {network}"),
            Self::DeleteDnsName { network, name } => write!(f, "delete DNS name {name} on {network}"),
            Self::ReloadDhcp { network } => write!(f, "reload DHCP entries of {network}"),
            Self::StopDnsmasq { network } => write!(f, "stop dnsmasq of {network}"),
            Self::ForgetLeases { network } => write!(f, "forget leases of {network}"),
            Self::SetSysctl { name, value } => write!(f, "set {name} to {value}"),
            Self::PutRuleset { table, .. } => write!(f, "load table {table}"),
            Self::PutSet { set } => write!(f, "make set {set}"),
            Self::PutChain { chain, .. } => write!(f, "load chain {chain}"),
            Self::DeleteChain { chain } => write!(f, "delete chain {chain}"),
            Self::DeleteSet { set } => write!(f, "delete set {set}"),
            Self::JudgeAnew => f.write_str("hold every connection to its security groups once more"),
            Self::FilterBridge { bridge } => write!(f, "filter what is bridged on {bridge}"),
            Self::AddElement { set, element } => write!(f, "add {element} to {set}"),
            Self::ReplaceElement { set, element, from, to } => {
                write!(f, "let {element} lead to {to} instead of {from} in {set}")
            }
            Self::ForgetClaim { element, .. } => write!(f, "take {element} back from who claimed it"),
            Self::EndFlows { flows } => write!(f, "end the flows between {flows}"),
            Self::EndLateFlows { flows } => write!(f, "end what began late between {flows}"),
            Self::EndStrayFlows { floating, port: None, .. } => {
                write!(f, "end what goes astray of {floating}")
            }
            Self::EndStrayFlows { floating, port: Some((protocol, port)), .. } => {
                write!(f, "end what goes astray of {floating} {protocol} {port}")
            }
            Self::CreateBridge { link, mac, mtu } => {
                write!(f, "make bridge {link} with MAC {mac}, MTU {mtu}")
            }
            Self::SetLink { link, changes } => {
                let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
                write!(f, "set {link} to {}", changes.join(", "))
            }
            Self::Enslave { link, bridge } => write!(f, "enslave {link} to {bridge}"),
            Self::SwitchUplink { link, bridge } => write!(f, "switch {link} over to {bridge}"),
            Self::CopyAddress { address, from, to } | Self::ReturnAddress { address, from, to } => {
                write!(f, "copy address {address} from {from} to {to}")
            }
            Self::MoveRoute { route, from, to, .. } | Self::ReturnRoute { route, from, to, .. } => {
                write!(f, "move route {route} from {from} to {to}")
            }
            Self::DropAddress { address, from } | Self::DropReturned { address, from } => {
                write!(f, "drop address {address} from {from}")
            }
            Self::AddAddress { link, address } => write!(f, "add address {address} to {link}"),
            Self::DeleteAddress { link, address } => write!(f, "delete address {address} from {link}"),
            Self::WriteDhcpHost { network, mac, address, hostname } => {
                write!(f, "write DHCP entry of {mac} on {network}: {address}, {hostname}")
            }
            Self::WriteDnsName { network, name, addresses } => {
                write!(f, "write DNS name {name} on {network}: {}", listed(addresses))
            }
            Self::WriteDnsRecord { network, name, addresses } => {
                write!(f, "write DNS record {name} on {network}: {}", listed(addresses))
            }
            Self::StartDnsmasq { network, dnsmasq } => {
                write!(f, "start dnsmasq of {network} on {}", dnsmasq.bridge)
            }
            Self::ReleaseLease { network, address, mac, .. } => {
                write!(f, "release lease of {address} by {mac} on {network}")
            }
            Self::CreatePort { link, port } => write!(f, "make {} {link}", port.kind),
            Self::ReleaseUplink { link } => write!(f, "take {link} out of its bridge"),
            Self::DeleteBridge { link } => write!(f, "delete bridge {link}"),
            Self::TakeElement { set, element } | Self::DeleteElement { set, element } => {
                write!(f, "delete {element} from {set}")
            }
            Self::DeleteRuleset { table } => write!(f, "delete table {table}"),
            Self::DeleteMetadata { address } => write!(f, "forget who asks for metadata from {address}"),
            Self::PutMetadata { address, instance, .. } => {
                write!(f, "answer for the metadata of instance {instance} at {address}")
            }
            Self::CreateVpnNetns { vpn } => write!(f, "make the namespace of VPN {vpn}"),
            Self::DeleteVpnNetns { vpn } => write!(f, "delete the namespace of VPN {vpn}"),
            Self::StartVpn { vpn, server } => write!(f, "start {} of VPN {vpn}", server.kind),
            Self::StopVpn { vpn } => write!(f, "stop VPN {vpn}"),
            Self::PutVpnUser { vpn, user, .. } => write!(f, "let {user} in by VPN {vpn}"),
            Self::DeleteVpnUser { vpn, user } => write!(f, "let {user} in by VPN {vpn} no more"),
            Self::StopMetadataProxy { port } => write!(f, "stop answering for metadata on port {port}"),
            Self::StartMetadataProxy { port, service } => {
                write!(f, "answer for the metadata of {service} on port {port}")
            }
        }
    }
}

fn listed(addresses: &BTreeSet<IpAddr>) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for LinkChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mac(mac) => write!(f, "MAC {mac}"),
            Self::Mtu(mtu) => write!(f, "MTU {mtu}"),
            Self::Carrier(device) => write!(f, "carried by {device}, up"),
            Self::Master(bridge) => write!(f, "port of {bridge}"),
            Self::Up => f.write_str("up"),
        }
    }
}
