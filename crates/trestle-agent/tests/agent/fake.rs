//! A controller and a machine that follow a script, and an agent between them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use trestle_agent::host::{Change, Host, ObserveError, SimHost, StepFailure};
use trestle_agent::{AgentConfig, AgentError, Controller, ControllerError};
use trestle_api::agent::{Drift, Feature, Report, RuleCounter, SpecQuery};
use trestle_api::{ApiError, AttachRequest, Attached, VpnConnection};
use trestle_core::compile::compile;
use trestle_core::plan::Step;
use trestle_core::spec::{HostSpec, Key, SpecUpdate};
use trestle_core::state::HostState;
use trestle_core::types::{LinkName, Name};
use trestle_core::world::World;

use crate::cloud;

/// How long anything may take before a test gives up: far more than it takes, but less than it is
/// until the next heartbeat or regular round, which would make good what was missed.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Waits until this holds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(DEADLINE, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    assert!(waited.await.is_ok(), "waited in vain until {what}");
}

/// A controller in memory. Clones are the same one.
#[derive(Clone)]
pub struct FakeController(Arc<Inner>);

struct Inner {
    script: Mutex<Script>,
    changed: watch::Sender<u64>,
}

struct Script {
    world: World,
    /// What the host had to have, generation by generation; the last one counts.
    history: VecDeque<HostSpec>,
    away: bool,
    /// The next update to be sent in place of the right one.
    wrong: Option<SpecUpdate>,
    queries: Vec<SpecQuery>,
    reports: Vec<Report>,
}

impl FakeController {
    pub fn new(world: World) -> Self {
        let script = Script {
            history: VecDeque::from([cloud::spec(&world)]),
            world,
            away: false,
            wrong: None,
            queries: Vec::new(),
            reports: Vec::new(),
        };
        Self(Arc::new(Inner { script: Mutex::new(script), changed: watch::Sender::new(0) }))
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.0.script.lock().unwrap()
    }

    /// Changes what should be; gives the generation of it.
    pub fn change(&self, change: impl FnOnce(&mut World)) -> u64 {
        let generation = self.script().change(change);
        self.wake();
        generation
    }

    /// From now on nobody answers, or somebody does again.
    pub fn set_away(&self, away: bool) {
        self.script().away = away;
        self.wake();
    }

    /// Sends this once, to whoever asks next or waits.
    pub fn send_wrong(&self, update: SpecUpdate) {
        self.script().wrong = Some(update);
        self.wake();
    }

    /// Forgets how it came to be what it is, as after a restart.
    pub fn forget_history(&self) {
        let mut script = self.script();
        let latest = script.latest().clone();
        script.history = VecDeque::from([latest]);
    }

    /// What the host must have.
    pub fn spec(&self) -> HostSpec {
        self.script().latest().clone()
    }

    pub fn queries(&self) -> Vec<SpecQuery> {
        self.script().queries.clone()
    }

    pub fn reports(&self) -> Vec<Report> {
        self.script().reports.clone()
    }

    /// The last report, once there is one that is as asked.
    pub async fn reported(&self, what: &str, is_it: impl Fn(&Report) -> bool) -> Report {
        until(what, || self.script().reports.last().is_some_and(&is_it)).await;
        self.script().reports.last().cloned().unwrap()
    }

    /// All drift that was told, once there is some.
    pub async fn drift(&self) -> Vec<Drift> {
        let told = || -> Vec<Drift> { self.reports().into_iter().flat_map(|report| report.drift).collect() };
        until("drift is told", || !told().is_empty()).await;
        told()
    }

    /// Waits until a report says that the host is where it should be, without a problem.
    pub async fn content(&self) {
        let generation = self.spec().generation;
        let is_content = |report: &Report| report.generation == generation && report.problems.is_empty();
        self.reported("all is done", is_content).await;
    }

    fn wake(&self) {
        self.0.changed.send_modify(|count| *count += 1);
    }

