//! Security groups on a real kernel: what passes between guests on one bridge, and what does not.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};

use trestle_agent::host::Host;
use trestle_core::plan::Step;
use trestle_core::spec::{HostSpec, Key, Object, Table};
use trestle_core::types::{Direction, IcmpType, IpProtocol};
use trestle_core::world::{Attachment, Interface, Ipv6Mode, Plug, Remote, Rule, Security, Traffic, World};

use crate::bench::{
    Bench, Namespace, dual_interface, dual_world, in_namespace, sh, wait_until, without_dnsmasq,
};
use crate::cloud::{self, address_group, address_group_id, group, group_id, link_name, rule, spec};

/// A guest with its addresses set by hand: there is no dnsmasq here.
pub struct Guest {
    number: u8,
    pub namespace: Namespace,
}

impl Guest {
    /// Plugged into network 1, held to these groups.
    pub fn new(world: &mut World, number: u8, groups: &[u8]) -> Self {
        let guest = Self { number, namespace: Namespace::new() };
        guest.hold(world, Some(groups));
        guest
    }

    pub fn hold(&self, world: &mut World, groups: Option<&[u8]>) {
        let groups = groups.map(|groups| groups.iter().copied().map(group_id).collect());
        let security = groups.map(|groups| Security { groups, ..Security::default() });
        world.put_interface(Interface { security, ..self.interface() });
    }

    fn interface(&self) -> Interface {
        let plug = Plug::Veth { netns: self.namespace.path(), name: link_name("eth0") };
        let attachment = Some(Attachment { host: cloud::HOST, plug });
        Interface { attachment, ..dual_interface(Ipv6Mode::Dhcpv6, self.number) }
    }

    /// Gives it its addresses, once it has its device.
    pub fn begin(&self) {
        for address in self.addresses() {
            let length = if address.contains(':') { 64 } else { 24 };
            self.namespace.sh(&format!("ip address add {address}/{length} dev eth0 nodad"));
        }
    }

    pub fn addresses(&self) -> [String; 2] {
        let addresses = self.interface().addresses;
        [addresses[0].to_string(), addresses[1].to_string()]
    }

    pub fn reaches(&self, address: &str) -> bool {
        self.namespace.sh(&format!("ping -n -c 1 -W 1 {address} >/dev/null 2>&1 && echo yes || echo no"))
            == "yes\n"
    }

    fn reaches_both(&self, other: &Self) -> [bool; 2] {
        other.addresses().map(|address| self.reaches(&address))
    }

    /// Whether a TCP port there answers.
    fn connects(&self, address: &str, port: u16) -> bool {
        let script =
            format!("busybox nc -w 1 {address} {port} </dev/null >/dev/null 2>&1 && echo yes || echo no");
        self.namespace.sh(&script) == "yes\n"
    }

    /// Answers on a TCP port with what it hears.
    pub fn serves(&self, port: u16) -> Running {
        let serve = self.spawn(&format!("exec busybox nc -ll -p {port} -e cat"));
        wait_until("it listens", || !self.namespace.sh(&format!("ss -Hltn sport = :{port}")).is_empty());
        serve
    }

    pub fn spawn(&self, script: &str) -> Running {
        Running::in_namespace(&self.namespace, script)
    }
}

pub struct Running(Child);

