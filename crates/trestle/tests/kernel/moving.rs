//! Moving an instance to another host: address, MAC, lease and router stay.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use trestle_lab::{Lab, Lease, Plug, VmOptions, until};

use crate::cloud::{
    BRIDGE, DEADLINE, INTERNET, NETWORK, Pinger, Watch, create, empty_cloud, everything, guest_on, has_link,
    leaves_as, link, lost_in, public_network, refusal,
};

/// An emulated machine, where others want the processors too.
const BOOT: Duration = Duration::from_secs(60);

/// A lab of three hosts with a multi-host network and an observer on the third.
fn stage() -> Result<(Lab, String)> {
    let lab = empty_cloud(3)?;
    public_network(&lab, &["--cidr", "10.0.0.0/24"])?;
    let observer = guest_on(&lab, "host3", "observer")?;
    Ok((lab, observer.node))
}

#[test]
fn a_container_keeps_what_it_has_on_another_host() -> Result<()> {
    let (lab, observer) = stage()?;
    let before = everything(&lab, "host1")?;
    let web = guest_on(&lab, "host1", "web")?;
    let pinger = Pinger::start_every(&lab, "0.01", &observer, "10.0.0.3")?;
    lab.cli_ok(&["instance", "move", "web", "--to", "host2"])?;
    // Its eth0 went with the device and came with the new one; it asks for its address again.
    lab.exec_ok(&web.node, &["ip", "link", "set", "eth0", "up"])?;
    let lease = lab.dhcp(&web.node)?;
    pinger.wait_for_more(20)?;
    println!("a container moved: {} pings of 10 ms were lost", pinger.lost()?);

    ensure!(lease == web.lease, "it was told {lease:?}, before {:?}", web.lease);
    let mac = link(&lab, &web.node, "eth0")?["address"].clone();
    ensure!(mac == web.attached.mac.to_string(), "its MAC is {mac}");
    leaves_as(&lab, &web.node, "203.0.113.12")?;
    ensure!(everything(&lab, "host1")? == before, "something is left on host1");
    let complaint = refusal(&lab, &["instance", "move", "web", "--to", "host2"])?;
    ensure!(complaint.contains("on host `host2` already"), "{complaint}");
    Ok(())
}

#[test]
fn what_was_prepared_is_beside_the_guest_until_it_is_cancelled_or_switched_to() -> Result<()> {
    let (lab, observer) = stage()?;
    let web = guest_on(&lab, "host1", "web")?;
    let before = [everything(&lab, "host1")?, everything(&lab, "host2")?];
    lab.exec_ok("controller", &["ip", "netns", "add", "next"])?;
    let pingers = [Pinger::start(&lab, &observer, "10.0.0.3")?, Pinger::start(&lab, &web.node, INTERNET)?];
    let prepare = ["instance", "move", "web", "--to", "host2", "--prepare", "--netns", "next"];
    let device = web.attached.device.as_str();
    for _ in 0..2 {
        lab.cli_ok(&prepare)?;
        ensure!(link(&lab, "host2", device)?["master"] == BRIDGE, "its device stands on host2");
        ensure!(has_link(&lab, "next", "eth0")?, "the guest's end, too");
        let places = lab.exec_ok("host2", &["bridge", "fdb", "show", "br", BRIDGE])?;
        let mac = web.attached.mac.to_string();
        let is_held = |line: &str| line.starts_with(&mac) && line.contains(device) && line.contains("static");
        ensure!(!places.lines().any(is_held), "it is reached where it was:\n{places}");
        for pinger in &pingers {
            pinger.wait_for_more(20)?;
        }
        lab.cli_ok(&["instance", "move", "web", "--cancel"])?;
        ensure!(everything(&lab, "host2")? == before[1], "host2 has nothing of it");
        ensure!(everything(&lab, "host1")? == before[0], "host1 has all of it");
    }
    for pinger in pingers {
        pinger.lost_nothing()?;
    }

    lab.cli_ok(&prepare)?;
    lab.cli_ok(&["instance", "move", "web", "--switch"])?;
    ensure!(!has_link(&lab, "host1", BRIDGE)?, "something is left on host1");
    lab.exec_ok("next", &["ip", "link", "set", "eth0", "up"])?;
    ensure!(lab.dhcp("next")? == web.lease, "the guest's successor is told the same");
    leaves_as(&lab, "next", "203.0.113.12")
}

