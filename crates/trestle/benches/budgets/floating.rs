//! Floating IPs: from the call to the first answered packet, and what thousands of them cost a packet.
//!
//! What the original wrote, a rule for each address one after the other, is made by hand beside it: with
//! nft, which is what iptables of Debian 12 speaks to the kernel, too.

use std::fmt::Write;
use std::net::UdpSocket;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use trestle_api::{FloatingIpAssociation, NewFloatingIp, NewPool, ProjectPatch};
use trestle_lab::{Lab, Process, Topology, until};

use crate::attach::{DEADLINE, create};
use crate::times::{Times, head};
use crate::{HOST, NETWORK, cloud};

const RUNS: usize = 40;
const FEW: usize = 10;
const MANY: usize = 5000;
const GUESTS: usize = 10;
/// Of the public segment, whose other end is the lab's outside.
const POOL: &str = "203.0.128.1-203.0.159.254";
/// A frame of 64 bytes: headers and checksum take 46.
const PAYLOAD: [u8; 18] = [0; 18];
/// What is sent for one rate.
pub(crate) const SECONDS: Duration = Duration::from_secs(1);
const NEW_FLOWS: u16 = 20_000;

/// Sends as fast as it can and says how many it sent, and in how many microseconds: `one`, in one flow,
/// or `many`, each packet in a new one. It is run in the lab's `outside`.
pub(crate) fn blast(address: &str, how: &str) -> Result<()> {
    let started = Instant::now();
    let mut sent = 0_u64;
    if how == "one" {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect((address, 9))?;
        while started.elapsed() < SECONDS {
            for _ in 0..256 {
                sent += u64::from(socket.send(&PAYLOAD).is_ok());
            }
        }
    } else {
        for port in 0..NEW_FLOWS {
            let socket = UdpSocket::bind(("0.0.0.0", 20_000 + port))?;
            sent += u64::from(socket.send_to(&PAYLOAD, (address, 9)).is_ok());
        }
    }
    println!("{sent} {}", started.elapsed().as_micros());
    Ok(())
}

pub(crate) fn run() -> Result<()> {
    let lab = cloud(&Topology::for_test(1))?;
    let client = lab.client()?;
    let no_limit = ProjectPatch { floating_ips: Some(-1), ..ProjectPatch::default() };
    lab.ask(client.patch_project("demo", &no_limit))?;
    let pool = NewPool { name: "ext".to_owned(), interface: None, ranges: vec![POOL.to_owned()] };
    lab.ask(client.create_pool(&pool))?;
    // The whole pool is on the wire, as with a provider that routes it there.
    lab.exec_ok("outside", &["ip", "route", "add", "203.0.128.0/19", "dev", "eth0"])?;
    let mut guests = Vec::new();
    for number in 0..GUESTS {
        create(&lab, &format!("vm{number}"))?;
        guests.push(lab.guest_netns(HOST, &format!("vm{number}"), NETWORK)?.node);
    }
    let probe = reserve(&lab)?;
    head("a floating IP, from the call to the first answered packet");
    let mut there = 0;
    for count in [FEW, MANY] {
        fill(&lab, there, count)?;
        there = count;
        latencies(&lab, &probe, count)?;
    }
    rates(&lab, &probe, &guests[0])
}

fn reserve(lab: &Lab) -> Result<String> {
    let new = NewFloatingIp {
        pool: Some("ext".to_owned()),
        project: Some("demo".to_owned()),
        ..NewFloatingIp::default()
    };
    Ok(lab.ask(lab.client()?.reserve_floating_ip(&new))?.address.to_string())
}

fn associate(lab: &Lab, address: &str, instance: usize) -> Result<()> {
    let to = FloatingIpAssociation { instance: format!("vm{instance}"), fixed_ip: None, r#move: true };
    lab.ask(lab.client()?.associate_floating_ip(address, &to)).map(drop)
}

/// So many lead to the guests, in turn.
fn fill(lab: &Lab, from: usize, to: usize) -> Result<()> {
    for number in from..to {
        associate(lab, &reserve(lab)?, number % GUESTS)?;
    }
    Ok(())
}

fn latencies(lab: &Lab, probe: &str, count: usize) -> Result<()> {
    let client = lab.client()?;
    let (mut associated, mut moved) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let pinger = Pinger::start(lab, probe)?;
        let started = SystemTime::now();
        associate(lab, probe, 0)?;
        associated.push(pinger.first_answer(started)?);
        let pinger = Pinger::start(lab, probe)?;
        // On one host nothing but where it leads to changes: it answers all the while.
        let started = Instant::now();
        associate(lab, probe, 1)?;
        moved.push(started.elapsed());
        drop(pinger);
        lab.ask(client.disassociate_floating_ip(probe))?;
    }
    println!("{}", Times::new(associated).row(&format!("associate, with {count} others on the host")));
    println!(
        "{}",
        Times::new(moved)
            .row(&format!("move to another instance there, until the host has it, with {count}"))
    );
    Ok(())
}

