//! What others break is put right from the kernel's own notice, and the event names the culprit.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use trestle_lab::{Lab, until};

use crate::cloud::{BRIDGE, DEADLINE, HOST, cloud, guest, ip, ping, ruleset, wait_until_whole};

/// Waits for the event of a repair that mentions this.
fn drift(lab: &Lab, mention: &str) -> Result<String> {
    until(&format!("an event of drift mentions `{mention}`"), DEADLINE, || {
        let text = lab.cli_ok(&["events", "--kind", "host.drift", "--json"])?;
        let events: Value = serde_json::from_str(&text).with_context(|| format!("reading {text}"))?;
        let events = events["items"].as_array().context("a list of events")?;
        let mut messages = events.iter().filter_map(|event| event["message"].as_str());
        Ok(messages.rfind(|message| message.contains(mention)).map(str::to_owned))
    })
}

#[test]
fn flushed_rules_are_back_and_the_culprit_is_named() -> Result<()> {
    let lab = cloud("10.0.0.0/24")?;
    let web = guest(&lab, "web1")?;
    let before = ruleset(&lab, HOST)?;
    lab.exec_ok(HOST, &["nft", "flush", "ruleset"])?;
    until("the rules are back", DEADLINE, || Ok((ruleset(&lab, HOST)? == before).then_some(())))?;
    let message = drift(&lab, "load table gateway")?;
    ensure!(message.contains("nft (pid "), "the culprit is named: {message}");
    ping(&lab, &web.node, "198.51.100.10")
}

#[test]
fn a_deleted_bridge_is_back_with_everything_on_it() -> Result<()> {
    let lab = cloud("10.0.0.0/24")?;
    let (web, _db) = (guest(&lab, "web1")?, guest(&lab, "db1")?);
    lab.exec_ok(HOST, &["ip", "link", "delete", BRIDGE])?;
    wait_until_whole(&lab)?;
    ping(&lab, &web.node, "10.0.0.3")?;
    ping(&lab, &web.node, "198.51.100.10")?;
    // dnsmasq serves the new bridge too, not the number of the old one.
    ensure!(lab.dhcp(&web.node)?.address == "10.0.0.2/24");
    drift(&lab, &format!("make bridge {BRIDGE}")).map(drop)
}

#[test]
fn a_removed_address_and_a_link_set_down_are_put_right() -> Result<()> {
    let lab = cloud("10.0.0.0/24")?;
    let web = guest(&lab, "web1")?;
    lab.exec_ok(HOST, &["ip", "address", "delete", "10.0.0.1/24", "dev", BRIDGE])?;
    until("the address is back", DEADLINE, || {
        Ok(ip(&lab, HOST, &["addr", "show", BRIDGE])?.to_string().contains("10.0.0.1").then_some(()))
    })?;
    drift(&lab, &format!("add address 10.0.0.1/24 to {BRIDGE}"))?;
    let device = web.attached.device.as_str();
    lab.exec_ok(HOST, &["ip", "link", "set", device, "down"])?;
    drift(&lab, &format!("set {device} to up"))?;
    ping(&lab, &web.node, "10.0.0.1")
}

#[test]
fn a_killed_dnsmasq_is_back_and_still_knows_its_leases() -> Result<()> {
    let lab = cloud("10.0.0.0/24")?;
    let web = guest(&lab, "web1")?;
    // The brackets keep the pattern from finding itself.
    lab.exec_ok(HOST, &["pkill", "-9", "-f", "[i]nterface=br100"])?;
    drift(&lab, "start dnsmasq of public")?;
    ensure!(lab.dhcp(&web.node)?.address == "10.0.0.2/24");
    Ok(())
}

/// What others own is left alone, even in the middle of ours.
#[test]
fn what_is_foreign_is_left_alone() -> Result<()> {
    let lab = cloud("10.0.0.0/24")?;
    lab.exec_ok(HOST, &["nft", "add", "table", "inet", "theirs"])?;
    lab.exec_ok(HOST, &["ip", "link", "add", "br-theirs", "type", "bridge"])?;
    guest(&lab, "web1")?;
    lab.exec_ok(HOST, &["ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1"])?;
    lab.exec_ok(HOST, &["ip", "link", "set", "v0", "master", BRIDGE])?;
    lab.exec_ok(HOST, &["nft", "flush", "ruleset"])?;
    wait_until_whole(&lab)?;
    let port = ip(&lab, HOST, &["link", "show", "v0"])?;
    ensure!(port[0]["master"] == BRIDGE, "somebody's port stays where they put it: {port}");
    lab.cli_ok(&["instance", "delete", "web1", "--project", "demo", "--yes"])?;
    let links = crate::cloud::links(&lab, HOST)?;
    ensure!(
        links.iter().any(|link| link == "br-theirs") && links.iter().any(|link| link == "v0"),
        "{links:?}"
    );
    Ok(())
}

#[test]
fn a_bridge_of_someone_else_s_is_a_clear_error_and_not_touched() -> Result<()> {
    let lab = cloud("10.0.0.0/24")?;
    lab.exec_ok(HOST, &["ip", "link", "add", BRIDGE, "type", "bridge"])?;
    let before = ip(&lab, HOST, &["link", "show", BRIDGE])?;
    crate::cloud::create(&lab, "web1")?;
    let refused = lab.attach(HOST, "web1", crate::cloud::NETWORK, trestle_lab::Plug::Tap);
    let complaint = format!("{:#}", refused.err().context("the attach went through")?);
    ensure!(complaint.contains("not Trestle's"), "{complaint}");
    let after = ip(&lab, HOST, &["link", "show", BRIDGE])?;
    ensure!(
        after[0]["ifindex"] == before[0]["ifindex"] && after[0]["group"] == before[0]["group"],
        "{after}"
    );
    Ok(())
}
