//! What `nft --json list ruleset` prints (libnftables-json(5)).

use serde_json::Value;

use super::{Action, Condition, Field, Rule, Ruleset, TableName};

/// Statements after which the rest of a rule holds for some packets only.
const LIMITS: [&str; 6] = ["limit", "quota", "ct count", "meter", "set", "map"];

/// What a table of nftables is called where the rest of a thing in it is.
fn table_of(thing: &Value) -> Option<TableName> {
    let text = |name: &str| Some(thing.get(name)?.as_str()?.to_owned());
    Some(TableName { family: text("family")?, name: text("table")?, is_legacy: false })
}

/// Reads the tables with their chains.
pub(in crate::doctor) fn parse(json: &str) -> Result<Ruleset, serde_json::Error> {
    let listing: Value = serde_json::from_str(json)?;
    let mut ruleset = Ruleset::new();
    for entry in listing["nftables"].as_array().into_iter().flatten() {
        let (chain, rule) = (&entry["chain"], &entry["rule"]);
        let Some(table) = table_of(chain).or_else(|| table_of(rule)) else { continue };
        let chains = &mut ruleset.entry(table).or_default().chains;
        if let Some(name) = chain["name"].as_str() {
            let made = chains.entry(name.to_owned()).or_default();
            made.hook = chain["hook"].as_str().map(str::to_owned);
            made.drops = chain["policy"] == "drop";
        } else if let Some(name) = rule["chain"].as_str() {
            chains.entry(name.to_owned()).or_default().rules.extend(rules(rule));
        }
    }
    Ok(ruleset)
}

/// A rule, or one for each way that its verdict map has.
fn rules(rule: &Value) -> Vec<Rule> {
    let text = format!(
        "the rule with handle {} of chain {}",
        rule["handle"],
        rule["chain"].as_str().unwrap_or_default()
    );
    let mut conditions: Vec<Condition> = Vec::new();
    let mut rules = Vec::new();
    for statement in rule["expr"].as_array().into_iter().flatten() {
        if let Some(compared) = statement.get("match") {
            conditions.extend(compared_to(compared));
        } else if let Some(map) = statement.get("vmap") {
            rules.extend(ways(map, &conditions, &text));
        } else if let Some(action) = action(statement) {
            rules.push(Rule { conditions: conditions.clone(), action, text: text.clone() });
        } else if LIMITS.iter().any(|limit| statement.get(limit).is_some()) || is_match_of_iptables(statement)
        {
            conditions.push(Condition::Unknown);
        }
    }
    rules
}

fn is_match_of_iptables(statement: &Value) -> bool {
    statement.get("xt").is_some_and(|xt| xt["type"] != "target")
}

fn action(statement: &Value) -> Option<Action> {
    let to = |kind: &str| statement.get(kind).and_then(|jump| Some(jump.get("target")?.as_str()?.to_owned()));
    let has = |kind: &str| statement.get(kind).is_some();
    let is_reject = statement.get("xt").is_some_and(|xt| xt["name"] == "REJECT" || xt["name"] == "DROP");
    if has("accept") {
        Some(Action::Accept)
    } else if has("drop") || has("reject") || is_reject {
        Some(Action::Drop)
    } else if has("return") {
        Some(Action::Return)
    } else {
        to("jump").map(Action::Jump).or_else(|| to("goto").map(Action::Goto))
    }
}

/// The ways of a verdict map. What is in a named one is not listed: it may do anything.
fn ways(map: &Value, conditions: &[Condition], text: &str) -> Vec<Rule> {
    let Some(pairs) = map["data"]["set"].as_array() else {
        let unknown = [conditions, &[Condition::Unknown]].concat();
        let way = |action| Rule { conditions: unknown.clone(), action, text: text.to_owned() };
        return [Action::Accept, Action::Drop].map(way).into();
    };
    let way = |pair: &Value| {
        let compared = is(&map["key"], &pair[0], false);
        let conditions = conditions.iter().cloned().chain(compared).collect();
        Some(Rule { conditions, action: action(&pair[1])?, text: text.to_owned() })
    };
    pairs.iter().filter_map(way).collect()
}

