//! A server in process, with a database of its own, and what tests need to look at its answers.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use trestle_api::agent::{Report, SpecQuery};
use trestle_api::plan::Problem;
use trestle_api::{
    Client, ClientConfig, ClientError, NewHost, NewInstance, NewNetwork, NewProject, NewToken, Role,
};
use trestle_controller::app::App;
use trestle_controller::config::ControllerConfig;
use trestle_controller::server::Server;

/// How long anything may take before a test gives up.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A running server.
pub(crate) struct TestServer {
    /// As the first admin.
    pub(crate) admin: Client,
    pub(crate) admin_token: String,
    pub(crate) url: String,
    pub(crate) app: App,
    pub(crate) state_dir: TempDir,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

impl TestServer {
    /// Listens on a free port of loopback.
    pub(crate) async fn start() -> Self {
        Self::start_with(|config| config.listen = Some(vec!["127.0.0.1:0".to_owned()])).await
    }

    /// The configuration is in the state folder's; `adjust` says where to listen.
    pub(crate) async fn start_with(adjust: impl FnOnce(&mut ControllerConfig)) -> Self {
        let state_dir = tempfile::tempdir().unwrap();
        let mut config = ControllerConfig::in_state_dir(state_dir.path());
        config.flat_network_bridge = Some("br100".parse().unwrap());
        adjust(&mut config);
        let app = App::open(&config).await.unwrap();
        let server = Server::bind(&config).await.unwrap();
        let url = server.urls().remove(0);
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(server.run(app.clone(), async {
            let _ = stopped.await;
        }));
        let admin_token = std::fs::read_to_string(config.admin_token_path()).unwrap().trim().to_owned();
        let admin = client(&url, Some(&admin_token));
        Self { admin, admin_token, url, app, state_dir, stop, running }
    }

    /// Ends it and waits until it has.
    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        tokio::time::timeout(DEADLINE, self.running).await.expect("the server ends in time").unwrap();
        self.app.close().await;
    }

    /// A client with this token.
    pub(crate) fn client(&self, token: &str) -> Client {
        client(&self.url, Some(token))
    }

    /// The secret of a new token for a member of the project.
    pub(crate) async fn member_token(&self, project: &str) -> String {
        let token = NewToken {
            role: Role::Member,
            project: Some(project.to_owned()),
            host: None,
            description: "a member's".to_owned(),
        };
        self.admin.create_token(&token).await.unwrap().secret
    }

    /// The secret of a new token for the host's agent.
    pub(crate) async fn agent_token(&self, host: &str) -> String {
        let token = NewToken {
            role: Role::Agent,
            project: None,
            host: Some(host.to_owned()),
            description: "an agent's".to_owned(),
        };
        self.admin.create_token(&token).await.unwrap().secret
    }

    /// Projects `red` and `blue`, host `host1`, the shared network `public`, the network `cellar`
    /// of `blue`, and an instance `web` in each project: red's on `public`, blue's on `cellar`.
    pub(crate) async fn furnish(&self) {
        for name in ["red", "blue"] {
            self.admin.create_project(&NewProject { name: name.to_owned() }).await.unwrap();
        }
        let host = NewHost { name: "host1".to_owned(), ..NewHost::default() };
        self.admin.create_host(&host).await.unwrap();
        let mut cellar = flat_dhcp("cellar", "10.1.0.0/24", "br101");
        cellar.project = Some("blue".to_owned());
        for network in [flat_dhcp("public", "10.0.0.0/24", "br100"), cellar] {
            self.admin.create_networks(&network).await.unwrap();
        }
        for project in ["red", "blue"] {
            self.create_instance(project, "web").await;
        }
    }

    /// An instance on every network that its project uses by default.
    pub(crate) async fn create_instance(&self, project: &str, name: &str) {
        let instance = NewInstance {
            name: name.to_owned(),
            project: Some(project.to_owned()),
            interfaces: None,
            ..Default::default()
        };
        self.admin.create_instance(&instance).await.unwrap();
    }

