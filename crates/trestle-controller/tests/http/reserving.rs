//! Addresses that no instance is given.

use insta::assert_snapshot;

use crate::harness::TestServer;

async fn one_network() -> TestServer {
    let server = TestServer::start().await;
    server.done("/v1/projects", r#"{"name": "red"}"#).await;
    let network = r#"{"name": "net", "cidr": "10.0.0.0/28", "cidr_v6": "fd00::/64", "project": "red"}"#;
    server.done("/v1/networks", network).await;
    server
}

#[tokio::test]
async fn a_reserved_range_is_passed_over_until_it_is_given_back() {
    let server = one_network().await;
    let range = r#"{"range": "10.0.0.3-10.0.0.12", "reason": "rack switches"}"#;
    for _ in 0..2 {
        let reserved = server.done("/v1/networks/net/reserve", range).await;
        assert_eq!(
            (&reserved["ipv4"]["total"], &reserved["reserved"][0]["reason"]),
            (&2.into(), &"rack switches".into())
        );
    }
    let make = async |name: &str| {
        let body = format!(r#"{{"name": "{name}", "project": "red"}}"#);
        server.done("/v1/instances", &body).await["interfaces"][0]["addresses"][0].take()
    };
    assert_eq!([make("one").await, make("two").await], ["10.0.0.13", "10.0.0.14"]);
    assert_snapshot!(server.refused("/v1/instances", r#"{"name": "three", "project": "red"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "network_full",
        "hint": "delete instances that are not needed",
        "message": "network `net` is full: all of its 2 IPv4 addresses are taken"
      }
    }
    "#);
    for _ in 0..2 {
        let free = server.done("/v1/networks/net/unreserve", r#"{"range": "10.0.0.3-10.0.0.12"}"#).await;
        assert_eq!(free["reserved"], serde_json::json!([]));
    }
    assert_eq!(make("three").await, "10.0.0.3");
    assert_snapshot!(server.told("network").await, @"
    network.created of red: network `net` was made with 10.0.0.0/28 and fd00::/64
    network.reserved of red: 10.0.0.3-10.0.0.12 of network `net` is reserved: rack switches
    network.unreserved of red: 10.0.0.3-10.0.0.12 of network `net` is reserved no more
    ");
    server.stop().await;
}

#[tokio::test]
async fn an_address_in_use_stays_in_use_and_is_told() {
    let server = one_network().await;
    server.done("/v1/instances", r#"{"name": "web", "project": "red"}"#).await;
    server.done("/v1/networks/net/reserve", r#"{"range": "10.0.0.0/29"}"#).await;
    assert_snapshot!(server.told("network.reserved").await, @"network.reserved of red: 10.0.0.0-10.0.0.7 of network `net` is reserved; still in use until given back: 10.0.0.3");
    server.stop().await;
}

#[tokio::test]
async fn a_range_that_lies_outside_or_overlaps_is_refused() {
    let server = one_network().await;
    server.done("/v1/networks/net/reserve", r#"{"range": "10.0.0.4-10.0.0.7"}"#).await;
    let reserve = async |body: &str| server.refused("/v1/networks/net/reserve", body).await;
    assert_snapshot!(reserve(r#"{"range": "10.0.0.9-10.0.0.5"}"#).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "range: `10.0.0.9-10.0.0.5` is not a range of addresses: write it as 10.0.0.5-10.0.0.9, 10.0.0.5 or 10.0.0.0/29",
        "problems": [
          {
            "code": "bad_range",
            "field": "range",
            "message": "`10.0.0.9-10.0.0.5` is not a range of addresses: write it as 10.0.0.5-10.0.0.9, 10.0.0.5 or 10.0.0.0/29"
          }
        ]
      }
    }
    "#);
    assert_snapshot!(reserve(r#"{"range": "10.0.0.9-10.0.0.20"}"#).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "range: 10.0.0.9-10.0.0.20 is not in network `net`, which has 10.0.0.0/28 and fd00::/64",
        "problems": [
          {
            "code": "range_outside",
            "field": "range",
            "message": "10.0.0.9-10.0.0.20 is not in network `net`, which has 10.0.0.0/28 and fd00::/64"
          }
        ]
      }
    }
    "#);
    assert_snapshot!(reserve(r#"{"range": "10.0.0.7-10.0.0.9"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "range_overlap",
        "hint": "a range is given back as it was reserved: `trestle network show` lists them",
        "message": "10.0.0.7-10.0.0.9 overlaps with 10.0.0.4-10.0.0.7, which is reserved on network `net`"
      }
    }
    "#);
    assert_snapshot!(server.refused("/v1/networks/net/unreserve", r#"{"range": "10.0.0.5"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "range_overlap",
        "hint": "a range is given back as it was reserved: `trestle network show` lists them",
        "message": "10.0.0.5 overlaps with 10.0.0.4-10.0.0.7, which is reserved on network `net`"
      }
    }
    "#);
    server.stop().await;
}
