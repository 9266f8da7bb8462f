//! Cloudpipe: people outside come into their project's network, with the clients that they have and what
//! `trestle vpn user add` printed, and reach nothing else.
//!
//! Each client is a namespace of its own behind the router that the hosts' public segment has.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::NamedTempFile;
use trestle_lab::{Lab, NetnsGuest, Process, Topology, until};

use crate::cloud::{
    DEADLINE, Pinger, create_on, empty_cloud_with, everything, no_ping, ping, refusal, told, wait_until_whole,
};
use crate::vm::where_vlans_are;

/// A host's own address on the public segment.
const HOST1: &str = "203.0.113.11";
/// A client that hears nothing asks anew after 15 seconds, and may have to ask more than once.
const COMING_BACK: Duration = Duration::from_secs(60);
const POOL: &str = "203.0.113.100-203.0.113.199";

/// A project's network, as the VPN's clients see it.
struct Tenant {
    project: &'static str,
    network: String,
    guest: NetnsGuest,
    address: String,
    gateway: String,
}

/// A lab of so many hosts with a pool.
fn stage(hosts: u8) -> Result<Lab> {
    stage_with(hosts, &Topology::for_test(hosts))
}

fn stage_with(hosts: u8, topology: &Topology) -> Result<Lab> {
    let lab = empty_cloud_with(topology)?;
    lab.cli_ok(&["pool", "create", "ext", "--range", POOL])?;
    for host in ["host1", "host2"].iter().take(hosts.into()) {
        lab.cli_ok(&["host", "set", host, "--flat-interface", ""])?;
    }
    lab.exec_ok("outside", &["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"])?;
    Ok(lab)
}

/// A project with a Flat DHCP network of its own, of which host1 is the gateway, and a guest on this host.
fn tenant(lab: &Lab, (project, number): (&'static str, u8), host: &str) -> Result<Tenant> {
    lab.open_project(project)?;
    let (network, bridge) = (format!("{project}-net"), format!("br20{number}"));
    let cidr = format!("10.{number}.0.0/24");
    let create = ["network", "create", &network, "--type", "flat_dhcp", "--bridge", &bridge, "--cidr", &cidr];
    let mode = ["--project", project, "--single-host", "--gateway-host", "host1"];
    // A device can be in one bridge only.
    let device = format!("eth{number}");
    lab.cli_ok(&[&create[..], &mode[..], &["--bridge-interface", &device]].concat())?;
    tenant_on(lab, project, network, host)
}

/// The same of a network that there is.
fn tenant_on(lab: &Lab, project: &'static str, network: String, host: &str) -> Result<Tenant> {
    let instance = format!("{project}-web");
    create_on(lab, project, &instance, &[&network])?;
    let guest = lab.guest_netns(host, &instance, &network)?;
    let address = guest.lease.address.split('/').next().unwrap_or_default().to_owned();
    let gateway = guest.lease.router.clone();
    Ok(Tenant { project, network, guest, address, gateway })
}

/// Two projects with a VLAN each.
fn vlan_tenants(lab: &Lab) -> Result<[Tenant; 2]> {
    let networks = ["network", "create", "tenants", "--cidr", "10.1.0.0/20", "--num-networks", "2"];
    let more = ["--network-size", "256", "--vlan-start", "101", "--single-host", "--gateway-host", "host1"];
    lab.cli_ok(&[&networks[..], &more[..]].concat())?;
    for project in ["alpha", "beta"] {
        lab.open_project(project)?;
    }
    let tenant = |project, network: &str| tenant_on(lab, project, network.to_owned(), "host1");
    Ok([tenant("alpha", "tenants-0")?, tenant("beta", "tenants-1")?])
}

/// Somebody outside.
struct Person<'a> {
    lab: &'a Lab,
    name: &'static str,
    client: Option<Process>,
    config: String,
}

impl<'a> Person<'a> {
    /// In a network of this number of their own.
    fn new(lab: &'a Lab, name: &'static str, number: u8) -> Result<Self> {
        lab.exec_ok("controller", &["ip", "netns", "add", name])?;
        let cable = format!("to-{number}");
        let link = ["ip", "link", "add", "eth0", "netns", name, "type", "veth", "peer", &cable, "netns"];
        lab.exec_ok("controller", &[&link[..], &["outside"]].concat())?;
        let net = format!("192.0.2.{}", 16 * number);
        let (router, own) = (format!("192.0.2.{}", 16 * number + 1), format!("192.0.2.{}", 16 * number + 2));
        let script = format!(
            "ip link set lo up; ip link set eth0 up; ip address add {own}/28 dev eth0; \
             ip route add default via {router}"
        );
        lab.exec_ok(name, &["sh", "-ec", &script])?;
        let script = format!("ip link set {cable} up; ip address add {router}/28 dev {cable}; : {net}");
        lab.exec_ok("outside", &["sh", "-ec", &script])?;
        Ok(Self { lab, name, client: None, config: String::new() })
    }

