//! Changing what a network's guests are told, while they are there.

use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use trestle_lab::{Process, until};

use crate::cloud::{
    BRIDGE, DEADLINE, HOST, INTERNET, NETWORK, Pinger, Watch, cloud, guest, link, processes, wait_until_whole,
};

/// What a DHCP client runs: it takes nothing over, and says what it was told.
const SCRIPT: &str = "#!/bin/sh\necho \"told: $1 $ip mtu $mtu domain $domain ntp $ntpsrv\"\n";

fn wait_until_told(client: &Process, what: &str) -> Result<()> {
    let told = || Ok(client.output()?.contains(&format!("told: {what}\n")).then_some(()));
    until(&format!("a guest is told `{what}`"), DEADLINE, told)
        .with_context(|| client.output().unwrap_or_default())
}

#[test]
fn guests_hear_of_a_change_when_they_renew_their_lease_and_lose_nothing_meanwhile() -> Result<()> {
    let lab = cloud("10.0.0.0/24")?;
    let (web, db) = (guest(&lab, "web1")?, guest(&lab, "db1")?);
    let script = tempfile::Builder::new().permissions(PermissionsExt::from_mode(0o755)).tempfile()?;
    std::fs::write(&script, SCRIPT)?;
    // A file that is still open for writing cannot be executed.
    let script = script.into_temp_path();
    let script = script.to_string_lossy();
    let options = ["-O", "mtu", "-O", "domain", "-O", "ntpsrv", "-s", &script];
    let client = ["busybox", "udhcpc", "-f", "-i", "eth0"];
    let mut client = lab.spawn(&web.node, &[&client[..], &options[..]].concat())?;
    wait_until_told(&client, "bound 10.0.0.2 mtu 1450 domain test.internal ntp ")?;
    let before = processes(&lab, HOST, "dnsmasq")?;
    let pingers = [Pinger::start(&lab, &web.node, INTERNET)?, Pinger::start(&lab, &db.node, "10.0.0.2")?];

    let guests = ["--domain", "other.internal", "--mtu", "1400", "--dhcp-option", "42,192.0.2.7"];
    let set = [&["network", "set", NETWORK, "--dns", INTERNET], &guests[..]].concat();
    lab.cli_ok(&set)?;
    let has_mtu = || Ok((link(&lab, HOST, BRIDGE)?["mtu"] == 1400).then_some(()));
    until("the bridge has the new MTU", DEADLINE, has_mtu)?;
    wait_until_whole(&lab)?;
    let after = processes(&lab, HOST, "dnsmasq")?;
    ensure!(after.len() == 1 && after != before, "dnsmasq is another: {before:?}, {after:?}");
    let tap = link(&lab, HOST, web.attached.device.as_str())?;
    ensure!(tap["mtu"] == 1400, "the guest's device: {tap}");

    client.signal(Signal::SIGUSR1)?;
    wait_until_told(&client, "renew 10.0.0.2 mtu 1400 domain other.internal ntp 192.0.2.7")?;
    let found = lab.exec_ok(&db.node, &["busybox", "nslookup", "web1.other.internal", "10.0.0.1"])?;
    ensure!(found.contains("10.0.0.2"), "{found}");
    let outside = Watch::start(&lab, "outside", "eth0", "udp port 53")?;
    let _asking = lab.spawn(&db.node, &["busybox", "nslookup", "example.org", "10.0.0.1"])?;
    outside.wait_for(&format!("> {INTERNET}.53"))?;

    lab.cli_ok(&set)?;
    wait_until_whole(&lab)?;
    ensure!(processes(&lab, HOST, "dnsmasq")? == after, "the same again touches nothing");
    for pinger in pingers {
        pinger.wait_for_more(3)?;
        pinger.lost_nothing()?;
    }
    Ok(())
}
