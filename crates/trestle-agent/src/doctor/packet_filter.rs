//! Whether rules of somebody else drop what instances send, or what is sent to them.
//!
//! Every chain that a hook leads into has its own say: what one accepts, Trestle's included, another
//! may still drop. So each of them is asked for itself what becomes of the packets that must pass.

mod mend;
mod passages;

use std::collections::{BTreeMap, BTreeSet};

use trestle_core::ownership::{GROUPS_TABLE, TABLE};
use trestle_core::types::LinkName;

use super::finding::{Code, Finding, Severity};
use super::rules::{Fate, Ruleset, Table, TableName, parse_nft, parse_save};
use super::site::Site;
use crate::host::ObserveError;
use crate::host::error::NftError;
use crate::host::linux::look::{self, Devices};
use mend::Firewall;
use passages::{Extent, Passage, Way, passages};

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
    let (mut ruleset, filters_all) = match of_nftables().and_then(|ruleset| Ok((ruleset, filters_all?))) {
        Ok(seen) => seen,
        Err(error) => return vec![Finding::not_looked("the rules of others", &error)],
    };
    let mut unknown = add_iptables(&mut ruleset).await;
    match look::has_legacy_tables() {
        Ok(true) if !ruleset.keys().any(|table| table.is_legacy) => unknown.push(unseen()),
        Ok(_) => {}
        Err(error) => unknown.push(Finding::not_looked("the tables of before nftables", &error)),
    }
    let found = findings(site, &ruleset, &passages(site, devices, filters_all));
    [found, unknown].concat()
}

fn of_nftables() -> Result<Ruleset, ObserveError> {
    let unread = |error| ObserveError::Nftables { what: "the rules".into(), source: NftError::Answer(error) };
    parse_nft(&look::ruleset()?).map_err(unread)
}

/// Puts what iptables tells of its chains in place of what nft does, and gives what could not be asked.
/// Chains that others made in a table of iptables are not told by it and stay.
async fn add_iptables(ruleset: &mut Ruleset) -> Vec<Finding> {
    let mut told = BTreeSet::new();
    let mut unknown = Vec::new();
    for (program, family, changer) in SAVES {
        let text = match look::printed_by(program).await {
            Ok(Some(text)) => text,
            Ok(None) => continue,
            Err(error) => {
                unknown.push(Finding::not_looked("the rules of iptables", &error));
                continue;
            }
        };
        for (name, table) in parse_save(&text, family, changer) {
            if told.insert(name.clone()) {
                ruleset.entry(name).or_default().chains.extend(table.chains);
            }
        }
    }
    unknown
}

fn unseen() -> Finding {
    let text = "there are rules of iptables of before nftables, and no program here that shows them";
    Finding::new(Severity::MayBreak, Code::NotLooked, text)
        .mended_by("install the package `iptables`", ["apt-get install iptables".to_owned()])
}

fn findings(site: &Site, ruleset: &Ruleset, passages: &[Passage]) -> Vec<Finding> {
    let foreign = ruleset.iter().filter(|(name, _)| ![TABLE, GROUPS_TABLE].contains(&name.name.as_str()));
    foreign.flat_map(|(name, table)| of_table(site, name, table, passages)).collect()
}

fn of_table(site: &Site, name: &TableName, table: &Table, passages: &[Passage]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (base, chain) in &table.chains {
        let Some(hook) = &chain.hook else { continue };
        let firewall = Firewall::of(name, table, base);
        let meeting = passages.iter().filter(|passage| passage.meets(hook, &name.family));
        let dropped = dropped(table, base, meeting);
        findings.extend(dropped.iter().map(|(what, passages)| finding(site, what, passages, &firewall)));
    }
    findings
}

