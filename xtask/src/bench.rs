//! `cargo xtask bench`: measures and says the numbers; never part of the tests.

use anyhow::Result;

use crate::packages::{self, Purpose};
use crate::shell::{cargo, succeed};

/// Runs the benchmark programs of the crate `trestle` in release mode; each prints a table.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    packages::install(Purpose::Bench)?;
    let mut bench = cargo(&["bench", "--package", "trestle", "--"]);
    // Agents tell how long they took over an update: what a call takes is more than that.
    succeed(bench.args(arguments).env("TRESTLE_LOG", "info,trestle_agent::reconcile=debug"))
}
