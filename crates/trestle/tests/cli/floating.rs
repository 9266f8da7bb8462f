//! Floating IPs: pools, where addresses lead, names, and who had them.

use std::time::Instant;

use trestle_api::agent::Report;

use crate::support::{DEADLINE, Server};

/// A server with a pool, two hosts, and two instances that are plugged in, one on each.
struct Cloud {
    server: Server,
    /// The secrets of the hosts' agents.
    agents: [String; 2],
}

impl Cloud {
    fn start() -> Self {
        let server = Server::start();
        for line in [
            "project create alpha",
            "host create kvm1 --public-interface eth0",
            "host create kvm2 --public-interface eth0",
            "network create front --type flat_dhcp --cidr 10.0.0.0/24 --bridge br100",
            "pool create public --range 203.0.113.20-203.0.113.29",
            "instance create web1 --project alpha --network front",
            "instance create web2 --project alpha --network front",
        ] {
            server.given(line);
        }
        server.attach("web1", "kvm1");
        server.attach("web2", "kvm2");
        let agents = ["kvm1", "kvm2"]
            .map(|host| server.stdout(&format!("token create --role agent --host {host}")).trim().to_owned());
        Self { server, agents }
    }

    /// Lets kvm1 report that it has all it was asked for until this is part of what the user sees: what
    /// it is asked for follows a request.
    fn run_with_kvm1_until(&self, line: &str, part: &str) -> String {
        let begun = Instant::now();
        let report = Report { generation: u64::MAX, ..Report::default() };
        loop {
            self.server.report("kvm1", &self.agents[0], &report);
            let seen = self.run(line);
            if seen.contains(part) || begun.elapsed() > DEADLINE {
                return seen;
            }
        }
    }

    /// Lets kvm2 report that it has this device.
    fn report_device_of_kvm2(&self, device: &str) {
        let report = Report {
            devices: [device.parse().unwrap()].into(),
            agent_version: "9.9".to_owned(),
            kernel: "6.1.0".to_owned(),
            ..Report::default()
        };
        self.server.report("kvm2", &self.agents[1], &report);
    }

    fn run(&self, line: &str) -> String {
        self.server.run(line)
    }
}

