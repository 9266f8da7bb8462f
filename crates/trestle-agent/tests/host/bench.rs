//! A machine to test on: a network namespace of its own, with cables to another one.

use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command};
use std::time::Duration;

use serde_json::Value;
use tempfile::{NamedTempFile, TempDir};
use trestle_agent::host::{Change, Host, LinuxHost};
use trestle_api::agent::Feature;
use trestle_core::plan::{Plan, plan};
use trestle_core::spec::{HostSpec, Key, Object};
use trestle_core::state::HostState;
use trestle_core::types::Name;
use trestle_core::world::{Interface, Ipv6Mode, Network, Subnet, World};

use crate::cloud;

/// How long the kernel, a program or the host may take before a test gives up. Nothing here is
/// looked at again by itself, so what is missed stays missed.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The host under test, in a namespace where `eth0` to `eth3` are cables to `peer`.
pub struct Bench {
    pub host: LinuxHost,
    pub peer: Namespace,
    state_dir: TempDir,
}

/// Another network namespace, kept by a process.
pub struct Namespace(Child);

/// Runs a test in a thread that has a network namespace and a runtime of its own.
pub fn in_namespace<F, Fut>(test: F)
where
    F: FnOnce(Bench) -> Fut + Send + 'static,
    Fut: Future<Output = ()>,
{
    let run = || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
            .expect("these tests need root, to make network namespaces");
        sh("ip link set lo up");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { test(Bench::new()).await });
    };
    if let Err(panic) = std::thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
}

impl Bench {
    fn new() -> Self {
        let peer = Namespace::new();
        for n in 0..=3 {
            sh(&format!("ip link add eth{n} type veth peer name peer{n} netns {}", peer.0.id()));
            sh(&format!("ip link set eth{n} up"));
            peer.sh(&format!("ip link set peer{n} up"));
        }
        let state_dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(&state_dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        let host = LinuxHost::open(state_dir.path(), None).unwrap();
        Self { host, peer, state_dir }
    }

    /// What is left to do.
    pub async fn plan(&self, spec: &HostSpec) -> Plan {
        plan(spec, &self.observe(spec).await)
    }

    pub async fn observe(&self, spec: &HostSpec) -> HostState {
        self.host.observe(spec).await.unwrap()
    }

    /// Observes, plans and does it; everything must succeed.
    pub async fn converge(&self, spec: &HostSpec) {
        let steps = self.plan(spec).await.steps;
        let failures = self.host.apply(&steps).await;
        assert!(failures.is_empty(), "{failures:#?}");
    }

    pub async fn changed(&self) -> Change {
        let change = tokio::time::timeout(DEADLINE, self.host.changed()).await;
        change.expect("a change is noticed")
    }

    /// Asserts that nothing was noticed yet, by making something to notice.
    pub async fn assert_silent(&self) {
        sh("nft add table arp trestle; nft add chain arp trestle marker");
        let change = self.changed().await;
        assert!(change.what.starts_with("table arp trestle changed"), "{change:?}");
        sh("nft delete chain arp trestle marker");
        self.changed().await;
    }

    /// Interfaces of VLANs, if the kernel here has any.
    pub fn vlan_interfaces(&self) -> Vec<(u8, u8)> {
        match self.host.missing_features().contains(&Feature::Vlan) {
            true => vec![],
            false => vec![(4, 1), (4, 2), (5, 1)],
        }
    }

    pub fn path(&self, rest: &str) -> std::path::PathBuf {
        self.state_dir.path().join(rest)
    }

    pub fn dnsmasq_pid(&self, network: &str) -> i32 {
        let path = self.path(&format!("networks/{network}/pid"));
        std::fs::read_to_string(path).unwrap().trim().parse().unwrap()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let kill = |pid| nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
        for network in std::fs::read_dir(self.path("networks")).into_iter().flatten().flatten() {
            let pid = std::fs::read_to_string(network.path().join("pid")).unwrap_or_default();
            let _ = pid.trim().parse().map(kill);
        }
        // The programs of VPNs say in their environment whose they are.
        let ours = format!("TRESTLE_VPN={}/", self.state_dir.path().display());
        for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
            if String::from_utf8_lossy(&environment).contains(&ours) {
                let _ = process.file_name().to_string_lossy().parse().map(kill);
            }
        }
    }
}

