//! What a network and a host can be told: reserved addresses, what guests hear, devices.

use std::os::unix::fs::PermissionsExt;

use anyhow::{Result, ensure};
use trestle_lab::{INTERNET_NAME, Lab, Plug};

use crate::cloud::{
    BRIDGE, HOST, INTERNET, NETWORK, Watch, create, delete, empty_cloud, guest, guest_on, leaves_as, link,
    ping, public_network, refusal,
};

#[test]
fn a_reserved_range_is_not_given_out() -> Result<()> {
    let lab = empty_cloud(1)?;
    public_network(&lab, &["--cidr", "10.0.0.0/24", "--reserve", "10.0.0.2-10.0.0.9"])?;
    ensure!(guest(&lab, "one")?.lease.address == "10.0.0.10/24", "the first behind the range");
    lab.cli_ok(&["network", "reserve", NETWORK, "10.0.0.10-10.0.0.11", "--reason", "switches"])?;
    ensure!(guest(&lab, "two")?.lease.address == "10.0.0.12/24", "the next range counts at once");
    // Who has an address keeps it; after that nobody does.
    delete(&lab, "one")?;
    ensure!(guest(&lab, "three")?.lease.address == "10.0.0.13/24", "what was freed in it is not given out");
    let interface = format!("{NETWORK},address=10.0.0.5");
    let wish = ["instance", "create", "four", "--project", "demo", "--network", &interface];
    let complaint = refusal(&lab, &wish)?;
    ensure!(complaint.contains("reserved"), "{complaint}");
    lab.cli_ok(&["network", "unreserve", NETWORK, "10.0.0.2-10.0.0.9"])?;
    lab.cli_ok(&wish)?;
    ensure!(lab.guest_netns(HOST, "four", NETWORK)?.lease.address == "10.0.0.5/24");
    ensure!(guest(&lab, "five")?.lease.address == "10.0.0.2/24", "the whole range is there again");
    Ok(())
}

#[test]
fn a_network_keeps_to_its_allowed_addresses() -> Result<()> {
    let lab = empty_cloud(1)?;
    let allowed = ["--allowed-start", "10.0.0.100", "--allowed-end", "10.0.0.102"];
    public_network(&lab, &[&["--cidr", "10.0.0.0/24"], &allowed[..]].concat())?;
    let lease = guest(&lab, "one")?.lease;
    ensure!(lease.address == "10.0.0.101/24" && lease.router == "10.0.0.100", "{lease:?}");
    create(&lab, "two")?;
    let complaint =
        refusal(&lab, &["instance", "create", "three", "--project", "demo", "--network", NETWORK])?;
    ensure!(complaint.contains("no free address") || complaint.contains("full"), "{complaint}");
    Ok(())
}

#[test]
fn a_guest_is_told_what_its_network_says() -> Result<()> {
    let lab = empty_cloud(1)?;
    let options = ["--dhcp-option", "42,192.0.2.1", "--dhcp-option", "2,3600"];
    let named = ["--dns", INTERNET, "--domain", "cloud.test", "--mtu", "1400"];
    public_network(&lab, &[&["--cidr", "10.0.0.0/24"], &named[..], &options[..]].concat())?;
    let one = guest(&lab, "one")?;
    ensure!(one.lease.domain == "cloud.test" && one.lease.mtu == "1400", "{:?}", one.lease);
    ensure!(link(&lab, &one.node, "eth0")?["mtu"] == 1400, "the guest's device has it");
    let told = options_told(&lab, &one.node)?;
    for line in ["ntpsrv=192.0.2.1", "timezone=3600", "dns=10.0.0.1"] {
        ensure!(told.lines().any(|told| told == line), "`{line}` is not in:\n{told}");
    }
    // What dnsmasq does not know it asks of the network's own server.
    let asked = Watch::start(&lab, "outside", "eth0", "udp dst port 53")?;
    let found = lab.exec_ok(&one.node, &["busybox", "nslookup", "-type=a", INTERNET_NAME, "10.0.0.1"])?;
    ensure!(found.contains(INTERNET), "{found}");
    asked.wait_for(&format!("> {INTERNET}.53")).map(drop)
}

/// What a real DHCP client was told of these.
fn options_told(lab: &Lab, node: &str) -> Result<String> {
    let script = lab.folder().join("told.sh");
    let print = r#"echo "ntpsrv=$ntpsrv"; echo "timezone=$timezone"; echo "dns=$dns""#;
    std::fs::write(&script, format!("#!/bin/sh\nif [ \"$1\" = bound ]; then {print}; fi\n"))?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    let client = ["busybox", "udhcpc", "-f", "-q", "-n", "-t", "10", "-T", "1", "-i", "eth0"];
    let wanted = ["-O", "ntpsrv", "-O", "timezone", "-s", &script.to_string_lossy()];
    lab.exec_ok(node, &[&client[..], &wanted[..]].concat())
}

#[test]
fn a_hosts_own_devices_win_over_the_networks() -> Result<()> {
    let lab = empty_cloud(3)?;
    lab.cli_ok(&["host", "set", "host2", "--flat-interface", ""])?;
    lab.cli_ok(&["host", "set", "host3", "--public-interface", ""])?;
    public_network(&lab, &["--cidr", "10.0.0.0/24", "--bridge-interface", "eth2"])?;
    let one = guest_on(&lab, "host1", "one")?;
    create(&lab, "two")?;
    lab.attach("host2", "two", NETWORK, Plug::Tap)?;
    let three = guest_on(&lab, "host3", "three")?;
    ensure!(link(&lab, "host1", "eth1")?["master"] == BRIDGE, "its own wins");
    ensure!(link(&lab, "host1", "eth2")?.get("master").is_none(), "over the network's");
    ensure!(link(&lab, "host2", "eth2")?["master"] == BRIDGE, "which holds where the host names none");
    ensure!(link(&lab, "host2", "eth1")?.get("master").is_none(), "there nothing else is taken");
    ping(&lab, &one.node, "10.0.0.4")?;
    leaves_as(&lab, &one.node, "203.0.113.11")?;

    // A host without a public interface does no source NAT.
    let outside = Watch::start(&lab, "outside", "eth0", "icmp[icmptype] == icmp-echo")?;
    lab.exec(&three.node, &["ping", "-c", "1", "-W", "1", INTERNET])?;
    outside.wait_for(&format!("10.0.0.4 > {INTERNET}"))?;
    // It is told one while it is in use.
    lab.cli_ok(&["host", "set", "host3", "--public-interface", "eth0"])?;
    crate::cloud::wait_until_host_is_whole(&lab, "host3")?;
    leaves_as(&lab, &three.node, "203.0.113.13")
}
