//! Security groups and address groups, as clients see them.

use insta::assert_snapshot;
use reqwest::Method;
use trestle_controller::config::Limit;

use crate::harness::TestServer;

const GROUPS: &str = "/v1/security-groups";
const WEB: &str = "/v1/security-groups/web";
const RULES: &str = "/v1/security-groups/web/rules";

/// With a group `web` and an address group `dns` of red.
async fn server() -> TestServer {
    let server = TestServer::start().await;
    server.furnish().await;
    server.done(GROUPS, r#"{"name": "web", "project": "red"}"#).await;
    let dns = r#"{"name": "dns", "project": "red", "ranges": ["9.9.9.9"]}"#;
    server.done("/v1/address-groups", dns).await;
    server
}

#[tokio::test]
async fn a_group_and_its_rules_are_made_shown_changed_and_deleted() {
    let server = TestServer::start().await;
    server.furnish().await;
    let raw = async |method: Method, path: &str, body: &str| server.raw(method, path, body).await;
    let web = r#"{"name": "web", "project": "red", "description": "what serves pages"}"#;
    assert_snapshot!(raw(Method::POST, GROUPS, web).await, @r#"
    201 Created
    {
      "created_at": "[time]",
      "description": "what serves pages",
      "id": "[id]",
      "name": "web",
      "number": 3,
      "project": "red",
      "rules": []
    }
    "#);
    let rule = r#"{"direction": "ingress", "family": "ipv4", "protocol": "TCP", "ports": "8000-8080",
        "remote_cidr": "10.0.0.0/8", "expires_at": "2999-12-01T00:00:00Z"}"#;
    assert_snapshot!(raw(Method::POST, RULES, rule).await, @r#"
    201 Created
    {
      "bytes": null,
      "created_at": "[time]",
      "direction": "ingress",
      "expires_at": "[time]",
      "family": "ipv4",
      "icmp_type": null,
      "id": "[id]",
      "number": 5,
      "packets": null,
      "ports": "8000-8080",
      "protocol": "tcp",
      "remote_address_group": null,
      "remote_cidr": "10.0.0.0/8",
      "remote_group": null,
      "text": "ingress ipv4 tcp 8000-8080 from 10.0.0.0/8 until 2999-12-01T00:00:00Z"
    }
    "#);
    server.done(RULES, r#"{"direction": "egress", "remote_group": "default"}"#).await;
    server.done(RULES, r#"{"direction": "ingress", "protocol": "icmp", "icmp_type": "3/4"}"#).await;
    server.done(RULES, r#"{"direction": "ingress", "family": "ipv6", "protocol": "47"}"#).await;
    let all = server.done_as(Method::GET, &format!("{WEB}?project=red"), "").await;
    let texts: Vec<&str> =
        all["rules"].as_array().unwrap().iter().map(|r| r["text"].as_str().unwrap()).collect();
    assert_snapshot!(texts.join("\n"), @"
    ingress ipv4 tcp 8000-8080 from 10.0.0.0/8 until 2999-12-01T00:00:00Z
    egress any to group default
    ingress icmp type 3/4
    ingress ipv6 47
    ");
    let first = server.done_as(Method::GET, &format!("{RULES}?limit=1"), "").await;
    let next = first["next"].as_str().unwrap();
    let rest = server.done_as(Method::GET, &format!("{RULES}?after={next}"), "").await;
    assert_eq!(
        (first["items"][0].clone(), rest["items"][2].clone()),
        (all["rules"][0].clone(), all["rules"][3].clone())
    );
    let id = all["rules"][0]["id"].as_str().unwrap();
    assert_snapshot!(raw(Method::DELETE, &format!("{RULES}/{id}"), "").await, @"204 No Content");
    let renamed = r#"{"name": "www", "description": ""}"#;
    let renamed = server.done_as(Method::PATCH, WEB, renamed).await;
    assert_eq!((&renamed["name"], &renamed["rules"][0]), (&"www".into(), &all["rules"][1]));
    server.done_as(Method::PATCH, "/v1/security-groups/www", r#"{"name": "www"}"#).await;
    assert_snapshot!(raw(Method::DELETE, "/v1/security-groups/www", "").await, @"204 No Content");
    assert_snapshot!(server.told("security_group").await, @"
    security_group.created of red: security group `default` was made in project `red`
    security_group.created of blue: security group `default` was made in project `blue`
    security_group.created of red: security group `web` was made in project `red`
    security_group.rule_added of red: rule `ingress ipv4 tcp 8000-8080 from 10.0.0.0/8 until 2999-12-01T00:00:00Z` was added to security group `web`
    security_group.rule_added of red: rule `egress any to group default` was added to security group `web`
    security_group.rule_added of red: rule `ingress icmp type 3/4` was added to security group `web`
    security_group.rule_added of red: rule `ingress ipv6 47` was added to security group `web`
    security_group.rule_deleted of red: rule `ingress ipv4 tcp 8000-8080 from 10.0.0.0/8 until 2999-12-01T00:00:00Z` was deleted from security group `web`
    security_group.changed of red: security group `web` was changed: it is called `www` now, it has no description now
    security_group.deleted of red: security group `www` of project `red` was deleted
    ");
    server.stop().await;
}

#[tokio::test]
async fn every_project_has_a_default_group_that_can_be_emptied_and_refilled() {
    let server = TestServer::start_with(|config| {
        config.listen = Some(vec!["127.0.0.1:0".to_owned()]);
        config.security_group_default_rules =
            ["ingress tcp 22 from 0.0.0.0/0", "egress any"].map(str::to_owned).into();
    })
    .await;
    server.done("/v1/projects", r#"{"name": "red"}"#).await;
    assert_snapshot!(server.raw(Method::GET, "/v1/security-groups?project=red", "").await, @r#"
    200 OK
    {
      "items": [
        {
          "created_at": "[time]",
          "description": "",
          "id": "[id]",
          "name": "default",
          "number": 1,
          "project": "red",
          "rules": [
            {
              "bytes": null,
              "created_at": "[time]",
              "direction": "ingress",
              "expires_at": null,
              "family": null,
              "icmp_type": null,
              "id": "[id]",
              "number": 1,
              "packets": null,
              "ports": null,
              "protocol": null,
              "remote_address_group": null,
              "remote_cidr": null,
              "remote_group": "default",
              "text": "ingress any from group default"
            },
            {
              "bytes": null,
              "created_at": "[time]",
              "direction": "egress",
              "expires_at": null,
              "family": null,
              "icmp_type": null,
              "id": "[id]",
              "number": 2,
              "packets": null,
              "ports": null,
              "protocol": null,
              "remote_address_group": null,
              "remote_cidr": null,
              "remote_group": null,
              "text": "egress any"
            },
            {
              "bytes": null,
              "created_at": "[time]",
              "direction": "ingress",
              "expires_at": null,
              "family": null,
              "icmp_type": null,
              "id": "[id]",
              "number": 3,
              "packets": null,
              "ports": "22",
              "protocol": "tcp",
              "remote_address_group": null,
              "remote_cidr": "0.0.0.0/0",
              "remote_group": null,
              "text": "ingress tcp 22 from 0.0.0.0/0"
            }
          ]
        }
      ]
    }
    "#);
    let all = server.done_as(Method::GET, "/v1/security-groups/default", "").await;
    for rule in all["rules"].as_array().unwrap() {
        let path = format!("/v1/security-groups/default/rules/{}", rule["id"].as_str().unwrap());
        server.done_as(Method::DELETE, &path, "").await;
    }
    server.done("/v1/security-groups/default/rules", r#"{"direction": "egress"}"#).await;
    server.done_as(Method::DELETE, "/v1/projects/red", "").await;
    assert_snapshot!(server.told("security_group.deleted").await, @"security_group.deleted of red: security group `default` of project `red` was deleted");
    server.stop().await;
}

#[tokio::test]
async fn an_address_group_has_as_few_ranges_as_make_it_up() {
    let server = server().await;
    let made = r#"{"name": "office", "project": "red",
        "ranges": ["10.0.0.0/25", "10.0.0.128/25", "10.0.0.7", "192.0.2.1-192.0.2.3", "2001:db8::/64"]}"#;
    assert_snapshot!(server.raw(Method::POST, "/v1/address-groups", made).await, @r#"
    201 Created
    {
      "created_at": "[time]",
      "id": "[id]",
      "name": "office",
      "number": 2,
      "project": "red",
      "ranges": [
        "10.0.0.0/24",
        "192.0.2.1/32",
        "192.0.2.2/31",
        "2001:db8::/64"
      ]
    }
    "#);
    let path = "/v1/address-groups/office";
    assert_snapshot!(server.raw(Method::PATCH, path, r#"{"name": "home", "ranges": ["10.1.0.0/16"]}"#).await, @r#"
    200 OK
    {
      "created_at": "[time]",
      "id": "[id]",
      "name": "home",
      "number": 2,
      "project": "red",
      "ranges": [
        "10.1.0.0/16"
      ]
    }
    "#);
    let listed = server.done_as(Method::GET, "/v1/address-groups?project=red&name=home", "").await;
    let shown = server.done_as(Method::GET, "/v1/address-groups/home", "").await;
    assert_eq!(listed["items"][0], shown);
    server.done_as(Method::DELETE, "/v1/address-groups/home", "").await;
    assert_snapshot!(server.told("address_group").await, @"
    address_group.created of red: address group `dns` was made with 9.9.9.9
    address_group.created of red: address group `office` was made with 10.0.0.0/24, 192.0.2.1, 192.0.2.2/31, 2001:db8::/64
    address_group.changed of red: address group `office` was changed: it is called `home` now, it has 10.1.0.0/16
    address_group.deleted of red: address group `home` of project `red` was deleted
    ");
    server.stop().await;
}

#[tokio::test]
async fn everything_that_is_wrong_with_a_rule_is_listed() {
    let server = server().await;
    let refused = async |body: &str| server.refused(RULES, body).await;
    let much = r#"{"direction": "up", "family": "ipx", "protocol": "tcpp", "ports": "90-80", "icmp_type": "x",
        "remote_cidr": "10.0.0.5/24", "expires_at": "soon"}"#;
    assert_snapshot!(refused(much).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "7 things are wrong with the request",
        "problems": [
          {
            "code": "bad_direction",
            "field": "direction",
            "message": "`up` is no direction: use ingress, to the instance, or egress, from it"
          },
          {
            "code": "bad_family",
            "field": "family",
            "message": "`ipx` is no family: use ipv4 or ipv6"
          },
          {
            "code": "bad_protocol",
            "field": "protocol",
            "message": "`tcpp` is not an IP protocol: use tcp, udp, sctp, icmp, icmpv6 or a number from 1 to 254"
          },
          {
            "code": "bad_ports",
            "field": "ports",
            "message": "`90-80` is not a range of ports: write it as 80 or 8000-8080, from 1 to 65535"
          },
          {
            "code": "bad_icmp_type",
            "field": "icmp_type",
            "message": "`x` is not a type of ICMP messages: write it as 8, or as 3/4 with its code"
          },
          {
            "code": "bad_cidr",
            "field": "remote_cidr",
            "message": "`10.0.0.5/24` has host bits set; the network is 10.0.0.0/24"
          },
          {
            "code": "bad_time",
            "field": "expires_at",
            "message": "`soon` is not a time: write it as 2026-11-29T01:00:00Z"
          }
        ]
      }
    }
    "#);
    assert_snapshot!(refused(r#"{"direction": "ingress", "ports": "80"}"#).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "ports: only tcp, udp and sctp have ports: say which protocol",
        "problems": [
          {
            "code": "not_possible",
            "field": "ports",
            "message": "only tcp, udp and sctp have ports: say which protocol"
          }
        ]
      }
    }
    "#);
    assert_snapshot!(refused(r#"{"direction": "ingress", "protocol": "tcp", "ports": "8080-8000"}"#).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "ports: `8080-8000` is not a range of ports: write it as 80 or 8000-8080, from 1 to 65535",
        "problems": [
          {
            "code": "bad_ports",
            "field": "ports",
            "message": "`8080-8000` is not a range of ports: write it as 80 or 8000-8080, from 1 to 65535"
          }
        ]
      }
    }
    "#);
    assert_snapshot!(refused(r#"{"direction": "ingress", "protocol": "tcp", "icmp_type": "8"}"#).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "icmp_type: only icmp and icmpv6 have types: say which protocol",
        "problems": [
          {
            "code": "not_possible",
            "field": "icmp_type",
            "message": "only icmp and icmpv6 have types: say which protocol"
          }
        ]
      }
    }
    "#);
    let v4 = r#"{"direction": "ingress", "family": "ipv6", "remote_cidr": "10.0.0.0/8"}"#;
    assert_snapshot!(refused(v4).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "family: what the rule says is of different families: no packet is all of it",
        "problems": [
          {
            "code": "wrong_family",
            "field": "family",
            "message": "what the rule says is of different families: no packet is all of it"
          }
        ]
      }
    }
    "#);
    let v6 = r#"{"direction": "ingress", "protocol": "icmp", "remote_cidr": "2001:db8::/32"}"#;
    assert!(refused(v6).await.contains("wrong_family"));
    let two = r#"{"direction": "ingress", "remote_cidr": "10.0.0.0/8", "remote_group": "web"}"#;
    assert_snapshot!(refused(two).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "remote_cidr: a rule has one remote: a CIDR, a group or an address group",
        "problems": [
          {
            "code": "several_remotes",
            "field": "remote_cidr",
            "message": "a rule has one remote: a CIDR, a group or an address group"
          }
        ]
      }
    }
    "#);
    let past = refused(r#"{"direction": "ingress", "expires_at": "2020-01-01T00:00:00Z"}"#).await;
    assert_snapshot!(past, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "expires_at: a rule that ends at 2020-01-01T00:00:00Z allows nothing: it is over",
        "problems": [
          {
            "code": "in_the_past",
            "field": "expires_at",
            "message": "a rule that ends at 2020-01-01T00:00:00Z allows nothing: it is over"
          }
        ]
      }
    }
    "#);
    assert!(refused(r#"{"direction": "ingress", "expires_in": 0}"#).await.contains("in_the_past"));
    let both = r#"{"direction": "ingress", "expires_in": 9, "expires_at": "2999-01-01T00:00:00Z"}"#;
    assert_snapshot!(refused(both).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "expires_in: a rule ends at a time or after some seconds, not both",
        "problems": [
          {
            "code": "not_possible",
            "field": "expires_in",
            "message": "a rule ends at a time or after some seconds, not both"
          }
        ]
      }
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn what_collides_with_what_is_there_is_refused() {
    let server = server().await;
    let refused = async |path: &str, body: &str| server.refused(path, body).await;
    assert_snapshot!(refused(GROUPS, r#"{"name": "web", "project": "red"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "name_taken",
        "message": "project `red` has a security group `web` already"
      }
    }
    "#);
    assert_snapshot!(refused(GROUPS, r#"{"name": "Web", "description": "a\nb"}"#).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "3 things are wrong with the request",
        "problems": [
          {
            "code": "bad_name",
            "field": "name",
            "message": "`Web` is not a name: use 1 to 63 of a-z, 0-9 and `-`, with no `-` at either end"
          },
          {
            "code": "required",
            "field": "project",
            "message": "a security group needs a project"
          },
          {
            "code": "bad_description",
            "field": "description",
            "message": "a description has no control characters"
          }
        ]
      }
    }
    "#);
    server.done(RULES, r#"{"direction": "ingress", "protocol": "tcp", "expires_in": 3600}"#).await;
    assert_snapshot!(refused(RULES, r#"{"direction": "ingress", "protocol": "tcp"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "rule_exists",
        "hint": "to give it another end, delete it first: `trestle security-group rule list` shows its id",
        "message": "security group `web` has the rule `ingress tcp` already"
      }
    }
    "#);
    assert_snapshot!(refused(RULES, r#"{"direction": "ingress", "remote_group": "cellar"}"#).await, @r#"
    404 Not Found
    {
      "error": {
        "code": "not_found",
        "hint": "a rule names groups of its own project",
        "message": "no security group `cellar`"
      }
    }
    "#);
    assert!(
        refused(RULES, r#"{"direction": "ingress", "remote_address_group": "x"}"#)
            .await
            .contains("no address group `x`")
    );
    assert_snapshot!(refused("/v1/security-groups/default/rules", r#"{"direction": "egress"}"#).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "project: several projects have a security group `default`: say which project",
        "problems": [
          {
            "code": "required",
            "field": "project",
            "message": "several projects have a security group `default`: say which project"
          }
        ]
      }
    }
    "#);
    let unknown = format!("{RULES}/11111111-1111-1111-1111-111111111111");
    assert_snapshot!(server.refused_as(Method::DELETE, &unknown, "").await, @r#"
    404 Not Found
    {
      "error": {
        "code": "not_found",
        "hint": "`trestle security-group rule list web` shows their ids",
        "message": "no rule of security group `web` with the id `11111111-1111-1111-1111-111111111111`"
      }
    }
    "#);
    let addresses = r#"{"name": "dns", "project": "red", "ranges": []}"#;
    assert_snapshot!(refused("/v1/address-groups", addresses).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "name_taken",
        "message": "project `red` has an address group `dns` already"
      }
    }
    "#);
    let wrong = r#"{"name": "x", "project": "red", "ranges": ["10.0.0.1/24", "10.0.0.9-10.0.0.1"]}"#;
    assert_snapshot!(refused("/v1/address-groups", wrong).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "2 things are wrong with the request",
        "problems": [
          {
            "code": "bad_range",
            "field": "ranges[0]",
            "message": "`10.0.0.1/24` is not a range of addresses: write it as 10.0.0.5-10.0.0.9, 10.0.0.5 or 10.0.0.0/29"
          },
          {
            "code": "bad_range",
            "field": "ranges[1]",
            "message": "`10.0.0.9-10.0.0.1` is not a range of addresses: write it as 10.0.0.5-10.0.0.9, 10.0.0.5 or 10.0.0.0/29"
          }
        ]
      }
    }
    "#);
    let taken = server.refused_as(Method::PATCH, WEB, r#"{"name": "default"}"#).await;
    assert!(taken.contains("name_taken"), "{taken}");
    server.stop().await;
}

#[tokio::test]
async fn what_is_in_use_stays() {
    let server = server().await;
    let refused = async |path: &str| server.refused_as(Method::DELETE, path, "").await;
    let default = "/v1/security-groups/default?project=red";
    assert_snapshot!(refused(default).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "default_group",
        "hint": "its rules can be changed: see `trestle security-group rule --help`",
        "message": "security group `default` of project `red` is one that every project has: it cannot be deleted"
      }
    }
    "#);
    assert_snapshot!(server.refused_as(Method::PATCH, default, r#"{"name": "other"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "default_group",
        "hint": "its rules can be changed: see `trestle security-group rule --help`",
        "message": "security group `default` of project `red` is one that every project has: it cannot be renamed"
      }
    }
    "#);
    server
        .done(
            "/v1/security-groups/default/rules?project=red",
            r#"{"direction": "ingress", "remote_group": "web"}"#,
        )
        .await;
    assert_snapshot!(refused(WEB).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "in_use",
        "hint": "take instances out of it with `trestle instance interface set`, and delete rules that name it with `trestle security-group rule delete`",
        "message": "security group `web` is still used by security group `default` (by a rule)"
      }
    }
    "#);
    server.done(RULES, r#"{"direction": "egress", "protocol": "udp", "remote_address_group": "dns"}"#).await;
    assert_snapshot!(refused("/v1/address-groups/dns").await, @r#"
    409 Conflict
    {
      "error": {
        "code": "in_use",
        "hint": "delete the rules that name it with `trestle security-group rule delete`",
        "message": "address group `dns` is still named by rules of security group `web`"
      }
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn a_group_says_who_is_in_it() {
    let server = server().await;
    let members = async |group: &str| {
        let path = format!("{GROUPS}/{group}?project=red");
        server.done_as(Method::GET, &path, "").await["members"].to_string()
    };
    for name in ["b", "a"] {
        server.create_instance("red", name).await;
    }
    assert_eq!(members("default").await, r#"{"first":["a","b","web"],"instances":3}"#);
    assert_eq!(members("web").await, r#"{"first":[],"instances":0}"#);
    let off = r#"{"port_security": false}"#;
    server.done_as(Method::PATCH, "/v1/instances/a/interfaces/public?project=red", off).await;
    assert_eq!(members("default").await, r#"{"first":["b","web"],"instances":2}"#);
    for number in 0..10 {
        server.create_instance("red", &format!("n{number}")).await;
    }
    assert!(members("default").await.ends_with(r#""n7","n8"],"instances":12}"#), "ten are named");
}

#[tokio::test]
async fn a_type_of_icmp_is_no_port() {
    let server = server().await;
    let rule = r#"{"direction": "ingress", "protocol": "icmp", "ports": "8"}"#;
    let refused = server.refused(RULES, rule).await;
    assert!(refused.contains("ports: icmp has types and no ports: write `type 8`"), "{refused}");
}

#[tokio::test]
async fn a_member_sees_and_changes_its_project_s_groups_alone() {
    let server = server().await;
    let (red, blue) = (server.member_token("red").await, server.member_token("blue").await);
    let web = server.raw_as(&red, Method::GET, WEB, "").await;
    assert!(web.starts_with("200"), "{web}");
    let refused = server.raw_as(&blue, Method::POST, RULES, r#"{"direction": "ingress"}"#).await;
    assert_snapshot!(refused, @r#"
    404 Not Found
    {
      "error": {
        "code": "not_found",
        "message": "no security group `web`"
      }
    }
    "#);
    let red_s = server.done_as(Method::GET, WEB, "").await;
    let named = format!(r#"{{"direction": "ingress", "remote_group": "{}"}}"#, red_s["id"].as_str().unwrap());
    let refused = server.raw_as(&blue, Method::POST, "/v1/security-groups/default/rules", &named).await;
    assert!(refused.starts_with("404") && refused.contains("names groups of its own project"), "{refused}");
    let listed = server.raw_as(&blue, Method::GET, "/v1/security-groups", "").await;
    assert!(listed.contains("default") && !listed.contains("web"), "{listed}");
    assert!(server.raw_as(&blue, Method::GET, "/v1/address-groups/dns", "").await.starts_with("404"));
    assert_snapshot!(server.raw(Method::GET, "/v1/security-groups/default", "").await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "project: several projects have a security group `default`: say which project",
        "problems": [
          {
            "code": "required",
            "field": "project",
            "message": "several projects have a security group `default`: say which project"
          }
        ]
      }
    }
    "#);
    let agent = server.agent_token("host1").await;
    assert_snapshot!(server.raw_as(&agent, Method::POST, RULES, r#"{"direction": "ingress"}"#).await, @r#"
    403 Forbidden
    {
      "error": {
        "code": "forbidden",
        "message": "adding a rule is not for agents"
      }
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn more_groups_and_rules_than_the_quota_are_refused() {
    let server = TestServer::start_with(|config| {
        config.listen = Some(vec!["127.0.0.1:0".to_owned()]);
        config.quota_security_groups = Limit::at_most(2);
        config.quota_security_group_rules = Limit::at_most(1);
    })
    .await;
    server.done("/v1/projects", r#"{"name": "red"}"#).await;
    server.done(GROUPS, r#"{"name": "web", "project": "red"}"#).await;
    assert_snapshot!(server.refused(GROUPS, r#"{"name": "db", "project": "red"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "quota_exceeded",
        "hint": "delete what is not needed, or raise the limit with `trestle project set-quota`",
        "message": "project `red` has 2 of the 2 security groups that it may have, and this takes 1 more"
      }
    }
    "#);
    server.done(RULES, r#"{"direction": "ingress"}"#).await;
    assert_snapshot!(server.refused(RULES, r#"{"direction": "egress"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "quota_exceeded",
        "hint": "delete what is not needed, or raise the limit with `trestle project set-quota`",
        "message": "security group `web` has 1 of the 1 rules that it may have, and this takes 1 more"
      }
    }
    "#);
    let more = r#"{"security_groups": 3, "security_group_rules": -1}"#;
    server.done_as(Method::PATCH, "/v1/projects/red", more).await;
    server.done(GROUPS, r#"{"name": "db", "project": "red"}"#).await;
    server.done(RULES, r#"{"direction": "egress"}"#).await;
    let project = server.done_as(Method::GET, "/v1/projects/red", "").await;
    assert_eq!(project["usage"]["security_groups"], 3);
    assert_eq!(project["usage"]["security_group_rules"], 2);
    server.stop().await;
}
