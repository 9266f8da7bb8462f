//! The guard: a guest sends from its own MAC and addresses only, and is no DHCP server or router
//! to others. Frames are made by hand, so that each test can also show the same frame getting
//! through when it is honest.

use anyhow::{Result, ensure};
use trestle_lab::{Lab, NetnsGuest, until};

use crate::cloud::{DEADLINE, HOST, cloud, guest, ping};
use crate::frames::{arp, hex_mac, listen, send, udp};

const FOREIGN_MAC: &str = "fa:16:3e:99:99:99";

struct Stage {
    lab: Lab,
    attacker: NetnsGuest,
    victim: NetnsGuest,
}

fn stage() -> Result<Stage> {
    let lab = cloud("10.0.0.0/24")?;
    let (attacker, victim) = (guest(&lab, "mallory")?, guest(&lab, "victim")?);
    ping(&lab, &attacker.node, "10.0.0.3")?;
    Ok(Stage { lab, attacker, victim })
}

/// Sends the forged frames and then the honest one, and waits for that: on one queue, what was
/// sent before it and is not there never came.
fn only_the_honest_frame_arrives(stage: &Stage, forged: &[String], honest: &str, mark: &str) -> Result<()> {
    let Stage { lab, attacker, victim } = stage;
    let ears = listen(lab, &victim.node)?;
    for frame in forged {
        send(lab, &attacker.node, frame)?;
    }
    send(lab, &attacker.node, honest)?;
    let heard = until("the honest frame arrives", DEADLINE, || {
        let heard = ears.output()?;
        Ok(heard.contains(mark).then_some(heard))
    })?;
    let frames: Vec<&str> = heard.lines().filter(|line| line.contains(" > ")).collect();
    // Bridges and routers on the segment report their own multicast groups and look for routers.
    let honest = |line: &&&str| {
        [mark, "multicast listener report", "igmp v3 report", "neighbor solicitation", "router solicitation"]
            .iter()
            .any(|word| line.contains(word))
    };
    let strange: Vec<&str> = frames.iter().filter(|line| !honest(line)).copied().collect();
    ensure!(strange.is_empty(), "forged frames arrived:\n{}", strange.join("\n"));
    Ok(())
}

#[test]
fn a_guest_sends_from_its_own_mac_and_address_only() -> Result<()> {
    let stage = stage()?;
    let mac = stage.attacker.attached.mac.to_string();
    let gateway_mac = stage.lab.exec_ok(HOST, &["cat", "/sys/class/net/br100/address"])?;
    let forged = [
        udp(FOREIGN_MAC, "10.0.0.2", (4000, 4001))?,
        udp(&mac, "10.0.0.3", (4000, 4002))?,
        udp(&mac, "10.0.0.1", (4000, 4003))?,
        udp(&mac, "192.0.2.1", (4000, 4004))?,
        udp(gateway_mac.trim(), "10.0.0.1", (4000, 4005))?,
        udp(&stage.victim.attached.mac.to_string(), "10.0.0.3", (4000, 4006))?,
    ];
    only_the_honest_frame_arrives(&stage, &forged, &udp(&mac, "10.0.0.2", (4000, 4999))?, ".4999:")
}

#[test]
fn a_guest_claims_no_address_but_its_own_by_arp() -> Result<()> {
    let stage = stage()?;
    let mac = stage.attacker.attached.mac.to_string();
    let forged = [
        arp(&mac, &mac, "10.0.0.1")?,
        arp(&mac, &mac, "10.0.0.3")?,
        arp(&mac, FOREIGN_MAC, "10.0.0.2")?,
        arp(FOREIGN_MAC, FOREIGN_MAC, "10.0.0.2")?,
        arp(FOREIGN_MAC, &mac, "10.0.0.1")?,
        // A probe for an address that is not its own (RFC 5227 §2.1.1).
        arp(&mac, &mac, "0.0.0.0")?,
    ];
    only_the_honest_frame_arrives(&stage, &forged, &arp(&mac, &mac, "10.0.0.2")?, "tell 10.0.0.2")
}

#[test]
fn a_dhcp_server_or_router_in_a_guest_is_silent_to_others() -> Result<()> {
    let stage = stage()?;
    let mac = stage.attacker.attached.mac.to_string();
    // A router advertisement to all nodes (RFC 4861 §4.2), and a DHCPv6 server's reply.
    let advertisement = format!(
        "333300000001{}86dd6000000000103afffe80000000000000000000000000000aff02000000000000000000000000000186000000400807080000000000000000",
        hex_mac(&mac)
    );
    let dhcpv6 = format!(
        "333300000001{}86dd60000000000c11fffe80000000000000000000000000000aff02000000000000000000000000000102230222000c00006d61726b",
        hex_mac(&mac)
    );
    let tagged = udp(&mac, "10.0.0.2", (4000, 4007))?.replacen("0800", "810000640800", 1);
    // Clients look at their own port alone.
    let servers = [udp(&mac, "10.0.0.2", (67, 68))?, udp(&mac, "10.0.0.2", (4000, 68))?];
    let forged = [&servers[..], &[advertisement, dhcpv6, tagged]].concat();
    only_the_honest_frame_arrives(&stage, &forged, &udp(&mac, "10.0.0.2", (4000, 4999))?, ".4999:")
}

/// Frames to the reserved group addresses are not forwarded and pass prerouting by, but a bridge
/// learns from them.
#[test]
fn a_guest_takes_no_others_place_in_the_bridge() -> Result<()> {
    let Stage { lab, attacker, victim } = stage()?;
    let mac = victim.attached.mac.to_string();
    for last in ["02", "03", "0d", "0e", "0f"] {
        send(&lab, &attacker.node, &format!("0180c20000{last}{}888e{:0100}", hex_mac(&mac), 0))?;
    }
    // On one queue: when the honest ping is answered, the frame before it has been looked at.
    ping(&lab, &attacker.node, "10.0.0.1")?;
    let learnt = lab.exec_ok(HOST, &["bridge", "fdb", "show", "br", "br100"])?;
    let place = learnt.lines().filter(|line| line.starts_with(&mac)).collect::<Vec<_>>().join("\n");
    ensure!(
        !place.contains(attacker.attached.device.as_str()),
        "the attacker has the victim's place: {place}"
    );
    ping(&lab, HOST, "10.0.0.3")
}

/// The same frames do arrive where nothing guards: the tests above can fail.
#[test]
fn forged_frames_arrive_where_there_is_no_guard() -> Result<()> {
    let Stage { lab, attacker, victim } = stage()?;
    // With the agent gone nobody repairs what is broken on purpose here.
    lab.agent(HOST)?.kill9()?;
    lab.exec_ok(HOST, &["nft", "delete", "table", "bridge", "trestle"])?;
    let mac = attacker.attached.mac.to_string();
    let ears = listen(&lab, &victim.node)?;
    for (frame, mark) in [
        (udp(FOREIGN_MAC, "10.0.0.2", (4000, 4001))?, ".4001:"),
        (udp(&mac, "10.0.0.1", (4000, 4003))?, ".4003:"),
        (udp(&mac, "10.0.0.2", (67, 68))?, ".68:"),
        (udp(&mac, "10.0.0.2", (4008, 68))?, ".4008 >"),
        (arp(&mac, &mac, "0.0.0.0")?, "tell 0.0.0.0,"),
        (arp(&mac, &mac, "10.0.0.1")?, "tell 10.0.0.1,"),
    ] {
        send(&lab, &attacker.node, &frame)?;
        until(&format!("`{mark}` arrives"), DEADLINE, || Ok(ears.output()?.contains(mark).then_some(())))?;
    }
    Ok(())
}
