//! When the next full round is due, and why.
//!
//! Only time and causes; reads no clock itself, so that it can be tested without waiting.

use std::time::{Duration, Instant};

use crate::backoff::Backoff;
use crate::host::Change;

/// A full round is made at least this often.
const PERIOD: Duration = Duration::from_secs(30);
/// After a change, how long no other must come before the round begins.
const QUIET: Duration = Duration::from_millis(3);
/// How long changes that keep coming may put the round off.
const PATIENCE: Duration = Duration::from_millis(50);
/// How many times in a row the same steps are repeated at once, before the agent takes it that
/// another program undoes them each time and slows down.
const FIGHT_ROUNDS: u32 = 5;
/// The pause between rounds in such a fight: what is undone is back within a second all the same.
const FIGHT_PAUSE: Duration = Duration::from_millis(800);
/// How long spec updates may put off a round that is due.
const YIELD: Duration = Duration::from_millis(300);

/// Why a full round is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// What the host must have was learnt anew, or for the first time.
    Spec,
    /// Nothing for a while.
    Timer,
    /// There were problems.
    Retry,
    /// The round before did something; this one shows that it holds.
    Proof,
    /// Someone else changed something.
    Change(Noticed),
}

/// What is known about changes that others made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Noticed {
    /// When the first of them was noticed.
    pub(crate) first: Instant,
    /// Who made the first of them that tells.
    pub(crate) culprit: Option<String>,
    /// What happened first, for people.
    pub(crate) what: String,
}

/// When the next full round is due, and why.
#[derive(Debug)]
pub(crate) struct Schedule {
    at: Instant,
    cause: Cause,
    noticed: Option<(Instant, Noticed)>,
    retry: Backoff,
    repeats: u32,
    last_round: Instant,
}

impl Schedule {
    /// The first round is due now.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            at: now,
            cause: Cause::Spec,
            noticed: None,
            retry: Backoff::new(Duration::from_secs(1), Duration::from_secs(30)),
            repeats: 0,
            last_round: now,
        }
    }

    /// When the next round is due.
    pub(crate) fn due(&self) -> Instant {
        self.noticed.as_ref().map_or(self.at, |(at, _)| self.at.min(*at))
    }

    /// Until when a spec update may go before the round that is due.
    pub(crate) fn yields_until(&self) -> Instant {
        self.due() + YIELD
    }

    /// Why the next round is made. A round sees to everything, so a change that another cause
    /// came before is its cause all the same.
    pub(crate) fn cause(&self) -> Cause {
        match &self.noticed {
            Some((_, noticed)) => Cause::Change(noticed.clone()),
            None => self.cause.clone(),
        }
    }

    /// A round has seen everything there was to see up to now.
    pub(crate) fn done(&mut self, now: Instant) {
        self.noticed = None;
        self.last_round = now;
        self.at = now + PERIOD;
        self.cause = Cause::Timer;
    }

    /// Asks for a round at once.
    pub(crate) fn at_once(&mut self, now: Instant, cause: Cause) {
        self.want(now, cause);
    }

    /// Asks for a round after a time that grows with each retry. One that waits already will do.
    pub(crate) fn retry(&mut self, now: Instant) {
        if self.cause == Cause::Timer {
            let wait = self.retry.failed();
            self.want(now + wait, Cause::Retry);
        }
    }

    /// The next retry comes soon again: there is no problem any more, or another one. Not while
    /// steps have to be repeated, which is a problem of its own.
    pub(crate) fn retry_soon_again(&mut self) {
        if self.repeats > 0 {
            return;
        }
        self.retry.succeeded();
        if self.cause == Cause::Retry {
            self.cause = Cause::Timer;
        }
    }

    /// Someone else changed something.
    pub(crate) fn note(&mut self, change: Change, now: Instant) {
        let fresh = || Noticed { first: change.at, culprit: None, what: change.what.clone() };
        let mut noticed = self.noticed.take().map_or_else(fresh, |(_, noticed)| noticed);
        noticed.culprit = noticed.culprit.or(change.culprit);
        let mut at = (now + QUIET).min(noticed.first + PATIENCE);
        if self.repeats >= FIGHT_ROUNDS {
            at = at.max(self.last_round + FIGHT_PAUSE);
        }
        self.noticed = Some((at, noticed));
    }

    /// Whether the round did something that the one before had done already.
    pub(crate) fn repeated(&mut self, repeated: Repeated) {
        match repeated {
            Repeated::Steps => self.repeats = self.repeats.saturating_add(1),
            Repeated::Nothing => self.repeats = 0,
        }
    }

    fn want(&mut self, at: Instant, cause: Cause) {
        if at < self.at {
            self.at = at;
            self.cause = cause;
        }
    }
}

