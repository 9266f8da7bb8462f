//! What cloud-init reads from its data source NoCloud, in a root file system and on an ISO.

use super::netplan::{Reader, text};
use super::{File, MARK};
use crate::guest::GuestNetwork;

/// Where the seed is in a root file system.
pub(crate) const SEED: &str = "var/lib/cloud/seed/nocloud";
/// Where cloud-init is told to leave the network to others.
pub(crate) const DISABLING: &str = "etc/cloud/cloud.cfg.d/99-trestle.cfg";

pub(super) fn files(network: &GuestNetwork) -> Vec<File> {
    let seed = [meta_data(network), user_data(), network_config(network)];
    seed.into_iter().map(|file| File { path: format!("{SEED}/{}", file.path), ..file }).collect()
}

/// What goes with another form on a guest that has cloud-init: without it, cloud-init would ask
/// for DHCP besides.
pub(crate) fn disabling() -> File {
    File::new(DISABLING, format!("# {MARK}\nnetwork:\n  config: disabled\n"))
}

pub(crate) fn meta_data(network: &GuestNetwork) -> File {
    let text =
        format!("# {MARK}\ninstance-id: \"{}\"\nlocal-hostname: \"{}\"\n", network.id, network.hostname);
    File::new("meta-data", text)
}

/// Without it the seed would not count.
pub(crate) fn user_data() -> File {
    File::new("user-data", format!("#cloud-config\n# {MARK}\n{{}}\n"))
}

pub(crate) fn network_config(network: &GuestNetwork) -> File {
    let text = text(network, Reader::CloudInit);
    // On its own, the text has no `network:` above it.
    let lines = text.lines().map(|line| format!("{}\n", line.strip_prefix("  ").unwrap_or(line)));
    File::new("network-config", format!("# {MARK}\n{}", lines.collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::files;
    use crate::guest::tests::web1;
    use crate::render::tests::shown;

    #[test]
    fn cloud_init() {
        insta::assert_snapshot!(shown(&files(&web1())), @r#"
        === var/lib/cloud/seed/nocloud/meta-data 644
        # written by trestle inject
        instance-id: "0198f0d2-6d5c-7c1e-9a53-5b0c6f3d2e1a"
        local-hostname: "web1"
        === var/lib/cloud/seed/nocloud/user-data 644
        #cloud-config
        # written by trestle inject
        {}
        === var/lib/cloud/seed/nocloud/network-config 644
        # written by trestle inject
        version: 2
        ethernets:
          eth0:
            set-name: eth0
            match:
              macaddress: "fa:16:3e:00:00:01"
            mtu: 1450
            dhcp4: false
            dhcp6: false
            accept-ra: false
            addresses:
              - "10.0.0.5/24"
              - "10.0.0.6/24"
              - "2001:db8::5/64"
            gateway4: "10.0.0.1"
            gateway6: "2001:db8::1"
            nameservers:
              addresses:
                - "10.0.0.53"
                - "2001:db8::53"
              search:
                - "trestle.internal"
          eth1:
            set-name: eth1
            match:
              macaddress: "fa:16:3e:00:00:02"
            mtu: 1500
            dhcp4: false
            dhcp6: false
            accept-ra: false
            addresses:
              - "192.168.7.2/31"
          eth2:
            set-name: eth2
            match:
              macaddress: "fa:16:3e:00:00:03"
            mtu: 1500
            dhcp4: true
        "#);
    }
}
