//! However an agent ends, the next one ends in the state that was asked for.

use proptest::prelude::*;
use trestle_core::plan::plan;
use trestle_core::spec::{HostSpec, Key};
use trestle_core::world::World;

use crate::cloud;
use crate::fake::{Agent, FakeController, Machine, until};

/// Whether the host has what it must, and nothing of ours besides.
fn is_as_asked(spec: &HostSpec, machine: &Machine) -> bool {
    let state = machine.host.state();
    let plan = plan(spec, &state);
    plan.steps.is_empty() && plan.problems.is_empty()
}

/// The keys of everything that was there before Trestle came.
fn foreign_keys() -> Vec<Key> {
    cloud::fresh_state().objects.into_keys().filter(|key| matches!(key, Key::Link(_))).collect()
}

/// Ends the agent after each number of steps on the way from one world to another; a new agent
/// finishes from the ledger alone.
async fn crash_everywhere(from: &[(u8, u8)], to: &[(u8, u8)]) {
    let mut steps = 0;
    loop {
        let dir = tempfile::tempdir().unwrap();
        let controller = FakeController::new(cloud::world(from));
        let machine = Machine::new(cloud::fresh_state());
        let agent = Agent::start(dir.path(), &machine, &controller);
        controller.content().await;
        machine.stop_after(steps);
        let generation = controller.change(|world| *world = cloud::world(to));
        let is_reported =
            || controller.reports().last().is_some_and(|report| report.generation == generation);
        until("it crashes or is done", || machine.is_stuck() || is_reported()).await;
        let crashed = machine.is_stuck();
        agent.kill().await;

        controller.set_away(true);
        machine.stop_after(usize::MAX);
        let agent = Agent::start(dir.path(), &machine, &controller);
        until(&format!("what is left after {steps} steps is done"), || {
            is_as_asked(&controller.spec(), &machine)
        })
        .await;
        let state = machine.host.state();
        assert!(foreign_keys().iter().all(|key| state.objects.contains_key(key)));
        agent.stop().await;
        if !crashed {
            return;
        }
        steps += 1;
    }
}

#[tokio::test]
async fn a_crash_between_any_two_steps_of_the_first_attach_changes_nothing_in_the_end() {
    crash_everywhere(&[], &[(1, 1)]).await;
}

#[tokio::test]
async fn a_crash_between_any_two_steps_of_the_last_detach_changes_nothing_in_the_end() {
    crash_everywhere(&[(1, 1)], &[]).await;
}

#[tokio::test]
async fn a_crash_between_any_two_steps_of_a_mixed_change_changes_nothing_in_the_end() {
    crash_everywhere(&[(1, 1), (1, 2), (2, 1)], &[(1, 2), (1, 3), (3, 1)]).await;
}

#[tokio::test]
async fn ending_and_starting_again_touch_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let controller = FakeController::new(cloud::world(&[(1, 1), (2, 1)]));
    let machine = Machine::new(cloud::fresh_state());
    let agent = Agent::start(dir.path(), &machine, &controller);
    controller.content().await;
    let before = machine.host.state();
    machine.host.take_applied();
    agent.stop().await;
    let reports = controller.reports().len();
    let agent = Agent::start(dir.path(), &machine, &controller);
    until("the new agent reports", || controller.reports().len() > reports).await;
    agent.stop().await;
    assert_eq!(machine.host.take_applied(), []);
    assert_eq!(machine.host.state(), before);
}

/// Starts an agent with this ledger while the controller is away, on a host that has instances.
async fn starts_knowing_nothing(ledger: Option<&[u8]>) {
    let dir = tempfile::tempdir().unwrap();
    if let Some(bytes) = ledger {
        std::fs::write(dir.path().join("ledger"), bytes).unwrap();
    }
    let controller = FakeController::new(cloud::world(&[(1, 1)]));
    let machine = Machine::with(&controller.spec());
    let before = machine.host.state();
    controller.set_away(true);
    let agent = Agent::start(dir.path(), &machine, &controller);
    machine.host.disturb("ip (pid 7)", "something that would start a round", |_| {});
    until("the controller is asked", || controller.queries().len() > 1).await;
    assert_eq!(machine.host.state(), before);
    assert!(controller.queries().iter().all(|query| query.since.is_none()));

    controller.set_away(false);
    controller.content().await;
    controller.reported("no trouble is left", |report| report.agent_problems.is_empty()).await;
    assert_eq!(machine.host.take_applied(), []);
    agent.kill().await;

    controller.set_away(true);
    let agent = Agent::start(dir.path(), &machine, &controller);
    machine.host.disturb("ip (pid 7)", "a device went", |state| {
        state.objects.remove(&Key::Link(cloud::interface(1, 1).device)).unwrap();
    });
    until("the next agent knows from the ledger", || is_as_asked(&controller.spec(), &machine)).await;
    agent.stop().await;
}

