//! Doing steps.

use std::collections::BTreeSet;
use std::io::{Read, Write};

use trestle_agent::host::{ApplyError, Host};
use trestle_api::agent::Feature;
use trestle_core::plan::Step;
use trestle_core::spec::{HostSpec, Key, Link, LinkKind, Object, Set, Table};
use trestle_core::types::{LinkName, Mac, VlanId};

use crate::bench::{
    Bench, DEADLINE, Namespace, dnsmasq_of, in_namespace, json, sh, wait_until, without_dnsmasq,
};
use crate::cloud::{interface, link_name, spec, world};

fn port(kind: LinkKind, bridge: &str) -> Link {
    let master = Some(link_name(bridge));
    Link { kind, mac: None, mtu: 1450, master, uplink: None, up: true, index: None }
}

fn device(n: u32) -> LinkName {
    link_name(&format!("tr-{n:012x}"))
}

fn tap(n: u32) -> Step {
    Step::CreatePort { link: device(n), port: port(LinkKind::Tap { owner: Some(4242) }, "br100") }
}

fn bridge() -> Step {
    Step::CreateBridge { link: link_name("br100"), mac: Mac::generated([1, 2, 3]), mtu: 1500 }
}

fn steps(steps: impl IntoIterator<Item = Step>) -> BTreeSet<Step> {
    steps.into_iter().collect()
}

async fn apply(bench: &Bench, wanted: impl IntoIterator<Item = Step>) {
    let failures = bench.host.apply(&steps(wanted)).await;
    assert!(failures.is_empty(), "{failures:#?}");
}

async fn only_failure(bench: &Bench, step: Step) -> ApplyError {
    let mut failures = bench.host.apply(&steps([step])).await;
    assert_eq!(failures.len(), 1, "{failures:#?}");
    failures.remove(0).error
}

#[test]
fn each_step_done_twice_is_done_once() {
    in_namespace(|bench| async move {
        sh("ip addr add 192.168.5.10/24 dev eth1; ip route add default via 192.168.5.1 metric 100");
        let full = spec(&world(&[(1, 1), (1, 2), (2, 1)]));
        for spec in [full.clone(), HostSpec::default()] {
            let plan = bench.plan(&spec).await;
            assert!(!plan.is_empty());
            for _ in 0..2 {
                let failures = bench.host.apply(&plan.steps).await;
                assert!(failures.is_empty(), "{failures:#?}");
            }
            assert_eq!(bench.plan(&spec).await, Default::default());
        }
        assert!(!sh("ip -o link").contains("br10"));
        let forget = |network: &str| Step::ForgetLeases { network: network.parse().unwrap() };
        for _ in 0..2 {
            apply(&bench, [forget("net1"), forget("net2")]).await;
        }
        assert_eq!(sh(&format!("find {} -mindepth 1", bench.path("networks").display())), "");
    });
}

#[test]
fn a_bridge_is_as_asked_and_keeps_its_mtu_whatever_its_ports_have() {
    in_namespace(|bench| async move {
        apply(&bench, [bridge(), tap(1)]).await;
        let link = &json("ip -j -d link show br100")[0];
        assert_eq!(link["address"], "fa:16:3e:01:02:03");
        assert_eq!(link["mtu"], 1500);
        assert_eq!(link["group"], trestle_core::ownership::LINK_GROUP.to_string());
        assert_eq!(link["linkinfo"]["info_data"]["stp_state"], 0);
        assert_eq!(link["linkinfo"]["info_data"]["mcast_snooping"], 0);
        assert_eq!(link["linkinfo"]["info_data"]["forward_delay"], 0);
    });
}

