//! Lets users in no more whose time is over, and makes VPNs' own certificates anew in time.
//!
//! OpenVPN refuses a certificate that has ended by itself; WireGuard's keys end by this alone.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval};
use trestle_core::types::ProjectId;
use uuid::Uuid;

use super::keys::{self, NewKeys};
use super::sealing::Sealing;
use super::{certificate, change, user as app_user};
use crate::app::Clock;
use crate::error::AppError;
use crate::store::Store;
use crate::store::vpn::{self, Shown, VpnRecord, user};

/// How often it is looked what has ended.
const LOOK: Duration = Duration::from_secs(10);

/// Keeps VPNs as they are to be while time passes.
pub(in crate::app) struct Upkeep {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    sealing: Sealing,
}

impl Upkeep {
    pub(in crate::app) fn new(store: Arc<Store>, clock: Arc<dyn Clock>, sealing: Sealing) -> Self {
        Self { store, clock, sealing }
    }

    /// Keeps them so for as long as it is polled.
    pub(in crate::app) async fn keep(self) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            if let Err(error) = self.look().await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "cannot see to VPNs whose keys end, will try again");
            }
        }
    }

    async fn look(&self) -> Result<(), AppError> {
        let now = self.clock.now();
        let mut read = self.store.read().await?;
        let expired = user::with_expired(&mut read, now).await?;
        let worn = vpn::with_worn_certificates(&mut read, now).await?;
        drop(read);
        for project in expired {
            self.end_users(project, now).await?;
        }
        for project in worn {
            self.renew_certificate(project, now).await?;
        }
        Ok(())
    }

    async fn end_users(&self, project: ProjectId, now: Timestamp) -> Result<(), AppError> {
        let mut write = self.store.write(now).await?;
        // Another controller may have done it, or the VPN is gone.
        let Some(record) = vpn::find(write.connection(), project).await? else { return Ok(()) };
        let ended = user::end_expired(&mut write, project).await?;
        if ended.is_empty() {
            return Ok(());
        }
        vpn::touch(&mut write, project).await?;
        let message = format!(
            "the time of {} at the VPN of project `{}` is over",
            app_user::named(&ended),
            record.project_name
        );
        write.log(change("vpn.user_expired", message, &record));
        write.commit().await?;
        Ok(())
    }

    async fn renew_certificate(&self, project: ProjectId, now: Timestamp) -> Result<(), AppError> {
        let mut read = self.store.read().await?;
        let record = vpn::find(&mut read, project).await?;
        drop(read);
        // One whose authority ends with it stays worn: it costs no change to see that.
        if !record.is_some_and(|record| is_worn(&record, now)) {
            return Ok(());
        }
        let mut write = self.store.write(now).await?;
        let record = vpn::find(write.connection(), project).await?;
        let Some(record) = record.filter(|record| is_worn(record, now)) else { return Ok(()) };
        let authority = keys::authority(write.connection(), &self.sealing, &record, now).await?;
        let keys = NewKeys::of_server(&record.shown, authority.sign_server(&record.vpn.name, now)?)?;
        vpn::set_shown(&mut write, project, (Uuid::now_v7(), &keys.shown)).await?;
        keys.keep(&mut write, &self.sealing, project).await?;
        let message =
            format!("the VPN of project `{}` has a new certificate of its own", record.project_name);
        write.log(change("vpn.certificate_renewed", message, &record));
        write.commit().await?;
        Ok(())
    }
}

/// Whether a VPN's own certificate is to be made anew and can be.
fn is_worn(record: &VpnRecord, now: Timestamp) -> bool {
    match &record.shown {
        Shown::Certificates { ca, server } => {
            certificate::is_worn(server, ca, now)
                && certificate::refuse_not_good(&record.project_name, ca, now).is_ok()
        }
        Shown::PublicKey(_) => false,
    }
}
