//! What the controller asks for is on the host, and the controller is told.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use trestle_agent::host::{ApplyError, ObserveError};
use trestle_api::agent::{Feature, Report};
use trestle_core::plan::{ProblemCode, Step, plan};
use trestle_core::spec::{Key, Object, Set, SpecUpdate};
use trestle_core::types::Name;
use trestle_core::world::{FloatingIp, Target, World};

use crate::cloud;
use crate::fake::{Agent, FakeController, Machine, until};

#[tokio::test]
async fn a_change_is_applied_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    let controller = FakeController::new(cloud::world(&[(1, 1)]));
    let machine = Machine::new(cloud::fresh_state());
    let agent = Agent::start(dir.path(), &machine, &controller);
    controller.content().await;
    assert!(plan(&controller.spec(), &machine.host.state()).is_empty());
    machine.host.take_applied();

    controller.change(|world| world.put_interface(cloud::interface(1, 2)));
    controller.content().await;
    insta::assert_snapshot!(cloud::lines(machine.host.take_applied()), @"
    add tr-000000001002 . fa:16:3e:00:01:02 to guard_mac
    add tr-000000001002 . fa:16:3e:00:01:02 . 10.0.1.12 to guard_ip4
    add tr-000000001002 . 0xfa163e000102 to guard_hardware
    add tr-000000001002 : 2387853312 to heard_by
    add 10.0.1.12 : 2387853312 to groups4
    add 10.0.1.12 to members4_1
    hold every connection to its security groups once more
    write DHCP entry of fa:16:3e:00:01:02 on net1: 10.0.1.12, vm2
    write DNS name vm2.trestle.internal on net1: 10.0.1.12
    make tap tr-000000001002
    hold fa:16:3e:00:01:02 fast at tr-000000001002 of br101 and announce it
    ");
    controller.change(|world| drop(world.remove_interface(cloud::interface(1, 1).id)));
    controller.content().await;
    insta::assert_snapshot!(cloud::lines(machine.host.take_applied()), @"
    delete device tr-000000001001
    let br101 learn where fa:16:3e:00:01:01 is
    delete DHCP entry of fa:16:3e:00:01:01 on net1
    delete DNS name vm1.trestle.internal on net1
    reload DHCP entries of net1
    delete 10.0.1.11 : 2387853312 from groups4
    delete 10.0.1.11 from members4_1
    hold every connection to its security groups once more
    delete tr-000000001001 . fa:16:3e:00:01:01 from guard_mac
    delete tr-000000001001 . fa:16:3e:00:01:01 . 10.0.1.11 from guard_ip4
    delete tr-000000001001 . 0xfa163e000101 from guard_hardware
    delete tr-000000001001 : 2387853312 from heard_by
    ");
    agent.stop().await;
}

#[tokio::test]
async fn an_update_that_joins_does_not_list_everything() {
    let dir = tempfile::tempdir().unwrap();
    let controller = FakeController::new(cloud::world(&[(1, 1)]));
    let machine = Machine::with(&controller.spec());
    let agent = Agent::start(dir.path(), &machine, &controller);
    controller.content().await;
    machine.set_listing(false);
    machine.host.disturb("ip (pid 7)", "a listing begins and does not end", |_| {});
    for i in 2..10 {
        controller.change(|world| world.put_interface(cloud::interface(1, i)));
        controller.content().await;
    }
    assert!(plan(&controller.spec(), &machine.host.state()).is_empty());
    machine.set_listing(true);
    agent.stop().await;
}

#[tokio::test]
async fn an_update_that_does_not_join_is_answered_by_asking_for_everything() {
    let dir = tempfile::tempdir().unwrap();
    let controller = FakeController::new(cloud::world(&[(1, 1)]));
    let machine = Machine::new(cloud::fresh_state());
    let agent = Agent::start(dir.path(), &machine, &controller);
    controller.content().await;
    let before = machine.host.state();

    let gone: BTreeSet<Key> = controller.spec().objects.into_keys().collect();
    controller.send_wrong(SpecUpdate { base: Some(77), generation: 78, put: Default::default(), gone });
    let asks_for_all = || controller.queries().iter().filter(|query| query.since.is_none()).count();
    until("everything is asked for once more", || asks_for_all() == 2).await;
    controller.change(|world| world.put_interface(cloud::interface(1, 2)));
    controller.content().await;
    assert!(plan(&controller.spec(), &machine.host.state()).is_empty());
    assert!(before.objects.keys().all(|key| machine.host.state().objects.contains_key(key)));
    agent.stop().await;
}

#[tokio::test]
async fn a_host_that_cannot_be_observed_is_not_changed() {
    fn unreadable() -> ObserveError {
        ObserveError::File { path: "/proc/sys".into(), source: io::ErrorKind::PermissionDenied.into() }
    }
    let dir = tempfile::tempdir().unwrap();
    let controller = FakeController::new(cloud::world(&[(1, 1)]));
    let machine = Machine::new(cloud::fresh_state());
    machine.host.fail_observe(Some(unreadable));
    let agent = Agent::start(dir.path(), &machine, &controller);
    let report = controller.reported("the trouble is told", |report| !report.agent_problems.is_empty()).await;
    insta::assert_snapshot!(report.agent_problems[0].message, @"cannot observe the host, so nothing is changed there: cannot read /proc/sys: permission denied");
    assert_eq!((report.agent_problems[0].code.as_str(), report.generation), ("observe_failed", 0));
    assert!(machine.host.take_applied().is_empty());

    machine.host.fail_observe(None);
    controller.reported("the trouble is over", |report| report.agent_problems.is_empty()).await;
    controller.content().await;

    machine.host.fail_observe(Some(unreadable));
    machine.host.take_applied();
    controller.change(|world| world.put_interface(cloud::interface(1, 2)));
    controller.reported("the trouble is told", |report| !report.agent_problems.is_empty()).await;
    assert!(machine.host.take_applied().is_empty());
    machine.host.fail_observe(None);
    controller.content().await;
    assert!(plan(&controller.spec(), &machine.host.state()).is_empty());
    agent.stop().await;
}

#[tokio::test]
async fn a_step_that_fails_is_a_problem_until_it_succeeds() {
    let dir = tempfile::tempdir().unwrap();
    let controller = FakeController::new(cloud::world(&[(1, 1)]));
    let machine = Machine::with(&controller.spec());
    let agent = Agent::start(dir.path(), &machine, &controller);
    controller.content().await;

    let mut world = cloud::world(&[(1, 1), (1, 2)]);
    let steps = plan(&cloud::spec(&world), &machine.host.state()).steps;
    let port = steps.into_iter().find(|step| matches!(step, Step::CreatePort { .. })).unwrap();
    let full = || ApplyError::BridgeFull { bridge: cloud::link_name("br101") };
    machine.host.fail_step(port.clone(), Some(full));
    controller.change(|asked| std::mem::swap(asked, &mut world));
    let report = controller.reported("the problem is told", |report| !report.problems.is_empty()).await;
    let problem = report.problems.first().unwrap();
    assert_eq!(
        (report.problems.len(), &problem.key, problem.code),
        (1, &port.key(), ProblemCode::BridgeFull)
    );
    insta::assert_snapshot!(problem.detail, @"bridge br101 is full: the kernel gives a bridge 1,023 ports");

    machine.host.fail_step(port, None);
    controller.content().await;
    assert!(plan(&controller.spec(), &machine.host.state()).is_empty());
    agent.stop().await;
}

#[tokio::test]
async fn a_missing_interface_is_a_problem_and_is_used_when_it_comes() {
    let dir = tempfile::tempdir().unwrap();
    let controller = FakeController::new(cloud::world(&[(1, 1)]));
    let mut state = cloud::fresh_state();
    let uplink = Key::Link(cloud::link_name("eth1"));
    let object = state.objects.remove(&uplink).unwrap().object;
    let machine = Machine::new(state);
    let agent = Agent::start(dir.path(), &machine, &controller);
    controller.reported("the problem is told", |report| !report.problems.is_empty()).await;
    machine.host.disturb("ip (pid 7)", "a device", |state| state.put_foreign(uplink, object));
    controller.content().await;
    assert!(plan(&controller.spec(), &machine.host.state()).is_empty());
    agent.stop().await;
}

#[tokio::test]
async fn leases_of_both_families_are_reported_and_released_ones_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let controller = FakeController::new(cloud::world(&[(4, 1), (4, 2)]));
    let machine = Machine::with(&controller.spec());
    let agent = Agent::start(dir.path(), &machine, &controller);
    controller.content().await;
    let network: Name = "net4".parse().unwrap();
    machine.host.disturb("dnsmasq (pid 9)", "the leases of net4", |state| {
        for interface in [cloud::interface(4, 1), cloud::interface(4, 2)] {
            for address in interface.addresses {
                let (key, lease) = match address {
                    IpAddr::V4(address) => {
                        (Key::Lease(network.clone(), interface.mac), Object::Lease(address))
                    }
                    IpAddr::V6(address) => {
                        let lease =
                            Object::Lease6 { client: format!("00:03:00:01:{}", interface.mac), iaid: 7 };
                        (Key::Lease6(network.clone(), address), lease)
                    }
                };
                state.put_ours(key, lease);
            }
        }
    });
    let told = |report: &Report| -> Vec<String> {
        report.leases.iter().map(|lease| format!("{} {}", lease.address, lease.mac)).collect()
    };
    let report = controller.reported("all are told", |report| report.leases.len() == 4).await;
    assert_eq!(
        told(&report),
        [
            "10.0.4.11 fa:16:3e:00:04:01",
            "10.0.4.12 fa:16:3e:00:04:02",
            "fd00:4::b fa:16:3e:00:04:01",
            "fd00:4::c fa:16:3e:00:04:02"
        ]
    );

    controller.change(|world| drop(world.remove_interface(cloud::interface(4, 1).id)));
    let generation = controller.spec().generation;
    let report = controller.reported("the release is told", |report| report.generation == generation).await;
    assert_eq!(told(&report), ["10.0.4.12 fa:16:3e:00:04:02", "fd00:4::c fa:16:3e:00:04:02"]);

    controller.change(|world| drop(world.remove_interface(cloud::interface(4, 2).id)));
    controller.reported("that none is left is told", |report| report.leases.is_empty()).await;
    agent.stop().await;
}

