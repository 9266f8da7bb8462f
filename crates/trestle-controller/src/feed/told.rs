//! What one host was told, as far back as it is kept.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::Timestamp;
use tokio::sync::watch;
use trestle_core::spec::{Key, Object, SpecUpdate};

/// How many changed keys a host's ring keeps before the oldest changes are forgotten.
const RING_KEYS: usize = 8192;

/// What one host was told and has said.
pub(super) struct HostFeed {
    /// The latest revision that bore on it.
    pub(super) generation: watch::Sender<u64>,
    /// The generation after which the ring has every change.
    pub(super) ring_from: u64,
    pub(super) ring: VecDeque<Delta>,
    ring_keys: usize,
    /// What it says it has worked through.
    pub(super) applied: watch::Sender<u64>,
    pub(super) polls: usize,
    pub(super) last_heard: Option<Timestamp>,
}

/// What one batch of changes means for one host.
#[derive(Clone, Debug, Default)]
pub(super) struct Delta {
    pub(super) generation: u64,
    pub(super) put: BTreeMap<Key, Object>,
    pub(super) gone: BTreeSet<Key>,
}

impl HostFeed {
    /// A host about which nothing was told before this generation.
    pub(super) fn new(generation: u64) -> Self {
        Self {
            generation: watch::Sender::new(generation),
            ring_from: generation,
            ring: VecDeque::new(),
            ring_keys: 0,
            applied: watch::Sender::new(0),
            polls: 0,
            last_heard: None,
        }
    }

    pub(super) fn push(&mut self, delta: Delta) {
        let generation = delta.generation;
        self.ring_keys += delta.keys();
        self.ring.push_back(delta);
        while self.ring_keys > RING_KEYS {
            let Some(oldest) = self.ring.pop_front() else { break };
            self.ring_keys -= oldest.keys();
            self.ring_from = oldest.generation;
        }
        self.generation.send_replace(generation);
    }

    /// What changed after this generation, which the ring covers.
    pub(super) fn since(&self, since: u64, generation: u64) -> SpecUpdate {
        let mut whole = Delta::default();
        for delta in self.ring.iter().filter(|delta| delta.generation > since) {
            whole.join(delta);
        }
        SpecUpdate { base: Some(since), generation, put: whole.put, gone: whole.gone }
    }
}

impl Delta {
    /// How much of the ring it takes; one that changes no key takes a place too.
    fn keys(&self) -> usize {
        self.put.len() + self.gone.len() + 1
    }

    /// Adds what comes after it.
    fn join(&mut self, later: &Self) {
        for key in &later.gone {
            self.take(key.clone());
        }
        for (key, object) in &later.put {
            self.set(key.clone(), object.clone());
        }
    }

    /// Adds the way from some objects to others.
    pub(super) fn join_difference(&mut self, before: &BTreeMap<Key, Object>, after: BTreeMap<Key, Object>) {
        for key in before.keys().filter(|key| !after.contains_key(key)) {
            self.take(key.clone());
        }
        for (key, object) in after {
            if before.get(&key) != Some(&object) {
                self.set(key, object);
            }
        }
    }

    fn set(&mut self, key: Key, object: Object) {
        self.gone.remove(&key);
        self.put.insert(key, object);
    }

    fn take(&mut self, key: Key) {
        self.put.remove(&key);
        self.gone.insert(key);
    }
}
