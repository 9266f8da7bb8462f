//! Our nftables tables: one thread that speaks to the kernel through libnftables, what is in the
//! tables, and transactions.
//!
//! Whether a table's chains are what they should be is never worked out here: nft loads the text
//! into an empty network namespace and lists it back, and the host's listing has to be the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::mpsc;

use serde_json::Value;
use tokio::sync::oneshot;
use trestle_core::ownership::TABLE;
use trestle_core::plan::Step;
use trestle_core::render;
use trestle_core::spec::{Set, Table};
use trestle_core::types::{LinkName, Mac, Protocol};

use super::libnftables::{Context, Output};
use super::nfnetlink::QuerySocket;
use crate::host::error::NftError;

/// The room for a device's name in a key (`net/if.h`).
const IFNAMSIZ: usize = 16;
/// Asked for one by one below this, by listing the set from it on.
const FEW_ELEMENTS: usize = 64;
/// The name of the thread that changes the rules. The kernel's notices carry it: they are told from
/// those of others by it, because the number beside it means nothing inside a PID namespace.
pub(super) const THREAD: &str = "trestle-nft";
/// For how long what is sent for an address that has left is dropped.
const RELEASED: &str = "2m";
/// What a table that is not as its text makes it is observed as.
const EDITED: &str = "edited";

/// What is in our tables.
#[derive(Clone, Debug, Default)]
pub(super) struct Tables {
    /// The text of each table that is there, or that somebody edited it.
    pub(super) rulesets: BTreeMap<Table, String>,
    /// The elements that are there; of a map with what each leads to.
    pub(super) elements: BTreeMap<(Set, String), Option<String>>,
}

type Job = Box<dyn FnOnce(&mut Session) + Send>;

/// The way to the thread that speaks to nftables. It ends with the last of these.
#[derive(Clone, Debug)]
pub(super) struct Nftables {
    jobs: mpsc::Sender<Job>,
}

impl Nftables {
    /// Starts the thread, in the network namespace of the calling one.
    pub(super) fn open() -> Result<Self, NftError> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (ready, opened) = mpsc::channel();
        let run = move || match Session::open() {
            Ok(mut session) => {
                let _ = ready.send(Ok(()));
                for job in queue {
                    job(&mut session);
                }
            }
            Err(error) => {
                let _ = ready.send(Err(error));
            }
        };
        let thread = std::thread::Builder::new().name(THREAD.to_owned());
        thread.spawn(run).map_err(NftError::Namespace)?;
        opened.recv().map_err(|_| NftError::Gone)??;
        Ok(Self { jobs })
    }

    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Session) -> Result<T, NftError> + Send + 'static,
    ) -> Result<T, NftError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |session| {
            let _ = answer.send(work(session));
        });
        self.jobs.send(job).map_err(|_| NftError::Gone)?;
        answered.await.map_err(|_| NftError::Gone)?
    }

    /// Everything in our tables. `texts` are those that a table may have been made from.
    pub(super) async fn observe(&self, texts: BTreeMap<Table, String>) -> Result<Tables, NftError> {
        self.call(move |session| {
            for (table, text) in texts {
                session.learn(table, &text)?;
            }
            let rulesets = session.rulesets(&Table::ALL.into())?;
            let mut elements = BTreeMap::new();
            for set in Set::ALL {
                let listed = session.list(set)?.into_iter();
                elements.extend(listed.map(|(element, value)| ((set, element), value)));
            }
            Ok(Tables { rulesets, elements })
        })
        .await
    }

    /// Whether these tables and elements are there.
    pub(super) async fn observe_some(
        &self,
        tables: BTreeSet<Table>,
        elements: BTreeMap<Set, BTreeSet<String>>,
    ) -> Result<Tables, NftError> {
        self.call(move |session| {
            let rulesets = session.rulesets(&tables)?;
            let mut there = BTreeMap::new();
            for (set, asked) in elements {
                let found = session.which(set, asked)?.into_iter();
                there.extend(found.map(|(element, value)| ((set, element), value)));
            }
            Ok(Tables { rulesets, elements: there })
        })
        .await
    }

    /// Whether any of these sets has an element.
    pub(super) async fn has_any(&self, sets: &'static [Set]) -> Result<bool, NftError> {
        self.call(move |session| {
            for set in sets {
                if !session.list(*set)?.is_empty() {
                    return Ok(true);
                }
            }
            Ok(false)
        })
        .await
    }

    /// Does the steps in one transaction, which happens as a whole or not at all.
    pub(super) async fn transact(&self, steps: Vec<Step>) -> Result<(), NftError> {
        self.call(move |session| session.transact(&steps)).await
    }
}