#[test]
fn a_tap_is_its_owners_a_port_up_and_without_an_address() {
    in_namespace(|bench| async move {
        apply(&bench, [bridge(), tap(1)]).await;
        let link = &json("ip -j -d link show tr-000000000001")[0];
        assert_eq!(link["linkinfo"]["info_kind"], "tun");
        assert_eq!(link["linkinfo"]["info_data"]["user"].to_string().trim_matches('"'), "4242");
        assert_eq!(link["linkinfo"]["info_data"]["persist"], true);
        assert_eq!(link["master"], "br100");
        assert_eq!(link["mtu"], 1450);
        assert_eq!(link["inet6_addr_gen_mode"], "none");
        assert!(link["flags"].as_array().unwrap().contains(&"UP".into()));
    });
}

#[test]
fn the_other_end_of_a_veth_is_in_its_namespace_with_its_name_and_mac_and_up() {
    in_namespace(|bench| async move {
        let guest = Namespace::new();
        let mac = Mac::generated([9, 9, 9]);
        let kind = LinkKind::Veth { netns: guest.path(), name: link_name("eth0"), mac };
        let create = Step::CreatePort { link: device(1), port: port(kind.clone(), "br100") };
        apply(&bench, [bridge(), create]).await;

        let inner = guest.sh("ip -j link show eth0");
        let inner: serde_json::Value = serde_json::from_str(&inner).unwrap();
        assert_eq!(inner[0]["address"], "fa:16:3e:09:09:09");
        assert_eq!(inner[0]["mtu"], 1450);
        assert!(inner[0]["flags"].as_array().unwrap().contains(&"UP".into()), "{inner}");
        assert_eq!(json("ip -j link show tr-000000000001")[0]["master"], "br100");
        let seen = bench.observe(&HostSpec::default()).await;
        assert_eq!(seen.link(&device(1)).unwrap().0.kind, kind);
    });
}

#[test]
fn a_namespace_that_is_not_there_is_said_by_its_path() {
    in_namespace(|bench| async move {
        apply(&bench, [bridge()]).await;
        let kind = LinkKind::Veth {
            netns: "/run/netns/nowhere".to_owned(),
            name: link_name("eth0"),
            mac: Mac::generated([9, 9, 9]),
        };
        let step = Step::CreatePort { link: device(1), port: port(kind, "br100") };
        let error = only_failure(&bench, step).await;
        assert_eq!(error.to_string(), "cannot open the network namespace /run/netns/nowhere");
        assert!(!sh("ip -o link").contains("tr-"));
    });
}

#[test]
fn what_is_no_network_namespace_is_refused_by_its_path_and_nothing_waits_for_it() {
    in_namespace(|bench| async move {
        apply(&bench, [bridge()]).await;
        let fifo = bench.path("fifo").display().to_string();
        sh(&format!("mkfifo {fifo}"));
        let file = bench.path("file").display().to_string();
        std::fs::write(&file, "").unwrap();
        for path in [fifo, file, "/proc/self/ns/mnt".to_owned(), "/dev/null".to_owned()] {
            let kind = LinkKind::Veth {
                netns: path.clone(),
                name: link_name("eth0"),
                mac: Mac::generated([9, 9, 9]),
            };
            let step = Step::CreatePort { link: device(1), port: port(kind, "br100") };
            let error = only_failure(&bench, step).await;
            assert_eq!(error.to_string(), format!("{path} is no network namespace"));
        }
        assert!(!sh("ip -o link").contains("tr-"));
    });
}

#[test]
fn the_port_after_the_1023rd_is_refused_as_a_full_bridge() {
    in_namespace(|bench| async move {
        let ports = (1..=1023).map(tap);
        apply(&bench, ports.chain([bridge()])).await;
        let error = only_failure(&bench, tap(1024)).await;
        assert!(matches!(error, ApplyError::BridgeFull { .. }), "{error}");
    });
}