#[test]
fn a_running_virtual_machine_moves() -> Result<()> {
    let (lab, observer) = stage()?;
    let before = everything(&lab, "host1")?;
    create(&lab, "vm")?;
    let attached = lab.attach("host1", "vm", NETWORK, Plug::Tap)?;
    let socket = |name: &str| lab.folder().join(name).to_string_lossy().into_owned();
    let on = |host: &str, more: &[String]| VmOptions {
        qemu_arguments: [
            &["-qmp".into(), format!("unix:{},server=on,wait=off", socket(&format!("qmp-{host}")))],
            more,
        ]
        .concat(),
        ..VmOptions::new(host, "vm", NETWORK)
    };
    let mut source = lab.boot_attached(&on("host1", &[]), attached.clone())?;
    let lease = source.lease(BOOT)?;
    source.run(&format!("ping -i 0.1 {INTERNET} >/tmp/pings &"), BOOT)?;
    let pinger = Pinger::start_every(&lab, "0.01", &observer, "10.0.0.3")?;

    lab.cli_ok(&["instance", "move", "vm", "--to", "host2", "--prepare"])?;
    let incoming = format!("unix:{}", socket("migration"));
    let mut target = lab.boot_attached(&on("host2", &["-incoming".into(), incoming.clone()]), attached)?;
    Monitor::connect(&socket("qmp-host2"))?;
    let mut monitor = Monitor::connect(&socket("qmp-host1"))?;
    monitor.ask("migrate", &json!({ "uri": incoming }))?;
    until("the memory is copied", BOOT, || {
        let state = monitor.ask("query-migrate", &json!({}))?;
        ensure!(state["status"] != "failed", "the migration failed: {state}");
        Ok((state["status"] == "completed").then_some(()))
    })?;
    lab.cli_ok(&["instance", "move", "vm", "--switch"])?;
    pinger.wait_for_more(20)?;
    let outside = Watch::start(&lab, "outside", "eth0", "icmp[icmptype] == icmp-echo")?;
    outside.wait_for(&format!("203.0.113.12 > {INTERNET}"))?;
    target.take_over(source);
    let told = target.run("killall -INT ping; usleep 100000; tail -n 2 /tmp/pings", BOOT)?;
    let (to_it, from_it) = (pinger.lost()?, lost_in(&told)?);
    println!(
        "a virtual machine moved: {to_it} pings of 10 ms to it and {from_it} of 100 ms from it were lost"
    );
    ensure!(to_it < 300 && from_it < 30, "{to_it} pings of 10 ms, {from_it} of 100 ms were lost");

    until("host1 has nothing of it", DEADLINE, || Ok((everything(&lab, "host1")? == before).then_some(())))?;
    let told = target.run("udhcpc -f -q -n -i eth0 -O mtu -O domain -O hostname -s /lease.sh", BOOT)?;
    let renewed = Lease::find(&told).context(told)?;
    ensure!(renewed == lease, "it was told {renewed:?}, before {lease:?}");
    Ok(())
}

/// QEMU's own way to be told what to do (its docs/interop/qmp-spec).
struct Monitor(BufReader<UnixStream>);

impl Monitor {
    fn connect(socket: &str) -> Result<Self> {
        let stream = until("QEMU listens", DEADLINE, || Ok(UnixStream::connect(Path::new(socket)).ok()))?;
        let mut monitor = Self(BufReader::new(stream));
        monitor.ask("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    fn ask(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        writeln!(self.0.get_mut(), "{}", json!({ "execute": command, "arguments": arguments }))?;
        loop {
            let mut line = String::new();
            ensure!(self.0.read_line(&mut line)? > 0, "QEMU hung up on `{command}`");
            let mut said: Value = serde_json::from_str(&line).context(line)?;
            if said.get("error").is_some() {
                bail!("QEMU refused `{command}`: {said}");
            }
            // Greetings and events come in between.
            if said.get("return").is_some() {
                return Ok(said["return"].take());
            }
        }
    }
}
