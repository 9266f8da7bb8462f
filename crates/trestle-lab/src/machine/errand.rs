//! Tests that need VLANs, wherever they run: on this kernel if it has 802.1Q, else in a virtual
//! machine whose kernel has. One machine, booted when the first of them asks, serves all tests of
//! a program; it ends with the program.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result, anyhow, ensure};

use super::{Machine, MachineOptions};
use crate::kernel::has_802_1q;

static MACHINE: OnceLock<Result<Machine>> = OnceLock::new();

static TURN: Mutex<()> = Mutex::new(());

/// Runs a test where VLANs are; `trestle` is the program that makes the machine. It must be the whole of the
/// test function, written as
///
/// ```text
/// #[test]
/// fn a_claim() -> Result<()> {
///     where_vlans_are(trestle, || { … })
/// }
/// ```
///
/// In the machine the same program is told to run the one test that the closure is in.
///
/// # Errors
/// The test's own; and where it cannot be run there, with what the machine said.
pub fn where_vlans_are<F: FnOnce() -> Result<()>>(trestle: &Path, test: F) -> Result<()> {
    if has_802_1q()? {
        return test();
    }
    let name = name_of::<F>()?;
    let this: PathBuf = std::env::current_exe().context("finding this program")?;
    let boot = || Machine::boot(&MachineOptions::for_test(trestle, vec![this.clone()]));
    let machine = MACHINE.get_or_init(boot).as_ref().map_err(|error| anyhow!("{error:#}"))?;
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
