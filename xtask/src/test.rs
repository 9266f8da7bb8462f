//! `cargo xtask test`: everything that must hold, and the counts at the end.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::packages::{self, Purpose};
use crate::shell::{built, cargo, describe, succeed};
use crate::tidy;

/// Tests that cannot run here append `name: reason` to the file that this variable names.
const NOT_RUN: &str = "TRESTLE_NOT_RUN";

/// Packages, format, lints, tidy, tests, in this order: the quick ones first.
pub(crate) fn run() -> Result<()> {
    packages::install(Purpose::Test)?;
    succeed(&mut cargo(&["fmt", "--all", "--check"]))?;
    tidy::run()?;
    succeed(&mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    let not_run = built("", "not-run.txt");
    if not_run.exists() {
        std::fs::remove_file(&not_run).with_context(|| format!("removing {}", not_run.display()))?;
    }
    let started = Instant::now();
    let counts = tests(&not_run)?;
    counts.print(started.elapsed().as_secs(), &std::fs::read_to_string(&not_run).unwrap_or_default());
    if counts.is_success { Ok(()) } else { bail!("tests failed") }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u32,
    failed: u32,
    ignored: u32,
    /// The failed ones, by name.
    names: Vec<String>,
    is_success: bool,
}

/// Runs all tests, shows what they print and counts.
fn tests(not_run: &Path) -> Result<Counts> {
    let mut command = cargo(&["test", "--workspace", "--no-fail-fast"]);
    command.env(NOT_RUN, not_run).stdout(Stdio::piped());
    println!("$ {}", describe(&command));
    let mut child = command.spawn().context("starting cargo test")?;
    let output = child.stdout.take().context("cargo test has no output")?;
    let mut counts = Counts::default();
    for line in BufReader::new(output).lines() {
        let line = line.context("reading what cargo test prints")?;
        println!("{line}");
        counts.add(&line);
    }
    counts.is_success = child.wait().context("waiting for cargo test")?.success();
    Ok(counts)
}

impl Counts {
    /// Takes in one line of libtest's output.
    fn add(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            self.names.push(name.to_owned());
        }
        let Some(result) = line.strip_prefix("test result: ") else { return };
        for part in result.split(['.', ';']) {
            match part.trim().split_once(' ') {
                Some((number, "passed")) => self.passed += number.parse().unwrap_or(0),
                Some((number, "failed")) => self.failed += number.parse().unwrap_or(0),
                Some((number, "ignored")) => self.ignored += number.parse().unwrap_or(0),
                _ => {}
            }
        }
    }

    fn print(&self, seconds: u64, not_run: &str) {
        println!();
        for name in &self.names {
            println!("failed: {name}");
        }
        for line in not_run.lines() {
            println!("not run: {line}");
        }
        println!(
            "tests: {} passed, {} failed, {} ignored, {} could not run on this kernel, in {seconds} s",
            self.passed,
            self.failed,
            self.ignored,
            not_run.lines().count()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::Counts;

    #[test]
    fn counts_of_all_test_programs_are_added_up() {
        let mut counts = Counts::default();
        for line in [
            "test a_name ... ok",
            "test another ... FAILED",
            "test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.02s",
            "test result: ok. 10 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.02s",
        ] {
            counts.add(line);
        }
        let names = vec!["another".to_owned()];
        assert_eq!(counts, Counts { passed: 13, failed: 1, ignored: 2, names, is_success: false });
    }
}
