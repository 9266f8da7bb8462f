//! What hosts have not done is said beside the answer.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{TestServer, reqwest_client};

const CELLAR: &str = "/v1/instances/web/interfaces/cellar?project=blue";
const RULES: &str = "/v1/security-groups/default/rules?project=blue";
const ALICE: &str = "/v1/vpns/blue/users/alice";
const FLOATING: &str = "/v1/floating-ips/203.0.113.2";

/// Blue's `web` is plugged in on host1, where blue's VPN runs, too. Nobody has heard of its agent.
async fn server() -> TestServer {
    let server = TestServer::start().await;
    server.furnish().await;
    server.done_as(Method::PATCH, "/v1/hosts/host1", r#"{"public_interface": "eth0"}"#).await;
    server.done("/v1/pools", r#"{"name": "ext", "ranges": ["203.0.113.0/29"]}"#).await;
    server.done("/v1/vpns", r#"{"project": "blue", "host": "host1"}"#).await;
    server.done("/v1/instances/web/attach?project=blue", r#"{"host": "host1"}"#).await;
    server.done("/v1/floating-ips", r#"{"project": "blue", "address": "203.0.113.2"}"#).await;
    server
}

impl TestServer {
    /// Does this, and gives the hosts that the answer names.
    async fn unconfirmed(&self, method: Method, path: &str, body: &str) -> String {
        let request = reqwest_client().request(method, format!("{}{path}", self.url));
        let response = request.bearer_auth(&self.admin_token).body(body.to_owned()).send().await.unwrap();
        let named = response.headers().get("trestle-unconfirmed").cloned();
        let status = response.status();
        assert!(status.is_success(), "{path}: {status} {}", response.text().await.unwrap());
        named.map_or_else(String::new, |named| named.to_str().unwrap().to_owned())
    }

    async fn rule_ids(&self) -> Vec<String> {
        let rules = self.done_as(Method::GET, RULES, "").await;
        let id = |rule: &Value| rule["id"].as_str().unwrap().to_owned();
        rules["items"].as_array().unwrap().iter().map(id).collect()
    }

    /// Opens doors and closes them; gives who is named each time.
    async fn doors(&self) -> Vec<(&'static str, String)> {
        let associate = json!({"instance": "web", "move": true}).to_string();
        let mut named = Vec::new();
        let mut done = async |what, method, path: &str, body: &str| {
            named.push((what, self.unconfirmed(method, path, body).await));
        };
        done("rule", Method::POST, RULES, r#"{"direction": "ingress", "protocol": "sctp"}"#).await;
        let rule = self.rule_ids().await.pop().unwrap();
        let rule = RULES.replace('?', &format!("/{rule}?"));
        done("no rule", Method::DELETE, &rule, "").await;
        done("no group", Method::PATCH, CELLAR, r#"{"security_groups": []}"#).await;
        done("group", Method::PATCH, CELLAR, r#"{"security_groups": ["default"]}"#).await;
        done("address", Method::POST, &format!("{FLOATING}/associate"), &associate).await;
        done("again", Method::POST, &format!("{FLOATING}/associate"), &associate).await;
        done("no address", Method::POST, &format!("{FLOATING}/disassociate"), "").await;
        done("user", Method::POST, "/v1/vpns/blue/users", r#"{"name": "alice"}"#).await;
        done("other file", Method::POST, &format!("{ALICE}/renew"), "{}").await;
        done("no user", Method::DELETE, ALICE, "").await;
        named
    }
}

#[tokio::test]
async fn a_host_that_is_away_is_named_whatever_was_changed() {
    let server = server().await;
    for (what, named) in server.doors().await {
        assert_eq!(named, "host1", "{what}");
    }
    let client = server.client(&server.admin_token);
    client.delete_vpn("blue").await.unwrap();
    assert_eq!(client.take_unconfirmed().into_iter().collect::<Vec<_>>(), ["host1"]);
    assert!(client.take_unconfirmed().is_empty());
    server.stop().await;
}

#[tokio::test]
async fn slow_hosts_are_waited_for_together() {
    let server = server().await;
    let mut agents = vec![server.play_agent("host1", Vec::new()).await];
    for number in 2..=4 {
        let (host, name) = (format!("host{number}"), format!("web{number}"));
        server.done("/v1/hosts", &json!({"name": host}).to_string()).await;
        agents.push(server.play_agent(&host, Vec::new()).await);
        server.create_instance("blue", &name).await;
        server.done(&format!("/v1/instances/{name}/attach"), &json!({"host": host}).to_string()).await;
    }
    agents.clear();
    let began = Instant::now();
    let rule = r#"{"direction": "ingress", "protocol": "sctp"}"#;
    assert_eq!(server.unconfirmed(Method::POST, RULES, rule).await, "host1, host2, host3, host4");
    // One after the other they would take eight seconds.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    server.stop().await;
}

#[tokio::test]
async fn a_host_that_follows_is_not_named_nor_is_one_that_is_asked_for_nothing() {
    let server = server().await;
    let created =
        server.unconfirmed(Method::POST, "/v1/security-groups", r#"{"name": "www", "project": "blue"}"#);
    assert_eq!(created.await, "");
    let nobodys = "/v1/security-groups/www/rules?project=blue";
    assert_eq!(server.unconfirmed(Method::POST, nobodys, r#"{"direction": "ingress"}"#).await, "");
    let agent = server.play_agent("host1", Vec::new()).await;
    for (what, named) in server.doors().await {
        assert_eq!(named, "", "{what}");
    }
    // What was there is taken for slow, until it has been silent for long.
    drop(agent);
    assert_eq!(server.unconfirmed(Method::PATCH, CELLAR, r#"{"security_groups": []}"#).await, "host1");
    server.stop().await;
}
