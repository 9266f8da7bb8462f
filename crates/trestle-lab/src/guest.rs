//! Guests: what they say of their lease, and instances as network namespaces.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use trestle_api::types::InstanceId;
use trestle_api::{Attached, Instance, Interface, Network, NetworkType};

use crate::lab::{Lab, Plug};
use crate::running::Running;

/// What udhcpc runs when its lease changes.
pub(crate) const LEASE_SCRIPT: &str = include_str!("guest/lease.sh");

/// What a guest was told by its DHCP server. Empty where it was told nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Its address with the prefix length, such as `10.0.0.2/24`.
    pub address: String,
    /// Its router.
    pub router: String,
    /// The name servers, separated by spaces.
    pub dns: String,
    /// The MTU.
    pub mtu: String,
    /// Its host name.
    pub hostname: String,
    /// Its DNS domain.
    pub domain: String,
    /// Who told it.
    pub server: String,
    /// For how many seconds.
    pub seconds: String,
}

/// An instance as a network namespace.
#[derive(Clone, Debug)]
pub struct NetnsGuest {
    /// The namespace's name, which is the node's name too: `vm-web1`.
    pub node: String,
    /// What the host said of its device.
    pub attached: Attached,
    /// What its DHCP server told it.
    pub lease: Lease,
}

impl Lab {
    /// Makes an instance that exists already a network namespace `vm-INSTANCE`, plugs it in on
    /// the host and lets a real DHCP client get its address.
    ///
    /// # Errors
    /// Whatever step fails; the client's, where it gets no lease.
    pub fn guest_netns(&self, host: &str, instance: &str, network: &str) -> Result<NetnsGuest> {
        let node = node_of(instance);
        self.running.make_namespace(&node)?;
        let attached = self.attach(host, instance, network, Plug::Netns { name: &node })?;
        self.exec_ok(&node, &["ip", "link", "set", "eth0", "up"])?;
        let lease = self.dhcp(&node)?;
        Ok(NetnsGuest { node, attached, lease })
    }

    /// Lets the real DHCP client on `eth0` of a namespace get a lease and take it over.
    ///
    /// # Errors
    /// What the client says where it gets none.
    pub fn dhcp(&self, node: &str) -> Result<Lease> {
        self.running.dhcp(node, "eth0")
    }
}

impl Running {
    /// Makes an instance that exists already a network namespace `vm-INSTANCE` and plugs it in on
    /// the host, on this network or on all of its own. It gets its address by DHCP where there is
    /// IPv4 and a DHCP server, and has it set where not. What there is already is left as it is.
    ///
    /// # Errors
    /// Whatever step fails; what `trestle` has to say of it is on the standard error by then.
    pub fn guest(&self, host: &str, instance: &str, network: Option<&str>) -> Result<Vec<NetnsGuest>> {
        let host = self.hosts.iter().find(|known| *known == host);
        let host =
            host.with_context(|| format!("the hosts of lab `{}` are {}", self.name, self.hosts.join(", ")))?;
        let found: Instance = self.trestle("controller", &["instance", "show", instance, "--json"])?;
        let node = node_of(found.name.as_str());
        let is_wanted = |interface: &Interface| network.is_none_or(|name| interface.network.as_str() == name);
        let wanted: Vec<(usize, &Interface)> =
            found.interfaces.iter().enumerate().filter(|(_, interface)| is_wanted(interface)).collect();
        ensure!(!wanted.is_empty(), "instance {} has no such interface", found.name);
        let is_new =
            !self.ask("controller", &["ip", "netns", "list"])?.lines().any(|line| first_word(line) == node);
        if is_new {
            self.make_namespace(&node)?;
        }
        let mut plugged = Vec::new();
        // The first one last: the default route is the one that was told last.
        for (number, interface) in wanted.into_iter().rev() {
            let place = Place { host, node: &node, device: format!("eth{number}") };
            match self.plug_in(&place, found.id, interface) {
                Ok(guest) => plugged.push(guest),
                Err(error) => {
                    if is_new && plugged.is_empty() {
                        // What was wrong is worth more than that this failed too.
                        let _ = self.ask("controller", &["ip", "netns", "delete", &node]);
                    }
                    return Err(error);
                }
            }
        }
        Ok(plugged)
    }

