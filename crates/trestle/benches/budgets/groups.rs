//! Security groups: what a packet pays for guard, groups and many neighbours, and what one more member costs.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use trestle_api::{InterfacePatch, NewSecurityGroup, NewSecurityGroupRule};
use trestle_lab::{Lab, Process, Topology, until};

use crate::attach::{DEADLINE, create, fill};
use crate::floating::{SECONDS, received};
use crate::times::{Times, head};
use crate::{HOST, NETWORK, cloud};

const GROUPS: usize = 10;
const RULES: usize = 50;
const INSTANCES: usize = 1000;
const RUNS: usize = 40;
const ROUNDS: usize = 7;
const ECHO: &str = "9000";
/// Both ends of a conversation: else it depends on luck whether one wakes up the other elsewhere, which costs
/// twice as much as all the rest.
const ON_ONE_CORE: [&str; 3] = ["taskset", "-c", "0"];

/// Asks and is answered 18 bytes at a time over one connection, and says how often a second.
pub(crate) fn converse(address: &str) -> Result<()> {
    let mut stream = TcpStream::connect((address, ECHO.parse::<u16>()?))?;
    stream.set_nodelay(true)?;
    let (started, mut turns, mut heard) = (Instant::now(), 0_u64, [0; 18]);
    while started.elapsed() < SECONDS {
        stream.write_all(&[b'x'; 18])?;
        stream.read_exact(&mut heard)?;
        turns += 1;
    }
    println!("{turns} {}", started.elapsed().as_micros());
    Ok(())
}

pub(crate) fn run() -> Result<()> {
    let lab = cloud(&Topology::for_test(1))?;
    let guests = make(&lab)?;
    let _echo = guests.iter().map(|guest| echo(&lab, guest)).collect::<Result<Vec<_>>>()?;
    fill(&lab, guests.len(), INSTANCES)?;
    head("one more member of a group that all instances refer to");
    members(&lab)?;
    forwarding(&lab, &guests)
}

/// Each way is taken in turn, several times: the machine's speed drifts, and what is compared must have had the
/// same of it.
fn forwarding(lab: &Lab, guests: &[String]) -> Result<()> {
    // From here on the agent must not mend what is changed by hand.
    lab.agent(HOST)?.kill9()?;
    let own = lab.folder().join("rules");
    std::fs::write(&own, lab.exec_ok(HOST, &["nft", "list", "ruleset"])?)?;
    let own = own.to_string_lossy();
    let many = format!("guard, {GROUPS} groups of {RULES} rules, {INSTANCES} instances");
    // What anybody pays who asks which connection a packet belongs to, whatever comes of it.
    let follow = "nft 'add table inet follow; \
                  add chain inet follow forward { type filter hook forward priority filter; }; \
                  add rule inet follow forward ct state established,related accept'";
    let load = format!("nft -f {own}");
    let bare = "ip link set br100 type bridge nf_call_iptables 0 nf_call_ip6tables 0";
    let ways = [
        ("no rules", "true"),
        (&many, &load),
        ("one rule that asks for established connections", follow),
        ("no rules, and bridged packets not handed to any filter", bare),
    ];
    let mut rates = vec![Vec::new(); ways.len()];
    for _ in 0..ROUNDS {
        for ((_, way), rates) in ways.iter().zip(&mut rates) {
            lab.exec_ok(HOST, &["nft", "flush", "ruleset"])?;
            let filtered = "ip link set br100 type bridge nf_call_iptables 1 nf_call_ip6tables 1";
            lab.exec_ok(HOST, &["sh", "-c", &format!("{filtered}; {way}")])?;
            rates.push(measure(lab, guests)?);
        }
    }
    println!("\n### 64-byte frames between two guests on one bridge, and to a guest through the gateway\n");
    println!(
        "| what is in the way | UDP on the bridge, packets/s | TCP, turns/s | UDP routed, packets/s |\n|---|---|---|---|"
    );
    let middle: Vec<[f64; 3]> = rates.iter().map(|rates| middle(rates)).collect();
    for ((what, _), rates) in ways.iter().zip(&middle) {
        let share = |kind: usize| rates[kind] / middle[0][kind] * 100.0;
        let cells = [0, 1, 2].map(|kind| format!("{:.0} ({:.0} %)", rates[kind], share(kind)));
        println!("| {what} | {} |", cells.join(" | "));
    }
    Ok(())
}

/// The median of each kind.
fn middle(rates: &[[f64; 3]]) -> [f64; 3] {
    [0, 1, 2].map(|kind| {
        let mut of_kind: Vec<f64> = rates.iter().map(|rates| rates[kind]).collect();
        of_kind.sort_by(f64::total_cmp);
        of_kind[of_kind.len() / 2]
    })
}

