//! Each noun made, listed, shown and deleted.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use trestle_api::agent::Report;
use trestle_api::plan::{Problem, ProblemCode};
use trestle_api::spec::Key;
use trestle_api::{ApiError, Feature};

use crate::support::Server;

#[test]
fn projects() {
    let server = Server::start();
    insta::assert_snapshot!(server.run("project create alpha"), @r"
    exit 0
    --- stderr
    created project alpha
    ");
    insta::assert_snapshot!(server.run("project create beta --json"), @r#"
    exit 0
    --- stdout
    {
      "id": "[id]",
      "name": "beta",
      "quota": {
        "networks": null,
        "fixed_ips": null,
        "floating_ips": 10,
        "security_groups": 100,
        "security_group_rules": 200
      },
      "usage": {
        "networks": 0,
        "fixed_ips": 0,
        "floating_ips": 0,
        "security_groups": 1,
        "security_group_rules": 2
      },
      "auto_assign": null,
      "created_at": "[time]"
    }
    --- stderr
    created project beta
    "#);
    insta::assert_snapshot!(server.run("project list"), @"
    exit 0
    --- stdout
    NAME   NETWORKS     FIXED IPS    FLOATING IPS  CREATED
    alpha  0, no limit  0, no limit  0 of 10       [time]
    beta   0, no limit  0, no limit  0 of 10       [time]
    ");
    insta::assert_snapshot!(server.run("project list --json"), @r#"
    exit 0
    --- stdout
    {
      "items": [
        {
          "id": "[id]",
          "name": "alpha",
          "quota": {
            "networks": null,
            "fixed_ips": null,
            "floating_ips": 10,
            "security_groups": 100,
            "security_group_rules": 200
          },
          "usage": {
            "networks": 0,
            "fixed_ips": 0,
            "floating_ips": 0,
            "security_groups": 1,
            "security_group_rules": 2
          },
          "auto_assign": null,
          "created_at": "[time]"
        },
        {
          "id": "[id]",
          "name": "beta",
          "quota": {
            "networks": null,
            "fixed_ips": null,
            "floating_ips": 10,
            "security_groups": 100,
            "security_group_rules": 200
          },
          "usage": {
            "networks": 0,
            "fixed_ips": 0,
            "floating_ips": 0,
            "security_groups": 1,
            "security_group_rules": 2
          },
          "auto_assign": null,
          "created_at": "[time]"
        }
      ]
    }
    "#);
    insta::assert_snapshot!(server.run("project show alpha"), @"
    exit 0
    --- stdout
    name              alpha
    id                [id]
    created           [time]
    networks          0, no limit
    fixed ips         0, no limit
    floating ips      0 of 10
    security groups   1 of 100
    rules of a group  2 of 200
    auto assign       -
    ");
    insta::assert_snapshot!(
        server.run("project set-quota alpha --networks 3 --fixed-ips 0 --floating-ips unlimited"),
        @"
    exit 0
    --- stderr
    project alpha may have: networks 3, fixed ips 0, floating ips unlimited, security groups 100, rules of a group 200
    "
    );
    insta::assert_snapshot!(server.run("project show alpha"), @"
    exit 0
    --- stdout
    name              alpha
    id                [id]
    created           [time]
    networks          0 of 3
    fixed ips         0 of 0
    floating ips      0, no limit
    security groups   1 of 100
    rules of a group  2 of 200
    auto assign       -
    ");
    insta::assert_snapshot!(server.run("project set-quota alpha --networks unlimited --json"), @r#"
    exit 0
    --- stdout
    {
      "id": "[id]",
      "name": "alpha",
      "quota": {
        "networks": null,
        "fixed_ips": 0,
        "floating_ips": null,
        "security_groups": 100,
        "security_group_rules": 200
      },
      "usage": {
        "networks": 0,
        "fixed_ips": 0,
        "floating_ips": 0,
        "security_groups": 1,
        "security_group_rules": 2
      },
      "auto_assign": null,
      "created_at": "[time]"
    }
    --- stderr
    project alpha may have: networks unlimited, fixed ips 0, floating ips unlimited, security groups 100, rules of a group 200
    "#);
    insta::assert_snapshot!(server.run("project delete alpha --yes"), @r"
    exit 0
    --- stderr
    deleted project alpha
    ");
    insta::assert_snapshot!(server.run("project create beta"), @r"
    exit 1
    --- stderr
    error: there is a project `beta` already
    ");
}

#[test]
fn hosts() {
    let server = Server::start();
    insta::assert_snapshot!(server.run("host create kvm1 --flat-interface eth1 --vlan-interface eth3 --public-interface eth0"), @r"
    exit 0
    --- stderr
    created host kvm1
    ");
    insta::assert_snapshot!(server.run("host set kvm1 --public-interface eth2 --gateway no"), @r"
    exit 0
    --- stderr
    changed host kvm1
    ");
    insta::assert_snapshot!(server.run_until("host list", "0 of 4"), @"
    exit 0
    --- stdout
    NAME  AGENT       GENERATION  PROBLEMS  GATEWAY  FLAT INTERFACE  VLAN INTERFACE  PUBLIC INTERFACE
    kvm1  never seen  0 of 4      0         no       eth1            eth3            eth2
    ");
    insta::assert_snapshot!(server.run("host show kvm1"), @"
    exit 0
    --- stdout
    name               kvm1
    id                 [id]
    flat interface     eth1
    vlan interface     eth3
    public interface   eth2
    routing source ip  device
    may be gateway     no
    gateway of         -
    created            [time]
    agent              never seen
    agent version      -
    kernel             -
    kernel lacks       -
    devices            -
    last seen          -
    generation         0 of 4
    problems           0
    ");
    insta::assert_snapshot!(server.run("host show kvm1 --json"), @r#"
    exit 0
    --- stdout
    {
      "id": "[id]",
      "name": "kvm1",
      "flat_interface": "eth1",
      "vlan_interface": "eth3",
      "public_interface": "eth2",
      "routing_source_ip": "device",
      "gateway": false,
      "created_at": "[time]",
      "status": {
        "connected": false,
        "last_seen": null,
        "generation_wanted": 4,
        "generation_applied": 0,
        "problems": [],
        "agent_problems": [],
        "missing_features": [],
        "devices": [],
        "agent_version": null,
        "kernel": null
      }
    }
    "#);
    insta::assert_snapshot!(server.run("host delete kvm1 --yes"), @r"
    exit 0
    --- stderr
    deleted host kvm1
    ");
}

#[test]
fn networks() {
    let server = Server::start();
    insta::assert_snapshot!(
        server.run("network create public --type flat_dhcp --cidr 10.0.0.0/24 --bridge br100 --dns 9.9.9.9 --dns 1.1.1.1"),
        @"
    exit 0
    --- stderr
    created network public (flat_dhcp, 10.0.0.0/24, bridge br100, shared by all)
    "
    );
    insta::assert_snapshot!(server.run("network list"), @"
    exit 0
    --- stdout
    NAME    TYPE       PROJECT   RANGES       GATEWAY     USED
    public  flat_dhcp  (shared)  10.0.0.0/24  every host  0 of 253
    ");
    insta::assert_snapshot!(server.run("network show public"), @"
    exit 0
    --- stdout
    name               public
    id                 [id]
    type               flat_dhcp
    project            (shared)
    ipv4               10.0.0.0/24
      router           10.0.0.1
      first given out  10.0.0.2
      used             0 of 253
    gateway            every host
    bridge             br100
    bridge interface   -
    dns                9.9.9.9, 1.1.1.1
    domain             trestle.internal
    mtu                1500
    dhcp options       -
    ether types        -
    reserved           -
    auto assign        -
    created            [time]
    ");
    insta::assert_snapshot!(server.run("network show public --json"), @r#"
    exit 0
    --- stdout
    {
      "id": "[id]",
      "name": "public",
      "type": "flat_dhcp",
      "project": null,
      "ipv4": {
        "cidr": "10.0.0.0/24",
        "gateway": "10.0.0.1",
        "vpn": null,
        "dhcp_start": "10.0.0.2",
        "total": 253,
        "used": 0,
        "free": 253
      },
      "ipv6": null,
      "ipv6_mode": null,
      "vlan": null,
      "multi_host": true,
      "share_address": true,
      "gateway_host": null,
      "bridge": "br100",
      "bridge_interface": null,
      "dns": [
        "9.9.9.9",
        "1.1.1.1"
      ],
      "domain": "trestle.internal",
      "mtu": 1500,
      "dhcp_options": [],
      "ether_types": [],
      "reserved": [],
      "auto_assign": null,
      "created_at": "[time]"
    }
    "#);
    insta::assert_snapshot!(server.run("network create other --type flat_dhcp --cidr 10.0.0.0/16 --bridge br101"), @"
    exit 1
    --- stderr
    error: 10.0.0.0/16 overlaps with network `public`, which has 10.0.0.0/24

    hint: `trestle network list` shows the ranges that are taken
    ");
    insta::assert_snapshot!(server.run("network delete public --yes"), @r"
    exit 0
    --- stderr
    deleted network public
    ");
}

#[test]
fn many_vlan_networks_are_made_in_one_call_and_belong_to_who_needs_them() {
    let server = Server::start();
    server.given("project create alpha");
    server.given("network create first --cidr 10.0.1.0/24 --vlan 101 --project alpha");
    insta::assert_snapshot!(
        server.run("network create tenants --cidr 10.0.0.0/16 --cidr-v6 fd00::/48 --num-networks 4 --network-size 200"),
        @"
    exit 0
    --- stderr
    created 4 networks, tenants-0 to tenants-3 (VLANs 100, 102 to 104; 10.0.0.0/24, 10.0.2.0/24 to 10.0.4.0/24; fd00::/64 to fd00:0:0:3::/64; free)
    "
    );
    insta::assert_snapshot!(server.run("network list"), @"
    exit 0
    --- stdout
    NAME       TYPE  VLAN  PROJECT  RANGES                        GATEWAY     USED
    first      vlan  101   alpha    10.0.1.0/24                   every host  0 of 252
    tenants-0  vlan  100   (free)   10.0.0.0/24, fd00::/64        every host  0 of 252, 0 of 2^64
    tenants-1  vlan  102   (free)   10.0.2.0/24, fd00:0:0:1::/64  every host  0 of 252, 0 of 2^64
    tenants-2  vlan  103   (free)   10.0.3.0/24, fd00:0:0:2::/64  every host  0 of 252, 0 of 2^64
    tenants-3  vlan  104   (free)   10.0.4.0/24, fd00:0:0:3::/64  every host  0 of 252, 0 of 2^64
    ");
    insta::assert_snapshot!(server.run("network usage tenants-1"), @"
    exit 0
    --- stdout
    NETWORK    RANGE            TOTAL  USED  FREE  RESERVED
    tenants-1  10.0.2.0/24      252    0     252   0
    tenants-1  fd00:0:0:1::/64  2^64   0     2^64  0
    ");
    insta::assert_snapshot!(server.run("network associate tenants-2 --project alpha"), @"
    exit 0
    --- stderr
    network tenants-2 now belongs to project alpha
    ");
    insta::assert_snapshot!(server.run("network list --project alpha"), @"
    exit 0
    --- stdout
    NAME       TYPE  VLAN  PROJECT  RANGES                        GATEWAY     USED
    first      vlan  101   alpha    10.0.1.0/24                   every host  0 of 252
    tenants-2  vlan  103   alpha    10.0.3.0/24, fd00:0:0:2::/64  every host  0 of 252, 0 of 2^64
    ");
    insta::assert_snapshot!(server.run("network disassociate tenants-2"), @"
    exit 0
    --- stderr
    network tenants-2 is free now
    ");
    insta::assert_snapshot!(server.run("network create one --cidr 10.5.0.0/24 --vlan 7"), @"
    exit 0
    --- stderr
    created network one (VLAN 7, 10.5.0.0/24, bridge br7, free)
    ");
    let created = server.stdout("network create more --cidr 10.6.0.0/16 --num-networks 3 --json");
    let created: serde_json::Value = serde_json::from_str(&created).unwrap();
    let names: Vec<&str> = created["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|network| network["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["more-0", "more-1", "more-2"]);
}

#[test]
fn a_network_says_who_routes_for_it_and_what_its_guests_are_told() {
    let server = Server::start();
    server.given("host create kvm1");
    server.given("host create kvm2");
    insta::assert_snapshot!(
        server.run(
            "network create dual --type flat_dhcp --cidr 10.0.0.0/24 --cidr-v6 fd00:9::/64 --bridge br9 --ipv6-mode slaac \
             --single-host --gateway-host kvm1 --gateway 10.0.0.254 --allowed-start 10.0.0.10 --dhcp-start 10.0.0.20 \
             --reserve 10.0.0.30-10.0.0.40 --reserve fd00:9::99 --dhcp-option 42,192.0.2.1 --domain lab.example --mtu 1400"
        ),
        @"
    exit 0
    --- stderr
    created network dual (flat_dhcp, 10.0.0.0/24, fd00:9::/64, bridge br9, shared by all)
    "
    );
    server.given("network create hosts --type flat_dhcp --cidr 10.1.0.0/24 --bridge br10 --per-host");
    server.given("network create six --type flat_dhcp --cidr-v6 fd00:6::/64 --bridge br6");
    server.given("network create lan --type flat --cidr 10.3.0.0/24 --gateway none --bridge br-lan");
    insta::assert_snapshot!(server.run("network show dual"), @"
    exit 0
    --- stdout
    name               dual
    id                 [id]
    type               flat_dhcp
    project            (shared)
    ipv4               10.0.0.0/24
      router           10.0.0.254
      first given out  10.0.0.20
      used             0 of 223
    ipv6               fd00:9::/64
      router           fd00:9::1
      first given out  fd00:9::2
      used             0 of 2^64
    ipv6 by            slaac
    gateway            host kvm1
    bridge             br9
    bridge interface   -
    dns                -
    domain             lab.example
    mtu                1400
    dhcp options       42,192.0.2.1
    ether types        -
    reserved           10.0.0.30-10.0.0.40; fd00:9::99
    auto assign        -
    created            [time]
    ");
    insta::assert_snapshot!(server.run("network list"), @"
    exit 0
    --- stdout
    NAME   TYPE       PROJECT   RANGES                    GATEWAY               USED
    dual   flat_dhcp  (shared)  10.0.0.0/24, fd00:9::/64  host kvm1             0 of 223, 0 of 2^64
    hosts  flat_dhcp  (shared)  10.1.0.0/24               every host, per_host  0 of 253
    six    flat_dhcp  (shared)  fd00:6::/64               every host            0 of 2^64
    lan    flat       (shared)  10.3.0.0/24               outside               0 of 254
    ");
    insta::assert_snapshot!(server.run("network usage"), @"
    exit 0
    --- stdout
    NETWORK  RANGE        TOTAL  USED  FREE  RESERVED
    dual     10.0.0.0/24  223    0     223   11
    dual     fd00:9::/64  2^64   0     2^64  1
    hosts    10.1.0.0/24  253    0     253   0
    six      fd00:6::/64  2^64   0     2^64  0
    lan      10.3.0.0/24  254    0     254   0
    ");
    let moved = server.run("network set-gateway dual kvm2");
    assert!(moved.contains("moved the gateway of network dual from kvm1 to kvm2 in "), "{moved}");
    insta::assert_snapshot!(server.run("network set-gateway dual kvm2"), @"
    exit 0
    --- stderr
    host kvm2 is the gateway of network dual already
    ");
    insta::assert_snapshot!(server.run("network list --gateway-host kvm1"), @"
    exit 0
    --- stdout
    NAME  TYPE  PROJECT  RANGES  GATEWAY  USED
    ");
    insta::assert_snapshot!(server.run_until("host show kvm2", "0 of 9"), @"
    exit 0
    --- stdout
    name               kvm2
    id                 [id]
    flat interface     -
    vlan interface     -
    public interface   -
    routing source ip  device
    may be gateway     yes
    gateway of         dual
    created            [time]
    agent              never seen
    agent version      -
    kernel             -
    kernel lacks       -
    devices            -
    last seen          -
    generation         0 of 9
    problems           0
    ");
}

#[test]
fn ranges_are_reserved_and_given_back() {
    let server = Server::start();
    server.given("project create alpha");
    server.given("network create public --type flat_dhcp --cidr 10.0.0.0/24 --bridge br100");
    server.given("instance create web --project alpha --network public,address=10.0.0.5");
    let reserve = ["network", "reserve", "public", "10.0.0.5-10.0.0.9", "--reason", "rack switches"];
    insta::assert_snapshot!(server.seen(&server.command(&reserve).output().unwrap()), @"
    exit 0
    --- stderr
    reserved 10.0.0.5-10.0.0.9 of network public; 1 address of it is in use and stays so until it is given back
    ");
    insta::assert_snapshot!(server.run("network reserve public 10.0.0.64/30"), @"
    exit 0
    --- stderr
    reserved 10.0.0.64/30 of network public
    ");
    insta::assert_snapshot!(server.run("network usage public"), @"
    exit 0
    --- stdout
    NETWORK  RANGE        TOTAL  USED  FREE  RESERVED
    public   10.0.0.0/24  244    1     244   9
    ");
    insta::assert_snapshot!(server.run("instance create db --project alpha --network public,address=10.0.0.7"), @"
    exit 1
    --- stderr
    error: 10.0.0.7 is reserved on network `public`, with 10.0.0.5-10.0.0.9

    hint: it is reserved for: rack switches
    ");
    insta::assert_snapshot!(server.run("network unreserve public 10.0.0.5-10.0.0.9"), @"
    exit 0
    --- stderr
    instances may have 10.0.0.5-10.0.0.9 of network public again
    ");
    insta::assert_snapshot!(server.run("instance create db --project alpha --network public,address=10.0.0.7"), @"
    exit 0
    --- stderr
    created instance db (10.0.0.7 on public)
    ");
}

#[test]
fn what_a_network_s_guests_are_told_can_be_changed() {
    let server = Server::start();
    server.given("project create alpha");
    server.given("network create public --type flat_dhcp --cidr 10.0.0.0/24 --bridge br100");
    let set = |arguments: &[&str]| {
        let line = [&["network", "set", "public"], arguments].concat();
        server.seen(&server.command(&line).output().unwrap())
    };
    insta::assert_snapshot!(set(&["--dns", "192.0.2.53", "--dns", "fd00::53", "--bridge-interface", "eth2"]), @"
    exit 0
    --- stderr
    changed network public
    ");
    insta::assert_snapshot!(set(&["--mtu", "1400", "--domain", "example.internal", "--dhcp-option", "42,192.0.2.1"]), @"
    exit 0
    --- stderr
    changed network public; guests hear of it when they renew their leases
    ");
    insta::assert_snapshot!(server.run("network set public --mtu 1400"), @"
    exit 0
    --- stderr
    network public is like that already
    ");
    insta::assert_snapshot!(server.run("network show public"), @"
    exit 0
    --- stdout
    name               public
    id                 [id]
    type               flat_dhcp
    project            (shared)
    ipv4               10.0.0.0/24
      router           10.0.0.1
      first given out  10.0.0.2
      used             0 of 253
    gateway            every host
    bridge             br100
    bridge interface   eth2
    dns                192.0.2.53, fd00::53
    domain             example.internal
    mtu                1400
    dhcp options       42,192.0.2.1
    ether types        -
    reserved           -
    auto assign        -
    created            [time]
    ");
    insta::assert_snapshot!(set(&["--dns", "", "--dhcp-option", "", "--bridge-interface", ""]), @"
    exit 0
    --- stderr
    changed network public; guests hear of it when they renew their leases
    ");
    insta::assert_snapshot!(server.run("network set public --mtu 1500 --json"), @r#"
    exit 0
    --- stdout
    {
      "id": "[id]",
      "name": "public",
      "type": "flat_dhcp",
      "project": null,
      "ipv4": {
        "cidr": "10.0.0.0/24",
        "gateway": "10.0.0.1",
        "vpn": null,
        "dhcp_start": "10.0.0.2",
        "total": 253,
        "used": 0,
        "free": 253
      },
      "ipv6": null,
      "ipv6_mode": null,
      "vlan": null,
      "multi_host": true,
      "share_address": true,
      "gateway_host": null,
      "bridge": "br100",
      "bridge_interface": null,
      "dns": [],
      "domain": "example.internal",
      "mtu": 1500,
      "dhcp_options": [],
      "ether_types": [],
      "reserved": [],
      "auto_assign": null,
      "created_at": "[time]"
    }
    --- stderr
    changed network public; guests hear of it when they renew their leases
    "#);
    insta::assert_snapshot!(set(&["--dns", "192.0.2.1", "--dns", "here", "--mtu", "100", "--dhcp-option", "3,192.0.2.1"]), @"
    exit 1
    --- stderr
    error: 3 things are wrong with the request
      --dns here: `here` is not an IP address
      --mtu: an MTU of 100 bytes is not possible: use 576 to 9216
      --dhcp-option 3,192.0.2.1: DHCP option 3 is not to be set: the network's own addresses, names and MTU say what it is
    ");
    insta::assert_snapshot!(set(&[]), @"
    exit 2
    --- stderr
    error: the following required arguments were not provided:
      <--dns <ADDRESS>|--domain <DOMAIN>|--mtu <BYTES>|--dhcp-option <NUMBER,VALUE>|--ether-type <NUMBER>|--bridge-interface <DEVICE>|--auto-assign <POOL>>

    Usage: trestle network set <--dns <ADDRESS>|--domain <DOMAIN>|--mtu <BYTES>|--dhcp-option <NUMBER,VALUE>|--ether-type <NUMBER>|--bridge-interface <DEVICE>|--auto-assign <POOL>> <NETWORK>

    For more information, try '--help'.
    ");
}

#[test]
fn an_instance_without_a_word_joins_its_project_s_networks() {
    let server = Server::start();
    server.given("project create alpha");
    server.given("project create beta");
    server.given(
        "network create tenants --cidr 10.0.0.0/16 --num-networks 1 --network-size 256 --cidr-v6 fd00::/64",
    );
    server.given("network create public --type flat_dhcp --cidr 192.168.0.0/24 --bridge br-public");
    insta::assert_snapshot!(server.run("instance create web --project alpha"), @"
    exit 0
    --- stderr
    created instance web (10.0.0.3 and fd00::2 on tenants)
    ");
    insta::assert_snapshot!(server.run("network list"), @"
    exit 0
    --- stdout
    NAME     TYPE       VLAN  PROJECT   RANGES                  GATEWAY     USED
    tenants  vlan       100   alpha     10.0.0.0/24, fd00::/64  every host  1 of 252, 1 of 2^64
    public   flat_dhcp  -     (shared)  192.168.0.0/24          every host  0 of 253
    ");
    insta::assert_snapshot!(server.run("instance create web --project beta"), @"
    exit 0
    --- stderr
    created instance web (192.168.0.2 on public)
    ");
    insta::assert_snapshot!(
        server.run("instance create db --project alpha --network tenants,address=10.0.0.9,address=fd00::9 --network public"),
        @"
    exit 0
    --- stderr
    created instance db (10.0.0.9 and fd00::9 on tenants, 192.168.0.3 on public)
    "
    );
    server.given("instance create app --project alpha");
    insta::assert_snapshot!(server.run("instance add-interface app --network public --address 192.168.0.77"), @"
    exit 0
    --- stderr
    added an interface to instance app (192.168.0.77 on public)
    ");
}

#[test]
fn instances_and_their_interfaces() {
    let server = Server::start();
    server.given("project create alpha");
    server.given("network create public --type flat_dhcp --cidr 10.0.0.0/24 --bridge br100");
    server.given("network create backend --type flat_dhcp --cidr 10.1.0.0/24 --bridge br101");
    insta::assert_snapshot!(
        server.run("instance create web --project alpha --network public,address=10.0.0.9,mac=fa:16:3e:00:00:09"),
        @r"
    exit 0
    --- stderr
    created instance web (10.0.0.9 on public)
    "
    );
    insta::assert_snapshot!(server.run("instance add-interface web --network backend"), @r"
    exit 0
    --- stderr
    added an interface to instance web (10.1.0.2 on backend)
    ");
    insta::assert_snapshot!(server.run("instance list"), @r"
    exit 0
    --- stdout
    NAME  PROJECT  ADDRESSES           HOST  STATE
    web   alpha    10.0.0.9, 10.1.0.2  -     detached
    ");
    insta::assert_snapshot!(server.run("instance show web"), @"
    exit 0
    --- stdout
    name     web
    id       [id]
    project  alpha
    created  [time]

    NETWORK  ADDRESSES  MAC                DEVICE           HOST  STATE     INTERFACE
    public   10.0.0.9   [mac]  [device]  -     detached  [id]
    backend  10.1.0.2   [mac]  [device]  -     detached  [id]

    NETWORK  SECURITY GROUPS  ALLOWED ADDRESS PAIRS
    public   default          -
    backend  default          -
    ");
    insta::assert_snapshot!(server.run("instance show web --json"), @r#"
    exit 0
    --- stdout
    {
      "id": "[id]",
      "name": "web",
      "project": "alpha",
      "interfaces": [
        {
          "id": "[id]",
          "network": "public",
          "mac": "[mac]",
          "addresses": [
            "10.0.0.9"
          ],
          "floating_ips": [],
          "security_groups": [
            "default"
          ],
          "allowed_address_pairs": [],
          "port_security": true,
          "device": "[device]",
          "host": null,
          "plug": null,
          "state": "detached"
        },
        {
          "id": "[id]",
          "network": "backend",
          "mac": "[mac]",
          "addresses": [
            "10.1.0.2"
          ],
          "floating_ips": [],
          "security_groups": [
            "default"
          ],
          "allowed_address_pairs": [],
          "port_security": true,
          "device": "[device]",
          "host": null,
          "plug": null,
          "state": "detached"
        }
      ],
      "created_at": "[time]"
    }
    "#);
    insta::assert_snapshot!(server.run("instance list --network backend --host kvm1"), @r"
    exit 1
    --- stderr
    error: no host `kvm1`
    ");
    insta::assert_snapshot!(server.run("fixed-ip list"), @"
    exit 0
    --- stdout
    ADDRESS   NETWORK  STATE      HELD BY  PROJECT  MAC
    10.0.0.9  public   allocated  web      alpha    [mac]
    10.1.0.2  backend  allocated  web      alpha    [mac]
    ");
    insta::assert_snapshot!(server.run("instance remove-interface web nowhere --yes"), @r"
    exit 1
    --- stderr
    error: instance web has 0 interfaces that `nowhere` can mean

    hint: give the id that `trestle instance show` prints
    ");
    insta::assert_snapshot!(server.run("instance remove-interface web backend --yes"), @r"
    exit 0
    --- stderr
    removed interface backend of instance web
    ");
    insta::assert_snapshot!(server.run("instance delete web --yes"), @r"
    exit 0
    --- stderr
    deleted instance web
    ");
    insta::assert_snapshot!(server.run("fixed-ip list --address 10.0.0.9"), @"
    exit 0
    --- stdout
    ADDRESS   NETWORK  STATE  HELD BY  PROJECT  MAC
    10.0.0.9  public   free   -        -        -
    ");
}

#[test]
fn tokens() {
    let server = Server::start();
    server.given("host create kvm1");
    insta::assert_snapshot!(server.run("token create --role agent --host kvm1 --description rack-7"), @r"
    exit 0
    --- stdout
    [secret]
    --- stderr
    created token [id] (agent of kvm1)
    ");
    insta::assert_snapshot!(server.run("token list"), @r"
    exit 0
    --- stdout
    ID                                    HOLDER         CREATED               DESCRIPTION
    [id]  admin          [time]  made at the first start
    [id]  agent of kvm1  [time]  rack-7
    ");
    insta::assert_snapshot!(server.run("token create --role member"), @"
    exit 1
    --- stderr
    error: --project: a token of this role is for one project
    ");
}

#[test]
fn a_deleted_token_is_refused_from_then_on() {
    let server = Server::start();
    let created: serde_json::Value =
        serde_json::from_str(&server.stdout("token create --role admin --json")).unwrap();
    let list = || {
        let secret = created["secret"].as_str().unwrap();
        server.command(&["project", "list"]).env("TRESTLE_TOKEN", secret).output().unwrap()
    };
    assert!(list().status.success());
    insta::assert_snapshot!(server.run(&format!("token delete {} --yes", created["id"].as_str().unwrap())), @r"
    exit 0
    --- stderr
    deleted token [id]
    ");
    assert_eq!(list().status.code(), Some(1));
}

#[test]
fn what_a_host_must_have_is_printed_by_key() {
    let server = Server::start();
    server.given("project create alpha");
    server.given("host create kvm1 --public-interface eth0");
    server.given("network create public --type flat_dhcp --cidr 10.0.0.0/24 --bridge br100");
    insta::assert_snapshot!(server.run("host spec kvm1"), @"exit 0");
}

#[test]
fn a_host_says_what_it_lacks_and_what_troubles_it_and_no_terminal_obeys_it() {
    let server = Server::start();
    server.given("host create kvm1");
    server.given("host create kvm2");
    let secret = server.stdout("token create --role agent --host kvm1");
    server.report(
        "kvm1",
        secret.trim(),
        &Report {
            missing_features: BTreeSet::from([Feature::Vlan]),
            agent_problems: vec![ApiError {
                code: "ledger_unwritable".to_owned(),
                message: "cannot write the ledger: \u{1b}[2Jdisk full".to_owned(),
                hint: None,
                problems: Vec::new(),
            }],
            problems: BTreeSet::from([
                Problem {
                    key: Key::Uplink("eth1".parse().unwrap()),
                    code: ProblemCode::InterfaceMissing,
                    detail: "there is no device `eth1`\u{9b}31m".to_owned(),
                },
                Problem {
                    key: Key::Dnsmasq("public".parse().unwrap()),
                    code: ProblemCode::Blocked,
                    detail: "its bridge cannot be made".to_owned(),
                },
            ]),
            agent_version: "9.9\u{1b}]0;owned\u{7}".to_owned(),
            kernel: "6.1.0".to_owned(),
            ..Report::default()
        },
    );
    insta::assert_snapshot!(server.run_until("host show kvm1", "0 of 3"), @"
    exit 0
    --- stdout
    name               kvm1
    id                 [id]
    flat interface     -
    vlan interface     -
    public interface   -
    routing source ip  device
    may be gateway     yes
    gateway of         -
    created            [time]
    agent              behind
    agent version      9.9�]0;owned�
    kernel             6.1.0
    kernel lacks       802.1Q
    devices            -
    last seen          [time]
    generation         0 of 3
    problems           3
      the kernel lacks 802.1Q: networks of type vlan cannot be used here
      agent: cannot write the ledger: �[2Jdisk full
      uplink/eth1: there is no device `eth1`�31m
      and 1 more that waits for these
    ");
    insta::assert_snapshot!(server.run_until("host list", "0 of 4"), @"
    exit 0
    --- stdout
    NAME  AGENT       GENERATION  PROBLEMS  LACKS   GATEWAY  FLAT INTERFACE  VLAN INTERFACE  PUBLIC INTERFACE
    kvm1  behind      0 of 3      3         802.1Q  yes      -               -               -
    kvm2  never seen  0 of 4      0         -       yes      -               -               -
    ");
    insta::assert_snapshot!(server.run("events --kind host.problem"), @"
    exit 0
    --- stdout
    TIME                  KIND          HOST  WHAT
    [time]  host.problem  kvm1  uplink/eth1: there is no device `eth1`�31m
    [time]  host.problem  kvm1  dnsmasq/public: its bridge cannot be made
    [time]  host.problem  kvm1  agent: cannot write the ledger: �[2Jdisk full
    ");
    insta::assert_snapshot!(server.run("status"), @"
    exit 0
    --- stdout
    server     healthy (unix:[folder]/trestle.sock)
    hosts      2 (1 behind, 1 never seen, 3 problems)
    networks   0
    instances  0

    HOST  AGENT       GENERATION  PROBLEMS  GATEWAY OF
    kvm1  behind      0 of 3      3         -
    kvm2  never seen  0 of 4      0         -
      kvm1: the kernel lacks 802.1Q: networks of type vlan cannot be used here
      kvm1: agent: cannot write the ledger: �[2Jdisk full
      kvm1: uplink/eth1: there is no device `eth1`�31m
      kvm1: and 1 more that waits for these

    TIME                  KIND           HOST  WHAT
    [time]  host.created   kvm2  host `kvm2` was made known
    [time]  token.created  -     token [id] was made
    [time]  host.problem   kvm1  uplink/eth1: there is no device `eth1`�31m
    [time]  host.problem   kvm1  dnsmasq/public: its bridge cannot be made
    [time]  host.problem   kvm1  agent: cannot write the ledger: �[2Jdisk full
    ");
    for line in
        ["host show kvm1", "host show kvm1 --json", "events", "events --json", "status", "status --json"]
    {
        let seen = server.stdout(line);
        assert!(!seen.contains(|c: char| c.is_control() && c != '\n'), "{line}: {seen:?}");
    }
}

#[test]
fn events_tell_what_happened() {
    let server = Server::start();
    server.given("project create alpha");
    server.given("host create kvm1");
    insta::assert_snapshot!(server.run("events"), @"
    exit 0
    --- stdout
    TIME                  KIND                    HOST  WHAT
    [time]  controller.started      -     controller [version] started
    [time]  token.created           -     the first admin token [id] was made
    [time]  project.created         -     project `alpha` was made
    [time]  security_group.created  -     security group `default` was made in project `alpha`
    [time]  host.created            kvm1  host `kvm1` was made known
    ");
    insta::assert_snapshot!(server.run("events --last 1"), @"
    exit 0
    --- stdout
    TIME                  KIND          HOST  WHAT
    [time]  host.created  kvm1  host `kvm1` was made known
    ");
    insta::assert_snapshot!(server.run("events --kind nope"), @"
    exit 0
    --- stdout
    TIME  KIND  HOST  WHAT
    --- stderr
    there are no events of kind `nope`; there are some of kind controller.started, host.created, project.created, security_group.created, token.created
    ");
    insta::assert_snapshot!(server.run("events --kind instance --host kvm1"), @"
    exit 0
    --- stdout
    TIME  KIND  HOST  WHAT
    --- stderr
    there are no events of kind `instance` about host `kvm1`; there are some of kind controller.started, host.created, project.created, security_group.created, token.created
    ");
    insta::assert_snapshot!(server.run("events --host nope"), @"
    exit 1
    --- stderr
    error: no host `nope`
    ");
    insta::assert_snapshot!(server.run("events --project nope"), @"
    exit 1
    --- stderr
    error: no project `nope`
    ");
    insta::assert_snapshot!(server.run("events --kind host --json"), @r#"
    exit 0
    --- stdout
    {
      "items": [
        {
          "id": 5,
          "at": "[time]",
          "kind": "host.created",
          "message": "host `kvm1` was made known",
          "host": "kvm1",
          "subject": "kvm1"
        }
      ]
    }
    "#);
}

#[test]
fn events_are_followed_as_they_happen() {
    let server = Server::start();
    server.given("project create before");
    let mut command = server.command(&["events", "--follow", "--json", "--kind", "project"]);
    let mut follower = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut next = || {
        let event: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        event["subject"].as_str().unwrap().to_owned()
    };
    assert_eq!(next(), "before");
    server.given("host create kvm1");
    server.given("project create after");
    assert_eq!(next(), "after");
    follower.kill().unwrap();
    follower.wait().unwrap();
}

#[test]
fn status_shows_everything_at_a_glance() {
    let server = Server::start();
    insta::assert_snapshot!(server.run("status"), @"
    exit 0
    --- stdout
    server     healthy (unix:[folder]/trestle.sock)
    hosts      0
    networks   0
    instances  0

    TIME                  KIND                HOST  WHAT
    [time]  controller.started  -     controller [version] started
    [time]  token.created       -     the first admin token [id] was made
    ");
    for line in [
        "project create alpha",
        "host create kvm1",
        "network create public --type flat_dhcp --cidr 10.0.0.0/24 --bridge br100",
        "instance create web --project alpha --network public",
    ] {
        server.given(line);
    }
    insta::assert_snapshot!(server.run_until("status", "0 of 4"), @"
    exit 0
    --- stdout
    server     healthy (unix:[folder]/trestle.sock)
    hosts      1 (1 never seen)
    networks   1 (1 flat_dhcp)
    instances  1 (1 interface detached)

    HOST  AGENT       GENERATION  PROBLEMS  GATEWAY OF
    kvm1  never seen  0 of 4      0         -

    NETWORK  TYPE       RANGES       ADDRESSES USED
    public   flat_dhcp  10.0.0.0/24  1 of 253

    TIME                  KIND                    HOST  WHAT
    [time]  security_group.created  -     security group `default` was made in project `alpha`
    [time]  host.created            kvm1  host `kvm1` was made known
    [time]  network.created         -     network `public` was made with 10.0.0.0/24
    [time]  instance.created        -     instance `web` was made in project `alpha`
    [time]  interface.created       -     instance `web` got 10.0.0.2 on network `public`
    ");
    let secret = server.stdout("token create --role member --project alpha");
    let output = server.command(&["status"]).env("TRESTLE_TOKEN", secret.trim()).output().unwrap();
    insta::assert_snapshot!(server.seen(&output), @"
    exit 0
    --- stdout
    server     healthy (unix:[folder]/trestle.sock)
    networks   1 (1 flat_dhcp)
    instances  1 (1 interface detached)

    NETWORK  TYPE       RANGES       ADDRESSES USED
    public   flat_dhcp  10.0.0.0/24  1 of 253

    TIME                  KIND                    HOST  WHAT
    [time]  project.created         -     project `alpha` was made
    [time]  security_group.created  -     security group `default` was made in project `alpha`
    [time]  instance.created        -     instance `web` was made in project `alpha`
    [time]  interface.created       -     instance `web` got 10.0.0.2 on network `public`
    ");
}
