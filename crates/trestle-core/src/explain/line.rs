//! A rule of nftables, read and followed for one packet.
//!
//! It knows the words that [`crate::render`] writes and no others: a line with another one is never
//! passed over, it is an error.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::frame::{Field, Frame, Value, number};
use super::sets;
use crate::spec::{Key, Object, Set};

/// Sets that hosts fill by themselves, for a moment: a spec says nothing of them.
const FOR_A_MOMENT: [&str; 2] = ["released", "released6"];

/// What a rule makes of a packet that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ruling {
    /// Nothing: the next one is asked.
    GoOn,
    Accept,
    Drop,
    /// The chain is asked, and then the rules after this one.
    Jump(String),
    /// The chain is asked in place of those after this one.
    Goto(String),
    /// Goes on where it came to this chain from.
    Return,
    /// Sent on to this address and port.
    LeadTo(IpAddr, Option<u16>),
    /// Sent from this address from now on.
    SendFrom(IpAddr),
    /// Sent from the address of the device that it leaves by.
    Masquerade,
}

/// A rule that a packet fits, and what made it fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Applied {
    pub(super) ruling: Ruling,
    /// The element that it was found by.
    pub(super) element: Option<Key>,
    /// The number in the rule's comment.
    pub(super) rule: Option<u32>,
    /// Whether it fits is not known: it asks for an address that is not.
    pub(super) is_in_doubt: bool,
}

/// A rule that is not written as we write them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Misunderstood;

/// What the rule makes of the packet; nothing where it is certainly not about it.
pub(super) fn follow(
    line: &str,
    frame: &mut Frame,
    objects: &BTreeMap<Key, Object>,
) -> Result<Option<Applied>, Misunderstood> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let applied = Applied { ruling: Ruling::GoOn, element: None, rule: None, is_in_doubt: false };
    let mut reading = Reading { words: &words, frame, objects, applied };
    while let Some(word) = reading.peek() {
        let fits = match reading.statement(word)? {
            Some(fits) => fits,
            None => reading.question()?,
        };
        if !fits {
            return Ok(None);
        }
    }
    Ok(Some(reading.applied))
}

struct Reading<'a> {
    words: &'a [&'a str],
    frame: &'a mut Frame,
    objects: &'a BTreeMap<Key, Object>,
    applied: Applied,
}