/// Two guests in all the groups, which let in what is measured by their last rule.
fn make(lab: &Lab) -> Result<Vec<String>> {
    let client = lab.client()?;
    let mut names = Vec::new();
    for number in 0..GROUPS {
        let name = format!("group{number}");
        let new = NewSecurityGroup {
            name: name.clone(),
            project: Some("demo".to_owned()),
            ..NewSecurityGroup::default()
        };
        lab.ask(client.create_security_group(&new))?;
        for port in 0..RULES {
            let rule = NewSecurityGroupRule {
                direction: "ingress".to_owned(),
                protocol: Some("tcp".to_owned()),
                ports: Some((20_000 + number * RULES + port).to_string()),
                remote_group: Some(name.clone()),
                ..NewSecurityGroupRule::default()
            };
            lab.ask(client.add_security_group_rule(&name, Some("demo"), &rule))?;
        }
        names.push(name);
    }
    names.push("default".to_owned());
    let mut guests = Vec::new();
    for number in 0..2 {
        let instance = format!("vm{number}");
        create(lab, &instance)?;
        let patch = InterfacePatch { security_groups: Some(names.clone()), ..InterfacePatch::default() };
        lab.ask(client.patch_interface(&instance, Some("demo"), NETWORK, &patch))?;
        guests.push(lab.guest_netns(HOST, &instance, NETWORK)?.node);
    }
    Ok(guests)
}

fn echo(lab: &Lab, guest: &str) -> Result<Process> {
    let server =
        lab.spawn(guest, &[&ON_ONE_CORE[..], &["busybox", "nc", "-ll", "-p", ECHO, "-e", "cat"]].concat())?;
    until("it listens", DEADLINE, || {
        let listening = lab.exec_ok(guest, &["ss", "-Hltn", &format!("sport = :{ECHO}")])?;
        Ok((!listening.is_empty()).then_some(()))
    })?;
    Ok(server)
}

/// A guest joins a group that rules of all the others name: from the call until the host has it, and what of
/// that the host takes from when it gets to know of it. `vm3` is in one of the groups already, together with the one
/// that all are in; nobody is in the other one with it, so that the host gets chains for it.
fn members(lab: &Lab) -> Result<()> {
    hold(lab, "vm3", "group0")?;
    for (group, what) in [("group0", "one more"), ("group1", "the first")] {
        let (mut called, mut applied) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            hold(lab, "vm2", "default")?;
            let started = Instant::now();
            hold(lab, "vm2", group)?;
            called.push(started.elapsed());
            applied.push(last_round(lab)?);
        }
        let what = format!("{what} of its groups on the host, of {INSTANCES}");
        println!("{}", Times::new(called).row(&format!("{what}, from the call on")));
        println!("{}", Times::new(applied).row(&format!("{what}, on the host alone")));
    }
    Ok(())
}

/// Has an instance in `default` and in this group.
fn hold(lab: &Lab, instance: &str, group: &str) -> Result<()> {
    let groups = BTreeSet::from(["default".to_owned(), group.to_owned()]);
    let patch =
        InterfacePatch { security_groups: Some(groups.into_iter().collect()), ..InterfacePatch::default() };
    lab.ask(lab.client()?.patch_interface(instance, Some("demo"), NETWORK, &patch)).map(drop)
}

/// What the host took over the last update, as its agent says.
fn last_round(lab: &Lab) -> Result<Duration> {
    let log = std::fs::read_to_string(lab.agent(HOST)?.log())?;
    let line = log.lines().rev().find(|line| line.contains("saw to what changed"));
    let line = line.context("the agent does not tell what it takes: is TRESTLE_LOG set?")?;
    let milliseconds = line.split("duration_ms=").nth(1).and_then(|rest| rest.split_whitespace().next());
    Ok(Duration::from_secs_f64(milliseconds.context("a time")?.parse::<f64>()? / 1e3))
}

/// UDP on the bridge, TCP there, UDP through the gateway: packets, or turns, in a second.
fn measure(lab: &Lab, guests: &[String]) -> Result<[f64; 3]> {
    let address = |guest: &str| -> Result<String> {
        let listed = lab.exec_ok(guest, &["ip", "-4", "-o", "address", "show", "dev", "eth0"])?;
        let net = listed.split_whitespace().nth(3).context("an address")?;
        Ok(net.split('/').next().unwrap_or_default().to_owned())
    };
    let [from, to] = guests else { unreachable!("two guests") };
    let to_address = address(to)?;
    let bridged = udp(lab, from, to, &to_address)?;
    let turns = said(lab, from, &["converse", &to_address])?;
    lab.exec_ok("outside", &["ip", "route", "replace", "10.0.0.0/16", "via", "203.0.113.11"])?;
    Ok([bridged, turns, udp(lab, "outside", to, &to_address)?])
}

/// Packets that came, in a second.
fn udp(lab: &Lab, from: &str, to: &str, address: &str) -> Result<f64> {
    let before = received(lab, to)?;
    let program = std::env::current_exe()?;
    let output = lab.exec_ok(from, &[&program.to_string_lossy(), "blast", address, "one"])?;
    let micros: f64 = output.split_whitespace().nth(1).context("how long it took")?.parse()?;
    let came = received(lab, to)? - before;
    ensure!(came > 0, "nothing came from {from} to {address}");
    Ok(came as f64 / micros * 1e6)
}

/// How much of something there was in a second, as the program says in the namespace of a guest.
fn said(lab: &Lab, from: &str, arguments: &[&str]) -> Result<f64> {
    let program = std::env::current_exe()?.to_string_lossy().into_owned();
    let output = lab.exec_ok(from, &[&ON_ONE_CORE[..], &[program.as_str()], arguments].concat())?;
    let mut numbers = output.split_whitespace().map(str::parse::<f64>);
    let (count, micros) = (numbers.next().context("a count")??, numbers.next().context("a time")??);
    Ok(count / (micros / 1e6))
}
