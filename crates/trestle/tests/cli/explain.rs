//! `trestle explain`

use crate::support::Server;

/// Two instances on one host's network, of which the second is plugged in nowhere.
fn furnished() -> Server {
    let server = Server::start();
    server.given("project create alpha");
    server.given("host create host1 --flat-interface eth1 --public-interface eth0");
    server.given("network create public --type flat_dhcp --cidr 10.0.0.0/24 --bridge br100");
    server.given("instance create web1 --project alpha");
    server.given("instance create db1 --project alpha");
    server.attach("web1", "host1");
    server
}

#[test]
fn a_packet_that_passes() {
    let server = furnished();
    insta::assert_snapshot!(server.run("explain --from web1 --to 10.0.0.1 --protocol udp --port 53"), @"
    exit 0
    --- stdout
    HOST   STAGE   VERDICT  RULE  WHY
    host1  sender  pass     -     web1 on network public sends it from 10.0.0.2, on host host1
    host1  guard   pass     -     [device] may send from 10.0.0.2
    host1  host    pass     -     DNS is served there

    udp 53 to 10.0.0.1: passes
    ");
    insta::assert_snapshot!(server.run("explain --from web1 --to 10.0.0.1 --protocol icmp --json"), @r#"
    exit 0
    --- stdout
    {
      "destination": "10.0.0.1",
      "protocol": "icmp",
      "port": null,
      "icmp_type": "8",
      "stages": [
        {
          "stage": "sender",
          "host": "host1",
          "verdict": "pass",
          "reason": "web1 on network public sends it from 10.0.0.2, on host host1",
          "rule": null,
          "key": null
        },
        {
          "stage": "guard",
          "host": "host1",
          "verdict": "pass",
          "reason": "[device] may send from 10.0.0.2",
          "rule": null,
          "key": "element/guard_ip4/[device] . [mac] . 10.0.0.2"
        },
        {
          "stage": "host",
          "host": "host1",
          "verdict": "pass",
          "reason": "the host answers this",
          "rule": null,
          "key": null
        }
      ],
      "outcome": "passes",
      "problem": null
    }
    "#);
}

#[test]
fn a_packet_that_does_not() {
    let server = furnished();
    insta::assert_snapshot!(server.run("explain --from web1 --to db1 --protocol tcp --port 22"), @"
    exit 1
    --- stdout
    HOST   STAGE   VERDICT  RULE  WHY
    host1  sender  pass     -     web1 on network public sends it from 10.0.0.2, on host host1
    host1  guard   pass     -     [device] may send from 10.0.0.2
    host1  bridge  drop     -     db1, which has 10.0.0.3, is not plugged in

    tcp 22 to 10.0.0.3: dropped
    --- stderr
    error: it does not pass: db1, which has 10.0.0.3, is not plugged in
    ");
    insta::assert_snapshot!(server.run("explain --from db1 --to web1 --protocol icmp --icmp-type 13"), @"
    exit 1
    --- stdout
    HOST  STAGE   VERDICT  RULE  WHY
    -     sender  drop     -     db1 is not plugged in

    icmp 13 to 10.0.0.2: dropped
    --- stderr
    error: it does not pass: db1 is not plugged in
    ");
    insta::assert_snapshot!(server.run("explain --from web1 --to 224.0.0.251 --protocol udp --port 5353"), @"
    exit 1
    --- stdout
    HOST  STAGE  VERDICT  RULE  WHY

    udp 5353 to 224.0.0.251: unknown
    --- stderr
    error: it cannot be said whether it passes: 224.0.0.251 is an address of many: explain is about what is sent to one
    ");
}

#[test]
fn groups_are_called_by_their_names() {
    let server = furnished();
    server.attach("db1", "host1");
    insta::assert_snapshot!(server.run("explain --from web1 --to db1 --protocol tcp --port 22"), @"
    exit 0
    --- stdout
    HOST   STAGE      VERDICT  RULE                                  WHY
    host1  sender     pass     -                                     web1 on network public sends it from 10.0.0.2, on host host1
    host1  guard      pass     -                                     [device] may send from 10.0.0.2
    host1  guard      pass     -                                     [device] is sent what is for 10.0.0.3
    host1  isolation  pass     -                                     network public reaches itself
    host1  egress     pass     [id]  everything to anybody is allowed, by security group default
    host1  ingress    pass     [id]  everything from members of security group default is allowed, by security group default
    host1  bridge     pass     -                                     it is delivered to db1, by [device]

    tcp 22 to 10.0.0.3: passes
    ");
    server.given("security-group create db --project alpha");
    server.given("security-group rule add db ingress tcp 5432 --from-group default --project alpha");
    server.given("instance create db2 --project alpha --security-group db");
    server.attach("db2", "host1");
    insta::assert_snapshot!(server.run("explain --from web1 --to db2 --protocol tcp --port 5432"), @"
    exit 0
    --- stdout
    HOST   STAGE      VERDICT  RULE                                  WHY
    host1  sender     pass     -                                     web1 on network public sends it from 10.0.0.2, on host host1
    host1  guard      pass     -                                     [device] may send from 10.0.0.2
    host1  guard      pass     -                                     [device] is sent what is for 10.0.0.4
    host1  isolation  pass     -                                     network public reaches itself
    host1  egress     pass     [id]  everything to anybody is allowed, by security group default
    host1  ingress    pass     [id]  tcp 5432 from members of security group default is allowed, by security group db
    host1  bridge     pass     -                                     it is delivered to db2, by [device]

    tcp 5432 to 10.0.0.4: passes
    ");
    insta::assert_snapshot!(server.run("explain --from web1 --to db2 --protocol tcp --port 22"), @"
    exit 1
    --- stdout
    HOST   STAGE      VERDICT  RULE                                  WHY
    host1  sender     pass     -                                     web1 on network public sends it from 10.0.0.2, on host host1
    host1  guard      pass     -                                     [device] may send from 10.0.0.2
    host1  guard      pass     -                                     [device] is sent what is for 10.0.0.4
    host1  isolation  pass     -                                     network public reaches itself
    host1  egress     pass     [id]  everything to anybody is allowed, by security group default
    host1  ingress    drop     -                                     no rule of security group db allows it

    tcp 22 to 10.0.0.4: dropped
    --- stderr
    error: it does not pass: no rule of security group db allows it
    ");
}

#[test]
fn what_is_no_packet() {
    let server = furnished();
    insta::assert_snapshot!(server.run("explain --from web1 --to db1 --protocol tcp"), @"
    exit 1
    --- stderr
    error: --port: tcp needs a destination port
    ");
    insta::assert_snapshot!(server.run("explain --from web1 --to db1 --protocol icmp --icmp-type x"), @"
    exit 1
    --- stderr
    error: --icmp-type: `x` is not a type of ICMP messages: write it as 8, or as 3/4 with its code
    ");
    insta::assert_snapshot!(server.run("explain --from web9 --to db1 --protocol icmp"), @"
    exit 1
    --- stderr
    error: no instance `web9`
    ");
    insta::assert_snapshot!(server.run("explain --from web1 --to db1"), @"
    exit 2
    --- stderr
    error: the following required arguments were not provided:
      --protocol <PROTOCOL>

    Usage: trestle explain --from <SENDER> --to <RECEIVER> --protocol <PROTOCOL>

    For more information, try '--help'.
    ");
}
