//! The demo: from an empty lab to instances that reach the world, told step by step.

use std::io::Write;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use trestle_api::{NewInstance, NewInterface, NewNetwork, NewProject};

use crate::guest::NetnsGuest;
use crate::lab::{Lab, Programs};
use crate::topology::{INTERNET, INTERNET_NAME, Topology};
use crate::up::invitation;
use crate::vm::{Vm, VmOptions};

const PROJECT: &str = "demo";
const NETWORK: &str = "public";
const DOMAIN: &str = "trestle.internal";
/// The instance that is a network namespace.
const WEB: &str = "web1";
/// The instance that is a virtual machine.
const VM: &str = "vm1";
/// Debian's user `nobody`: QEMU needs no privilege.
const NOBODY: u32 = 65534;
/// How long an emulated machine may take to boot, on a slow and busy machine.
const BOOT: Duration = Duration::from_secs(120);

/// How to show it.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// The lab's name.
    pub name: String,
    /// How many hosts.
    pub hosts: u8,
    /// End when all is shown, instead of waiting for Ctrl-C.
    pub once: bool,
}

/// Shows it, a line for each step; then waits for Ctrl-C, unless told not to, and removes
/// everything.
///
/// # Errors
/// The first step that failed, with the last lines of the logs.
pub fn run(options: &DemoOptions, programs: &Programs, out: &mut dyn Write) -> Result<()> {
    let mut story = Story { out, started: Instant::now() };
    let topology = Topology::new(&options.name, options.hosts);
    story.say("a whole cloud on this machine: namespaces as hosts, nothing outside of them is touched\n")?;
    let lab = story.step("start the lab", || {
        let lab = Lab::up(&topology, programs)?;
        let hosts = lab.running().hosts.join(", ");
        Ok((format!("controller on SQLite, agents on {hosts}, and `outside` beyond them"), lab))
    })?;
    let told = tell(&lab, &mut story);
    if told.is_err() {
        story.say(&format!("\n{}", lab.logs()))?;
    }
    let _guests = told?;
    let seconds = story.started.elapsed().as_secs_f32();
    story.say(&format!("\neverything worked, in {seconds:.1} s\n"))?;
    if !options.once {
        let from_web = format!("lab exec --lab {} vm-{WEB} -- ping -c 3 {INTERNET}", options.name);
        story.say(&invitation(&lab, &["instance list", "events", &from_web]))?;
        lab.wait_for_end()?;
    }
    story.step("remove everything", || {
        Ok((format!("{} and all that ran in it", lab.folder().display()), drop(lab)))
    })
}

/// What must stay for the guests to go on.
struct Guests {
    _web: NetnsGuest,
    _vm: Vm,
}

fn tell(lab: &Lab, story: &mut Story<'_>) -> Result<Guests> {
    make(lab, story)?;
    let web = story.step("plug in web1, a network namespace", || {
        let guest = lab.guest_netns("host1", WEB, NETWORK)?;
        let (lease, attached) = (&guest.lease, &guest.attached);
        let told = format!(
            "{} on {}, {} from the DHCP server {}",
            attached.device, attached.bridge, lease.address, lease.server
        );
        expect(&lease.address, attached.addresses.first())?;
        Ok((told, guest))
    })?;
    let options = VmOptions {
        ping: vec![INTERNET],
        user: Some(NOBODY),
        resolve: vec![format!("{WEB}.{DOMAIN}"), INTERNET_NAME.into()],
        ..VmOptions::new("host1", VM, NETWORK)
    };
    let mut vm = story.step("plug in vm1 and start QEMU, as nobody", || {
        let vm = lab.boot_vm(&options)?;
        Ok((format!("tap {}, MAC {}", vm.attached.device, vm.attached.mac), vm))
    })?;
    let vm_address = boot(&mut vm, story)?;
    reach(lab, &mut vm, &web, vm_address, story)?;
    Ok(Guests { _web: web, _vm: vm })
}