/// What the thread has.
struct Session {
    context: Context,
    queries: QuerySocket,
    /// The listing that a text makes, for every text that a table of ours may come from.
    known: BTreeMap<Table, BTreeMap<String, String>>,
    /// The tables as they were at a generation.
    cached: BTreeMap<Table, Option<String>>,
    cached_at: u32,
}

impl Session {
    fn open() -> Result<Self, NftError> {
        let queries = QuerySocket::open().map_err(NftError::Generation)?;
        let (known, cached) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { context: Context::open()?, queries, known, cached, cached_at: 0 })
    }

    fn generation(&self) -> Result<u32, NftError> {
        self.queries.generation().map_err(NftError::Generation)
    }

    /// Finds out which listing a text makes.
    fn learn(&mut self, table: Table, text: &str) -> Result<(), NftError> {
        let listings = self.known.entry(table).or_default();
        if !listings.contains_key(text) {
            listings.insert(text.to_owned(), listing_of(table, text)?);
            self.cached.remove(&table);
        }
        Ok(())
    }

    fn rulesets(&mut self, tables: &BTreeSet<Table>) -> Result<BTreeMap<Table, String>, NftError> {
        // Asked for first: what changes while it is listed belongs to a later generation.
        let generation = self.generation()?;
        if generation != self.cached_at {
            self.cached.clear();
            self.cached_at = generation;
        }
        let mut rulesets = BTreeMap::new();
        for table in tables {
            if !self.cached.contains_key(table) {
                let ruleset = self.ruleset(*table)?;
                self.cached.insert(*table, ruleset);
            }
            let cached = self.cached.get(table).cloned().flatten();
            rulesets.extend(cached.map(|text| (*table, text)));
        }
        Ok(rulesets)
    }

    fn ruleset(&mut self, table: Table) -> Result<Option<String>, NftError> {
        let Some(listing) = if_there(list_chains(&mut self.context, table))? else { return Ok(None) };
        self.learn(table, &render::ruleset(table))?;
        let known = self.known.get(&table).into_iter().flatten();
        let same = known.into_iter().find(|(_, known)| **known == listing);
        Ok(Some(same.map_or_else(|| EDITED.to_owned(), |(text, _)| text.clone())))
    }

    /// Every element of a set.
    fn list(&mut self, set: Set) -> Result<BTreeMap<String, Option<String>>, NftError> {
        let kind = if set.is_map() { "map" } else { "set" };
        let command = format!("list {kind} {} {TABLE} {}", set.table().family(), set.name());
        let listing = if_there(self.context.run(&command, Output::Json))?;
        listing.map_or_else(|| Ok(BTreeMap::new()), |listing| parse_elements(set, &listing))
    }

    /// Those of the elements that are in the set. Ranges are always listed: asked for one by one,
    /// the range around it answers for another one.
    fn which(
        &mut self,
        set: Set,
        asked: BTreeSet<String>,
    ) -> Result<BTreeMap<String, Option<String>>, NftError> {
        let keys: Option<Vec<Vec<u8>>> = asked.iter().map(|element| element_key(set, element)).collect();
        let Some(keys) = keys.filter(|keys| keys.len() <= FEW_ELEMENTS) else {
            let mut there = self.list(set)?;
            there.retain(|element, _| asked.contains(element));
            return Ok(there);
        };
        let mut there = BTreeMap::new();
        for (element, key) in asked.into_iter().zip(keys) {
            let found = self.queries.element(protocol(set.table()), (TABLE, set.name()), &key);
            if let Some(value) = found.map_err(|source| NftError::Query { set, source })? {
                there.insert(element, value_text(set, &value)?);
            }
        }
        Ok(there)
    }

    fn transact(&mut self, steps: &[Step]) -> Result<(), NftError> {
        for step in steps {
            if let Step::PutRuleset { table, text } = step {
                self.learn(*table, text)?;
            }
        }
        let before = self.generation()?;
        let mut done = self.context.run(&transaction(steps), Output::Chains).map(drop);
        if done.as_ref().is_err_and(is_missing) {
            let possible = self.without_gone(steps)?;
            if possible.len() < steps.len() {
                done = self.context.run(&transaction(&possible), Output::Chains).map(drop);
            }
        }
        self.keep_cache(steps, before)?;
        done
    }

    /// The steps less those that delete from a table that is gone already.
    fn without_gone(&mut self, steps: &[Step]) -> Result<Vec<Step>, NftError> {
        let mut gone = BTreeSet::new();
        for table in Table::ALL {
            if if_there(list_chains(&mut self.context, table))?.is_none() {
                gone.insert(table);
            }
        }
        let put =
            |table| steps.iter().any(|step| matches!(step, Step::PutRuleset { table: t, .. } if *t == table));
        let deletes_from_gone = |step: &Step| match step {
            Step::DeleteElement { set, .. } => gone.contains(&set.table()) && !put(set.table()),
            _ => false,
        };
        Ok(steps.iter().filter(|step| !deletes_from_gone(step)).cloned().collect())
    }

    /// One generation later than before, nobody but us changed anything, and elements are no part
    /// of what is cached.
    fn keep_cache(&mut self, steps: &[Step], before: u32) -> Result<(), NftError> {
        let after = self.generation()?;
        if self.cached_at != before || after != before.wrapping_add(1) {
            return Ok(());
        }
        self.cached_at = after;
        for step in steps {
            if let Step::PutRuleset { table, .. } | Step::DeleteRuleset { table } = step {
                self.cached.remove(table);
            }
        }
        Ok(())
    }
}

