//! `trestle server` itself: its options, its start and its end.

use std::os::unix::net::UnixListener;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Server, seen, trestle};

#[test]
fn every_option_is_printed_with_its_meaning() {
    let folder = tempfile::tempdir().unwrap();
    let output = trestle(folder.path()).args(["server", "--print-config", "--insecure"]).output().unwrap();
    insta::assert_snapshot!(seen(&output, folder.path()), @r#"
    exit 0
    --- stdout
    [server]

    # The folder of the database, the first admin token and the local socket.
    state_dir = "[folder]"

    # sqlite:<path> or postgres://user@host/name. Several controllers may use one PostgreSQL
    # database. If not set: trestle.db in state_dir.
    #database = "sqlite:/var/lib/trestle/trestle.db"

    # Where to listen: address:port or unix:<path>. Beyond loopback it needs tls_cert and tls_key,
    # or insecure. If not set: loopback, and trestle.sock in state_dir.
    #listen = ["127.0.0.1:7117", "unix:/var/lib/trestle/trestle.sock"]

    # The certificate chain, PEM. If not set: plain HTTP.
    #tls_cert = "/etc/trestle/server.crt"

    # The certificate's private key, PEM.
    #tls_key = "/etc/trestle/server.key"

    # Allow plain HTTP beyond loopback, where tokens can be read on the way.
    insecure = true

    # The type of networks that name none: vlan, flat_dhcp or flat.
    network_type = "vlan"

    # Whether every host with an instance routes for a network that does not say. If not, one host
    # does for all.
    multi_host = true

    # Whether all hosts have the same gateway address on a multi-host network that does not say.
    # If not, each takes one of its own from the network.
    share_address = true

    # Where to begin to look for free VLAN ids.
    vlan_start = 100

    # How many IPv4 addresses each of several networks has that are made at once without a size,
    # if their range has that many.
    network_size = 256

    # How many networks a project may own that has no quota of its own; -1 for no limit.
    quota_networks = -1

    # How many fixed IPs its instances may have, in the same way.
    quota_fixed_ips = -1

    # How many floating IPs it may have, in the same way.
    quota_floating_ips = 10

    # How many security groups it may have, in the same way.
    quota_security_groups = 100

    # How many rules each of its security groups may have, in the same way.
    quota_security_group_rules = 200

    # What the security group `default` of each new project allows, besides that its members reach
    # each other and everybody: ["ingress tcp 22 from 10.0.0.0/8", "ingress icmp type 8"].
    security_group_default_rules = []

    # The bridge of networks of the types flat_dhcp and flat that name none. If not set: each must
    # name one.
    #flat_network_bridge = "br100"

    # The DNS domain of networks that name none.
    dhcp_domain = "trestle.internal"

    # How long a DHCP lease holds, in seconds; fixed for a network when it is made.
    dhcp_lease_time = 86400

    # Ranges that instances reach without source NAT.
    dmz_cidr = []

    # Ranges that instances reach by source NAT, whatever device leads there and whatever dmz_cidr
    # says.
    force_snat_range = []

    # The machine of the metadata service, a name or an address: what instances ask
    # 169.254.169.254 reaches it. If not set: nobody answers there.
    #metadata_host = "10.0.0.5"

    # Its TCP port.
    metadata_port = 8775

    # Whether an address given back may be given out again as soon as its host has ended the
    # lease. If not, only fixed_ip_disassociate_timeout counts.
    force_dhcp_release = true

    # After how many seconds an address given back may be given out again, whatever its host says.
    fixed_ip_disassociate_timeout = 600

    # The address that clients of VPNs send to that name none. If not set: a floating IP is reserved
    # for each.
    #vpn_ip = "203.0.113.1"

    # Where to begin to look for a free UDP port of that address.
    vpn_start = 1000

    # Whether a project gets a VPN with the first instance that is plugged in on a network of its own.
    vpn_autostart = false

    # For how many days a VPN's user is let in, unless told otherwise.
    vpn_user_days = 365

    # The file of the key that the private keys of VPNs are kept encrypted with, made when it is first
    # needed. All controllers of one database need the same. If not set: secret.key in state_dir.
    #secret_key_file = "/var/lib/trestle/secret.key"

    # For how many days it is kept who had which address, after it was over; 0 for ever.
    address_history_days = 365

    [agent]

    # The name of this host, as the controller knows it. There is no default.
    #host = "kvm1"

    # Where the controller is: http://host:port, https://host:port or unix:<path>.
    #controller = "http://127.0.0.1:7117"

    # The file with this host's token. If not set: agent.token in state_dir.
    #token_file = "/var/lib/trestle-agent/agent.token"

    # With https, the only certificate authorities to trust, PEM. If not set: the system's.
    #ca = "/etc/trestle/ca.crt"

    # The folder of the agent's ledger, its socket and the files of every dnsmasq.
    #state_dir = "/var/lib/trestle-agent"

    # The file with the secret by which the metadata service knows that it is told of instances by
    # an agent. If not set: instances are not signed for.
    #metadata_secret_file = "/etc/trestle/metadata.secret"
    "#);
}

#[test]
fn an_option_that_nobody_knows_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("trestle.toml");
    std::fs::write(&config, "[server]\nflat_bridge = \"br0\"\n").unwrap();
    let output = trestle(folder.path()).args(["server", "--config"]).arg(&config).output().unwrap();
    insta::assert_snapshot!(seen(&output, folder.path()), @"
    exit 1
    --- stderr
    error: [folder]/trestle.toml cannot be used
      caused by: line 2: unknown field `flat_bridge`, expected one of `state_dir`, `database`, `listen`, `tls_cert`, `tls_key`, `insecure`, `network_type`, `multi_host`, `share_address`, `vlan_start`, `network_size`, `quota_networks`, `quota_fixed_ips`, `quota_floating_ips`, `quota_security_groups`, `quota_security_group_rules`, `security_group_default_rules`, `flat_network_bridge`, `dhcp_domain`, `dhcp_lease_time`, `dmz_cidr`, `force_snat_range`, `metadata_host`, `metadata_port`, `force_dhcp_release`, `fixed_ip_disassociate_timeout`, `vpn_ip`, `vpn_start`, `vpn_autostart`, `vpn_user_days`, `secret_key_file`, `address_history_days`

    hint: `trestle server --print-config` prints every option with its meaning
    ");
}

#[test]
fn a_metadata_service_that_cannot_be_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("trestle.toml");
    for (option, why) in [
        (
            "metadata_host = \"http://meta:8775\"",
            "`http://meta:8775` is not a metadata host: use a DNS name or an address, without scheme and port",
        ),
        (
            "metadata_host = \"169.254.169.254\"",
            "`169.254.169.254` is not a metadata host: it is where instances ask, say where the service is",
        ),
        ("metadata_port = 0", "invalid value: integer `0`, expected a nonzero u16"),
    ] {
        std::fs::write(&config, format!("[server]\n{option}\n")).unwrap();
        let output = trestle(folder.path()).args(["server", "--config"]).arg(&config).output().unwrap();
        let seen = seen(&output, folder.path());
        assert!(
            seen.starts_with("exit 1\n") && seen.contains(&format!("caused by: line 2: {why}\n")),
            "{seen}"
        );
    }
}

