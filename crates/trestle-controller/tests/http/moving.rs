//! Moving an instance to another host.

use insta::assert_snapshot;
use reqwest::Method;
use serde_json::{Value, json};
use trestle_api::plan::{Problem, ProblemCode};

use crate::harness::{PlayedAgent, TestServer};

/// Instance `web` of project `red` on two networks, plugged in on host `a`; hosts `b` and `c`.
async fn plugged_in() -> TestServer {
    let server = TestServer::start().await;
    server.done("/v1/projects", r#"{"name": "red"}"#).await;
    for name in ["a", "b", "c"] {
        server.done("/v1/hosts", &format!(r#"{{"name": "{name}", "vlan_interface": "eth1"}}"#)).await;
    }
    for (name, range) in [("one", "10.0.0.0/24"), ("two", "10.1.0.0/24")] {
        let body = format!(r#"{{"name": "{name}", "cidr": "{range}", "project": "red"}}"#);
        server.done("/v1/networks", &body).await;
    }
    server.done("/v1/instances", r#"{"name": "web", "project": "red"}"#).await;
    for network in ["one", "two"] {
        let body = format!(r#"{{"host": "a", "network": "{network}"}}"#);
        server.done("/v1/instances/web/attach", &body).await;
    }
    server
}

/// Where each interface is, and where it is about to be.
fn places(instance: &Value) -> Value {
    let place = |interface: &Value| json!([interface["host"], interface["moving_to"]]);
    instance["interfaces"].as_array().unwrap().iter().map(place).collect()
}

async fn moved(server: &TestServer, body: &str) -> Value {
    places(&server.done("/v1/instances/web/move", body).await)
}

#[tokio::test]
async fn all_interfaces_move_together_in_two_phases_each_of_which_can_be_repeated() {
    let server = plugged_in().await;
    let _b = server.play_agent("b", Vec::new()).await;
    let before = server.admin.instance("web", None).await.unwrap();
    for _ in 0..2 {
        let prepared = moved(&server, r#"{"host": "b", "phase": "prepare"}"#).await;
        assert_eq!(prepared, json!([["a", "b"], ["a", "b"]]));
    }
    let attach = r#"{"host": "b", "network": "one"}"#;
    assert_snapshot!(server.refused("/v1/instances/web/attach", attach).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "attached_elsewhere",
        "hint": "it is prepared here: run `trestle instance move web --switch` when the guest runs",
        "message": "instance `web` is plugged in on network `one` on host `a`"
      }
    }
    "#);
    for host in ["", r#""host": "b", "#, ""] {
        let switched = moved(&server, &format!(r#"{{{host}"phase": "switch"}}"#)).await;
        assert_eq!(switched, json!([["b", null], ["b", null]]));
    }
    let after = server.admin.instance("web", None).await.unwrap();
    let kept = |instance: &trestle_api::Instance| {
        let interfaces = instance.interfaces.iter();
        interfaces.map(|one| (one.mac, one.addresses.clone(), one.device.clone())).collect::<Vec<_>>()
    };
    assert_eq!(kept(&before), kept(&after));
    assert_snapshot!(server.told("interface").await, @"
    interface.created of red: instance `web` got 10.0.0.3 on network `one`
    interface.created of red: instance `web` got 10.1.0.3 on network `two`
    interface.attached of red on a: instance `web` is plugged in on host `a`
    interface.attached of red on a: instance `web` is plugged in on host `a`
    interface.prepared of red on b: host `b` prepares for instance `web` on network `one`
    interface.prepared of red on b: host `b` prepares for instance `web` on network `two`
    interface.moved of red on b: instance `web` moved on network `one` from host `a` to host `b`
    interface.moved of red on b: instance `web` moved on network `two` from host `a` to host `b`
    ");
    server.stop().await;
}

#[tokio::test]
async fn a_move_in_one_call_is_both_phases() {
    let server = plugged_in().await;
    let _agents = [server.play_agent("a", Vec::new()).await, server.play_agent("b", Vec::new()).await];
    assert_eq!(moved(&server, r#"{"host": "b"}"#).await, json!([["b", null], ["b", null]]));
    assert_snapshot!(server.refused("/v1/instances/web/move", r#"{"host": "b"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "already_there",
        "message": "instance `web` is on host `b` already"
      }
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn what_was_prepared_can_be_taken_back() {
    let server = plugged_in().await;
    let _b = server.play_agent("b", Vec::new()).await;
    moved(&server, r#"{"host": "b", "phase": "prepare"}"#).await;
    for _ in 0..2 {
        assert_eq!(moved(&server, r#"{"phase": "cancel"}"#).await, json!([["a", null], ["a", null]]));
    }
    assert_snapshot!(server.refused("/v1/instances/web/move", r#"{"phase": "switch"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "not_prepared",
        "hint": "prepare it first: `trestle instance move web --to HOST --prepare`",
        "message": "instance `web` is not prepared on any host on network `one`"
      }
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn an_instance_in_a_namespace_leaves_before_it_comes() {
    let server = plugged_in().await;
    let _agents = [server.play_agent("a", Vec::new()).await, server.play_agent("b", Vec::new()).await];
    // Two interfaces cannot have one name in a namespace.
    let same = r#"{"host": "b", "plug": {"type": "veth", "netns": "/run/netns/web"}}"#;
    assert_snapshot!(server.refused("/v1/instances/web/move", same).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "plug.name: two interfaces of the instance would be called eth0 in /run/netns/web",
        "problems": [
          {
            "code": "name_taken",
            "field": "plug.name",
            "message": "two interfaces of the instance would be called eth0 in /run/netns/web"
          }
        ]
      }
    }
    "#);
    server.done("/v1/instances/web/detach?network=two", "").await;
    let gone = server.done("/v1/instances/web/move", same).await;
    assert_eq!(places(&gone), json!([["b", null], [null, null]]));
    assert_eq!(
        gone["interfaces"][0]["plug"],
        json!({"type": "veth", "netns": "/run/netns/web", "name": "eth0"})
    );
    server.stop().await;
}

/// `web` in a namespace of host `a`, on network `one` alone, with host `a` played.
async fn in_a_namespace() -> (TestServer, PlayedAgent) {
    let server = plugged_in().await;
    for network in ["one", "two"] {
        server.done(&format!("/v1/instances/web/detach?network={network}"), "").await;
    }
    let a = server.play_agent("a", Vec::new()).await;
    let veth = r#"{"host": "a", "network": "one", "plug": {"type": "veth", "netns": "/run/netns/web"}}"#;
    server.done("/v1/instances/web/attach", veth).await;
    (server, a)
}

#[tokio::test]
async fn an_instance_in_a_namespace_is_back_where_it_was_if_the_new_host_does_not_take_it() {
    let (server, _a) = in_a_namespace().await;
    let before = server.admin.instance("web", None).await.unwrap();
    // It was there a moment ago.
    server.report("b", &[]).await;
    assert_snapshot!(server.raw(Method::POST, "/v1/instances/web/move", r#"{"host": "b"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "host_away",
        "hint": "nothing was moved; see its agent with `trestle host show b`",
        "message": "host `b` did not take instance `web` within 10 s"
      }
    }
    "#);
    let after = server.admin.instance("web", None).await.unwrap();
    let kept = |instance: &trestle_api::Instance| {
        let one = &instance.interfaces[0];
        (one.host.clone(), one.plug.clone(), one.mac, one.addresses.clone())
    };
    assert_eq!(kept(&before), kept(&after));
    assert_snapshot!(server.told("interface").await, @"
    interface.created of red: instance `web` got 10.0.0.3 on network `one`
    interface.created of red: instance `web` got 10.1.0.3 on network `two`
    interface.attached of red on a: instance `web` is plugged in on host `a`
    interface.attached of red on a: instance `web` is plugged in on host `a`
    interface.detached of red on a: instance `web` is plugged in on host `a` no more
    interface.detached of red on a: instance `web` is plugged in on host `a` no more
    interface.attached of red on a: instance `web` is plugged in on host `a`
    interface.detached of red: instance `web` leaves network `one` to be moved
    interface.moved of red on b: instance `web` moved on network `one` to host `b`
    interface.attached of red on a: instance `web` is back on network `one` on host `a`: host `b` did not take it
    ");
    server.stop().await;
}

#[tokio::test]
async fn an_instance_in_a_namespace_is_not_taken_out_for_a_host_that_has_problems_with_its_network() {
    let (server, _a) = in_a_namespace().await;
    let problem = Problem {
        key: "link/br100".parse().unwrap(),
        code: ProblemCode::InterfaceMissing,
        detail: "br100 is somebody else's".to_owned(),
    };
    let _b = server.play_agent("b", vec![problem]).await;
    assert_snapshot!(server.refused("/v1/instances/web/move", r#"{"host": "b"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "host_problem",
        "hint": "nothing was moved; `trestle host show b` lists the host's problems",
        "message": "host `b` cannot take instance `web`: link/br100: br100 is somebody else's"
      }
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn a_host_that_has_a_problem_keeps_the_instance_where_it_is() {
    let server = plugged_in().await;
    let problem = Problem {
        key: "link/vlan100".parse().unwrap(),
        code: ProblemCode::InterfaceMissing,
        detail: "there is no device eth1".to_owned(),
    };
    let _b = server.play_agent("b", vec![problem]).await;
    let answer = server.raw(Method::POST, "/v1/instances/web/move", r#"{"host": "b"}"#).await;
    assert_snapshot!(answer, @r#"
    409 Conflict
    {
      "error": {
        "code": "host_problem",
        "hint": "nothing was moved; `trestle host show b` lists the host's problems",
        "message": "host `b` cannot take instance `web`: link/vlan100: there is no device eth1"
      }
    }
    "#);
    let web = serde_json::to_value(server.admin.instance("web", None).await.unwrap()).unwrap();
    assert_eq!(places(&web), json!([["a", null], ["a", null]]));
    server.stop().await;
}

#[tokio::test]
async fn a_move_that_cannot_be_is_refused_and_changes_nothing() {
    let server = plugged_in().await;
    server.done("/v1/instances", r#"{"name": "idle", "project": "red"}"#).await;
    let refused = async |instance: &str, body: &str| {
        server.refused(&format!("/v1/instances/{instance}/move"), body).await
    };
    assert_snapshot!(refused("idle", r#"{"host": "b"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "not_attached",
        "hint": "plug it in on the new host with `trestle attach`",
        "message": "instance `idle` is plugged in nowhere"
      }
    }
    "#);
    assert_snapshot!(refused("web", r#"{"host": "b"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "host_away",
        "hint": "start its agent first, or choose another host",
        "message": "host `b` is away: its agent does not answer"
      }
    }
    "#);
    assert_snapshot!(refused("web", r#"{"host": "nowhere"}"#).await, @r#"
    404 Not Found
    {
      "error": {
        "code": "not_found",
        "message": "no host `nowhere`"
      }
    }
    "#);
    assert_snapshot!(refused("web", r#"{"phase": "prepare"}"#).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "host: say to which host",
        "problems": [
          {
            "code": "required",
            "field": "host",
            "message": "say to which host"
          }
        ]
      }
    }
    "#);
    assert_snapshot!(refused("web", r#"{"phase": "switch", "plug": {"type": "tap"}}"#).await, @r#"
    400 Bad Request
    {
      "error": {
        "code": "invalid",
        "message": "plug: the guest's side is said when the move is prepared",
        "problems": [
          {
            "code": "not_possible",
            "field": "plug",
            "message": "the guest's side is said when the move is prepared"
          }
        ]
      }
    }
    "#);
    let _b = server.play_agent("b", Vec::new()).await;
    server.report("c", &[trestle_api::Feature::Vlan]).await;
    assert_snapshot!(refused("web", r#"{"host": "c"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "host_lacks_vlan",
        "hint": "load the module 8021q or boot a kernel with CONFIG_VLAN_8021Q, and start the agent anew",
        "message": "host `c` cannot have network `one`: its kernel has no 802.1Q"
      }
    }
    "#);
    moved(&server, r#"{"host": "b", "phase": "prepare"}"#).await;
    server.report("c", &[]).await;
    assert_snapshot!(refused("web", r#"{"host": "c"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "already_moving",
        "hint": "end that move first: `trestle instance move web` with `--switch` or `--cancel`",
        "message": "instance `web` is being moved to host `b` on network `one`"
      }
    }
    "#);
    assert_snapshot!(refused("web", r#"{"host": "c", "phase": "switch"}"#).await, @r#"
    409 Conflict
    {
      "error": {
        "code": "not_prepared",
        "hint": "prepare it first: `trestle instance move web --to HOST --prepare`",
        "message": "instance `web` is not prepared on that host on network `one`"
      }
    }
    "#);
    server.stop().await;
}
