//! A lab with a project and a network, and the questions that tests ask of it.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use trestle_lab::{Lab, NetnsGuest, Process, Programs, Topology, until};

pub(crate) const HOST: &str = "host1";
pub(crate) const PROJECT: &str = "demo";
pub(crate) const NETWORK: &str = "public";
pub(crate) const BRIDGE: &str = "br100";
/// Beyond every host's public interface.
pub(crate) const INTERNET: &str = "198.51.100.10";
/// Far more than anything here takes; a condition that is not met by then never will be.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A lab of one host with a project `demo` and a network `public` of this range.
pub(crate) fn cloud(cidr: &str) -> Result<Lab> {
    cloud_with(cidr, &Topology::for_test(1))
}

/// The same of this topology.
pub(crate) fn cloud_with(cidr: &str, topology: &Topology) -> Result<Lab> {
    let lab = empty_cloud_with(topology)?;
    public_network(&lab, &["--cidr", cidr, "--domain", "test.internal", "--mtu", "1450"])?;
    Ok(lab)
}

/// A lab of so many hosts with a project `demo` and no network.
pub(crate) fn empty_cloud(hosts: u8) -> Result<Lab> {
    empty_cloud_with(&Topology::for_test(hosts))
}

/// The same of this topology.
pub(crate) fn empty_cloud_with(topology: &Topology) -> Result<Lab> {
    let programs = Programs { trestle: env!("CARGO_BIN_EXE_trestle").into() };
    let lab = Lab::up(topology, &programs)?;
    lab.open_project(PROJECT)?;
    Ok(lab)
}

/// Makes the network `public` of type `flat_dhcp` on `br100`.
pub(crate) fn public_network(lab: &Lab, arguments: &[&str]) -> Result<()> {
    let network = ["network", "create", NETWORK, "--type", "flat_dhcp", "--bridge", BRIDGE];
    lab.cli_ok(&[&network[..], arguments].concat()).map(drop)
}

pub(crate) fn create(lab: &Lab, instance: &str) -> Result<()> {
    create_on(lab, PROJECT, instance, &[NETWORK])
}

/// Makes an instance of this project on these networks.
pub(crate) fn create_on(lab: &Lab, project: &str, instance: &str, networks: &[&str]) -> Result<()> {
    let mut arguments = vec!["instance", "create", instance, "--project", project];
    arguments.extend(networks.iter().flat_map(|network| ["--network", network]));
    lab.cli_ok(&arguments).map(drop)
}

pub(crate) fn delete(lab: &Lab, instance: &str) -> Result<()> {
    lab.cli_ok(&["instance", "delete", instance, "--yes"]).map(drop)
}

/// An instance as a namespace with its lease.
pub(crate) fn guest(lab: &Lab, instance: &str) -> Result<NetnsGuest> {
    guest_on(lab, HOST, instance)
}

/// The same on this host.
pub(crate) fn guest_on(lab: &Lab, host: &str, instance: &str) -> Result<NetnsGuest> {
    create(lab, instance)?;
    lab.guest_netns(host, instance, NETWORK)
}

/// What a command of `trestle` prints as JSON.
pub(crate) fn told(lab: &Lab, arguments: &[&str]) -> Result<Value> {
    let text = lab.cli_ok(&[arguments, &["--json"]].concat())?;
    serde_json::from_str(&text).with_context(|| format!("reading {text}"))
}

