//! The loop: the only thing that changes the host.
//!
//! First boot, restart, repair and change are the same round: observe, plan, apply. A round looks
//! at everything, or, for a spec update that joins, at the keys that changed and what planning
//! them reads. Rounds are made one after the other, so nothing is ever planned from what was seen
//! before another change of ours.
//!
//! - An observation that fails is an error: nothing is applied, and it is tried again.
//! - While it is not known what the host must have, nothing is observed or applied at all.
//! - A spec update does not wait for a full observation that is under way: that is given up and
//!   made again, because it only reads.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;
use trestle_api::ApiError;
use trestle_api::agent::{Drift, Report};
use trestle_api::local::DnsmasqStatus;
use trestle_core::plan::{Plan, Step, plan, plan_keys, reads};
use trestle_core::spec::{HostSpec, Key, LinkKind, Object, Set, SpecUpdate};
use trestle_core::state::HostState;

use crate::error_chain;
use crate::host::{Change, Host, ObserveError, StepFailure};
use crate::ledger::{Content, Ledger, LedgerError, Line};
use crate::news::{self, Problems, Round, Scope};
use crate::schedule::{Cause, Noticed, Repeated, Schedule};

/// How often it is looked whether other hosts claim floating IPs of this one.
const CLAIMS: Duration = Duration::from_millis(500);

/// How often it is told what the rules of security groups have counted.
const COUNTERS: Duration = Duration::from_secs(5);

/// What reaches the loop from the agent's other tasks.
pub(crate) struct Inputs {
    /// From the controller.
    pub(crate) updates: mpsc::Receiver<SpecUpdate>,
    /// From the host: what others changed there.
    pub(crate) changes: mpsc::Receiver<Change>,
    /// From programs on the host.
    pub(crate) questions: mpsc::Receiver<Question>,
    /// Whether the controller has said, and can still say, what is asked for now. An update is in
    /// `updates` before it is confirmed here.
    pub(crate) confirmed: watch::Receiver<bool>,
}

/// What the loop tells the agent's other tasks.
pub(crate) struct Outputs {
    /// What was found out.
    pub(crate) report: Arc<watch::Sender<Report>>,
    /// That an update did not join and everything is needed.
    pub(crate) everything: Arc<Notify>,
}

/// A question that the loop answers between two rounds.
#[derive(Debug)]
pub(crate) enum Question {
    /// What would be done now?
    Plan(oneshot::Sender<Result<Plan, NoPlan>>),
    /// How much must the host have?
    Inventory(oneshot::Sender<Inventory>),
    /// What must the host have?
    Spec(oneshot::Sender<Option<HostSpec>>),
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoPlan {
    /// Neither the ledger nor the controller has said yet what the host must have.
    #[error("the agent does not know yet what its host must have")]
    NoSpec,
    /// It is not known what the host has.
    #[error("cannot observe the host")]
    Observe(#[source] ObserveError),
}

/// What the host must have, counted.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    /// The generation of it, if anything is known.
    pub(crate) generation: Option<u64>,
    /// How many objects.
    pub(crate) objects: usize,
    /// How many of them are interfaces' devices.
    pub(crate) interfaces: usize,
    /// The dnsmasqs, and whether they run.
    pub(crate) dnsmasqs: Vec<DnsmasqStatus>,
}

/// Passes on what others change on the host. A task of its own, because a host may gather changes
/// for a moment, and a loop that is busy would drop it and begin anew each time.
pub(crate) async fn watch<H: Host>(host: Arc<H>, changes: mpsc::Sender<Change>) {
    while changes.send(host.changed().await).await.is_ok() {}
}

/// Tells who is connected to VPNs. A task of its own: a server that hangs holds up nothing else.
pub(crate) async fn watch_connections<H: Host>(host: Arc<H>, report: Arc<watch::Sender<Report>>) {
    let mut interval = tokio::time::interval(COUNTERS);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        news::note_connections(&report, host.vpn_connections().await);
    }
}

/// The loop and all it knows.
pub(crate) struct Loop<H> {
    host: Arc<H>,
    ledger: Ledger,
    spec: Option<HostSpec>,
    inputs: Inputs,
    outputs: Outputs,
    schedule: Schedule,
    /// Whether the host may differ from the spec in keys that no round has looked at since.
    behind: bool,
    /// What the last full round did.
    last_steps: BTreeSet<Step>,
}

