//! The Linux kernel and dnsmasq.

use std::collections::BTreeSet;
use std::path::Path;

use trestle_core::plan::Step;
use trestle_core::spec::{HostSpec, Key};
use trestle_core::state::HostState;

use super::{Change, Host, ObserveError, OpenError, StepFailure};

/// The machine the agent runs on.
#[derive(Debug)]
pub struct LinuxHost {}

impl LinuxHost {
    /// Checks that everything needed is there. Needs a tokio runtime around it and root's rights.
    pub fn open(state_dir: &Path) -> Result<Self, OpenError> {
        let _ = state_dir;
        todo!()
    }
}

impl Host for LinuxHost {
    async fn observe(&self, _spec: &HostSpec) -> Result<HostState, ObserveError> {
        todo!()
    }
    async fn observe_keys(&self, _keys: &BTreeSet<Key>) -> Result<HostState, ObserveError> {
        todo!()
    }
    async fn apply(&self, _steps: &BTreeSet<Step>) -> Vec<StepFailure> {
        todo!()
    }
    async fn changed(&self) -> Change {
        todo!()
    }
}
