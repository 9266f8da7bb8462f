//! Making networks: one or several, of three types and both families; all of them or none.

use insta::assert_snapshot;
use reqwest::Method;
use serde_json::Value;

use crate::harness::TestServer;

/// Name, VLAN, bridge and ranges of each network of a list.
fn carved(answer: &Value) -> String {
    let line = |network: &Value| {
        let vlan = network["vlan"].as_u64().map_or("-".to_owned(), |vlan| vlan.to_string());
        let range = |family: &str| network[family]["cidr"].as_str().unwrap_or("-").to_owned();
        let text = |field: &str| network[field].as_str().unwrap_or("-").to_owned();
        format!("{} {vlan} {} {} {}", text("name"), text("bridge"), range("ipv4"), range("ipv6"))
    };
    answer["items"].as_array().unwrap().iter().map(line).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn several_networks_are_carved_from_one_range_around_what_is_there() {
    let server = TestServer::start().await;
    server.done("/v1/networks", r#"{"name": "public", "type": "flat_dhcp", "cidr": "10.0.1.0/24"}"#).await;
    server.done("/v1/networks", r#"{"name": "old", "cidr": "10.9.0.0/24", "vlan": 102}"#).await;
    let many = r#"{"name": "net", "cidr": "10.0.0.0/16", "cidr_v6": "fd00::/48", "num_networks": 4}"#;
    // The bridge of the Flat DHCP network is called br100, so VLAN 100 is passed over.
    assert_snapshot!(carved(&server.done("/v1/networks", many).await), @"
    net-0 101 br101 10.0.0.0/24 fd00::/64
    net-1 103 br103 10.0.2.0/24 fd00:0:0:1::/64
    net-2 104 br104 10.0.3.0/24 fd00:0:0:2::/64
    net-3 105 br105 10.0.4.0/24 fd00:0:0:3::/64
    ");
    let large = r#"{"name": "large", "cidr": "10.1.0.0/22", "num_networks": 3, "network_size": 100, "vlan_start": 4000}"#;
    assert_snapshot!(carved(&server.done("/v1/networks", large).await), @"
    large-0 4000 br4000 10.1.0.0/25 -
    large-1 4001 br4001 10.1.0.128/25 -
    large-2 4002 br4002 10.1.1.0/25 -
    ");
    // No size: as large as fits.
    let few = r#"{"name": "few", "cidr": "10.2.0.0/24", "num_networks": 3, "vlan_start": 4000}"#;
    assert_snapshot!(carved(&server.done("/v1/networks", few).await), @"
    few-0 4003 br4003 10.2.0.0/26 -
    few-1 4004 br4004 10.2.0.64/26 -
    few-2 4005 br4005 10.2.0.128/26 -
    ");
    let next = r#"{"name": "next", "cidr": "10.2.0.0/24", "network_size": 16, "vlan_start": 4000}"#;
    assert_snapshot!(carved(&server.done("/v1/networks", next).await), @"next 4006 br4006 10.2.0.192/28 -");
    assert_snapshot!(server.told("network.created").await, @"
    network.created: network `public` was made with 10.0.1.0/24
    network.created: network `old` was made with 10.9.0.0/24
    network.created: network `net-0` was made with 10.0.0.0/24 and fd00::/64
    network.created: network `net-1` was made with 10.0.2.0/24 and fd00:0:0:1::/64
    network.created: network `net-2` was made with 10.0.3.0/24 and fd00:0:0:2::/64
    network.created: network `net-3` was made with 10.0.4.0/24 and fd00:0:0:3::/64
    network.created: network `large-0` was made with 10.1.0.0/25
    network.created: network `large-1` was made with 10.1.0.128/25
    network.created: network `large-2` was made with 10.1.1.0/25
    network.created: network `few-0` was made with 10.2.0.0/26
    network.created: network `few-1` was made with 10.2.0.64/26
    network.created: network `few-2` was made with 10.2.0.128/26
    network.created: network `next` was made with 10.2.0.192/28
    ");
    server.stop().await;
}

#[tokio::test]
async fn each_type_and_family_has_what_it_needs() {
    let server = TestServer::start().await;
    let vlan = r#"{"name": "tenant", "cidr": "10.0.0.0/24", "cidr_v6": "fd00:1::/64", "ipv6_mode": "slaac", "vlan": 7, "mtu": 1400,
        "dns": ["192.0.2.53", "2001:db8::53"], "dhcp_options": ["42,192.0.2.1"], "reserved": ["10.0.0.100-10.0.0.120"],
        "allowed_start": "10.0.0.10", "allowed_end": "10.0.0.200", "share_address": false, "bridge_interface": "eth5"}"#;
    assert_snapshot!(server.raw(Method::POST, "/v1/networks", vlan).await, @r#"
    201 Created
    {
      "items": [
        {
          "auto_assign": null,
          "bridge": "br7",
          "bridge_interface": "eth5",
          "created_at": "[time]",
          "dhcp_options": [
            "42,192.0.2.1"
          ],
          "dns": [
            "192.0.2.53",
            "2001:db8::53"
          ],
          "domain": "trestle.internal",
          "ether_types": [],
          "gateway_host": null,
          "id": "[id]",
          "ipv4": {
            "cidr": "10.0.0.0/24",
            "dhcp_start": "10.0.0.12",
            "free": 168,
            "gateway": "10.0.0.10",
            "total": 168,
            "used": 0,
            "vpn": "10.0.0.11"
          },
          "ipv6": {
            "cidr": "fd00:1::/64",
            "dhcp_start": "fd00:1::2",
            "free": 9007199254740991,
            "gateway": "fd00:1::1",
            "total": 9007199254740991,
            "used": 0,
            "vpn": null
          },
          "ipv6_mode": "slaac",
          "mtu": 1400,
          "multi_host": true,
          "name": "tenant",
          "project": null,
          "reserved": [
            {
              "range": "10.0.0.100-10.0.0.120",
              "reason": ""
            }
          ],
          "share_address": false,
          "type": "vlan",
          "vlan": 7
        }
      ]
    }
    "#);
    let flat = r#"{"name": "site", "type": "flat", "cidr_v6": "2001:db8::/64", "gateway_v6": "none", "bridge": "br-site"}"#;
    assert_snapshot!(server.raw(Method::POST, "/v1/networks", flat).await, @r#"
    201 Created
    {
      "items": [
        {
          "auto_assign": null,
          "bridge": "br-site",
          "bridge_interface": null,
          "created_at": "[time]",
          "dhcp_options": [],
          "dns": [],
          "domain": "trestle.internal",
          "ether_types": [],
          "gateway_host": null,
          "id": "[id]",
          "ipv4": null,
          "ipv6": {
            "cidr": "2001:db8::/64",
            "dhcp_start": "2001:db8::1",
            "free": 9007199254740991,
            "gateway": null,
            "total": 9007199254740991,
            "used": 0,
            "vpn": null
          },
          "ipv6_mode": "dhcpv6",
          "mtu": 1500,
          "multi_host": false,
          "name": "site",
          "project": null,
          "reserved": [],
          "share_address": false,
          "type": "flat",
          "vlan": null
        }
      ]
    }
    "#);
    let single = r#"{"name": "one", "type": "flat_dhcp", "cidr": "10.2.0.0/24", "gateway": "10.2.0.254", "multi_host": false}"#;
    let single = server.done("/v1/networks", single).await;
    assert_eq!(
        (&single["items"][0]["multi_host"], &single["items"][0]["share_address"]),
        (&false.into(), &false.into())
    );
    assert_eq!(single["items"][0]["ipv4"]["gateway"], "10.2.0.254");
    server.stop().await;
}

#[tokio::test]
async fn four_thousand_networks_are_made_in_one_call() {
    let server = TestServer::start().await;
    let all = r#"{"name": "net", "cidr": "10.0.0.0/8", "num_networks": 3995, "network_size": 256}"#;
    let made = server.done("/v1/networks", all).await;
    let items = made["items"].as_array().unwrap();
    assert_eq!((items.len(), &items[3994]["vlan"]), (3995, &4094.into()));
    assert_snapshot!(server.refused("/v1/networks", r#"{"name": "more", "cidr": "172.16.0.0/24"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "vlan_range_full",
        "hint": "begin lower with `vlan_start`, or delete networks that are not needed",
        "message": "of the VLAN ids 100 to 4094, 0 are free and 1 are needed",
        "problems": [
          {
            "code": "vlan_range_full",
            "field": "vlan_start",
            "message": "of the VLAN ids 100 to 4094, 0 are free and 1 are needed"
          }
        ]
      }
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn everything_that_is_wrong_with_several_networks_is_listed() {
    let server = TestServer::start().await;
    let all = r#"{"name": "net", "cidr": "10.0.0.0/24", "num_networks": 2, "vlan": 5000, "bridge": "br7", "gateway": "10.0.0.1",
        "gateway_v6": "fd00::1", "allowed_start": "10.0.0.1", "allowed_end": "fd00::9", "dhcp_start": "x", "reserved": ["10.0.0.1-x"],
        "network_size": 1024, "ipv6_mode": "magic", "mtu": 10, "dns": ["x"], "dhcp_options": ["3,10.0.0.1"], "domain": "-",
        "gateway_host": "host1"}"#;
    assert_snapshot!(server.refused("/v1/networks", all).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "21 things are wrong with the request",
        "problems": [
          {
            "code": "not_possible",
            "field": "vlan",
            "message": "not possible with several networks, each of which has its own"
          },
          {
            "code": "not_possible",
            "field": "bridge",
            "message": "not possible with several networks, each of which has its own"
          },
          {
            "code": "not_possible",
            "field": "gateway",
            "message": "not possible with several networks, each of which has its own"
          },
          {
            "code": "not_possible",
            "field": "gateway_v6",
            "message": "not possible with several networks, each of which has its own"
          },
          {
            "code": "not_possible",
            "field": "allowed_start",
            "message": "not possible with several networks, each of which has its own"
          },
          {
            "code": "not_possible",
            "field": "allowed_end",
            "message": "not possible with several networks, each of which has its own"
          },
          {
            "code": "not_possible",
            "field": "dhcp_start",
            "message": "not possible with several networks, each of which has its own"
          },
          {
            "code": "not_possible",
            "field": "reserved",
            "message": "not possible with several networks, each of which has its own"
          },
          {
            "code": "not_possible",
            "field": "gateway_v6",
            "message": "the network has no IPv6 range (`cidr_v6`)"
          },
          {
            "code": "wrong_family",
            "field": "allowed_end",
            "message": "fd00::9 is not an IPv4 address"
          },
          {
            "code": "bad_address",
            "field": "dhcp_start",
            "message": "`x` is not an IP address"
          },
          {
            "code": "does_not_fit",
            "field": "network_size",
            "message": "networks of /22 do not fit into 10.0.0.0/24"
          },
          {
            "code": "not_possible",
            "field": "ipv6_mode",
            "message": "the network has no IPv6 range (`cidr_v6`)"
          },
          {
            "code": "unknown_mode",
            "field": "ipv6_mode",
            "message": "`magic` is not a way to IPv6 addresses; there are `dhcpv6` and `slaac`"
          },
          {
            "code": "bad_range",
            "field": "reserved[0]",
            "message": "`10.0.0.1-x` is not a range of addresses: write it as 10.0.0.5-10.0.0.9, 10.0.0.5 or 10.0.0.0/29"
          },
          {
            "code": "bad_vlan",
            "field": "vlan",
            "message": "5000 is not a VLAN id: use 1 to 4094"
          },
          {
            "code": "not_possible",
            "field": "gateway_host",
            "message": "only a single-host network has one gateway host: give `multi_host` false too"
          },
          {
            "code": "bad_address",
            "field": "dns[0]",
            "message": "`x` is not an IP address"
          },
          {
            "code": "bad_domain",
            "field": "domain",
            "message": "`-` is not a DNS domain: use labels of a-z, 0-9 and `-` joined by dots, 253 characters at most"
          },
          {
            "code": "bad_mtu",
            "field": "mtu",
            "message": "an MTU of 10 bytes is not possible: use 576 to 9216"
          },
          {
            "code": "bad_dhcp_option",
            "field": "dhcp_options[0]",
            "message": "DHCP option 3 is not to be set: the network's own addresses, names and MTU say what it is"
          }
        ]
      }
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn what_a_type_does_not_have_cannot_be_asked_of_it() {
    let server = TestServer::start().await;
    let flat = r#"{"name": "site", "type": "flat", "cidr": "10.0.0.0/24", "multi_host": true, "share_address": true, "gateway_host": "h",
        "dhcp_options": ["42,192.0.2.1"], "bridge_interface": "eth1", "vlan": 5, "num_networks": 2}"#;
    assert_snapshot!(server.refused("/v1/networks", flat).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "8 things are wrong with the request",
        "problems": [
          {
            "code": "not_possible",
            "field": "vlan",
            "message": "not possible with several networks, each of which has its own"
          },
          {
            "code": "not_possible",
            "field": "vlan",
            "message": "only networks of type `vlan` have a VLAN id"
          },
          {
            "code": "not_possible",
            "field": "num_networks",
            "message": "only networks of type `vlan` are made several at once: others need a bridge named for each"
          },
          {
            "code": "not_possible",
            "field": "multi_host",
            "message": "Trestle does not route for a network of type `flat`"
          },
          {
            "code": "not_possible",
            "field": "share_address",
            "message": "Trestle does not route for a network of type `flat`"
          },
          {
            "code": "not_possible",
            "field": "gateway_host",
            "message": "Trestle does not route for a network of type `flat`"
          },
          {
            "code": "not_possible",
            "field": "bridge_interface",
            "message": "the bridge of a network of type `flat` is the administrator's: Trestle puts no device into it"
          },
          {
            "code": "not_possible",
            "field": "dhcp_options",
            "message": "a network of type `flat` has no DHCP"
          }
        ]
      }
    }
    "#);
    let dhcp = r#"{"name": "site", "type": "flat_dhcp", "cidr_v6": "fd00::/80", "gateway_v6": "none", "ipv6_mode": "slaac", "mtu": 1000,
        "vlan_start": 7, "bridge": "vlan7", "dhcp_options": ["42,192.0.2.1"], "gateway": "10.0.0.1", "multi_host": false, "share_address": true}"#;
    assert_snapshot!(server.refused("/v1/networks", dhcp).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "8 things are wrong with the request",
        "problems": [
          {
            "code": "not_possible",
            "field": "gateway",
            "message": "the network has no IPv4 range (`cidr`)"
          },
          {
            "code": "bad_size",
            "field": "cidr_v6",
            "message": "guests make addresses of a /64 only, not of fd00::/80"
          },
          {
            "code": "not_possible",
            "field": "share_address",
            "message": "only a multi-host network has several gateways: give `multi_host` true too"
          },
          {
            "code": "not_possible",
            "field": "vlan_start",
            "message": "only networks of type `vlan` have a VLAN id"
          },
          {
            "code": "not_possible",
            "field": "gateway_v6",
            "message": "only a network of type `flat` can do without a gateway"
          },
          {
            "code": "bad_link_name",
            "field": "bridge",
            "message": "`vlan7` is what the device of that VLAN is called"
          },
          {
            "code": "bad_mtu",
            "field": "mtu",
            "message": "IPv6 needs an MTU of 1280 bytes at least, not 1000"
          },
          {
            "code": "not_possible",
            "field": "dhcp_options[0]",
            "message": "the network has no IPv4 range"
          }
        ]
      }
    }
    "#);
    let vlan = r#"{"name": "site", "type": "vlan", "cidr_v6": "10.0.0.0/24"}"#;
    assert_snapshot!(server.refused("/v1/networks", vlan).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "2 things are wrong with the request",
        "problems": [
          {
            "code": "required",
            "field": "cidr",
            "message": "a network of type `vlan` needs an IPv4 range, such as 10.0.0.0/24"
          },
          {
            "code": "wrong_family",
            "field": "cidr_v6",
            "message": "10.0.0.0/24 is not an IPv6 range"
          }
        ]
      }
    }
    "#);
    assert_snapshot!(server.refused("/v1/networks", r#"{"name": "site", "type": "vxlan"}"#).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "2 things are wrong with the request",
        "problems": [
          {
            "code": "unknown_type",
            "field": "type",
            "message": "`vxlan` is not a type of network; there are `vlan`, `flat_dhcp` and `flat`"
          },
          {
            "code": "required",
            "field": "cidr",
            "message": "a range is needed, such as 10.0.0.0/24"
          }
        ]
      }
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn a_vlan_id_out_of_range_or_taken_is_refused() {
    let server = TestServer::start().await;
    server.done("/v1/networks", r#"{"name": "a", "cidr": "10.0.0.0/24", "vlan": 100}"#).await;
    let out = r#"{"name": "b", "cidr": "10.1.0.0/24", "vlan": 4095}"#;
    assert_snapshot!(server.refused("/v1/networks", out).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "vlan: 4095 is not a VLAN id: use 1 to 4094",
        "problems": [
          {
            "code": "bad_vlan",
            "field": "vlan",
            "message": "4095 is not a VLAN id: use 1 to 4094"
          }
        ]
      }
    }
    "#);
    let taken = r#"{"name": "b", "cidr": "10.1.0.0/24", "vlan": 100, "bridge": "br-b"}"#;
    assert_snapshot!(server.refused("/v1/networks", taken).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "vlan_taken",
        "hint": "leave `vlan` out to have the lowest free one",
        "message": "VLAN 100 is that of network `a`",
        "problems": [
          {
            "code": "vlan_taken",
            "field": "vlan",
            "message": "VLAN 100 is that of network `a`"
          }
        ]
      }
    }
    "#);
    let full = r#"{"name": "b", "cidr": "10.1.0.0/16", "vlan_start": 4090, "num_networks": 6}"#;
    assert_snapshot!(server.refused("/v1/networks", full).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "vlan_range_full",
        "hint": "begin lower with `vlan_start`, or delete networks that are not needed",
        "message": "of the VLAN ids 4090 to 4094, 5 are free and 6 are needed",
        "problems": [
          {
            "code": "vlan_range_full",
            "field": "vlan_start",
            "message": "of the VLAN ids 4090 to 4094, 5 are free and 6 are needed"
          }
        ]
      }
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn a_count_that_does_not_fit_is_refused() {
    let server = TestServer::start().await;
    let never = r#"{"name": "net", "cidr": "10.0.0.0/24", "num_networks": 5, "network_size": 64}"#;
    assert_snapshot!(server.refused("/v1/networks", never).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "num_networks: 10.0.0.0/24 has room for 4 more networks of /26, not for 5",
        "problems": [
          {
            "code": "does_not_fit",
            "field": "num_networks",
            "message": "10.0.0.0/24 has room for 4 more networks of /26, not for 5"
          }
        ]
      }
    }
    "#);
    server.done("/v1/networks", r#"{"name": "a", "cidr": "10.0.0.64/27"}"#).await;
    let now = r#"{"name": "net", "cidr": "10.0.0.0/24", "num_networks": 4, "network_size": 64}"#;
    assert_snapshot!(server.refused("/v1/networks", now).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "does_not_fit",
        "hint": "give a larger range, smaller networks or fewer of them",
        "message": "10.0.0.0/24 has room for 3 more networks of /26, not for 4",
        "problems": [
          {
            "code": "does_not_fit",
            "field": "cidr",
            "message": "10.0.0.0/24 has room for 3 more networks of /26, not for 4"
          }
        ]
      }
    }
    "#);
    let tiny = r#"{"name": "net", "cidr": "10.0.0.0/24", "num_networks": 200}"#;
    assert_snapshot!(server.refused("/v1/networks", tiny).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "num_networks: 10.0.0.0/24 has no room for 200 networks: the smallest has 4 addresses",
        "problems": [
          {
            "code": "does_not_fit",
            "field": "num_networks",
            "message": "10.0.0.0/24 has no room for 200 networks: the smallest has 4 addresses"
          }
        ]
      }
    }
    "#);
    let none = r#"{"name": "net", "cidr": "10.0.0.0/24", "num_networks": 0}"#;
    assert_snapshot!(server.refused("/v1/networks", none).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "num_networks: 0 networks cannot be made at once: use 1 to 4094",
        "problems": [
          {
            "code": "bad_count",
            "field": "num_networks",
            "message": "0 networks cannot be made at once: use 1 to 4094"
          }
        ]
      }
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn whatever_is_in_the_way_is_listed_at_once() {
    let server = TestServer::start().await;
    server
        .done("/v1/networks", r#"{"name": "a", "cidr": "10.0.0.0/24", "cidr_v6": "fd00::/64", "vlan": 100}"#)
        .await;
    let same = r#"{"name": "a", "cidr": "10.0.0.0/16", "cidr_v6": "fd00::/64", "vlan": 100}"#;
    assert_snapshot!(server.refused("/v1/networks", same).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "name_taken",
        "message": "there is a network `a` already",
        "problems": [
          {
            "code": "name_taken",
            "field": "name",
            "message": "there is a network `a` already"
          },
          {
            "code": "vlan_taken",
            "field": "vlan",
            "message": "VLAN 100 is that of network `a`"
          },
          {
            "code": "network_overlap",
            "field": "cidr",
            "message": "10.0.0.0/16 overlaps with network `a`, which has 10.0.0.0/24"
          },
          {
            "code": "network_overlap",
            "field": "cidr_v6",
            "message": "fd00::/64 overlaps with network `a`, which has fd00::/64"
          }
        ]
      }
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn a_network_in_use_is_not_deleted() {
    let server = TestServer::start().await;
    server.furnish().await;
    assert_snapshot!(server.refused_as(Method::DELETE, "/v1/networks/cellar", "").await, @r#"
    409 Conflict
    {
      "error": {
        "code": "in_use",
        "hint": "take each out with `trestle instance remove-interface INSTANCE cellar`, or delete it with `trestle instance delete INSTANCE`",
        "message": "network `cellar` still has instance `web`"
      }
    }
    "#);
    server.done_as(Method::DELETE, "/v1/instances/web?project=blue", "").await;
    server.done_as(Method::DELETE, "/v1/networks/cellar", "").await;
    assert_snapshot!(server.told("network.deleted").await, @"network.deleted of blue: network `cellar` of project `blue` was deleted");
    server.stop().await;
}
