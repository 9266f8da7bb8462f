//! IPv6, asked of guests with the clients that they have: the kernel's own and dhclient.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use trestle_core::ownership::Owner;
use trestle_core::spec::{HostSpec, Key};
use trestle_core::world::{Attachment, Interface, Ipv6Mode, Plug};

use crate::bench::{Bench, Namespace, dual_interface, dual_world, in_namespace, json, sh, wait_until};
use crate::cloud::{self, link_name, spec};

/// The spec with one interface of network 1, whose other end is `eth0` in this namespace.
fn spec_of(mode: Ipv6Mode, guest: &Namespace) -> HostSpec {
    let plug = Plug::Veth { netns: guest.path(), name: link_name("eth0") };
    let attachment = Some(Attachment { host: cloud::HOST, plug });
    let mut world = dual_world(mode, &[(1, 1)]);
    world.put_interface(Interface { attachment, ..dual_interface(mode, 1) });
    spec(&world)
}

/// The addresses of a device that may be used.
fn addresses(guest: &Namespace, device: &str) -> String {
    guest.sh(&format!("ip -o -6 addr show dev {device} -tentative"))
}

/// Runs dhclient once, for this many seconds, as a guest that never was here. Gives what it says.
fn dhclient(bench: &Bench, guest: &Namespace, device: &str, seconds: u32) -> String {
    // Without an address of the link, there is no DHCPv6.
    wait_until("there is a link-local address", || addresses(guest, device).contains("inet6 fe80"));
    let (script, configuration) = (bench.path("dhclient-script"), bench.path("dhclient.conf"));
    let set = "[ -z \"$new_ip6_address\" ] || ip -6 addr replace $new_ip6_address/128 dev $interface";
    std::fs::write(&script, format!("#!/bin/sh\n{set}\n")).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(&configuration, format!("timeout {seconds};\n")).unwrap();
    let mut client = Command::new("nsenter");
    client.arg(format!("--net={}", guest.path())).args(["dhclient", "-6", "-1", "-v", "-cf"]);
    client.arg(configuration).arg("-sf").arg(script);
    let leases = bench.path(&format!("{device}.leases"));
    std::fs::write(&leases, "").unwrap();
    client.arg("-lf").arg(leases);
    let pid = bench.path(&format!("{device}.pid"));
    let output = client.arg("-pf").arg(&pid).arg(device).output().unwrap();
    // It stays, to renew the lease.
    if let Ok(pid) = std::fs::read_to_string(pid) {
        sh(&format!("kill {} || true", pid.trim()));
    }
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_guest_is_given_its_address_by_dhcpv6_and_a_stranger_is_given_none() {
    in_namespace(|bench| async move {
        let guest = Namespace::new();
        let wanted = spec_of(Ipv6Mode::Dhcpv6, &guest);
        bench.converge(&wanted).await;
        let said = dhclient(&bench, &guest, "eth0", 20);
        assert!(said.contains("IAADDR fd00:1::b"), "{said}");
        wait_until("the address is tried out", || addresses(&guest, "eth0").contains("inet6 fd00:1::b/128"));
        wait_until("the prefix is advertised", || guest.sh("ip -6 route").contains("fd00:1::/64 dev eth0"));
        guest.sh("ping -6 -c 1 -W 5 fd00:1::1");
        guest.sh("ip addr add 10.0.1.11/24 dev eth0");
        let named = guest.sh("busybox nslookup vm1.trestle.internal 10.0.1.1");
        assert!(named.contains("Address: 10.0.1.11") && named.contains("Address: fd00:1::b"), "{named}");

        let stranger = Namespace::new();
        let netns = stranger.path();
        sh(&format!("ip link add strange type veth peer name eth9 netns {netns}"));
        sh("ip link set strange master br101 up");
        stranger.sh("ip link set eth9 up");
        let said = dhclient(&bench, &stranger, "eth9", 2);
        assert!(said.contains("Solicit on eth9") && !said.contains("IAADDR"), "{said}");
        assert!(!addresses(&stranger, "eth9").contains("fd00:1::"));
    });
}

#[test]
fn a_lease_of_dhcpv6_is_seen_and_ends_with_its_entry() {
    in_namespace(|bench| async move {
        let guest = Namespace::new();
        let wanted = spec_of(Ipv6Mode::Dhcpv6, &guest);
        bench.converge(&wanted).await;
        let said = dhclient(&bench, &guest, "eth0", 20);
        assert!(said.contains("IAADDR fd00:1::b"), "{said}");
        let lease: Key = "lease6/net1/fd00:1::b".parse().unwrap();
        assert!(bench.observe(&wanted).await.get(&lease).is_some());
        assert_eq!(bench.plan(&wanted).await, Default::default());

        let mut without = wanted;
        without.objects.retain(|key, _| !matches!(key, Key::DhcpHost6(..)));
        let steps: Vec<String> = bench.plan(&without).await.steps.iter().map(ToString::to_string).collect();
        assert!(steps[2].starts_with("release lease of fd00:1::b by 00:"), "{steps:#?}");
        bench.converge(&without).await;
        // dnsmasq empties the file before it writes it anew.
        wait_until("dnsmasq has written that the lease is over", || {
            let file = std::fs::read_to_string(bench.path("networks/net1/leases")).unwrap();
            file.contains("duid") && !file.contains("fd00:1::b")
        });
        assert_eq!(bench.plan(&without).await, Default::default());
        let said = dhclient(&bench, &guest, "eth0", 2);
        assert!(said.contains("Solicit on eth0") && !said.contains("IAADDR"), "{said}");
    });
}

#[test]
fn a_guest_makes_its_address_from_what_is_advertised_and_reaches_its_gateway() {
    in_namespace(|bench| async move {
        let guest = Namespace::new();
        let wanted = spec_of(Ipv6Mode::Slaac, &guest);
        bench.converge(&wanted).await;
        let expected = dual_interface(Ipv6Mode::Slaac, 1).addresses[1];
        wait_until("the guest has its address", || {
            addresses(&guest, "eth0").contains(&format!("inet6 {expected}/64"))
        });
        guest.sh("ping -6 -c 1 -W 5 fd00:1::1");
        let routes = guest.sh("ip -6 route show default");
        assert!(routes.contains("via fe80::f816:3eff:feff:1 dev eth0 proto ra"), "{routes}");
        assert_eq!(bench.plan(&wanted).await, Default::default());
    });
}

#[test]
fn an_address_of_ours_is_marked_as_such_and_not_tried_out() {
    in_namespace(|bench| async move {
        bench.converge(&spec(&dual_world(Ipv6Mode::Dhcpv6, &[(1, 1)]))).await;
        let all = json("ip -j addr show dev br101");
        let of = |text: &str| {
            let mut all = all[0]["addr_info"].as_array().unwrap().iter();
            all.find(|address| address["local"] == text).unwrap().clone()
        };
        for (address, prefix) in [("10.0.1.1", 24), ("fd00:1::1", 64)] {
            assert_eq!(of(address)["prefixlen"], prefix);
            assert!(of(address)["tentative"].is_null());
        }
        assert_eq!(of("fd00:1::1")["nodad"], true);
        sh("ip addr add fd00:9::9/64 dev br101");
        let seen = bench.observe(&HostSpec::default()).await;
        let owner =
            |address: &str| seen.get(&format!("address/br101/{address}").parse().unwrap()).unwrap().owner;
        assert_eq!((owner("10.0.1.1/24"), owner("fd00:1::1/64")), (Owner::Ours, Owner::Ours));
        assert_eq!(owner("fd00:9::9/64"), Owner::Foreign);
    });
}
