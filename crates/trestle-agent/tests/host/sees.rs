//! Observing.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use trestle_agent::host::Host;
use trestle_api::agent::Feature;
use trestle_core::ownership::Owner;
use trestle_core::plan::{Step, plan_keys};
use trestle_core::spec::{HostSpec, Key, Object, Set, Table};
use trestle_core::types::Name;

use crate::bench::{Bench, dual_world, in_namespace, json, sh, without_dnsmasq};
use crate::cloud::{link_name, spec, world};
use trestle_core::world::Ipv6Mode;

#[test]
fn what_is_observed_is_what_ip_and_nft_say() {
    in_namespace(|bench| async move {
        sh("ip addr add 192.168.5.10/24 dev eth1; ip route add default via 192.168.5.1 metric 100");
        sh("ip link add docker0 type bridge");
        let wanted = spec(&dual_world(Ipv6Mode::Dhcpv6, &[(1, 1), (1, 2), (2, 1), (6, 1)]));
        bench.converge(&wanted).await;
        let seen = bench.observe(&wanted).await;
        let mut links = 0;
        for (key, observed) in &seen.objects {
            let (Key::Link(name), Object::Link(link)) = (key, &observed.object) else { continue };
            let said = &json(&format!("ip -j link show {name}"))[0];
            assert_eq!(link.mtu, said["mtu"]);
            assert_eq!(link.index.unwrap(), said["ifindex"]);
            assert_eq!(link.master.as_ref().map(|m| m.as_str()), said["master"].as_str());
            links += 1;
        }
        assert_eq!(links, 10, "eth0 to eth2, two bridges and docker0, four taps");
        let mut stations = 0;
        for (key, observed) in &seen.objects {
            let (Key::Station(bridge, mac), Object::Station { port, .. }) = (key, &observed.object) else {
                continue;
            };
            let said = &json(&format!("bridge -j fdb get {mac} br {bridge}"))[0];
            assert_eq!(port.as_str(), said["ifname"]);
            stations += 1;
        }
        assert_eq!(stations, 4);
        let marked = sh("ip -o addr show br101");
        assert!(marked.contains("10.0.1.1/24") && marked.contains("192.168.5.10/24"), "{marked}");
        let owner =
            |text: &str| seen.get(&Key::Address(link_name("br101"), text.parse().unwrap())).unwrap().owner;
        assert_eq!(owner("10.0.1.1/24"), Owner::Ours);
        assert_eq!(owner("192.168.5.10/24"), Owner::Foreign);
        for set in Set::FIXED {
            let kind = if set.is_map() { "map" } else { "set" };
            let table = format!("{} {}", set.table().family(), set.table().name());
            let listed = json(&format!("nft -j list {kind} {table} {}", set.name()));
            let listed = listed["nftables"][1][kind]["elem"].as_array().map_or(0, Vec::len);
            let ours =
                seen.objects.keys().filter(|key| matches!(key, Key::Element(s, _) if *s == set)).count();
            assert_eq!(ours, listed, "{set}");
        }
        assert_eq!(bench.plan(&wanted).await, Default::default());
    });
}

