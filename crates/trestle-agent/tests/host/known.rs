//! Connections that are known: nothing goes by them but themselves, and only while it is allowed.

use std::path::PathBuf;
use std::time::Duration;

use trestle_core::types::{Direction, IcmpType, IpProtocol};
use trestle_core::world::{Attachment, Interface, Plug, Rule, Security, Traffic};

use crate::bench::{Bench, Namespace, in_namespace, sh, wait_until};
use crate::cloud::{self, group, group_id, link_name, network};
use crate::groups::{Guest, Running, Talk, allow, apply, ports, world};

/// Writes one frame with a UDP packet to port 20001: MAC, address, source port, EtherType before it, what it says.
const SEND: &str = r#"
import socket, struct, sys
mac, to, port, tag, says, own = sys.argv[1:7]
def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
udp = struct.pack("!HHHH", int(port), 20001, 8 + len(says), 0) + says.encode()
sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); sender.bind(("eth0", 0))
ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, socket.inet_aton(own), socket.inet_aton(to))
ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
sender.send(bytes.fromhex(mac.replace(":", "")) + sender.getsockname()[4] + bytes.fromhex(tag.strip("-")) + b"\x08\x00" + ip + udp)
"#;

/// Says of a connection that one has that its other end cannot be reached: who says it and to whom, its ports.
const ERROR: &str = r#"
import socket, struct, sys
own, to, port = sys.argv[1:4]
def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
quoted = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 0, 0, 64, 6, 0, socket.inet_aton(to), socket.inet_aton(own))
quoted = quoted[:10] + struct.pack("!H", checksum(quoted)) + quoted[12:] + struct.pack("!HHI", 22, int(port), 1)
error = struct.pack("!BBHI", 3, 1, 0, 0) + quoted
error = error[:2] + struct.pack("!H", checksum(error)) + error[4:]
sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
sender.sendto(error, (to, 0))
"#;

/// Who sends frames as they are told.
struct Sender<'a> {
    guest: &'a Guest,
    script: PathBuf,
}

impl<'a> Sender<'a> {
    fn new(bench: &Bench, guest: &'a Guest) -> Self {
        let script = bench.path("send.py");
        std::fs::write(&script, SEND).unwrap();
        Self { guest, script }
    }

    fn send(&self, mac: &str, to: &str, port: u16, says: &str) {
        self.send_tagged((mac, "-"), to, port, says);
    }

    fn send_tagged(&self, (mac, tag): (&str, &str), to: &str, port: u16, says: &str) {
        let [own, _] = self.guest.addresses();
        self.send_from(&own, (mac, tag), (to, port), says);
    }

    fn send_from(&self, own: &str, (mac, tag): (&str, &str), (to, port): (&str, u16), says: &str) {
        let script = self.script.display();
        self.guest.namespace.sh(&format!("python3 {script} {mac} {to} {port} {tag} {says} {own}"));
    }
}

/// What comes to UDP port 20001 of a guest.
struct Ear {
    file: PathBuf,
    _running: Running,
}

impl Ear {
    fn new(bench: &Bench, guest: &Guest) -> Self {
        Self::of(bench, &guest.namespace)
    }

    fn of(bench: &Bench, namespace: &Namespace) -> Self {
        let file = bench.path(&format!("heard{}", namespace.path().replace('/', "-")));
        let what = "udp port 20001 or (vlan and udp port 20001)";
        let dump =
            format!("exec tcpdump -l -n -A --immediate-mode -i eth0 '{what}' > {} 2>&1", file.display());
        let ear = Self { _running: Running::in_namespace(namespace, &dump), file };
        wait_until("it listens", || ear.heard("listening"));
        ear
    }

    fn heard(&self, says: &str) -> bool {
        std::fs::read_to_string(&self.file).is_ok_and(|text| text.contains(says))
    }

    /// What is said last is heard, so what was said before it would have been.
    fn heard_only_the_last(&self, before: &[&str], last: &str) {
        wait_until("the last is heard", || self.heard(last));
        for says in before {
            assert!(!self.heard(says), "{says} is heard");
        }
    }
}

const ALL: &str = "ff:ff:ff:ff:ff:ff";
const NOBODY: &str = "02:00:00:00:00:77";

fn udp() -> Traffic {
    ports(IpProtocol::UDP, "20001")
}

