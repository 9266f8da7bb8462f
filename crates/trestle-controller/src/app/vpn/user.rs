//! Who may come in by a project's VPN.

use jiff::Timestamp;
use trestle_api::{NewVpnUser, Page, PageQuery, VpnCredentials, VpnUser, VpnUserRenewal};
use trestle_core::compile::Entity;
use trestle_core::types::{Family, Name};

use super::change::network_of;
use super::keys::{self, Holder as KeyHolder};
use super::{after_name, certificate, change, client_file, find, interface_of, kept};
use crate::app::check::Checks;
use crate::app::{App, Caller, check, dns, instance, project};
use crate::error::AppError;
use crate::store::Write;
use crate::store::change::Change;
use crate::store::fixed_ip::{self, Holder};
use crate::store::history;
use crate::store::vpn::user::{self, UserRecord};
use crate::store::vpn::{self, Shown, VpnRecord};

/// For how many days a user is let in at most.
const DAYS: u32 = 3650;

impl App {
    /// Lets somebody in by a project's VPN: with an address of the network, and a file that is told this
    /// once. The host, if it is connected, has followed when this returns, or two seconds have passed.
    pub async fn add_vpn_user(
        &self,
        caller: &Caller,
        project: &str,
        new: NewVpnUser,
    ) -> Result<VpnCredentials, AppError> {
        caller.must_not_be_agent("adding a VPN's user")?;
        let mut checks = Checks::default();
        let name = checks.name("name", &new.name);
        check_days(&mut checks, new.days);
        checks.finish()?;
        let name = name.ok_or_else(|| AppError::defect("a user without a name passed its checks"))?;
        let mut write = self.write().await?;
        let record = find(write.connection(), caller, project).await?;
        let id = record.vpn.project;
        if user::find(write.connection(), id, name.as_str()).await?.is_some() {
            let message = format!("the VPN of project `{}` has a user `{name}` already", record.project_name);
            return Err(AppError::conflict("name_taken", message).hint(format!(
                "`trestle vpn user renew {name} --project {}` makes a new file for that user",
                record.project_name
            )));
        }
        let expires_at = self.user_end(&record, write.at(), (new.days, None))?;
        let owner = project::find(write.connection(), caller, &id.to_string()).await?;
        self.refuse_fixed_ips_over_quota(&mut write, &owner, 1).await?;
        let network = network_of(&mut write, &record).await?;
        let holder = Holder::Interface(record.vpn.interface);
        let policy = self.release_policy();
        let given = fixed_ip::allocate(&mut write, &network, Family::Ipv4, holder, policy).await?;
        let address =
            given.map_err(|refusal| instance::refused_address(refusal, &network, (Family::Ipv4, None)))?;
        let who = KeyHolder { name: &name, address, expires_at };
        let issued = keys::issue(&mut write, self.sealing(), (&record, &network), who).await?;
        let (credential, config) = issued;
        let created_at = write.at();
        let (days, connection) = (new.days, None);
        let user = UserRecord {
            name,
            address,
            credential,
            admitted: true,
            void: false,
            days,
            created_at,
            connection,
        };
        user::insert(&mut write, id, &user).await?;
        history::note_interface(&mut write, record.vpn.interface).await?;
        let message =
            format!("user `{}` comes in by the VPN of project `{}` as {address}", user.name, owner.name);
        write.log(interface_change("interface.changed", message.clone(), &record));
        self.commit_for_users(write, &record, ("vpn.user_added", message)).await?;
        Ok(credentials(&record, user, config))
    }

    /// The users of a project's VPN, by name.
    pub async fn list_vpn_users(
        &self,
        caller: &Caller,
        project: &str,
        page: &PageQuery,
    ) -> Result<Page<VpnUser>, AppError> {
        caller.must_not_be_agent("listing a VPN's users")?;
        let (limit, after) = (check::limit(page)?, after_name(page)?);
        let mut read = self.store().read().await?;
        let record = find(&mut read, caller, project).await?;
        let users = user::list(&mut read, record.vpn.project, (&after, check::rows(limit))).await?;
        let now = self.now();
        let users = users.into_iter().map(|user| answer(user, now)).collect();
        Ok(check::page(users, limit, |user: &VpnUser| user.name.to_string()))
    }

    /// Lets a user in no more, whose connection ends, and gives the address back.
    pub async fn revoke_vpn_user(&self, caller: &Caller, project: &str, name: &str) -> Result<(), AppError> {
        caller.must_not_be_agent("revoking a VPN's user")?;
        let mut write = self.write().await?;
        let (record, user) = find_user(&mut write, caller, (project, name)).await?;
        let interface = interface_of(write.connection(), &record).await?;
        fixed_ip::release_one(&mut write, &interface, user.address).await?;
        dns::forget(&mut write, &[user.address]).await?;
        user::delete(&mut write, record.vpn.project, &user.name).await?;
        history::note_interface(&mut write, record.vpn.interface).await?;
        let message =
            format!("user `{}` comes in by the VPN of project `{}` no more", user.name, record.project_name);
        write.log(interface_change("interface.changed", message.clone(), &record));
        self.commit_for_users(write, &record, ("vpn.user_revoked", message)).await
    }

