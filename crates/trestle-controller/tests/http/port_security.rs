//! What interfaces are held to, as clients see it.

use insta::assert_snapshot;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::TestServer;

const PUBLIC: &str = "/v1/instances/web/interfaces/public?project=red";
const CELLAR: &str = "/v1/instances/web/interfaces/cellar?project=blue";

/// With groups `www` and `db` in each project.
async fn server() -> TestServer {
    let server = TestServer::start().await;
    server.furnish().await;
    for (name, project) in [("www", "red"), ("db", "red"), ("cellar", "blue")] {
        server.done("/v1/security-groups", &json!({"name": name, "project": project}).to_string()).await;
    }
    server
}

/// What the first interface of an instance is held to.
fn held(instance: &Value) -> String {
    let interface = &instance["interfaces"][0];
    let lists = [&interface["security_groups"], &interface["allowed_address_pairs"]];
    format!("{} {} {}", lists[0], lists[1], interface["port_security"])
}

#[tokio::test]
async fn what_an_interface_is_held_to_is_changed_while_it_runs() {
    let server = server().await;
    let agent = server.play_agent("host1", Vec::new()).await;
    server.done("/v1/instances/web/attach?project=red", r#"{"host": "host1"}"#).await;
    let patch = async |body: &str| held(&server.done_as(Method::PATCH, PUBLIC, body).await);
    assert_eq!(patch("{}").await, r#"["default"] [] true"#);
    let several = r#"{"security_groups": ["www", "db", "www"], "allowed_address_pairs": ["10.9.0.0/16", "10.0.0.9,00:00:5e:00:01:07"]}"#;
    let told = r#"["db","www"] ["10.0.0.9,00:00:5e:00:01:07","10.9.0.0/16"] true"#;
    assert_eq!(patch(several).await, told);
    assert_eq!(patch(several).await, told);
    assert_eq!(patch(r#"{"security_groups": []}"#).await.split(' ').next(), Some("[]"));
    let off = r#"{"security_groups": [], "allowed_address_pairs": [], "port_security": false}"#;
    assert_eq!(patch(off).await, "[] [] false");
    assert_eq!(patch(r#"{"port_security": true}"#).await, r#"["default"] [] true"#);
    let shown = server.done_as(Method::GET, "/v1/instances/web?project=red", "").await;
    assert_eq!(held(&shown), r#"["default"] [] true"#);
    assert_snapshot!(server.told("interface.changed").await, @"
    interface.changed of red on host1: instance `web` on network `public` was changed: security_groups default → db and www, allowed_address_pairs none → 10.0.0.9,00:00:5e:00:01:07 and 10.9.0.0/16
    interface.changed of red on host1: instance `web` on network `public` was changed: security_groups db and www → none
    interface.changed of red on host1: instance `web` on network `public` was changed: allowed_address_pairs 10.0.0.9,00:00:5e:00:01:07 and 10.9.0.0/16 → none, port_security on → off
    interface.changed of red on host1: instance `web` on network `public` was changed: security_groups none → default, port_security off → on
    ");
    drop(agent);
    server.stop().await;
}

#[tokio::test]
async fn port_security_that_is_on_again_brings_back_what_there_was() {
    let server = server().await;
    let patch = async |body: &str| held(&server.done_as(Method::PATCH, PUBLIC, body).await);
    let lists = r#"{"security_groups": ["www", "default"], "allowed_address_pairs": ["10.9.0.0/16"]}"#;
    let told = r#"["default","www"] ["10.9.0.0/16"] true"#;
    assert_eq!(patch(lists).await, told);
    assert_eq!(patch(r#"{"port_security": false}"#).await, "[] [] false");
    // Again, and what else is changed meanwhile, is no reason to forget it.
    assert_eq!(patch(r#"{"port_security": false, "allowed_address_pairs": []}"#).await, "[] [] false");
    let shown = server.done_as(Method::GET, "/v1/instances/web?project=red", "").await;
    assert_eq!(held(&shown), "[] [] false");
    assert_eq!(patch(r#"{"port_security": true}"#).await, r#"["default","www"] [] true"#);
    assert_eq!(patch(lists).await, told);
    patch(r#"{"port_security": false}"#).await;
    assert_eq!(patch(r#"{"port_security": true}"#).await, told);
    // A group that goes meanwhile is in nobody's way.
    patch(r#"{"port_security": false}"#).await;
    server.done_as(Method::DELETE, "/v1/security-groups/www?project=red", "").await;
    assert_eq!(patch(r#"{"port_security": true}"#).await, r#"["default"] ["10.9.0.0/16"] true"#);
    server.stop().await;
}

#[tokio::test]
async fn an_instance_says_what_its_interfaces_are_held_to_that_say_nothing_themselves() {
    let server = server().await;
    server
        .done(
            "/v1/networks",
            r#"{"name": "second", "type": "flat_dhcp", "cidr": "10.2.0.0/24", "bridge": "br102"}"#,
        )
        .await;
    let made = server
        .done(
            "/v1/instances",
            r#"{"name": "both", "project": "red", "security_groups": ["www"], "allowed_address_pairs": ["10.9.0.0/16"],
                "interfaces": [{"network": "public"}, {"network": "second", "security_groups": ["db", "default"], "allowed_address_pairs": []}]}"#,
        )
        .await;
    let second = json!({"interfaces": [made["interfaces"][1]]});
    assert_eq!(
        [held(&made), held(&second)],
        [r#"["www"] ["10.9.0.0/16"] true"#, r#"["db","default"] [] true"#]
    );
    let off = r#"{"name": "router", "project": "red", "port_security": false, "interfaces": [{"network": "public"}]}"#;
    assert_eq!(held(&server.done("/v1/instances", off).await), "[] [] false");
    let id = made["interfaces"][1]["id"].as_str().unwrap();
    server
        .done_as(
            Method::PATCH,
            &format!("/v1/instances/both/interfaces/{id}"),
            r#"{"security_groups": ["www"]}"#,
        )
        .await;
    assert_snapshot!(server.refused_as(Method::DELETE, "/v1/security-groups/www", "").await, @r#"
    409 Conflict
    {
      "error": {
        "code": "in_use",
        "hint": "take instances out of it with `trestle instance interface set`, and delete rules that name it with `trestle security-group rule delete`",
        "message": "security group `www` is still used by instance `both`"
      }
    }
    "#);
    server.done_as(Method::DELETE, "/v1/instances/both", "").await;
    server.done_as(Method::DELETE, "/v1/security-groups/www", "").await;
    server.stop().await;
}

#[tokio::test]
async fn what_an_interface_cannot_be_held_to_is_refused() {
    let server = server().await;
    let refused = async |body: &str| server.refused_as(Method::PATCH, PUBLIC, body).await;
    assert_snapshot!(refused(r#"{"security_groups": ["cellar"]}"#).await, @r#"
    404 Not Found
    {
      "error": {
        "code": "not_found",
        "hint": "an interface is in groups of its instance's project: see `trestle security-group list`",
        "message": "no security group `cellar`"
      }
    }
    "#);
    let many: Vec<String> = (0..17).map(|number| format!("g{number}")).collect();
    let pairs: Vec<String> = (0..65).map(|number| format!("10.9.0.{number}")).collect();
    let much = json!({"security_groups": many, "allowed_address_pairs": pairs}).to_string();
    assert_snapshot!(refused(&much).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "2 things are wrong with the request",
        "problems": [
          {
            "code": "too_many",
            "field": "security_groups",
            "message": "an interface is in 16 security groups at most"
          },
          {
            "code": "too_many",
            "field": "allowed_address_pairs",
            "message": "an interface has 64 allowed address pairs at most"
          }
        ]
      }
    }
    "#);
    let wrong = r#"{"allowed_address_pairs": ["10.0.0.5/24", "10.9.0.1,fe:16:3e:00:00:01"]}"#;
    assert_snapshot!(refused(wrong).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "2 things are wrong with the request",
        "problems": [
          {
            "code": "bad_address_pair",
            "field": "allowed_address_pairs[0]",
            "message": "`10.0.0.5/24` is not an allowed address pair: write it as 10.0.0.9 or 10.9.0.0/16, with `,` and a MAC if that is not its own"
          },
          {
            "code": "bad_mac",
            "field": "allowed_address_pairs[1]",
            "message": "fe:16:3e:00:00:01 is not for guests: MACs under fe:16:3e are kept for bridges"
          }
        ]
      }
    }
    "#);
    let off = r#"{"port_security": false, "security_groups": ["www"]}"#;
    assert_snapshot!(refused(off).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "hint": "leave `security_groups` and `allowed_address_pairs` out: it has those that it had when `port_security` is on again",
        "message": "port_security: an interface without port security is in no security group and has no address pairs",
        "problems": [
          {
            "code": "not_possible",
            "field": "port_security",
            "message": "an interface without port security is in no security group and has no address pairs"
          }
        ]
      }
    }
    "#);
    assert_snapshot!(refused(r#"{"allowed_address_pairs": ["0.0.0.0/0"]}"#).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "allowed_address_pairs: `0.0.0.0/0` holds 10.0.0.1, which is a router's of network `public`",
        "problems": [
          {
            "code": "address_taken",
            "field": "allowed_address_pairs",
            "message": "`0.0.0.0/0` holds 10.0.0.1, which is a router's of network `public`"
          }
        ]
      }
    }
    "#);
    server
        .done(
            "/v1/instances",
            r#"{"name": "other", "project": "blue", "interfaces": [{"network": "public"}]}"#,
        )
        .await;
    assert_snapshot!(refused(r#"{"allowed_address_pairs": ["10.0.0.2/31"]}"#).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "allowed_address_pairs: `10.0.0.2/31` holds 10.0.0.3, which an instance of another project has on network `public`",
        "problems": [
          {
            "code": "address_taken",
            "field": "allowed_address_pairs",
            "message": "`10.0.0.2/31` holds 10.0.0.3, which an instance of another project has on network `public`"
          }
        ]
      }
    }
    "#);
    let unknown = "/v1/instances/web/interfaces/nowhere?project=red";
    assert_snapshot!(server.refused_as(Method::PATCH, unknown, "{}").await, @r#"
    404 Not Found
    {
      "error": {
        "code": "not_found",
        "hint": "the instance is on `public`",
        "message": "no interface `nowhere`"
      }
    }
    "#);
    let new = r#"{"name": "x", "project": "red", "port_security": false, "interfaces": [{"network": "public", "security_groups": ["www"]}]}"#;
    assert!(server.refused("/v1/instances", new).await.contains("in no security group"));
    let new = r#"{"name": "x", "project": "red", "interfaces": [{"network": "public", "allowed_address_pairs": ["x"]}]}"#;
    assert!(
        server.refused("/v1/instances", new).await.contains(r#""interfaces[0].allowed_address_pairs[0]""#)
    );
    server.stop().await;
}

#[tokio::test]
async fn a_member_loosens_what_holds_its_guests_on_its_own_networks_alone() {
    let server = server().await;
    let (red, blue) = (server.member_token("red").await, server.member_token("blue").await);
    let patch =
        async |token: &str, path: &str, body: &str| server.raw_as(token, Method::PATCH, path, body).await;
    let pairs = r#"{"allowed_address_pairs": ["10.9.0.0/16"]}"#;
    let off = r#"{"security_groups": [], "allowed_address_pairs": [], "port_security": false}"#;
    assert_snapshot!(patch(&red, PUBLIC, pairs).await, @r#"
    403 Forbidden
    {
      "error": {
        "code": "forbidden",
        "hint": "a project decides that on networks of its own",
        "message": "allowing address pairs on network `public` is for admins"
      }
    }
    "#);
    assert_snapshot!(patch(&red, PUBLIC, off).await, @r#"
    403 Forbidden
    {
      "error": {
        "code": "forbidden",
        "hint": "a project decides that on networks of its own",
        "message": "taking port security from an interface on network `public` is for admins"
      }
    }
    "#);
    let new = r#"{"name": "x", "port_security": false, "interfaces": [{"network": "public"}]}"#;
    assert!(server.raw_as(&red, Method::POST, "/v1/instances", new).await.starts_with("403"));
    for body in [pairs, off] {
        let done = patch(&blue, CELLAR, body).await;
        assert!(done.starts_with("200"), "{done}");
    }
    // What an administrator allowed stays while a member changes the rest, and goes when it says so.
    server.done_as(Method::PATCH, PUBLIC, pairs).await;
    let kept = patch(&red, PUBLIC, r#"{"security_groups": ["www"]}"#).await;
    assert!(kept.starts_with("200") && kept.contains("10.9.0.0/16"), "{kept}");
    let gone = patch(&red, PUBLIC, r#"{"allowed_address_pairs": []}"#).await;
    assert!(gone.starts_with("200") && !gone.contains("10.9.0.0/16"), "{gone}");
    server.stop().await;
}

#[tokio::test]
async fn a_network_says_what_else_its_guests_may_send() {
    let server = server().await;
    let new = r#"{"name": "second", "type": "flat_dhcp", "cidr": "10.2.0.0/24", "bridge": "br102", "ether_types": ["0x8863", "0x8864"]}"#;
    let made = server.done("/v1/networks", new).await;
    assert_eq!(made["items"][0]["ether_types"], json!(["0x8863", "0x8864"]));
    let path = "/v1/networks/second";
    let changed = server.done_as(Method::PATCH, path, r#"{"ether_types": ["0x88CC"]}"#).await;
    assert_eq!(changed["ether_types"], json!(["0x88cc"]));
    let wrong = r#"{"ether_types": ["8863", "0x0800"]}"#;
    assert_snapshot!(server.refused_as(Method::PATCH, path, wrong).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "2 things are wrong with the request",
        "problems": [
          {
            "code": "bad_ether_type",
            "field": "ether_types[0]",
            "message": "`8863` is not an EtherType: write it as 0x8863, from 0x0600 on"
          },
          {
            "code": "bad_ether_type",
            "field": "ether_types[1]",
            "message": "EtherType 0x0800 cannot be allowed: IPv4, ARP and IPv6 pass as they are guarded, and tags never do"
          }
        ]
      }
    }
    "#);
    server.done_as(Method::PATCH, path, r#"{"ether_types": []}"#).await;
    assert_snapshot!(server.told("network.changed").await, @"
    network.changed: network `second` was changed: ether_types 0x8863 and 0x8864 → 0x88cc
    network.changed: network `second` was changed: ether_types 0x88cc → none
    ");
    server.stop().await;
}