#[test]
fn pools() {
    let server = Server::start();
    insta::assert_snapshot!(server.run("pool create public --range 203.0.113.16/28 --range 2001:db8:7::/64"), @"
    exit 0
    --- stderr
    created pool public (203.0.113.17-203.0.113.30, 2001:db8:7::1-2001:db8:7:0:ffff:ffff:ffff:ffff; on each host's public interface)
    ");
    insta::assert_snapshot!(server.run("pool create transit --interface eth3"), @"
    exit 0
    --- stderr
    created pool transit (no addresses yet; on eth3)
    ");
    insta::assert_snapshot!(server.run("pool list"), @"
    exit 0
    --- stdout
    NAME     INTERFACE  RANGES                                                                     RESERVED
    public   (public)   203.0.113.17-203.0.113.30, 2001:db8:7::1-2001:db8:7:0:ffff:ffff:ffff:ffff  0 of 2^53 or more
    transit  eth3       -                                                                          0 of 0
    ");
    insta::assert_snapshot!(server.run("pool show public"), @"
    exit 0
    --- stdout
    name       public
    id         [id]
    interface  (public)
    reserved   0 of 2^53 or more
    created    [time]
    ranges     203.0.113.17-203.0.113.30
               2001:db8:7::1-2001:db8:7:0:ffff:ffff:ffff:ffff
    ");
    insta::assert_snapshot!(server.run("pool show transit --json"), @r#"
    exit 0
    --- stdout
    {
      "id": "[id]",
      "name": "transit",
      "interface": "eth3",
      "ranges": [],
      "total": 0,
      "used": 0,
      "created_at": "[time]"
    }
    "#);
    insta::assert_snapshot!(server.run("pool add-range transit 198.51.100.7"), @"
    exit 0
    --- stderr
    added 198.51.100.7 to pool transit, which has 1 address now
    ");
    insta::assert_snapshot!(server.run("pool add-range transit 198.51.100.7"), @"
    exit 0
    --- stderr
    pool transit has 198.51.100.7 already
    ");
    insta::assert_snapshot!(server.run("pool add-range transit 203.0.113.20-203.0.113.40"), @"
    exit 1
    --- stderr
    error: 203.0.113.20-203.0.113.40 overlaps with pool `public`, which has 203.0.113.17-203.0.113.30

    hint: `trestle network list` and `trestle pool list` show the ranges that are taken; a host's own addresses cannot float
    ");
    insta::assert_snapshot!(server.run("pool remove-range transit 198.51.100.7"), @"
    exit 0
    --- stderr
    took 198.51.100.7 out of pool transit, which has 0 addresses now
    ");
    insta::assert_snapshot!(server.run("pool remove-range transit 198.51.100.7"), @"
    exit 0
    --- stderr
    pool transit has no range 198.51.100.7
    ");
    insta::assert_snapshot!(server.run("pool remove-range public 2001:db8:7::/64"), @"
    exit 0
    --- stderr
    took 2001:db8:7::/64 out of pool public, which has 14 addresses now
    ");
    insta::assert_snapshot!(server.run("pool remove-range public 203.0.113.20-203.0.113.22"), @"
    exit 1
    --- stderr
    error: 203.0.113.20-203.0.113.22 is not the same as 203.0.113.17-203.0.113.30, which pool `public` has

    hint: a range is taken out as it was added: `trestle pool show public` lists them
    ");
    insta::assert_snapshot!(server.run("pool delete transit"), @"
    exit 2
    --- stderr
    error: deleting pool transit needs a yes

    hint: give --yes
    ");
    insta::assert_snapshot!(server.run("pool delete transit --yes"), @"
    exit 0
    --- stderr
    deleted pool transit
    ");
    insta::assert_snapshot!(
        server.run("pool create Other --interface a-very-long-device --range 203.0.113.9-203.0.113.1 --range x"),
        @"
    exit 1
    --- stderr
    error: 4 things are wrong with the request
      name: `Other` is not a name: use 1 to 63 of a-z, 0-9 and `-`, with no `-` at either end
      --interface: `a-very-long-device` is not a device name: it has 18 bytes, the kernel takes 15
      --range 203.0.113.9-203.0.113.1: `203.0.113.9-203.0.113.1` is not a range of addresses: write it as 10.0.0.5-10.0.0.9, 10.0.0.5 or 10.0.0.0/29
      --range x: `x` is not a range of addresses: write it as 10.0.0.5-10.0.0.9, 10.0.0.5 or 10.0.0.0/29
    "
    );
    insta::assert_snapshot!(server.run("network create x --cidr 203.0.113.0/24"), @"
    exit 1
    --- stderr
    error: 203.0.113.0/24 overlaps with pool `public`, which has 203.0.113.17-203.0.113.30

    hint: `trestle pool list` shows the ranges that are taken
    ");
}

#[test]
fn a_floating_ip_from_its_reservation_to_its_release() {
    let cloud = Cloud::start();
    insta::assert_snapshot!(cloud.run("floating-ip reserve --project alpha"), @"
    exit 0
    --- stderr
    reserved 203.0.113.20 of pool public for project alpha
    ");
    insta::assert_snapshot!(cloud.run("floating-ip reserve --project alpha --address 203.0.113.25 --json"), @r#"
    exit 0
    --- stdout
    {
      "address": "203.0.113.25",
      "pool": "public",
      "project": "alpha",
      "state": "reserved",
      "forwards": [],
      "host": null,
      "auto_assigned": false,
      "reserved_at": "[time]"
    }
    --- stderr
    reserved 203.0.113.25 of pool public for project alpha
    "#);
    insta::assert_snapshot!(cloud.run("floating-ip associate 203.0.113.20 web1"), @"
    exit 0
    --- stderr
    203.0.113.20 leads to web1 (10.0.0.2), on kvm1
    kvm1 has not confirmed it yet: what was before goes on there until its agent is back
    ");
    insta::assert_snapshot!(cloud.run("floating-ip list"), @"
    exit 0
    --- stdout
    ADDRESS       POOL    PROJECT  STATE     INSTANCE  FIXED IP  HOST
    203.0.113.20  public  alpha    pending   web1      10.0.0.2  kvm1
    203.0.113.25  public  alpha    reserved  -         -         -
    ");
    insta::assert_snapshot!(cloud.run_with_kvm1_until("floating-ip show 203.0.113.20", "active"), @"
    exit 0
    --- stdout
    address   203.0.113.20
    pool      public
    project   alpha
    state     active
    leads to  web1 (10.0.0.2) on front
    host      kvm1
    assigned  on request
    reserved  [time]
    ");
    insta::assert_snapshot!(cloud.run("floating-ip associate 203.0.113.20 web1 --fixed-ip 10.0.0.2"), @"
    exit 0
    --- stderr
    203.0.113.20 leads to web1 (10.0.0.2), on kvm1
    ");
    insta::assert_snapshot!(cloud.run("floating-ip show 203.0.113.20 --json"), @r#"
    exit 0
    --- stdout
    {
      "address": "203.0.113.20",
      "pool": "public",
      "project": "alpha",
      "state": "active",
      "instance": "web1",
      "network": "front",
      "fixed_ip": "10.0.0.2",
      "forwards": [],
      "host": "kvm1",
      "auto_assigned": false,
      "reserved_at": "[time]"
    }
    "#);
    insta::assert_snapshot!(cloud.run("instance list"), @"
    exit 0
    --- stdout
    NAME  PROJECT  ADDRESSES  FLOATING IPS  HOST  STATE
    web1  alpha    10.0.0.2   203.0.113.20  kvm1  ready
    web2  alpha    10.0.0.3   -             kvm2  pending
    ");
    insta::assert_snapshot!(cloud.run("instance show web1"), @"
    exit 0
    --- stdout
    name     web1
    id       [id]
    project  alpha
    created  [time]

    NETWORK  ADDRESSES  FLOATING IPS  MAC                DEVICE           HOST  STATE  INTERFACE
    front    10.0.0.2   203.0.113.20  [mac]  [device]  kvm1  ready  [id]

    NETWORK  SECURITY GROUPS  ALLOWED ADDRESS PAIRS
    front    default          -
    ");
    let moved = cloud.run("floating-ip move 203.0.113.20 web2");
    assert!(
        moved.contains("moved 203.0.113.20 in ")
            && moved.contains("from web1 (10.0.0.2) to web2 (10.0.0.3), on kvm2"),
        "{moved}"
    );
    insta::assert_snapshot!(cloud.run("floating-ip move 203.0.113.20 web2"), @"
    exit 0
    --- stderr
    203.0.113.20 leads to web2 (10.0.0.3) already
    kvm2 has not confirmed it yet: what was before goes on there until its agent is back
    ");
    insta::assert_snapshot!(cloud.run("floating-ip list --instance web2"), @"
    exit 0
    --- stdout
    ADDRESS       POOL    PROJECT  STATE    INSTANCE  FIXED IP  HOST
    203.0.113.20  public  alpha    pending  web2      10.0.0.3  kvm2
    ");
    insta::assert_snapshot!(cloud.run("floating-ip disassociate 203.0.113.20"), @"
    exit 0
    --- stderr
    203.0.113.20 leads nowhere now; project alpha keeps it
    kvm2 has not confirmed it yet: what was before goes on there until its agent is back
    ");
    insta::assert_snapshot!(cloud.run("floating-ip disassociate 203.0.113.20"), @"
    exit 0
    --- stderr
    203.0.113.20 leads nowhere now; project alpha keeps it
    ");
    insta::assert_snapshot!(cloud.run("floating-ip release 203.0.113.20"), @"
    exit 0
    --- stderr
    released 203.0.113.20
    ");
    insta::assert_snapshot!(cloud.run("floating-ip show 203.0.113.20"), @"
    exit 1
    --- stderr
    error: no floating IP `203.0.113.20`

    hint: `trestle floating-ip list` shows those that there are
    ");
    insta::assert_snapshot!(cloud.run("floating-ip list --pool public --project alpha"), @"
    exit 0
    --- stdout
    ADDRESS       POOL    PROJECT  STATE     INSTANCE  FIXED IP  HOST
    203.0.113.25  public  alpha    reserved  -         -         -
    ");
    insta::assert_snapshot!(cloud.run("project show alpha"), @"
    exit 0
    --- stdout
    name              alpha
    id                [id]
    created           [time]
    networks          0, no limit
    fixed ips         2, no limit
    floating ips      1 of 10
    security groups   1 of 100
    rules of a group  2 of 200
    auto assign       -
    ");
}

#[test]
fn ports_of_a_floating_ip_lead_where_they_are_told() {
    let cloud = Cloud::start();
    cloud.server.given("floating-ip reserve --project alpha");
    insta::assert_snapshot!(cloud.run("floating-ip forward 203.0.113.20 tcp/443 web1:8443"), @"
    exit 0
    --- stderr
    tcp/443 of 203.0.113.20 leads to web1 (10.0.0.2:8443), on kvm1
    kvm1 has not confirmed it yet: what was before goes on there until its agent is back
    ");
    insta::assert_snapshot!(cloud.run("floating-ip forward 203.0.113.20 udp/53 web1"), @"
    exit 0
    --- stderr
    udp/53 of 203.0.113.20 leads to web1 (10.0.0.2:53), on kvm1
    kvm1 has not confirmed it yet: what was before goes on there until its agent is back
    ");
    insta::assert_snapshot!(cloud.run("floating-ip list"), @"
    exit 0
    --- stdout
    ADDRESS       POOL    PROJECT  STATE    INSTANCE  FIXED IP  PORTS            HOST
    203.0.113.20  public  alpha    pending  -         -         tcp/443, udp/53  kvm1
    ");
    insta::assert_snapshot!(cloud.run("floating-ip show 203.0.113.20"), @"
    exit 0
    --- stdout
    address   203.0.113.20
    pool      public
    project   alpha
    state     pending
    leads to  -
    host      kvm1
    assigned  on request
    reserved  [time]

    PORT     INSTANCE  ADDRESS        NETWORK
    tcp/443  web1      10.0.0.2:8443  front
    udp/53   web1      10.0.0.2:53    front
    ");
    insta::assert_snapshot!(cloud.run("floating-ip show 203.0.113.20 --json"), @r#"
    exit 0
    --- stdout
    {
      "address": "203.0.113.20",
      "pool": "public",
      "project": "alpha",
      "state": "pending",
      "forwards": [
        {
          "protocol": "tcp",
          "port": 443,
          "instance": "web1",
          "network": "front",
          "fixed_ip": "10.0.0.2",
          "fixed_port": 8443,
          "served": true
        },
        {
          "protocol": "udp",
          "port": 53,
          "instance": "web1",
          "network": "front",
          "fixed_ip": "10.0.0.2",
          "fixed_port": 53,
          "served": true
        }
      ],
      "host": "kvm1",
      "auto_assigned": false,
      "reserved_at": "[time]"
    }
    "#);
    insta::assert_snapshot!(cloud.run("floating-ip disassociate 203.0.113.20"), @"
    exit 0
    --- stderr
    203.0.113.20 leads nowhere now but by tcp/443, udp/53; project alpha keeps it
    ");
    insta::assert_snapshot!(cloud.run("floating-ip forward 203.0.113.20 tcp/443 web1"), @"
    exit 1
    --- stderr
    error: port tcp/443 of floating IP 203.0.113.20 leads to instance `web1`, to port 8443 of 10.0.0.2

    hint: `trestle floating-ip unforward 203.0.113.20 tcp/443` ends that
    ");
    insta::assert_snapshot!(cloud.run("floating-ip forward 203.0.113.20 tcp/22 web2"), @"
    exit 1
    --- stderr
    error: instance `web2` is served by host `kvm2`, and floating IP 203.0.113.20 is on host `kvm1`: all that one leads to is served by one host

    hint: move the instance with `trestle instance move web2 --to kvm1`, or use another floating IP
    ");
    insta::assert_snapshot!(cloud.run("floating-ip forward 203.0.113.20 sctp/0 web1:70000"), @"
    exit 1
    --- stderr
    error: 3 things are wrong with the request
      protocol: `sctp` is not a protocol with ports: use tcp or udp
      port: 0 is not a port: use 1 to 65535
      fixed_port: 70000 is not a port: use 1 to 65535
    ");
    insta::assert_snapshot!(cloud.run("floating-ip forward 203.0.113.20 443 web1"), @"
    exit 2
    --- stderr
    error: invalid value '443' for '<PROTOCOL/PORT>': write tcp/PORT or udp/PORT, such as tcp/443

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(cloud.run("floating-ip forward 203.0.113.20 tcp/443 web1:https"), @"
    exit 2
    --- stderr
    error: invalid value 'web1:https' for '<INSTANCE[:PORT]>': write INSTANCE or INSTANCE:PORT, such as web1:8443

    For more information, try '--help'.
    ");
    cloud.server.given("floating-ip associate 203.0.113.20 web1");
    insta::assert_snapshot!(cloud.run("floating-ip unforward 203.0.113.20 tcp/443"), @"
    exit 0
    --- stderr
    tcp/443 of 203.0.113.20 leads where all of it does now, to web1 (10.0.0.2)
    kvm1 has not confirmed it yet: what was before goes on there until its agent is back
    ");
    insta::assert_snapshot!(cloud.run("floating-ip unforward 203.0.113.20 tcp/443"), @"
    exit 0
    --- stderr
    tcp/443 of 203.0.113.20 leads where all of it does now, to web1 (10.0.0.2)
    ");
    insta::assert_snapshot!(cloud.run("floating-ip release 203.0.113.20"), @"
    exit 1
    --- stderr
    error: floating IP 203.0.113.20 still leads to instance `web1`, instance `web1` (port udp/53)

    hint: `trestle floating-ip disassociate 203.0.113.20` and `trestle floating-ip unforward 203.0.113.20 PROTOCOL/PORT` end that
    ");
}

#[test]
fn what_a_floating_ip_cannot_do_is_said_with_what_to_do_instead() {
    let cloud = Cloud::start();
    for line in [
        "pool create second --range 198.51.100.1",
        "network create back --type flat_dhcp --cidr 10.1.0.0/24 --bridge br101",
        "network create lan --type flat --cidr 10.2.0.0/24 --bridge br-lan",
        "instance create both --project alpha --network front --network back",
        "instance create far --project alpha --network lan",
        "instance create bare --project alpha --network front",
        "project create beta",
        "instance create other --project beta --network front",
    ] {
        cloud.server.given(line);
    }
    insta::assert_snapshot!(cloud.run("floating-ip reserve --project alpha"), @"
    exit 1
    --- stderr
    error: --pool: several pools have IPv4 addresses: say which of `public`, `second`
    ");
    insta::assert_snapshot!(cloud.run("floating-ip reserve --project alpha --family ipv6"), @"
    exit 1
    --- stderr
    error: no pool has IPv6 addresses

    hint: an administrator makes one with `trestle pool create`
    ");
    insta::assert_snapshot!(cloud.run("floating-ip reserve --project alpha --pool second --address 203.0.113.20"), @"
    exit 1
    --- stderr
    error: --address: 203.0.113.20 is not an address of pool `second`
    ");
    insta::assert_snapshot!(cloud.run("floating-ip reserve --project alpha --address 10.0.0.9"), @"
    exit 1
    --- stderr
    error: --address: 10.0.0.9 is in no pool
    ");
    cloud.server.given("floating-ip reserve --project alpha --pool second");
    insta::assert_snapshot!(cloud.run("floating-ip reserve --project beta --pool second"), @"
    exit 1
    --- stderr
    error: no IPv4 address of pool `second` is free

    hint: release floating IPs that are not needed; an administrator adds addresses with `trestle pool add-range`
    ");
    insta::assert_snapshot!(cloud.run("floating-ip reserve --project beta --address 198.51.100.1"), @"
    exit 1
    --- stderr
    error: another project has floating IP 198.51.100.1

    hint: leave `--address` out to have one that is free
    ");
    cloud.server.given("floating-ip reserve --project alpha --pool public");
    insta::assert_snapshot!(cloud.run("floating-ip associate 203.0.113.20 both"), @"
    exit 1
    --- stderr
    error: --fixed-ip: instance `both` has several IPv4 addresses that a floating IP can lead to: say which of 10.0.0.4, 10.1.0.2
    ");
    insta::assert_snapshot!(cloud.run("floating-ip associate 203.0.113.20 both --fixed-ip 10.0.0.2"), @"
    exit 1
    --- stderr
    error: --fixed-ip: 10.0.0.2 is not a fixed IP of instance `both`, which has 10.0.0.4, 10.1.0.2
    ");
    insta::assert_snapshot!(cloud.run("floating-ip associate 203.0.113.20 far"), @"
    exit 1
    --- stderr
    error: instance `far` has 10.2.0.2 on network `lan`, which is of type `flat`: Trestle does not route for it

    hint: floating IPs lead to addresses on networks of type `flat_dhcp` or `vlan`
    ");
    insta::assert_snapshot!(cloud.run("floating-ip associate 203.0.113.20 other"), @"
    exit 1
    --- stderr
    error: no instance `other`

    hint: floating IP 203.0.113.20 leads to instances of project `alpha`, which has it
    ");
    cloud.server.given("floating-ip associate 203.0.113.20 web1");
    insta::assert_snapshot!(cloud.run("floating-ip associate 203.0.113.20 web2"), @"
    exit 1
    --- stderr
    error: floating IP 203.0.113.20 leads to instance `web1`, to 10.0.0.2

    hint: `trestle floating-ip move 203.0.113.20 web2` moves it at once
    ");
    insta::assert_snapshot!(cloud.run("floating-ip release 203.0.113.20"), @"
    exit 1
    --- stderr
    error: floating IP 203.0.113.20 still leads to instance `web1`

    hint: `trestle floating-ip disassociate 203.0.113.20` and `trestle floating-ip unforward 203.0.113.20 PROTOCOL/PORT` end that
    ");
    insta::assert_snapshot!(cloud.run("pool remove-range public 203.0.113.20-203.0.113.29"), @"
    exit 1
    --- stderr
    error: 203.0.113.20-203.0.113.29 of pool `public` has floating IP `203.0.113.20`

    hint: release them with `trestle floating-ip release`
    ");
    insta::assert_snapshot!(cloud.run("pool delete public --yes"), @"
    exit 1
    --- stderr
    error: pool `public` is used by floating IP `203.0.113.20`

    hint: release floating IPs with `trestle floating-ip release`, and end what projects give out by themselves with `trestle project set PROJECT --auto-assign ''`; a network does so for as long as it is there
    ");
    insta::assert_snapshot!(cloud.run("project delete alpha --yes"), @"
    exit 1
    --- stderr
    error: project `alpha` still owns instance `bare`, instance `both`, instance `far`, instance `web1`, instance `web2`, floating IP `198.51.100.1`, floating IP `203.0.113.20`

    hint: delete instances with `trestle instance delete`, and take networks from it with `trestle network disassociate` or `delete`, floating IPs with `trestle floating-ip release`, and DNS domains with `trestle dns domain delete`
    ");
    cloud.server.given("project set-quota alpha --floating-ips 2");
    insta::assert_snapshot!(cloud.run("floating-ip reserve --project alpha --pool public"), @"
    exit 1
    --- stderr
    error: project `alpha` has 2 of the 2 floating IPs that it may have, and this takes 1 more

    hint: delete what is not needed, or raise the limit with `trestle project set-quota`
    ");
}

#[test]
fn a_host_without_the_device_is_named_before_anything_is_changed() {
    let cloud = Cloud::start();
    cloud.report_device_of_kvm2("eth7");
    cloud.server.given("floating-ip reserve --project alpha");
    insta::assert_snapshot!(cloud.run("floating-ip associate 203.0.113.20 web2"), @"
    exit 1
    --- stderr
    error: host `kvm2` has no device `eth0`, which floating IP 203.0.113.20 is to be on

    hint: `trestle host show kvm2` lists its devices, and `trestle host set kvm2 --public-interface DEVICE` names another where the pool names none
    ");
    let unset = ["host", "set", "kvm2", "--public-interface", ""];
    assert!(cloud.server.command(&unset).output().unwrap().status.success());
    insta::assert_snapshot!(cloud.run("floating-ip associate 203.0.113.20 web2"), @"
    exit 1
    --- stderr
    error: host `kvm2` has no public interface, which floating IP 203.0.113.20 is to be on

    hint: name one with `trestle host set kvm2 --public-interface DEVICE`
    ");
    insta::assert_snapshot!(cloud.run("floating-ip list"), @"
    exit 0
    --- stdout
    ADDRESS       POOL    PROJECT  STATE     INSTANCE  FIXED IP  HOST
    203.0.113.20  public  alpha    reserved  -         -         -
    ");
    cloud.server.given("host set kvm2 --public-interface eth7 --routing-source-ip 203.0.113.12");
    insta::assert_snapshot!(cloud.server.run_until("host show kvm2", "of 16"), @"
    exit 0
    --- stdout
    name               kvm2
    id                 [id]
    flat interface     -
    vlan interface     -
    public interface   eth7
    routing source ip  203.0.113.12
    may be gateway     yes
    gateway of         -
    created            [time]
    agent              behind
    agent version      9.9
    kernel             6.1.0
    kernel lacks       -
    devices            eth7
    last seen          [time]
    generation         0 of 16
    problems           0
    ");
    insta::assert_snapshot!(cloud.run("host set kvm2 --routing-source-ip fd00::1"), @"
    exit 1
    --- stderr
    error: --routing-source-ip: `fd00::1` is no source for what is routed: use an IPv4 address, `device` or `none`
    ");
}

#[test]
fn instances_are_given_floating_ips_by_their_network_or_project() {
    let cloud = Cloud::start();
    insta::assert_snapshot!(cloud.run("project set alpha --auto-assign public"), @"
    exit 0
    --- stderr
    each new instance of project alpha gets a floating IP of pool public
    ");
    insta::assert_snapshot!(cloud.run("project show alpha"), @"
    exit 0
    --- stdout
    name              alpha
    id                [id]
    created           [time]
    networks          0, no limit
    fixed ips         2, no limit
    floating ips      0 of 10
    security groups   1 of 100
    rules of a group  2 of 200
    auto assign       public
    ");
    insta::assert_snapshot!(cloud.run("instance create db --project alpha --network front"), @"
    exit 0
    --- stderr
    created instance db (10.0.0.4 on front reached at 203.0.113.20)
    ");
    insta::assert_snapshot!(cloud.run("floating-ip show 203.0.113.20"), @"
    exit 0
    --- stdout
    address   203.0.113.20
    pool      public
    project   alpha
    state     detached
    leads to  db (10.0.0.4) on front
    host      -
    assigned  with its instance, and goes with it
    reserved  [time]
    ");
    insta::assert_snapshot!(cloud.run("floating-ip disassociate 203.0.113.20"), @"
    exit 1
    --- stderr
    error: floating IP 203.0.113.20 came with instance `db` and goes with it: it cannot be disassociated

    hint: one that is reserved with `trestle floating-ip reserve` goes where you want it
    ");
    insta::assert_snapshot!(cloud.run("instance delete db --yes"), @"
    exit 0
    --- stderr
    deleted instance db
    ");
    insta::assert_snapshot!(cloud.run("floating-ip list"), @"
    exit 0
    --- stdout
    ADDRESS  POOL  PROJECT  STATE  INSTANCE  FIXED IP  HOST
    ");
    let none = ["project", "set", "alpha", "--auto-assign", ""];
    insta::assert_snapshot!(cloud.server.seen(&cloud.server.command(&none).output().unwrap()), @"
    exit 0
    --- stderr
    new instances of project alpha get no floating IP by themselves
    ");
    insta::assert_snapshot!(cloud.run("project set alpha --auto-assign nowhere"), @"
    exit 1
    --- stderr
    error: no pool `nowhere`
    ");
    cloud
        .server
        .given("network create public --type flat_dhcp --cidr 10.9.0.0/24 --bridge br9 --auto-assign public");
    assert!(cloud.server.stdout("network show public").contains("auto assign        public\n"));
    insta::assert_snapshot!(cloud.run("instance add-interface web1 --network public"), @"
    exit 0
    --- stderr
    added an interface to instance web1 (10.9.0.2 on public reached at 203.0.113.21)
    ");
    insta::assert_snapshot!(
        cloud.run("network create lan --type flat --cidr 10.8.0.0/24 --bridge br8 --auto-assign public"),
        @"
    exit 1
    --- stderr
    error: --auto-assign: Trestle does not route for a network of type `flat`
    "
    );
}

#[test]
fn names_lead_to_addresses() {
    let cloud = Cloud::start();
    cloud.server.given("floating-ip reserve --project alpha");
    insta::assert_snapshot!(cloud.run("dns domain create example.org --project alpha"), @"
    exit 0
    --- stderr
    created domain example.org (known on the networks of project alpha)
    ");
    insta::assert_snapshot!(cloud.run("dns domain create example.com --json"), @r#"
    exit 0
    --- stdout
    {
      "name": "example.com",
      "project": null,
      "created_at": "[time]"
    }
    --- stderr
    created domain example.com (known on all networks)
    "#);
    insta::assert_snapshot!(cloud.run("dns domain list"), @"
    exit 0
    --- stdout
    DOMAIN       PROJECT  CREATED
    example.com  (all)    [time]
    example.org  alpha    [time]
    ");
    insta::assert_snapshot!(
        cloud.run("dns record set www --domain example.org --address 203.0.113.20 --address 10.0.0.2"),
        @"
    exit 0
    --- stderr
    www.example.org leads to 10.0.0.2, 203.0.113.20
    "
    );
    insta::assert_snapshot!(cloud.run("dns record set a.b --domain example.com --address 192.0.2.1"), @"
    exit 0
    --- stderr
    a.b.example.com leads to 192.0.2.1
    ");
    insta::assert_snapshot!(cloud.run("dns record list"), @"
    exit 0
    --- stdout
    NAME  DOMAIN       ADDRESSES
    a.b   example.com  192.0.2.1
    www   example.org  10.0.0.2, 203.0.113.20
    ");
    insta::assert_snapshot!(cloud.run("dns record list --domain example.com --json"), @r#"
    exit 0
    --- stdout
    {
      "items": [
        {
          "name": "a.b",
          "domain": "example.com",
          "addresses": [
            "192.0.2.1"
          ]
        }
      ]
    }
    "#);
    insta::assert_snapshot!(cloud.run("dns record list --address 203.0.113.20"), @"
    exit 0
    --- stdout
    NAME  DOMAIN       ADDRESSES
    www   example.org  10.0.0.2, 203.0.113.20
    ");
    insta::assert_snapshot!(cloud.run("dns record show www --domain example.org"), @"
    exit 0
    --- stdout
    name       www
    domain     example.org
    addresses  10.0.0.2, 203.0.113.20
    ");
    cloud.server.given("floating-ip release 203.0.113.20");
    insta::assert_snapshot!(cloud.run("dns record show www --domain example.org"), @"
    exit 0
    --- stdout
    name       www
    domain     example.org
    addresses  10.0.0.2
    ");
    insta::assert_snapshot!(cloud.run("dns record set a_b --domain example.org --address x"), @"
    exit 1
    --- stderr
    error: 2 things are wrong with the request
      name: `a_b` is not a DNS domain: use labels of a-z, 0-9 and `-` joined by dots, 253 characters at most
      --address x: `x` is not an IP address
    ");
    insta::assert_snapshot!(cloud.run("dns record set www --domain nowhere --address 192.0.2.1"), @"
    exit 1
    --- stderr
    error: no domain `nowhere`
    ");
    insta::assert_snapshot!(cloud.run("dns record show nothing --domain example.org"), @"
    exit 1
    --- stderr
    error: no name `nothing.example.org`
    ");
    insta::assert_snapshot!(cloud.run("dns domain create example.org"), @"
    exit 1
    --- stderr
    error: there is a domain `example.org` already
    ");
    insta::assert_snapshot!(cloud.run("dns record delete a.b --domain example.com"), @"
    exit 0
    --- stderr
    deleted a.b.example.com
    ");
    insta::assert_snapshot!(cloud.run("dns domain delete example.org"), @"
    exit 2
    --- stderr
    error: deleting domain example.org with all names in it needs a yes

    hint: give --yes
    ");
    insta::assert_snapshot!(cloud.run("dns domain delete example.org --yes"), @"
    exit 0
    --- stderr
    deleted domain example.org with all names in it
    ");
}

#[test]
fn it_is_told_who_had_an_address_when() {
    let cloud = Cloud::start();
    for line in [
        "floating-ip reserve --project alpha",
        "floating-ip associate 203.0.113.20 web1",
        "floating-ip move 203.0.113.20 web2",
        "floating-ip forward 203.0.113.20 tcp/80 web2",
        "floating-ip disassociate 203.0.113.20",
    ] {
        cloud.server.given(line);
    }
    insta::assert_snapshot!(cloud.run("address history 203.0.113.20"), @"
    exit 0
    --- stdout
    SINCE                 UNTIL                 AS            PROJECT  INSTANCE  HOST  MAC
    [time]  now                   port_forward  alpha    web2      kvm2  [mac]
    [time]  [time]  floating_ip   alpha    web2      kvm2  [mac]
    [time]  [time]  floating_ip   alpha    web1      kvm1  [mac]
    [time]  [time]  reserved      alpha    -         -     -
    ");
    insta::assert_snapshot!(cloud.run("address history 203.0.113.21"), @"
    exit 0
    --- stderr
    nobody had 203.0.113.21 yet, as far as you can see
    ");
    insta::assert_snapshot!(cloud.run("address history 203.0.113.20 --at 2020-01-01T00:00:00Z"), @"
    exit 0
    --- stderr
    nobody had 203.0.113.20 at [time], as far as you can see
    ");
    insta::assert_snapshot!(cloud.run("address history 203.0.113.20 --at 2020-01-01T00:00:00Z --json"), @r#"
    exit 0
    --- stdout
    {
      "items": []
    }
    "#);
    insta::assert_snapshot!(cloud.run("address history nothing --at yesterday"), @"
    exit 1
    --- stderr
    error: 2 things are wrong with the request
      address: `nothing` is not an IP address
      --at: `yesterday` is not a time: write it as [time]
    ");
    let history: serde_json::Value =
        serde_json::from_str(&cloud.server.stdout("address history 10.0.0.2 --json")).unwrap();
    let holdings = history["items"].as_array().unwrap();
    let hosts: Vec<&serde_json::Value> = holdings.iter().map(|holding| &holding["host"]).collect();
    assert_eq!(hosts, ["kvm1".into(), serde_json::Value::Null].iter().collect::<Vec<_>>());
}

#[test]
fn a_member_has_its_own_project_s_floating_ips() {
    let cloud = Cloud::start();
    cloud.server.given("project create beta");
    cloud.server.given("floating-ip reserve --project beta");
    let secret = cloud.server.stdout("token create --role member --project alpha");
    let member = |line: &str| {
        let args: Vec<&str> = line.split_whitespace().collect();
        let mut command = cloud.server.command(&args);
        cloud.server.seen(&command.env("TRESTLE_TOKEN", secret.trim()).output().unwrap())
    };
    insta::assert_snapshot!(member("floating-ip reserve"), @"
    exit 0
    --- stderr
    reserved 203.0.113.21 of pool public for project alpha
    ");
    insta::assert_snapshot!(member("floating-ip list"), @"
    exit 0
    --- stdout
    ADDRESS       POOL    PROJECT  STATE     INSTANCE  FIXED IP  HOST
    203.0.113.21  public  alpha    reserved  -         -         -
    ");
    insta::assert_snapshot!(member("floating-ip show 203.0.113.20"), @"
    exit 1
    --- stderr
    error: no floating IP `203.0.113.20`

    hint: `trestle floating-ip list` shows those that there are
    ");
    insta::assert_snapshot!(member("pool list"), @"
    exit 0
    --- stdout
    NAME    INTERFACE  RANGES                     RESERVED
    public  (public)   203.0.113.20-203.0.113.29  2 of 10
    ");
    insta::assert_snapshot!(member("pool add-range public 203.0.113.99"), @"
    exit 1
    --- stderr
    error: adding addresses to a pool is for admins
    ");
    insta::assert_snapshot!(member("dns domain create example.org"), @"
    exit 0
    --- stderr
    created domain example.org (known on the networks of project alpha)
    ");
    insta::assert_snapshot!(member("dns record set www --domain example.org --address 203.0.113.20"), @"
    exit 1
    --- stderr
    error: --address 203.0.113.20: 203.0.113.20 is neither a fixed nor a floating IP of the project
    ");
    insta::assert_snapshot!(member("address history 203.0.113.20"), @"
    exit 0
    --- stderr
    nobody had 203.0.113.20 yet, as far as you can see
    ");
}
