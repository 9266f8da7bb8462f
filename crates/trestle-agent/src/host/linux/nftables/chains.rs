//! The chains and sets of security groups in a listing of their table, beside what the table's text makes.

use std::collections::{BTreeMap, BTreeSet};

use trestle_api::agent::RuleCounter;
use trestle_core::render::judgement;
use trestle_core::spec::Set;

/// A table as nft lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listing {
    /// What its text makes.
    pub(super) fixed: String,
    /// The rules of each chain that is made as it is needed, a line each.
    pub(super) chains: BTreeMap<String, String>,
    /// The sets that are made as they are needed.
    pub(super) sets: BTreeSet<Set>,
}

/// Whether a chain of this name is one of security groups: `to_`, `from_`, `in_` and `out_` with numbers.
fn is_numbered(chain: &str) -> bool {
    let number = ["to_", "from_", "in_", "out_"].iter().find_map(|prefix| chain.strip_prefix(prefix));
    number.is_some_and(|number| number == "nothing" || number.starts_with(|c: char| c.is_ascii_digit()))
}

impl Listing {
    pub(super) fn parse(listing: &str) -> Self {
        let mut parsed = Self::default();
        let listing = without_judgement(listing);
        let mut lines = listing.iter().copied();
        while let Some(line) = lines.next() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["chain", name, "{"] if is_numbered(name) => {
                    let rules = body(&mut lines).map(str::trim).collect::<Vec<_>>().join("\n");
                    parsed.chains.insert(name.to_owned(), rules);
                }
                ["set", name, "{"] => match Set::named(name).filter(|set| set.number().is_some()) {
                    Some(set) => {
                        body(&mut lines).for_each(drop);
                        parsed.sets.insert(set);
                    }
                    None => parsed.push(line),
                },
                [] => {}
                _ => parsed.push(line),
            }
        }
        parsed
    }

    fn push(&mut self, line: &str) {
        self.fixed.push_str(line);
        self.fixed.push('\n');
    }
}

/// The lines without those that say which judgement holds: no text has its number. Where it is not the same in all
/// places, they stay, as something that nobody knows.
fn without_judgement(listing: &str) -> Vec<&str> {
    let lines: Vec<&str> = listing.lines().map(str::trim).collect();
    let number = lines.iter().find_map(|line| line.strip_prefix("ct mark set 0x"));
    let number = number.and_then(|number| u32::from_str_radix(number, 16).ok());
    let first_rules: Vec<String> =
        number.into_iter().flat_map(judgement).filter_map(|(_, rules)| rules.into_iter().next()).collect();
    let begins_chain = |line: &str| line.starts_with("type ") || line.starts_with("chain ");
    let says_which = |index: usize| {
        index > 0 && begins_chain(lines[index - 1]) && first_rules.iter().any(|rule| rule == lines[index])
    };
    listing.lines().enumerate().filter(|(index, _)| !says_which(*index)).map(|(_, line)| line).collect()
}

/// The lines up to the end of the block that was entered.
fn body<'a>(lines: &mut impl Iterator<Item = &'a str>) -> impl Iterator<Item = &'a str> {
    lines.take_while(|line| line.trim() != "}")
}

/// What rules have counted, by chain and by the rule's number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters(BTreeMap<(String, u32), RuleCounter>);

impl Counters {
    /// From a listing with counters. A rule may be several lines.
    pub(super) fn parse(listing: &str) -> Self {
        let mut counters = Self::default();
        for (chain, rules) in Listing::parse(listing).chains {
            for (number, counted) in rules.lines().filter_map(counted) {
                let sum = counters.0.entry((chain.clone(), number)).or_default();
                sum.packets += counted.packets;
                sum.bytes += counted.bytes;
            }
        }
        counters
    }

    /// By the rule's number alone.
    pub(super) fn by_rule(self) -> BTreeMap<u32, RuleCounter> {
        self.0.into_iter().map(|((_, number), counted)| (number, counted)).collect()
    }

    /// The rule as text, so that it goes on counting where it was. Its first line has it all.
    pub(super) fn resume(&mut self, chain: &str, rule: &str) -> String {
        let counted = number(rule).and_then(|number| self.0.remove(&(chain.to_owned(), number)));
        match counted {
            Some(RuleCounter { packets, bytes }) => {
                rule.replacen("counter ", &format!("counter packets {packets} bytes {bytes} "), 1)
            }
            None => rule.to_owned(),
        }
    }
}

/// The number in the comment of a rule.
fn number(rule: &str) -> Option<u32> {
    let (_, comment) = rule.rsplit_once("comment \"rule ")?;
    comment.strip_suffix('"')?.parse().ok()
}

fn counted(rule: &str) -> Option<(u32, RuleCounter)> {
    let (_, counter) = rule.split_once("counter packets ")?;
    let mut words = counter.split(' ');
    let packets = words.next()?.parse().ok()?;
    let bytes = words.nth(1)?.parse().ok()?;
    Some((number(rule)?, RuleCounter { packets, bytes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "table inet trestle_groups {
\tset network {
\t\ttype ifname
\t}

\tset members4_17 {
\t\ttype ipv4_addr
\t}

\tchain stamp {
\t\tct mark set 0xc0000001
\t\tgoto pass
\t}

\tchain forward {
\t\ttype filter hook forward priority filter - 10; policy accept;
\t\tct mark 0xc0000001 meta pkttype host accept
\t\tgoto judge
\t}

\tchain to_17 {
\t\tmeta nfproto ipv4 counter packets 3 bytes 252 accept comment \"rule 5\"
\t\tmeta nfproto ipv6 counter packets 1 bytes 80 accept comment \"rule 5\"
\t\tdrop
\t}
}
";

    #[test]
    fn what_is_made_as_it_is_needed_is_told_from_the_rest() {
        let listing = Listing::parse(LISTING);
        assert!(listing.fixed.contains("chain forward") && listing.fixed.contains("set network"));
        assert!(!listing.fixed.contains("17"));
        assert_eq!(listing.sets, BTreeSet::from([Set::Members4(17)]));
        assert_eq!(listing.chains.keys().collect::<Vec<_>>(), ["to_17"]);
        assert!(listing.chains["to_17"].ends_with("\ndrop"));
    }

    #[test]
    fn the_number_of_a_judgement_is_no_part_of_the_text_and_another_one_is() {
        let fixed = Listing::parse(LISTING).fixed;
        assert!(!fixed.contains("0xc0000001") && fixed.contains("goto judge"), "{fixed}");
        for (what, with) in
            [("ct mark 0xc0000001", "ct mark 0xc0000002"), ("goto judge", "ct mark 0xc0000001 goto judge")]
        {
            let edited = Listing::parse(&LISTING.replace(what, with)).fixed;
            assert!(edited.contains("ct mark 0x"), "{edited}");
        }
    }

    #[test]
    fn a_rule_goes_on_counting_where_it_was() {
        let mut counters = Counters::parse(LISTING);
        let rule = "meta nfproto ipv4 counter accept comment \"rule 5\"";
        assert_eq!(
            counters.resume("to_17", rule),
            "meta nfproto ipv4 counter packets 4 bytes 332 accept comment \"rule 5\""
        );
        assert_eq!(counters.resume("to_17", rule), rule, "once");
    }
}
