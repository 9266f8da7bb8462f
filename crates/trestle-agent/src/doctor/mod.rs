//! The doctor: what stands between instances and their gateway on this host, and the smallest mend.
//!
//! It looks at the kernel as it is, not at what Trestle believes of it, and it changes nothing. Each
//! check is a pure function from what was seen to findings; what could not be looked at is a finding
//! too, because unknown is not well. Of the agent it learns which bridges and networks there are; where
//! that is away, the devices that are Trestle's by their marks have to do.

mod agent;
mod bridge_netfilter;
mod dhcp;
mod features;
mod finding;
mod forwarding;
mod mtu;
mod packet_filter;
mod reverse_path;
mod rules;
mod settings;
mod site;

use std::path::Path;

use crate::host::ObserveError;
use crate::host::linux::look::{Devices, Look};
pub use finding::{Code, Finding, Severity};
use site::Site;

/// What is to be examined.
#[derive(Clone, Copy)]
pub struct Examination<'a> {
    /// The socket of this host's agent.
    pub socket: &'a Path,
    /// Whether foreign DHCP servers are asked for, which puts packets on the wire: told of each before
    /// it is sent.
    pub probe: Option<&'a dyn Fn(&str)>,
}

/// Looks at this host, in the network namespace of the calling thread, and gives what is wrong: the
/// worst first.
pub async fn examine(examination: Examination<'_>) -> Vec<Finding> {
    let asked = agent::ask(examination.socket).await;
    let site = asked.spec().map(Site::asked_for);
    let mut findings = asked.findings(site.as_ref().unwrap_or(&Site::default()));
    findings.extend(features::check(asked.spec()));
    match seen(site).await {
        Ok((look, devices, site)) => {
            findings.extend(packet_filter::check(&site, &devices).await);
            findings.extend(bridge_netfilter::check(&site, &devices));
            findings.extend(forwarding::check(&site, &devices));
            findings.extend(reverse_path::check(&site, &devices, &look).await);
            findings.extend(mtu::check(&site, &devices));
            if let Some(say) = examination.probe {
                findings.extend(dhcp::check(&site, &devices, say).await);
            }
        }
        Err(error) => findings.push(Finding::not_looked("the devices of this host", &error)),
    }
    findings.sort();
    findings
}

/// The devices there are; of what the agent does not say, what can be told from them.
async fn seen(site: Option<Site>) -> Result<(Look, Devices, Site), ObserveError> {
    let look = Look::open()?;
    let devices = look.devices().await?;
    let site = match site {
        Some(site) => site,
        None => Site::found(&devices, &look.our_addresses().await?),
    };
    Ok((look, devices, site))
}
