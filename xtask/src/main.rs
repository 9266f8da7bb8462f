//! `cargo xtask`: what one does with a clone of the project, each a single command that brings
//! what it needs.
//!
//! It depends on the standard library and `anyhow` alone, so that it builds in seconds and can
//! check and build everything else.

mod bench;
mod packages;
mod run;
mod shell;
mod source;
mod test;
mod tidy;

use std::process::ExitCode;

const HELP: &str = "\
usage: cargo xtask COMMAND

  run [--once]  start a lab and show it: a network, instances, a real virtual machine;
                then leave it up until Ctrl-C, unless --once is given
  test          everything that must hold: format, lints, tidy, all tests
  bench         measure, in release mode
  tidy          check what the compiler does not: who may import whom, words, sizes

run, test and bench install the Debian packages that are missing, as root, and say which and why";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["run", rest @ ..] => run::run(rest),
        ["test"] => test::run(),
        ["bench", rest @ ..] => bench::run(rest),
        ["tidy"] => tidy::run(),
        ["help" | "--help" | "-h"] => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