#[test]
fn what_is_not_ours_is_never_deleted_or_changed() {
    in_namespace(|bench| async move {
        sh("ip link add br100 type bridge");
        let name = link_name("br100");
        let deleted = only_failure(&bench, Step::DeleteBridge { link: name.clone() }).await;
        let created = only_failure(&bench, bridge()).await;
        assert!(matches!(deleted, ApplyError::LinkDiffers { .. }), "{deleted}");
        assert!(matches!(created, ApplyError::LinkDiffers { .. }), "{created}");
        assert_eq!(json("ip -j link show br100")[0]["mtu"], 1500);
        sh("ip addr add 10.0.1.1/24 dev br100");
        let address = "10.0.1.1/24".parse().unwrap();
        apply(&bench, [Step::DeleteAddress { link: name, address }]).await;
        assert!(sh("ip -o addr show br100").contains("10.0.1.1/24"));
    });
}

#[test]
fn devices_that_are_deleted_together_take_no_other_with_them() {
    in_namespace(|bench| async move {
        let ports = (1..=20).map(tap);
        apply(&bench, ports.chain([bridge()])).await;
        // Somebody's devices, and one of ours that a crash left behind, in the groups we might take.
        for (n, group) in [(1, 0), (2, 0x7472_0000_u32), (3, 0x7472_0001)] {
            sh(&format!("ip link add theirs{n} type bridge; ip link set theirs{n} group {group}"));
        }
        sh(&format!("ip link set {} group {}", device(20), 0x7472_0002));
        let gone = (1..=19).chain([77]).map(|n| Step::DeletePort { link: device(n) });
        let theirs = Step::DeletePort { link: link_name("theirs1") };
        let failures = bench.host.apply(&steps(gone.chain([theirs.clone()]))).await;
        assert_eq!(failures.len(), 1, "{failures:#?}");
        assert_eq!(failures[0].step, theirs);
        let left = sh("ip -o link | cut -d: -f2 | cut -d@ -f1");
        let left: Vec<&str> = left.split_whitespace().filter(|name| !name.starts_with("eth")).collect();
        assert_eq!(left, ["lo", "br100", "tr-000000000014", "theirs1", "theirs2", "theirs3"]);
        bench.assert_silent().await;
    });
}

#[test]
fn without_its_guard_no_device_is_made() {
    in_namespace(|bench| async move {
        let guard =
            Step::PutRuleset { table: Table::Guard, text: "table bridge trestle { nonsense }".into() };
        let failures = bench.host.apply(&steps([guard, bridge(), tap(1)])).await;
        let said: Vec<String> = failures.iter().map(|failure| failure.error.to_string()).collect();
        assert_eq!(
            said,
            [
                "nftables refused the change",
                "not tried, because a step that it rests on failed",
                "not tried, because a step that it rests on failed",
            ]
        );
        assert!(!sh("ip -o link").contains("br100"));
    });
}

#[test]
fn an_address_that_could_not_be_copied_is_not_dropped() {
    in_namespace(|bench| async move {
        sh("ip addr add 192.168.5.10/24 dev eth1");
        let (address, from, to) = ("192.168.5.10/24".parse().unwrap(), link_name("eth1"), link_name("br101"));
        let moved = [
            Step::Enslave { link: from.clone(), bridge: to.clone() },
            Step::CopyAddress { address, from: from.clone(), to },
            Step::DropAddress { address, from },
        ];
        assert_eq!(bench.host.apply(&steps(moved)).await.len(), 3);
        assert!(sh("ip -o addr show eth1").contains("192.168.5.10/24"));
    });
}

