//! `cargo xtask bench`: measures and says the numbers; never part of the tests.

use anyhow::Result;

use crate::packages::{self, Purpose};
use crate::shell::{cargo, succeed};

/// Runs the benchmark programs of the crate `trestle` in release mode; each prints a table.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    packages::install(Purpose::Bench)?;
    succeed(cargo(&["bench", "--package", "trestle", "--"]).args(arguments))
}