/// How a full observation ended.
enum Observation {
    Done(Result<HostState, ObserveError>),
    GaveWay(SpecUpdate),
}

impl<H: Host> Loop<H> {
    /// A loop that begins with what the ledger says.
    pub(crate) fn new(
        host: Arc<H>,
        ledger: Ledger,
        content: Content,
        inputs: Inputs,
        outputs: Outputs,
    ) -> Self {
        let spec = match content {
            Content::Spec(spec) => Some(HostSpec { unconfirmed: true, ..spec }),
            Content::Nothing => None,
            Content::Damaged(damage) => {
                news::note_trouble(&outputs.report, "ledger_damaged", Some(ledger_damaged(&damage)));
                None
            }
        };
        Self {
            host,
            ledger,
            spec,
            inputs,
            outputs,
            schedule: Schedule::new(Instant::now()),
            behind: true,
            last_steps: BTreeSet::new(),
        }
    }

    /// The generation that the host is asked for, if it is known.
    pub(crate) fn generation(&self) -> Option<u64> {
        self.spec.as_ref().map(|spec| spec.generation)
    }

    /// Goes on until `shutdown`; a round that was begun is finished, and nothing is taken down.
    pub(crate) async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut claims = tokio::time::interval(CLAIMS);
        let mut counters = tokio::time::interval(COUNTERS);
        for interval in [&mut claims, &mut counters] {
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        loop {
            let due = tokio::time::Instant::from_std(self.schedule.due());
            tokio::select! {
                biased;
                () = &mut shutdown => return,
                Some(update) = self.inputs.updates.recv() => self.take(update).await,
                Ok(()) = self.inputs.confirmed.changed() => self.confirm(),
                () = tokio::time::sleep_until(due), if self.spec.is_some() => self.full_round().await,
                Some(question) = self.inputs.questions.recv() => self.answer(question).await,
                Some(change) = self.inputs.changes.recv() => self.schedule.note(change, Instant::now()),
                _ = claims.tick() => self.look_for_claims().await,
                _ = counters.tick() => self.count().await,
            }
        }
    }

    /// A host that was slow to hear that a floating IP has left it may announce it once more when the
    /// next one has it already, which then says nothing of it. As long as the controller cannot say who
    /// is right that is as it should be.
    async fn look_for_claims(&mut self) {
        if !self.spec.as_ref().is_some_and(|spec| !spec.unconfirmed && spec.has_floating_ips()) {
            return;
        }
        match self.host.is_claimed().await {
            Ok(false) => {}
            Ok(true) => {
                let what = "another host claimed a floating IP of this one".to_owned();
                let now = Instant::now();
                self.schedule.note(Change { culprit: None, at: now, what }, now);
            }
            Err(error) => self.observe_failed(&error),
        }
    }

    /// Tells what rules have counted, where there are any. What cannot be told now is told later.
    async fn count(&self) {
        if !self.spec.as_ref().is_some_and(HostSpec::has_groups) {
            return;
        }
        match self.host.rule_counters().await {
            Ok(counters) => news::note_counters(&self.outputs.report, counters),
            Err(error) => tracing::debug!(error = error_chain(&error), "cannot tell what rules have counted"),
        }
    }

    /// Takes this update in, and all that wait behind it, and sees to what they change.
    async fn take(&mut self, first: SpecUpdate) {
        let begun = Instant::now();
        let mut changed = BTreeSet::new();
        let mut next = Some(first);
        while let Some(update) = next {
            self.behind |= update.base.is_none();
            changed.extend(self.learn(update));
            next = self.inputs.updates.try_recv().ok();
        }
        if self.behind {
            self.schedule.at_once(Instant::now(), Cause::Spec);
        } else {
            self.keyed_round(changed, begun).await;
        }
    }

    /// Notes whether the controller may have said otherwise meanwhile. What was held back for that is
    /// looked at again.
    fn confirm(&mut self) {
        let unconfirmed = !*self.inputs.confirmed.borrow_and_update();
        let Some(spec) = &mut self.spec else { return };
        let was_unconfirmed = std::mem::replace(&mut spec.unconfirmed, unconfirmed);
        if was_unconfirmed && !unconfirmed && spec.has_floating_ips() {
            self.schedule.at_once(Instant::now(), Cause::Proof);
        }
    }

