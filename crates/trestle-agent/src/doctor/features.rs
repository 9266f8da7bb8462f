//! What the kernel lacks, found out by trying it in a network namespace that goes again.

use trestle_api::agent::Feature;
use trestle_core::spec::{HostSpec, LinkKind, Object};

use super::finding::{Code, Finding, Severity};
use crate::host::OpenError;
use crate::host::error::NftError;
use crate::host::linux::features::{Rules, missing, missing_rules};

pub(super) fn check(spec: Option<&HostSpec>) -> Vec<Finding> {
    let or_not_looked = |found: Result<Vec<Finding>, OpenError>| {
        found.unwrap_or_else(|error| vec![Finding::not_looked("the features of the kernel", &error)])
    };
    let features = missing().map(|missing| missing.into_iter().map(|lack| feature(lack, spec)).collect());
    let rules = missing_rules().map(|missing| missing.iter().map(refused).collect());
    [or_not_looked(features), or_not_looked(rules)].concat()
}

fn feature(lack: Feature, spec: Option<&HostSpec>) -> Finding {
    let (without, option) = match lack {
        Feature::Vlan => ("networks of type vlan", "CONFIG_VLAN_8021Q, which brings the module 8021q"),
        Feature::Ipv6 => ("networks with IPv6", "CONFIG_IPV6, and do not turn that off at boot"),
    };
    let text = format!("the kernel lacks {lack}: {without} cannot be used here");
    let severity = if needs(spec, lack) { Severity::Broken } else { Severity::Note };
    Finding::new(severity, Code::KernelLacks, text).mended_by(format!("use a kernel with {option}"), [])
}

fn needs(spec: Option<&HostSpec>, feature: Feature) -> bool {
    let needs = |object: &Object| match (feature, object) {
        (Feature::Vlan, Object::Link(link)) => matches!(link.kind, LinkKind::Vlan { .. }),
        (Feature::Ipv6, Object::DhcpHost6 { .. }) => true,
        _ => false,
    };
    spec.is_some_and(|spec| spec.objects.values().any(needs))
}

fn refused((rules, error): &(Rules, NftError)) -> Finding {
    let text = format!("the kernel lacks {}, without which no instance can be here: {error}", rules.what);
    let mend = format!("use a kernel with {}, as Debian's stock kernels are", rules.option);
    Finding::new(Severity::Broken, Code::KernelLacks, text).mended_by(mend, [])
}
