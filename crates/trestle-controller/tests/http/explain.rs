//! What becomes of packets.

use insta::assert_snapshot;
use reqwest::Method;
use trestle_api::explain::Outcome;
use trestle_api::{AttachRequest, ExplainQuery, PlugRequest};
use trestle_core::explain::StageKind;

use crate::harness::TestServer;

/// As the harness furnishes it, with red's `web` plugged in on `host1`.
async fn furnished() -> TestServer {
    let server = TestServer::start().await;
    server.furnish().await;
    let place = AttachRequest { host: Some("host1".to_owned()), network: None, plug: PlugRequest::default() };
    server.admin.attach("web", Some("red"), &place).await.unwrap();
    server
}

impl TestServer {
    /// The answer, without what of red's `web` is made at random.
    async fn explain(&self, query: &str) -> String {
        let answer = self.raw(Method::GET, &format!("/v1/explain?{query}"), "").await;
        let web = self.admin.instance("web", Some("red")).await.unwrap().interfaces.remove(0);
        answer.replace(web.device.as_str(), "[device]").replace(&web.mac.to_string(), "[mac]")
    }
}

#[tokio::test]
async fn each_decision_is_told_and_what_becomes_of_it() {
    let server = furnished().await;
    let to_gateway = "from=web&project=red&to=10.0.0.1&protocol=udp&port=53";
    assert_snapshot!(server.explain(to_gateway).await, @r#"
    200 OK
    {
      "destination": "10.0.0.1",
      "icmp_type": null,
      "outcome": "passes",
      "port": 53,
      "problem": null,
      "protocol": "udp",
      "stages": [
        {
          "host": "host1",
          "key": null,
          "reason": "web on network public sends it from 10.0.0.2, on host host1",
          "rule": null,
          "stage": "sender",
          "verdict": "pass"
        },
        {
          "host": "host1",
          "key": "element/guard_ip4/[device] . [mac] . 10.0.0.2",
          "reason": "[device] may send from 10.0.0.2",
          "rule": null,
          "stage": "guard",
          "verdict": "pass"
        },
        {
          "host": "host1",
          "key": "element/served4/br100 . 10.0.0.1",
          "reason": "DNS is served there",
          "rule": null,
          "stage": "host",
          "verdict": "pass"
        }
      ]
    }
    "#);
    assert_snapshot!(server.explain("from=10.0.0.2&to=10.0.0.1&protocol=tcp&port=22").await, @r#"
    200 OK
    {
      "destination": "10.0.0.1",
      "icmp_type": null,
      "outcome": "dropped",
      "port": 22,
      "problem": null,
      "protocol": "tcp",
      "stages": [
        {
          "host": "host1",
          "key": null,
          "reason": "web on network public sends it from 10.0.0.2, on host host1",
          "rule": null,
          "stage": "sender",
          "verdict": "pass"
        },
        {
          "host": "host1",
          "key": "element/guard_ip4/[device] . [mac] . 10.0.0.2",
          "reason": "[device] may send from 10.0.0.2",
          "rule": null,
          "stage": "guard",
          "verdict": "pass"
        },
        {
          "host": "host1",
          "key": null,
          "reason": "instances have nothing of a host but DHCP, DNS and an echo",
          "rule": null,
          "stage": "host",
          "verdict": "drop"
        }
      ]
    }
    "#);
    assert_snapshot!(server.explain("from=web/public&project=red&to=10.0.0.9&protocol=icmp").await, @r#"
    200 OK
    {
      "destination": "10.0.0.9",
      "icmp_type": "8",
      "outcome": "dropped",
      "port": null,
      "problem": null,
      "protocol": "icmp",
      "stages": [
        {
          "host": "host1",
          "key": null,
          "reason": "web on network public sends it from 10.0.0.2, on host host1",
          "rule": null,
          "stage": "sender",
          "verdict": "pass"
        },
        {
          "host": "host1",
          "key": "element/guard_ip4/[device] . [mac] . 10.0.0.2",
          "reason": "[device] may send from 10.0.0.2",
          "rule": null,
          "stage": "guard",
          "verdict": "pass"
        },
        {
          "host": "host1",
          "key": null,
          "reason": "nobody on network public has 10.0.0.9",
          "rule": null,
          "stage": "bridge",
          "verdict": "drop"
        }
      ]
    }
    "#);
    assert_snapshot!(server.explain("from=198.51.100.7&to=203.0.113.9&protocol=icmp").await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "from: neither end is an instance: no host decides about it",
        "problems": [
          {
            "code": "not_possible",
            "field": "from",
            "message": "neither end is an instance: no host decides about it"
          }
        ]
      }
    }
    "#);
    server.stop().await;
}

impl TestServer {
    /// The stages' reasons, and what becomes of it; or the error.
    async fn in_short(&self, from: &str, to: &str, what: &str) -> String {
        let answer = self.raw(Method::GET, &format!("/v1/explain?from={from}&to={to}&{what}"), "").await;
        let body: serde_json::Value = serde_json::from_str(answer.split_once('\n').unwrap().1).unwrap();
        if let Some(message) = body["error"]["message"].as_str() {
            return format!("error: {message}");
        }
        let reasons =
            body["stages"].as_array().unwrap().iter().map(|stage| stage["reason"].as_str().unwrap());
        let outcome = [&body["problem"], &body["outcome"]].into_iter().filter_map(|word| word.as_str());
        reasons.chain(outcome).map(without_device).collect::<Vec<_>>().join("\n")
    }
}

fn without_device(reason: &str) -> String {
    let word = |word: &str| if word.starts_with("tr-") { "[device]".to_owned() } else { word.to_owned() };
    reason.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

const SSH: &str = "protocol=tcp&port=2222";

#[tokio::test]
async fn a_host_s_own_address_is_the_host() {
    let server = furnished().await;
    server.done_as(Method::PATCH, "/v1/hosts/host1", r#"{"public_interface": "eth0"}"#).await;
    assert_snapshot!(server.in_short("10.0.0.2", "203.0.113.11", SSH).await, @"
    web on network public sends it from 10.0.0.2, on host host1
    [device] may send from 10.0.0.2
    host host1 routes it outside, by eth0
    host host1 has not told which addresses are its own: if 203.0.113.11 is one, its instances have nothing of it but an echo
    unknown
    ");
    server.report_addresses("host1", &["203.0.113.11"]).await;
    assert_snapshot!(server.in_short("10.0.0.2", "203.0.113.11", SSH).await, @"
    web on network public sends it from 10.0.0.2, on host host1
    [device] may send from 10.0.0.2
    instances have nothing of a host but DHCP, DNS and an echo
    dropped
    ");
    assert_snapshot!(server.in_short("10.0.0.2", "198.51.100.7", SSH).await, @"
    web on network public sends it from 10.0.0.2, on host host1
    [device] may send from 10.0.0.2
    host host1 routes it outside, by eth0
    everything to anybody is allowed, by security group default
    10.0.0.2 goes on as host host1's own address on eth0
    passes
    ");
    assert_snapshot!(server.in_short("203.0.113.11", "10.0.0.2", SSH).await, @"
    host host1 itself sends it from 203.0.113.11, held to no security group there
    host host1 routes it to network public, on br100
    [device] is sent what is for 10.0.0.2
    it is delivered to web, by [device]
    passes
    ");
    assert_snapshot!(server.in_short("203.0.113.11", "web&project=red", SSH).await, @"
    host host1 itself sends it from 203.0.113.11, held to no security group there
    host host1 routes it to network public, on br100
    [device] is sent what is for 10.0.0.2
    it is delivered to web, by [device]
    passes
    ");
    assert_snapshot!(server.in_short("203.0.113.11", "198.51.100.7", SSH).await, @"error: from: neither end is an instance: no host decides about it");
    server.stop().await;
}

#[tokio::test]
async fn who_sends_is_named_by_any_address_that_is_sent_from() {
    let server = furnished().await;
    server.done_as(Method::PATCH, "/v1/hosts/host1", r#"{"public_interface": "eth0"}"#).await;
    server.report_addresses("host1", &["203.0.113.11"]).await;
    server.create_instance("red", "db").await;
    let place = AttachRequest { host: Some("host1".to_owned()), network: None, plug: PlugRequest::default() };
    server.admin.attach("db", None, &place).await.unwrap();
    // A gateway is the host that has it.
    assert_snapshot!(server.in_short("10.0.0.1", "10.0.0.2", SSH).await, @"
    host host1 itself sends it from 10.0.0.1, held to no security group there
    host host1 routes it to network public, on br100
    [device] is sent what is for 10.0.0.2
    it is delivered to web, by [device]
    passes
    ");
    assert_snapshot!(server.in_short("10.1.0.1", "10.0.0.2", SSH).await, @"error: from: no host has 10.1.0.1, the gateway of network cellar, now: nothing is plugged in there");
    // What nobody has is forged.
    assert_snapshot!(server.in_short("10.0.0.99", "10.0.0.2", SSH).await, @"
    db on network public sends it from 10.0.0.99, on host host1
    [device] may not send from 10.0.0.99
    dropped
    ");
    assert_snapshot!(server.in_short("10.1.0.99", "10.0.0.2", SSH).await, @"error: from: nobody has 10.1.0.99, and nobody else is there who could send from it: name the instance");
    // Until somebody may send from it.
    let pair = r#"{"allowed_address_pairs": ["10.0.0.99"]}"#;
    server.done_as(Method::PATCH, "/v1/instances/db/interfaces/public", pair).await;
    assert_snapshot!(server.in_short("10.0.0.99", "10.0.0.2", SSH).await, @"
    db on network public sends it from 10.0.0.99, on host host1
    [device] may send from 10.0.0.99
    [device] is sent what is for 10.0.0.2
    network public reaches itself
    everything to anybody is allowed, by security group default
    everything from members of security group default is allowed, by security group default
    it is delivered to web, by [device]
    passes
    ");
    // Under a floating IP an instance sends.
    server.done("/v1/pools", r#"{"name": "ext", "ranges": ["203.0.113.20-203.0.113.29"]}"#).await;
    server.done("/v1/floating-ips", r#"{"project": "red", "address": "203.0.113.23"}"#).await;
    let to_db = r#"{"instance": "db"}"#;
    server.done("/v1/floating-ips/203.0.113.23/associate", to_db).await;
    assert_snapshot!(server.in_short("203.0.113.23", "10.0.0.2", SSH).await, @"
    db on network public sends it from 10.0.0.3, on host host1
    [device] may send from 10.0.0.3
    [device] is sent what is for 10.0.0.2
    network public reaches itself
    everything to anybody is allowed, by security group default
    everything from members of security group default is allowed, by security group default
    it is delivered to web, by [device]
    passes
    ");
    assert_snapshot!(server.in_short("127.0.0.1", "10.0.0.2", SSH).await, @"error: from: nobody sends from 127.0.0.1 to others: name the instance or the host");
    server.stop().await;
}

#[tokio::test]
async fn a_user_of_a_vpn_is_an_end_like_others() {
    let server = furnished().await;
    server.done_as(Method::PATCH, "/v1/hosts/host1", r#"{"public_interface": "eth0"}"#).await;
    server.done("/v1/pools", r#"{"name": "ext", "ranges": ["203.0.113.0/29"]}"#).await;
    let _agent = server.play_agent("host1", Vec::new()).await;
    let place = AttachRequest { host: Some("host1".to_owned()), network: None, plug: PlugRequest::default() };
    server.admin.attach("web", Some("blue"), &place).await.unwrap();
    server.done("/v1/vpns", r#"{"project": "blue"}"#).await;
    for name in ["alice", "bob"] {
        server.done("/v1/vpns/blue/users", &format!(r#"{{"name": "{name}"}}"#)).await;
    }
    assert_snapshot!(server.in_short("10.1.0.4", "10.1.0.2", SSH).await, @"
    blue-vpn on network cellar sends it from 10.1.0.4, on host host1
    [device] may send from 10.1.0.4
    [device] is sent what is for 10.1.0.2
    network cellar reaches itself
    everything to anybody is allowed, by security group default
    everything from members of security group default is allowed, by security group default
    it is delivered to web, by [device]
    passes
    ");
    assert_snapshot!(server.in_short("10.1.0.2", "10.1.0.4", SSH).await, @"
    web on network cellar sends it from 10.1.0.2, on host host1
    [device] may send from 10.1.0.2
    [device] is sent what is for 10.1.0.4
    network cellar reaches itself
    everything to anybody is allowed, by security group default
    everything from members of security group default is allowed, by security group default
    it is delivered to blue-vpn, by [device]
    passes
    ");
    assert_snapshot!(server.in_short("10.1.0.4", "10.1.0.5", SSH).await, @"
    10.1.0.4 and 10.1.0.5 are users of VPN blue-vpn, which do not reach each other
    dropped
    ");
    server.stop().await;
}

#[tokio::test]
async fn the_rule_that_decides_is_named() {
    let server = furnished().await;
    server.create_instance("red", "db").await;
    let place = AttachRequest { host: Some("host1".to_owned()), network: None, plug: PlugRequest::default() };
    server.admin.attach("db", None, &place).await.unwrap();
    let packet = ExplainQuery {
        from: "db".to_owned(),
        to: "web/public".to_owned(),
        protocol: "tcp".to_owned(),
        port: Some("22".to_owned()),
        project: Some("red".to_owned()),
        ..ExplainQuery::default()
    };
    let explanation = server.admin.explain(&packet).await.unwrap();
    let groups = explanation.stages.iter().filter(|stage| stage.rule.is_some());
    let groups: Vec<_> = groups.map(|stage| (stage.stage, &stage.reason[..])).collect();
    let egress = "everything to anybody is allowed, by security group default";
    let ingress = "everything from members of security group default is allowed, by security group default";
    assert_eq!(groups, [(StageKind::Egress, egress), (StageKind::Ingress, ingress)]);
    assert_eq!(explanation.outcome, Outcome::Passes);
    server.stop().await;
}

/// As in rules.
#[tokio::test]
async fn a_protocol_is_named_in_any_case() {
    let server = furnished().await;
    for protocol in ["ICMP", "Icmp", "icmp"] {
        let answer = server.explain(&format!("from=web&project=red&to=10.0.0.1&protocol={protocol}")).await;
        assert!(answer.contains("\"protocol\": \"icmp\""), "{answer}");
        assert!(answer.contains("\"outcome\": \"passes\""), "{answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_packet_is_refused() {
    let server = furnished().await;
    assert_snapshot!(server.explain("from=web&to=10.0.0.1").await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "malformed",
        "message": "the query cannot be read: missing field `protocol`"
      }
    }
    "#);
    assert_snapshot!(server.explain("from=web&to=10.0.0.1&protocol=smtp&port=x&icmp_type=y").await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "3 things are wrong with the request",
        "problems": [
          {
            "code": "bad_protocol",
            "field": "protocol",
            "message": "`smtp` is not an IP protocol: use tcp, udp, sctp, icmp, icmpv6 or a number from 1 to 254"
          },
          {
            "code": "bad_port",
            "field": "port",
            "message": "`x` is not a port: use a number from 1 to 65535"
          },
          {
            "code": "bad_icmp_type",
            "field": "icmp_type",
            "message": "`y` is not a type of ICMP messages: write it as 8, or as 3/4 with its code"
          }
        ]
      }
    }
    "#);
    assert_snapshot!(server.explain("from=web&to=10.0.0.1&protocol=tcp").await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "port: tcp needs a destination port",
        "problems": [
          {
            "code": "required",
            "field": "port",
            "message": "tcp needs a destination port"
          }
        ]
      }
    }
    "#);
    assert_snapshot!(server.explain("from=web&to=10.0.0.1&protocol=icmp&port=22").await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "port: icmp has no ports",
        "problems": [
          {
            "code": "not_possible",
            "field": "port",
            "message": "icmp has no ports"
          }
        ]
      }
    }
    "#);
    assert_snapshot!(server.explain("from=web&to=10.0.0.1&protocol=udp&port=0&icmp_type=8").await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "2 things are wrong with the request",
        "problems": [
          {
            "code": "bad_port",
            "field": "port",
            "message": "`0` is not a port: use a number from 1 to 65535"
          },
          {
            "code": "not_possible",
            "field": "icmp_type",
            "message": "udp is not ICMP"
          }
        ]
      }
    }
    "#);
    assert_snapshot!(server.explain("from=web&project=red&to=10.0.0.1&protocol=icmpv6").await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "protocol: icmpv6 is not sent to 10.0.0.1, which is IPv4",
        "problems": [
          {
            "code": "not_possible",
            "field": "protocol",
            "message": "icmpv6 is not sent to 10.0.0.1, which is IPv4"
          }
        ]
      }
    }
    "#);
    assert_snapshot!(server.explain("from=10.0.0.2&to=2001:db8::1&protocol=tcp&port=1").await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "to: 2001:db8::1 is IPv6, but 10.0.0.2 is not",
        "problems": [
          {
            "code": "not_possible",
            "field": "to",
            "message": "2001:db8::1 is IPv6, but 10.0.0.2 is not"
          }
        ]
      }
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn who_is_not_there_is_not_asked_about() {
    let server = furnished().await;
    assert_snapshot!(server.explain("from=mail&to=web&protocol=icmp").await, @r#"
    404 Not Found
    {
      "error": {
        "code": "not_found",
        "message": "no instance `mail`"
      }
    }
    "#);
    assert_snapshot!(server.explain("from=web&to=10.0.0.1&protocol=icmp").await, @r#"
    400 Bad Request
    {
      "error": {
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
    }
    "#);
    assert_snapshot!(server.explain("from=web/cellar&project=red&to=10.0.0.1&protocol=icmp").await, @r#"
    404 Not Found
    {
      "error": {
        "code": "not_found",
        "message": "the instance has no interface on this network"
      }
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn a_member_asks_about_its_own_instances_alone() {
    let server = furnished().await;
    let red = server.member_token("red").await;
    let ask = async |query: &str| server.raw_as(&red, Method::GET, &format!("/v1/explain?{query}"), "").await;
    assert!(ask("from=web&to=10.0.0.1&protocol=udp&port=53").await.contains("\"outcome\": \"passes\""));
    for foreign in [
        "from=10.1.0.2&to=10.0.0.2&protocol=icmp",
        "from=web&to=10.1.0.2&protocol=icmp",
        // Not even whether there is such a network.
        "from=web&to=10.1.0.99&protocol=icmp",
    ] {
        let answer = ask(foreign).await;
        assert!(answer.starts_with("404"), "{answer}");
        assert!(answer.contains("no instance has the address 10.1.0."), "{answer}");
    }
    assert!(ask("from=web/cellar&to=10.0.0.1&protocol=icmp").await.contains("no network `cellar`"));
    let agent = server.agent_token("host1").await;
    assert_snapshot!(server.raw_as(&agent, Method::GET, "/v1/explain?from=web&to=10.0.0.1&protocol=icmp", "").await, @r#"
    403 Forbidden
    {
      "error": {
        "code": "forbidden",
        "message": "asking what becomes of packets is not for agents"
      }
    }
    "#);
    server.stop().await;
}