    /// Sends text as it is, as the admin, and gives the answer as [`Answer`] shows it.
    pub(crate) async fn raw(&self, method: Method, path: &str, body: &str) -> String {
        self.raw_as(&self.admin_token, method, path, body).await
    }

    /// As [`TestServer::raw`], as the holder of this token.
    pub(crate) async fn raw_as(&self, token: &str, method: Method, path: &str, body: &str) -> String {
        let request = reqwest_client().request(method, format!("{}{path}", self.url));
        shown(request.bearer_auth(token).body(body.to_owned())).await
    }
}

/// A shared Flat DHCP network, all else by default.
pub(crate) fn flat_dhcp(name: &str, cidr: &str, bridge: &str) -> NewNetwork {
    NewNetwork {
        name: name.to_owned(),
        network_type: Some("flat_dhcp".to_owned()),
        cidr: Some(cidr.to_owned()),
        bridge: Some(bridge.to_owned()),
        ..NewNetwork::default()
    }
}

impl TestServer {
    /// Posts what must be refused; gives the answer, and fails if anything was changed by it.
    pub(crate) async fn refused(&self, path: &str, body: &str) -> String {
        self.refused_as(Method::POST, path, body).await
    }

    /// As [`TestServer::refused`], with another method.
    pub(crate) async fn refused_as(&self, method: Method, path: &str, body: &str) -> String {
        let before = self.everything().await;
        let answer = self.raw(method, path, body).await;
        assert!(answer.starts_with('4'), "not a refusal: {answer}");
        assert_eq!(self.everything().await, before, "something was changed");
        answer
    }

    /// Posts what must be done, and gives the answer's body.
    pub(crate) async fn done(&self, path: &str, body: &str) -> Value {
        self.done_as(Method::POST, path, body).await
    }

