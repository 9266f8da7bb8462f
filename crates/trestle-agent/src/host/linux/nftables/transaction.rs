//! Steps as the commands of one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use trestle_core::plan::Step;
use trestle_core::render::{judgement, set_command};
use trestle_core::spec::{Set, Table};

use super::chains::Counters;
use super::element::quoted;

/// For how long what is sent for an address that has left is dropped.
const RELEASED: &str = "2m";

/// What a transaction takes besides its steps.
#[derive(Clone, Debug, Default)]
pub(super) struct Given {
    /// What tells the judgement that begins with it from others.
    pub(super) random: u32,
    /// What the rules of chains that are made anew have counted so far.
    pub(super) counters: Counters,
}

/// The commands of one transaction.
pub(super) fn transaction(steps: &[Step], given: Given) -> String {
    let deleted: BTreeSet<Table> = steps
        .iter()
        .filter_map(|step| match step {
            Step::DeleteRuleset { table } => Some(*table),
            _ => None,
        })
        .collect();
    let mut text = String::new();
    for table in &deleted {
        replace(&mut text, *table, "");
    }
    for step in steps {
        if let Step::PutRuleset { table, text: chains } = step {
            replace(&mut text, *table, chains);
        }
    }
    put_chains(&mut text, steps, given.counters);
    // Before what comes in its place: ranges of a set must not overlap. nft 1.0 cannot delete what may
    // be gone already, so each is added first, which is nothing where it is there; a range that is added
    // counts for it though it goes again.
    for verb in ["add", "delete"] {
        elements(&mut text, verb, steps, |step| match step {
            Step::TakeElement { set, element }
                if !deleted.contains(&set.table()) && (verb == "delete" || !set.is_of_ranges()) =>
            {
                Some((*set, element.clone()))
            }
            _ => None,
        });
    }
    elements(&mut text, "add", steps, |step| match step {
        Step::AddElement { set, element } => Some((*set, element.clone())),
        _ => None,
    });
    // What goes with its table is not deleted for itself.
    for verb in ["add", "delete"] {
        elements(&mut text, verb, steps, |step| match step {
            Step::ReplaceElement { set, element, from, .. } => Some((*set, format!("{element} : {from}"))),
            Step::DeleteElement { set, element } | Step::ForgetClaim { set, element }
                if !deleted.contains(&set.table()) =>
            {
                Some((*set, element.clone()))
            }
            _ => None,
        });
    }
    elements(&mut text, "add", steps, |step| match step {
        Step::ReplaceElement { set, element, to, .. } => Some((*set, format!("{element} : {to}"))),
        _ => None,
    });
    if !deleted.contains(&Table::Groups) {
        released(&mut text, steps);
        delete_chains(&mut text, steps);
        judge_anew(&mut text, steps, given.random);
    }
    text
}

/// Chains and sets may refer to one another: all are there before any is filled.
fn put_chains(text: &mut String, steps: &[Step], mut counters: Counters) {
    let (family, table) = (Table::Groups.family(), Table::Groups.name());
    for step in steps {
        let _ = match step {
            Step::PutSet { set } => writeln!(text, "{}", set_command(*set)),
            Step::PutChain { chain, .. } => writeln!(text, "add chain {family} {table} {chain}"),
            _ => Ok(()),
        };
    }
    for step in steps {
        let Step::PutChain { chain, rules } = step else { continue };
        let _ = writeln!(text, "flush chain {family} {table} {chain}");
        for rule in rules.lines() {
            let rule = counters.resume(chain, rule);
            let _ = writeln!(text, "add rule {family} {table} {chain} {rule}");
        }
    }
}

/// What may be gone already is added first, here too.
fn delete_chains(text: &mut String, steps: &[Step]) {
    let (family, table) = (Table::Groups.family(), Table::Groups.name());
    for verb in ["add", "flush", "delete"] {
        for step in steps {
            if let Step::DeleteChain { chain } = step {
                let _ = writeln!(text, "{verb} chain {family} {table} {chain}");
            }
        }
    }
    for step in steps {
        if let Step::DeleteSet { set } = step {
            let _ = writeln!(text, "{}\ndelete set {family} {table} {}", set_command(*set), set.name());
        }
    }
}

