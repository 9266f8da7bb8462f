//! Which networks instances join, and whom VLAN networks belong to.

use insta::assert_snapshot;
use reqwest::Method;
use serde_json::Value;

use crate::harness::{TestServer, flat_dhcp, refused};

async fn two_projects() -> TestServer {
    let server = TestServer::start().await;
    for project in ["red", "blue"] {
        server.done("/v1/projects", &format!(r#"{{"name": "{project}"}}"#)).await;
    }
    server
}

fn networks(instance: &Value) -> String {
    let name = |interface: &Value| interface["network"].as_str().unwrap().to_owned();
    instance["interfaces"].as_array().unwrap().iter().map(name).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn a_project_claims_the_lowest_free_vlan_network_at_its_first_use_and_keeps_it() {
    let server = two_projects().await;
    server
        .done(
            "/v1/networks",
            r#"{"name": "net", "cidr": "10.0.0.0/16", "num_networks": 2, "vlan_start": 200}"#,
        )
        .await;
    server.done("/v1/networks", r#"{"name": "low", "cidr": "10.1.0.0/24", "vlan": 150}"#).await;
    server.done("/v1/networks", r#"{"name": "public", "type": "flat_dhcp", "cidr": "10.2.0.0/24"}"#).await;
    let make = async |name: &str, project: &str| {
        let body = format!(r#"{{"name": "{name}", "project": "{project}"}}"#);
        networks(&server.done("/v1/instances", &body).await)
    };
    assert_eq!(make("one", "red").await, "low");
    assert_eq!(make("two", "red").await, "low");
    assert_eq!(make("three", "blue").await, "net-0");
    for instance in ["one", "two"] {
        server.done_as(Method::DELETE, &format!("/v1/instances/{instance}"), "").await;
    }
    assert_eq!(make("four", "red").await, "low");
    assert_snapshot!(server.told("network.associated").await, @"
    network.associated of red: network `low` belongs to project `red` from now on
    network.associated of blue: network `net-0` belongs to project `blue` from now on
    ");
    server.stop().await;
}

#[tokio::test]
async fn where_no_vlan_network_is_free_the_shared_ones_are_joined_and_without_any_none_can_be() {
    let server = two_projects().await;
    let web = r#"{"name": "web", "project": "red"}"#;
    assert_snapshot!(server.refused("/v1/instances", web).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "no_free_network",
        "hint": "an administrator makes some with `trestle network create`; an instance without a network has an empty list of interfaces",
        "message": "there is no network for project `red`: it owns none, no VLAN network is free, and none is shared"
      }
    }
    "#);
    server.done("/v1/networks", r#"{"name": "only", "cidr": "10.0.0.0/24"}"#).await;
    server.done("/v1/networks/only/associate", r#"{"project": "blue"}"#).await;
    assert_snapshot!(server.refused("/v1/instances", web).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "no_free_network",
        "hint": "an administrator makes some with `trestle network create`; an instance without a network has an empty list of interfaces",
        "message": "there is no network for project `red`: it owns none, no VLAN network is free, and none is shared"
      }
    }
    "#);
    for (name, range) in [("site", "10.1.0.0/24"), ("other", "10.2.0.0/24")] {
        let body =
            format!(r#"{{"name": "{name}", "type": "flat", "cidr": "{range}", "bridge": "br-{name}"}}"#);
        server.done("/v1/networks", &body).await;
    }
    assert_eq!(networks(&server.done("/v1/instances", web).await), "site other");
    server.stop().await;
}

#[tokio::test]
async fn an_instance_has_no_interface_on_another_project_s_network() {
    let server = two_projects().await;
    server.done("/v1/networks", r#"{"name": "blues", "cidr": "10.0.0.0/24", "project": "blue"}"#).await;
    server.done("/v1/networks", r#"{"name": "free", "cidr": "10.1.0.0/24"}"#).await;
    let on = |network: &str| {
        format!(r#"{{"name": "web", "project": "red", "interfaces": [{{"network": "{network}"}}]}}"#)
    };
    assert_snapshot!(server.refused("/v1/instances", &on("blues")).await, @r#"
    403 Forbidden
    {
      "error": {
        "code": "forbidden",
        "hint": "join a network of the instance's own project, or a shared one",
        "message": "network `blues` belongs to project `blue`, the instance to `red`"
      }
    }
    "#);
    let red = server.client(&server.member_token("red").await);
    let asked: trestle_api::NewInstance = serde_json::from_str(&on("blues")).unwrap();
    assert_snapshot!(refused(red.create_instance(&asked).await), @r#"
    404 {
      "code": "not_found",
      "hint": "a project joins its own networks and the shared ones: see `trestle network list`",
      "message": "no network `blues`"
    }
    "#);
    // A free one is nobody's: an admin may say whose it becomes, a member may not.
    let asked: trestle_api::NewInstance = serde_json::from_str(&on("free")).unwrap();
    assert_snapshot!(refused(red.create_instance(&asked).await), @r#"
    404 {
      "code": "not_found",
      "hint": "a project joins its own networks and the shared ones: see `trestle network list`",
      "message": "no network `free`"
    }
    "#);
    server.done("/v1/instances", &on("free")).await;
    assert_eq!(server.admin.network("free").await.unwrap().project.unwrap().as_str(), "red");
    server.stop().await;
}

#[tokio::test]
async fn one_network_twice_is_refused() {
    let server = two_projects().await;
    server.done("/v1/networks", r#"{"name": "public", "type": "flat_dhcp", "cidr": "10.0.0.0/24"}"#).await;
    let id = server.admin.network("public").await.unwrap().id;
    let twice = format!(
        r#"{{"name": "web", "project": "red", "interfaces": [{{"network": "public"}}, {{"network": "{id}"}}]}}"#
    );
    assert_snapshot!(server.refused("/v1/instances", &twice).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "duplicate_network",
        "hint": "an instance has one interface on a network, with one address of each family",
        "message": "interfaces[1].network is network `public`, which interfaces[0].network is too",
        "problems": [
          {
            "code": "duplicate_network",
            "field": "interfaces[1].network",
            "message": "interfaces[1].network is network `public`, which interfaces[0].network is too"
          }
        ]
      }
    }
    "#);
    server.done("/v1/instances", r#"{"name": "web", "project": "red"}"#).await;
    let again = r#"{"network": "public"}"#;
    assert_snapshot!(server.refused("/v1/instances/web/interfaces", again).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "duplicate_network",
        "hint": "an instance has one interface on a network, with one address of each family",
        "message": "instance `web` has an interface on network `public` already"
      }
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn a_vlan_network_is_given_and_taken_back_when_nothing_is_on_it() {
    let server = two_projects().await;
    server.done("/v1/networks", r#"{"name": "net", "cidr": "10.0.0.0/24"}"#).await;
    server
        .done(
            "/v1/networks",
            r#"{"name": "public", "type": "flat_dhcp", "bridge": "br-public", "cidr": "10.1.0.0/24"}"#,
        )
        .await;
    for _ in 0..2 {
        let given = server.done("/v1/networks/net/associate", r#"{"project": "red"}"#).await;
        assert_eq!(given["project"], "red");
    }
    assert_snapshot!(server.refused("/v1/networks/net/associate", r#"{"project": "blue"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "network_taken",
        "hint": "`trestle network disassociate` takes it from that project",
        "message": "network `net` belongs to project `red`"
      }
    }
    "#);
    assert_snapshot!(server.refused("/v1/networks/net/associate", r#"{"project": "green"}"#).await, @r#"
    404 Not Found
    {
      "error": {
        "code": "not_found",
        "message": "no project `green`"
      }
    }
    "#);
    assert_snapshot!(server.refused("/v1/networks/public/associate", r#"{"project": "red"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "not_vlan",
        "message": "network `public` is of type `flat_dhcp`: only networks of type `vlan` change their project"
      }
    }
    "#);
    server.done("/v1/instances", r#"{"name": "web", "project": "red"}"#).await;
    assert_snapshot!(server.refused("/v1/networks/net/disassociate", "").await, @r#"
    409 Conflict
    {
      "error": {
        "code": "in_use",
        "hint": "take each out with `trestle instance remove-interface INSTANCE net`, or delete it with `trestle instance delete INSTANCE`",
        "message": "network `net` of project `red` still has instance `web`"
      }
    }
    "#);
    server.done_as(Method::DELETE, "/v1/instances/web", "").await;
    for _ in 0..2 {
        assert_eq!(server.done("/v1/networks/net/disassociate", "").await["project"], Value::Null);
    }
    assert_snapshot!(server.told("network").await, @"
    network.created: network `net` was made with 10.0.0.0/24
    network.created: network `public` was made with 10.1.0.0/24
    network.associated of red: network `net` belongs to project `red` from now on
    network.disassociated of red: network `net` was taken from project `red` and is free
    ");
    server.stop().await;
}

#[tokio::test]
async fn a_member_gives_no_mac_that_may_be_a_machine_s() {
    let server = two_projects().await;
    server.admin.create_networks(&flat_dhcp("shared", "10.7.0.0/24", "br7")).await.unwrap();
    let red = server.client(&server.member_token("red").await);
    let asks = |name: &str, mac: &str| -> trestle_api::NewInstance {
        let interface = format!(r#"{{"network": "shared", "mac": "{mac}"}}"#);
        serde_json::from_str(&format!(
            r#"{{"name": "{name}", "project": "red", "interfaces": [{interface}]}}"#
        ))
        .unwrap()
    };
    assert_snapshot!(refused(red.create_instance(&asks("a", "52:54:00:00:00:01")).await), @r#"
    400 {
      "code": "invalid",
      "message": "interfaces[0].mac: 52:54:00:00:00:01 is for administrators to give: choose one under fa:16:3e",
      "problems": [
        {
          "code": "bad_mac",
          "field": "interfaces[0].mac",
          "message": "52:54:00:00:00:01 is for administrators to give: choose one under fa:16:3e"
        }
      ]
    }
    "#);
    red.create_instance(&asks("a", "fa:16:3e:00:00:01")).await.unwrap();
    server.admin.create_instance(&asks("b", "52:54:00:00:00:01")).await.unwrap();
    server.stop().await;
}
