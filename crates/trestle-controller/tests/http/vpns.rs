//! VPNs as clients see them.

use insta::assert_snapshot;
use reqwest::Method;
use serde_json::Value;

use crate::harness::{PlayedAgent, TestServer};

/// What [`TestServer::furnish`] makes, a pool, and host1 connected with a public interface. The network
/// `cellar` is blue's.
async fn furnished() -> (TestServer, PlayedAgent) {
    let server = TestServer::start().await;
    server.furnish().await;
    server.done_as(Method::PATCH, "/v1/hosts/host1", r#"{"public_interface": "eth0"}"#).await;
    server.done("/v1/pools", r#"{"name": "ext", "ranges": ["203.0.113.0/29"]}"#).await;
    let agent = server.play_agent("host1", Vec::new()).await;
    (server, agent)
}

/// The same, and blue has a VPN.
async fn with_vpn() -> (TestServer, PlayedAgent) {
    let (server, agent) = furnished().await;
    server.done("/v1/vpns", r#"{"project": "blue"}"#).await;
    (server, agent)
}

const BLUE: &str = "/v1/vpns/blue";
const USERS: &str = "/v1/vpns/blue/users";

/// The answer without what is made at random: what stands between the lines of PEM.
fn without_keys(text: &str) -> String {
    let mut shown = Vec::new();
    let mut within = false;
    for line in text.lines() {
        within &= !line.contains("-----END");
        if !within {
            shown.push(line);
        }
        within |= line.contains("-----BEGIN");
    }
    shown.join("\n")
}

#[tokio::test]
async fn a_vpn_from_its_making_to_its_end() {
    let (server, _agent) = furnished().await;
    assert_snapshot!(server.raw(Method::POST, "/v1/vpns", r#"{"project": "blue"}"#).await, @r#"
    201 Created
    {
      "address": "10.1.0.3",
      "ca_expires_at": "[time]",
      "connected": 0,
      "created_at": "[time]",
      "host": "host1",
      "instance": "blue-vpn",
      "ip": "203.0.113.1",
      "kind": "openvpn",
      "network": "cellar",
      "port": 1000,
      "project": "blue",
      "state": "active",
      "users": 0
    }
    "#);
    assert_snapshot!(server.raw(Method::GET, "/v1/floating-ips", "").await, @r#"
    200 OK
    {
      "items": [
        {
          "address": "203.0.113.1",
          "auto_assigned": false,
          "forwards": [
            {
              "fixed_ip": "10.1.0.3",
              "fixed_port": 1194,
              "instance": "blue-vpn",
              "network": "cellar",
              "port": 1000,
              "protocol": "udp",
              "served": true
            }
          ],
          "host": "host1",
          "pool": "ext",
          "project": "blue",
          "reserved_at": "[time]",
          "state": "active"
        }
      ]
    }
    "#);
    assert_snapshot!(server.raw(Method::GET, "/v1/instances/blue-vpn", "").await, @r#"
    200 OK
    {
      "created_at": "[time]",
      "id": "[id]",
      "interfaces": [
        {
          "addresses": [
            "10.1.0.3"
          ],
          "allowed_address_pairs": [],
          "device": "[device]",
          "floating_ips": [],
          "host": "host1",
          "id": "[id]",
          "mac": "[mac]",
          "network": "cellar",
          "plug": {
            "name": "eth0",
            "netns": "%S/vpns/blue-vpn/netns",
            "type": "veth"
          },
          "port_security": true,
          "security_groups": [
            "default",
            "vpn"
          ],
          "state": "ready"
        }
      ],
      "name": "blue-vpn",
      "project": "blue"
    }
    "#);
    assert_snapshot!(server.raw(Method::GET, "/v1/security-groups?name=vpn", "").await, @r#"
    200 OK
    {
      "items": [
        {
          "created_at": "[time]",
          "description": "clients of the project's VPN",
          "id": "[id]",
          "name": "vpn",
          "number": 3,
          "project": "blue",
          "rules": [
            {
              "bytes": null,
              "created_at": "[time]",
              "direction": "ingress",
              "expires_at": null,
              "family": null,
              "icmp_type": null,
              "id": "[id]",
              "number": 5,
              "packets": null,
              "ports": "1194",
              "protocol": "udp",
              "remote_address_group": null,
              "remote_cidr": "0.0.0.0/0",
              "remote_group": null,
              "text": "ingress udp 1194 from 0.0.0.0/0"
            }
          ]
        }
      ]
    }
    "#);
    let made = server.done(USERS, r#"{"name": "alice", "days": 30}"#).await;
    assert_eq!(made["file_name"], "blue-alice.ovpn");
    let config = without_keys(made["config"].as_str().unwrap());
    let config: Vec<&str> = config.lines().filter(|line| !line.starts_with("# VPN of")).collect();
    assert_snapshot!(config.join("\n"), @"
    # Keep it secret: who has it comes in as alice. Nobody can show it again.
    client
    dev tun
    proto udp
    remote 203.0.113.1 1000
    nobind
    persist-key
    persist-tun
    resolv-retry infinite
    remote-cert-tls server
    verify-x509-name blue-vpn name
    data-ciphers AES-256-GCM:AES-128-GCM:CHACHA20-POLY1305
    tls-version-min 1.2
    auth-nocache
    connect-retry 1 5
    connect-timeout 5
    explicit-exit-notify 1
    verb 3
    <ca>
    -----BEGIN CERTIFICATE-----
    -----END CERTIFICATE-----
    </ca>
    <cert>
    -----BEGIN CERTIFICATE-----
    -----END CERTIFICATE-----
    </cert>
    <key>
    -----BEGIN PRIVATE KEY-----
    -----END PRIVATE KEY-----
    </key>
    <tls-crypt>
    -----BEGIN OpenVPN Static key V1-----
    -----END OpenVPN Static key V1-----
    </tls-crypt>
    ");
    assert_snapshot!(server.raw(Method::GET, USERS, "").await, @r#"
    200 OK
    {
      "items": [
        {
          "address": "10.1.0.4",
          "created_at": "[time]",
          "expired": false,
          "expires_at": "[time]",
          "name": "alice"
        }
      ]
    }
    "#);
    assert_snapshot!(server.raw(Method::GET, "/v1/vpns", "").await, @r#"
    200 OK
    {
      "items": [
        {
          "address": "10.1.0.3",
          "ca_expires_at": "[time]",
          "connected": 0,
          "created_at": "[time]",
          "host": "host1",
          "instance": "blue-vpn",
          "ip": "203.0.113.1",
          "kind": "openvpn",
          "network": "cellar",
          "port": 1000,
          "project": "blue",
          "state": "active",
          "users": 1
        }
      ]
    }
    "#);
    assert_snapshot!(server.raw(Method::DELETE, &format!("{USERS}/alice"), "").await, @"204 No Content");
    assert_snapshot!(server.raw(Method::DELETE, BLUE, "").await, @"204 No Content");
    assert_snapshot!(server.raw(Method::GET, BLUE, "").await, @r#"
    404 Not Found
    {
      "error": {
        "code": "not_found",
        "hint": "`trestle vpn create --project blue` makes one",
        "message": "no VPN of project `blue`"
      }
    }
    "#);
    let left: Value = server.done_as(Method::GET, "/v1/floating-ips", "").await;
    assert_eq!(left["items"], Value::Array(Vec::new()), "its floating IP is given back");
    assert_snapshot!(server.told("vpn").await, @"
    vpn.created of blue on host1: project `blue` got a VPN into network `cellar`: clients send to 203.0.113.1 port 1000
    vpn.user_added of blue on host1: user `alice` comes in by the VPN of project `blue` as 10.1.0.4
    vpn.user_revoked of blue on host1: user `alice` comes in by the VPN of project `blue` no more
    vpn.deleted of blue on host1: the VPN of project `blue` was deleted
    ");
}

#[tokio::test]
async fn what_belongs_to_a_vpn_is_changed_by_its_own_commands_alone() {
    let (server, _agent) = with_vpn().await;
    let instance = "/v1/instances/blue-vpn";
    let forward = "/v1/floating-ips/203.0.113.1/forwards/udp/1000";
    let hint =
        |answer: String| answer.lines().filter(|line| line.contains("\"message\"")).collect::<String>();
    let mut told = Vec::new();
    for (method, path, body) in [
        (Method::DELETE, instance.to_owned(), ""),
        (Method::POST, format!("{instance}/attach"), r#"{"host": "host1"}"#),
        (Method::POST, format!("{instance}/detach"), "{}"),
        (Method::POST, format!("{instance}/move"), r#"{"host": "host1"}"#),
        (Method::POST, format!("{instance}/interfaces"), r#"{"network": "public"}"#),
        (Method::DELETE, format!("{instance}/interfaces/cellar"), ""),
        (Method::DELETE, forward.to_owned(), ""),
        (Method::DELETE, "/v1/floating-ips/203.0.113.1".to_owned(), ""),
        (Method::POST, "/v1/floating-ips/203.0.113.1/associate".to_owned(), r#"{"instance": "blue-vpn"}"#),
        (Method::DELETE, "/v1/networks/cellar".to_owned(), ""),
        (Method::POST, "/v1/vpns".to_owned(), r#"{"project": "blue"}"#),
    ] {
        let answer = server.refused_as(method.clone(), &path, body).await;
        assert!(answer.contains("trestle vpn "), "{method} {path} names the way: {answer}");
        told.push(hint(answer));
    }
    assert_snapshot!(told.join("\n"), @r#"
    "message": "instance `blue-vpn` is the VPN of project `blue`: it cannot be deleted by itself"
    "message": "instance `blue-vpn` is the VPN of project `blue`: it cannot be plugged in by hand"
    "message": "instance `blue-vpn` is the VPN of project `blue`: it cannot be taken out by hand"
    "message": "instance `blue-vpn` is the VPN of project `blue`: it cannot be moved by hand"
    "message": "instance `blue-vpn` is the VPN of project `blue`: it cannot be put on another network"
    "message": "instance `blue-vpn` is the VPN of project `blue`: it cannot be taken out of its network"
    "message": "clients of the VPN of project `blue` send to port udp/1000 of floating IP 203.0.113.1, which cannot be taken from it"
    "message": "clients of the VPN of project `blue` send to port udp/1000 of floating IP 203.0.113.1, which cannot be released"
    "message": "instance `blue-vpn` is the VPN of project `blue`: it cannot be led to by hand"
    "message": "the VPN of project `blue` leads into network `cellar`, which cannot be deleted"
    "message": "project `blue` has a VPN already, into network `cellar`"
    "#);
    let groups = r#"{"security_groups": ["default"]}"#;
    let changed = server.done_as(Method::PATCH, &format!("{instance}/interfaces/cellar"), groups).await;
    assert_eq!(changed["interfaces"][0]["security_groups"], serde_json::json!(["default"]));
}
