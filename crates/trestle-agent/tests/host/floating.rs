//! Floating IPs on a real kernel: their addresses, what they lead to, what went by them, and what other
//! hosts say of them.

use trestle_agent::host::Host;
use trestle_core::spec::{HostSpec, Key};
use trestle_core::types::Protocol;
use trestle_core::world::{FloatingIp, Forward, Ipv6Mode, Target, World};

use crate::bench::{
    Bench, Capture, Namespace, dual_interface, dual_world, in_namespace, json, sh, wait_until,
    without_dnsmasq,
};
use crate::cloud::{link_name, spec};

const ADDRESSES: [&str; 2] = ["203.0.113.20", "2001:db8::20"];

/// A floating IP that leads to interface `i` of network 1, on the host's public device.
fn floating(address: &str, i: u8) -> FloatingIp {
    let address: std::net::IpAddr = address.parse().unwrap();
    let interface = dual_interface(Ipv6Mode::Dhcpv6, i);
    let fixed = interface.addresses.into_iter().find(|fixed| fixed.is_ipv4() == address.is_ipv4());
    let target = Target { interface: interface.id, fixed: fixed.unwrap() };
    FloatingIp { address, device: None, target: Some(target), forwards: vec![] }
}

/// Two guests, of which the first has floating IPs.
fn world() -> World {
    let mut world = dual_world(Ipv6Mode::Dhcpv6, &[(1, 1), (1, 2)]);
    ADDRESSES.into_iter().for_each(|address| world.put_floating_ip(floating(address, 1)));
    world
}

fn wanted(world: &World) -> HostSpec {
    without_dnsmasq(spec(world))
}

fn is_on_eth0(address: &str) -> bool {
    let device = &json("ip -j address show dev eth0")[0]["addr_info"];
    device.as_array().unwrap().iter().any(|held| held["local"] == address)
}

#[test]
fn a_floating_ip_is_put_on_its_device_and_told_to_the_neighbours_and_kept_there() {
    in_namespace(|bench| async move {
        let capture = Capture::new(&bench.peer, "peer0");
        bench.converge(&wanted(&world())).await;
        capture.packet(&["Request who-has 203.0.113.20", "tell 203.0.113.20"]);
        capture.packet(&["neighbor advertisement", "tgt is 2001:db8::20"]);
        assert!(ADDRESSES.into_iter().all(is_on_eth0));
        assert_eq!(bench.plan(&wanted(&world())).await, Default::default());
        // What the host itself sends does not leave under it.
        sh("ip address add 2001:db8::11/64 dev eth0 nodad");
        assert!(sh("ip -6 route get 2001:db8::1").contains("src 2001:db8::11"));

        sh("ip address del 203.0.113.20/32 dev eth0");
        let change = bench.changed().await;
        assert!(change.what.contains("203.0.113.20/32 was deleted from eth0"), "{change:?}");
        bench.converge(&wanted(&world())).await;
        assert!(is_on_eth0("203.0.113.20"));
        // What others have on the device is nothing to us.
        sh("ip address add 192.0.2.7/24 dev eth0");
        bench.assert_silent().await;

        let without = wanted(&dual_world(Ipv6Mode::Dhcpv6, &[(1, 1), (1, 2)]));
        bench.converge(&without).await;
        assert!(!ADDRESSES.into_iter().any(is_on_eth0));
        assert!(is_on_eth0("192.0.2.7"));
    });
}

#[test]
fn an_address_that_the_host_has_itself_is_not_taken_for_a_floating_ip() {
    in_namespace(|bench| async move {
        sh("ip address add 203.0.113.20/24 dev eth0");
        let problems = bench.plan(&wanted(&world())).await.problems;
        let said: Vec<String> = problems.iter().map(|problem| problem.detail.clone()).collect();
        assert!(said[0].starts_with("eth0 has 203.0.113.20 already"), "{said:?}");
        bench.converge(&wanted(&world())).await;
        let key = Key::Address(link_name("eth0"), "203.0.113.20/32".parse().unwrap());
        let keys = trestle_core::plan::reads(&wanted(&world()), &key);
        let seen = bench.host.observe_keys(&keys).await.unwrap();
        let of_key = trestle_core::plan::plan_keys(&wanted(&world()), &seen, &[key].into());
        assert_eq!(of_key.problems, problems, "seen by itself, too");
    });
}

/// Puts a flow into the kernel's table.
fn flow(protocol: &str, from: &str, to: &str, (back_from, back_to): (&str, &str), ports: (u16, u16, u16)) {
    let (source, port, fixed_port) = ports;
    let state = if protocol == "tcp" { "--state ESTABLISHED" } else { "" };
    sh(&format!(
        "conntrack -I -p {protocol} -s {from} -d {to} --sport {source} --dport {port} {state} -t 300 \
         -r {back_from} -q {back_to} --reply-port-src {fixed_port} --reply-port-dst {source}"
    ));
}

