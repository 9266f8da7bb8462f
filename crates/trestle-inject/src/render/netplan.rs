//! netplan(5). Version 2 of cloud-init's network configuration is the same language, so its text
//! is made here too.

use std::fmt::Write;

use super::{File, MARK};
use crate::guest::{Addressing, GuestNetwork, Link, StaticAddresses};

/// Where it is.
pub(crate) const PATH: &str = "etc/netplan/90-trestle.yaml";

/// Who reads the text.
#[derive(Clone, Copy)]
pub(super) enum Reader {
    /// An interface's id means nothing to it, but it makes a file for networkd of it, the first of
    /// which counts by name: so the id sorts before the `all-en` of Debian's images.
    Netplan,
    /// When it translates for another program it knows no interface without a name, and of a
    /// route to `::/0` it makes one to `::/64` (seen in 22.4).
    CloudInit,
}

pub(super) fn files(network: &GuestNetwork) -> Vec<File> {
    // netplan complains of what others can read.
    vec![File {
        mode: 0o600,
        ..File::new(PATH, format!("# {MARK}\nnetwork:\n{}", text(network, Reader::Netplan)))
    }]
}

/// What is below `network:`.
pub(super) fn text(network: &GuestNetwork, reader: Reader) -> String {
    let mut text = String::from("  version: 2\n  ethernets:\n");
    for link in network.links() {
        match reader {
            Reader::Netplan => {
                let _ = writeln!(text, "    00-trestle-{}:", link.label());
            }
            Reader::CloudInit => {
                let _ = writeln!(text, "    {0}:\n      set-name: {0}", link.name);
            }
        }
        let _ = writeln!(text, "      match:\n        macaddress: \"{}\"", link.mac());
        let _ = writeln!(text, "      mtu: {}", link.mtu());
        match link.addressing() {
            Addressing::Dhcp => text += "      dhcp4: true\n",
            Addressing::Static(addresses) => text += &static_addresses(&link, addresses, reader),
        }
    }
    text
}

fn static_addresses(link: &Link<'_>, addresses: &StaticAddresses, reader: Reader) -> String {
    // An address that the guest makes itself would not pass the guard.
    let mut text = String::from("      dhcp4: false\n      dhcp6: false\n      accept-ra: false\n");
    text += &list(6, "addresses", &addresses.addresses);
    text += &match reader {
        Reader::Netplan => routes(link),
        Reader::CloudInit => gateways(link),
    };
    if !addresses.dns.is_empty() || addresses.domain.is_some() {
        text += "      nameservers:\n";
        text += &list(8, "addresses", &addresses.dns);
        text += &list(8, "search", addresses.domain.as_slice());
    }
    text
}

fn routes(link: &Link<'_>) -> String {
    let mut text = String::new();
    if !link.gateways.is_empty() {
        text += "      routes:\n";
    }
    for gateway in &link.gateways {
        let everywhere = if gateway.is_ipv6() { "::/0" } else { "0.0.0.0/0" };
        let _ = writeln!(text, "        - to: \"{everywhere}\"\n          via: \"{gateway}\"");
    }
    text
}

fn gateways(link: &Link<'_>) -> String {
    let mut text = String::new();
    for gateway in &link.gateways {
        let family = if gateway.is_ipv6() { 6 } else { 4 };
        let _ = writeln!(text, "      gateway{family}: \"{gateway}\"");
    }
    text
}

fn list<T: std::fmt::Display>(indent: usize, key: &str, values: &[T]) -> String {
    let mut text = String::new();
    if !values.is_empty() {
        let _ = writeln!(text, "{:indent$}{key}:", "");
    }
    for value in values {
        let _ = writeln!(text, "{:indent$}  - \"{value}\"", "");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::files;
    use crate::guest::tests::web1;
    use crate::render::tests::shown;

    #[test]
    fn netplan() {
        insta::assert_snapshot!(shown(&files(&web1())), @r#"
        === etc/netplan/90-trestle.yaml 600
        # written by trestle inject
        network:
          version: 2
          ethernets:
            00-trestle-fa163e000001:
              match:
                macaddress: "fa:16:3e:00:00:01"
              mtu: 1450
              dhcp4: false
              dhcp6: false
              accept-ra: false
              addresses:
                - "10.0.0.5/24"
                - "10.0.0.6/24"
                - "2001:db8::5/64"
              routes:
                - to: "0.0.0.0/0"
                  via: "10.0.0.1"
                - to: "::/0"
                  via: "2001:db8::1"
              nameservers:
                addresses:
                  - "10.0.0.53"
                  - "2001:db8::53"
                search:
                  - "trestle.internal"
            00-trestle-fa163e000002:
              match:
                macaddress: "fa:16:3e:00:00:02"
              mtu: 1500
              dhcp4: false
              dhcp6: false
              accept-ra: false
              addresses:
                - "192.168.7.2/31"
            00-trestle-fa163e000003:
              match:
                macaddress: "fa:16:3e:00:00:03"
              mtu: 1500
              dhcp4: true
        "#);
    }
}