#[tokio::test]
async fn an_agent_without_a_ledger_touches_nothing_until_the_controller_has_spoken() {
    starts_knowing_nothing(None).await;
}

#[tokio::test]
async fn an_agent_with_a_damaged_ledger_touches_nothing_until_the_controller_has_spoken() {
    let dir = tempfile::tempdir().unwrap();
    let controller = FakeController::new(cloud::world(&[]));
    let machine = Machine::new(cloud::fresh_state());
    let agent = Agent::start(dir.path(), &machine, &controller);
    controller.content().await;
    for i in 1..4 {
        controller.change(|world| *world = cloud::world(&[(1, i)]));
        controller.content().await;
    }
    agent.stop().await;
    let mut ledger = std::fs::read(dir.path().join("ledger")).unwrap();
    ledger[20] ^= 1;
    starts_knowing_nothing(Some(&ledger)).await;
}

/// A program that the agent before was starting when it was killed has its lock for a moment.
#[tokio::test]
async fn an_agent_waits_for_a_lock_that_is_about_to_be_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let lock = std::fs::File::create(dir.path().join("agent.lock")).unwrap();
    lock.lock().unwrap();
    let controller = FakeController::new(cloud::world(&[(1, 1)]));
    let machine = Machine::new(cloud::fresh_state());
    let agent = Agent::start(dir.path(), &machine, &controller);
    tokio::task::yield_now().await;
    drop(lock);
    controller.content().await;
    agent.stop().await;
}

#[tokio::test]
async fn a_second_agent_with_the_same_state_folder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let controller = FakeController::new(cloud::world(&[(1, 1)]));
    let machine = Machine::new(cloud::fresh_state());
    let agent = Agent::start(dir.path(), &machine, &controller);
    controller.content().await;
    let refused = Agent::start(dir.path(), &machine, &controller).ended().await;
    let said = refused.to_string().replace(dir.path().to_str().unwrap(), "STATE");
    insta::assert_snapshot!(said, @"another agent runs with the state folder STATE");
    agent.stop().await;
}

/// Something that happens to an installation with one host.
#[derive(Clone, Debug)]
enum Happening {
    Attach(u8, u8),
    Detach(u8, u8),
    Kill,
    Away(bool),
    ForgetHistory,
    LoseLink,
    CrashAfter(usize),
}

fn happening() -> impl Strategy<Value = Happening> {
    let place = || (1u8..=3, 1u8..=4);
    prop_oneof![
        5 => place().prop_map(|(n, i)| Happening::Attach(n, i)),
        3 => place().prop_map(|(n, i)| Happening::Detach(n, i)),
        2 => Just(Happening::Kill),
        1 => any::<bool>().prop_map(Happening::Away),
        1 => Just(Happening::ForgetHistory),
        1 => Just(Happening::LoseLink),
        2 => (0usize..12).prop_map(Happening::CrashAfter),
    ]
}

async fn walk(happenings: Vec<Happening>) {
    let dir = tempfile::tempdir().unwrap();
    let controller = FakeController::new(cloud::world(&[]));
    let machine = Machine::new(cloud::fresh_state());
    let mut agent = Agent::start(dir.path(), &machine, &controller);
    for happening in happenings {
        match happening {
            Happening::Attach(n, i) => {
                controller.change(|world: &mut World| {
                    world.put_network(cloud::network(n));
                    world.put_interface(cloud::interface(n, i));
                });
            }
            Happening::Detach(n, i) => {
                controller.change(|world| drop(world.remove_interface(cloud::interface(n, i).id)));
            }
            Happening::Kill => {
                agent.kill().await;
                machine.stop_after(usize::MAX);
                agent = Agent::start(dir.path(), &machine, &controller);
            }
            Happening::Away(away) => controller.set_away(away),
            Happening::ForgetHistory => controller.forget_history(),
            Happening::LoseLink => machine.host.disturb("ip (pid 7)", "a device went", |state| {
                let ours = |key: &Key| matches!(key, Key::Link(link) if link.as_str().starts_with("tr-"));
                if let Some(key) = state.objects.keys().find(|key| ours(key)).cloned() {
                    state.objects.remove(&key);
                }
            }),
            Happening::CrashAfter(steps) => machine.stop_after(steps),
        }
        tokio::task::yield_now().await;
    }
    controller.set_away(false);
    agent.kill().await;
    machine.stop_after(usize::MAX);
    let agent = Agent::start(dir.path(), &machine, &controller);
    controller.content().await;
    until("the host is as asked", || is_as_asked(&controller.spec(), &machine)).await;
    let state = machine.host.state();
    assert!(foreign_keys().iter().all(|key| state.objects.contains_key(key)));
    agent.stop().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_ends_in_the_state_asked_for(happenings in prop::collection::vec(happening(), 1..25)) {
        tokio::runtime::Runtime::new().unwrap().block_on(walk(happenings));
    }
}
