//! Our nftables tables: one thread that speaks to the kernel through libnftables, what is in the
//! tables, and transactions.
//!
//! Whether a table's chains are what they should be is never worked out here: nft loads the text
//! into an empty network namespace and lists it back, and the host's listing has to be the same.

mod chains;
mod element;
mod transaction;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::mpsc;

use tokio::sync::oneshot;
use trestle_api::agent::RuleCounter;
use trestle_core::plan::Step;
use trestle_core::render;
use trestle_core::spec::{Set, Table};

use super::libnftables::{Context, Output};
use super::nfnetlink::QuerySocket;
use crate::host::error::NftError;
use chains::{Counters, Listing};
use element::{element_key, parse_elements, value_text};
use transaction::{Given, transaction};

/// Asked for one by one below this, by listing the set from it on.
const FEW_ELEMENTS: usize = 64;
/// The name of the thread that changes the rules. The kernel's notices carry it: they are told from
/// those of others by it, because the number beside it means nothing inside a PID namespace.
pub(super) const THREAD: &str = "trestle-nft";
/// What a table that is not as its text makes it is observed as.
const EDITED: &str = "edited";

/// What is in our tables.
#[derive(Clone, Debug, Default)]
pub(super) struct Tables {
    /// The text of each table that is there, or that somebody edited it.
    pub(super) rulesets: BTreeMap<Table, String>,
    /// The chains of security groups: their rules as they were given, or that somebody edited them.
    pub(super) chains: BTreeMap<String, String>,
    /// The sets of security groups.
    pub(super) sets: BTreeSet<Set>,
    /// The elements that are there; of a map with what each leads to.
    pub(super) elements: BTreeMap<(Set, String), Option<String>>,
}

/// Which things in our tables are asked about.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    pub(super) tables: BTreeSet<Table>,
    pub(super) chains: BTreeSet<String>,
    pub(super) sets: BTreeSet<Set>,
    pub(super) elements: BTreeMap<Set, BTreeSet<String>>,
}

