//! Tests that need VLANs, wherever they run: on this kernel if it has 802.1Q, else in a virtual
//! machine whose kernel has. One machine, booted when the first of them asks, serves all tests of
//! this program; it ends with the program.

use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, PoisonError};

use anyhow::{Context, Result, anyhow, ensure};
use trestle_lab::{Machine, MachineOptions, has_802_1q};

static MACHINE: LazyLock<Result<Machine>> = LazyLock::new(|| {
    let this = std::env::current_exe().context("finding this program")?;
    Machine::boot(&MachineOptions::for_test(env!("CARGO_BIN_EXE_trestle"), vec![this]))
});

static TURN: Mutex<()> = Mutex::new(());

/// Runs a test where VLANs are. It must be the whole of the test function, written as
///
/// ```ignore
/// #[test]
/// fn a_claim() -> Result<()> {
///     where_vlans_are(|| { … })
/// }
/// ```
///
/// In the machine the same program is told to run the one test that the closure is in.
pub(crate) fn where_vlans_are<F: FnOnce() -> Result<()>>(test: F) -> Result<()> {
    if has_802_1q()? {
        return test();
    }
    let name = name_of::<F>()?;
    let this: PathBuf = std::env::current_exe().context("finding this program")?;
    let machine = MACHINE.as_ref().map_err(|error| anyhow!("{error:#}"))?;
    // One after the other: two labs at once on an emulated processor make each other miss deadlines.
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let output = machine.door().output(&[&this.to_string_lossy(), "--exact", name, "--nocapture"]);
    let output = output.with_context(|| machine.console())?;
    let told = String::from_utf8_lossy(&output.stdout);
    let passed = output.status.success() && told.contains("test result: ok. 1 passed");
    ensure!(
        passed,
        "in a machine whose kernel has 802.1Q, `{name}`: {}\n{told}{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
        machine.console()
    );
    Ok(())
}

/// The path of the function that a closure is written in, as the test program knows it. Where it
/// is not, no test runs, and that fails above.
fn name_of<F>() -> Result<&'static str> {
    let path = std::any::type_name::<F>();
    let (_, path) = path.split_once("::").context("a type outside of any crate")?;
    path.strip_suffix("::{{closure}}").with_context(|| format!("{path} is no closure in a function"))
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