#[test]
fn addresses_and_routes_move_to_the_bridge_and_back_and_a_connection_lives_on() {
    in_namespace(|bench| async move {
        sh("ip addr add 192.168.5.10/24 brd 192.168.5.255 dev eth1
            ip route add default via 192.168.5.1 metric 100 proto static mtu 1400
            ip route add 172.16.0.0/12 dev eth1 proto 99 src 192.168.5.10
            ip -6 addr add 2001:db8::10/64 dev eth1 nodad
            ip -6 route add default via 2001:db8::1 metric 50");
        bench.peer.sh("ip addr add 192.168.5.1/24 dev peer1");
        let listener = std::net::TcpListener::bind("192.168.5.10:7000").unwrap();
        let echo = format!("nsenter --net={} python3 -c", bench.peer.path());
        let client = "import socket\ns=socket.create_connection((\"192.168.5.10\",7000))\nwhile True:\n d=s.recv(9)\n if not d: break\n s.sendall(d)";
        let mut client = std::process::Command::new("sh")
            .args(["-c", &format!("exec {echo} '{client}'")])
            .spawn()
            .unwrap();
        let (mut connection, _) = listener.accept().unwrap();
        connection.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut talk = || {
            let mut answer = [0; 4];
            connection.write_all(b"ping").unwrap();
            connection.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"ping");
        };
        talk();
        let wanted = without_dnsmasq(spec(&world(&[(1, 1)])));
        let before = (routes("eth1"), addresses("eth1"));
        bench.converge(&wanted).await;
        assert_eq!(routes("br101"), before.0);
        assert_eq!(json("ip -j link show eth1")[0]["master"], "br101");
        assert_eq!(json("ip -j link show br101")[0]["address"], json("ip -j link show eth1")[0]["address"]);
        assert!(!sh("ip -o addr show eth1").contains("192.168"));
        assert!(sh("ip -o addr show br101").contains("192.168.5.10/24 brd 192.168.5.255"));
        assert_eq!(bench.plan(&wanted).await, Default::default());
        talk();
        bench.converge(&HostSpec::default()).await;
        assert_eq!((routes("eth1"), addresses("eth1")), before);
        assert!(!sh("ip -o link").contains("br101"));
        talk();
        client.kill().unwrap();
        client.wait().unwrap();
    });
}

/// The routes through a device that somebody set, without what names the device.
fn routes(device: &str) -> Vec<String> {
    let lines = sh(&format!("ip -d route show dev {device}; ip -d -6 route show dev {device} metric 50"));
    let mut lines: Vec<String> = lines
        .lines()
        .filter(|line| !line.contains("proto kernel"))
        .map(|line| line.replace("linkdown", "").trim().to_owned())
        .collect();
    lines.sort();
    lines
}

fn addresses(device: &str) -> Vec<String> {
    let all = json(&format!("ip -j addr show dev {device}"));
    let all = all[0]["addr_info"].as_array().unwrap().iter().filter(|a| a["scope"] == "global");
    let mut all: Vec<String> =
        all.map(|a| format!("{}/{} {}", a["local"], a["prefixlen"], a["broadcast"])).collect();
    all.sort();
    all
}

#[test]
fn elements_go_in_and_out_in_transactions() {
    in_namespace(|bench| async move {
        let text = trestle_core::render::ruleset(Table::Guard);
        let element = |n: u32| (Set::GuardMac, format!("{} . fa:16:3e:00:00:{n:02x}", device(n)));
        let add = |n| Step::AddElement { set: element(n).0, element: element(n).1 };
        apply(&bench, [Step::PutRuleset { table: Table::Guard, text }, add(1), add(2)]).await;
        let listed = || sh("nft -j list set bridge trestle guard_mac");
        assert!(listed().contains("tr-000000000001") && listed().contains("tr-000000000002"));
        apply(&bench, [Step::DeleteElement { set: element(1).0, element: element(1).1 }]).await;
        assert!(!listed().contains("tr-000000000001") && listed().contains("tr-000000000002"));
        apply(&bench, [Step::DeleteRuleset { table: Table::Guard }]).await;
        assert_eq!(sh("nft list tables"), "");
        apply(&bench, [Step::DeleteElement { set: element(2).0, element: element(2).1 }]).await;
    });
}

#[test]
fn a_dnsmasq_outlives_the_host_and_is_left_alone_when_it_is_right() {
    in_namespace(|bench| async move {
        let wanted = spec(&world(&[(1, 1)]));
        bench.converge(&wanted).await;
        let pid = bench.dnsmasq_pid("net1");
        let network: trestle_core::types::Name = "net1".parse().unwrap();
        let again = Step::StartDnsmasq { network: network.clone(), dnsmasq: dnsmasq_of(&wanted, "net1") };
        apply(&bench, [again]).await;
        assert_eq!(bench.dnsmasq_pid("net1"), pid);
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let session = stat.rsplit(") ").next().unwrap().split(' ').nth(3).unwrap().to_owned();
        assert_eq!(session, pid.to_string(), "it has a session of its own");
        apply(&bench, [Step::StopDnsmasq { network }]).await;
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "it is stopped and reaped");
    });
}