#[test]
fn what_is_sent_to_many_does_not_go_by_what_was_sent_to_one() {
    in_namespace(|bench| async move {
        let mut world = world();
        let egress = allow(3, Direction::Egress, Traffic::Any);
        world.put_security_group(group(2, vec![egress.clone()]));
        world.put_security_group(group(3, Vec::new()));
        let (speaker, deaf) = (Guest::new(&mut world, 1, &[2]), Guest::new(&mut world, 4, &[3]));
        apply(&bench, &world).await;
        [&speaker, &deaf].iter().for_each(|guest| guest.begin());
        let (sender, ear) = (Sender::new(&bench, &speaker), Ear::new(&bench, &deaf));
        for (many, to, port) in [(ALL, "10.0.1.255", 7001), ("01:00:5e:00:00:fb", "224.0.0.251", 7002)] {
            sender.send(many, to, port, "FIRST");
            sender.send(NOBODY, to, port, "STAMP");
            sender.send(many, to, port, "KNOWN");
        }
        world.put_security_group(group(3, vec![allow(4, Direction::Ingress, udp())]));
        apply(&bench, &world).await;
        sender.send(ALL, "10.0.1.255", 7001, "LAST");
        ear.heard_only_the_last(&["FIRST", "STAMP", "KNOWN"], "LAST");
    });
}

#[test]
fn who_comes_later_is_not_reached_by_what_was_sent_before() {
    in_namespace(|bench| async move {
        let mut world = world();
        world.put_security_group(group(2, vec![allow(3, Direction::Egress, Traffic::Any)]));
        world.put_security_group(group(3, Vec::new()));
        let speaker = Guest::new(&mut world, 1, &[2]);
        let held = Guest::new(&mut world, 2, &[3]);
        held.hold(&mut world, None);
        apply(&bench, &world).await;
        [&speaker, &held].iter().for_each(|guest| guest.begin());
        let sender = Sender::new(&bench, &speaker);
        let gateway = &network(1).bridge_mac.to_string();
        let late = Guest::new(&mut world, 3, &[3]);
        let to = [late.addresses()[0].clone(), held.addresses()[0].clone()];
        to.iter().for_each(|to| sender.send(gateway, to, 7001, "BEFORE"));
        // One comes, and the other's port security is turned on.
        held.hold(&mut world, Some(&[3]));
        apply(&bench, &world).await;
        late.begin();
        let ears = [&late, &held].map(|guest| Ear::new(&bench, guest));
        to.iter().for_each(|to| sender.send(gateway, to, 7001, "KNOWN"));
        world.put_security_group(group(3, vec![allow(4, Direction::Ingress, udp())]));
        apply(&bench, &world).await;
        to.iter().for_each(|to| sender.send(gateway, to, 7001, "LAST"));
        ears.iter().for_each(|ear| ear.heard_only_the_last(&["KNOWN"], "LAST"));
    });
}

#[test]
fn an_error_does_not_bring_back_the_connection_that_it_quotes() {
    in_namespace(|bench| async move {
        let mut world = world();
        let pings = allow(5, Direction::Ingress, Traffic::Protocol(IpProtocol::ICMP));
        let ssh = allow(4, Direction::Ingress, ports(IpProtocol::TCP, "22"));
        world.put_security_group(group(2, vec![allow(3, Direction::Egress, Traffic::Any)]));
        world.put_security_group(group(3, vec![ssh, pings.clone()]));
        let (client, server) = (Guest::new(&mut world, 1, &[2]), Guest::new(&mut world, 2, &[3]));
        apply(&bench, &world).await;
        [&client, &server].iter().for_each(|guest| guest.begin());
        let _server = server.serves(22);
        let [to, _] = server.addresses();
        let talk = Talk::new(&client, &to, 22);
        let listed = client.namespace.sh("ss -Htn state established dport = :22");
        let port = listed.split_whitespace().nth(2).and_then(|own| own.rsplit(':').next()).unwrap();
        world.put_security_group(group(3, vec![pings]));
        apply(&bench, &world).await;
        assert!(talk.is_cut_off());
        let script = bench.path("error.py");
        std::fs::write(&script, ERROR).unwrap();
        let [own, _] = client.addresses();
        let say = format!("python3 {} {own} {to} {}", script.display(), port);
        client.namespace.sh(&say);
        assert!(talk.is_cut_off());
    });
}