/// How sure it is that something drops, and what that is.
type Drops = (Certainty, String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Certainty {
    Certain,
    /// One that cannot be judged may accept before.
    UnlessAccepted,
    /// The rule that drops cannot be judged, or is about a part.
    IfItHolds,
}

/// What a chain drops, by what drops it: one finding each.
fn dropped<'a, 'p>(
    table: &Table,
    base: &str,
    passages: impl Iterator<Item = &'a Passage<'p>>,
) -> BTreeMap<Drops, Vec<&'a Passage<'p>>>
where
    'p: 'a,
{
    let mut dropped: BTreeMap<Drops, Vec<&Passage>> = BTreeMap::new();
    let mut told = BTreeSet::new();
    for passage in passages {
        let drops: Vec<Drops> = match (table.fate(base, &passage.packet), passage.extent) {
            (Fate::Passes { unless }, _) => unless.into_iter().map(|by| (Certainty::IfItHolds, by)).collect(),
            (Fate::Dropped { by, certain: true }, Extent::Needed) => vec![(Certainty::Certain, by)],
            (Fate::Dropped { by, certain: false }, Extent::Needed) => vec![(Certainty::UnlessAccepted, by)],
            (Fate::Dropped { .. }, Extent::Anything) => Vec::new(),
        };
        // What is needed comes first: what drops that is not told again as what drops anything.
        for (certainty, by) in drops {
            if told.insert((by.clone(), passage.way, passage.bridge, passage.is_frame)) {
                dropped.entry((certainty, by)).or_default().push(passage);
            }
        }
    }
    dropped
}

fn finding(site: &Site, drops: &Drops, dropped: &[&Passage], firewall: &Firewall<'_>) -> Finding {
    let (certainty, by) = drops;
    let ways: BTreeSet<Way> = dropped.iter().map(|passage| passage.way).collect();
    let bridges: BTreeSet<&LinkName> = dropped.iter().map(|passage| passage.bridge).collect();
    let what = ways.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let (severity, text) = match certainty {
        Certainty::Certain => (Severity::Broken, format!("{firewall} drops {what} ({by})")),
        Certainty::UnlessAccepted => (
            Severity::MayBreak,
            format!(
                "{firewall} drops, unless one of its rules accepts that cannot be judged here, {what} ({by})"
            ),
        ),
        Certainty::IfItHolds => (Severity::MayBreak, format!("{firewall} may drop some of {what} ({by})")),
    };
    let mend = match certainty {
        Certainty::IfItHolds => format!("where that is not meant, {}", firewall.mend()),
        _ => firewall.mend().to_owned(),
    };
    let finding =
        Finding::new(severity, Code::PacketsDropped, text).mended_by(mend, firewall.commands(dropped));
    bridges.iter().fold(finding, |finding, name| match site.bridges.get(*name) {
        Some(bridge) => finding.on(name, bridge),
        None => finding,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::site::{Bridge, Port};

    /// A host that routes for one instance on `br100`.
    fn site() -> Site {
        let port = Port { hostname: Some("web".to_owned()), addresses: ["10.0.0.2".parse().unwrap()].into() };
        let bridge = Bridge {
            gateways: ["10.0.0.1/24".parse().unwrap()].into(),
            ports: [("tr-0000000000aa".parse().unwrap(), port)].into(),
            ..Bridge::default()
        };
        Site {
            bridges: [("br100".parse().unwrap(), bridge)].into(),
            public: Some("eth0".parse().unwrap()),
            ..Site::default()
        }
    }

    /// What is found where these are the rules, with the commands that mend it.
    fn found(ruleset: &Ruleset) -> String {
        found_on(&site(), ruleset)
    }

    fn found_on(site: &Site, ruleset: &Ruleset) -> String {
        let findings = findings(site, ruleset, &passages(site, &Devices::new(), false));
        let lines = findings
            .iter()
            .flat_map(|finding| std::iter::once(&finding.text).chain(&finding.commands).cloned());
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Who lets all else pass that instances ask their gateway for.
    #[test]
    fn metadata_that_are_not_let_in_are_found_where_there_are_any() {
        let text = "# Generated by iptables-save v1.8.9 (nf_tables)
*filter
:INPUT DROP [0:0]
-A INPUT -i br100 -p udp -j ACCEPT
COMMIT
";
        let ruleset = parse_save(text, "ip", "iptables");
        assert_eq!(found(&ruleset), "");
        let site = Site { metadata: Some(7118), ..site() };
        let findings = findings(&site, &ruleset, &passages(&site, &Devices::new(), false));
        let texts: Vec<&str> = findings.iter().map(|finding| &finding.text[..]).collect();
        assert_eq!(
            texts,
            ["chain INPUT of table ip filter drops what instances ask the metadata service (policy drop)"]
        );
    }

    /// Rules as ufw 0.36 makes them, those for single protocols aside.
    const UFW: &str = "# Generated by iptables-save v1.8.9 (nf_tables)
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:ufw-before-forward - [0:0]
:ufw-before-input - [0:0]
:ufw-not-local - [0:0]
:ufw-user-forward - [0:0]
:ufw-user-input - [0:0]
-A INPUT -j ufw-before-input
-A FORWARD -j ufw-before-forward
-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-forward -p icmp -m icmp --icmp-type 8 -j ACCEPT
-A ufw-before-forward -j ufw-user-forward
-A ufw-before-input -m conntrack --ctstate INVALID -j DROP
-A ufw-before-input -p udp -m udp --sport 67 --dport 68 -j ACCEPT
-A ufw-before-input -j ufw-not-local
-A ufw-before-input -j ufw-user-input
-A ufw-not-local -m addrtype --dst-type LOCAL -j RETURN
-A ufw-not-local -m addrtype --dst-type BROADCAST -j RETURN
-A ufw-not-local -m limit --limit 3/min --limit-burst 10 -j LOG --log-prefix \"[UFW BLOCK] \"
-A ufw-not-local -j DROP
COMMIT
";

    #[test]
    fn ufw_is_told_in_its_own_words_what_to_let_pass() {
        insta::assert_snapshot!(found(&parse_save(UFW, "ip", "iptables")), @"
        ufw's chain FORWARD of table ip filter drops what instances send outside (policy drop)
        ufw route allow in on br100
        ufw's chain INPUT of table ip filter drops instances' requests for an address, instances' questions to the DNS of their gateway (policy drop)
        ufw allow in on br100
        ");
        let allowed = "-A ufw-user-forward -i br100 -j ACCEPT\n-A ufw-user-input -i br100 -j ACCEPT\nCOMMIT";
        let mended = UFW.replace("COMMIT", allowed);
        assert_eq!(found(&parse_save(&mended, "ip", "iptables")), "");
    }

    /// What firewalld 1.3 has of chains at one hook, for the zone of a device.
    fn firewalld(zone: &str) -> Ruleset {
        let chain =
            |name: &str| format!(r#"{{"chain":{{"family":"inet","table":"firewalld","name":"{name}"}}}}"#);
        let rule = |chain: &str, expr: &str| {
            format!(
                r#"{{"rule":{{"family":"inet","table":"firewalld","chain":"{chain}","handle":5,"expr":[{expr}]}}}}"#
            )
        };
        let base = r#"{"chain":{"family":"inet","table":"firewalld","name":"filter_FORWARD","type":"filter","hook":"forward","prio":10,"policy":"accept"}}"#;
        let from = r#"{"match":{"op":"==","left":{"meta":{"key":"iifname"}},"right":"br100"}}"#;
        let entries = [
            base.to_owned(),
            chain("filter_FORWARD_ZONES"),
            chain("filter_FWD_trusted"),
            rule(
                "filter_FORWARD",
                r#"{"match":{"op":"==","left":{"ct":{"key":"state"}},"right":{"set":["established","related"]}}},{"accept":null}"#,
            ),
            rule(
                "filter_FORWARD",
                r#"{"match":{"op":"in","left":{"ct":{"key":"status"}},"right":"dnat"}},{"accept":null}"#,
            ),
            rule("filter_FORWARD", r#"{"jump":{"target":"filter_FORWARD_ZONES"}}"#),
            rule("filter_FORWARD", r#"{"reject":{"type":"icmpx","expr":"admin-prohibited"}}"#),
            rule("filter_FORWARD_ZONES", &format!(r#"{from},{{"goto":{{"target":"filter_FWD_{zone}"}}}}"#)),
            rule("filter_FWD_trusted", r#"{"accept":null}"#),
        ];
        parse_nft(&format!(r#"{{"nftables":[{}]}}"#, entries.join(","))).unwrap()
    }

    #[test]
    fn firewalld_is_told_to_trust_the_bridge() {
        insta::assert_snapshot!(found(&firewalld("public")), @"
        firewalld's chain filter_FORWARD of table inet firewalld drops what instances send outside (the rule with handle 5 of chain filter_FORWARD)
        firewall-cmd --permanent --zone=trusted --add-interface=br100
        firewall-cmd --reload
        ");
        assert_eq!(found(&firewalld("trusted")), "");
    }

    #[test]
    fn libvirt_s_rules_for_its_own_bridge_are_nobody_s_trouble() {
        let text = "# Generated by iptables-save v1.8.9 (nf_tables)
*filter
:FORWARD ACCEPT [0:0]
:LIBVIRT_FWI - [0:0]
-A FORWARD -j LIBVIRT_FWI
-A LIBVIRT_FWI -d 192.168.122.0/24 -o virbr0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A LIBVIRT_FWI -o virbr0 -j REJECT --reject-with icmp-port-unreachable
COMMIT
";
        assert_eq!(found(&parse_save(text, "ip", "iptables")), "");
        let ours = text.replace("-o virbr0", "-o br100");
        insta::assert_snapshot!(found(&parse_save(&ours, "ip", "iptables")), @"
        libvirt's chain FORWARD of table ip filter drops answers from outside (-A LIBVIRT_FWI -o br100 -j REJECT --reject-with icmp-port-unreachable)
        iptables -I FORWARD -o br100 -j ACCEPT
        ");
    }

    /// Programs say first what they do not show, and which kernel tables they work with after it.
    #[test]
    fn tables_of_before_nftables_are_told_apart() {
        for (header, is_legacy) in [
            ("# Generated by iptables-save v1.8.9 on Sun Jan  4 04:41:50 2026", true),
            ("# Generated by iptables-save v1.8.9 (nf_tables) on Sun Jan  4 04:41:50 2026", false),
            (
                "# Table `filter' contains incompatible base-chains, use 'nft' tool to list them.\n# Generated by iptables-save v1.8.9 (nf_tables)",
                false,
            ),
        ] {
            let ruleset =
                parse_save(&format!("{header}\n*filter\n:FORWARD ACCEPT [0:0]\nCOMMIT\n"), "ip", "iptables");
            assert_eq!(
                ruleset.keys().map(|table| table.is_legacy).collect::<Vec<_>>(),
                [is_legacy],
                "{header}"
            );
        }
    }

    /// A table with a named set and a chain at this hook that accepts what its one rule does not drop.
    fn one_rule(hook: &str, expr: &str) -> Ruleset {
        parse_nft(&format!(
            r#"{{"nftables":[
                {{"set":{{"family":"ip","table":"fw2","name":"bad","type":"ipv4_addr","elem":["10.0.0.2"]}}}},
                {{"chain":{{"family":"ip","table":"fw2","name":"c","type":"filter","hook":"{hook}","prio":0,"policy":"accept"}}}},
                {{"rule":{{"family":"ip","table":"fw2","chain":"c","handle":4,"expr":[{expr},{{"drop":null}}]}}}}
            ]}}"#
        ))
        .unwrap()
    }

    fn asks(left: &str, right: &str) -> String {
        format!(r#"{{"match":{{"op":"==","left":{left},"right":{right}}}}}"#)
    }

    fn payload(protocol: &str, field: &str, value: &str) -> String {
        asks(&format!(r#"{{"payload":{{"protocol":"{protocol}","field":"{field}"}}}}"#), value)
    }

    fn meta(key: &str, value: &str) -> String {
        asks(&format!(r#"{{"meta":{{"key":"{key}"}}}}"#), value)
    }

    #[test]
    fn a_rule_that_drops_what_a_set_names_may_break() {
        insta::assert_snapshot!(found(&one_rule("forward", &payload("ip", "saddr", r#""@bad""#))), @r#"
        chain c of table ip fw2 may drop some of what instances send outside, answers from outside (the rule with handle 4 of chain c)
        nft 'insert rule ip fw2 c iifname "br100" accept'
        nft 'insert rule ip fw2 c oifname "br100" accept'
        "#);
        insta::assert_snapshot!(found(&one_rule("input", &meta("iifname", r#""@ifs""#))), @r#"
        chain c of table ip fw2 may drop some of instances' requests for an address, instances' questions to the DNS of their gateway, instances' pings of their gateway (the rule with handle 4 of chain c)
        nft 'insert rule ip fw2 c iifname "br100" accept'
        "#);
        let elsewhere =
            format!("{},{}", meta("iifname", r#""docker0""#), payload("ip", "saddr", r#""@bad""#));
        assert_eq!(found(&one_rule("forward", &elsewhere)), "");
        assert_eq!(found(&one_rule("output", &payload("ip", "saddr", r#""@bad""#))), "");
    }

    /// Who drops a protocol or a port by name drops a part of what instances send.
    #[test]
    fn a_rule_that_drops_a_part_by_name_may_break() {
        insta::assert_snapshot!(found(&one_rule("forward", &payload("ip", "protocol", r#""icmp""#))), @r#"
        chain c of table ip fw2 may drop some of what instances send outside, answers from outside (the rule with handle 4 of chain c)
        nft 'insert rule ip fw2 c iifname "br100" accept'
        nft 'insert rule ip fw2 c oifname "br100" accept'
        "#);
        insta::assert_snapshot!(found(&one_rule("input", &payload("ip", "protocol", r#""icmp""#))), @r#"
        chain c of table ip fw2 may drop some of instances' pings of their gateway (the rule with handle 4 of chain c)
        nft 'insert rule ip fw2 c iifname "br100" accept'
        "#);
        insta::assert_snapshot!(found(&one_rule("forward", &payload("tcp", "dport", "25"))), @r#"
        chain c of table ip fw2 may drop some of what instances send outside (the rule with handle 4 of chain c)
        nft 'insert rule ip fw2 c iifname "br100" accept'
        "#);
        for nobody_s in [
            payload("icmp", "type", r#""timestamp-request""#),
            payload("tcp", "dport", "22"),
            meta("iifname", r#""eth0""#),
            payload("ip", "saddr", r#""198.51.100.7""#),
        ] {
            assert_eq!(found(&one_rule("input", &nobody_s)), "", "{nobody_s}");
        }
        for nobody_s in [
            format!("{},{}", meta("iifname", r#""docker0""#), payload("tcp", "dport", "25")),
            payload("ip", "daddr", r#"{"prefix":{"addr":"127.0.0.0","len":8}}"#),
            asks(r#"{"ct":{"key":"state"}}"#, r#""invalid""#),
        ] {
            assert_eq!(found(&one_rule("forward", &nobody_s)), "", "{nobody_s}");
        }
    }

    /// One guest does not stand for its neighbours.
    #[test]
    fn a_rule_that_drops_one_of_two_instances_may_break() {
        let from_inside =
            format!("{},{}", meta("iifname", r#""br100""#), payload("ip", "saddr", r#""10.0.0.3""#));
        let rule = one_rule("forward", &from_inside);
        assert_eq!(found(&rule), "");
        let mut site = site();
        let port = Port { hostname: None, addresses: ["10.0.0.3".parse().unwrap()].into() };
        site.bridges.values_mut().for_each(|bridge| {
            bridge.ports.insert("tr-0000000000ab".parse().unwrap(), port.clone());
        });
        insta::assert_snapshot!(found_on(&site, &rule), @r#"
        chain c of table ip fw2 may drop some of what instances send outside (the rule with handle 4 of chain c)
        nft 'insert rule ip fw2 c iifname "br100" accept'
        "#);
    }

    #[test]
    fn a_rule_that_drops_what_clients_send_to_a_vpn_is_found_while_there_is_one() {
        let rule = format!("{},{}", meta("iifname", r#""eth0""#), payload("udp", "dport", "1194"));
        let rule = one_rule("forward", &rule);
        assert_eq!(found(&rule), "");
        let mut site = site();
        site.bridges.values_mut().for_each(|bridge| bridge.vpns = bridge.ports.keys().cloned().collect());
        insta::assert_snapshot!(found_on(&site, &rule), @r#"
        chain c of table ip fw2 drops what is sent to VPNs (the rule with handle 4 of chain c)
        nft 'insert rule ip fw2 c oifname "br100" accept'
        "#);
    }

    #[test]
    fn what_is_ours_is_not_judged() {
        let json = r#"{"nftables":[{"chain":{"family":"inet","table":"trestle","name":"forward","type":"filter","hook":"forward","prio":0,"policy":"drop"}}]}"#;
        assert_eq!(found(&parse_nft(json).unwrap()), "");
        assert_ne!(found(&parse_nft(&json.replace("trestle", "site")).unwrap()), "");
    }
}