/// A ping that asks all the while whether somebody answers.
struct Pinger(Process);

impl Pinger {
    fn start(lab: &Lab, to: &str) -> Result<Self> {
        Ok(Self(lab.spawn("outside", &["ping", "-D", "-i", "0.002", to])?))
    }

    /// How long after this time the first answer came.
    fn first_answer(&self, since: SystemTime) -> Result<Duration> {
        let since = since.duration_since(UNIX_EPOCH)?.as_secs_f64();
        let time = |line: &str| line.strip_prefix('[')?.split(']').next()?.parse::<f64>().ok();
        let answered = until("it answers", DEADLINE, || {
            let said = self.0.output()?;
            let answers = said.lines().filter(|line| line.contains(" ttl=")).filter_map(time);
            Ok(answers.into_iter().find(|at| *at > since))
        })?;
        Duration::try_from_secs_f64(answered - since).context("a time that goes backwards")
    }
}

fn rates(lab: &Lab, probe: &str, guest: &str) -> Result<()> {
    println!("\n### UDP of 64-byte frames from outside to a guest, with one core sending\n");
    println!("| what is in the way | packets per second in one flow | new flows per second |\n|---|---|---|");
    associate(lab, probe, 0)?;
    rate(lab, probe, guest, &format!("{MANY} floating IPs"))?;
    // From here on the agent must not mend what is changed by hand.
    lab.agent(HOST)?.kill9()?;
    let fixed = lab.exec_ok(guest, &["ip", "-4", "-o", "address", "show", "dev", "eth0"])?;
    let fixed =
        fixed.split_whitespace().nth(3).and_then(|net| net.split('/').next()).context("an address")?;
    nft(lab, "flush ruleset")?;
    nft(lab, &linear(probe, fixed, 0))?;
    rate(lab, probe, guest, "none: one rule for the one that is asked")?;
    nft(lab, "flush ruleset")?;
    nft(lab, &linear(probe, fixed, MANY))?;
    rate(lab, probe, guest, &format!("{MANY} in rules one after the other, as the original wrote them"))
}

fn nft(lab: &Lab, commands: &str) -> Result<()> {
    let path = lab.folder().join("rules.nft");
    std::fs::write(&path, commands)?;
    lab.exec_ok(HOST, &["nft", "-f", &path.to_string_lossy()]).map(drop)
}

/// The rules of reference LX-40 for so many addresses, and for this one behind them.
fn linear(address: &str, fixed: &str, others: usize) -> String {
    let mut text = String::from(
        "table ip linear {\nchain prerouting { type nat hook prerouting priority -100; }\n\
         chain postrouting { type nat hook postrouting priority 100; }\n}\n",
    );
    let other = |number: usize| {
        (
            format!("100.64.{}.{}", number / 250, number % 250 + 1),
            format!("10.9.{}.{}", number / 250, number % 250 + 1),
        )
    };
    let all = (0..others).map(other).chain([(address.to_owned(), fixed.to_owned())]);
    for (floating, fixed) in all {
        let _ = writeln!(
            text,
            "add rule ip linear prerouting ip daddr {floating} dnat to {fixed}\n\
             add rule ip linear postrouting ip saddr {fixed} ip daddr {fixed} snat to {floating}\n\
             add rule ip linear postrouting ip saddr {fixed} oifname \"eth0\" snat to {floating}\n\
             add rule ip linear postrouting ip saddr {fixed} ct status dnat snat to {floating}"
        );
    }
    text
}

fn rate(lab: &Lab, address: &str, guest: &str, what: &str) -> Result<()> {
    let mut per_second = Vec::new();
    for how in ["one", "many"] {
        // Flows of the run before would be known already.
        lab.exec(HOST, &["conntrack", "-F"])?;
        let before = received(lab, guest)?;
        let exe = std::env::current_exe()?;
        let said = lab.exec_ok("outside", &[&*exe.to_string_lossy(), "blast", address, how])?;
        let mut numbers = said.split_whitespace().filter_map(|number| number.parse::<f64>().ok());
        let (sent, micros) = numbers.next().zip(numbers.next()).with_context(|| said.clone())?;
        let arrived = (received(lab, guest)? - before) as f64;
        ensure!(arrived > sent / 2.0, "of {sent} sent {arrived} arrived");
        per_second.push(arrived / micros * 1e6);
    }
    println!("| {what} | {:.0} | {:.0} |", per_second[0], per_second[1]);
    Ok(())
}

pub(crate) fn received(lab: &Lab, guest: &str) -> Result<u64> {
    let said = lab.exec_ok(guest, &["ip", "-s", "-j", "link", "show", "dev", "eth0"])?;
    let link: serde_json::Value = serde_json::from_str(&said)?;
    link[0]["stats64"]["rx"]["packets"].as_u64().context("a count of packets")
}