impl Asked {
    pub(super) fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.chains.is_empty() && self.sets.is_empty() && self.elements.is_empty()
    }
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

    /// Everything in our tables. `texts` are those that a table may have been made from, `chains` those of
    /// chains.
    pub(super) async fn observe(
        &self,
        texts: BTreeMap<Table, String>,
        chains: BTreeMap<String, String>,
    ) -> Result<Tables, NftError> {
        self.call(move |session| {
            for (table, text) in texts {
                session.learn(table, &text)?;
            }
            session.learn_made()?;
            session.learn_chains(chains)?;
            let rulesets = session.rulesets(&Table::ALL.into())?;
            let Listing { chains, sets, .. } = session.groups()?;
            let mut elements = BTreeMap::new();
            for set in Set::FIXED.into_iter().chain(sets.iter().copied()) {
                let listed = session.list(set)?.into_iter();
                elements.extend(listed.map(|(element, value)| ((set, element), value)));
            }
            Ok(Tables { rulesets, chains: session.as_given(chains), sets, elements })
        })
        .await
    }

    /// Whether these are there.
    pub(super) async fn observe_some(&self, asked: Asked) -> Result<Tables, NftError> {
        self.call(move |session| {
            let rulesets = session.rulesets(&asked.tables)?;
            let mut elements = BTreeMap::new();
            for (set, asked) in asked.elements {
                let found = session.which(set, asked)?.into_iter();
                elements.extend(found.map(|(element, value)| ((set, element), value)));
            }
            let chains = session.chains(&asked.chains)?;
            let mut sets = BTreeSet::new();
            for set in asked.sets {
                sets.extend(session.has_set(set)?.then_some(set));
            }
            Ok(Tables { rulesets, chains, sets, elements })
        })
        .await
    }

    /// What each rule of security groups has decided on so far.
    pub(super) async fn counters(&self) -> Result<BTreeMap<u32, RuleCounter>, NftError> {
        self.call(|session| {
            let listing = if_there(list_table(&mut session.context, Table::Groups, Output::Counters))?;
            Ok(Counters::parse(&listing.unwrap_or_default()).by_rule())
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

    /// Makes the guard anew with nothing in it: no guest passes until all of it is put right. What another
    /// program did to these tables may let anything through, and to find out what takes longer than this.
    pub(super) async fn close(&self) -> Result<(), NftError> {
        let (table, text) = (Table::Guard, trestle_core::render::ruleset(Table::Guard));
        self.call(move |session| session.transact(&[Step::PutRuleset { table, text }])).await
    }

    /// Does the steps in one transaction, which happens as a whole or not at all. Chains of security
    /// groups that cannot be made are left as they are, so that one does not hold up all others: they
    /// are given back with what is wrong.
    pub(super) async fn transact(&self, steps: Vec<Step>) -> Result<Bad, NftError> {
        self.call(move |session| match session.transact(&steps) {
            Ok(()) => Ok(Vec::new()),
            Err(error) => session.transact_without_bad_chains(steps).unwrap_or(Err(error)),
        })
        .await
    }
}

/// Steps that were left out, and why.
type Bad = Vec<(Step, NftError)>;

/// What the thread has.
struct Session {
    context: Context,
    queries: QuerySocket,
    /// The listing that a text makes, for every text that a table of ours may come from.
    known: BTreeMap<Table, BTreeMap<String, String>>,
    /// The rules that were listed of a chain, with what it was given.
    known_chains: BTreeMap<String, BTreeMap<String, String>>,
    /// What chains were given that nobody has found out about yet.
    made: BTreeMap<String, String>,
    /// The tables as they were at a generation, and what the chains of security groups were given.
    cached: BTreeMap<Table, Option<String>>,
    cached_chains: Option<BTreeMap<String, String>>,
    cached_at: u32,
}

impl Session {
    fn open() -> Result<Self, NftError> {
        let queries = QuerySocket::open().map_err(NftError::Generation)?;
        Ok(Self {
            context: Context::open()?,
            queries,
            known: BTreeMap::new(),
            known_chains: BTreeMap::new(),
            made: BTreeMap::new(),
            cached: BTreeMap::new(),
            cached_chains: None,
            cached_at: 0,
        })
    }

    fn generation(&self) -> Result<u32, NftError> {
        self.queries.generation().map_err(NftError::Generation)
    }

    /// Finds out which listing a text makes.
    fn learn(&mut self, table: Table, text: &str) -> Result<(), NftError> {
        let listings = self.known.entry(table).or_default();
        if !listings.contains_key(text) {
            listings.insert(text.to_owned(), fixed_part(table, listing_of(table, text)?));
            self.cached.remove(&table);
        }
        Ok(())
    }

    /// Finds out which rules these chains make, of those that were not seen yet.
    fn learn_chains(&mut self, chains: BTreeMap<String, String>) -> Result<(), NftError> {
        let is_known = |chain: &str, given: &String| {
            self.known_chains.get(chain).is_some_and(|known| known.values().any(|known| known == given))
        };
        let fresh: BTreeMap<_, _> =
            chains.into_iter().filter(|(chain, given)| !is_known(chain, given)).collect();
        if fresh.is_empty() {
            return Ok(());
        }
        self.cached_chains = None;
        let listing = match listing_of(Table::Groups, &with_chains(&fresh)) {
            // One that cannot be made is never there; the others are found out about without it.
            Err(NftError::Refused { .. }) if fresh.len() > 1 => {
                return fresh.into_iter().try_for_each(|one| self.learn_chains(BTreeMap::from([one])));
            }
            Err(NftError::Refused { .. }) => return Ok(()),
            listing => listing?,
        };
        for (chain, rules) in Listing::parse(&listing).chains {
            if let Some(given) = fresh.get(&chain) {
                self.known_chains.entry(chain).or_default().insert(rules, given.clone());
            }
        }
        Ok(())
    }

    /// Finds out about the chains that were made since. They are listed as soon as somebody asks, not before:
    /// it takes longer than making them.
    fn learn_made(&mut self) -> Result<(), NftError> {
        self.learn_chains(self.made.clone())?;
        self.made.clear();
        Ok(())
    }

    /// The chains by what they were given.
    fn as_given(&self, chains: BTreeMap<String, String>) -> BTreeMap<String, String> {
        let given = |chain: &str, rules: &str| self.known_chains.get(chain)?.get(rules).cloned();
        let as_given = |(chain, rules): (String, String)| {
            let given = given(&chain, &rules).unwrap_or_else(|| EDITED.to_owned());
            (chain, given)
        };
        chains.into_iter().map(as_given).collect()
    }

    /// What there is of security groups.
    fn groups(&mut self) -> Result<Listing, NftError> {
        let listing = if_there(list_chains(&mut self.context, Table::Groups))?;
        Ok(listing.map(|listing| Listing::parse(&listing)).unwrap_or_default())
    }

    /// What those of these chains were given that are there. To list one the library has the kernel tell it the
    /// whole table, so all are listed at once, and not again before somebody else changes something.
    fn chains(&mut self, asked: &BTreeSet<String>) -> Result<BTreeMap<String, String>, NftError> {
        if asked.is_empty() {
            return Ok(BTreeMap::new());
        }
        self.freshen()?;
        let there = match self.cached_chains.take() {
            Some(there) => there,
            None => {
                self.learn_made()?;
                let listed = self.groups()?.chains;
                self.as_given(listed)
            }
        };
        let found = asked.iter().filter_map(|chain| there.get_key_value(chain));
        let found = found.map(|(chain, given)| (chain.clone(), given.clone())).collect();
        self.cached_chains = Some(there);
        Ok(found)
    }

    fn has_set(&mut self, set: Set) -> Result<bool, NftError> {
        let (family, table) = (set.table().family(), set.table().name());
        let command = format!("list set {family} {table} {}", set.name());
        Ok(if_there(self.context.run(&command, Output::Chains))?.is_some())
    }

    /// Forgets what was listed at another generation. Done before anything is listed: what changes meanwhile
    /// belongs to a later one.
    fn freshen(&mut self) -> Result<(), NftError> {
        let generation = self.generation()?;
        if generation != self.cached_at {
            self.cached.clear();
            self.cached_chains = None;
            self.cached_at = generation;
        }
        Ok(())
    }

    fn rulesets(&mut self, tables: &BTreeSet<Table>) -> Result<BTreeMap<Table, String>, NftError> {
        self.freshen()?;
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
        let listing = fixed_part(table, listing);
        self.learn(table, &render::ruleset(table))?;
        let known = self.known.get(&table).into_iter().flatten();
        let same = known.into_iter().find(|(_, known)| **known == listing);
        Ok(Some(same.map_or_else(|| EDITED.to_owned(), |(text, _)| text.clone())))
    }

    /// Every element of a set.
    fn list(&mut self, set: Set) -> Result<BTreeMap<String, Option<String>>, NftError> {
        let kind = if set.is_map() { "map" } else { "set" };
        let (family, table) = (set.table().family(), set.table().name());
        let command = format!("list {kind} {family} {table} {}", set.name());
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
            let found = self.queries.element(protocol(set.table()), (set.table().name(), &set.name()), &key);
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
        let given = Given { random: random_for(steps)?, counters: self.counters_of(steps)? };
        let before = self.generation()?;
        let mut done = self.context.run(&transaction(steps, given.clone()), Output::Chains).map(drop);
        if done.as_ref().is_err_and(is_missing) {
            let possible = self.without_gone(steps)?;
            if possible.len() < steps.len() {
                done = self.context.run(&transaction(&possible, given), Output::Chains).map(drop);
            }
        }
        self.keep_cache(steps, before)?;
        if done.is_ok() {
            self.remember_chains(steps);
        }
        done
    }

    /// The same without the chains that are refused for themselves; `None` if there are none.
    fn transact_without_bad_chains(&mut self, steps: Vec<Step>) -> Option<Result<Bad, NftError>> {
        let (mut bad, mut good) = (Vec::new(), Vec::new());
        for step in steps {
            match self.refusal(&step) {
                Some(error) => bad.push((step, error)),
                None => good.push(step),
            }
        }
        (!bad.is_empty()).then(|| self.transact(&good).map(|()| bad))
    }

    /// Why a chain cannot be made, whatever else there is.
    fn refusal(&self, step: &Step) -> Option<NftError> {
        let Step::PutChain { chain, rules } = step else { return None };
        let alone = BTreeMap::from([(chain.clone(), rules.clone())]);
        listing_of(Table::Groups, &with_chains(&alone)).err()
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

    /// What the rules of the chains that are made anew have counted.
    fn counters_of(&mut self, steps: &[Step]) -> Result<Counters, NftError> {
        let has_counted = |step: &Step| match step {
            Step::PutChain { rules, .. } => rules.lines().any(|rule| rule.contains("counter ")),
            _ => false,
        };
        if !steps.iter().any(has_counted) {
            return Ok(Counters::default());
        }
        let listing = if_there(list_table(&mut self.context, Table::Groups, Output::Counters))?;
        Ok(listing.map(|listing| Counters::parse(&listing)).unwrap_or_default())
    }

    /// What was just made is what its text makes.
    fn remember_chains(&mut self, steps: &[Step]) {
        for step in steps {
            match step {
                Step::PutChain { chain, rules: given } => {
                    if let Some(known) = self.known_chains.get_mut(chain) {
                        known.retain(|_, known| known == given);
                    }
                    self.made.insert(chain.clone(), given.clone());
                    self.cached_chains.as_mut().map(|there| there.insert(chain.clone(), given.clone()));
                }
                Step::DeleteChain { chain } => {
                    self.known_chains.remove(chain);
                    self.made.remove(chain);
                    self.cached_chains.as_mut().map(|there| there.remove(chain));
                }
                _ => {}
            }
        }
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
                if *table == Table::Groups {
                    self.cached_chains = None;
                }
            }
        }
        Ok(())
    }
}

/// What tells a judgement from those before it; none where nothing is judged.
fn random_for(steps: &[Step]) -> Result<u32, NftError> {
    if !steps.contains(&Step::JudgeAnew) {
        return Ok(0);
    }
    let mut bytes = [0; 4];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut bytes));
    read.map_err(NftError::Random)?;
    Ok(u32::from_ne_bytes(bytes))
}