fn compared_to(compared: &Value) -> Vec<Condition> {
    match compared["op"].as_str() {
        Some("==" | "in") => is(&compared["left"], &compared["right"], false),
        Some("!=") => is(&compared["left"], &compared["right"], true),
        _ => vec![Condition::Unknown],
    }
}

/// That a field has one of the values; a field of a protocol is there in packets of that alone.
fn is(left: &Value, right: &Value, negated: bool) -> Vec<Condition> {
    let within =
        |field: Field, value: &str| Condition::Is { field, values: vec![value.to_owned()], negated: false };
    let values = values(right);
    let asked = match (field(left), values) {
        (Some(field), Some(values)) => Condition::Is { field, values, negated },
        _ => Condition::Unknown,
    };
    let protocol = match left["payload"]["protocol"].as_str() {
        Some("ip") => Some(within(Field::Family, "ipv4")),
        Some("ip6") => Some(within(Field::Family, "ipv6")),
        Some("icmpv6") => Some(within(Field::Protocol, "ipv6-icmp")),
        Some(
            name @ ("tcp" | "udp" | "udplite" | "sctp" | "dccp" | "icmp" | "igmp" | "gre" | "esp" | "ah"
            | "comp"),
        ) => Some(within(Field::Protocol, name)),
        _ => None,
    };
    protocol.into_iter().chain([asked]).collect()
}

fn field(left: &Value) -> Option<Field> {
    let (payload, meta, flow) = (&left["payload"], &left["meta"]["key"], &left["ct"]);
    if let Some(meta) = meta.as_str() {
        return match meta {
            "iifname" | "iif" => Some(Field::In),
            "oifname" | "oif" => Some(Field::Out),
            "nfproto" => Some(Field::Family),
            "l4proto" => Some(Field::Protocol),
            _ => None,
        };
    }
    if left["fib"]["result"] == "type" && left["fib"]["flags"] == serde_json::json!(["daddr"]) {
        return Some(Field::DestinationType);
    }
    match (payload["protocol"].as_str(), payload["field"].as_str(), flow["key"].as_str()) {
        (Some("ip" | "ip6"), Some("saddr"), _) => Some(Field::Source),
        (Some("ip" | "ip6"), Some("daddr"), _) => Some(Field::Destination),
        (Some("ip"), Some("protocol"), _) | (Some("ip6"), Some("nexthdr"), _) => Some(Field::Protocol),
        (Some("tcp" | "udp" | "th"), Some("sport"), _) => Some(Field::SourcePort),
        (Some("tcp" | "udp" | "th"), Some("dport"), _) => Some(Field::DestinationPort),
        (Some("icmp" | "icmpv6"), Some("type"), _) => Some(Field::Message),
        (_, _, Some("state")) => Some(Field::State),
        (_, _, Some("status")) => Some(Field::Status),
        _ => None,
    }
}

/// `None` for what is not told here, such as what is in a named set.
fn values(right: &Value) -> Option<Vec<String>> {
    let several = right.as_array().or_else(|| right["set"].as_array());
    match several {
        Some(several) => several.iter().map(value).collect(),
        None => Some(vec![value(right)?]),
    }
}

fn value(value: &Value) -> Option<String> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    if let Some(prefix) = value.get("prefix") {
        return Some(format!("{}/{}", text(&prefix["addr"])?, text(&prefix["len"])?));
    }
    if let Some([first, last]) = value.get("range").and_then(|range| range.as_array()).map(Vec::as_slice) {
        return Some(format!("{}-{}", text(first)?, text(last)?));
    }
    text(value).filter(|text| !text.starts_with('@'))
}

#[cfg(test)]
mod tests {
    use super::super::{Fate, Packet};
    use super::*;

    /// A chain `forward` that drops, with one rule of these statements; whether a packet passes that
    /// goes from `br100` to `eth0`, or that some other may.
    fn check(statements: &str, expected: &str) {
        check_with("drop", statements, expected);
    }

