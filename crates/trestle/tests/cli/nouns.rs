//! Each noun made, listed, shown and deleted.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

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
      "created_at": "[time]"
    }
    --- stderr
    created project beta
    "#);
    insta::assert_snapshot!(server.run("project list"), @r"
    exit 0
    --- stdout
    NAME   CREATED
    alpha  [time]
    beta   [time]
    ");
    insta::assert_snapshot!(server.run("project list --json"), @r#"
    exit 0
    --- stdout
    {
      "items": [
        {
          "id": "[id]",
          "name": "alpha",
          "created_at": "[time]"
        },
        {
          "id": "[id]",
          "name": "beta",
          "created_at": "[time]"
        }
      ]
    }
    "#);
    insta::assert_snapshot!(server.run("project show alpha"), @r"
    exit 0
    --- stdout
    name     alpha
    id       [id]
    created  [time]
    ");
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
    insta::assert_snapshot!(server.run("host create kvm1 --flat-interface eth1 --public-interface eth0"), @r"
    exit 0
    --- stderr
    created host kvm1
    ");
    insta::assert_snapshot!(server.run("host set kvm1 --public-interface eth2"), @r"
    exit 0
    --- stderr
    changed host kvm1
    ");
    insta::assert_snapshot!(server.run("host list"), @r"
    exit 0
    --- stdout
    NAME  AGENT       GENERATION  PROBLEMS  FLAT INTERFACE  PUBLIC INTERFACE
    kvm1  never seen  0 of 4      0         eth1            eth2
    ");
    insta::assert_snapshot!(server.run("host show kvm1"), @r"
    exit 0
    --- stdout
    name              kvm1
    id                [id]
    flat interface    eth1
    public interface  eth2
    created           [time]
    agent             never seen
    agent version     -
    kernel            -
    last seen         -
    generation        0 of 4
    problems          0
    ");
    insta::assert_snapshot!(server.run("host show kvm1 --json"), @r#"
    exit 0
    --- stdout
    {
      "id": "[id]",
      "name": "kvm1",
      "flat_interface": "eth1",
      "public_interface": "eth2",
      "created_at": "[time]",
      "status": {
        "connected": false,
        "last_seen": null,
        "generation_wanted": 4,
        "generation_applied": 0,
        "problems": [],
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
        server.run("network create public --cidr 10.0.0.0/24 --bridge br100 --dns 9.9.9.9 --dns 1.1.1.1"),
        @r"
    exit 0
    --- stderr
    created network public (10.0.0.0/24, bridge br100)
    "
    );
    insta::assert_snapshot!(server.run("network list"), @r"
    exit 0
    --- stdout
    NAME    TYPE       CIDR         BRIDGE  PROJECT  USED
    public  flat_dhcp  10.0.0.0/24  br100   shared   0 of 253
    ");
    insta::assert_snapshot!(server.run("network show public"), @r"
    exit 0
    --- stdout
    name              public
    id                [id]
    type              flat_dhcp
    project           shared
    cidr              10.0.0.0/24
    gateway           10.0.0.1
    dhcp start        10.0.0.2
    bridge            br100
    bridge interface  -
    dns               9.9.9.9, 1.1.1.1
    domain            trestle.internal
    mtu               1500
    addresses used    0 of 253
    created           [time]
    ");
    insta::assert_snapshot!(server.run("network show public --json"), @r#"
    exit 0
    --- stdout
    {
      "id": "[id]",
      "name": "public",
      "type": "flat_dhcp",
      "project": null,
      "cidr": "10.0.0.0/24",
      "gateway": "10.0.0.1",
      "dhcp_start": "10.0.0.2",
      "bridge": "br100",
      "bridge_interface": null,
      "dns": [
        "9.9.9.9",
        "1.1.1.1"
      ],
      "domain": "trestle.internal",
      "mtu": 1500,
      "addresses_total": 253,
      "addresses_used": 0,
      "created_at": "[time]"
    }
    "#);
    insta::assert_snapshot!(server.run("network create other --cidr 10.0.0.0/16 --bridge br101"), @r"
    exit 1
    --- stderr
    error: 10.0.0.0/16 overlaps with network `public`, which has 10.0.0.0/24
      cidr: it overlaps with network `public`, which has 10.0.0.0/24
    ");
    insta::assert_snapshot!(server.run("network delete public --yes"), @r"
    exit 0
    --- stderr
    deleted network public
    ");
}

#[test]
fn instances_and_their_interfaces() {
    let server = Server::start();
    server.given("project create alpha");
    server.given("network create public --cidr 10.0.0.0/24 --bridge br100");
    server.given("network create backend --cidr 10.1.0.0/24 --bridge br101");
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
    insta::assert_snapshot!(server.run("instance show web"), @r"
    exit 0
    --- stdout
    name     web
    id       [id]
    project  alpha
    created  [time]

    NETWORK  ADDRESSES  MAC                DEVICE           HOST  STATE     INTERFACE
    public   10.0.0.9   [mac]  [device]  -     detached  [id]
    backend  10.1.0.2   [mac]  [device]  -     detached  [id]
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
    insta::assert_snapshot!(server.run("fixed-ip list"), @r"
    exit 0
    --- stdout
    ADDRESS   NETWORK  STATE      INSTANCE  PROJECT  MAC
    10.0.0.9  public   allocated  web       alpha    [mac]
    10.1.0.2  backend  allocated  web       alpha    [mac]
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
    insta::assert_snapshot!(server.run("fixed-ip list --address 10.0.0.9"), @r"
    exit 0
    --- stdout
    ADDRESS   NETWORK  STATE  INSTANCE  PROJECT  MAC
    10.0.0.9  public   free   -         -        -
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
    insta::assert_snapshot!(server.run("token create --role member"), @r"
    exit 1
    --- stderr
    error: project: a token of this role is for one project
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
    server.given("network create public --cidr 10.0.0.0/24 --bridge br100");
    insta::assert_snapshot!(server.run("host spec kvm1"), @"exit 0");
}

#[test]
fn events_tell_what_happened() {
    let server = Server::start();
    server.given("project create alpha");
    server.given("host create kvm1");
    insta::assert_snapshot!(server.run("events"), @r"
    exit 0
    --- stdout
    TIME                  KIND                WHAT
    [time]  controller.started  controller [version] started
    [time]  token.created       the first admin token [id] was made
    [time]  project.created     project `alpha` was made
    [time]  host.created        host `kvm1` was made known
    ");
    insta::assert_snapshot!(server.run("events --kind host --json"), @r#"
    exit 0
    --- stdout
    {
      "items": [
        {
          "id": 4,
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
    insta::assert_snapshot!(server.run("status"), @r"
    exit 0
    --- stdout
    server     healthy (unix:[folder]/trestle.sock)
    hosts      0
    networks   0
    instances  0

    TIME                  KIND                WHAT
    [time]  controller.started  controller [version] started
    [time]  token.created       the first admin token [id] was made
    ");
    for line in [
        "project create alpha",
        "host create kvm1",
        "network create public --cidr 10.0.0.0/24 --bridge br100",
        "instance create web --project alpha --network public",
    ] {
        server.given(line);
    }
    insta::assert_snapshot!(server.run("status"), @r"
    exit 0
    --- stdout
    server     healthy (unix:[folder]/trestle.sock)
    hosts      1 (1 never seen)
    networks   1
    instances  1 (1 interface detached)

    HOST  AGENT       GENERATION  PROBLEMS
    kvm1  never seen  0 of 4      0

    NETWORK  CIDR         ADDRESSES USED
    public   10.0.0.0/24  1 of 253

    TIME                  KIND               WHAT
    [time]  project.created    project `alpha` was made
    [time]  host.created       host `kvm1` was made known
    [time]  network.created    network `public` was made with 10.0.0.0/24
    [time]  instance.created   instance `web` was made in project `alpha`
    [time]  interface.created  instance `web` got 10.0.0.2 on network `public`
    ");
    let secret = server.stdout("token create --role member --project alpha");
    let output = server.command(&["status"]).env("TRESTLE_TOKEN", secret.trim()).output().unwrap();
    insta::assert_snapshot!(server.seen(&output), @r"
    exit 0
    --- stdout
    server     healthy (unix:[folder]/trestle.sock)
    networks   1
    instances  1 (1 interface detached)

    NETWORK  CIDR         ADDRESSES USED
    public   10.0.0.0/24  1 of 253

    TIME                  KIND               WHAT
    [time]  project.created    project `alpha` was made
    [time]  instance.created   instance `web` was made in project `alpha`
    [time]  interface.created  instance `web` got 10.0.0.2 on network `public`
    ");
}
