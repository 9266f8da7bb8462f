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
    insta::assert_snapshot!(server.run("explain --from web1 --to 10.0.0.1 --protocol udp --port 53"), @"");
    insta::assert_snapshot!(server.run("explain --from web1 --to 10.0.0.1 --protocol icmp --json"), @"");
}

#[test]
fn a_packet_that_does_not() {
    let server = furnished();
    insta::assert_snapshot!(server.run("explain --from web1 --to db1 --protocol tcp --port 22"), @"");
    insta::assert_snapshot!(server.run("explain --from db1 --to web1 --protocol icmp --icmp-type 13"), @"");
    insta::assert_snapshot!(server.run("explain --from web1 --to 224.0.0.251 --protocol udp --port 5353"), @"");
}

#[test]
fn what_is_no_packet() {
    let server = furnished();
    insta::assert_snapshot!(server.run("explain --from web1 --to db1 --protocol tcp"), @"");
    insta::assert_snapshot!(server.run("explain --from web1 --to db1 --protocol icmp --icmp-type x"), @"");
    insta::assert_snapshot!(server.run("explain --from web9 --to db1 --protocol icmp"), @"");
    insta::assert_snapshot!(server.run("explain --from web1 --to db1"), @"");
}