    /// Gives a user a new file, which is told this once; the one before ends at once. It is for as many
    /// days as that was.
    pub async fn renew_vpn_user(
        &self,
        caller: &Caller,
        (project, name): (&str, &str),
        renewal: VpnUserRenewal,
    ) -> Result<VpnCredentials, AppError> {
        caller.must_not_be_agent("renewing a VPN's user")?;
        let mut checks = Checks::default();
        check_days(&mut checks, renewal.days);
        checks.finish()?;
        let mut write = self.write().await?;
        let (record, before) = find_user(&mut write, caller, (project, name)).await?;
        let expires_at = self.user_end(&record, write.at(), (renewal.days, before.days))?;
        let network = network_of(&mut write, &record).await?;
        let who = KeyHolder { name: &before.name, address: before.address, expires_at };
        let issued = keys::issue(&mut write, self.sealing(), (&record, &network), who).await?;
        let (credential, config) = issued;
        let days = renewal.days.or(before.days);
        let user = UserRecord { credential, admitted: true, void: false, days, connection: None, ..before };
        user::renew(&mut write, record.vpn.project, &user).await?;
        let message = format!(
            "user `{}` of the VPN of project `{}` has a new file, the one before is void",
            user.name, record.project_name
        );
        self.commit_for_users(write, &record, ("vpn.user_renewed", message)).await?;
        Ok(credentials(&record, user, config))
    }

    /// Until when a file is good that is made now: for these days, else for as many as the one before.
    fn user_end(
        &self,
        record: &VpnRecord,
        now: Timestamp,
        (days, before): (Option<u32>, Option<u32>),
    ) -> Result<Timestamp, AppError> {
        let usual = self.config().vpn_user_days.get();
        let wanted = now + certificate::days(days.or(before).unwrap_or(usual).min(DAYS));
        let Shown::Certificates { ca, .. } = &record.shown else { return Ok(kept(wanted)) };
        certificate::refuse_not_good(&record.project_name, ca, now)?;
        match days.filter(|_| wanted > ca.expires_at) {
            None => Ok(kept(wanted.min(ca.expires_at))),
            Some(days) => {
                let message = format!(
                    "the certificate authority of project `{}`'s VPN ends at {}, before {days} days have passed",
                    record.project_name, ca.expires_at
                );
                Err(check::invalid("days", "beyond_ca", message)
                    .hint("leave `days` out, or make a new authority with `trestle vpn renew-ca`"))
            }
        }
    }

    /// Commits a change of who may come in, and waits until hosts have followed.
    async fn commit_for_users(
        &self,
        mut write: Write,
        record: &VpnRecord,
        (kind, message): (&'static str, String),
    ) -> Result<(), AppError> {
        vpn::touch(&mut write, record.vpn.project).await?;
        write.log(change(kind, message, record));
        // It bears on whoever the VPN does, and on those who have to know its addresses.
        self.commit_and_wait(write, Entity::Interface(record.vpn.interface)).await
    }
}

async fn find_user(
    write: &mut Write,
    caller: &Caller,
    (project, name): (&str, &str),
) -> Result<(VpnRecord, UserRecord), AppError> {
    let record = find(write.connection(), caller, project).await?;
    let user = user::find(write.connection(), record.vpn.project, name).await?;
    let user = user.ok_or_else(|| {
        AppError::not_found(&format!("user of the VPN of project `{}` called", record.project_name), name)
            .hint(format!("`trestle vpn user list --project {}` shows them", record.project_name))
    })?;
    Ok((record, user))
}

fn check_days(checks: &mut Checks, days: Option<u32>) {
    if let Some(days) = days.filter(|days| !(1..=DAYS).contains(days)) {
        let message = format!("a user is let in for 1 to {DAYS} days, not for {days}");
        checks.add("days", "bad_days", message);
    }
}

/// A change of the VPN's interface, for the log; its host has to see to it.
fn interface_change(kind: &'static str, message: String, record: &VpnRecord) -> Change {
    change(kind, message, record).entity(Entity::Interface(record.vpn.interface))
}

fn credentials(record: &VpnRecord, user: UserRecord, config: String) -> VpnCredentials {
    let file_name = client_file::file_name(record.vpn.kind, &record.project_name, &user.name);
    let now = user.created_at;
    VpnCredentials { user: answer(user, now), file_name, config }
}

fn answer(user: UserRecord, now: Timestamp) -> VpnUser {
    let UserRecord { name, address, credential, admitted, void, created_at, connection, .. } = user;
    let expired = !admitted || credential.expires_at <= now;
    VpnUser { name, address, created_at, expires_at: credential.expires_at, expired, void, connection }
}

/// Names, for people.
pub(super) fn named(names: &[Name]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}