impl Running {
    pub fn in_namespace(namespace: &Namespace, script: &str) -> Self {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", namespace.path())).args(["sh", "-c", script]);
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn allow(number: u32, direction: Direction, traffic: Traffic) -> Rule {
    rule(number, direction, traffic, Remote::Any)
}

/// How often a host is looked at beside others.
const LOOKS: usize = 100;

pub fn world() -> World {
    dual_world(Ipv6Mode::Dhcpv6, &[])
}

pub async fn apply(bench: &Bench, world: &World) -> HostSpec {
    let wanted = without_dnsmasq(spec(world));
    bench.converge(&wanted).await;
    let left = bench.plan(&wanted).await;
    assert_eq!(left, Default::default());
    wanted
}

#[test]
fn members_of_a_group_reach_each_other_and_others_reach_none_of_them() {
    in_namespace(|bench| async move {
        let mut world = world();
        world.put_security_group(group(2, vec![allow(3, Direction::Egress, Traffic::Any)]));
        let (one, two) = (Guest::new(&mut world, 1, &[1]), Guest::new(&mut world, 2, &[1]));
        let stranger = Guest::new(&mut world, 3, &[2]);
        apply(&bench, &world).await;
        [&one, &two, &stranger].iter().for_each(|guest| guest.begin());
        wait_until("they are found", || one.reaches_both(&two) == [true, true]);
        assert_eq!(two.reaches_both(&one), [true, true]);
        assert_eq!(stranger.reaches_both(&one), [false, false]);
        assert_eq!(one.reaches_both(&stranger), [false, false]);
        // The host itself is not held to groups, and is reached by what it begins alone.
        sh("ping -n -c 1 -W 1 10.0.1.13");
        assert!(stranger.reaches("10.0.1.1"), "the gateway answers");

        // One that joins is one of them at once, on a running guest.
        stranger.hold(&mut world, Some(&[1, 2]));
        apply(&bench, &world).await;
        assert_eq!(stranger.reaches_both(&one), [true, true]);
        assert_eq!(one.reaches_both(&stranger), [true, true]);
        stranger.hold(&mut world, Some(&[2]));
        apply(&bench, &world).await;
        assert_eq!(stranger.reaches_both(&one), [false, false]);
    });
}

/// A connection that says something every 50 ms and ends when it is cut off for two seconds.
pub struct Talk {
    running: Running,
    heard: tempfile::NamedTempFile,
}

impl Talk {
    pub fn new(from: &Guest, address: &str, port: u16) -> Self {
        let heard = tempfile::NamedTempFile::new().unwrap();
        let path = heard.path().display();
        let script = format!("while echo tick; do sleep 0.05; done | busybox nc {address} {port} > {path}");
        let talk = Self { running: from.spawn(&script), heard };
        talk.goes_on();
        talk
    }

    fn heard(&self) -> usize {
        std::fs::read_to_string(self.heard.path()).unwrap().lines().count()
    }

    fn goes_on(&self) {
        let before = self.heard();
        wait_until("the connection goes on", || self.heard() > before + 3);
    }

    /// Whether it is silent from now on, for as long as several of its words take.
    pub fn is_cut_off(&self) -> bool {
        let before = self.heard();
        std::thread::sleep(std::time::Duration::from_millis(800));
        let _ = &self.running;
        self.heard() == before
    }
}

pub fn ports(protocol: IpProtocol, ports: &str) -> Traffic {
    Traffic::Ports(protocol, ports.parse().unwrap())
}

#[test]
fn a_connection_ends_with_the_rule_that_allowed_it_and_no_other_does() {
    in_namespace(|bench| async move {
        let mut world = world();
        let (ssh, web) = (ports(IpProtocol::TCP, "22"), ports(IpProtocol::TCP, "80-90"));
        let ingress = |number, traffic| allow(number, Direction::Ingress, traffic);
        let clients = group(2, vec![allow(3, Direction::Egress, Traffic::Any)]);
        world.put_security_group(clients);
        world.put_security_group(group(3, vec![ingress(4, ssh), ingress(5, web)]));
        let (client, server) = (Guest::new(&mut world, 1, &[2]), Guest::new(&mut world, 2, &[3]));
        apply(&bench, &world).await;
        [&client, &server].iter().for_each(|guest| guest.begin());
        let _servers = [22, 85, 91].map(|port| server.serves(port));
        let address = &server.addresses()[0];
        wait_until("it is reached", || client.connects(address, 22));
        assert!(client.connects(address, 85) && !client.connects(address, 91));
        assert!(!client.reaches(address), "only what is allowed");

        let talks = [22, 85].map(|port| Talk::new(&client, address, port));
        world.put_security_group(group(3, vec![ingress(5, web)]));
        apply(&bench, &world).await;
        assert!(talks[0].is_cut_off());
        talks[1].goes_on();
        // Another rule that allows it lets it go on as well as the same one.
        world.put_security_group(group(3, vec![ingress(6, ports(IpProtocol::TCP, "85"))]));
        apply(&bench, &world).await;
        talks[1].goes_on();
        // What a guest sends is asked for, too.
        world.put_security_group(group(2, vec![allow(7, Direction::Egress, ports(IpProtocol::UDP, "53"))]));
        apply(&bench, &world).await;
        assert!(talks[1].is_cut_off());
    });
}

#[test]
fn a_rule_with_an_end_ends_by_itself_and_what_it_allowed_with_it() {
    in_namespace(|bench| async move {
        let mut world = world();
        world.put_security_group(group(2, vec![allow(3, Direction::Egress, Traffic::Any)]));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let ends = i64::try_from(now).unwrap() + 6;
        let rule = allow(4, Direction::Ingress, ports(IpProtocol::TCP, "22"));
        world.put_security_group(group(3, vec![Rule { expires_at: Some(ends), ..rule }]));
        let (client, server) = (Guest::new(&mut world, 1, &[2]), Guest::new(&mut world, 2, &[3]));
        apply(&bench, &world).await;
        [&client, &server].iter().for_each(|guest| guest.begin());
        let _server = server.serves(22);
        let address = &server.addresses()[0];
        let talk = Talk::new(&client, address, 22);
        // Nothing is done to it any more.
        wait_until("it is over", || talk.is_cut_off());
        assert!(!client.connects(address, 22));
    });
}

/// nft in our own name: what others do to our tables closes the guard.
fn our_own_nft(bench: &Bench) -> String {
    let nft = bench.path("trestle-nft");
    std::os::unix::fs::symlink(sh("command -v nft").trim(), &nft).unwrap();
    nft.display().to_string()
}

/// How many packets a rule has decided on, as nft says.
fn decided(rule: u32) -> u64 {
    let listed = sh(&format!("nft list table inet trestle_groups | grep 'comment \"rule {rule}\"'"));
    let packets = |line: &str| line.split("counter packets ").nth(1)?.split(' ').next()?.parse::<u64>().ok();
    listed.lines().map(|line| packets(line).unwrap()).sum()
}

#[test]
fn a_connection_is_judged_once_and_once_more_when_something_goes() {
    in_namespace(|bench| async move {
        let mut world = world();
        let ingress = |number, port| allow(number, Direction::Ingress, ports(IpProtocol::TCP, port));
        let for_a_while = Rule { expires_at: Some(4_000_000_000), ..ingress(5, "23") };
        world.put_security_group(group(2, vec![allow(3, Direction::Egress, Traffic::Any)]));
        world.put_security_group(group(3, vec![ingress(4, "22"), for_a_while.clone(), ingress(6, "24")]));
        let (client, server) = (Guest::new(&mut world, 1, &[2]), Guest::new(&mut world, 2, &[3]));
        apply(&bench, &world).await;
        [&client, &server].iter().for_each(|guest| guest.begin());
        let _servers = [22, 23].map(|port| server.serves(port));
        let talks = [22, 23].map(|port| Talk::new(&client, &server.addresses()[0], port));
        talks.iter().for_each(Talk::goes_on);
        assert_eq!(decided(4), 1, "the rest goes by the first one's");
        assert!(decided(5) > 6, "what ends by itself is asked for with each packet");
        world.put_security_group(group(3, vec![ingress(4, "22"), for_a_while]));
        apply(&bench, &world).await;
        talks.iter().for_each(Talk::goes_on);
        assert_eq!(decided(4), 2);
    });
}

#[test]
fn messages_of_icmp_are_told_by_their_type_and_answers_are_answers() {
    in_namespace(|bench| async move {
        let mut world = world();
        let asked = |protocol, number| Traffic::Icmp(protocol, IcmpType { number, code: None });
        let echo = vec![
            allow(3, Direction::Egress, asked(IpProtocol::ICMP, 8)),
            allow(4, Direction::Ingress, asked(IpProtocol::ICMP, 8)),
            allow(5, Direction::Ingress, asked(IpProtocol::ICMPV6, 128)),
            allow(6, Direction::Egress, asked(IpProtocol::ICMPV6, 128)),
        ];
        world.put_security_group(group(2, echo));
        let (one, two) = (Guest::new(&mut world, 1, &[2]), Guest::new(&mut world, 2, &[2]));
        apply(&bench, &world).await;
        [&one, &two].iter().for_each(|guest| guest.begin());
        wait_until("they are found", || one.reaches_both(&two) == [true, true]);
        // A ping that goes on is judged by its answers, too.
        let ping = "ping -n -i 0.05 -c 60 -W 1 10.0.1.12 | grep -o \"[0-9]* received\" > ";
        let answers = bench.path("answers");
        let running = one.spawn(&format!("{ping}{}", answers.display()));
        let nft = our_own_nft(&bench);
        for _ in 0..10 {
            sh(&format!("{nft} flush chain inet trestle_groups stamp"));
            std::thread::sleep(std::time::Duration::from_millis(200));
            let judged = [Step::JudgeAnew].into();
            assert!(bench.host.apply(&judged).await.is_empty());
        }
        wait_until("it is over", || {
            std::fs::read_to_string(&answers).is_ok_and(|text| text.contains("received"))
        });
        assert_eq!(std::fs::read_to_string(&answers).unwrap(), "60 received\n");
        drop(running);
        world.put_security_group(group(
            2,
            vec![
                allow(3, Direction::Egress, asked(IpProtocol::ICMP, 13)),
                allow(4, Direction::Ingress, asked(IpProtocol::ICMP, 13)),
            ],
        ));
        apply(&bench, &world).await;
        assert_eq!(one.reaches_both(&two), [false, false]);
    });
}

#[test]
fn a_rule_may_name_a_range_or_an_address_group() {
    in_namespace(|bench| async move {
        let mut world = world();
        let egress = allow(3, Direction::Egress, Traffic::Any);
        let from = |number, remote| rule(number, Direction::Ingress, Traffic::Any, remote);
        let range = Remote::Range("10.0.1.12/31".parse().unwrap());
        world.put_security_group(group(2, vec![egress.clone(), from(4, range)]));
        world.put_security_group(group(3, vec![egress, from(5, Remote::AddressGroup(address_group_id(1)))]));
        world.put_address_group(address_group(1, &["10.0.1.11/32", "fd00:1::/64"]));
        let by_range = Guest::new(&mut world, 1, &[2]);
        let (by_group, other) = (Guest::new(&mut world, 2, &[3]), Guest::new(&mut world, 3, &[3]));
        apply(&bench, &world).await;
        [&by_range, &by_group, &other].iter().for_each(|guest| guest.begin());
        wait_until("it is found", || by_group.reaches_both(&by_range) == [true, false]);
        assert_eq!(by_range.reaches_both(&by_group), [true, true]);
        assert_eq!(other.reaches_both(&by_group), [false, true]);
        world.put_address_group(address_group(1, &["10.0.1.0/28"]));
        apply(&bench, &world).await;
        assert_eq!(other.reaches_both(&by_group), [true, false]);
    });
}

#[test]
fn what_is_sent_to_many_is_heard_by_those_whose_groups_allow_it() {
    in_namespace(|bench| async move {
        let mut world = world();
        let egress = allow(3, Direction::Egress, Traffic::Any);
        let ingress = allow(4, Direction::Ingress, ports(IpProtocol::UDP, "20001"));
        world.put_security_group(group(2, vec![egress.clone()]));
        world.put_security_group(group(3, vec![egress, ingress]));
        let speaker = Guest::new(&mut world, 1, &[2]);
        let hearers = [Guest::new(&mut world, 2, &[3]), Guest::new(&mut world, 3, &[2, 3])];
        let deaf = Guest::new(&mut world, 4, &[2]);
        apply(&bench, &world).await;
        let all = [&speaker, &hearers[0], &hearers[1], &deaf];
        let heard: Vec<_> = all
            .iter()
            .map(|guest| {
                guest.begin();
                let file = bench.path(&format!("heard{}", guest.number));
                let what = "udp port 20001 or udp port 20002";
                let dump = format!(
                    "exec tcpdump -l -n --immediate-mode -i eth0 \"{what}\" > {} 2>&1",
                    file.display()
                );
                let running = guest.spawn(&dump);
                wait_until("it listens", || {
                    std::fs::read_to_string(&file).is_ok_and(|text| text.contains("listening"))
                });
                (file, running)
            })
            .collect();
        let count = |which: usize, port: &str| {
            std::fs::read_to_string(&heard[which].0).unwrap().matches(&format!(".{port}: UDP")).count()
        };
        let send = "import socket; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); \
            s.setsockopt(socket.SOL_SOCKET,socket.SO_BROADCAST,1); \
            s.setsockopt(socket.IPPROTO_IP,socket.IP_MULTICAST_IF,socket.inet_aton(\"10.0.1.11\")); \
            [s.sendto(b\"x\"*20,(a,p)) for p in (20002,20001) for a in (\"224.0.0.251\",\"10.0.1.255\",\"255.255.255.255\")]";
        let send = format!("python3 -c \"{}\"", send.replace('"', "\\\""));
        speaker.namespace.sh(&format!("ip route add 255.255.255.255 dev eth0; {send}"));
        for which in [1, 2] {
            wait_until("it is heard", || count(which, "20001") == 3);
            assert_eq!(count(which, "20002"), 0);
        }
        assert_eq!((count(0, "20001"), count(0, "20002")), (3, 3), "who sent it saw it");
        assert_eq!((count(3, "20001"), count(3, "20002")), (0, 0));
        // A mark that leads nowhere lets nobody hear.
        sh(&format!("{} flush map inet trestle_groups ingress", our_own_nft(&bench)));
        speaker.namespace.sh(&send);
        wait_until("all of it is sent", || count(0, "20001") == 6);
        assert_eq!([1, 2, 3].map(|which| count(which, "20001")), [3, 3, 0]);
    });
}

#[test]
fn a_guest_has_nothing_of_its_host_but_dhcp_dns_and_an_echo() {
    in_namespace(|bench| async move {
        let mut world = world();
        let guest = Guest::new(&mut world, 1, &[1]);
        apply(&bench, &world).await;
        guest.begin();
        sh("ip address add 198.51.100.1/24 dev eth0");
        guest.namespace.sh("ip route add default via 10.0.1.1; ip -6 route add default via fd00:1::1");
        let listen = |port: u16| {
            Running(
                Command::new("busybox")
                    .args(["nc", "-ll", "-p", &port.to_string(), "-e", "cat"])
                    .spawn()
                    .unwrap(),
            )
        };
        let _listening = [listen(22), listen(53)];
        wait_until("they listen", || sh("ss -Hltn").lines().count() == 2);
        wait_until("the gateway answers", || guest.reaches("10.0.1.1"));
        for address in ["10.0.1.1", "fd00:1::1", "198.51.100.1"] {
            assert!(guest.reaches(address), "{address}");
            assert!(!guest.connects(address, 22), "{address}");
        }
        assert!(guest.connects("10.0.1.1", 53) && guest.connects("fd00:1::1", 53));
        assert!(!guest.connects("198.51.100.1", 53), "where it is served it is served");
        // What the host itself begins is answered.
        let _server = guest.serves(8080);
        sh("busybox nc -w 1 10.0.1.11 8080 </dev/null");
    });
}

#[test]
fn a_guest_whose_guard_is_off_is_held_to_nothing() {
    in_namespace(|bench| async move {
        let mut world = world();
        let (one, router) = (Guest::new(&mut world, 1, &[1]), Guest::new(&mut world, 2, &[1]));
        router.hold(&mut world, None);
        apply(&bench, &world).await;
        [&one, &router].iter().for_each(|guest| guest.begin());
        router
            .namespace
            .sh("ip address add 192.0.2.7/24 dev eth0; ip link set eth0 address 02:00:00:00:00:99");
        sh("ip route add 192.0.2.0/24 dev br101");
        wait_until("it answers for another address", || {
            sh("ping -n -c 1 -W 1 192.0.2.7 || true").contains("1 received")
        });
        assert!(!router.reaches("10.0.1.11"), "others are held to theirs");
        assert!(one.reaches("10.0.1.12"));
        router.hold(&mut world, Some(&[1]));
        apply(&bench, &world).await;
        assert!(sh("ping -n -c 1 -W 1 192.0.2.7 || true").contains("0 received"));
    });
}

#[test]
fn addresses_that_a_guest_may_send_from_besides_are_its_own_or_what_it_forwards_for() {
    in_namespace(|bench| async move {
        let mut world = world();
        let guests = [
            Guest::new(&mut world, 1, &[1]),
            Guest::new(&mut world, 2, &[1]),
            Guest::new(&mut world, 3, &[1]),
        ];
        let with_pairs = |guest: &Guest| {
            let pairs = ["10.0.1.100", "10.0.1.100,00:00:5e:00:01:07", "10.9.0.0/16"];
            let pairs = pairs.map(|pair| pair.parse().unwrap());
            let security = Security { groups: BTreeSet::from([group_id(1)]), address_pairs: pairs.into() };
            Interface { security: Some(security), ..guest.interface() }
        };
        guests[..2].iter().for_each(|guest| world.put_interface(with_pairs(guest)));
        apply(&bench, &world).await;
        guests.iter().for_each(Guest::begin);
        let [one, two, three] = &guests;
        // Either of them has the address, under a MAC of its own, as with VRRP.
        for holder in [one, two] {
            holder.namespace.sh(
                "ip link add vrrp link eth0 address 00:00:5e:00:01:07 type macvlan mode bridge; ip link set vrrp up; \
                 ip address add 10.0.1.100/32 dev vrrp",
            );
            three.namespace.sh("ip neigh flush all");
            wait_until("it is reached there", || three.reaches("10.0.1.100"));
            holder.namespace.sh("ip link del vrrp");
        }
        assert!(!three.reaches("10.0.1.100"));
        // Who has no such pair is not reached by it.
        three.namespace.sh("ip address add 10.0.1.100/32 dev eth0");
        one.namespace.sh("ip neigh flush all");
        assert!(!one.reaches("10.0.1.100"));
        three.namespace.sh("ip address del 10.0.1.100/32 dev eth0");
        // What one forwards for others.
        one.namespace.sh("ip address add 10.9.0.1/32 dev lo; ip address add 10.8.0.1/32 dev lo");
        sh("ip route add 10.8.0.0/15 via 10.0.1.11 dev br101");
        wait_until("it is reached", || sh("ping -n -c 1 -W 1 10.9.0.1 || true").contains("1 received"));
        assert!(sh("ping -n -c 1 -W 1 10.8.0.1 || true").contains("0 received"));
    });
}

#[test]
fn what_another_program_does_to_the_groups_is_undone() {
    in_namespace(|bench| async move {
        let mut world = world();
        let (one, two) = (Guest::new(&mut world, 1, &[1]), Guest::new(&mut world, 2, &[1]));
        world.put_security_group(group(2, vec![allow(3, Direction::Egress, Traffic::Any)]));
        let stranger = Guest::new(&mut world, 3, &[2]);
        let wanted = apply(&bench, &world).await;
        [&one, &two, &stranger].iter().for_each(|guest| guest.begin());
        wait_until("they are found", || one.reaches_both(&two) == [true, true]);
        for damage in [
            "nft flush ruleset",
            "nft flush table inet trestle_groups",
            "nft flush chain inet trestle_groups in_1",
            "nft add rule inet trestle_groups to_1 accept",
            "nft insert rule inet trestle_groups in_1 accept",
            "nft flush set inet trestle_groups members4_1",
            "nft delete element inet trestle_groups groups4 { 10.0.1.11 }",
            "ip link set br101 type bridge nf_call_iptables 0",
        ] {
            sh(damage);
            let change = bench.changed().await;
            assert!(change.what.contains("trestle") || change.what.contains("br101"), "{damage}: {change:?}");
            // Until it is put right nobody passes, whatever was done.
            if damage.starts_with("nft") {
                let is_closed = || {
                    sh("nft list table bridge trestle 2>/dev/null || true").contains("guard_mac")
                        && !sh("nft list set bridge trestle guard_mac").contains("elements")
                };
                wait_until("it is closed", is_closed);
                assert_eq!(one.reaches_both(&two), [false, false], "{damage}");
            }
            assert_ne!(bench.plan(&wanted).await, Default::default(), "{damage}");
            bench.converge(&wanted).await;
            assert_eq!(bench.plan(&wanted).await, Default::default(), "{damage}");
            assert_eq!(one.reaches_both(&two), [true, true], "{damage}");
            assert_eq!(stranger.reaches_both(&two), [false, false], "{damage}");
        }
    });
}

/// The library that speaks to nftables asks the C library for the names of protocols, which has one answer for
/// all threads: what is listed here must not have the protocols of what is listed there.
#[test]
fn hosts_that_are_looked_at_at_the_same_time_are_not_mixed_up() {
    let look = || {
        in_namespace(|bench| async move {
            let mut world = world();
            let _held = Guest::new(&mut world, 1, &[1]);
            let wanted = apply(&bench, &world).await;
            for _ in 0..LOOKS {
                // Whoever changes something has everything listed anew.
                sh("nft add table bridge other; nft delete table bridge other");
                assert_eq!(bench.plan(&wanted).await, Default::default());
            }
        });
    };
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(look);
        }
    });
}

