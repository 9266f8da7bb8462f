//! Domains and names in them, as clients see them.

use insta::assert_snapshot;
use reqwest::Method;

use crate::harness::TestServer;

const RECORDS: &str = "/v1/dns/domains/red.example/records";

#[tokio::test]
async fn a_domain_and_its_names_are_made_shown_and_deleted() {
    let server = TestServer::start().await;
    server.furnish().await;
    let raw = async |method: Method, path: &str, body: &str| server.raw(method, path, body).await;
    assert_snapshot!(raw(Method::POST, "/v1/dns/domains", r#"{"name": "red.example", "project": "red"}"#).await, @r#"
    201 Created
    {
      "created_at": "[time]",
      "name": "red.example",
      "project": "red"
    }
    "#);
    server.done("/v1/dns/domains", r#"{"name": "all.example"}"#).await;
    let www = format!("{RECORDS}/www");
    assert_snapshot!(raw(Method::PUT, &www, r#"{"addresses": ["10.0.0.2", "2001:db8::1"]}"#).await, @r#"
    200 OK
    {
      "addresses": [
        "10.0.0.2",
        "2001:db8::1"
      ],
      "domain": "red.example",
      "name": "www"
    }
    "#);
    server.done_as(Method::PUT, &format!("{RECORDS}/a.b"), r#"{"addresses": ["10.0.0.2"]}"#).await;
    assert_eq!(
        raw(Method::GET, &www, "").await,
        raw(Method::PUT, &www, r#"{"addresses": ["2001:db8::1", "10.0.0.2"]}"#).await
    );
    assert_snapshot!(raw(Method::GET, RECORDS, "").await, @r#"
    200 OK
    {
      "items": [
        {
          "addresses": [
            "10.0.0.2"
          ],
          "domain": "red.example",
          "name": "a.b"
        },
        {
          "addresses": [
            "10.0.0.2",
            "2001:db8::1"
          ],
          "domain": "red.example",
          "name": "www"
        }
      ]
    }
    "#);
    let only = server.done_as(Method::GET, &format!("{RECORDS}?address=2001:db8::1"), "").await;
    assert_eq!(only["items"].as_array().unwrap().len(), 1);
    server.done_as(Method::PUT, &www, r#"{"addresses": ["192.0.2.1"]}"#).await;
    server.done_as(Method::DELETE, &www, "").await;
    server.done_as(Method::DELETE, "/v1/dns/domains/red.example", "").await;
    assert_snapshot!(raw(Method::GET, "/v1/dns/domains", "").await, @r#"
    200 OK
    {
      "items": [
        {
          "created_at": "[time]",
          "name": "all.example",
          "project": null
        }
      ]
    }
    "#);
    assert_snapshot!(server.told("dns").await, @"
    dns.domain_created of red: domain `red.example` was made for project `red`
    dns.domain_created: domain `all.example` was made
    dns.record_created of red: name `www.red.example` leads to 10.0.0.2, 2001:db8::1
    dns.record_created of red: name `a.b.red.example` leads to 10.0.0.2
    dns.record_changed of red: name `www.red.example` leads to 192.0.2.1
    dns.record_deleted of red: name `www.red.example` was deleted
    dns.record_deleted of red: name `a.b.red.example` was deleted
    dns.domain_deleted of red: domain `red.example` was deleted, with every name in it
    ");
    server.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_domain_or_a_name_is_told() {
    let server = TestServer::start().await;
    server.furnish().await;
    server.done("/v1/dns/domains", r#"{"name": "red.example", "project": "red"}"#).await;
    assert_snapshot!(server.refused("/v1/dns/domains", r#"{"name": ""}"#).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "name: a name is needed, such as example.org",
        "problems": [
          {
            "code": "required",
            "field": "name",
            "message": "a name is needed, such as example.org"
          }
        ]
      }
    }
    "#);
    assert_snapshot!(server.refused("/v1/dns/domains", r#"{"name": "a_b.example"}"#).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "name: `a_b.example` is not a DNS domain: use labels of a-z, 0-9 and `-` joined by dots, 253 characters at most",
        "problems": [
          {
            "code": "bad_domain",
            "field": "name",
            "message": "`a_b.example` is not a DNS domain: use labels of a-z, 0-9 and `-` joined by dots, 253 characters at most"
          }
        ]
      }
    }
    "#);
    assert_snapshot!(server.refused("/v1/dns/domains", r#"{"name": "red.example"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "name_taken",
        "message": "there is a domain `red.example` already"
      }
    }
    "#);
    let put = async |name: &str, body: &str| {
        server.refused_as(Method::PUT, &format!("/v1/dns/domains/{name}"), body).await
    };
    assert_snapshot!(put("red.example/records/_x", r#"{"addresses": ["10.0.0.300"]}"#).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "2 things are wrong with the request",
        "problems": [
          {
            "code": "bad_domain",
            "field": "name",
            "message": "`_x` is not a DNS domain: use labels of a-z, 0-9 and `-` joined by dots, 253 characters at most"
          },
          {
            "code": "bad_address",
            "field": "addresses[0]",
            "message": "`10.0.0.300` is not an IP address"
          }
        ]
      }
    }
    "#);
    assert_snapshot!(put("red.example/records/www", r#"{"addresses": []}"#).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "addresses: a name needs an address",
        "problems": [
          {
            "code": "required",
            "field": "addresses",
            "message": "a name needs an address"
          }
        ]
      }
    }
    "#);
    assert_snapshot!(put("blue.example/records/www", r#"{"addresses": ["10.0.0.2"]}"#).await, @r#"
    404 Not Found
    {
      "error": {
        "code": "not_found",
        "message": "no domain `blue.example`"
      }
    }
    "#);
    assert_snapshot!(server.refused_as(Method::DELETE, &format!("{RECORDS}/www"), "").await, @r#"
    404 Not Found
    {
      "error": {
        "code": "not_found",
        "message": "no name `www.red.example`"
      }
    }
    "#);
    assert_snapshot!(server.refused_as(Method::DELETE, "/v1/projects/red", "").await, @r#"
    409 Conflict
    {
      "error": {
        "code": "in_use",
        "hint": "delete instances with `trestle instance delete`, and take networks from it with `trestle network disassociate` or `delete`, floating IPs with `trestle floating-ip release`, and DNS domains with `trestle dns domain delete`",
        "message": "project `red` still owns DNS domain `red.example`, instance `web`"
      }
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn a_member_names_what_its_project_has() {
    let server = TestServer::start().await;
    server.furnish().await;
    server.done("/v1/dns/domains", r#"{"name": "all.example"}"#).await;
    let (red, blue) = (server.member_token("red").await, server.member_token("blue").await);
    let as_red = async |method: Method, path: &str, body: &str| server.raw_as(&red, method, path, body).await;
    let made = as_red(Method::POST, "/v1/dns/domains", r#"{"name": "red.example"}"#).await;
    assert!(made.contains(r#""project": "red""#), "{made}");
    assert!(
        as_red(Method::PUT, &format!("{RECORDS}/www"), r#"{"addresses": ["10.0.0.2"]}"#)
            .await
            .starts_with("200")
    );
    assert_snapshot!(as_red(Method::PUT, &format!("{RECORDS}/www"), r#"{"addresses": ["10.1.0.2"]}"#).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "addresses[0]: 10.1.0.2 is neither a fixed nor a floating IP of the project",
        "problems": [
          {
            "code": "not_held",
            "field": "addresses[0]",
            "message": "10.1.0.2 is neither a fixed nor a floating IP of the project"
          }
        ]
      }
    }
    "#);
    assert_snapshot!(as_red(Method::DELETE, "/v1/dns/domains/all.example", "").await, @r#"
    403 Forbidden
    {
      "error": {
        "code": "forbidden",
        "message": "changing a domain that is known to all is for admins"
      }
    }
    "#);
    assert_snapshot!(server.raw_as(&blue, Method::GET, "/v1/dns/domains", "").await, @r#"
    200 OK
    {
      "items": [
        {
          "created_at": "[time]",
          "name": "all.example",
          "project": null
        }
      ]
    }
    "#);
    assert_snapshot!(server.raw_as(&blue, Method::GET, RECORDS, "").await, @r#"
    404 Not Found
    {
      "error": {
        "code": "not_found",
        "message": "no domain `red.example`"
      }
    }
    "#);
    server.stop().await;
}