/// The table of security groups with these chains, and what they refer to.
fn with_chains(chains: &BTreeMap<String, String>) -> String {
    let (family, table) = (Table::Groups.family(), Table::Groups.name());
    let rules = || chains.values().flat_map(|given| given.lines());
    let sets = rules().filter_map(|rule| Set::named(rule.split_once('@')?.1.split(' ').next()?));
    let jumps = rules().filter_map(|rule| rule.strip_prefix("jump "));
    let names: BTreeSet<&str> = chains.keys().map(String::as_str).chain(jumps).collect();
    let mut commands = vec![render::ruleset(Table::Groups)];
    commands.extend(sets.map(render::set_command));
    commands.extend(names.into_iter().map(|name| format!("add chain {family} {table} {name}")));
    for (name, given) in chains {
        commands.extend(given.lines().map(|rule| format!("add rule {family} {table} {name} {rule}")));
    }
    commands.join("\n")
}

fn list_chains(context: &mut Context, table: Table) -> Result<String, NftError> {
    list_table(context, table, Output::Chains)
}

fn list_table(context: &mut Context, table: Table, output: Output) -> Result<String, NftError> {
    context.run(&format!("list table {} {}", table.family(), table.name()), output)
}

/// What of a listing the table's text makes.
fn fixed_part(table: Table, listing: String) -> String {
    if table == Table::Groups { Listing::parse(&listing).fixed } else { listing }
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

/// `NFPROTO_*` (`linux/netfilter.h`): which family of tables it lies in.
pub(super) fn protocol(table: Table) -> u8 {
    match table {
        Table::Gateway | Table::Groups => 1,
        Table::Claims => 3,
        Table::Guard => 7,
    }
}
