//! Whether the kernel forwards where this host routes.

use std::collections::BTreeSet;

use trestle_core::types::{Family, LinkName};

use super::finding::{Code, Finding, Severity};
use super::settings::{self, KEEP, Settings};
use super::site::Site;
use crate::host::linux::look::Devices;

const FORWARD4: &str = "net.ipv4.ip_forward";
const FORWARD6: &str = "net.ipv6.conf.all.forwarding";

pub(super) fn check(site: &Site, devices: &Devices) -> Vec<Finding> {
    let way_out = site.way_out(devices);
    match settings::read(names(site, way_out)) {
        Ok(settings) => findings(site, way_out, &settings),
        Err(error) => vec![Finding::not_looked("the kernel's settings of forwarding", &error)],
    }
}

fn names(site: &Site, way_out: Option<&LinkName>) -> Vec<String> {
    let devices = site.bridges.keys().chain(way_out);
    let of_devices = devices.map(|device| settings::of_device(device, "forwarding"));
    of_devices.chain([FORWARD4.to_owned(), FORWARD6.to_owned()]).collect()
}

fn findings(site: &Site, way_out: Option<&LinkName>, settings: &Settings) -> Vec<Finding> {
    let is_off = |name: &str| settings.get(name).is_some_and(|value| value == "0");
    let families = site.families();
    let mut findings = Vec::new();
    for (family, name) in [(Family::Ipv4, FORWARD4), (Family::Ipv6, FORWARD6)] {
        if families.contains(&family) && is_off(name) {
            let text = format!("this host routes for instances and its kernel forwards no {family}");
            findings.push(bearing(site, family, text, name));
        }
    }
    // The kernel asks the device that a packet came in by; all of them are off with the one for all.
    if families.contains(&Family::Ipv4) && !is_off(FORWARD4) {
        let routed = site.routed(Family::Ipv4).map(|(name, _)| name);
        for device in routed.chain(way_out).collect::<BTreeSet<_>>() {
            let name = settings::of_device(device, "forwarding");
            if is_off(&name) {
                let text = format!("the kernel forwards no IPv4 that comes in by {device}");
                findings.push(bearing(site, Family::Ipv4, text, &name));
            }
        }
    }
    findings
}

fn bearing(site: &Site, family: Family, text: String, name: &str) -> Finding {
    let finding = Finding::new(Severity::Broken, Code::ForwardingOff, text)
        .mended_by(format!("turn it on, and {KEEP}"), [settings::set(name, "1")]);
    site.routed(family).fold(finding, |finding, (name, bridge)| finding.on(name, bridge))
}
