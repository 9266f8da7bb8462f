//! How much a project may have.

use insta::assert_snapshot;
use reqwest::Method;
use trestle_controller::config::Limit;

use crate::harness::TestServer;

async fn limited() -> TestServer {
    let server = TestServer::start_with(|config| {
        config.listen = Some(vec!["127.0.0.1:0".to_owned()]);
        config.quota_networks = Limit::at_most(1);
        config.quota_fixed_ips = Limit::at_most(3);
    })
    .await;
    server.done("/v1/projects", r#"{"name": "red"}"#).await;
    server
}

#[tokio::test]
async fn more_networks_than_the_quota_are_refused_however_they_are_asked_for() {
    let server = limited().await;
    let two = r#"{"name": "net", "cidr": "10.0.0.0/16", "num_networks": 2, "project": "red"}"#;
    assert_snapshot!(server.refused("/v1/networks", two).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "quota_exceeded",
        "hint": "delete what is not needed, or raise the limit with `trestle project set-quota`",
        "message": "project `red` has 0 of the 1 networks that it may have, and this takes 2 more"
      }
    }
    "#);
    server.done("/v1/networks", r#"{"name": "net", "cidr": "10.0.0.0/16", "num_networks": 2}"#).await;
    server.done("/v1/networks/net-0/associate", r#"{"project": "red"}"#).await;
    assert_snapshot!(server.refused("/v1/networks/net-1/associate", r#"{"project": "red"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "quota_exceeded",
        "hint": "delete what is not needed, or raise the limit with `trestle project set-quota`",
        "message": "project `red` has 1 of the 1 networks that it may have, and this takes 1 more"
      }
    }
    "#);
    let named = r#"{"name": "web", "project": "red", "interfaces": [{"network": "net-1"}]}"#;
    assert_snapshot!(server.refused("/v1/instances", named).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "quota_exceeded",
        "hint": "delete what is not needed, or raise the limit with `trestle project set-quota`",
        "message": "project `red` has 1 of the 1 networks that it may have, and this takes 1 more"
      }
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn a_project_that_may_own_none_claims_none() {
    let server = limited().await;
    server.done_as(Method::PATCH, "/v1/projects/red", r#"{"networks": 0}"#).await;
    server.done("/v1/networks", r#"{"name": "net", "cidr": "10.0.0.0/24"}"#).await;
    assert_snapshot!(server.refused("/v1/instances", r#"{"name": "web", "project": "red"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "quota_exceeded",
        "hint": "delete what is not needed, or raise the limit with `trestle project set-quota`",
        "message": "project `red` has 0 of the 0 networks that it may have, and this takes 1 more"
      }
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn addresses_of_both_families_count_and_what_is_over_is_not_begun() {
    let server = limited().await;
    let dual = r#"{"name": "dual", "type": "flat_dhcp", "cidr": "10.0.0.0/24", "cidr_v6": "fd00::/64"}"#;
    server.done("/v1/networks", dual).await;
    server.done("/v1/instances", r#"{"name": "one", "project": "red"}"#).await;
    assert_snapshot!(server.refused("/v1/instances", r#"{"name": "two", "project": "red"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "quota_exceeded",
        "hint": "delete what is not needed, or raise the limit with `trestle project set-quota`",
        "message": "project `red` has 2 of the 3 fixed IPs that it may have, and this takes 2 more"
      }
    }
    "#);
    let raised = server.done_as(Method::PATCH, "/v1/projects/red", r#"{"fixed_ips": -1}"#).await;
    assert_eq!(raised["quota"]["fixed_ips"], serde_json::Value::Null);
    server.done("/v1/instances", r#"{"name": "two", "project": "red"}"#).await;
    assert_snapshot!(server.raw(Method::GET, "/v1/projects/red", "").await, @r#"
    200 OK
    {
      "auto_assign": null,
      "created_at": "[time]",
      "id": "[id]",
      "name": "red",
      "quota": {
        "fixed_ips": null,
        "floating_ips": 10,
        "networks": 1,
        "security_group_rules": 200,
        "security_groups": 100
      },
      "usage": {
        "fixed_ips": 4,
        "floating_ips": 0,
        "networks": 0,
        "security_group_rules": 2,
        "security_groups": 1
      }
    }
    "#);
    assert_snapshot!(server.told("project").await, @"
    project.created of red: project `red` was made
    project.changed of red: the quota of project `red` was set: fixed_ips -1
    ");
    server.stop().await;
}

#[tokio::test]
async fn a_quota_that_is_none_is_refused() {
    let server = limited().await;
    let wrong = r#"{"networks": -2, "floating_ips": 99999999999}"#;
    assert_snapshot!(server.refused_as(Method::PATCH, "/v1/projects/red", wrong).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "2 things are wrong with the request",
        "problems": [
          {
            "code": "bad_quota",
            "field": "networks",
            "message": "-2 is not a limit: use 0 to 4294967295, or -1 for none"
          },
          {
            "code": "bad_quota",
            "field": "floating_ips",
            "message": "99999999999 is not a limit: use 0 to 4294967295, or -1 for none"
          }
        ]
      }
    }
    "#);
    server.stop().await;
}
