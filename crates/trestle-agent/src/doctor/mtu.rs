//! Whether every device on the way carries a network's frames.

use trestle_core::types::LinkName;

use super::finding::{Code, Finding, Severity};
use super::site::{Bridge, Site};
use crate::host::linux::look::Devices;

pub(super) fn check(site: &Site, devices: &Devices) -> Vec<Finding> {
    let on_wire = site.bridges.iter().flat_map(|(name, bridge)| on_wire(name, bridge, devices));
    on_wire.chain(outside(site, devices)).collect()
}

/// A bridge, its ports and what carries those: they drop what is too large, and tell nobody.
fn on_wire(name: &LinkName, bridge: &Bridge, devices: &Devices) -> Vec<Finding> {
    let Some(needed) = bridge.mtu else { return Vec::new() };
    let mut findings = Vec::new();
    for device in [name].into_iter().chain(&bridge.leads_out).chain(bridge.ports.keys()) {
        // What is not there is the agent's to tell.
        let Some(mtu) = devices.get(device).map(|device| device.mtu).filter(|mtu| *mtu < needed) else {
            continue;
        };
        let text = format!(
            "{device} loses frames of more than {mtu} bytes, and instances on {name} send up to {needed}"
        );
        let finding = Finding::new(Severity::Broken, Code::MtuTooSmall, text);
        let finding =
            finding.mended_by("raise its MTU, where the host configures it too", [raise(device, needed)]);
        findings.push(match bridge.ports.get(device) {
            Some(port) => {
                Finding { bridges: [name.clone()].into(), instances: [port.called(device)].into(), ..finding }
            }
            None => finding.on(name, bridge),
        });
    }
    findings
}

/// Where this host routes it tells senders what is too large; the way outside works, unless somebody
/// drops what it tells.
fn outside(site: &Site, devices: &Devices) -> Option<Finding> {
    let public = site.public.as_ref()?;
    let mtu = devices.get(public)?.mtu;
    let too_large =
        |bridge: &&Bridge| !bridge.gateways.is_empty() && bridge.mtu.is_some_and(|needed| needed > mtu);
    let needed = site.bridges.values().filter(too_large).filter_map(|bridge| bridge.mtu).max()?;
    let text = format!(
        "{public} carries {mtu} bytes and instances are told {needed}: their connections rest on path MTU discovery"
    );
    let mend = "raise its MTU if the wire carries that, or make networks with a smaller --mtu";
    let finding =
        Finding::new(Severity::Note, Code::MtuTooSmall, text).mended_by(mend, [raise(public, needed)]);
    let affected = site.bridges.iter().filter(|(_, bridge)| too_large(bridge));
    Some(affected.fold(finding, |finding, (name, bridge)| finding.on(name, bridge)))
}

fn raise(device: &LinkName, mtu: u32) -> String {
    format!("ip link set dev {device} mtu {mtu}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::linux::look::Device;
    use trestle_core::ownership::Owner;

    /// What is found of a network of 1500 bytes where devices carry so much.
    fn found(devices: &[(&str, u32)]) -> String {
        let device = |mtu| Device {
            index: 1,
            owner: Owner::Foreign,
            is_bridge: false,
            mtu,
            master: None,
            parent: None,
            filters_bridged: false,
        };
        let devices = devices.iter().map(|(name, mtu)| (name.parse().unwrap(), device(*mtu))).collect();
        let bridge = Bridge {
            mtu: Some(1500),
            gateways: ["10.0.0.1/24".parse().unwrap()].into(),
            leads_out: ["vlan100", "eth2"].map(|name| name.parse().unwrap()).into(),
            ..Bridge::default()
        };
        let site = Site {
            bridges: [("br100".parse().unwrap(), bridge)].into(),
            public: Some("eth0".parse().unwrap()),
            ..Site::default()
        };
        let lines = check(&site, &devices).into_iter().map(|finding| {
            format!("{:?}: {} ({})", finding.severity, finding.text, finding.commands.join("; "))
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn what_loses_frames_is_broken_and_what_tells_of_it_is_a_note() {
        assert_eq!(found(&[("br100", 1500), ("vlan100", 1500), ("eth2", 9000), ("eth0", 1500)]), "");
        assert_eq!(found(&[("br100", 1500)]), "", "what is not there is the agent's to tell");
        insta::assert_snapshot!(found(&[("br100", 1500), ("eth2", 1400), ("eth0", 1450)]), @"
        Broken: eth2 loses frames of more than 1400 bytes, and instances on br100 send up to 1500 (ip link set dev eth2 mtu 1500)
        Note: eth0 carries 1450 bytes and instances are told 1500: their connections rest on path MTU discovery (ip link set dev eth0 mtu 1500)
        ");
    }
}
