//! What other programs change is put right, told once, and nothing else is taken for it.

use std::time::{Duration, Instant};

use trestle_core::plan::plan;
use trestle_core::spec::Key;
use trestle_core::state::HostState;

use crate::cloud;
use crate::fake::{Agent, FakeController, Machine, until};

fn remove_gateway_address(state: &mut HostState) {
    let key = Key::Address(cloud::link_name("br101"), "10.0.1.1/24".parse().unwrap());
    state.objects.remove(&key).unwrap();
}

#[tokio::test]
async fn drift_is_repaired_at_once_and_reported_with_its_culprit() {
    let dir = tempfile::tempdir().unwrap();
    let controller = FakeController::new(cloud::world(&[(1, 1)]));
    let machine = Machine::with(&controller.spec());
    let agent = Agent::start(dir.path(), &machine, &controller);
    controller.content().await;

    machine.host.disturb("ip (pid 4242)", "address 10.0.1.1/24 went", remove_gateway_address);
    let drift = controller.drift().await;
    assert_eq!(drift.len(), 1);
    assert_eq!(drift[0].repaired, ["add address 10.0.1.1/24 to br101"]);
    assert_eq!(drift[0].culprit.as_deref(), Some("ip (pid 4242)"));
    assert!(drift[0].took_ms < 1000, "{drift:?}");
    assert!(plan(&controller.spec(), &machine.host.state()).is_empty());

    controller.change(|world| world.put_interface(cloud::interface(1, 2)));
    controller.content().await;
    assert_eq!(controller.drift().await.len(), 1, "drift is told once");
    agent.stop().await;
}

#[tokio::test]
async fn a_change_that_leaves_everything_right_is_not_drift() {
    let dir = tempfile::tempdir().unwrap();
    let controller = FakeController::new(cloud::world(&[(1, 1)]));
    let machine = Machine::with(&controller.spec());
    let agent = Agent::start(dir.path(), &machine, &controller);
    controller.content().await;
    machine.host.disturb("ip (pid 7)", "an address of somebody else", |state| {
        let key = Key::Address(cloud::link_name("eth3"), "192.168.7.1/24".parse().unwrap());
        state.put_foreign(key, trestle_core::spec::Object::Address);
    });
    // The same change again, with something to repair, shows that the first was seen to.
    machine.host.disturb("ip (pid 8)", "address 10.0.1.1/24 went", remove_gateway_address);
    let drift = controller.drift().await;
    assert_eq!(drift.len(), 1);
    assert_eq!(cloud::lines(machine.host.take_applied()), "add address 10.0.1.1/24 to br101");
    agent.stop().await;
}

/// A host with a problem is looked at again soon, which saves the test half a minute.
#[tokio::test]
async fn what_nothing_told_of_is_drift_too_once_it_is_found_and_a_problem_that_goes_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let controller = FakeController::new(cloud::world(&[(1, 1), (2, 1)]));
    let mut state = cloud::fresh_state();
    let uplink = Key::Link(cloud::link_name("eth2"));
    let object = state.objects.remove(&uplink).unwrap().object;
    let machine = Machine::new(state);
    let agent = Agent::start(dir.path(), &machine, &controller);
    until("all that can be done is, and was looked at again", || machine.listed() == 2).await;

    machine.host.disturb_unseen(remove_gateway_address);
    let drift = controller.drift().await;
    assert_eq!(drift[0].repaired, ["add address 10.0.1.1/24 to br101"]);
    assert_eq!(drift[0].culprit, None);

    machine.host.disturb_unseen(|state| state.put_foreign(uplink, object));
    controller.content().await;
    assert!(plan(&controller.spec(), &machine.host.state()).is_empty());
    assert_eq!(controller.drift().await.len(), 1, "no program made the problem go");
    agent.stop().await;
}

#[tokio::test]
async fn everything_swept_away_is_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let controller = FakeController::new(cloud::world(&[(1, 1), (1, 2), (2, 1)]));
    let machine = Machine::with(&controller.spec());
    let agent = Agent::start(dir.path(), &machine, &controller);
    controller.content().await;
    machine.host.disturb("nft (pid 4242)", "every table went", |state| {
        state.objects.retain(|key, _| !matches!(key, Key::Ruleset(_) | Key::Element(..)));
    });
    until("it is put right", || plan(&controller.spec(), &machine.host.state()).is_empty()).await;
    agent.stop().await;
}

#[tokio::test]
async fn repair_goes_on_without_the_controller_and_is_told_when_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let controller = FakeController::new(cloud::world(&[(1, 1)]));
    let machine = Machine::with(&controller.spec());
    let agent = Agent::start(dir.path(), &machine, &controller);
    controller.content().await;
    controller.set_away(true);
    let repaired = || plan(&controller.spec(), &machine.host.state()).is_empty();
    machine.host.disturb("ip (pid 7)", "address 10.0.1.1/24 went", remove_gateway_address);
    until("it is put right", repaired).await;
    controller.set_away(false);
    assert_eq!(controller.drift().await[0].culprit.as_deref(), Some("ip (pid 7)"));

    controller.set_away(true);
    agent.kill().await;
    machine.host.disturb("ip (pid 8)", "address 10.0.1.1/24 went", remove_gateway_address);
    let agent = Agent::start(dir.path(), &machine, &controller);
    until("a new agent puts it right from the ledger", repaired).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_program_that_fights_is_answered_within_a_second_and_not_all_the_time() {
    let dir = tempfile::tempdir().unwrap();
    let controller = FakeController::new(cloud::world(&[(1, 1)]));
    let machine = Machine::with(&controller.spec());
    let agent = Agent::start(dir.path(), &machine, &controller);
    controller.content().await;
    machine.host.take_applied();
    let repaired = || plan(&controller.spec(), &machine.host.state()).is_empty();
    let begun = Instant::now();
    let mut undone = 0;
    while begun.elapsed() < Duration::from_secs(2) {
        machine.host.disturb("NetworkManager (pid 7)", "an address went", remove_gateway_address);
        undone += 1;
        let at = Instant::now();
        until("it is put right", repaired).await;
        assert!(at.elapsed() < Duration::from_secs(1), "{:?}", at.elapsed());
    }
    assert_eq!(machine.host.take_applied().len(), undone);
    agent.stop().await;
}