#[test]
fn random_walks_end_with_nothing_to_do_and_keys_are_seen_as_the_whole_is() {
    in_namespace(|bench| async move {
        sh("ip addr add 192.168.5.10/24 dev eth1; ip route add default via 192.168.5.1 metric 100");
        sh("ip link add docker0 type bridge");
        let mut all = vec![(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (6, 1)];
        all.extend(bench.vlan_interfaces());
        let mut random = 0x2545_f491_u32;
        for _ in 0..12 {
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            let some: Vec<_> =
                all.iter().enumerate().filter(|(n, _)| random >> n & 1 == 1).map(|(_, i)| *i).collect();
            let wanted = spec(&dual_world(Ipv6Mode::Dhcpv6, &some));
            bench.converge(&wanted).await;
            let whole = bench.observe(&wanted).await;
            assert_eq!(trestle_core::plan::plan(&wanted, &whole), Default::default(), "{some:?}");
            check_by_keys(&bench, &wanted, &whole).await;
        }
    });
}

/// Looking at every key gives what looking at everything does, and nothing to do either.
async fn check_by_keys(bench: &Bench, wanted: &HostSpec, whole: &trestle_core::state::HostState) {
    let keys: BTreeSet<Key> = whole.objects.keys().chain(wanted.objects.keys()).cloned().collect();
    let by_keys = bench.host.observe_keys(&keys).await.unwrap();
    assert_eq!(&by_keys, whole);
    for key in &keys {
        let reads = trestle_core::plan::reads(wanted, key);
        let state = bench.host.observe_keys(&reads).await.unwrap();
        let plan = plan_keys(wanted, &state, &[key.clone()].into());
        assert_eq!(plan, Default::default(), "{key}");
    }
}

#[test]
fn a_table_is_as_its_text_or_edited_and_another_programs_changes_are_not_overlooked() {
    in_namespace(|bench| async move {
        let wanted = without_dnsmasq(spec(&world(&[(1, 1)])));
        bench.converge(&wanted).await;
        let key = Key::Ruleset(Table::Guard);
        let look = || async {
            let state = bench.host.observe_keys(&[key.clone()].into()).await.unwrap();
            state.ruleset(Table::Guard).map(str::to_owned)
        };
        let text = trestle_core::render::ruleset(Table::Guard);
        assert_eq!(look().await, Some(text.clone()));
        sh("nft insert rule bridge trestle from_instance counter accept");
        assert_eq!(look().await, Some("edited".to_owned()));
        bench.converge(&wanted).await;
        assert_eq!(look().await, Some(text.clone()));
        sh("nft add table bridge trestle \"{ flags dormant; }\"");
        assert_eq!(look().await, Some("edited".to_owned()));
        bench.converge(&wanted).await;
        assert_eq!(look().await, Some(text));
        sh("nft delete table bridge trestle");
        assert_eq!(look().await, None);
        bench.converge(&wanted).await;
        assert_eq!(bench.plan(&wanted).await, Default::default());
    });
}

#[test]
fn an_element_that_another_program_took_or_gave_is_seen_at_once() {
    in_namespace(|bench| async move {
        let wanted = without_dnsmasq(spec(&dual_world(Ipv6Mode::Dhcpv6, &[(1, 1)])));
        bench.converge(&wanted).await;
        let elements = wanted.objects.keys().filter(|key| matches!(key, Key::Element(..)));
        let elements: BTreeSet<Key> = elements.cloned().collect();
        let seen = || async { bench.host.observe_keys(&elements).await.unwrap().objects.len() };
        assert_eq!(seen().await, elements.len());
        let of_keys = elements.iter().filter_map(|key| match key {
            Key::Element(set, _) => Some(*set),
            _ => None,
        });
        for set in of_keys.collect::<BTreeSet<_>>() {
            let kind = if set.is_map() { "map" } else { "set" };
            sh(&format!("nft flush {kind} {} {} {}", set.table().family(), set.table().name(), set.name()));
        }
        assert_eq!(seen().await, 0);
        // The guard is closed with each of them, and until all is put right.
        let more = || tokio::time::timeout(std::time::Duration::from_millis(500), bench.host.changed());
        while more().await.is_ok() {}
        bench.converge(&wanted).await;
        assert_eq!(seen().await, elements.len());
    });
}

/// nft prints an address in one of the ways it can be written, and bytes it does not know in another.
#[test]
fn elements_are_seen_as_they_are_written_in_keys_whatever_the_address() {
    in_namespace(|bench| async move {
        let mut steps: BTreeSet<Step> = Table::ALL
            .map(|table| Step::PutRuleset { table, text: trestle_core::render::ruleset(table) })
            .into();
        let mac = "fa:16:3e:00:00:01";
        let addresses =
            ["fd00::", "2001:0:0:1::1", "2001:db8:0:1:1:1:1:1", "2001:db8::1:0:0:1", "64:ff9b::1.2.3.4"];
        for address in addresses.map(|text| text.parse::<Ipv6Addr>().unwrap()) {
            let number = address.to_bits();
            let elements = [
                (Set::GuardIp6, format!("tr-000000000001 . {mac} . {address}")),
                (Set::GuardNd, format!("tr-000000000001 . {mac} . {number:#x}")),
                (Set::SharedIp6, format!("fwd . {address}")),
                (Set::SharedNd, format!("fwd . {number:#x}")),
            ];
            steps.extend(elements.map(|(set, element)| Step::AddElement { set, element }));
        }
        let of_devices = [
            (Set::SharedUplink, "vlan100".to_owned()),
            (Set::SharedMac, format!("eth0.5 . {mac}")),
            (Set::SharedIp4, "log . 10.0.0.1".to_owned()),
            (Set::GatewayMac, mac.to_owned()),
            (Set::Network, "br100".to_owned()),
            (Set::Private, "fwd".to_owned()),
            (Set::Routed, "br100 . br-101".to_owned()),
            (Set::GuardRange4, format!("log . {mac} . 10.9.0.0/16")),
            (Set::GuardRange6, format!("log . {mac} . 2001:db8:9::/48")),
            (Set::GuardEtherType, format!("fwd . {}", 0x88cc)),
            (Set::Unguarded, "fwd".to_owned()),
            (Set::Subnet4, "10.0.0.0/24".to_owned()),
            (Set::Subnet6, "fd00::/64".to_owned()),
            (Set::Home4, "10.0.0.0/24 . fwd".to_owned()),
            (Set::Home6, "fd00::/64 . log".to_owned()),
            (Set::Remote4, "10.0.0.6".to_owned()),
            (Set::Remote6, "fd00::6".to_owned()),
            (Set::Served4, "br100 . 10.0.0.1".to_owned()),
            (Set::MetadataPort, "7118".to_owned()),
            (Set::MetadataFrom, "log".to_owned()),
            (Set::Members4(17), "10.0.0.5".to_owned()),
            (Set::Members6(17), "2001:db8::1:0:0:1".to_owned()),
            (Set::Addresses4(3), "10.1.0.0/16".to_owned()),
            (Set::Addresses4(3), "10.2.0.1".to_owned()),
            (Set::Addresses6(3), "2001:db8::/32".to_owned()),
        ];
        let sets = [Set::Members4(17), Set::Members6(17), Set::Addresses4(3), Set::Addresses6(3)];
        steps.extend(sets.map(|set| Step::PutSet { set }));
        let chains = [
            ("to_3", "meta nfproto ipv4 ct original ip saddr @members4_17 counter accept comment \"rule 5\""),
            ("in_3", "jump to_3\ndrop"),
            ("out_3_17", "drop"),
        ];
        let put = |(chain, rules): (&str, &str)| Step::PutChain { chain: chain.into(), rules: rules.into() };
        steps.extend(chains.map(put));
        steps.extend(of_devices.map(|(set, element)| Step::AddElement { set, element }));
        let maps = [
            (Set::NatSourceIp, "10.0.0.0/24 . fwd : 203.0.113.9"),
            (Set::FloatingTo, "203.0.113.20 : 10.0.0.5"),
            (Set::FloatingTo6, "2001:db8::1:0:0:1 : fd00::5"),
            (Set::FloatingFrom, "10.0.0.5 . fwd : 203.0.113.20"),
            (Set::FloatingFrom6, "fd00::5 . log : 2001:db8::1:0:0:1"),
            (Set::FloatingBack, "10.0.0.5 : 203.0.113.20"),
            (Set::FloatingBack6, "fd00::5 : 2001:db8::1:0:0:1"),
            (Set::Metadata, "log . fa:16:3e:00:00:01 . 10.0.0.5 : 10.0.0.1 . 7118"),
            (Set::ForwardTo, "203.0.113.21 . tcp . 80 : 10.0.0.5 . 8080"),
            (Set::ForwardTo6, "2001:db8::5 . udp . 53 : fd00::5 . 5353"),
            (Set::HeardBy, "fwd : 2147483665"),
            (Set::Groups4, "10.0.0.5 : 2147483665"),
            (Set::Groups6, "fd00::5 : 2147483665"),
            (Set::Egress, "2147483665 : jump out_3_17"),
            (Set::Ingress, "2147483665 : jump in_3"),
        ];
        assert!(Set::FIXED.into_iter().all(|set| !set.is_map() || maps.iter().any(|(map, _)| *map == set)));
        steps.extend(maps.map(|(set, element)| Step::AddElement { set, element: element.to_owned() }));
        let failures = bench.host.apply(&steps).await;
        assert!(failures.is_empty(), "{failures:#?}");

        let keys: BTreeSet<Key> = steps.iter().map(Step::key).collect();
        let whole = bench.observe(&HostSpec::default()).await;
        assert_eq!(whole.objects.keys().cloned().collect::<BTreeSet<_>>(), keys);
        let led_to = whole.get(&"element/forward_to/203.0.113.21 . tcp . 80".parse().unwrap()).unwrap();
        assert_eq!(led_to.object, Object::Mapping("10.0.0.5 . 8080".to_owned()));
        assert_eq!(bench.host.observe_keys(&keys).await.unwrap(), whole);
        let absent =
            ["element/routed/br-101 . br100", "element/guard_nd/tr-000000000001 . fa:16:3e:00:00:01 . 0x5"];
        let absent = absent.map(|text| text.parse().unwrap()).into();
        assert_eq!(bench.host.observe_keys(&absent).await.unwrap(), Default::default());
    });
}

#[test]
fn a_kernel_that_makes_vlans_has_the_feature() {
    in_namespace(|bench| async move {
        let made = std::process::Command::new("ip")
            .args(["link", "add", "link", "eth0", "name", "v", "type", "vlan", "id", "5"])
            .status()
            .unwrap();
        let expected = if made.success() { vec![] } else { vec![Feature::Vlan] };
        assert_eq!(Vec::from_iter(bench.host.missing_features()), expected);
    });
}

#[test]
fn no_device_is_overlooked_while_others_come_and_go() {
    in_namespace(|bench| async move {
        let taps: String = (0..200).map(|n| format!("tuntap add tr-{n:012x} mode tap\n")).collect();
        let batch = bench.path("batch");
        std::fs::write(&batch, taps).unwrap();
        sh(&format!("ip -batch {}", batch.display()));
        let churn = "while :; do ip link add x type bridge; ip link del x; done";
        let mut churn = std::process::Command::new("sh").args(["-c", churn]).spawn().unwrap();
        for _ in 0..60 {
            let seen = bench.observe(&HostSpec::default()).await;
            assert_eq!(seen.objects.keys().filter(|key| matches!(key, Key::Link(_))).count(), 200);
        }
        churn.kill().unwrap();
        churn.wait().unwrap();
    });
}

#[test]
fn a_running_dnsmasq_is_seen_with_its_arguments_and_its_bridge() {
    in_namespace(|bench| async move {
        let wanted = spec(&world(&[(1, 1)]));
        bench.converge(&wanted).await;
        let network: Name = "net1".parse().unwrap();
        let seen = bench.observe(&wanted).await;
        let dnsmasq = seen.dnsmasq(&network).unwrap();
        assert_eq!(dnsmasq.arguments, crate::bench::dnsmasq_of(&wanted, "net1").arguments);
        assert_eq!(dnsmasq.bridge_index.unwrap(), json("ip -j link show br101")[0]["ifindex"]);
        sh("ip link del br101");
        assert!(!bench.plan(&wanted).await.is_empty());
        bench.converge(&wanted).await;
        assert_eq!(bench.plan(&wanted).await, Default::default(), "it was started anew on the new bridge");
    });
}
