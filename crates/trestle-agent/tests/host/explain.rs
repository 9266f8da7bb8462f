//! What `explain` says of packets, against what the kernel does with them: random rules, and packets
//! between guests, their host, the outside and a floating IP.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use trestle_core::explain::{
    Explanation, Outcome, OwnAddresses, Packet, Problem, Sender, StageKind, explain,
};
use trestle_core::types::{Family, IcmpType, IpProtocol};
use trestle_core::world::{Attachment, FloatingIp, Interface, Ipv6Mode, Plug, Rule, Target, World};

use crate::bench::{Bench, Namespace, dual_interface, dual_world, in_namespace, sh, without_dnsmasq};
use crate::cloud::rules::{Held, OTHER_PROTOCOL, addresses, held, other_address, rules, security};
use crate::cloud::{self, group, link_name, spec};

const WORLDS: usize = 12;
const GUESTS: [u8; 3] = [1, 2, 3];
const FLOATING: &str = "203.0.113.20";
const OUTSIDE: &str = "198.51.100.7";
/// What the host has for itself.
const OWN: &str = "198.51.100.1";
/// Longer than the test takes, from when it begins.
const HOUR: i64 = 3600;

/// What is random about a world.
#[derive(Clone, Debug)]
struct Case {
    held: [Held; 3],
    rules: Vec<(u8, Rule)>,
    addresses: u8,
}

fn case(now: i64) -> impl Strategy<Value = Case> {
    let held = [held(), held(), held()];
    (held, rules(1, [now - HOUR, now + HOUR]), any::<u8>()).prop_map(|(held, rules, addresses)| Case {
        held,
        rules,
        addresses,
    })
}