    /// Is let in by this project's VPN.
    fn let_in_by(mut self, project: &str) -> Result<Self> {
        self.config = self.lab.cli_ok(&["vpn", "user", "add", self.name, "--project", project])?;
        Ok(self)
    }

    fn file(&self) -> String {
        self.lab.folder().join(format!("{}.ovpn", self.name)).display().to_string()
    }

    /// Starts the client with what was printed and nothing else.
    fn starts(&mut self) -> Result<()> {
        std::fs::write(self.file(), &self.config)?;
        self.client = Some(self.lab.spawn(self.name, &["openvpn", "--config", &self.file()])?);
        Ok(())
    }

    fn connects(&mut self) -> Result<()> {
        self.starts()?;
        until(&format!("{} is connected", self.name), DEADLINE, || {
            Ok(self.said()?.contains("Initialization Sequence Completed").then_some(()))
        })
        .with_context(|| self.said().unwrap_or_default())
    }

    fn said(&self) -> Result<String> {
        self.client.as_ref().context("a client that was started")?.output()
    }

    fn has_ended(&mut self) -> Result<()> {
        let client = self.client.as_mut().context("a client that was started")?;
        until("the client ends", DEADLINE, || Ok(client.must_run().is_err().then_some(())))
    }

    fn reaches(&self, address: &str) -> Result<()> {
        until(&format!("{} reaches {address}", self.name), COMING_BACK, || {
            let pinged = self.lab.exec(self.name, &["ping", "-n", "-c", "1", "-W", "1", address])?;
            Ok(pinged.status.success().then_some(()))
        })
    }

    /// Not by the tunnel, whatever else there is.
    fn does_not_reach(&self, address: &str) -> Result<()> {
        let ping = ["ping", "-n", "-c", "2", "-i", "0.2", "-W", "1", "-I", "tun0", address];
        let pinged = self.lab.exec(self.name, &ping)?;
        ensure!(!pinged.status.success(), "{} reaches {address}: {pinged:?}", self.name);
        Ok(())
    }
}

/// Something in a guest that answers on TCP port 7000 with a word.
fn answers(lab: &Lab, tenant: &Tenant) -> Result<Process> {
    let script = format!("exec busybox nc -ll -p 7000 -e echo {}", tenant.project);
    let server = lab.spawn(&tenant.guest.node, &["sh", "-c", &script])?;
    until("it listens", DEADLINE, || {
        let listening = lab.exec_ok(&tenant.guest.node, &["ss", "-Hltn", "sport = :7000"])?;
        Ok((!listening.trim().is_empty()).then_some(()))
    })?;
    Ok(server)
}

fn word(lab: &Lab, from: &str, address: &str) -> Result<String> {
    let script = format!("busybox timeout 5 busybox nc {address} 7000 </dev/null | head -n 1");
    Ok(lab.exec_ok(from, &["sh", "-c", &script])?.trim().to_owned())
}

/// The process ids of the servers of VPNs on a host.
fn servers(lab: &Lab, host: &str) -> Result<Vec<String>> {
    let folder = format!("openvpn --cd {}/", lab.running().agent_dir(host).display());
    let found = lab.exec("controller", &["pgrep", "-f", &folder])?;
    Ok(String::from_utf8_lossy(&found.stdout).lines().map(str::to_owned).collect())
}

/// Where a floating IP was, it is remembered for a while that it has left.
fn lasting(seen: &str) -> String {
    seen.lines().filter(|line| !line.contains("timeout 2m")).collect()
}

fn users(lab: &Lab, project: &str) -> Result<Vec<Value>> {
    let listed = told(lab, &["vpn", "user", "list", "--project", project])?;
    listed["items"].as_array().cloned().context("a list of users")
}

/// The users of a project that are connected.
fn connected(lab: &Lab, project: &str) -> Result<Vec<String>> {
    let users = users(lab, project)?;
    let connected = users.iter().filter(|user| user["connection"]["received_bytes"].as_u64() > Some(0));
    Ok(connected.filter_map(|user| user["name"].as_str().map(str::to_owned)).collect())
}

