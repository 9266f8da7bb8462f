//! What iptables-save(8) prints. It alone tells what is in the matches of iptables, which nft names at
//! best; and the tables of before nftables are nowhere else.

use std::slice::Iter;

use super::{Action, Chain, Condition, Field, Rule, Ruleset, Table, TableName, Tool};

/// What a program printed of a family's tables; which one, by the name of the program that changes them.
pub(in crate::doctor) fn parse(text: &str, family: &str, program: &'static str) -> Ruleset {
    let is_legacy = !is_of_nftables(text);
    let mut ruleset = Ruleset::new();
    let mut table: Option<TableName> = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = Some(TableName { family: family.to_owned(), name: name.to_owned(), is_legacy });
            continue;
        }
        let Some(table) = &table else { continue };
        let tables = ruleset.entry(table.clone());
        let chains = &mut tables
            .or_insert_with(|| Table { tool: Tool::Iptables(program), chains: Default::default() })
            .chains;
        if let Some((name, policy)) = line.strip_prefix(':').and_then(|chain| chain.split_once(' ')) {
            chains.insert(name.to_owned(), chain(name, policy));
        } else if let Some((name, rule)) = line.strip_prefix("-A ").and_then(|rest| rest.split_once(' ')) {
            let parsed = Rule { text: line.to_owned(), ..rule_of(rule) };
            chains.entry(name.to_owned()).or_default().rules.push(parsed);
        }
    }
    ruleset
}

/// Whether the program works with nftables: it says so of itself.
pub(in crate::doctor) fn is_of_nftables(text: &str) -> bool {
    text.lines().next().is_some_and(|line| line.contains("(nf_tables)"))
}

/// `policy` is `DROP [0:0]`, or a dash for a chain that is jumped to.
fn chain(name: &str, policy: &str) -> Chain {
    let hook = (!policy.starts_with('-')).then(|| name.to_ascii_lowercase());
    Chain { hook, drops: policy.starts_with("DROP"), rules: Vec::new() }
}

fn rule_of(text: &str) -> Rule {
    let words = words(text);
    let mut rule = Rule { conditions: Vec::new(), action: Action::Nothing, text: String::new() };
    let mut words = words.iter();
    let mut negated = false;
    while let Some(word) = words.next() {
        match word.as_str() {
            "!" => {
                negated = true;
                continue;
            }
            "-j" => rule.action = target(words.next()),
            "-g" => rule.action = Action::Goto(words.next().cloned().unwrap_or_default()),
            // What a target is told says nothing of the packet.
            _ if rule.action != Action::Nothing => {}
            option => rule.conditions.extend(condition(option, negated, &mut words)),
        }
        negated = false;
    }
    rule
}

fn target(name: Option<&String>) -> Action {
    match name.map(String::as_str) {
        Some("ACCEPT") => Action::Accept,
        Some("DROP" | "REJECT") => Action::Drop,
        Some("RETURN") => Action::Return,
        // Those of the kernel are in capitals and let the packet go on, as chains of nobody do.
        Some(name) => Action::Jump(name.to_owned()),
        None => Action::Nothing,
    }
}

/// `None` for what says nothing by itself.
fn condition(option: &str, negated: bool, words: &mut Iter<'_, String>) -> Option<Condition> {
    let field = match option {
        "-i" => Field::In,
        "-o" => Field::Out,
        "-s" => Field::Source,
        "-d" => Field::Destination,
        "-p" => Field::Protocol,
        "--sport" | "--sports" => Field::SourcePort,
        "--dport" | "--dports" => Field::DestinationPort,
        "--dst-type" => Field::DestinationType,
        "--ctstate" | "--state" => Field::State,
        "--ctstatus" => Field::Status,
        // These are loaded to be asked for more; of the others it is not known what they ask.
        "-m" => {
            let is_known = matches!(
                words.next().map(String::as_str),
                Some(
                    "tcp" | "udp" | "multiport" | "conntrack" | "state" | "addrtype" | "physdev" | "comment"
                )
            );
            return (!is_known).then_some(Condition::Unknown);
        }
        "--physdev-is-bridged" => {
            return Some(Condition::Is { field: Field::Bridged, values: vec!["yes".to_owned()], negated });
        }
        "--comment" => {
            words.next();
            return None;
        }
        _ if option.starts_with('-') => return Some(Condition::Unknown),
        // A further word of what was not understood.
        _ => return None,
    };
    let values: Vec<String> = words.next()?.split(',').map(|value| plain(field, value)).collect();
    // iptables calls what is translated a state of its own.
    let is_translated = |value: &String| matches!(value.as_str(), "snat" | "dnat");
    match field {
        Field::State if values.iter().any(is_translated) => Some(Condition::Unknown),
        _ => Some(Condition::Is { field, values, negated }),
    }
}

fn plain(field: Field, value: &str) -> String {
    match field {
        Field::In | Field::Out => value.replace('+', "*"),
        _ => value.to_ascii_lowercase(),
    }
}

/// Words between blanks, or between double quotes, as comments are.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let (mut is_quoted, mut is_escaped) = (false, false);
    for character in text.chars() {
        let last = words.len() - 1;
        match character {
            _ if is_escaped => words[last].push(character),
            '\\' if is_quoted => {}
            '"' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(String::new()),
            _ => words[last].push(character),
        }
        is_escaped = character == '\\' && is_quoted && !is_escaped;
    }
    words.retain(|word| !word.is_empty());
    words
}
