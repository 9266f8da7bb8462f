//! A lab for its user, held until they are done with it.

use std::io::Write;

use anyhow::{Context, Result};
use trestle_api::{NewNetwork, NewProject};

use crate::kernel::has_802_1q;
use crate::lab::{Lab, Programs};
use crate::machine;
use crate::topology::{ADMIN_BRIDGE, Networks, Topology};

const PROJECT: &str = "demo";

/// Starts a lab, says what to do with it, waits for Ctrl-C and removes everything. Where the lab
/// needs VLANs and the kernel has none, it does so in a machine whose kernel has.
///
/// # Errors
/// As [`Lab::up`].
pub fn run(topology: &Topology, programs: &Programs, out: &mut dyn Write) -> Result<()> {
    if topology.networks.is_some_and(Networks::has_vlan) && !has_802_1q()? {
        return machine::up(topology, programs, out);
    }
    let lab = Lab::up(topology, programs)?;
    let say = |out: &mut dyn Write, text: &str| writeln!(out, "{text}").context("writing to the terminal");
    let steps = match topology.networks {
        Some(networks) => make_networks(&lab, networks)?,
        None => vec!["host list".into()],
    };
    let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    say(out, &invitation(&lab, &steps))?;
    lab.wait_for_end()?;
    drop(lab);
    say(out, "everything is removed")
}

/// Makes a project and its networks; gives the commands to go on with.
fn make_networks(lab: &Lab, networks: Networks) -> Result<Vec<String>> {
    let client = lab.client()?;
    lab.ask(client.create_project(&NewProject { name: PROJECT.into() })).context("making a project")?;
    let wanted = wanted_networks(networks);
    let mut first = None;
    for network in &wanted {
        let made = lab.ask(client.create_networks(network));
        let made = made.with_context(|| format!("making the network `{}`", network.name))?;
        first = first.or(made.items.into_iter().next());
    }
    let name = first.context("no network was made")?.name;
    let host = lab.running().hosts.first().map_or("host1", String::as_str);
    let lab = &lab.running().name;
    Ok(vec![
        "network list".into(),
        format!("instance create web1 --project {PROJECT} --network {name}"),
        format!("lab guest --lab {lab} web1 --host {host}"),
        format!("lab exec --lab {lab} vm-web1 -- ip address"),
    ])
}

/// What an administrator would ask for; first what an instance joins when it names no network.
fn wanted_networks(networks: Networks) -> Vec<NewNetwork> {
    let of_type = |word: &str, cidr: &str| NewNetwork {
        name: word.replace('_', "-"),
        network_type: Some(word.into()),
        cidr: Some(cidr.into()),
        ..NewNetwork::default()
    };
    let vlan = || NewNetwork {
        num_networks: Some(4),
        network_size: Some(256),
        vlan_start: Some(101),
        ..of_type("vlan", "10.1.0.0/22")
    };
    let flat_dhcp = || NewNetwork { bridge: Some("br100".into()), ..of_type("flat_dhcp", "10.0.0.0/24") };
    // Nobody routes for it here, as nobody does for Trestle anywhere.
    let flat = || NewNetwork {
        bridge: Some(ADMIN_BRIDGE.into()),
        gateway: Some("none".into()),
        ..of_type("flat", "10.2.0.0/24")
    };
    match networks {
        Networks::Vlan => vec![vlan()],
        Networks::FlatDhcp => vec![flat_dhcp()],
        Networks::Flat => vec![flat()],
        Networks::All => vec![vlan(), flat_dhcp(), flat()],
    }
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
        format!("lab exec --lab {name} {first} -- ip -br address"),
        format!("lab exec --lab {name} {first} -- nft list ruleset"),
        format!("lab shell --lab {name} {first}"),
        format!(
            "lab exec --lab {name} controller -- sh -c 'tail -f {}/logs/*.log'",
            running.folder.display()
        ),
    ];
    let commands =
        ["status"].into_iter().chain(more.iter().copied()).chain(on_host.iter().map(String::as_str));
    for command in commands {
        text += &format!("  {trestle} {command}\n");
    }
    text + "\nCtrl-C here removes everything"
}