#[test]
fn a_dnsmasq_whose_pid_file_is_lost_is_replaced() {
    in_namespace(|bench| async move {
        let wanted = spec(&world(&[(1, 1)]));
        bench.converge(&wanted).await;
        let pid = bench.dnsmasq_pid("net1");
        std::fs::remove_file(bench.path("networks/net1/pid")).unwrap();
        bench.converge(&wanted).await;
        assert_ne!(bench.dnsmasq_pid("net1"), pid);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
        assert_eq!(bench.plan(&wanted).await, Default::default());
    });
}

/// dnsmasq's own log says what it hears of.
#[test]
fn a_dnsmasq_hears_of_new_guests_after_its_folders_were_deleted_or_moved_away() {
    in_namespace(|bench| async move {
        bench.converge(&spec(&world(&[(1, 1)]))).await;
        let folder = |name: &str| bench.path(&format!("networks/net1/{name}"));
        let log = || std::fs::read_to_string(folder("log")).unwrap();
        for (guest, name) in [(2, "dhcp-hosts"), (3, "dns-names")] {
            std::fs::remove_dir_all(folder(name)).unwrap();
            bench.converge(&spec(&world(&[(1, 1)]))).await;
            let wanted = spec(&world(&[(1, 1), (1, guest)]));
            bench.converge(&wanted).await;
            let entry = folder(&format!("dhcp-hosts/{}", interface(1, guest).mac)).display().to_string();
            wait_until("dnsmasq hears of the guest", || log().contains(&entry));
            let names = folder("dns-names").display().to_string();
            wait_until("dnsmasq hears of its name", || log().contains(&format!("{names}/vm{guest}")));
            assert_eq!(bench.plan(&wanted).await, Default::default());
        }
        std::fs::rename(folder("dhcp-hosts"), bench.path("elsewhere")).unwrap();
        let wanted = spec(&world(&[(1, 1), (1, 4)]));
        bench.converge(&wanted).await;
        let entry = folder(&format!("dhcp-hosts/{}", interface(1, 4).mac)).display().to_string();
        wait_until("dnsmasq hears of the guest", || log().contains(&entry));
        assert_eq!(bench.plan(&wanted).await, Default::default());
    });
}

#[test]
fn a_dnsmasq_that_dies_at_once_is_reported_with_its_last_words() {
    in_namespace(|bench| async move {
        let wanted = spec(&world(&[(1, 1)]));
        let mut dnsmasq = dnsmasq_of(&wanted, "net1");
        apply(
            &bench,
            [Step::CreateBridge { link: dnsmasq.bridge.clone(), mac: interface(1, 1).mac, mtu: 1500 }],
        )
        .await;
        dnsmasq.arguments.push("--dhcp-range=nonsense".to_owned());
        let error =
            only_failure(&bench, Step::StartDnsmasq { network: "net1".parse().unwrap(), dnsmasq }).await;
        let said = error.to_string();
        assert!(said.starts_with("the dnsmasq of net1 ended at once; its log ends:\n"), "{said}");
        assert!(said.contains("bad dhcp-range"), "{said}");
    });
}

/// A dot in a device's name is a slash in a setting's, as sysctl(8) has it.
#[test]
fn a_sysctl_is_written_and_read_back_of_a_device_with_a_dot_too() {
    in_namespace(|bench| async move {
        sh("ip link add eth1.5 type bridge");
        for (name, path, value) in [
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward", "0"),
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward", "1"),
            ("net.ipv6.conf.eth1/5.accept_ra", "net/ipv6/conf/eth1.5/accept_ra", "2"),
        ] {
            apply(&bench, [Step::SetSysctl { name: name.to_owned(), value: value.to_owned() }]).await;
            assert_eq!(sh(&format!("cat /proc/sys/{path}")).trim(), value);
            let key = Key::Sysctl(name.to_owned());
            let seen = bench.host.observe_keys(&[key.clone()].into()).await.unwrap();
            assert_eq!(seen.get(&key).unwrap().object, Object::Sysctl(value.to_owned()));
        }
    });
}