/// What a command of `trestle` complains of; it is to fail, in the way a user can mend.
pub(crate) fn refusal(lab: &Lab, arguments: &[&str]) -> Result<String> {
    let output = lab.cli(arguments)?;
    ensure!(output.status.code() == Some(1), "trestle {}: {output:?}", arguments.join(" "));
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// What `ip -j` prints in the namespace.
pub(crate) fn ip(lab: &Lab, node: &str, arguments: &[&str]) -> Result<Value> {
    let text = lab.exec_ok(node, &[&["ip", "-j", "-d"], arguments].concat())?;
    serde_json::from_str(if text.trim().is_empty() { "[]" } else { &text }).context("reading what ip says")
}

/// The names of all links in the namespace.
pub(crate) fn links(lab: &Lab, node: &str) -> Result<Vec<String>> {
    let all = ip(lab, node, &["link"])?;
    let names = all.as_array().context("a list of links")?.iter();
    Ok(names.filter_map(|link| Some(link["ifname"].as_str()?.to_owned())).collect())
}

pub(crate) fn has_link(lab: &Lab, node: &str, name: &str) -> Result<bool> {
    Ok(links(lab, node)?.iter().any(|link| link == name))
}

/// A link's attributes, as `ip -j -d address show` has them.
pub(crate) fn link(lab: &Lab, node: &str, name: &str) -> Result<Value> {
    Ok(ip(lab, node, &["address", "show", "dev", name])?[0].take())
}

/// The addresses of a link with their prefix lengths; link-local ones, which every IPv6 interface
/// makes for itself, left out.
pub(crate) fn addresses(lab: &Lab, node: &str, name: &str) -> Result<BTreeSet<String>> {
    let link = link(lab, node, name)?;
    let all = link["addr_info"].as_array().context("addresses")?.iter();
    let all = all.filter(|address| address["scope"] != "link");
    Ok(all.filter_map(|a| Some(format!("{}/{}", a["local"].as_str()?, a["prefixlen"]))).collect())
}

/// The rules of a host, less what they have counted and the number of the last judgement by security groups.
pub(crate) fn ruleset(lab: &Lab, node: &str) -> Result<String> {
    let listing = lab.exec_ok(node, &["nft", "-s", "list", "ruleset"])?;
    let has_number = |line: &str| line.starts_with("ct mark 0x") || line.starts_with("ct mark set 0x");
    let lines = listing.lines().filter(|line| !has_number(line.trim()));
    Ok(lines.map(|line| format!("{line}\n")).collect())
}

/// What a host has: its links, its addresses and its rules.
pub(crate) fn everything(lab: &Lab, host: &str) -> Result<String> {
    let seen = lab.exec_ok(host, &["ip", "-o", "-br", "address"])?;
    Ok(format!("{seen}{}", ruleset(lab, host)?))
}

/// The process ids of a host's programs of this name, in the lab's numbering.
pub(crate) fn processes(lab: &Lab, host: &str, program: &str) -> Result<Vec<String>> {
    const SCRIPT: &str = r#"for pid in $(ip netns pids "$1"); do
        if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ]; then echo "$pid"; fi; done"#;
    let pids = lab.exec_ok("controller", &["sh", "-c", SCRIPT, "sh", host, program])?;
    Ok(pids.split_whitespace().map(str::to_owned).collect())
}

/// Kills a host's programs of this name.
pub(crate) fn kill(lab: &Lab, host: &str, program: &str) -> Result<()> {
    let pids = processes(lab, host, program)?;
    ensure!(!pids.is_empty(), "no {program} runs on {host}");
    let pids: Vec<&str> = pids.iter().map(String::as_str).collect();
    lab.exec_ok("controller", &[&["kill", "-9"], &pids[..]].concat()).map(drop)
}

pub(crate) fn ping(lab: &Lab, from: &str, to: &str) -> Result<()> {
    lab.exec_ok(from, &["ping", "-c", "1", "-W", "5", to]).map(drop)
}

/// A ping that must find no answer.
pub(crate) fn no_ping(lab: &Lab, from: &str, to: &str) -> Result<()> {
    let output = lab.exec(from, &["ping", "-c", "2", "-i", "0.2", "-W", "1", to])?;
    ensure!(!output.status.success(), "{from} reached {to}");
    Ok(())
}

/// Asserts under which address a guest's pings arrive outside.
pub(crate) fn leaves_as(lab: &Lab, guest: &str, source: &str) -> Result<()> {
    let outside = Watch::start(lab, "outside", "eth0", "icmp[icmptype] == icmp-echo")?;
    ping(lab, guest, INTERNET)?;
    outside.wait_for(&format!("{source} > {INTERNET}")).map(drop)
}

/// Waits until the bridge, its address, the tables and dnsmasq are as they ought to be.
pub(crate) fn wait_until_whole(lab: &Lab) -> Result<()> {
    wait_until_host_is_whole(lab, HOST)
}

