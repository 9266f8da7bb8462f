//! Pools of floating IPs.

use insta::assert_snapshot;
use reqwest::Method;
use trestle_api::agent::Report;

use crate::harness::TestServer;

async fn furnished() -> TestServer {
    let server = TestServer::start().await;
    server.furnish().await;
    let pool = r#"{"name": "ext", "interface": "eth1", "ranges": ["203.0.113.0/28", "198.51.100.7", "2001:db8::/126"]}"#;
    server.done("/v1/pools", pool).await;
    server
}

#[tokio::test]
async fn a_pool_is_made_shown_and_deleted() {
    let server = furnished().await;
    let member = server.member_token("red").await;
    assert_snapshot!(server.raw_as(&member, Method::GET, "/v1/pools", "").await, @r#"
    200 OK
    {
      "items": [
        {
          "created_at": "[time]",
          "id": "[id]",
          "interface": "eth1",
          "name": "ext",
          "ranges": [
            "198.51.100.7",
            "203.0.113.1-203.0.113.14",
            "2001:db8::1-2001:db8::3"
          ],
          "total": 18,
          "used": 0
        }
      ]
    }
    "#);
    assert_snapshot!(server.raw_as(&member, Method::POST, "/v1/pools", r#"{"name": "mine"}"#).await, @r#"
    403 Forbidden
    {
      "error": {
        "code": "forbidden",
        "message": "making a pool is for admins"
      }
    }
    "#);
    server.done("/v1/pools", r#"{"name": "empty"}"#).await;
    server.done_as(Method::DELETE, "/v1/pools/empty", "").await;
    assert_snapshot!(server.refused_as(Method::DELETE, "/v1/pools/empty", "").await, @r#"
    404 Not Found
    {
      "error": {
        "code": "not_found",
        "message": "no pool `empty`"
      }
    }
    "#);
    assert_snapshot!(server.told("pool").await, @"
    pool.created: pool `ext` was made with 198.51.100.7, 203.0.113.1-203.0.113.14, 2001:db8::1-2001:db8::3
    pool.created: pool `empty` was made with no addresses
    pool.deleted: pool `empty` was deleted
    ");
    server.stop().await;
}

#[tokio::test]
async fn everything_that_is_wrong_with_a_pool_is_listed() {
    let server = furnished().await;
    let wrong = r#"{"name": "Bad Name", "interface": "tr-0123456789ab", "ranges": ["203.0.113.64/28", "203.0.113.70",
        "203.0.113.5/24", "127.0.0.0/8", "ff02::1-ff02::9", "203.0.113.9-203.0.113.1"]}"#;
    assert_snapshot!(server.refused("/v1/pools", wrong).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "7 things are wrong with the request",
        "problems": [
          {
            "code": "bad_name",
            "field": "name",
            "message": "`Bad Name` is not a name: use 1 to 63 of a-z, 0-9 and `-`, with no `-` at either end"
          },
          {
            "code": "bad_link_name",
            "field": "interface",
            "message": "`tr-0123456789ab` begins with `tr-`, which is kept for instances' devices"
          },
          {
            "code": "range_overlaps",
            "field": "ranges[1]",
            "message": "203.0.113.70 overlaps with 203.0.113.65-203.0.113.78, which ranges[0] is"
          },
          {
            "code": "bad_range",
            "field": "ranges[2]",
            "message": "`203.0.113.5/24` has host bits set; the network is 203.0.113.0/24"
          },
          {
            "code": "bad_range",
            "field": "ranges[3]",
            "message": "127.0.0.1-127.255.255.254 has addresses that no host can have"
          },
          {
            "code": "bad_range",
            "field": "ranges[4]",
            "message": "ff02::1-ff02::9 has addresses that no host can have"
          },
          {
            "code": "bad_range",
            "field": "ranges[5]",
            "message": "`203.0.113.9-203.0.113.1` is not a range of addresses: write it as 10.0.0.5-10.0.0.9, 10.0.0.5 or 10.0.0.0/29"
          }
        ]
      }
    }
    "#);
    assert_snapshot!(server.refused("/v1/pools", r#"{"name": "ext"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "name_taken",
        "message": "there is a pool `ext` already"
      }
    }
    "#);
    let taken =
        r#"{"name": "other", "ranges": ["10.0.0.128/25", "203.0.113.14-203.0.113.20", "2001:db8::/64"]}"#;
    assert_snapshot!(server.refused("/v1/pools", taken).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "range_overlaps",
        "hint": "`trestle network list` and `trestle pool list` show the ranges that are taken; a host's own addresses cannot float",
        "message": "10.0.0.129-10.0.0.254 overlaps with network `public`, which has 10.0.0.0/24",
        "problems": [
          {
            "code": "range_overlaps",
            "field": "ranges[0]",
            "message": "10.0.0.129-10.0.0.254 overlaps with network `public`, which has 10.0.0.0/24"
          },
          {
            "code": "range_overlaps",
            "field": "ranges[1]",
            "message": "203.0.113.14-203.0.113.20 overlaps with pool `ext`, which has 203.0.113.1-203.0.113.14"
          },
          {
            "code": "range_overlaps",
            "field": "ranges[2]",
            "message": "2001:db8::1-2001:db8::ffff:ffff:ffff:ffff overlaps with pool `ext`, which has 2001:db8::1-2001:db8::3"
          }
        ]
      }
    }
    "#);
    let network = r#"{"name": "n", "type": "flat_dhcp", "cidr": "203.0.113.0/24", "cidr_v6": "2001:db8::/64", "bridge": "br9"}"#;
    assert_snapshot!(server.refused("/v1/networks", network).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "range_overlaps",
        "hint": "`trestle pool list` shows the ranges that are taken",
        "message": "203.0.113.0/24 overlaps with pool `ext`, which has 203.0.113.1-203.0.113.14",
        "problems": [
          {
            "code": "range_overlaps",
            "field": "cidr",
            "message": "203.0.113.0/24 overlaps with pool `ext`, which has 203.0.113.1-203.0.113.14"
          },
          {
            "code": "range_overlaps",
            "field": "cidr_v6",
            "message": "2001:db8::/64 overlaps with pool `ext`, which has 2001:db8::1-2001:db8::3"
          }
        ]
      }
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn what_a_host_has_for_itself_does_not_float() {
    let server = TestServer::start().await;
    server.done("/v1/hosts", r#"{"name": "a", "routing_source_ip": "203.0.113.50"}"#).await;
    let agent = server.client(&server.agent_token("a").await);
    let report = Report {
        addresses: ["203.0.113.11", "2001:db8::11"].map(|address| address.parse().unwrap()).into(),
        ..Report::default()
    };
    agent.report("a", &report).await.unwrap();
    let pool = r#"{"name": "ext", "ranges": ["203.0.113.0/28", "203.0.113.50", "2001:db8::/64"]}"#;
    assert_snapshot!(server.refused("/v1/pools", pool).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "range_overlaps",
        "hint": "`trestle network list` and `trestle pool list` show the ranges that are taken; a host's own addresses cannot float",
        "message": "203.0.113.1-203.0.113.14 overlaps with host `a`, which has 203.0.113.11",
        "problems": [
          {
            "code": "range_overlaps",
            "field": "ranges[0]",
            "message": "203.0.113.1-203.0.113.14 overlaps with host `a`, which has 203.0.113.11"
          },
          {
            "code": "range_overlaps",
            "field": "ranges[1]",
            "message": "203.0.113.50 overlaps with host `a`, which has 203.0.113.50"
          },
          {
            "code": "range_overlaps",
            "field": "ranges[2]",
            "message": "2001:db8::1-2001:db8::ffff:ffff:ffff:ffff overlaps with host `a`, which has 2001:db8::11"
          }
        ]
      }
    }
    "#);
    server.done("/v1/pools", r#"{"name": "ext", "ranges": ["203.0.113.20-203.0.113.29"]}"#).await;
    let source = r#"{"routing_source_ip": "203.0.113.20"}"#;
    assert_snapshot!(server.refused_as(Method::PATCH, "/v1/hosts/a", source).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "range_overlaps",
        "hint": "name an address of the host's own, or take it out of the pool",
        "message": "203.0.113.20 is an address of pool `ext`, which has 203.0.113.20-203.0.113.29"
      }
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn ranges_come_and_go_as_they_are_given() {
    let server = furnished().await;
    let range = r#"{"range": "203.0.113.16/30"}"#;
    for _ in 0..2 {
        let pool = server.done("/v1/pools/ext/ranges", range).await;
        assert_eq!(pool["ranges"].as_array().unwrap().len(), 4);
        assert_eq!(pool["ranges"][2], "203.0.113.17-203.0.113.18");
    }
    assert_snapshot!(server.refused("/v1/pools/ext/ranges", r#"{"range": "203.0.113.18-203.0.113.20"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "range_overlaps",
        "hint": "`trestle network list` and `trestle pool list` show the ranges that are taken; a host's own addresses cannot float",
        "message": "203.0.113.18-203.0.113.20 overlaps with pool `ext`, which has 203.0.113.17-203.0.113.18",
        "problems": [
          {
            "code": "range_overlaps",
            "field": "range",
            "message": "203.0.113.18-203.0.113.20 overlaps with pool `ext`, which has 203.0.113.17-203.0.113.18"
          }
        ]
      }
    }
    "#);
    assert_snapshot!(server.refused("/v1/pools/ext/ranges/remove", r#"{"range": "203.0.113.18"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "range_overlaps",
        "hint": "a range is taken out as it was added: `trestle pool show ext` lists them",
        "message": "203.0.113.18 is not the same as 203.0.113.17-203.0.113.18, which pool `ext` has"
      }
    }
    "#);
    for shown in ["203.0.113.17-203.0.113.18", "203.0.113.16/30"] {
        let body = format!(r#"{{"range": "{shown}"}}"#);
        let pool = server.done("/v1/pools/ext/ranges/remove", &body).await;
        assert_eq!(pool["ranges"].as_array().unwrap().len(), 3);
    }
    assert_snapshot!(server.told("pool.range_added").await, @"pool.range_added: 203.0.113.17-203.0.113.18 was added to pool `ext`");
    assert_snapshot!(server.told("pool.range_removed").await, @"pool.range_removed: 203.0.113.17-203.0.113.18 was taken out of pool `ext`");
    server.stop().await;
}

#[tokio::test]
async fn what_is_reserved_or_given_out_by_itself_keeps_its_pool() {
    let server = furnished().await;
    for _ in 0..2 {
        server.done("/v1/floating-ips", r#"{"project": "red"}"#).await;
    }
    assert_snapshot!(server.refused("/v1/pools/ext/ranges/remove", r#"{"range": "203.0.113.0/28"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "in_use",
        "hint": "release them with `trestle floating-ip release`",
        "message": "203.0.113.1-203.0.113.14 of pool `ext` has floating IP `203.0.113.1`"
      }
    }
    "#);
    server.done_as(Method::PATCH, "/v1/projects/blue", r#"{"auto_assign": "ext"}"#).await;
    let network =
        r#"{"name": "n", "type": "flat_dhcp", "cidr": "10.9.0.0/24", "bridge": "br9", "auto_assign": "ext"}"#;
    let network = server.done("/v1/networks", network).await;
    assert_eq!(network["items"][0]["auto_assign"], "ext");
    assert_snapshot!(server.refused_as(Method::DELETE, "/v1/pools/ext", "").await, @r#"
    409 Conflict
    {
      "error": {
        "code": "in_use",
        "hint": "release floating IPs with `trestle floating-ip release`, and end what projects give out by themselves with `trestle project set PROJECT --auto-assign ''`; a network does so for as long as it is there",
        "message": "pool `ext` is used by floating IP `198.51.100.7`, floating IP `203.0.113.1`, network `n`, project `blue`"
      }
    }
    "#);
    let flat =
        r#"{"name": "f", "type": "flat", "cidr": "10.8.0.0/24", "bridge": "br8", "auto_assign": "ext"}"#;
    assert_snapshot!(server.refused("/v1/networks", flat).await, @r#"
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
    assert_snapshot!(server.refused_as(Method::PATCH, "/v1/projects/blue", r#"{"auto_assign": "none"}"#).await, @r#"
    404 Not Found
    {
      "error": {
        "code": "not_found",
        "message": "no pool `none`"
      }
    }
    "#);
    assert_snapshot!(server.told("project.changed").await, @"project.changed of blue: new instances of project `blue` get a floating IP of pool `ext`");
    for address in ["198.51.100.7", "203.0.113.1"] {
        server.done_as(Method::DELETE, &format!("/v1/floating-ips/{address}"), "").await;
    }
    server.done("/v1/pools/ext/ranges/remove", r#"{"range": "203.0.113.0/28"}"#).await;
    let other = r#"{"name": "other", "ranges": ["203.0.113.0/28"]}"#;
    server.done("/v1/pools", other).await;
    server.stop().await;
}
