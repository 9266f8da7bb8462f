//! The packet filter's rules of a host, as far as it takes to say what becomes of a packet.
//!
//! A condition that is not understood may hold or not. A packet that is dropped whatever such
//! conditions say is dropped for certain; one that an earlier rule may accept is not. One that passes
//! unless such a condition holds may be dropped.

mod nft;
mod save;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

pub(super) use nft::parse as parse_nft;
pub(super) use save::parse as parse_save;

/// What a chain is best changed with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tool {
    /// `nft`
    #[default]
    Nft,
    /// A program of iptables, by its name: `iptables`, `ip6tables-legacy`.
    Iptables(&'static str),
}

/// A table: of which family, under which name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TableName {
    /// As nft calls it: `inet`, `ip`, `bridge`.
    pub(super) family: String,
    pub(super) name: String,
    /// Whether it is in the kernel's tables of before nftables, which may have one of the same name.
    pub(super) is_legacy: bool,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let legacy = if self.is_legacy { "legacy " } else { "" };
        write!(f, "{legacy}table {} {}", self.family, self.name)
    }
}

/// A table's chains by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) chains: BTreeMap<String, Chain>,
}

/// All tables.
pub(super) type Ruleset = BTreeMap<TableName, Table>;

/// Rules one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    /// Where packets come into it, if not by a jump.
    pub(super) hook: Option<String>,
    /// Whether it drops what comes to its end.
    pub(super) drops: bool,
    pub(super) tool: Tool,
    pub(super) rules: Vec<Rule>,
}

/// What is done with packets that meet conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) conditions: Vec<Condition>,
    pub(super) action: Action,
    /// How people find it.
    pub(super) text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// The field has one of these values, or none of them.
    Is { field: Field, values: Vec<String>, negated: bool },
    /// Not understood.
    Unknown,
}

/// What may be asked of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Field {
    In,
    Out,
    /// `ipv4` or `ipv6`.
    Family,
    Protocol,
    Source,
    Destination,
    /// What the destination is to this host: `local`, `unicast`, `broadcast`, `multicast`.
    DestinationType,
    SourcePort,
    DestinationPort,
    /// Of ICMP, by nft's name for it: `echo-request`.
    Message,
    /// Of connection tracking: `new`, `established`.
    State,
    /// Of connection tracking: `dnat`.
    Status,
    /// Whether it goes from port to port of one bridge: `yes`.
    Bridged,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// It goes on.
    Nothing,
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
}

/// A packet by what is known of it; what is not in it is not known. One that stands for several has the
/// values of all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Packet(pub(super) BTreeMap<Field, Vec<String>>);

/// What becomes of a packet in a chain that a hook leads into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Passes {
        /// The rules that would drop it if conditions hold of which that is not known.
        unless: BTreeSet<String>,
    },
    Dropped {
        /// By what: `policy drop`, or a rule.
        by: String,
        /// Whether it is so whatever the conditions say that are not understood.
        certain: bool,
    },
}

impl Table {
    /// What becomes of a packet in one of its chains.
    pub(super) fn fate(&self, base: &str, packet: &Packet) -> Fate {
        let mut walk = Walk { table: self, packet, may_pass: false, may_drop: BTreeSet::new() };
        let policy = || match self.chains.get(base).is_some_and(|chain| chain.drops) {
            true => Verdict::Drop("policy drop".to_owned()),
            false => Verdict::Accept,
        };
        match walk.chain(base).unwrap_or_else(policy) {
            Verdict::Accept => Fate::Passes { unless: walk.may_drop },
            Verdict::Drop(by) => Fate::Dropped { by, certain: !walk.may_pass },
        }
    }

    /// The chains that packets come to from one of its chains, that one included.
    pub(super) fn reached_from(&self, base: &str) -> BTreeSet<&str> {
        let mut reached = BTreeSet::new();
        let mut ahead = vec![base];
        while let Some(name) = ahead.pop() {
            let Some((name, chain)) = self.chains.get_key_value(name) else { continue };
            if reached.insert(name.as_str()) {
                ahead.extend(chain.rules.iter().filter_map(|rule| match &rule.action {
                    Action::Jump(to) | Action::Goto(to) => Some(to.as_str()),
                    _ => None,
                }));
            }
        }
        reached
    }
}

enum Verdict {
    Accept,
    Drop(String),
}

/// A packet on its way through a table. The kernel takes no loops.
struct Walk<'a> {
    table: &'a Table,
    packet: &'a Packet,
    /// Whether a rule that may hold would have let it pass.
    may_pass: bool,
    /// The rules that would have dropped it if they hold.
    may_drop: BTreeSet<String>,
}

