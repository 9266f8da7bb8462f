//! Changing networks.

use insta::assert_snapshot;
use reqwest::Method;

use crate::harness::TestServer;

/// Project `red` with instance `web` on its networks `net`, of both families and a device of its own,
/// and hosts `a`, which names no device, and `b`, which does.
async fn one_network() -> TestServer {
    let server = TestServer::start().await;
    server.done("/v1/projects", r#"{"name": "red"}"#).await;
    server.done("/v1/hosts", r#"{"name": "a"}"#).await;
    server.done("/v1/hosts", r#"{"name": "b", "vlan_interface": "eth1"}"#).await;
    let network = r#"{"name": "net", "cidr": "10.0.0.0/24", "cidr_v6": "fd00::/64", "project": "red",
        "bridge_interface": "eth2", "dns": ["192.0.2.1"], "dhcp_options": ["42,192.0.2.1"]}"#;
    server.done("/v1/networks", network).await;
    server.done("/v1/instances", r#"{"name": "web", "project": "red"}"#).await;
    server
}

async fn set(server: &TestServer, body: &str) -> serde_json::Value {
    server.done_as(Method::PATCH, "/v1/networks/net", body).await
}

#[tokio::test]
async fn what_is_given_is_changed_and_what_is_absent_stays() {
    let server = one_network().await;
    let all = r#"{"dns": ["192.0.2.53", "fd00::53"], "domain": "example.internal", "mtu": 1400,
        "dhcp_options": ["42,192.0.2.2", "option6:31,[fd00::1]"], "bridge_interface": "eth3"}"#;
    assert_snapshot!(server.raw(Method::PATCH, "/v1/networks/net", all).await, @r#"
    200 OK
    {
      "auto_assign": null,
      "bridge": "br100",
      "bridge_interface": "eth3",
      "created_at": "[time]",
      "dhcp_options": [
        "42,192.0.2.2",
        "option6:31,[fd00::1]"
      ],
      "dns": [
        "192.0.2.53",
        "fd00::53"
      ],
      "domain": "example.internal",
      "ether_types": [],
      "gateway_host": null,
      "id": "[id]",
      "ipv4": {
        "cidr": "10.0.0.0/24",
        "dhcp_start": "10.0.0.3",
        "free": 251,
        "gateway": "10.0.0.1",
        "total": 252,
        "used": 1,
        "vpn": "10.0.0.2"
      },
      "ipv6": {
        "cidr": "fd00::/64",
        "dhcp_start": "fd00::2",
        "free": 9007199254740991,
        "gateway": "fd00::1",
        "total": 9007199254740991,
        "used": 1,
        "vpn": null
      },
      "ipv6_mode": "dhcpv6",
      "mtu": 1400,
      "multi_host": true,
      "name": "net",
      "project": "red",
      "reserved": [],
      "share_address": true,
      "type": "vlan",
      "vlan": 100
    }
    "#);
    assert_snapshot!(server.raw(Method::PATCH, "/v1/networks/net", r#"{"mtu": 1450}"#).await, @r#"
    200 OK
    {
      "auto_assign": null,
      "bridge": "br100",
      "bridge_interface": "eth3",
      "created_at": "[time]",
      "dhcp_options": [
        "42,192.0.2.2",
        "option6:31,[fd00::1]"
      ],
      "dns": [
        "192.0.2.53",
        "fd00::53"
      ],
      "domain": "example.internal",
      "ether_types": [],
      "gateway_host": null,
      "id": "[id]",
      "ipv4": {
        "cidr": "10.0.0.0/24",
        "dhcp_start": "10.0.0.3",
        "free": 251,
        "gateway": "10.0.0.1",
        "total": 252,
        "used": 1,
        "vpn": "10.0.0.2"
      },
      "ipv6": {
        "cidr": "fd00::/64",
        "dhcp_start": "fd00::2",
        "free": 9007199254740991,
        "gateway": "fd00::1",
        "total": 9007199254740991,
        "used": 1,
        "vpn": null
      },
      "ipv6_mode": "dhcpv6",
      "mtu": 1450,
      "multi_host": true,
      "name": "net",
      "project": "red",
      "reserved": [],
      "share_address": true,
      "type": "vlan",
      "vlan": 100
    }
    "#);
    let none = r#"{"dns": [], "dhcp_options": [], "bridge_interface": ""}"#;
    let cleared = set(&server, none).await;
    assert_eq!(
        (&cleared["dns"], &cleared["dhcp_options"], &cleared["bridge_interface"], &cleared["mtu"]),
        (&serde_json::json!([]), &serde_json::json!([]), &serde_json::Value::Null, &1450.into())
    );
    assert_snapshot!(server.told("network.changed").await, @"
    network.changed of red: network `net` was changed: dns 192.0.2.1 → 192.0.2.53 and fd00::53, domain trestle.internal → example.internal, mtu 1500 → 1400, dhcp_options 42,192.0.2.1 → 42,192.0.2.2 and option6:31,[fd00::1], bridge_interface eth2 → eth3
    network.changed of red: network `net` was changed: mtu 1400 → 1450
    network.changed of red: network `net` was changed: dns 192.0.2.53 and fd00::53 → none, dhcp_options 42,192.0.2.2 and option6:31,[fd00::1] → none, bridge_interface eth3 → none
    ");
    server.stop().await;
}

#[tokio::test]
async fn the_same_again_is_no_change_and_no_event() {
    let server = one_network().await;
    let before = server.raw(Method::GET, "/v1/networks/net", "").await;
    let same = r#"{"dns": ["192.0.2.1"], "domain": "trestle.internal", "mtu": 1500,
        "dhcp_options": ["42,192.0.2.1"], "bridge_interface": "eth2"}"#;
    for body in [same, "{}"] {
        assert_eq!(server.raw(Method::PATCH, "/v1/networks/net", body).await, before);
    }
    assert_eq!(server.told("network.changed").await, "");
    server.stop().await;
}

#[tokio::test]
async fn everything_that_is_wrong_with_a_change_is_told() {
    let server = one_network().await;
    let patch = async |network: &str, body: &str| {
        server.refused_as(Method::PATCH, &format!("/v1/networks/{network}"), body).await
    };
    let wrong = r#"{"dns": ["192.0.2.1", "here"], "domain": "-", "mtu": 1000,
        "dhcp_options": ["3,192.0.2.1", "router"], "bridge_interface": "br100"}"#;
    assert_snapshot!(patch("net", wrong).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "6 things are wrong with the request",
        "problems": [
          {
            "code": "bad_address",
            "field": "dns[1]",
            "message": "`here` is not an IP address"
          },
          {
            "code": "bad_domain",
            "field": "domain",
            "message": "`-` is not a DNS domain: use labels of a-z, 0-9 and `-` joined by dots, 253 characters at most"
          },
          {
            "code": "bad_mtu",
            "field": "mtu",
            "message": "IPv6 needs an MTU of 1280 bytes at least, not 1000"
          },
          {
            "code": "bad_dhcp_option",
            "field": "dhcp_options[0]",
            "message": "DHCP option 3 is not to be set: the network's own addresses, names and MTU say what it is"
          },
          {
            "code": "bad_dhcp_option",
            "field": "dhcp_options[1]",
            "message": "`router` is not a DHCP option: write number,value such as 42,192.0.2.1, for DHCPv6 option6:number,value"
          },
          {
            "code": "bad_link_name",
            "field": "bridge_interface",
            "message": "a bridge cannot lead out by itself"
          }
        ]
      }
    }
    "#);
    server
        .done("/v1/networks", r#"{"name": "lan", "type": "flat", "bridge": "br-lan", "cidr": "10.9.0.0/24"}"#)
        .await;
    let not_flat = r#"{"dhcp_options": ["option6:31,[fd00::1]"], "bridge_interface": "eth1", "mtu": 100}"#;
    assert_snapshot!(patch("lan", not_flat).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "4 things are wrong with the request",
        "problems": [
          {
            "code": "bad_mtu",
            "field": "mtu",
            "message": "an MTU of 100 bytes is not possible: use 576 to 9216"
          },
          {
            "code": "not_possible",
            "field": "dhcp_options",
            "message": "a network of type `flat` has no DHCP"
          },
          {
            "code": "not_possible",
            "field": "dhcp_options[0]",
            "message": "the network has no IPv6 range"
          },
          {
            "code": "not_possible",
            "field": "bridge_interface",
            "message": "the bridge of a network of type `flat` is the administrator's: Trestle puts no device into it"
          }
        ]
      }
    }
    "#);
    assert_snapshot!(patch("nowhere", r#"{"mtu": 1400}"#).await, @r#"
    404 Not Found
    {
      "error": {
        "code": "not_found",
        "message": "no network `nowhere`"
      }
    }
    "#);
    assert_snapshot!(patch("net", r#"{"vlan": 7}"#).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "malformed",
        "message": "the body cannot be read: unknown field `vlan`, expected one of `dns`, `domain`, `mtu`, `dhcp_options`, `ether_types`, `bridge_interface`, `auto_assign` at line 1 column 7"
      }
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn changing_a_network_is_for_admins() {
    let server = one_network().await;
    let member = server.client(&server.member_token("red").await);
    let patch = trestle_api::NetworkPatch { mtu: Some(1400), ..Default::default() };
    assert_snapshot!(crate::harness::refused(member.patch_network("net", &patch).await), @r#"
    403 {
      "code": "forbidden",
      "message": "changing a network is for admins"
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn the_device_of_a_network_stays_where_the_network_stands() {
    let server = one_network().await;
    let device = r#"{"bridge_interface": "eth3"}"#;
    server.done("/v1/instances/web/attach", r#"{"host": "a"}"#).await;
    assert_snapshot!(server.refused_as(Method::PATCH, "/v1/networks/net", device).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "in_use",
        "hint": "detach its instances first: `trestle instance list --network net` shows them",
        "message": "the device of network `net` cannot be changed while the network stands on host `a`"
      }
    }
    "#);
    // What guests are told can be changed all the same.
    assert_eq!(set(&server, r#"{"mtu": 1400}"#).await["mtu"], 1400);
    server.done("/v1/instances/web/detach", "").await;
    // The host's own device wins, so the network's is not used there.
    server.done("/v1/instances/web/attach", r#"{"host": "b"}"#).await;
    assert_eq!(set(&server, device).await["bridge_interface"], "eth3");
    server.stop().await;
}

#[tokio::test]
async fn hosts_that_are_connected_have_followed_when_a_change_is_answered() {
    let server = one_network().await;
    let _b = server.play_agent("b", Vec::new()).await;
    server.done("/v1/instances/web/attach", r#"{"host": "b"}"#).await;
    set(&server, r#"{"dns": ["192.0.2.53"], "domain": "example.internal", "mtu": 1400}"#).await;
    let status = server.admin.host("b").await.unwrap().status;
    assert_eq!(status.generation_applied, status.generation_wanted);
    let whole = server.admin.spec("b", &Default::default()).await.unwrap().unwrap();
    let told: Vec<String> = whole
        .put
        .iter()
        .map(|(key, object)| format!("{key} {}", serde_json::to_string(object).unwrap()))
        .filter(|line| ["192.0.2.53", "example.internal", "1400"].iter().any(|mark| line.contains(mark)))
        .map(|line| line.split(' ').next().unwrap_or_default().to_owned())
        .collect();
    let devices = told.iter().filter(|key| key.starts_with("link/")).count();
    assert_eq!(devices, 3, "the bridge, the VLAN and the instance's: {told:?}");
    assert!(told.iter().any(|key| key == "dnsmasq/net"), "{told:?}");
    assert!(told.iter().any(|key| key.contains("web.example.internal")), "{told:?}");
    server.stop().await;
}

#[tokio::test]
async fn what_new_interfaces_get_by_themselves_is_changed_too() {
    let server = one_network().await;
    server.done("/v1/pools", r#"{"name": "ext", "ranges": ["203.0.113.1-203.0.113.9"]}"#).await;
    assert_eq!(set(&server, r#"{"auto_assign": "ext"}"#).await["auto_assign"], "ext");
    let db = server.done("/v1/instances", r#"{"name": "db", "project": "red"}"#).await;
    assert_eq!(db["interfaces"][0]["floating_ips"], serde_json::json!(["203.0.113.1"]));
    assert_eq!(set(&server, r#"{"auto_assign": ""}"#).await["auto_assign"], serde_json::Value::Null);
    let bare = server.done("/v1/instances", r#"{"name": "bare", "project": "red"}"#).await;
    assert_eq!(bare["interfaces"][0]["floating_ips"], serde_json::json!([]));
    let flat = r#"{"name": "flat", "type": "flat", "cidr": "10.9.0.0/24", "bridge": "br9"}"#;
    server.done("/v1/networks", flat).await;
    assert_snapshot!(server.refused_as(Method::PATCH, "/v1/networks/flat", r#"{"auto_assign": "ext"}"#).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "auto_assign: Trestle does not route for a network of type `flat`",
        "problems": [
          {
            "code": "not_possible",
            "field": "auto_assign",
            "message": "Trestle does not route for a network of type `flat`"
          }
        ]
      }
    }
    "#);
    assert_snapshot!(server.refused_as(Method::PATCH, "/v1/networks/net", r#"{"auto_assign": "none"}"#).await, @r#"
    404 Not Found
    {
      "error": {
        "code": "not_found",
        "message": "no pool `none`"
      }
    }
    "#);
    server.stop().await;
}
