//! VPNs and who may come in by them.

use std::os::unix::fs::PermissionsExt;

use crate::support::Server;

/// A server with project alpha, which has a network, and a host that can run its VPN.
fn server() -> Server {
    let server = Server::start();
    for line in [
        "project create alpha",
        "network create inner --type flat_dhcp --cidr 10.0.0.0/24 --bridge br100 --project alpha --single-host",
        "host create kvm1 --public-interface eth0",
        "pool create ext --range 203.0.113.0/29",
    ] {
        server.given(line);
    }
    server
}

/// The lines without those of keys, however long, and without the comment that has a time in it.
fn without_keys(seen: &str) -> String {
    let mut shown = Vec::new();
    let mut within = false;
    for line in seen.lines() {
        within &= !line.contains("-----END");
        if !within && !line.contains("Key = ") && !line.starts_with("# VPN of") {
            shown.push(line);
        }
        within |= line.contains("-----BEGIN");
    }
    shown.join("\n")
}

#[test]
fn a_vpn_from_its_making_to_its_end() {
    let server = server();
    insta::assert_snapshot!(server.run("vpn show"), @"
    exit 1
    --- stderr
    error: there is no VPN

    hint: `trestle vpn create` makes one
    ");
    insta::assert_snapshot!(server.run("vpn create --project alpha"), @"
    exit 0
    --- stderr
    created a VPN of kind openvpn for project alpha into network inner: clients send to 203.0.113.1 port 1000, on kvm1
    kvm1 has not confirmed it yet: what was before goes on there until its agent is back
    ");
    insta::assert_snapshot!(server.run("vpn list"), @"
    exit 0
    --- stdout
    PROJECT  KIND     NETWORK  IP           PORT  HOST  STATE    USERS  CONNECTED
    alpha    openvpn  inner    203.0.113.1  1000  kvm1  pending  0      0
    ");
    insta::assert_snapshot!(server.run("vpn show"), @"
    exit 0
    --- stdout
    project          alpha
    kind             openvpn
    instance         alpha-vpn
    network          inner
    address          10.0.0.2
    clients send to  203.0.113.1 port 1000
    host             kvm1
    state            pending
    users            0
    connected        0
    authority ends   [time]
    created          [time]
    ");
    insta::assert_snapshot!(without_keys(&server.run("vpn user add alice --days 30")), @"
    exit 0
    --- stdout
    # Keep it secret: who has it comes in as alice. Nobody can show it again.
    client
    dev tun
    proto udp
    remote 203.0.113.1 1000
    nobind
    persist-key
    persist-tun
    resolv-retry infinite
    remote-cert-tls server
    verify-x509-name alpha-vpn name
    data-ciphers AES-256-GCM:AES-128-GCM:CHACHA20-POLY1305
    tls-version-min 1.2
    auth-nocache
    connect-retry 1 5
    connect-timeout 5
    explicit-exit-notify 1
    verb 3
    <ca>
    -----BEGIN CERTIFICATE-----
    -----END CERTIFICATE-----
    </ca>
    <cert>
    -----BEGIN CERTIFICATE-----
    -----END CERTIFICATE-----
    </cert>
    <key>
    -----BEGIN PRIVATE KEY-----
    -----END PRIVATE KEY-----
    </key>
    <tls-crypt>
    -----BEGIN OpenVPN Static key V1-----
    -----END OpenVPN Static key V1-----
    </tls-crypt>
    --- stderr
    let in alice as 10.0.0.3 until [time]; the file is shown this once: keep it
    kvm1 has not confirmed it yet: what was before goes on there until its agent is back
    ");
    insta::assert_snapshot!(server.run("vpn user list"), @"
    exit 0
    --- stdout
    NAME   ADDRESS   UNTIL                 STATE  FROM  SINCE  RECEIVED  SENT
    alice  10.0.0.3  [time]  valid  -     -      -         -
    ");
    let status = server.stdout("status");
    assert!(status.contains("VPNs       1 (1 pending, 1 user, 0 connected)\n"), "{status}");
    insta::assert_snapshot!(server.run("fixed-ip list --address 10.0.0.3"), @"
    exit 0
    --- stdout
    ADDRESS   NETWORK  STATE      HELD BY            PROJECT  MAC
    10.0.0.3  inner    allocated  alpha-vpn (alice)  alpha    [mac]
    ");
    insta::assert_snapshot!(server.run("address history 10.0.0.3"), @"
    exit 0
    --- stdout
    SINCE                 UNTIL  AS        PROJECT  INSTANCE           HOST  MAC
    [time]  now    fixed_ip  alpha    alpha-vpn (alice)  kvm1  [mac]
    ");
    insta::assert_snapshot!(server.run("vpn set --port 1194"), @"
    exit 2
    --- stderr
    error: changing where clients of the VPN of project alpha send to (cuts off 1 user) needs a yes

    hint: give --yes
    ");
    insta::assert_snapshot!(server.run("vpn set --port 1000"), @"
    exit 0
    --- stderr
    changed the VPN of project alpha, on kvm1
    kvm1 has not confirmed it yet: what was before goes on there until its agent is back
    ");
    insta::assert_snapshot!(server.run("vpn set --port 1194 --yes"), @"
    exit 0
    --- stderr
    changed the VPN of project alpha, on kvm1
    clients send to 203.0.113.1 port 1194 now: in users' files only the line `remote 203.0.113.1 1194` is another; `trestle vpn user renew NAME --project alpha` makes a whole new file
    kvm1 has not confirmed it yet: what was before goes on there until its agent is back
    ");
    insta::assert_snapshot!(server.run("vpn set"), @"
    exit 2
    --- stderr
    error: the following required arguments were not provided:
      <--ip <ADDRESS>|--port <PORT>|--host <HOST>>

    Usage: trestle vpn set <--ip <ADDRESS>|--port <PORT>|--host <HOST>>

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(server.run("vpn renew-ca --yes"), @"
    exit 0
    --- stderr
    renewed the certificate authority of project alpha's VPN
    void now: the files of alice; `trestle vpn user renew NAME --project alpha` makes another
    kvm1 has not confirmed it yet: what was before goes on there until its agent is back
    ");
    insta::assert_snapshot!(server.run("vpn user list"), @"
    exit 0
    --- stdout
    NAME   ADDRESS   UNTIL                 STATE  FROM  SINCE  RECEIVED  SENT
    alice  10.0.0.3  [time]  void   -     -      -         -
    ");
    let renewed = server.run("vpn user renew alice --json");
    let fields =
        ["\"file_name\": \"alpha-alice.ovpn\"", "\"config\": \"# VPN of project alpha", "\"expired\": false"];
    assert!(fields.iter().all(|field| renewed.contains(field)), "{renewed}");
    insta::assert_snapshot!(server.run("vpn user revoke alice --project alpha"), @"
    exit 0
    --- stderr
    revoked alice: the VPN of project alpha lets that user in no more
    kvm1 has not confirmed it yet: what was before goes on there until its agent is back
    ");
    insta::assert_snapshot!(server.run("vpn delete --project alpha"), @"
    exit 2
    --- stderr
    error: deleting the VPN of project alpha needs a yes

    hint: give --yes
    ");
    insta::assert_snapshot!(server.run("vpn delete --project alpha --yes"), @"
    exit 0
    --- stderr
    deleted the VPN of project alpha
    kvm1 has not confirmed it yet: what was before goes on there until its agent is back
    ");
}

#[test]
fn a_client_s_file_is_written_for_its_owner_alone_and_over_nothing() {
    let server = server();
    server.given("vpn create --project alpha --kind wireguard");
    let path = server.path("bob.conf");
    let line = |name: &str| format!("vpn user add {name} -o {}", path.display());
    insta::assert_snapshot!(server.run(&line("bob")), @"
    exit 0
    --- stderr
    let in bob as 10.0.0.3 until [time]; the file is [folder]/bob.conf: nobody can show it again
    kvm1 has not confirmed it yet: what was before goes on there until its agent is back
    ");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("[Interface]\nPrivateKey = "), "{text}");
    insta::assert_snapshot!(server.run(&line("carol")), @"
    exit 1
    --- stderr
    error: cannot write [folder]/bob.conf
      caused by: File exists (os error 17)

    hint: nothing was asked for yet; name a file that does not exist
    ");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    // What is refused leaves no file, and what has no file made nobody.
    std::fs::remove_file(&path).unwrap();
    insta::assert_snapshot!(server.run(&line("bob")), @"
    exit 1
    --- stderr
    error: the VPN of project `alpha` has a user `bob` already

    hint: `trestle vpn user renew bob --project alpha` makes a new file for that user
    ");
    assert!(!path.exists());
    let users = server.stdout("vpn user list --json");
    assert!(!users.contains("carol"), "{users}");
    insta::assert_snapshot!(without_keys(&server.run("vpn user renew bob")), @"
    exit 0
    --- stdout
    # Keep it secret: who has it comes in as bob. Nobody can show it again.
    [Interface]
    Address = 10.0.0.3/32
    # DNS = 10.0.0.1, trestle.internal  # uncomment where resolvconf or systemd-resolved is installed
    MTU = 1420

    [Peer]
    Endpoint = 203.0.113.1:1000
    AllowedIPs = 10.0.0.0/24
    PersistentKeepalive = 25
    --- stderr
    renewed bob as 10.0.0.3 until [time]; the file is shown this once: keep it
    kvm1 has not confirmed it yet: what was before goes on there until its agent is back
    ");
}

#[test]
fn of_several_vpns_one_must_be_said() {
    let server = server();
    for line in [
        "project create beta",
        "network create other --type flat_dhcp --cidr 10.1.0.0/24 --bridge br101 --project beta --single-host",
        "vpn create --project alpha --port 2000",
        "vpn create --project beta --ip 192.0.2.1",
    ] {
        server.given(line);
    }
    insta::assert_snapshot!(server.run("vpn user list"), @"
    exit 1
    --- stderr
    error: there are several VPNs: say whose

    hint: give --project; `trestle vpn list` shows them
    ");
    insta::assert_snapshot!(server.run("vpn user add 'x --project beta --days 0"), @"
    exit 1
    --- stderr
    error: 2 things are wrong with the request
      name: `'x` is not a name: use 1 to 63 of a-z, 0-9 and `-`, with no `-` at either end
      --days: a user is let in for 1 to 3650 days, not for 0
    ");
    insta::assert_snapshot!(server.run("vpn set --project beta --ip 203.0.113.1 --port 2000"), @"
    exit 1
    --- stderr
    error: another project has floating IP 203.0.113.1

    hint: name another address with `--ip`
    ");
    insta::assert_snapshot!(server.run("floating-ip unforward 203.0.113.1 udp/2000"), @"
    exit 1
    --- stderr
    error: clients of the VPN of project `alpha` send to port udp/2000 of floating IP 203.0.113.1, which cannot be taken from it

    hint: `trestle vpn set --project alpha` gives the VPN another address or port, `trestle vpn delete --project alpha` ends it
    ");
    insta::assert_snapshot!(server.run("instance delete alpha-vpn --yes"), @"
    exit 1
    --- stderr
    error: instance `alpha-vpn` is the VPN of project `alpha`: it cannot be deleted by itself

    hint: `trestle vpn set --project alpha` changes the VPN, `trestle vpn delete --project alpha` ends it
    ");
}
