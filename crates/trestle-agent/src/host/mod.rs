//! What the agent asks of the machine it runs on: see what is there, do steps, say when somebody
//! else changed something.
//!
//! A host never decides. What ought to be, and in which order it is reached, comes from
//! `trestle_core`; everything here either reads or does as it is told.

pub mod error;
pub mod linux;
pub mod sim;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::IpAddr;
use std::time::Instant;

use trestle_api::VpnConnection;
use trestle_api::agent::{Feature, RuleCounter};
use trestle_core::plan::Step;
use trestle_core::spec::{HostSpec, Key};
use trestle_core::state::HostState;
use trestle_core::types::{LinkName, Name};

pub use error::{ApplyError, ObserveError, OpenError};
pub use linux::LinuxHost;
pub use sim::SimHost;

/// A machine whose networks the agent keeps.
pub trait Host: Send + Sync + 'static {
    /// Everything of ours and what bears on it; complete or an error.
    fn observe(&self, spec: &HostSpec) -> impl Future<Output = Result<HostState, ObserveError>> + Send;

    /// What stands under these keys, at a cost that does not grow with how many others there are.
    /// For a [`Key::Uplink`] also the addresses and routes of the device, of its master and of
    /// every bridge among the keys: they move together.
    fn observe_keys(
        &self,
        keys: &BTreeSet<Key>,
    ) -> impl Future<Output = Result<HostState, ObserveError>> + Send;

    /// Does the steps in order and gives those that failed. Adjacent nftables steps are one
    /// transaction. When such a transaction fails, nothing after it is tried, because a device
    /// must not come up without its guard. When an uplink or one of its addresses does not move,
    /// the rest of that move is not tried. After any other failure the rest goes on.
    fn apply(&self, steps: &BTreeSet<Step>) -> impl Future<Output = Vec<StepFailure>> + Send;

    /// Waits until something was changed that this host did not change itself. Changes close
    /// together come as one. Dropping the future loses nothing.
    fn changed(&self) -> impl Future<Output = Change> + Send;

    /// Whether any floating IP of this host has been claimed by another one. The kernel notes it when
    /// it hears the claim, and tells nobody.
    fn is_claimed(&self) -> impl Future<Output = Result<bool, ObserveError>> + Send;

    /// What each rule of security groups has decided on since it was made here, by the rule's number.
    fn rule_counters(&self) -> impl Future<Output = Result<BTreeMap<u32, RuleCounter>, ObserveError>> + Send;

    /// Who is connected to the VPNs that run here: of each, by its name, its users.
    fn vpn_connections(&self) -> impl Future<Output = BTreeMap<Name, BTreeMap<Name, VpnConnection>>> + Send;

    /// The names of the network devices that it has now; `None` if it cannot be told.
    fn devices(&self) -> Option<BTreeSet<LinkName>>;

    /// The addresses that it has now on any device, Trestle's among them; `None` if it cannot be told.
    fn addresses(&self) -> Option<BTreeSet<IpAddr>>;

    /// What its kernel lacks that some networks need, as it was when the host was opened.
    fn missing_features(&self) -> BTreeSet<Feature>;
}

/// A step that was not done, and why.
#[derive(Debug)]
pub struct StepFailure {
    /// What was to be done.
    pub step: Step,
    /// Why it was not.
    pub error: ApplyError,
}

/// Somebody changed something that may be ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Who did it, as far as the kernel tells: `nft (pid 4242)`.
    pub culprit: Option<String>,
    /// When it was noticed.
    pub at: Instant,
    /// What happened, for people.
    pub what: String,
}
