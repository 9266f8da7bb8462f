//! An empty lab, held until its user is done with it.

use std::io::Write;

use anyhow::{Context, Result};

use crate::lab::{Lab, Programs};
use crate::topology::Topology;

/// Starts a lab, says what to do with it, waits for Ctrl-C and removes everything.
///
/// # Errors
/// As [`Lab::up`].
pub fn run(topology: &Topology, programs: &Programs, out: &mut dyn Write) -> Result<()> {
    let lab = Lab::up(topology, programs)?;
    let say = |out: &mut dyn Write, text: &str| writeln!(out, "{text}").context("writing to the terminal");
    say(out, &invitation(&lab, &["host list"]))?;
    lab.wait_for_end()?;
    drop(lab);
    say(out, "everything is removed")
}

/// What to try in a lab that is up; `more` are further commands of `trestle`.
pub(crate) fn invitation(lab: &Lab, more: &[&str]) -> String {
    let running = lab.running();
    let trestle = running.trestle.display();
    let name = &running.name;
    let mut text = format!("lab `{name}` is up; in another terminal, as root, try:\n\n");
    text += &format!("  export TRESTLE_STATE_DIR={}\n", running.state_dir.display());
    let first = running.hosts.first().map_or("outside", String::as_str);
    let on_host = [
        format!("lab exec {first} -- ip -br address"),
        format!("lab exec {first} -- nft list ruleset"),
        format!("lab shell {first}"),
    ];
    let commands =
        ["status"].into_iter().chain(more.iter().copied()).chain(on_host.iter().map(String::as_str));
    for command in commands {
        text += &format!("  {trestle} {command}\n");
    }
    text += &format!("  tail -f {}/logs/*.log\n", running.folder.display());
    text + "\nCtrl-C here removes everything"
}
