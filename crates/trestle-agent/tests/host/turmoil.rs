//! Rules change under traffic, and things go wrong meanwhile: nothing passes that neither the rules before
//! nor those after allow.

use std::fs::File;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use trestle_agent::host::Host;
use trestle_core::spec::HostSpec;
use trestle_core::types::{Direction, IpProtocol};
use trestle_core::world::{Remote, Traffic, World};

use crate::bench::{Bench, in_namespace, sh, wait_until, without_dnsmasq};
use crate::cloud::{group, rule, spec};
use crate::groups::{Guest, apply, world};

const PORTS: [u16; 2] = [20001, 20002];
const TURNS: u64 = 40;

/// A packet: its port, and between which moments it was on its way through the host.
#[derive(Clone, Copy, Debug)]
struct Sent {
    port: u16,
    before: Instant,
    after: Instant,
}

/// Which ports were allowed from when to when, changes included: the first while the rules before may hold,
/// the second while those after may.
#[derive(Clone, Copy, Debug)]
struct Turn {
    allowed: [bool; 2],
    begun: Instant,
    done: Instant,
}

/// Runs in a namespace of its own until it is told to stop.
fn spawn<T: Send + 'static>(namespace: &str, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let namespace = File::open(namespace).unwrap();
    std::thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        work()
    })
}

/// Sends to both ports all the while, each packet with its number.
fn send(guest: &Guest, to: String, stop: Arc<AtomicBool>) -> JoinHandle<Vec<Sent>> {
    spawn(&guest.namespace.path(), move || {
        let sockets = PORTS.map(|port| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect((to.as_str(), port)).unwrap();
            (socket, port)
        });
        let mut all = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            for (socket, port) in &sockets {
                let before = Instant::now();
                // A port that nobody listens on yet, or a neighbour that is not found yet, is no matter.
                let _ = socket.send(&u64::try_from(all.len()).unwrap().to_be_bytes());
                all.push(Sent { port: *port, before, after: Instant::now() });
            }
            std::thread::sleep(Duration::from_micros(300));
        }
        all
    })
}

/// Notes the numbers of the packets that come.
fn receive(guest: &Guest, port: u16, came: Arc<Mutex<Vec<usize>>>) {
    spawn(&guest.namespace.path(), move || {
        let socket = UdpSocket::bind(("0.0.0.0", port)).unwrap();
        let mut number = [0; 8];
        while socket.recv(&mut number).is_ok() {
            came.lock().unwrap().push(usize::try_from(u64::from_be_bytes(number)).unwrap());
        }
    });
}

fn put_rules(world: &mut World, allowed: [bool; 2]) {
    let rules = PORTS.into_iter().zip(allowed).zip(10..).filter(|((_, allowed), _)| *allowed);
    let rules = rules.map(|((port, _), number)| {
        let traffic = Traffic::Ports(IpProtocol::UDP, port.to_string().parse().unwrap());
        rule(number, Direction::Ingress, traffic, Remote::Any)
    });
    world.put_security_group(group(3, rules.collect()));
}

/// Somebody else takes rules away, before what is wanted is done or after it.
async fn apply_with_faults(bench: &Bench, wanted: &HostSpec, dice: u64) {
    if dice & 8 == 8 {
        bench.converge(wanted).await;
    }
    let fault = match dice % 5 {
        0 => Some("nft flush chain inet trestle_groups stamp"),
        1 => Some("nft flush chain inet trestle_groups to_3"),
        _ => None,
    };
    if let Some(fault) = fault {
        sh(fault);
        // Nobody passes until it is put right, which begins when it is noticed. Of a chain that is empty already
        // there is nothing to notice.
        let noticed = bench.host.changed();
        let _ = tokio::time::timeout(std::time::Duration::from_millis(300), noticed).await;
    }
    bench.converge(wanted).await;
}

#[test]
fn nothing_passes_that_neither_the_rules_before_nor_after_allow() {
    in_namespace(|bench| async move {
        let mut world = world();
        let everything = rule(3, Direction::Egress, Traffic::Any, Remote::Any);
        world.put_security_group(group(2, vec![everything]));
        put_rules(&mut world, [true, true]);
        let (sender, receiver) = (Guest::new(&mut world, 1, &[2]), Guest::new(&mut world, 2, &[3]));
        apply(&bench, &world).await;
        [&sender, &receiver].iter().for_each(|guest| guest.begin());
        let came = Arc::new(Mutex::new(Vec::new()));
        PORTS.into_iter().for_each(|port| receive(&receiver, port, came.clone()));
        let mut turns = vec![Turn { allowed: [true; 2], begun: Instant::now(), done: Instant::now() }];
        let stop = Arc::new(AtomicBool::new(false));
        let sending = send(&sender, receiver.addresses()[0].clone(), stop.clone());
        wait_until("it arrives", || came.lock().unwrap().len() > 10);

        let mut dice = 0x2545_f491_4f6c_dd1d_u64;
        for _ in 0..TURNS {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let allowed = [dice >> 40 & 1 == 1, dice >> 41 & 1 == 1];
            put_rules(&mut world, allowed);
            let begun = Instant::now();
            apply_with_faults(&bench, &without_dnsmasq(spec(&world)), dice >> 42).await;
            turns.push(Turn { allowed, begun, done: Instant::now() });
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stop.store(true, Ordering::Relaxed);
        let sent = sending.join().unwrap();
        let came = came.lock().unwrap().clone();
        for number in &came {
            assert!(may_pass(&sent[*number], &turns), "{:?} passed in {turns:#?}", sent[*number]);
        }
        let passed = |turn: usize, port: u16| {
            let until = turns.get(turn + 1).map_or_else(Instant::now, |next| next.begun);
            let within = |sent: &Sent| sent.before > turns[turn].done && sent.after < until;
            came.iter().any(|number| sent[*number].port == port && within(&sent[*number]))
        };
        let cut_off: Vec<_> = (1..turns.len())
            .flat_map(|turn| PORTS.map(|port| (turn, port)))
            .filter(|(turn, port)| {
                turns[*turn].allowed[usize::from(*port == PORTS[1])] && !passed(*turn, *port)
            })
            .collect();
        assert_eq!(cut_off, [], "what is allowed goes on");
    });
}

/// Whether any rules that may have held while the packet was on its way allow it.
fn may_pass(sent: &Sent, turns: &[Turn]) -> bool {
    let which = usize::from(sent.port == PORTS[1]);
    turns.iter().enumerate().any(|(number, turn)| {
        let ends = turns.get(number + 1).map(|next| next.done);
        turn.allowed[which] && turn.begun <= sent.after && ends.is_none_or(|ends| sent.before <= ends)
    })
}