/// Two projects with two users each, all of them connected; what is to be true of them.
fn people_reach_their_own(lab: &Lab, [alpha, beta]: &[Tenant; 2]) -> Result<()> {
    let _servers = [answers(lab, alpha)?, answers(lab, beta)?];
    for tenant in [alpha, beta] {
        lab.cli_ok(&["vpn", "create", "--project", tenant.project])?;
    }
    let person = |name, number, project| Person::new(lab, name, number)?.let_in_by(project);
    let mut alice = person("alice", 1, alpha.project)?;
    let mut bob = person("bob", 2, alpha.project)?;
    let mut carol = person("carol", 3, beta.project)?;
    let mut dave = person("dave", 4, beta.project)?;
    for person in [&mut alice, &mut bob, &mut carol, &mut dave] {
        person.connects()?;
    }
    for (people, own, other) in [([&alice, &bob], alpha, beta), ([&carol, &dave], beta, alpha)] {
        for person in people {
            person.reaches(&own.address)?;
            ensure!(word(lab, person.name, &own.address)? == own.project, "by TCP too");
            person.does_not_reach(&other.address)?;
            person.does_not_reach(HOST1)?;
        }
    }
    // The instances reach them, too, whom their groups let in; so names are resolved.
    let address = users(lab, alpha.project)?[0]["address"].as_str().context("an address")?.to_owned();
    ping(lab, &alpha.guest.node, &address)?;
    let asked =
        lab.exec_ok("alice", &["busybox", "nslookup", "alpha-web.trestle.internal", &alpha.gateway])?;
    ensure!(asked.contains(&alpha.address), "{asked}");
    until("both are seen", DEADLINE, || {
        Ok((connected(lab, alpha.project)? == ["alice", "bob"]).then_some(()))
    })?;

    let pinger = Pinger::start_every(lab, "0.05", "bob", &alpha.address)?;
    lab.cli_ok(&["vpn", "user", "revoke", "alice", "--project", alpha.project])?;
    alice.has_ended()?;
    pinger.wait_for_more(20)?;
    pinger.lost_nothing()?;
    alice.starts()?;
    alice.has_ended()?;
    ensure!(alice.said()?.contains("AUTH_FAILED"), "{}", alice.said()?);
    until("one is seen", DEADLINE, || Ok((connected(lab, alpha.project)? == ["bob"]).then_some(())))
}

#[test]
fn people_reach_their_project_and_nothing_else() -> Result<()> {
    let lab = stage(1)?;
    let tenants = [tenant(&lab, ("alpha", 1), "host1")?, tenant(&lab, ("beta", 2), "host1")?];
    let before = everything(&lab, "host1")?;
    people_reach_their_own(&lab, &tenants)?;
    let listed = told(&lab, &["instance", "list", "--project", "alpha"])?;
    let has =
        |name: &str| listed["items"].as_array().is_some_and(|all| all.iter().any(|one| one["name"] == name));
    ensure!(has("alpha-vpn"), "{listed}");
    let said = refusal(&lab, &["instance", "delete", "alpha-vpn", "--yes"])?;
    ensure!(said.contains("trestle vpn delete"), "{said}");

    for project in ["alpha", "beta"] {
        lab.cli_ok(&["vpn", "delete", "--project", project, "--yes"])?;
    }
    until("nothing is left of it", DEADLINE, || {
        Ok((lasting(&everything(&lab, "host1")?) == lasting(&before)).then_some(()))
    })?;
    ensure!(servers(&lab, "host1")?.is_empty());
    Ok(())
}

#[test]
fn people_reach_their_project_s_vlan_and_nothing_else() -> Result<()> {
    where_vlans_are(|| {
        let lab = stage(1)?;
        let tenants = vlan_tenants(&lab)?;
        people_reach_their_own(&lab, &tenants)?;
        let vpn = told(&lab, &["vpn", "show", "--project", "alpha"])?;
        ensure!(vpn["address"] == "10.1.0.2" && vpn["network"] == tenants[0].network, "{vpn}");
        Ok(())
    })
}