    fn answer(&self) -> Result<MutexGuard<'_, Script>, ControllerError> {
        let script = self.script();
        if script.away {
            return Err(ControllerError::NoAnswer(Box::new(io::Error::from(
                io::ErrorKind::ConnectionRefused,
            ))));
        }
        Ok(script)
    }

    /// Changes the interface that these name: `vm3` on `net1`.
    fn change_interface(
        &self,
        instance: &str,
        network: Option<&str>,
        change: impl FnOnce(&mut World, u8, u8),
    ) -> Result<Attached, ControllerError> {
        let mut script = self.answer()?;
        let number = |text: Option<&str>, prefix| text?.strip_prefix(prefix)?.parse::<u8>().ok();
        let (Some(n), Some(i)) = (number(network, "net"), number(Some(instance), "vm")) else {
            let message = format!("no instance `{instance}`");
            let (code, problems) = ("not_found".to_owned(), Vec::new());
            return Err(ControllerError::Refused(ApiError { code, message, hint: None, problems }));
        };
        let generation = script.change(|world| change(world, n, i));
        drop(script);
        self.wake();
        Ok(attached(n, i, generation))
    }
}

fn attached(n: u8, i: u8, generation: u64) -> Attached {
    let (network, interface) = (cloud::network(n), cloud::interface(n, i));
    let gateways = network.subnets().filter_map(|subnet| subnet.gateway).collect();
    Attached {
        instance: interface.hostname,
        network: network.name,
        interface: interface.id,
        device: interface.device,
        mac: interface.mac,
        addresses: interface.addresses.iter().map(|address| format!("{address}/24")).collect(),
        gateways,
        dns: network.dns,
        domain: network.domain,
        bridge: network.bridge,
        mtu: network.mtu,
        host: cloud::host().name,
        generation,
    }
}

impl Script {
    fn latest(&self) -> &HostSpec {
        self.history.back().unwrap()
    }

    fn change(&mut self, change: impl FnOnce(&mut World)) -> u64 {
        change(&mut self.world);
        let generation = self.latest().generation + 1;
        let objects = compile(&self.world, cloud::HOST);
        self.history.push_back(HostSpec { generation, objects, unconfirmed: false });
        generation
    }

    /// What is new since then; everything if that is not known any more.
    fn update(&self, since: Option<u64>) -> Option<SpecUpdate> {
        let latest = self.latest();
        let generation = latest.generation;
        if since == Some(generation) {
            return None;
        }
        let Some(before) = self.history.iter().find(|spec| Some(spec.generation) == since) else {
            return Some(SpecUpdate {
                base: None,
                generation,
                put: latest.objects.clone(),
                gone: Default::default(),
            });
        };
        let mut put = latest.objects.clone();
        put.retain(|key, object| before.objects.get(key) != Some(object));
        let gone = before.objects.keys().filter(|key| !latest.objects.contains_key(key));
        Some(SpecUpdate { base: since, generation, put, gone: gone.cloned().collect() })
    }
}

impl Controller for FakeController {
    async fn spec(&self, query: &SpecQuery) -> Result<Option<SpecUpdate>, ControllerError> {
        self.script().queries.push(query.clone());
        let mut changed = self.0.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let found = {
                let mut script = self.answer()?;
                script.wrong.take().or_else(|| script.update(query.since))
            };
            if found.is_some() || query.wait == Some(0) {
                return Ok(found);
            }
            changed.changed().await.unwrap();
        }
    }

    async fn report(&self, report: &Report) -> Result<(), ControllerError> {
        self.answer()?.reports.push(report.clone());
        Ok(())
    }

    async fn attach(
        &self,
        instance: &str,
        _project: Option<&str>,
        request: &AttachRequest,
    ) -> Result<Attached, ControllerError> {
        self.change_interface(instance, request.network.as_deref(), |world, n, i| {
            world.put_network(cloud::network(n));
            world.put_interface(cloud::interface(n, i));
        })
    }

    async fn detach(
        &self,
        instance: &str,
        _project: Option<&str>,
        network: Option<&str>,
    ) -> Result<Attached, ControllerError> {
        self.change_interface(instance, network, |world, n, i| {
            world.remove_interface(cloud::interface(n, i).id);
        })
    }
}

/// A simulated host that outlives its agents, can be made slow to list everything, and can be made
/// to stop an agent for good after some steps. Clones are the same one.
#[derive(Clone)]
pub struct Machine {
    pub host: Arc<SimHost>,
    steps_left: Arc<AtomicUsize>,
    stuck: Arc<AtomicBool>,
    listing: Arc<watch::Sender<bool>>,
    listed: Arc<AtomicUsize>,
}

