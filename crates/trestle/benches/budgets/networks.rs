//! Many networks: made in one call, and side by side on one host.

use std::time::Instant;

use anyhow::{Result, ensure};
use trestle_api::{HostPatch, NewInstance, NewInterface, NewNetwork};
use trestle_lab::{Lab, Programs, Topology};

use crate::HOST;
use crate::attach::{ask, attach_request, detach_request};
use crate::times::{Times, head};

const VLANS: u32 = 3995;
const RUNS: usize = 5;
const ON_ONE_HOST: usize = 200;
const ATTACHES: usize = 100;

pub(crate) fn run() -> Result<()> {
    let lab = Lab::up(&Topology::for_test(1), &Programs { trestle: env!("CARGO_BIN_EXE_trestle").into() })?;
    lab.open_project("demo")?;
    many_at_once(&lab)?;
    many_on_one_host(&lab)
}

/// From the request to the answer that all of them are made, durable.
fn many_at_once(lab: &Lab) -> Result<()> {
    let client = lab.client()?;
    head(&format!("{VLANS} VLAN networks of 16 addresses in one call"));
    let mut times = Vec::new();
    for run in 0..RUNS {
        let new = NewNetwork {
            name: format!("run{run}"),
            network_type: Some("vlan".to_owned()),
            cidr: Some("10.0.0.0/8".to_owned()),
            num_networks: Some(VLANS),
            network_size: Some(16),
            ..NewNetwork::default()
        };
        let started = Instant::now();
        let made = lab.ask(client.create_networks(&new))?;
        times.push(started.elapsed());
        ensure!(made.items.len() == VLANS as usize, "{} were made", made.items.len());
        for network in made.items {
            lab.ask(client.delete_network(&network.id.to_string()))?;
        }
    }
    println!("{}", Times::new(times).row("one call"));
    Ok(())
}

/// Every dnsmasq takes an instance of inotify(7), of which Linux gives a user 128 unless told otherwise.
fn enough_inotify() -> Result<()> {
    const SETTING: &str = "/proc/sys/fs/inotify/max_user_instances";
    let instances: usize = std::fs::read_to_string(SETTING)?.trim().parse()?;
    let hint = "run `sysctl fs.inotify.max_user_instances=8192` as on a host with that many networks";
    ensure!(instances >= 2 * ON_ONE_HOST, "{instances} instances of inotify are too few: {hint}");
    Ok(())
}

/// One more instance on the last of 200 networks, each with a bridge and a dnsmasq of its own. They
/// lead nowhere: this host's device can be in one bridge only.
fn many_on_one_host(lab: &Lab) -> Result<()> {
    enough_inotify()?;
    let client = lab.client()?;
    let no_uplink = HostPatch { flat_interface: Some(String::new()), ..HostPatch::default() };
    lab.ask(client.patch_host(HOST, &no_uplink))?;
    head(&format!("attach on a host with {ON_ONE_HOST} networks"));
    let mut firsts = Vec::new();
    for number in 0..ON_ONE_HOST {
        make_network(lab, number)?;
        make_instance(lab, &format!("vm{number}"), number)?;
        let started = Instant::now();
        ask(lab, &attach_request(&format!("vm{number}"), &name(number)))?;
        firsts.push(started.elapsed());
    }
    println!("{}", Times::new(firsts).row("the first of a network, which brings bridge and dnsmasq"));
    let last = ON_ONE_HOST - 1;
    make_instance(lab, "probe", last)?;
    let mut times = Vec::new();
    for _ in 0..ATTACHES {
        let started = Instant::now();
        ask(lab, &attach_request("probe", &name(last)))?;
        times.push(started.elapsed());
        ask(lab, &detach_request("probe", &name(last)))?;
    }
    println!("{}", Times::new(times).row("the second of the last network"));
    Ok(())
}

fn name(number: usize) -> String {
    format!("net{number}")
}

fn make_network(lab: &Lab, number: usize) -> Result<()> {
    let new = NewNetwork {
        name: name(number),
        network_type: Some("flat_dhcp".to_owned()),
        cidr: Some(format!("10.1.{number}.0/24")),
        bridge: Some(format!("brn{number}")),
        ..NewNetwork::default()
    };
    lab.ask(lab.client()?.create_networks(&new)).map(drop)
}

fn make_instance(lab: &Lab, instance: &str, number: usize) -> Result<()> {
    let new = NewInstance {
        name: instance.to_owned(),
        project: Some("demo".to_owned()),
        interfaces: Some(vec![NewInterface { network: name(number), ..NewInterface::default() }]),
        ..NewInstance::default()
    };
    lab.ask(lab.client()?.create_instance(&new)).map(drop)
}
