//! Noticing what others do.

use trestle_agent::host::Host;
use trestle_core::spec::{HostSpec, Key, Object};
use trestle_core::world::Ipv6Mode;

use crate::bench::{dual_world, in_namespace, sh, without_dnsmasq};
use crate::cloud::{spec, world};

#[test]
fn our_own_changes_are_not_noticed() {
    in_namespace(|bench| async move {
        sh("ip addr add 192.168.5.10/24 dev eth1; ip route add default via 192.168.5.1 metric 100");
        sh("ip link add docker0 type bridge; ip link set eth3 down");
        let interfaces = [(1, 1), (2, 1), (6, 1)].into_iter().chain(bench.vlan_interfaces());
        let wanted = spec(&dual_world(Ipv6Mode::Dhcpv6, &interfaces.collect::<Vec<_>>()));
        bench.converge(&wanted).await;
        bench.assert_silent().await;
        bench.converge(&spec(&world(&[(1, 2)]))).await;
        bench.converge(&HostSpec::default()).await;
        bench.assert_silent().await;
    });
}

#[test]
fn a_flushed_ruleset_is_noticed_with_the_culprits_name() {
    in_namespace(|bench| async move {
        let wanted = without_dnsmasq(spec(&world(&[(1, 1)])));
        bench.converge(&wanted).await;
        let mut nft = std::process::Command::new("nft").args(["flush", "ruleset"]).spawn().unwrap();
        let change = bench.changed().await;
        nft.wait().unwrap();
        assert_eq!(change.culprit, Some(format!("nft (pid {})", nft.id())));
        assert!(change.what.starts_with("table bridge trestle changed"), "{change:?}");
        bench.converge(&wanted).await;
        assert_eq!(bench.plan(&wanted).await, Default::default());
    });
}

#[test]
fn rules_of_others_are_nothing_to_notice() {
    in_namespace(|bench| async move {
        let wanted = without_dnsmasq(spec(&world(&[(1, 1)])));
        bench.converge(&wanted).await;
        sh("nft add table ip docker; nft add table ip trestle; nft delete table ip docker");
        sh("ip link add docker0 type bridge; ip addr add 172.17.0.1/16 dev docker0; ip link del docker0");
        bench.assert_silent().await;
    });
}

#[test]
fn a_deleted_bridge_is_noticed() {
    in_namespace(|bench| async move {
        let wanted = without_dnsmasq(spec(&world(&[(1, 1)])));
        bench.converge(&wanted).await;
        sh("ip link del br101");
        let change = bench.changed().await;
        assert!(change.what.starts_with("br101 was deleted"), "{change:?}");
    });
}

#[test]
fn a_removed_address_is_noticed() {
    in_namespace(|bench| async move {
        let wanted = without_dnsmasq(spec(&world(&[(1, 1)])));
        bench.converge(&wanted).await;
        sh("ip addr del 10.0.1.1/24 dev br101");
        let change = bench.changed().await;
        assert!(change.what.starts_with("10.0.1.1/24 was deleted from br101"), "{change:?}");
        assert!(change.culprit.is_some_and(|culprit| culprit.contains("pid ")));
    });
}

#[test]
fn a_tap_that_is_set_down_or_deleted_is_noticed() {
    in_namespace(|bench| async move {
        let wanted = without_dnsmasq(spec(&world(&[(1, 1)])));
        bench.converge(&wanted).await;
        let device = crate::cloud::interface(1, 1).device;
        sh(&format!("ip link set {device} down"));
        let change = bench.changed().await;
        assert!(change.what.starts_with(&format!("{device} changed")), "{change:?}");
        sh(&format!("ip link del {device}"));
        let change = bench.changed().await;
        assert!(change.what.contains(device.as_str()), "{change:?}");
    });
}

#[test]
fn a_killed_dnsmasq_is_noticed_and_started_again() {
    in_namespace(|bench| async move {
        let wanted = spec(&world(&[(1, 1)]));
        bench.converge(&wanted).await;
        let pid = bench.dnsmasq_pid("net1");
        sh(&format!("kill -9 {pid}"));
        let change = bench.changed().await;
        assert_eq!(change.what, format!("the dnsmasq of net1 (pid {pid}) ended"));
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "it is reaped");
        bench.converge(&wanted).await;
        assert_ne!(bench.dnsmasq_pid("net1"), pid);
        assert_eq!(bench.plan(&wanted).await, Default::default());
    });
}

#[test]
fn a_file_that_another_program_deletes_is_noticed() {
    in_namespace(|bench| async move {
        let wanted = without_dnsmasq(spec(&world(&[(1, 1)])));
        bench.converge(&wanted).await;
        let entry = bench.path(&format!("networks/net1/dhcp-hosts/{}", crate::cloud::interface(1, 1).mac));
        std::fs::remove_file(&entry).unwrap();
        let change = bench.changed().await;
        assert_eq!(change.what, format!("{} was deleted", entry.display()));
    });
}

#[test]
fn a_folder_that_another_program_moves_away_is_noticed() {
    in_namespace(|bench| async move {
        let wanted = without_dnsmasq(spec(&world(&[(1, 1)])));
        bench.converge(&wanted).await;
        let folder = bench.path("networks/net1/dhcp-hosts");
        std::fs::rename(&folder, bench.path("elsewhere")).unwrap();
        let change = bench.changed().await;
        assert_eq!(change.what, format!("{} was deleted", folder.display()));
    });
}

#[test]
fn forwarding_that_is_turned_off_is_noticed_and_our_turning_it_on_is_not() {
    in_namespace(|bench| async move {
        let mut wanted = without_dnsmasq(spec(&world(&[(1, 1)])));
        for (protocol, name) in [("IPv4", "net.ipv4.ip_forward"), ("IPv6", "net.ipv6.conf.all.forwarding")] {
            wanted.objects.insert(Key::Sysctl(name.to_owned()), Object::Sysctl("1".to_owned()));
            bench.converge(&wanted).await;
            bench.assert_silent().await;
            sh(&format!("sysctl -qw {name}=0"));
            let change = bench.changed().await;
            assert!(change.what.starts_with(&format!("the settings of {protocol} changed")), "{change:?}");
            bench.converge(&wanted).await;
            bench.assert_silent().await;
        }
    });
}

#[test]
fn a_waiting_that_is_given_up_loses_no_change() {
    in_namespace(|bench| async move {
        let wanted = without_dnsmasq(spec(&world(&[(1, 1)])));
        bench.converge(&wanted).await;
        sh("nft flush ruleset");
        for _ in 0..50 {
            let waited = std::time::Duration::from_micros(200);
            let _ =
                tokio::time::timeout(waited, bench.host.changed()).await.map(|change| panic!("{change:?}"));
        }
        assert!(bench.changed().await.what.starts_with("table bridge trestle changed"));
    });
}
