//! Where guests are: what is held fast, and what neighbours are told.

use trestle_agent::host::{ApplyError, Host};
use trestle_core::plan::Step;
use trestle_core::spec::{HostSpec, Key, Object};
use trestle_core::types::{LinkName, Mac};
use trestle_core::world::{Attachment, Interface, Ipv6Mode, Plug};

use crate::bench::{
    Capture, Namespace, dual_interface, dual_world, in_namespace, json, sh, wait_until, without_dnsmasq,
};
use crate::cloud::{self, interface, link_name, spec, world};

/// The port that leads to a MAC, and how, as bridge(8) says.
fn entry(mac: Mac) -> (String, String, String) {
    let all = json(&format!("bridge -j fdb get {mac} br br101"));
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    (text(&all[0]["ifname"]), text(&all[0]["state"]), all[0]["flags"].to_string())
}

fn held_at(port: &LinkName) -> (String, String, String) {
    (port.to_string(), "static".to_owned(), r#"["sticky"]"#.to_owned())
}

#[test]
fn a_guest_stays_where_it_is_whatever_others_send() {
    in_namespace(|bench| async move {
        bench.converge(&without_dnsmasq(spec(&world(&[(1, 1)])))).await;
        let guest = interface(1, 1);
        assert_eq!(entry(guest.mac), held_at(&guest.device));
        // First as the guest, then as somebody else: once the latter is learnt, the former was heard.
        for mac in [&guest.mac.to_string(), "02:00:00:00:00:99"] {
            bench.peer.sh(&format!("ip link set peer1 address {mac}"));
            bench.peer.sh("ping -6 -c 1 -W 1 ff02::1%peer1 || true");
        }
        wait_until("somebody else is learnt", || {
            sh("bridge fdb show br br101").contains("02:00:00:00:00:99")
        });
        assert_eq!(entry("02:00:00:00:00:99".parse().unwrap()).0, "eth1");
        assert_eq!(entry(guest.mac), held_at(&guest.device));
    });
}

#[test]
fn what_is_let_go_is_held_again_and_what_nobody_asked_for_is_let_go() {
    in_namespace(|bench| async move {
        let wanted = without_dnsmasq(spec(&world(&[(1, 1)])));
        bench.converge(&wanted).await;
        let guest = interface(1, 1);
        let (device, mac) = (&guest.device, guest.mac);
        let key = Key::Station(link_name("br101"), mac);
        let station = Object::Station { port: device.clone(), addresses: Default::default() };
        let seen = || async { bench.host.observe_keys(&[key.clone()].into()).await.unwrap() };
        assert_eq!(seen().await.get(&key).unwrap().object, station);

        sh(&format!("bridge fdb del {mac} dev {device} master"));
        assert_eq!(seen().await.get(&key), None);
        assert_eq!(bench.plan(&wanted).await.steps.len(), 1);
        bench.converge(&wanted).await;
        assert_eq!(entry(mac), held_at(device));
        sh(&format!("bridge fdb replace {mac} dev {device} master static"));
        bench.converge(&wanted).await;
        assert_eq!(entry(mac), held_at(device));
        sh(&format!("bridge fdb replace {mac} dev eth1 master static sticky"));
        bench.converge(&wanted).await;
        assert_eq!(entry(mac), held_at(device));

        sh(&format!("bridge fdb add 02:00:00:00:00:01 dev {device} master static sticky"));
        sh("bridge fdb add 02:00:00:00:00:02 dev eth1 master static sticky");
        bench.converge(&wanted).await;
        let listed = sh("bridge fdb show br br101");
        assert!(!listed.contains("02:00:00:00:00:01"), "{listed}");
        assert!(listed.contains("02:00:00:00:00:02"), "what is at another's port is another's: {listed}");
        assert_eq!(bench.plan(&wanted).await, Default::default());
    });
}

#[test]
fn a_guest_is_held_fast_at_a_port_of_its_bridge_only() {
    in_namespace(|bench| async move {
        bench.converge(&without_dnsmasq(spec(&world(&[(1, 1), (2, 1)])))).await;
        let hold = |port: LinkName| Step::SetStation {
            bridge: link_name("br101"),
            mac: interface(1, 1).mac,
            port,
            addresses: Default::default(),
        };
        let error = |mut failures: Vec<trestle_agent::host::StepFailure>| failures.remove(0).error;
        let elsewhere = error(bench.host.apply(&[hold(interface(2, 1).device)].into()).await);
        assert_eq!(elsewhere.to_string(), format!("{} is no port of br101", interface(2, 1).device));
        let foreign = error(bench.host.apply(&[hold(link_name("eth1"))].into()).await);
        assert!(matches!(foreign, ApplyError::LinkDiffers { .. }), "{foreign}");
    });
}

/// A guest that heard its own advertisement would take its address for a duplicate.
#[test]
fn a_guest_is_announced_to_others_in_its_own_name_and_not_to_itself() {
    in_namespace(|bench| async move {
        let guest = Namespace::new();
        let plug = Plug::Veth { netns: guest.path(), name: link_name("eth0") };
        let interface = Interface {
            attachment: Some(Attachment { host: cloud::HOST, plug }),
            ..dual_interface(Ipv6Mode::Dhcpv6, 1)
        };
        let mut world = dual_world(Ipv6Mode::Dhcpv6, &[(1, 1)]);
        world.put_interface(interface.clone());
        let others = Capture::new(&bench.peer, "peer1");
        let wanted = without_dnsmasq(spec(&world));
        bench.converge(&wanted).await;
        let mac = interface.mac.to_string();
        let asked = others.packet(&[&mac, "ARP"]);
        assert!(asked.contains(&format!("{mac} > ff:ff:ff:ff:ff:ff")), "{asked}");
        assert!(asked.contains("Request who-has 10.0.1.11 tell 10.0.1.11"), "{asked}");
        let told = others.packet(&[
            &format!("{mac} > 33:33:00:00:00:01"),
            "neighbor advertisement",
            "link-address option",
        ]);
        for words in [
            "hlim 255",
            "fd00:1::b > ff02::1",
            "[icmp6 sum ok]",
            "tgt is fd00:1::b, Flags [override]",
            &format!("destination link-address option (2), length 8 (1): {mac}"),
        ] {
            assert!(told.contains(words), "no `{words}` in {told}");
        }

        let own = Capture::new(&guest, "eth0");
        let key = Key::Station(link_name("br101"), interface.mac);
        let Some(Object::Station { port, addresses }) = wanted.objects.get(&key).cloned() else { panic!() };
        let again = Step::SetStation { bridge: link_name("br101"), mac: interface.mac, port, addresses };
        assert!(bench.host.apply(&[again].into()).await.is_empty());
        // What the host asks after that, the guest hears.
        sh("ping -c 1 -W 1 10.0.1.99 >/dev/null || true");
        own.packet(&["who-has 10.0.1.99"]);
        let heard = own.text();
        assert!(!heard.contains("tell 10.0.1.11") && !heard.contains("tgt is fd00:1::b"), "{heard}");
    });
}

#[test]
fn a_shared_gateway_is_announced_to_guests_and_not_to_other_hosts() {
    in_namespace(|bench| async move {
        let guest = Namespace::new();
        let plug = Plug::Veth { netns: guest.path(), name: link_name("eth0") };
        let attachment = Some(Attachment { host: cloud::HOST, plug });
        let mut world = dual_world(Ipv6Mode::Dhcpv6, &[(1, 1)]);
        world.put_interface(Interface { attachment, ..dual_interface(Ipv6Mode::Dhcpv6, 1) });
        let wanted = without_dnsmasq(spec(&world));
        bench.converge(&wanted).await;
        let (guests, others) = (Capture::new(&guest, "eth0"), Capture::new(&bench.peer, "peer1"));
        sh("ip addr del 10.0.1.1/24 dev br101; ip addr del fd00:1::1/64 dev br101");
        bench.converge(&wanted).await;
        let mac = cloud::network(1).bridge_mac.to_string();
        guests.packet(&[&format!("{mac} > ff:ff:ff:ff:ff:ff"), "Request who-has 10.0.1.1 tell 10.0.1.1"]);
        let told = guests.packet(&[&format!("{mac} > 33:33:00:00:00:01"), "tgt is fd00:1::1"]);
        assert!(told.contains("Flags [router, override]"), "a router that is none is forgotten: {told}");

        // A guest that is announced after that is heard by others.
        world.put_interface(dual_interface(Ipv6Mode::Dhcpv6, 2));
        bench.converge(&without_dnsmasq(spec(&world))).await;
        others.packet(&["tgt is fd00:1::c"]);
        assert!(!others.text().contains(&mac), "{}", others.text());
    });
}

#[test]
fn a_host_without_a_spec_holds_nobody() {
    in_namespace(|bench| async move {
        bench.converge(&without_dnsmasq(spec(&world(&[(1, 1), (6, 1)])))).await;
        bench.converge(&HostSpec::default()).await;
        assert!(!sh("bridge fdb show").contains("sticky"));
    });
}
