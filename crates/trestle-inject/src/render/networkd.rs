//! systemd.network(5), a file for each interface.

use std::fmt::Write;

use super::{File, MARK};
use crate::guest::{Addressing, GuestNetwork, Link};

/// Where they are.
pub(crate) const FOLDER: &str = "etc/systemd/network";
/// How our files' names begin. networkd takes the first file that matches, by name: before a
/// distribution's own, which often take every interface there is.
pub(crate) const PREFIX: &str = "00-trestle-";

pub(super) fn files(network: &GuestNetwork) -> Vec<File> {
    network.links().iter().map(|link| File::new(path(link), unit(link))).collect()
}

fn path(link: &Link<'_>) -> String {
    format!("{FOLDER}/{PREFIX}{}.network", link.label())
}

fn unit(link: &Link<'_>) -> String {
    // A VLAN or a bridge on top of the interface has its MAC, and another type.
    let mut text = format!(
        "# {MARK}\n[Match]\nMACAddress={}\nType=ether\n\n[Link]\nMTUBytes={}\n\n[Network]\n",
        link.mac(),
        link.mtu()
    );
    match link.addressing() {
        Addressing::Dhcp => text += "DHCP=ipv4\n",
        Addressing::Static(addresses) => {
            let mut line = |key: &str, value: &dyn std::fmt::Display| {
                let _ = writeln!(text, "{key}={value}");
            };
            addresses.addresses.iter().for_each(|address| line("Address", address));
            link.gateways.iter().for_each(|gateway| line("Gateway", gateway));
            addresses.dns.iter().for_each(|server| line("DNS", server));
            addresses.domain.iter().for_each(|domain| line("Domains", domain));
            // An address that the guest makes itself would not pass the guard.
            line("IPv6AcceptRA", &"no");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::files;
    use crate::guest::tests::web1;
    use crate::render::tests::shown;

    #[test]
    fn networkd() {
        insta::assert_snapshot!(shown(&files(&web1())), @r"
        === etc/systemd/network/00-trestle-fa163e000001.network 644
        # written by trestle inject
        [Match]
        MACAddress=fa:16:3e:00:00:01
        Type=ether

        [Link]
        MTUBytes=1450

        [Network]
        Address=10.0.0.5/24
        Address=10.0.0.6/24
        Address=2001:db8::5/64
        Gateway=10.0.0.1
        Gateway=2001:db8::1
        DNS=10.0.0.53
        DNS=2001:db8::53
        Domains=trestle.internal
        IPv6AcceptRA=no
        === etc/systemd/network/00-trestle-fa163e000002.network 644
        # written by trestle inject
        [Match]
        MACAddress=fa:16:3e:00:00:02
        Type=ether

        [Link]
        MTUBytes=1500

        [Network]
        Address=192.168.7.2/31
        IPv6AcceptRA=no
        === etc/systemd/network/00-trestle-fa163e000003.network 644
        # written by trestle inject
        [Match]
        MACAddress=fa:16:3e:00:00:03
        Type=ether

        [Link]
        MTUBytes=1500

        [Network]
        DHCP=ipv4
        ");
    }
}
