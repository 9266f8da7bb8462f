//! Whether somebody else serves DHCP on a network's wire. Asking puts a packet on it, so this is done
//! only when asked for.

use std::collections::BTreeSet;

use trestle_core::types::{LinkName, Mac};

use super::finding::{Code, Finding, Severity};
use super::site::{Bridge, Site};
use crate::host::ObserveError;
use crate::host::linux::discover::{Server, servers};
use crate::host::linux::look::Devices;

pub(super) async fn check(site: &Site, devices: &Devices, say: &dyn Fn(&str)) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, bridge) in &site.bridges {
        let Some(device) = devices.get(name) else { continue };
        let mac = own_mac();
        say(&format!("sending a DHCPDISCOVER out of {name} from {mac}, and listening for three seconds"));
        match ask(name, device.index, mac).await {
            Ok(servers) => findings.extend(foreign(name, bridge, &servers)),
            Err(error) => findings.push(Finding::not_looked(&format!("the DHCP servers on {name}"), &error)),
        }
    }
    findings
}

/// One that no instance has and that is another each time: a server that remembers it remembers nobody.
fn own_mac() -> Mac {
    let [.., a, b, c] = *uuid::Uuid::now_v7().as_bytes();
    Mac::generated([a, b, c])
}

async fn ask(name: &LinkName, index: u32, mac: Mac) -> Result<BTreeSet<Server>, ObserveError> {
    let asked = tokio::task::spawn_blocking(move || servers(index, mac)).await;
    let asked = asked.unwrap_or_else(|panicked| Err(std::io::Error::other(panicked)));
    asked.map_err(|source| ObserveError::Probe { link: name.clone(), source })
}

/// A dnsmasq of Trestle's knows its own MACs alone and does not answer; should one do, it is the gateway.
fn foreign(name: &LinkName, bridge: &Bridge, servers: &BTreeSet<Server>) -> Vec<Finding> {
    let is_ours = |server: &&Server| bridge.gateways.iter().any(|gateway| gateway.addr() == server.address);
    servers.iter().filter(|server| !is_ours(server)).map(|server| finding(name, bridge, server)).collect()
}

fn finding(name: &LinkName, bridge: &Bridge, server: &Server) -> Finding {
    let Server { address, mac } = server;
    let (severity, effect) = match bridge.hears_no_server {
        true => (Severity::Note, "the guard keeps it from the instances"),
        false => {
            (Severity::Broken, "instances may take its address, under which the guard drops all they send")
        }
    };
    let text = format!(
        "a DHCP server that is not Trestle's, {address} at {mac}, answers on the wire of {name}: {effect}"
    );
    let table = format!("bridge no_dhcp_{}", mac.to_string().replace(':', ""));
    let rule = format!(
        "nft 'add table {table}; add chain {table} prerouting {{ type filter hook prerouting priority -300; }}; \
         add rule {table} prerouting ether saddr {mac} udp sport 67 drop'"
    );
    let mend = "stop it, or drop what it says on this host";
    Finding::new(severity, Code::ForeignDhcp, text).mended_by(mend, [rule]).on(name, bridge)
}
