//! Pages and filters.

use insta::assert_snapshot;
use trestle_api::{
    EventFilter, FixedIpFilter, HostFilter, InstanceFilter, NetworkFilter, NewProject, PageQuery,
};

use crate::harness::{TestServer, refused};

#[tokio::test]
async fn pages_join_up_to_the_whole_list() {
    let server = TestServer::start().await;
    for number in 1..=5 {
        server.admin.create_project(&NewProject { name: format!("project-{number}") }).await.unwrap();
    }
    let mut page = PageQuery { limit: Some(2), after: None };
    let mut pages = Vec::new();
    loop {
        let answer = server.admin.list_projects(&page).await.unwrap();
        pages.push(answer.items.iter().map(|project| project.name.to_string()).collect::<Vec<_>>().join(" "));
        let Some(next) = answer.next else { break };
        page.after = Some(next);
    }
    assert_eq!(pages, ["project-1 project-2", "project-3 project-4", "project-5"]);
    server.stop().await;
}

#[tokio::test]
async fn a_page_that_cannot_be_is_refused() {
    let server = TestServer::start().await;
    let page = |limit, after: Option<&str>| PageQuery { limit, after: after.map(str::to_owned) };
    assert_snapshot!(refused(server.admin.list_projects(&page(Some(0), None)).await), @r#"
    400 {
      "code": "invalid",
      "message": "limit: a page has 1 to 1000 things, not 0",
      "problems": [
        {
          "code": "bad_limit",
          "field": "limit",
          "message": "a page has 1 to 1000 things, not 0"
        }
      ]
    }
    "#);
    assert_snapshot!(refused(server.admin.list_projects(&page(Some(1001), None)).await), @r#"
    400 {
      "code": "invalid",
      "message": "limit: a page has 1 to 1000 things, not 1001",
      "problems": [
        {
          "code": "bad_limit",
          "field": "limit",
          "message": "a page has 1 to 1000 things, not 1001"
        }
      ]
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn filters_reach_every_list() {
    let server = TestServer::start().await;
    server.furnish().await;
    let page = PageQuery::default();
    let name = |name: &str| Some(name.to_owned());

    let instances = InstanceFilter { project: name("blue"), ..InstanceFilter::default() };
    let instances = server.admin.list_instances(&instances, &page).await.unwrap();
    assert_eq!(instances.items.len(), 1);
    assert_eq!(instances.items[0].project.as_str(), "blue");

    let fixed_ips = FixedIpFilter { address: name("10.0.0.2"), ..FixedIpFilter::default() };
    let fixed_ips = server.admin.list_fixed_ips(&fixed_ips, &page).await.unwrap();
    assert_eq!(fixed_ips.items.len(), 1);
    assert_eq!(fixed_ips.items[0].address.to_string(), "10.0.0.2");

    let networks = NetworkFilter { name: name("private"), ..NetworkFilter::default() };
    assert!(server.admin.list_networks(&networks, &page).await.unwrap().items.is_empty());

    let hosts = HostFilter { name: name("host1") };
    assert_eq!(server.admin.list_hosts(&hosts, &page).await.unwrap().items.len(), 1);

    let events = EventFilter { kind: name("instance"), ..EventFilter::default() };
    let events = server.admin.list_events(&events, &page).await.unwrap();
    assert!(events.items.iter().all(|event| event.kind.starts_with("instance.")));
    assert_eq!(events.items.len(), 2);
    server.stop().await;
}
