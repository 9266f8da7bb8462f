//! Waits for the host that is to have a floating IP, and takes back what it cannot do.

use std::net::IpAddr;

use trestle_core::plan::Problem;
use trestle_core::types::Protocol;
use trestle_core::world::Target;

use crate::app::agent::HOST_PATIENCE;
use crate::app::floating_ip::{change, key};
use crate::app::{App, Caller, host, unconfirmed};
use crate::error::AppError;
use crate::store::floating_ip::{self, FloatingIpRecord, Server, forward};
use crate::store::{history, observed};

/// How a change of a floating IP is taken back.
#[derive(Clone, Copy, Debug)]
pub(super) enum Undo {
    /// It leads there again.
    Target(Option<Target>),
    /// This port of it leads where it did.
    Forward(Protocol, u16),
}

impl App {
    /// Fails if the host, being there, says that it cannot have the floating IP; that is as it was
    /// then. A host that is away or slow is no failure: it follows when it can.
    pub(super) async fn confirm_floating_ip(
        &self,
        record: &FloatingIpRecord,
        holder: &Server,
        revision: u64,
        undo: Undo,
    ) -> Result<(), AppError> {
        let mut read = self.store().read().await?;
        let asked = host::find(&mut read, &Caller::Admin, &holder.id.to_string()).await?;
        drop(read);
        if !self.is_connected(&asked) || !self.has_applied(holder.id, revision, HOST_PATIENCE).await? {
            unconfirmed::note([holder.name.clone()]);
            return Ok(());
        }
        let mut read = self.store().read().await?;
        let problems = observed::problems(&mut read, holder.id).await?;
        drop(read);
        let wanted = key(record, holder);
        let Some(Problem { key, detail, .. }) =
            problems.into_iter().find(|problem| Some(&problem.key) == wanted.as_ref())
        else {
            return Ok(());
        };
        self.take_back(record.address, (holder, revision), undo).await?;
        let message =
            format!("host `{}` cannot have floating IP {}: {key}: {detail}", holder.name, record.address);
        Err(AppError::conflict("host_problem", message).hint(format!(
            "it leads where it did before; `trestle host show {}` lists the host's problems",
            holder.name
        )))
    }

    async fn take_back(
        &self,
        address: IpAddr,
        (holder, revision): (&Server, u64),
        undo: Undo,
    ) -> Result<(), AppError> {
        let mut write = self.write().await?;
        let now = floating_ip::find(write.connection(), address).await?;
        // Somebody else may have led it on, or given it back, meanwhile.
        let Some(now) = now.filter(|now| now.generation == revision) else { return Ok(()) };
        match undo {
            Undo::Target(before) => {
                let there = match before {
                    Some(before) if floating_ip::is_there(write.connection(), before).await? => Some(before),
                    _ => None,
                };
                floating_ip::set_target(&mut write, address, there).await?;
            }
            Undo::Forward(protocol, port) => {
                forward::delete(&mut write, address, (protocol, port)).await?;
            }
        }
        history::note_floating_ip(&mut write, address).await?;
        let message =
            format!("floating IP {address} leads where it did: host `{}` did not take it", holder.name);
        write.log(change("floating_ip.refused", message.clone(), &now, Some(holder)));
        let again = floating_ip::find(write.connection(), address).await?;
        let old = again.as_ref().and_then(FloatingIpRecord::holder).filter(|old| old.id != holder.id);
        if let Some(old) = old {
            write.log(change("floating_ip.refused", message, &now, Some(old)));
        }
        let revision = write.commit().await?;
        let hosts = [Some(holder), old].into_iter().flatten().map(|server| server.id);
        self.wait_for_hosts(hosts, revision).await;
        Ok(())
    }
}