fn list_chains(context: &mut Context, table: Table) -> Result<String, NftError> {
    context.run(&format!("list table {} {TABLE}", table.family()), Output::Chains)
}

/// What nft lists after it has loaded the text where nothing else is.
fn listing_of(table: Table, text: &str) -> Result<String, NftError> {
    let text = text.to_owned();
    let in_empty_namespace = move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
            .map_err(|errno| NftError::Namespace(errno.into()))?;
        let mut context = Context::open()?;
        context.run(&text, Output::Chains)?;
        list_chains(&mut context, table)
    };
    let thread = std::thread::Builder::new().name("trestle-nft-ref".to_owned());
    let running = thread.spawn(in_empty_namespace).map_err(NftError::Namespace)?;
    running.join().unwrap_or(Err(NftError::Gone))
}

/// `None` if what was asked for, or the table it would be in, is not there.
fn if_there(result: Result<String, NftError>) -> Result<Option<String>, NftError> {
    match result {
        Ok(listing) => Ok(Some(listing)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The library gives no numbers, only the C locale's words for `ENOENT`.
fn is_missing(error: &NftError) -> bool {
    matches!(error, NftError::Refused { message } if message.contains("No such file or directory"))
}

/// The commands of one transaction.
fn transaction(steps: &[Step]) -> String {
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
    elements(&mut text, "add", steps, |step| match step {
        Step::AddElement { set, element } => Some((*set, element.clone())),
        _ => None,
    });
    // What goes with its table is not deleted for itself. nft 1.0 cannot delete what may be gone
    // already, so each is added first, which is nothing where it is there.
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
    if !deleted.contains(&Table::Gateway) {
        released(&mut text, steps);
    }
    text
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
        let (family, element) = (Table::Gateway.family(), quoted(*set, element));
        let _ = match step {
            Step::AddElement { .. } => writeln!(
                text,
                "add element {family} {TABLE} {name} {{ {element} }}\ndelete element {family} {TABLE} {name} {{ {element} }}"
            ),
            _ => writeln!(text, "add element {family} {TABLE} {name} {{ {element} timeout {RELEASED} }}"),
        };
    }
}

/// nft 1.0 cannot delete a table that may be gone already: it is added first.
fn replace(text: &mut String, table: Table, chains: &str) {
    let family = table.family();
    let _ = writeln!(text, "add table {family} {TABLE}\ndelete table {family} {TABLE}");
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
        let (family, set) = (set.table().family(), set.name());
        let _ = writeln!(text, "{verb} element {family} {TABLE} {set} {{ {} }}", elements.join(", "));
    }
}

/// `NFPROTO_*` (`linux/netfilter.h`): which family of tables it lies in.
pub(super) fn protocol(table: Table) -> u8 {
    match table {
        Table::Gateway => 1,
        Table::Claims => 3,
        Table::Guard => 7,
    }
}

/// What a part of an element is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Device,
    Mac,
    Ipv4,
    Ipv6,
    /// An IPv6 address as nft writes bytes whose meaning it does not know.
    Number,
    Range,
    /// A protocol with ports.
    Protocol,
    Port,
}

