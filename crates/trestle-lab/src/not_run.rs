//! Tests whose kernel feature is missing say so; they never pass in silence.

use std::fs::File;
use std::io::Write;

use anyhow::{Context, Result};

/// Notes that a test could not run here and why; `cargo xtask test` lists it at the end. The test
/// returns after it.
///
/// # Errors
/// Where it cannot be noted; the test must fail then.
pub fn not_run(test: &str, why: &str) -> Result<()> {
    let line = format!("{test}: {why}\n");
    let Some(path) = std::env::var_os("TRESTLE_NOT_RUN") else {
        eprint!("not run: {line}");
        return Ok(());
    };
    // One write of a line in append mode: tests run at the same time.
    let mut file =
        File::options().create(true).append(true).open(path).context("opening the list of tests not run")?;
    file.write_all(line.as_bytes()).context("writing the list of tests not run")
}
