//! Tells instances of themselves: answers what they ask `METADATA_ADDRESS`, by passing it on to the metadata
//! service with who asks.
//!
//! Who asks is told by the address that it asks from, which its guard holds it to, and by nothing that it says.
//! Who has which address and what is asked come by steps like everything on a host; they are kept in memory
//! alone, because nothing is answered while the agent is away.

mod headers;
mod proxy;
mod secret;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::JoinHandle;
use trestle_core::spec::{Key, Object};
use trestle_core::types::{InstanceId, MetadataService, ProjectId};

use proxy::Proxy;
pub use secret::{MetadataSecret, SecretError};

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The instance.
    pub(crate) instance: InstanceId,
    /// Its project.
    pub(crate) project: ProjectId,
}

/// Who has which address.
#[derive(Debug, Default)]
pub(crate) struct Identities(Mutex<BTreeMap<Ipv4Addr, Identity>>);

impl Identities {
    fn get(&self, address: Ipv4Addr) -> Option<Identity> {
        self.lock().get(&address).copied()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Ipv4Addr, Identity>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What answers on one port.
#[derive(Debug)]
struct Running {
    service: MetadataService,
    task: JoinHandle<()>,
}

/// All that this host answers instances of themselves.
#[derive(Debug)]
pub(crate) struct Metadata {
    secret: Option<Arc<MetadataSecret>>,
    identities: Arc<Identities>,
    running: Mutex<BTreeMap<u16, Running>>,
}

impl Metadata {
    /// Nothing yet; who asks will be signed for with the secret.
    pub(crate) fn new(secret: Option<MetadataSecret>) -> Self {
        Self { secret: secret.map(Arc::new), identities: Arc::default(), running: Mutex::default() }
    }

    /// What there is, by key.
    pub(crate) fn all(&self) -> BTreeMap<Key, Object> {
        let addresses: Vec<Ipv4Addr> = self.identities.lock().keys().copied().collect();
        let ports: Vec<u16> = self.running().keys().copied().collect();
        let keys = addresses.into_iter().map(Key::Metadata).chain(ports.into_iter().map(Key::MetadataProxy));
        keys.filter_map(|key| Some((key.clone(), self.get(&key)?))).collect()
    }

    /// What stands under the key.
    pub(crate) fn get(&self, key: &Key) -> Option<Object> {
        match key {
            Key::Metadata(address) => {
                let Identity { instance, project } = self.identities.get(*address)?;
                Some(Object::Metadata { instance, project })
            }
            Key::MetadataProxy(port) => {
                let running = self.running();
                let running = running.get(port).filter(|running| !running.task.is_finished())?;
                Some(Object::MetadataProxy(running.service.clone()))
            }
            _ => None,
        }
    }

    /// Notes who has the address.
    pub(crate) fn put(&self, address: Ipv4Addr, identity: Identity) {
        self.identities.lock().insert(address, identity);
    }

    /// Forgets who has the address: whoever asks from it is nobody.
    pub(crate) fn delete(&self, address: Ipv4Addr) {
        self.identities.lock().remove(&address);
    }

    /// Answers on the port for this service, in place of any other.
    pub(crate) async fn start(&self, port: u16, service: &MetadataService) -> io::Result<()> {
        self.stop(port).await;
        let proxy = Proxy {
            service: service.clone(),
            identities: self.identities.clone(),
            secret: self.secret.clone(),
        };
        let task = proxy::start(port, proxy).await?;
        self.running().insert(port, Running { service: service.clone(), task });
        Ok(())
    }

    /// Answers on the port no more; what is being answered there ends.
    pub(crate) async fn stop(&self, port: u16) {
        let running = self.running().remove(&port);
        if let Some(running) = running {
            running.task.abort();
            // The port is free when the task is gone, which says that it was ended.
            drop(running.task.await);
        }
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<u16, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Metadata {
    fn drop(&mut self) {
        self.running().values().for_each(|running| running.task.abort());
    }
}