impl Walk<'_> {
    /// `None` where it comes out at the end, or is sent back.
    fn chain(&mut self, name: &str) -> Option<Verdict> {
        for rule in self.table.chains.get(name).map_or(&[][..], |chain| &chain.rules) {
            match self.packet.meets(&rule.conditions) {
                Some(false) => {}
                Some(true) => match &rule.action {
                    Action::Nothing => {}
                    Action::Accept => return Some(Verdict::Accept),
                    Action::Drop => return Some(Verdict::Drop(rule.text.clone())),
                    Action::Return => return None,
                    Action::Goto(to) => return self.chain(to),
                    Action::Jump(to) => {
                        if let verdict @ Some(_) = self.chain(to) {
                            return verdict;
                        }
                    }
                },
                None => self.take_for_possible(rule),
            }
        }
        None
    }

    /// Notes what becomes of the packet if the rule holds, of which that is not known.
    fn take_for_possible(&mut self, rule: &Rule) {
        let verdict = match &rule.action {
            Action::Nothing => None,
            Action::Accept | Action::Return => Some(Verdict::Accept),
            Action::Drop => Some(Verdict::Drop(rule.text.clone())),
            Action::Jump(to) | Action::Goto(to) => self.chain(to),
        };
        match verdict {
            Some(Verdict::Accept) => self.may_pass = true,
            Some(Verdict::Drop(by)) => drop(self.may_drop.insert(by)),
            None => {}
        }
    }
}

/// What is sent to one receiver over routers is never from or to these, but `firewalld` and others name
/// them: `::` and addresses of IPv4 in IPv6 (RFC 4291 §2.5.5), 6to4 (RFC 7526), loopback, multicast.
const NOWHERE: [&str; 8] = [
    "::/96",
    "::ffff:0:0/96",
    "2002::/16",
    "ff00::/8",
    "0.0.0.0/8",
    "127.0.0.0/8",
    "224.0.0.0/4",
    "255.255.255.255/32",
];

impl Packet {
    /// Whether it meets all of these; `None` if that is not known.
    fn meets(&self, conditions: &[Condition]) -> Option<bool> {
        let met: Vec<Option<bool>> = conditions.iter().map(|condition| self.is(condition)).collect();
        if met.contains(&Some(false)) {
            return Some(false);
        }
        met.iter().all(Option::is_some).then_some(true)
    }

    fn is(&self, condition: &Condition) -> Option<bool> {
        let Condition::Is { field, values, negated } = condition else { return None };
        let covered = match self.0.get(field) {
            Some(have) => covers_all(*field, values, have)?,
            None if self.is_routed() && is_nowhere(*field, values) => false,
            None => return None,
        };
        Some(covered != *negated)
    }

    fn is_routed(&self) -> bool {
        self.0.get(&Field::DestinationType).is_some_and(|types| types == &["unicast"])
    }
}

/// Whether the values of a rule cover all that a packet has, or none of it; `None` if some.
fn covers_all(field: Field, values: &[String], have: &[String]) -> Option<bool> {
    let is_covered = |have: &String| values.iter().any(|value| covers(field, value, have));
    let covered = have.iter().filter(|have| is_covered(have)).count();
    match covered {
        0 => Some(false),
        _ => (covered == have.len()).then_some(true),
    }
}

fn is_nowhere(field: Field, values: &[String]) -> bool {
    let nowhere: Vec<IpNet> = NOWHERE.iter().filter_map(|net| net.parse().ok()).collect();
    let net =
        |value: &str| value.parse::<IpNet>().ok().or_else(|| Some(value.parse::<IpAddr>().ok()?.into()));
    let is_in = |value: &String| net(value).is_some_and(|net| nowhere.iter().any(|all| all.contains(&net)));
    matches!(field, Field::Source | Field::Destination) && values.iter().all(is_in)
}

/// Whether a value of a rule covers what a packet has.
fn covers(field: Field, value: &str, have: &str) -> bool {
    match field {
        Field::In | Field::Out => match value.strip_suffix('*') {
            Some(prefix) => have.starts_with(prefix),
            None => value == have,
        },
        Field::Source | Field::Destination => covers_address(value, have).unwrap_or(false),
        Field::SourcePort | Field::DestinationPort => covers_port(value, have).unwrap_or(false),
        _ => value == have,
    }
}

fn covers_address(value: &str, have: &str) -> Option<bool> {
    let have: IpAddr = have.parse().ok()?;
    if let Ok(net) = value.parse::<IpNet>() {
        return Some(net.contains(&have));
    }
    let (first, last) = value.split_once('-').unwrap_or((value, value));
    Some((first.parse::<IpAddr>().ok()?..=last.parse::<IpAddr>().ok()?).contains(&have))
}

