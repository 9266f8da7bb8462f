//! What a user is told when it does not work.

use crate::support::{Server, seen, trestle};

fn check(args: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    seen(&trestle(folder.path()).args(args).output().unwrap(), folder.path())
}

#[test]
fn without_a_token_it_says_where_one_was_looked_for() {
    insta::assert_snapshot!(check(&["project", "list"]), @r"
    exit 1
    --- stderr
    error: there is no token to call the controller with
      caused by: cannot read [folder]/admin.token
      caused by: No such file or directory (os error 2)

    hint: run this as root on the controller's machine, or give TRESTLE_TOKEN or --token-file
    ");
    insta::assert_snapshot!(check(&["project", "list", "--token-file", "/nowhere/token"]), @r"
    exit 1
    --- stderr
    error: the token file cannot be used
      caused by: cannot read /nowhere/token
      caused by: No such file or directory (os error 2)

    hint: give --token-file a file that holds the token and that you may read
    ");
}

#[test]
fn an_empty_token_file_is_said_to_be_empty() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("admin.token"), "\n").unwrap();
    let output = trestle(folder.path()).args(["project", "list"]).output().unwrap();
    insta::assert_snapshot!(seen(&output, folder.path()), @r"
    exit 1
    --- stderr
    error: there is no token to call the controller with
      caused by: [folder]/admin.token is empty

    hint: run this as root on the controller's machine, or give TRESTLE_TOKEN or --token-file
    ");
}

#[test]
fn without_a_server_it_says_where_one_was_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("unix:{}/trestle.sock", folder.path().display());
    let output = trestle(folder.path()).env("TRESTLE_TOKEN", "x").args(["status", "--url", &url]).output();
    insta::assert_snapshot!(seen(&output.unwrap(), folder.path()), @r"
    exit 1
    --- stderr
    error: cannot reach the controller at unix:[folder]/trestle.sock
      caused by: No such file or directory (os error 2)

    hint: is `trestle server` running? say where with --url or TRESTLE_URL
    ");
}

#[test]
fn what_is_not_a_url_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = trestle(folder.path());
    command.env("TRESTLE_TOKEN", "x").env("TRESTLE_URL", "controller:7117").args(["host", "list"]);
    insta::assert_snapshot!(seen(&command.output().unwrap(), folder.path()), @r"
    exit 1
    --- stderr
    error: `controller:7117` is not the URL of a controller: write http://host:port, https://host:port or unix:/path
    ");
}

#[test]
fn a_wrong_command_line_is_told_apart_from_a_failure() {
    insta::assert_snapshot!(check(&["network", "creat"]), @r"
    exit 2
    --- stderr
    error: unrecognized subcommand 'creat'

      tip: a similar subcommand exists: 'create'

    Usage: trestle network [OPTIONS] <COMMAND>

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(check(&["network", "create", "public"]), @"
    exit 2
    --- stderr
    error: the following required arguments were not provided:
      <--cidr <CIDR>|--cidr-v6 <CIDR>>

    Usage: trestle network create <--cidr <CIDR>|--cidr-v6 <CIDR>> <NAME>

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(check(&["instance", "create", "web", "--network", "public,ip=10.0.0.5"]), @r"
    exit 2
    --- stderr
    error: invalid value 'public,ip=10.0.0.5' for '--network <NETWORK>': `ip=10.0.0.5` is not address=ADDRESS or mac=MAC

    For more information, try '--help'.
    ");
}

#[test]
fn a_delete_without_a_terminal_needs_yes() {
    let server = Server::start();
    server.given("project create alpha");
    insta::assert_snapshot!(server.run("project delete alpha"), @r"
    exit 2
    --- stderr
    error: deleting project alpha needs a yes

    hint: give --yes
    ");
    insta::assert_snapshot!(server.run("project list"), @"
    exit 0
    --- stdout
    NAME   NETWORKS     FIXED IPS    FLOATING IPS  CREATED
    alpha  0, no limit  0, no limit  0 of 10       [time]
    ");
}

#[test]
fn every_problem_of_a_request_is_listed() {
    let server = Server::start();
    insta::assert_snapshot!(
        server.run("network create Public --cidr 10.0.0.5/24 --gateway 10.1.0.1 --bridge a-very-long-bridge --mtu 100"),
        @"
    exit 1
    --- stderr
    error: 4 things are wrong with the request
      name: `Public` is not a name: use 1 to 63 of a-z, 0-9 and `-`, with no `-` at either end
      --cidr: `10.0.0.5/24` has host bits set; the network is 10.0.0.0/24
      --bridge: `a-very-long-bridge` is not a device name: it has 18 bytes, the kernel takes 15
      --mtu: an MTU of 100 bytes is not possible: use 576 to 9216
    "
    );
}

#[test]
fn what_is_not_there_is_named() {
    let server = Server::start();
    insta::assert_snapshot!(server.run("network show public"), @r"
    exit 1
    --- stderr
    error: no network `public`
    ");
    insta::assert_snapshot!(server.run("instance create web --project alpha"), @r"
    exit 1
    --- stderr
    error: no project `alpha`
    ");
    let escape = ["network", "show", "\u{1b}[2Jpublic"];
    insta::assert_snapshot!(server.seen(&server.command(&escape).output().unwrap()), @"
    exit 1
    --- stderr
    error: no network `�[2Jpublic`
    ");
}

#[test]
fn a_wrong_token_is_refused() {
    let server = Server::start();
    let output = server.command(&["project", "list"]).env("TRESTLE_TOKEN", "wrong").output().unwrap();
    insta::assert_snapshot!(server.seen(&output), @r"
    exit 1
    --- stderr
    error: the token is not one of this controller's

    hint: `trestle token create` makes a new one
    ");
}

#[test]
fn a_member_sees_its_own_project_only() {
    let server = Server::start();
    for line in [
        "project create alpha",
        "project create beta",
        "network create public --type flat_dhcp --cidr 10.0.0.0/24 --bridge br100",
        "instance create web --project beta --network public",
    ] {
        server.given(line);
    }
    let secret = server.stdout("token create --role member --project alpha");
    let member = |line: &str| {
        let args: Vec<&str> = line.split_whitespace().collect();
        server.seen(&server.command(&args).env("TRESTLE_TOKEN", secret.trim()).output().unwrap())
    };
    insta::assert_snapshot!(member("project list"), @"
    exit 0
    --- stdout
    NAME   NETWORKS     FIXED IPS    FLOATING IPS  CREATED
    alpha  0, no limit  0, no limit  0 of 10       [time]
    ");
    insta::assert_snapshot!(member("instance show web --project beta"), @r"
    exit 1
    --- stderr
    error: no project `beta`
    ");
    insta::assert_snapshot!(member("host create kvm1"), @r"
    exit 1
    --- stderr
    error: making a host known is for admins
    ");
    insta::assert_snapshot!(member("instance create mine"), @r"
    exit 0
    --- stderr
    created instance mine (10.0.0.3 on public)
    ");
    insta::assert_snapshot!(member("instance list"), @r"
    exit 0
    --- stdout
    NAME  PROJECT  ADDRESSES  HOST  STATE
    mine  alpha    10.0.0.3   -     detached
    ");
}

#[test]
fn what_cannot_be_together_is_a_wrong_command_line() {
    insta::assert_snapshot!(check(&["network", "create", "x", "--cidr", "10.0.0.0/24", "--single-host", "--per-host"]), @"
    exit 2
    --- stderr
    error: the argument '--single-host' cannot be used with '--per-host'

    Usage: trestle network create --single-host <--cidr <CIDR>|--cidr-v6 <CIDR>> <NAME>

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(check(&["instance", "move", "web"]), @"
    exit 2
    --- stderr
    error: the following required arguments were not provided:
      --to <HOST>

    Usage: trestle instance move --to <HOST> <INSTANCE>

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(check(&["instance", "move", "web", "--to", "kvm2", "--prepare", "--switch"]), @"
    exit 2
    --- stderr
    error: the argument '--prepare' cannot be used with '--switch'

    Usage: trestle instance move --to <HOST> --prepare <INSTANCE>

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(check(&["project", "set-quota", "alpha"]), @"
    exit 2
    --- stderr
    error: the following required arguments were not provided:
      <--networks <LIMIT>|--fixed-ips <LIMIT>|--floating-ips <LIMIT>|--security-groups <LIMIT>|--security-group-rules <LIMIT>>

    Usage: trestle project set-quota <--networks <LIMIT>|--fixed-ips <LIMIT>|--floating-ips <LIMIT>|--security-groups <LIMIT>|--security-group-rules <LIMIT>> <PROJECT>

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(check(&["project", "set-quota", "alpha", "--networks", "many"]), @"
    exit 2
    --- stderr
    error: invalid value 'many' for '--networks <LIMIT>': a limit is a number from 0 to 4294967295, or `unlimited`

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(check(&["host", "set", "kvm1", "--gateway", "maybe"]), @"
    exit 2
    --- stderr
    error: invalid value 'maybe' for '--gateway <YES|NO>'
      [possible values: yes, no]

    For more information, try '--help'.
    ");
}

#[test]
fn a_network_that_cannot_be_is_refused_whole() {
    let server = Server::start();
    server.given("network create taken --cidr 10.0.0.0/24 --vlan 100");
    insta::assert_snapshot!(server.run("network create x --cidr 10.1.0.0/24 --vlan 4095"), @"
    exit 1
    --- stderr
    error: --vlan: 4095 is not a VLAN id: use 1 to 4094
    ");
    insta::assert_snapshot!(server.run("network create x --cidr 10.1.0.0/24 --vlan 100"), @"
    exit 1
    --- stderr
    error: VLAN 100 is that of network `taken`

    hint: leave `--vlan` out to have the lowest free one
    ");
    insta::assert_snapshot!(
        server.run("network create x --cidr 10.1.0.0/16 --num-networks 10 --vlan-start 4090"),
        @"
    exit 1
    --- stderr
    error: of the VLAN ids 4090 to 4094, 5 are free and 10 are needed

    hint: begin lower with `--vlan-start`, or delete networks that are not needed
    "
    );
    insta::assert_snapshot!(
        server.run("network create x --cidr 10.1.0.0/24 --num-networks 3 --network-size 128"),
        @"
    exit 1
    --- stderr
    error: --num-networks: 10.1.0.0/24 has room for 2 more networks of /25, not for 3
    "
    );
    insta::assert_snapshot!(
        server.run("network create x --cidr 10.1.0.0/16 --num-networks 3 --gateway 10.1.0.1 --vlan 7 --bridge br7"),
        @"
    exit 1
    --- stderr
    error: 3 things are wrong with the request
      --vlan: not possible with several networks, each of which has its own
      --bridge: not possible with several networks, each of which has its own
      --gateway: not possible with several networks, each of which has its own
    "
    );
    insta::assert_snapshot!(server.run("network create x --type flat_dhcp --cidr 10.1.0.0/24 --gateway none"), @"
    exit 1
    --- stderr
    error: 2 things are wrong with the request
      --gateway: only a network of type `flat` can do without a gateway
      --bridge: a network of this type needs a bridge: name one here, or set the option flat_network_bridge
    ");
    insta::assert_snapshot!(
        server.run("network create x --type flat --cidr 10.1.0.0/24 --bridge br1 --dhcp-option 42,192.0.2.1 --single-host"),
        @"
    exit 1
    --- stderr
    error: 2 things are wrong with the request
      --single-host: Trestle does not route for a network of type `flat`
      --dhcp-option: a network of type `flat` has no DHCP
    "
    );
    insta::assert_snapshot!(
        server.run("network create x --cidr 10.1.0.0/24 --cidr-v6 fd00::/72 --ipv6-mode slaac --mtu 1000"),
        @"
    exit 1
    --- stderr
    error: 2 things are wrong with the request
      --cidr-v6: guests make addresses of a /64 only, not of fd00::/72
      --mtu: IPv6 needs an MTU of 1280 bytes at least, not 1000
    "
    );
    insta::assert_snapshot!(server.run("network create x --cidr-v6 fd00::/64"), @"
    exit 1
    --- stderr
    error: --cidr: a network of type `vlan` needs an IPv4 range, such as 10.0.0.0/24
    ");
    insta::assert_snapshot!(server.run("network list"), @"
    exit 0
    --- stdout
    NAME   TYPE  VLAN  PROJECT  RANGES       GATEWAY     USED
    taken  vlan  100   (free)   10.0.0.0/24  every host  0 of 252
    ");
}

#[test]
fn what_is_in_the_way_of_a_network_s_use_is_named() {
    let server = Server::start();
    for line in [
        "project create alpha",
        "project create beta",
        "network create mine --cidr 10.0.0.0/24 --vlan 100 --project alpha",
        "instance create web --project alpha",
    ] {
        server.given(line);
    }
    insta::assert_snapshot!(server.run("instance create web --project beta"), @"
    exit 1
    --- stderr
    error: there is no network for project `beta`: it owns none, no VLAN network is free, and none is shared

    hint: an administrator makes some with `trestle network create`; an instance without a network has an empty list of interfaces
    ");
    insta::assert_snapshot!(server.run("instance create web --project beta --network mine"), @"
    exit 1
    --- stderr
    error: network `mine` belongs to project `alpha`, the instance to `beta`

    hint: join a network of the instance's own project, or a shared one
    ");
    insta::assert_snapshot!(server.run("instance create db --project alpha --network mine --network mine"), @"
    exit 1
    --- stderr
    error: --network mine is network `mine`, which --network mine is too

    hint: an instance has one interface on a network, with one address of each family
    ");
    insta::assert_snapshot!(server.run("instance create db --project alpha --network mine,address=10.9.9.9"), @"
    exit 1
    --- stderr
    error: --network mine,address=10.9.9.9: 10.9.9.9 is not an address for instances on network `mine`: these are 10.0.0.1 to 10.0.0.254 but the router's 10.0.0.1 and the VPN's 10.0.0.2
    ");
    insta::assert_snapshot!(server.run("instance create db --project alpha --network mine,address=10.0.0.3"), @"
    exit 1
    --- stderr
    error: 10.0.0.3 on network `mine` is in use

    hint: `trestle fixed-ip list` shows who has it
    ");
    insta::assert_snapshot!(server.run("network disassociate mine"), @"
    exit 1
    --- stderr
    error: network `mine` of project `alpha` still has instance `web`

    hint: take each out with `trestle instance remove-interface INSTANCE mine`, or delete it with `trestle instance delete INSTANCE`
    ");
    insta::assert_snapshot!(server.run("network associate mine --project beta"), @"
    exit 1
    --- stderr
    error: network `mine` belongs to project `alpha`

    hint: `trestle network disassociate` takes it from that project
    ");
    insta::assert_snapshot!(server.run("network set-gateway mine nowhere"), @"
    exit 1
    --- stderr
    error: no host `nowhere`
    ");
    insta::assert_snapshot!(server.run("network delete mine --yes"), @"
    exit 1
    --- stderr
    error: network `mine` still has instance `web`

    hint: take each out with `trestle instance remove-interface INSTANCE mine`, or delete it with `trestle instance delete INSTANCE`
    ");
    server.given("project set-quota alpha --fixed-ips 1");
    insta::assert_snapshot!(server.run("instance create db --project alpha"), @"
    exit 1
    --- stderr
    error: project `alpha` has 1 of the 1 fixed IPs that it may have, and this takes 1 more

    hint: delete what is not needed, or raise the limit with `trestle project set-quota`
    ");
}

#[test]
fn an_instance_that_cannot_move_stays_and_says_why() {
    let server = Server::start();
    for line in [
        "project create alpha",
        "host create kvm1",
        "network create public --type flat_dhcp --cidr 10.0.0.0/24 --bridge br100",
        "instance create web --project alpha",
    ] {
        server.given(line);
    }
    insta::assert_snapshot!(server.run("instance move web --to kvm1"), @"
    exit 1
    --- stderr
    error: instance `web` is plugged in nowhere

    hint: plug it in on the new host with `trestle attach`
    ");
    insta::assert_snapshot!(server.run("instance move nothing --to kvm1"), @"
    exit 1
    --- stderr
    error: no instance `nothing`
    ");
    server.given("host create kvm2");
    server.attach("web", "kvm1");
    insta::assert_snapshot!(server.run("instance move web --to kvm1"), @"
    exit 1
    --- stderr
    error: instance `web` is on host `kvm1` already
    ");
    insta::assert_snapshot!(server.run("instance move web --to kvm2 --prepare"), @"
    exit 1
    --- stderr
    error: host `kvm2` is away: its agent does not answer

    hint: start its agent first, or choose another host
    ");
    insta::assert_snapshot!(server.run("instance move web --to nowhere"), @"
    exit 1
    --- stderr
    error: no host `nowhere`
    ");
    insta::assert_snapshot!(server.run("instance move web --switch"), @"
    exit 1
    --- stderr
    error: instance `web` is not prepared on any host on network `public`

    hint: prepare it first: `trestle instance move web --to HOST --prepare`
    ");
    insta::assert_snapshot!(server.run("instance move web --cancel"), @"
    exit 0
    --- stderr
    instance web was not about to move; it stays on kvm1
    ");
    insta::assert_snapshot!(server.run("instance list"), @"
    exit 0
    --- stdout
    NAME  PROJECT  ADDRESSES  HOST  STATE
    web   alpha    10.0.0.2   kvm1  pending
    ");
}
