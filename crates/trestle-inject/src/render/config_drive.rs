//! What is on a ConfigDrive: OpenStack's `meta_data.json` and `network_data.json`
//! (docs.openstack.org/nova, "Metadata"; reference IN-2), which cloud-init and cloudbase-init read.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_json::{Value, json};

use super::File;
use crate::guest::{Addressing, GuestNetwork, Link};

pub(crate) fn files(network: &GuestNetwork) -> Vec<File> {
    let name = network.hostname.as_str();
    let meta_data = json!({ "uuid": network.id, "name": name, "hostname": name });
    let file =
        |name: &str, value: &Value| File::new(format!("openstack/latest/{name}"), format!("{value:#}\n"));
    vec![file("meta_data.json", &meta_data), file("network_data.json", &network_data(network))]
}

fn network_data(network: &GuestNetwork) -> Value {
    let links = network.links();
    let mut networks: Vec<Value> = links.iter().flat_map(networks_of).collect();
    for (number, network) in networks.iter_mut().enumerate() {
        network["id"] = json!(format!("network{number}"));
    }
    let services: Vec<Value> = links.iter().flat_map(services_of).collect();
    let links: Vec<Value> = links.iter().map(physical).collect();
    json!({ "links": links, "networks": networks, "services": services })
}

fn physical(link: &Link<'_>) -> Value {
    json!({ "id": link.name, "type": "phy", "ethernet_mac_address": link.mac(), "mtu": link.mtu() })
}

fn networks_of(link: &Link<'_>) -> Vec<Value> {
    let Addressing::Static(addresses) = link.addressing() else {
        return vec![json!({ "link": link.name, "type": "ipv4_dhcp" })];
    };
    let mut networks: Vec<Value> =
        addresses.addresses.iter().map(|address| network_of(link, address)).collect();
    // A family's default route is with its first address.
    for gateway in &link.gateways {
        let family = json!(family(*gateway));
        if let Some(network) = networks.iter_mut().find(|network| network["type"] == family) {
            network["routes"] = json!([route(*gateway)]);
        }
    }
    networks
}

fn network_of(link: &Link<'_>, address: &IpNet) -> Value {
    json!({
        "link": link.name,
        "type": family(address.addr()),
        "ip_address": address.addr(),
        "netmask": address.netmask(),
        "routes": [],
    })
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv6() { "ipv6" } else { "ipv4" }
}

fn route(gateway: IpAddr) -> Value {
    let everywhere =
        if gateway.is_ipv6() { IpNet::V6(Ipv6Net::default()) } else { IpNet::V4(Ipv4Net::default()) };
    json!({ "network": everywhere.addr(), "netmask": everywhere.netmask(), "gateway": gateway })
}

fn services_of(link: &Link<'_>) -> Vec<Value> {
    match link.addressing() {
        Addressing::Dhcp => Vec::new(),
        Addressing::Static(addresses) => {
            addresses.dns.iter().map(|server| json!({ "type": "dns", "address": server })).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::files;
    use crate::guest::tests::web1;
    use crate::render::tests::shown;

    #[test]
    fn config_drive() {
        insta::assert_snapshot!(shown(&files(&web1())), @r#"
        === openstack/latest/meta_data.json 644
        {
          "hostname": "web1",
          "name": "web1",
          "uuid": "0198f0d2-6d5c-7c1e-9a53-5b0c6f3d2e1a"
        }
        === openstack/latest/network_data.json 644
        {
          "links": [
            {
              "ethernet_mac_address": "fa:16:3e:00:00:01",
              "id": "eth0",
              "mtu": 1450,
              "type": "phy"
            },
            {
              "ethernet_mac_address": "fa:16:3e:00:00:02",
              "id": "eth1",
              "mtu": 1500,
              "type": "phy"
            },
            {
              "ethernet_mac_address": "fa:16:3e:00:00:03",
              "id": "eth2",
              "mtu": 1500,
              "type": "phy"
            }
          ],
          "networks": [
            {
              "id": "network0",
              "ip_address": "10.0.0.5",
              "link": "eth0",
              "netmask": "255.255.255.0",
              "routes": [
                {
                  "gateway": "10.0.0.1",
                  "netmask": "0.0.0.0",
                  "network": "0.0.0.0"
                }
              ],
              "type": "ipv4"
            },
            {
              "id": "network1",
              "ip_address": "10.0.0.6",
              "link": "eth0",
              "netmask": "255.255.255.0",
              "routes": [],
              "type": "ipv4"
            },
            {
              "id": "network2",
              "ip_address": "2001:db8::5",
              "link": "eth0",
              "netmask": "ffff:ffff:ffff:ffff::",
              "routes": [
                {
                  "gateway": "2001:db8::1",
                  "netmask": "::",
                  "network": "::"
                }
              ],
              "type": "ipv6"
            },
            {
              "id": "network3",
              "ip_address": "192.168.7.2",
              "link": "eth1",
              "netmask": "255.255.255.254",
              "routes": [],
              "type": "ipv4"
            },
            {
              "id": "network4",
              "link": "eth2",
              "type": "ipv4_dhcp"
            }
          ],
          "services": [
            {
              "address": "10.0.0.53",
              "type": "dns"
            },
            {
              "address": "2001:db8::53",
              "type": "dns"
            }
          ]
        }
        "#);
    }
}
