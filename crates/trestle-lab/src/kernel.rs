//! What the kernel that we run on can do.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// Whether this kernel has VLAN tags (IEEE 802.1Q): tried, in a network namespace of its own.
///
/// # Errors
/// Where it cannot be tried, for want of root for instance.
pub fn has_802_1q() -> Result<bool> {
    // Not on `lo`, which refuses tags everywhere.
    const SCRIPT: &str = "ip link add probe type veth peer name other || exit 1
        if ip link add link probe name tagged type vlan id 1; then echo yes; else echo no; fi";
    let mut command = Command::new("unshare");
    command.args(["--net", "--", "sh", "-c", SCRIPT]);
    let output = command.output().context("starting unshare, to see whether the kernel has 802.1Q")?;
    match String::from_utf8_lossy(&output.stdout).trim() {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => bail!(
            "cannot see whether the kernel has 802.1Q: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ),
    }
}