/// Whatever is killed, people go on, or are back by themselves.
#[test]
fn a_vpn_outlives_what_keeps_it() -> Result<()> {
    let lab = stage(1)?;
    let alpha = tenant(&lab, ("alpha", 1), "host1")?;
    lab.cli_ok(&["vpn", "create", "--project", "alpha"])?;
    let mut alice = Person::new(&lab, "alice", 1)?.let_in_by("alpha")?;
    alice.connects()?;
    alice.reaches(&alpha.address)?;
    // Without the agent and the controller nothing changes; nor when they are back.
    let pinger = Pinger::start_every(&lab, "0.05", "alice", &alpha.address)?;
    lab.agent("host1")?.kill9()?;
    lab.controller().kill9()?;
    pinger.wait_for_more(20)?;
    lab.controller().start()?;
    lab.agent("host1")?.start()?;
    wait_until_whole(&lab)?;
    pinger.wait_for_more(20)?;
    pinger.lost_nothing()?;

    // A server that hangs holds up nothing else on its host.
    let server = servers(&lab, "host1")?;
    ensure!(server.len() == 1, "{server:?}");
    lab.exec_ok("controller", &["kill", "-STOP", &server[0]])?;
    for instance in ["one", "two", "three"] {
        create_on(&lab, "alpha", instance, &[&alpha.network])?;
        lab.guest_netns("host1", instance, &alpha.network)?;
    }
    lab.exec_ok("controller", &["kill", "-CONT", &server[0]])?;
    alice.reaches(&alpha.address)?;

    lab.exec_ok("controller", &["kill", "-9", &server[0]])?;
    alice.reaches(&alpha.address)?;
    let now = servers(&lab, "host1")?;
    ensure!(now.len() == 1 && now != server, "{server:?} {now:?}");
    // The client was not started anew.
    alice.client.as_mut().context("a client")?.must_run()?;

    // A user who was revoked while the agent was away is cut as soon as it is back.
    lab.agent("host1")?.kill9()?;
    lab.cli_ok(&["vpn", "user", "revoke", "alice", "--project", "alpha"])?;
    lab.agent("host1")?.start()?;
    alice.has_ended()
}

#[test]
fn people_come_back_by_themselves_when_a_gateway_host_is_lost() -> Result<()> {
    let lab = stage(2)?;
    let alpha = tenant(&lab, ("alpha", 1), "host2")?;
    lab.cli_ok(&["vpn", "create", "--project", "alpha"])?;
    ensure!(told(&lab, &["vpn", "show", "--project", "alpha"])?["host"] == "host1");
    let mut alice = Person::new(&lab, "alice", 1)?.let_in_by("alpha")?;
    alice.connects()?;
    alice.reaches(&alpha.address)?;
    // The host is gone from one moment to the next.
    lab.agent("host1")?.kill9()?;
    for device in ["host1-0", "host1-1", "host1-2"] {
        lab.exec_ok("switch", &["ip", "link", "set", device, "down"])?;
    }
    lab.cli_ok(&["network", "set-gateway", "alpha-net", "host2"])?;
    alice.reaches(&alpha.address)?;
    ensure!(told(&lab, &["vpn", "show", "--project", "alpha"])?["host"] == "host2");
    alice.client.as_mut().context("a client")?.must_run()?;

    // And when it is moved with both there.
    for device in ["host1-0", "host1-1", "host1-2"] {
        lab.exec_ok("switch", &["ip", "link", "set", device, "up"])?;
    }
    lab.agent("host1")?.start()?;
    wait_until_whole(&lab)?;
    lab.cli_ok(&["network", "set-gateway", "alpha-net", "host1"])?;
    alice.reaches(&alpha.address)?;
    alice.client.as_mut().context("a client")?.must_run()?;
    until("host2 has nothing of it", DEADLINE, || Ok(servers(&lab, "host2")?.is_empty().then_some(())))
}

/// What a user may reach is what the groups of instances let in.
#[test]
fn security_groups_apply_to_people() -> Result<()> {
    let lab = stage(1)?;
    let alpha = tenant(&lab, ("alpha", 1), "host1")?;
    lab.cli_ok(&["vpn", "create", "--project", "alpha"])?;
    let mut alice = Person::new(&lab, "alice", 1)?.let_in_by("alpha")?;
    alice.connects()?;
    alice.reaches(&alpha.address)?;
    // No member of `default` any more.
    lab.cli_ok(&["instance", "interface", "set", "alpha-vpn", "alpha-net", "--security-group", "vpn"])?;
    until("alice is no member", DEADLINE, || Ok(no_ping(&lab, "alice", &alpha.address).is_ok().then_some(())))
}

