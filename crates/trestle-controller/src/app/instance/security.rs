//! What interfaces are held to: their security groups, and what they may send from besides their own
//! addresses.

use std::collections::BTreeSet;

use trestle_api::{Instance, InterfacePatch, NewInstance, NewInterface};
use trestle_core::compile::Entity;
use trestle_core::types::{AddressPair, AddressRange, Name, ProjectId};
use trestle_core::world::Security;

use crate::app::check::{self, Checks};
use crate::app::instance::interfaces::{BRIDGE_MAC, interface_change};
use crate::app::instance::{answer, find, place_of};
use crate::app::security_group::{self, DEFAULT};
use crate::app::{App, Caller, changes, listed};
use crate::error::AppError;
use crate::store::Write;
use crate::store::change::Change;
use crate::store::instance::InstanceRecord;
use crate::store::interface::{self, InterfaceRecord, Within};
use crate::store::network::{self as network_store, NetworkRecord};

/// How many security groups an interface is in at most.
const GROUPS: usize = 16;

/// How many allowed address pairs it has at most.
const PAIRS: usize = 64;

/// What is asked for, read; what is absent is as it was, or as it is by default.
#[derive(Clone, Default)]
pub(super) struct SecurityWish {
    /// By name or id.
    groups: Option<Vec<String>>,
    address_pairs: Option<BTreeSet<AddressPair>>,
    port_security: Option<bool>,
}

/// What an interface is held to, and the names of its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// `None` lets everything pass.
    pub(super) security: Option<Security>,
    /// What it is held to again when port security is on, while it is not.
    pub(super) kept: Security,
    /// In order.
    pub(super) group_names: Vec<Name>,
}

/// The fields of a request that say it.
pub(super) struct SecurityFields<'a>(Option<&'a [String]>, Option<&'a [String]>, Option<bool>);

impl<'a> From<&'a NewInstance> for SecurityFields<'a> {
    fn from(new: &'a NewInstance) -> Self {
        Self(new.security_groups.as_deref(), new.allowed_address_pairs.as_deref(), new.port_security)
    }
}

impl<'a> From<&'a NewInterface> for SecurityFields<'a> {
    fn from(new: &'a NewInterface) -> Self {
        Self(new.security_groups.as_deref(), new.allowed_address_pairs.as_deref(), new.port_security)
    }
}

impl<'a> From<&'a InterfacePatch> for SecurityFields<'a> {
    fn from(patch: &'a InterfacePatch) -> Self {
        Self(patch.security_groups.as_deref(), patch.allowed_address_pairs.as_deref(), patch.port_security)
    }
}

impl App {
    /// Changes what an interface is held to, by the interface's id or its network; what is absent
    /// stays. Connected hosts have followed when this returns, or two seconds have passed.
    pub async fn patch_interface(
        &self,
        caller: &Caller,
        (instance, project): (&str, Option<&str>),
        interface: &str,
        patch: InterfacePatch,
    ) -> Result<Instance, AppError> {
        caller.must_not_be_agent("changing an interface")?;
        let mut checks = Checks::default();
        let wish = SecurityWish::read(&mut checks, "", (&patch).into());
        checks.finish()?;
        let mut write = self.write().await?;
        let record = find(write.connection(), caller, instance, project).await?;
        let mut interfaces = interface::of_instance(write.connection(), record.id).await?;
        let place = place_of(&interfaces, interface)?;
        let known = &mut interfaces[place];
        let network = network_store::find(write.connection(), &known.interface.network.to_string()).await?;
        let network = network.ok_or_else(|| AppError::defect("an interface is on no network"))?;
        let before = Held {
            security: known.interface.security.clone(),
            kept: known.kept.clone(),
            group_names: known.group_names.clone(),
        };
        let after = wish.held(&mut write, record.project, Some(&before)).await?;
        if after == before {
            return Ok(answer(record, interfaces));
        }
        refuse_unguarded(caller, &network, Some(&before), &after)?;
        refuse_pairs(&mut write, (record.project, &network), &after).await?;
        let held = after.security.as_ref().ok_or(&after.kept);
        interface::set_security(write.connection(), known.interface.id, held).await?;
        write.log(changed(&record, known, (&before, &after)));
        (known.interface.security, known.group_names, known.kept) =
            (after.security, after.group_names, after.kept);
        let entity = Entity::Interface(known.interface.id);
        self.commit_and_wait(write, entity).await?;
        Ok(answer(record, interfaces))
    }
}

