//! Guests: what they say of their lease, and instances as network namespaces.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use trestle_api::Attached;

use crate::lab::{Lab, Plug};

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
        let node = format!("vm-{instance}");
        self.exec_ok("controller", &["ip", "netns", "add", &node])?;
        self.exec_ok(&node, &["ip", "link", "set", "lo", "up"])?;
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
        let script = self.folder().join("lease.sh");
        let script = script.to_string_lossy();
        let argv = ["busybox", "udhcpc", "-f", "-q", "-n", "-t", "10", "-T", "1", "-i", "eth0"];
        let wanted = ["-O", "mtu", "-O", "domain", "-O", "hostname", "-s", &script];
        let said = self.exec_ok(node, &[&argv[..], &wanted[..]].concat())?;
        Lease::find(&said).with_context(|| format!("no lease in what the DHCP client said:\n{said}"))
    }
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
