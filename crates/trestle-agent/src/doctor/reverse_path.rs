//! Whether a strict reverse path filter (RFC 3704) drops what arrives by a device that answers would not
//! leave by.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use trestle_core::types::{Family, LinkName};

use super::finding::{Code, Finding, Severity};
use super::settings::{self, KEEP, Settings};
use super::site::{Bridge, Site};
use crate::host::ObserveError;
use crate::host::linux::look::{Devices, Flow, Look};

const ALL: &str = "net.ipv4.conf.all.rp_filter";
/// The kernel takes the greater of a device's value and the one for all
/// (Documentation/networking/ip-sysctl.rst).
const STRICT: u8 = 1;
const LOOSE: &str = "2";
/// An address that nobody has (RFC 5737): the way to it is the way to the outside.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// What comes to this host, on its way to or from the instances of a bridge.
#[derive(Clone, Copy, Debug)]
struct Arrival<'a> {
    bridge: (&'a LinkName, &'a Bridge),
    from: Sender,
    /// The device that it comes in by.
    device: &'a LinkName,
    /// The device that the answer leaves by, if there is one.
    answered_by: Option<&'a LinkName>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sender {
    Instance,
    Outside,
}

pub(super) async fn check(site: &Site, devices: &Devices, look: &Look) -> Vec<Finding> {
    match gather(site, devices, look).await {
        Ok((settings, arrivals)) => findings(&settings, &arrivals),
        Err(error) => vec![Finding::not_looked("the reverse path filters", &error)],
    }
}

/// The kernel looks up the way of the answer as if that came in by where the packet would leave; so it
/// is looked up here.
async fn gather<'a>(
    site: &'a Site,
    devices: &'a Devices,
    look: &Look,
) -> Result<(Settings, Vec<Arrival<'a>>), ObserveError> {
    let way_out = site.way_out(devices).and_then(|name| Some((name, devices.get(name)?.index)));
    let Some((public, public_index)) = way_out else { return Ok(Default::default()) };
    let named = |index: u32| devices.iter().find(|(_, device)| device.index == index).map(|(name, _)| name);
    let mut arrivals = Vec::new();
    for (name, bridge) in site.routed(Family::Ipv4) {
        let (Some(guest), Some(device)) = (bridge.guest(Family::Ipv4), devices.get(name)) else { continue };
        let outside = IpAddr::from(OUTSIDE);
        let to_outside = Flow { from: guest, comes_by: device.index, to: outside };
        let to_guest = Flow { from: outside, comes_by: public_index, to: guest };
        let ways = [(Sender::Outside, public, to_outside), (Sender::Instance, name, to_guest)];
        for (from, device, answer) in ways {
            let answered_by = look.way(answer).await?.and_then(named);
            arrivals.push(Arrival { bridge: (name, bridge), from, device, answered_by });
        }
    }
    let names = arrivals.iter().map(|arrival| settings::of_device(arrival.device, "rp_filter"));
    Ok((settings::read(names.chain([ALL.to_owned()]))?, arrivals))
}

fn findings(settings: &Settings, arrivals: &[Arrival<'_>]) -> Vec<Finding> {
    let value = |name: &str| settings.get(name).and_then(|value| value.parse::<u8>().ok()).unwrap_or(0);
    let is_strict =
        |device: &LinkName| value(&settings::of_device(device, "rp_filter")).max(value(ALL)) == STRICT;
    let is_dropped =
        |arrival: &&Arrival<'_>| arrival.answered_by != Some(arrival.device) && is_strict(arrival.device);
    let mut dropped: BTreeMap<_, Finding> = BTreeMap::new();
    for arrival in arrivals.iter().filter(is_dropped) {
        let known = dropped.remove(&(arrival.device, arrival.from, arrival.answered_by));
        let finding = known.unwrap_or_else(|| finding(arrival));
        let (name, bridge) = arrival.bridge;
        dropped.insert((arrival.device, arrival.from, arrival.answered_by), finding.on(name, bridge));
    }
    dropped.into_values().collect()
}

fn finding(arrival: &Arrival<'_>) -> Finding {
    let Arrival { device, from, answered_by, .. } = arrival;
    let who = match from {
        Sender::Instance => "instances",
        Sender::Outside => "the outside",
    };
    let way = answered_by.map_or("no device".to_owned(), LinkName::to_string);
    let text = format!(
        "the strict reverse path filter of {device} drops what comes from {who}: answers would leave by {way}"
    );
    let name = settings::of_device(device, "rp_filter");
    Finding::new(Severity::Broken, Code::ReversePathStrict, text).mended_by(
        format!("make the filter loose, or correct the route; {KEEP}"),
        [settings::set(&name, LOOSE)],
    )
}
