//! What a package puts beside the program.

use crate::support::{seen, trestle};

#[test]
fn every_command_has_a_man_page() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    let output = trestle(folder.path()).arg("man").arg(&pages).output().unwrap();
    assert!(output.status.success(), "{}", seen(&output, folder.path()));
    let mut names: Vec<String> = std::fs::read_dir(&pages)
        .unwrap()
        .map(|page| page.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    insta::assert_snapshot!(names.join("\n"), @"
    trestle-address-group-create.1
    trestle-address-group-delete.1
    trestle-address-group-list.1
    trestle-address-group-set.1
    trestle-address-group-show.1
    trestle-address-group.1
    trestle-address-history.1
    trestle-address.1
    trestle-agent.1
    trestle-attach.1
    trestle-completions.1
    trestle-detach.1
    trestle-dns-domain-create.1
    trestle-dns-domain-delete.1
    trestle-dns-domain-list.1
    trestle-dns-domain.1
    trestle-dns-record-delete.1
    trestle-dns-record-list.1
    trestle-dns-record-set.1
    trestle-dns-record-show.1
    trestle-dns-record.1
    trestle-dns.1
    trestle-doctor.1
    trestle-events.1
    trestle-explain.1
    trestle-fixed-ip-list.1
    trestle-fixed-ip.1
    trestle-floating-ip-associate.1
    trestle-floating-ip-disassociate.1
    trestle-floating-ip-forward.1
    trestle-floating-ip-list.1
    trestle-floating-ip-move.1
    trestle-floating-ip-release.1
    trestle-floating-ip-reserve.1
    trestle-floating-ip-show.1
    trestle-floating-ip-unforward.1
    trestle-floating-ip.1
    trestle-host-create.1
    trestle-host-delete.1
    trestle-host-list.1
    trestle-host-set.1
    trestle-host-show.1
    trestle-host-spec.1
    trestle-host.1
    trestle-inject.1
    trestle-instance-add-interface.1
    trestle-instance-create.1
    trestle-instance-delete.1
    trestle-instance-interface-set.1
    trestle-instance-interface.1
    trestle-instance-list.1
    trestle-instance-move.1
    trestle-instance-remove-interface.1
    trestle-instance-show.1
    trestle-instance.1
    trestle-lab-down.1
    trestle-lab-exec.1
    trestle-lab-guest.1
    trestle-lab-list.1
    trestle-lab-run.1
    trestle-lab-shell.1
    trestle-lab-up.1
    trestle-lab.1
    trestle-man.1
    trestle-network-associate.1
    trestle-network-create.1
    trestle-network-delete.1
    trestle-network-disassociate.1
    trestle-network-list.1
    trestle-network-reserve.1
    trestle-network-set-gateway.1
    trestle-network-set.1
    trestle-network-show.1
    trestle-network-unreserve.1
    trestle-network-usage.1
    trestle-network.1
    trestle-plan.1
    trestle-pool-add-range.1
    trestle-pool-create.1
    trestle-pool-delete.1
    trestle-pool-list.1
    trestle-pool-remove-range.1
    trestle-pool-show.1
    trestle-pool.1
    trestle-project-create.1
    trestle-project-delete.1
    trestle-project-list.1
    trestle-project-set-quota.1
    trestle-project-set.1
    trestle-project-show.1
    trestle-project.1
    trestle-security-group-create.1
    trestle-security-group-delete.1
    trestle-security-group-list.1
    trestle-security-group-rule-add.1
    trestle-security-group-rule-delete.1
    trestle-security-group-rule-list.1
    trestle-security-group-rule.1
    trestle-security-group-set.1
    trestle-security-group-show.1
    trestle-security-group.1
    trestle-server.1
    trestle-status.1
    trestle-token-create.1
    trestle-token-delete.1
    trestle-token-list.1
    trestle-token.1
    trestle-vpn-create.1
    trestle-vpn-delete.1
    trestle-vpn-list.1
    trestle-vpn-renew-ca.1
    trestle-vpn-set.1
    trestle-vpn-show.1
    trestle-vpn-user-add.1
    trestle-vpn-user-list.1
    trestle-vpn-user-renew.1
    trestle-vpn-user-revoke.1
    trestle-vpn-user.1
    trestle-vpn.1
    trestle.1
    ");
}

#[test]
fn shells_are_given_every_command() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let output = trestle(folder.path()).args(["completions", shell]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        for word in ["network", "remove-interface", "agent-socket"] {
            assert!(text.contains(word), "{shell} is not told of {word}");
        }
    }
}