/// The ports by which the flows of the table are told apart.
fn flows() -> Vec<String> {
    let listed = sh("conntrack -L 2>/dev/null");
    let sources = listed.lines().filter_map(|line| line.split("sport=").nth(1)?.split(' ').next());
    let mut sources: Vec<String> = sources.map(str::to_owned).filter(|port| port.starts_with('4')).collect();
    sources.sort();
    sources
}

#[test]
fn what_went_by_a_floating_ip_ends_with_it_and_nothing_else_does() {
    in_namespace(|bench| async move {
        let mut world = world();
        let to = floating("203.0.113.20", 1).target.unwrap();
        let forward = Forward { protocol: Protocol::Tcp, port: 80, to, to_port: 8080 };
        let ports = FloatingIp { forwards: vec![forward], target: None, ..floating("203.0.113.21", 1) };
        world.put_floating_ip(ports);
        bench.converge(&wanted(&world)).await;
        let outside = "198.51.100.10";
        // In and out by the two floating IPs, to the guest, to another one, by other ports.
        flow("tcp", outside, "203.0.113.20", ("10.0.1.11", outside), (4001, 22, 22));
        flow("udp", "10.0.1.11", outside, (outside, "203.0.113.20"), (4002, 53, 53));
        flow("tcp", outside, "203.0.113.20", ("10.0.1.12", outside), (4003, 22, 22));
        flow("tcp", "10.0.1.11", outside, (outside, "203.0.113.11"), (4004, 80, 80));
        flow("tcp", outside, "203.0.113.21", ("10.0.1.11", outside), (4005, 80, 8080));
        flow("tcp", outside, "203.0.113.21", ("10.0.1.11", outside), (4006, 81, 8080));
        flow("tcp", "2001:db8::1", "2001:db8::20", ("fd00:1::b", "2001:db8::1"), (4007, 22, 22));
        assert_eq!(flows(), ["4001", "4002", "4003", "4004", "4005", "4006", "4007"]);

        world.put_floating_ip(floating("203.0.113.20", 2));
        bench.converge(&wanted(&world)).await;
        assert_eq!(flows(), ["4003", "4004", "4005", "4006", "4007"], "it leads to another guest");
        world.remove_floating_ip("203.0.113.21".parse().unwrap());
        bench.converge(&wanted(&world)).await;
        assert_eq!(flows(), ["4003", "4004", "4006", "4007"], "the port leads nowhere");
        world.remove_floating_ip("2001:db8::20".parse().unwrap());
        bench.converge(&wanted(&world)).await;
        assert_eq!(flows(), ["4003", "4004", "4006"]);
        let to = json("nft -j list map inet trestle floating_to")["nftables"][1]["map"]["elem"].clone();
        assert_eq!(to, serde_json::json!([["203.0.113.20", "10.0.1.12"]]));
    });
}

/// Of many at once the kernel is asked for all flows, of one for its own: the outcome is the same.
#[test]
fn of_many_floating_ips_each_ends_what_went_by_it() {
    in_namespace(|bench| async move {
        let mut world = world();
        let to = floating("203.0.113.20", 1).target.unwrap();
        let forward = Forward { protocol: Protocol::Udp, port: 53, to, to_port: 5353 };
        let ports = FloatingIp { forwards: vec![forward], target: None, ..floating("203.0.113.21", 1) };
        world.put_floating_ip(ports);
        bench.converge(&wanted(&world)).await;
        let outside = "198.51.100.10";
        flow("tcp", outside, "203.0.113.20", ("10.0.1.11", outside), (4001, 22, 22));
        flow("udp", "10.0.1.11", outside, (outside, "203.0.113.20"), (4002, 53, 53));
        flow("udp", outside, "203.0.113.21", ("10.0.1.11", outside), (4003, 53, 5353));
        flow("tcp", outside, "203.0.113.21", ("10.0.1.11", outside), (4004, 53, 5353));
        flow("tcp", "2001:db8::1", "2001:db8::20", ("fd00:1::b", "2001:db8::1"), (4005, 22, 22));
        flow("tcp", outside, "203.0.113.20", ("10.0.1.12", outside), (4006, 22, 22));
        flow("tcp", outside, "203.0.113.22", ("203.0.113.22", outside), (4007, 22, 22));
        world.put_floating_ip(floating("203.0.113.22", 1));
        for address in ["203.0.113.20", "203.0.113.21", "2001:db8::20"] {
            world.remove_floating_ip(address.parse().unwrap());
        }
        bench.converge(&wanted(&world)).await;
        assert_eq!(flows(), ["4004", "4006"]);
    });
}