impl SecurityWish {
    /// Reads a request; notes what is wrong with it.
    pub(super) fn read(checks: &mut Checks, field: &str, fields: SecurityFields<'_>) -> Self {
        let SecurityFields(groups, pairs, port_security) = fields;
        if groups.is_some_and(|groups| groups.len() > GROUPS) {
            let message = format!("an interface is in {GROUPS} security groups at most");
            checks.add(format!("{field}security_groups"), "too_many", message);
        }
        if pairs.is_some_and(|pairs| pairs.len() > PAIRS) {
            let message = format!("an interface has {PAIRS} allowed address pairs at most");
            checks.add(format!("{field}allowed_address_pairs"), "too_many", message);
        }
        let mut pair = |(i, text): (usize, &String)| {
            let field = format!("{field}allowed_address_pairs[{i}]");
            let pair: AddressPair = checks.parse(&field, "bad_address_pair", text)?;
            if let Some(mac) = pair.mac.filter(|mac| mac.bytes().starts_with(&BRIDGE_MAC)) {
                let message = format!("{mac} is not for guests: MACs under fe:16:3e are kept for bridges");
                checks.add(field, "bad_mac", message);
            }
            Some(pair)
        };
        let address_pairs = pairs.map(|texts| texts.iter().enumerate().filter_map(&mut pair).collect());
        Self { groups: groups.map(<[_]>::to_vec), address_pairs, port_security }
    }

    /// This, and where it says nothing, the other.
    pub(super) fn or(self, other: &Self) -> Self {
        Self {
            groups: self.groups.or_else(|| other.groups.clone()),
            address_pairs: self.address_pairs.or_else(|| other.address_pairs.clone()),
            port_security: self.port_security.or(other.port_security),
        }
    }

    /// What the interface is held to then, which was held to this; its groups are the project's. Without
    /// port security what it was held to is kept, and is there again with it.
    pub(super) async fn held(
        &self,
        write: &mut Write,
        project: ProjectId,
        before: Option<&Held>,
    ) -> Result<Held, AppError> {
        let was = before.and_then(|held| held.security.as_ref());
        let is_secure = self.port_security.unwrap_or(before.is_none() || was.is_some());
        let kept = before.map(|held| &held.kept);
        let groups = match (&self.groups, was, kept) {
            (Some(groups), ..) => groups.clone(),
            (None, Some(known), _) => known.groups.iter().map(ToString::to_string).collect(),
            (None, None, Some(kept)) if !kept.groups.is_empty() => {
                kept.groups.iter().map(ToString::to_string).collect()
            }
            (None, None, _) if is_secure => vec![DEFAULT.to_owned()],
            (None, None, _) => Vec::new(),
        };
        let known = || was.or(kept).map(|held| held.address_pairs.clone()).unwrap_or_default();
        let address_pairs = self.address_pairs.clone().unwrap_or_else(known);
        if !is_secure && self.asks_for_some() {
            let message =
                "an interface without port security is in no security group and has no address pairs";
            let hint = match self.port_security {
                Some(_) => {
                    "leave `security_groups` and `allowed_address_pairs` out: it has those that it had when `port_security` is on again"
                }
                None => "it is off now: switch `port_security` on in the same request",
            };
            return Err(check::invalid("port_security", "not_possible", message).hint(hint));
        }
        let mut security = Security { address_pairs, ..Security::default() };
        let mut group_names = BTreeSet::new();
        for text in groups {
            let found = security_group::find_within(write.connection(), Some(project), &text).await;
            let group = found.map_err(|error| {
                error.hint(
                    "an interface is in groups of its instance's project: see `trestle security-group list`",
                )
            })?;
            security.groups.insert(group.id);
            group_names.insert(group.name);
        }
        let group_names: Vec<Name> = group_names.into_iter().collect();
        Ok(match is_secure {
            true => Held { security: Some(security), kept: Security::default(), group_names },
            false => Held { security: None, kept: security, group_names: Vec::new() },
        })
    }