#[tokio::test]
async fn what_the_kernel_lacks_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let controller = FakeController::new(cloud::world(&[(1, 1)]));
    let machine = Machine::with(&controller.spec());
    machine.host.lack(Feature::Vlan);
    let agent = Agent::start(dir.path(), &machine, &controller);
    let report = controller.reported("anything is told", |_| true).await;
    assert_eq!(report.missing_features, [Feature::Vlan].into());
    agent.stop().await;
}

/// The administrator makes the bridge of a flat network, and may be late.
#[tokio::test]
async fn a_port_is_made_when_the_bridge_of_a_flat_network_comes() {
    let dir = tempfile::tempdir().unwrap();
    let controller = FakeController::new(cloud::world(&[(6, 1)]));
    let mut state = cloud::fresh_state();
    let bridge = Key::Link(cloud::link_name("docker0"));
    let object = state.objects.remove(&bridge).unwrap().object;
    let machine = Machine::new(state);
    let agent = Agent::start(dir.path(), &machine, &controller);
    let report = controller.reported("the problem is told", |report| !report.problems.is_empty()).await;
    let device = Key::Link(cloud::interface(6, 1).device);
    assert!(
        report.problems.iter().any(|problem| problem.key == device && problem.code == ProblemCode::Blocked)
    );
    machine.host.disturb("ip (pid 7)", "a device", |state| state.put_foreign(bridge, object));
    controller.content().await;
    assert!(machine.host.state().objects.contains_key(&device));
    agent.stop().await;
}

