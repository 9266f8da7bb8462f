//! What a guest may try with frames of its own making against its neighbours, its gateway, its host and
//! other hosts. Every attack is shown to reach its victim where the guard is off, and never where it is on.

mod frames;
mod scene;
mod table;
mod wire;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, TcpListener, UdpSocket};

use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;
use trestle_core::types::Direction;
use trestle_core::world::{Attachment, Interface, Network, Plug, Remote, Security, Subnet, Traffic, World};

use self::scene::{HOST, Place, SERVICE, Scene, Station};
use self::table::{Attack, attacks, futile, other_types, pairs, rightful};
use self::wire::{Wire, contains};
use crate::bench::{Bench, Namespace, in_namespace, sh, wait_until, without_dnsmasq};
use crate::cloud::{self, group, group_id, link_name, rule, spec};

/// A group that lets everything pass, and one that lets nothing.
const OPEN: u8 = 2;
const SHUT: u8 = 3;
/// How often each attack is made.
const TIMES: usize = 3;

/// Whether guests are held to anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guard {
    On,
    Off,
}

/// A guest, plugged in.
struct Guest {
    network: u8,
    number: u8,
    namespace: Namespace,
}

impl Guest {
    fn new(network: u8, number: u8) -> Self {
        Self { network, number, namespace: Namespace::new() }
    }

    fn interface(&self, security: Option<Security>) -> Interface {
        let plug = Plug::Veth { netns: self.namespace.path(), name: link_name("eth0") };
        let attachment = Some(Attachment { host: cloud::HOST, plug });
        let mut interface = cloud::interface(self.network, self.number);
        interface.addresses = addresses(self.network, self.number).into();
        Interface { attachment, security, ..interface }
    }

    fn begin(&self) {
        for address in addresses(self.network, self.number) {
            let length = if address.is_ipv4() { 24 } else { 64 };
            self.namespace.sh(&format!("ip address add {address}/{length} dev eth0 nodad"));
        }
    }

    fn wire(&self) -> Wire {
        Wire::within(&self.namespace, "eth0")
    }
}

fn addresses(network: u8, guest: u8) -> [IpAddr; 2] {
    let number = 10 + guest;
    [format!("10.0.{network}.{number}"), format!("fd00:{network}::{number:x}")]
        .map(|address| address.parse().unwrap())
}

/// Network `n` with IPv6, in a project with all others.
fn network(n: u8) -> Network {
    let gateway = format!("fd00:{n}::1").parse().unwrap();
    let ipv6 = Subnet { cidr: format!("fd00:{n}::/64").parse().unwrap(), gateway: Some(gateway) };
    Network { ipv6: Some(ipv6), project: Some(cloud::PROJECT), ..cloud::network(n) }
}

/// A network under attack.
struct Siege {
    bench: Bench,
    scene: Scene,
    attacker: Guest,
    neighbour: Guest,
    shut: Guest,
    far: Guest,
    wires: BTreeMap<Place, Wire>,
    /// How often it was sent from the table.
    round: Cell<u8>,
}

impl Siege {
    /// On network `n`, whose uplink is `uplink` there; another network is routed to.
    async fn new(bench: Bench, n: u8, other: u8, uplink: &str) -> Self {
        stay_on_one_processor();
        sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        sh(&format!("ip address add {HOST}/24 dev eth0"));
        let mut siege = Self {
            bench,
            scene: Scene::new(n, other),
            attacker: Guest::new(n, 1),
            neighbour: Guest::new(n, 2),
            shut: Guest::new(n, 3),
            far: Guest::new(other, 1),
            wires: BTreeMap::new(),
            round: Cell::new(0),
        };
        siege.set(Guard::On).await;
        siege.begin(&network(n), uplink);
        siege
    }

    async fn set(&self, guard: Guard) {
        let attacker = (guard == Guard::On).then(|| held_to(OPEN));
        self.set_attacker(guard, attacker, network(self.attacker.network)).await;
    }

    /// Has the attacker held to something else than others, on a network that is like this.
    async fn set_attacker(&self, guard: Guard, attacker: Option<Security>, network: Network) {
        let held = |group| (guard == Guard::On).then(|| held_to(group));
        let interfaces = [
            self.attacker.interface(attacker),
            self.neighbour.interface(None),
            self.shut.interface(held(SHUT)),
            self.far.interface(held(OPEN)),
        ];
        let mut world = world_of(interfaces);
        world.put_network(network);
        self.apply(&world).await;
    }

    async fn apply(&self, world: &World) {
        let wanted = without_dnsmasq(spec(world));
        self.bench.converge(&wanted).await;
        assert_eq!(self.bench.plan(&wanted).await, Default::default());
    }

