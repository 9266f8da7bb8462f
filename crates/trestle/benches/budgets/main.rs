//! Measures the budgets of the design on this machine; prints tables for docs/performance.md.
//!
//! Each part runs alone with its name as argument: `attach`, `peers`, `restart`, `allocate`, `networks`,
//! `move`, `gateway`, `floating`, `groups`.
//! Numbers of one run are comparable with each other; the machine's speed drifts between runs.

mod allocate;
mod attach;
mod floating;
mod gaps;
mod groups;
mod networks;
mod peers;
mod restart;
mod times;

use anyhow::{Result, bail};
use trestle_lab::{Lab, Programs, Topology};

const HOST: &str = "host1";
const NETWORK: &str = "public";

fn main() -> Result<()> {
    type Part = (&'static str, fn() -> Result<()>);
    const PARTS: [Part; 9] = [
        ("attach", attach::run),
        ("peers", peers::run),
        ("restart", restart::run),
        ("allocate", allocate::run),
        ("networks", networks::run),
        ("gateway", gaps::gateway),
        ("move", gaps::migration),
        ("floating", floating::run),
        ("groups", groups::run),
    ];
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [blast, address, how] = &arguments[..]
        && blast == "blast"
    {
        return floating::blast(address, how);
    }
    if let [converse, address] = &arguments[..]
        && converse == "converse"
    {
        return groups::converse(address);
    }
    let chosen: Vec<String> = arguments.into_iter().filter(|argument| !argument.starts_with('-')).collect();
    if let Some(unknown) = chosen.iter().find(|name| PARTS.iter().all(|(part, _)| part != name)) {
        bail!(
            "there is no part `{unknown}`; use attach, peers, restart, allocate, networks, gateway, move, floating or groups"
        );
    }
    for (name, part) in PARTS {
        if chosen.is_empty() || chosen.iter().any(|chosen| chosen == name) {
            part()?;
        }
    }
    Ok(())
}

/// A lab of one host with a network of 65,000 addresses.
fn cloud(topology: &Topology) -> Result<Lab> {
    let lab = Lab::up(topology, &Programs { trestle: env!("CARGO_BIN_EXE_trestle").into() })?;
    lab.open_project("demo")?;
    lab.cli_ok(&[
        "network",
        "create",
        NETWORK,
        "--type",
        "flat_dhcp",
        "--cidr",
        "10.0.0.0/16",
        "--bridge",
        "br100",
    ])?;
    Ok(lab)
}
