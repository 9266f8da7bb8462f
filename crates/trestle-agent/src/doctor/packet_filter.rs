//! Whether rules of somebody else drop what instances send, or what is sent to them.
//!
//! Every chain that a hook leads into has its own say: what one accepts, Trestle's included, another
//! may still drop. So each of them is asked for itself what becomes of the packets that must pass.

mod mend;
mod passages;

use std::collections::{BTreeMap, BTreeSet};

use trestle_core::ownership::TABLE;
use trestle_core::types::LinkName;

use super::finding::{Code, Finding, Severity};
use super::rules::{Fate, Ruleset, Table, TableName, parse_nft, parse_save};
use super::site::Site;
use crate::host::ObserveError;
use crate::host::error::NftError;
use crate::host::linux::look::{self, Devices};
use mend::Firewall;
use passages::{Passage, Way, passages};

/// The programs that print the rules of iptables, each with the family and the program that changes
/// them. The plain names come first: they are what people type, whichever kernel tables they work with.
const SAVES: [(&str, &str, &str); 6] = [
    ("iptables-save", "ip", "iptables"),
    ("iptables-nft-save", "ip", "iptables-nft"),
    ("iptables-legacy-save", "ip", "iptables-legacy"),
    ("ip6tables-save", "ip6", "ip6tables"),
    ("ip6tables-nft-save", "ip6", "ip6tables-nft"),
    ("ip6tables-legacy-save", "ip6", "ip6tables-legacy"),
];

pub(super) async fn check(site: &Site, devices: &Devices) -> Vec<Finding> {
    let filters_all = super::bridge_netfilter::is_on_for_all();
    let seen = async { Ok((ruleset().await?, filters_all?)) };
    let (ruleset, filters_all) = match seen.await {
        Ok(seen) => seen,
        Err(error) => return vec![Finding::not_looked("the rules of others", &error as &ObserveError)],
    };
    let mut findings = findings(site, &ruleset, &passages(site, devices, filters_all));
    match look::has_legacy_tables() {
        Ok(true) if !ruleset.keys().any(|table| table.is_legacy) => findings.push(unseen()),
        Ok(_) => {}
        Err(error) => findings.push(Finding::not_looked("the tables of before nftables", &error)),
    }
    findings
}

/// What nftables has, with what iptables tells better in place of it.
async fn ruleset() -> Result<Ruleset, ObserveError> {
    let unread = |error| ObserveError::Nftables { what: "the rules".into(), source: NftError::Answer(error) };
    let mut ruleset = parse_nft(&look::ruleset()?).map_err(unread)?;
    let mut known = BTreeSet::new();
    for (program, family, changer) in SAVES {
        let Some(text) = look::printed_by(program).await? else { continue };
        for (name, table) in parse_save(&text, family, changer) {
            if known.insert(name.clone()) {
                ruleset.insert(name, table);
            }
        }
    }
    Ok(ruleset)
}

fn unseen() -> Finding {
    let text = "there are rules of iptables of before nftables, and no program here that shows them";
    Finding::new(Severity::MayBreak, Code::NotLooked, text)
        .mended_by("install the package `iptables`", ["apt-get install iptables".to_owned()])
}

fn findings(site: &Site, ruleset: &Ruleset, passages: &[Passage]) -> Vec<Finding> {
    let foreign = ruleset.iter().filter(|(name, _)| name.name != TABLE);
    foreign.flat_map(|(name, table)| of_table(site, name, table, passages)).collect()
}

fn of_table(site: &Site, name: &TableName, table: &Table, passages: &[Passage]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (base, chain) in &table.chains {
        let Some(hook) = &chain.hook else { continue };
        // By what, and whether for certain: one finding each.
        let mut dropped: BTreeMap<(bool, String), Vec<&Passage>> = BTreeMap::new();
        for passage in passages.iter().filter(|passage| passage.meets(hook, &name.family)) {
            if let Fate::Dropped { by, certain } = table.fate(base, &passage.packet) {
                dropped.entry((certain, by)).or_default().push(passage);
            }
        }
        let firewall = Firewall::of(name, table, base);
        findings.extend(dropped.into_iter().map(|((certain, by), passages)| {
            let severity = if certain { Severity::Broken } else { Severity::MayBreak };
            finding(site, severity, &by, &passages, &firewall)
        }));
    }
    findings
}

fn finding(
    site: &Site,
    severity: Severity,
    by: &str,
    dropped: &[&Passage],
    firewall: &Firewall<'_>,
) -> Finding {
    let ways: BTreeSet<Way> = dropped.iter().map(|passage| passage.way).collect();
    let bridges: BTreeSet<&LinkName> = dropped.iter().map(|passage| passage.bridge).collect();
    let what = ways.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let drops = match severity {
        Severity::Broken => "drops",
        _ => "drops, unless one of its rules accepts that cannot be judged here,",
    };
    let text = format!("{firewall} {drops} {what} ({by})");
    let commands = firewall.commands(dropped);
    let finding = Finding::new(severity, Code::PacketsDropped, text).mended_by(firewall.mend(), commands);
    bridges.iter().fold(finding, |finding, name| match site.bridges.get(*name) {
        Some(bridge) => finding.on(name, bridge),
        None => finding,
    })
}
