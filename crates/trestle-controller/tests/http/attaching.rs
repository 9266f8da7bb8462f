//! What is refused before anything is asked of a host, and what an attach answers.

use insta::assert_snapshot;
use reqwest::Method;
use trestle_api::Feature;

use crate::harness::TestServer;

/// Project `red`, hosts `bare` without devices and `wired` with all, and the networks that the
/// JSON bodies say.
async fn with(networks: &[&str]) -> TestServer {
    let server = TestServer::start().await;
    server.done("/v1/projects", r#"{"name": "red"}"#).await;
    server.done("/v1/hosts", r#"{"name": "bare", "gateway": false}"#).await;
    let wired = r#"{"name": "wired", "flat_interface": "eth1", "vlan_interface": "eth2"}"#;
    server.done("/v1/hosts", wired).await;
    for network in networks {
        server.done("/v1/networks", network).await;
    }
    server
}

fn instance(name: &str, network: &str) -> String {
    format!(r#"{{"name": "{name}", "project": "red", "interfaces": [{{"network": "{network}"}}]}}"#)
}

#[tokio::test]
async fn a_host_whose_kernel_lacks_something_says_so_and_is_asked_for_nothing() {
    let server = with(&[
        r#"{"name": "tenant", "cidr": "10.0.0.0/24"}"#,
        r#"{"name": "six", "type": "flat_dhcp", "bridge": "br6", "cidr_v6": "fd00::/64"}"#,
    ])
    .await;
    server.done("/v1/instances", &instance("web", "tenant")).await;
    server.done("/v1/instances", &instance("db", "six")).await;
    server.report("wired", &[Feature::Vlan, Feature::Ipv6]).await;
    let status = server.done_as(Method::GET, "/v1/hosts/wired", "").await["status"].take();
    assert_eq!(status["missing_features"], serde_json::json!(["vlan", "ipv6"]));
    assert_snapshot!(server.refused("/v1/instances/web/attach", r#"{"host": "wired"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "host_lacks_vlan",
        "hint": "load the module 8021q or boot a kernel with CONFIG_VLAN_8021Q, and start the agent anew",
        "message": "host `wired` cannot have network `tenant`: its kernel has no 802.1Q"
      }
    }
    "#);
    assert_snapshot!(server.refused("/v1/instances/db/attach", r#"{"host": "wired"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "host_lacks_ipv6",
        "hint": "boot without ipv6.disable=1 or a kernel with CONFIG_IPV6, and start the agent anew",
        "message": "host `wired` cannot have network `six`: its kernel has no IPv6"
      }
    }
    "#);
    server.report("wired", &[]).await;
    server.done("/v1/instances/web/attach", r#"{"host": "wired"}"#).await;
    server.stop().await;
}

#[tokio::test]
async fn a_vlan_needs_a_device_of_the_host_or_of_the_network() {
    let server = with(&[r#"{"name": "tenant", "cidr": "10.0.0.0/24"}"#]).await;
    server.done("/v1/instances", &instance("web", "tenant")).await;
    assert_snapshot!(server.refused("/v1/instances/web/attach", r#"{"host": "bare"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "no_vlan_interface",
        "hint": "name one with `trestle host set bare --vlan-interface DEVICE`",
        "message": "host `bare` has no device for the VLAN of network `tenant`"
      }
    }
    "#);
    server
        .done("/v1/networks", r#"{"name": "own", "cidr": "10.1.0.0/24", "bridge_interface": "eth9"}"#)
        .await;
    server.done("/v1/instances", &instance("db", "own")).await;
    assert_snapshot!(server.raw(Method::POST, "/v1/instances/db/attach", r#"{"host": "bare"}"#).await, @r#"
    200 OK
    {
      "addresses": [
        "10.1.0.3/24"
      ],
      "bridge": "br101",
      "device": "[device]",
      "dns": [
        "10.1.0.1"
      ],
      "domain": "trestle.internal",
      "gateways": [
        "10.1.0.1"
      ],
      "generation": 10,
      "host": "bare",
      "instance": "db",
      "interface": "[id]",
      "mac": "[mac]",
      "mtu": 1500,
      "network": "own"
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn a_device_is_in_the_bridge_of_one_network_only() {
    let server = with(&[
        r#"{"name": "one", "type": "flat_dhcp", "cidr": "10.0.0.0/24", "bridge": "br1"}"#,
        r#"{"name": "two", "type": "flat_dhcp", "cidr": "10.1.0.0/24", "bridge": "br2"}"#,
    ])
    .await;
    server.done("/v1/instances", &instance("web", "one")).await;
    server.done("/v1/instances", &instance("db", "two")).await;
    server.done("/v1/instances/web/attach", r#"{"host": "wired"}"#).await;
    assert_snapshot!(server.refused("/v1/instances/db/attach", r#"{"host": "wired"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "interface_taken",
        "hint": "a device can be in one bridge only, and a host's flat_interface wins over the networks' bridge_interface: use another host, or, when nothing is plugged in here, `trestle host set wired --flat-interface ''` and networks with a `--bridge-interface` each",
        "message": "on host `wired` eth1 is in the bridge of network `one`"
      }
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn a_device_is_not_changed_under_a_network_that_is_led_out_by_it() {
    let server = with(&[
        r#"{"name": "one", "type": "flat_dhcp", "cidr": "10.0.0.0/24", "bridge": "br1"}"#,
        r#"{"name": "tenant", "cidr": "10.1.0.0/24", "bridge_interface": "eth2", "project": "red", "multi_host": false, "gateway_host": "wired"}"#,
    ])
    .await;
    let _wired = server.play_agent("wired", Vec::new()).await;
    for (name, network) in [("web", "one"), ("db", "tenant")] {
        server.done("/v1/instances", &instance(name, network)).await;
    }
    server.done("/v1/instances/web/attach", r#"{"host": "wired"}"#).await;
    server.done("/v1/instances/db/attach", r#"{"host": "bare"}"#).await;
    let body = r#"{"flat_interface": "eth5", "vlan_interface": "eth6"}"#;
    assert_snapshot!(server.refused_as(Method::PATCH, "/v1/hosts/wired", body).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "in_use",
        "hint": "move instances with `trestle instance move INSTANCE --to HOST` or detach them, and gateways with `trestle network set-gateway NETWORK HOST`",
        "message": "the devices of host `wired` cannot be changed while they lead out network `one`, network `tenant`"
      }
    }
    "#);
    // The network names the same device; nothing is led out of the other host yet.
    let same = r#"{"vlan_interface": "", "public_interface": "eth0", "gateway": false}"#;
    server.done_as(Method::PATCH, "/v1/hosts/wired", same).await;
    server.done_as(Method::PATCH, "/v1/hosts/bare", r#"{"flat_interface": "eth5"}"#).await;
    server.done("/v1/instances/web/detach", "").await;
    server.done_as(Method::PATCH, "/v1/hosts/wired", r#"{"flat_interface": ""}"#).await;
    assert_snapshot!(server.told("host.changed").await, @"
    host.changed on wired: the devices of host `wired` were changed: vlan_interface eth2 → none, public_interface none → eth0; host `wired` is not chosen to route for single-host networks any more
    host.changed on bare: the devices of host `bare` were changed: flat_interface none → eth5
    host.changed on wired: the devices of host `wired` were changed: flat_interface eth1 → none
    ");
    server.stop().await;
}

#[tokio::test]
async fn a_network_that_the_host_only_routes_for_has_its_device_too() {
    let server = with(&[
        r#"{"name": "one", "type": "flat_dhcp", "cidr": "10.0.0.0/24", "bridge": "br1", "multi_host": false, "gateway_host": "wired"}"#,
        r#"{"name": "two", "type": "flat_dhcp", "cidr": "10.1.0.0/24", "bridge": "br2"}"#,
    ])
    .await;
    let _wired = server.play_agent("wired", Vec::new()).await;
    server.done("/v1/hosts", r#"{"name": "other", "flat_interface": "eth1"}"#).await;
    for (name, network) in [("web", "one"), ("db", "two")] {
        server.done("/v1/instances", &instance(name, network)).await;
    }
    server.done("/v1/instances/web/attach", r#"{"host": "other"}"#).await;
    assert_snapshot!(server.refused("/v1/instances/db/attach", r#"{"host": "wired"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "interface_taken",
        "hint": "a device can be in one bridge only, and a host's flat_interface wins over the networks' bridge_interface: use another host, or, when nothing is plugged in here, `trestle host set wired --flat-interface ''` and networks with a `--bridge-interface` each",
        "message": "on host `wired` eth1 is in the bridge of network `one` (wired routes for it)"
      }
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn who_is_plugged_in_otherwise_is_told_how() {
    let server = with(&[r#"{"name": "one", "type": "flat_dhcp", "cidr": "10.0.0.0/24"}"#]).await;
    server.done("/v1/instances", &instance("web", "one")).await;
    let tap = r#"{"host": "wired", "plug": {"type": "tap", "owner": 1000}}"#;
    let first = server.done("/v1/instances/web/attach", tap).await;
    assert_eq!(server.done("/v1/instances/web/attach", tap).await, first);
    let veth = r#"{"host": "wired", "plug": {"type": "veth", "netns": "/run/netns/web"}}"#;
    assert_snapshot!(server.refused("/v1/instances/web/attach", veth).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "already_attached",
        "hint": "detach it first",
        "message": "instance `web` is plugged in on network `one` already, as a tap of user 1000, not as eth0 in /run/netns/web"
      }
    }
    "#);
    assert_snapshot!(server.refused("/v1/instances/web/attach", r#"{"host": "bare"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "attached_elsewhere",
        "hint": "`trestle instance move web --to HOST` moves it to another host",
        "message": "instance `web` is plugged in on network `one` on host `wired`"
      }
    }
    "#);
    assert_snapshot!(server.refused("/v1/instances/web/attach", r#"{"host": "nowhere"}"#).await, @r#"
    404 Not Found
    {
      "error": {
        "code": "not_found",
        "message": "no host `nowhere`"
      }
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn an_address_outside_reserved_or_in_use_is_refused() {
    let server = with(&[
        r#"{"name": "tenant", "cidr": "10.0.0.0/24", "cidr_v6": "fd00::/64", "reserved": ["10.0.0.100-10.0.0.120"]}"#,
        r#"{"name": "own", "type": "flat_dhcp", "bridge": "br6", "cidr_v6": "fd01::/64", "ipv6_mode": "slaac"}"#,
    ])
    .await;
    let asking = |network: &str, more: &str| {
        format!(r#"{{"name": "web", "project": "red", "interfaces": [{{"network": "{network}", {more}}}]}}"#)
    };
    let refused =
        async |network: &str, more: &str| server.refused("/v1/instances", &asking(network, more)).await;
    assert_snapshot!(refused("tenant", r#""addresses": ["10.0.1.5"]"#).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "interfaces[0].addresses[0]: 10.0.1.5 is not an address for instances on network `tenant`: these are 10.0.0.1 to 10.0.0.254 but the router's 10.0.0.1 and the VPN's 10.0.0.2",
        "problems": [
          {
            "code": "bad_address",
            "field": "interfaces[0].addresses[0]",
            "message": "10.0.1.5 is not an address for instances on network `tenant`: these are 10.0.0.1 to 10.0.0.254 but the router's 10.0.0.1 and the VPN's 10.0.0.2"
          }
        ]
      }
    }
    "#);
    // The VPN's.
    assert_snapshot!(refused("tenant", r#""addresses": ["fd00::9", "10.0.0.2"]"#).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "interfaces[0].addresses[1]: 10.0.0.2 is not an address for instances on network `tenant`: these are 10.0.0.1 to 10.0.0.254 but the router's 10.0.0.1 and the VPN's 10.0.0.2",
        "problems": [
          {
            "code": "bad_address",
            "field": "interfaces[0].addresses[1]",
            "message": "10.0.0.2 is not an address for instances on network `tenant`: these are 10.0.0.1 to 10.0.0.254 but the router's 10.0.0.1 and the VPN's 10.0.0.2"
          }
        ]
      }
    }
    "#);
    assert_snapshot!(refused("tenant", r#""addresses": ["10.0.0.100"]"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "address_reserved",
        "message": "10.0.0.100 is reserved on network `tenant`, with 10.0.0.100-10.0.0.120"
      }
    }
    "#);
    assert_snapshot!(refused("tenant", r#""addresses": ["10.0.0.9", "10.0.0.10"], "mac": "fe:16:3e:00:00:01""#).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "2 things are wrong with the request",
        "problems": [
          {
            "code": "duplicate_family",
            "field": "interfaces[0].addresses[1]",
            "message": "an interface has one IPv4 address on a network, this is a second"
          },
          {
            "code": "bad_mac",
            "field": "interfaces[0].mac",
            "message": "fe:16:3e:00:00:01 is not for guests: MACs under fe:16:3e are kept for bridges"
          }
        ]
      }
    }
    "#);
    assert_snapshot!(refused("own", r#""addresses": ["10.0.0.9"]"#).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "interfaces[0].addresses[0]: network `own` has no IPv4 addresses",
        "problems": [
          {
            "code": "bad_address",
            "field": "interfaces[0].addresses[0]",
            "message": "network `own` has no IPv4 addresses"
          }
        ]
      }
    }
    "#);
    let mac = r#""mac": "fa:16:3e:00:00:01", "addresses": ["fd01::9"]"#;
    assert_snapshot!(refused("own", mac).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "interfaces[0].addresses[0]: guests of network `own` make their addresses of their MACs: fa:16:3e:00:00:01 makes fd01::f816:3eff:fe00:1, not fd01::9",
        "problems": [
          {
            "code": "bad_address",
            "field": "interfaces[0].addresses[0]",
            "message": "guests of network `own` make their addresses of their MACs: fa:16:3e:00:00:01 makes fd01::f816:3eff:fe00:1, not fd01::9"
          }
        ]
      }
    }
    "#);
    let other = r#"{"name": "other", "project": "red", "interfaces": [{"network": "tenant", "addresses": ["10.0.0.9"]}]}"#;
    server.done("/v1/instances", other).await;
    assert_snapshot!(refused("tenant", r#""addresses": ["10.0.0.9"]"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "address_taken",
        "hint": "`trestle fixed-ip list` shows who has it",
        "message": "10.0.0.9 on network `tenant` is in use"
      }
    }
    "#);
    let own = asking("own", r#""mac": "fa:16:3e:00:00:01""#);
    assert_eq!(
        server.done("/v1/instances", &own).await["interfaces"][0]["addresses"][0],
        "fd01::f816:3eff:fe00:1"
    );
    server.stop().await;
}