/// The kernel of a machine that tests run on may have no 802.1Q: then it is said so.
#[test]
fn a_vlan_is_a_port_up_and_its_carrier_up_or_the_kernel_is_said_to_have_none() {
    in_namespace(|bench| async move {
        sh("ip link set eth3 down");
        let id = VlanId::try_from(104).unwrap();
        let vlan = port(LinkKind::Vlan { id, parent: link_name("eth3") }, "br100");
        let create = Step::CreateVlan { link: id.device(), vlan: vlan.clone() };
        apply(&bench, [bridge()]).await;
        if bench.host.missing_features().contains(&Feature::Vlan) {
            let error = only_failure(&bench, create).await;
            assert_eq!(
                error.to_string(),
                "cannot make vlan104: this kernel has no 802.1Q (CONFIG_VLAN_8021Q)"
            );
            return;
        }
        apply(&bench, [create.clone()]).await;
        apply(&bench, [create]).await;
        let link = &json("ip -j -d link show vlan104")[0];
        assert_eq!(link["linkinfo"]["info_kind"], "vlan");
        assert_eq!(link["linkinfo"]["info_data"]["id"], 104);
        assert_eq!(link["linkinfo"]["info_data"]["protocol"], "802.1Q");
        assert_eq!((&link["link"], &link["master"]), (&"eth3".into(), &"br100".into()));
        assert_eq!(link["mtu"], 1450);
        assert_eq!(link["group"], trestle_core::ownership::LINK_GROUP.to_string());
        assert_eq!(link["inet6_addr_gen_mode"], "none");
        assert!(link["flags"].as_array().unwrap().contains(&"UP".into()));
        assert!(json("ip -j link show eth3")[0]["flags"].as_array().unwrap().contains(&"UP".into()));
        let seen = bench.observe(&HostSpec::default()).await;
        assert_eq!(seen.link(&id.device()).unwrap().0.kind, vlan.kind);
        let key = Key::Link(id.device());
        assert_eq!(
            bench.host.observe_keys(&[key].into()).await.unwrap().link(&id.device()).unwrap().0.kind,
            vlan.kind
        );
        apply(&bench, [Step::DeleteVlan { link: id.device() }]).await;
        assert!(!sh("ip -o link").contains("vlan104"));

        sh("ip link add link eth3 name theirs type vlan id 104");
        let create = Step::CreateVlan { link: id.device(), vlan };
        let error = only_failure(&bench, create).await;
        assert_eq!(error.to_string(), "VLAN 104 of eth3 is another device's already");
    });
}

#[test]
fn a_port_is_in_the_administrators_bridge_once_that_is_made_and_again_once_it_is_made_anew() {
    in_namespace(|bench| async move {
        let wanted = spec(&world(&[(6, 1)]));
        let device = interface(6, 1).device;
        let problems = bench.plan(&wanted).await.problems;
        assert!(problems.iter().any(|problem| problem.key == Key::Link(device.clone())), "{problems:#?}");
        for _ in 0..2 {
            sh("ip link add docker0 type bridge");
            let change = bench.changed().await;
            assert!(change.what.contains("docker0"), "{change:?}");
            bench.converge(&wanted).await;
            assert_eq!(json(&format!("ip -j link show {device}"))[0]["master"], "docker0");
            assert_eq!(bench.plan(&wanted).await, Default::default());
            sh("ip link del docker0");
            let change = bench.changed().await;
            assert!(change.what.starts_with("docker0 was deleted"), "{change:?}");
        }
    });
}