impl Machine {
    pub fn new(state: HostState) -> Self {
        Self {
            host: Arc::new(SimHost::new(state)),
            steps_left: Arc::new(AtomicUsize::new(usize::MAX)),
            stuck: Arc::default(),
            listing: Arc::new(watch::Sender::new(true)),
            listed: Arc::default(),
        }
    }

    /// A host as it comes, with this applied.
    pub fn with(spec: &HostSpec) -> Self {
        let mut state = cloud::fresh_state();
        cloud::converge(spec, &mut state);
        Self::new(state)
    }

    /// After this many steps more, the agent gets no further.
    pub fn stop_after(&self, steps: usize) {
        self.steps_left.store(steps, Ordering::SeqCst);
        self.stuck.store(false, Ordering::SeqCst);
    }

    /// Whether an agent wanted to go further than it may.
    pub fn is_stuck(&self) -> bool {
        self.stuck.load(Ordering::SeqCst)
    }

    /// How many times everything was listed.
    pub fn listed(&self) -> usize {
        self.listed.load(Ordering::SeqCst)
    }

    /// From now on listing everything does not end, or it does again.
    pub fn set_listing(&self, ends: bool) {
        self.listing.send_replace(ends);
    }
}

impl Host for Machine {
    async fn observe(&self, spec: &HostSpec) -> Result<HostState, ObserveError> {
        self.listing.subscribe().wait_for(|ends| *ends).await.unwrap();
        let state = self.host.observe(spec).await;
        self.listed.fetch_add(1, Ordering::SeqCst);
        state
    }

    async fn observe_keys(&self, keys: &BTreeSet<Key>) -> Result<HostState, ObserveError> {
        self.host.observe_keys(keys).await
    }

    async fn apply(&self, steps: &BTreeSet<Step>) -> Vec<StepFailure> {
        let mut failures = Vec::new();
        for step in steps {
            let may =
                self.steps_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            if may.is_err() {
                self.stuck.store(true, Ordering::SeqCst);
                std::future::pending::<()>().await;
            }
            failures.extend(self.host.apply(&[step.clone()].into()).await);
        }
        failures
    }

    async fn changed(&self) -> Change {
        self.host.changed().await
    }

    async fn is_claimed(&self) -> Result<bool, ObserveError> {
        self.host.is_claimed().await
    }

    async fn rule_counters(&self) -> Result<BTreeMap<u32, RuleCounter>, ObserveError> {
        self.host.rule_counters().await
    }

    async fn vpn_connections(&self) -> BTreeMap<Name, BTreeMap<Name, VpnConnection>> {
        self.host.vpn_connections().await
    }

    fn devices(&self) -> Option<BTreeSet<LinkName>> {
        self.host.devices()
    }

    fn addresses(&self) -> Option<BTreeSet<IpAddr>> {
        self.host.addresses()
    }

    fn missing_features(&self) -> BTreeSet<Feature> {
        self.host.missing_features()
    }
}

/// An agent that runs.
pub struct Agent {
    task: JoinHandle<Result<(), AgentError>>,
    stop: oneshot::Sender<()>,
}

impl Agent {
    pub fn start(state_dir: &Path, machine: &Machine, controller: &FakeController) -> Self {
        let config = AgentConfig { state_dir: state_dir.to_owned(), ..AgentConfig::new("host1") };
        let (machine, controller) = (machine.clone(), controller.clone());
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let shutdown = async { drop(stopped.await) };
            let ended = trestle_agent::run(&config, machine, controller, shutdown).await;
            // A test that waits for what the agent would have done is told why it does not.
            ended.inspect_err(|error| eprintln!("the agent ended: {error}"))
        });
        Self { task, stop }
    }

    /// Ends it as it should be ended.
    pub async fn stop(self) {
        self.stop.send(()).unwrap();
        tokio::time::timeout(DEADLINE, self.task).await.unwrap().unwrap().unwrap();
    }

    /// Ends it in the middle of whatever it does.
    pub async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }

    /// Why it ended by itself.
    pub async fn ended(self) -> AgentError {
        tokio::time::timeout(DEADLINE, self.task).await.unwrap().unwrap().unwrap_err()
    }
}
