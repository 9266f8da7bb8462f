//! What programs on the host are answered.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;
use trestle_agent::host::ApplyError;
use trestle_api::local::{AgentStatus, LocalReply, LocalRequest, call};
use trestle_core::plan::{Step, plan};
use trestle_core::spec::{Key, Link, LinkKind, Object};

use crate::cloud;
use crate::fake::{Agent, DEADLINE, FakeController, Machine, until};

struct Setup {
    dir: TempDir,
    controller: FakeController,
    machine: Machine,
    agent: Agent,
}

async fn setup() -> Setup {
    let dir = tempfile::tempdir().unwrap();
    let controller = FakeController::new(cloud::world(&[(1, 1)]));
    let machine = Machine::with(&controller.spec());
    let agent = Agent::start(dir.path(), &machine, &controller);
    controller.content().await;
    Setup { dir, controller, machine, agent }
}

impl Setup {
    async fn ask(&self, request: LocalRequest) -> LocalReply {
        call(&self.dir.path().join("agent.sock"), &request).await.unwrap()
    }

    async fn attach(&self, instance: &str) -> LocalReply {
        let (instance, network) = (instance.to_owned(), Some("net1".to_owned()));
        self.ask(LocalRequest::Attach { instance, project: None, network, plug: Default::default() }).await
    }

    async fn detach(&self, instance: &str) -> LocalReply {
        let (instance, network) = (instance.to_owned(), Some("net1".to_owned()));
        self.ask(LocalRequest::Detach { instance, project: None, network }).await
    }

    fn has_device(&self, i: u8) -> bool {
        self.machine.host.state().objects.contains_key(&Key::Link(cloud::interface(1, i).device))
    }
}

