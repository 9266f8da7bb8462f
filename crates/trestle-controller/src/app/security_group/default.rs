//! The security group that every project has.

use jiff::Timestamp;
use trestle_api::NewSecurityGroupRule;
use trestle_core::types::{ProjectId, SecurityGroupId};
use uuid::Uuid;

use crate::app::check;
use crate::app::security_group::rule::{self, RemoteWish, RuleWish};
use crate::app::{App, OpenError, security_group};
use crate::error::AppError;
use crate::store::Write;
use crate::store::project::ProjectRecord;
use crate::store::security_group::{self as store, GroupRecord};

/// Its name.
pub(in crate::app) const DEFAULT: &str = "default";

/// What it allows in any installation: its members reach each other, and everybody.
const ALWAYS: [&str; 2] = ["ingress any from group default", "egress any"];

impl App {
    /// Makes the group that a new project has always. It counts in the quota, which does not keep it away.
    pub(in crate::app) async fn make_default_group(
        &self,
        write: &mut Write,
        owner: &ProjectRecord,
    ) -> Result<(), AppError> {
        let record = GroupRecord {
            id: SecurityGroupId(Uuid::now_v7()),
            number: 0,
            project: owner.id,
            project_name: owner.name.clone(),
            name: DEFAULT.parse().map_err(|_| AppError::defect("a constant name is none"))?,
            description: String::new(),
            created_at: write.at(),
        };
        let record = security_group::put(write, record).await?;
        for wish in self.default_rules() {
            // The option may say what is said already.
            rule::put(write, &record, wish).await?.ok();
        }
        Ok(())
    }
}

/// What each new project's default group allows: what it does always, and what the option says.
pub(in crate::app) fn read_default_rules(option: &[String]) -> Result<Vec<RuleWish>, OpenError> {
    let always = ALWAYS.into_iter().map(str::to_owned);
    let read = |text: String| match read_default_rule(&text) {
        Ok(wish) => Ok(wish),
        Err(source) => Err(OpenError::DefaultRule { rule: text, source: Box::new(source) }),
    };
    always.chain(option.iter().cloned()).map(read).collect()
}

/// The name of the group that a VPN's interface is in besides.
const VPN: &str = "vpn";

/// What it allows: clients come from anywhere (reference CP-21).
const CLIENTS: &str = "ingress udp 1194 from 0.0.0.0/0";

impl App {
    /// Makes the group that lets clients in to a VPN, as far as it is not there.
    pub(in crate::app) async fn ensure_vpn_group(
        &self,
        write: &mut Write,
        owner: &ProjectRecord,
    ) -> Result<GroupRecord, AppError> {
        let found = store::find(write.connection(), VPN, Some(owner.id)).await?.pop();
        let group = match found {
            Some(group) => group,
            None => {
                self.refuse_security_groups_over_quota(write, owner).await?;
                let record = GroupRecord {
                    id: SecurityGroupId(Uuid::now_v7()),
                    number: 0,
                    project: owner.id,
                    project_name: owner.name.clone(),
                    name: VPN.parse().map_err(|_| AppError::defect("a constant name is none"))?,
                    description: "clients of the project's VPN".to_owned(),
                    created_at: write.at(),
                };
                security_group::put(write, record).await?
            }
        };
        let new: NewSecurityGroupRule =
            CLIENTS.parse().map_err(|_| AppError::defect("a constant rule is none"))?;
        if rule::put(write, &group, &RuleWish::read(&new, Timestamp::MIN)?).await?.is_ok() {
            let message = format!("rule `{CLIENTS}` was added to security group `{VPN}`");
            write.log(security_group::change("security_group.rule_added", message, &group));
        }
        Ok(group)
    }
}

/// Takes out the group that was made with a VPN, which is gone, unless something else uses it.
pub(in crate::app) async fn end_vpn_group(
    write: &mut Write,
    project: ProjectId,
    vpn_created_at: Timestamp,
) -> Result<(), AppError> {
    let found = store::find(write.connection(), VPN, Some(project)).await?;
    // Made in one transaction, both have its time; one that was there before has another.
    let Some(group) = found.into_iter().find(|group| group.created_at == vpn_created_at) else {
        return Ok(());
    };
    if store::uses(write.connection(), group.id).await?.is_empty() {
        store::delete(write.connection(), group.id).await?;
        write.log(security_group::deleted(&group));
    }
    Ok(())
}

fn read_default_rule(text: &str) -> Result<RuleWish, AppError> {
    let unreadable = |error| check::invalid("rule", "bad_rule", error);
    let new: NewSecurityGroupRule = text.parse().map_err(unreadable)?;
    let wish = RuleWish::read(&new, Timestamp::MIN)?;
    let is_known = match &wish.remote {
        RemoteWish::Any | RemoteWish::Range(_) => true,
        RemoteWish::Group(name) => name == DEFAULT,
        RemoteWish::AddressGroup(_) => false,
    };
    if !is_known {
        let message = format!("a new project has no group but `{DEFAULT}`");
        return Err(check::invalid("rule", "not_possible", message));
    }
    if wish.expires_at.is_some() {
        return Err(check::invalid(
            "rule",
            "not_possible",
            "it would end for later projects before they begin",
        ));
    }
    Ok(wish)
}
