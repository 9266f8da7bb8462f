//! What a lab consists of, as data, and the `ip` commands that make it.
//!
//! ```text
//!  outside ── eth0 203.0.113.1/24, 198.51.100.10 on lo ("the internet")
//!     │
//!  switch: bridge `public` ──┬── host1 eth0 203.0.113.11/24, default via 203.0.113.1
//!                            └── host2 eth0 203.0.113.12/24
//!  switch: bridge `flat` ────┬── host1 eth1, no address
//!                            └── host2 eth1
//!  switch: bridge `trunk` ───┬── host1 eth2, no address
//!                            └── host2 eth2
//! ```
//!
//! The switch's bridges look at no tags: what is tagged on one port of `trunk` is so on the others.
//! A lab for flat networks has an administrator's bridge `br-flat` on every host, with a device of
//! its own in it: `eth3` on the segment `admin`. Trestle uses that bridge and never makes it.
//!
//! `outside` has no route to any private range: only what a host translates comes back.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Context;

/// The host on the public segment that is everybody's default router.
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// An address beyond it, for "can it reach the internet?".
pub const INTERNET: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
/// The name of that address, known to the hosts' name server alone.
pub const INTERNET_NAME: &str = "example.org";

/// The bridge that the administrator of a lab's hosts has made, for flat networks.
pub const ADMIN_BRIDGE: &str = "br-flat";

/// The types of networks that a lab is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Networks {
    /// `flat_dhcp`
    FlatDhcp,
    /// `vlan`
    Vlan,
    /// `flat`
    Flat,
    /// One of each.
    All,
}

/// A lab to be made.
#[derive(Clone, Debug)]
pub struct Topology {
    /// The lab's name, unique on the machine.
    pub name: String,
    /// The VM hosts, 200 at most.
    pub hosts: Vec<HostNode>,
    /// What networks it is made for; `None` where no network is made for its user.
    pub networks: Option<Networks>,
    /// Where the lab's folder is made; [`crate::Running::base`] if absent. It must be short: unix
    /// sockets lie in it, whose paths the kernel limits to 107 bytes.
    pub base: Option<PathBuf>,
    /// Further arguments for `trestle server`; a bridge for flat networks that name none, unless
    /// others are given.
    pub server_arguments: Vec<String>,
    /// Options of its configuration, as `KEY=VALUE`; they need no file of the user's.
    pub server_options: Vec<String>,
    /// Further arguments for every `trestle agent`.
    pub agent_arguments: Vec<String>,
    /// Leave the folder with its logs behind when the lab ends.
    pub keep_folder: bool,
}

/// A VM host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostNode {
    /// Its name; its network namespace has the same.
    pub name: String,
    /// Its address on the public segment.
    pub address: Ipv4Addr,
}

/// Where in a lab a command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node<'a> {
    /// Beside the controller, in no host's network.
    Controller,
    /// In the network namespace of this name: `host1`, `outside`, `switch`, `vm-web1`.
    Named(&'a str),
}

impl Topology {
    /// A lab of `count` hosts, `host1` and on.
    pub fn new(name: impl Into<String>, count: u8) -> Self {
        let host = |number: u8| HostNode {
            name: format!("host{number}"),
            address: Ipv4Addr::new(203, 0, 113, 10 + number),
        };
        Self {
            name: name.into(),
            hosts: (1..=count.min(200)).map(host).collect(),
            networks: None,
            base: None,
            server_arguments: ["--flat-network-bridge", "br100"].map(str::to_owned).into(),
            server_options: Vec::new(),
            agent_arguments: Vec::new(),
            keep_folder: false,
        }
    }

