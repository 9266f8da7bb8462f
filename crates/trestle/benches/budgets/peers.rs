//! The same job by others in the same run: a namespace plugged into a bridge with an address, by
//! the CNI `bridge` plugin with `host-local`, and by netavark.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use trestle_lab::{Lab, Node, Plug, Topology};

use crate::times::{Times, head};
use crate::{HOST, NETWORK, cloud};

const RUNS: usize = 50;
const CNI: &str = r#"{"cniVersion":"1.0.0","name":"bench","type":"bridge","bridge":"cni0","isGateway":true,"ipMasq":true,
  "ipam":{"type":"host-local","dataDir":"/run/cni-bench","subnet":"10.77.0.0/16"}}"#;

pub(crate) fn run() -> Result<()> {
    let lab = cloud(&Topology::for_test(1))?;
    head("plugging a namespace in, whole command from outside");
    println!("{}", measure(&lab, |name| trestle(&lab, name))?.row("trestle attach --netns"));
    println!("{}", measure(&lab, |name| cni(&lab, name))?.row("CNI bridge plugin"));
    println!("{}", measure(&lab, |name| netavark(&lab, name))?.row("netavark setup"));
    Ok(())
}

/// Times one call per new namespace.
fn measure(lab: &Lab, call: impl Fn(&str) -> Result<()>) -> Result<Times> {
    let mut times = Vec::new();
    for number in 0..RUNS {
        let name = format!("ns{number}");
        lab.exec_ok("controller", &["ip", "netns", "add", &name])?;
        crate::attach::create(lab, &name)?;
        let started = Instant::now();
        call(&name)?;
        times.push(started.elapsed());
    }
    for number in 0..RUNS {
        let name = format!("ns{number}");
        lab.cli_ok(&["instance", "delete", &name, "--project", "demo", "--yes"])?;
        lab.exec_ok("controller", &["ip", "netns", "delete", &name])?;
    }
    Ok(Times::new(times))
}

fn trestle(lab: &Lab, name: &str) -> Result<()> {
    lab.attach(HOST, name, NETWORK, Plug::Netns { name }).map(drop)
}

fn cni(lab: &Lab, name: &str) -> Result<()> {
    let netns = format!("CNI_NETNS=/run/netns/{name}");
    let container = format!("CNI_CONTAINERID={name}");
    let env = ["env", "CNI_COMMAND=ADD", "CNI_IFNAME=eth0", "CNI_PATH=/usr/lib/cni", &netns, &container];
    with_input(lab, &[&env[..], &["/usr/lib/cni/bridge"]].concat(), CNI)
}

fn netavark(lab: &Lab, name: &str) -> Result<()> {
    let number: u32 = name.trim_start_matches("ns").parse().context("the namespace's number")?;
    let address = format!("10.78.{}.{}", number / 250, number % 250 + 2);
    let options = format!(
        r#"{{"container_id":"{name:0>64}","container_name":"{name}","networks":{{"bench":{{"interface_name":"eth0","static_ips":["{address}"]}}}},
        "network_info":{{"bench":{{"name":"bench","id":"{:0>64}","driver":"bridge","network_interface":"nv0","internal":false,"ipv6_enabled":false,"dns_enabled":false,
        "subnets":[{{"subnet":"10.78.0.0/16","gateway":"10.78.0.1"}}],"ipam_options":{{"driver":"host-local"}}}}}}}}"#,
        "b"
    );
    let path = format!("/run/netns/{name}");
    with_input(lab, &["/usr/lib/podman/netavark", "--config", "/run", "setup", &path], &options)
}

fn with_input(lab: &Lab, argv: &[&str], input: &str) -> Result<()> {
    let mut command: Command = lab.running().command(Node::Named(HOST), argv);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("no input")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!(
            "{argv:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
