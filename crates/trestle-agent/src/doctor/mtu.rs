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