    /// A lab for a test, under a name no other has.
    pub fn for_test(count: u8) -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let keep_folder = std::env::var_os("TRESTLE_LAB_KEEP").is_some();
        Self { keep_folder, ..Self::new(format!("test-{}-{number}", std::process::id()), count) }
    }

    /// The arguments of `trestle` that bring up such a lab.
    pub(crate) fn command_line(&self) -> Vec<String> {
        let words = ["lab", "up", "--name", &self.name, "--hosts", &self.hosts.len().to_string()];
        let mut words: Vec<String> = words.map(str::to_owned).into();
        if let Some(networks) = self.networks {
            words.extend(["--type".into(), networks.to_string()]);
        }
        for option in &self.server_options {
            words.extend(["--server-option".into(), option.clone()]);
        }
        words
    }

    /// The options as the controller's configuration, if there are any. Texts need no quotes.
    pub(crate) fn server_config(&self) -> Option<String> {
        let line = |option: &String| {
            let (key, value) = option.split_once('=').unwrap_or((option, "true"));
            let is_toml = value.starts_with(['[', '"'])
                || matches!(value, "true" | "false")
                || value.parse::<i64>().is_ok();
            if is_toml { format!("{key} = {value}\n") } else { format!("{key} = {value:?}\n") }
        };
        let lines: String = self.server_options.iter().map(line).collect();
        (!lines.is_empty()).then(|| format!("[server]\n{lines}"))
    }

    /// What `ip -batch` has to do, per network namespace; `None` is the universe's own.
    pub(crate) fn commands(&self) -> Vec<(Option<String>, String)> {
        let mut batches = vec![(None, self.plug_together()), (Some("switch".into()), self.switch())];
        let outside = format!(
            "link set lo up\nlink set eth0 up\naddress add {INTERNET}/32 dev lo\naddress add {OUTSIDE}/24 dev eth0\n"
        );
        batches.push((Some("outside".into()), outside));
        batches.extend(self.hosts.iter().map(|host| (Some(host.name.clone()), self.host(host))));
        batches
    }

    /// A host's devices on the segments, in the order of their numbers.
    fn segments(&self) -> &'static [&'static str] {
        if self.networks.is_some_and(Networks::has_flat) {
            &["public", "flat", "trunk", "admin"]
        } else {
            &["public", "flat", "trunk"]
        }
    }

    fn host(&self, host: &HostNode) -> String {
        let mut text = String::from("link set lo up\n");
        for number in 0..self.segments().len() {
            text += &format!("link set eth{number} up\n");
        }
        text += &format!("address add {}/24 dev eth0\nroute add default via {OUTSIDE}\n", host.address);
        if self.segments().contains(&"admin") {
            text += &format!("link add {ADMIN_BRIDGE} type bridge\nlink set {ADMIN_BRIDGE} up\n");
            text += &format!("link set eth3 master {ADMIN_BRIDGE}\n");
        }
        text
    }

    fn plug_together(&self) -> String {
        let mut text = String::from("link set lo up\nnetns add switch\nnetns add outside\n");
        for segment in self.segments() {
            text += &format!("link add {segment} netns switch type bridge\n");
        }
        text += "link add eth0 netns outside type veth peer name outside netns switch\n";
        for host in &self.hosts {
            let name = &host.name;
            text += &format!("netns add {name}\n");
            for number in 0..self.segments().len() {
                text += &format!(
                    "link add eth{number} netns {name} type veth peer name {name}-{number} netns switch\n"
                );
            }
        }
        text
    }

    fn switch(&self) -> String {
        let mut text = String::new();
        for segment in self.segments() {
            text += &format!("link set {segment} up\n");
        }
        text += "link set outside master public up\n";
        for host in &self.hosts {
            for (number, segment) in self.segments().iter().enumerate() {
                text += &format!("link set {}-{number} master {segment} up\n", host.name);
            }
        }
        text
    }
}

impl Networks {
    const WORDS: [(&str, Self); 4] =
        [("flat_dhcp", Self::FlatDhcp), ("vlan", Self::Vlan), ("flat", Self::Flat), ("all", Self::All)];

    /// Whether the kernel must have 802.1Q.
    pub(crate) fn has_vlan(self) -> bool {
        matches!(self, Self::Vlan | Self::All)
    }

    pub(crate) fn has_flat(self) -> bool {
        matches!(self, Self::Flat | Self::All)
    }
}

impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = Self::WORDS.iter().find(|(_, networks)| networks == self).map_or("", |(word, _)| word);
        f.write_str(word)
    }
}

impl FromStr for Networks {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let found = Self::WORDS.iter().find(|(known, _)| *known == word);
        found.map(|(_, networks)| *networks).context("it is none of flat_dhcp, vlan, flat and all")
    }
}

impl fmt::Display for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Controller => f.write_str("controller"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

impl<'a> From<&'a str> for Node<'a> {
    /// `controller` is the controller's place, everything else a network namespace.
    fn from(name: &'a str) -> Self {
        if name == "controller" { Self::Controller } else { Self::Named(name) }
    }
}

impl<'a> From<&'a String> for Node<'a> {
    fn from(name: &'a String) -> Self {
        name.as_str().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is done where, as text.
    fn commands(topology: &Topology) -> String {
        let batches = topology.commands().into_iter();
        batches.map(|(node, commands)| format!("[{}]\n{commands}", node.unwrap_or_default())).collect()
    }

    #[test]
    fn a_lab_for_flat_networks_has_the_administrators_bridge() {
        let plain = Topology::new("demo", 1);
        let flat = commands(&Topology { networks: Some(Networks::Flat), ..plain.clone() });
        let plain = commands(&plain);
        let added: Vec<&str> =
            flat.lines().filter(|line| !plain.lines().any(|known| known == *line)).collect();
        assert_eq!(
            added,
            [
                "link add admin netns switch type bridge",
                "link add eth3 netns host1 type veth peer name host1-3 netns switch",
                "link set admin up",
                "link set host1-3 master admin up",
                "link set eth3 up",
                "link add br-flat type bridge",
                "link set br-flat up",
                "link set eth3 master br-flat",
            ]
        );
    }

    #[test]
    fn a_machine_is_told_to_bring_up_the_same_lab() {
        let topology = Topology { networks: Some(Networks::All), ..Topology::new("demo", 3) };
        assert_eq!(topology.command_line().join(" "), "lab up --name demo --hosts 3 --type all");
        assert_eq!("all".parse::<Networks>().expect("a type"), Networks::All);
    }

    #[test]
    fn options_of_the_server_are_its_configuration() {
        let options =
            ["vpn_autostart=true", "vpn_ip=203.0.113.11", "vpn_start=2000", "dmz_cidr=[\"10.0.0.0/8\"]"];
        let topology =
            Topology { server_options: options.map(str::to_owned).into(), ..Topology::new("demo", 1) };
        assert!(topology.command_line().join(" ").ends_with(r#" --server-option dmz_cidr=["10.0.0.0/8"]"#));
        assert_eq!(
            topology.server_config().expect("some"),
            "[server]\nvpn_autostart = true\nvpn_ip = \"203.0.113.11\"\nvpn_start = 2000\ndmz_cidr = [\"10.0.0.0/8\"]\n"
        );
        assert_eq!(Topology::new("demo", 1).server_config(), None);
    }

    #[test]
    fn only_the_outside_host_and_the_hosts_have_addresses() {
        let expected = "\
[]
link set lo up
netns add switch
netns add outside
link add public netns switch type bridge
link add flat netns switch type bridge
link add trunk netns switch type bridge
link add eth0 netns outside type veth peer name outside netns switch
netns add host1
link add eth0 netns host1 type veth peer name host1-0 netns switch
link add eth1 netns host1 type veth peer name host1-1 netns switch
link add eth2 netns host1 type veth peer name host1-2 netns switch
[switch]
link set public up
link set flat up
link set trunk up
link set outside master public up
link set host1-0 master public up
link set host1-1 master flat up
link set host1-2 master trunk up
[outside]
link set lo up
link set eth0 up
address add 198.51.100.10/32 dev lo
address add 203.0.113.1/24 dev eth0
[host1]
link set lo up
link set eth0 up
link set eth1 up
link set eth2 up
address add 203.0.113.11/24 dev eth0
route add default via 203.0.113.1
";
        assert_eq!(commands(&Topology::new("demo", 1)), expected);
    }
}