    fn begin(&mut self, network: &Network, uplink: &str) {
        let guests = [
            (Place::Attacker, &self.attacker),
            (Place::Neighbour, &self.neighbour),
            (Place::Shut, &self.shut),
            (Place::Far, &self.far),
        ];
        for (place, guest) in guests {
            guest.begin();
            self.wires.insert(place, guest.wire());
            self.hold_neighbour(guest);
        }
        wait_until("all addresses are tried out", || sh("ip -o -6 address show tentative").is_empty());
        self.wires.insert(Place::Peer, Wire::within(&self.bench.peer, uplink));
        self.wires.insert(Place::Host, Wire::of_host(network.bridge.as_str()));
        self.wires.insert(Place::Service, Wire::of_service(SERVICE));
    }

    /// The host knows its guests whatever they say, so that no attack is in the way of the next one.
    fn hold_neighbour(&self, guest: &Guest) {
        let interface = guest.interface(None);
        let bridge = cloud::network(guest.network).bridge;
        for address in interface.addresses.iter().copied().chain([interface.mac.link_local().into()]) {
            sh(&format!("ip neigh replace {address} lladdr {} dev {bridge}", interface.mac));
        }
    }

    /// Sends it all, and gives what was heard where.
    fn heard(&self, attacks: &[Attack]) -> BTreeSet<String> {
        self.round.update(|round| round.wrapping_add(1));
        let mut heard = BTreeSet::new();
        for (number, attack) in attacks.iter().enumerate() {
            for &place in attack.heard_at {
                if self.is_heard(attack, place, [number as u8, place as u8]) {
                    heard.insert(format!("{} at {place:?}", attack.name));
                }
            }
        }
        heard
    }

    fn is_heard(&self, attack: &Attack, place: Place, [number, at]: [u8; 2]) -> bool {
        // Pieces of what was stopped are kept for a while, so each time has tokens of its own.
        let round = self.round.get();
        // Its first byte is the flags of an advertisement that overrides (RFC 4861 §4.4).
        let token = [0x27, round, number, at];
        let (attacker, wire) = (&self.wires[&Place::Attacker], &self.wires[&place]);
        wire.forget();
        for frame in std::iter::repeat_n((attack.frames)(&Scene { token, ..self.scene }), TIMES).flatten() {
            attacker.send(&frame);
        }
        let marker = [0xa7, round, number, at];
        self.send_marker(place, &Scene { token: marker, ..self.scene });
        let after = format!("{} at {place:?}", attack.name);
        wire.heard_until(marker, &after).iter().any(|frame| contains(frame, token))
    }

    /// What the attacker may send, and must be heard there.
    fn send_marker(&self, place: Place, scene: &Scene) {
        let to_far = Station { mac: scene.gateway.mac, ..scene.far };
        let frame = match place {
            Place::Neighbour | Place::Shut | Place::Peer | Place::Host => scene.arp(scene.question()),
            Place::Far => scene.udp4(&to_far),
            Place::Attacker => table::echo(scene),
            Place::Service => {
                let own = UdpSocket::bind("127.0.0.1:0").unwrap();
                own.send_to(&scene.token, ("127.0.0.1", SERVICE)).unwrap();
                return;
            }
        };
        self.wires[&Place::Attacker].send(&frame);
    }
}

fn held_to(group: u8) -> Security {
    Security { groups: BTreeSet::from([group_id(group)]), ..Security::default() }
}

fn world_of(interfaces: impl IntoIterator<Item = Interface>) -> World {
    let mut world = cloud::world(&[]);
    cloud::NETWORKS.for_each(|n| world.put_network(network(n)));
    let everything = |number, direction| rule(number, direction, Traffic::Any, Remote::Any);
    let open = vec![everything(3, Direction::Egress), everything(4, Direction::Ingress)];
    world.put_security_group(group(OPEN, open));
    world.put_security_group(group(SHUT, vec![]));
    interfaces.into_iter().for_each(|interface| world.put_interface(interface));
    world
}

/// A frame is passed on by the processor that it was sent on, in the order of sending: so the marker
/// overtakes nothing.
fn stay_on_one_processor() {
    let mut processors = CpuSet::new();
    processors.set(sched_getcpu().unwrap()).unwrap();
    sched_setaffinity(Pid::from_raw(0), &processors).unwrap();
}

/// Every attack on network `n`; `other` is a network that it is routed to.
async fn besiege(bench: Bench, n: u8, other: u8, uplink: &str) {
    let siege = Siege::new(bench, n, other, uplink).await;
    let _ssh = TcpListener::bind("[::]:22").unwrap();
    // With the guard first: an attack that succeeds leaves something behind.
    assert_eq!(siege.heard(&attacks()), BTreeSet::new());
    assert_eq!(siege.heard(&futile()), BTreeSet::new());
    assert_eq!(siege.heard(&rightful()), everywhere(&rightful()));
    siege.set(Guard::Off).await;
    assert_eq!(siege.heard(&futile()), BTreeSet::new());
    assert_eq!(siege.heard(&attacks()), everywhere(&attacks()));
}