    /// Takes an update into the ledger and the spec; gives the keys that changed.
    fn learn(&mut self, update: SpecUpdate) -> BTreeSet<Key> {
        let whole = update.base.is_none();
        if !whole && self.spec.is_none() {
            self.outputs.everything.notify_one();
            return BTreeSet::new();
        }
        let line = Line::new(&update);
        let spec = self.spec.get_or_insert_default();
        match spec.apply(update) {
            Ok(changed) => {
                spec.unconfirmed = false;
                tracing::debug!(generation = spec.generation, keys = changed.len(), whole, "learnt");
                let written = self.ledger.append(&line);
                self.note_ledger(written);
                changed
            }
            Err(gap) => {
                tracing::warn!(
                    base = gap.base,
                    held = gap.held,
                    "an update does not join; asking for everything"
                );
                self.outputs.everything.notify_one();
                BTreeSet::new()
            }
        }
    }

    /// A round for some keys, which there has been something to do about since `begun`. Its cost does not
    /// depend on how many others there are.
    async fn keyed_round(&mut self, keys: BTreeSet<Key>, begun: Instant) {
        let Some(spec) = &self.spec else { return };
        let observed = keys.iter().flat_map(|key| reads(spec, key)).collect();
        let state = match self.host.observe_keys(&observed).await {
            Ok(state) => state,
            Err(error) => return self.observe_failed(&error),
        };
        let plan = plan_keys(spec, &state, &keys);
        let failures = apply(&*self.host, &plan).await;
        let duration_ms = begun.elapsed().as_secs_f64() * 1e3;
        tracing::debug!(keys = keys.len(), steps = plan.steps.len(), duration_ms, "saw to what changed");
        let scope = Scope::Keys { planned: &keys, observed: &observed };
        let round =
            Round { generation: spec.generation, scope, state: &state, plan: &plan, failures: &failures };
        let problems = news::publish(&self.outputs.report, &round);
        if plan.steps.iter().any(carries_others) {
            self.schedule.at_once(Instant::now(), Cause::Proof);
        }
        self.settle(problems);
    }

    /// A round for everything.
    async fn full_round(&mut self) {
        let (cause, begun) = (self.schedule.cause(), Instant::now());
        let state = match self.observe_all().await {
            Observation::Done(Ok(state)) => state,
            Observation::Done(Err(error)) => {
                self.schedule.done(Instant::now());
                return self.observe_failed(&error);
            }
            // The round stays due.
            Observation::GaveWay(update) => return self.take(update).await,
        };
        let Some(spec) = &self.spec else { return };
        news::note_trouble(&self.outputs.report, "observe_failed", None);
        let plan = plan(spec, &state);
        let known = self.outputs.report.borrow().problems.iter().map(|problem| problem.key.clone()).collect();
        let failures = apply(&*self.host, &plan).await;
        let round = Round {
            generation: spec.generation,
            scope: Scope::Host,
            state: &state,
            plan: &plan,
            failures: &failures,
        };
        let problems = news::publish(&self.outputs.report, &round);
        // What cannot be told now stays as it was told before.
        if let (Some(devices), Some(addresses)) = (self.host.devices(), self.host.addresses()) {
            news::note_own(&self.outputs.report, spec, (devices, addresses));
        }
        self.schedule.done(Instant::now());
        let done = Done::new(&plan, &failures, &known);
        let was_behind = std::mem::replace(&mut self.behind, false);
        let drift = if was_behind { None } else { drift(&cause, begun, done.healed) };
        self.follow_up(&cause, &done.repaired, drift);
        self.last_steps = plan.steps;
        self.settle(problems);
        self.keep_ledger().await;
    }

    /// What is to be said and done after a full round that did these steps.
    fn follow_up(&mut self, cause: &Cause, done: &BTreeSet<&Step>, drift: Option<Noticed>) {
        let now = Instant::now();
        let again = done.iter().any(|step| self.last_steps.contains(step));
        self.schedule.repeated(if again { Repeated::Steps } else { Repeated::Nothing });
        if done.is_empty() {
            return;
        }
        let steps: Vec<String> = done.iter().map(ToString::to_string).collect();
        match (cause, drift) {
            (Cause::Change(_), Some(noticed)) => self.drifted(&noticed, steps, now),
            _ if again => {
                tracing::warn!(steps = few(&steps), "what was done did not hold and was done again");
                return self.schedule.retry(now);
            }
            (_, Some(noticed)) => self.drifted(&noticed, steps, now),
            (_, None) => tracing::debug!(?cause, steps = few(&steps), "made the host match"),
        }
        self.schedule.at_once(now, Cause::Proof);
    }