impl Person<'_> {
    /// What a client of WireGuard does with the file, wg-quick(8), less its changes of name servers.
    fn connects_by_wireguard(&self) -> Result<()> {
        let file = self.lab.folder().join(format!("{}.conf", self.name)).display().to_string();
        std::fs::write(&file, &self.config)?;
        let script = format!(
            "says() {{ sed -n \"s/^$1 = //p\" {file}; }}; device=wg-{name}
             ip link add $device type wireguard 2>/dev/null || wireguard-go $device >/dev/null 2>&1
             grep -vE '^(Address|DNS|MTU) ' {file} | wg setconf $device /proc/self/fd/0
             ip address add $(says Address) dev $device
             ip link set $device up mtu $(says MTU)
             ip route add $(says AllowedIPs) dev $device",
            name = self.name
        );
        self.lab.exec_ok(self.name, &["sh", "-ec", &script]).map(drop)
    }

    fn is_cut_off(&self, address: &str) -> Result<()> {
        until(&format!("{} is cut off", self.name), DEADLINE, || {
            Ok(no_ping(self.lab, self.name, address).is_ok().then_some(()))
        })
    }
}

/// The same of WireGuard: the kernel's, or the program where it has none.
fn people_reach_their_own_by_wireguard(lab: &Lab, [alpha, beta]: &[Tenant; 2]) -> Result<()> {
    for tenant in [alpha, beta] {
        lab.cli_ok(&["vpn", "create", "--project", tenant.project, "--kind", "wireguard"])?;
    }
    let person = |name, number, project| Person::new(lab, name, number)?.let_in_by(project);
    let mut alice = person("alice", 1, alpha.project)?;
    let (bob, carol) = (person("bob", 2, alpha.project)?, person("carol", 3, beta.project)?);
    for (person, own, other) in [(&alice, alpha, beta), (&bob, alpha, beta), (&carol, beta, alpha)] {
        person.connects_by_wireguard()?;
        person.reaches(&own.address)?;
        no_ping(lab, person.name, &other.address)?;
    }
    until("both are seen", DEADLINE, || {
        Ok((connected(lab, alpha.project)? == ["alice", "bob"]).then_some(()))
    })?;
    let pinger = Pinger::start_every(lab, "0.05", "bob", &alpha.address)?;
    lab.cli_ok(&["vpn", "user", "revoke", "alice", "--project", alpha.project])?;
    alice.is_cut_off(&alpha.address)?;
    // Another agent finds everything as it is to be.
    lab.agent("host1")?.kill9()?;
    lab.agent("host1")?.start()?;
    wait_until_whole(lab)?;
    pinger.wait_for_more(20)?;
    pinger.lost_nothing()?;
    // Somebody's file is void with the next one, and that is good at once.
    let old = lab.cli_ok(&["vpn", "user", "add", "alice", "--project", alpha.project])?;
    alice.config = lab.cli_ok(&["vpn", "user", "renew", "alice", "--project", alpha.project])?;
    ensure!(old != alice.config);
    lab.exec_ok("alice", &["ip", "link", "delete", "wg-alice"])?;
    alice.connects_by_wireguard()?;
    alice.reaches(&alpha.address)?;
    for person in [&alice, &bob, &carol] {
        lab.exec_ok(person.name, &["ip", "link", "delete", &format!("wg-{}", person.name)])?;
    }
    Ok(())
}

#[test]
fn people_reach_their_project_by_wireguard_and_nothing_else() -> Result<()> {
    let lab = stage(1)?;
    let tenants = [tenant(&lab, ("alpha", 1), "host1")?, tenant(&lab, ("beta", 2), "host1")?];
    people_reach_their_own_by_wireguard(&lab, &tenants)?;
    for project in ["alpha", "beta"] {
        lab.cli_ok(&["vpn", "delete", "--project", project, "--yes"])?;
    }
    let has_tunnel = || lab.exec("controller", &["pgrep", "-f", "wireguard-go wg-[0-9a-f]{12}"]);
    until("no tunnel is left", DEADLINE, || Ok((!has_tunnel()?.status.success()).then_some(())))
}

#[test]
fn people_reach_their_project_s_vlan_by_wireguard_and_nothing_else() -> Result<()> {
    where_vlans_are(|| {
        let lab = stage(1)?;
        people_reach_their_own_by_wireguard(&lab, &vlan_tenants(&lab)?)
    })
}