impl Namespace {
    pub fn new() -> Self {
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let child = Command::new("unshare").args(["-n", "sleep", "600"]).spawn().unwrap();
        let namespace = Self(child);
        wait_until("the namespace is made", || {
            std::fs::read_link(namespace.path()).is_ok_and(|theirs| theirs != own)
        });
        namespace
    }

    pub fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }

    pub fn sh(&self, command: &str) -> String {
        sh(&format!("nsenter --net={} sh -ec '{command}'", self.path()))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a command prints; it must succeed.
pub fn sh(command: &str) -> String {
    let output = Command::new("sh").args(["-ec", command]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a command prints, as JSON.
pub fn json(command: &str) -> Value {
    serde_json::from_str(&sh(command)).unwrap()
}

/// IPv6 takes some seconds to begin: addresses are tried out first (RFC 4862 §5.4).
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + DEADLINE;
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "waited in vain until {what}");
        std::thread::yield_now();
    }
}

/// What goes over a device, as tcpdump prints it.
pub struct Capture {
    tcpdump: Child,
    printed: NamedTempFile,
}

impl Capture {
    /// Begins to listen.
    pub fn new(namespace: &Namespace, device: &str) -> Self {
        let printed = NamedTempFile::new().unwrap();
        let mut tcpdump = Command::new("nsenter");
        tcpdump.arg(format!("--net={}", namespace.path()));
        tcpdump.args(["tcpdump", "-l", "--immediate-mode", "-nevv", "-i", device, "arp or icmp6"]);
        // One open file, so that neither writes over the other.
        let file = printed.reopen().unwrap();
        let tcpdump = tcpdump.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        let capture = Self { tcpdump, printed };
        wait_until("tcpdump listens", || capture.text().contains("listening on"));
        capture
    }

    /// Everything so far, a packet a line.
    pub fn text(&self) -> String {
        std::fs::read_to_string(self.printed.path()).unwrap().replace("\n\t", " ")
    }

    /// The first packet with all of these words, once there is one.
    pub fn packet(&self, words: &[&str]) -> String {
        let is_it = |line: &&str| words.iter().all(|word| line.contains(word));
        wait_until(&format!("a packet with {words:?} comes"), || {
            self.text().lines().any(|line| is_it(&line))
        });
        self.text().lines().find(is_it).unwrap().to_owned()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.tcpdump.kill();
        let _ = self.tcpdump.wait();
    }
}

/// A world where network 1 has IPv6 too.
pub fn dual_world(mode: Ipv6Mode, interfaces: &[(u8, u8)]) -> World {
    let mut world = cloud::world(interfaces);
    let subnet = Subnet { cidr: "fd00:1::/64".parse().unwrap(), gateway: Some("fd00:1::1".parse().unwrap()) };
    world.put_network(Network { ipv6: Some(subnet), ipv6_mode: mode, ..cloud::network(1) });
    for &(_, i) in interfaces.iter().filter(|(n, _)| *n == 1) {
        world.put_interface(dual_interface(mode, i));
    }
    world
}

/// Interface `i` of network 1, with both addresses.
pub fn dual_interface(mode: Ipv6Mode, i: u8) -> Interface {
    let mut interface = cloud::interface(1, i);
    let address = match mode {
        Ipv6Mode::Dhcpv6 => format!("fd00:1::{:x}", 10 + i).parse().unwrap(),
        Ipv6Mode::Slaac => interface.mac.eui64("fd00:1::/64".parse().unwrap()).into(),
    };
    interface.addresses.push(address);
    interface
}

/// The spec less everything that is done by dnsmasq.
pub fn without_dnsmasq(mut spec: HostSpec) -> HostSpec {
    spec.objects.retain(|key, _| !matches!(key, Key::Dnsmasq(_)));
    spec
}

/// The wanted dnsmasq of a network.
pub fn dnsmasq_of(spec: &HostSpec, network: &str) -> trestle_core::spec::Dnsmasq {
    let network: Name = network.parse().unwrap();
    match spec.objects.get(&Key::Dnsmasq(network)) {
        Some(Object::Dnsmasq(dnsmasq)) => dnsmasq.clone(),
        other => panic!("{other:?} is no dnsmasq"),
    }
}