#[test]
fn a_default_rule_that_no_project_can_have_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("trestle.toml");
    for (rule, why) in [
        ("ingress tpc 22", "protocol: `tpc` is not an IP protocol"),
        ("ingress tcp 22 443", "rule: `443` has no place in a rule here"),
        ("ingress any from group web", "rule: a new project has no group but `default`"),
        ("egress any until 2999-01-01T00:00:00Z", "rule: it would end for later projects"),
    ] {
        let state = folder.path().display();
        let text =
            format!("[server]\nstate_dir = \"{state}\"\nsecurity_group_default_rules = [\"{rule}\"]\n");
        std::fs::write(&config, text).unwrap();
        let output = trestle(folder.path()).args(["server", "--config"]).arg(&config).output().unwrap();
        let seen = seen(&output, folder.path());
        let told = format!(
            "error: cannot use `{rule}` of the option security_group_default_rules\n  caused by: {why}"
        );
        assert!(
            seen.starts_with("exit 1") && seen.replace("[time]", "2999-01-01T00:00:00Z").contains(&told),
            "{seen}"
        );
    }
}

#[test]
fn a_flag_wins_over_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("trestle.toml");
    std::fs::write(&config, "[server]\nflat_network_bridge = \"br0\"\ndhcp_lease_time = 60\n").unwrap();
    let mut command = trestle(folder.path());
    command.args(["server", "--print-config", "--flat-network-bridge", "br7", "--config"]).arg(&config);
    let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert!(text.contains("\nflat_network_bridge = \"br7\"\n"), "{text}");
    assert!(text.contains("\ndhcp_lease_time = 60\n"), "{text}");
}

