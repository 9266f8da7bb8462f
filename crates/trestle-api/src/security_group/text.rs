//! A rule in words: `ingress tcp 8000-8080 from 10.0.0.0/8`.
//!
//! What the words mean is told here, not whether they can be: the controller says everything that is
//! wrong with a rule, however it came.

use std::fmt;
use std::iter::Peekable;
use std::str::{FromStr, SplitWhitespace};

use super::NewSecurityGroupRule;

/// Why a text is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRuleText {
    /// It ends too early.
    #[error("a rule needs {0} here: write it as {FORM}")]
    Missing(&'static str),
    /// A word that has no place where it stands.
    #[error("`{0}` has no place in a rule here: write it as {FORM}")]
    Unexpected(String),
}

const FORM: &str = "`ingress tcp 8000-8080 from 10.0.0.0/8`, `ingress icmp type 8`, `egress ipv6 any to group db` or `egress udp 53 to address-group dns until 2026-12-01T00:00:00Z`";

type Words<'a> = Peekable<SplitWhitespace<'a>>;

impl FromStr for NewSecurityGroupRule {
    type Err = InvalidRuleText;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut words = text.split_whitespace().peekable();
        let direction = needed(&mut words, "`ingress` or `egress`")?;
        let family = words.next_if(|word| matches!(*word, "ipv4" | "ipv6")).map(str::to_owned);
        let protocol = needed(&mut words, "a protocol or `any`")?;
        let mut rule =
            Self { family, protocol: Some(protocol).filter(|protocol| protocol != "any"), ..Self::default() };
        if words.next_if_eq(&"type").is_some() {
            rule.icmp_type = Some(needed(&mut words, "a type of ICMP messages, such as 8 or 3/4,")?);
        } else {
            let is_ports = |word: &&str| !matches!(*word, "from" | "to" | "until");
            rule.ports = words.next_if(is_ports).map(str::to_owned);
        }
        let preposition = if direction == "egress" { "to" } else { "from" };
        rule.direction = direction;
        if words.next_if_eq(&preposition).is_some() {
            rule.read_remote(&mut words)?;
        }
        if words.next_if_eq(&"until").is_some() {
            rule.expires_at = Some(needed(&mut words, "a time")?);
        }
        match words.next() {
            Some(word) => Err(InvalidRuleText::Unexpected(word.to_owned())),
            None => Ok(rule),
        }
    }
}

impl NewSecurityGroupRule {
    fn read_remote(&mut self, words: &mut Words<'_>) -> Result<(), InvalidRuleText> {
        let word = needed(words, "a range of addresses, or a group,")?;
        match word.as_str() {
            "group" => self.remote_group = Some(needed(words, "the name of a group")?),
            "address-group" => {
                self.remote_address_group = Some(needed(words, "the name of an address group")?);
            }
            _ => self.remote_cidr = Some(word),
        }
        Ok(())
    }
}

fn needed(words: &mut Words<'_>, what: &'static str) -> Result<String, InvalidRuleText> {
    words.next().map(str::to_owned).ok_or(InvalidRuleText::Missing(what))
}

impl fmt::Display for NewSecurityGroupRule {
    /// In words; `expires_in` has none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.direction)?;
        let protocol = Some(self.protocol.as_deref().unwrap_or("any"));
        let preposition = if self.direction == "egress" { "to" } else { "from" };
        let parts = [
            ("", self.family.as_deref()),
            ("", protocol),
            ("", self.ports.as_deref()),
            ("type ", self.icmp_type.as_deref()),
        ];
        for (before, word) in parts {
            word.map_or(Ok(()), |word| write!(f, " {before}{word}"))?;
        }
        let remotes = [
            ("", &self.remote_cidr),
            ("group ", &self.remote_group),
            ("address-group ", &self.remote_address_group),
        ];
        for (before, name) in remotes {
            name.as_ref().map_or(Ok(()), |name| write!(f, " {preposition} {before}{name}"))?;
        }
        self.expires_at.as_ref().map_or(Ok(()), |time| write!(f, " until {time}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_read_as_it_is_written() {
        for text in [
            "ingress any",
            "ingress 47",
            "ingress ipv6 any",
            "ingress icmp type 8",
            "ingress ipv4 icmp type 3/4 from 10.0.0.0/8",
            "ingress tcp 8000-8080 from 10.0.0.0/8",
            "egress any to group db",
            "egress udp 53 to address-group dns until 2026-12-01T00:00:00Z",
        ] {
            let rule: NewSecurityGroupRule = text.parse().unwrap();
            assert_eq!(rule.to_string(), text);
        }
        let rule: NewSecurityGroupRule = "egress udp 53 to group db".parse().unwrap();
        assert_eq!(
            rule,
            NewSecurityGroupRule {
                direction: "egress".to_owned(),
                protocol: Some("udp".to_owned()),
                ports: Some("53".to_owned()),
                remote_group: Some("db".to_owned()),
                ..NewSecurityGroupRule::default()
            }
        );
    }

    #[test]
    fn what_has_no_place_or_is_missing_is_named() {
        let told = |text: &str| {
            let error = text.parse::<NewSecurityGroupRule>().unwrap_err().to_string();
            error.split(": write it as").next().unwrap().to_owned()
        };
        assert_eq!(told(""), "a rule needs `ingress` or `egress` here");
        assert_eq!(told("ingress"), "a rule needs a protocol or `any` here");
        assert_eq!(told("ingress icmp type"), "a rule needs a type of ICMP messages, such as 8 or 3/4, here");
        assert_eq!(told("ingress tcp 80 to 10.0.0.0/8"), "`to` has no place in a rule here");
        assert_eq!(told("egress any to group"), "a rule needs the name of a group here");
        assert_eq!(told("ingress any from 10.0.0.0/8 80"), "`80` has no place in a rule here");
    }
}
