//! The VPN that a project gets by itself, with its first instance that is plugged in on a network of its
//! own (reference CP-2). That instance is plugged in whatever comes of it.

use super::create::Wish;
use crate::app::{App, Caller, project};
use crate::error::AppError;
use crate::store::change::Change;
use crate::store::instance::InstanceRecord;
use crate::store::interface;
use crate::store::network::NetworkRecord;
use crate::store::vpn;

impl App {
    /// Makes the VPN if the option says so and this was the project's first interface there. What goes
    /// wrong is logged and told as an event, and is no failure.
    pub(in crate::app) async fn autostart_vpn(&self, owner: &InstanceRecord, network: &NetworkRecord) {
        if !self.config().vpn_autostart || network.network.project != Some(owner.project) {
            return;
        }
        if let Err(error) = self.start_or_tell(owner, network).await {
            let (project, error) = (owner.project_name.as_str(), &error as &dyn std::error::Error);
            tracing::warn!(project, error, "cannot see to the VPN that comes by itself");
        }
    }

    async fn start_or_tell(&self, owner: &InstanceRecord, network: &NetworkRecord) -> Result<(), AppError> {
        let mut read = self.store().read().await?;
        let has_one = vpn::find(&mut read, owner.project).await?.is_some();
        let plugged_in = interface::plugged_in(&mut read, owner.project, network.network.id).await?;
        drop(read);
        if has_one || plugged_in != 1 {
            return Ok(());
        }
        let Err(error) = self.start(owner, network).await else { return Ok(()) };
        let (name, why) = (owner.project_name.as_str(), error.to_string());
        tracing::warn!(project = name, error = why, "a VPN that was to come by itself cannot be made");
        let hint = error.error.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
        let message = format!("project `{name}` got no VPN by itself: {why}{hint}");
        let mut write = self.write().await?;
        let change = Change::new("vpn.autostart_failed", name, message);
        write.log(change.project(owner.project, &owner.project_name));
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