/// All rules went while the agent was away, and with them what is known of where flows go.
#[test]
fn what_goes_astray_ends_when_the_rules_are_back_and_what_goes_right_does_not() {
    in_namespace(|bench| async move {
        let mut world = world();
        let to = floating("203.0.113.20", 2).target.unwrap();
        let forward = Forward { protocol: Protocol::Tcp, port: 80, to, to_port: 8080 };
        let both = FloatingIp { forwards: vec![forward], ..floating("203.0.113.20", 1) };
        world.put_floating_ip(both);
        bench.converge(&wanted(&world)).await;
        let outside = "198.51.100.10";
        flow("tcp", outside, "203.0.113.20", ("10.0.1.11", outside), (4001, 22, 22));
        flow("tcp", outside, "203.0.113.20", ("10.0.1.12", outside), (4002, 80, 8080));
        flow("udp", outside, "203.0.113.20", ("203.0.113.20", outside), (4003, 53, 53));
        flow("tcp", outside, "203.0.113.20", ("10.0.1.99", outside), (4004, 22, 22));
        flow("tcp", outside, "203.0.113.20", ("10.0.1.11", outside), (4005, 80, 80));
        flow("tcp", "2001:db8::1", "2001:db8::20", ("fd00:1::99", "2001:db8::1"), (4006, 22, 22));
        flow("tcp", outside, "203.0.113.9", ("203.0.113.9", outside), (4007, 22, 22));
        sh("nft flush ruleset");
        bench.converge(&wanted(&world)).await;
        assert_eq!(flows(), ["4001", "4002", "4007"]);
    });
}

#[test]
fn what_is_sent_here_for_an_address_that_has_left_is_not_passed_on() {
    in_namespace(|bench| async move {
        sh("ip address add 203.0.113.11/24 dev eth0");
        bench.peer.sh("ip address add 203.0.113.1/24 dev peer0");
        bench.converge(&wanted(&world())).await;
        let mac = json("ip -j link show eth0")[0]["address"].as_str().unwrap().to_owned();
        let mut without = world();
        without.remove_floating_ip("203.0.113.20".parse().unwrap());
        bench.converge(&wanted(&without)).await;
        // A neighbour that has not heard of it sends as before.
        bench.peer.sh(&format!("ip neigh replace 203.0.113.20 lladdr {mac} dev peer0 nud permanent"));
        let capture = Capture::new(&bench.peer, "peer0");
        let ping = "ping -c 3 -i 0.2 -W 1 203.0.113.20 >/dev/null || true; busybox arping -q -c 1 -w 1 -I peer0 203.0.113.11";
        bench.peer.sh(ping);
        capture.packet(&["who-has 203.0.113.11"]);
        let text = capture.text();
        assert!(!text.contains("who-has 203.0.113.20"), "it looks for where to pass it on to:\n{text}");
        assert!(!text.to_lowercase().contains("redirect"), "{text}");
        bench.converge(&wanted(&world())).await;
        assert!(!sh("nft list set inet trestle_groups released").contains("203.0.113.20"), "it is back");
    });
}

/// Whether the host answers a neighbour that asks who has the address.
fn is_answered_for(peer: &Namespace, address: &str) -> bool {
    let asked = match address.contains(':') {
        false => format!("busybox arping -q -c 2 -w 1 -D -I peer0 {address} && echo nobody || echo somebody"),
        true => format!(
            "ip neigh flush dev peer0; ping -c 1 -W 1 {address} >/dev/null || true
             ip neigh show {address} dev peer0 | grep -q lladdr && echo somebody || echo nobody"
        ),
    };
    peer.sh(&asked).trim() == "somebody"
}

/// Another host takes the address, and says so.
async fn take_over(bench: &Bench) {
    bench.peer.sh("ip address add 203.0.113.20/32 dev peer0");
    bench.peer.sh("busybox arping -q -U -c 1 -w 1 -I peer0 -s 203.0.113.20 203.0.113.20; true");
}

