//! The VPN that a project gets by itself, with its first instance that is plugged in on a network of its
//! own (reference CP-2). That instance is plugged in whatever comes of it.

use trestle_core::world::NetworkType;

use super::create::Wish;
use crate::app::{App, Caller, project};
use crate::error::AppError;
use crate::store::Write;
use crate::store::change::Change;
use crate::store::instance::InstanceRecord;
use crate::store::interface;
use crate::store::network::NetworkRecord;
use crate::store::vpn;

impl App {
    /// Whether a project gets its VPN with an interface that is about to be plugged in: it has none, the
    /// option says so, and nothing else of it is plugged in on that network of its own.
    pub(in crate::app) async fn brings_vpn(
        &self,
        write: &mut Write,
        owner: &InstanceRecord,
        network: &NetworkRecord,
    ) -> Result<bool, AppError> {
        let on = &network.network;
        let is_fit = on.network_type != NetworkType::Flat && on.ipv4.is_some();
        if !self.config().vpn_autostart || on.project != Some(owner.project) || !is_fit {
            return Ok(false);
        }
        let has_one = vpn::find(write.connection(), owner.project).await?.is_some();
        let plugged_in = interface::plugged_in(write.connection(), owner.project, on.id).await?;
        Ok(!has_one && plugged_in == 0)
    }

    /// Makes it. What goes wrong is logged and told as an event, and is no failure.
    pub(in crate::app) async fn autostart_vpn(&self, owner: &InstanceRecord, network: &NetworkRecord) {
        let Err(error) = self.start(owner, network).await else { return };
        warn(owner, &error, "a VPN that was to come by itself cannot be made");
        if let Err(error) = self.tell(owner, error).await {
            warn(owner, &error, "cannot tell that a VPN was not made");
        }
    }

    async fn tell(&self, owner: &InstanceRecord, error: AppError) -> Result<(), AppError> {
        let (name, why) = (&owner.project_name, error.to_string());
        let hint = error.error.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
        let message = format!("project `{name}` got no VPN by itself: {why}{hint}");
        let mut write = self.write().await?;
        let change = Change::new("vpn.autostart_failed", name, message);
        write.log(change.project(owner.project, name));
        write.commit().await?;
        Ok(())
    }

    async fn start(&self, owner: &InstanceRecord, network: &NetworkRecord) -> Result<(), AppError> {
        let caller = Caller::Admin;
        let mut write = self.write().await?;
        let project = project::find(write.connection(), &caller, &owner.project.to_string()).await?;
        self.make_vpn(&mut write, (&caller, &project), &Wish::into_network(network)).await?;
        write.commit().await?;
        Ok(())
    }
}

fn warn(owner: &InstanceRecord, error: &AppError, message: &str) {
    let (project, error) = (owner.project_name.as_str(), error as &dyn std::error::Error);
    tracing::warn!(project, error, "{message}");
}
