//! The chains and sets of security groups, and the bridges whose packets go through them.
//!
//! What may allow less than before is done together with `Step::JudgeAnew`, in one transaction: a connection
//! goes on only as long as something allows it.

use super::{Planner, ProblemCode, Step};
use crate::spec::{Key, Object, Set, Table};
use crate::types::LinkName;

impl Planner<'_> {
    pub(super) fn plan_set(&mut self, key: &Key, set: Set) {
        let there = self.table_stays(Table::Groups) && self.state.get(key).is_some();
        match (self.wanted(key).is_some(), there) {
            (true, false) => self.step(Step::PutSet { set }),
            (false, true) => self.step(Step::DeleteSet { set }),
            _ => {}
        }
    }

    pub(super) fn plan_chain(&mut self, key: &Key, name: &str) {
        let there = self.state.get(key).filter(|_| self.table_stays(Table::Groups)).map(|have| &have.object);
        let chain = name.to_owned();
        match (self.wanted(key).cloned(), there.cloned()) {
            (Some(Object::Chain(rules)), there) if there.as_ref() != Some(&Object::Chain(rules.clone())) => {
                self.step(Step::PutChain { chain, rules });
                if there.is_some() {
                    self.step(Step::JudgeAnew);
                }
            }
            (None, Some(_)) => self.step(Step::DeleteChain { chain }),
            _ => {}
        }
    }

    /// A bridge that nothing of ours is on any more stays filtered: others may have come to rely on it.
    pub(super) fn plan_bridge_filter(&mut self, key: &Key, bridge: &LinkName) {
        if self.wanted(key).is_none() || self.state.get(key).is_some() {
            return;
        }
        match self.bridge_obstacle(bridge) {
            Some(detail) => self.problem(key, ProblemCode::Blocked, detail),
            None => self.step(Step::FilterBridge { bridge: bridge.clone() }),
        }
    }
}