/// The same on this host.
pub(crate) fn wait_until_host_is_whole(lab: &Lab, host: &str) -> Result<()> {
    until(&format!("{host} is as asked for"), DEADLINE, || {
        let plan = lab.on_host(host, &["plan"]);
        let quiet = plan.is_ok_and(|plan| plan.trim().is_empty());
        Ok(quiet.then_some(()))
    })
}

/// The last lines of what `ping` says.
pub(crate) fn summary(said: &str) -> String {
    let lines: Vec<&str> = said.lines().rev().take(3).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// How many pings were not answered, by what `ping` says at its end.
pub(crate) fn lost_in(said: &str) -> Result<i64> {
    let counts = said.lines().find(|line| line.contains("packets transmitted")).unwrap_or_default();
    let number = |word: usize| counts.split_whitespace().nth(word).and_then(|n| n.parse::<i64>().ok());
    match (number(0), number(3)) {
        (Some(sent), Some(answered)) => Ok(sent - answered),
        _ => bail!("no counts in {}", summary(said)),
    }
}

/// A ping that goes on until it is asked to stop, and then says what it lost.
pub(crate) struct Pinger(Process);

impl Pinger {
    /// Fifty times a second.
    pub(crate) fn start(lab: &Lab, from: &str, to: &str) -> Result<Self> {
        Self::start_every(lab, "0.02", from, to)
    }

    /// One every so many seconds.
    pub(crate) fn start_every(lab: &Lab, interval: &str, from: &str, to: &str) -> Result<Self> {
        let pinger = Self(lab.spawn(from, &["ping", "-i", interval, to])?);
        pinger.wait_for_more(3)?;
        Ok(pinger)
    }

    /// Waits until so many more have been answered.
    pub(crate) fn wait_for_more(&self, number: usize) -> Result<()> {
        let answers = || Ok::<_, anyhow::Error>(self.0.output()?.matches(" ttl=").count());
        let wanted = answers()? + number;
        let awaited = until("pings are answered", DEADLINE, || Ok((answers()? >= wanted).then_some(())));
        awaited.with_context(|| self.0.output().unwrap_or_default().lines().rev().take(5).collect::<String>())
    }

    /// How many were not answered.
    pub(crate) fn lost(mut self) -> Result<i64> {
        self.0.signal(Signal::SIGINT)?;
        self.0.wait(DEADLINE)?;
        lost_in(&self.0.output()?)
    }

    pub(crate) fn lost_nothing(self) -> Result<()> {
        // The last request may be on its way when the ping is asked to stop.
        let lost = self.lost()?;
        ensure!((0..=1).contains(&lost), "{lost} packets were lost");
        Ok(())
    }
}

/// What passes a device, as tcpdump tells it: a line for each frame, with its Ethernet header.
pub(crate) struct Watch {
    place: String,
    process: Process,
}

impl Watch {
    pub(crate) fn start(lab: &Lab, node: &str, device: &str, filter: &str) -> Result<Self> {
        Self::start_with(lab, node, device, &[filter])
    }

    /// The same with further words for tcpdump.
    pub(crate) fn start_with(lab: &Lab, node: &str, device: &str, words: &[&str]) -> Result<Self> {
        let argv = ["tcpdump", "-n", "-e", "-l", "--immediate-mode", "-i", device];
        let process = lab.spawn(node, &[&argv[..], words].concat())?;
        until("tcpdump listens", DEADLINE, || Ok(process.output()?.contains("listening").then_some(())))?;
        Ok(Self { place: format!("{device} of {node}"), process })
    }

    /// The frames so far.
    pub(crate) fn frames(&self) -> Result<Vec<String>> {
        let told = self.process.output()?;
        let whole = told.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        Ok(whole.filter(|line| line.contains(" > ")).map(|line| line.trim().to_owned()).collect())
    }

    /// Waits for a frame with this in it; gives all there were until then.
    pub(crate) fn wait_for(&self, mark: &str) -> Result<Vec<String>> {
        let awaited = until(&format!("`{mark}` passes {}", self.place), DEADLINE, || {
            let frames = self.frames()?;
            Ok(frames.iter().any(|frame| frame.contains(mark)).then_some(frames))
        });
        awaited.with_context(|| self.frames().unwrap_or_default().join("\n"))
    }

    /// Where it watches.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }
}