fn judge_anew(text: &mut String, steps: &[Step], random: u32) {
    if !steps.contains(&Step::JudgeAnew) {
        return;
    }
    let (family, table) = (Table::Groups.family(), Table::Groups.name());
    for (chain, rules) in judgement(random) {
        let _ = writeln!(text, "flush chain {family} {table} {chain}");
        for rule in rules {
            let _ = writeln!(text, "add rule {family} {table} {chain} {rule}");
        }
    }
}

/// What neighbours send for an address that has left is dropped for as long as they may remember it
/// (`gc_stale_time` and what probing takes, arp(7)); one that is back is not.
fn released(text: &mut String, steps: &[Step]) {
    for step in steps {
        let (step, element, set) = match step {
            Step::AddElement { set, element } | Step::DeleteElement { set, element } => (step, element, set),
            _ => continue,
        };
        let name = match set {
            Set::Held => "released",
            Set::Held6 => "released6",
            _ => continue,
        };
        let (family, table) = (Table::Groups.family(), Table::Groups.name());
        let element = quoted(*set, element);
        let _ = match step {
            Step::AddElement { .. } => writeln!(
                text,
                "add element {family} {table} {name} {{ {element} }}\ndelete element {family} {table} {name} {{ {element} }}"
            ),
            _ => writeln!(text, "add element {family} {table} {name} {{ {element} timeout {RELEASED} }}"),
        };
    }
}

/// nft 1.0 cannot delete a table that may be gone already: it is added first.
fn replace(text: &mut String, table: Table, chains: &str) {
    let table = format!("{} {}", table.family(), table.name());
    let _ = writeln!(text, "add table {table}\ndelete table {table}");
    text.push_str(chains);
}

fn elements<'a>(
    text: &mut String,
    verb: &str,
    steps: &'a [Step],
    pick: impl Fn(&'a Step) -> Option<(Set, String)>,
) {
    let mut of_set: BTreeMap<Set, Vec<String>> = BTreeMap::new();
    for (set, element) in steps.iter().filter_map(pick) {
        of_set.entry(set).or_default().push(quoted(set, &element));
    }
    for (set, elements) in of_set {
        let (family, table, set) = (set.table().family(), set.table().name(), set.name());
        let _ = writeln!(text, "{verb} element {family} {table} {set} {{ {} }}", elements.join(", "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_adds_before_it_deletes_and_quotes_devices() {
        let element = |text: &str| text.to_owned();
        let steps = [
            Step::PutRuleset { table: Table::Guard, text: "table bridge trestle {\n}\n".to_owned() },
            Step::AddElement { set: Set::GuardMac, element: element("tr-00 . fa:16:3e:00:00:01") },
            Step::AddElement { set: Set::GuardMac, element: element("tr-01 . fa:16:3e:00:00:02") },
            Step::DeleteElement {
                set: Set::GuardIp4,
                element: element("tr-02 . fa:16:3e:00:00:03 . 10.0.0.4"),
            },
            Step::AddElement { set: Set::SharedUplink, element: element("fwd") },
            Step::AddElement { set: Set::GuardNd, element: element("tr-00 . fa:16:3e:00:00:01 . 0xfd00") },
            Step::DeleteElement { set: Set::NatSource, element: element("10.0.0.0/24 . fwd") },
            Step::DeleteElement { set: Set::NatLocal, element: element("10.0.0.0/24 . br1") },
            Step::DeleteRuleset { table: Table::Gateway },
        ];
        insta::assert_snapshot!(transaction(&steps, Given::default()), @r#"
        add table inet trestle
        delete table inet trestle
        add table bridge trestle
        delete table bridge trestle
        table bridge trestle {
        }
        add element bridge trestle guard_mac { "tr-00" . fa:16:3e:00:00:01, "tr-01" . fa:16:3e:00:00:02 }
        add element bridge trestle guard_nd { "tr-00" . fa:16:3e:00:00:01 . 0xfd00 }
        add element bridge trestle shared_uplink { "fwd" }
        add element bridge trestle guard_ip4 { "tr-02" . fa:16:3e:00:00:03 . 10.0.0.4 }
        delete element bridge trestle guard_ip4 { "tr-02" . fa:16:3e:00:00:03 . 10.0.0.4 }
        "#);
    }
}
