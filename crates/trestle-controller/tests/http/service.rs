//! What needs no token.

use insta::assert_snapshot;
use reqwest::Method;

use crate::harness::{TestServer, reqwest_client, shown};

#[tokio::test]
async fn health_is_told_to_everybody() {
    let server = TestServer::start().await;
    assert_snapshot!(shown(reqwest_client().get(format!("{}/healthz", server.url))).await, @r#"
    200 OK
    {
      "status": "ok"
    }
    "#);
    server.app.close().await;
    let ill = shown(reqwest_client().get(format!("{}/healthz", server.url))).await;
    assert!(ill.starts_with("503 Service Unavailable"), "{ill}");
    server.stop().await;
}

#[tokio::test]
async fn the_document_served_is_that_of_the_routes() {
    let server = TestServer::start().await;
    let served: serde_json::Value = reqwest_client()
        .get(format!("{}/openapi.json", server.url))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(served, serde_json::to_value(trestle_controller::http::openapi()).unwrap());
    server.stop().await;
}

#[tokio::test]
async fn metrics_count_requests_by_route_and_things_by_kind() {
    let server = TestServer::start().await;
    server.furnish().await;
    server.raw(Method::GET, "/v1/projects/red", "").await;
    server.raw(Method::GET, "/v1/projects/green", "").await;
    server.raw(Method::GET, "/no/such/path", "").await;
    server.raw(Method::from_bytes(b"BREW").unwrap(), "/v1/projects", "").await;
    let response = reqwest_client().get(format!("{}/metrics", server.url)).send().await.unwrap();
    assert_eq!(
        response.headers()["content-type"],
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    let text = response.text().await.unwrap();
    let mut lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.contains("_duration_") && !line.contains("revision"))
        .collect();
    lines.sort_unstable();
    assert_snapshot!(lines.join("\n"), @r#"
    trestle_database_up 1
    trestle_fixed_ips{state="allocated"} 2
    trestle_fixed_ips{state="cooling"} 0
    trestle_floating_ips{state="associated"} 0
    trestle_floating_ips{state="reserved"} 0
    trestle_hosts 1
    trestle_hosts_connected 0
    trestle_http_requests_total{route="/v1/hosts",method="POST",status="201"} 1
    trestle_http_requests_total{route="/v1/instances",method="POST",status="201"} 2
    trestle_http_requests_total{route="/v1/networks",method="POST",status="201"} 2
    trestle_http_requests_total{route="/v1/projects",method="POST",status="201"} 2
    trestle_http_requests_total{route="/v1/projects",method="other",status="405"} 1
    trestle_http_requests_total{route="/v1/projects/{project}",method="GET",status="200"} 1
    trestle_http_requests_total{route="/v1/projects/{project}",method="GET",status="404"} 1
    trestle_http_requests_total{route="unknown",method="GET",status="404"} 1
    trestle_instances 2
    trestle_interfaces{state="detached"} 2
    trestle_interfaces{state="failed"} 0
    trestle_interfaces{state="pending"} 0
    trestle_interfaces{state="ready"} 0
    trestle_networks 2
    trestle_problems 0
    trestle_projects 2
    "#);
    let took = r#"trestle_http_request_duration_seconds_count{route="/v1/projects/{project}",method="GET",status="404"} 1"#;
    assert!(text.contains(took), "{text}");
    assert!(text.ends_with("# EOF\n"));
    server.stop().await;
}

#[tokio::test]
async fn metrics_are_told_without_the_database_too() {
    let server = TestServer::start().await;
    server.app.close().await;
    let response = reqwest_client().get(format!("{}/metrics", server.url)).send().await.unwrap();
    let text = response.text().await.unwrap();
    assert!(text.contains("trestle_database_up 0"), "{text}");
    assert!(!text.contains("trestle_instances"), "{text}");
    server.stop().await;
}
