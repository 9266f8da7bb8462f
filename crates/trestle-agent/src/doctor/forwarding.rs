//! Whether the kernel forwards where this host routes.

use std::collections::BTreeSet;

use trestle_core::types::{Family, LinkName};

use super::finding::{Code, Finding, Severity};
use super::settings::{self, KEEP, Settings};
use super::site::{Bridge, Site};
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
            findings.push(bearing(site.routed(family), text, name));
        }
    }
    // The kernel asks the device that a packet came in by; all of them are off with the one for all.
    if families.contains(&Family::Ipv4) && !is_off(FORWARD4) {
        let routed = || site.routed(Family::Ipv4);
        for device in routed().map(|(name, _)| name).chain(way_out).collect::<BTreeSet<_>>() {
            let name = settings::of_device(device, "forwarding");
            if is_off(&name) {
                // What comes in by the way out are answers to all.
                let bears_on =
                    |(bridge, _): &(&LinkName, &Bridge)| *bridge == device || way_out == Some(device);
                let text = format!("the kernel forwards no IPv4 that comes in by {device}");
                findings.push(bearing(routed().filter(bears_on), text, &name));
            }
        }
    }
    findings
}

fn bearing<'a>(
    bridges: impl Iterator<Item = (&'a LinkName, &'a Bridge)>,
    text: String,
    name: &str,
) -> Finding {
    let finding = Finding::new(Severity::Broken, Code::ForwardingOff, text)
        .mended_by(format!("turn it on, and {KEEP}"), [settings::set(name, "1")]);
    bridges.fold(finding, |finding, (name, bridge)| finding.on(name, bridge))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::site::Port;

    fn bridge(gateway: &str, instance: &str) -> Bridge {
        let port = Port { hostname: Some(instance.to_owned()), ..Port::default() };
        Bridge {
            gateways: [gateway.parse().unwrap()].into(),
            ports: [(format!("tr-{instance}").parse().unwrap(), port)].into(),
            ..Bridge::default()
        }
    }

    /// Which bridges and instances it bears on that this setting is off.
    fn check(name: &str, bears_on: &str) {
        let bridges = [("br100", bridge("10.0.0.1/24", "web1")), ("br101", bridge("10.0.1.1/24", "db1"))];
        let bridges = bridges.map(|(name, bridge)| (name.parse().unwrap(), bridge));
        let site = Site { bridges: bridges.into(), ..Site::default() };
        let off = Settings::from([(name.to_owned(), "0".to_owned())]);
        let found = findings(&site, Some(&"eth0".parse().unwrap()), &off);
        let [finding] = &found[..] else { panic!("{found:#?}") };
        let bridges: Vec<_> = finding.bridges.iter().map(LinkName::as_str).collect();
        let instances: Vec<_> = finding.instances.iter().map(String::as_str).collect();
        assert_eq!(format!("{} {}", bridges.join(","), instances.join(",")), bears_on, "{name}");
    }

    #[test]
    fn what_is_off_for_one_bridge_bears_on_that_alone() {
        check("net.ipv4.conf.br100.forwarding", "br100 web1");
        check("net.ipv4.conf.br101.forwarding", "br101 db1");
        check("net.ipv4.conf.eth0.forwarding", "br100,br101 db1,web1");
        check("net.ipv4.ip_forward", "br100,br101 db1,web1");
    }
}
