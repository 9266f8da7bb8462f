//! Who had an address when, as clients see it.

use insta::assert_snapshot;
use reqwest::Method;

use crate::harness::TestServer;

#[tokio::test]
async fn the_newest_who_had_an_address_is_told_first_and_pages_join() {
    let server = TestServer::start().await;
    server.furnish().await;
    server.done("/v1/instances/web/attach?project=red", r#"{"host": "host1"}"#).await;
    let history = "/v1/addresses/10.0.0.2/history";
    assert_snapshot!(server.raw(Method::GET, history, "").await, @r#"
    200 OK
    {
      "items": [
        {
          "address": "10.0.0.2",
          "held_as": "fixed_ip",
          "host": "host1",
          "instance": "web",
          "mac": "[mac]",
          "project": "red",
          "since": "[time]",
          "until": null
        },
        {
          "address": "10.0.0.2",
          "held_as": "fixed_ip",
          "host": null,
          "instance": "web",
          "mac": "[mac]",
          "project": "red",
          "since": "[time]",
          "until": "[time]"
        }
      ]
    }
    "#);
    let first = server.done_as(Method::GET, &format!("{history}?limit=1"), "").await;
    let next = first["next"].as_str().unwrap();
    let second = server.done_as(Method::GET, &format!("{history}?limit=1&after={next}"), "").await;
    assert_eq!((&first["items"][0]["host"], &second["items"][0]["host"]), (&"host1".into(), &().into()));
    assert_eq!(first["items"][0]["since"], second["items"][0]["until"]);
    let blue = server.member_token("blue").await;
    assert_snapshot!(server.raw_as(&blue, Method::GET, history, "").await, @r#"
    200 OK
    {
      "items": []
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_address_or_no_time_is_refused() {
    let server = TestServer::start().await;
    assert_snapshot!(server.raw(Method::GET, "/v1/addresses/web/history?at=yesterday", "").await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "2 things are wrong with the request",
        "problems": [
          {
            "code": "bad_address",
            "field": "address",
            "message": "`web` is not an IP address"
          },
          {
            "code": "bad_time",
            "field": "at",
            "message": "`yesterday` is not a time: write it as 2026-11-29T01:00:00Z"
          }
        ]
      }
    }
    "#);
    assert_snapshot!(server.raw(Method::GET, "/v1/addresses/192.0.2.1/history?at=2026-11-29T01:00:00Z", "").await, @r#"
    200 OK
    {
      "items": []
    }
    "#);
    server.stop().await;
}