    fn drifted(&self, noticed: &Noticed, repaired: Vec<String>, now: Instant) {
        let took = now.saturating_duration_since(noticed.first);
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let culprit = noticed.culprit.clone();
        tracing::warn!(
            culprit = culprit.as_deref().unwrap_or("unknown"),
            what = noticed.what,
            repaired = few(&repaired),
            duration_ms = took_ms,
            "put right what another program changed"
        );
        news::note_drift(&self.outputs.report, Drift { repaired, culprit, took_ms });
    }

    /// Observes everything, unless a spec update comes and the round can still wait.
    async fn observe_all(&mut self) -> Observation {
        let Some(spec) = &self.spec else { return Observation::Done(Ok(HostState::default())) };
        let may_wait = Instant::now() < self.schedule.yields_until();
        tokio::select! {
            biased;
            Some(update) = self.inputs.updates.recv(), if may_wait => Observation::GaveWay(update),
            state = self.host.observe(spec) => Observation::Done(state),
        }
    }

    fn observe_failed(&mut self, error: &ObserveError) {
        self.behind = true;
        let trouble = ApiError {
            code: "observe_failed".to_owned(),
            message: format!("cannot observe the host, so nothing is changed there: {}", error_chain(error)),
            hint: None,
            problems: Vec::new(),
        };
        news::note_trouble(&self.outputs.report, "observe_failed", Some(trouble));
        self.schedule.retry(Instant::now());
    }

    /// Sees to it that problems are tried again.
    fn settle(&mut self, problems: Problems) {
        if problems != Problems::Same && self.outputs.report.borrow().agent_problems.is_empty() {
            self.schedule.retry_soon_again();
        }
        if problems != Problems::None {
            self.schedule.retry(Instant::now());
        }
    }

    /// Replaces the ledger if it must be. After a full round, because then nobody waits.
    async fn keep_ledger(&mut self) {
        let Some(spec) = &self.spec else { return };
        if self.ledger.wants_replacing() {
            let replaced = self.ledger.replace(spec).await;
            if replaced.is_ok() {
                news::note_trouble(&self.outputs.report, "ledger_damaged", None);
                news::note_trouble(&self.outputs.report, "ledger_unwritable", None);
            }
            self.note_ledger(replaced);
        }
    }

    fn note_ledger(&mut self, written: Result<(), LedgerError>) {
        let Err(error) = written else { return };
        let trouble = ApiError {
            code: "ledger_unwritable".to_owned(),
            message: format!("changes are kept in memory only: {}", error_chain(&error)),
            hint: Some("make room in the agent's state folder; do not restart the agent before".to_owned()),
            problems: Vec::new(),
        };
        news::note_trouble(&self.outputs.report, "ledger_unwritable", Some(trouble));
        self.schedule.retry(Instant::now());
    }

    async fn answer(&self, question: Question) {
        // Who asked may have gone away.
        match question {
            Question::Plan(reply) => drop(reply.send(self.plan_now().await)),
            Question::Inventory(reply) => drop(reply.send(self.inventory().await)),
            Question::Spec(reply) => drop(reply.send(self.spec.clone())),
        }
    }

    async fn plan_now(&self) -> Result<Plan, NoPlan> {
        let spec = self.spec.as_ref().ok_or(NoPlan::NoSpec)?;
        let state = self.host.observe(spec).await.map_err(NoPlan::Observe)?;
        Ok(plan(spec, &state))
    }