/// What the elements of a set are made of, in the order of its type.
fn parts(set: Set) -> &'static [Part] {
    use Part::{Device, Ipv4, Ipv6, Number, Port, Protocol, Range};
    match set {
        Set::GuardMac | Set::SharedMac => &[Device, Part::Mac],
        Set::GatewayMac => &[Part::Mac],
        Set::GuardIp4 => &[Device, Part::Mac, Ipv4],
        Set::GuardIp6 => &[Device, Part::Mac, Ipv6],
        Set::GuardNd => &[Device, Part::Mac, Number],
        Set::SharedUplink | Set::Network | Set::Private => &[Device],
        Set::SharedIp4 | Set::Held | Set::Yielded => &[Device, Ipv4],
        Set::SharedIp6 | Set::Held6 | Set::Yielded6 => &[Device, Ipv6],
        Set::SharedNd => &[Device, Number],
        Set::Routed => &[Device, Device],
        Set::NatSource | Set::NatSourceIp | Set::NatLocal | Set::NatLocal6 => &[Range, Device],
        Set::NatExempt | Set::NatForced => &[Range, Range],
        Set::FloatingTo | Set::FloatingBack | Set::Floating => &[Ipv4],
        Set::FloatingTo6 | Set::FloatingBack6 | Set::Floating6 => &[Ipv6],
        Set::FloatingFrom => &[Ipv4, Device],
        Set::FloatingFrom6 => &[Ipv6, Device],
        Set::ForwardTo => &[Ipv4, Protocol, Port],
        Set::ForwardTo6 => &[Ipv6, Protocol, Port],
    }
}

/// What the elements of a map lead to, in the same way.
fn value_parts(set: Set) -> &'static [Part] {
    use Part::{Ipv4, Ipv6, Port};
    match set {
        Set::NatSourceIp | Set::FloatingTo | Set::FloatingFrom | Set::FloatingBack => &[Ipv4],
        Set::FloatingTo6 | Set::FloatingFrom6 | Set::FloatingBack6 => &[Ipv6],
        Set::ForwardTo => &[Ipv4, Port],
        Set::ForwardTo6 => &[Ipv6, Port],
        _ => &[],
    }
}

