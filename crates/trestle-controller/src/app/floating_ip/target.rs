//! Which fixed IP a floating IP is led to.

use std::net::IpAddr;

use trestle_core::types::Family;

use crate::app::{Caller, check, instance, vpn};
use crate::error::AppError;
use crate::store::Write;
use crate::store::floating_ip::{self, Candidate, FloatingIpRecord, TargetRecord};
use crate::store::instance::InstanceRecord;

/// The fixed IP of an instance of the same project: the one that is asked for, or the only one that can
/// have the floating IP.
pub(super) async fn choose(
    write: &mut Write,
    caller: &Caller,
    record: &FloatingIpRecord,
    (instance, fixed_ip): (&str, Option<&str>),
) -> Result<TargetRecord, AppError> {
    if instance.is_empty() {
        return Err(check::invalid("instance", "required", "say which instance"));
    }
    let wanted = match fixed_ip {
        Some(text) => {
            let wanted: Option<IpAddr> = text.parse().ok();
            let wrong =
                || check::invalid("fixed_ip", "bad_address", format!("`{text}` is not an IP address"));
            Some(wanted.ok_or_else(wrong)?)
        }
        None => None,
    };
    let within = record.project.to_string();
    let found = instance::find(write.connection(), caller, instance, Some(&within)).await;
    let owner = found.map_err(|error| {
        error.hint(format!(
            "floating IP {} leads to instances of project `{}`, which has it",
            record.address, record.project_name
        ))
    })?;
    vpn::refuse_instance(write.connection(), owner.id, "led to by hand").await?;
    let candidates = floating_ip::candidates(write.connection(), owner.id).await?;
    match wanted {
        Some(wanted) => asked_for(record, &owner, candidates, wanted),
        None => only_one(record, &owner, candidates),
    }
}

fn asked_for(
    record: &FloatingIpRecord,
    owner: &InstanceRecord,
    mut candidates: Vec<Candidate>,
    wanted: IpAddr,
) -> Result<TargetRecord, AppError> {
    let family = Family::of(record.address);
    let place = candidates.iter().position(|candidate| candidate.target.target.fixed == wanted);
    let Some(candidate) = place.map(|place| candidates.swap_remove(place)) else {
        let message = match listed(&candidates).as_str() {
            "" => format!("instance `{}` has no fixed IP", owner.name),
            all => format!("{wanted} is not a fixed IP of instance `{}`, which has {all}", owner.name),
        };
        return Err(check::invalid("fixed_ip", "bad_address", message));
    };
    if Family::of(wanted) != family {
        let message = format!("{wanted} is not an {family} address, as floating IP {} is", record.address);
        return Err(check::invalid("fixed_ip", "wrong_family", message));
    }
    if !candidate.is_routed {
        return Err(not_routed(owner, &candidate));
    }
    Ok(candidate.target)
}

fn only_one(
    record: &FloatingIpRecord,
    owner: &InstanceRecord,
    mut candidates: Vec<Candidate>,
) -> Result<TargetRecord, AppError> {
    let family = Family::of(record.address);
    candidates.retain(|candidate| Family::of(candidate.target.target.fixed) == family);
    let (mut routed, flat): (Vec<Candidate>, Vec<Candidate>) =
        candidates.into_iter().partition(|candidate| candidate.is_routed);
    if routed.len() > 1 {
        let message = format!(
            "instance `{}` has several {family} addresses that a floating IP can lead to: say which of {}",
            owner.name,
            listed(&routed)
        );
        return Err(check::invalid("fixed_ip", "required", message));
    }
    match (routed.pop(), flat.first()) {
        (Some(only), _) => Ok(only.target),
        (None, Some(candidate)) => Err(not_routed(owner, candidate)),
        (None, None) => {
            let message = format!("instance `{}` has no {family} address", owner.name);
            Err(AppError::conflict("no_fixed_ip", message).hint(format!(
                "`trestle instance add-interface {} --network NETWORK` puts it on a network that has some",
                owner.name
            )))
        }
    }
}

fn listed(candidates: &[Candidate]) -> String {
    let addresses: Vec<String> =
        candidates.iter().map(|candidate| candidate.target.target.fixed.to_string()).collect();
    addresses.join(", ")
}

fn not_routed(owner: &InstanceRecord, candidate: &Candidate) -> AppError {
    let (fixed, network) = (candidate.target.target.fixed, &candidate.target.network_name);
    let message = format!(
        "instance `{}` has {fixed} on network `{network}`, which is of type `flat`: Trestle does not route for it",
        owner.name
    );
    AppError::conflict("not_routed", message)
        .hint("floating IPs lead to addresses on networks of type `flat_dhcp` or `vlan`")
}
