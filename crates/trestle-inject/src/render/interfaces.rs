//! `/etc/network/interfaces`, interfaces(5), in the order of fields that the original had
//! (reference IN-9). It matches no MAC: interfaces go by their names.
//!
//! A second address is a line `up ip addr add` and not a second stanza, which busybox refuses.

use std::fmt::Write;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{File, MARK};
use crate::guest::{Addressing, GuestNetwork, Link, StaticAddresses};

/// What the distribution reads.
pub(crate) const MAIN: &str = "etc/network/interfaces";
/// Where parts of it are.
pub(crate) const PARTS: &str = "etc/network/interfaces.d";
/// Ours.
pub(crate) const PART: &str = "etc/network/interfaces.d/trestle";
/// What makes the distribution read it.
pub(crate) const SOURCE: &str = "source /etc/network/interfaces.d/trestle\n";
/// The resolver's file.
pub(crate) const RESOLVER: &str = "etc/resolv.conf";

pub(super) fn files(network: &GuestNetwork) -> Vec<File> {
    let mut text = format!("# The network of {}, {MARK}.\n", network.hostname);
    for link in network.links() {
        let _ = write!(text, "\n# {}\nauto {}\n", link.mac(), link.name);
        match link.addressing() {
            Addressing::Dhcp => {
                let _ = writeln!(text, "iface {} inet dhcp", link.name);
            }
            Addressing::Static(addresses) => text += &stanzas(&link, addresses),
        }
    }
    let mut files = vec![File::new(PART, text)];
    files.extend(resolver(network));
    files
}

/// The resolver's file, as Debian's installer writes it: for guests on which nobody acts on
/// `dns-nameservers`.
fn resolver(network: &GuestNetwork) -> Option<File> {
    let mut servers = Vec::new();
    let mut domains = Vec::new();
    for interface in &network.interfaces {
        if let Addressing::Static(addresses) = &interface.addressing {
            servers.extend(addresses.dns.iter().map(ToString::to_string));
            domains.extend(addresses.domain.iter().map(ToString::to_string));
        }
    }
    if servers.is_empty() {
        return None;
    }
    let mut text = format!("# {MARK}\n");
    if !domains.is_empty() {
        let _ = writeln!(text, "search {}", domains.join(" "));
    }
    for server in servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    Some(File::new(RESOLVER, text))
}

fn stanzas(link: &Link<'_>, addresses: &StaticAddresses) -> String {
    let (mut ipv4, mut ipv6) = (Vec::new(), Vec::new());
    for address in &addresses.addresses {
        match address {
            IpNet::V4(address) => ipv4.push(*address),
            IpNet::V6(address) => ipv6.push(*address),
        }
    }
    // What holds for the interface as a whole is said once, in its first stanza.
    let mut shared = vec![format!("mtu {}", link.mtu())];
    shared.extend(named("dns-nameservers", &addresses.dns));
    shared.extend(named("dns-search", addresses.domain.as_slice()));
    let mut text = String::new();
    if let [first, more @ ..] = &ipv4[..] {
        text += &ipv4_stanza(link, *first, more, &std::mem::take(&mut shared));
    }
    if let [first, more @ ..] = &ipv6[..] {
        text += &ipv6_stanza(link, *first, more, &shared);
    }
    text
}

fn ipv4_stanza(link: &Link<'_>, first: Ipv4Net, more: &[Ipv4Net], shared: &[String]) -> String {
    let mut fields = vec![format!("address {}", first.addr()), format!("netmask {}", first.netmask())];
    // RFC 3021: a network of two addresses has none for broadcast.
    if first.prefix_len() < 31 {
        fields.push(format!("broadcast {}", first.broadcast()));
    }
    fields.extend(gateway(link, IpAddr::is_ipv4));
    fields.extend_from_slice(shared);
    fields.extend(more.iter().map(|address| format!("up ip addr add {address} dev {}", link.name)));
    stanza(&link.name, "inet", &fields)
}

fn ipv6_stanza(link: &Link<'_>, first: Ipv6Net, more: &[Ipv6Net], shared: &[String]) -> String {
    let mut fields = vec![format!("address {}", first.addr()), format!("netmask {}", first.prefix_len())];
    fields.extend(gateway(link, IpAddr::is_ipv6));
    // An address that the guest makes itself would not pass the guard.
    fields.push("accept_ra 0".to_owned());
    fields.extend_from_slice(shared);
    fields.extend(more.iter().map(|address| format!("up ip -6 addr add {address} dev {}", link.name)));
    stanza(&link.name, "inet6", &fields)
}

fn gateway(link: &Link<'_>, is_of_family: impl Fn(&IpAddr) -> bool) -> Option<String> {
    link.gateways.iter().find(|gateway| is_of_family(gateway)).map(|gateway| format!("gateway {gateway}"))
}

fn named<T: ToString>(field: &str, values: &[T]) -> Option<String> {
    let values: Vec<String> = values.iter().map(ToString::to_string).collect();
    (!values.is_empty()).then(|| format!("{field} {}", values.join(" ")))
}

fn stanza(name: &str, family: &str, fields: &[String]) -> String {
    let mut text = format!("iface {name} {family} static\n");
    for field in fields {
        let _ = writeln!(text, "    {field}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::files;
    use crate::guest::tests::web1;
    use crate::render::tests::shown;

    #[test]
    fn interfaces() {
        insta::assert_snapshot!(shown(&files(&web1())), @r"
        === etc/network/interfaces.d/trestle 644
        # The network of web1, written by trestle inject.

        # fa:16:3e:00:00:01
        auto eth0
        iface eth0 inet static
            address 10.0.0.5
            netmask 255.255.255.0
            broadcast 10.0.0.255
            gateway 10.0.0.1
            mtu 1450
            dns-nameservers 10.0.0.53 2001:db8::53
            dns-search trestle.internal
            up ip addr add 10.0.0.6/24 dev eth0
        iface eth0 inet6 static
            address 2001:db8::5
            netmask 64
            gateway 2001:db8::1
            accept_ra 0

        # fa:16:3e:00:00:02
        auto eth1
        iface eth1 inet static
            address 192.168.7.2
            netmask 255.255.255.254
            mtu 1500

        # fa:16:3e:00:00:03
        auto eth2
        iface eth2 inet dhcp
        === etc/resolv.conf 644
        # written by trestle inject
        search trestle.internal
        nameserver 10.0.0.53
        nameserver 2001:db8::53
        ");
    }
}
