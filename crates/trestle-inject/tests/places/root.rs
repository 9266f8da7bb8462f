//! A mounted root.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use trestle_inject::{Form, InjectError, inject_root, render};

use crate::support::{contents, run, tree, web1};

const NETWORKD: &str = "etc/systemd/system/multi-user.target.wants/systemd-networkd.service";
const UNIT: (&str, &str) = (NETWORKD, "->/usr/lib/systemd/system/systemd-networkd.service");

#[track_caller]
fn check_detected(files: &[(&str, &str)], form: Form) {
    let root = tree(files);
    assert_eq!(inject_root(root.path(), &web1(), None).unwrap().form, form);
    let found = contents(root.path());
    for file in render(&web1(), form) {
        assert_eq!(found.get(&file.path), Some(&file.text), "{}", file.path);
    }
    let before = contents(root.path());
    assert!(inject_root(root.path(), &web1(), None).unwrap().is_unchanged());
    assert_eq!(contents(root.path()), before);
}

#[test]
fn a_guest_gets_the_form_that_it_reads_and_a_second_run_changes_nothing() {
    let main = ("etc/network/interfaces", "auto lo\n");
    let cloud = ("etc/cloud/cloud.cfg", "");
    check_detected(&[main], Form::Interfaces);
    check_detected(&[UNIT], Form::Networkd);
    check_detected(&[("etc/netplan/", "")], Form::Netplan);
    check_detected(&[cloud], Form::CloudInit);
    check_detected(&[main, cloud], Form::Interfaces);
    check_detected(&[main, cloud, UNIT], Form::Networkd);
    check_detected(&[main, cloud, UNIT, ("etc/netplan/", "")], Form::Netplan);
}

#[test]
fn a_guest_with_none_of_the_places_is_an_error_that_lists_them() {
    let root = tree(&[("etc/hostname", "x\n"), ("etc/systemd/network/", "")]);
    let error = inject_root(root.path(), &web1(), None).unwrap_err();
    insta::assert_snapshot!(error, @"the guest has none of the places where a network is configured: it has no /etc/netplan, no /etc/systemd/system/multi-user.target.wants/systemd-networkd.service, no /etc/network/interfaces, no /etc/cloud/cloud.cfg");
    assert_eq!(contents(root.path()).len(), 1);
}

#[test]
fn the_machines_own_root_and_a_folder_that_is_not_there_are_refused() {
    let error =
        |path: &str| inject_root(Path::new(path), &web1(), Some(Form::Netplan)).unwrap_err().to_string();
    assert_eq!(error("/proc/self/root"), "/proc/self/root is the root of this machine, not of a guest");
    assert_eq!(error("/does/not/exist"), "there is no folder /does/not/exist");
}

