//! What is taken of an agent's word.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use insta::assert_snapshot;
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use trestle_api::agent::{Drift, Report, SpecQuery};
use trestle_api::plan::{Problem, ProblemCode};
use trestle_api::{ApiError, EventFilter, NewHost, PageQuery};
use trestle_controller::app::{App, Caller, Clock};
use trestle_controller::config::ControllerConfig;

use crate::harness::{DEADLINE, TestServer, refused};

#[tokio::test]
async fn what_an_agent_says_is_made_harmless_and_it_claims_nothing_beyond_what_it_was_asked() {
    let server = TestServer::start().await;
    server.furnish().await;
    let agent = server.client(&server.agent_token("host1").await);
    let asked = agent.spec("host1", &SpecQuery::default()).await.unwrap().unwrap().generation;
    let problem = Problem {
        key: "sysctl/net.ipv4.\u{1b}[2J".parse().unwrap(),
        code: ProblemCode::ForeignInTheWay,
        detail: format!("a\u{7}b{}", "x".repeat(5000)),
    };
    let trouble = ApiError {
        code: "observe_failed".to_owned(),
        message: "no\u{9b}".to_owned(),
        hint: None,
        problems: Vec::new(),
    };
    let drift =
        Drift { repaired: vec!["link\r".to_owned()], culprit: Some("\u{202e}tfn".to_owned()), took_ms: 1 };
    let report = Report {
        generation: u64::MAX,
        problems: [problem].into(),
        agent_problems: vec![trouble],
        drift: vec![drift],
        agent_version: "0.1\n".to_owned(),
        kernel: "6".repeat(300),
        ..Report::default()
    };
    agent.report("host1", &report).await.unwrap();
    let status = server.admin.host("host1").await.unwrap().status;
    assert_eq!(status.generation_applied, asked);
    assert_eq!(status.kernel.unwrap().chars().count(), 257);
    assert_eq!(status.problems[0].detail.chars().count(), 4097);
    let told = server.told("host").await;
    let told: Vec<String> = told.lines().map(|line| line.chars().take(70).collect()).collect();
    assert_snapshot!(told.join("\n"), @"
    host.created on host1: host `host1` was made known
    host.drift on host1: �tfn changed the host; repaired in 1 ms: link�
    host.problem on host1: a�bxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
    host.problem on host1: no�
    ");
    let all = server.raw(Method::GET, "/v1/hosts/host1", "").await + &told.join("");
    assert!(!all.chars().any(|c| c.is_control() && c != '\n'), "{all}");
    server.stop().await;
}

#[tokio::test]
async fn an_agent_whose_token_is_revoked_is_told_no_more() {
    let server = TestServer::start().await;
    server.furnish().await;
    let agent = server.client(&server.agent_token("host1").await);
    let whole = agent.spec("host1", &SpecQuery::default()).await.unwrap().expect("everything");
    let waiting = SpecQuery { since: Some(whole.generation), wait: Some(20) };
    let poll = tokio::spawn(async move { agent.spec("host1", &waiting).await });
    let connected = async {
        while !server.admin.host("host1").await.unwrap().status.connected {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, connected).await.expect("the poll waits");
    let tokens = server.admin.list_tokens(&PageQuery::default()).await.unwrap();
    let token = tokens.items.iter().find(|token| token.host.is_some()).unwrap();
    server.admin.delete_token(token.id).await.unwrap();
    server.done("/v1/instances/web/attach?project=red", r#"{"host": "host1"}"#).await;
    assert!(refused(poll.await.unwrap()).starts_with("401"));
    server.stop().await;
}

#[tokio::test]
async fn the_last_events_are_given_without_reading_all() {
    let server = TestServer::start().await;
    server.furnish().await;
    let last = async |query: &str| {
        let page = server.done_as(Method::GET, &format!("/v1/events?{query}"), "").await;
        let kinds =
            page["items"].as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap().to_owned());
        kinds.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(last("last=3").await, "interface.created instance.created interface.created");
    assert_eq!(last("last=2&kind=network").await, "network.created network.created");
    assert_snapshot!(server.refused_as(Method::GET, "/v1/events?last=0", "").await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "last: the last 1 to 1000 events, not the last 0",
        "problems": [
          {
            "code": "bad_limit",
            "field": "last",
            "message": "the last 1 to 1000 events, not the last 0"
          }
        ]
      }
    }
    "#);
    let filter = trestle_api::EventFilter { last: Some(1), ..Default::default() };
    let mut stream = server.admin.events_stream(&filter, None).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap().kind, "interface.created");
    server.stop().await;
}

/// A clock that runs ahead as it is told.
struct Ahead(AtomicI64);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        Timestamp::now() + SignedDuration::from_secs(self.0.load(Ordering::SeqCst))
    }
}

#[tokio::test]
async fn that_an_agent_goes_away_and_comes_back_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(Ahead(AtomicI64::new(0)));
    let config = ControllerConfig::in_state_dir(folder.path());
    let app = App::open_with(&config, Arc::clone(&clock) as Arc<dyn Clock>).await.unwrap();
    let new = NewHost { name: "host1".to_owned(), ..NewHost::default() };
    let host = app.create_host(&Caller::Admin, new).await.unwrap();
    let agent = Caller::Agent(host.id);
    app.report(&agent, "host1", Report::default()).await.unwrap();
    clock.0.store(60, Ordering::SeqCst);
    let told = wait_for_event(&app, "host.away").await;
    assert!(
        told.starts_with("the agent of host `host1` is away: nothing was heard of it since 20"),
        "{told}"
    );
    app.report(&agent, "host1", Report::default()).await.unwrap();
    assert_eq!(wait_for_event(&app, "host.back").await, "the agent of host `host1` is back");
    app.close().await;
}

async fn wait_for_event(app: &App, kind: &str) -> String {
    let filter = EventFilter { kind: Some(kind.to_owned()), ..EventFilter::default() };
    let mut changed = app.subscribe();
    let told = async {
        loop {
            let page = app.list_events(&Caller::Admin, &filter, &PageQuery::default()).await.unwrap();
            if let [event] = page.items.as_slice() {
                return event.message.clone();
            }
            changed.changed().await.unwrap();
        }
    };
    tokio::time::timeout(DEADLINE, told).await.expect("it is told")
}
