//! An instance's network, printed and written into a guest.

use std::fs;

use crate::support::Server;

/// A server with an instance on a network without DHCP and one on a network with it.
fn server() -> Server {
    let server = Server::start();
    server.given("project create alpha");
    server.given(
        "network create lan --type flat --bridge br-lan --cidr 10.0.0.0/24 --gateway 10.0.0.1 \
         --cidr-v6 2001:db8::/64 --gateway-v6 2001:db8::1 --dns 10.0.0.53 --mtu 1450",
    );
    server.given("network create public --type flat_dhcp --bridge br100 --cidr 192.0.2.0/24");
    server.given("instance create db --project alpha --network public");
    server.given(
        "instance create web --project alpha --network public \
         --network lan,mac=fa:16:3e:00:00:02,address=10.0.0.5",
    );
    server
}

#[test]
fn what_would_be_written_is_printed() {
    let server = server();
    insta::assert_snapshot!(server.run("inject web --print interfaces"), @"
    exit 0
    --- stdout
    # /etc/network/interfaces.d/trestle
    # The network of web, written by trestle inject.

    # [mac]
    auto eth0
    iface eth0 inet dhcp

    # [mac]
    auto eth1
    iface eth1 inet static
        address 10.0.0.5
        netmask 255.255.255.0
        broadcast 10.0.0.255
        gateway 10.0.0.1
        mtu 1450
        dns-nameservers 10.0.0.53
        dns-search trestle.internal
    iface eth1 inet6 static
        address 2001:db8::2
        netmask 64
        gateway 2001:db8::1
        accept_ra 0

    # /etc/resolv.conf
    # written by trestle inject
    search trestle.internal
    nameserver 10.0.0.53
    ");
}

#[test]
fn a_root_gets_the_form_that_it_reads_once() {
    let server = server();
    let root = server.path("root");
    fs::create_dir_all(root.join("etc/netplan")).unwrap();
    let line = format!("inject web --root {}", root.display());
    insta::assert_snapshot!(server.run(&line), @"
    exit 0
    --- stderr
    wrote the network of web into [folder]/root, as netplan
      wrote /etc/netplan/90-trestle.yaml
    ");
    insta::assert_snapshot!(server.run(&format!("{line} --json")), @r#"
    exit 0
    --- stdout
    {
      "instance": "web",
      "format": "netplan",
      "written": [],
      "removed": []
    }
    --- stderr
    [folder]/root has the network of web already, as netplan
    "#);
    let text = fs::read_to_string(root.join("etc/netplan/90-trestle.yaml")).unwrap();
    assert!(text.contains("10.0.0.5/24"), "{text}");
}

#[test]
fn an_iso_is_made() {
    let server = server();
    let iso = server.path("seed.iso");
    insta::assert_snapshot!(server.run(&format!("inject web --iso {}", iso.display())), @"
    exit 0
    --- stderr
    made [folder]/seed.iso with the network of web
    ");
    assert!(iso.is_file());
}

#[test]
fn what_cannot_be_injected_is_refused() {
    let server = server();
    let root = server.path("root");
    fs::create_dir(&root).unwrap();
    insta::assert_snapshot!(server.run(&format!("inject web --root {}", root.display())), @"
    exit 1
    --- stderr
    error: the guest has none of the places where a network is configured: it has no /etc/netplan, no /etc/systemd/system/multi-user.target.wants/systemd-networkd.service, no /etc/network/interfaces, no /etc/cloud/cloud.cfg

    hint: say which form the guest reads with --format, or make it an ISO with --iso
    ");
    insta::assert_snapshot!(server.run("inject db --print netplan"), @"
    exit 1
    --- stderr
    error: instance db has no interface on a network of type flat

    hint: its addresses reach it by DHCP, with nothing to be written
    ");
    insta::assert_snapshot!(server.run("inject web --print netplan --name eth7"), @"
    exit 1
    --- stderr
    error: give --name once for each of the 2 interfaces of web
    ");
    insta::assert_snapshot!(server.run("inject web --root / --partition 2"), @"
    exit 2
    --- stderr
    error: the argument '--root <FOLDER>' cannot be used with '--partition <NUMBER>'

    Usage: trestle inject <--root <FOLDER>|--image <FILE>|--iso <FILE>|--print <FORM>> <INSTANCE>

    For more information, try '--help'.
    ");
}