#[tokio::test]
async fn a_controller_that_starts_anew_disturbs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let controller = FakeController::new(cloud::world(&[(1, 1)]));
    let machine = Machine::with(&controller.spec());
    let agent = Agent::start(dir.path(), &machine, &controller);
    controller.content().await;
    controller.change(|_| {});
    controller.forget_history();
    controller.content().await;
    assert_eq!(machine.host.take_applied(), []);
    agent.stop().await;
}

/// A world in which interface 1 has this floating IP.
fn with_floating_ip(address: IpAddr) -> World {
    let mut world = cloud::world(&[(1, 1)]);
    let interface = cloud::interface(1, 1);
    let target = Target { interface: interface.id, fixed: interface.addresses[0] };
    world.put_floating_ip(FloatingIp { address, device: None, target: Some(target), forwards: vec![] });
    world
}

/// The kernel notes a claim, keeps silent and tells nobody.
#[tokio::test]
async fn what_another_host_claims_is_held_against_it_if_the_controller_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let controller = FakeController::new(with_floating_ip("203.0.113.20".parse().unwrap()));
    let machine = Machine::new(cloud::fresh_state());
    let agent = Agent::start(dir.path(), &machine, &controller);
    controller.content().await;
    until("it was looked at again", || machine.listed() == 2).await;
    let claim = Key::Element(Set::Yielded, "eth0 . 203.0.113.20".to_owned());
    machine.host.take_applied();
    machine.host.disturb_unseen(|state| state.put_ours(claim.clone(), Object::Element));
    until("it is held against the claim", || !machine.host.state().objects.contains_key(&claim)).await;
    let told = "take eth0 . 203.0.113.20 back from who claimed it\nadd address 203.0.113.20/32 to eth0";
    assert_eq!(cloud::lines(machine.host.take_applied()), told);
    assert_eq!(controller.drift().await[0].repaired, ["add address 203.0.113.20/32 to eth0"]);
    agent.stop().await;
}

/// While the controller is away it may have given a floating IP to another host, which answers for it.
#[tokio::test]
async fn a_floating_ip_that_somebody_answers_for_is_taken_only_when_the_controller_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let address = "203.0.113.20".parse().unwrap();
    let controller = FakeController::new(with_floating_ip(address));
    let machine = Machine::new(cloud::fresh_state());
    let agent = Agent::start(dir.path(), &machine, &controller);
    controller.content().await;
    agent.stop().await;

    let eth0 = cloud::link_name("eth0");
    let key = Key::Address(eth0.clone(), "203.0.113.20/32".parse().unwrap());
    machine.host.disturb_unseen(|state| {
        state.objects.remove(&key);
        let mac = trestle_core::types::Mac::generated([1, 2, 3]);
        state.put_foreign(Key::Neighbour(eth0, address), Object::Neighbour(mac));
    });
    controller.set_away(true);
    let agent = Agent::start(dir.path(), &machine, &controller);
    let before = machine.listed();
    until("it has looked and looked again", || machine.listed() > before + 1).await;
    assert!(!machine.host.state().objects.contains_key(&key));

    controller.set_away(false);
    until("it is taken", || machine.host.state().objects.contains_key(&key)).await;
    agent.stop().await;
}
