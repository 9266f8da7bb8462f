//! Floating IPs as clients see them.

use insta::assert_snapshot;
use reqwest::Method;

use crate::harness::TestServer;

/// What [`TestServer::furnish`] makes, a pool of each family, red's `db` beside its `web`, and `web`
/// plugged in on host1.
async fn furnished() -> TestServer {
    let server = TestServer::start().await;
    server.furnish().await;
    server.done_as(Method::PATCH, "/v1/hosts/host1", r#"{"public_interface": "eth0"}"#).await;
    server.done("/v1/pools", r#"{"name": "ext", "ranges": ["203.0.113.0/29"]}"#).await;
    server.create_instance("red", "db").await;
    server.done("/v1/instances/web/attach?project=red", r#"{"host": "host1"}"#).await;
    server
}

/// Reserves 203.0.113.1 for red.
async fn reserved() -> TestServer {
    let server = furnished().await;
    server.done("/v1/floating-ips", r#"{"project": "red"}"#).await;
    server
}

const ONE: &str = "/v1/floating-ips/203.0.113.1";
const ASSOCIATE: &str = "/v1/floating-ips/203.0.113.1/associate";
const FORWARDS: &str = "/v1/floating-ips/203.0.113.1/forwards";

#[tokio::test]
async fn a_floating_ip_is_reserved_led_moved_and_released() {
    let server = furnished().await;
    let _agent = server.play_agent("host1", Vec::new()).await;
    let post = async |path: &str, body: &str| server.raw(Method::POST, path, body).await;
    assert_snapshot!(post("/v1/floating-ips", r#"{"project": "red"}"#).await, @r#"
    201 Created
    {
      "address": "203.0.113.1",
      "auto_assigned": false,
      "forwards": [],
      "host": null,
      "pool": "ext",
      "project": "red",
      "reserved_at": "[time]",
      "state": "reserved"
    }
    "#);
    assert_snapshot!(post(ASSOCIATE, r#"{"instance": "web"}"#).await, @r#"
    200 OK
    {
      "address": "203.0.113.1",
      "auto_assigned": false,
      "fixed_ip": "10.0.0.2",
      "forwards": [],
      "host": "host1",
      "instance": "web",
      "network": "public",
      "pool": "ext",
      "project": "red",
      "reserved_at": "[time]",
      "state": "active"
    }
    "#);
    assert_snapshot!(post(FORWARDS, r#"{"protocol": "tcp", "port": 2222, "instance": "db", "fixed_port": 22}"#).await, @r#"
    200 OK
    {
      "address": "203.0.113.1",
      "auto_assigned": false,
      "fixed_ip": "10.0.0.2",
      "forwards": [
        {
          "fixed_ip": "10.0.0.3",
          "fixed_port": 22,
          "instance": "db",
          "network": "public",
          "port": 2222,
          "protocol": "tcp",
          "served": false
        }
      ],
      "host": "host1",
      "instance": "web",
      "network": "public",
      "pool": "ext",
      "project": "red",
      "reserved_at": "[time]",
      "state": "active"
    }
    "#);
    let web = server.raw(Method::GET, "/v1/instances/web?project=red", "").await;
    assert!(web.contains("\"floating_ips\": [\n        \"203.0.113.1\"\n      ]"), "{web}");
    assert_snapshot!(post(ASSOCIATE, r#"{"instance": "db", "move": true}"#).await, @r#"
    200 OK
    {
      "address": "203.0.113.1",
      "auto_assigned": false,
      "fixed_ip": "10.0.0.3",
      "forwards": [
        {
          "fixed_ip": "10.0.0.3",
          "fixed_port": 22,
          "instance": "db",
          "network": "public",
          "port": 2222,
          "protocol": "tcp",
          "served": false
        }
      ],
      "host": null,
      "instance": "db",
      "network": "public",
      "pool": "ext",
      "project": "red",
      "reserved_at": "[time]",
      "state": "detached"
    }
    "#);
    assert_snapshot!(server.raw(Method::DELETE, &format!("{FORWARDS}/tcp/2222"), "").await, @r#"
    200 OK
    {
      "address": "203.0.113.1",
      "auto_assigned": false,
      "fixed_ip": "10.0.0.3",
      "forwards": [],
      "host": null,
      "instance": "db",
      "network": "public",
      "pool": "ext",
      "project": "red",
      "reserved_at": "[time]",
      "state": "detached"
    }
    "#);
    let nowhere = server.done(&format!("{ONE}/disassociate"), "").await;
    assert_eq!(nowhere["state"], "reserved");
    server.done_as(Method::DELETE, ONE, "").await;
    assert_snapshot!(server.refused_as(Method::DELETE, ONE, "").await, @r#"
    404 Not Found
    {
      "error": {
        "code": "not_found",
        "hint": "`trestle floating-ip list` shows those that there are",
        "message": "no floating IP `203.0.113.1`"
      }
    }
    "#);
    assert_snapshot!(server.told("floating_ip").await, @"
    floating_ip.reserved of red: floating IP 203.0.113.1 was reserved for project `red`
    floating_ip.associated of red on host1: floating IP 203.0.113.1 leads to instance `web`, to 10.0.0.2 on network `public`
    floating_ip.forwarded of red on host1: port tcp/2222 of floating IP 203.0.113.1 leads to instance `db`, to port 22 of 10.0.0.3
    floating_ip.disassociated of red on host1: floating IP 203.0.113.1 does not lead to instance `web` any more
    floating_ip.associated of red: floating IP 203.0.113.1 leads to instance `db`, to 10.0.0.3 on network `public`
    floating_ip.unforwarded of red: port tcp/2222 of floating IP 203.0.113.1 does not lead to instance `db` any more
    floating_ip.disassociated of red: floating IP 203.0.113.1 does not lead to instance `db` any more
    floating_ip.released of red: floating IP 203.0.113.1 was released by project `red`
    ");
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_reserved_is_refused() {
    let server = reserved().await;
    let refused = async |body: &str| server.refused("/v1/floating-ips", body).await;
    assert_snapshot!(refused(r#"{"address": "203.0.113.300", "family": "ipv5"}"#).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "3 things are wrong with the request",
        "problems": [
          {
            "code": "required",
            "field": "project",
            "message": "a floating IP needs a project"
          },
          {
            "code": "bad_address",
            "field": "address",
            "message": "`203.0.113.300` is not an IP address"
          },
          {
            "code": "bad_family",
            "field": "family",
            "message": "`ipv5` is no family: use ipv4 or ipv6"
          }
        ]
      }
    }
    "#);
    assert_snapshot!(refused(r#"{"project": "red", "address": "203.0.113.2", "family": "ipv6"}"#).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "family: 203.0.113.2 is not an IPv6 address",
        "problems": [
          {
            "code": "wrong_family",
            "field": "family",
            "message": "203.0.113.2 is not an IPv6 address"
          }
        ]
      }
    }
    "#);
    assert_snapshot!(refused(r#"{"project": "red", "address": "192.0.2.1"}"#).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "address: 192.0.2.1 is in no pool",
        "problems": [
          {
            "code": "bad_address",
            "field": "address",
            "message": "192.0.2.1 is in no pool"
          }
        ]
      }
    }
    "#);
    assert_snapshot!(refused(r#"{"project": "blue", "address": "203.0.113.1"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "address_taken",
        "hint": "leave `address` out to have one that is free",
        "message": "another project has floating IP 203.0.113.1"
      }
    }
    "#);
    assert_snapshot!(refused(r#"{"project": "red", "pool": "none"}"#).await, @r#"
    404 Not Found
    {
      "error": {
        "code": "not_found",
        "message": "no pool `none`"
      }
    }
    "#);
    assert_snapshot!(refused(r#"{"project": "red", "family": "ipv6"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "no_pool",
        "hint": "an administrator makes one with `trestle pool create`",
        "message": "no pool has IPv6 addresses"
      }
    }
    "#);
    server.done("/v1/pools", r#"{"name": "more", "ranges": ["198.51.100.1"]}"#).await;
    assert_snapshot!(refused(r#"{"project": "red"}"#).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "pool: several pools have IPv4 addresses: say which of `ext`, `more`",
        "problems": [
          {
            "code": "required",
            "field": "pool",
            "message": "several pools have IPv4 addresses: say which of `ext`, `more`"
          }
        ]
      }
    }
    "#);
    assert_snapshot!(refused(r#"{"project": "red", "pool": "more", "address": "203.0.113.2"}"#).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "address: 203.0.113.2 is not an address of pool `more`",
        "problems": [
          {
            "code": "bad_address",
            "field": "address",
            "message": "203.0.113.2 is not an address of pool `more`"
          }
        ]
      }
    }
    "#);
    server.done("/v1/floating-ips", r#"{"project": "red", "pool": "more"}"#).await;
    assert_snapshot!(refused(r#"{"project": "red", "pool": "more"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "pool_full",
        "hint": "release floating IPs that are not needed; an administrator adds addresses with `trestle pool add-range`",
        "message": "no IPv4 address of pool `more` is free"
      }
    }
    "#);
    server.done_as(Method::PATCH, "/v1/projects/red", r#"{"floating_ips": 2}"#).await;
    assert_snapshot!(refused(r#"{"project": "red", "pool": "ext"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "quota_exceeded",
        "hint": "delete what is not needed, or raise the limit with `trestle project set-quota`",
        "message": "project `red` has 2 of the 2 floating IPs that it may have, and this takes 1 more"
      }
    }
    "#);
    // What it has already is no more.
    server.done("/v1/floating-ips", r#"{"project": "red", "address": "203.0.113.1"}"#).await;
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_led_is_refused() {
    let server = reserved().await;
    let flat = r#"{"name": "flat", "type": "flat", "cidr": "10.8.0.0/24", "bridge": "br8"}"#;
    server.done("/v1/networks", flat).await;
    let second = r#"{"name": "second", "type": "flat_dhcp", "cidr": "10.7.0.0/24", "cidr_v6": "fd00:7::/64", "bridge": "br7"}"#;
    server.done("/v1/networks", second).await;
    let make = async |name: &str, networks: &str| {
        let body = format!(r#"{{"name": "{name}", "project": "red", "interfaces": [{networks}]}}"#);
        server.done("/v1/instances", &body).await
    };
    make("bare", "").await;
    make("flat", r#"{"network": "flat"}"#).await;
    make("two", r#"{"network": "public"}, {"network": "second"}, {"network": "flat"}"#).await;
    let refused = async |body: &str| server.refused(ASSOCIATE, body).await;
    assert_snapshot!(refused(r#"{"instance": "cellar"}"#).await, @r#"
    404 Not Found
    {
      "error": {
        "code": "not_found",
        "hint": "floating IP 203.0.113.1 leads to instances of project `red`, which has it",
        "message": "no instance `cellar`"
      }
    }
    "#);
    assert_snapshot!(refused(r#"{"instance": ""}"#).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "instance: say which instance",
        "problems": [
          {
            "code": "required",
            "field": "instance",
            "message": "say which instance"
          }
        ]
      }
    }
    "#);
    assert_snapshot!(refused(r#"{"instance": "web", "fixed_ip": "x"}"#).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "fixed_ip: `x` is not an IP address",
        "problems": [
          {
            "code": "bad_address",
            "field": "fixed_ip",
            "message": "`x` is not an IP address"
          }
        ]
      }
    }
    "#);
    assert_snapshot!(refused(r#"{"instance": "web", "fixed_ip": "10.0.0.9"}"#).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "fixed_ip: 10.0.0.9 is not a fixed IP of instance `web`, which has 10.0.0.2",
        "problems": [
          {
            "code": "bad_address",
            "field": "fixed_ip",
            "message": "10.0.0.9 is not a fixed IP of instance `web`, which has 10.0.0.2"
          }
        ]
      }
    }
    "#);
    assert_snapshot!(refused(r#"{"instance": "bare"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "no_fixed_ip",
        "hint": "`trestle instance add-interface bare --network NETWORK` puts it on a network that has some",
        "message": "instance `bare` has no IPv4 address"
      }
    }
    "#);
    assert_snapshot!(refused(r#"{"instance": "flat"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "not_routed",
        "hint": "floating IPs lead to addresses on networks of type `flat_dhcp` or `vlan`",
        "message": "instance `flat` has 10.8.0.2 on network `flat`, which is of type `flat`: Trestle does not route for it"
      }
    }
    "#);
    assert_snapshot!(refused(r#"{"instance": "two"}"#).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "fixed_ip: instance `two` has several IPv4 addresses that a floating IP can lead to: say which of 10.0.0.4, 10.7.0.2",
        "problems": [
          {
            "code": "required",
            "field": "fixed_ip",
            "message": "instance `two` has several IPv4 addresses that a floating IP can lead to: say which of 10.0.0.4, 10.7.0.2"
          }
        ]
      }
    }
    "#);
    assert_snapshot!(refused(r#"{"instance": "two", "fixed_ip": "fd00:7::2"}"#).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "fixed_ip: fd00:7::2 is not an IPv4 address, as floating IP 203.0.113.1 is",
        "problems": [
          {
            "code": "wrong_family",
            "field": "fixed_ip",
            "message": "fd00:7::2 is not an IPv4 address, as floating IP 203.0.113.1 is"
          }
        ]
      }
    }
    "#);
    assert_snapshot!(refused(r#"{"instance": "two", "fixed_ip": "10.8.0.3"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "not_routed",
        "hint": "floating IPs lead to addresses on networks of type `flat_dhcp` or `vlan`",
        "message": "instance `two` has 10.8.0.3 on network `flat`, which is of type `flat`: Trestle does not route for it"
      }
    }
    "#);
    server.done(ASSOCIATE, r#"{"instance": "two", "fixed_ip": "10.7.0.2"}"#).await;
    assert_snapshot!(refused(r#"{"instance": "web"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "already_associated",
        "hint": "`trestle floating-ip move 203.0.113.1 web` moves it at once",
        "message": "floating IP 203.0.113.1 leads to instance `two`, to 10.7.0.2"
      }
    }
    "#);
    assert_snapshot!(server.refused_as(Method::DELETE, ONE, "").await, @r#"
    409 Conflict
    {
      "error": {
        "code": "in_use",
        "hint": "`trestle floating-ip disassociate 203.0.113.1` and `trestle floating-ip unforward 203.0.113.1 PROTOCOL/PORT` end that",
        "message": "floating IP 203.0.113.1 still leads to instance `two`"
      }
    }
    "#);
    assert_snapshot!(server.refused_as(Method::DELETE, "/v1/projects/red", "").await, @r#"
    409 Conflict
    {
      "error": {
        "code": "in_use",
        "hint": "delete instances with `trestle instance delete`, and take networks from it with `trestle network disassociate` or `delete`, floating IPs with `trestle floating-ip release`, and DNS domains with `trestle dns domain delete`",
        "message": "project `red` still owns instance `bare`, instance `db`, instance `flat`, instance `two`, instance `web`, floating IP `203.0.113.1`"
      }
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn a_host_without_the_device_is_refused_before_anything_is_asked_of_it() {
    let server = reserved().await;
    server.done_as(Method::PATCH, "/v1/hosts/host1", r#"{"public_interface": ""}"#).await;
    assert_snapshot!(server.refused(ASSOCIATE, r#"{"instance": "web"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "no_public_interface",
        "hint": "name one with `trestle host set host1 --public-interface DEVICE`",
        "message": "host `host1` has no public interface, which floating IP 203.0.113.1 is to be on"
      }
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn what_the_host_cannot_have_is_told_and_leads_where_it_did() {
    let server = reserved().await;
    let problem = trestle_api::plan::Problem {
        key: "address/eth0/203.0.113.1/32".parse().unwrap(),
        code: trestle_core::plan::ProblemCode::StepFailed,
        detail: "another machine answers for it".to_owned(),
    };
    let _agent = server.play_agent("host1", vec![problem]).await;
    let before = server.raw(Method::GET, ONE, "").await;
    assert_snapshot!(server.raw(Method::POST, ASSOCIATE, r#"{"instance": "web"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "host_problem",
        "hint": "it leads where it did before; `trestle host show host1` lists the host's problems",
        "message": "host `host1` cannot have floating IP 203.0.113.1: address/eth0/203.0.113.1/32: another machine answers for it"
      }
    }
    "#);
    assert_eq!(server.raw(Method::GET, ONE, "").await, before);
    assert_snapshot!(server.told("floating_ip").await, @"
    floating_ip.reserved of red: floating IP 203.0.113.1 was reserved for project `red`
    floating_ip.associated of red on host1: floating IP 203.0.113.1 leads to instance `web`, to 10.0.0.2 on network `public`
    floating_ip.refused of red on host1: floating IP 203.0.113.1 leads where it did: host `host1` did not take it
    ");
    server.stop().await;
}

#[tokio::test]
async fn ports_that_cannot_be_forwarded_are_refused() {
    let server = reserved().await;
    let wrong = r#"{"protocol": "icmp", "port": 0, "instance": "web", "fixed_port": 65536}"#;
    assert_snapshot!(server.refused(FORWARDS, wrong).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "3 things are wrong with the request",
        "problems": [
          {
            "code": "bad_protocol",
            "field": "protocol",
            "message": "`icmp` is not a protocol with ports: use tcp or udp"
          },
          {
            "code": "bad_port",
            "field": "port",
            "message": "0 is not a port: use 1 to 65535"
          },
          {
            "code": "bad_port",
            "field": "fixed_port",
            "message": "65536 is not a port: use 1 to 65535"
          }
        ]
      }
    }
    "#);
    server.done(FORWARDS, r#"{"protocol": "udp", "port": 53, "instance": "web"}"#).await;
    server.done(FORWARDS, r#"{"protocol": "udp", "port": 53, "instance": "web", "fixed_port": 53}"#).await;
    assert_snapshot!(server.refused(FORWARDS, r#"{"protocol": "udp", "port": 53, "instance": "db"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "port_taken",
        "hint": "`trestle floating-ip unforward 203.0.113.1 udp/53` ends that",
        "message": "port udp/53 of floating IP 203.0.113.1 leads to instance `web`, to port 53 of 10.0.0.2"
      }
    }
    "#);
    assert_snapshot!(server.refused_as(Method::DELETE, ONE, "").await, @r#"
    409 Conflict
    {
      "error": {
        "code": "in_use",
        "hint": "`trestle floating-ip disassociate 203.0.113.1` and `trestle floating-ip unforward 203.0.113.1 PROTOCOL/PORT` end that",
        "message": "floating IP 203.0.113.1 still leads to instance `web` (port udp/53)"
      }
    }
    "#);
    let same = server.done_as(Method::DELETE, &format!("{FORWARDS}/tcp/53"), "").await;
    assert_eq!(same["forwards"].as_array().map(Vec::len), Some(1), "a port that leads nowhere else stays so");
    assert_snapshot!(server.refused_as(Method::DELETE, &format!("{FORWARDS}/sctp/x"), "").await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "2 things are wrong with the request",
        "problems": [
          {
            "code": "bad_protocol",
            "field": "protocol",
            "message": "`sctp` is not a protocol with ports: use tcp or udp"
          },
          {
            "code": "bad_port",
            "field": "port",
            "message": "0 is not a port: use 1 to 65535"
          }
        ]
      }
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn a_member_has_its_own_project_s_floating_ips_alone() {
    let server = reserved().await;
    let (red, blue) = (server.member_token("red").await, server.member_token("blue").await);
    let as_blue =
        async |method: Method, path: &str, body: &str| server.raw_as(&blue, method, path, body).await;
    let not_there = as_blue(Method::GET, ONE, "").await;
    assert_snapshot!(not_there, @r#"
    404 Not Found
    {
      "error": {
        "code": "not_found",
        "hint": "`trestle floating-ip list` shows those that there are",
        "message": "no floating IP `203.0.113.1`"
      }
    }
    "#);
    assert_eq!(as_blue(Method::DELETE, ONE, "").await, not_there);
    assert_eq!(as_blue(Method::POST, ASSOCIATE, r#"{"instance": "web"}"#).await, not_there);
    assert_snapshot!(as_blue(Method::POST, "/v1/floating-ips", r#"{"project": "red"}"#).await, @r#"
    404 Not Found
    {
      "error": {
        "code": "not_found",
        "message": "no project `red`"
      }
    }
    "#);
    assert_snapshot!(as_blue(Method::GET, "/v1/floating-ips", "").await, @r#"
    200 OK
    {
      "items": []
    }
    "#);
    let own = server.raw_as(&red, Method::POST, "/v1/floating-ips", "{}").await;
    assert!(own.starts_with("201") && own.contains(r#""project": "red""#), "{own}");
    let agent = server.agent_token("host1").await;
    assert_snapshot!(server.raw_as(&agent, Method::POST, ASSOCIATE, r#"{"instance": "web"}"#).await, @r#"
    403 Forbidden
    {
      "error": {
        "code": "forbidden",
        "message": "associating a floating IP is not for agents"
      }
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn lists_are_filtered_and_come_in_pages() {
    let server = reserved().await;
    server.done("/v1/pools", r#"{"name": "more", "ranges": ["198.51.100.1"]}"#).await;
    for body in [r#"{"project": "blue", "pool": "ext"}"#, r#"{"project": "red", "pool": "more"}"#] {
        server.done("/v1/floating-ips", body).await;
    }
    server.done("/v1/floating-ips/198.51.100.1/associate", r#"{"instance": "web"}"#).await;
    server.done(FORWARDS, r#"{"protocol": "tcp", "port": 80, "instance": "web"}"#).await;
    let list = async |query: &str| {
        let page = server.done_as(Method::GET, &format!("/v1/floating-ips?{query}"), "").await;
        let items = page["items"].as_array().unwrap().iter();
        let addresses: Vec<&str> = items.map(|item| item["address"].as_str().unwrap()).collect();
        format!("{} then {}", addresses.join(" "), page["next"])
    };
    assert_eq!(list("").await, "198.51.100.1 203.0.113.1 203.0.113.2 then null");
    assert_eq!(list("limit=2").await, "198.51.100.1 203.0.113.1 then \"203.0.113.1\"");
    assert_eq!(list("limit=2&after=203.0.113.1").await, "203.0.113.2 then null");
    assert_eq!(list("pool=more").await, "198.51.100.1 then null");
    assert_eq!(list("project=red").await, "198.51.100.1 203.0.113.1 then null");
    assert_eq!(list("instance=web&project=red").await, "198.51.100.1 203.0.113.1 then null");
    assert_eq!(list("instance=db").await, " then null");
    server.stop().await;
}