#[test]
fn what_is_allowed_for_now_is_not_kept_by_an_answer_that_is_allowed_for_good() {
    in_namespace(|bench| async move {
        let mut world = world();
        let icmp = |number| Traffic::Icmp(IpProtocol::ICMP, IcmpType { number, code: None });
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let ends = i64::try_from(now).unwrap() + 6;
        let request = Rule { expires_at: Some(ends), ..allow(4, Direction::Ingress, icmp(8)) };
        world.put_security_group(group(2, vec![allow(3, Direction::Egress, Traffic::Any)]));
        world.put_security_group(group(3, vec![allow(5, Direction::Ingress, icmp(0)), request]));
        let (client, server) = (Guest::new(&mut world, 1, &[2]), Guest::new(&mut world, 2, &[3]));
        apply(&bench, &world).await;
        [&client, &server].iter().for_each(|guest| guest.begin());
        let [to, _] = server.addresses();
        let pings = bench.path("pings");
        let _running = client.spawn(&format!("exec ping -n -D -i 0.2 -w 20 {to} > {}", pings.display()));
        let answers = || std::fs::read_to_string(&pings).unwrap_or_default().matches("bytes from").count();
        wait_until("it answers", || answers() > 3);
        // What goes on is asked again and again, so it ends as well as what begins.
        let over = std::time::UNIX_EPOCH + Duration::from_secs(u64::try_from(ends).unwrap() + 1);
        std::thread::sleep(over.duration_since(std::time::SystemTime::now()).unwrap_or_default());
        let before = answers();
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(answers(), before);
        assert!(!client.reaches(&to));
    });
}

#[test]
fn a_frame_with_a_tag_that_says_nothing_reaches_no_guest() {
    in_namespace(|bench| async move {
        let mut world = world();
        world.put_security_group(group(3, Vec::new()));
        let (open, held) = (Guest::new(&mut world, 1, &[3]), Guest::new(&mut world, 2, &[3]));
        open.hold(&mut world, None);
        apply(&bench, &world).await;
        [&open, &held].iter().for_each(|guest| guest.begin());
        let (sender, ear) = (Sender::new(&bench, &open), Ear::new(&bench, &held));
        let listed = held.namespace.sh("ip -br link show eth0");
        let mac = listed.split_whitespace().nth(2).unwrap();
        let [to, _] = held.addresses();
        for tag in ["81000000", "88a80000"] {
            sender.send_tagged((mac, tag), &to, 7001, "TAGGED");
        }
        sender.send(mac, &to, 7001, "PLAIN");
        world.put_security_group(group(3, vec![allow(4, Direction::Ingress, udp())]));
        apply(&bench, &world).await;
        sender.send(mac, &to, 7001, "LAST");
        ear.heard_only_the_last(&["TAGGED", "PLAIN"], "LAST");
    });
}

#[test]
fn an_address_of_another_network_leads_nowhere_on_this_one_and_nobody_has_it() {
    in_namespace(|bench| async move {
        let mut world = world();
        let rules = vec![allow(3, Direction::Egress, Traffic::Any), allow(4, Direction::Ingress, udp())];
        world.put_security_group(group(2, rules));
        let (speaker, friend) = (Guest::new(&mut world, 1, &[2]), Guest::new(&mut world, 2, &[2]));
        friend.hold(&mut world, None);
        let victim = Namespace::new();
        let plug = Plug::Veth { netns: victim.path(), name: link_name("eth0") };
        let security = Some(Security { groups: [group_id(2)].into(), ..Security::default() });
        world.put_network(network(2));
        let attachment = Some(Attachment { host: cloud::HOST, plug });
        world.put_interface(Interface { attachment, security, ..cloud::interface(2, 3) });
        apply(&bench, &world).await;
        [&speaker, &friend].iter().for_each(|guest| guest.begin());
        victim.sh("ip address add 10.0.2.13/24 dev eth0");
        let (sender, other) = (Sender::new(&bench, &speaker), Sender::new(&bench, &friend));
        let ear = Ear::of(&bench, &victim);
        let gateway = &network(1).bridge_mac.to_string();
        let mac = |guest: &Guest| {
            let listed = guest.namespace.sh("ip -br link show eth0");
            listed.split_whitespace().nth(2).unwrap().to_owned()
        };
        sender.send(gateway, "10.0.2.13", 7001, "FIRST");
        sender.send(NOBODY, "10.0.2.13", 7001, "STAMP");
        sender.send(gateway, "10.0.2.13", 7001, "KNOWN");
        // In its name, to one who answers.
        let [own, _] = speaker.addresses();
        other.send_from("10.0.2.13", (&mac(&speaker), "-"), (&own, 20001), "SPOOF");
        sender.send(gateway, "10.0.2.13", 20001, "ANSWER");
        // To one who answers in its name, and on.
        sender.send(&mac(&friend), "10.0.2.13", 7002, "ASKED");
        other.send_from("10.0.2.13", (&mac(&speaker), "-"), (&own, 20001), "SPOOF");
        sender.send(gateway, "10.0.2.13", 7002, "GOES-ON");
        let last = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b\"LAST\", (\"10.0.2.13\", 20001))";
        sh(&format!("python3 -c '{last}'"));
        ear.heard_only_the_last(&["FIRST", "STAMP", "KNOWN", "ANSWER", "ASKED", "GOES-ON"], "LAST");
    });
}
