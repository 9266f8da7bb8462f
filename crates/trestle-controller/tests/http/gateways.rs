//! Who routes for a network.

use insta::assert_snapshot;
use reqwest::Method;
use trestle_api::Feature;

use crate::harness::{PlayedAgent, TestServer};

/// Project `red` and hosts `a`, `b` and `c`, of which `c` is no gateway.
async fn three_hosts() -> TestServer {
    let server = TestServer::start().await;
    server.done("/v1/projects", r#"{"name": "red"}"#).await;
    for (name, gateway) in [("a", true), ("b", true), ("c", false)] {
        let body = format!(r#"{{"name": "{name}", "vlan_interface": "eth1", "gateway": {gateway}}}"#);
        server.done("/v1/hosts", &body).await;
    }
    server
}

async fn single(server: &TestServer, name: &str, range: &str) {
    let body = format!(r#"{{"name": "{name}", "cidr": "{range}", "multi_host": false, "project": "red"}}"#);
    server.done("/v1/networks", &body).await;
    let body = format!(r#"{{"name": "{name}", "project": "red", "interfaces": [{{"network": "{name}"}}]}}"#);
    server.done("/v1/instances", &body).await;
}

async fn gateway_of(server: &TestServer, network: &str) -> String {
    server
        .admin
        .network(network)
        .await
        .unwrap()
        .gateway_host
        .map_or("none".to_owned(), |host| host.to_string())
}

#[tokio::test]
async fn gateway_hosts_are_chosen_at_the_first_attach_and_spread_over_those_that_are_connected_first() {
    let server = three_hosts().await;
    let _b = server.play_agent("b", Vec::new()).await;
    for (number, name) in ["one", "two", "three", "four"].into_iter().enumerate() {
        single(&server, name, &format!("10.{number}.0.0/24")).await;
        assert_eq!(gateway_of(&server, name).await, "none", "nothing is chosen before it is needed");
    }
    server.done("/v1/instances/one/attach", r#"{"host": "c"}"#).await;
    assert_eq!(gateway_of(&server, "one").await, "b", "a is away, c is no gateway");
    let _a = server.play_agent("a", Vec::new()).await;
    for name in ["two", "three", "four"] {
        server.done(&format!("/v1/instances/{name}/attach"), r#"{"host": "c"}"#).await;
    }
    let mut chosen = Vec::new();
    for name in ["two", "three", "four"] {
        chosen.push(gateway_of(&server, name).await);
    }
    assert_eq!(chosen, ["a", "a", "b"]);
    assert_snapshot!(server.told("network.gateway_chosen").await, @"
    network.gateway_chosen of red on b: host `b` was chosen to route for network `one`
    network.gateway_chosen of red on a: host `a` was chosen to route for network `two`
    network.gateway_chosen of red on a: host `a` was chosen to route for network `three`
    network.gateway_chosen of red on b: host `b` was chosen to route for network `four`
    ");
    let of_a = trestle_api::NetworkFilter { gateway_host: Some("a".to_owned()), ..Default::default() };
    let of_a = server.admin.list_networks(&of_a, &Default::default()).await.unwrap().items;
    assert_eq!(of_a.iter().map(|network| network.name.as_str()).collect::<Vec<_>>(), ["two", "three"]);
    server.stop().await;
}

#[tokio::test]
async fn where_no_host_can_route_the_attach_says_why_of_each() {
    let server = three_hosts().await;
    single(&server, "one", "10.0.0.0/24").await;
    server.report("a", &[Feature::Vlan]).await;
    server.done_as(Method::PATCH, "/v1/hosts/b", r#"{"vlan_interface": ""}"#).await;
    assert_snapshot!(server.refused("/v1/instances/one/attach", r#"{"host": "c"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "no_gateway_host",
        "hint": "give a host the role with `trestle host set HOST --gateway yes`, or name one with `trestle network set-gateway`",
        "message": "no host can route for network `one`: host `a` cannot have network `one`: its kernel has no 802.1Q; host `b` has no device for the VLAN of network `one`"
      }
    }
    "#);
    for host in ["a", "b"] {
        server.done_as(Method::PATCH, &format!("/v1/hosts/{host}"), r#"{"gateway": false}"#).await;
    }
    assert_snapshot!(server.refused("/v1/instances/one/attach", r#"{"host": "c"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "no_gateway_host",
        "hint": "give a host the role with `trestle host set HOST --gateway yes`, or name one with `trestle network set-gateway`",
        "message": "no host can route for network `one`: no host may be chosen as a gateway"
      }
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn a_gateway_is_moved_to_a_host_that_can_and_is_there() {
    let server = three_hosts().await;
    single(&server, "one", "10.0.0.0/24").await;
    let set = async |body: &str| server.done_as(Method::PUT, "/v1/networks/one/gateway", body).await;
    let refused = async |network: &str, body: &str| {
        server.refused_as(Method::PUT, &format!("/v1/networks/{network}/gateway"), body).await
    };
    // Unused, it may wait for its host.
    assert_eq!(set(r#"{"host": "a"}"#).await["gateway_host"], "a");
    assert_snapshot!(server.refused("/v1/instances/one/attach", r#"{"host": "c"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "gateway_away",
        "hint": "start its agent, or name another host with `trestle network set-gateway one HOST`",
        "message": "host `a`, which routes for network `one`, is away"
      }
    }
    "#);
    let _a = server.play_agent("a", Vec::new()).await;
    server.done("/v1/instances/one/attach", r#"{"host": "c"}"#).await;
    assert_snapshot!(refused("one", r#"{"host": "b"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "host_away",
        "hint": "start its agent first, or choose another host",
        "message": "host `b` is away: network `one` is in use and would have no gateway"
      }
    }
    "#);
    let _b = server.play_agent("b", Vec::new()).await;
    assert_eq!(set(r#"{"host": "b"}"#).await["gateway_host"], "b");
    assert_eq!(set(r#"{"host": "b"}"#).await["gateway_host"], "b");
    server.report("c", &[Feature::Vlan]).await;
    assert_snapshot!(refused("one", r#"{"host": "c"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "host_lacks_vlan",
        "hint": "load the module 8021q or boot a kernel with CONFIG_VLAN_8021Q, and start the agent anew",
        "message": "host `c` cannot have network `one`: its kernel has no 802.1Q"
      }
    }
    "#);
    assert_snapshot!(refused("one", r#"{"host": "nowhere"}"#).await, @r#"
    404 Not Found
    {
      "error": {
        "code": "not_found",
        "message": "no host `nowhere`"
      }
    }
    "#);
    server.done("/v1/networks", r#"{"name": "shared", "cidr": "10.8.0.0/24"}"#).await;
    assert_snapshot!(refused("shared", r#"{"host": "b"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "not_single_host",
        "message": "network `shared` is multi-host: every host with an instance routes for it"
      }
    }
    "#);
    let flat = r#"{"name": "site", "type": "flat", "bridge": "br-site", "cidr": "10.9.0.0/24"}"#;
    server.done("/v1/networks", flat).await;
    assert_snapshot!(refused("site", r#"{"host": "b"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "not_single_host",
        "message": "network `site` is of type `flat`: Trestle does not route for it"
      }
    }
    "#);
    assert_snapshot!(server.told("network.gateway_moved").await, @"
    network.gateway_moved of red on a: host `a` routes for network `one`
    network.gateway_moved of red on b: host `b` routes for network `one`, host `a` no more
    ");
    server.stop().await;
}

/// Network `flat`, of which instance `web` is plugged in on host `a`, where its gateway is, too; host
/// `c` has no devices.
async fn flat_single_host() -> (TestServer, [PlayedAgent; 2]) {
    let server = TestServer::start().await;
    server.done("/v1/projects", r#"{"name": "red"}"#).await;
    let a = r#"{"name": "a", "flat_interface": "eth1", "public_interface": "eth0"}"#;
    for host in [a, r#"{"name": "b", "flat_interface": "eth1", "gateway": false}"#, r#"{"name": "c"}"#] {
        server.done("/v1/hosts", host).await;
    }
    let agents = [server.play_agent("a", Vec::new()).await, server.play_agent("c", Vec::new()).await];
    let flat = r#"{"name": "flat", "type": "flat_dhcp", "cidr": "10.0.0.0/24", "multi_host": false}"#;
    server.done("/v1/networks", flat).await;
    for name in ["web", "db"] {
        let body = format!(r#"{{"name": "{name}", "project": "red"}}"#);
        server.done("/v1/instances", &body).await;
    }
    server.done("/v1/instances/web/attach", r#"{"host": "a"}"#).await;
    (server, agents)
}

#[tokio::test]
async fn a_gateway_that_works_is_not_given_to_a_host_that_serves_guests_less_well() {
    let (server, _agents) = flat_single_host().await;
    assert_eq!(gateway_of(&server, "flat").await, "a", "it has the devices that c lacks");
    let refused = async |body: &str| server.refused_as(Method::PUT, "/v1/networks/flat/gateway", body).await;
    assert_snapshot!(refused(r#"{"host": "c"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "no_uplink",
        "hint": "name one with `trestle host set c --flat-interface DEVICE`",
        "message": "host `c` has no device in the bridge of network `flat`: host `c`, which routes for it, and guests on other hosts do not reach each other"
      }
    }
    "#);
    server.done_as(Method::PATCH, "/v1/hosts/c", r#"{"flat_interface": "eth1"}"#).await;
    assert_snapshot!(refused(r#"{"host": "c"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "no_public_interface",
        "hint": "name one with `trestle host set c --public-interface DEVICE`",
        "message": "host `c` has no public interface: guests of network `flat` would not get out as they do by host `a`"
      }
    }
    "#);
    server.done_as(Method::PATCH, "/v1/hosts/c", r#"{"public_interface": "eth0"}"#).await;
    server.done_as(Method::PUT, "/v1/networks/flat/gateway", r#"{"host": "c"}"#).await;
    server.stop().await;
}

#[tokio::test]
async fn a_gateway_stays_where_it_works_if_the_new_host_does_not_take_over() {
    let (server, _agents) = flat_single_host().await;
    server.done_as(Method::PATCH, "/v1/hosts/b", r#"{"public_interface": "eth0"}"#).await;
    // It was there a moment ago.
    server.report("b", &[]).await;
    let answer = server.raw(Method::PUT, "/v1/networks/flat/gateway", r#"{"host": "b"}"#).await;
    assert_snapshot!(answer, @r#"
    409 Conflict
    {
      "error": {
        "code": "host_away",
        "hint": "host `a` routes for it as before; `trestle host show b` says how the other is",
        "message": "host `b` did not follow within 10 s"
      }
    }
    "#);
    assert_eq!(gateway_of(&server, "flat").await, "a");
    assert_snapshot!(server.told("network.gateway_moved").await, @"
    network.gateway_moved on b: host `b` routes for network `flat`, host `a` no more
    network.gateway_moved on a: host `a` routes for network `flat` again: host `b` did not take over
    ");
    server.stop().await;
}

#[tokio::test]
async fn guests_are_plugged_in_where_they_reach_their_gateway_and_are_told_if_that_is_silent() {
    let (server, agents) = flat_single_host().await;
    assert_snapshot!(server.refused("/v1/instances/db/attach", r#"{"host": "c"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "no_uplink",
        "hint": "name one with `trestle host set c --flat-interface DEVICE`",
        "message": "host `c` has no device in the bridge of network `flat`: host `a`, which routes for it, and guests on other hosts do not reach each other"
      }
    }
    "#);
    drop(agents);
    let attach = async || server.raw(Method::POST, "/v1/instances/db/attach", r#"{"host": "b"}"#).await;
    assert_snapshot!(attach().await, @r#"
    409 Conflict
    {
      "error": {
        "code": "gateway_silent",
        "hint": "the same again waits for it once more; `trestle host show a` says how it is",
        "message": "instance `db` is plugged in, but host `a`, which routes for network `flat`, did not follow within 5 s"
      }
    }
    "#);
    assert!(attach().await.contains("gateway_silent"), "it waits once more");
    let _a = server.play_agent("a", Vec::new()).await;
    assert!(attach().await.starts_with("200"), "it has followed");
    server.stop().await;
}

#[tokio::test]
async fn the_gateway_host_of_a_network_in_use_is_not_forgotten() {
    let server = three_hosts().await;
    single(&server, "one", "10.0.0.0/24").await;
    server.done_as(Method::PUT, "/v1/networks/one/gateway", r#"{"host": "a"}"#).await;
    let _a = server.play_agent("a", Vec::new()).await;
    server.done("/v1/instances/one/attach", r#"{"host": "c"}"#).await;
    assert_snapshot!(server.raw(Method::DELETE, "/v1/hosts/a", "").await, @r#"
    409 Conflict
    {
      "error": {
        "code": "in_use",
        "hint": "move instances with `trestle instance move INSTANCE --to HOST` or detach them, and gateways with `trestle network set-gateway NETWORK HOST`",
        "message": "host `a` still has network `one`"
      }
    }
    "#);
    server.done("/v1/instances/one/detach", "").await;
    server.done_as(Method::DELETE, "/v1/hosts/a", "").await;
    assert_eq!(gateway_of(&server, "one").await, "none");
    server.stop().await;
}

#[tokio::test]
async fn each_host_takes_an_address_of_its_own_with_its_first_interface_and_gives_it_back_with_the_last() {
    let server = three_hosts().await;
    let network = r#"{"name": "one", "cidr": "10.0.0.0/24", "cidr_v6": "fd00::/64", "share_address": false, "project": "red"}"#;
    server.done("/v1/networks", network).await;
    for name in ["web", "db"] {
        server.done("/v1/instances", &format!(r#"{{"name": "{name}", "project": "red"}}"#)).await;
        let attached = server.done(&format!("/v1/instances/{name}/attach"), r#"{"host": "a"}"#).await;
        assert_eq!(attached["gateways"], serde_json::json!(["10.0.0.4", "fd00::3"]), "{name}");
    }
    assert_snapshot!(server.raw(Method::GET, "/v1/fixed-ips?address=10.0.0.4", "").await, @r#"
    200 OK
    {
      "items": [
        {
          "address": "10.0.0.4",
          "host": "a",
          "instance": null,
          "mac": null,
          "network": "one",
          "project": null,
          "released_at": null,
          "state": "allocated"
        }
      ]
    }
    "#);
    for name in ["web", "db"] {
        server.done(&format!("/v1/instances/{name}/detach"), "").await;
    }
    assert_snapshot!(server.told("network").await, @"
    network.created of red: network `one` was made with 10.0.0.0/24 and fd00::/64
    network.gateway_added of red on a: host `a` routes for network `one` as 10.0.0.4 and fd00::3
    network.gateway_removed of red on a: host `a` routes for network `one` no more
    ");
    server.stop().await;
}