fn covers_port(value: &str, have: &str) -> Option<bool> {
    let (first, last) = value.split_once(['-', ':']).unwrap_or((value, value));
    Some((first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?).contains(&have.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a packet that goes from `br100` to `eth0` by these rules of a chain FORWARD
    /// that drops.
    fn check(rules: &str, fate: &str) {
        let text = format!("*filter\n:FORWARD DROP [0:0]\n:ALSO - [0:0]\n{rules}\nCOMMIT\n");
        let ruleset = parse_save(&text, "ip", "iptables");
        let (_, table) = ruleset.first_key_value().unwrap();
        let fields = [
            (Field::In, "br100"),
            (Field::Out, "eth0"),
            (Field::Protocol, "tcp"),
            (Field::Source, "10.0.0.2"),
            (Field::DestinationType, "unicast"),
            (Field::State, "new"),
        ];
        let packet = Packet(fields.map(|(field, value)| (field, vec![value.to_owned()])).into());
        let seen = match table.fate("FORWARD", &packet) {
            Fate::Passes { unless } if unless.is_empty() => "passes".to_owned(),
            Fate::Passes { unless } => {
                format!("passes unless {}", unless.into_iter().collect::<Vec<_>>().join(", "))
            }
            Fate::Dropped { by, certain: true } => format!("dropped by {by}"),
            Fate::Dropped { by, certain: false } => format!("may be dropped by {by}"),
        };
        assert_eq!(seen, fate, "{rules}");
    }

    #[test]
    fn rules_are_followed_as_the_kernel_does() {
        check("", "dropped by policy drop");
        check("-A FORWARD -i br100 -j ACCEPT", "passes");
        check("-A FORWARD -i br+ -j ACCEPT", "passes");
        check("-A FORWARD ! -i docker0 -j ACCEPT", "passes");
        check("-A FORWARD ! -i br100 -j ACCEPT", "dropped by policy drop");
        check("-A FORWARD -s 10.0.0.0/8 -j ACCEPT", "passes");
        check("-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "dropped by policy drop");
        check("-A FORWARD -p udp -m udp --dport 53 -j ACCEPT", "dropped by policy drop");
        check("-A FORWARD -m addrtype --dst-type LOCAL -j ACCEPT", "dropped by policy drop");
        check("-A FORWARD -j ALSO\n-A ALSO -o eth0 -j ACCEPT", "passes");
        check("-A FORWARD -g ALSO\n-A FORWARD -j ACCEPT", "dropped by policy drop");
        check("-A FORWARD -j ALSO\n-A FORWARD -j ACCEPT\n-A ALSO -j RETURN\n-A ALSO -j DROP", "passes");
        check("-A FORWARD -j LOG\n-A FORWARD -i br100 -j REJECT", "dropped by -A FORWARD -i br100 -j REJECT");
    }

    #[test]
    fn what_is_not_understood_makes_it_uncertain() {
        check("-A FORWARD -m set --match-set good src -j ACCEPT", "may be dropped by policy drop");
        check("-A FORWARD -p tcp -m tcp --dport 443 -j ACCEPT", "may be dropped by policy drop");
        check(
            "-A FORWARD -m set --match-set bad src -j DROP\n-A FORWARD -j ACCEPT",
            "passes unless -A FORWARD -m set --match-set bad src -j DROP",
        );
        check(
            "-A FORWARD -m mark --mark 0x1 -j ALSO\n-A FORWARD -j ACCEPT\n-A ALSO -j REJECT",
            "passes unless -A ALSO -j REJECT",
        );
        check("-A FORWARD -i eth9 -m set --match-set bad src -j DROP\n-A FORWARD -j ACCEPT", "passes");
        check("-A FORWARD -j ACCEPT\n-A FORWARD -m set --match-set bad src -j DROP", "passes");
        check("-A FORWARD -d 127.0.0.0/8 -j DROP\n-A FORWARD -j ACCEPT", "passes");
        check("-A FORWARD -d 2002:a00::/24,::/96 -j REJECT\n-A FORWARD -j ACCEPT", "passes");
        check(
            "-A FORWARD -d 198.51.100.0/24 -j DROP\n-A FORWARD -j ACCEPT",
            "passes unless -A FORWARD -d 198.51.100.0/24 -j DROP",
        );
        check("-A FORWARD -m mark --mark 0x1 -j ALSO\n-A ALSO -j ACCEPT", "may be dropped by policy drop");
        check("-A FORWARD -i eth9 -m mark --mark 0x1 -j ACCEPT", "dropped by policy drop");
    }
}