impl<'a> Reading<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.words.first().copied()
    }

    fn next(&mut self) -> Result<&'a str, Misunderstood> {
        let (first, rest) = self.words.split_first().ok_or(Misunderstood)?;
        self.words = rest;
        Ok(first)
    }

    fn expect(&mut self, word: &str) -> Result<(), Misunderstood> {
        (self.next()? == word).then_some(()).ok_or(Misunderstood)
    }

    /// Follows what begins with this word, if that says what to do; whether that can be done.
    fn statement(&mut self, word: &str) -> Result<Option<bool>, Misunderstood> {
        match (word, self.words.get(2)) {
            ("meta", Some(&"set")) => return self.mark().map(Some),
            ("accept" | "drop" | "return" | "masquerade" | "counter", _) => self.next()?,
            ("jump" | "goto" | "comment" | "dnat" | "snat", _) => self.next()?,
            _ => return Ok(None),
        };
        match word {
            "accept" => self.applied.ruling = Ruling::Accept,
            "drop" => self.applied.ruling = Ruling::Drop,
            "return" => self.applied.ruling = Ruling::Return,
            "masquerade" => self.applied.ruling = Ruling::Masquerade,
            "jump" => self.applied.ruling = Ruling::Jump(self.next()?.to_owned()),
            "goto" => self.applied.ruling = Ruling::Goto(self.next()?.to_owned()),
            "comment" => self.comment()?,
            "dnat" | "snat" => return self.translate(word == "dnat").map(Some),
            _ => {}
        }
        Ok(Some(true))
    }

    /// `meta mark set 7`, `meta mark set … map @set`, which is nothing where the map has nothing of it.
    fn mark(&mut self) -> Result<bool, Misunderstood> {
        for word in ["meta", "mark", "set"] {
            self.expect(word)?;
        }
        let is_number = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
        let mark = match self.peek().filter(is_number).and_then(number) {
            Some(mark) => self.next().map(|_| mark)?,
            None => {
                let values = self.values()?;
                self.expect("map")?;
                let Some(mark) = self.look_up_next(&values)? else { return Ok(false) };
                number(&mark).ok_or(Misunderstood)?
            }
        };
        self.frame.mark = u64::try_from(mark).map_err(|_| Misunderstood)?;
        Ok(true)
    }

    /// `comment "rule 7"`.
    fn comment(&mut self) -> Result<(), Misunderstood> {
        self.expect("\"rule")?;
        let number = self.next()?.trim_end_matches('"').parse();
        self.applied.rule = Some(number.map_err(|_| Misunderstood)?);
        Ok(())
    }

    /// `dnat ip to … map @set`: nothing where the map has nothing of it.
    fn translate(&mut self, is_destination: bool) -> Result<bool, Misunderstood> {
        if !matches!(self.next()?, "ip" | "ip6") {
            return Err(Misunderstood);
        }
        self.expect("to")?;
        let values = self.values()?;
        self.expect("map")?;
        let Some(target) = self.look_up_next(&values)? else { return Ok(false) };
        let (address, port) = match target.split_once(" . ") {
            Some((address, port)) => (address, Some(port.parse().map_err(|_| Misunderstood)?)),
            None => (&target[..], None),
        };
        let address = address.parse().map_err(|_| Misunderstood)?;
        self.applied.ruling = match is_destination {
            true => Ruling::LeadTo(address, port),
            false => Ruling::SendFrom(address),
        };
        Ok(true)
    }

    /// Whether the packet has what comes next.
    fn question(&mut self) -> Result<bool, Misunderstood> {
        let values = self.values()?;
        match self.next()? {
            "exists" => Ok(values.iter().all(|value| *value != Value::Absent)),
            "vmap" => self.is_sent_on(&values),
            "<" => self.compares(&values, |number, limit| number < limit),
            ">" => self.compares(&values, |number, limit| number > limit),
            "&" => self.is_masked(&values),
            "!=" => {
                let word = self.next()?;
                let is_any = self.is_any(&values, word)?;
                Ok(self.or_in_doubt(is_any.map(|is_any| !is_any)) && !values.contains(&Value::Absent))
            }
            word => {
                let is_any = self.is_any(&values, word)?;
                Ok(self.or_in_doubt(is_any))
            }
        }
    }

    /// What is not known may be: the rule is followed further, as another part of it may not fit at all.
    fn or_in_doubt(&mut self, fits: Option<bool>) -> bool {
        self.applied.is_in_doubt |= fits.is_none();
        fits.unwrap_or(true)
    }

    /// What the packet has in the fields that are named next, joined by dots.
    fn values(&mut self) -> Result<Vec<Value>, Misunderstood> {
        let mut values = Vec::new();
        loop {
            let (field, length) = Field::read(self.words).ok_or(Misunderstood)?;
            self.words = &self.words[length..];
            values.push(self.frame.value(field));
            if self.peek() != Some(".") {
                return Ok(values);
            }
            self.next()?;
        }
    }

    /// Whether it is what the word says, or in the set that it names; `None` if that is not known.
    fn is_any(&mut self, values: &[Value], word: &str) -> Result<Option<bool>, Misunderstood> {
        match (word.strip_prefix('@'), values) {
            (Some(set), [Value::Unknown(_)]) => self.is_in(set, &values[0]),
            (Some(set), _) => Ok(Some(self.look_up(set, values)?.is_some())),
            (None, [value]) => Ok(value.is_any(word.split(','))),
            _ => Err(Misunderstood),
        }
    }

    /// An address of a host's own is no guest's, but it may be one that an address group names.
    fn is_in(&mut self, set: &str, value: &Value) -> Result<Option<bool>, Misunderstood> {
        let set = Set::named(set).ok_or(Misunderstood)?;
        if !matches!(set, Set::Addresses4(_) | Set::Addresses6(_)) {
            return Ok(Some(false));
        }
        let mut elements = sets::elements(self.objects, set).map(|(_, element, _)| element).peekable();
        match elements.peek() {
            None => Ok(Some(false)),
            Some(_) => Ok(value.is_any(elements.collect::<Vec<_>>().into_iter())),
        }
    }

    /// `vmap @map`: the chain that the packet goes on in, where the map has one for it.
    fn is_sent_on(&mut self, values: &[Value]) -> Result<bool, Misunderstood> {
        let Some(verdict) = self.look_up_next(values)? else { return Ok(false) };
        let chain = verdict.strip_prefix("jump ").ok_or(Misunderstood)?;
        self.applied.ruling = Ruling::Jump(chain.to_owned());
        Ok(true)
    }

    fn compares(&mut self, values: &[Value], fits: fn(i128, i128) -> bool) -> Result<bool, Misunderstood> {
        let limit = number(self.next()?).ok_or(Misunderstood)?;
        match values {
            [Value::Absent] => Ok(false),
            [Value::Number(number)] => Ok(fits(*number, limit)),
            _ => Err(Misunderstood),
        }
    }

    /// `& mask == value`, or `!=`.
    fn is_masked(&mut self, values: &[Value]) -> Result<bool, Misunderstood> {
        let mask = bits(self.next()?)?;
        let is_equal = match self.next()? {
            "==" => true,
            "!=" => false,
            _ => return Err(Misunderstood),
        };
        let wanted = bits(self.next()?)?;
        match values {
            [Value::Absent] => Ok(false),
            [Value::Number(number)] => Ok((number & mask == wanted) == is_equal),
            [Value::Mac(mac)] => Ok((bits(&mac.to_string())? & mask == wanted) == is_equal),
            _ => Err(Misunderstood),
        }
    }

    fn look_up_next(&mut self, values: &[Value]) -> Result<Option<String>, Misunderstood> {
        let set = self.next()?.strip_prefix('@').ok_or(Misunderstood)?;
        self.look_up(set, values)
    }

    /// What the set has for these: what its element leads to, of a set that is no map nothing. The element
    /// is kept as what made the rule fit.
    fn look_up(&mut self, set: &str, values: &[Value]) -> Result<Option<String>, Misunderstood> {
        if values.contains(&Value::Absent) {
            return Ok(None);
        }
        if FOR_A_MOMENT.contains(&set) {
            return Ok(None);
        }
        let set = Set::named(set).ok_or(Misunderstood)?;
        // An address of a host's own is no guest's, and of no network.
        if values.iter().any(|value| matches!(value, Value::Unknown(_))) {
            return Ok(None);
        }
        let found = sets::find(self.objects, set, values);
        Ok(found.map(|(key, leads_to)| {
            self.applied.element = Some(key.clone());
            leads_to.to_owned()
        }))
    }
}

