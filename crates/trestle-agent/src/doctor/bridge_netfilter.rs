//! `br_netfilter`, by which what is bridged meets the rules of IP: whether it is there for those who
//! need it, and off for all others.

use trestle_core::types::LinkName;

use super::finding::{Code, Finding, Severity};
use super::settings::{self, KEEP, Settings};
use super::site::Site;
use crate::host::ObserveError;
use crate::host::linux::look::{Devices, has_br_netfilter};

/// The settings for all bridges at once. A bridge of its own has its own.
const FOR_ALL: [&str; 2] = ["net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables"];

pub(super) fn check(site: &Site, devices: &Devices) -> Vec<Finding> {
    if !has_br_netfilter() {
        return missing(site).into_iter().collect();
    }
    match settings::read(FOR_ALL.map(str::to_owned)) {
        Ok(settings) => filtered(site, devices, &settings).into_iter().collect(),
        Err(error) => vec![Finding::not_looked("the settings of br_netfilter", &error)],
    }
}

/// Whether a setting hands what all bridges pass on to the rules of IP.
pub(super) fn is_on_for_all() -> Result<bool, ObserveError> {
    let settings = settings::read(FOR_ALL.map(str::to_owned))?;
    Ok(settings.values().any(|value| value != "0"))
}

fn missing(site: &Site) -> Option<Finding> {
    let text = "the kernel module br_netfilter is not loaded: security groups between instances on one bridge need it";
    let load = ["modprobe br_netfilter", "echo br_netfilter >/etc/modules-load.d/trestle.conf"];
    // It comes switched on for all bridges.
    let off = FOR_ALL.map(|name| settings::set(name, "0"));
    let commands = load.map(str::to_owned).into_iter().chain(off);
    let finding = Finding::new(Severity::Note, Code::BrNetfilterMissing, text);
    let finding =
        finding.mended_by(format!("load it, and leave it off for bridges of others; {KEEP}"), commands);
    (!site.bridges.is_empty()).then(|| finding.everywhere(site))
}

fn filtered(site: &Site, devices: &Devices, settings: &Settings) -> Option<Finding> {
    let on: Vec<&String> = settings.iter().filter(|(_, value)| *value != "0").map(|(name, _)| name).collect();
    if on.is_empty() || site.bridges.is_empty() {
        return None;
    }
    let is_foreign = |(name, _): &(&LinkName, _)| !site.bridges.contains_key(*name);
    let foreign = devices.iter().filter(|(_, device)| device.is_bridge).filter(is_foreign);
    let names: Vec<&str> = foreign.map(|(name, _)| name.as_str()).collect();
    let also = if names.is_empty() {
        String::new()
    } else {
        format!(", of others' bridges {} too", names.join(", "))
    };
    let text = format!(
        "what is bridged on this host goes through the rules of IP{also}: a rule there that drops what is \
         forwarded drops it between instances of one bridge"
    );
    let mend = format!("turn it off unless another program needs it, as Docker and Kubernetes may; {KEEP}");
    let commands = on.into_iter().map(|name| settings::set(name, "0"));
    let finding = Finding::new(Severity::MayBreak, Code::BridgesFiltered, text).mended_by(mend, commands);
    Some(finding.everywhere(site))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_is_missed_where_there_are_bridges_only() {
        assert_eq!(missing(&Site::default()), None);
        let bridges = [("br100".parse().unwrap(), Default::default())].into();
        let finding = missing(&Site { bridges, ..Site::default() }).unwrap();
        insta::assert_snapshot!(finding.commands.join("\n"), @r"
        modprobe br_netfilter
        echo br_netfilter >/etc/modules-load.d/trestle.conf
        sysctl -w net.bridge.bridge-nf-call-iptables=0
        sysctl -w net.bridge.bridge-nf-call-ip6tables=0
        ");
    }
}
