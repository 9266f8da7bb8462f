//! A host with a thousand instances from an empty kernel, and an agent's restart that finds
//! everything right.

use std::time::Instant;

use anyhow::Result;
use trestle_api::local::{LocalReply, LocalRequest};
use trestle_lab::{Lab, Topology, until};

use crate::attach::{DEADLINE, ask, fill};
use crate::times::{Times, head};
use crate::{HOST, cloud};

const INSTANCES: usize = 1000;
const RUNS: usize = 5;

pub(crate) fn run() -> Result<()> {
    let lab = cloud(&Topology::for_test(1))?;
    fill(&lab, 0, INSTANCES)?;
    head("a host with 1,000 instances, from the start of its agent to everything in place");
    let (mut restarts, mut colds) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        lab.agent(HOST)?.stop()?;
        restarts.push(start(&lab)?);
    }
    println!("{}", Times::new(restarts).row("agent restart, nothing to do"));
    for _ in 0..RUNS {
        lab.agent(HOST)?.stop()?;
        wipe(&lab)?;
        colds.push(start(&lab)?);
    }
    println!("{}", Times::new(colds).row("from an empty kernel"));
    Ok(())
}

/// Starts the agent and waits until it says that its host is as asked for.
fn start(lab: &Lab) -> Result<std::time::Duration> {
    let started = Instant::now();
    lab.agent(HOST)?.start()?;
    until("the host is as asked for", DEADLINE, || {
        let Ok(LocalReply::Status(status)) = ask(lab, &LocalRequest::Status) else { return Ok(None) };
        let done = status.generation_held == Some(status.generation) && status.problems.is_empty();
        Ok((done && status.interfaces == INSTANCES).then_some(()))
    })?;
    Ok(started.elapsed())
}

/// As after a reboot: nothing of ours is in the kernel and no dnsmasq runs.
fn wipe(lab: &Lab) -> Result<()> {
    let commands = "pkill -9 -f [i]nterface=br100; ip link delete group 29810; nft flush ruleset; ip link show br100 && exit 1; exit 0";
    lab.exec_ok(HOST, &["sh", "-c", commands]).map(drop)
}
