//! How long a guest is not answered while something moves under it: seen by a ping that asks five
//! hundred times a second.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use trestle_lab::{INTERNET, Lab, Process, Programs, Topology, until};

use crate::NETWORK;
use crate::attach::{DEADLINE, create};
use crate::times::{Times, head};

const RUNS: usize = 20;
/// Between two questions.
const EVERY: &str = "0.002";

/// The gateway of a single-host network goes from one host to another and back, and a guest on a
/// third asks the outside.
pub(crate) fn gateway() -> Result<()> {
    let lab = Lab::up(&Topology::for_test(3), &Programs { trestle: env!("CARGO_BIN_EXE_trestle").into() })?;
    lab.open_project("demo")?;
    let network = ["network", "create", NETWORK, "--type", "flat_dhcp", "--cidr", "10.0.0.0/16"];
    let gateway = ["--bridge", "br100", "--single-host", "--gateway-host", "host1"];
    lab.cli_ok(&[&network[..], &gateway[..]].concat())?;
    create(&lab, "guest")?;
    let guest = lab.guest_netns("host3", "guest", NETWORK)?;
    head("the gateway of a single-host network moves: the longest time without an answer from outside");
    let mut gaps = Vec::new();
    for run in 0..RUNS {
        let host = if run % 2 == 0 { "host2" } else { "host1" };
        let pinger = Pinger::start(&lab, &guest.node, &INTERNET.to_string())?;
        lab.cli_ok(&["network", "set-gateway", NETWORK, host])?;
        gaps.push(pinger.longest_silence()?);
    }
    println!("{}", Times::new(gaps).row("network set-gateway"));
    Ok(())
}

/// An instance goes from one host to another and back, and another one asks it. What runs in it
/// runs on both hosts already, as when a hypervisor has copied it: this is Trestle's part.
pub(crate) fn migration() -> Result<()> {
    let lab = Lab::up(&Topology::for_test(3), &Programs { trestle: env!("CARGO_BIN_EXE_trestle").into() })?;
    lab.open_project("demo")?;
    let network = ["network", "create", NETWORK, "--type", "flat_dhcp", "--cidr", "10.0.0.0/16"];
    lab.cli_ok(&[&network[..], &["--bridge", "br100"]].concat())?;
    create(&lab, "guest")?;
    create(&lab, "observer")?;
    let address = lab.guest_netns("host1", "guest", NETWORK)?.lease.address;
    let observer = lab.guest_netns("host3", "observer", NETWORK)?;
    let target = address.split('/').next().unwrap_or_default();
    head("an instance moves: the longest time without an answer from it, from the switch on");
    let mut gaps = Vec::new();
    for run in 0..RUNS {
        let host = if run % 2 == 0 { "host2" } else { "host1" };
        let place = format!("copy{run}");
        lab.exec_ok("controller", &["ip", "netns", "add", &place])?;
        lab.cli_ok(&["instance", "move", "guest", "--to", host, "--prepare", "--netns", &place])?;
        lab.exec_ok(&place, &["ip", "address", "add", &address, "dev", "eth0"])?;
        lab.exec_ok(&place, &["ip", "link", "set", "eth0", "up"])?;
        let pinger = Pinger::start(&lab, &observer.node, target)?;
        lab.cli_ok(&["instance", "move", "guest", "--switch"])?;
        gaps.push(pinger.longest_silence()?);
    }
    println!("{}", Times::new(gaps).row("instance move --switch"));
    Ok(())
}

struct Pinger(Process);

impl Pinger {
    fn start(lab: &Lab, from: &str, to: &str) -> Result<Self> {
        let pinger = Self(lab.spawn(from, &["ping", "-D", "-i", EVERY, to])?);
        pinger.wait_for_more(50)?;
        Ok(pinger)
    }

    fn wait_for_more(&self, number: usize) -> Result<()> {
        let answers = || Ok::<_, anyhow::Error>(self.0.output()?.matches(" ttl=").count());
        let wanted = answers()? + number;
        until("pings are answered", DEADLINE, || Ok((answers()? >= wanted).then_some(())))
    }

    /// The longest time between two answers.
    fn longest_silence(self) -> Result<Duration> {
        self.wait_for_more(200)?;
        let said = self.0.output()?;
        // `[1795462913.123456] 64 bytes from …`
        let time = |line: &str| line.strip_prefix('[')?.split(']').next()?.parse::<f64>().ok();
        let times: Vec<f64> = said.lines().filter(|line| line.contains(" ttl=")).filter_map(time).collect();
        ensure!(times.len() > 1, "no answers in {said}");
        let silences = times.windows(2).map(|pair| pair[1] - pair[0]);
        let longest = silences.fold(0.0, f64::max);
        Duration::try_from_secs_f64(longest).context("a time that goes backwards")
    }
}
