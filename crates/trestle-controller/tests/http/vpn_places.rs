//! Where clients of VPNs send to, where VPNs run, and what hosts say of them.

use insta::assert_snapshot;
use jiff::Timestamp;
use reqwest::Method;
use serde_json::Value;
use trestle_api::agent::{Report, SpecQuery};
use trestle_api::plan::{Problem, ProblemCode};
use trestle_api::{VpnConnection, VpnState};

use crate::harness::{TestServer, reqwest_client};

const BLUE: &str = "/v1/vpns/blue";

/// What [`TestServer::furnish`] makes, a pool, and host1 with a public interface.
async fn furnished_with(vpn_ip: Option<&str>, autostart: bool) -> TestServer {
    let server = TestServer::start_with(|config| {
        config.listen = Some(vec!["127.0.0.1:0".to_owned()]);
        config.vpn_ip = vpn_ip.map(|ip| ip.parse().unwrap());
        config.vpn_autostart = autostart;
    })
    .await;
    server.furnish().await;
    server.done_as(Method::PATCH, "/v1/hosts/host1", r#"{"public_interface": "eth0"}"#).await;
    server
}

async fn with_pool() -> TestServer {
    let server = furnished_with(None, false).await;
    server.done("/v1/pools", r#"{"name": "ext", "ranges": ["203.0.113.0/29"]}"#).await;
    server
}

/// `address port` of blue's VPN, and the floating IPs there are with the ports of each.
async fn endpoint(server: &TestServer) -> String {
    let vpn = server.done_as(Method::GET, BLUE, "").await;
    let floating = server.done_as(Method::GET, "/v1/floating-ips", "").await;
    let line = |floating: &Value| {
        let ports = floating["forwards"].as_array().unwrap().iter().map(|port| port["port"].to_string());
        format!("{} [{}]", floating["address"].as_str().unwrap(), ports.collect::<Vec<_>>().join(" "))
    };
    let floating: Vec<String> = floating["items"].as_array().unwrap().iter().map(line).collect();
    format!("{} {}, of {}", vpn["ip"].as_str().unwrap(), vpn["port"], floating.join(", "))
}

#[tokio::test]
async fn a_vpn_says_who_has_to_lead_clients_to_it() {
    let server = with_pool().await;
    server.done("/v1/hosts", r#"{"name": "host2", "public_interface": "eth0"}"#).await;
    let own = |address: &str| Report { addresses: [address.parse().unwrap()].into(), ..Report::default() };
    let _agents = (
        server.play_agent_with("host1", own("203.0.113.11")).await,
        server.play_agent_with("host2", own("203.0.113.12")).await,
    );
    server.done("/v1/vpns", r#"{"project": "blue", "host": "host1", "ip": "203.0.113.11"}"#).await;
    let note = async || server.done_as(Method::GET, BLUE, "").await["note"].clone();
    let set = async |body: &str| server.done_as(Method::PATCH, BLUE, body).await["note"].clone();
    assert_eq!(note().await, Value::Null, "its host's own");
    assert_snapshot!(set(r#"{"host": "host2"}"#).await, @r#""203.0.113.11 is an address of host `host1`, and the VPN runs on host `host2`: see to it that what clients send there comes to `host2`""#);
    assert_snapshot!(set(r#"{"ip": "203.0.113.250"}"#).await, @r#""203.0.113.250 is no host's address and in no pool: see to it that what clients send there comes to host `host2`""#);
    assert_eq!(set(r#"{"ip": "203.0.113.12"}"#).await, Value::Null);
    // What is a part of another's text is not that one.
    assert_snapshot!(set(r#"{"ip": "3.0.113.11"}"#).await, @r#""3.0.113.11 is no host's address and in no pool: see to it that what clients send there comes to host `host2`""#);
    server.stop().await;
}

#[tokio::test]
async fn where_clients_send_to_is_changed_with_all_that_leads_there() {
    let server = with_pool().await;
    let _agent = server.play_agent("host1", Vec::new()).await;
    server.done("/v1/floating-ips", r#"{"project": "blue", "address": "203.0.113.5"}"#).await;
    server.done("/v1/vpns", r#"{"project": "blue", "port": 1194}"#).await;
    let user = server.done("/v1/vpns/blue/users", r#"{"name": "alice"}"#).await;
    assert!(user["config"].as_str().unwrap().contains("\nremote 203.0.113.1 1194\n"));
    assert_eq!(endpoint(&server).await, "203.0.113.1 1194, of 203.0.113.1 [1194], 203.0.113.5 []");
    let set = async |body: &str| {
        server.done_as(Method::PATCH, BLUE, body).await;
        endpoint(&server).await
    };
    assert_eq!(set(r#"{"port": 53}"#).await, "203.0.113.1 53, of 203.0.113.1 [53], 203.0.113.5 []");
    // One that the project has stays the project's, the one that came with the VPN goes.
    assert_eq!(set(r#"{"ip": "203.0.113.5"}"#).await, "203.0.113.5 53, of 203.0.113.5 [53]");
    assert_eq!(set(r#"{"ip": "192.0.2.9", "port": 4000}"#).await, "192.0.2.9 4000, of 203.0.113.5 []");
    assert_eq!(
        set(r#"{"ip": "203.0.113.2"}"#).await,
        "203.0.113.2 4000, of 203.0.113.2 [4000], 203.0.113.5 []"
    );
    assert_eq!(set(r#"{}"#).await, "203.0.113.2 4000, of 203.0.113.2 [4000], 203.0.113.5 []");
    let web = r#"{"protocol": "udp", "port": 500, "instance": "web"}"#;
    server.done("/v1/floating-ips/203.0.113.2/forwards", web).await;
    assert_snapshot!(server.refused_as(Method::PATCH, BLUE, r#"{"port": 500}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "port_taken",
        "hint": "name another port; a new VPN that names none has the first that is free",
        "message": "port udp/500 of 203.0.113.2 leads elsewhere already"
      }
    }
    "#);
    let vpns = r#"{"protocol": "udp", "port": 4000, "instance": "web"}"#;
    assert_snapshot!(server.refused("/v1/floating-ips/203.0.113.2/forwards", vpns).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "vpn_endpoint",
        "hint": "`trestle vpn set --project blue` gives the VPN another address or port, `trestle vpn delete --project blue` ends it",
        "message": "clients of the VPN of project `blue` send to port udp/4000 of floating IP 203.0.113.2, which cannot be led elsewhere"
      }
    }
    "#);
    // What the project led elsewhere by it keeps it.
    server.done_as(Method::DELETE, BLUE, "").await;
    let kept = server.raw(Method::GET, "/v1/floating-ips/203.0.113.2", "").await;
    assert!(kept.starts_with("200") && kept.contains("\"port\": 500"), "{kept}");
    assert_snapshot!(server.told("vpn.changed").await, @"
    vpn.changed of blue on host1: clients of the VPN of project `blue` send to 203.0.113.1 port 53 now
    vpn.changed of blue on host1: clients of the VPN of project `blue` send to 203.0.113.5 port 53 now
    vpn.changed of blue on host1: clients of the VPN of project `blue` send to 192.0.2.9 port 4000 now
    vpn.changed of blue on host1: clients of the VPN of project `blue` send to 203.0.113.2 port 4000 now
    ");
}

#[tokio::test]
async fn an_address_of_the_operator_s_is_shared_by_ports() {
    let server = furnished_with(Some("192.0.2.1"), false).await;
    let _agent = server.play_agent("host1", Vec::new()).await;
    let network = r#"{"name": "attic", "type": "flat_dhcp", "cidr": "10.2.0.0/24", "bridge": "br102", "project": "red"}"#;
    server.done("/v1/networks", network).await;
    let made = [
        server.done("/v1/vpns", r#"{"project": "blue"}"#).await,
        server.done("/v1/vpns", r#"{"project": "red"}"#).await,
    ];
    let at = made.map(|vpn| format!("{} {}", vpn["ip"].as_str().unwrap(), vpn["port"]));
    assert_eq!(at, ["192.0.2.1 1000", "192.0.2.1 1001"]);
    let member = server.member_token("blue").await;
    let low = server.raw_as(&member, Method::PATCH, BLUE, r#"{"port": 53}"#).await;
    assert!(low.contains("port 53 of 192.0.2.1 is not for VPNs: use 1000 to 65535"), "{low}");
    let own = server.raw_as(&member, Method::PATCH, BLUE, r#"{"port": 2000}"#).await;
    assert!(own.starts_with("200"), "{own}");
}

#[tokio::test]
async fn a_vpn_of_many_gateways_runs_where_most_of_its_project_is_and_where_it_is_sent() {
    let server = with_pool().await;
    server.done("/v1/hosts", r#"{"name": "host2", "public_interface": "eth0"}"#).await;
    let _agents =
        (server.play_agent("host1", Vec::new()).await, server.play_agent("host2", Vec::new()).await);
    server.done("/v1/instances/web/attach?project=blue", r#"{"host": "host2"}"#).await;
    let vpn = server.done("/v1/vpns", r#"{"project": "blue"}"#).await;
    assert_eq!(vpn["host"], "host2");
    let moved = server.done_as(Method::PATCH, BLUE, r#"{"host": "host1"}"#).await;
    assert_eq!((&moved["host"], &moved["state"]), (&"host1".into(), &"active".into()));
    let floating = server.done_as(Method::GET, "/v1/floating-ips/203.0.113.1", "").await;
    assert_eq!(floating["host"], "host1");
    assert_snapshot!(server.refused_as(Method::DELETE, "/v1/hosts/host1", "").await, @r#"
    409 Conflict
    {
      "error": {
        "code": "in_use",
        "hint": "move instances with `trestle instance move INSTANCE --to HOST` or detach them, and gateways with `trestle network set-gateway NETWORK HOST`",
        "message": "host `host1` still has instance `blue-vpn`"
      }
    }
    "#);
    assert_snapshot!(server.told("vpn.moved").await, @"vpn.moved of blue on host2: the VPN of project `blue` runs on host `host1`, on host `host2` no more");
}

#[tokio::test]
async fn a_floating_ip_that_is_elsewhere_is_said() {
    let server = with_pool().await;
    server.done("/v1/hosts", r#"{"name": "host2", "public_interface": "eth0"}"#).await;
    let _agents =
        (server.play_agent("host1", Vec::new()).await, server.play_agent("host2", Vec::new()).await);
    server.done("/v1/instances/web/attach?project=blue", r#"{"host": "host1"}"#).await;
    server.done("/v1/vpns", r#"{"project": "blue"}"#).await;
    server.done("/v1/floating-ips/203.0.113.1/associate", r#"{"instance": "web"}"#).await;
    assert_eq!(server.admin.vpn("blue").await.unwrap().state, VpnState::Active);
    server.done("/v1/instances/web/detach?project=blue", "{}").await;
    server.done("/v1/instances/web/attach?project=blue", r#"{"host": "host2"}"#).await;
    let vpn = server.admin.vpn("blue").await.unwrap();
    assert_eq!(vpn.state, VpnState::Failed);
    assert_snapshot!(vpn.problem.unwrap(), @"floating IP 203.0.113.1 is on host `host2`, with an instance that it leads to, and the VPN on host `host1`");
    for (ip, why) in [
        ("127.0.0.1", "no host can be reached at 127.0.0.1"),
        ("2001:db8::1", "2001:db8::1 is of IPv6: a VPN has an IPv4 address"),
        ("10.1.0.1", "10.1.0.1 is in 10.1.0.0/24 of network"),
    ] {
        let refused = server.refused_as(Method::PATCH, BLUE, &format!(r#"{{"ip": "{ip}"}}"#)).await;
        assert!(refused.contains(why), "{refused}");
    }
}

#[tokio::test]
async fn a_gateway_that_does_not_take_over_brings_the_vpn_back() {
    let server = with_pool().await;
    server.done("/v1/hosts", r#"{"name": "host2", "public_interface": "eth0"}"#).await;
    let single = r#"{"name": "single", "type": "flat_dhcp", "cidr": "10.2.0.0/24", "bridge": "br102",
                     "project": "blue", "multi_host": false, "gateway_host": "host1"}"#;
    server.done("/v1/networks", single).await;
    let broken = Problem {
        key: "link/br102".parse().unwrap(),
        code: ProblemCode::ForeignInTheWay,
        detail: "something is in the way".to_owned(),
    };
    let _agents =
        (server.play_agent("host1", Vec::new()).await, server.play_agent("host2", vec![broken]).await);
    server.done("/v1/vpns", r#"{"project": "blue", "network": "single"}"#).await;
    let moved = server.raw(Method::PUT, "/v1/networks/single/gateway", r#"{"host": "host2"}"#).await;
    assert!(moved.contains("host `host2` cannot route for network `single`"), "{moved}");
    let vpn = server.done_as(Method::GET, BLUE, "").await;
    assert_eq!(vpn["host"], "host1");
    let network = server.done_as(Method::GET, "/v1/networks/single", "").await;
    assert_eq!(network["gateway_host"], "host1");
}

#[tokio::test]
async fn a_vpn_stands_where_its_host_says_and_shows_who_is_connected() {
    let server = with_pool().await;
    server.report("host1", &[]).await;
    server.done("/v1/vpns", r#"{"project": "blue"}"#).await;
    server.done("/v1/vpns/blue/users", r#"{"name": "alice"}"#).await;
    let state = async || server.admin.vpn("blue").await.unwrap().state;
    assert_eq!(state().await, VpnState::Pending, "its host has said nothing of it");
    let agent = server.client(&server.agent_token("host1").await);
    let device = server.admin.instance("blue-vpn", None).await.unwrap().interfaces[0].device.clone();
    let credential = credential(&server).await;
    let connection = VpnConnection {
        remote: "198.51.100.7:40000".to_owned(),
        since: "2026-11-29T00:00:00Z".parse::<Timestamp>().unwrap(),
        received_bytes: 1000,
        sent_bytes: 2000,
    };
    let connected = [(credential.parse().unwrap(), connection)].into();
    let report = Report {
        generation: agent.spec("host1", &SpecQuery::default()).await.unwrap().unwrap().generation,
        vpn_connections: [("blue-vpn".parse().unwrap(), connected)].into(),
        ..Report::default()
    };
    agent.report("host1", &report).await.unwrap();
    assert_eq!(state().await, VpnState::Active);
    assert_snapshot!(server.raw(Method::GET, "/v1/vpns/blue/users", "").await, @r#"
    200 OK
    {
      "items": [
        {
          "address": "10.1.0.4",
          "connection": {
            "received_bytes": 1000,
            "remote": "198.51.100.7:40000",
            "sent_bytes": 2000,
            "since": "[time]"
          },
          "created_at": "[time]",
          "expired": false,
          "expires_at": "[time]",
          "name": "alice",
          "void": false
        }
      ]
    }
    "#);
    let metrics = reqwest_client().get(format!("{}/metrics", server.url)).bearer_auth(&server.admin_token);
    let metrics = metrics.send().await.unwrap().text().await.unwrap();
    let of_vpns: Vec<&str> = metrics.lines().filter(|line| line.starts_with("trestle_vpn")).collect();
    assert_snapshot!(of_vpns.join("\n"), @r#"
    trestle_vpn_users{project="blue"} 1
    trestle_vpn_users_connected{project="blue"} 1
    trestle_vpn_received_bytes{project="blue"} 1000
    trestle_vpn_sent_bytes{project="blue"} 2000
    "#);
    let problem = Problem {
        key: format!("link/{device}").parse().unwrap(),
        code: ProblemCode::ForeignInTheWay,
        detail: "there is no program `openvpn`".to_owned(),
    };
    let report = Report { problems: [problem].into(), vpn_connections: Default::default(), ..report };
    agent.report("host1", &report).await.unwrap();
    let vpn = server.admin.vpn("blue").await.unwrap();
    assert_eq!((vpn.state, vpn.connected), (VpnState::Failed, 0));
    assert_eq!(vpn.problem.as_deref(), Some("there is no program `openvpn`"));
}

/// The name that hosts know alice by, out of the certificate that she was given.
async fn credential(server: &TestServer) -> String {
    let made = server.done("/v1/vpns/blue/users/alice/renew", "{}").await;
    let config = made["config"].as_str().unwrap();
    let (_, certificate) = config.split_once("<cert>\n").unwrap();
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("alice.crt");
    std::fs::write(&path, certificate.split_once("</cert>").unwrap().0).unwrap();
    let openssl = std::process::Command::new("openssl")
        .args(["x509", "-noout", "-subject", "-nameopt", "multiline", "-in"])
        .arg(path)
        .output()
        .unwrap();
    let told = String::from_utf8(openssl.stdout).unwrap();
    told.rsplit_once("= ").unwrap().1.trim().to_owned()
}

#[tokio::test]
async fn a_vpn_comes_with_the_first_instance_where_it_is_to_and_its_failing_fails_nothing() {
    let server = furnished_with(None, true).await;
    let _agent = server.play_agent("host1", Vec::new()).await;
    let attach = "/v1/instances/web/attach?project=blue";
    server.done(attach, r#"{"host": "host1"}"#).await;
    assert!(server.raw(Method::GET, BLUE, "").await.starts_with("404"));
    assert_snapshot!(server.told("vpn").await, @"vpn.autostart_failed of blue: project `blue` got no VPN by itself: no pool has IPv4 addresses (name the address that clients send to with `ip`; an administrator makes a pool with `trestle pool create`, or sets the option vpn_ip)");
    server.done("/v1/pools", r#"{"name": "ext", "ranges": ["203.0.113.0/29"]}"#).await;
    server.create_instance("blue", "db").await;
    server.done("/v1/instances/db/attach?project=blue", r#"{"host": "host1"}"#).await;
    assert!(server.raw(Method::GET, BLUE, "").await.starts_with("404"), "that was not the first");
    for name in ["web", "db"] {
        server.done(&format!("/v1/instances/{name}/detach?project=blue"), "{}").await;
    }
    server.done(attach, r#"{"host": "host1"}"#).await;
    assert!(server.raw(Method::GET, BLUE, "").await.starts_with("200"));
    server.done("/v1/instances/web/attach?project=red", r#"{"host": "host1"}"#).await;
    assert!(server.raw(Method::GET, "/v1/vpns/red", "").await.starts_with("404"), "its network is shared");
}
