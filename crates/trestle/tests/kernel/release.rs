//! Releasing an address: reusable at once by another MAC, or after the timeout.

use anyhow::{Result, ensure};
use trestle_lab::{Plug, Topology};

use crate::cloud::{HOST, NETWORK, cloud, cloud_with, create, guest};

#[test]
fn a_released_address_is_leased_at_once_by_another_mac() -> Result<()> {
    // One address for instances: the next owner can have no other.
    let lab = cloud("10.0.0.0/30")?;
    for name in ["first", "second", "third"] {
        let guest = guest(&lab, name)?;
        ensure!(guest.lease.address == "10.0.0.2/30", "{name} got {:?}", guest.lease);
        lab.cli_ok(&["instance", "delete", name, "--project", "demo", "--yes"])?;
    }
    Ok(())
}

#[test]
fn without_forced_release_the_address_waits_for_the_timeout() -> Result<()> {
    let mut topology = Topology::for_test(1);
    let config = std::env::temp_dir().join(format!("{}.toml", topology.name));
    std::fs::write(&config, "[server]\nforce_dhcp_release = false\nfixed_ip_disassociate_timeout = 600\n")?;
    topology.server_arguments = vec!["--config".into(), config.to_string_lossy().into_owned()];
    let lab = cloud_with("10.0.0.0/30", &topology)?;
    std::fs::remove_file(&config)?;
    create(&lab, "first")?;
    lab.attach(HOST, "first", NETWORK, Plug::Tap)?;
    lab.cli_ok(&["instance", "delete", "first", "--project", "demo", "--yes"])?;
    let refused = lab.cli(&["instance", "create", "second", "--project", "demo", "--network", NETWORK])?;
    let complaint = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(1), "{refused:?}");
    ensure!(complaint.contains("not free yet"), "{complaint}");
    Ok(())
}

#[test]
fn a_host_without_dhcp_release_says_so_at_start() -> Result<()> {
    let lab = cloud("10.0.0.0/24")?;
    let state = lab.folder().join("lonely");
    let (trestle, state) = (env!("CARGO_BIN_EXE_trestle"), state.to_string_lossy());
    // Any token will do: it is not asked for that far.
    let token = lab.running().state_dir.join("admin.token");
    let token = token.to_string_lossy();
    let agent = [trestle, "agent", "--host", "host1", "--state-dir", &state, "--token-file", &token];
    // A place that has dnsmasq and nothing else.
    let programs = lab.folder().join("programs");
    std::fs::create_dir(&programs)?;
    let dnsmasq = lab.exec_ok(HOST, &["sh", "-c", "command -v dnsmasq"])?;
    std::os::unix::fs::symlink(dnsmasq.trim(), programs.join("dnsmasq"))?;
    let path = format!("PATH={}", programs.display());
    let output = lab.exec(HOST, &[&["env", &path], &agent[..]].concat())?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{output:?}");
    for word in ["dhcp_release", "dnsmasq-utils"] {
        ensure!(complaint.contains(word), "`{word}` is not in: {complaint}");
    }
    Ok(())
}
