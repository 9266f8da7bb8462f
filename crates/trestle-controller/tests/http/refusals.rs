//! Every refusal is the envelope.

use insta::assert_snapshot;
use reqwest::Method;
use trestle_api::{InstanceFilter, NewNetwork, NewProject, PageQuery};

use crate::harness::{TestServer, refused, reqwest_client, shown};

#[tokio::test]
async fn a_body_that_is_not_json_is_malformed_and_the_place_is_named() {
    let server = TestServer::start().await;
    assert_snapshot!(server.raw(Method::POST, "/v1/projects", "{\"name\": \"red\",\n  oops").await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "malformed",
        "message": "the body cannot be read: key must be a string at line 2 column 3"
      }
    }
    "#);
    assert_snapshot!(server.raw(Method::POST, "/v1/projects", "").await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "malformed",
        "message": "the body cannot be read: EOF while parsing a value at line 1 column 0"
      }
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn an_unknown_field_or_a_wrong_type_is_malformed() {
    let server = TestServer::start().await;
    assert_snapshot!(server.raw(Method::POST, "/v1/projects", r#"{"name": "red", "colour": "red"}"#).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "malformed",
        "message": "the body cannot be read: unknown field `colour`, expected `name` at line 1 column 24"
      }
    }
    "#);
    assert_snapshot!(server.raw(Method::POST, "/v1/projects", r#"{"name": 7}"#).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "malformed",
        "message": "the body cannot be read: invalid type: integer `7`, expected a string at line 1 column 10"
      }
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn a_wrong_or_unknown_query_parameter_is_malformed() {
    let server = TestServer::start().await;
    assert_snapshot!(server.raw(Method::GET, "/v1/instances?limit=many", "").await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "malformed",
        "message": "the query cannot be read: limit: invalid digit found in string"
      }
    }
    "#);
    assert_snapshot!(server.raw(Method::GET, "/v1/instances?projct=red", "").await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "malformed",
        "hint": "known here: project, name, host, network, limit, after",
        "message": "unknown query parameter `projct`"
      }
    }
    "#);
    assert_snapshot!(server.raw(Method::GET, "/v1/projects?limit=1&limit=2", "").await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "malformed",
        "message": "the query cannot be read: duplicate field `limit`"
      }
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn an_unknown_path_or_method_is_told_in_the_envelope() {
    let server = TestServer::start().await;
    assert_snapshot!(server.raw(Method::GET, "/v2/projects", "").await, @r#"
    404 Not Found
    {
      "error": {
        "code": "not_found",
        "hint": "`/openapi.json` lists every path",
        "message": "no path `/v2/projects`"
      }
    }
    "#);
    assert_snapshot!(server.raw(Method::PUT, "/v1/projects", "{}").await, @r#"
    405 Method Not Allowed
    allow: POST,GET,HEAD
    {
      "error": {
        "code": "method_not_allowed",
        "hint": "`/openapi.json` lists the methods of every path",
        "message": "PUT cannot be done on `/v1/projects`"
      }
    }
    "#);
    assert_snapshot!(server.raw(Method::GET, "/v1/projects/%ff", "").await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "malformed",
        "message": "the path cannot be read: Invalid UTF-8 in `project`"
      }
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_too_large_and_a_report_may_be_larger() {
    let server = TestServer::start().await;
    let name = "x".repeat(1 << 20);
    assert_snapshot!(server.raw(Method::POST, "/v1/projects", &format!(r#"{{"name": "{name}"}}"#)).await, @r#"
    413 Payload Too Large
    {
      "error": {
        "code": "too_large",
        "message": "the body is larger than this request may be"
      }
    }
    "#);
    let report =
        server.raw(Method::PUT, "/v1/hosts/host1/report", &format!(r#"{{"kernel": "{name}"}}"#)).await;
    assert!(report.contains("the body cannot be read: missing field"), "it was read to its end: {report}");
    server.stop().await;
}

#[tokio::test]
async fn who_has_no_token_of_ours_is_told_how_to_send_one() {
    let server = TestServer::start().await;
    let url = format!("{}/v1/projects", server.url);
    assert_snapshot!(shown(reqwest_client().get(&url)).await, @r#"
    401 Unauthorized
    www-authenticate: Bearer realm="trestle"
    {
      "error": {
        "code": "unauthorized",
        "hint": "send it as `Authorization: Bearer …`; the first one is in `admin.token` in the state folder",
        "message": "the request has no token"
      }
    }
    "#);
    assert_snapshot!(shown(reqwest_client().get(&url).basic_auth("admin", Some("admin"))).await, @r#"
    401 Unauthorized
    www-authenticate: Bearer realm="trestle"
    {
      "error": {
        "code": "unauthorized",
        "hint": "send it as `Authorization: Bearer …`; the first one is in `admin.token` in the state folder",
        "message": "the request has no token"
      }
    }
    "#);
    assert_snapshot!(shown(reqwest_client().get(&url).bearer_auth("made-up")).await, @r#"
    401 Unauthorized
    www-authenticate: Bearer realm="trestle"
    {
      "error": {
        "code": "unauthorized",
        "hint": "`trestle token create` makes a new one",
        "message": "the token is not one of this controller's"
      }
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn a_revoked_token_is_refused() {
    let server = TestServer::start().await;
    server.furnish().await;
    let member = server.client(&server.member_token("red").await);
    member.list_projects(&PageQuery::default()).await.unwrap();
    let tokens = server.admin.list_tokens(&PageQuery::default()).await.unwrap();
    let token = tokens.items.iter().find(|token| token.project.is_some()).unwrap();
    server.admin.delete_token(token.id).await.unwrap();
    let answer = member.list_projects(&PageQuery::default()).await;
    assert!(refused(answer).starts_with("401"));
    server.stop().await;
}

#[tokio::test]
async fn a_member_sees_and_changes_its_own_project_only() {
    let server = TestServer::start().await;
    server.furnish().await;
    let red = server.client(&server.member_token("red").await);
    assert_snapshot!(refused(red.project("blue").await), @r#"
    404 {
      "code": "not_found",
      "message": "no project `blue`"
    }
    "#);
    assert_snapshot!(refused(red.instance("web", Some("blue")).await), @r#"
    404 {
      "code": "not_found",
      "message": "no project `blue`"
    }
    "#);
    assert_snapshot!(refused(red.delete_instance("web", Some("blue")).await), @r#"
    404 {
      "code": "not_found",
      "message": "no project `blue`"
    }
    "#);
    assert_snapshot!(refused(red.create_project(&NewProject { name: "mine".to_owned() }).await), @r#"
    403 {
      "code": "forbidden",
      "message": "making a project is for admins"
    }
    "#);
    let seen = red.list_instances(&InstanceFilter::default(), &PageQuery::default()).await.unwrap();
    let projects: Vec<String> = seen.items.iter().map(|instance| instance.project.to_string()).collect();
    assert_eq!(projects, ["red"]);
    server.admin.instance("web", Some("blue")).await.expect("it is still there");
    server.stop().await;
}

#[tokio::test]
async fn everything_that_is_wrong_with_a_request_is_listed() {
    let server = TestServer::start().await;
    let network = NewNetwork {
        name: "Public".to_owned(),
        network_type: Some("flat_dhcp".to_owned()),
        cidr: Some("10.0.0.5/24".to_owned()),
        bridge: Some("a-very-long-bridge-name".to_owned()),
        project: Some("nobody".to_owned()),
        mtu: Some(100),
        ..NewNetwork::default()
    };
    assert_snapshot!(refused(server.admin.create_networks(&network).await), @r#"
    400 {
      "code": "invalid",
      "message": "4 things are wrong with the request",
      "problems": [
        {
          "code": "bad_name",
          "field": "name",
          "message": "`Public` is not a name: use 1 to 63 of a-z, 0-9 and `-`, with no `-` at either end"
        },
        {
          "code": "cidr_host_bits",
          "field": "cidr",
          "message": "`10.0.0.5/24` has host bits set; the network is 10.0.0.0/24"
        },
        {
          "code": "bad_link_name",
          "field": "bridge",
          "message": "`a-very-long-bridge-name` is not a device name: it has 23 bytes, the kernel takes 15"
        },
        {
          "code": "bad_mtu",
          "field": "mtu",
          "message": "an MTU of 100 bytes is not possible: use 576 to 9216"
        }
      ]
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_there_and_what_collides_have_codes_of_their_own() {
    let server = TestServer::start().await;
    server.furnish().await;
    assert_snapshot!(refused(server.admin.project("green").await), @r#"
    404 {
      "code": "not_found",
      "message": "no project `green`"
    }
    "#);
    assert_snapshot!(refused(server.admin.create_project(&NewProject { name: "red".to_owned() }).await), @r#"
    409 {
      "code": "name_taken",
      "message": "there is a project `red` already"
    }
    "#);
    assert_snapshot!(refused(server.admin.delete_project("red").await), @r#"
    409 {
      "code": "in_use",
      "hint": "delete instances with `trestle instance delete`, and take networks from it with `trestle network disassociate` or `delete`, floating IPs with `trestle floating-ip release`, and DNS domains with `trestle dns domain delete`",
      "message": "project `red` still owns instance `web`"
    }
    "#);
    assert_snapshot!(refused(server.admin.instance("web", None).await), @r#"
    400 {
      "code": "invalid",
      "message": "project: several projects have an instance `web`: say which project",
      "problems": [
        {
          "code": "required",
          "field": "project",
          "message": "several projects have an instance `web`: say which project"
        }
      ]
    }
    "#);
    server.stop().await;
}