#[test]
fn a_form_that_is_asked_for_makes_its_folders() {
    let root = tree(&[]);
    let outcome = inject_root(root.path(), &web1(), Some(Form::Netplan)).unwrap();
    assert_eq!(outcome.written, ["etc/netplan/90-trestle.yaml"]);
    let mode = fs::metadata(root.path().join("etc/netplan/90-trestle.yaml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn links_do_not_lead_out_of_the_root() {
    let outside = tree(&[("interfaces", "precious\n"), ("netplan/90-trestle.yaml", "precious\n")]);
    let before = contents(outside.path());
    let to = |name: &str| format!("->{}", outside.path().join(name).display());
    let (interfaces, folder) = (to("interfaces"), to("netplan"));
    let up = format!("->../../../../../../../../{}", outside.path().join("netplan").display());
    let roots = [
        (
            tree(&[
                ("etc/network/interfaces.d/trestle", &interfaces),
                ("etc/network/interfaces", "auto lo\n"),
            ]),
            true,
        ),
        (
            tree(&[
                ("etc/network/interfaces", "auto lo\n"),
                ("etc/resolv.conf.d/x", ""),
                ("etc/network/.trestle-inject-trestle", &interfaces),
            ]),
            true,
        ),
        (tree(&[("etc/netplan", &folder)]), false),
        (tree(&[("etc/netplan", &up)]), false),
        (tree(&[("etc/netplan/", ""), ("etc/netplan/90-trestle.yaml", &interfaces)]), true),
    ];
    for (root, is_written) in roots {
        let outcome = inject_root(root.path(), &web1(), None);
        assert_eq!(outcome.is_ok(), is_written, "{outcome:?}");
        assert_eq!(contents(outside.path()), before);
    }
}

#[test]
fn a_link_within_the_root_is_followed_as_the_guest_does() {
    let root = tree(&[("etc/netplan", "->/usr/share/netplan"), ("usr/share/netplan/", "")]);
    inject_root(root.path(), &web1(), None).unwrap();
    assert!(contents(root.path()).contains_key("usr/share/netplan/90-trestle.yaml"));
}

#[test]
fn a_pipe_in_the_place_of_a_file_is_not_opened() {
    let root = tree(&[("etc/network/", "")]);
    let pipe = root.path().join("etc/network/interfaces");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let error = inject_root(root.path(), &web1(), None).unwrap_err();
    assert!(matches!(error, InjectError::NotPlain(path) if path == "etc/network/interfaces"));
}

#[test]
fn what_others_wrote_of_other_interfaces_is_kept() {
    let root = tree(&[
        (
            "etc/network/interfaces",
            "# mine\nsource interfaces.d/*\n\nauto lo eth0\niface lo inet loopback\niface eth0 inet dhcp\n",
        ),
        (
            "etc/network/interfaces.d/50-cloud-init",
            "auto eth0\niface eth0 inet dhcp\n\nauto wg0\niface wg0 inet manual\n",
        ),
        ("etc/resolv.conf", "->/run/resolvconf/resolv.conf"),
    ]);
    let outcome = inject_root(root.path(), &web1(), None).unwrap();
    assert_eq!(
        outcome.written,
        [
            "etc/network/interfaces.d/trestle",
            "etc/network/interfaces.d/50-cloud-init",
            "etc/network/interfaces"
        ]
    );
    let found = contents(root.path());
    assert_eq!(
        found["etc/network/interfaces"],
        "# mine\nsource interfaces.d/*\n\nauto lo\niface lo inet loopback\n"
    );
    assert_eq!(found["etc/network/interfaces.d/50-cloud-init"], "\nauto wg0\niface wg0 inet manual\n");
    assert_eq!(found["etc/resolv.conf"], "->/run/resolvconf/resolv.conf");
}

#[test]
fn another_form_takes_the_files_of_the_first_away_and_no_others() {
    let root =
        tree(&[("etc/cloud/cloud.cfg", ""), ("etc/systemd/network/00-trestle-by-hand.network", "[Match]\n")]);
    for form in [Form::Networkd, Form::Netplan, Form::Interfaces] {
        inject_root(root.path(), &web1(), Some(form)).unwrap();
        let disabling = contents(root.path())["etc/cloud/cloud.cfg.d/99-trestle.cfg"].clone();
        assert_eq!(disabling, "# written by trestle inject\nnetwork:\n  config: disabled\n");
    }
    let outcome = inject_root(root.path(), &web1(), Some(Form::CloudInit)).unwrap();
    assert_eq!(outcome.removed, ["etc/network/interfaces.d/trestle", "etc/cloud/cloud.cfg.d/99-trestle.cfg"]);
    let found = contents(root.path());
    assert_eq!(found["etc/network/interfaces"], "auto lo\niface lo inet loopback\n");
    let ours: Vec<&String> =
        found.keys().filter(|path| path.contains("trestle") || path.contains("seed")).collect();
    insta::assert_debug_snapshot!(ours, @r#"
    [
        "etc/systemd/network/00-trestle-by-hand.network",
        "var/lib/cloud/seed/nocloud/meta-data",
        "var/lib/cloud/seed/nocloud/network-config",
        "var/lib/cloud/seed/nocloud/user-data",
    ]
    "#);
}

#[test]
fn a_seed_of_somebody_else_keeps_its_user_data() {
    let user_data = "#cloud-config\nusers: []\n";
    let seed = "var/lib/cloud/seed/nocloud";
    let root = tree(&[("etc/cloud/cloud.cfg", ""), (&format!("{seed}/user-data"), user_data)]);
    inject_root(root.path(), &web1(), None).unwrap();
    assert_eq!(contents(root.path())[&format!("{seed}/user-data")], user_data);
    assert!(contents(root.path()).contains_key(&format!("{seed}/network-config")));
}

#[test]
fn files_belong_to_whom_their_folder_belongs_to() {
    let root = tree(&[("etc/netplan/", "")]);
    let shifted = 165_536;
    chown(root.path().join("etc/netplan"), Some(shifted), Some(shifted)).unwrap();
    inject_root(root.path(), &web1(), None).unwrap();
    let file = fs::metadata(root.path().join("etc/netplan/90-trestle.yaml")).unwrap();
    assert_eq!((file.uid(), file.gid()), (shifted, shifted));
}

#[test]
fn ifup_reads_the_interfaces() {
    let root = tree(&[("etc/network/interfaces", "")]);
    inject_root(root.path(), &web1(), None).unwrap();
    let part = root.path().join("etc/network/interfaces.d/trestle").display().to_string();
    insta::assert_snapshot!(run("busybox", &["ifup", "-n", "-a", "-i", &part]), @r"
    run-parts /etc/network/if-pre-up.d
    ip addr add 10.0.0.5/24 broadcast 10.0.0.255 dev eth0 label eth0
    ip link set mtu 1450 eth0 up
    ip route add default via 10.0.0.1 dev eth0
    run-parts /etc/network/if-up.d
    run-parts /etc/network/if-pre-up.d
    ip addr add 2001:db8::5/64 dev eth0 label eth0
    ip link set eth0 up
    ip route add ::/0 via 2001:db8::1 dev eth0
    run-parts /etc/network/if-up.d
    ");
}

#[test]
fn netplan_makes_of_it_what_networkd_is_given() {
    let root = tree(&[("etc/netplan/", "")]);
    inject_root(root.path(), &web1(), None).unwrap();
    run("netplan", &["generate", "--root-dir", &root.path().display().to_string()]);
    let found = contents(&root.path().join("run/systemd/network"));
    insta::assert_snapshot!(found["10-netplan-00-trestle-fa163e000001.network"], @r"
    [Match]
    PermanentMACAddress=fa:16:3e:00:00:01

    [Link]
    MTUBytes=1450

    [Network]
    LinkLocalAddressing=ipv6
    Address=10.0.0.5/24
    Address=2001:db8::5/64
    IPv6AcceptRA=no
    DNS=10.0.0.53
    Domains=trestle.internal

    [Route]
    Destination=0.0.0.0/0
    Gateway=10.0.0.1

    [Route]
    Destination=::/0
    Gateway=2001:db8::1
    ");
}