/// The element with its devices in quotes: `fwd` and `log` are device names to the kernel and
/// keywords to nft.
fn quoted(set: Set, element: &str) -> String {
    let quote = |(text, part): (&str, &Part)| match part {
        Part::Device => format!("\"{text}\""),
        _ => text.to_owned(),
    };
    let (key, value) = element.split_once(" : ").map_or((element, None), |(key, value)| (key, Some(value)));
    let key = key.split(" . ").zip(parts(set)).map(quote).collect::<Vec<_>>().join(" . ");
    value.map_or(key.clone(), |value| format!("{key} : {value}"))
}

/// An element as the kernel has it: the parts one after the other, each of several filled up to four
/// bytes. `None` for ranges, and for what is no element of the set.
fn element_key(set: Set, element: &str) -> Option<Vec<u8>> {
    let texts: Vec<&str> = element.split(" . ").collect();
    if texts.len() != parts(set).len() {
        return None;
    }
    let keys: Option<Vec<Vec<u8>>> =
        texts.into_iter().zip(parts(set)).map(|(text, part)| part_key(*part, text)).collect();
    let mut keys = keys?;
    if keys.len() > 1 {
        keys.iter_mut().for_each(|key| key.resize(key.len().next_multiple_of(4), 0));
    }
    Some(keys.concat())
}

fn part_key(part: Part, text: &str) -> Option<Vec<u8>> {
    Some(match part {
        Part::Device => {
            let mut name = text.parse::<LinkName>().ok()?.as_str().as_bytes().to_vec();
            name.resize(IFNAMSIZ, 0);
            name
        }
        Part::Mac => text.parse::<Mac>().ok()?.bytes().to_vec(),
        Part::Ipv4 => text.parse::<Ipv4Addr>().ok()?.octets().to_vec(),
        Part::Ipv6 => text.parse::<Ipv6Addr>().ok()?.octets().to_vec(),
        Part::Number => u128::from_str_radix(text.strip_prefix("0x")?, 16).ok()?.to_be_bytes().to_vec(),
        Part::Protocol => vec![text.parse::<Protocol>().ok()?.number()],
        Part::Port => text.parse::<u16>().ok()?.to_be_bytes().to_vec(),
        Part::Range => return None,
    })
}

