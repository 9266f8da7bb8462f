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
          "name": "alice",
          "void": false
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
    let left: Value = server.done_as(Method::GET, "/v1/security-groups?name=vpn", "").await;
    assert_eq!(left["items"], Value::Array(Vec::new()), "its security group goes with it");
    assert_snapshot!(server.told("vpn").await, @"
    vpn.created of blue on host1: project `blue` got a VPN into network `cellar`: clients send to 203.0.113.1 port 1000
    vpn.user_added of blue on host1: user `alice` comes in by the VPN of project `blue` as 10.1.0.4
    vpn.user_revoked of blue on host1: user `alice` comes in by the VPN of project `blue` no more
    vpn.deleted of blue on host1: the VPN of project `blue` was deleted
    ");
}

#[tokio::test]
async fn another_file_is_for_as_many_days_as_the_one_before() {
    let (server, _agent) = with_vpn().await;
    let days = async |path: &str, body: &str| {
        let user = server.done(path, body).await["user"].clone();
        let end: jiff::Timestamp = user["expires_at"].as_str().unwrap().parse().unwrap();
        // The end is to the second, and is kept from before the answer was written.
        (end.duration_since(jiff::Timestamp::now()).as_hours() + 1) / 24
    };
    let renew = &format!("{USERS}/alice/renew");
    assert_eq!(days(USERS, r#"{"name": "alice", "days": 30}"#).await, 30);
    assert_eq!(days(renew, "{}").await, 30);
    assert_eq!(days(renew, r#"{"days": 7}"#).await, 7);
    server.done(&format!("{BLUE}/renew-ca"), "{}").await;
    let void = server.done_as(Method::GET, USERS, "").await;
    assert_eq!([&void["items"][0]["void"], &void["items"][0]["expired"]], [true, true]);
    assert_eq!(days(renew, "{}").await, 7);
    let valid = server.done_as(Method::GET, USERS, "").await;
    assert_eq!([&valid["items"][0]["void"], &valid["items"][0]["expired"]], [false, false]);
    assert_eq!(days(USERS, r#"{"name": "bob"}"#).await, 365);
    assert_eq!(days(&format!("{USERS}/bob/renew"), "{}").await, 365);
}

#[tokio::test]
async fn a_vpn_s_group_stays_where_it_was_before_or_is_used() {
    let (server, _agent) = furnished().await;
    let groups = async || {
        let groups = server.done_as(Method::GET, "/v1/security-groups?name=vpn", "").await;
        groups["items"].as_array().unwrap().len()
    };
    let patch = async |body: &str| {
        server.done_as(Method::PATCH, "/v1/instances/web/interfaces/cellar?project=blue", body).await;
    };
    server.done("/v1/vpns", r#"{"project": "blue"}"#).await;
    patch(r#"{"security_groups": ["vpn"]}"#).await;
    server.done_as(Method::DELETE, BLUE, "").await;
    assert_eq!(groups().await, 1, "an instance is in it");
    patch(r#"{"security_groups": []}"#).await;
    server.done("/v1/vpns", r#"{"project": "blue"}"#).await;
    server.done_as(Method::DELETE, BLUE, "").await;
    assert_eq!(groups().await, 1, "it was there before");
}

#[tokio::test]
async fn a_user_s_address_says_whose_it_is() {
    let (server, _agent) = with_vpn().await;
    let address = server.done(USERS, r#"{"name": "alice"}"#).await["user"]["address"].clone();
    let address = address.as_str().unwrap();
    let history = &format!("/v1/addresses/{address}/history");
    let now = server.done_as(Method::GET, &format!("/v1/fixed-ips?address={address}"), "").await;
    assert_eq!([&now["items"][0]["instance"], &now["items"][0]["vpn_user"]], ["blue-vpn", "alice"]);
    server.done_as(Method::DELETE, &format!("{USERS}/alice"), "").await;
    let then = server.done_as(Method::GET, history, "").await;
    assert_eq!([&then["items"][0]["instance"], &then["items"][0]["vpn_user"]], ["blue-vpn", "alice"]);
    assert!(then["items"][0]["until"].is_string() && then["items"][1].is_null(), "{then}");
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

/// Code and message of a refusal on one line, and every problem.
fn brief(answer: &str) -> String {
    let (status, body) = answer.split_once('\n').unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    let error = &body["error"];
    format!("{} {}: {}", &status[..3], error["code"].as_str().unwrap(), error["message"].as_str().unwrap())
}

#[tokio::test]
async fn what_cannot_be_a_vpn_is_refused_and_nothing_is_half_made() {
    let (server, _agent) = furnished().await;
    for body in [
        r#"{"name": "flat", "type": "flat", "cidr": "10.2.0.0/24", "bridge": "br102", "project": "blue"}"#,
        r#"{"name": "six", "type": "flat_dhcp", "cidr_v6": "fd00:1::/64", "bridge": "br103", "project": "blue"}"#,
        r#"{"name": "free", "type": "vlan", "cidr": "10.4.0.0/24", "vlan": 200}"#,
    ] {
        server.done("/v1/networks", body).await;
    }
    server.done("/v1/floating-ips", r#"{"project": "red", "address": "203.0.113.6"}"#).await;
    let long = "p".repeat(60);
    server.done("/v1/projects", &format!(r#"{{"name": "{long}"}}"#)).await;
    let owned = format!(
        r#"{{"name": "long", "type": "flat_dhcp", "cidr": "10.5.0.0/24", "bridge": "br105", "project": "{long}"}}"#
    );
    server.done("/v1/networks", &owned).await;
    let long = format!(r#"{{"project": "{long}"}}"#);
    let mut told = Vec::new();
    for body in [
        r#"{}"#,
        r#"{"project": "green"}"#,
        r#"{"project": "blue", "kind": "ipsec", "ip": "here", "port": 0}"#,
        r#"{"project": "blue", "network": "nowhere"}"#,
        r#"{"project": "blue", "network": "public"}"#,
        r#"{"project": "blue", "network": "free"}"#,
        r#"{"project": "red", "network": "cellar"}"#,
        r#"{"project": "blue", "network": "flat"}"#,
        r#"{"project": "blue", "network": "six"}"#,
        r#"{"project": "red"}"#,
        r#"{"project": "blue", "host": "host9"}"#,
        r#"{"project": "blue", "ip": "203.0.113.6"}"#,
        &long,
    ] {
        told.push(brief(&server.refused("/v1/vpns", body).await));
    }
    assert_snapshot!(told.join("\n"), @"
    400 invalid: project: a VPN needs a project
    404 not_found: no project `green`
    400 invalid: 3 things are wrong with the request
    404 not_found: no network `nowhere`
    409 not_own: network `public` is shared by all projects
    409 not_own: network `free` belongs to no project yet
    409 not_own: network `cellar` belongs to project `blue`
    409 not_routed: network `flat` is of type `flat`: Trestle does not route for it
    409 no_ipv4: network `six` has no IPv4 addresses
    409 no_network: project `red` has no network that a VPN can lead into
    404 not_found: no host `host9`
    409 address_taken: another project has floating IP 203.0.113.6
    409 name_too_long: the VPN of project `pppppppppppppppppppppppppppppppppppppppppppppppppppppppppppp` would have a name of 64 characters, which is longer than 63
    ");
    server.create_instance("blue", "blue-vpn").await;
    let taken = brief(&server.refused("/v1/vpns", r#"{"project": "blue", "network": "cellar"}"#).await);
    assert_snapshot!(taken, @"409 name_taken: project `blue` has an instance `blue-vpn`, which is what its VPN would be called");
}

#[tokio::test]
async fn where_no_address_or_host_is_left_nothing_is_made() {
    let (server, agent) = furnished().await;
    let blue = r#"{"project": "blue"}"#;
    drop(agent);
    server.done_as(Method::PATCH, "/v1/hosts/host1", r#"{"public_interface": ""}"#).await;
    assert_snapshot!(brief(&server.refused("/v1/vpns", blue).await), @"409 no_gateway_host: no host can run a VPN into network `cellar`: none that is connected has a public interface");
    let named = r#"{"project": "blue", "host": "host1"}"#;
    assert_snapshot!(brief(&server.refused("/v1/vpns", named).await), @"409 no_public_interface: host `host1` has no public interface, which floating IP 203.0.113.1 is to be on");
    server.done_as(Method::PATCH, "/v1/hosts/host1", r#"{"public_interface": "eth0"}"#).await;
    for _ in 0..6 {
        server.done("/v1/floating-ips", r#"{"project": "red"}"#).await;
    }
    assert_snapshot!(brief(&server.refused("/v1/vpns", named).await), @"409 pool_full: no IPv4 address of pool `ext` is free");
    server.done("/v1/pools", r#"{"name": "more", "ranges": ["198.51.100.0/30"]}"#).await;
    assert_snapshot!(brief(&server.refused("/v1/vpns", named).await), @"400 invalid: ip: several pools have ipv4 addresses: say which address clients are to send to");
    server.done("/v1/vpns", r#"{"project": "blue", "host": "host1", "ip": "198.51.100.2"}"#).await;
    let small = r#"{"name": "small", "type": "flat_dhcp", "cidr": "10.3.0.0/30", "bridge": "br103", "project": "red"}"#;
    server.done("/v1/networks", small).await;
    server
        .done("/v1/vpns", r#"{"project": "red", "network": "small", "host": "host1", "ip": "203.0.113.1"}"#)
        .await;
    let user = brief(&server.refused("/v1/vpns/red/users", r#"{"name": "alice"}"#).await);
    assert_snapshot!(user, @"409 network_full: network `small` is full: all of its 1 IPv4 addresses are taken");
}

#[tokio::test]
async fn users_that_cannot_be_are_refused() {
    let (server, _agent) = with_vpn().await;
    server.done(USERS, r#"{"name": "alice"}"#).await;
    let mut told = Vec::new();
    for (path, body) in [
        (USERS, r#"{"name": "alice"}"#),
        (USERS, r#"{"name": "Al ice", "days": 0}"#),
        (USERS, r#"{"name": "bob", "days": 3651}"#),
        ("/v1/vpns/red/users", r#"{"name": "bob"}"#),
        ("/v1/vpns/green/users", r#"{"name": "bob"}"#),
        ("/v1/vpns/blue/users/bob/renew", "{}"),
        ("/v1/vpns/blue/users/alice/renew", r#"{"days": 0}"#),
    ] {
        told.push(brief(&server.refused(path, body).await));
    }
    let nobody = server.refused_as(Method::DELETE, &format!("{USERS}/bob"), "").await;
    told.push(brief(&nobody));
    assert_snapshot!(told.join("\n"), @"
    409 name_taken: the VPN of project `blue` has a user `alice` already
    400 invalid: 2 things are wrong with the request
    400 invalid: days: a user is let in for 1 to 3650 days, not for 3651
    404 not_found: no VPN of project `red`
    404 not_found: no project `green`
    404 not_found: no user of the VPN of project `blue` called `bob`
    400 invalid: days: a user is let in for 1 to 3650 days, not for 0
    404 not_found: no user of the VPN of project `blue` called `bob`
    ");
}

#[tokio::test]
async fn members_have_their_own_project_s_vpn_alone() {
    let (server, _agent) = furnished().await;
    let (red, blue) = (server.member_token("red").await, server.member_token("blue").await);
    let agent = server.agent_token("host1").await;
    let mut told = Vec::new();
    for (token, method, path, body) in [
        (&blue, Method::POST, "/v1/vpns", r#"{"host": "host1"}"#),
        (&blue, Method::POST, "/v1/vpns", r#"{"ip": "192.0.2.7"}"#),
        (&red, Method::POST, "/v1/vpns", r#"{"project": "blue"}"#),
        (&agent, Method::POST, "/v1/vpns", r#"{"project": "blue"}"#),
        (&agent, Method::GET, BLUE, ""),
        (&agent, Method::GET, "/v1/vpns", ""),
    ] {
        told.push(brief(&server.raw_as(token, method, path, body).await));
    }
    let made = server.raw_as(&blue, Method::POST, "/v1/vpns", "{}").await;
    assert!(made.starts_with("201"), "{made}");
    let user = server.raw_as(&blue, Method::POST, USERS, r#"{"name": "alice"}"#).await;
    assert!(user.starts_with("201"), "{user}");
    for (method, path, body) in [
        (Method::GET, BLUE, ""),
        (Method::PATCH, BLUE, r#"{"port": 1001}"#),
        (Method::DELETE, BLUE, ""),
        (Method::POST, "/v1/vpns/blue/renew-ca", ""),
        (Method::GET, USERS, ""),
        (Method::POST, USERS, r#"{"name": "eve"}"#),
        (Method::DELETE, "/v1/vpns/blue/users/alice", ""),
        (Method::POST, "/v1/vpns/blue/users/alice/renew", "{}"),
        (Method::GET, "/v1/vpns?project=blue", ""),
    ] {
        told.push(brief(&server.raw_as(&red, method, path, body).await));
    }
    let identity = "/v1/hosts/host1/vpns/blue-vpn/identity";
    for token in [&server.admin_token, &blue] {
        told.push(brief(&server.raw_as(token, Method::GET, identity, "").await));
    }
    assert_snapshot!(told.join("\n"), @"
    403 forbidden: choosing a VPN's host is for admins
    403 forbidden: 192.0.2.7 is in no pool: such an address is for administrators to give
    404 not_found: no project `blue`
    403 forbidden: making a VPN is not for agents
    403 forbidden: looking at a VPN is not for agents
    403 forbidden: listing VPNs is not for agents
    404 not_found: no project `blue`
    404 not_found: no project `blue`
    404 not_found: no project `blue`
    404 not_found: no project `blue`
    404 not_found: no project `blue`
    404 not_found: no project `blue`
    404 not_found: no project `blue`
    404 not_found: no project `blue`
    404 not_found: no project `blue`
    403 forbidden: a VPN's keys are for the agent of the host that runs it
    403 forbidden: a VPN's keys are for the agent of the host that runs it
    ");
    assert_eq!(server.raw_as(&red, Method::GET, "/v1/vpns", "").await, "200 OK\n{\n  \"items\": []\n}");
    let own = server.raw_as(&blue, Method::GET, "/v1/vpns", "").await;
    assert!(own.contains("\"project\": \"blue\""), "{own}");
    server.done("/v1/hosts", r#"{"name": "host2"}"#).await;
    let other = server.agent_token("host2").await;
    assert!(server.raw_as(&agent, Method::GET, identity, "").await.starts_with("200"));
    assert!(server.raw_as(&other, Method::GET, identity, "").await.starts_with("404"));
    let there = server.raw_as(&other, Method::GET, "/v1/hosts/host2/vpns/blue-vpn/identity", "").await;
    assert_eq!(brief(&there), "404 not_found: no VPN on this host `blue-vpn`");
}