/// Rules that cannot be made are not made by Trestle: the kernel lacks something.
#[test]
fn rules_that_cannot_be_made_leave_those_before_and_hold_nobody_else_up() {
    in_namespace(|bench| async move {
        let mut world = world();
        let (one, two) = (Guest::new(&mut world, 1, &[1]), Guest::new(&mut world, 2, &[1]));
        apply(&bench, &world).await;
        [&one, &two].iter().for_each(|guest| guest.begin());
        wait_until("they are found", || one.reaches_both(&two) == [true, true]);
        let late = Guest::new(&mut world, 3, &[1]);
        let mut wanted = without_dnsmasq(spec(&world));
        let chain = Key::Chain("to_1".to_owned());
        wanted.objects.insert(chain.clone(), Object::Chain("no such rule".to_owned()));
        let failures = bench.host.apply(&bench.plan(&wanted).await.steps).await;
        let failed: Vec<Key> = failures.iter().map(|failure| failure.step.key()).collect();
        assert_eq!(failed, [chain], "{failures:#?}");
        late.begin();
        assert_eq!(one.reaches_both(&late), [true, true]);
        assert_eq!(late.reaches_both(&two), [true, true]);
    });
}

#[test]
fn where_no_guard_is_and_none_can_be_made_guests_are_cut_off() {
    in_namespace(|bench| async move {
        let mut world = world();
        let (one, two) = (Guest::new(&mut world, 1, &[1]), Guest::new(&mut world, 2, &[1]));
        let wanted = apply(&bench, &world).await;
        [&one, &two].iter().for_each(|guest| guest.begin());
        wait_until("they are found", || one.reaches_both(&two) == [true, true]);
        sh("nft flush ruleset");
        let spoilt = |step: Step| match step {
            Step::PutRuleset { table: Table::Guard, .. } => {
                Step::PutRuleset { table: Table::Guard, text: "no such text".to_owned() }
            }
            step => step,
        };
        let steps = bench.plan(&wanted).await.steps.into_iter().map(spoilt).collect();
        assert!(!bench.host.apply(&steps).await.is_empty());
        assert_eq!(one.reaches_both(&two), [false; 2]);
        bench.converge(&wanted).await;
        wait_until("they are found again", || one.reaches_both(&two) == [true; 2]);
        assert_eq!(bench.plan(&wanted).await, Default::default());
    });
}
