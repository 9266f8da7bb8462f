//! The event stream.

use insta::assert_snapshot;
use reqwest::Method;
use trestle_api::{Event, EventFilter, EventStream, NewProject, PageQuery};

use crate::harness::{DEADLINE, TestServer, refused, reqwest_client, steady};

async fn next(stream: &mut EventStream) -> Event {
    let event = tokio::time::timeout(DEADLINE, stream.next()).await.expect("an event in time");
    event.expect("the stream goes on").unwrap()
}

async fn create_project(server: &TestServer, name: &str) {
    server.admin.create_project(&NewProject { name: name.to_owned() }).await.unwrap();
}

#[tokio::test]
async fn events_arrive_as_they_happen_and_a_broken_stream_goes_on_where_it_was() {
    let server = TestServer::start().await;
    create_project(&server, "one").await;
    let projects = EventFilter { kind: Some("project".to_owned()), ..EventFilter::default() };
    let mut stream = server.admin.events_stream(&projects, None).await.unwrap();
    let first = next(&mut stream).await;
    assert_eq!((first.kind.as_str(), first.subject.as_str()), ("project.created", "one"));
    create_project(&server, "two").await;
    assert_eq!(next(&mut stream).await.subject, "two");
    drop(stream);
    create_project(&server, "three").await;
    let mut stream = server.admin.events_stream(&projects, Some(first.id)).await.unwrap();
    assert_eq!(next(&mut stream).await.subject, "two");
    assert_eq!(next(&mut stream).await.subject, "three");
    server.stop().await;
}

#[tokio::test]
async fn a_browser_resumes_with_the_last_event_id() {
    let server = TestServer::start().await;
    create_project(&server, "one").await;
    create_project(&server, "two").await;
    let listed = server.admin.list_events(&EventFilter::default(), &PageQuery::default()).await.unwrap();
    // Each project comes with its security group.
    let [.., one, two, _] = &listed.items[..] else { panic!("the events of two projects") };
    let response = reqwest_client()
        .get(format!("{}/v1/events/stream?after=0", server.url))
        .bearer_auth(&server.admin_token)
        .header("last-event-id", one.id.to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut response = response;
    let mut text = String::new();
    while !text.contains("\n\n") {
        let chunk =
            tokio::time::timeout(DEADLINE, response.chunk()).await.expect("an event in time").unwrap();
        text += std::str::from_utf8(&chunk.expect("the stream goes on")).unwrap();
    }
    let data = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    assert_eq!(text, format!("id: {}\nevent: project.created\ndata: {data}\n\n", two.id));
    assert_eq!(serde_json::from_str::<Event>(data).unwrap(), *two);
    assert_snapshot!(steady(serde_json::from_str(data).unwrap()), @r#"
    {
      "at": "[time]",
      "id": 5,
      "kind": "project.created",
      "message": "project `two` was made",
      "project": "two",
      "subject": "two"
    }
    "#);
    drop(response);
    server.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_stream_is_said_with_a_status() {
    let server = TestServer::start().await;
    assert_snapshot!(server.raw(Method::GET, "/v1/events/stream?after=first", "").await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "malformed",
        "message": "the query cannot be read: after: invalid digit found in string"
      }
    }
    "#);
    let stranger = server.client("made-up");
    assert!(refused(stranger.events_stream(&EventFilter::default(), None).await).starts_with("401"));
    server.stop().await;
}

#[tokio::test]
async fn a_member_is_not_told_of_other_projects() {
    let server = TestServer::start().await;
    server.furnish().await;
    let red = server.client(&server.member_token("red").await);
    let instances = EventFilter { kind: Some("instance".to_owned()), ..EventFilter::default() };
    let mut stream = red.events_stream(&instances, None).await.unwrap();
    server.create_instance("blue", "db").await;
    server.create_instance("red", "db").await;
    for subject in ["web", "db"] {
        let event = next(&mut stream).await;
        assert_eq!((event.subject.as_str(), event.project.unwrap().as_str()), (subject, "red"));
    }
    server.stop().await;
}

#[tokio::test]
async fn a_revoked_token_ends_its_stream() {
    let server = TestServer::start().await;
    server.furnish().await;
    let red = server.client(&server.member_token("red").await);
    let nothing = EventFilter { kind: Some("nothing".to_owned()), ..EventFilter::default() };
    let mut stream = red.events_stream(&nothing, None).await.unwrap();
    let tokens = server.admin.list_tokens(&PageQuery::default()).await.unwrap();
    let token = tokens.items.iter().find(|token| token.project.is_some()).unwrap();
    server.admin.delete_token(token.id).await.unwrap();
    let ended = tokio::time::timeout(DEADLINE, stream.next()).await.expect("the stream ends in time");
    assert!(ended.is_none());
    server.stop().await;
}