#[test]
fn a_host_whose_agent_is_away_yields_an_address_that_another_one_announces() {
    in_namespace(|bench| async move {
        bench.peer.sh("ip address add 203.0.113.1/24 dev peer0");
        bench.converge(&wanted(&world())).await;
        assert!(is_answered_for(&bench.peer, "203.0.113.20"));
        assert!(!is_answered_for(&bench.peer, "203.0.113.99"), "nobody has that one");
        assert!(!bench.host.is_claimed().await.unwrap());

        take_over(&bench).await;
        bench.peer.sh("ip address del 203.0.113.20/32 dev peer0");
        assert!(is_on_eth0("203.0.113.20"), "nobody told the host");
        assert!(!is_answered_for(&bench.peer, "203.0.113.20"), "and it does not answer");
        assert!(bench.host.is_claimed().await.unwrap());

        // While the controller is away nobody knows better; when it is there, it does.
        let unconfirmed = HostSpec { unconfirmed: true, ..wanted(&world()) };
        assert_eq!(bench.plan(&unconfirmed).await, Default::default());
        let capture = Capture::new(&bench.peer, "peer0");
        bench.converge(&wanted(&world())).await;
        capture.packet(&["Request who-has 203.0.113.20", "tell 203.0.113.20"]);
        assert!(is_answered_for(&bench.peer, "203.0.113.20"));

        // It comes back by a change that names the address alone, and the claim with it.
        take_over(&bench).await;
        bench.peer.sh("ip address del 203.0.113.20/32 dev peer0");
        let key = Key::Address(link_name("eth0"), "203.0.113.20/32".parse().unwrap());
        let keys = trestle_core::plan::reads(&wanted(&world()), &key);
        let seen = bench.host.observe_keys(&keys).await.unwrap();
        let steps = trestle_core::plan::plan_keys(&wanted(&world()), &seen, &[key].into()).steps;
        assert!(bench.host.apply(&steps).await.is_empty());
        assert!(is_answered_for(&bench.peer, "203.0.113.20"));

        // What is not this host's any more is never answered for again, however it goes.
        take_over(&bench).await;
        bench.peer.sh("ip address del 203.0.113.20/32 dev peer0");
        let without = wanted(&dual_world(Ipv6Mode::Dhcpv6, &[(1, 1), (1, 2)]));
        let steps = bench.plan(&without).await.steps;
        for step in steps {
            assert!(bench.host.apply(&[step].into()).await.is_empty());
            assert!(!is_answered_for(&bench.peer, "203.0.113.20"));
        }
        assert_eq!(bench.plan(&without).await, Default::default(), "nothing is left of the claim");
    });
}

#[test]
fn a_claim_of_an_ipv6_address_is_heard_too() {
    in_namespace(|bench| async move {
        bench.peer.sh("ip address add 2001:db8::1/64 dev peer0 nodad");
        bench.converge(&wanted(&world())).await;
        wait_until("it is answered for", || is_answered_for(&bench.peer, "2001:db8::20"));
        assert!(!bench.host.is_claimed().await.unwrap());
        bench.peer.sh("ip address add 2001:db8::20/128 dev peer0 nodad");
        // A host with a new MAC tells the neighbours so, in the name of each of its addresses.
        bench.peer.sh("sysctl -q -w net.ipv6.conf.peer0.ndisc_notify=1");
        bench.peer.sh("ip link set peer0 address 02:00:00:00:00:77");
        wait_until("it is heard", || sh("nft list set inet trestle yielded6").contains("2001:db8::20"));
        assert!(bench.host.is_claimed().await.unwrap());
        bench.peer.sh("ip address del 2001:db8::20/128 dev peer0");
        assert!(is_on_eth0("2001:db8::20") && !is_answered_for(&bench.peer, "2001:db8::20"));
        bench.converge(&wanted(&world())).await;
        assert!(is_answered_for(&bench.peer, "2001:db8::20"));
    });
}

#[test]
fn what_somebody_answers_for_is_left_to_them_while_the_controller_is_away() {
    in_namespace(|bench| async move {
        for address in ["203.0.113.20/32", "2001:db8::20/128"] {
            bench.peer.sh(&format!("ip address add {address} dev peer0 nodad"));
        }
        let unconfirmed = HostSpec { unconfirmed: true, ..wanted(&world()) };
        bench.converge(&unconfirmed).await;
        assert_eq!(ADDRESSES.map(is_on_eth0), [false, false]);
        let problems = bench.plan(&unconfirmed).await.problems;
        let mac =
            json(&format!("nsenter --net={} ip -j link show peer0", bench.peer.path()))[0]["address"].clone();
        let told = problems.iter().filter(|problem| problem.detail.contains(mac.as_str().unwrap())).count();
        assert_eq!(told, 2, "{problems:?}");

        // Nobody else has it: then it is this host's, without its controller too.
        bench.peer.sh("ip address del 203.0.113.20/32 dev peer0");
        bench.converge(&unconfirmed).await;
        assert!(is_on_eth0("203.0.113.20") && !is_on_eth0("2001:db8::20"));
        bench.converge(&wanted(&world())).await;
        assert!(ADDRESSES.into_iter().all(is_on_eth0), "the controller says so");
    });
}
