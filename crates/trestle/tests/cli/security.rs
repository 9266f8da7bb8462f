//! Security groups, address groups, and what interfaces are held to.

use crate::support::Server;

/// A server with project alpha, a network, and an instance on it.
fn server() -> Server {
    let server = Server::start();
    for line in [
        "project create alpha",
        "network create front --type flat_dhcp --cidr 10.0.0.0/24 --bridge br100",
        "instance create web1 --project alpha --network front",
    ] {
        server.given(line);
    }
    server
}

#[test]
fn a_security_group_from_its_making_to_its_end() {
    let server = server();
    let create =
        ["security-group", "create", "web", "--project", "alpha", "--description", "what serves pages"];
    let made = server.command(&create).output().unwrap();
    insta::assert_snapshot!(server.seen(&made), @"
    exit 0
    --- stderr
    created security group web in project alpha
    ");
    insta::assert_snapshot!(server.run("security-group rule add web ingress tcp 80 --from 0.0.0.0/0"), @"
    exit 0
    --- stderr
    added rule `ingress tcp 80 from 0.0.0.0/0` to security group web
    ");
    insta::assert_snapshot!(server.run("security-group rule add web ingress ipv4 icmp type 8 from 10.0.0.0/8"), @"
    exit 0
    --- stderr
    added rule `ingress ipv4 icmp type 8 from 10.0.0.0/8` to security group web
    ");
    insta::assert_snapshot!(server.run("security-group rule add web egress any --to-group default --json"), @r#"
    exit 0
    --- stdout
    {
      "id": "[id]",
      "number": 5,
      "text": "egress any to group default",
      "direction": "egress",
      "family": null,
      "protocol": null,
      "ports": null,
      "icmp_type": null,
      "remote_cidr": null,
      "remote_group": "default",
      "remote_address_group": null,
      "expires_at": null,
      "packets": null,
      "bytes": null,
      "created_at": "[time]"
    }
    --- stderr
    added rule `egress any to group default` to security group web
    "#);
    let brief = server.run("security-group rule add web ingress tcp 22 --expires-in 1h");
    assert!(brief.starts_with("exit 0\n--- stderr\nadded rule `ingress tcp 22 until ["), "{brief}");
    let id = server.stdout("security-group show web --json");
    let id: serde_json::Value = serde_json::from_str(&id).unwrap();
    let id = id["rules"][3]["id"].as_str().unwrap().to_owned();
    insta::assert_snapshot!(server.run(&format!("security-group rule delete web {id}")), @"
    exit 0
    --- stderr
    deleted rule [id] of security group web
    ");
    insta::assert_snapshot!(server.run("security-group list"), @"
    exit 0
    --- stdout
    NAME     PROJECT  RULES  DESCRIPTION
    default  alpha    2      -
    web      alpha    3      what serves pages
    ");
    insta::assert_snapshot!(server.run("security-group show web"), @"
    exit 0
    --- stdout
    name         web
    id           [id]
    project      alpha
    description  what serves pages
    created      [time]
    instances    0

    RULE                                      PACKETS  BYTES  ID
    ingress tcp 80 from 0.0.0.0/0             -        -      [id]
    ingress ipv4 icmp type 8 from 10.0.0.0/8  -        -      [id]
    egress any to group default               -        -      [id]
    ");
    insta::assert_snapshot!(server.run("security-group rule list default"), @"
    exit 0
    --- stdout
    RULE                            PACKETS  BYTES  ID
    ingress any from group default  -        -      [id]
    egress any                      -        -      [id]
    ");
    insta::assert_snapshot!(server.run("security-group set web --name www"), @"
    exit 0
    --- stderr
    changed security group www
    ");
    insta::assert_snapshot!(server.run("security-group delete www"), @"
    exit 2
    --- stderr
    error: deleting security group www needs a yes

    hint: give --yes
    ");
    insta::assert_snapshot!(server.run("security-group delete www --yes"), @"
    exit 0
    --- stderr
    deleted security group www
    ");
}

#[test]
fn an_address_group_from_its_making_to_its_end() {
    let server = server();
    insta::assert_snapshot!(server.run("address-group create dns --project alpha --range 9.9.9.9 --range 10.0.0.0/25 --range 10.0.0.128/25"), @"
    exit 0
    --- stderr
    created address group dns (9.9.9.9/32, 10.0.0.0/24)
    ");
    insta::assert_snapshot!(server.run("address-group show dns"), @"
    exit 0
    --- stdout
    name     dns
    id       [id]
    project  alpha
    ranges   9.9.9.9/32, 10.0.0.0/24
    created  [time]
    ");
    insta::assert_snapshot!(server.run("address-group set dns --range 2620:fe::/48"), @"
    exit 0
    --- stderr
    address group dns has 2620:fe::/48 now
    ");
    insta::assert_snapshot!(server.run("address-group list --project alpha"), @"
    exit 0
    --- stdout
    NAME  PROJECT  RANGES
    dns   alpha    2620:fe::/48
    ");
    server.given("security-group rule add default egress udp 53 --to-address-group dns");
    insta::assert_snapshot!(server.run("address-group delete dns --yes"), @"
    exit 1
    --- stderr
    error: address group `dns` is still named by rules of security group `default`

    hint: delete the rules that name it with `trestle security-group rule delete`
    ");
    let emptied = server.command(&["address-group", "set", "dns", "--range", ""]).output().unwrap();
    insta::assert_snapshot!(server.seen(&emptied), @"
    exit 0
    --- stderr
    address group dns has no addresses now
    ");
}

#[test]
fn what_is_no_rule_is_told_in_the_words_it_was_given_in() {
    let server = server();
    insta::assert_snapshot!(server.run("security-group rule add default ingress tcp 80 443"), @"
    exit 2
    --- stderr
    error: `443` has no place in a rule here: write it as `ingress tcp 8000-8080 from 10.0.0.0/8`, `ingress icmp type 8`, `egress ipv6 any to group db` or `egress udp 53 to address-group dns until [time]`

    hint: `trestle security-group rule add --help` shows examples
    ");
    insta::assert_snapshot!(server.run("security-group rule add default sideways tcp 80-70 --from 10.0.0.5/8 --until soon"), @"
    exit 1
    --- stderr
    error: 4 things are wrong with the request
      direction: `sideways` is no direction: use ingress, to the instance, or egress, from it
      ports: `80-70` is not a range of ports: write it as 80 or 8000-8080, from 1 to 65535
      --from: `10.0.0.5/8` has host bits set; the network is 10.0.0.0/8
      --until: `soon` is not a time: write it as [time]
    ");
    insta::assert_snapshot!(server.run("security-group rule add default egress any"), @"
    exit 1
    --- stderr
    error: security group `default` has the rule `egress any` already

    hint: to give it another end, delete it first: `trestle security-group rule list` shows its id
    ");
    insta::assert_snapshot!(server.run("security-group rule add default ingress any --from-group nobody"), @"
    exit 1
    --- stderr
    error: no security group `nobody`

    hint: a rule names groups of its own project
    ");
    insta::assert_snapshot!(server.run("security-group rule add default ingress any --expires-in 0s"), @"
    exit 2
    --- stderr
    error: invalid value '0s' for '--expires-in <DURATION>': it is not a duration of a second or more: write it as 90s, 1h 30m or 2d

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(server.run("security-group rule add default ingress any --from ::/0 --from-group web"), @"
    exit 2
    --- stderr
    error: the argument '--from <CIDR>' cannot be used with '--from-group <GROUP>'

    Usage: trestle security-group rule add --from <CIDR> <GROUP> <RULE>...

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(server.run("security-group set default --name other"), @"
    exit 1
    --- stderr
    error: security group `default` of project `alpha` is one that every project has: it cannot be renamed

    hint: its rules can be changed: see `trestle security-group rule --help`
    ");
    insta::assert_snapshot!(server.run("security-group show nothing"), @"
    exit 1
    --- stderr
    error: no security group `nothing`
    ");
}

#[test]
fn an_interface_is_held_to_what_is_said() {
    let server = server();
    server.given("security-group create web --project alpha");
    insta::assert_snapshot!(server.run("instance interface set web1 front --security-group web --security-group default"), @"
    exit 0
    --- stderr
    instance web1 is in security groups default, web on network front
    ");
    insta::assert_snapshot!(server.run("instance interface set web1 front --allowed-address-pair 10.9.0.0/16 --allowed-address-pair 10.0.0.9,00:00:5e:00:01:07"), @"
    exit 0
    --- stderr
    instance web1 is in security groups default, web on network front, and may send from 10.0.0.9,[mac]; 10.9.0.0/16 too
    ");
    insta::assert_snapshot!(server.run("instance show web1"), @"
    exit 0
    --- stdout
    name     web1
    id       [id]
    project  alpha
    created  [time]

    NETWORK  ADDRESSES  MAC                DEVICE           HOST  STATE     INTERFACE
    front    10.0.0.2   [mac]  [device]  -     detached  [id]

    NETWORK  SECURITY GROUPS  ALLOWED ADDRESS PAIRS
    front    default, web     10.0.0.9,[mac]; 10.9.0.0/16
    ");
    let none = ["instance", "interface", "set", "web1", "front", "--security-group", ""];
    insta::assert_snapshot!(server.seen(&server.command(&none).output().unwrap()), @"
    exit 0
    --- stderr
    instance web1 is in no security group on network front: nothing passes
    ");
    insta::assert_snapshot!(server.run("instance interface set web1 front --port-security off"), @"
    exit 0
    --- stderr
    instance web1 is held to nothing on network front: everything passes
    ");
    insta::assert_snapshot!(server.run("instance interface set web1 front --security-group web"), @"
    exit 1
    --- stderr
    error: --port-security: an interface without port security is in no security group and has no address pairs

    hint: it is off now: switch `--port-security` on in the same request
    ");
    insta::assert_snapshot!(server.run("instance interface set web1 front --allowed-address-pair 10.0.0.1"), @"
    exit 1
    --- stderr
    error: --port-security: an interface without port security is in no security group and has no address pairs

    hint: it is off now: switch `--port-security` on in the same request
    ");
    insta::assert_snapshot!(server.run("instance interface set web1 front"), @"
    exit 2
    --- stderr
    error: the following required arguments were not provided:
      <--security-group <GROUP>|--allowed-address-pair <RANGE[,MAC]>|--port-security <SWITCH>>

    Usage: trestle instance interface set <--security-group <GROUP>|--allowed-address-pair <RANGE[,MAC]>|--port-security <SWITCH>> <INSTANCE> <INTERFACE>

    For more information, try '--help'.
    ");
    server.given("instance create web2 --project alpha --network front --security-group web --allowed-address-pair 10.9.0.0/16");
    server
        .given("network create back --type flat_dhcp --cidr 10.1.0.0/24 --bridge br101 --ether-type 0x8863");
    server.given("instance add-interface web2 --network back --port-security off");
    insta::assert_snapshot!(server.run("instance show web2"), @"
    exit 0
    --- stdout
    name     web2
    id       [id]
    project  alpha
    created  [time]

    NETWORK  ADDRESSES  MAC                DEVICE           HOST  STATE     INTERFACE
    front    10.0.0.3   [mac]  [device]  -     detached  [id]
    back     10.1.0.2   [mac]  [device]  -     detached  [id]

    NETWORK  SECURITY GROUPS      ALLOWED ADDRESS PAIRS
    front    web                  10.9.0.0/16
    back     (port security off)  -
    ");
    insta::assert_snapshot!(server.run("security-group delete web --yes"), @"
    exit 1
    --- stderr
    error: security group `web` is still used by instance `web2`

    hint: take instances out of it with `trestle instance interface set`, and delete rules that name it with `trestle security-group rule delete`
    ");
}