#[test]
fn a_host_without_the_program_says_so_and_nothing_is_made() -> Result<()> {
    let lab = stage(1)?;
    let alpha = tenant(&lab, ("alpha", 1), "host1")?;
    let before = everything(&lab, "host1")?;
    // All of the folder but the one program, for what is started in this lab from now on.
    let script = "mkdir -p $0; mount --bind /usr/sbin $0; mount -t tmpfs none /usr/sbin
        for program in $0/*; do [ $program = $0/openvpn ] || ln -s $program /usr/sbin; done";
    let aside = lab.folder().join("sbin").display().to_string();
    lab.exec_ok("controller", &["sh", "-ec", script, &aside])?;
    lab.agent("host1")?.restart()?;
    wait_until_whole(&lab)?;
    let said = refusal(&lab, &["vpn", "create", "--project", "alpha"])?;
    ensure!(said.contains("openvpn is not installed on this host: install the package openvpn"), "{said}");
    ensure!(said.contains("nothing was made"), "{said}");
    ensure!(told(&lab, &["vpn", "list"])?["items"].as_array().is_some_and(Vec::is_empty));
    ensure!(told(&lab, &["floating-ip", "list"])?["items"].as_array().is_some_and(Vec::is_empty));
    until("nothing is left of it", DEADLINE, || {
        Ok((lasting(&everything(&lab, "host1")?) == lasting(&before)).then_some(()))
    })?;
    lab.exec_ok("controller", &["umount", "/usr/sbin"])?;
    lab.agent("host1")?.restart()?;
    wait_until_whole(&lab)?;
    lab.cli_ok(&["vpn", "create", "--project", "alpha"])?;
    let mut alice = Person::new(&lab, "alice", 1)?.let_in_by("alpha")?;
    alice.connects()?;
    alice.reaches(&alpha.address)
}

/// Where every host routes, a VPN is on one of them and leads to instances on all.
#[test]
fn a_vpn_leads_to_instances_on_every_host_and_moves_by_command() -> Result<()> {
    let lab = stage(2)?;
    lab.open_project("alpha")?;
    let create = ["network", "create", "alpha-net", "--type", "flat_dhcp", "--bridge", "br201"];
    let more = ["--cidr", "10.1.0.0/24", "--project", "alpha", "--bridge-interface", "eth1"];
    lab.cli_ok(&[&create[..], &more[..]].concat())?;
    let near = tenant_on(&lab, "alpha", "alpha-net".to_owned(), "host1")?;
    create_on(&lab, "alpha", "far", &["alpha-net"])?;
    let far = lab.guest_netns("host2", "far", "alpha-net")?;
    let far = far.lease.address.split('/').next().unwrap_or_default().to_owned();
    lab.cli_ok(&["vpn", "create", "--project", "alpha", "--host", "host1"])?;
    let mut alice = Person::new(&lab, "alice", 1)?.let_in_by("alpha")?;
    alice.connects()?;
    for host in ["host2", "host1"] {
        alice.reaches(&near.address)?;
        alice.reaches(&far)?;
        lab.cli_ok(&["vpn", "set", "--project", "alpha", "--host", host])?;
    }
    alice.reaches(&near.address)?;
    alice.reaches(&far)?;
    ensure!(servers(&lab, "host2")?.is_empty() && servers(&lab, "host1")?.len() == 1);
    alice.client.as_mut().context("a client")?.must_run()
}

#[test]
fn a_vpn_starts_by_itself_with_the_first_instance() -> Result<()> {
    let config = NamedTempFile::new()?;
    std::fs::write(&config, "[server]\nvpn_autostart = true\n")?;
    let mut topology = Topology::for_test(1);
    topology.server_arguments.extend(["--config".into(), config.path().to_string_lossy().into_owned()]);
    let lab = stage_with(1, &topology)?;
    let alpha = tenant(&lab, ("alpha", 1), "host1")?;
    until("its VPN runs", DEADLINE, || {
        Ok((told(&lab, &["vpn", "list"])?["items"][0]["state"] == "active").then_some(()))
    })?;
    let mut alice = Person::new(&lab, "alice", 1)?.let_in_by("alpha")?;
    alice.connects()?;
    alice.reaches(&alpha.address)?;
    for command in [
        &["instance", "delete", "alpha-web", "--yes"][..],
        &["vpn", "delete", "--project", "alpha", "--yes"],
        &["network", "delete", "alpha-net", "--yes"],
        &["project", "delete", "alpha", "--yes"],
    ] {
        lab.cli_ok(command)?;
    }
    until("its server ends", DEADLINE, || Ok(servers(&lab, "host1")?.is_empty().then_some(())))
}
