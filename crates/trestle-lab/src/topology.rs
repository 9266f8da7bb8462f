//! What a lab consists of, as data, and the `ip` commands that make it.
//!
//! ```text
//!  outside ── eth0 203.0.113.1/24, 198.51.100.10 on lo ("the internet")
//!     │
//!  switch: bridge `public` ──┬── host1 eth0 203.0.113.11/24, default via 203.0.113.1
//!                            └── host2 eth0 203.0.113.12/24
//!  switch: bridge `flat` ────┬── host1 eth1, no address
//!                            └── host2 eth1
//! ```
//!
//! `outside` has no route to any private range: only what a host translates comes back.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// The host on the public segment that is everybody's default router.
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// An address beyond it, for "can it reach the internet?".
pub const INTERNET: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
/// The name of that address, known to the hosts' name server alone.
pub const INTERNET_NAME: &str = "example.org";

/// A lab to be made.
#[derive(Clone, Debug)]
pub struct Topology {
    /// The lab's name, unique on the machine.
    pub name: String,
    /// The VM hosts, 200 at most.
    pub hosts: Vec<HostNode>,
    /// Where the lab's folder is made; [`crate::Running::base`] if absent. It must be short: unix
    /// sockets lie in it, whose paths the kernel limits to 107 bytes.
    pub base: Option<PathBuf>,
    /// Further arguments for `trestle server`.
    pub server_arguments: Vec<String>,
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
            base: None,
            server_arguments: Vec::new(),
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

    /// What `ip -batch` has to do, per network namespace; `None` is the universe's own.
    pub(crate) fn commands(&self) -> Vec<(Option<String>, String)> {
        let mut batches = vec![(None, self.plug_together()), (Some("switch".into()), self.switch())];
        let outside = format!(
            "link set lo up\nlink set eth0 up\naddress add {INTERNET}/32 dev lo\naddress add {OUTSIDE}/24 dev eth0\n"
        );
        batches.push((Some("outside".into()), outside));
        batches.extend(self.hosts.iter().map(|host| {
            let commands = format!(
                "link set lo up\nlink set eth0 up\nlink set eth1 up\naddress add {}/24 dev eth0\nroute add default via {OUTSIDE}\n",
                host.address
            );
            (Some(host.name.clone()), commands)
        }));
        batches
    }

    fn plug_together(&self) -> String {
        let mut text = String::from("link set lo up\nnetns add switch\nnetns add outside\n");
        for segment in ["public", "flat"] {
            text += &format!("link add {segment} netns switch type bridge\n");
        }
        text += "link add eth0 netns outside type veth peer name outside netns switch\n";
        for host in &self.hosts {
            let name = &host.name;
            text += &format!("netns add {name}\n");
            text += &format!("link add eth0 netns {name} type veth peer name {name}-p netns switch\n");
            text += &format!("link add eth1 netns {name} type veth peer name {name}-f netns switch\n");
        }
        text
    }

    fn switch(&self) -> String {
        let mut text =
            String::from("link set public up\nlink set flat up\nlink set outside master public up\n");
        for host in &self.hosts {
            let name = &host.name;
            text += &format!("link set {name}-p master public up\nlink set {name}-f master flat up\n");
        }
        text
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

    #[test]
    fn only_the_outside_host_and_the_hosts_have_addresses() {
        let batches = Topology::new("demo", 1).commands();
        let text: Vec<String> = batches
            .into_iter()
            .map(|(node, commands)| format!("[{}]\n{commands}", node.unwrap_or_default()))
            .collect();
        let expected = "\
[]
link set lo up
netns add switch
netns add outside
link add public netns switch type bridge
link add flat netns switch type bridge
link add eth0 netns outside type veth peer name outside netns switch
netns add host1
link add eth0 netns host1 type veth peer name host1-p netns switch
link add eth1 netns host1 type veth peer name host1-f netns switch
[switch]
link set public up
link set flat up
link set outside master public up
link set host1-p master public up
link set host1-f master flat up
[outside]
link set lo up
link set eth0 up
address add 198.51.100.10/32 dev lo
address add 203.0.113.1/24 dev eth0
[host1]
link set lo up
link set eth0 up
link set eth1 up
address add 203.0.113.11/24 dev eth0
route add default via 203.0.113.1
";
        assert_eq!(text.concat(), expected);
    }
}