    /// As [`TestServer::done`], with another method.
    pub(crate) async fn done_as(&self, method: Method, path: &str, body: &str) -> Value {
        let request = reqwest_client().request(method, format!("{}{path}", self.url));
        let response = request.bearer_auth(&self.admin_token).body(body.to_owned()).send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// Everything that is kept and can be listed, but for what agents said: they speak at any time.
    async fn everything(&self) -> Vec<Value> {
        let mut lists = Vec::new();
        for list in [
            "projects",
            "networks",
            "instances",
            "fixed-ips",
            "pools",
            "floating-ips",
            "vpns",
            "dns/domains",
            "security-groups",
            "address-groups",
            "hosts",
            "events",
        ] {
            let mut all = self.done_as(Method::GET, &format!("/v1/{list}?limit=1000"), "").await;
            forget_observed(&mut all);
            lists.push(all);
        }
        lists
    }

    /// What happened to things of this kind, one sentence each.
    pub(crate) async fn told(&self, kind: &str) -> String {
        let filter = trestle_api::EventFilter { kind: Some(kind.to_owned()), ..Default::default() };
        let events = self.admin.list_events(&filter, &Default::default()).await.unwrap();
        let line = |event: trestle_api::Event| {
            let host = event.host.map_or(String::new(), |host| format!(" on {host}"));
            let project = event.project.map_or(String::new(), |project| format!(" of {project}"));
            format!("{}{project}{host}: {}", event.kind, event.message)
        };
        events.items.into_iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// Reports as the host's agent does: nothing is wrong, but its kernel lacks these.
    pub(crate) async fn report(&self, host: &str, missing: &[trestle_api::Feature]) {
        let missing_features = missing.iter().copied().collect();
        self.report_as(host, Report { missing_features, ..Report::default() }).await;
    }

    /// The same: nothing is wrong, and it has these addresses for itself.
    pub(crate) async fn report_addresses(&self, host: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.report_as(host, Report { addresses, ..Report::default() }).await;
    }

    async fn report_as(&self, host: &str, report: Report) {
        let agent = self.client(&self.agent_token(host).await);
        let whole = agent.spec(host, &Default::default()).await.unwrap().expect("everything");
        let report = Report {
            generation: whole.generation,
            agent_version: "0.1.0".to_owned(),
            kernel: "6.12".to_owned(),
            ..report
        };
        agent.report(host, &report).await.unwrap();
    }

    /// Plays the host's agent until it is dropped: whatever it is asked for stands at once, but for
    /// these problems.
    pub(crate) async fn play_agent(&self, host: &str, problems: Vec<Problem>) -> PlayedAgent {
        self.play_agent_with(host, Report { problems: problems.into_iter().collect(), ..Report::default() })
            .await
    }

    /// The same of a host that says this besides.
    pub(crate) async fn play_agent_with(&self, host: &str, said: Report) -> PlayedAgent {
        let agent = self.client(&self.agent_token(host).await);
        let name = host.to_owned();
        let whole = agent.spec(&name, &SpecQuery::default()).await.unwrap().expect("everything");
        let mut report = Report {
            generation: whole.generation,
            agent_version: "0.1.0".to_owned(),
            kernel: "6.12".to_owned(),
            ..said
        };
        agent.report(&name, &report).await.unwrap();
        PlayedAgent(tokio::spawn(async move {
            loop {
                let held = SpecQuery { since: Some(report.generation), wait: Some(20) };
                let Ok(update) = agent.spec(&name, &held).await else { return };
                let Some(update) = update else { continue };
                report.generation = update.generation;
                if agent.report(&name, &report).await.is_err() {
                    return;
                }
            }
        }))
    }
}

/// An agent that is played.
pub(crate) struct PlayedAgent(JoinHandle<()>);

impl Drop for PlayedAgent {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A client of that URL.
pub(crate) fn client(url: &str, token: Option<&str>) -> Client {
    let config = ClientConfig { url: url.to_owned(), token: token.map(str::to_owned), ca_cert: None };
    Client::new(config).unwrap()
}

/// A client that knows nothing of Trestle.
pub(crate) fn reqwest_client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().tls_certs_only([]).timeout(DEADLINE).build().unwrap()
}

/// The status, the headers that the API promises, and the body.
pub(crate) async fn shown(request: reqwest::RequestBuilder) -> String {
    let response = request.send().await.unwrap();
    let mut text = response.status().to_string();
    for name in ["www-authenticate", "allow"] {
        if let Some(value) = response.headers().get(name) {
            text += &format!("\n{name}: {}", value.to_str().unwrap());
        }
    }
    let body = response.text().await.unwrap();
    match serde_json::from_str(&body) {
        Ok(json) => text + "\n" + &steady(json),
        Err(_) => text + "\n" + &body,
    }
}

/// What the controller refused, with its status.
pub(crate) fn refused<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> String {
    match answer {
        Err(ClientError::Api { status, error }) => {
            format!("{status} {}", steady(serde_json::to_value(error).unwrap()))
        }
        other => panic!("not a refusal: {other:?}"),
    }
}

/// JSON without what differs from run to run: ids, times, secrets, MACs and devices.
pub(crate) fn steady(mut json: Value) -> String {
    steady_value(&mut json);
    serde_json::to_string_pretty(&json).unwrap()
}

/// Takes out what agents said of hosts, interfaces and leases.
fn forget_observed(json: &mut Value) {
    match json {
        Value::Array(items) => items.iter_mut().for_each(forget_observed),
        Value::Object(fields) => {
            fields.retain(|name, _| name != "status" && name != "state");
            fields.values_mut().for_each(forget_observed);
        }
        _ => {}
    }
}

fn steady_value(json: &mut Value) {
    match json {
        Value::Array(items) => items.iter_mut().for_each(steady_value),
        Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), &value) {
                    ("secret" | "mac" | "device" | "next", Value::String(_)) => {
                        *value = format!("[{name}]").into()
                    }
                    _ => steady_value(value),
                }
            }
        }
        Value::String(text) if text.parse::<uuid::Uuid>().is_ok() => *text = "[id]".to_owned(),
        Value::String(text) if text.parse::<jiff::Timestamp>().is_ok() => *text = "[time]".to_owned(),
        _ => {}
    }
}
