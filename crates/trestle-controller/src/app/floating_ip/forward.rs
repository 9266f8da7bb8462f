//! Ports of floating IPs that lead elsewhere than the rest.

use trestle_api::{FloatingIp, NewPortForward};
use trestle_core::types::Protocol;
use trestle_core::world::Forward;

use crate::app::check::Checks;
use crate::app::floating_ip::associate::{apart, refuse_unfit, served_elsewhere};
use crate::app::floating_ip::confirm::Undo;
use crate::app::floating_ip::endpoint::refuse_vpn;
use crate::app::floating_ip::target::choose;
use crate::app::floating_ip::{change, find};
use crate::app::{App, Caller};
use crate::error::AppError;
use crate::store::floating_ip::{FloatingIpRecord, ForwardRecord, forward};
use crate::store::history;

impl App {
    /// Leads a port of a floating IP to one of an instance. If the host is there and has it not, the
    /// port leads where it did before. The same again changes nothing.
    pub async fn forward_port(
        &self,
        caller: &Caller,
        address: &str,
        new: NewPortForward,
    ) -> Result<FloatingIp, AppError> {
        caller.must_not_be_agent("forwarding a port")?;
        let (protocol, port, to_port) = read(&new)?;
        let mut write = self.write().await?;
        let record = find(write.connection(), caller, address).await?;
        let wanted = (new.instance.as_str(), new.fixed_ip.as_deref());
        let to = choose(&mut write, caller, &record, wanted).await?;
        let forward = Forward { protocol, port, to: to.target, to_port };
        if let Some(known) = known(&record, (protocol, port)) {
            if known.forward() == forward {
                drop(write);
                return self.floating_ip_as_it_was(&record).await;
            }
            refuse_vpn(write.connection(), &record, Some((protocol, port)), "led elsewhere").await?;
            return Err(port_taken(&record, known));
        }
        let held = record.targets().find(|target| target.server.is_some());
        if let Some((server, holder)) = held.and_then(|held| apart(&to, held)) {
            return Err(served_elsewhere(&record, (&to, server), holder));
        }
        refuse_unfit(&mut write, &record, &to).await?;
        forward::insert(&mut write, record.address, &forward).await?;
        history::note_floating_ip(&mut write, record.address).await?;
        let message = format!(
            "port {protocol}/{port} of floating IP {} leads to instance `{}`, to port {to_port} of {}",
            record.address, to.instance_name, to.target.fixed
        );
        let holder = to.server.as_ref().or_else(|| record.holder());
        write.log(change("floating_ip.forwarded", message, &record, holder));
        let revision = write.commit().await?;
        if let Some(holder) = holder {
            self.confirm_floating_ip(&record, holder, revision, Undo::Forward(protocol, port)).await?;
        }
        self.floating_ip_again(record.address).await
    }

    /// Leads a port of a floating IP where the rest of it leads. Its host has followed when this
    /// returns, if it is connected, or two seconds have passed. The same again changes nothing.
    pub async fn unforward_port(
        &self,
        caller: &Caller,
        address: &str,
        (protocol, port): (&str, &str),
    ) -> Result<FloatingIp, AppError> {
        caller.must_not_be_agent("taking a port back")?;
        let mut write = self.write().await?;
        let record = find(write.connection(), caller, address).await?;
        let mut checks = Checks::default();
        let protocol: Option<Protocol> = checks.parse("protocol", "bad_protocol", protocol);
        // What is no number is no port either.
        let port = self::port(&mut checks, "port", port.parse().unwrap_or_default());
        checks.finish()?;
        let Some(known) = protocol.zip(port).and_then(|which| known(&record, which)) else {
            return self.floating_ip_again(record.address).await;
        };
        let (protocol, port) = (known.protocol, known.port);
        refuse_vpn(write.connection(), &record, Some((protocol, port)), "taken from it").await?;
        forward::delete(&mut write, record.address, (protocol, port)).await?;
        history::note_floating_ip(&mut write, record.address).await?;
        let message = format!(
            "port {protocol}/{port} of floating IP {} does not lead to instance `{}` any more",
            record.address, known.to.instance_name
        );
        write.log(change("floating_ip.unforwarded", message, &record, record.holder()));
        let revision = write.commit().await?;
        let holder = record.holder().map(|holder| holder.id);
        self.wait_for_hosts(holder, revision).await;
        self.floating_ip_again(record.address).await
    }
}

fn read(new: &NewPortForward) -> Result<(Protocol, u16, u16), AppError> {
    let mut checks = Checks::default();
    let protocol: Option<Protocol> = checks.parse("protocol", "bad_protocol", &new.protocol);
    let port = port(&mut checks, "port", new.port);
    let fixed_port = self::port(&mut checks, "fixed_port", new.fixed_port.unwrap_or(new.port));
    checks.finish()?;
    match (protocol, port, fixed_port) {
        (Some(protocol), Some(port), Some(fixed_port)) => Ok((protocol, port, fixed_port)),
        _ => Err(AppError::defect("a port that is none passed its checks")),
    }
}

fn port(checks: &mut Checks, field: &str, number: u32) -> Option<u16> {
    let port = u16::try_from(number).ok().filter(|port| *port > 0);
    if port.is_none() {
        checks.add(field, "bad_port", format!("{number} is not a port: use 1 to 65535"));
    }
    port
}

fn known(record: &FloatingIpRecord, (protocol, port): (Protocol, u16)) -> Option<&ForwardRecord> {
    record.forwards.iter().find(|known| (known.protocol, known.port) == (protocol, port))
}

fn port_taken(record: &FloatingIpRecord, known: &ForwardRecord) -> AppError {
    let ForwardRecord { protocol, port, to, fixed_port } = known;
    let message = format!(
        "port {protocol}/{port} of floating IP {} leads to instance `{}`, to port {fixed_port} of {}",
        record.address, to.instance_name, to.target.fixed
    );
    AppError::conflict("port_taken", message)
        .hint(format!("`trestle floating-ip unforward {} {protocol}/{port}` ends that", record.address))
}