impl Case {
    /// Network 1 with three guests, of which the first has a floating IP.
    fn world(&self, guests: &[Namespace]) -> World {
        let mut world = dual_world(Ipv6Mode::Dhcpv6, &[(1, 1)]);
        for number in 1..=3 {
            let rules = self.rules.iter().filter(|(of, _)| *of == number).map(|(_, rule)| rule.clone());
            world.put_security_group(group(number, rules.collect()));
        }
        world.put_address_group(addresses(1, self.addresses));
        for ((number, held), guest) in GUESTS.into_iter().zip(self.held).zip(guests) {
            let plug = Plug::Veth { netns: guest.path(), name: link_name("eth0") };
            let attachment = Some(Attachment { host: cloud::HOST, plug });
            let interface = dual_interface(Ipv6Mode::Dhcpv6, number);
            world.put_interface(Interface { attachment, security: security(1, number, held), ..interface });
        }
        let first = dual_interface(Ipv6Mode::Dhcpv6, 1);
        let target = Some(Target { interface: first.id, fixed: first.addresses[0] });
        let address = address(FLOATING);
        world.put_floating_ip(FloatingIp { address, device: None, target, forwards: vec![] });
        world
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A packet that is really sent.
#[derive(Clone, Debug)]
struct Probe {
    /// Where from: a guest by its number, or `outside`.
    place: String,
    source: IpAddr,
    packet: Packet,
    /// Whom it is for.
    goal: String,
}

impl Probe {
    /// Where it arrives by what is said of it.
    fn goal(&self, said: &Explanation) -> Option<String> {
        let comes_to_host = said.stages.last().is_some_and(|stage| stage.kind == StageKind::Host);
        let goal = if comes_to_host { "host".to_owned() } else { self.goal.clone() };
        (said.outcome == Outcome::Passes).then_some(goal)
    }

    /// A line for `probes.py`.
    fn line(&self, number: usize) -> String {
        let Packet { to, protocol, port, icmp, .. } = self.packet;
        let (port, kind) = (port.unwrap_or(0), icmp.map_or(0, |icmp| icmp.number));
        format!("{number} {} {} {to} {} {port} {kind}\n", self.place, self.source, protocol.number())
    }
}

/// An end of packets: its name, who it is, and its addresses.
struct End {
    name: String,
    sender: Option<Sender>,
    addresses: Vec<IpAddr>,
}

fn ends() -> Vec<End> {
    let guests = GUESTS.map(|number| {
        let interface = dual_interface(Ipv6Mode::Dhcpv6, number);
        let other = address(&other_address(1, number));
        let addresses = interface.addresses.into_iter().chain([other]).collect();
        End { name: number.to_string(), sender: Some(Sender::Interface(interface.id, None)), addresses }
    });
    let outside = address(OUTSIDE);
    let host = ["10.0.1.1", "fd00:1::1", OWN].map(address);
    let others = [
        ("host", Some(Sender::Host(cloud::HOST, host[0])), host.into()),
        ("outside", Some(Sender::Outside(outside)), vec![outside]),
        // It leads to the first guest, under whose name what is sent to it arrives.
        ("1", None, vec![address(FLOATING)]),
    ];
    let others = others.map(|(name, sender, addresses)| End { name: name.to_owned(), sender, addresses });
    guests.into_iter().chain(others).collect()
}

/// Packets of every kind from every end to every other one.
fn probes() -> Vec<Probe> {
    let ends = ends();
    let mut probes = Vec::new();
    for from in ends.iter().filter(|end| end.sender.is_some()) {
        for to in ends.iter().filter(|to| to.name != from.name) {
            for (source, destination) in pairs(from, to) {
                let is_apart = from.name < to.name && to.name != "outside";
                probes.extend(packets(from, source, destination, is_apart).map(|packet| Probe {
                    place: from.name.clone(),
                    source,
                    packet,
                    goal: to.name.clone(),
                }));
            }
        }
    }
    probes
}

fn pairs(from: &End, to: &End) -> Vec<(IpAddr, IpAddr)> {
    let of = |source: &IpAddr| {
        let source = *source;
        let fits = move |to: &&IpAddr| to.is_ipv4() == source.is_ipv4();
        to.addresses.iter().filter(fits).map(move |to| (source, *to)).collect::<Vec<_>>()
    };
    from.addresses.iter().flat_map(of).collect()
}

/// What has no ports can be sent one way only, and by one only under the host's address: else one is taken for
/// an answer to another.
fn packets(from: &End, source: IpAddr, to: IpAddr, is_apart: bool) -> impl Iterator<Item = Packet> + use<> {
    let (icmp, kinds) = match Family::of(to) {
        Family::Ipv4 => (IpProtocol::ICMP, vec![8, 13, 0, 3]),
        Family::Ipv6 => (IpProtocol::ICMPV6, vec![128, 129, 1]),
    };
    let ports = [22, 53, 85].into_iter();
    let ports = ports.flat_map(|port| [IpProtocol::TCP, IpProtocol::UDP].map(|of| (of, Some(port), None)));
    let kinds = kinds.into_iter().map(move |number| (icmp, None, Some(IcmpType { number, code: None })));
    let other = (IpProtocol::new(OTHER_PROTOCOL).unwrap(), None, None);
    let from = match from.sender.unwrap() {
        Sender::Interface(id, _) => Sender::Interface(id, Some(source)),
        Sender::Host(id, _) => Sender::Host(id, source),
        outside @ Sender::Outside(_) => outside,
    };
    let all = ports.chain(kinds).chain([other].into_iter().filter(move |_| is_apart));
    all.map(move |(protocol, port, icmp)| Packet { from, to, protocol, port, icmp })
}

/// Makes the guests' addresses, and what is outside.
fn furnish(bench: &Bench, guests: &[Namespace]) {
    for (number, guest) in GUESTS.into_iter().zip(guests) {
        let [ipv4, ipv6]: [IpAddr; 2] =
            dual_interface(Ipv6Mode::Dhcpv6, number).addresses.try_into().unwrap();
        guest.sh(&format!(
            "ip address add {ipv4}/24 dev eth0; ip address add {ipv6}/64 dev eth0 nodad; \
             ip address add {}/24 dev eth0; ip route add default via 10.0.1.1",
            other_address(1, number)
        ));
    }
    sh(&format!("ip address add {OWN}/24 dev eth0"));
    bench.peer.sh(&format!(
        "ip address add {OUTSIDE}/24 dev peer0; ip route add 203.0.113.0/24 via 198.51.100.1; \
         ip route add 10.0.1.0/24 via 198.51.100.1"
    ));
}

/// Sends them all and gives where each arrived.
fn send(
    bench: &Bench,
    guests: &[Namespace],
    probes: &[Probe],
    first: usize,
) -> BTreeMap<usize, BTreeSet<String>> {
    let mut command = Command::new("python3");
    command.args([
        "-c",
        include_str!("probes.py"),
        "host",
        "/proc/self/ns/net",
        "outside",
        &bench.peer.path(),
    ]);
    for (number, guest) in GUESTS.into_iter().zip(guests) {
        command.args([number.to_string(), guest.path()]);
    }
    let mut sender = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let lines: String = (first..).zip(probes).map(|(number, probe)| probe.line(number)).collect();
    sender.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = sender.wait_with_output().unwrap();
    assert!(output.status.success(), "the packets could not be sent");
    let mut arrived: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let (number, place) = line.split_once(' ').unwrap();
        arrived.entry(number.parse().unwrap()).or_default().insert(place.to_owned());
    }
    arrived
}

#[test]
fn what_is_explained_is_what_the_kernel_does() {
    in_namespace(|bench| async move {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let now = i64::try_from(now).unwrap();
        let guests: Vec<Namespace> = GUESTS.map(|_| Namespace::new()).into();
        let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let own = OwnAddresses::from([(cloud::HOST, [address(OWN)].into())]);
        let (probes, mut seen, mut differ) = (probes(), [0, 0], Vec::new());
        for which in 0..WORLDS {
            let case = case(now).new_tree(&mut runner).unwrap().current();
            let world = case.world(&guests);
            bench.converge(&without_dnsmasq(spec(&world))).await;
            if which == 0 {
                furnish(&bench, &guests);
            }
            // Nothing is remembered of the world before: neither connections nor who had which address.
            sh("conntrack -F 2>/dev/null; ip neigh flush dev br101");
            // No number twice: a connection is known by its ports.
            let first = 10_000 + which * probes.len();
            let arrived = send(&bench, &guests, &probes, first);
            for (number, probe) in (first..).zip(&probes) {
                let said = explain(&world, &own, &probe.packet, now);
                if let Outcome::Unknown(problem) = &said.outcome {
                    assert!(matches!(problem, Problem::Unguarded { .. }), "{problem}");
                    continue;
                }
                let goals = arrived.get(&number).cloned().unwrap_or_default();
                let wanted = probe.goal(&said).into_iter().collect();
                seen[usize::from(said.outcome == Outcome::Passes)] += 1;
                if goals != wanted {
                    differ
                        .push(format!("world {which}: {probe:?} arrives at {goals:?}\n{said:#?}\n{case:#?}"));
                }
            }
        }
        assert!(
            differ.is_empty(),
            "{} of {} differ, such as {}",
            differ.len(),
            WORLDS * probes.len(),
            differ[0]
        );
        assert!(seen.into_iter().all(|count| count > 100), "packets that pass and that do not: {seen:?}");
    });
}
