//! Tests that need VLANs, wherever they run (`trestle_lab::where_vlans_are`).

use std::path::Path;

use anyhow::{Result, ensure};

/// Runs a test where VLANs are; it must be the whole of the test function.
pub(crate) fn where_vlans_are<F: FnOnce() -> Result<()>>(test: F) -> Result<()> {
    trestle_lab::where_vlans_are(Path::new(env!("CARGO_BIN_EXE_trestle")), test)
}

/// The switch of a lab passes on what is tagged, and only there is it what it was.
#[test]
fn the_trunk_of_a_lab_carries_tags() -> Result<()> {
    use crate::cloud::DEADLINE;
    use trestle_lab::{Lab, Programs, Topology, until};

    where_vlans_are(|| {
        let programs = Programs { trestle: env!("CARGO_BIN_EXE_trestle").into() };
        let lab = Lab::bare(&Topology::for_test(2), &programs)?;
        for (host, address, vlan) in [
            ("host1", "192.0.2.1/24", "7"),
            ("host2", "192.0.2.2/24", "7"),
            ("host1", "198.51.100.1/24", "8"),
            ("host2", "198.51.100.2/24", "9"),
        ] {
            let device = format!("v{vlan}");
            let link = ["ip", "link", "add", "link", "eth2", "name", &device];
            lab.exec_ok(host, &[&link[..], &["type", "vlan", "id", vlan]].concat())?;
            lab.exec_ok(host, &["ip", "link", "set", &device, "up"])?;
            lab.exec_ok(host, &["ip", "address", "add", address, "dev", &device])?;
        }
        let mut seen =
            lab.spawn("host2", &["tcpdump", "-n", "-e", "-l", "-i", "eth2", "-c", "1", "vlan 7 and icmp"])?;
        until("tcpdump listens", DEADLINE, || Ok(seen.output()?.contains("listening").then_some(())))?;
        lab.exec_ok("host1", &["ping", "-c", "1", "-W", "5", "192.0.2.2"])?;
        seen.wait(DEADLINE)?;
        let frame = seen.output()?;
        ensure!(frame.contains("802.1Q") && frame.contains("vlan 7,"), "{frame}");
        let other = lab.exec("host1", &["ping", "-c", "2", "-i", "0.2", "-W", "1", "198.51.100.2"])?;
        ensure!(!other.status.success(), "VLAN 8 reached VLAN 9: {other:?}");
        Ok(())
    })
}