fn everywhere(attacks: &[Attack]) -> BTreeSet<String> {
    let places = |attack: &Attack| {
        let name = attack.name;
        attack.heard_at.iter().map(move |place| format!("{name} at {place:?}"))
    };
    attacks.iter().flat_map(places).collect()
}

#[test]
fn no_attack_on_a_flat_dhcp_network_reaches_its_victim() {
    in_namespace(|bench| async move { besiege(bench, 1, 2, "peer1").await });
}

#[test]
fn no_attack_on_a_flat_network_reaches_its_victim() {
    in_namespace(|bench| async move {
        let mac = cloud::network(6).bridge_mac;
        sh(&format!("ip link add docker0 address {mac} type bridge; ip link set docker0 up"));
        sh("ip link set eth2 master docker0");
        sh("ip address add 10.0.6.1/24 dev docker0; ip address add fd00:6::1/64 dev docker0 nodad");
        besiege(bench, 6, 1, "peer2").await;
    });
}

#[test]
fn no_attack_on_a_vlan_reaches_its_victim() -> anyhow::Result<()> {
    // Built beside this program, and before it where all tests are run.
    let this = std::env::current_exe()?;
    let trestle = this.ancestors().nth(2).unwrap().join("trestle");
    trestle_lab::where_vlans_are(&trestle, || {
        in_namespace(|bench| async move { besiege(bench, 4, 5, "peer3").await });
        Ok(())
    })
}

#[test]
fn each_address_of_a_pair_passes_under_its_own_mac_alone() {
    in_namespace(|bench| async move {
        let siege = Siege::new(bench, 1, 2, "peer1").await;
        let security = Security { address_pairs: pairs::pairs().into_iter().collect(), ..held_to(OPEN) };
        siege.set_attacker(Guard::On, Some(security), network(1)).await;
        assert_eq!(siege.heard(&pairs::forbidden()), BTreeSet::new());
        assert_eq!(siege.heard(&pairs::allowed()), everywhere(&pairs::allowed()));
        siege.set(Guard::On).await;
        assert_eq!(siege.heard(&pairs::allowed()), BTreeSet::new());
        siege.set(Guard::Off).await;
        assert_eq!(siege.heard(&pairs::forbidden()), everywhere(&pairs::forbidden()));
    });
}

#[test]
fn the_ether_types_of_a_network_pass_and_no_others() {
    in_namespace(|bench| async move {
        let siege = Siege::new(bench, 1, 2, "peer1").await;
        let ether_types = ["0x8863", "0x88b5"].map(|text| text.parse().unwrap());
        let network = Network { ether_types: ether_types.into_iter().collect(), ..network(1) };
        siege.set_attacker(Guard::On, Some(held_to(OPEN)), network).await;
        let mut allowed = other_types();
        allowed.retain(|attack| ["PPPoE discovery", "an experimental type"].contains(&attack.name));
        assert_eq!(siege.heard(&other_types()), everywhere(&allowed));
        assert_eq!(siege.heard(&attacks()), everywhere(&allowed));
    });
}

/// An attack by its name, who is asked, and what must not be heard there: the attacker in another's place.
const BELIEFS: [(&str, &str, &str); 5] = [
    ("ARP that announces the gateway", "ip neigh show 10.0.1.1", "lladdr fa:16:3e:00:01:01"),
    ("an answer of ARP for a neighbour", "ip neigh show 10.0.1.13", "lladdr fa:16:3e:00:01:01"),
    ("an advertisement of the gateway's address", "ip neigh show fd00:1::1", "lladdr fa:16:3e:00:01:01"),
    ("an advertisement cut before its target", "ip neigh show fd00:1::d", "lladdr fa:16:3e:00:01:01"),
    ("an advertisement of a router", "ip -6 route show default", "via fe80::f816:3eff:fe00:101"),
];

#[test]
fn no_neighbour_takes_the_attacker_for_another() {
    in_namespace(|bench| async move {
        let siege = Siege::new(bench, 1, 2, "peer1").await;
        let believed = |question: &str, lie: &str| siege.neighbour.namespace.sh(question).contains(lie);
        for address in ["10.0.1.1", "10.0.1.13", "fd00:1::1", "fd00:1::d"] {
            siege.neighbour.namespace.sh(&format!("ping -n -c 1 -W 1 {address} >/dev/null || true"));
        }
        for (name, question, lie) in BELIEFS {
            assert!(siege.heard(&attack_of(name)).is_empty());
            assert!(!believed(question, lie), "{name}");
        }
        siege.set(Guard::Off).await;
        for (name, question, lie) in BELIEFS {
            // A neighbour does not believe everything at once.
            wait_until(&format!("{name} is believed"), || {
                siege.heard(&attack_of(name));
                believed(question, lie)
            });
        }
    });
}

fn attack_of(name: &str) -> Vec<Attack> {
    let mut all = attacks();
    all.retain(|attack| attack.name == name);
    assert_eq!(all.len(), 1, "{name}");
    all
}
