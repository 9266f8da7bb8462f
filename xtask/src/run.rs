//! `cargo xtask run`: the demo.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::packages::{self, Purpose};
use crate::shell::{built, cargo, describe, succeed};

/// Builds `trestle` and becomes `trestle lab run`.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    if let Some(unknown) = arguments.iter().find(|argument| **argument != "--once") {
        bail!("`cargo xtask run` does not know `{unknown}`");
    }
    if !packages::is_root() {
        bail!(
            "a lab makes network namespaces, which needs root\nhint: run `sudo -E env PATH=\"$PATH\" cargo xtask run`"
        );
    }
    packages::install(Purpose::Run)?;
    succeed(&mut cargo(&["build", "--package", "trestle"]))?;
    let mut command = Command::new(built("debug", "trestle"));
    command.args(["lab", "run"]).args(arguments);
    let text = describe(&command);
    println!("$ {text}\n");
    // In our place, so that Ctrl-C and the exit code are its own.
    Err(command.exec()).with_context(|| format!("starting {text}"))
}