/// A number or a MAC, as one number.
fn bits(word: &str) -> Result<i128, Misunderstood> {
    let number = match word.contains(':') {
        true => i128::from_str_radix(&word.replace(':', ""), 16).ok(),
        false => number(word),
    };
    number.ok_or(Misunderstood)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::frame::{Flow, Source};
    use crate::types::IpProtocol;

    /// A TCP packet to port 22.
    fn frame() -> Frame {
        frame_from(Source::Known(IpAddr::from([10, 0, 0, 5])))
    }

    fn frame_from(source: Source) -> Frame {
        let destination = IpAddr::from([10, 0, 0, 6]);
        Frame {
            inbound: Some("br100".parse().unwrap()),
            outbound: None,
            sender_mac: None,
            receiver_mac: None,
            source: source.clone(),
            destination,
            protocol: IpProtocol::TCP,
            port: Some(22),
            icmp: None,
            mark: 0,
            flow: Flow::of(source, destination, Some(22)),
            now: 1_000,
        }
    }

    fn check(line: &str) -> Result<Option<Ruling>, Misunderstood> {
        let members = Key::Element(Set::Members4(1), "10.0.0.5".to_owned());
        let objects = BTreeMap::from([(members, Object::Element)]);
        follow(line, &mut frame(), &objects).map(|applied| applied.map(|applied| applied.ruling))
    }

    #[test]
    fn a_rule_fits_what_it_is_about() {
        for line in [
            "accept",
            "meta nfproto ipv4 ct original ip saddr @members4_1 accept",
            "ct original ip saddr 10.0.0.0/29 meta l4proto 6 ct reply proto-src 20-25 accept",
            "meta time < 1001 counter meta mark set 0x7e570003 accept comment \"rule 7\"",
            "iifname \"br*\" tcp dport 22 accept",
            "ct state invalid,new ip saddr != @members4_2 accept",
            "tcp dport & 0xfff0 == 16 th dport & 0xfff8 != 64 accept",
        ] {
            assert_eq!(check(line), Ok(Some(Ruling::Accept)), "{line}");
        }
        for line in [
            "meta nfproto ipv6 accept",
            "ct original ip saddr @members4_2 accept",
            "ct original ip6 saddr != @members6_1 accept",
            "meta time < 1000 accept",
            "ct direction reply accept",
            "tcp dport & 0xfffe != 22 accept",
            "udp dport & 0xfffe != 546 accept",
            "oifname \"br*\" accept",
            "ip daddr @released accept",
        ] {
            assert_eq!(check(line), Ok(None), "{line}");
        }
    }

    /// What is made of a packet from a host's own address, by the addresses that it may be.
    #[test]
    fn an_address_that_is_not_known_matters_where_it_may_be_another_one() {
        let addresses =
            |set: u32, range: &str| (Key::Element(Set::Addresses4(set), range.to_owned()), Object::Element);
        let objects = BTreeMap::from([
            addresses(1, "0.0.0.0/0"),
            addresses(2, "203.0.113.0/24"),
            addresses(2, "192.0.2.1"),
        ]);
        let check = |may_be: &[&str], line: &str| {
            let may_be = may_be.iter().map(|address| address.parse().unwrap()).collect();
            let applied = follow(line, &mut frame_from(Source::OneOf(may_be)), &objects).unwrap();
            applied.map_or("does not fit", |applied| if applied.is_in_doubt { "may fit" } else { "fits" })
        };
        let (nobody_said, known, several) =
            (&[][..], &["203.0.113.11"][..], &["203.0.113.11", "172.17.0.1"][..]);
        for (line, expected) in [
            ("ct original ip saddr 0.0.0.0/0 accept", ["fits", "fits", "fits"]),
            ("ct original ip saddr 203.0.113.0/24 accept", ["may fit", "fits", "may fit"]),
            ("ct original ip saddr 128.0.0.0/1 accept", ["may fit", "fits", "fits"]),
            ("ct original ip saddr 192.0.2.0/24 accept", ["may fit", "does not fit", "does not fit"]),
            ("ct original ip saddr != 203.0.113.0/24 accept", ["may fit", "does not fit", "may fit"]),
            ("ct original ip saddr 203.0.113.0/24 meta l4proto 17 accept", ["does not fit"; 3]),
            ("ct original ip saddr @addresses4_1 accept", ["fits", "fits", "fits"]),
            ("ct original ip saddr @addresses4_2 accept", ["may fit", "fits", "may fit"]),
            ("ct original ip saddr @addresses4_3 accept", ["does not fit"; 3]),
            ("ct original ip saddr @members4_1 accept", ["does not fit"; 3]),
        ] {
            assert_eq!([nobody_said, known, several].map(|may_be| check(may_be, line)), expected, "{line}");
        }
    }

    #[test]
    fn a_rule_that_is_not_understood_is_an_error() {
        for line in [
            "limit rate 5/second accept",
            "tcp flags syn accept",
            "accept please",
            "jump",
            "ip saddr @x drop",
        ] {
            assert_eq!(check(line), Err(Misunderstood), "{line}");
        }
    }
}