    /// Whether it names a group or an address pair.
    fn asks_for_some(&self) -> bool {
        self.groups.as_ref().is_some_and(|groups| !groups.is_empty())
            || self.address_pairs.as_ref().is_some_and(|pairs| !pairs.is_empty())
    }
}

/// Fails if what holds an interface would be loosened for what is not the caller's to decide: other
/// projects may be on the network.
pub(super) fn refuse_unguarded(
    caller: &Caller,
    network: &NetworkRecord,
    before: Option<&Held>,
    after: &Held,
) -> Result<(), AppError> {
    let loosened = match (before, &after.security) {
        (_, None) => "taking port security from an interface",
        (before, Some(after)) => {
            let had = before.map(|before| before.security.as_ref().unwrap_or(&before.kept));
            let had = had.map(|had| had.address_pairs.clone()).unwrap_or_default();
            if after.address_pairs.is_subset(&had) {
                return Ok(());
            }
            "allowing address pairs"
        }
    };
    let owner = network.network.project;
    if owner.is_some() && owner == caller.only_project() {
        return Ok(());
    }
    caller
        .must_be_admin(&format!("{loosened} on network `{}`", network.network.name))
        .map_err(|error| error.hint("a project decides that on networks of its own"))
}

/// Fails if an address pair would let an interface send from what is the router's, or another project's.
pub(super) async fn refuse_pairs(
    write: &mut Write,
    (project, network): (ProjectId, &NetworkRecord),
    held: &Held,
) -> Result<(), AppError> {
    let network_name = &network.network.name;
    for pair in held.security.iter().flat_map(|security| &security.address_pairs) {
        let mut gateways = network.network.subnets().filter_map(|subnet| subnet.gateway);
        let gateway = gateways.find(|gateway| pair.range.contains(*gateway));
        let within = interface::within(
            write.connection(),
            network.network.id,
            AddressRange::from(pair.range),
            project,
        );
        let message = match (gateway, within.await?) {
            (Some(gateway), _) | (None, Some(Within::Gateway(gateway))) => {
                format!("`{pair}` holds {gateway}, which is a router's of network `{network_name}`")
            }
            (None, Some(Within::Other(address))) => {
                format!(
                    "`{pair}` holds {address}, which an instance of another project has on network `{network_name}`"
                )
            }
            (None, None) => continue,
        };
        return Err(check::invalid("allowed_address_pairs", "address_taken", message));
    }
    Ok(())
}

fn changed(instance: &InstanceRecord, record: &InterfaceRecord, (before, after): (&Held, &Held)) -> Change {
    let lists = |held: &Held| {
        let pairs = held.security.iter().flat_map(|security| &security.address_pairs);
        let switch = if held.security.is_some() { "on" } else { "off" };
        [listed(&held.group_names), listed(pairs), switch.to_owned()]
    };
    let ([old_groups, old_pairs, old_switch], [groups, pairs, switch]) = (lists(before), lists(after));
    let message = format!(
        "instance `{}` on network `{}` was changed: {}",
        instance.name,
        record.network_name,
        changes([
            ("security_groups", old_groups, groups),
            ("allowed_address_pairs", old_pairs, pairs),
            ("port_security", old_switch, switch),
        ])
    );
    interface_change("interface.changed", message, (instance, record))
}