/// What a round has in common with the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeated {
    /// Nothing; it is no fight.
    Nothing,
    /// Some of the steps.
    Steps,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(at: Instant, culprit: Option<&str>) -> Change {
        Change { culprit: culprit.map(str::to_owned), at, what: "a route".to_owned() }
    }

    fn settled(now: Instant) -> Schedule {
        let mut schedule = Schedule::new(now);
        schedule.done(now);
        schedule
    }

    #[test]
    fn a_burst_of_changes_is_one_round_that_is_not_put_off_for_long() {
        let start = Instant::now();
        let mut schedule = settled(start);
        let mut now = start;
        while schedule.due() > now {
            schedule.note(change(now, None), now);
            now += Duration::from_millis(1);
        }
        assert_eq!(now - start, PATIENCE);
    }

    #[test]
    fn a_single_change_waits_for_quiet_alone() {
        let start = Instant::now();
        let mut schedule = settled(start);
        schedule.note(change(start, None), start);
        assert_eq!(schedule.due() - start, QUIET);
    }

    #[test]
    fn the_first_known_culprit_is_named() {
        let now = Instant::now();
        let mut schedule = settled(now);
        for culprit in [None, Some("nft (pid 7)"), Some("ip (pid 8)")] {
            schedule.note(change(now, culprit), now);
        }
        let Cause::Change(noticed) = schedule.cause() else { panic!("{:?}", schedule.cause()) };
        assert_eq!(noticed.culprit.as_deref(), Some("nft (pid 7)"));
    }

    #[test]
    fn a_fight_slows_down_and_peace_makes_it_quick_again() {
        let start = Instant::now();
        let mut schedule = settled(start);
        for _ in 0..FIGHT_ROUNDS {
            schedule.repeated(Repeated::Steps);
        }
        schedule.note(change(start, None), start);
        assert_eq!(schedule.due() - start, FIGHT_PAUSE);
        schedule.done(start);
        schedule.repeated(Repeated::Nothing);
        schedule.note(change(start, None), start);
        assert_eq!(schedule.due() - start, QUIET);
    }

    #[test]
    fn the_earliest_wish_counts() {
        let now = Instant::now();
        let mut schedule = settled(now);
        assert_eq!((schedule.due() - now, schedule.cause()), (PERIOD, Cause::Timer));
        schedule.retry(now);
        assert_eq!((schedule.due() - now, schedule.cause()), (Duration::from_secs(1), Cause::Retry));
        schedule.at_once(now, Cause::Proof);
        assert_eq!((schedule.due() - now, schedule.cause()), (Duration::ZERO, Cause::Proof));
        schedule.retry(now);
        assert_eq!(schedule.cause(), Cause::Proof);
    }

    #[test]
    fn a_new_problem_does_not_wait_as_long_as_an_old_one() {
        let mut now = Instant::now();
        let mut schedule = settled(now);
        for seconds in [1, 2, 4, 8] {
            schedule.retry(now);
            schedule.retry(now);
            assert_eq!(schedule.due() - now, Duration::from_secs(seconds));
            now = schedule.due();
            schedule.done(now);
        }
        schedule.retry(now);
        schedule.retry_soon_again();
        schedule.retry(now);
        assert_eq!((schedule.due() - now, schedule.cause()), (Duration::from_secs(1), Cause::Retry));
    }
}