fn error(reply: LocalReply) -> String {
    match reply {
        LocalReply::Error(error) => format!("{}: {error}", error.code),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn attach_answers_when_the_device_is_there_and_detach_when_it_is_gone() {
    let setup = setup().await;
    for i in 2..20 {
        let reply = setup.attach(&format!("vm{i}")).await;
        let LocalReply::Attached(attached) = reply else { panic!("{reply:?}") };
        assert_eq!(attached.device, cloud::interface(1, i).device);
        assert!(setup.has_device(i));
        assert!(plan(&setup.controller.spec(), &setup.machine.host.state()).is_empty());
    }
    for i in 2..20 {
        let reply = setup.detach(&format!("vm{i}")).await;
        assert!(matches!(reply, LocalReply::Detached(_)), "{reply:?}");
        assert!(!setup.has_device(i));
    }
    setup.agent.stop().await;
}

#[tokio::test]
async fn attach_waits_for_a_host_that_is_slow() {
    let setup = setup().await;
    setup.machine.stop_after(0);
    let socket = setup.dir.path().join("agent.sock");
    let (instance, network) = ("vm2".to_owned(), Some("net1".to_owned()));
    let request = LocalRequest::Attach { instance, project: None, network, plug: Default::default() };
    let asked = tokio::spawn(async move { call(&socket, &request).await.unwrap() });
    until("the controller was asked", || setup.controller.spec().generation == 2).await;
    assert!(!asked.is_finished());
    // An agent that is killed meanwhile does not answer; the next one does what was asked.
    setup.agent.kill().await;
    assert!(asked.await.is_err());
    setup.machine.stop_after(usize::MAX);
    let agent = Agent::start(setup.dir.path(), &setup.machine, &setup.controller);
    setup.controller.content().await;
    assert!(setup.machine.host.state().objects.contains_key(&Key::Link(cloud::interface(1, 2).device)));
    agent.stop().await;
}

#[tokio::test]
async fn a_device_that_cannot_be_made_is_said_to_who_asked_for_it_alone() {
    let setup = setup().await;
    let device = cloud::interface(1, 2).device;
    let port = Link {
        kind: LinkKind::Tap { owner: None },
        mac: None,
        mtu: 1500,
        master: Some(cloud::link_name("br101")),
        uplink: None,
        up: true,
        index: None,
    };
    let full = || ApplyError::BridgeFull { bridge: cloud::link_name("br101") };
    setup.machine.host.fail_step(Step::CreatePort { link: device, port }, Some(full));
    insta::assert_snapshot!(error(setup.attach("vm2").await), @"host_problem: link/tr-000000001002: bridge br101 is full: the kernel gives a bridge 1,023 ports");
    let reply = setup.attach("vm3").await;
    assert!(matches!(reply, LocalReply::Attached(_)), "{reply:?}");
    let reply = setup.detach("vm2").await;
    assert!(matches!(reply, LocalReply::Detached(_)), "{reply:?}");
    setup.agent.stop().await;
}

#[tokio::test]
async fn what_the_controller_refuses_or_does_not_hear_is_said_and_nothing_is_done() {
    let setup = setup().await;
    insta::assert_snapshot!(error(setup.attach("nobody").await), @"not_found: no instance `nobody`");
    setup.controller.set_away(true);
    insta::assert_snapshot!(error(setup.attach("vm2").await), @"controller_unreachable: connection refused");
    insta::assert_snapshot!(error(setup.detach("vm1").await), @"controller_unreachable: connection refused");
    assert!(setup.has_device(1) && !setup.has_device(2));
    setup.controller.set_away(false);
    assert!(matches!(setup.attach("vm2").await, LocalReply::Attached(_)));
    setup.agent.stop().await;
}

#[tokio::test]
async fn a_plan_shows_what_is_left_to_do_and_does_nothing() {
    let setup = setup().await;
    let (link, address) = (cloud::link_name("br101"), "10.0.1.1/24".parse().unwrap());
    let missing = || ApplyError::LinkMissing { link: cloud::link_name("br101") };
    setup.machine.host.fail_step(Step::AddAddress { link: link.clone(), address }, Some(missing));
    setup.machine.host.disturb("ip (pid 7)", "address 10.0.1.1/24 went", |state| {
        state.objects.remove(&Key::Address(link, address)).unwrap();
    });
    setup.controller.reported("the problem is told", |report| !report.problems.is_empty()).await;
    setup.machine.host.take_applied();
    let steps = vec!["add address 10.0.1.1/24 to br101".to_owned()];
    assert_eq!(setup.ask(LocalRequest::Plan).await, LocalReply::Plan { steps, problems: Vec::new() });
    assert_eq!(setup.machine.host.take_applied(), []);
    setup.agent.stop().await;
}

/// What the agent says of itself, once that is as asked.
async fn status_when(socket: &Path, is_it: impl Fn(&AgentStatus) -> bool) -> AgentStatus {
    let asking = async {
        loop {
            match call(socket, &LocalRequest::Status).await {
                Ok(LocalReply::Status(status)) if is_it(&status) => return status,
                _ => tokio::time::sleep(std::time::Duration::from_millis(1)).await,
            }
        }
    };
    tokio::time::timeout(DEADLINE, asking).await.unwrap()
}

#[tokio::test]
async fn status_says_how_the_agent_is() {
    let setup = setup().await;
    let LocalReply::Status(status) = setup.ask(LocalRequest::Status).await else { panic!() };
    assert_eq!((status.host.as_str(), status.generation, status.generation_held), ("host1", 1, Some(1)));
    assert!(status.controller.connected);
    assert_eq!((status.interfaces, status.objects), (1, setup.controller.spec().objects.len()));
    assert_eq!(status.dnsmasqs.len(), 1);
    assert!(status.dnsmasqs[0].running);
    let LocalReply::Spec(Some(spec)) = setup.ask(LocalRequest::Spec).await else { panic!() };
    assert_eq!(spec, setup.controller.spec());

    setup.controller.set_away(true);
    setup.machine.host.disturb("kill (pid 7)", "x", |state| {
        let lease = Object::Lease("10.0.1.11".parse().unwrap());
        state.put_ours(Key::Lease("net1".parse().unwrap(), cloud::interface(1, 1).mac), lease);
    });
    setup.agent.kill().await;
    let agent = Agent::start(setup.dir.path(), &setup.machine, &setup.controller);
    let socket = setup.dir.path().join("agent.sock");
    let status = status_when(&socket, |status| status.leases == 1 && status.controller.error.is_some()).await;
    assert!(!status.controller.connected);
    insta::assert_snapshot!(status.controller.error.unwrap(), @"no answer from the controller: connection refused");
    agent.stop().await;
}

#[tokio::test]
async fn the_socket_is_root_s_alone_and_refuses_what_is_no_request() {
    let setup = setup().await;
    let socket = setup.dir.path().join("agent.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    insta::assert_snapshot!(raw(&socket, "{\"reboot\":{}}\n").await, @r#"{"error":{"code":"malformed","message":"not a request: unknown variant `reboot`, expected one of `attach`, `detach`, `plan`, `status`, `spec` at line 1 column 9"}}"#);
    setup.agent.stop().await;
}

async fn raw(socket: &Path, line: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::UnixStream::connect(socket).await.unwrap();
    stream.write_all(line.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
