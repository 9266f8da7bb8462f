//! One more instance on a host that has many: from the call on the agent's socket to the answer
//! that the device is ready, with its guard and its DHCP entry.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use trestle_api::local::{LocalReply, LocalRequest, call};
use trestle_api::{NewInstance, NewInterface, PlugRequest};
use trestle_lab::{Lab, Topology};

use crate::times::{Times, head};
use crate::{HOST, NETWORK, cloud};

const RUNS: usize = 100;

pub(crate) fn run() -> Result<()> {
    let lab = cloud(&Topology::for_test(1))?;
    head("attach, from the call to the device ready");
    let mut there = 0;
    for count in [1, 2, 100, 1000] {
        fill(&lab, there, count - 1)?;
        there = count - 1;
        create(&lab, "probe")?;
        let mut times = Vec::new();
        for _ in 0..RUNS {
            let started = Instant::now();
            ask(&lab, &attach_request("probe", NETWORK))?;
            times.push(started.elapsed());
            ask(&lab, &detach_request("probe", NETWORK))?;
        }
        let what = match count {
            1 => "the first on the host, which brings bridge, tables and dnsmasq".to_owned(),
            _ => format!("the one that makes {count} on the host"),
        };
        println!("{}", Times::new(times).row(&what));
        lab.cli_ok(&["instance", "delete", "probe", "--project", "demo", "--yes"])?;
    }
    Ok(())
}

/// Creates and attaches instances `vmN` for this range of numbers.
pub(crate) fn fill(lab: &Lab, from: usize, to: usize) -> Result<()> {
    for number in from..to {
        create(lab, &format!("vm{number}"))?;
        ask(lab, &attach_request(&format!("vm{number}"), NETWORK))?;
    }
    Ok(())
}

pub(crate) fn create(lab: &Lab, name: &str) -> Result<()> {
    let client = lab.client()?;
    lab.ask(client.create_instance(&new_instance(name))).map(drop)
}

pub(crate) fn new_instance(name: &str) -> NewInstance {
    NewInstance {
        name: name.to_owned(),
        project: Some("demo".to_owned()),
        interfaces: Some(vec![NewInterface { network: NETWORK.to_owned(), ..NewInterface::default() }]),
        ..NewInstance::default()
    }
}

pub(crate) fn attach_request(name: &str, network: &str) -> LocalRequest {
    LocalRequest::Attach {
        instance: name.to_owned(),
        project: None,
        network: Some(network.to_owned()),
        plug: PlugRequest::default(),
    }
}

pub(crate) fn detach_request(name: &str, network: &str) -> LocalRequest {
    LocalRequest::Detach { instance: name.to_owned(), project: None, network: Some(network.to_owned()) }
}

/// Asks the agent; an error is an error.
pub(crate) fn ask(lab: &Lab, request: &LocalRequest) -> Result<LocalReply> {
    let socket: &Path = lab.agent(HOST)?.socket();
    match lab.ask(call(socket, request))? {
        LocalReply::Error(error) => bail!("{error}"),
        reply => Ok(reply),
    }
}

/// Long enough for anything that is measured here.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);