    /// The same with this policy.
    fn check_with(policy: &str, statements: &str, expected: &str) {
        let chain = |name: &str, more: &str| {
            format!(r#"{{"chain":{{"family":"inet","table":"other","name":"{name}"{more}}}}}"#)
        };
        let json = format!(
            r#"{{"nftables":[{{"metainfo":{{}}}},{},{},{},{}]}}"#,
            chain("good", ""),
            r#"{"rule":{"family":"inet","table":"other","chain":"good","handle":1,"expr":[{"accept":null}]}}"#,
            chain("forward", &format!(r#","hook":"forward","type":"filter","prio":0,"policy":"{policy}""#)),
            format_args!(
                r#"{{"rule":{{"family":"inet","table":"other","chain":"forward","handle":9,"expr":[{statements}]}}}}"#
            )
        );
        let ruleset = parse(&json).unwrap();
        let (name, table) = ruleset.first_key_value().unwrap();
        assert_eq!(name.to_string(), "table inet other");
        let fields = [
            (Field::In, "br100"),
            (Field::Out, "eth0"),
            (Field::Family, "ipv4"),
            (Field::Protocol, "tcp"),
            (Field::Source, "10.0.0.2"),
            (Field::State, "new"),
        ];
        let packet = Packet(fields.map(|(field, value)| (field, vec![value.to_owned()])).into());
        let seen = match table.fate("forward", &packet) {
            Fate::Passes { unless } if unless.is_empty() => "passes",
            Fate::Passes { .. } => "passes unless it is dropped",
            Fate::Dropped { certain: true, .. } => "dropped",
            Fate::Dropped { certain: false, .. } => "may be dropped",
        };
        assert_eq!(seen, expected, "{statements}");
    }

    #[test]
    fn statements_are_understood_as_nft_prints_them() {
        let named = |right: &str| {
            format!(r#"{{"match":{{"op":"==","left":{{"meta":{{"key":"iifname"}}}},"right":{right}}}}}"#)
        };
        check("", "dropped");
        check(r#"{"counter":null},{"accept":null}"#, "passes");
        check(&format!(r#"{},{{"accept":null}}"#, named(r#""br100""#)), "passes");
        check(&format!(r#"{},{{"accept":null}}"#, named(r#""br*""#)), "passes");
        check(&format!(r#"{},{{"accept":null}}"#, named(r#"{"set":["x","br100"]}"#)), "passes");
        check(&format!(r#"{},{{"accept":null}}"#, named(r#""@devices""#)), "may be dropped");
        check(&format!(r#"{},{{"jump":{{"target":"good"}}}}"#, named(r#""br100""#)), "passes");
        check(
            r#"{"match":{"op":"in","left":{"ct":{"key":"state"}},"right":["established","related"]}},{"accept":null}"#,
            "dropped",
        );
        check(
            r#"{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":{"prefix":{"addr":"10.0.0.0","len":8}}}},{"accept":null}"#,
            "passes",
        );
        check(
            r#"{"match":{"op":"==","left":{"payload":{"protocol":"icmp","field":"type"}},"right":"echo-request"}},{"accept":null}"#,
            "dropped",
        );
        check(
            r#"{"vmap":{"key":{"ct":{"key":"state"}},"data":{"set":[["established",{"accept":null}],["new",{"jump":{"target":"good"}}]]}}}"#,
            "passes",
        );
        check(r#"{"vmap":{"key":{"meta":{"key":"oifname"}},"data":"@m"}}"#, "may be dropped");
        check(r#"{"xt":{"type":"match","name":"conntrack"}},{"accept":null}"#, "may be dropped");
    }

    #[test]
    fn what_may_drop_by_a_map_or_beyond_a_limit_is_known() {
        let may_be = "passes unless it is dropped";
        check_with("accept", r#"{"vmap":{"key":{"meta":{"key":"oifname"}},"data":"@m"}}"#, may_be);
        for limit in [
            r#"{"limit":{"rate":9,"per":"second","inv":true}}"#,
            r#"{"ct count":{"val":20,"inv":true}}"#,
            r#"{"quota":{"val":25,"val_unit":"mbytes","inv":true}}"#,
            r#"{"set":{"op":"add","elem":{"payload":{"protocol":"ip","field":"saddr"}},"set":"@seen"}}"#,
        ] {
            check_with("accept", &format!(r#"{limit},{{"drop":null}}"#), may_be);
        }
        check_with("accept", r#"{"counter":null},{"drop":null}"#, "dropped");
        let sctp = r#"{"match":{"op":"==","left":{"payload":{"protocol":"sctp","field":"dport"}},"right":9}},{"drop":null}"#;
        check_with("accept", sctp, "passes");
    }
}