fn make(lab: &Lab, story: &mut Story<'_>) -> Result<()> {
    let client = lab.client()?;
    story.step("create a project", || {
        let project = lab.ask(client.create_project(&NewProject { name: PROJECT.into() }))?;
        Ok((project.name.to_string(), ()))
    })?;
    story.step("create a network", || {
        let network = NewNetwork {
            name: NETWORK.into(),
            network_type: Some("flat_dhcp".into()),
            cidr: Some("10.0.0.0/24".into()),
            bridge: Some("br100".into()),
            domain: Some(DOMAIN.into()),
            ..NewNetwork::default()
        };
        let made = lab.ask(client.create_networks(&network))?;
        let network = made.items.first().context("no network was made")?;
        let subnet = network.ipv4.as_ref().context("the network has no IPv4 range")?;
        Ok((format!("{}, {} on {}", network.name, subnet.cidr, network.bridge), ()))
    })?;
    for name in [WEB, VM] {
        story.step("create an instance", || {
            let interface = NewInterface { network: NETWORK.into(), ..NewInterface::default() };
            let instance = NewInstance {
                name: name.into(),
                project: Some(PROJECT.into()),
                interfaces: Some(vec![interface]),
                ..NewInstance::default()
            };
            let instance = lab.ask(client.create_instance(&instance))?;
            let interface = instance.interfaces.first().context("the instance has no interface")?;
            let address = interface.addresses.first().context("the interface has no address")?;
            Ok((format!("{}, {address} for {}", instance.name, interface.mac), ()))
        })?;
    }
    Ok(())
}

fn boot(vm: &mut Vm, story: &mut Story<'_>) -> Result<Ipv4Addr> {
    let address = story.step("vm1 boots and asks for its address", || {
        let lease = vm.lease(BOOT)?;
        expect(&lease.address, vm.attached.addresses.first())?;
        let told = format!(
            "{}, router {}, MTU {}, host name {}",
            lease.address, lease.router, lease.mtu, lease.hostname
        );
        let (address, _) = lease.address.split_once('/').context("an address without prefix length")?;
        Ok((told, address.parse().context("reading the guest's address")?))
    })?;
    let router = vm.attached.gateways.first().copied().context("the guest has no router")?;
    for line in [
        format!("GUEST ping {router}"),
        format!("GUEST ping {INTERNET}"),
        format!("GUEST resolve {WEB}.{DOMAIN}"),
        format!("GUEST resolve {INTERNET_NAME}"),
    ] {
        let what = line.replace("GUEST ", "vm1: ").replace("ping", "pings").replace("resolve", "resolves");
        story.step(&what, || {
            let said = vm.wait_for(&line, BOOT)?;
            if said.ends_with(" ok") {
                Ok(("ok".into(), ()))
            } else {
                bail!("the virtual machine says: {said}")
            }
        })?;
    }
    Ok(address)
}

fn reach(
    lab: &Lab,
    vm: &mut Vm,
    web: &NetnsGuest,
    vm_address: Ipv4Addr,
    story: &mut Story<'_>,
) -> Result<()> {
    let vm_text = vm_address.to_string();
    let internet = INTERNET.to_string();
    for (what, node, target) in [
        ("host1 pings vm1", "host1", &vm_text),
        ("web1 pings vm1", web.node.as_str(), &vm_text),
        ("web1 pings the internet, translated", web.node.as_str(), &internet),
    ] {
        story
            .step(what, || Ok((pinged(&lab.exec_ok(node, &["ping", "-c", "1", "-W", "5", target])?), ())))?;
    }
    story.step("vm1 looks up its own name", || {
        let name = format!("{VM}.{DOMAIN}");
        let said = vm.run(&format!("nslookup -type=a {name}"), BOOT)?;
        if said.contains(&vm_text) {
            Ok((format!("{name} is {vm_address}"), ()))
        } else {
            bail!("it found: {said}")
        }
    })
}

/// The kernel and the server say the same address.
fn expect(got: &str, wanted: Option<&String>) -> Result<()> {
    match wanted {
        Some(wanted) if got == wanted => Ok(()),
        _ => bail!("the guest got {got}, but its address is {}", wanted.map_or("none", String::as_str)),
    }
}

/// The round trip in what ping printed.
fn pinged(output: &str) -> String {
    let line = output.lines().find(|line| line.contains("time=")).unwrap_or_default();
    line.split_once(": ").map_or(line, |(_, rest)| rest).to_owned()
}

/// Tells each step with the time it took.
struct Story<'a> {
    out: &'a mut dyn Write,
    started: Instant,
}

impl Story<'_> {
    fn say(&mut self, text: &str) -> Result<()> {
        writeln!(self.out, "{text}").context("writing to the terminal")
    }

    /// Says what is being done, does it, says what came of it and how long it took.
    fn step<T>(&mut self, what: &str, act: impl FnOnce() -> Result<(String, T)>) -> Result<T> {
        write!(self.out, "{what:<48} ").context("writing to the terminal")?;
        self.out.flush().context("writing to the terminal")?;
        let started = Instant::now();
        let done = act();
        let milliseconds = started.elapsed().as_millis();
        let outcome = match &done {
            Ok((outcome, _)) => outcome.as_str(),
            Err(_) => "failed",
        };
        self.say(&format!("{milliseconds:>6} ms  {outcome}"))?;
        Ok(done.with_context(|| format!("the step `{what}` failed"))?.1)
    }
}