    fn plug_in(&self, place: &Place<'_>, instance: InstanceId, interface: &Interface) -> Result<NetnsGuest> {
        let Place { host, node, device } = place;
        let network: Network =
            self.trestle("controller", &["network", "show", interface.network.as_str(), "--json"])?;
        let instance = instance.to_string();
        let attached: Attached = self.trestle(
            *host,
            &["attach", &instance, "--network", network.name.as_str(), "--netns", node, "--name", device],
        )?;
        self.ask(*node, &["ip", "link", "set", device, "up"])?;
        let has_dhcp = network.network_type != NetworkType::Flat;
        let lease =
            if has_dhcp && network.ipv4.is_some() { self.dhcp(node, device)? } else { Lease::default() };
        // What DHCP has told already is not told again.
        let is_told = |text: &str| !lease.address.is_empty() && !text.contains(':');
        for address in attached.addresses.iter().filter(|address| !is_told(address)) {
            self.ask(*node, &["ip", "address", "replace", address, "dev", device, "nodad"])?;
        }
        for gateway in attached.gateways.iter().map(ToString::to_string).filter(|gateway| !is_told(gateway)) {
            self.ask(*node, &["ip", "route", "replace", "default", "via", &gateway, "dev", device])?;
        }
        Ok(NetnsGuest { node: (*node).to_owned(), attached, lease })
    }

    fn make_namespace(&self, node: &str) -> Result<()> {
        self.ask("controller", &["ip", "netns", "add", node])?;
        self.ask(node, &["ip", "link", "set", "lo", "up"]).map(drop)
    }

    fn dhcp(&self, node: &str, device: &str) -> Result<Lease> {
        let script = self.folder.join("lease.sh");
        let script = script.to_string_lossy();
        let argv = ["busybox", "udhcpc", "-f", "-q", "-n", "-t", "10", "-T", "1", "-i", device];
        let wanted = ["-O", "mtu", "-O", "domain", "-O", "hostname", "-s", &script];
        let said = self.ask(node, &[&argv[..], &wanted[..]].concat())?;
        Lease::find(&said).with_context(|| format!("no lease in what the DHCP client said:\n{said}"))
    }
}

/// Where an interface is plugged in.
struct Place<'a> {
    host: &'a str,
    /// The guest's namespace.
    node: &'a str,
    /// What the guest calls the device.
    device: String,
}

/// The network namespace that an instance is.
fn node_of(instance: &str) -> String {
    format!("vm-{instance}")
}

fn first_word(line: &str) -> &str {
    line.split_whitespace().next().unwrap_or_default()
}

impl Lease {
    /// Finds the last line in which a guest says what it was told.
    pub fn find(output: &str) -> Option<Self> {
        let line = output.lines().rev().find_map(|line| line.trim().strip_prefix("GUEST address="))?;
        let mut lease = Self::default();
        let mut field = &mut lease.address;
        // A value may hold spaces, so a word without `=` belongs to the value before it.
        for word in line.split(' ') {
            let (name, value) = word.split_once('=').unwrap_or(("", word));
            match name {
                "router" => field = &mut lease.router,
                "dns" => field = &mut lease.dns,
                "mtu" => field = &mut lease.mtu,
                "hostname" => field = &mut lease.hostname,
                "domain" => field = &mut lease.domain,
                "server" => field = &mut lease.server,
                "lease" => field = &mut lease.seconds,
                _ if !field.is_empty() => field.push(' '),
                _ => {}
            }
            field.push_str(value);
        }
        Some(lease)
    }
}

/// Puts the script for namespace guests where they find it.
pub(crate) fn write_scripts(folder: &Path) -> Result<()> {
    write_script(&folder.join("lease.sh"), LEASE_SCRIPT)
}

pub(crate) fn write_script(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
        .with_context(|| format!("making {} executable", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_read_from_what_a_guest_says() {
        let said = "udhcpc: started\nGUEST address=10.0.0.2/24 router=10.0.0.1 dns=10.0.0.1 9.9.9.9 mtu=1450 hostname=web1 domain= server=10.0.0.1 lease=86400\r\n";
        let lease = Lease::find(said).expect("there is one");
        assert_eq!(lease.address, "10.0.0.2/24");
        assert_eq!(lease.dns, "10.0.0.1 9.9.9.9");
        assert_eq!((lease.domain.as_str(), lease.seconds.as_str()), ("", "86400"));
    }
}