/// What an element of a map leads to, from what the kernel has; nothing of a set.
fn value_text(set: Set, value: &[u8]) -> Result<Option<String>, NftError> {
    let strange = || NftError::Element { set, element: format!("{value:02x?}") };
    let (mut rest, mut texts) = (value, Vec::new());
    for part in value_parts(set) {
        let (text, length) = match part {
            Part::Ipv4 => (rest.first_chunk::<4>().map(|bytes| Ipv4Addr::from(*bytes).to_string()), 4),
            Part::Ipv6 => (rest.first_chunk::<16>().map(|bytes| Ipv6Addr::from(*bytes).to_string()), 16),
            Part::Port => (rest.first_chunk::<2>().map(|bytes| u16::from_be_bytes(*bytes).to_string()), 4),
            _ => (None, 0),
        };
        texts.push(text.ok_or_else(strange)?);
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok((!texts.is_empty()).then(|| texts.join(" . ")))
}

/// The elements of a set in `nft -j list set` (libnftables-json(5)), in the words of our keys.
fn parse_elements(set: Set, listing: &str) -> Result<BTreeMap<String, Option<String>>, NftError> {
    let listing: Value = serde_json::from_str(listing).map_err(NftError::Answer)?;
    let objects = listing.get("nftables").and_then(Value::as_array).into_iter().flatten();
    let sets = objects.filter_map(|object| object.get("set").or_else(|| object.get("map")));
    let elements = sets.filter_map(|set| set.get("elem")?.as_array()).flatten();
    elements
        .map(|element| {
            let strange = || NftError::Element { set, element: element.to_string() };
            parse_element(set, element).ok_or_else(strange)
        })
        .collect()
}

fn parse_element(set: Set, element: &Value) -> Option<(String, Option<String>)> {
    let (key, value) = match element.as_array().map(Vec::as_slice) {
        Some([key, value]) if set.is_map() => (key, Some(value)),
        _ => (element, None),
    };
    let value = match value {
        Some(value) => Some(parse_parts(value_parts(set), value)?),
        None => None,
    };
    // With a comment or timeout, the element is wrapped once more.
    let key = key.get("elem").and_then(|elem| elem.get("val")).unwrap_or(key);
    Some((parse_parts(parts(set), key)?, value))
}

fn parse_parts(parts: &[Part], value: &Value) -> Option<String> {
    let values = match value.get("concat") {
        Some(values) => &values.as_array()?[..],
        None => std::slice::from_ref(value),
    };
    let texts: Option<Vec<String>> =
        values.iter().zip(parts).map(|(value, part)| parse_part(*part, value)).collect();
    Some(texts?.join(" . "))
}

fn parse_part(part: Part, value: &Value) -> Option<String> {
    if let Some(prefix) = value.get("prefix") {
        return Some(format!("{}/{}", prefix.get("addr")?.as_str()?, prefix.get("len")?.as_u64()?));
    }
    if let Some(range) = value.get("range") {
        return Some(format!("{}-{}", range.get(0)?.as_str()?, range.get(1)?.as_str()?));
    }
    match (part, value.as_u64()) {
        // Beyond 64 bits they are texts in hex; the text form has all of them so.
        (Part::Number, Some(number)) => Some(format!("{number:#x}")),
        (_, Some(number)) => Some(number.to_string()),
        (_, None) => value.as_str().map(str::to_owned),
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
            Step::DeleteElement { set: Set::Routed, element: element("br1 . br2") },
            Step::DeleteRuleset { table: Table::Gateway },
        ];
        insta::assert_snapshot!(transaction(&steps), @r#"
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

    #[test]
    fn elements_are_read_in_the_words_of_keys() {
        let listing = r#"{"nftables": [{"metainfo": {}}, {"set": {"elem": [
            {"concat": [{"prefix": {"addr": "10.0.0.0", "len": 24}}, "eth0"]},
            {"elem": {"val": {"concat": ["10.0.3.7", "fwd"]}, "comment": "x"}},
            {"concat": [{"range": ["10.1.0.1", "10.1.0.9"]}, "eth0"]}]}}]}"#;
        let parse =
            |set, listing: &str| parse_elements(set, listing).unwrap().into_keys().collect::<Vec<_>>();
        let elements = parse(Set::NatSource, listing);
        assert_eq!(elements, ["10.0.0.0/24 . eth0", "10.0.3.7 . fwd", "10.1.0.1-10.1.0.9 . eth0"]);
        let listing =
            r#"{"nftables": [{"set": {"elem": ["br100", {"elem": {"val": "fwd", "comment": "x"}}]}}]}"#;
        assert_eq!(parse(Set::Network, listing), ["br100", "fwd"]);
        let listing = r#"{"nftables": [{"set": {"elem": [{"concat": ["a", "fa:16:3e:00:00:01", 5]},
            {"concat": ["a", "fa:16:3e:00:00:01", "0xfe80000000000000f8163efffe000001"]}]}}]}"#;
        assert_eq!(
            parse(Set::GuardNd, listing),
            ["a . fa:16:3e:00:00:01 . 0x5", "a . fa:16:3e:00:00:01 . 0xfe80000000000000f8163efffe000001"]
        );
        let listing = r#"{"nftables": [{"map": {"elem": [
            [{"concat": ["203.0.113.21", "tcp", 80]}, {"concat": ["10.0.0.5", 8080]}]]}}]}"#;
        let leads_to = Some("10.0.0.5 . 8080".to_owned());
        let elements = parse_elements(Set::ForwardTo, listing).unwrap();
        assert_eq!(elements, BTreeMap::from([("203.0.113.21 . tcp . 80".to_owned(), leads_to.clone())]));
        assert_eq!(value_text(Set::ForwardTo, &[10, 0, 0, 5, 31, 144, 0, 0]).unwrap(), leads_to);
    }
}