#[test]
fn a_start_that_cannot_be_is_told_plainly() {
    let folder = tempfile::tempdir().unwrap();
    let check = |flags: &[&str]| {
        let mut command = trestle(folder.path());
        seen(&command.env("TRESTLE_LOG", "error").arg("server").args(flags).output().unwrap(), folder.path())
    };
    insta::assert_snapshot!(check(&["--listen", "0.0.0.0:0"]), @r"
    exit 1
    --- stderr
    error: refusing to listen on 0.0.0.0:0 without TLS: other machines can reach it

    hint: give `tls_cert` and `tls_key`, or listen on 127.0.0.1, or, on a network where nobody listens in, say `insecure`
    ");
    insta::assert_snapshot!(check(&["--listen", "nonsense"]), @r"
    exit 1
    --- stderr
    error: `nonsense` is not an address to listen on

    hint: write 127.0.0.1:7117, [::1]:7117 or unix:/path/to/socket
    ");
    insta::assert_snapshot!(check(&["--listen", "127.0.0.1:0", "--state-dir", "/proc/nowhere"]), @r"
    exit 1
    --- stderr
    error: cannot use the state folder /proc/nowhere
      caused by: No such file or directory (os error 2)
    ");
    insta::assert_snapshot!(check(&["--listen", "127.0.0.1:0", "--database", "mysql://x"]), @r"
    exit 1
    --- stderr
    error: cannot use the database mysql://x
      caused by: neither `sqlite:<path>` nor `postgres://…`
    ");
}

#[test]
fn a_socket_that_is_taken_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("taken.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    let listen = format!("unix:{}", socket.display());
    let output = trestle(folder.path()).args(["server", "--listen", &listen]).output().unwrap();
    insta::assert_snapshot!(seen(&output, folder.path()), @r"
    exit 1
    --- stderr
    error: cannot listen on unix:[folder]/taken.sock: address in use

    hint: `ss -lntxp` shows the program that has it; stop that or choose another address with `listen`
    ");
}

#[test]
fn it_ends_by_itself_when_it_is_told_to() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut server = Server::start();
        let pid = Pid::from_raw(server.child().id().try_into().unwrap());
        kill(pid, signal).unwrap();
        assert!(server.child().wait().unwrap().success(), "{signal}");
    }
}

#[test]
fn every_page_of_a_list_is_followed() {
    let server = Server::start();
    let names: Vec<String> = (0..1005).map(|number| format!("p{number}")).collect();
    create_projects(&server, &names);
    let listed = server.stdout("project list");
    assert_eq!(
        listed.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect::<Vec<_>>(),
        names
    );
}

/// Many at once need a client of their own: a thousand starts of the program would take long.
fn create_projects(server: &Server, names: &[String]) {
    server.as_admin(async |client| {
        for name in names {
            client.create_project(&trestle_api::NewProject { name: name.clone() }).await.unwrap();
        }
    });
}
