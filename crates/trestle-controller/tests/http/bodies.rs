//! What each resource looks like.

use insta::assert_snapshot;
use reqwest::{Method, StatusCode};
use trestle_api::agent::{Report, SpecQuery};
use trestle_api::{AttachRequest, HostPatch, NewHost, NewProject, PlugRequest};

use crate::harness::{TestServer, flat_dhcp, reqwest_client, shown};

#[tokio::test]
async fn what_is_made_is_shown() {
    let server = TestServer::start().await;
    let post = async |path: &str, body: &str| server.raw(Method::POST, path, body).await;
    assert_snapshot!(post("/v1/projects", r#"{"name": "red"}"#).await, @r#"
    201 Created
    {
      "auto_assign": null,
      "created_at": "[time]",
      "id": "[id]",
      "name": "red",
      "quota": {
        "fixed_ips": null,
        "floating_ips": 10,
        "networks": null,
        "security_group_rules": 200,
        "security_groups": 100
      },
      "usage": {
        "fixed_ips": 0,
        "floating_ips": 0,
        "networks": 0,
        "security_group_rules": 2,
        "security_groups": 1
      }
    }
    "#);
    assert_snapshot!(post("/v1/hosts", r#"{"name": "host1", "public_interface": "eth0"}"#).await, @r#"
    201 Created
    {
      "created_at": "[time]",
      "flat_interface": null,
      "gateway": true,
      "id": "[id]",
      "name": "host1",
      "public_interface": "eth0",
      "routing_source_ip": "device",
      "status": {
        "agent_problems": [],
        "agent_version": null,
        "connected": false,
        "devices": [],
        "generation_applied": 0,
        "generation_wanted": 0,
        "kernel": null,
        "last_seen": null,
        "missing_features": [],
        "problems": []
      },
      "vlan_interface": null
    }
    "#);
    assert_snapshot!(post("/v1/networks", r#"{"name": "public", "type": "flat_dhcp", "cidr": "10.0.0.0/24"}"#).await, @r#"
    201 Created
    {
      "items": [
        {
          "auto_assign": null,
          "bridge": "br100",
          "bridge_interface": null,
          "created_at": "[time]",
          "dhcp_options": [],
          "dns": [],
          "domain": "trestle.internal",
          "ether_types": [],
          "gateway_host": null,
          "id": "[id]",
          "ipv4": {
            "cidr": "10.0.0.0/24",
            "dhcp_start": "10.0.0.2",
            "free": 253,
            "gateway": "10.0.0.1",
            "total": 253,
            "used": 0,
            "vpn": null
          },
          "ipv6": null,
          "ipv6_mode": null,
          "mtu": 1500,
          "multi_host": true,
          "name": "public",
          "project": null,
          "reserved": [],
          "share_address": true,
          "type": "flat_dhcp",
          "vlan": null
        }
      ]
    }
    "#);
    assert_snapshot!(post("/v1/instances", r#"{"name": "web", "project": "red"}"#).await, @r#"
    201 Created
    {
      "created_at": "[time]",
      "id": "[id]",
      "interfaces": [
        {
          "addresses": [
            "10.0.0.2"
          ],
          "allowed_address_pairs": [],
          "device": "[device]",
          "floating_ips": [],
          "host": null,
          "id": "[id]",
          "mac": "[mac]",
          "network": "public",
          "plug": null,
          "port_security": true,
          "security_groups": [
            "default"
          ],
          "state": "detached"
        }
      ],
      "name": "web",
      "project": "red"
    }
    "#);
    assert_snapshot!(post("/v1/tokens", r#"{"role": "agent", "host": "host1"}"#).await, @r#"
    201 Created
    {
      "created_at": "[time]",
      "description": "",
      "host": "host1",
      "id": "[id]",
      "project": null,
      "role": "agent",
      "secret": "[secret]"
    }
    "#);
    assert_snapshot!(post("/v1/instances/web/attach", r#"{"host": "host1", "plug": {"type": "tap", "owner": 1000}}"#).await, @r#"
    200 OK
    {
      "addresses": [
        "10.0.0.2/24"
      ],
      "bridge": "br100",
      "device": "[device]",
      "dns": [
        "10.0.0.1"
      ],
      "domain": "trestle.internal",
      "gateways": [
        "10.0.0.1"
      ],
      "generation": 8,
      "host": "host1",
      "instance": "web",
      "interface": "[id]",
      "mac": "[mac]",
      "mtu": 1500,
      "network": "public"
    }
    "#);
    assert_snapshot!(server.raw(Method::GET, "/v1/instances/web", "").await, @r#"
    200 OK
    {
      "created_at": "[time]",
      "id": "[id]",
      "interfaces": [
        {
          "addresses": [
            "10.0.0.2"
          ],
          "allowed_address_pairs": [],
          "device": "[device]",
          "floating_ips": [],
          "host": "host1",
          "id": "[id]",
          "mac": "[mac]",
          "network": "public",
          "plug": {
            "owner": 1000,
            "type": "tap"
          },
          "port_security": true,
          "security_groups": [
            "default"
          ],
          "state": "pending"
        }
      ],
      "name": "web",
      "project": "red"
    }
    "#);
    assert_snapshot!(server.raw(Method::GET, "/v1/fixed-ips", "").await, @r#"
    200 OK
    {
      "items": [
        {
          "address": "10.0.0.2",
          "instance": "web",
          "mac": "[mac]",
          "network": "public",
          "project": "red",
          "released_at": null,
          "state": "allocated"
        }
      ]
    }
    "#);
    assert_snapshot!(server.raw(Method::GET, "/v1/events?kind=interface", "").await, @r#"
    200 OK
    {
      "items": [
        {
          "at": "[time]",
          "id": 8,
          "kind": "interface.created",
          "message": "instance `web` got 10.0.0.2 on network `public`",
          "project": "red",
          "subject": "web"
        },
        {
          "at": "[time]",
          "host": "host1",
          "id": 10,
          "kind": "interface.attached",
          "message": "instance `web` is plugged in on host `host1`",
          "project": "red",
          "subject": "web"
        }
      ]
    }
    "#);
    assert_snapshot!(post("/v1/instances/web/detach", "").await, @r#"
    200 OK
    {
      "addresses": [
        "10.0.0.2/24"
      ],
      "bridge": "br100",
      "device": "[device]",
      "dns": [
        "10.0.0.1"
      ],
      "domain": "trestle.internal",
      "gateways": [
        "10.0.0.1"
      ],
      "generation": 9,
      "host": "host1",
      "instance": "web",
      "interface": "[id]",
      "mac": "[mac]",
      "mtu": 1500,
      "network": "public"
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn what_is_deleted_is_gone_without_a_body() {
    let server = TestServer::start().await;
    server.furnish().await;
    for path in [
        "/v1/instances/web?project=red",
        "/v1/instances/web?project=blue",
        "/v1/networks/public",
        "/v1/hosts/host1",
        "/v1/projects/red",
    ] {
        assert_eq!(server.raw(Method::DELETE, path, "").await, "204 No Content\n", "{path}");
        assert!(server.raw(Method::DELETE, path, "").await.starts_with("404 Not Found"), "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_typed_client_understands_every_answer() {
    let server = TestServer::start().await;
    let admin = &server.admin;
    server.furnish().await;
    let created = admin.create_networks(&flat_dhcp("private", "10.2.0.0/24", "br102")).await.unwrap();
    assert_eq!([admin.network("private").await.unwrap()], *created.items);

    let patch = HostPatch { public_interface: Some("eth0".to_owned()), ..HostPatch::default() };
    let host = admin.patch_host("host1", &patch).await.unwrap();
    let by_id = admin.host(&host.id.to_string()).await.unwrap();
    assert_eq!((by_id.name, by_id.public_interface), (host.name, host.public_interface));

    let new = trestle_api::NewInterface { network: "private".to_owned(), ..Default::default() };
    let instance = admin.add_interface("web", Some("red"), &new).await.unwrap();
    assert_eq!(admin.instance("web", Some("red")).await.unwrap(), instance);
    let added = instance.interfaces.last().unwrap();
    let without = admin.delete_interface("web", Some("red"), &added.id.to_string()).await.unwrap();
    assert_eq!(without.interfaces.len(), 1);

    let attach =
        AttachRequest { host: Some("host1".to_owned()), network: None, plug: PlugRequest::default() };
    let attached = admin.attach("web", Some("red"), &attach).await.unwrap();
    assert_eq!(admin.detach("web", Some("red"), None).await.unwrap().interface, attached.interface);

    admin.create_host(&NewHost { name: "host2".to_owned(), ..NewHost::default() }).await.unwrap();
    admin.delete_host("host2").await.unwrap();
    admin.delete_network("private").await.unwrap();
    admin.create_project(&NewProject { name: "green".to_owned() }).await.unwrap();
    admin.delete_project("green").await.unwrap();
    admin.health().await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn an_agent_is_told_what_its_host_must_have_and_waits_for_the_next_change() {
    let server = TestServer::start().await;
    server.furnish().await;
    let agent = server.client(&server.agent_token("host1").await);
    let whole = agent.spec("host1", &SpecQuery::default()).await.unwrap().expect("everything");
    assert_eq!(whole.base, None);

    let held = SpecQuery { since: Some(whole.generation), wait: Some(0) };
    assert_eq!(agent.spec("host1", &held).await.unwrap(), None);

    let waiting = SpecQuery { since: Some(whole.generation), wait: Some(20) };
    let attach =
        AttachRequest { host: Some("host1".to_owned()), network: None, plug: PlugRequest::default() };
    let (update, attached) =
        tokio::join!(agent.spec("host1", &waiting), server.admin.attach("web", Some("red"), &attach));
    let update = update.unwrap().expect("the change");
    assert_eq!((update.base, update.generation), (Some(whole.generation), attached.unwrap().generation));

    let report =
        Report { generation: update.generation, agent_version: "0.1.0".to_owned(), ..Report::default() };
    agent.report("host1", &report).await.unwrap();
    let status = server.admin.host("host1").await.unwrap().status;
    assert_eq!((status.generation_applied, status.connected), (update.generation, true));
    server.stop().await;
}

#[tokio::test]
async fn every_answer_names_its_request() {
    let server = TestServer::start().await;
    let response = reqwest_client().get(format!("{}/healthz", server.url)).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let id = response.headers()["x-request-id"].to_str().unwrap();
    assert!(id.parse::<uuid::Uuid>().is_ok(), "{id}");
    assert_eq!(shown(reqwest_client().head(format!("{}/healthz", server.url))).await, "200 OK\n");
    server.stop().await;
}
