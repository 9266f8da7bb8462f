//! Programs that die and come back: traffic goes on, and what was asked for comes true.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use trestle_lab::{Lab, Plug, until};

use crate::cloud::{DEADLINE, HOST, NETWORK, Pinger, cloud, create, guest, links, ping, wait_until_whole};

#[test]
fn restarting_the_agent_and_the_controller_drops_no_packet() -> Result<()> {
    let lab = cloud("10.0.0.0/24")?;
    let (web, _db) = (guest(&lab, "web1")?, guest(&lab, "db1")?);
    let (inside, outside) =
        (Pinger::start(&lab, &web.node, "10.0.0.3")?, Pinger::start(&lab, &web.node, "198.51.100.10")?);
    for _ in 0..3 {
        lab.agent(HOST)?.restart()?;
        lab.controller().restart()?;
        wait_until_whole(&lab)?;
    }
    lab.agent(HOST)?.kill9()?;
    lab.controller().kill9()?;
    ping(&lab, &web.node, "198.51.100.10")?;
    lab.controller().start()?;
    lab.agent(HOST)?.start()?;
    wait_until_whole(&lab)?;
    inside.lost_nothing()?;
    outside.lost_nothing()
}

#[test]
fn a_host_comes_up_from_its_ledger_without_its_controller() -> Result<()> {
    let lab = cloud("10.0.0.0/24")?;
    create(&lab, "web1")?;
    let attached = lab.attach(HOST, "web1", NETWORK, Plug::Tap)?;
    lab.agent(HOST)?.kill9()?;
    lab.controller().kill9()?;
    // As after a reboot: nothing of ours is in the kernel.
    lab.exec_ok(
        HOST,
        &["sh", "-c", "pkill -9 -f [i]nterface=br100; ip link delete br100; nft flush ruleset"],
    )?;
    lab.exec_ok(HOST, &["ip", "link", "delete", attached.device.as_str()])?;
    lab.agent(HOST)?.start()?;
    wait_until_whole(&lab)?;
    let there = links(&lab, HOST)?;
    ensure!(there.iter().any(|link| link == attached.device.as_str()), "{there:?}");
    ping(&lab, HOST, "10.0.0.1")
}

/// The same numbers every time, so that a failure can be seen again (Knuth's multiplier).
fn dice(turn: u64) -> u64 {
    (turn + 1).wrapping_mul(6_364_136_223_846_793_005) >> 33
}

#[test]
fn kills_at_random_during_a_hundred_calls_end_in_what_was_asked_for() -> Result<()> {
    let lab = cloud("10.0.0.0/24")?;
    let (web, _db) = (guest(&lab, "web1")?, guest(&lab, "db1")?);
    let names: Vec<String> = (0..5).map(|number| format!("vm{number}")).collect();
    names.iter().try_for_each(|name| create(&lab, name))?;
    let (inside, outside) =
        (Pinger::start(&lab, &web.node, "10.0.0.3")?, Pinger::start(&lab, &web.node, "198.51.100.10")?);
    let mut attached = BTreeSet::new();
    for turn in 0..100 {
        let name = &names[(dice(turn) % 5) as usize];
        let victim = std::thread::scope(|scope| -> Result<()> {
            let kill = scope.spawn(|| kill_something(&lab, turn));
            // A call that is cut off may have come true or not: it is made again until it answers.
            until(&format!("turn {turn} is answered"), DEADLINE, || {
                let answer = match attached.contains(name) {
                    true => lab.detach(HOST, name, NETWORK),
                    false => lab.attach(HOST, name, NETWORK, Plug::Tap).map(drop),
                };
                Ok(answer.ok())
            })?;
            kill.join().expect("the killer does not panic")
        });
        victim?;
        if !attached.remove(name) {
            attached.insert(name);
        }
    }
    wait_until_whole(&lab)?;
    let devices = links(&lab, HOST)?.into_iter().filter(|link| link.starts_with("tr-")).count();
    ensure!(devices == attached.len() + 2, "{devices} devices for {attached:?} and two guests");
    inside.lost_nothing()?;
    outside.lost_nothing()
}

/// Every third turn one of the three programs dies at once and is started again.
fn kill_something(lab: &Lab, turn: u64) -> Result<()> {
    match dice(turn + 1000) % 9 {
        0 => {
            lab.agent(HOST)?.kill9()?;
            lab.agent(HOST)?.start()
        }
        1 => {
            lab.controller().kill9()?;
            lab.controller().start()
        }
        2 => lab.exec(HOST, &["pkill", "-9", "-f", "[i]nterface=br100"]).map(drop),
        _ => Ok(()),
    }
}
