//! All three network types in one installation, on one instance.

use anyhow::{Result, ensure};
use trestle_lab::{Lab, Networks, Topology};

use crate::cloud::{
    NETWORK, PROJECT, create_on, delete, empty_cloud_with, everything, link, no_ping, ping, public_network,
};
use crate::flat::{ADMIN_BRIDGE, make_flat_network};
use crate::vm::where_vlans_are;

const NETWORKS: [&str; 3] = ["tenants", NETWORK, "lan"];

#[test]
fn an_instance_has_an_interface_on_a_network_of_each_type() -> Result<()> {
    where_vlans_are(|| {
        let topology = Topology { networks: Some(Networks::All), ..Topology::for_test(2) };
        let lab = empty_cloud_with(&topology)?;
        let before = ["host1", "host2"].map(|host| everything(&lab, host));
        lab.cli_ok(&["network", "create", "tenants", "--cidr", "10.1.0.0/24", "--vlan", "101"])?;
        public_network(&lab, &["--cidr", "10.0.0.0/24"])?;
        make_flat_network(&lab, ADMIN_BRIDGE)?;
        lab.cli_ok(&["network", "associate", "tenants", "--project", PROJECT])?;

        let (one, two) = (instance_on_all(&lab, "host1", "one")?, instance_on_all(&lab, "host2", "two")?);
        for target in ["10.1.0.4", "10.0.0.3", "192.168.7.2"] {
            ping(&lab, &one, target)?;
        }
        for target in ["10.1.0.3", "10.0.0.2", "192.168.7.1", "10.1.0.1", "10.0.0.1"] {
            ping(&lab, &two, target)?;
        }
        // One that is on the shared network alone is no way into the project's.
        create_on(&lab, PROJECT, "three", &[NETWORK])?;
        let three = lab.guest_netns("host1", "three", NETWORK)?;
        ping(&lab, &three.node, "10.0.0.2")?;
        no_ping(&lab, &three.node, "10.1.0.3")?;

        for instance in ["one", "two", "three"] {
            delete(&lab, instance)?;
        }
        for (host, before) in ["host1", "host2"].into_iter().zip(before) {
            let (before, after) = (before?, everything(&lab, host)?);
            ensure!(after == before, "something is left on {host}:\n{after}\nbefore:\n{before}");
        }
        Ok(())
    })
}

/// An instance as a namespace with `eth0`, `eth1` and `eth2` on the networks in their order.
fn instance_on_all(lab: &Lab, host: &str, instance: &str) -> Result<String> {
    create_on(lab, PROJECT, instance, &NETWORKS)?;
    let node = format!("vm-{instance}");
    lab.exec_ok("controller", &["ip", "netns", "add", &node])?;
    let bridges = ["br101", "br100", ADMIN_BRIDGE];
    for (number, (network, bridge)) in NETWORKS.into_iter().zip(bridges).enumerate() {
        let device = format!("eth{number}");
        let plug = ["--netns", &node, "--name", &device];
        let attach = ["attach", instance, "--network", network, "--json"];
        let attached: serde_json::Value =
            serde_json::from_str(&lab.on_host(host, &[&attach[..], &plug[..]].concat())?)?;
        let port = link(lab, host, attached["device"].as_str().unwrap_or_default())?;
        ensure!(port["master"] == bridge, "{port}");
        let address = attached["addresses"][0].as_str().unwrap_or_default();
        lab.exec_ok(&node, &["ip", "address", "add", address, "dev", &device])?;
        lab.exec_ok(&node, &["ip", "link", "set", &device, "up"])?;
    }
    Ok(node)
}