    async fn inventory(&self) -> Inventory {
        let Some(spec) = &self.spec else { return Inventory::default() };
        let dnsmasqs = || {
            spec.objects.iter().filter_map(|(key, object)| match (key, object) {
                (Key::Dnsmasq(network), Object::Dnsmasq(dnsmasq)) => Some((key, network, dnsmasq)),
                _ => None,
            })
        };
        let keys = dnsmasqs().map(|(key, ..)| key.clone()).collect();
        // That the host cannot be observed is in the report; then no dnsmasq is known to run.
        let state = self.host.observe_keys(&keys).await.unwrap_or_default();
        let is_port = |object: &&Object| match object {
            Object::Link(link) => matches!(link.kind, LinkKind::Tap { .. } | LinkKind::Veth { .. }),
            _ => false,
        };
        Inventory {
            generation: Some(spec.generation),
            objects: spec.objects.len(),
            interfaces: spec.objects.values().filter(is_port).count(),
            dnsmasqs: dnsmasqs()
                .map(|(_, network, dnsmasq)| DnsmasqStatus {
                    network: network.clone(),
                    bridge: dnsmasq.bridge.clone(),
                    running: state.dnsmasq(network).is_some(),
                })
                .collect(),
        }
    }
}

/// Applies a plan, if there is anything to do.
async fn apply<H: Host>(host: &H, plan: &Plan) -> Vec<StepFailure> {
    if plan.is_empty() { Vec::new() } else { host.apply(&plan.steps).await }
}

/// What a full round did.
struct Done<'a> {
    /// The steps, without those that only tried again what could not be done before.
    repaired: BTreeSet<&'a Step>,
    /// Whether something was done that could not be done before.
    healed: bool,
}

impl<'a> Done<'a> {
    fn new(plan: &'a Plan, failures: &[StepFailure], known: &BTreeSet<Key>) -> Self {
        let done = plan.steps.iter().filter(|step| !news::is_failed(step, failures));
        // Claims are noted by the kernel, in the name of nobody here.
        let done = done.filter(|step| !is_claim(step));
        let (healing, repaired): (BTreeSet<_>, _) = done.partition(|step| known.contains(&step.key()));
        Self { repaired, healed: !healing.is_empty() }
    }
}

fn is_claim(step: &Step) -> bool {
    matches!(step.key(), Key::Element(Set::Yielded | Set::Yielded6, _))
}

/// What is known of who made a round necessary that began then, on a host that was right before: in
/// the end it is another program that changed something, whether the kernel told of it or it was
/// only found by looking. `None` if the steps have another reason: what the host must have was
/// learnt, the round before did something, or a problem is gone, which others may follow from.
fn drift(cause: &Cause, begun: Instant, healed: bool) -> Option<Noticed> {
    match cause {
        Cause::Change(noticed) => Some(noticed.clone()),
        Cause::Retry if healed => None,
        Cause::Timer | Cause::Retry => {
            Some(Noticed { first: begun, culprit: None, what: "nothing told of it".to_owned() })
        }
        Cause::Spec | Cause::Proof => None,
    }
}

/// Whether objects under other keys rest on what this step changes, so that they should be looked
/// at again after a round for some keys.
fn carries_others(step: &Step) -> bool {
    matches!(
        step,
        Step::PutRuleset { .. }
            | Step::CreateBridge { .. }
            | Step::DeleteBridge { .. }
            | Step::Enslave { .. }
            | Step::SwitchUplink { .. }
            | Step::ReleaseUplink { .. }
    )
}

/// The first of these steps, for a line in a log: after a flush of all rules there are thousands.
fn few(steps: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = steps[..steps.len().min(SHOWN)].join("; ");
    match steps.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn ledger_damaged(damage: &(dyn std::error::Error + 'static)) -> ApiError {
    ApiError {
        code: "ledger_damaged".to_owned(),
        message: format!(
            "the host is left as it is until the controller says everything: {}",
            error_chain(damage)
        ),
        hint: None,
        problems: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rounds that only a test of half a minute would see.
    #[test]
    fn what_a_regular_look_finds_wrong_is_drift_and_what_follows_from_ourselves_is_not() {
        let begun = Instant::now();
        let noticed = Noticed { first: begun, culprit: None, what: "nothing told of it".to_owned() };
        let causes = [Cause::Timer, Cause::Retry, Cause::Proof, Cause::Spec];
        assert_eq!(
            causes.clone().map(|cause| drift(&cause, begun, false)),
            [Some(noticed.clone()), Some(noticed.clone()), None, None]
        );
        assert_eq!(causes.map(|cause| drift(&cause, begun, true)), [Some(noticed), None, None, None]);
    }
}
