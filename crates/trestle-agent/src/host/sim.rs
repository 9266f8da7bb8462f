//! A host in memory: steps do what `trestle_core::simulate` says they do. For tests of the loop
//! and for thousands of hosts in one process.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;
use trestle_api::VpnConnection;
use trestle_api::agent::{Feature, RuleCounter};
use trestle_core::plan::Step;
use trestle_core::simulate::simulate;
use trestle_core::spec::{HostSpec, Key, Set};
use trestle_core::state::HostState;
use trestle_core::types::{LinkName, Name};

use super::{ApplyError, Change, Host, ObserveError, StepFailure};

/// A host that exists in memory alone.
#[derive(Debug, Default)]
pub struct SimHost {
    inner: Mutex<Inner>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    state: HostState,
    applied: Vec<Step>,
    failing: BTreeMap<Step, fn() -> ApplyError>,
    unreadable: Option<fn() -> ObserveError>,
    pending: Option<Change>,
    missing_features: BTreeSet<Feature>,
}

impl SimHost {
    /// A host that has this already.
    pub fn new(state: HostState) -> Self {
        Self { inner: Mutex::new(Inner { state, ..Inner::default() }), wake: Notify::new() }
    }

    /// What it has now.
    pub fn state(&self) -> HostState {
        self.lock().state.clone()
    }

    /// Every step that was done since the last call, in order.
    pub fn take_applied(&self) -> Vec<Step> {
        std::mem::take(&mut self.lock().applied)
    }

    /// From now on this step fails so; `None` lets it succeed again.
    pub fn fail_step(&self, step: Step, error: Option<fn() -> ApplyError>) {
        let mut inner = self.lock();
        match error {
            Some(error) => inner.failing.insert(step, error),
            None => inner.failing.remove(&step),
        };
    }

    /// From now on observing fails so; `None` lets it succeed again.
    pub fn fail_observe(&self, error: Option<fn() -> ObserveError>) {
        self.lock().unreadable = error;
    }

    /// From now on the kernel lacks this.
    pub fn lack(&self, feature: Feature) {
        self.lock().missing_features.insert(feature);
    }

    /// Changes the host behind the agent's back, and nothing says so.
    pub fn disturb_unseen(&self, change: impl FnOnce(&mut HostState)) {
        change(&mut self.lock().state);
    }

    /// Changes the host behind the agent's back, and has [`Host::changed`] say so.
    pub fn disturb(&self, culprit: &str, what: &str, change: impl FnOnce(&mut HostState)) {
        let mut inner = self.lock();
        change(&mut inner.state);
        inner.pending =
            Some(Change { culprit: Some(culprit.to_owned()), at: Instant::now(), what: what.to_owned() });
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> Result<HostState, ObserveError> {
        let inner = self.lock();
        match inner.unreadable {
            Some(error) => Err(error()),
            None => Ok(inner.state.clone()),
        }
    }
}

impl Inner {
    fn apply(&mut self, step: &Step) -> Result<(), ApplyError> {
        if let Some(error) = self.failing.get(step) {
            return Err(error());
        }
        simulate(&mut self.state, step);
        self.applied.push(step.clone());
        Ok(())
    }
}

impl Host for SimHost {
    async fn observe(&self, _spec: &HostSpec) -> Result<HostState, ObserveError> {
        self.read()
    }

    async fn observe_keys(&self, keys: &BTreeSet<Key>) -> Result<HostState, ObserveError> {
        let mut state = self.read()?;
        let moves = keys.iter().any(|key| matches!(key, Key::Uplink(_)));
        state.objects.retain(|key, _| {
            keys.contains(key) || (moves && matches!(key, Key::Address(..) | Key::Route(..)))
        });
        Ok(state)
    }

    async fn apply(&self, steps: &BTreeSet<Step>) -> Vec<StepFailure> {
        let mut inner = self.lock();
        let mut failures = Vec::new();
        for step in steps {
            if let Err(error) = inner.apply(step) {
                failures.push(StepFailure { step: step.clone(), error });
            }
        }
        failures
    }

    async fn changed(&self) -> Change {
        loop {
            let woken = self.wake.notified();
            if let Some(change) = self.lock().pending.take() {
                return change;
            }
            woken.await;
        }
    }

    async fn is_claimed(&self) -> Result<bool, ObserveError> {
        let claimed = |key: &Key| matches!(key, Key::Element(Set::Yielded | Set::Yielded6, _));
        Ok(self.read()?.objects.keys().any(claimed))
    }

    async fn rule_counters(&self) -> Result<BTreeMap<u32, RuleCounter>, ObserveError> {
        Ok(BTreeMap::new())
    }

    async fn vpn_connections(&self) -> BTreeMap<Name, BTreeMap<Name, VpnConnection>> {
        BTreeMap::new()
    }

    fn devices(&self) -> Option<BTreeSet<LinkName>> {
        let inner = self.lock();
        let links = inner.state.objects.keys().filter_map(|key| match key {
            Key::Link(link) => Some(link.clone()),
            _ => None,
        });
        Some(links.collect())
    }

    fn addresses(&self) -> Option<BTreeSet<IpAddr>> {
        let inner = self.lock();
        let addresses = inner.state.objects.keys().filter_map(|key| match key {
            Key::Address(_, address) => Some(address.addr()),
            _ => None,
        });
        Some(addresses.collect())
    }

    fn missing_features(&self) -> BTreeSet<Feature> {
        self.lock().missing_features.clone()
    }
}
